# nginx -t refuses each bad value with file, line and the reason, and shows no
# password.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Nginx;
use Lunary::System qw( run_cmd );
use Lunary::Test;
use Test::More;

my $good = 'host=/nowhere dbname=lunary user=lunary_ro';
my $nginx = Lunary::Nginx->new;

# the directive is in its own line
sub conf {
    my (%part) = @_;

    my $modules = join '', map { "load_module $_; " } Lunary::Nginx::modules();

    # the installed nginx's paths are writable for root alone
    my $paths = join ' ', map { "${_}_temp_path temp_$_;" }
        qw( client_body proxy fastcgi uwsgi scgi ),
        "@part{keys %part}" =~ /lunary_temp_path/ ? () : 'lunary';

    my $text = <<"EOF_CONF";
$modules pid nginx.pid; events {} http {
    access_log off; $paths
    %HTTP
    server {
        listen 127.0.0.1:$nginx->{port};
        %SERVER
        location / {
            %LOCATION
        }
    }
}
EOF_CONF

    $text =~ s/%HTTP/$part{http} \/\/ ''/e;
    $text =~ s/%SERVER/$part{server} \/\/ ''/e;
    $text =~ s/%LOCATION/$part{location} \/\/ ''/e;

    $nginx->configure(conf => $text);
    return $nginx->test;
}

sub bad {
    my ($directive, $reason) = @_;

    my ($status, $output) = conf(http => $directive);
    (my $name = $directive) =~ s/\s+/ /g;

    isnt($status, 0, "refused: $name");
    like($output, qr/\[emerg\] .*nginx\.conf:3\b/, "file and line: $name");
    like($output, $reason, "reason: $name");
    unlike($output, qr/TopSecret/, "no password: $name");
}

sub good {
    my ($directive, $where) = @_;

    my ($status, $output) = conf($where // 'http', $directive);
    is($status, 0, "accepted: $directive") or diag($output);
}


good($_) for
    '', qq{lunary_database "$good";},
    'lunary_database "host=a,b,c port=1,2,3 dbname=x";'
    =~ s/a,b,c/127.0.0.1,127.0.0.2,127.0.0.3/r,
    'lunary_database "postgresql://u:p@127.0.0.1:5433/db?sslmode=disable";',
    'lunary_database "postgres://127.0.0.1,127.0.0.2/db" balance=random;',
    qq{lunary_database "$good" balance=ordered;},
    'lunary_database "host=127.0.0.1 target_session_attrs=prefer-standby";',
    'lunary_database "host=@abstract,127.0.0.1 hostaddr=,127.0.0.2";',
    'lunary_database "host=127.0.0.1 keepalives_idle=-1 application_name=";',
    'lunary_database "host=127.0.0.1 gssencmode=prefer connect_timeout=2";',
    'lunary_pool max=16;', 'lunary_pool max=1 idle=1s lifetime=1d;',
    'lunary_pool connecting=1 max=4;', 'lunary_queue 1 timeout=1ms;',
    'lunary_queue 65535;', 'lunary_connect_timeout 100ms;',
    'lunary_query_timeout 1m;', 'lunary_prepare auto;', 'lunary_prepare on;',
    'lunary_prepare off;',
    'lunary_key_cache off;', 'lunary_key_cache zone=keys:1m;',
    'lunary_answer_cache off;', 'lunary_answer_cache 64m;',
    'lunary_key_cache zone=keys:1m valid=1s;', 'lunary_buffers 4k max=4k;',
    'lunary_buffers 64k;', 'lunary_max_temp_file_size 0;',
    "lunary_temp_path $nginx->{dir}/x;", 'lunary_null_fields omit;',
    'lunary_null_fields include;';

good("lunary_database \"$good\"; lunary_related_runs \$arg_id;", 'location');
good('lunary_status;', 'location');
good("lunary_database \"$good\"; lunary_status ready;", 'location');
good("lunary_database \"$good\"; lunary_pool max=2; lunary_queue 5;"
     . ' lunary_buffers 8k; lunary_prepare off; lunary_null_fields include;'
     . ' lunary_query_timeout 1s; lunary_connect_timeout 1s;', $_)
    for qw( server location );


bad('lunary_database;', qr/invalid number of arguments/);
bad('lunary_database "";', qr/lunary_database|conninfo|connection/);
bad('lunary_database "host";', qr/./);
bad('lunary_database "no_such_option=1 password=TopSecret";', qr/option|conn/);
bad('lunary_database "password=TopSecret host=\'x";', qr/quot|conn/);
bad('lunary_database "password = \'TopSecret";', qr/quot|conn/);
bad('lunary_database "postgresql://u:TopSecret@[::1/db";', qr/./);
bad('lunary_database "postgresql://u:TopSecret@h:p:q/db";', qr/./);
bad('lunary_database "postgresql://u:TopSecret@h/db?nope=1";', qr/./);
bad('lunary_database "host=127.0.0.1,127.0.0.2 port=1,2,3";', qr/port|host/);
bad('lunary_database "host=127.0.0.1 port=0";', qr/port/);
bad('lunary_database "host=127.0.0.1 port=65536";', qr/port/);
bad('lunary_database "host=127.0.0.1 port=x";', qr/port/);
bad("lunary_database \"host=127.0.0.1 sslmode=$_\";", qr/sslmode/)
    for 'maybe', '|', '|disable', 'disable|allow';
bad('lunary_database "host=127.0.0.1 target_session_attrs=any-of";',
    qr/target_session_attrs/);
bad('lunary_database "service=lunary";', qr/service/);
bad('lunary_database "hostaddr=not-an-address";', qr/hostaddr|address/);
bad('lunary_database "host=a,b hostaddr=127.0.0.1";', qr/differ in number/);
bad('lunary_database "host=127.0.0.1 replication=database";',
    qr/"replication" is not supported/);
bad('lunary_database "host=127.0.0.1 keepalives_idle=soon";',
    qr/"keepalives_idle" must be a number/);
bad("lunary_database \"host=127.0.0.1 password=TopSecret\0\";", qr/zero byte/);

for my $file (qw( sslrootcert sslcert sslkey sslcrl passfile )) {
    bad("lunary_database \"host=127.0.0.1 $file=/no/such/file\";",
        qr/the file of "$file" cannot be found/);
}

bad("lunary_database \"host=127.0.0.1 sslcrldir=$_\";",
    qr/the directory of "sslcrldir" cannot be found/)
    for '/no/such/dir', '/etc/passwd';

bad("lunary_database \"$good\" balance=none;", qr/balance/);
bad("lunary_database \"$good\" nonsense;", qr/nonsense|parameter/);
bad("lunary_database \"$good\";\nlunary_database \"$good\";" =~ s/\n/ /r,
    qr/duplicate/);

bad("lunary_pool $_;", qr/lunary_pool|parameter|value|$_/)
    for 'max=0', 'max=-1', 'max=x', 'max=', 'max=99999999999999999999',
        'idle=x', 'idle=', 'lifetime=-1', 'connecting=0', 'connecting=x',
        'nonsense=1', 'nonsense', 'max=1.5';
bad('lunary_pool;', qr/invalid number of arguments/);
bad('lunary_pool max=1; lunary_pool max=2;', qr/duplicate/);
bad('lunary_pool max=2 connecting=3;', qr/greater than its "max"/);

bad("lunary_queue $_;", qr/lunary_queue|parameter|value|expected/)
    for 'x', '-1', '0', '1 timeout=x', '1 timeout=', '1 nonsense', '1 2',
        '99999999999999999999';
bad('lunary_queue;', qr/invalid number of arguments/);
bad('lunary_queue 1; lunary_queue 2;', qr/duplicate/);

for my $name (qw( lunary_connect_timeout lunary_query_timeout )) {
    bad("$name x;", qr/invalid value|$name/);
    bad("$name;", qr/invalid number of arguments/);
    bad("$name 1s 2s;", qr/invalid number of arguments/);
    bad("$name 1s; $name 2s;", qr/duplicate/);
    bad("$name -1;", qr/invalid value|$name/);
    bad("$name 0;", qr/$name|value|zero|0/);
}

bad('lunary_prepare maybe;', qr/invalid value "maybe"/);
bad('lunary_prepare;', qr/invalid number of arguments/);

bad("lunary_key_cache $_;", qr/lunary_key_cache|zone|parameter|value|size|expected/)
    for 'on', 'zone=', 'zone=keys', 'zone=keys:', 'zone=keys:x',
        'zone=:1m', 'zone=keys:1', 'zone=keys:1m valid=x',
        'zone=keys:1m valid=', 'zone=keys:1m nonsense', 'valid=1s';

bad('lunary_key_cache off; lunary_key_cache zone=keys:1m;', qr/duplicate/);

bad("lunary_key_cache zone=$_:1m;", qr/"$_".*the module's own/)
    for 'lunary_status';

bad("lunary_answer_cache$_;", qr/invalid number of arguments/)
    for '', ' 1m 2m';

bad("lunary_buffers $_;", qr/lunary_buffers|parameter|value|max|size/)
    for 'x', '0', '4k max=x', '4k max=', '4k max=1k', '4k nonsense',
        '-4k';
bad('lunary_buffers;', qr/invalid number of arguments/);
bad('lunary_buffers 4k; lunary_buffers 8k;', qr/duplicate/);

bad('lunary_max_temp_file_size x;', qr/invalid value|lunary_max_temp/);
bad('lunary_null_fields maybe;', qr/invalid value|omit/);
bad('lunary_null_fields;', qr/invalid number of arguments/);

# directives in the wrong context
bad('lunary_related_runs x;', qr/is not allowed here/);
bad('lunary_status;', qr/is not allowed here/);


# another content handler in the location, in either order

for my $ours ('lunary_database "host=/x"; lunary_related_runs a;',
              'lunary_status;',
              'lunary_database "host=/x"; lunary_status ready;') {
    for my $other ('proxy_pass http://127.0.0.1:1;', 'stub_status;',
                   'fastcgi_pass 127.0.0.1:1;', 'empty_gif;') {
        for my $directive ("$ours $other", "$other $ours") {
            my ($status, $output) = conf(location => $directive);

            isnt($status, 0, "refused: $directive");
            like($output, qr/\[emerg\] .*"lunary_(?:related_runs|status)" .*(?x:
                             in\ a\ location\ that).*serves/,
                 "reason: $directive");
            like($output, qr/nginx\.conf:8\b/, "file and line: $directive");
        }
    }
}

# but a block in the location may have one
for my $block ('if ($arg_x) { proxy_pass http://127.0.0.1:1; }',
               'limit_except GET { proxy_pass http://127.0.0.1:1; }') {
    my ($status) = conf(location => 'lunary_database "host=/x"; '
                                    . "lunary_related_runs a; $block");
    is($status, 0, "accepted: $block");
}


# in a location; Tengine has a resolver of its own, from /etc/resolv.conf

my $resolves = (run_cmd(Lunary::Nginx::binary(), '-V'))[1] =~ /^Tengine/m;

for (['lunary_related_runs;', qr/invalid number of arguments/],
     ['lunary_related_runs a b;', qr/invalid number of arguments/],
     ['lunary_related_runs a; lunary_related_runs b;', qr/duplicate/],
     ['lunary_related_runs $arg_id;', qr/lunary_database/],
     $resolves ? () :
     ['lunary_database "host=no-such-name.invalid"; lunary_related_runs a;',
      qr/no-such-name/],
     ['lunary_database "host=/x"; lunary_related_runs $no_such_variable;',
      qr/no_such_variable/],
     ['lunary_answer_cache off;', qr/is not allowed here/],
     ['lunary_status maybe;', qr/maybe|invalid/],
     ['lunary_status ready now;', qr/invalid number of arguments/],
     ['lunary_status; lunary_status;', qr/duplicate/])
{
    my ($directive, $reason) = @$_;
    my ($status, $output) = conf(location => $directive);

    isnt($status, 0, "refused: $directive");
    like($output, qr/\[emerg\].*/, "emerg: $directive");
    like($output, $reason, "reason: $directive");
}


# libpq's environment variables have no effect

{
    local $ENV{PGHOST} = 'no-such-name.invalid';
    local $ENV{PGSERVICE} = 'no_such_service';
    good(qq{lunary_database "$good";});
}

done_testing();
