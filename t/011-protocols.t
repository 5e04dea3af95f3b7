# HTTP/2, and clients that leave, read slowly, or send many requests on one
# connection.
#
# Packages: curl nghttp2-client

use strict;
use warnings;

use lib 't/lib';
use Lunary::Nginx;
use Lunary::Test;
use Lunary::System qw( wait_until );
use Test::More;
use Time::HiRes qw( sleep time );

my $conninfo = pg()->conninfo(application_name => 'protocols');
my $alpha = key('alpha');

my $nginx = Lunary::Nginx->new(
    workers => 2,
    http => qq{lunary_database "$conninfo";\n lunary_pool max=4;},
    server => 'listen 127.0.0.1:' . (my $port2 = Lunary::System::free_port())
              . ' http2;',
    config => <<'EOF_CONFIG');
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
EOF_CONFIG

$nginx->start;

my $h2 = Lunary::Client->new(port => $port2);
my @key = ('-H', "Authorization: Bearer $alpha");

sub same {
    my ($answer, $n, $name) = @_;

    is($answer->{status}, 200, "$name - status")
        or diag(substr $answer->{raw} // '', 0, 300);
    ok($answer->{whole}, "$name - complete");
    is(oracle()->compare($answer->{body},
                         oracle()->related(project('alpha'), run_id($n))),
       undef, "$name - equals the oracle");
}

sub sessions_idle {
    return wait_until {
        !pg()->sessions(q{application_name = 'protocols'
                          and state <> 'idle'})
    } $_[0] // 2;
}


# HTTP/2

same($h2->http2(related_uri($_), @key), $_, "HTTP/2, run $_")
    for 101, 700, 80000, 90000;

my $answer = $h2->http2(related_uri(101), @key, '-I');
is($answer->{status}, 200, 'HTTP/2 HEAD');
is($answer->{body}, '', 'HTTP/2 HEAD has no body');

is($h2->http2(related_uri(999), @key)->{status}, 404, 'HTTP/2 404');
is($h2->http2(related_uri(101))->{status}, 401, 'HTTP/2 401');
is($h2->http2(related_uri(101), @key, '-X', 'DELETE')->{status}, 405,
   'HTTP/2 405');

# a request body (by nghttp: curl reports an error if the body is not read)
Lunary::System::write_file("$nginx->{dir}/body", 'a body');
my ($code, $body) = Lunary::System::run_cmd('nghttp', '-H:method: GET', '-H',
    "Authorization: Bearer $alpha", '-d', "$nginx->{dir}/body",
    "http://127.0.0.1:$port2" . related_uri(101));
same({ status => $code == 0 ? 200 : $code, whole => 1, body => $body }, 101,
     'HTTP/2 GET with a body');

# many streams on one connection
my ($status, $out) = Lunary::System::run_cmd('h2load', '-n', '400', '-c', '2',
    '-m', '50', '-H', "Authorization: Bearer $alpha",
    "http://127.0.0.1:$port2" . related_uri(101));
is($status, 0, 'h2load');
like($out, qr/400 succeeded, 0 failed, 0 errored/, 'HTTP/2 streams')
    or diag($out);


# many requests of all kinds on one connection

my $client = $nginx->client->connect;
my $socket = $client->{socket};

for my $i (1 .. 30) {
    my $n = (101, 120, 90000)[$i % 3];
    my $answer = $client->related(run_id($n), $alpha,
                                  $i % 5 ? () : (body => 'x' x 3000));
    is(oracle()->compare($answer->{body},
                         oracle()->related(project('alpha'), run_id($n))),
       undef, "keep-alive, request $i");
    is($client->related('x', $alpha)->{status}, 404, "a 404 after them");
}

is($client->{socket}, $socket, 'the connection is the same');
$client->close;


# a slow client gets all and holds no database connection

my $slow = $nginx->client(rcvbuf => 4096, timeout => 30)->ask(
    related_uri(90000), Connection => 'close',
    Authorization => "Bearer $alpha");
$slow->read_some(5, 1000);
ok(sessions_idle(5), 'a slow client holds no database connection');
same($slow->answer, 90000, 'a slow reader');


# clients that leave at any moment

for my $i (1 .. 60) {
    my $client = $nginx->client->connect;

    $client->ask(related_uri(90000), Authorization => "Bearer $alpha");
    sleep 0.0005 * ($i % 40);
    $client->read_some(1, 1 + 700 * $i) if $i % 3;
    $i % 2 ? $client->reset : $client->close;
}

ok(sessions_idle(2), 'no query runs for clients that left');
cmp_ok(pg()->sessions(q{application_name = 'protocols'}), '<=', 8,
       'the pool has at most its maximum of sessions');
same($nginx->client->related(run_id(101), $alpha), 101,
     'after clients that left');


# HTTP/2 clients that reset their streams: curl stops at the first bytes

for my $i (1 .. 20) {
    Lunary::System::run_cmd('curl', '-s', '--http2-prior-knowledge', '-m',
                          0.001 * $i, @key, '-o', '/dev/null',
                          "http://127.0.0.1:$port2" . related_uri(90000));
}

ok(sessions_idle(2), 'no query runs for streams that were reset');
same($h2->http2(related_uri(101), @key), 101, 'after reset streams');


# the backend ends during a response: the response never looks complete

{
    # with a temporary file or large socket buffers the query would be complete
    # before the backend is terminated
    my $narrow = Lunary::System::free_port();
    my $cut = Lunary::Nginx->new(
        http => qq{lunary_database "$conninfo";\n}
                . 'lunary_buffers 1k max=4k; lunary_max_temp_file_size 0;',
        server => "listen 127.0.0.1:$narrow sndbuf=64k;",
        config => $nginx->{config});
    $cut->start;

    for my $version ('1.1', '1.0') {
        my $mid = Lunary::Client->new(port => $narrow, rcvbuf => 4096)
                  ->connect;

        $mid->ask(related_uri(90000), version => $version,
            Authorization => "Bearer $alpha");
        $mid->read_some(5, 2000);

        ok(wait_until {
            pg()->value(q{select count(pg_terminate_backend(pid))
                from pg_stat_activity where application_name = 'protocols'
                and state = 'active'})
        } 5, "HTTP/$version: the backend is ended during the response");

        my $answer = $mid->answer;
        is($answer->{status}, 200, "HTTP/$version: the status was sent");
        ok(!$answer->{whole}, "HTTP/$version: the response is incomplete");
        unlike($answer->{body}, qr/\]\s*\z/,
               "HTTP/$version: no closing bracket");
    }

    same($cut->client->related(run_id(101), $alpha), 101, 'after a cut');
    $cut->stop;
}

$nginx->stop;
ok(wait_until { !pg()->sessions(q{application_name = 'protocols'}) } 5,
   'no session is left after nginx quits');

done_testing();
