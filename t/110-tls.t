# TLS to PostgreSQL: verify-full with a private CA, client certificates, SCRAM
# with channel binding, large responses; none of them can be bypassed.

use strict;
use warnings;

use lib 't/lib';
use IO::Socket::INET;
use Lunary::Load qw( expected soon trees whole );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test qw( key related_uri );
use Lunary::System qw( free_port kill_wait patience run_cmd );
use POSIX ();
use Test::More;
use Time::HiRes qw( sleep time );

my $pg = Lunary::Pg->new(ssl => 1, hba => <<'EOF_HBA');
local all postgres trust
hostssl all lunary_cert 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 scram-sha-256
EOF_HBA

my $plain = Lunary::Pg->new;

$pg->do(q{set password_encryption = 'scram-sha-256'});
$pg->do(q{alter role lunary_ro password 'a secret'});
$pg->do(q{create role lunary_cert login in role lunary_ro inherit});

my @large = trees($pg, count => 1, runs => 400, bytes => 4_000_000);
my @small = trees($pg, count => 4, runs => 10, bytes => 20_000,
                  first => 2_000_000);

# the client certificate has another name than the helper's
my $tls = $pg->{tls};
my $other = Lunary::Pg->certificates;

Lunary::Pg::check('sh', '-c', "cd $tls && openssl req -new -newkey rsa:2048"
    . " -nodes -subj /CN=lunary_cert -keyout cert.key -out cert.csr"
    . " && openssl x509 -req -in cert.csr -days 30 -CA ca.crt -CAkey ca.key"
    . " -CAcreateserial -out cert.crt && chmod 600 cert.key");

# revocation lists, an empty one and one with the server's certificate, in
# directories as OpenSSL expects; the user has no ~/.postgresql/root.crl
Lunary::System::write_file("$tls/ca.conf", <<"EOF_CA");
[ca]
default_ca = test
[test]
database = $tls/index
certificate = $tls/ca.crt
private_key = $tls/ca.key
default_md = sha256
default_crl_days = 30
EOF_CA

my $ca = 'openssl ca -config ca.conf';

Lunary::Pg::check('sh', '-e', '-c', "cd $tls; touch index; mkdir none revoked;"
    . " $ca -gencrl -out none/ca.crl; openssl rehash none;"
    . " $ca -revoke server.crt;"
    . " $ca -gencrl -out revoked/ca.crl; openssl rehash revoked");

sub conninfo {
    my (%arg) = @_;

    my $server = delete $arg{server} // $pg;

    %arg = (host => 'localhost', hostaddr => '127.0.0.1',
            sslmode => 'verify-full', sslrootcert => "$tls/ca.crt",
            password => "'a secret'", application_name => 'tls', %arg);

    return '"' . $server->conninfo(%arg) . '"';
}

my %good = (
    full => conninfo(),
    binding => conninfo(channel_binding => 'require'),
    cert => conninfo(user => 'lunary_cert', password => undef,
                     sslcert => "$tls/cert.crt", sslkey => "$tls/cert.key"),
    tls12 => conninfo(ssl_max_protocol_version => 'TLSv1.2'),
    second => conninfo(hostaddr => '127.0.0.1,127.0.0.1',
                       host => 'wrong.name,localhost',
                       port => "$pg->{port},$pg->{port}"),
    crldir => conninfo(sslcrldir => "$tls/none"),
);

my %bad = (
    ca => conninfo(sslrootcert => "$other/ca.crt"),
    name => conninfo(host => 'wrong.name'),
    certificate => conninfo(user => 'lunary_cert', password => undef,
        sslcert => "$other/lunary_ro.crt", sslkey => "$other/lunary_ro.key"),
    none => conninfo(user => 'lunary_cert', password => undef),
    revoked => conninfo(sslcrl => "$tls/revoked/ca.crl"),
    revoked_dir => conninfo(sslcrldir => "$tls/revoked"),
    password => conninfo(password => 'wrong'),
    # the server would accept these without TLS
    plain => conninfo(server => $plain),
    require => conninfo(server => $plain, sslmode => 'require',
                        sslrootcert => undef),
    unbound => conninfo(server => $plain, sslmode => 'prefer',
                        channel_binding => 'require',
                        application_name => 'unbound'),
);

my $waits = 5 * patience() . 's';
my $locations = join '', map { <<"EOF_CONFIG" } sort keys %good, keys %bad;
        location ~ "^/$_/v1/runs/(?<run_id>[^/]+)/related\$" {
            lunary_database ${\ ($good{$_} // $bad{$_}) };
            lunary_queue 100 timeout=${\ ($good{$_} ? $waits : '700ms') };
            lunary_related_runs \$run_id;
        }
EOF_CONFIG

# clients over TLS, in the same workers
my $port = free_port();

my $nginx = Lunary::Nginx->new(
    server => "listen 127.0.0.1:$port ssl;
        ssl_certificate $tls/server.crt;
        ssl_certificate_key $tls/server.key;",
    http => 'lunary_buffers 64k max=256k;
        lunary_max_temp_file_size 0;',
    config => $locations . <<"EOF_CONFIG")->start;
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related\$" {
            lunary_database $good{full};
            lunary_queue 100 timeout=$waits;
            lunary_related_runs \$run_id;
        }
EOF_CONFIG

my $bearer = 'Bearer ' . key('alpha');
my $answers = expected($nginx->{port}, $pg, @small, @large);

sub get {
    my ($name, $n, %header) = @_;

    return $nginx->client(timeout => 30)->get("/$name" . related_uri($n),
        Authorization => $bearer, Connection => 'close', %header);
}

for my $name (sort keys %good) {
    my $answer = get($name, $small[0]);

    is($answer->{status}, 200, "$name: status");
    ok($answer->{body} eq $answers->{related_uri($small[0])}, "$name: body");
}

is($pg->value(q{select count(*) from pg_stat_activity a
                left join pg_stat_ssl s using (pid)
                where application_name = 'tls' and s.ssl is not true}), 0,
   'no session without TLS');
ok($pg->value(q{select count(*) from pg_stat_ssl s
                where client_dn like '%lunary_cert%'}),
   'a session by the client\'s certificate');
ok($pg->value(q{select count(*) from pg_stat_ssl where version = 'TLSv1.2'}),
   'a session of TLS 1.2');


# a refused connection is never tried without TLS

for my $name (sort keys %bad) {
    my $answer = get($name, $small[0]);

    is($answer->{status}, 503, "$name: status");
    is($answer->{body}, '{"message": "Service unavailable"}', "$name: body");
    cmp_ok($answer->{time}, '<', 3 * patience(), "$name: in time");
}

is($plain->sessions, 0, 'no session in plain text');
unlike($plain->log_since(0), qr/connection authorized: .* application_name=tls/,
       'no session was ever in plain text');

# these failures do not affect clients, although OpenSSL has one error queue

for my $name (sort keys %bad) {
    get($name, $small[0]);

    my (undef, $text) = run_cmd('sh', '-c',
        "(printf 'GET /none HTTP/1.0\\r\\n\\r\\n'; sleep 0.2)"
        . " | openssl s_client -quiet -connect 127.0.0.1:$port 2>&1");

    like($text, qr{HTTP/1.1 404}, "$name: then a client over TLS");
}

my $log = $nginx->log_since(0);
unlike($log, qr/stale global SSL error/, 'no error is left for clients');
like($log, qr/certificate verify failed/, 'the log says why: the CA');
like($log, qr/does not match host name/, 'the log says why: the name');
unlike($log, qr/a secret|'wrong'/, 'the log has no password');


# large responses, also over TLS 1.2, and to a slow client

for my $name (qw( full tls12 )) {
    for my $n (@large) {
        my $client = $nginx->client(rcvbuf => 65536, timeout => 40)->connect;
        my ($text, $got) = ('', 0);

        $client->ask("/$name" . related_uri($n), Authorization => $bearer,
            version => '1.0');

        while (1) {
            my $bytes = $client->read_some(20, 1 << 17);
            last if !$bytes || $bytes < 0;

            $text .= $client->{buffer};
            $client->{buffer} = '';
            sleep 0.002 if $name eq 'full';
        }

        my ($body) = $text =~ /\r\n\r\n(.*)/s;
        ok($body eq $answers->{related_uri($n)},
           "$name: a large response, " . length $body);
    }
}


# under load, while all sessions are terminated and new handshakes follow

my $load = Lunary::Load->start(
    port => $nginx->{port}, rate => 50, seconds => 3,
    answers => { map { $_ => $answers->{$_} }
                 map { related_uri($_) } @small },
    header => { Authorization => $bearer });
$load->at(1);
$pg->value(q{select count(pg_terminate_backend(pid)) from pg_stat_activity
             where application_name = 'tls'});
my $result = $load->finish;
is(join("\n", @{ $result->{wrong} }), '', 'a load over TLS');
note(whole($result));


# a handshake that hangs blocks no other request

my $hole = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 16)
           or die $!;
my $pid = fork // die $!;

if ($pid == 0) {
    # accepts the request for TLS, and sends no more
    my @kept;
    while (my $socket = $hole->accept) {
        sysread $socket, my $request, 8;
        syswrite $socket, 'S';
        push @kept, $socket;
    }
    POSIX::_exit(0);
}

$nginx->stop;
$nginx->configure(config => <<"EOF_CONFIG");
        location = /half {
            lunary_database ${\ conninfo(port => $hole->sockport) };
            lunary_connect_timeout 500ms;
            lunary_queue 100 timeout=1s;
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
EOF_CONFIG
$nginx->start;

my $client = $nginx->client->connect;
my $start = time;
$client->ask('/half', Authorization => $bearer);

my $slowest = 0;
for (1 .. 20) {
    my $begun = time;
    $nginx->client->get('/ok', Connection => 'close');
    $slowest = time - $begun if time - $begun > $slowest;
    sleep 0.02;
}

cmp_ok($slowest, '<', 0.2 * patience(),
       'half a handshake: other requests are served at once');
is($client->answer->{status}, 503, 'half a handshake: 503');
cmp_ok(time - $start, '<', 3 * patience(), 'half a handshake: in time');
kill_wait('KILL', $pid);

$nginx->stop;
soon { !$pg->sessions } 5, 'no session is left';

done_testing();
