# The disk becomes full while a response is written to its temporary file: the
# client sees a cut, the log says why, and no file is left.  Responses that need
# no file are served.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Client qw( frame );
use Lunary::Load qw( big_pg grow idle worker );
use Lunary::Nginx;
use Lunary::Test;
use Lunary::System qw( free_port read_file run_cmd wait_until );
use Test::More;

my ($port, $h2) = map { free_port() } 1 .. 2;

# the command that mounts a disk of 4 MB for this nginx alone
sub disk {
    my ($dir) = @_;

    my $mount = 'dir=$1; shift; mount -t tmpfs -o size=4m none "$dir"';

    return ('unshare', '-m', 'sh', '-c', "$mount && exec \"\$@\"", 'sh', $dir)
        if $> == 0;

    my ($gid) = split ' ', $);

    return ('unshare', '-rm', 'sh', '-c', "$mount && exec unshare -U"
            . " --map-user=$> --map-group=$gid \"\$@\"", 'sh', $dir);
}

my ($no_disk, $why) = run_cmd(disk('/mnt'), 'true');
plan skip_all => "no file system can be mounted: $why" if $no_disk;

my $pg = big_pg();
my $uri = grow($pg, 2_000_000, runs => 2000, bytes => 6000);
my $small = grow($pg, 1_000_000, runs => 10);

my $locations = '';

for my $one ([file => ''],
             [wide => 'lunary_buffers 64k max=64m;'],
             [paused => 'lunary_max_temp_file_size 0;'])
{
    my ($name, $text) = @$one;
    my $conninfo = $pg->conninfo(application_name => $name);

    $locations .= <<"EOF_CONFIG";
        location ~ "^/$name/v1/runs/(?<run_id>[^/]+)/related\$" {
            lunary_database "$conninfo";
            lunary_pool max=1;
            lunary_query_timeout 60s;
            $text
            lunary_related_runs \$run_id;
        }
EOF_CONFIG
}

my $nginx = Lunary::Nginx->new(
    allow => qr/\[crit\].* pwritev?\(\) /,
    http => 'lunary_temp_path disk/temp;
        log_format outcome "$request_uri $server_protocol $lunary_outcome";',
    server => "listen 127.0.0.1:$port sndbuf=64k;
               listen 127.0.0.1:$h2 http2 sndbuf=64k;
               access_log logs/outcome.log outcome;",
    config => $locations);

mkdir "$nginx->{dir}/disk";
$nginx->{before} = [disk("$nginx->{dir}/disk")];
$nginx->start;

my $worker = worker($nginx);
my $disk = "/proc/$worker/root$nginx->{dir}/disk";


# clients that read little until rest() is called
my %ways = (
    'HTTP/1.1' => sub {
        Lunary::Client->stream(port => $port, rcvbuf => 8192, @_)
    },
    'HTTP/1.0' => sub {
        Lunary::Client->stream(port => $port, rcvbuf => 8192, version => '1.0',
                               @_)
    },
    'HTTP/2' => sub {
        Lunary::Client::Http2->stream(port => $h2, window => 20_000, hold => 1,
                                      @_)
    },
);

sub ask {
    my ($uri, $protocol, %more) = @_;

    return $ways{$protocol // 'HTTP/1.1'}->(uri => $uri, %more);
}

sub rest {
    my ($in) = @_;

    $in->send(frame(8, 0, 1, pack 'N', 2**24))
        if delete $in->{hold};

    return $in->rest;
}

# the number of free bytes
sub space {
    my ($status, $text) = run_cmd('stat', '-f', '-c', '%a %S', $disk);

    die "stat: $text" if $text !~ /^(\d+) (\d+)$/;
    return $1 * $2;
}

sub fill {
    open my $out, '>', "$disk/ballast" or die "$disk/ballast: $!";
    1 while syswrite $out, 'x' x 65536;
    like($!, qr/No space left/, 'the disk is full');
    is(space(), 0, 'no byte is free');
}

sub spools {
    return scalar(grep { (readlink($_) // '') =~ m{/temp/\d} }
                       glob "/proc/$worker/fd/*")
           + grep { -f } glob "$disk/temp/*/*/*";
}

sub outcome {
    my ($mark) = @_;

    my $file = "$nginx->{dir}/logs/outcome.log";

    wait_until { read_file($file, $mark) =~ /\n\z/ } 5;
    return read_file($file, $mark);
}

sub outcome_mark { return -s "$nginx->{dir}/logs/outcome.log" // 0 }

# what the client and the operator see of a response that is cut
sub cut {
    my ($in, $protocol, $marks, $name) = @_;

    $name = "$name, $protocol";

    ok((wait_until { $nginx->log_since($marks->[0]) =~ /cut off/ } 10),
       "$name: it is noticed");
    rest($in);

    ok($in->{over} && !$in->{whole}, "$name: the response is incomplete");
    is($in->{status}, 200, "$name: the status is 200");
    unlike($in->{tail}, qr/\]\s*\z/, "$name: no closing bracket");

    if ($protocol eq 'HTTP/2') {
        is($in->{reset}, 2, "$name: RST_STREAM INTERNAL_ERROR");
        ok(!$in->{goaway} && !$in->{closed},
           "$name: the connection stays open");
        $in->close;

    } else {
        is($in->{closed}, $protocol eq 'HTTP/1.0' ? 'reset' : 'eof',
           "$name: its end");
    }

    like(outcome($marks->[1]), qr/ cut\n\z/, "$name: \$lunary_outcome");

    my $log = $nginx->log_since($marks->[0]);
    my @why = $log =~ /\[crit\].*pwritev?\(\) "\S+\/disk\/temp\/\S+" (.*)/g;
    my @cut = $log =~ /\[error\].*/g;

    is(scalar @why, 1, "$name: one line for the write error");
    like($why[0], qr/No space left on device|has written only/,
         "$name: with the reason");
    is(scalar @cut, 1, "$name: one line for the cut");
    like($cut[0], qr/the response is cut off.*\/related/,
         "$name: with the reason and the request");

    ok(idle($pg, 10), "$name: no connection is busy");
    ok((wait_until { !spools() } 5), "$name: no file is left");
}


my $free = space();
my $good = ask("/wide$uri", undef, rcvbuf => undef)->rest;
ok($good->{whole}, 'a response that fits into memory');
cmp_ok($good->{length}, '>', 2 * $free, 'it does not fit on the disk');
my $md5 = $good->md5;


# the disk becomes full during a response

for my $protocol (sort keys %ways) {
    my $marks = [$nginx->mark, outcome_mark()];
    my $in = ask("/file$uri", $protocol)->take(2000);

    cut($in, $protocol, $marks, 'in the middle');
    is(space(), $free, "in the middle, $protocol: the disk is free again");
    ok(ask("/file$small")->rest->{whole},
       "in the middle, $protocol: the next request is served");
}

# two responses at once fill the disk
{
    my $mark = $nginx->mark;
    my @two = map { ask("/file$uri", $_)->take(2000) } 'HTTP/1.1', 'HTTP/2';

    $_->take(20_000) for @two;
    ok((wait_until { $nginx->log_since($mark) =~ /cut off.*cut off/s } 20),
       'two at once: both are cut');
    rest($_) for @two;
    ok(!(grep { $_->{whole} } @two), 'two at once: both are incomplete');
    is(space(), $free, 'two at once: the disk is free again');
}


# the disk is full from the start

fill();

{
    my $mark = $nginx->mark;

    for my $i (1 .. 20) {
        my $in = ask("/file$small", (sort keys %ways)[$i % 3], window => 2**20)
                 ->rest;
        ok($in->{whole} && $in->{status} == 200, 'full: a small response')
            if !$in->{whole} || $i > 17;
    }

    for my $name (qw( wide paused )) {
        my $in = ask("/$name$uri")->take(20_000);

        rest($in);
        ok($in->{whole}, "full: $name needs no file");
        is($in->md5, $md5, "full: $name, unchanged");
    }

    unlike($nginx->log_since($mark), qr/\[(?:warn|error|crit|alert)\]/,
           'full: nothing is logged');
}


# the disk becomes full before the last run, which waits for that and does not
# fit into the last page of the file

$pg->do(q{insert into external_user (id, project_id, external_id)
          values (900, ?, 'who is late')}, project('alpha'));
$pg->do(q{create function wait(bigint) returns boolean language plpgsql as $$
begin
    if $1 = 900 then
        perform pg_advisory_xact_lock_shared(17);
    end if;
    return true;
end $$});
$pg->do(q{create policy wait on external_user using (wait(id))});
$pg->do(q{alter table external_user enable row level security});

my $tree = grow($pg, 3_000_000, runs => 500, bytes => 6000);
my $whole = ask("/wide$tree")->rest;
$pg->do(q{update run set external_user_id = 900 where id = ?},
        run_id(3_000_499));

unlink "$disk/ballast";

for my $protocol (sort keys %ways) {
    my $name = "the last run, $protocol";
    my $marks = [$nginx->mark, outcome_mark()];

    $pg->do('select pg_advisory_lock(17)');

    my $in = ask("/file$tree", $protocol)->take(2000);

    wait_until {
        $pg->sessions(q{wait_event = 'advisory'})
    } 10, 'all but the last run';
    wait_until { space() < $free - 2_000_000 } 10, 'the file';

    my ($size, $last) = (-1, 0);
    wait_until { ($last, $size) = ($size, space()); $last == $size } 5;

    fill();
    $pg->do('select pg_advisory_unlock(17)');

    cut($in, $protocol, $marks, 'the last run');
    unlink "$disk/ballast";
    is(space(), $free, "$name: the disk is free again");
}


# the disk has enough room

for my $protocol (sort keys %ways) {
    my $in = ask("/file$tree", $protocol)->take(2000);

    ok(idle($pg, 10), "enough room, $protocol: the connection is free");
    rest($in);
    ok($in->{whole}, "enough room, $protocol: complete");
    cmp_ok($in->{length}, '>', $whole->{length}, 'with the last run');
    $in->close if !$in->{closed};
}

is(worker($nginx), $worker, 'the worker lives');
ok((wait_until { space() == $free } 5), 'the disk is free again');
is(spools(), 0, 'no file is left');

$nginx->stop;
done_testing();
