# Every configuration of conf/ with real servers; only paths, addresses and
# ports are replaced: it starts, serves, and does what its comments say.  The
# test of drop-in.conf is another file.
#
# Packages: curl

use strict;
use warnings;

use File::Basename qw( dirname );
use File::Spec;
use Test::More;

use lib File::Spec->rel2abs(dirname(__FILE__) . '/lib');
use Lunary::Client;
use Lunary::ConfFile qw( conf_nginx serves status );
use Lunary::Pg;
use Lunary::PgBouncer;
use Lunary::Test;
use Lunary::System qw( free_port run_cmd tmpdir write_file );

my $pg = pg();
my $uri = related_uri(101);
my @bearer = (Authorization => 'Bearer ' . key('alpha'));


my $conninfo = $pg->conninfo;
my $local = qr/host=127\.0\.0\.1 dbname=lunary user=lunary_ro/;


# replicas.conf: a standby and a primary

{
    my $name = 'replicas.conf';
    my $primary = Lunary::Pg->new;
    my $standby = $primary->standby;

    my $nginx = conf_nginx($name,
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
    cmp_ok scalar $primary->sessions, '>', 0, 'the primary has sessions';

    $nginx->stop;
}


# pgbouncer.conf

{
    my $name = 'pgbouncer.conf';
    my $bouncer = Lunary::PgBouncer->new($pg, mode => 'transaction');
    my $nginx = conf_nginx($name,
        qr/host=127\.0\.0\.1 port=6432 dbname=lunary user=lunary_ro/ =>
            $bouncer->conninfo);

    $nginx->start;
    serves($nginx, $name);

    my @answers = map { $nginx->client->get($uri, @bearer)->{status} } 1 .. 40;
    is_deeply \@answers, [(200) x 40], '40 requests';

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
    my $nginx = conf_nginx($name, https => $plain,
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
    my $tenants = tmpdir('tenants');
    my $second = 'cccccccc-abcd-4fff-8000-00000000abcd';

    # two keys of one project
    write_file("$tenants/tenants.map", join '',
               map { "$_ " . project('alpha') . ";\n" } key('alpha'), $second);

    my $nginx = conf_nginx($name, $local => $conninfo,
        qr{/etc/nginx/lunary/tenants} => "$tenants/tenants",
        qr/rate=50r\/s/ => 'rate=1r/m', qr/rate=100r\/s/ => 'rate=2r/m',
        qr/burst=100 nodelay/ => 'burst=2 nodelay',
        qr/burst=200 nodelay/ => 'burst=9 nodelay');

    $nginx->start;

    my @get = map { $nginx->client->get($uri, @bearer) } 1 .. 4;

    is_deeply [map { $_->{status} } @get], [200, 200, 200, 429],
        'the fourth of a project is too many';
    is $get[3]{body}, '{"message": "Too many requests"}', 'message of a 429';
    is $get[3]{header}{'content-type'}, 'application/json; charset=utf-8',
        'in JSON';
    is $get[3]{header}{'retry-after'}, 1, 'Retry-After';

    is $nginx->client->get($uri, 'X-API-Key' => key('alpha'))->{status}, 429,
        'the same key in the other header';
    is $nginx->client->get($uri, Authorization => "Bearer $second")->{status},
        429, 'another key of the project is limited, too';
    is $nginx->client->get($uri,
        Authorization => 'Bearer ' . uc $second)->{status}, 429,
        'a key in capitals is limited, too';
    is $nginx->client->get($uri . '?projectId=' . project('alpha'),
        Authorization => 'Bearer ' . key('beta'))->{status}, 404,
        'a key of another project is not held up, whatever it claims';

    # of sessions only that they are one counts here
    my @token = map { 'Bearer e30.e30.' . $_ x 43 } qw( A B );

    is_deeply [map { $nginx->client->get($uri, Authorization => $_)->{status} }
               ($token[0]) x 4, $token[1]], [401, 401, 401, 429, 401],
        'each session counts for itself';

    my @none = map { $nginx->client->get($uri)->{status} } 1 .. 12;
    is $none[0], 401, 'no key';
    is $none[-1], 429, 'an address is held up too';

    status($nginx, $name, 200);
    $nginx->stop;
}

done_testing;
