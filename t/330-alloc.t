# Memory that cannot be had: the n-th allocation of the worker fails, for
# every n that a request has, on each path a request may take.  It ends in a
# 500 or 503, is cut off, or goes well all the same; the next one is right.
# (504 where libpq had no memory to say that a query was over: it waits on.)
# And a zone of shared memory that is full.
#
#   LUNARY_ALLOC_MAX=100000 LUNARY_ALLOC_STEP=1     each, also of the longest

use strict;
use warnings;

use lib 't/lib';
use JSON::XS qw( decode_json );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test;
use Lunary::Util qw( project_dir run_cmd tmpdir wait_until write_file );
use Test::More;
use Time::HiRes qw( time );

plan skip_all => 'a sanitizer allocates by itself'
    if $ENV{TEST_NGINX_LD_PRELOAD};

my $most = $ENV{LUNARY_ALLOC_MAX} // 400;
my $step = $ENV{LUNARY_ALLOC_STEP};

my $dir = tmpdir('alloc');
my ($status, $said) = run_cmd('gcc', '-O2', '-Wall', '-Werror', '-shared',
    '-fPIC', '-fno-builtin', '-o', "$dir/fail.so",
    project_dir() . '/t/lib/alloc/fail.c');
is($status, 0, 'the library is built') or BAIL_OUT($said);

write_file("$dir/shared", "\0" x 4096);
$ENV{LUNARY_ALLOC} = "$dir/shared";
local $ENV{TEST_NGINX_LD_PRELOAD} = "$dir/fail.so";

open my $shared, '+<:raw', "$dir/shared" or die $!;

sub set {
    sysseek $shared, 0, 0;
    syswrite $shared, pack 'q5', @_;
}

sub get {
    sysseek $shared, 0, 0;
    sysread $shared, my $bytes, 40;
    return unpack 'q5', $bytes;
}


my $pg = Lunary::Pg->new;
my $alpha = key('alpha');
my ($run, $thread) = (run_id(101), run_id(501));
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

# small pools, so that nginx has to ask for memory as often as can be
my $nginx = Lunary::Nginx->new(log_level => 'error',
    allow => qr/(?:malloc|posix_memalign)\(.* failed/,
    http => 'lunary_database "' . $pg->conninfo . q{";
        connection_pool_size 256;
        request_pool_size 256;
        lunary_pool max=1;
        lunary_queue 16 timeout=2s;
        lunary_query_timeout 500ms;},
    config => $place->('whole', '')
        . $place->('stream', 'lunary_buffers 4k max=8k;
                              lunary_max_temp_file_size 0;')
        . $place->('spool', 'lunary_buffers 4k max=8k;')
        . $place->('cache', 'lunary_key_cache zone=keys:256k valid=1ms;')
        . $place->('connect', 'lunary_pool max=1 idle=1ms;')
        . $place->('unprepared', 'lunary_prepare off; lunary_pool max=1
                                                      idle=1ms;')
        . 'location = /status { lunary_status; }');
$nginx->start;

my $worker = wait_until { ($nginx->worker_pids)[0] } 10, 'a worker';

sub ask {
    my ($path, %more) = @_;

    my $slow = delete $more{slow};
    my $method = delete $more{method} // 'GET';
    my $client = $nginx->client(timeout => 6, rcvbuf => $slow ? 2048 : undef);

    $client->send($client->request($method, $path,
        Authorization => "Bearer $alpha", %more));

    if ($slow) {
        # until the answer no longer fits what lies between
        $client->read_some(2, 1);
        select undef, undef, undef, 0.005;
    }

    my $answer = $client->answer($method);
    $client->close;

    return $answer;
}

my @paths = (
    ['a small answer', "/whole/$run", 200],
    ['a thread', "/whole/$thread", 200],
    ['HEAD', "/whole/$run", 200, method => 'HEAD'],
    ['POST', "/whole/$run", 405, method => 'POST', body => 'x' x 100],
    ['no run', '/whole/' . run_id(999999), 404],
    ['no id', '/whole/x', 404],
    ['an unknown key', "/whole/$run", 401,
     Authorization => 'Bearer ' . run_id(1)],
    ['no UUID for a key', "/whole/$run", 401, Authorization => 'Bearer x'],
    ['an answer that streams', "/stream/$large", 200],
    ['one that goes to a file', "/spool/$large", 200, slow => 1],
    ['a key that is kept', "/cache/$run", 200],
    ['a connection that is made', "/connect/$run", 200],
    ['one without prepared statements', "/unprepared/$run", 200],
    ['metrics', '/status', 200],
    ['metrics as JSON', '/status?format=json', 200],
);

for my $path (@paths) {
    my ($name, $uri, $expected, @more) = @$path;
    my $again = sub {
        my $answer = ask($uri, @more);
        $answer->{body} =~ s/\d+/0/g if $name =~ /^metrics/;
        return $answer;
    };

    # twice, so that what is done once a worker is done
    $again->();
    my $good = $again->();

    is($good->{status}, $expected, "$name: as it should be") or next;

    my ($n, %count, @wrong) = (1);

    while ($n <= $most) {
        set($worker, 0, $n, $n, 0);
        my $answer = $again->();
        my $failed = (get())[4];
        set(0, 0, 0, 0, 0);

        my $word = !$answer->{whole} ? 'cut' : $answer->{status};
        $count{$word}++;

        push @wrong, "$n: $word"
            if $word !~ /^(?:cut|50[034])$/
               && ($word ne $expected
                   || $name !~ /^metrics/
                      && $answer->{body} ne $good->{body});

        my $next = $again->();
        push @wrong, "after $n: $next->{status}"
            if $next->{status} != $expected || !$next->{whole}
               || $name !~ /^metrics/ && $next->{body} ne $good->{body};

        last if !$failed;
        $n += $step // ($n < 60 ? 1 : $name =~ /file/ ? 41 : 11);
    }

    is("@wrong[0 .. ($#wrong < 5 ? $#wrong : 5)]", '',
       "$name: $n allocations (" . join(', ', map { "$_: $count{$_}" }
                                  sort keys %count) . ')');
}

# and many at a time
for my $n (map { 4 * $_ } 1 .. 8) {
    set($worker, 0, $n, $n + 5, 0);
    ask("/connect/$run");
    set(0, 0, 0, 0, 0);
}
ok(scalar(wait_until { ask("/whole/$run")->{status} == 200 } 5),
   'six in a row');

is(($nginx->worker_pids)[0], $worker, 'the worker lives');


# The key cache is full: who was there longest makes room, all are served.

my $keys = $pg->dbh->selectcol_arrayref(q{insert into api_key
    (type, api_key, project_id) select 'private', gen_random_uuid(), ?
    from generate_series(1, 600) returning api_key}, undef,
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

is_deeply(\%seen, { '200 MISS' => 600 }, 'more keys than there is room for');
is($client->get("/full/$run", Authorization => "Bearer $keys->[-1]")
   ->{header}{'x-cache'}, 'HIT', 'the last is there');
is($client->get("/full/$run", Authorization => "Bearer $keys->[0]")
   ->{header}{'x-cache'}, 'MISS', 'the first is not');

$nginx->stop;
done_testing();
