# Several hosts: tried in order or at random, the host of the last connection
# first, each with its own timeout; target_session_attrs, hostaddr, unix
# sockets.

use strict;
use warnings;

use lib 't/lib';
use IO::Socket::INET;
use Lunary::Load qw( soon );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test qw( key related_uri );
use Lunary::System qw( free_port wait_until );
use Test::More;
use Time::HiRes qw( sleep time );

my $pg = Lunary::Pg->new;
my $standby = $pg->standby;
$pg->catch_up($standby);

my $closed = free_port();

# accepts connections and sends nothing, like a firewall that drops packets
my $hole = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 128)
           or die $!;
my $hole_port = $hole->sockport;

my (@locations, @nginx);

sub location {
    my ($name, $conninfo, $more) = @_;

    $more //= '';

    push @locations, <<"EOF_CONFIG";
        location = /$name {
            lunary_database $conninfo;
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
            $more
        }
EOF_CONFIG
}

# hosts as [host, port] or [undef, port, hostaddr]
sub conninfo {
    my ($hosts, %more) = @_;

    return '"' . $pg->conninfo(
        host => (grep { defined $_->[0] } @$hosts)
                ? join(',', map { $_->[0] // '' } @$hosts) : undef,
        port => join(',', map { $_->[1] } @$hosts),
        (grep { $_->[2] } @$hosts)
            ? (hostaddr => join ',', map { $_->[2] // '' } @$hosts) : (),
        %more) . '"';
}

my @primary = ('127.0.0.1', $pg->{port});
my @standby = ('127.0.0.1', $standby->{port});
my @closed = ('127.0.0.1', $closed);
my @hole = ('127.0.0.1', $hole_port);

my @attrs = qw( any read-write read-only primary standby prefer-standby );
my %choice = (
    any => ['primary', 'standby'],
    'read-write' => ['primary', 'primary'],
    primary => ['primary', 'primary'],
    'read-only' => ['standby', 'standby'],
    standby => ['standby', 'standby'],
    'prefer-standby' => ['standby', 'standby'],
);

for my $attr (@attrs) {
    location("$attr-first", conninfo([\@primary, \@standby],
                                     target_session_attrs => $attr,
                                     application_name => "$attr-first"));
    location("$attr-last", conninfo([\@standby, \@primary],
                                    target_session_attrs => $attr,
                                    application_name => "$attr-last"));
}

# no host matches; prefer-standby takes any host if there is no standby
location('none', conninfo([\@primary], target_session_attrs => 'standby',
                          application_name => 'none'),
         'lunary_queue 10 timeout=500ms;');
location('prefer', conninfo([\@primary, \@closed],
                            target_session_attrs => 'prefer-standby',
                            application_name => 'prefer'));

location('socket', conninfo([[$pg->{socket_dir}, $pg->{port}]],
                            application_name => 'socket'));
location('hostaddr', conninfo([[undef, $pg->{port}, '127.0.0.1']],
                              application_name => 'hostaddr'));
location('both', conninfo([['no.such.name.invalid', $pg->{port},
                            '127.0.0.1']], application_name => 'both'));
location('uri', qq{"postgresql://lunary_ro\@127.0.0.1:$closed,}
                . qq{127.0.0.1:$pg->{port}/lunary?application_name=uri"});
location('mixed', conninfo([\@closed, ['/nonexistent', 5432],
                            [$pg->{socket_dir}, $pg->{port}]],
                           application_name => 'mixed'));

location('hole', conninfo([\@hole, \@primary], application_name => 'hole'),
         'lunary_connect_timeout 700ms; lunary_queue 100 timeout=5s;');
location('random', conninfo([\@primary, \@standby],
                            application_name => 'random')
                   . ' balance=random',
         'lunary_pool max=1 lifetime=20ms;');

my $nginx = Lunary::Nginx->new(config => join '', @locations)->start;

my $bearer = 'Bearer ' . key('alpha');
my $body;

sub get {
    my ($uri) = @_;

    return $nginx->client(timeout => 20)->get($uri, Authorization => $bearer,
                                              Connection => 'close');
}

# the hosts that have sessions of this name
sub where {
    my ($name) = @_;

    my %at = (primary => $pg, standby => $standby);

    return join ' ', grep { $at{$_}->sessions("application_name = '$name'") }
                     sort keys %at;
}

sub right {
    my ($uri, $name) = @_;

    my $answer = get($uri);
    $body //= $answer->{body};

    is($answer->{status}, 200, "$name: status");
    ok($answer->{body} eq $body, "$name: body");
    return $answer;
}


for my $attr (@attrs) {
    for my $place (0, 1) {
        my $name = $attr . ('-first', '-last')[$place];

        right("/$name", $name);
        is(where($name), $choice{$attr}[$place], "$name: whose");
    }
}

is(get('/none')->{status}, 503, 'no host of the kind: 503');
like($nginx->log_since(0), qr/not in hot standby/, 'the log says why');
right('/prefer', 'no standby');
is(where('prefer'), 'primary', 'no standby: the primary will do');

for my $name (qw( socket hostaddr both uri mixed )) {
    right("/$name", $name);
    is(where($name), 'primary', "$name: whose");
}


# prefer-standby: a primary is not an error; a host that failed during the
# search for a standby is not tried again at once

my $prefer = Lunary::Nginx->new(
    http => 'lunary_connect_timeout 700ms; lunary_pool max=1;
        lunary_queue 100 timeout=10s;',
    config => <<"EOF_CONFIG")->start;
        location = /primary {
            lunary_database ${\ conninfo([\@primary],
                target_session_attrs => 'prefer-standby',
                application_name => 'alone') };
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
        location = /status {
            lunary_status;
        }
EOF_CONFIG

is($prefer->client->get('/primary', Authorization => $bearer)->{status}, 200,
   'a primary alone, standbys preferred');
like($prefer->client->get('/status')->{body},
     qr/^lunary_connect_failures_total\S* 0$/m, 'is no failure to connect');
unlike($prefer->log_since(0), qr/cannot be connected to/, 'it is not logged');
$prefer->stop;

my $first_hole = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
                                       Listen => 128, Blocking => 0) or die $!;

$prefer->configure(config => <<"EOF_CONFIG");
        location = /hole {
            lunary_database ${\ conninfo([['127.0.0.1',
                                           $first_hole->sockport], \@primary],
                target_session_attrs => 'prefer-standby',
                application_name => 'alone') };
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
EOF_CONFIG
$prefer->start;

is($prefer->client->get('/hole', Authorization => $bearer)->{status}, 200,
   'a black hole and a primary, standbys preferred');

my $asked = 0;
$asked++ while $first_hole->accept;
is($asked, 1, 'the hole is asked once');
$prefer->stop;


# a host that does not respond costs one timeout; then the good host is first

my $first = right('/hole', 'a black hole');
cmp_ok($first->{time}, '<', 3, 'a black hole: passed in time');

$pg->value(q{select count(pg_terminate_backend(pid)) from pg_stat_activity
             where application_name = 'hole'});
wait_until { !$pg->sessions(q{application_name = 'hole'}) } 5;
my $second = right('/hole', 'the last good one is the first');
cmp_ok($second->{time}, '<', 0.6, 'it is not asked again');


# a good host that fails backs off, and is not tried at once

my %seen;
my $end = time + 15;

while (time < $end && keys %seen < 2) {
    right('/random', 'at random') if !%seen;
    get('/random');
    my $where = where('random');
    $seen{$where}++ if $where =~ /^\w+$/;
    sleep 0.03;
}

is(join(' ', sort keys %seen), 'primary standby', 'at random: both are used');


# the back-off grows while a database is down

$nginx->stop;

my $counted = free_port();
my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 128,
                                   LocalPort => $counted, ReuseAddr => 1)
             or die $!;
$listen->blocking(0);

$nginx = Lunary::Nginx->new(config => <<"EOF_CONFIG")->start;
        location = /away {
            lunary_database ${\ conninfo([['127.0.0.1', $counted]]) };
            lunary_queue 200 timeout=3s;
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
EOF_CONFIG

my @clients = map {
    $nginx->client->ask('/away', Authorization => $bearer)
} 1 .. 100;

my @attempts;
$end = time + 2.5;

while (time < $end) {
    if (my $socket = $listen->accept) {
        push @attempts, time;
        close $socket;
    }
    sleep 0.005;
}

cmp_ok(scalar @attempts, '>=', 3, 'away: it is tried again and again');
cmp_ok(scalar @attempts, '<=', 16,
       'away: ' . @attempts . ' attempts in 2.5 s, with 100 waiting');

is(scalar(grep { $_->answer->{status} != 503 } @clients), 0,
   'away: 503 to all');
$nginx->stop;

soon { !$pg->sessions && !$standby->sessions } 5, 'no session is left';

done_testing();
