# The length of a response decides how it is sent: up to the first size of
# lunary_buffers at once, with Content-Length; a longer one is streamed.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Load qw( big_pg grow $related );
use Lunary::Nginx;
use Lunary::Test;
use Lunary::System qw( read_file wait_until );
use Test::More;
use Time::HiRes qw( sleep time );

my $pg = big_pg();
my $sizes = join '', map { <<"EOF_CONFIG" } qw( 1k 4k 16k 64k );
        location ~ "^/$_/(?<run_id>.*)\$" {
            lunary_buffers $_;
            lunary_related_runs \$run_id;
        }
EOF_CONFIG

my $nginx = Lunary::Nginx->new(
    http => 'lunary_database "' . $pg->conninfo . '"; lunary_pool max=2;',
    config => $related . $sizes . <<'EOF_CONFIG')->start;
        location ~ "^/large/(?<run_id>.*)$" {
            lunary_buffers 1m max=4m;
            lunary_related_runs $run_id;
        }
        location ~ "^/postpone/(?<run_id>.*)$" {
            lunary_buffers 4k;
            postpone_output 1;
            lunary_related_runs $run_id;
        }
        location ~ "^/nochunk/(?<run_id>.*)$" {
            lunary_buffers 4k;
            chunked_transfer_encoding off;
            lunary_related_runs $run_id;
        }
EOF_CONFIG

my @bearer = (Authorization => 'Bearer ' . key('alpha'));

# a single run and a tree of 40, and the lengths of their responses without text
my %numbers = (1 => 2_000_000, 40 => 2_000_100);
my %empty;

for my $runs (keys %numbers) {
    grow($pg, $numbers{$runs}, runs => $runs, bytes => 0);
    my $answer = $nginx->client->get("/large/" . run_id($numbers{$runs}),
                                     @bearer);
    $empty{$runs} = length $answer->{body};
}

# gives the response of a tree this length, by the text of the last run
sub stretch {
    my ($runs, $length) = @_;

    $pg->do(q{update run set input = jsonb_build_object('some_text',
                  repeat('x', ?)) where id = ?},
            $length - $empty{$runs}, run_id($numbers{$runs} + $runs - 1));

    return run_id($numbers{$runs});
}

sub get {
    my ($uri, %more) = @_;

    my $answer = $nginx->client->get($uri, @bearer, %more);
    $answer->{length} = length $answer->{body};
    return $answer;
}

for my $runs (1, 40) {
    for my $size ($runs == 1 ? (1, 4) : (), 16, 64) {
        for my $delta (-65, -1, 0, 1, 65) {
            my $length = $size * 1024 + $delta;
            my $id = stretch($runs, $length);
            my $answer = get("/${size}k/$id");
            my $name = "$runs runs, $size kB + $delta";

            is($answer->{length}, $length, "$name: length");
            ok($answer->{whole}, "$name: complete");
            is($answer->{header}{'content-length'},
               $delta > 0 ? undef : $length, "$name: Content-Length");
            is($answer->{header}{'transfer-encoding'},
               $delta > 0 ? 'chunked' : undef, "$name: Transfer-Encoding");
        }
    }
}

# the default is 64k
for my $delta (0, 1) {
    my $id = stretch(40, 65536 + $delta);
    my $uri = "/v1/runs/$id/related";

    is(get($uri)->{header}{'content-length'}, $delta ? undef : 65536,
       "the default, + $delta");

    my $old = get($uri, version => '1.0');
    is($old->{length}, 65536 + $delta, "HTTP/1.0, + $delta: length");
    is($old->{header}{'content-length'}, $delta ? undef : 65536,
       "HTTP/1.0, + $delta: Content-Length");
    is($old->{header}{'transfer-encoding'}, undef,
       "HTTP/1.0, + $delta: never chunked");
    is($old->{closed}, $delta ? 'eof' : undef,
       "HTTP/1.0, + $delta: a longer response ends with the connection")
       if $delta;

    my $kept = get($uri, version => '1.0', Connection => 'keep-alive');
    is($kept->{header}{connection}, $delta ? 'close' : 'keep-alive',
       "HTTP/1.0 keep-alive, + $delta");
    is($kept->{length}, 65536 + $delta, "HTTP/1.0 keep-alive: length");

    my $head = $nginx->client->exchange('HEAD', $uri, @bearer);
    is($head->{status}, 200, "HEAD, + $delta");
    is($head->{body}, '', "HEAD, + $delta: no body");
}

my $id = stretch(40, 30_000);
my $oracle = Lunary::Oracle->new($pg->dbh);
my $rows = $oracle->related(project('alpha'), $id);

for my $way (qw( 4k 16k 64k large postpone nochunk )) {
    my $answer = get("/$way/$id");
    is($oracle->compare($answer->{body}, $rows), undef,
       "$way: equals the oracle");
}

is(get("/nochunk/$id")->{closed}, 'eof',
   'without chunks the response ends with the connection');
is(get("/nochunk/$id", version => '1.0')->{length}, 30_000,
   'without chunks, HTTP/1.0');

# many responses on one connection
my $client = $nginx->client->connect;
my $socket = $client->{socket};
my $wrong = 0;

for (1 .. 60) {
    my $size = (1, 4, 16, 64)[rand 4];
    my $length = length $client->get("/${size}k/$id", @bearer)->{body};
    $wrong++ if $length != 30_000 || ($client->{socket} // 0) != $socket;
}

is($wrong, 0, '60 responses on one connection');


# rows are sent as they arrive: the user of the last run is slow to read

$pg->do(q{insert into external_user (id, project_id, external_id)
          values (900, ?, 'late')}, project('alpha'));
$pg->do(q{create function late(bigint) returns boolean language plpgsql as $$
begin
    perform pg_sleep(1.5);
    return true;
end $$});
$pg->do(q{create policy late on external_user using (late(id))});
$pg->do(q{alter table external_user enable row level security});

grow($pg, 2_001_000, runs => 200, bytes => 4000, shape => 'wide');
$pg->do(q{update run set external_user_id = 900 where id = ?},
        run_id(2_001_199));

for my $version ('1.1', '1.0') {
    my $start = time;
    my $in = Lunary::Client->stream(port => $nginx->{port},
        version => $version, uri => related_uri(2_001_000));

    $in->take(400_000);
    my $early = time - $start;
    $in->rest;

    cmp_ok($early, '<', 1.2, "HTTP/$version: half of it arrives early");
    cmp_ok(time - $start, '>', 1.3, "HTTP/$version: the rest arrives late");
    ok($in->{whole}, "HTTP/$version: complete");
    like($in->{tail}, qr/"externalId":"late".*\}\]\z/, "HTTP/$version: end");
}

$nginx->stop;
done_testing();
