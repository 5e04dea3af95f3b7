# A connection that ends during a request: the query is sent again, and the
# client gets a 200; after a second end it gets a 503.  Also connections that
# end while they are idle.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Load qw( expected slow soon trees whole );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test qw( key related_uri run_id );
use Lunary::System qw( alive wait_until );
use Test::More;
use Time::HiRes qw( sleep time );

my $pg = Lunary::Pg->new;
my @small = trees($pg, count => 4, runs => 10, bytes => 20_000);
my ($slow) = trees($pg, count => 1, runs => 3, bytes => 3_000,
                   first => 2_000_000);
my ($large) = trees($pg, count => 1, runs => 1_500, bytes => 15_000_000,
                    first => 3_000_000);

sub nginx {
    return Lunary::Nginx->new(
        http => 'lunary_database "' . $pg->conninfo(@_) . '";
            lunary_pool max=4;
            lunary_queue 256 timeout=10s;
            lunary_buffers 64k max=128k;
            lunary_max_temp_file_size 0;',
        config => <<'EOF_CONFIG')->start;
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
EOF_CONFIG
}

my $nginx = nginx();
my $bearer = 'Bearer ' . key('alpha');
my $answers = expected($nginx->{port}, $pg, @small, $slow);
slow($pg, $slow => 0.7);

my $sleeping = q{wait_event = 'PgSleep'};

sub ask {
    my ($n) = @_;

    return $nginx->client->ask(related_uri($n), Authorization => $bearer);
}

sub pids {
    my ($where) = @_;

    return $pg->dbh->selectcol_arrayref(q{select pid from pg_stat_activity
        where usename = 'lunary_ro' and } . $where);
}

sub terminate {
    my ($where) = @_;

    return $pg->value(q{select count(pg_terminate_backend(pid))
        from pg_stat_activity where usename = 'lunary_ro' and } . $where);
}

sub right {
    my ($answer, $n, $name) = @_;

    is($answer->{status}, 200, "$name: status");
    ok($answer->{body} eq $answers->{related_uri($n)}, "$name: body");
}


# the session ends during a query: terminated, disconnected or crashed

my %ends = (
    '57P01 administrator' => sub { terminate($sleeping) },

    # a crash ends all sessions
    '57P02 crash' => sub { kill 'KILL', $_[0] },
);

for my $name (sort keys %ends) {
    my $mark = $nginx->mark;
    my $client = ask($slow);
    my $pid = wait_until { pids($sleeping)->[0] } 5, 'the query';

    $ends{$name}->($pid);

    my @others = map { ask($_) } @small;

    right($client->answer, $slow, $name);
    right($others[$_]->answer, $small[$_], "$name, another") for 0 .. $#small;

    like($nginx->log_since($mark), qr/closed a connection/,
         "$name: it is logged")
        if $name =~ /^57P01/;
}

wait_until { eval { $pg->value('select true') } } 20, 'the database';


# a query is retried once: after the second end the 503 comes at once

my $client = ask($slow);
wait_until { pids($sleeping)->[0] } 5, 'the query';
terminate($sleeping);
wait_until { !@{ pids($sleeping) } } 5, 'the end of the session';
wait_until { pids($sleeping)->[0] } 5, 'the retry';
terminate($sleeping);

my $answer = $client->answer;
is($answer->{status}, 503, 'ended twice: 503');
ok($answer->{header}{'retry-after'}, 'ended twice: Retry-After');
sleep 0.3;
is(scalar @{ pids($sleeping) }, 0, 'there is no second retry');


# the queries behind one that was terminated have not used their retry

my @clients = map { ask($_) } $slow, $slow, $slow, @small;
wait_until { pids($sleeping)->[0] } 5, 'the queries';
terminate('true');
right($clients[$_]->answer, ($slow, $slow, $slow, @small)[$_],
      'all sessions end at once')
    for 0 .. $#clients;


# idle connections: the one that is used next, and the others

my %quick = map { $_ => $answers->{$_} } map { related_uri($_) } @small;

Lunary::Load->start(port => $nginx->{port}, rate => 300, seconds => 0.3,
                    answers => \%quick,
                    header => { Authorization => $bearer })->finish;

my @idle = @{ pids(q{state = 'idle'}) };
cmp_ok(scalar @idle, '>', 1, 'some connections are idle');
kill 'STOP', @idle;
terminate(q{state = 'idle'});
my $first = ask($small[0]);
kill 'CONT', @idle;
right($first->answer, $small[0], 'a connection ended before it was used');

for my $n (@small, @small) {
    right(ask($n)->answer, $n, 'after idle connections ended');
}


# connections that have just ended, so that the query cannot be sent; the last
# message of the server is still read

{
    my $other = nginx(application_name => 'other');
    my $sessions = q{application_name = 'other'};
    my $worker = wait_until { ($other->worker_pids)[0] } 10, 'a worker';
    my $client = $other->client;
    my @get = ('GET', related_uri($small[0]), Authorization => $bearer);

    right($client->exchange(@get), $small[0], 'before they ended');
    my $mark = $other->mark;

    kill 'STOP', $worker;
    $client->send($client->request(@get));
    terminate($sessions);
    wait_until { !$pg->sessions($sessions) } 5, 'the end of its sessions';
    kill 'CONT', $worker;

    right($client->answer, $small[0], 'ended before the query is sent');
    like($other->log_since($mark), qr/closed a connection.*57P01/,
         'ended before the query is sent: the log says why');
    is(join(' ', $other->worker_pids), $worker, 'the worker continues');
    $other->stop;
}


# idle connections whose backends died without a message, as in a power failure

@idle = @{ pids('true') };
$pg->restart('kill');
right(ask($small[0])->answer, $small[0], 'after the server was killed');


# a response that has begun cannot be retried: it is cut

my $reader = $nginx->client(rcvbuf => 8192)->ask(related_uri($large),
    Authorization => $bearer);
$reader->read_some(10, 4096);
like($reader->{buffer}, qr{^HTTP/1.1 200}, 'a large response has begun');
my $writer = wait_until { pids(q{wait_event = 'ClientWrite'})->[0] } 10,
    'a full socket';
terminate("pid = $writer");

my ($end, $tail) = (time + 30, '');

while (time < $end) {
    $reader->{buffer} = '';
    my $bytes = $reader->read_some(5, 1 << 20);

    # eof, or a reset
    $end = 0, last if !$bytes;
    $tail = substr $tail . $reader->{buffer}, -8 if $bytes > 0;
}

is($end, 0, 'the connection ends');
isnt(substr($tail, -5), "0\r\n\r\n", 'there is no last chunk');
$reader->close;
right(ask($small[0])->answer, $small[0], 'the next request');

$nginx->stop;
soon { !$pg->sessions } 5, 'no session is left';

done_testing();
