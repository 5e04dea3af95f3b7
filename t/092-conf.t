# Every configuration of conf/ as it is, but for its paths, addresses and
# ports, before real servers: it starts, serves, and does what its comments
# say.

use strict;
use warnings;

use File::Basename qw( dirname );
use File::Spec;
use IO::Select;
use IO::Socket::INET;
use JSON::XS qw( decode_json );
use POSIX ();
use Test::More;
use Time::HiRes qw( sleep time );

use lib File::Spec->rel2abs(dirname(__FILE__) . '/lib');
use Lunary::Client;
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::PgBouncer;
use Lunary::Test;
use Lunary::System qw( free_port project_dir read_file run_cmd write_file );

my $pg = pg();
my $uri = related_uri(101);
my @bearer = (Authorization => 'Bearer ' . key('alpha'));
my $jwt = 'Bearer eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOiJ1MSJ9.c2lnbmF0dXJl';


# a file of conf/ as an nginx of ours; %with: what to put in place of what

sub nginx {
    my ($name, %with) = @_;

    my $nginx = Lunary::Nginx->new(allow => delete $with{allow});
    my $dir = $nginx->{dir};
    my $conf = read_file(project_dir() . "/conf/$name");
    my $status = free_port();
    my $http = $nginx->{port};

    if ($with{https}) {
        $with{qr/listen( +)443/} = "listen 127.0.0.1:$http";
        $http = delete $with{https};
    }

    my $module = join '', map { "load_module $_;\n" } $nginx->modules;
    my $user = $> == 0 ? 'user root;' : '';

    $conf =~ s/^load_module .*$/$module/m or die "$name loads nothing";
    $conf =~ s/^user .*$/$user/m;
    $conf =~ s/^pid .*$/pid $dir\/nginx.pid;/m;
    $conf =~ s/^error_log .*$/error_log $nginx->{log} info;/m;
    $conf =~ s{/var/log/nginx/}{$dir/logs/}g;
    $conf =~ s/listen( +)80;/listen 127.0.0.1:$http;/g;
    $conf =~ s/127\.0\.0\.1:9145/127.0.0.1:$status/g;
    $conf =~ s/^worker_processes .*$/worker_processes 1;/m;

    my $temp = join "\n", map { "${_}_temp_path $dir/${_}_temp;" }
                          qw( client_body proxy fastcgi scgi uwsgi lunary );
    my $envs = join "\n", map { "env $_;" }
               qw( LD_PRELOAD ASAN_OPTIONS UBSAN_OPTIONS LSAN_OPTIONS );

    $conf =~ s/^http \{$/$envs\nhttp {\n$temp/m;

    for my $what (keys %with) {
        $conf =~ s/$what/$with{$what}/g or die "$name has no $what";
    }

    $nginx->configure(conf => $conf);
    $nginx->{status_port} = $status;
    $nginx->{http_port} = $http;

    my ($code, $text) = $nginx->test;
    is $code, 0, "$name: nginx -t" or diag $text;

    return $nginx;
}


sub serves {
    my ($nginx, $name) = @_;

    my $answer = $nginx->client->get($uri, @bearer);

    is $answer->{status}, 200, "$name: 200";
    ok eval { @{ decode_json($answer->{body}) } }, "$name: runs";
    is $nginx->client->get('/elsewhere', @bearer)->{status},
        404, "$name: nothing else" if $name ne 'drop-in.conf';

    status($nginx, $name, 200);
}


sub status {
    my ($nginx, $name, $ready) = @_;

    my $client = Lunary::Client->new(port => $nginx->{status_port});

    is $client->get('/ready')->{status}, $ready, "$name: /ready is $ready";

    my $metrics = $client->get('/metrics');
    is $metrics->{status}, 200, "$name: /metrics";
    like $metrics->{body}, qr/^# TYPE \w+ counter$/m, "$name: counters";
}


my $conninfo = $pg->conninfo;
my $local = qr/host=127\.0\.0\.1 dbname=lunary user=lunary_ro/;


# drop-in.conf, before a backend that tells what it was asked

my $backend_port = free_port();
my $backend_pid = backend($backend_port);

sub backend {
    my ($port) = @_;

    my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        LocalPort => $port, Listen => 64, ReuseAddr => 1) or die "listen: $!";
    my $pid = fork() // die "fork: $!";

    return $pid if $pid;

    $SIG{TERM} = $SIG{INT} = sub { POSIX::_exit(0) };

    while (1) {
        my $socket = $listen->accept or next;
        my $text = '';

        while ($text !~ /\r\n\r\n/ && sysread $socket, $text, 65536,
               length $text) { }

        my ($length) = $text =~ /^Content-Length: (\d+)\r$/mi;

        $text =~ /\r\n\r\n/;
        my $at = $+[0];
        my $select = IO::Select->new($socket);

        while (length($text) - $at < ($length || 0)) {
            last if !$select->can_read(3);
            last if !sysread $socket, $text, 65536, length $text;
        }

        my $status = $text =~ /^OPTIONS/ ? '204 No Content' : '200 OK';
        my $body = $status =~ /^204/ ? '' : "backend\n$text";

        print $socket "HTTP/1.1 $status\r\nX-Backend: yes\r\n"
            . "Access-Control-Allow-Origin: https://app.example.com\r\n"
            . "Vary: Origin\r\n"
            . ($body eq '' ? '' : 'Content-Length: ' . length($body) . "\r\n")
            . "Connection: close\r\n\r\n$body";
        close $socket;
    }
}

END {
    if ($backend_pid) {
        local $?;
        kill TERM => $backend_pid;
        waitpid $backend_pid, 0;
    }
}

{
    my $name = 'drop-in.conf';
    my $nginx = nginx($name, $local => $conninfo,
                      qr/127\.0\.0\.1:3333/ => "127.0.0.1:$backend_port");

    $nginx->start;
    serves($nginx, $name);

    my $client = $nginx->client;
    my $answer = $client->get($uri, @bearer, Origin => 'https://a.example');

    is $answer->{header}{'access-control-allow-origin'}, 'https://a.example',
        'CORS: the origin';
    is $answer->{header}{'access-control-allow-credentials'}, 'true',
        'CORS: credentials';
    like $answer->{header}{vary}, qr/Origin/, 'CORS: Vary';
    ok !$answer->{header}{'x-backend'}, 'from the module';

    $answer = $client->get($uri, @bearer);
    ok !exists $answer->{header}{"access-control-allow-$_"},
        "no Origin: no access-control-allow-$_" for qw( origin credentials );

    $answer = $client->get(related_uri(999999), @bearer,
                           Origin => 'https://a.example');
    is $answer->{status}, 404, 'a 404 is a 404';
    ok !$answer->{header}{'x-backend'}, 'and does not fall through';
    is $answer->{header}{'access-control-allow-origin'}, 'https://a.example',
        'the page may see it';

    # a session of the dashboard

    $answer = $client->get("$uri?projectId=1&a=%2F", Authorization => $jwt,
                           Origin => 'https://a.example', 'X-Any' => 'thing');
    is $answer->{status}, 200, 'a JWT: the backend answers';
    like $answer->{body}, qr/^backend\nGET \Q$uri\E\?projectId=1&a=%2F HTTP/,
        'it is asked with the request as it came';
    like $answer->{body}, qr/^Authorization: \Q$jwt\E\r$/mi,
        'with its Authorization';
    like $answer->{body}, qr/^X-Any: thing\r$/mi, 'and its other headers';
    like $answer->{body}, qr/^X-Forwarded-For: 127\.0\.0\.1\r$/mi,
        'and where it came from';
    ok !exists $answer->{header}{'www-authenticate'},
        'no header of the refusal is left';
    is $answer->{header}{'access-control-allow-origin'},
        'https://app.example.com', 'the CORS headers are the backend\'s';
    unlike $answer->{header}{'cache-control'} // '', qr/no-store/,
        'and no Cache-Control of the module';

    $answer = $client->get($uri);
    like $answer->{body}, qr/^backend\n/, 'no key: the backend answers';

    $answer = $client->exchange('HEAD', $uri, Authorization => $jwt);
    is $answer->{status}, 200, 'HEAD with a JWT';
    ok $answer->{header}{'x-backend'}, 'by the backend';

    # bodies come along

    for my $size (17, 3000, 300_000) {
        my $body = join '', map { chr 97 + $_ % 26 } 1 .. $size;

        $answer = $client->exchange('POST', $uri, Authorization => $jwt,
                                    body => $body);
        is $answer->{status}, 200, "POST of $size bytes: the backend answers";
        like $answer->{body}, qr/^backend\nPOST \Q$uri\E HTTP/,
            'with the method';
        ok index($answer->{body}, $body) > 0, 'and the body';

        $answer = $client->exchange('GET', $uri, Authorization => $jwt,
                                    body => $body);
        ok index($answer->{body}, $body) > 0, "GET with $size bytes, too";
    }

    # the preflight

    $answer = $client->exchange('OPTIONS', $uri,
        Origin => 'https://a.example',
        'Access-Control-Request-Method' => 'GET',
        'Access-Control-Request-Headers' => 'authorization');
    is $answer->{status}, 204, 'the preflight is the backend\'s';
    ok $answer->{header}{'x-backend'}, 'indeed';
    ok !exists $answer->{header}{allow}, 'no Allow of the refusal is left';

    like $client->get('/v1/users?x=%20y')->{body},
        qr{^backend\nGET /v1/users\?x=%20y HTTP}, 'everything else';

    like $client->get(related_uri(101) . '/', @bearer)->{body},
        qr/^backend\n/, 'also what only looks like the endpoint';

    $nginx->stop;

    my $log = read_file("$nginx->{dir}/logs/lunary.log");

    like $log, qr{"GET \Q$uri\E HTTP/1\.1" 200 \d+ outcome=ok project=\S{36} runs=\d+ queue=\S+ connect=\S+ first_row=\d+\.\d+ query=\d+\.\d+ total=\d+\.\d+ sqlstate=- key_cache=(?:HIT|MISS)$}m,
        'the log says where the time went';
    like $log, qr/ key_cache=HIT$/m, 'and that the key was known';
    like $log, qr{"GET \Q$uri\E\?projectId=1&a=%2F HTTP/1\.1" 200 \d+ outcome=denied },
        'what the backend answered is there too, with its reason';
    like $log, qr/"POST \Q$uri\E HTTP.* outcome=method /,
        'whatever the reason';
    unlike $log, qr{ /v1/users}, 'and nothing else';
    unlike read_file("$nginx->{dir}/logs/access.log"), qr{/related HTTP},
        'each in one log';
}


# replicas.conf: a standby and a primary

{
    my $name = 'replicas.conf';
    my $primary = Lunary::Pg->new;
    my $standby = $primary->standby;

    my $nginx = nginx($name,
        qr/host=10\.0\.0\.12,10\.0\.0\.13,10\.0\.0\.11 port=5432/ =>
            "host=$standby->{socket_dir},127.0.0.1,$primary->{socket_dir} "
            . "port=$standby->{port}," . free_port() . ",$primary->{port}");

    $nginx->start;
    serves($nginx, $name);

    cmp_ok scalar $standby->sessions, '>', 0, 'the standby is asked';
    is scalar $primary->sessions, 0, 'the primary is not';

    $standby->stop('immediate');
    is $nginx->client->get($uri, @bearer)->{status}, 200,
        'without the standby: the primary';
    cmp_ok scalar $primary->sessions, '>', 0, 'indeed';

    $nginx->stop;
}


# pgbouncer.conf

{
    my $name = 'pgbouncer.conf';
    my $bouncer = Lunary::PgBouncer->new($pg, mode => 'transaction');
    my $nginx = nginx($name,
        qr/host=127\.0\.0\.1 port=6432 dbname=lunary user=lunary_ro/ =>
            $bouncer->conninfo);

    $nginx->start;
    serves($nginx, $name);

    my @answers = map { $nginx->client->get($uri, @bearer)->{status} } 1 .. 40;
    is_deeply \@answers, [(200) x 40], 'and again';

    $nginx->stop;
    $bouncer->stop;
}


# tls.conf: HTTPS, and a verified connection with a client certificate

{
    my $name = 'tls.conf';
    my $tls = Lunary::Pg->new(ssl => 1, hba => "local all all trust\n"
        . "hostssl lunary lunary_ro 127.0.0.1/32 scram-sha-256 "
        . "clientcert=verify-full\n");

    write_file("$tls->{tls}/pgpass", "*:*:*:lunary_ro:lunary\n");
    chmod 0600, "$tls->{tls}/pgpass";

    my $plain = free_port();
    my $nginx = nginx($name, https => $plain,
        qr/host=db\.example\.com hostaddr=10\.0\.0\.11/ =>
            "host=localhost hostaddr=127.0.0.1 port=$tls->{port}",
        qr{/etc/nginx/lunary/pgpass} => "$tls->{tls}/pgpass",
        qr{/etc/nginx/lunary/ca\.pem} => "$tls->{tls}/ca.crt",
        qr{/etc/nginx/lunary/client\.pem} => "$tls->{tls}/lunary_ro.crt",
        qr{/etc/nginx/lunary/client\.key} => "$tls->{tls}/lunary_ro.key",
        qr{/etc/nginx/lunary/server\.pem} => "$tls->{tls}/server.crt",
        qr{/etc/nginx/lunary/server\.key} => "$tls->{tls}/server.key");

    $nginx->start;

    for my $version ('--http1.1', '--http2') {
        my ($status, $text) = run_cmd('curl', '-isS', $version, '--cacert',
            "$tls->{tls}/ca.crt", '-H', "$bearer[0]: $bearer[1]",
            "https://localhost:$nginx->{port}$uri");

        like $text, qr{^HTTP/\S+ 200.*\r\n\r\n\[\{"id"}s, "HTTPS $version"
            or diag $text;
    }

    is $tls->value('select count(*) from pg_stat_ssl join pg_stat_activity '
        . "using (pid) where usename = 'lunary_ro' and ssl "
        . "and client_dn = '/CN=lunary_ro'"), $tls->value('select count(*) '
        . "from pg_stat_activity where usename = 'lunary_ro'"),
        'the database saw TLS and the certificate';

    is(Lunary::Client->new(port => $plain)->get($uri, @bearer)->{status}, 403,
       'nothing over plain HTTP');

    status($nginx, $name, 200);
    $nginx->stop;
}


# limits.conf

{
    my $name = 'limits.conf';
    my $nginx = nginx($name, $local => $conninfo,
        qr/rate=50r\/s/ => 'rate=1r/m', qr/rate=100r\/s/ => 'rate=2r/m',
        qr/burst=100 nodelay/ => 'burst=2 nodelay',
        qr/burst=200 nodelay/ => 'burst=9 nodelay');

    $nginx->start;

    my @get = map { $nginx->client->get($uri, @bearer) } 1 .. 4;

    is_deeply [map { $_->{status} } @get], [200, 200, 200, 429],
        'the fourth of a key is too many';
    is $get[3]{body}, '{"message": "Too many requests"}', 'and is told so';
    is $get[3]{header}{'content-type'}, 'application/json; charset=utf-8',
        'in JSON';
    is $get[3]{header}{'retry-after'}, 1, 'and when to come again';

    is $nginx->client->get($uri, 'X-API-Key' => key('alpha'))->{status}, 429,
        'the same key in the other header';
    is $nginx->client->get(related_uri(101),
        Authorization => 'Bearer ' . key('beta'))->{status}, 404,
        'another key is not held up';

    my @none = map { $nginx->client->get($uri)->{status} } 1 .. 12;
    is $none[0], 401, 'no key';
    is $none[-1], 429, 'an address is held up too';

    status($nginx, $name, 200);
    $nginx->stop;
}

done_testing;
