# A trace of 100,000 runs is complete and valid, and the worker's memory depends
# neither on its size nor on the client's speed.

use strict;
use warnings;

use lib 't/lib';
use JSON::XS ();
use Lunary::Client qw( await );
use Lunary::Load qw( big_pg grow idle memory peak worker $related );
use Lunary::Nginx;
use Lunary::Test;
use Lunary::System qw( wait_until );
use Test::More;
use Time::HiRes qw( sleep time );

my $MB = 1024 * 1024;
my $sanitized = $ENV{TEST_NGINX_LD_PRELOAD} || $ENV{TEST_NGINX_USE_VALGRIND};

my $pg = big_pg();
my $runs = 100_000;
my $uri = grow($pg, 2_000_000, runs => $runs, bytes => 400);
my $small = grow($pg, 1_000_000, runs => 10);

my $nginx = Lunary::Nginx->new(
    http => 'lunary_database "' . $pg->conninfo . '"; lunary_pool max=4;
        lunary_query_timeout 60s;',
    config => $related . <<'EOF_CONFIG')->start;
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

# asserts that the peak has grown by at most this number of bytes
sub grown {
    my ($before, $most, $name) = @_;

    my $grown = peak($worker) - $before;

    note(sprintf '%s: grown by %.1f MB', $name, $grown / $MB);

    SKIP: {
        skip 'a sanitizer keeps what is freed, and so does valgrind', 1
            if $sanitized;
        cmp_ok($grown, '<=', $most, "$name: memory");
    }
}

ask($small)->rest for 1 .. 20;
my $before = peak($worker);


# twice; the first time every run is checked

my $json = JSON::XS->new->utf8;
my ($count, $sound, $text, $last) = (0, 1, '', '');

sub look {
    my ($run) = @_;

    $run = eval { $json->decode($run) };
    $sound = 0 if !$run || $run->{name} ne "run $count"
                  || $run->{createdAt} le $last
                  || length $run->{input}{someText} != 400;
    $last = $run->{createdAt};
    $count++;
}

# this text occurs only between two runs
my $first = ask($uri, each => sub {
    my $from = 1;

    $text .= $_[0];

    while ((my $to = index $text, '},{"id":', $from) > 0) {
        look(substr $text, $from, $to + 1 - $from);
        $from = $to + 2;
    }

    substr $text, 1, $from - 1, '';
})->rest;

is(substr($text, 0, 1) . substr($text, -1), '[]', 'the first time: an array');
look(substr $text, 1, -1);
ok($first->{whole}, 'the first time: complete');
ok($sound, 'the first time: each run is right, in order');
is($count, $runs, 'the first time: all of them');
grown($before, 16 * $MB, 'the first time');

my $second = ask($uri)->rest;
ok($second->{whole}, 'the second time: complete');
is($second->md5, $first->md5, 'the second time: the same');
grown($before, 16 * $MB, 'twice');

my $old = ask($uri, version => '1.0')->rest;
is($old->{closed}, 'eof', 'HTTP/1.0: closed properly');
is($old->md5, $first->md5, 'HTTP/1.0: the same');


# several clients at a time; then slow ones, which read a part or all

my @three = map { ask($uri) } 1 .. 3;
ok(!(grep { !$_->{whole} } await(60, @three)), 'three at a time: complete');
is(join(' ', map { $_->md5 } @three), join(' ', ($first->md5) x 3),
   'three at a time: the same');
grown($before, 24 * $MB, 'three at a time');

sub slow {
    my @slow = map { ask($uri, rcvbuf => 8192)->take(100_000) } 1 .. 6;

    ok(idle($pg, 30), 'slow clients: PostgreSQL has sent all rows');
    $_->reset for @slow;
    ok(wait_until { !grep { (readlink($_) // '') =~ m{_lunary/} }
                          glob "/proc/$worker/fd/*" } 5,
       'slow clients: their files are gone');
}

slow();
grown($before, 32 * $MB, 'slow clients');

my $used = peak($worker);
slow() for 1 .. 2;
grown($used, 4 * $MB, 'slow clients again: the memory is reused');

my @paused = map { ask("/pause$uri", rcvbuf => 8192)->take(100_000) } 1 .. 3;
sleep 1;
grown($before, 32 * $MB, 'slow clients without a file');
my $one = shift(@paused)->rest;
ok($one->{whole}, 'slow clients without a file: complete');
is($one->md5, $first->md5, 'slow clients without a file: the same');
$_->close for @paused;
ok(idle($pg), 'slow clients without a file: idle after they left');

ok(ask($small)->rest->{whole}, 'requests are served');

$nginx->stop;
done_testing();
