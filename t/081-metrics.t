# The events that change each metric, and by how much; gauges and counters after
# a reload and after a worker was killed; readiness while the database is down.
#
# Packages: libipc-run-perl prometheus

use strict;
use warnings;

use lib 't/lib';
use IPC::Run ();
use JSON::XS qw( decode_json );
use Lunary::Load qw( soon trees );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test qw( key project related_uri );
use Lunary::System qw( read_file wait_until );
use Test::More;
use Time::HiRes qw( sleep time );

my $pg = Lunary::Pg->new(conf => { log_statement => "'all'" });
my ($large) = trees($pg, count => 1, runs => 400, bytes => 12_000_000);

my $statement = $pg->conninfo(options => "'-c statement_timeout=400ms'");
my $run = '00000000-0000-4000-8000-000000000101';

my $config = <<"EOF_CONFIG";
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related\$" {
            lunary_related_runs \$run_id;
        }
        location = /cached {
            lunary_key_cache zone=keys:64k valid=300ms;
            lunary_related_runs $run;
        }
        location = /narrow {
            lunary_pool max=1;
            lunary_queue 1 timeout=700ms;
            lunary_related_runs $run;
        }
        location = /statement {
            lunary_database "$statement";
            lunary_related_runs $run;
        }
        location = /late {
            lunary_query_timeout 300ms;
            lunary_related_runs $run;
        }
        location = /slow {
            lunary_buffers 4k max=16k;
            lunary_max_temp_file_size 0;
            lunary_related_runs @{[ related_uri($large) =~ m{runs/(.*)/} ]};
        }
        location = /short {
            lunary_pool idle=100ms;
            lunary_related_runs $run;
        }
        location = /metrics {
            lunary_status;
        }
        location = /ready {
            lunary_status ready;
        }
EOF_CONFIG

my $http = 'lunary_database "' . $pg->conninfo . q{";
        lunary_queue 64 timeout=1s;
        log_format shown '$uri $lunary_outcome $lunary_runs $lunary_queue_time'
                         ' $lunary_connect_time $lunary_first_row_time'
                         ' $lunary_query_time $lunary_sqlstate'
                         ' $lunary_key_cache_status $lunary_retries'
                         ' $lunary_addr';
        access_log logs/shown.log shown;};

my $nginx = Lunary::Nginx->new(http => $http, config => $config,
                               allow => qr/exited on signal 9/)->start;
my @bearer = (Authorization => 'Bearer ' . key('alpha'));


sub get {
    my ($uri, %header) = @_;

    return $nginx->client->get($uri, @bearer, Connection => 'close', %header);
}

# sends a request whose response is read later
sub ask {
    my ($uri, %arg) = @_;

    my $client = $nginx->client(%arg)->ask($uri, @bearer);

    return $client;
}

# (name with labels => value, errors): checks each line and the page against
# the text format
sub parse {
    my ($text) = @_;

    my (%value, %type, %help, $family, @wrong);

    for my $line (split /\n/, $text) {
        if ($line =~ /^# HELP (lunary_[a-z_]+) \S.*\.$/) {
            $family = $1;
            push @wrong, "$line: again" if $help{$family}++;

        } elsif ($line =~ /^# TYPE (\S+) (counter|gauge|histogram)$/) {
            push @wrong, "$line: no HELP before" if $1 ne $family;
            $type{$1} = $2;

        } elsif ($line =~ /^(\w+?)(_bucket|_sum|_count)?
                            ((?:\{\w+="[^"\\]+"(?:,\w+="[^"\\]+")*\})?)
                            \ (\d+(?:\.\d{3})?)$/x) {
            my ($name, $part, $labels, $is) = ($1, $2 // '', $3, $4);
            $value{"$name$part$labels"} = $is;
            $name .= $part if ($type{$name} // '') ne 'histogram';
            push @wrong, "$line: not of $family" if $name ne $family;
            push @wrong, "$line: no _total"
                if ($type{$name} // '') eq 'counter' && $name !~ /_total$/;

        } else {
            push @wrong, $line;
        }
    }

    for my $name (grep { $type{$_} eq 'histogram' } keys %type) {
        my ($last, $n) = (0, 0);

        for my $line (grep { /^\Q${name}_bucket{/ } split /\n/, $text) {
            my ($count) = $line =~ / (\d+)$/;
            push @wrong, "$line: less than before" if $count < $last;
            $last = $count;
            $n++;
        }

        push @wrong, "$name: $n buckets" if $n < 10;
        push @wrong, "$name: +Inf is not the count"
            if $value{"${name}_bucket{le=\"+Inf\"}"} != $last
               || $last != $value{"${name}_count"};
    }

    return (\%value, \@wrong);
}

sub metrics {
    my ($value, $wrong) = parse(get('/metrics')->{body});

    is(join("\n", @$wrong), '', 'the page is well-formed') if @$wrong;

    return $value;
}

my %short = (
    (map { $_ => "lunary_requests_total{outcome=\"$_\"}" }
     qw( ok not_modified method denied not_found queue_full queue_timeout
         unavailable timeout error cut client_left )),
    (map { $_ => "lunary_key_cache_total{status=\"$_\"}" }
     qw( HIT MISS EXPIRED BYPASS )),
    (map { $_ => "lunary_${_}_total" }
     qw( runs answer_bytes connects connect_failures connections_lost
         retries cancels unconfirmed )),
    (map { $_ => "lunary_${_}_seconds_count" } qw( queue first_row request )),
);

sub of_class { "lunary_database_errors_total{class=\"$_[0]\"}" }

# the counters, except for those of connections, which change at any time
sub moved {
    my ($before, $after, @more) = @_;

    my %moved;
    my @counters = grep { !/^connect/ } keys %short;

    for my $name (@counters, @more) {
        my $key = $short{$name} // $name;
        my $by = ($after->{$key} // 0) - ($before->{$key} // 0);
        $moved{$name} = $by if $by;
    }

    return \%moved;
}

my $mark;

sub mark { $mark = metrics() }

# a request is counted a moment after its client has the response
sub moves {
    my ($name, %expected) = @_;

    my @more = grep { !$short{$_} || /^connect/ } keys %expected;
    my $after;

    wait_until {
        $after = metrics();
        my $moved = moved($mark, $after, @more);
        join(' ', map { "$_=$moved->{$_}" } sort keys %$moved)
            eq join(' ', map { "$_=$expected{$_}" } sort keys %expected);
    } 3;

    is_deeply(moved($mark, $after, @more), \%expected, "$name: counted");

    my $is = $mark;
    $mark = $after;
    return ($is, $after);
}

my @names = qw( uri outcome runs queue connect first query state cache
                retries addr );

# the latest line of the log for a location
sub logged {
    my ($uri) = @_;

    my @lines = grep { /^\Q$uri\E / }
                split /\n/, read_file("$nginx->{dir}/logs/shown.log");
    my %line;
    @line{@names} = split / /, $lines[-1] // '', @names;

    return \%line;
}

my %asked = (queue => 1, request => 1, first_row => 1);
my $number = qr/^\d+\.\d{3}$/;


# the pages before and after the first request

soon { metrics()->{'lunary_connections{state="idle"}'} == $pg->sessions } 5,
     'the first sessions';

my $text = get('/metrics')->{body};
my ($value, $wrong) = parse($text);
is(join("\n", @$wrong), '', 'well-formed');
is(join(' ', grep { $value->{$_} != 0 }
             grep { !/^lunary_(?:connect|host_|build_info)/ }
             sort keys %$value), '', 'all is zero');

promtool($text);

# promtool reports nothing; it is in the package prometheus
sub promtool {
    my ($page) = @_;

  SKIP: {
        skip 'promtool is not installed', 1
            if !grep { -x "$_/promtool" } split /:/, $ENV{PATH};

        IPC::Run::run(['promtool', 'check', 'metrics'], \$page,
                      \my $said, '2>&1');
        is($? . $said, '0', 'promtool reports nothing');
    }
}


# which versions, and which hosts

my ($build) = grep { /^lunary_build_info/ } keys %$value;
like($build, qr/\{version="\d+\.\d+\.\d+",nginx="1\.\d+\.\d+",
                libpq="\d+\.\d+"\}$/x, 'versions');
is($value->{$build}, 1, 'the metric is always 1');

my $label = "$pg->{socket_dir}:$pg->{port}";

sub of_host { return metrics()->{"lunary_host_$_[0]\{host=\"$label\"}"} }

is(of_host('sessions'), $pg->sessions, 'a host: its sessions');
is(of_host('connects_total'), metrics()->{lunary_connects_total},
   'a host: all sessions were made with it');
is(of_host('connect_failures_total'), 0, 'a host: no attempt failed');


# a 200

mark();
my $answer = get(related_uri(101));
is($answer->{status}, 200, 'a response');
my $runs = @{ decode_json($answer->{body}) };
cmp_ok($runs, '>', 3, 'it has some runs');
moves('a response', ok => 1, BYPASS => 1, runs => $runs, %asked,
      answer_bytes => length $answer->{body});

$nginx->client->exchange('HEAD', related_uri(101), @bearer);
moves('HEAD', ok => 1, BYPASS => 1, %asked);


# error responses, with and without a query

$nginx->client->exchange('PUT', related_uri(101), @bearer);
moves('method', method => 1, request => 1);

get(related_uri(101), Authorization => 'x');
moves('no key', denied => 1, request => 1);

get(related_uri(101), Authorization => 'Bearer ' . key('public'));
moves('a public key', denied => 1, BYPASS => 1, %asked);

get('/v1/runs/x/related');
moves('no id', not_found => 1, request => 1);

get(related_uri(999));
moves('no such run', not_found => 1, BYPASS => 1, %asked);


# credentials

sub credential {
    my ($type, $denied, %header) = @_;

    mark();
    get(related_uri(101), %header);
    my ($all, $of) = map { "lunary_${_}_total{credential=\"$type\"}" }
                         qw( credentials denied );
    soon { metrics()->{$all} == $mark->{$all} + 1 } 3, "credential: $type";
    is(metrics()->{$of} - $mark->{$of}, $denied, "denied: $denied");
}

credential('key', 0);
credential('key', 1, Authorization => 'Bearer ' . key('public'));
credential('none', 1, Authorization => 'Basic x');
mark();


# the key cache

my %same = (ok => 1, runs => $runs, answer_bytes => length $answer->{body},
            %asked);

get('/cached');
moves('cache, first', MISS => 1, %same);
is(logged('/cached')->{cache}, 'MISS', 'MISS in the log');

get('/cached');
moves('cache, again', HIT => 1, %same);
is(logged('/cached')->{cache}, 'HIT', 'HIT in the log');

sleep 0.5;
get('/cached');
moves('cache, later', EXPIRED => 1, %same);
is(logged('/cached')->{cache}, 'EXPIRED', 'EXPIRED in the log');


# a connection that a request has to wait for

wait_until {
    sleep 0.25;
    mark();
    get('/short');
    moves('after the idle time', BYPASS => 1, connects => 1, %same);
    return logged('/short')->{connect} ne '-';
} 3;

like(logged('/short')->{connect}, $number, 'the time to connect');
is(logged('/cached')->{connect}, '-', 'no time if there was a connection');


# the queue: one request is running, one waits, one finds it full

# in another session: within a transaction pg_stat_activity does not change
my $dbh;

sub lock_runs {
    $dbh = $pg->dbh->clone if !$dbh || !$dbh->ping;
    $dbh->begin_work;
    $dbh->do('lock table run');
}

lock_runs();

my $locked = sub { $pg->sessions(q{wait_event_type = 'Lock'}) };
my ($before, $after);

mark();
my @clients = ask('/narrow');
wait_until { $locked->() == 1 } 3;

# from then on no query is pipelined behind it
sleep 0.1;
push @clients, ask('/narrow');
soon { metrics()->{lunary_queue_length} == 1 } 2, 'one waits';
is(metrics()->{'lunary_connections{state="busy"}'}, 1, 'one is busy');
is(get('/narrow')->{status}, 503, 'a full queue');
moves('a full queue', queue_full => 1, BYPASS => 1, request => 1);
is(logged('/narrow')->{outcome}, 'queue_full', 'queue_full in the log');
is(logged('/narrow')->{queue}, '-', 'no time in the queue');

is($clients[1]->answer->{status}, 503, 'too long in the queue');
($before, $after) = moves('too long in the queue', queue_timeout => 1,
                             BYPASS => 1, queue => 1, request => 1);
is(logged('/narrow')->{outcome}, 'queue_timeout', 'queue_timeout in the log');
like(logged('/narrow')->{queue}, $number, 'the time in the queue');
cmp_ok(logged('/narrow')->{queue}, '>', 0.69, 'it is the timeout of the queue');
is(logged('/narrow')->{query}, '-', 'no time of a query');
is(logged('/narrow')->{runs}, '-', 'no runs');
is(metrics()->{lunary_queue_length}, 0, 'no request waits');

# the histograms, compared with this request's variables
for my $name ('queue', 'request') {
    my $sum = $after->{"lunary_${name}_seconds_sum"}
              - $before->{"lunary_${name}_seconds_sum"};
    cmp_ok($sum, '>', 0.69, "$name: the sum moved by 0.7 s");
    cmp_ok($sum, '<', 2.5, "$name: and not by much more");

    for my $le (qw( 0.001 0.5 2.5 30.0 +Inf )) {
        my $key = "lunary_${name}_seconds_bucket{le=\"$le\"}";
        is($after->{$key} - $before->{$key}, $le =~ /^0/ ? 0 : 1,
           "$name: the bucket $le");
    }
}


# the client leaves

(shift @clients)->close;
soon { metrics()->{$short{client_left}} == 1 } 3, 'a client that left';
moves('a client that left', client_left => 1, BYPASS => 1, queue => 1,
      cancels => 1, request => 1);
is(logged('/narrow')->{outcome}, 'client_left', 'client_left in the log');
like(logged('/narrow')->{query}, $number, 'the time of its query');


# timeouts

soon { !$locked->() } 3, 'its query was stopped';
is(get('/late')->{status}, 504, 'lunary_query_timeout');
moves('lunary_query_timeout', timeout => 1, BYPASS => 1, queue => 1,
      cancels => 1, request => 1);
like(logged('/late')->{query}, $number, 'the time is in the log');
cmp_ok(logged('/late')->{query}, '>', 0.29, 'it is the timeout');
is(logged('/late')->{first}, '-', 'no time of a first row');
is(logged('/late')->{state}, '-', 'no SQLSTATE');

is(get('/statement')->{status}, 504, 'statement_timeout');
moves('statement_timeout', timeout => 1, BYPASS => 1, queue => 1,
      request => 1, of_class('57') => 1);
is(logged('/statement')->{outcome}, 'timeout', 'timeout in the log');
is(logged('/statement')->{state}, '57014', 'SQLSTATE of a timeout');


# a session ends: once is retried, twice is an error

sub terminate {
    my ($name) = @_;

    soon { $pg->do(q{select pg_terminate_backend(pid) from pg_stat_activity
        where usename = 'lunary_ro' and wait_event_type = 'Lock'}) == 1 } 3,
        $name;
}

soon { !$locked->() } 3, 'no query waits for the lock';
my $client = ask(related_uri(101));
terminate('terminated once');
soon { $locked->() } 3, 'the query is sent again';
$dbh->rollback;
is($client->answer->{status}, 200, 'a retry');
moves('a retry', BYPASS => 1, retries => 1, of_class('57') => 1,
      connections_lost => 1, %same);
is(logged(related_uri(101))->{retries}, 1, 'a retry in the log');
is(logged(related_uri(101))->{addr}, "$label, $label",
   'the host is listed twice');

lock_runs();
$client = ask(related_uri(101));
terminate('terminated');
soon { $locked->() } 3, 'sent again';
terminate('terminated again');
is($client->answer->{status}, 503, 'lost twice');
$dbh->rollback;
moves('lost twice', unavailable => 1, BYPASS => 1, retries => 1, queue => 1,
      request => 1, connections_lost => 2, of_class('57') => 2);
is(logged(related_uri(101))->{outcome}, 'unavailable',
   'outcome unavailable in the log');
is(logged(related_uri(101))->{state}, '57P01', 'SQLSTATE of a lost session');


# a cut response: the bytes sent are counted

$client = ask('/slow', rcvbuf => 4096);
wait_until { $client->read_some(1) > 0 } 3;
sleep 0.3;
$pg->do(q{select pg_terminate_backend(pid) from pg_stat_activity
          where usename = 'lunary_ro' and state = 'active'});
my $cut = $client->answer;
is($cut->{status}, 200, 'a response had begun');
ok(!$cut->{whole}, 'it was cut');
soon { metrics()->{$short{cut}} == 1 } 3, 'it is counted';
my $now = metrics();
cmp_ok($now->{lunary_runs_total} - $mark->{lunary_runs_total}, '>', 0,
       'its runs are counted');
cmp_ok($now->{lunary_runs_total} - $mark->{lunary_runs_total}, '<', 400,
       'runs that were not generated are not counted');
cmp_ok($now->{lunary_answer_bytes_total} - $mark->{lunary_answer_bytes_total},
       '>', 10_000, 'its bytes are counted');
is(logged('/slow')->{outcome}, 'cut', 'outcome cut in the log');
like(logged('/slow')->{runs}, qr/^[1-9]/, 'its runs in the log');


# an error

$pg->do('alter table run rename column metadata to data');
mark();
is(get(related_uri(101))->{status}, 500, 'a column is missing');
moves('an error', error => 1, BYPASS => 1, queue => 1, request => 1,
      of_class('42') => 1);
is(logged(related_uri(101))->{state}, '42703', 'its SQLSTATE is in the log');
is(logged(related_uri(101))->{outcome}, 'error', 'outcome error in the log');
is(logged(related_uri(101))->{runs}, '0', 'no runs in the log');
$pg->do('alter table run rename column data to metadata');
soon { get(related_uri(101))->{status} == 200 } 5, 'the column is back';


# JSON and text have the same values

soon { !$pg->sessions(q{state = 'active'}) } 3, 'no query is running';
($text, my $json) = map { get($_)->{body} } '/metrics',
                                            '/metrics?format=json';
($value, $wrong) = parse($text);
is(join("\n", @$wrong), '', 'well-formed with values');
is_deeply(flat(decode_json($json)), $value, 'JSON has the same values');
promtool($text);

sub flat {
    my ($page) = @_;

    my ($counters, $connections) = @$page{qw( counters connections )};
    my %flat = (lunary_queue_length => $page->{queue_length});

    my $build = $page->{build};
    $flat{'lunary_build_info{' . join(',', map { "$_=\"$build->{$_}\"" }
                                  qw( version nginx libpq )) . '}'} = 1;

    for my $host (@{ $page->{hosts} }) {
        my $labels = "{host=\"$host->{host}\"}";
        $flat{"lunary_host_${_}_total$labels"} = $host->{$_}
            for qw( connects connect_failures );
        $flat{"lunary_host_sessions$labels"} = $host->{sessions};
    }

    for my $pair (['requests', 'requests_total', 'outcome'],
                  ['credentials', 'credentials_total', 'credential'],
                  ['denied', 'denied_total', 'credential'],
                  ['key_cache', 'key_cache_total', 'status'],
                  ['database_errors', 'database_errors_total', 'class']) {
        my ($name, $metric, $label) = @$pair;
        my $by = delete $counters->{$name};
        $flat{"lunary_$metric\{$label=\"$_\"}"} = $by->{$_} for keys %$by;
    }

    $flat{"lunary_${_}_total"} = $counters->{$_} for keys %$counters;
    $flat{"lunary_connections{state=\"$_\"}"} = $connections->{$_}
        for keys %$connections;

    for my $name (qw( queue first_row request )) {
        my $h = $page->{"${name}_seconds"};

        $flat{"lunary_${name}_seconds_count"} = $h->{count};
        $flat{"lunary_${name}_seconds_sum"} = sprintf '%.3f', $h->{sum};

        for my $bucket (@{ $h->{buckets} }) {
            my $le = $bucket->{le} // '+Inf';
            $le = "$le.0" if $le =~ /^\d+$/;
            $flat{"lunary_${name}_seconds_bucket{le=\"$le\"}"}
                = $bucket->{count};
        }
    }

    return \%flat;
}


# readiness follows the database and sends no query

my $log = $pg->log_mark;
is(get('/ready')->{status}, 200, 'ready') for 1 .. 5;
is($pg->log_since($log), '', 'no query is sent');

is($nginx->client->exchange('GET', '/ready', body => 'x' x 1000)->{body},
   '{"status": "ready"}', 'with a body');

$client = $nginx->client;
for my $uri ('/ready', '/metrics', '/ready') {
    is($client->exchange('POST', $uri, body => 'x' x 1000)->{status}, 405,
       "POST $uri, on one connection");
}

mark();
$pg->stop('fast');
soon { get('/ready')->{status} == 503 } 4, 'not ready without a database';
is(get('/ready')->{header}{'retry-after'}, 1, 'Retry-After');
$now = metrics();
cmp_ok($now->{lunary_connect_failures_total}, '>',
       $mark->{lunary_connect_failures_total}, 'attempts in vain are counted');
is(of_host('sessions'), 0, 'a host: no session is left');
cmp_ok(of_host('connect_failures_total'), '>', 0, 'a host: attempts failed');
cmp_ok($now->{lunary_connections_lost_total}, '>',
       $mark->{lunary_connections_lost_total}, 'lost sessions are counted');
is($now->{'lunary_connections{state="idle"}'}, 0, 'no session is left');

ok($nginx->reload, 'a reload meanwhile');
is(get('/ready')->{status}, 503, 'still not ready');

$pg->start;
soon { get('/ready')->{status} == 200 } 5, 'ready again';

# the server reports an immediate shutdown as a warning
my $said = $nginx->mark;
mark();
$pg->stop('immediate');
soon { get('/ready')->{status} == 503 } 4, 'not ready after a crash';
cmp_ok(metrics()->{of_class('57')}, '>', $mark->{of_class('57')} // 0,
       'the lost sessions are counted by SQLSTATE');
like($nginx->log_since($said),
     qr/closed a connection.*SQLSTATE 57P01: terminating connection/,
     'the SQLSTATE is counted');

$pg->start;
soon { get('/ready')->{status} == 200 } 5, 'ready after the restart';


# a reload: counters are kept, gauges are those of the new workers

sub counters_of {
    my ($page) = @_;

    return { map { $_ => $page->{$_} } grep { /_total|_seconds/ }
             grep { !/connect/ } keys %$page };
}

# the gauge of connections and the sessions of the server
sub no_ghosts {
    my ($name) = @_;

    my ($is, $should);

    wait_until {
        my $page = metrics();
        $is = join ' ', $page->{lunary_queue_length},
              map { $page->{"lunary_connections{state=\"$_\"}"} }
              qw( connecting busy idle );
        $is .= ' ' . of_host('sessions');
        $should = join ' ', '0 0 0', ($pg->sessions) x 2;
        return $is eq $should && $pg->sessions > 0;
    } 5;

    is($is, $should, "$name: connections are those of the server");
}

get(related_uri(101));
sleep 0.1;
$now = metrics();
ok($nginx->reload, 'a reload');
is_deeply(counters_of(metrics()), counters_of($now), 'counters stay');
no_ghosts('after a reload');

mark();
get(related_uri(101));
moves('after a reload', BYPASS => 1, %same);


# several workers: one page for all

$nginx->configure(workers => 3);
ok($nginx->reload, 'three workers');
soon { (my @pids = $nginx->worker_pids) == 3 } 5, 'three workers run';
no_ghosts('three workers');

mark();
my @many = map { ask(related_uri(101)) } 1 .. 30;
$_->answer, $_->close for @many;
moves('three workers', ok => 30, BYPASS => 30, runs => 30 * $runs,
      answer_bytes => 30 * length $answer->{body},
      map { $_ => 30 } keys %asked);

# an old worker that still serves is counted
lock_runs();
mark();
$client = ask(related_uri(101));
soon { $locked->() } 3, 'a query is running';
$nginx->signal('HUP');
soon { metrics()->{'lunary_connections{state="busy"}'} == 1
       && (my @pids = $nginx->worker_pids) == 4 } 5,
     'the busy connection of the old worker is counted';
is(get('/ready')->{status}, 200, 'ready');
$dbh->rollback;
is($client->answer->{status}, 200, 'the old worker responds');
$client->close;
moves('an old worker', BYPASS => 1, %same);
soon { (my @pids = $nginx->worker_pids) == 3 } 5, 'the old worker exits';
no_ghosts('after it left');


# killed workers: busy, idle, all at once

for my $how ('one', 'all') {
    lock_runs();
    $now = metrics();
    @many = map { ask('/narrow') } 1 .. 6;
    soon { metrics()->{'lunary_connections{state="busy"}'} >= 1 } 3,
         "$how: busy";

    my @old = $nginx->worker_pids;
    my @killed = $how eq 'one' ? $old[0] : @old;
    my %killed = map { $_ => 1 } @killed;
    kill 'KILL', @killed;
    soon { my @pids = $nginx->worker_pids;
           @pids == 3 && !grep { $killed{$_} } @pids } 5,
         "$how killed: the master starts others";
    $dbh->rollback;
    $_->close for @many;

    no_ghosts("$how killed");
    my $page = metrics();
    is(scalar(grep { $page->{$_} < $now->{$_} }
              grep { !/^lunary_(?:conn|queue_len|host_sess)/ } keys %$now), 0,
       "$how killed: no counter went back");

    mark();
    is(get(related_uri(101))->{status}, 200, "$how killed: a response");
    moves("$how killed", BYPASS => 1, %same);
}


# databases beyond the shared table are tracked by each worker for itself

my $many = Lunary::Nginx->new(config => join '', map { <<"EOF_CONFIG" }
        location = /ready$_ {
            lunary_database "host=127.0.0.1 port=1 dbname=d$_ user=none";
            lunary_pool max=1;
            lunary_status ready;
        }
EOF_CONFIG
    1 .. 258)->start;

for my $n (1, 258) {
    ok(wait_until { $many->client->get("/ready$n")->{status} == 503 } 5,
       "database $n: is not ready");
}

like($many->log_since(0), qr/too many databases/, 'it is logged');
$many->stop;


# no page or log shows a key

my $key = key('alpha');
unlike(read_file("$nginx->{dir}/logs/$_"), qr/$key/, "no key in $_")
    for 'error.log', 'shown.log';
unlike($text . $json, qr/$key|lunary_ro|\Q@{[ project('alpha') ]}/,
       'not in the pages');

$nginx->stop;
done_testing();
