# PostgreSQL's own limits: statement_timeout, lock_timeout, a table locked by
# ALTER TABLE, a cancelled query, a conflict with recovery on a standby.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Load qw( expected slow soon trees whole );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test qw( key related_uri run_id );
use Lunary::System qw( wait_until );
use Test::More;
use Time::HiRes qw( sleep time );

my $pg = Lunary::Pg->new;
my @small = trees($pg, count => 4, runs => 10, bytes => 20_000);
my ($long) = trees($pg, count => 1, runs => 3, bytes => 3_000,
                   first => 2_000_000);
my $bearer = 'Bearer ' . key('alpha');

sub related {
    my ($name) = @_;

    return qq{location ~ "^/$name/v1/runs/(?<run_id>[^/]+)/related\$" };
}

my $timeouts = $pg->conninfo(options => "'-c statement_timeout=400ms'");
my $locks = $pg->conninfo(options => "'-c lock_timeout=400ms'");

my $nginx = Lunary::Nginx->new(
    http => 'lunary_database "' . $pg->conninfo . '"; lunary_pool max=2;',
    config => <<"EOF_CONFIG")->start;
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related\$" {
            lunary_related_runs \$run_id;
        }
        ${\ related('query')} {
            lunary_query_timeout 700ms;
            lunary_related_runs \$run_id;
        }
        ${\ related('statement')} {
            lunary_database "$timeouts";
            lunary_related_runs \$run_id;
        }
        ${\ related('lock')} {
            lunary_database "$locks";
            lunary_related_runs \$run_id;
        }
EOF_CONFIG

my $answers = expected($nginx->{port}, $pg, @small, $long);
slow($pg, $long => 30);

sub ask {
    my ($prefix, $n) = @_;

    return $nginx->client->ask($prefix . related_uri($n),
        Authorization => $bearer, Connection => 'close');
}

sub late {
    my ($client, $name, $from, $to) = @_;

    my $answer = $client->answer;
    my $took = $answer->{time};

    is($answer->{status}, 504, "$name: status");
    is($answer->{body}, '{"message": "Gateway timeout"}', "$name: body");
    ok(!$answer->{header}{'retry-after'}, "$name: no Retry-After");
    cmp_ok($took, '>', $from, sprintf '%s: after %.2f s', $name, $took);
    cmp_ok($took, '<', $to, "$name: within the limit");
}


# a query that exceeds statement_timeout

late(ask('/query', $long), 'lunary_query_timeout', 0.65, 2);
soon { !$pg->sessions(q{wait_event = 'PgSleep'}) } 2,
     'lunary_query_timeout: the query is stopped';
late(ask('/statement', $long), 'statement_timeout', 0.35, 2);

my $client = ask('', $long);
wait_until { $pg->sessions(q{wait_event = 'PgSleep'}) } 5, 'the query';
$pg->value(q{select pg_cancel_backend(pid) from pg_stat_activity
             where wait_event = 'PgSleep'});
late($client, 'cancelled by the administrator', 0, 10);


# a table locked by ALTER TABLE

my $other = $pg->dbh;
$other->begin_work;
$other->do('alter table run add column extra text');

my @clients = map { ask($_, $small[0]) } qw( /query /statement /lock );
late($clients[0], 'locked, lunary_query_timeout', 0.65, 3);
late($clients[1], 'locked, statement_timeout', 0.35, 3);
late($clients[2], 'locked, lock_timeout', 0.35, 3);
soon { $pg->sessions(q{wait_event_type = 'Lock'}) == 0 } 2,
     'locked: no query is left';

my @waits = map { ask('', $_) } @small;
sleep 0.3;
$other->commit;
is(join(' ', map { $_->answer->{status} } @waits), '200 200 200 200',
   'locked: waiting requests are served');


# the session of a statement that the server cancelled stays in use

my $before = $pg->log_mark;

for (1 .. 3) {
    is(ask('/statement', $long)->answer->{status}, 504, 'cancelled');
    is(ask('/statement', $small[0])->answer->{status}, 200, 'the next request');
}

my $logins = () = $pg->log_since($before) =~ /connection authorized/g;
cmp_ok($logins, '<=', 3, 'cancelled statements cause few logins');
$nginx->stop;


# a standby whose recovery cancels queries

my $standby = $pg->standby(max_standby_streaming_delay => 0,
                           hot_standby_feedback => 'off');
$pg->do('create table churn as select generate_series(1, 1000) as n');
$pg->do('grant select on churn to public');
$pg->catch_up($standby);

$nginx = Lunary::Nginx->new(
    http => 'lunary_database "' . $standby->conninfo . '";
        lunary_pool max=2; lunary_queue 100 timeout=5s;',
    config => <<'EOF_CONFIG')->start;
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
EOF_CONFIG

# recovery may cancel this query, too: undef
sub sessions {
    my ($where) = @_;

    return eval { $standby->sessions($where) };
}

sub asleep {
    return sessions(q{wait_event = 'PgSleep'});
}

# recovery removes rows that the query may still see
sub conflict {
    $pg->do(q{update churn set n = n + 1});
    $pg->do('vacuum churn');
}

slow($pg, $long => 1.5);
$pg->catch_up($standby);

my $mark = $nginx->mark;
$client = ask('', $long);
wait_until { asleep() } 5, 'the query';
conflict();

my $answer = $client->answer;
is($answer->{status}, 200, 'a conflict with recovery: retried');
ok($answer->{body} eq $answers->{related_uri($long)},
   'a conflict with recovery: the right body');
like($nginx->log_since($mark), qr/SQLSTATE 40001/,
     'a conflict with recovery: the log says so');

# repeated conflicts: 503 after the second
$client = ask('', $long);
my $end = time + 15;

until ($client->read_some(0) != -1 || time > $end) {
    conflict() if asleep();
    sleep 0.02;
}

$answer = $client->answer;
is($answer->{status}, 503, 'two conflicts: 503');
ok($answer->{header}{'retry-after'}, 'two conflicts: Retry-After');

# A lock of the primary is a conflict, too.  Other work of the primary may
# conflict with the retry; then the test repeats the request.
my $status = 0;

for (1 .. 4) {
    $pg->catch_up($standby);
    $mark = $nginx->mark;
    $client = ask('', $long);
    wait_until { asleep() } 5, 'the query';
    $pg->do('begin; lock table run in access exclusive mode; commit');
    $status = $client->answer->{status};

    my $conflicts = () = $nginx->log_since($mark) =~ /SQLSTATE 40001/g;
    last if $status != 503 || $conflicts < 2;
}

is($status, 200, 'a lock of the primary: retried');

is(ask('', $small[0])->answer->{status}, 200, 'requests are still served');

$nginx->stop;
soon { !$pg->sessions && (sessions('true') // 1) == 0 } 5,
     'no session is left';

done_testing();
