# nginx under load: reloads, a quit with worker_shutdown_timeout, a binary
# upgrade, a killed worker.  Requests fail only on the killed worker, no session
# is left open, no old worker stays.  LUNARY_FULL=1 for the full size.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Load qw( expected slow soon trees whole );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test qw( key related_uri run_id );
use Lunary::System qw( patience wait_until );
use Test::More;
use Time::HiRes qw( sleep time );

my $rate = $ENV{LUNARY_FULL} ? 200 : 100;

my $pg = Lunary::Pg->new;
my @small = trees($pg, count => 6, runs => 10, bytes => 20_000);
my ($slow, $long) = trees($pg, count => 2, runs => 3, bytes => 3_000,
                          first => 2_000_000);

my $nginx = Lunary::Nginx->new(
    workers => 2,
    daemon => 1,
    main => 'worker_shutdown_timeout 10s;',
    http => 'lunary_database "' . $pg->conninfo . '";
        lunary_pool max=4;
        lunary_query_timeout 40s;',
    config => <<'EOF_CONFIG')->start;
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
EOF_CONFIG

my $bearer = 'Bearer ' . key('alpha');
my $answers = expected($nginx->{port}, $pg, @small, $slow);
my %small = map { $_ => $answers->{$_} } map { related_uri($_) } @small;
slow($pg, $slow => 0.2, $long => 30);

sub load {
    my (%arg) = @_;

    return Lunary::Load->start(port => $nginx->{port}, rate => $rate,
        answers => \%small, header => { Authorization => $bearer }, %arg);
}

sub ask {
    my ($n) = @_;

    return $nginx->client(timeout => 20)->ask(related_uri($n),
        Authorization => $bearer, Connection => 'close');
}

sub all_right {
    my ($result, $name) = @_;

    is(join("\n", @{ $result->{wrong} }), '',
       "$name: every response is a complete 200");
    note("$name: ", whole($result));
}

my $at_its_size = sub { my $n = $pg->sessions; $n && $n <= 8 };


# 20 reloads while a query is running

my $load = load(seconds => 40 * patience());
my ($stay, $slow_ok) = (0, 0);

for (1 .. 20) {
    my $client = ask($slow);
    $nginx->reload or $stay++;
    my $answer = $client->answer;
    $slow_ok++ if $answer->{status} == 200
                  && $answer->{body} eq $answers->{related_uri($slow)};
}

all_right($load->stop, '20 reloads');
is($slow_ok, 20, '20 reloads: running queries are completed');
is($stay, 0, '20 reloads: no old worker stays');
is(scalar $nginx->worker_pids, 2, '20 reloads: as many workers as before');
soon { $at_its_size->() } 5, '20 reloads: sessions are at the pool\'s size';


# reloads that do not wait for the previous one

$load = load(seconds => 20 * patience());
for (1 .. 20) {
    $nginx->signal('HUP');
    sleep 0.1;
}
all_right($load->stop, 'reloads at once');
soon { $nginx->worker_pids == 2 } 10, 'reloads at once: no old worker stays';
soon { $at_its_size->() } 5,
     'reloads at once: sessions are at the pool\'s size';


# a binary upgrade

$load = load(seconds => 20 * patience());
$load->at(0.5);
ok($nginx->upgrade, 'the old binary leaves');
$load->at(2);
all_right($load->stop, 'a new binary');
soon { $nginx->worker_pids == 2 } 5, 'a new binary: its workers';
soon { $at_its_size->() } 5, 'a new binary: sessions are at the pool\'s size';


# a worker is killed: only its own requests are lost

$load = load(seconds => 3);
$load->at(1);
my ($victim) = $nginx->worker_pids;
$nginx->{allow} = qr/worker process $victim exited on signal 9/;
kill 'KILL', $victim;
my $result = $load->finish;

is(join(' ', grep { !/^(?:0|200)$/ } keys %{ $result->{status} }), '',
   'a killed worker: no error response');
cmp_ok($result->{status}{0} // 0, '<=', 20,
       'a killed worker: only its own requests are cut');
is(join("\n", grep { !/cut \(/ } @{ $result->{wrong} }), '',
   'a killed worker: all other responses are right');
note('a killed worker: ', whole($result));
soon { $nginx->worker_pids == 2 } 5, 'a killed worker: another replaces it';
soon { $at_its_size->() } 5,
     'a killed worker: its sessions are gone';

# and while a query is running
my $client = ask($long);
wait_until { $pg->sessions(q{wait_event = 'PgSleep'}) } 5, 'the query';
my @all = $nginx->worker_pids;
$nginx->{allow} = qr/exited on signal 9/;
kill 'KILL', @all;
soon { !$pg->sessions(q{wait_event = 'PgSleep'}) } 3,
     'a killed worker: its query is stopped';
$client->close;


# a quit under load, and one with worker_shutdown_timeout

soon { ask($small[0])->answer->{status} == 200 } 5, 'requests are still served';

$nginx->{main} = 'worker_shutdown_timeout 1s;';
$nginx->configure;
$nginx->reload;

my @clients = map { ask($long) } 1 .. 3;
my $sent = ask($small[0]);
is($sent->answer->{status}, 200, 'quit: one before it');
wait_until { $pg->sessions(q{wait_event = 'PgSleep'}) >= 3 } 5, 'the queries';

my $start = time;
$nginx->stop('QUIT', 10);
cmp_ok(time - $start, '<', 5, 'quit: within worker_shutdown_timeout');
is(join(' ', map { $_->answer->{status} } @clients), '0 0 0',
   'quit: their clients see the end of the connection');
soon { !$pg->sessions } 3, 'quit: no session is left';


# nginx's cache manager and loader open no session

my $cached = Lunary::Nginx->new(
    http => 'lunary_database "' . $pg->conninfo . '"; lunary_pool max=1;
        proxy_cache_path cache keys_zone=cache:1m loader_sleep=1ms;',
    config => <<'EOF_CONFIG')->start;
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
EOF_CONFIG

is($cached->client->get(related_uri($small[0]), Authorization => $bearer)
   ->{status}, 200, 'with a cache manager');
soon { $cached->worker_pids > 1 } 5, 'there is one session';
is($pg->sessions, 1, 'it belongs to the worker');
$cached->stop;

done_testing();
