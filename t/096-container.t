# The container image, without a container engine: its scripts run in a root
# directory made by debootstrap.  The image is small, nginx runs as pid 1, and
# signals stop it.
#
# Packages: build-essential dpkg-dev debhelper fakeroot git debootstrap

use strict;
use warnings;

use File::Basename qw( dirname );
use File::Spec;
use Test::More;

use lib File::Spec->rel2abs(dirname(__FILE__) . '/lib');
use Lunary::Client;
use Lunary::Pg;
use Lunary::System qw( project_dir read_file run_cmd tmpdir wait_until );
use Lunary::Test;

plan skip_all => 'not with a sanitizer' if $ENV{SANITIZE};
plan skip_all => 'with CI or CONTAINER_TEST set, and as root'
    if $> != 0 || !($ENV{CI} || $ENV{CONTAINER_TEST});

for my $tool (qw( debootstrap dpkg-buildpackage dh_nginx unshare )) {
    plan skip_all => "no $tool"
        if !grep { -x "$_/$tool" } split(/:/, $ENV{PATH}), '/usr/sbin';
}

my $top = project_dir();
my $dir = tmpdir('container');
chmod 0755, $dir;
my $cache = ($ENV{XDG_CACHE_HOME} || '/var/cache') . '/nginx-lunary';
my ($suite) = read_file('/etc/os-release') =~ /^VERSION_CODENAME=(\w+)/m;
my $base = "$cache/$suite-base";
my $root = "$dir/root";

sub must {
    my ($status, $output) = run_cmd(@_);

    $status == 0 or BAIL_OUT("@_: " . substr $output, -2000);
    return $output;
}

# the base system of the image; it is kept for the next run
if (!-d $base) {
    my ($from) = split /\n/, must('apt-get', 'indextargets', '--format',
        '$(SITE)', 'Created-By: Packages', 'Component: main',
        'Origin: Debian', 'Label: Debian');

    mkdir $cache;
    must('rm', '-rf', "$base.new");
    must('debootstrap', '--variant=minbase', '--include=ca-certificates',
         $suite, "$base.new", $from);
    must('mv', "$base.new", $base);
}

must('cp', '-a', '--reflink=auto', $base, $root);
my $before = (split ' ', must('du', '-sk', $root))[0];


# the stages

must('env', "BUILD=$dir/build", "$top/debian/build.sh");
mkdir "$root/tmp/$_" for qw( out container );
must('sh', '-c', "cp '$dir'/build/deb/*.deb '$root/tmp/out/'"
                 . " && cp -r '$top'/conf/container/. '$root/tmp/container/'");

must('cp', '/etc/resolv.conf', '/etc/hosts', "$root/etc/");
must('cp', '/etc/ssl/certs/ca-certificates.crt', "$root/etc/ssl/certs/");
must('sh', '-c', "apt-config dump Acquire > '$root/etc/apt/apt.conf.d/90here';
    cp -r /etc/apt/sources.list* '$root/etc/apt/'");

must('chroot', $root, '/tmp/container/install', '/tmp/out', '/tmp/container');
must('rm', '-rf', "$root/tmp/out", "$root/tmp/container");

my $size = (split ' ', must('du', '-sk', $root))[0] - $before;
cmp_ok($size, '<', 70 * 1024, "nginx and the module add $size kB to the base");


# as pid 1, not as root, with the environment that the Dockerfile sets

my $pg = pg();
my $dockerfile = read_file("$top/conf/container/Dockerfile");
my ($env) = $dockerfile =~ /^ENV (.*?[^\\])$/ms;
my %env = $env =~ /(\w+)=("[^"]*"|\S+)/g;
s/"//g for values %env;

# the image reaches the database by a port, not by a socket
$env{LUNARY_DATABASE} = $pg->conninfo(host => '127.0.0.1');

sub start {
    my $pid = fork // die;

    if (!$pid) {
        # nginx has to open /dev/stdout without being root
        umask 0;
        open STDOUT, '>>', "$dir/stdout" or die;
        open STDERR, '>>', "$dir/stderr" or die;
        umask 022;
        exec 'unshare', '--pid', '--fork', '--kill-child', '--mount',
            "--mount-proc=$root/proc", 'chroot', '--userspec=www-data', $root,
            'env', '-i', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin',
            map({ "$_=$env{$_}" } keys %env), '/usr/lib/nginx-lunary/start'
            or die;
    }

    return $pid;
}

sub nginx_pid {
    my ($unshare) = @_;

    return (split ' ', read_file(
        "/proc/$unshare/task/$unshare/children"))[0];
}

my $client = sub { return Lunary::Client->new(port => 8080, timeout => 5) };

for my $signal (qw( QUIT TERM )) {
    my $pid = start();

    ok(eval { wait_until { (eval { $client->()->get('/lunary/ready')->{status} }
                            // 0) == 200 } 15 }, "$signal: it starts")
        or BAIL_OUT(read_file("$dir/stderr"));

    is($client->()->get(related_uri(101), Authorization => 'Bearer '
                        . key('alpha'))->{status}, 200, "$signal: it serves");

    my ($healthy) = run_cmd('chroot', $root, '/usr/lib/nginx-lunary/healthy');
    is($healthy, 0, "$signal: the health check");

    my $nginx = nginx_pid($pid);
    my ($uid) = read_file("/proc/$nginx/status") =~ /^Uid:\s+(\d+)/m;
    my ($inside) = read_file("/proc/$nginx/status") =~ /^NSpid:.*\s(\d+)$/m;
    is($inside, 1, "$signal: nginx is pid 1");
    isnt($uid, 0, "$signal: and not root");

    kill $signal, $nginx;
    waitpid $pid, 0;
    is($? >> 8, 0, "$signal: it ends cleanly");
}

like(read_file("$dir/stdout"), qr{"GET /v1/runs/}, 'requests on stdout');
like(read_file("$dir/stderr"), qr/\[notice\]/, 'errors on stderr');
unlike(read_file("$dir/stderr"), qr/\[(?:error|crit|alert|emerg)\]/,
       'no errors');

my ($status) = run_cmd('chroot', $root, '/usr/lib/nginx-lunary/healthy');
isnt($status, 0, 'the health check fails without nginx');

done_testing();
