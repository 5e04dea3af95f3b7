# Trees of 10,000 levels, values nested thousands deep, a value of 100 MB, and
# with LUNARY_FULL=1 a value that PostgreSQL itself cannot send.

use strict;
use warnings;

use lib 't/lib';
use Digest::MD5 qw( md5_hex );
use JSON::XS ();
use Lunary::Load qw( big_pg grow idle memory peak worker );
use Lunary::Nginx;
use Lunary::Test;
use Lunary::System qw( read_file wait_until );
use Test::More;
use Time::HiRes qw( sleep time );

my $MB = 1024 * 1024;
my $valgrind = $ENV{TEST_NGINX_USE_VALGRIND};
my $sanitized = $ENV{TEST_NGINX_LD_PRELOAD} || $valgrind;

my $pg = big_pg();
my $nginx = Lunary::Nginx->new(
    http => 'lunary_database "' . $pg->conninfo . '"; lunary_pool max=1;
        lunary_query_timeout 120s;
        lunary_queue 64 timeout=60s;',
    main => 'worker_rlimit_core 0;',
    config => $Lunary::Load::related . <<'EOF_CONFIG')->start;
        location ~ "^/pause/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_max_temp_file_size 0;
            lunary_related_runs $run_id;
        }
EOF_CONFIG

my $worker = worker($nginx);

sub ask {
    my ($uri, %more) = @_;

    return Lunary::Client->stream(port => $nginx->{port}, uri => $uri, %more);
}

sub text {
    my ($uri) = @_;

    my $text = '';
    my $in = ask($uri, each => sub { $text .= $_[0] })->rest;

    ok($in->{whole} && $in->{status} == 200, 'complete');
    return $text;
}

# the pid of the session, once it is idle
sub session {
    idle($pg);
    return $pg->value(q{select max(pid) from pg_stat_activity
                        where usename = 'lunary_ro'}) // 0;
}


# a chain of runs

my $levels = 10_000;
my $uri = grow($pg, 2_000_000, runs => $levels, shape => 'deep');
my $runs = JSON::XS::decode_json(text($uri));

is(scalar @$runs, $levels, 'a deep tree: all runs');
is(scalar(grep { $runs->[$_]{parentRunId} ne $runs->[$_ - 1]{id} }
          1 .. $#$runs), 0, 'a deep tree: in order');

my $leaf = JSON::XS::decode_json(text(related_uri(2_000_000 + $levels - 1)));
is(scalar @$leaf, 1, 'its last run: alone');
is($leaf->[0]{traceId}, run_id(2_000_000), 'its last run: traceId');

# a cycle
$pg->do('update run set parent_run_id = ? where id = ?',
        run_id(2_000_000 + $levels - 1), run_id(2_000_000));
$runs = JSON::XS::decode_json(text($uri));
is(scalar @$runs, $levels, 'a large cycle: each run once');


# values nested deeply

for my $case ([arrays => '[', ']', '[', ']'],
              [objects => '{"some_key": ', '}', '{"someKey": ', '}'],
              [both => '{"a_b": [1, ', ']}', '{"aB": [1, ', ']}'])
{
    my ($name, $open, $close, $out, $end) = @$case;
    my $depth = 2500;

    grow($pg, 1_000_000, runs => 1);
    $pg->do(q{update run set input = (repeat(?, ?) || '7' || repeat(?, ?))
              ::jsonb where id = ?}, $open, $depth, $close, $depth,
            run_id(1_000_000));

    my $text = text(related_uri(1_000_000));
    ok(index($text, '"input":' . $out x $depth . '7' . $end x $depth . '}')
       > 0, "$name, $depth deep");
    $pg->do(q{delete from run where id = ?}, run_id(1_000_000));
}

is(join(' ', $nginx->worker_pids), $worker, 'the worker lives');


# a connection that has received a row of more than 1 MB is retired

grow($pg, 1_000_000, runs => 1, bytes => 200_000);
grow($pg, 1_000_010, runs => 1, bytes => 3_000_000);

ask(related_uri(1_000_000))->rest;
my $session = session();
ask(related_uri(1_000_000))->rest for 1 .. 3;
is(session(), $session, 'the same session for rows of 200 kB');
ok(ask(related_uri(1_000_010))->rest->{whole}, 'a row of 3 MB');
ok(ask(related_uri(1_000_000))->rest->{whole}, 'the next request');
isnt(session(), $session, 'is served by another session');


# a value of 100 MB, which valgrind is too slow for

my $size = $valgrind ? 5_000_000 : 100_000_000;

$pg->do('alter table run alter column output set storage external');
grow($pg, 1_000_020, runs => 1);
$pg->do(q{update run set output = jsonb_build_object('the_text',
              repeat('0123456789', ? / 10)) where id = ?}, $size,
        run_id(1_000_020));

my $giant = related_uri(1_000_020);
my $before = peak($worker);
my $rest = memory($worker);
my $found = 0;
my $seen = Digest::MD5->new;
my $in = ask($giant, each => sub {
    my $text = $_[0];
    $found += ($text =~ tr/0-9//);
})->rest;

ok($in->{whole}, 'a giant value: complete');
cmp_ok($in->{length}, '>', $size, 'a giant value: its length');
cmp_ok($found, '>', $size - 1, 'a giant value: its content');
my $md5 = $in->md5;

SKIP: {
    skip 'a sanitizer keeps what is freed, and so does valgrind', 2
        if $sanitized;
    my $grown = peak($worker) - $before;
    note(sprintf 'a value of %d MB: grown by %.1f MB', $size / $MB,
         $grown / $MB);
    cmp_ok($grown, '<', 3 * $size + 17 * $MB, 'a giant value: memory');
    ok(wait_until { memory($worker) < $rest + 20 * $MB } 5,
       'a giant value: memory is released');
}

$in = ask($giant, rcvbuf => 8192)->take(100_000);
ok(idle($pg, 20), 'a giant value, a slow client: the connection is free');

SKIP: {
    skip 'a sanitizer keeps what is freed, and so does valgrind', 1
        if $sanitized;
    ok(wait_until { memory($worker) < $rest + 20 * $MB } 5,
       'a giant value, a slow client: in the file');
}

$in->rest;
is($in->md5, $md5, 'a giant value, a slow client: the same');

# without a file the row is kept in memory
$in = ask("/pause$giant", rcvbuf => 8192)->take(100_000);
sleep 1;
note(sprintf 'without a file: %.1f MB', (memory($worker) - $rest) / $MB);
$in->rest;
is($in->md5, $md5, 'a giant value without a file: the same');

$in = ask($giant, rcvbuf => 8192)->take(100_000);
$in->reset;
ok(idle($pg, 20), 'a giant value: a client that leaves');
ok(ask(related_uri(1_000_000))->rest->{whole}, 'the next request is served');


# a value whose text would be larger than PostgreSQL's limit

SKIP: {
    skip 'LUNARY_FULL=1 for a value of more than a gigabyte', 3
        if !$ENV{LUNARY_FULL};

    # one column at a time, as a single statement cannot insert such a row
    my @columns = qw( input output params error metadata );

    $pg->do(qq{update run set $_ = jsonb_build_object('t',
                  repeat('x', 250000000)) where id = ?}, run_id(1_000_020))
        for @columns;

    my $text = '';
    $in = ask($giant, timeout => 90, each => sub { $text .= $_[0] })->rest;
    is($in->{status}, 500, 'too large for PostgreSQL: 500');
    is_deeply(eval { JSON::XS::decode_json($text) },
              { message => 'Internal server error' }, 'and its message');
    note(grep { /500/ } split /\n/, read_file($nginx->{log}));

    # as the last run of a tree, after the response has begun
    grow($pg, 1_000_100, runs => 30, bytes => 20_000);
    $pg->do(q{update run set parent_run_id = ?, created_at = '2027-01-01'
              where id = ?}, run_id(1_000_100), run_id(1_000_020));
    $in = ask(related_uri(1_000_100), timeout => 90)->rest;
    ok($in->{status} == 200 && $in->{over} && !$in->{whole}
       && $in->{tail} !~ /\]\z/,
       'too large for PostgreSQL during the response: cut off');
}

is(($nginx->worker_pids)[0], $worker, 'the worker is the same');
ok(ask(related_uri(1_000_000))->rest->{whole}, 'requests are served');

$nginx->stop;
done_testing();
