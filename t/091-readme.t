# The README: its configurations start and serve, its statements run, and its
# directives and variables are those of the module.

use strict;
use warnings;

use File::Basename qw( dirname );
use File::Spec;
use Test::More;

use lib File::Spec->rel2abs(dirname(__FILE__) . '/lib');
use Lunary::Client;
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test;
use Lunary::System qw( project_dir read_file );

my $readme = read_file(project_dir() . '/README.md');
my $source = read_file(project_dir() . '/ngx_http_lunary_module.c');
my $status = read_file(project_dir() . '/src/http/ngx_http_lunary_variables.c');

my %blocks;

while ($readme =~ /^```(\w+)\n(.*?)^```$/msg) {
    push @{ $blocks{$1} }, $2;
}


# the synopsis, with other paths, addresses and ports

my $pg = pg();
my $nginx = Lunary::Nginx->new;
my $conninfo = $pg->conninfo;
my $module = join '', map { "load_module $_;\n" } $nginx->modules;
my $user = $> == 0 ? 'user root;' : '';
my $temp = join "\n", map { "${_}_temp_path $nginx->{dir}/${_}_temp;" }
                      qw( client_body proxy fastcgi scgi uwsgi lunary );
my ($synopsis, $log_format) = @{ $blocks{nginx} };

$synopsis =~ s/^load_module .*$/$module$user
pid $nginx->{dir}\/nginx.pid;
error_log $nginx->{log} info;/m or die 'the synopsis loads no module';
$synopsis =~ s/^http \{/http {\n$temp\n$log_format
access_log $nginx->{dir}\/logs\/lunary.log lunary;/m;
$synopsis =~ s/"host=[^"]*"/"$conninfo"/;
$synopsis =~ s/listen 8080;/listen 127.0.0.1:$nginx->{port};/;

$nginx->configure(conf => $synopsis);
$nginx->start;

my $client = Lunary::Client->new(port => $nginx->{port});
my %auth = (Authorization => 'Bearer ' . key('alpha'));

is($client->get(related_uri(101), %auth)->{status}, 200, 'it serves runs');
is($client->get('/lunary/ready')->{status}, 200, 'it is ready');
like($client->get('/lunary/metrics')->{body},
     qr/^lunary_requests_total\{outcome="ok"\} 1$/m, 'it counts');

$nginx->stop;

like(read_file("$nginx->{dir}/logs/lunary.log"),
     qr/"outcome": "ok", "credential": "key", "project": "[0-9a-f-]{36}"/,
     'the log format');


# the statements, run by a role of their own

my ($sessions, $role, $index, $alter) = @{ $blocks{sql} };

s/lunary_ro/lunary_readme/g for $role, $sessions, $alter;
$index =~ s/concurrently //;

my $dbh = $pg->dbh;

$dbh->begin_work;

for my $text ($role, $sessions, $index, $alter) {
    for my $statement (grep { /\S/ } split /;/, $text) {
        ok(eval { $dbh->do($statement); 1 }, "it runs: $statement") or diag $@;
    }
}

$dbh->rollback;


# directives and their defaults, variables

my %directives = map { $_ => 1 } $source =~ /ngx_string\("(lunary_\w+)"\),\n/g;
my %described = map { $_ => 1 } $readme =~ /^### (lunary_\w+)$/mg;

is_deeply(\%described, \%directives, 'each directive is described');

my @variables = $status =~ /^    ngx_string\("(lunary_\w+)"\),?$/mg;

cmp_ok(scalar @variables, '>', 8, 'there are variables');
like($readme, qr/^\| `\$$_` \|/m, "\$$_ is described") for @variables;

for my $default ($readme =~ /\bdefault\s`(lunary_[^`]*;)`/g) {
    my $with = Lunary::Nginx->new(http => $default);

    is(($with->test)[0], 0, "it is taken: $default");
}


# the files it names exist

for my $file ($readme =~ /\]\(([\w\/.-]+)(?:#\w+)?\)/g) {
    ok(-e project_dir() . "/$file", "$file is there");
}

done_testing();
