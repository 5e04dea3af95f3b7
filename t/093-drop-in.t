# conf/drop-in.conf with a replacement of Lunary's backend.  It keeps
# connections open, returns the request in the response, and records when nginx
# closes a connection.

use strict;
use warnings;

use File::Basename qw( dirname );
use File::Spec;
use IO::Select;
use IO::Socket::INET;
use JSON::XS qw( decode_json );
use POSIX ();
use Test::More;
use Time::HiRes qw( time );

use lib File::Spec->rel2abs(dirname(__FILE__) . '/lib');
use Lunary::ConfFile qw( conf_nginx serves );
use Lunary::Session qw( token );
use Lunary::Test;
use Lunary::System qw( free_port patience read_file tmpdir wait_until
                     write_file );

my $name = 'drop-in.conf';
my $pg = pg();
my $uri = related_uri(101);
my @bearer = (Authorization => 'Bearer ' . key('alpha'));
my @page = (Origin => 'https://a.example');
my $jwt = 'Bearer eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOiJ1MSJ9.c2lnbmF0dXJl';

my $secret = 'a secret of 32 bytes for the test';
my $secret_file = tmpdir('secret') . '/jwt_secret';

write_file($secret_file, "$secret\n");
chmod 0600, $secret_file or die "$secret_file: $!";

my $backend_port = free_port();
my $backend_log = tmpdir('backend') . '/log';
my $backend_pid = backend();


# a process for each connection, all in one group

sub backend {
    my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        LocalPort => $backend_port, Listen => 64, ReuseAddr => 1)
        or die "listen: $!";
    my $pid = fork() // die "fork: $!";

    if ($pid) {
        POSIX::setpgid($pid, $pid);
        return $pid;
    }

    POSIX::setpgid(0, 0);
    $SIG{TERM} = $SIG{INT} = sub { POSIX::_exit(0) };
    $SIG{CHLD} = 'IGNORE';

    while (1) {
        my $socket = $listen->accept or next;
        my $child = fork() // POSIX::_exit(1);

        if (!$child) {
            close $listen;
            talk($socket);
            POSIX::_exit(0);
        }

        close $socket;
    }
}


sub note_down {
    my ($text) = @_;

    open my $out, '>>', $backend_log or return;
    $out->autoflush;
    print $out "$text\n";
}


sub talk {
    my ($socket) = @_;

    my $buffer = '';
    my $idle = time;

    while (1) {
        while ($buffer !~ /\r\n\r\n/) {
            next if sysread $socket, $buffer, 65536, length $buffer;

            note_down(sprintf 'closed after %.1f', time - $idle);
            return;
        }

        my ($length) = $buffer =~ /^Content-Length: (\d+)\r$/mi;

        $buffer =~ /\r\n\r\n/;
        my $end = $+[0] + ($length || 0);

        while (length $buffer < $end) {
            return if !sysread $socket, $buffer, 65536, length $buffer;
        }

        respond($socket, substr $buffer, 0, $end, '');
        $idle = time;
    }
}


sub respond {
    my ($socket, $request) = @_;

    note_down((split /\r\n/, $request)[0]);

    if ($request =~ m{^\S+ /slow}) {
        IO::Select->new($socket)->can_read;
        return;
    }

    my $preflight = $request =~ /^OPTIONS/;
    my $status = $preflight ? '204 No Content' : '200 OK';
    my $body = $preflight ? '' : "backend\n$request";

    print $socket "HTTP/1.1 $status\r\nX-Backend: yes\r\n"
        . "Access-Control-Allow-Origin: https://app.example.com\r\n"
        . "Vary: Origin\r\n"
        . ($preflight ? '' : 'Content-Length: ' . length($body) . "\r\n")
        . "\r\n" . ($request =~ /^HEAD/ ? '' : $body);
    $socket->flush;
}


sub stop_backend {
    my $pid = $backend_pid or return;

    undef $backend_pid;
    kill TERM => -$pid;
    waitpid $pid, 0;
}

END {
    local $?;
    stop_backend();
}


sub from_module {
    my ($answer, $what) = @_;

    ok !$answer->{header}{'x-backend'}, "$what: from the module";
    is $answer->{header}{'access-control-allow-origin'}, '*',
        "$what: any origin may read it";
    ok !exists $answer->{header}{'access-control-allow-credentials'},
        "$what: without credentials";
}


sub drop_in {
    return conf_nginx($name,
        qr/host=127\.0\.0\.1 dbname=lunary user=lunary_ro/ => $pg->conninfo,
        qr{/etc/nginx/lunary/jwt_secret} => $secret_file,
        qr/127\.0\.0\.1:3333/ => "127.0.0.1:$backend_port", @_);
}


my $nginx = drop_in(qr/proxy_read_timeout( +)300s/ =>
                    'proxy_read_timeout 1s');

$nginx->start;
serves($nginx, $name);

my $client = $nginx->client;
my $answer;


# a page of another origin

for my $origin ([], \@page) {
    $answer = $client->get($uri, @bearer, @$origin);
    is $answer->{status}, 200, 'a key: 200';
    from_module($answer, '200');
    like $answer->{header}{'access-control-expose-headers'}, qr/\bETag\b/,
        'a page may see the validator';
}

$answer = $client->get(related_uri(999999), @bearer, @page);
is $answer->{status}, 404, 'a 404 is a 404';
from_module($answer, '404');


# its preflight

$answer = $client->exchange('OPTIONS', "$uri?projectId=1", @page,
    'Access-Control-Request-Method' => 'GET',
    'Access-Control-Request-Headers' => 'authorization');

is $answer->{status}, 204, 'a preflight: 204';
from_module($answer, 'a preflight');
like $answer->{header}{'access-control-allow-methods'}, qr/\bGET\b/,
    'for GET';
like $answer->{header}{'access-control-allow-headers'}, qr/\b$_\b/i,
    "with $_" for qw( Authorization X-API-Key Content-Type );
is $answer->{header}{'access-control-max-age'}, 7200, 'for two hours';
ok !exists $answer->{header}{allow}, 'no header of a refusal';
unlike read_file($backend_log), qr/^OPTIONS/m, 'the backend is not asked';

is $client->get($uri, @bearer)->{status}, 200, 'the connection is kept';

$answer = $client->exchange('OPTIONS', '/v1/users', @page,
    'Access-Control-Request-Method' => 'GET');
ok $answer->{header}{'x-backend'}, 'other preflights are the backend\'s';


# the location ignores case and a slash at the end, like the backend's router

for my $like (uc $uri, "$uri/", ucfirst($uri) =~ s/related/Related\//r) {
    $answer = $client->get($like, @bearer);
    is $answer->{status}, 200, $like;
    from_module($answer, $like);
}

for my $other ("$uri//x", "$uri/x", $uri =~ s/related/relatedx/r) {
    ok $client->get($other, @bearer)->{header}{'x-backend'},
        "$other: the backend's";
}


# fields without a value

my $runs = decode_json($client->get(related_uri(101), @bearer)->{body});
my @lacking = grep { !exists $_->{promptTokens}
                     || !exists $_->{completionTokens}
                     || !exists $_->{parentRunId} } @$runs;

is scalar @lacking, 0, 'every run has its numbers and its parent';
ok +(grep { !defined $_->{promptTokens} } @$runs), 'null is among them';


# a session of the dashboard

my $in_alpha = '?projectId=' . project('alpha');
my @session = (Authorization => 'Bearer ' . token(secret => $secret), @page);

$answer = $client->get("$uri$in_alpha", @session);
is $answer->{status}, 200, 'a session: 200';
from_module($answer, 'a session');
is $answer->{body}, $client->get($uri, @bearer)->{body},
    'the same runs as with a key';

$answer = $client->get(related_uri(999999) . $in_alpha, @session);
is $answer->{body}, '[]', 'a run that is not there: no runs';
from_module($answer, 'no runs');

ok $client->get("$uri?projectId=" . project('beta'),
                @session)->{header}{'x-backend'},
    'a project of others: the backend decides';
ok $client->get("$uri$in_alpha", Authorization => 'Bearer '
                . token(secret => 'x' x 32))->{header}{'x-backend'},
    'another secret: the backend decides';


# a conditional request

for my $as ($pg->has_validators ? (\@bearer, \@session) : ()) {
    for my $encoding ([], ['Accept-Encoding' => 'gzip']) {
        my @ask = ("$uri$in_alpha", @$as, @page, @$encoding);
        my $etag = $client->get(@ask)->{header}{etag} // '';

        like $etag, qr/^W\/"/, 'a validator';
        $answer = $client->get(@ask, 'If-None-Match' => $etag);
        is $answer->{status}, 304, 'a response that still holds: 304';
        from_module($answer, '304');
        is $answer->{header}{etag}, $etag, 'with its validator';
    }
}


# the run "undefined"

$answer = $client->get(related_uri('undefined') . '?projectId=1', @page,
                       Authorization => $jwt);
is $answer->{status}, 200, 'the run "undefined": 200';
is $answer->{body}, '[]', 'undefined: no runs';
like $answer->{header}{'content-type'}, qr{^application/json}, 'in JSON';
from_module($answer, 'undefined');

is $client->get(related_uri('undefinedx'), @bearer)->{status}, 404,
    'only that';


# compression

$answer = $client->get($uri, @bearer, 'Accept-Encoding' => 'gzip');
is $answer->{header}{'content-encoding'}, 'gzip', 'compressed';
like $answer->{header}{vary}, qr/Accept-Encoding/, 'Vary says so';
is substr($answer->{body}, 0, 2), "\x1f\x8b", 'the body is compressed';

$answer = $client->get($uri, @bearer, 'Accept-Encoding' => 'gzip',
                       Via => '1.1 proxy');
is $answer->{header}{'content-encoding'}, 'gzip', 'through a proxy, too';

ok !exists $client->get($uri, @bearer)->{header}{'content-encoding'},
    'not compressed without Accept-Encoding';


# requests that the module does not accept

$answer = $client->get("$uri?projectId=1&a=%2F", Authorization => $jwt,
                       @page, 'X-Any' => 'thing');
is $answer->{status}, 200, 'a session it cannot check: the backend responds';
like $answer->{body}, qr/^backend\nGET \Q$uri\E\?projectId=1&a=%2F HTTP/,
    'the backend gets the request unchanged';
like $answer->{body}, qr/^Authorization: \Q$jwt\E\r$/mi,
    'the backend gets Authorization';
like $answer->{body}, qr/^X-Any: thing\r$/mi, 'the backend gets other headers';
like $answer->{body}, qr/^X-Forwarded-For: 127\.0\.0\.1\r$/mi,
    'the backend gets the address of the client';
ok !exists $answer->{header}{'www-authenticate'},
    'no header of the 401 is left';
is $answer->{header}{'access-control-allow-origin'},
    'https://app.example.com', 'the CORS headers are the backend\'s';
unlike $answer->{header}{'cache-control'} // '', qr/no-store/,
    'no Cache-Control of the module';

like $client->get($uri)->{body}, qr/^backend\n/, 'no key: the backend';

$answer = $client->exchange('HEAD', $uri, Authorization => $jwt);
is $answer->{status}, 200, 'HEAD with a session';
ok $answer->{header}{'x-backend'}, 'by the backend';

for my $size (17, 3000, 300_000) {
    my $body = join '', map { chr 97 + $_ % 26 } 1 .. $size;

    $answer = $client->exchange('POST', $uri, Authorization => $jwt,
                                body => $body);
    is $answer->{status}, 200, "POST of $size bytes: the backend responds";
    like $answer->{body}, qr/^backend\nPOST \Q$uri\E HTTP/,
        'with the method';
    ok index($answer->{body}, $body) > 0, 'the backend gets the body';

    $answer = $client->exchange('GET', $uri, Authorization => $jwt,
                                body => $body);
    ok index($answer->{body}, $body) > 0, "GET with $size bytes, too";
}

like $client->get('/v1/users?x=%20y')->{body},
    qr{^backend\nGET /v1/users\?x=%20y HTTP}, 'everything else';


# nginx closes an idle connection to the backend before the backend does

my $closed = wait_until {
    read_file($backend_log) =~ /^closed after (\S+)$/m ? $1 : undef
} 15;

cmp_ok $closed // 99, '<', 5 * patience(),
    'an idle connection to the backend is closed in time';
cmp_ok $closed // 0, '>', 3, 'it was kept open until then';


# the backend is slow, or down

sub readable {
    my ($answer, $status, $message, $what) = @_;

    is $answer->{status}, $status, "$what: $status";
    is $answer->{body}, qq({"message": "$message"}), "$what: its body";
    is $answer->{header}{'content-type'}, 'application/json; charset=utf-8',
        "$what: JSON";
    is $answer->{header}{'access-control-allow-origin'}, '*',
        "$what: a page may read it";
}

readable($client->get('/slow', @page), 504, 'Gateway timeout', 'late');

stop_backend();

readable($client->get('/v1/users', @page), 502, 'Bad gateway', 'away');
readable($client->get($uri, @page, Authorization => $jwt), 502,
         'Bad gateway', 'away, for a session');
readable($client->exchange('POST', '/v1/users', @page, body => 'x'), 502,
         'Bad gateway', 'away, for a POST');

$answer = $client->exchange('OPTIONS', '/v1/users', @page,
    'Access-Control-Request-Method' => 'PATCH',
    'Access-Control-Request-Headers' => 'authorization,content-type');

is $answer->{status}, 204, 'the backend is down, a preflight: 204';
like $answer->{header}{'access-control-allow-methods'}, qr/\bPATCH\b/,
    'the preflight allows the method';
like $answer->{header}{'access-control-allow-headers'},
    qr/Authorization.*Content-Type/, 'the preflight allows the headers';

is $client->get($uri, @bearer)->{status}, 200,
    'the backend is down: the module still serves';

$nginx->stop;


# the log

my $log = read_file("$nginx->{dir}/logs/lunary.log");

like $log, qr{"GET \Q$uri\E HTTP/1\.1" 200 \d+ outcome=ok project=\S{36} runs=\d+ queue=\S+ connect=\S+ first_row=\d+\.\d+ query=\d+\.\d+ total=\d+\.\d+ sqlstate=- key_cache=(?:HIT|MISS) credential=key$}m,
    'the times in the log';
like $log, qr/ key_cache=HIT /, 'a key from the cache in the log';
like $log, qr{"GET \Q$uri$in_alpha\E HTTP/1\.1" 200 \d+ outcome=ok .* credential=session$}m,
    'a session in the log';
unlike $log, qr/eyJ/, 'no token in the log';
like $log, qr{"GET \Q$uri\E\?projectId=1&a=%2F HTTP/1\.1" 200 \d+ outcome=denied },
    'requests that the backend served are logged, with the reason';
like $log, qr/"POST \Q$uri\E HTTP.* outcome=method /,
    'the reason in the log: the method';
unlike $log, qr{ /v1/users}, 'no other requests in the log';
unlike read_file("$nginx->{dir}/logs/access.log"), qr{/related HTTP/1\.1" 2},
    'each in one log';


# the limit that replaces the backend's

$backend_pid = backend();

$nginx = drop_in(
    qr/^( +)# (?=map|    ["d]|\}|limit_req)/m => '',
    qr/rate=150r/ => 'rate=1r', qr/burst=150/ => 'burst=3');
$nginx->start;
$client = $nginx->client;

is_deeply [map { $client->get($uri, @bearer)->{status} } 1 .. 5],
    [200, 200, 200, 200, 429], 'a key is limited';
is $client->get($uri, @bearer)->{header}{'access-control-allow-origin'}, '*',
    'a page may see that it is';
is_deeply [map { $client->get($uri, Authorization => $jwt)->{status} }
           1 .. 5], [(200) x 5], 'a session is not';

$nginx->stop;
done_testing;
