# The verdict of one lunary_database is not used for another: the key cache
# distinguishes everything that may lead to another database.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Dns;
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::System qw( tmpdir write_file );
use Lunary::Test qw( key project );
use Test::More;

my $pg = Lunary::Pg->new(conf => { listen_addresses => "'127.0.0.2'" });
my @dns = map { Lunary::Dns->new('db.test' => ['127.0.0.2']) } 1, 2;

# in this schema a key has access to another project
$pg->do('create schema other');
$pg->do("create table other.api_key as table api_key");
$pg->do("create table other.$_ (like $_ including defaults)")
    for qw( run external_user template_version template project );
$pg->do('insert into other.run select * from run');
$pg->do('update other.api_key set project_id = ? where api_key = ?',
        project('beta'), key('alpha'));
$pg->do('grant usage on schema other to lunary_ro');
$pg->do('grant select on all tables in schema other to lunary_ro');
$pg->do('create role lunary_other login in role lunary_ro inherit');
$pg->do('alter role lunary_other set search_path = other');

my @passfiles = map { tmpdir('pass') . "/$_" } 1, 2;

for my $file (@passfiles) {
    write_file($file, "*:*:*:*:secret\n");
    chmod 0600, $file;
}

my $named = $pg->conninfo(host => 'db.test');
my $plain = $pg->conninfo;

my %line = (
    plain => $plain,
    options => $pg->conninfo(options => "'-c search_path=other'"),
    role => $pg->conninfo(options => "'-c role=lunary_ro'"),
    user => $pg->conninfo(user => 'lunary_other'),
    name => $pg->conninfo(application_name => 'x'),
    session => $pg->conninfo(target_session_attrs => 'read-write'),
    passfile1 => $pg->conninfo(passfile => $passfiles[0]),
    passfile2 => $pg->conninfo(passfile => $passfiles[1]),
    resolver1 => $named,
    resolver2 => $named,
    twice => $plain,
);

my %more = (
    resolver1 => "resolver 127.0.0.1:$dns[0]{port} ipv6=off;",
    resolver2 => "resolver 127.0.0.1:$dns[1]{port} ipv6=off;",
    twice => 'lunary_pool max=2; lunary_query_timeout 3s;',
);

my $nginx = Lunary::Nginx->new(
    http => 'lunary_key_cache zone=keys:64k valid=1h;',
    config => join '', map { <<"EOF_CONFIG" } sort keys %line)->start;
        location = /$_ {
            ${\ ($more{$_} // '') }
            lunary_database "$line{$_}";
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
            add_header X-Cache \$lunary_key_cache_status always;
            add_header X-Project \$lunary_project_id always;
        }
EOF_CONFIG

sub ask {
    my ($name) = @_;

    my $answer = $nginx->client->get("/$name",
        Authorization => 'Bearer ' . key('alpha'));

    return join ' ', $answer->{status},
                     map { $answer->{header}{$_} // '-' }
                     qw( x-cache x-project );
}

my ($alpha, $beta) = map { project($_) } qw( alpha beta );

is(ask('plain'), "200 MISS $alpha", 'a key');
is(ask('plain'), "200 HIT $alpha", 'from the cache again');
is(ask('twice'), "200 HIT $alpha", 'the same database with another pool');

is(ask($_), "404 MISS $beta", "another database: $_") for qw( options user );
is(ask($_), "404 HIT $beta", "$_, and once more") for qw( options user );

is(ask($_), "200 MISS $alpha", "apart: $_")
    for qw( role name session passfile1 passfile2 resolver1 resolver2 );

ok($nginx->reload, 'a reload');
is(ask($_), "200 HIT $alpha", "after a reload: $_")
    for qw( plain role name session passfile1 passfile2 resolver1 resolver2 );

$nginx->stop;
done_testing();
