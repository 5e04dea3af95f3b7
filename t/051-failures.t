# Failures of the database while nginx runs: the response to the request, and
# that requests are served afterwards.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test;
use Lunary::System qw( wait_until );
use JSON::XS qw( decode_json );
use Test::More;
use Time::HiRes qw( sleep time );

my $pg = Lunary::Pg->new;
my $alpha = key('alpha');
my $related = <<'EOF_CONFIG';
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
EOF_CONFIG

my $lock_wait = $pg->conninfo(options => "'-c statement_timeout=300ms'");
my $idle = $pg->conninfo(application_name => 'idle',
                         options => "'-c idle_session_timeout=300ms'");
my $no_wait = $pg->conninfo(options => "'-c lock_timeout=300ms'");

my $nginx = Lunary::Nginx->new(
    http => 'lunary_database "' . $pg->conninfo . qq{";
        lunary_query_timeout 700ms;
        lunary_queue 64 timeout=1s;
        lunary_pool max=2;},
    config => $related . <<"EOF_CONFIG");
        location = /narrow {
            lunary_pool max=1;
            lunary_queue 1 timeout=5s;
            lunary_query_timeout 1s;
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
        location = /behind {
            lunary_pool max=1;
            lunary_queue 8 timeout=500ms;
            lunary_query_timeout 2s;
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
        location = /statement {
            lunary_database "$lock_wait";
            lunary_query_timeout 5s;
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
        location = /idle {
            lunary_database "$idle";
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
        location = /lock {
            lunary_database "$no_wait";
            lunary_query_timeout 5s;
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
EOF_CONFIG

$nginx->start;

sub get {
    my ($uri) = @_;

    return $nginx->client(timeout => 15)->get($uri,
        Authorization => "Bearer $alpha", Connection => 'close');
}

sub answers {
    my ($name) = @_;

    my $answer = wait_until {
        my $answer = get(related_uri(101));
        return $answer->{status} == 200 ? $answer : undef;
    } 10;

    is($answer->{status}, 200, "$name: requests are served again");
}

sub refused {
    my ($uri, $status, $message, $name) = @_;

    my $answer = get($uri);

    is($answer->{status}, $status, "$name: status");
    is_deeply(eval { decode_json($answer->{body}) },
              { message => $message }, "$name: body");
    is($answer->{header}{'content-type'}, 'application/json; charset=utf-8',
       "$name: type");
    is($answer->{header}{'cache-control'}, 'private, no-store',
       "$name: cache");
    ok(!!$answer->{header}{'retry-after'} == ($status == 503),
       "$name: Retry-After");

    return $answer;
}

answers('at first');
is(get('/behind')->{status}, 200, 'a pool of one');


# a private key without a project finds no run

my $homeless = 'cccccccc-0000-4000-8000-0000000000aa';
$pg->do(q{insert into api_key (type, api_key) values ('private', ?)},
        $homeless);

for my $method (qw( GET HEAD )) {
    is($nginx->client->exchange($method, related_uri(101),
                                Authorization => "Bearer $homeless")
       ->{status}, 404, "a key without a project, $method: 404");
}


# a table that is locked

my $dbh = $pg->dbh;
$dbh->begin_work;
$dbh->do('lock table run in access exclusive mode');

my $late = refused(related_uri(101), 504, 'Gateway timeout',
                   'lunary_query_timeout');
cmp_ok($late->{time}, '>', 0.6, 'not before the timeout');
cmp_ok($late->{time}, '<', 3, 'soon after the timeout');

refused('/statement', 504, 'Gateway timeout', 'statement_timeout');
refused('/lock', 504, 'Gateway timeout', 'lock_timeout');

# one request is running, one waits, and the queue is full for a third
my @waiting = map {
    my $client = $nginx->client->ask('/narrow',
        Authorization => "Bearer $alpha");
    sleep 0.1;
    $client;
} 1, 2;

my $full = refused('/narrow', 503, 'Service unavailable', 'a full queue');
cmp_ok($full->{time}, '<', 0.5, 'a full queue refuses at once');
is($_->answer->{status}, 504, 'the others time out') for @waiting;

# a request behind a query that hangs waits no longer than the queue's timeout
my $asked = time;
my @behind = map { $nginx->client(timeout => 15)->connect } 1 .. 3;
$_->send($_->request('GET', '/behind', Authorization => "Bearer $alpha"))
    for @behind;

for (@behind[1, 2]) {
    is($_->answer->{status}, 503, 'behind a query that hangs');
    my $took = time - $asked;
    cmp_ok($took, '>', 0.45, 'not before the queue timeout');
    cmp_ok($took, '<', 1.5, 'soon after it');
}

is($behind[0]->answer->{status}, 504, 'the query that hangs times out');

# a client that leaves while it waits
my $client = $nginx->client->ask(related_uri(101),
    Authorization => "Bearer $alpha");
wait_until { $pg->sessions(q{wait_event_type = 'Lock'}) } 2;
$client->close;

ok(wait_until { !$pg->sessions(q{wait_event_type = 'Lock'}) } 3,
   'no query is left waiting');

is(get('/ok')->{status}, 200, 'other locations are served');
$dbh->rollback;
answers('after the lock');


# restarts: clients do not notice the broken connections

$pg->restart('fast');
is(get(related_uri(101))->{status}, 200, 'first after a fast restart');

$pg->restart('immediate');
is(get(related_uri(101))->{status}, 200, 'first after an immediate restart');

get(related_uri(101)) for 1 .. 3;
$pg->do(q{select pg_terminate_backend(pid) from pg_stat_activity
          where usename = 'lunary_ro'});
is(get(related_uri(101))->{status}, 200, 'first after terminated sessions');


# a server whose idle timeout is shorter than nginx's

my $quiet = $nginx->mark;
is(get('/idle')->{status}, 200, 'idle_session_timeout: a session');
ok(wait_until { !$pg->sessions("application_name = 'idle'") } 5,
   'idle_session_timeout: its end');
is(get('/idle')->{status}, 200, 'idle_session_timeout: another');
unlike($nginx->log_since($quiet), qr/\[error\]/,
       'it is not logged as an error');


# down: 503; up again: 200 without a reload

$pg->stop('fast');
my $down = refused(related_uri(101), 503, 'Service unavailable', 'down');
cmp_ok($down->{time}, '<', 3, 'down: within the queue timeout');
is(get('/ok')->{status}, 200, 'down: other locations are served');

$pg->start;
answers('after it was down');


# the server starts while a request waits

$pg->stop('fast');
$client = $nginx->client->connect;
$client->ask(related_uri(101), Authorization => "Bearer $alpha");
sleep 0.2;
$pg->start;
is($client->answer->{status}, 200, 'a request waits while the server is down');


# prepared statements that were deallocated, and a schema that changes

for my $what ('add column extra_column text', 'drop column extra_column',
              'drop column cached_prompt_tokens',
              'add column sibling_run_id uuid') {
    $pg->do("alter table run $what");
    is(get(related_uri(101))->{status}, 200, "alter table run $what");
}

$pg->do(q{update run set sibling_run_id = id
          where id = '00000000-0000-4000-8000-000000000103'});
$pg->restart('fast');
my $oracle = Lunary::Oracle->new($pg->dbh);
is($oracle->compare(get(related_uri(101))->{body},
                    $oracle->related(project('alpha'), run_id(101))), undef,
   'an older schema, with sibling_run_id');

$pg->do('alter table run drop column is_deleted');
is(get(related_uri(410))->{status}, 200, 'an older schema, without is_deleted');

# infinite times, in a schema without the generated column that forbids them
$pg->do('alter table run drop column duration');
$pg->do(q{update run set ended_at = 'infinity'
          where id = '00000000-0000-4000-8000-000000000101'});
$pg->do(q{update run set ended_at = '-infinity'
          where id = '00000000-0000-4000-8000-000000000103'});
$pg->do(q{update run set created_at = '-infinity', ended_at = 'infinity'
          where id = '00000000-0000-4000-8000-000000000104'});
wait_until { get(related_uri(101))->{status} == 200 } 5;
$oracle = Lunary::Oracle->new($pg->dbh);
is($oracle->compare(get(related_uri(101))->{body},
                    $oracle->related(project('alpha'), run_id(101))), undef,
   'infinite ends');


# a required column is dropped: 500, one log line per failure, no loop

my $mark = $nginx->mark;
my $log = $pg->log_mark;
$pg->do('alter table run drop column metadata');
refused(related_uri(101), 500, 'Internal server error', 'column dropped');
like($nginx->log_since(0), qr/\[error\].*42703/, 'the log says why');
unlike($nginx->log_since($mark), qr/$alpha/, 'the log has no key');

$pg->do('alter table run add column metadata jsonb');
answers('after the column is added again');


# stopped: 504 or 503 in time, other locations are served, then 200 at once

get(related_uri(101)) for 1 .. 3;
$pg->freeze;

my $frozen = get(related_uri(101));
like($frozen->{status}, qr/^50[34]$/, 'frozen: status');
cmp_ok($frozen->{time}, '<', 4, 'frozen: in time');
cmp_ok(get('/ok')->{time}, '<', 0.2,
       'frozen: other requests are served at once');

$pg->thaw;
my $start = time;
wait_until { get(related_uri(101))->{status} == 200 } 5;
cmp_ok(time - $start, '<', 1.5, 'thawed: requests are served again');


# a reload: only the sessions of the new worker's pool are left

ok($nginx->reload, 'the old worker leaves');
answers('after a reload');
ok(wait_until { $pg->sessions <= 6 } 3, 'no session is left');

$nginx->stop;
ok(wait_until { !$pg->sessions } 5, 'no session is left after nginx quits');

done_testing();
