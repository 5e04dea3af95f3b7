# Clients that leave: in the queue, while the connection is made, during the
# query, during the response; with a FIN, a RST, or a RST_STREAM.  Their queries
# end within two seconds, the connections stay usable, and no client gets the
# response of another.  LUNARY_FULL=1 for more clients.

use strict;
use warnings;

use lib 't/lib';
use IO::Select;
use IO::Socket::INET;
use Lunary::Client qw( frame );
use Lunary::Load qw( expected slow soon trees whole );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test qw( key related_uri run_id );
use Lunary::System qw( read_file wait_until );
use Test::More;
use Time::HiRes qw( sleep time );

my $full = $ENV{LUNARY_FULL};
my $pg = Lunary::Pg->new;

# small trees, large trees, and runs whose query is slow
my @small = trees($pg, count => 6, runs => 10, bytes => 20_000);
my @large = trees($pg, count => 2, runs => 600, bytes => 1_500_000,
                  first => 2_000_000);
my @slow = trees($pg, count => 4, runs => 5, bytes => 5_000,
                 first => 3_000_000);
my @long = trees($pg, count => 1, runs => 5, bytes => 5_000,
                 first => 4_000_000);

# a server that never responds
my $silent = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1')
    or die "listen: $!";

my $nginx = Lunary::Nginx->new(
    http => 'lunary_database "' . $pg->conninfo . '";
        lunary_pool max=6;
        lunary_queue 2048 timeout=20s;
        lunary_query_timeout 20s;',
    server => 'listen 127.0.0.1:' . (my $h2 = Lunary::System::free_port())
              . ' http2; http2_max_concurrent_streams 1024;
              keepalive_requests 100000; http2_recv_timeout 60s;',
    config => <<'EOF_CONFIG' . <<"EOF_CONFIG")->start;
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
        location ~ "^/page/v1/runs/(?<run_id>[^/]+)/related$" {
            error_page 401 404 = @silent;
            lunary_related_runs $run_id;
        }
EOF_CONFIG
        location \@silent {
            proxy_pass http://127.0.0.1:@{[ $silent->sockport ]};
            proxy_ignore_client_abort on;
        }
EOF_CONFIG

my $bearer = 'Bearer ' . key('alpha');
my $answers = expected($nginx->{port}, $pg, @small, @large, @slow);
slow($pg, (map { $_ => 0.03 * (1 + $_ % 3) } @slow), $long[0] => 30);

sub none_left {
    my ($name) = @_;

    soon { !$pg->sessions(q{state = 'active'}) } 2,
         "$name: no query is left after two seconds";
}

# the pool has at most its maximum of sessions, and all responses are right
sub usable {
    my ($name) = @_;

    my $result = Lunary::Load->start(
        port => $nginx->{port}, rate => 100, seconds => 1,
        answers => $answers, header => { Authorization => $bearer })->finish;

    is(join("\n", @{ $result->{wrong} }), '', "$name: responses afterwards");
    is($result->{sent}, 100, "$name: all of them");
    cmp_ok($pg->sessions, '<=', 6, "$name: the pool within its maximum");
}

sub ask {
    my ($n) = @_;

    return $nginx->client->ask(related_uri($n), Authorization => $bearer);
}


# hundreds of clients leave at random moments, among others that stay

my $result = Lunary::Load->start(
    port => $nginx->{port}, rate => 100, seconds => $full ? 10 : 6,
    leave => 0.8, stay => 0.15, answers => $answers, close => 1,
    header => { Authorization => $bearer })->finish;

is(join("\n", @{ $result->{wrong} }), '',
   'the clients that stay get their responses');
cmp_ok($result->{left}, '>', 20, "$result->{left} left");
note(whole($result));
none_left('at random');
usable('at random');


# one query of 30 seconds

for my $how (qw( close reset )) {
    my $client = ask($long[0]);

    wait_until { $pg->sessions(q{wait_event = 'PgSleep'}) } 5, 'the query';
    $client->$how;

    soon { !$pg->sessions(q{wait_event = 'PgSleep'}) } 2,
         "$how: a query is stopped within two seconds";
}

# a client leaves right after its request, so that there is no later event

{
    my ($worker) = $nginx->worker_pids;
    my $mark = -s "$nginx->{dir}/logs/access.log";

    kill 'STOP', $worker;
    ask($long[0])->close;
    kill 'CONT', $worker;

    soon { read_file("$nginx->{dir}/logs/access.log", $mark) =~ / 499 / } 2,
         'with its request: noticed';
    none_left('with its request');
}

# a client leaves while an error_page is proxied: the request belongs to the
# proxy module by then

for my $how (qw( close reset )) {
    my @workers = $nginx->worker_pids;
    my $client = $nginx->client->ask('/page' . related_uri('9' x 8),
        Authorization => $bearer);

    ok(IO::Select->new($silent)->can_read(10), "$how: the page is requested");
    my $page = $silent->accept;
    $client->$how;

    is($nginx->client->get('/ok')->{body}, 'ok', "$how: the worker continues");
    is(join(' ', $nginx->worker_pids), "@workers", "$how: the same worker");
    close $page;
}

# the query of another request behind it is not affected

my @leavers = map { ask($long[0]) } 1 .. 4;
wait_until { $pg->sessions(q{wait_event = 'PgSleep'}) >= 4 } 5, 'the queries';
my @behind = (@slow, @small);
my @stayers = map { ask($_) } @behind;
$_->reset for @leavers;

my $right = grep { $stayers[$_]->answer->{body}
                   eq $answers->{related_uri($behind[$_])} } 0 .. $#behind;
is($right, scalar @behind, 'the queries behind get their own rows');

none_left('one behind another');
usable('one behind another');


# during the response: the client reads a little, then leaves

for my $how (qw( close reset )) {
    for my $n (@large) {
        my $client = $nginx->client(rcvbuf => 8192)->ask(related_uri($n),
            Authorization => $bearer);
        $client->read_some(10, 20000);
        like($client->{buffer}, qr{^HTTP/1.1 200}, "$how: it has begun");
        $client->$how;
    }
}

none_left('during the response');
usable('during the response');


# in the queue while all connections are busy

$pg->do('begin');
$pg->do('lock table run in access exclusive mode');
my @waiting = map { ask($small[$_ % @small]) } 1 .. 300;
wait_until { $pg->sessions(q{wait_event_type = 'Lock'}) >= 2 } 5, 'the lock';
my $stays = pop @waiting;
$_ % 2 ? $waiting[$_]->close : $waiting[$_]->reset for 0 .. $#waiting;

# the client that stays may have been sent by then
soon { $pg->sessions(q{wait_event_type = 'Lock'}) <= 1 } 2,
     'in the queue: no query is left after two seconds';
$pg->do('rollback');
is($stays->answer->{body}, $answers->{related_uri($small[300 % @small])},
   'in the queue: the client that stayed');
usable('in the queue');


# during a connect attempt: the connection is completed and stays usable

$nginx->reload;
wait_until { $pg->sessions <= 1 } 5;
$pg->freeze;

my @early = map { ask($small[$_ % @small]) } 1 .. 50;
sleep 0.3;
$_->reset for @early;
$pg->thaw;

none_left('while connecting');
ok($pg->sessions, 'while connecting: a connection is left');
usable('while connecting');


# HTTP/2: streams reset by the thousand, by one client

SKIP: {
    my $client = eval { Lunary::Client->new(port => $h2)->connect }
        or skip 'no HTTP/2', 4;

    my $string = sub { pack('C', length $_[0]) . $_[0] };
    my $header = sub { "\0" . $string->($_[0]) . $string->($_[1]) };

    # GET of a run: literal fields without Huffman or index
    my $get = sub {
        my ($stream, $n) = @_;
        return frame(1, 5, $stream, "\x82\x86" . "\x04"
            . $string->(related_uri($n)) . "\x01" . $string->('localhost')
            . $header->('authorization', $bearer));
    };

    my $total = $full ? 5000 : 2000;
    my ($stream, $in, %open) = (1, '');
    my (%kept, %body, $gone, $resets);

    $client->send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                  . frame(4, 0, 0, pack 'nNnN', 4, 2**30, 5, 2**20)
                  . frame(8, 0, 0, pack 'N', 2**30));

    my @all = (@small, @slow, $long[0]);
    my $end = time + 40;

    while (($resets // 0) < $total || %kept) {
        my $out = '';

        if (($resets // 0) < $total) {
            for (1 .. 20) {
                my $n = $all[rand @all];
                my $keep = $n != $long[0] && rand() < 0.05;

                $out .= $get->($stream, $n);
                $keep ? $kept{$stream} = $n : ($open{$stream} = 1);
                $stream += 2;
            }

            # streams to reset are chosen from all open ones
            for my $id (keys %open) {
                next if rand() < 0.3;
                $out .= frame(3, 0, $id, pack 'N', 8);
                delete $open{$id};
                $resets++;
            }
        }

        $client->send($out) or last;

        my $bytes = $client->read_some($out eq '' ? 1 : 0.005, 1 << 20);
        $gone = 1, last if !defined $bytes || $bytes == 0;

        while (length $client->{buffer} >= 9) {
            my ($len, $type, $flags, $id) =
                unpack 'NCCN', "\0$client->{buffer}";
            last if length $client->{buffer} < 9 + $len;

            my $payload = substr $client->{buffer}, 9, $len;
            substr $client->{buffer}, 0, 9 + $len, '';

            $client->send(frame(4, 1, 0, '')) if $type == 4 && !($flags & 1);
            $gone = 1 if $type == 7;
            $client->send(frame(8, 0, 0, pack 'N', $len))
                if $type == 0 && $len;
            $body{$id} .= $payload if $type == 0 && $kept{$id};

            if ($type == 3 || $type <= 1 && $flags & 1) {
                delete $open{$id};
                my $n = delete $kept{$id} // next;
                my $expected = $answers->{related_uri($n)};
                $body{right} += ($body{$id} // '') eq $expected;
                $body{wrong} += ($body{$id} // '') ne $expected;
                delete $body{$id};
            }
        }

        last if $gone || time > $end;
    }

    ok(!$gone, 'HTTP/2: the connection stays open');
    is($body{wrong} // 0, 0, 'HTTP/2: the other streams get their responses');
    is(join(' ', keys %kept), '', 'HTTP/2: all of them');
    cmp_ok($resets, '>=', $total, "HTTP/2: $resets streams reset, "
                                  . ($body{right} // 0) . ' stayed');
    $client->close;
}

none_left('HTTP/2');
usable('HTTP/2');

$nginx->stop;
soon { !$pg->sessions } 5, 'no session is left';

done_testing();
