# Hostile clients: malformed requests, request smuggling, streams that are reset
# as soon as they are opened, readers that never finish, many wrong keys.
#
#   STREAMS=100000 KEYS=100000 make test T=t/310-abuse.t

use strict;
use warnings;

use lib 't/lib';
use IO::Socket::INET;
use Lunary::Client qw( await crowd frame );
use Lunary::Load qw( worker );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test;
use Lunary::System qw( free_port patience read_file wait_until );
use Test::More;
use Time::HiRes qw( time );

my $streams = $ENV{STREAMS} // 6000;
my $keys = $ENV{KEYS} // 4000;

my $pg = Lunary::Pg->new;
my $h2 = free_port();
my ($alpha, $beta) = (key('alpha'), key('beta'));
my ($run, $none) = map { run_id($_) } 101, 999999;
my @theirs = @{ $pg->dbh->selectcol_arrayref(
    'select id from run where project_id = ?', undef, project('beta')) };
my $path = "/v1/runs/$run/related";
my $get = "GET $path HTTP/1.1\r\nHost: l\r\n";
my $bearer = "Authorization: Bearer $alpha\r\n";

# a run whose response is larger than the socket buffers
$pg->do(q{insert into run (id, project_id, type, input)
          select gen_random_uuid(), ?, 'llm', to_jsonb(repeat('x', 400000))
          from generate_series(1, 1)}, project('alpha'));
my $root = run_id(880000);
$pg->do(q{insert into run (id, project_id, type) values (?, ?, 'chain')},
        $root, project('alpha'));
$pg->do(q{insert into run (id, project_id, type, parent_run_id, input)
          select gen_random_uuid(), ?, 'llm', ?, to_jsonb(repeat('y', 100000))
          from generate_series(1, 200)}, project('alpha'), $root);

my $nginx = Lunary::Nginx->new(workers => 1,
    http => 'lunary_database "' . $pg->conninfo . '";
        lunary_pool max=2;
        lunary_queue 32 timeout=' . patience() . 's;',
    server => "listen 127.0.0.1:$h2 http2;",
    config => <<'EOF_CONFIG');
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
        location ~ "^/slow/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
            lunary_buffers 8k max=64k;
            send_timeout 1s;
        }
        location ~ "^/big/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
            client_max_body_size 1m;
        }
EOF_CONFIG
$nginx->start;

my $worker = worker($nginx);

sub answer_of {
    my ($text) = @_;

    my $client = $nginx->client(timeout => 5);
    $client->send($text);
    my $answer = $client->answer;
    $client->close;

    return $answer;
}


# Malformed and unusual requests, and the status of each.

my @odd = (
    ['a valid request', "$get$bearer\r\n", 200],
    ['an absolute URI', "GET http://l$path HTTP/1.1\r\nHost: x\r\n"
                        . "$bearer\r\n", 200],
    ['an absolute URI of another scheme', "GET ftp://l$path HTTP/1.1\r\n"
                        . "Host: x\r\n$bearer\r\n", qr/200|400/],
    ['two Authorization', "$get$bearer$bearer\r\n", 400],
    ['two Authorization, of two projects',
     "$get${bearer}Authorization: Bearer $beta\r\n\r\n", 400],
    ['Authorization in another case',
     $get . lc($bearer) . "\r\n", 200],
    ['Authorization and X-API-Key of another project',
     "$get${bearer}X-API-Key: $beta\r\n\r\n", 200],
    ['an Authorization of nothing', "${get}Authorization:\r\n"
     . "X-API-Key: $alpha\r\n\r\n", 401],
    ['two X-API-Key', "${get}X-API-Key: $alpha\r\nX-API-Key: $alpha\r\n\r\n",
     401],
    ['X-API-Key with an underscore', "${get}X_API_Key: $alpha\r\n\r\n", 401],
    ['NUL in the key', "${get}Authorization: Bearer $alpha\0\r\n\r\n", 400],
    ['NUL in the URI', "GET /v1/runs/$run\0/related HTTP/1.1\r\nHost: l\r\n"
                       . "$bearer\r\n", 400],
    ['%00 in the URI', "GET /v1/runs/$run%00/related HTTP/1.1\r\nHost: l\r\n"
                       . "$bearer\r\n", 400],
    ['%2F in the id', "GET /v1/runs/a%2F$run/related HTTP/1.1\r\nHost: l\r\n"
                      . "$bearer\r\n", 404],
    ['%2F as a separator', "GET /v1/runs%2F$run/related HTTP/1.1\r\n"
                           . "Host: l\r\n$bearer\r\n", 200],
    ['an id in % signs', 'GET /v1/runs/' . join('', map { sprintf '%%%02x',
        ord } split //, $run) . "/related HTTP/1.1\r\nHost: l\r\n"
        . "$bearer\r\n", 200],
    ['dots', "GET /v1/x/../runs/./$run//related HTTP/1.1\r\nHost: l\r\n"
             . "$bearer\r\n", 200],
    ['an id in braces', "GET /v1/runs/{$run}/related HTTP/1.1\r\nHost: l\r\n"
                        . "$bearer\r\n", 404],
    ['an id with a line', "GET /v1/runs/$run%0a/related HTTP/1.1\r\n"
                          . "Host: l\r\n$bearer\r\n", 404],
    ['SQL for an id', "GET /v1/runs/'%20or%201=1--/related HTTP/1.1\r\n"
                      . "Host: l\r\n$bearer\r\n", 404],
    ['SQL for a key', "${get}Authorization: Bearer ' or 1=1--\r\n\r\n", 401],
    ['a key of 8 kB', "${get}Authorization: Bearer " . 'a' x 8000
                      . "\r\n\r\n", qr/400|401/],
    ['a key of 20 kB', "${get}Authorization: Bearer " . 'a' x 20000
                       . "\r\n\r\n", 400],
    ['an id of 8 kB', 'GET /v1/runs/' . 'a' x 8000 . "/related HTTP/1.1\r\n"
                      . "Host: l\r\n$bearer\r\n", qr/404|414/],
    ['a key with a comma', "${get}Authorization: Bearer $alpha, Bearer "
                           . "$beta\r\n\r\n", 401],
    ['a key in quotes', "${get}Authorization: Bearer \"$alpha\"\r\n\r\n",
     401],
    ['a tab after the scheme', "${get}Authorization: Bearer\t$alpha\r\n\r\n",
     401],
    ['spaces around the key', "${get}Authorization:   Bearer   $alpha  "
                              . "\r\n\r\n", 200],
    ['no HTTP', "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400],
    ['an unknown method', "LUNARY $path HTTP/1.1\r\nHost: l\r\n$bearer\r\n",
     405],
    ['a method in lower case', "get $path HTTP/1.1\r\nHost: l\r\n"
                               . "$bearer\r\n", 400],
    ['no Host', "GET $path HTTP/1.1\r\n$bearer\r\n", 400],
    ['two Host', "${get}Host: m\r\n$bearer\r\n", 400],
    ['a line of spaces', "$get \r\n$bearer\r\n", qr/200|400/],
    ['HTTP/2.0 in words', "GET $path HTTP/2.0\r\nHost: l\r\n$bearer\r\n",
     qr/400|505/],
    ['a hundred headers', $get . join('', map { "X-H$_: v\r\n" } 1 .. 100)
                          . "X-API-Key: $alpha\r\n\r\n", 200],
    ['newlines alone', "GET $path HTTP/1.1\nHost: l\n"
                       . "Authorization: Bearer $alpha\n\n", 200],
    ['a fold in the key', "${get}Authorization: Bearer\r\n $alpha\r\n\r\n",
     qr/400|401/],
    ['a space before the colon', "${get}Authorization : Bearer $alpha"
                                 . "\r\n\r\n", qr/400|401/],
    ['an Upgrade', "$get${bearer}Connection: Upgrade\r\nUpgrade: h2c\r\n"
                   . "HTTP2-Settings: AAMAAABk\r\n\r\n", 200],
    ['a Range', "$get${bearer}Range: bytes=0-0\r\n\r\n", qr/200/],
    ['Expect', "$get${bearer}Expect: 100-continue\r\nContent-Length: 1\r\n"
               . "\r\nx", qr/100|200/],
);

for my $odd (@odd) {
    my ($name, $text, $status) = @$odd;
    my $answer = answer_of($text);

    like($answer->{status}, ref $status ? qr/^(?:$status)$/ : qr/^$status$/,
         $name);

    fail("$name: an odd body") if $answer->{status} == 401
        && $answer->{body} !~ /^\{"message": "[A-Za-z ]+"\}$/;
}

# HTTP/0.9 has no headers, so no key
my $old = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$nginx->{port}");
print $old "GET $path\r\n";
my $said = do { local $/; <$old> } // '';
unlike($said, qr/"projectId"/, 'HTTP/0.9: no run');
like($said, qr/Missing API key/, 'HTTP/0.9: no key');


# Smuggling: a request inside a body of ambiguous length is not answered.

my $inner = "GET /ok HTTP/1.1\r\nHost: l\r\n\r\n";
my $long = length $inner;

my @smuggled = (
    ['CL and TE', "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
                  . "0\r\n\r\n$inner"],
    ['TE and CL', "Transfer-Encoding: chunked\r\nContent-Length: $long\r\n"
                  . "\r\n$inner"],
    ['two CL', "Content-Length: 0\r\nContent-Length: $long\r\n\r\n$inner"],
    ['two CL, equal', "Content-Length: $long\r\nContent-Length: $long\r\n"
                      . "\r\n$inner"],
    ['a list of CL', "Content-Length: $long, $long\r\n\r\n$inner"],
    ['a CL with a sign', "Content-Length: +$long\r\n\r\n$inner"],
    ['a CL that is negative', "Content-Length: -1\r\n\r\n$inner"],
    ['a CL in hexadecimal', "Content-Length: 0x10\r\n\r\n$inner"],
    ['a CL of 64 bits', "Content-Length: 18446744073709551616\r\n\r\n$inner"],
    ['an unknown TE', "Transfer-Encoding: x\r\n\r\n$inner"],
    ['TE twice', "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"
                 . "\r\n$inner"],
    ['TE as a list', "Transfer-Encoding: chunked, identity\r\n\r\n$inner"],
    ['TE with a space', "Transfer-Encoding : chunked\r\nContent-Length: "
                        . "$long\r\n\r\n$inner"],
    ['a chunk size too large', "Transfer-Encoding: chunked\r\n\r\n"
                               . "fffffffffffffffff\r\n$inner"],
    ['a chunk size that is none', "Transfer-Encoding: chunked\r\n\r\n"
                                  . "x\r\n$inner"],
);

for my $shape (@smuggled) {
    my ($name, $rest) = @$shape;
    my $client = $nginx->client(timeout => 5);

    $client->send("$get$bearer$rest");

    my @status;
    while (my $answer = $client->answer) {
        push @status, $answer->{status} || last;
        last if $answer->{closed}
                || ($answer->{header}{connection} // '') eq 'close'
                || ($client->{buffer} eq '' && $client->read_some(0.1) <= 0);
    }

    $client->close;
    my $last = $status[-1] // 0;

    # refused, or one response as the inner request is a body
    ok(@status == 1 || $last == 400 || $last == 501 || $last == 413,
       "smuggling, $name: @status");
}


# A body is discarded, and the next request is answered.

for my $body ("Content-Length: $long\r\n\r\n$inner",
              "Transfer-Encoding: chunked\r\n\r\n"
              . sprintf("%x\r\n%s\r\n0\r\n\r\n", $long, $inner)) {
    my $client = $nginx->client(timeout => 5);
    $client->send("$get$bearer$body$get$bearer\r\n");

    my @status = map { $client->answer->{status} } 1 .. 2;
    is("@status", '200 200', 'a body is not taken for a request');
    is($client->read_some(0.2), -1, 'there is no third response');
    $client->close;
}


# A run of another project is indistinguishable from one that does not exist.

sub shape {
    my ($method, $id, @more) = @_;

    my $client = $nginx->client(timeout => 5);
    my $answer = $client->exchange($method, "/v1/runs/$id/related",
        Authorization => "Bearer $alpha", @more);
    $client->close;

    return join "\n", (split /\r\n/, $answer->{head}
                       =~ s/^Date: .*\r\n//mr), $answer->{body};
}

for my $method (qw( GET HEAD )) {
    my $there = shape($method, $none);
    like($there, qr{^HTTP/1.1 404}, "$method of no run: 404");

    for my $id (@theirs, uc $theirs[0]) {
        is(shape($method, $id), $there, "$method of another's run: the same");
    }
}


# HTTP/2, raw: streams that are reset as soon as they are opened.

sub literal {
    my ($name, $value) = @_;

    return "\0" . join '', map {
        my $length = length;
        ($length < 127 ? chr $length
         : chr(127) . chr($length - 127)) . $_
    } $name, $value;
}

my $block = literal(':method', 'GET') . literal(':scheme', 'http')
            . literal(':authority', 'l') . literal(':path', $path)
            . literal('authorization', "Bearer $alpha");

# resets streams that are queued, running or answered
sub reset_streams {
    my ($n, $batch, $wait) = @_;

    my $sent = 0;
    my $connections = 0;

    while ($sent < $n && $connections < 500) {
        my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$h2")
            or die "connect: $!";
        local $SIG{PIPE} = 'IGNORE';
        my $stream = 1;

        $connections++;
        $socket->blocking(0);
        syswrite $socket, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                          . frame(4, 0, 0, '');

        # nginx closes a connection after 1000 streams
        while ($sent < $n && $stream < 1200) {
            my $out = '';

            for (1 .. $batch) {
                $out .= frame(1, 5, $stream, $block);
                $out .= frame(3, 0, $stream, pack 'N', 8) if !$wait;
                $stream += 2;
            }

            if ($wait) {
                my $bits = '';
                vec($bits, fileno $socket, 1) = 1;
                syswrite($socket, $out) // last;
                select($bits, undef, undef, $wait * rand);
                $out = join '', map { frame(3, 0, $stream - 2 * $_,
                                            pack 'N', 8) } 1 .. $batch;
            }

            $sent += $batch;

            my $end = time + 5;
            while ($out ne '' && time < $end) {
                my $bytes = syswrite $socket, $out;
                substr $out, 0, $bytes, '' if $bytes;
                last if !defined $bytes && !$!{EAGAIN};
                while (sysread $socket, my $dropped, 65536) { }
                select undef, undef, undef, 0.001 if $out ne '';
            }

            last if $out ne '';

            my $got = sysread $socket, my $dropped, 65536;
            last if defined $got && $got == 0;
        }

        # reads to the end, as a close with unread data would reset the
        # connection
        shutdown $socket, 1;
        my $bits = '';
        vec($bits, fileno $socket, 1) = 1;
        while (select(my $ready = $bits, undef, undef, 1) > 0) {
            last if !sysread $socket, my $dropped, 65536;
        }

        close $socket;
    }

    return $sent;
}

sub served {
    return scalar grep { /HTTP\/2/ } split /\n/,
           read_file("$nginx->{dir}/logs/access.log");
}

my $start = time;
my $sent = reset_streams($streams, 50, 0) + reset_streams($streams / 4, 20,
                                                          0.01);
my $served = wait_until { my $n = served(); $n >= $sent / 2 && $n } 5;
diag(sprintf '%d streams reset in %.1f s, %d of them seen', $sent,
     time - $start, $served // served());

cmp_ok($sent, '>=', $streams, 'streams were opened and reset');
ok($served, 'some streams were served');
is(answer_of("$get$bearer\r\n")->{status}, 200, 'requests are still served');
is(($nginx->worker_pids)[0], $worker, 'by the same worker');
ok(scalar(wait_until { !$pg->sessions(q{state = 'active'}) } 3),
   'no query is left behind');
cmp_ok($pg->sessions, '<=', 2, 'no more sessions than the pool maximum');


# Readers that never finish: the response goes to a file, the connection is
# released, and send_timeout ends the client.

my $mark = $nginx->mark;
my @lazy = map {
    my $client = $nginx->client(rcvbuf => 2048, timeout => 10)->connect;
    $client->send("GET /slow/$root/related HTTP/1.1\r\nHost: l\r\n"
                  . "$bearer\r\n");
    $client->read_some(10, 1);
    $client;
} 1 .. 20;

ok(scalar(wait_until { !$pg->sessions(q{state = 'active'}) } 10),
   'slow readers hold no query');

$start = time;
is(answer_of("$get$bearer\r\n")->{status}, 200, 'other requests are served');
cmp_ok(time - $start, '<', patience(), 'at once');

my ($memory) = read_file("/proc/$worker/status") =~ /^VmRSS:\s+(\d+)/m;
my $checked = $ENV{TEST_NGINX_LD_PRELOAD} || $ENV{TEST_NGINX_USE_VALGRIND};
cmp_ok($memory, '<', $checked ? 1_000_000 : 100_000,
       "memory is bounded ($memory kB)");

wait_until {
    my $late = () = $nginx->log_since($mark) =~ /client timed out/g;
    return $late >= @lazy;
} 10, 'the timeout';

my $cut = grep { !$_->{whole} } await(8, @lazy);

is($cut, scalar @lazy, 'clients that do not read are cut');
$_->close for @lazy;


# Thousands of wrong keys: no more queries at a time than the pool has
# connections, a bounded queue, a worker that responds.

my ($n, $most, $slowest, $next) = ($keys, 0, 0, 0);
my %status;

$start = time;

crowd(port => $nginx->{port}, clients => 100, seconds => 120,
    next => sub {
        return if $n-- <= 0;
        my $key = join '-', map { my $l = $_; join '', map {
            sprintf '%x', rand 16 } 1 .. $l } 8, 4, 4, 4, 12;
        return { method => 'GET', text =>
                 "${get}Authorization: Bearer $key\r\n\r\n" };
    },
    done => sub { $status{$_[1]{status}}++ },
    tick => sub {
        return if time < $next;
        $next = time + 0.2;

        my $active = $pg->sessions(q{true});
        $most = $active if $active > $most;

        my $since = time;
        answer_of("GET /ok HTTP/1.1\r\nHost: l\r\n\r\n")->{status} == 200
            or fail('the worker does not respond');
        $slowest = time - $since if time - $since > $slowest;
    });

my $took = time - $start;
diag(sprintf '%d wrong keys in %.1f s (%.0f a minute): %s', $keys, $took,
     $keys / $took * 60, join ', ', map { "$_: $status{$_}" }
                                    sort keys %status);

is(join(' ', grep { !/^(?:401|503)$/ } keys %status), '',
   'wrong keys get 401, or 503 when the queue is full');
cmp_ok($status{401} // 0, '>', 0, 'some are looked up');
cmp_ok($most, '<=', 2, 'no more sessions than the pool maximum');
cmp_ok($slowest, '<', 0.5 * patience(), 'the worker is never blocked for long');
is(answer_of("$get$bearer\r\n")->{status}, 200, 'the right key is served');

is(($nginx->worker_pids)[0], $worker, 'the worker is the same');

$nginx->stop;
done_testing();
