# A failure during a response is visible on every protocol: no last chunk, a
# reset, RST_STREAM, no close_notify; and never a closing bracket.
#
# Packages: curl openssl

use strict;
use warnings;

use lib 't/lib';
use Lunary::Load qw( big_pg grow idle late_users );
use Lunary::Nginx;
use Lunary::Test;
use Lunary::System qw( free_port read_file run_cmd wait_until write_file );
use POSIX ();
use Test::More;
use Time::HiRes qw( sleep time );

my $pg = big_pg();
my $uri = grow($pg, 2_000_000, runs => 1500, bytes => 6000);
my $small = grow($pg, 1_000_000, runs => 10);

late_users($pg);

# the last run's user makes PostgreSQL wait or fail
sub last_user {
    my ($n) = @_;

    $pg->do(q{update run set external_user_id = ? where id = ?}, $n,
            run_id(2_001_499));
}

my ($h2, $tls, $tls2) = map { free_port() } 1 .. 3;
my $dir = Lunary::Pg->certificates;

my $nginx = Lunary::Nginx->new(
    http => 'lunary_database "' . $pg->conninfo . qq{";
        lunary_pool max=4;
        lunary_query_timeout 60s;
        ssl_certificate $dir/server.crt;
        ssl_certificate_key $dir/server.key;},
    server => "listen 127.0.0.1:$h2 http2;
               listen 127.0.0.1:$tls ssl;
               listen 127.0.0.1:$tls2 ssl http2;",
    config => $Lunary::Load::related . <<'EOF_CONFIG')->start;
        location ~ "^/gzip/v1/runs/(?<run_id>[^/]+)/related$" {
            gzip on;
            gzip_types *;
            gzip_min_length 0;
            lunary_related_runs $run_id;
        }
        location ~ "^/late/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_query_timeout 1s;
            lunary_related_runs $run_id;
        }
        location ~ "^/paused/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_max_temp_file_size 0;
            lunary_related_runs $run_id;
        }
        location ~ "^/nochunk/v1/runs/(?<run_id>[^/]+)/related$" {
            chunked_transfer_encoding off;
            lunary_related_runs $run_id;
        }
        location ~ "^/page/v1/runs/(?<run_id>[^/]+)/related$" {
            error_page 500 503 504 /page.html;
            lunary_related_runs $run_id;
        }
        location ~ "^/unread/v1/runs/(?<run_id>[^/]+)/related$" {
            set $pool nowhere;
            aio threads=$pool;
            sendfile off;
            lunary_related_runs $run_id;
        }
        location /ssi/ {
            ssi on;
            default_type text/html;
            root html;
        }
EOF_CONFIG

mkdir "$nginx->{dir}/html/ssi";
write_file("$nginx->{dir}/html/page.html", 'a page]');
write_file("$nginx->{dir}/html/ssi/page",
           qq{<!--# include virtual="$uri" -->\n]});

my $bearer = 'Authorization: Bearer ' . key('alpha');

sub ask {
    my ($uri, %more) = @_;

    return Lunary::Client->stream(port => $nginx->{port}, uri => $uri,
                                  timeout => 20, %more);
}

sub ask2 {
    my ($uri, %more) = @_;

    return Lunary::Client::Http2->stream(port => $h2, uri => $uri,
                                         timeout => 20, %more);
}

sub terminate {
    $pg->do(q{select pg_terminate_backend(pid) from pg_stat_activity
              where usename = 'lunary_ro' and state = 'active'});
}

sub cancel {
    $pg->do(q{select pg_cancel_backend(pid) from pg_stat_activity
              where usename = 'lunary_ro' and state = 'active'});
}

sub kill_backend {
    my $pids = $pg->dbh->selectcol_arrayref(q{select pid from pg_stat_activity
        where usename = 'lunary_ro' and state = 'active'});
    my $mark = $pg->log_mark;
    kill 'KILL', @$pids;
    wait_until {
        $pg->log_since($mark) =~ /ready to accept connections/
    } 20, 'a recovery';
}

# waits until PostgreSQL waits at the last run
sub middle {
    wait_until { $pg->sessions(q{wait_event = 'PgSleep'}) } 10, 'the last run';
}

sub broken {
    my ($in, $name, $closed) = @_;

    $in->rest(seconds => 10);

    ok($in->{over}, "$name: it ends");
    ok(!$in->{whole}, "$name: incomplete");
    is($in->{status}, 200, "$name: the status is 200");
    unlike($in->{tail}, qr/\]\s*\z/, "$name: no closing bracket");
    is($in->{closed}, $closed, "$name: $closed") if $closed;
}


# each failure, on each protocol

last_user(900);
my $mark = $nginx->mark;

for my $how ([terminated => \&terminate], [cancelled => \&cancel],
             [killed => \&kill_backend]) {
    my ($name, $fail) = @$how;

    my @all = (['HTTP/1.1', 'eof', ask($uri)],
               ['HTTP/1.0', 'reset', ask($uri, version => '1.0')],
               ['HTTP/2', undef, ask2($uri)]);

    $_->[2]->take(1_000_000) for @all;
    middle();
    sleep 0.2;
    $fail->();

    for my $one (@all) {
        my ($protocol, $closed, $in) = @$one;

        broken($in, "$name, $protocol", $closed);
        is($in->{reset}, 2, "$name, $protocol: RST_STREAM INTERNAL_ERROR")
            if $protocol eq 'HTTP/2';
    }

    idle($pg);
    ok(ask($small)->rest->{whole}, "$name: the next request is served");
}

my $log = $nginx->log_since($mark);
like($log, qr/cut off: the query failed, SQLSTATE 57P01/, 'logged: terminated');
like($log, qr/cut off: the query failed, SQLSTATE 57014/, 'logged: cancelled');

# a stream that is reset does not end its connection
{
    my $in = ask2($uri)->take(1_000_000);
    middle();
    terminate();
    $in->rest(seconds => 10);
    is($in->{reset}, 2, 'HTTP/2: the stream is reset');
    ok(!$in->{goaway} && !$in->{closed}, 'HTTP/2: the connection is not');
}


# other ways of output

for my $case (['gzip', 'eof', headers => { 'Accept-Encoding' => 'gzip' }],
              ['nochunk', 'reset'], ['page', 'eof'], ['paused', 'eof']) {
    my ($way, $closed, @more) = @$case;

    my $in = ask("/$way$uri", @more)->take($way eq 'gzip' ? 1000 : 1_000_000);
    my @slow = $way eq 'paused' ? () : ask("/$way$uri", @more, rcvbuf => 8192)
               ->take(1000);
    $in->rest(seconds => 1);
    middle();
    sleep 0.3;
    terminate();
    broken($in, $way, $closed);
    broken($_, "$way, slow", $closed) for @slow;
}

my $page = ask('/ssi/page')->take(1_000_000);
middle();
terminate();
broken($page, 'in a page');
is($page->{over}, 1, 'in a page: over');

$page = ask('/ssi/page', version => '1.0')->take(1_000_000);
middle();
terminate();
broken($page, 'in a page, HTTP/1.0', 'reset');

# lunary_query_timeout
my $start = time;
broken(ask("/late$uri"), 'lunary_query_timeout', 'eof');
broken(ask("/late$uri", version => '1.0'), 'lunary_query_timeout, HTTP/1.0',
       'reset');
cmp_ok(time - $start, '<', 10, 'lunary_query_timeout: in time');

# an error in the statement
for my $case ([901 => 'an error of SQL'], [902 => 'statement_timeout']) {
    my ($user, $name) = @$case;

    last_user($user);
    broken(ask($uri), $name, 'eof');
    broken(ask2($uri), "$name, HTTP/2");
}

# a slow client has not yet read the rows before the failure from the file
last_user(901);
for my $version ('1.1', '1.0') {
    my $in = ask($uri, version => $version, rcvbuf => 8192)->take(1000);
    ok(idle($pg), "slow client, HTTP/$version: PostgreSQL has sent the rows");
    sleep 0.3;
    broken($in, "slow client, HTTP/$version");
}

# before the first byte is sent: an error response
$pg->do(q{update run set external_user_id = 901 where id = ?},
        run_id(2_000_000));
my $in = ask($uri)->rest;
ok($in->{whole} && $in->{status} == 500, 'in the first row: 500');
$in = ask("/page$uri")->rest;
is($in->{tail}, 'a page]', 'in the first row: the error page');
$pg->do(q{update run set external_user_id = null where id = ?},
        run_id(2_000_000));


# a file that cannot be read, and worker_shutdown_timeout

last_user(903);

for my $case (['1.1', 'eof'], ['1.0', 'reset']) {
    my ($version, $closed) = @$case;
    my $mark = $nginx->mark;
    my $in = ask("/unread$uri", version => $version, rcvbuf => 8192)
             ->take(1000);

    ok(idle($pg), "an unreadable file, HTTP/$version: all rows are in");
    broken($in, "an unreadable file, HTTP/$version", $closed);
    like($nginx->log_since($mark), qr/thread pool "nowhere" not found/,
         "an unreadable file, HTTP/$version: why");
    like($nginx->log_since($mark), qr/the response is cut off/,
         "an unreadable file, HTTP/$version: logged");
}

my $brief = Lunary::Nginx->new(
    main => 'worker_shutdown_timeout 1s;',
    http => 'lunary_database "' . $pg->conninfo . '";',
    config => $Lunary::Load::related)->start;

for my $case (['1.1', 'eof'], ['1.0', 'reset']) {
    my ($version, $closed) = @$case;
    my $in = ask($uri, port => $brief->{port}, version => $version,
                 rcvbuf => 8192)->take(1000);

    ok($brief->reload, "worker_shutdown_timeout, HTTP/$version: over");
    broken($in, "worker_shutdown_timeout, HTTP/$version", $closed);
}

$brief->stop;


# TLS: a cut does not look like a proper end

last_user(900);

sub s_client {
    my ($version, $until) = @_;

    my $out = "$nginx->{dir}/s_client";
    unlink $out;
    my $pid = fork // die;

    if ($pid == 0) {
        open STDIN, '-|', "printf '%s\\r\\n' 'GET $uri HTTP/$version' "
            . "'Host: localhost' '$bearer' 'Connection: close' ''; sleep 12";
        open STDOUT, '>', $out;
        open STDERR, '>', "$out.err";
        exec 'openssl', 's_client', '-quiet', '-connect', "127.0.0.1:$tls"
            or POSIX::_exit(127);
    }

    $until->();
    waitpid $pid, 0;
    my ($code, $text) = ($?, read_file($out));

    return ($text, read_file("$out.err"), $code);
}

for my $version ('1.1', '1.0') {
    my ($text, $err) = s_client($version, sub {
        middle();
        sleep 0.3;
        terminate();
    });

    like($text, qr{^HTTP/1.1 200}, "TLS, HTTP/$version: the status is 200");
    unlike($text, qr/\]\s*\z/, "TLS, HTTP/$version: no closing bracket");
    unlike($text, qr/\r\n0\r\n\r\n\z/, "TLS, HTTP/$version: no last chunk");
    like($err, qr/unexpected eof|errno=104|Connection reset|errno=0/i,
         "TLS, HTTP/$version: no close_notify");
}

# a TLS client that leaves is noticed
{
    my $left = open my $in, '|-', "exec openssl s_client -quiet -connect "
        . "127.0.0.1:$tls > /dev/null 2>&1" or die $!;
    $in->autoflush(1);
    print $in "GET $uri HTTP/1.1\r\nHost: localhost\r\n$bearer\r\n\r\n";
    middle();
    kill 'KILL', $left;
    close $in;
    ok(wait_until { !$pg->sessions(q{wait_event = 'PgSleep'}) } 3,
       'TLS: a client that leaves is noticed');
}

last_user(903);
my ($text, $err) = s_client('1.1', sub { });
like($text, qr/\]\r\n0\r\n\r\n\z/, 'TLS: complete without a failure');
unlike($err, qr/unexpected eof|errno/i, 'TLS: with close_notify');
last_user(900);

my $pid = fork // die;
if ($pid == 0) {
    my ($status) = run_cmd('curl', '-sS', '-k', '--max-time', 20, '-o',
        '/dev/null', '-H', $bearer, "https://127.0.0.1:$tls2$uri");
    POSIX::_exit($status >> 8);
}

middle();
sleep 0.3;
terminate();
waitpid $pid, 0;
is($? >> 8, 92, 'TLS, HTTP/2: curl reports a stream error');


# failures at random moments: a cut response never looks complete

last_user(903);
my $good = ask($uri)->rest;
ok($good->{whole}, 'the complete response');
my $md5 = $good->md5;
my ($whole, $cut, $wrong) = (0, 0, 0);

for my $i (1 .. 40) {
    my $in = $i % 3 ? ask($uri, version => $i % 3 == 1 ? '1.1' : '1.0')
                    : ask2($uri);

    $in->take(rand 8_000_000);
    terminate();
    $in->rest(seconds => 10);

    if ($in->{status} && $in->{status} != 200) {
        # the query and its retry failed before the first byte
        $wrong++ if $in->{status} != 503;

    } elsif ($in->{whole}) {
        $whole++;
        $wrong++ if $in->md5 ne $md5;

    } else {
        $cut++;
        $wrong++ if $in->{tail} =~ /\]\s*\z/;
    }
}

is($wrong, 0, "at random: $whole complete, $cut cut");
ok(ask($small)->rest->{whole}, 'requests are served');
ok(idle($pg), 'no connection is busy');

$nginx->stop;
done_testing();
