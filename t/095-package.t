# The Debian package: it is built from a copy, has the right files, and lintian
# finds no error.  As root, with CI or PACKAGE_TEST set, the package is also
# installed, loaded and removed.
#
# Packages: build-essential dpkg-dev debhelper fakeroot lintian git

use strict;
use warnings;

use File::Basename qw( dirname );
use File::Spec;
use Test::More;

use lib File::Spec->rel2abs(dirname(__FILE__) . '/lib');
use Lunary::System qw( free_port project_dir run_cmd tmpdir );

plan skip_all => 'not with a sanitizer' if $ENV{SANITIZE};

$ENV{PATH} .= ':/usr/sbin:/sbin';
$ENV{LC_ALL} = 'C';
delete @ENV{qw( MAKEFLAGS MAKELEVEL MFLAGS CFLAGS LDFLAGS CPPFLAGS )};

for my $tool (qw( dpkg-buildpackage dh dh_nginx lintian fakeroot )) {
    plan skip_all => "no $tool"
        if !grep { -x "$_/$tool" } split /:/, $ENV{PATH};
}

my $top = project_dir();
my $name = 'libnginx-mod-http-lunary';
my $dir = tmpdir('package');


sub files {
    my ($where) = @_;

    my ($status, $list) = run_cmd('find', $where, '-path', "$where/build",
        '-prune', '-o', '-path', "$where/.git", '-prune', '-o',
        '-path', "$where/t/servroot*", '-prune', '-o', '-type', 'f',
        '-newer', "$dir/began", '-print');

    return split /\n/, $list;
}


# "make deb" installs all packages that the build needs

mkdir "$dir/bare" or die $!;
run_cmd('touch', "$dir/bare/status");

my ($wants) = (run_cmd('dpkg-checkbuilddeps', "--admindir=$dir/bare",
                       "$top/debian/control"))[1] =~ /dependencies: (.*)/;
my @gets = split ' ', (run_cmd('make', '-s', '-C', $top, '--eval',
    'print-deps: ; @echo $(BUILD_DEPS) $(DEB_DEPS)', 'print-deps'))[1];
my %gets = map { $_ => 1 } (run_cmd('dpkg-query', '-W', '-f',
    '${Package} ${Provides} ', @gets))[1] =~ /[a-z0-9][a-z0-9.+-]+/g;

like $wants, qr/\bbuild-essential\b/, 'the build asks for packages';
ok $gets{$_}, "and gets $_"
    for ($wants =~ s/\([^)]*\)|:native//gr) =~ /\S+/g;


# built

run_cmd('touch', "$dir/began");

my ($status, $out) = do {
    local $ENV{BUILD} = $dir;
    run_cmd("$top/debian/build.sh");
};

is $status, 0, 'the package is built' or do {
    diag $out;
    done_testing;
    exit;
};

my ($deb) = $out =~ m{(\S+/\Q$name\E_1\.0\.0-1_\w+\.deb)$}m;

ok $deb && -s $deb, "it is there: $name 1.0.0-1";
is_deeply [grep { m{/debian/|\.o$|\.so$|/objs/} } files($top)], [],
    'nothing of it is left in the source';


# its files

($status, my $info) = run_cmd('dpkg-deb', '-I', $deb);

like $info, qr/^ Package: \Q$name\E$/m, 'its name';
like $info, qr/^ Depends:.*\bnginx-abi-\S+/m, 'the nginx that it is for';
like $info, qr/^ Depends:.*\blibpq5\b/m, 'libpq';
like $info, qr/^ Depends:.*\blibjansson4\b/m, 'jansson';

($status, my $list) = run_cmd('dpkg-deb', '-c', $deb);

my %has = map { m{ \./(\S+)$} ? ($1 => 1) : () } split /\n/, $list;
my $doc = "usr/share/doc/$name";

ok $has{$_}, "/$_" for
    'usr/lib/nginx/modules/ngx_http_lunary_module.so',
    'usr/share/nginx/modules-available/mod-http-lunary.conf',
    "$doc/copyright", "$doc/changelog.Debian.gz",
    map({ "$doc/examples/$_" } qw( drop-in.conf replicas.conf pgbouncer.conf
                                   tls.conf limits.conf openapi.yaml
                                   role.sql )),
    -e "$top/README.md" ? ($has{"$doc/README.md"} ? "$doc/README.md"
                                                  : "$doc/README.md.gz") : ();

ok +(grep { m{^\Q$doc\E/in-front-of-lunary\.md(?:\.gz)?$} } keys %has),
    'what drop-in.conf refers to';

run_cmd('dpkg-deb', '-x', $deb, "$dir/root");

($status, my $strings) = run_cmd('grep', '-c', '-a', '-F', $top,
    "$dir/root/usr/lib/nginx/modules/ngx_http_lunary_module.so");
like $strings, qr/^0$/m, 'no path of the machine that built it';

($status, my $remarks) = run_cmd('lintian', $> == 0 ? '--allow-root' : (),
                                 '--tag-display-limit', '0', $deb);

is_deeply [grep { /^E:/ } split /\n/, $remarks], [], 'lintian has no error';
diag $_ for grep { /^W:/ } split /\n/, $remarks;


# installed and removed

SKIP: {
    skip 'PACKAGE_TEST=1 as root installs it', 8
        if $> != 0 || !($ENV{CI} || $ENV{PACKAGE_TEST});

    ($status, $out) = run_cmd('dpkg-query', '-W', '-f', '${db:Status-Status}',
                              $name);
    skip "$name is installed already", 8 if $out eq 'installed';

    local $ENV{DEBIAN_FRONTEND} = 'noninteractive';

    ($status, $out) = run_cmd('apt-get', 'install', '-q', '-y', $deb);
    is $status, 0, 'apt installs it' or diag $out;

    ($status, $out) = run_cmd('nginx', '-T');
    is $status, 0, 'nginx -t is content' or diag $out;
    like $out, qr/^load_module modules\/ngx_http_lunary_module\.so;$/m,
        'nginx loads the module';

    # the module is loaded by Debian's own configuration

    open my $fh, '>', "$dir/nginx.conf" or die "$dir/nginx.conf: $!";
    print $fh "error_log stderr; pid $dir/nginx.pid;\n"
        . "include /etc/nginx/modules-enabled/*.conf;\n"
        . "events { }\nhttp {\n"
        . "    lunary_database \"host=127.0.0.1 dbname=lunary\";\n"
        . "    access_log off;\n"
        . "    server { listen 127.0.0.1:" . free_port() . ";\n"
        . "        location / { lunary_related_runs \$arg_id; } }\n}\n";
    close $fh;

    ($status, $out) = run_cmd('nginx', '-t', '-c', "$dir/nginx.conf");
    unlike $out, qr/unknown directive/, 'its directives are known';

    ($status, $out) = run_cmd('apt-get', 'remove', '-q', '-y', $name);
    is $status, 0, 'apt removes it' or diag $out;

    ($status, $out) = run_cmd('nginx', '-T');
    is $status, 0, 'nginx -t is content without it' or diag $out;
    unlike $out, qr/ngx_http_lunary_module/, 'which is not loaded any more';

    ($status, $out) = run_cmd('apt-get', 'purge', '-q', '-y', $name);
    is_deeply [glob '/etc/nginx/modules-enabled/*lunary*'], [],
        'nothing is left of it';
}

done_testing;
