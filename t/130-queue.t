# Requests wait in the queue while the database is down, until the queue's
# timeout; logins are limited; requests wait for a database that has no free
# connection slot.

use strict;
use warnings;

use lib 't/lib';
use IO::Select;
use IO::Socket::INET;
use Lunary::Client qw( await );
use Lunary::Load qw( expected slow soon trees whole );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test qw( key related_uri run_id );
use Lunary::System qw( kill_wait wait_until );
use POSIX ();
use Test::More;
use Time::HiRes qw( sleep time );

my $pg = Lunary::Pg->new(conf => { max_connections => 12,
                                   superuser_reserved_connections => 3 });
my @small = trees($pg, count => 4, runs => 10, bytes => 20_000);
my $bearer = 'Bearer ' . key('alpha');

my $location = <<'EOF_CONFIG';
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
EOF_CONFIG

sub nginx {
    my ($http, %arg) = @_;

    return Lunary::Nginx->new(http => $http, config => $location,
                              %arg)->start;
}

sub ask {
    my ($nginx, $n) = @_;

    return $nginx->client(timeout => 30)->ask(related_uri($n),
        Authorization => $bearer, Connection => 'close');
}

# the responses, each with the time it took
sub answers { return await(30, @_) }


# down for longer than the queue's timeout: 503 when it expires, not before

my $nginx = nginx('lunary_database "' . $pg->conninfo . '";
                   lunary_queue 20 timeout=1s;');
my $answers = expected($nginx->{port}, $pg, @small);

$pg->stop('fast');

my @clients = map { ask($nginx, $small[$_ % @small]) } 1 .. 30;
my @answers = answers(@clients);
my @full = grep { $_->{time} < 0.5 } @answers;
my @waited = grep { $_->{time} >= 0.5 } @answers;

is(join(' ', grep { $_->{status} != 503 } @answers), '', 'down: all get a 503');
is(scalar(grep { !$_->{header}{'retry-after'} } @answers), 0,
   'down: with Retry-After');
is(scalar @waited, 20, 'the queue holds its maximum');
is(scalar @full, 10, 'the others are refused at once');
is(scalar(grep { $_->{time} < 0.95 } @waited), 0,
   'the others wait until the timeout');
is(scalar(grep { $_->{time} > 2 } @waited), 0, 'no request waits longer');


# the database returns while requests wait

$nginx->stop;
$nginx = nginx('lunary_database "' . $pg->conninfo . '";
                lunary_queue 20 timeout=20s;');

@clients = map { ask($nginx, $small[$_ % @small]) } 1 .. 10;
sleep 0.1;
my $start = time;
$pg->start;

my @status = map { $_->{status} } answers(@clients);
my $took = time - $start;
is(join(' ', @status), join(' ', (200) x 10), 'up again: all are served')
    or diag("after $took s");
$nginx->stop;


# other clients take all connection slots; a waiting request gets the first
# free one

$nginx = nginx('lunary_database "' . $pg->conninfo . '";
                lunary_pool max=4;
                lunary_queue 256 timeout=15s;');

soon { $pg->sessions } 5, 'a first session';
ask($nginx, $small[0])->answer;

# nginx gets no connection until no slot is left
my $mark = $nginx->mark;
$pg->do('create role taker login');
$pg->do('alter role lunary_ro connection limit 0');
$pg->value(q{select count(pg_terminate_backend(pid)) from pg_stat_activity
             where usename = 'lunary_ro'});

my @takers;

while (@takers < 20) {
    push @takers, eval { DBI->connect(
        "dbi:Pg:host=$pg->{socket_dir};port=$pg->{port};dbname=lunary",
        'taker', '', { RaiseError => 1, PrintError => 0 }) } // last;
}

$pg->do('alter role lunary_ro connection limit -1');
is($pg->sessions, 0, 'no slot: others have all');

@clients = map { ask($nginx, $small[$_ % @small]) } 1 .. 20;
soon { $nginx->log_since($mark) =~ /53300/ } 5, 'no slot: the log has 53300';
sleep 0.5;
$start = time;
(pop @takers)->disconnect;
@answers = answers(@clients);
$took = time - $start;

is(join(' ', map { $_->{status} } @answers), join(' ', (200) x 20),
   'no slot: all are served when one is free');
cmp_ok($took, '<', 4, sprintf 'within %.2f s', $took);
is(scalar(grep { $answers[$_]{body}
                 ne $answers->{related_uri($small[($_ + 1) % @small])} }
          0 .. 19), 0, 'with the right bodies');

# few lines are logged meanwhile
my $lines = () = $nginx->log_since($mark) =~ /\[error\][^\n]*53300/g;
cmp_ok($lines, '<=', 2, "no slot: $lines lines in the log");
$_->disconnect for @takers;
$nginx->stop;


# logins at the same time are limited: a proxy counts the logins in progress
# and delays each

sub front {
    my ($target, $counts) = @_;

    my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 128,
                                       ReuseAddr => 1) or die $!;
    my $pid = fork // die $!;

    return ($pid, $listen->sockport) if $pid;

    my $select = IO::Select->new($listen);
    my (%peer, %begun, %later);
    my ($most, $all) = (0, 0);

    # a login is complete at the first "ready for query" (Z)
    while (1) {
        for my $socket ($select->can_read(0.02)) {
            if ($socket == $listen) {
                my $client = $listen->accept or next;

                $begun{$client} = [$client, time];
                $all++;
                $most = keys %begun if keys %begun > $most;
                open my $out, '>', "$counts.new" or POSIX::_exit(1);
                print $out "$most $all\n";
                close $out;
                rename "$counts.new", $counts;
                next;
            }

            my $peer = $peer{$socket} or next;
            my $bytes = sysread $socket, my $data, 65536;

            if (!$bytes) {
                delete $begun{$socket};
                delete $begun{$peer};
                $select->remove($socket, $peer);
                delete @peer{$socket, $peer};
                close $_ for $socket, $peer;
                next;
            }

            delete $begun{$peer} if $data =~ /Z\x00\x00\x00\x05[IT]/;
            syswrite $peer, $data;
        }

        for my $begun (values %begun) {
            my ($client, $since) = @$begun;
            next if $peer{$client} || time - $since < 0.3;

            my $server = IO::Socket::UNIX->new(Peer => $target)
                or POSIX::_exit(1);
            @peer{$client, $server} = ($server, $client);
            $select->add($client, $server);
        }
    }
}

# a request that waits for a new session does not count against the queue limit

$nginx = nginx('lunary_database "' . $pg->conninfo . '";
                lunary_pool max=2; lunary_queue 1 timeout=20s;
                lunary_prepare off;');
slow($pg, $small[3] => 1.5);

{
    my (@two, $pid);
    my $mark = $nginx->mark;

    for my $n (1, 2) {
        push @two, ask($nginx, $small[3]);
        soon { $pg->sessions(q{wait_event = 'PgSleep'}) == $n } 5,
             "$n of two sessions";
        $pid //= $pg->value(q{select pid from pg_stat_activity
            where usename = 'lunary_ro' and wait_event = 'PgSleep'});
    }

    $pg->do('alter role lunary_ro connection limit 1');
    $pg->value('select pg_terminate_backend(?::int)', $pid);
    soon { $nginx->log_since($mark) =~ /53300/ } 5,
                             'no other session can be made';

    is(ask($nginx, $small[0])->answer->{status}, 200,
       'the other session serves another request');
    $pg->do('alter role lunary_ro connection limit -1');
    is($_->answer->{status}, 200, 'a request that waited is served') for @two;
}

$nginx->stop;
slow($pg, $small[3] => 0);


# sessions that the server ends because they are idle: not an error

$pg->do(q{alter role lunary_ro set idle_session_timeout = '200ms'});
$nginx = nginx('lunary_database "' . $pg->conninfo . '";');
soon { $pg->sessions } 5, 'a session';
soon { !$pg->sessions } 5, 'the server ends it';
is(ask($nginx, $small[0])->answer->{status}, 200, 'another is made');
soon { !$pg->sessions } 5, 'the server ends it, too';
unlike($nginx->log_since(0), qr/\[error\]/, 'it is not logged');
$nginx->stop;
$pg->do('alter role lunary_ro reset idle_session_timeout');


require IO::Socket::UNIX;

for my $connecting (1, 3) {
    my $counts = "$pg->{dir}/counts$connecting";
    my ($pid, $port) = front("$pg->{socket_dir}/.s.PGSQL.$pg->{port}",
                             $counts);

    $nginx = nginx('lunary_database "' . $pg->conninfo(host => '127.0.0.1',
                       port => $port, sslmode => 'disable') . qq{";
                   lunary_pool max=6 connecting=$connecting;
                   lunary_queue 512 timeout=15s;});

    @clients = map { ask($nginx, $small[$_ % @small]) } 1 .. 200;
    @status = map { $_->{status} } answers(@clients);
    is(scalar(grep { $_ != 200 } @status), 0,
       "connecting=$connecting: all are served");

    my ($most, $all) = split ' ', Lunary::System::read_file($counts);
    cmp_ok($most, '<=', $connecting,
           "connecting=$connecting: $most logins at once, $all in all");
    cmp_ok($all, '<=', 6, "connecting=$connecting: no more than max");

    $nginx->stop;
    kill_wait('KILL', $pid);
}

soon { !$pg->sessions } 5, 'no session is left';

done_testing();
