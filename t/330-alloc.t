# Failed allocations: the n-th allocation of the worker fails, for every n of a
# request, on each path a request may take.  The n-th of the module's calls into
# nginx and libpq that may fail fails likewise, as an nginx pool that has room
# allocates nothing.  The request ends with a 500 or 503, is cut, or succeeds;
# the next one succeeds.  (504 if libpq has no memory to report the end of a
# query.)  The same for nginx -t and for a worker that starts, and for a zone of
# shared memory that is full.
#
#   LUNARY_ALLOC_MAX=100000 LUNARY_ALLOC_STEP=1     every call of every request

use strict;
use warnings;

use lib 't/lib';
use JSON::XS qw( decode_json );
use Lunary::Dns;
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test;
use Lunary::System qw( free_port project_dir run_cmd tmpdir wait_until write_file );
use Test::More;
use Time::HiRes qw( time );

plan skip_all => 'a sanitizer allocates by itself'
    if $ENV{TEST_NGINX_LD_PRELOAD};

my $most = $ENV{LUNARY_ALLOC_MAX} // 400;
my $step = $ENV{LUNARY_ALLOC_STEP};

my $dir = tmpdir('alloc');

# what may fail, by its number in t/lib/fail/fail.h
my ($memory, $call, $epoll, $send) = 0 .. 3;

for my $name (qw( memory calls )) {
    my ($status, $said) = run_cmd('gcc', '-O2', '-Wall', '-Werror', '-shared',
        '-fPIC', '-fno-builtin', '-o', "$dir/$name.so",
        project_dir() . "/t/lib/fail/$name.c");
    is($status, 0, "$name.so is built") or BAIL_OUT($said);
}

write_file("$dir/shared", "\0" x 4096);
$ENV{LUNARY_ALLOC} = "$dir/shared";
local $ENV{TEST_NGINX_LD_PRELOAD} = "$dir/memory.so";

open my $shared, '+<:raw', "$dir/shared" or die $!;

# makes the calls $first to $last of this kind fail in the process
sub fail_in {
    my ($pid, $kind, $first, $last) = @_;

    sysseek $shared, 0, 0;
    syswrite $shared, pack 'q7', $pid, 0, $kind, 0, $first, $last // $first,
                           0;
}

# makes the call fail in a process that starts later, with neither of these two
# pids
sub fail_but_in {
    my ($one, $other, $kind, $n) = @_;

    sysseek $shared, 0, 0;
    syswrite $shared, pack 'q7', -$one, $other, $kind, 0, $n, $n, 0;
}

# ends the failures; returns how many there were
sub failed {
    sysseek $shared, 0, 0;
    sysread $shared, my $bytes, 56;
    sysseek $shared, 0, 0;
    syswrite $shared, "\0" x 56;
    return (unpack 'q7', $bytes)[6];
}


my $pg = Lunary::Pg->new;
my $dns = Lunary::Dns->new('db.test' => ['127.0.0.1']);
my $alpha = key('alpha');
my ($run, $below, $thread) = map { run_id($_) } 101, 103, 501;
my $large = run_id(880000);

$pg->do(q{insert into run (id, project_id, type) values (?, ?, 'chain')},
        $large, project('alpha'));
$pg->do(q{insert into run (id, project_id, type, parent_run_id, input)
          select md5('x' || n)::uuid, ?, 'llm', ?,
          to_jsonb(repeat('y', 3000)) from generate_series(1, 60) n},
        project('alpha'), $large);

my $place = sub {
    my ($name, $conf) = @_;
    return <<"EOF_CONFIG";
        location ~ "^/$name/(?<run_id>[^/]+)\$" {
            $conf
            lunary_related_runs \$run_id;
        }
EOF_CONFIG
};

# small pools, so that nginx allocates often
my $nginx = Lunary::Nginx->new(log_level => 'error',
    allow => qr/(?:malloc|posix_memalign|mmap|epoll_ctl|open)\(.*failed
                |could\ not\ be\ added|exited\ with\ fatal\ code
                |\[emerg\]/x,
    http => 'lunary_database "' . $pg->conninfo . q{";
        connection_pool_size 256;
        request_pool_size 256;
        lunary_pool max=1;
        lunary_queue 16 timeout=2s;
        lunary_query_timeout 500ms;},
    server => 'listen 127.0.0.1:' . (my $narrow = free_port())
              . ' sndbuf=4k;',
    config => $place->('whole', '')
        . $place->('stream', 'lunary_buffers 4k max=8k;
                              lunary_max_temp_file_size 0;')
        . $place->('spool', 'lunary_buffers 4k max=8k;')
        . $place->('cache', 'lunary_key_cache zone=keys:256k valid=1ms;')
        . $place->('connect', 'lunary_pool max=1 idle=1ms lifetime=1ms;')
        # nginx asks for a name again after 5 seconds if it loses the response
        . $place->('resolve', "lunary_pool max=1 idle=1ms lifetime=1ms;
            lunary_queue 256 timeout=8s;
            resolver 127.0.0.1:$dns->{port} ipv6=off;
            lunary_database '" . $pg->conninfo(host => 'db.test') . "';")
        . $place->('unprepared', 'lunary_prepare off; lunary_pool max=1
                                                      idle=1ms lifetime=1ms;')
        . $place->('shown', join ' ', map { "add_header X-$_ \$lunary_$_;" }
                            qw( outcome project_id runs query_time ))
        . $place->('page', 'error_page 404 = /status;')
        . 'location = /status { lunary_status; }
           location = /ready { lunary_status ready; }
           location = /away {
               lunary_database "host=localhost port=1 dbname=x user=x";
               lunary_status ready;
           }');

# only the master and its workers are instrumented
{
    local $ENV{LD_AUDIT} = "$dir/calls.so";
    $nginx->start;
}

my $worker = wait_until { ($nginx->worker_pids)[0] } 10, 'a worker';

sub ask {
    my ($path, %more) = @_;

    my $slow = delete $more{slow};
    my $method = delete $more{method} // 'GET';
    my $client = $nginx->client(timeout => 6, $slow
        ? (port => $narrow, rcvbuf => 2048) : ());

    $client->send($client->request($method, $path,
        Authorization => "Bearer $alpha", %more));

    if ($slow) {
        # until the response no longer fits into the socket buffers
        $client->read_some(2, 1);
        select undef, undef, undef, 0.005;
    }

    my $answer = $client->answer($method);
    $client->close;

    return $answer;
}

my @paths = (
    ['a small response', "/whole/$run", 200],
    ['a run below another', "/whole/$below", 200],
    ['a thread', "/whole/$thread", 200],
    ['HEAD', "/whole/$run", 200, method => 'HEAD'],
    ['POST', "/whole/$run", 405, method => 'POST', body => 'x' x 100],
    ['no run', '/whole/' . run_id(999999), 404],
    ['no id', '/whole/x', 404],
    ['an unknown key', "/whole/$run", 401,
     Authorization => 'Bearer ' . run_id(1)],
    ['no UUID for a key', "/whole/$run", 401, Authorization => 'Bearer x'],
    ['a response that streams', "/stream/$large", 200],
    ['one that goes to a file', "/spool/$large", 200, slow => 1],
    ['a key that is kept', "/cache/$run", 200],
    ['a connection that is made', "/connect/$run", 200],
    ['one to a host by its name', "/resolve/$run", 200],
    ['one without prepared statements', "/unprepared/$run", 200],
    ['variables', "/shown/$run", 200],
    ['an error page', '/page/x', 200],
    ['metrics', '/status', 200],
    ['metrics as JSON', '/status?format=json', 200],
    ['metrics by POST', '/status', 405, method => 'POST', body => 'x'],
    ['ready', '/ready', 200],
    ['not ready', '/away', 503],
);

wait_until { ask('/away')->{status} == 503 } 5, 'a failed connect';

for my $path (@paths) {
    my ($name, $uri, $expected, @more) = @$path;
    my $again = sub {
        my $answer = ask($uri, @more);
        $answer->{body} =~ s/\d+/0/g if $name =~ /^metrics|page/;
        $answer->{body} = '' if $name =~ /^metrics/;
        return $answer;
    };

    # a worker's first request allocates more
    $again->() for 1 .. 4;

    my $good = $again->();

    is($good->{status}, $expected, "$name: without failures") or next;

    for my $kind ([memory => $memory], [calls => $call], [epoll => $epoll],
                  [send => $send]) {
        my ($what, $number) = @$kind;
        my ($n, %count, @wrong) = (1);

        # nginx finalizes a request twice if it cannot wait for a write event
        # (ngx_http_set_write_handler() and its callers)
        next if $number == $epoll && $name =~ /streams|file/;

        while ($n <= $most * ($name =~ /JSON/ ? 4 : 1)) {
            fail_in($worker, $number, $n, $number == $send ? $n + 1 : $n);
            my $answer = $again->();
            my $failed = failed();

            my $word = !$answer->{whole} ? 'cut' : $answer->{status};
            $count{$word}++;

            push @wrong, "$n: $word"
                if ($word !~ /^(?:cut|50[034])$/ || $number == $send)
                   && ($word ne $expected
                       || $answer->{body} ne $good->{body});

            my $next = $again->();
            push @wrong, "after $n: $next->{status}"
                if $next->{status} != $expected || !$next->{whole}
                   || $next->{body} ne $good->{body};

            last if !$failed;
            $n += $step // ($n < 60 || $number == $call || $name =~ /JSON/ ? 1
                            : $name =~ /file/ ? 41 : 11);
        }

        is("@wrong[0 .. ($#wrong < 5 ? $#wrong : 5)]", '',
           "$name: $n of $what (" . join(', ', map { "$_: $count{$_}" }
                                         sort keys %count) . ')');
    }
}

# many failures at a time
for my $kind ($memory, $call) {
    for my $n (map { 4 * $_ } 1 .. 8) {
        fail_in($worker, $kind, $n, $n + 5);
        ask("/connect/$run");
        failed();
    }
}
ok(scalar(wait_until { ask("/whole/$run")->{status} == 200 } 5),
   'six in a row');

is(($nginx->worker_pids)[0], $worker, 'the worker lives');


# A configuration that cannot be read is refused.

for my $kind ([memory => $memory, 7], [calls => $call, 1]) {
    my ($what, $number, $by) = @$kind;
    my ($n, @wrong) = (1);

    while ($n <= $most) {
        fail_but_in(1, 1, $number, $n);
        my ($status, $text) = do {
            local $ENV{LD_AUDIT} = "$dir/calls.so";
            local $nginx->{before} = ['timeout', 10];
            $nginx->test;
        };
        my $failed = failed();

        # OpenSSL 3.5 hangs when its first allocations fail, before the
        # module is loaded
        my $hangs = $status == 124 << 8 && $number == $memory && $n < 15;

        push @wrong, "$n: $status"
            if $status != 0 && $status != 256 && !$hangs;
        push @wrong, "$n: ok" if $failed && $status == 0 && $number == $call;

        last if !$failed;
        $n += $step // $by;
    }

    is("@wrong", '', "nginx -t: $n of $what");
}


# A worker that cannot start leaves, and the next one serves.

$nginx->configure(config => $place->('whole', ''));
ok($nginx->reload, 'one pool');

for my $kind ([memory => $memory, 7], [calls => $call, 1]) {
    my ($what, $number, $by) = @$kind;
    my ($n, @wrong) = (1);

    while ($n <= $most) {
        my ($old) = $nginx->worker_pids;

        fail_but_in($nginx->{pid}, $old, $number, $n);
        $nginx->signal('HUP');
        wait_until { !grep { $_ == $old } $nginx->worker_pids } 10, 'its end';
        my $failed = failed();

        $nginx->reload;
        my $status = ask("/whole/$run")->{status};
        push @wrong, "after $n: $status" if $status != 200;

        last if !$failed;
        $n += $step // $by;
    }

    is("@wrong", '', "a worker that starts: $n of $what");
}


# The key cache is full: the oldest entry is evicted, all requests are served.

my $keys = $pg->dbh->selectcol_arrayref(q{insert into api_key
    (type, api_key, project_id) select 'private', gen_random_uuid(), ?
    from generate_series(1, 2000) returning api_key}, undef,
    project('alpha'));

$nginx->configure(config => $place->('full',
    'lunary_key_cache zone=small:32k valid=60s; lunary_pool max=4;
     add_header X-Cache $lunary_key_cache_status;'));
ok($nginx->reload, 'a small zone');

my $client = $nginx->client;
my %seen;

for my $key (@$keys) {
    my $answer = $client->get("/full/$run", Authorization => "Bearer $key");
    $seen{"$answer->{status} " . ($answer->{header}{'x-cache'} // '')}++;
}

is_deeply(\%seen, { '200 MISS' => 2000 }, 'more keys than the zone holds');
is($client->get("/full/$run", Authorization => "Bearer $keys->[-1]")
   ->{header}{'x-cache'}, 'HIT', 'the last key is cached');
is($client->get("/full/$run", Authorization => "Bearer $keys->[0]")
   ->{header}{'x-cache'}, 'MISS', 'the first is not');

$nginx->stop;
done_testing();
