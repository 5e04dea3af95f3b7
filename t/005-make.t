# make on a machine with problems prints one line for each; the tests run in any
# environment; Ctrl-C stops the servers and removes the files.

use strict;
use warnings;

use lib 't/lib';
use IO::Socket::INET;
use Lunary::System qw( free_port project_dir read_file run_cmd tmpdir
                       wait_until write_file );
use POSIX ();
use Test::More;
use Time::HiRes qw( time );

my $top = project_dir();
my $dir = tmpdir('make');
my $make = "make --no-print-directory -C $top";

delete @ENV{qw( MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL MODULE BUILD
                LUNARY_PG LUNARY_PG_TEMPLATE TEST_NGINX_PORT
                TEST_NGINX_SERVROOT T HOST PORT )};
$ENV{LC_ALL} = 'C.UTF-8';

sub says {
    my ($name, $cmd, $re, $limit) = @_;

    my $start = time;
    my ($status, $text) = run_cmd('sh', '-c', $cmd);

    isnt($status, 0, "$name: fails");
    like($text, $re, "$name: says so");
    cmp_ok(time - $start, '<', $limit // 20, "$name: at once");

    return $text;
}


# paths and ports

mkdir "$dir/a b" or die $!;
run_cmd('cp', "$top/Makefile", "$dir/a b/");

says('a clone below a path with a space', "make -C '$dir/a b'",
     qr/no path with a space, CURDIR is ".*a b"/);
says('BUILD with a space', "$make BUILD='a b'", qr/space, BUILD is "a b"/);

my $taken = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1);
my $port = $taken->sockport;

says('a demo at a port that is taken', "PORT=$port $make demo",
     qr/^demo: HOST=127\.0\.0\.1: port $port is taken$/m);
says("a demo at port $_", "PORT='$_' $make demo",
     qr/^demo: PORT=\Q$_\E is no port: 1 to 65535$/m) for '80a', 0, 65536;
says('a demo at a name', "HOST=localhost. PORT=$port $make demo",
     qr/^demo: HOST=localhost\.: it is no address/m);
says('a demo at an address of others', "HOST=192.0.2.1 $make demo",
     qr/^demo: HOST=192\.0\.2\.1: Cannot assign requested address$/m);

says("tests at port $_->[0]", "TEST_NGINX_PORT=$_->[0] t/run t/020-auth.t",
     qr/^TEST_NGINX_PORT=$_->[0] \Q$_->[1]\E/m)
    for ['8x', 'is not a port'],
        [$port, 'cannot be used: Address already in use'];


# tests that are not there, and packages

unlike(says('a test that is not there', "$make test T=t/999-none.t",
            qr{^t/999-none\.t: No such file or directory$}m),
       qr/files, about/, 'a test that is not there: nothing is run');

my $none = 'lunary-no-such-package';

says('a package that a test lacks', "t/deps -n $none perl-base",
     qr/^deps: not installed: $none$/);

mkdir "$dir/bin" or die $!;

for my $name (qw( dpkg-query grep id )) {
    my ($path) = grep { -x } map { "$_/$name" } '/usr/bin', '/bin';
    symlink $path, "$dir/bin/$name" or die $!;
}

SKIP: {
    skip 'only root becomes another user', 3 if $> != 0;

    says('neither root nor sudo', 'setpriv --reuid=65534 --clear-groups'
         . " env PATH=$dir/bin $top/t/deps $none",
         qr/there is no sudo.*^    apt-get update && apt-get install .*$none$/ms
        )
        if -x '/usr/bin/setpriv';
}

SKIP: {
    my $alone = 'unshare --net --mount';

    skip 'no namespaces', 6 if run_cmd(split(' ', $alone), 'true');

    mkdir "$dir/apt" or die $!;
    write_file("$dir/apt.conf", join '', map { "$_;\n" }
               qq{Dir::State::lists "$dir/apt"},
               qq{Dir::Cache::archives "$dir/apt"},
               qq{Debug::NoLocking "true"});

    my $text = says('no network',
                    "APT_CONFIG=$dir/apt.conf $alone t/deps $none",
                    qr/^deps: apt-get update fails: E: Failed to fetch .+$/m);
    is(scalar(my @lines = split /\n/, $text), 2, 'in one line')
        or diag($text);

    skip 'no jansson', 3 if !-e '/usr/include/jansson.h';

    says('jansson that is missing', "$alone sh -c 'mount --bind /dev/null"
         . " /usr/include/jansson.h && $make BUILD=$dir/build'",
         qr/module needs jansson \(Debian: libjansson-dev\)$/m, 120);
}


# A user's environment: PostgreSQL's variables, proxies that do not exist, an
# unknown locale, files that only the owner can read.

mkdir "$dir/private", 0700 or die $!;

{
    local @ENV{qw( PGHOST PGUSER PGOPTIONS http_proxy HTTPS_PROXY LC_ALL
                   TMPDIR )}
        = ('/nowhere', 'nobody', '-x', ('http://127.0.0.1:9') x 2, 'xx_YY',
           "$dir/private");

    my ($status, $text) = run_cmd('sh', '-c', "umask 077; exec t/run unit"
                                  . ' t/020-auth.t');
    is($status, 0, 'the tests pass in such an environment') or diag($text);
    is_deeply([glob "$dir/private/*"], [], 'no file left');
}


# Ctrl-C: a signal for the process group

for my $test ('t/150-leaving.t', 't/010-request.t') {
    my $root = "$top/t/servroot_" . free_port();
    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        POSIX::setpgid(0, 0);
        $SIG{$_} = 'DEFAULT' for qw( INT TERM HUP );
        @ENV{qw( TMPDIR TEST_NGINX_SERVROOT )} = ($dir, $root);
        open STDOUT, '>', "$dir/out";
        open STDERR, '>&', \*STDOUT;
        exec 't/run', $test or POSIX::_exit(127);
    }

    my $servers = sub {
        my @lines = map { read_file($_) =~ tr/\0/ /r }
                    glob '/proc/[0-9]*/cmdline';
        return grep { m{\bnginx.*(?:\Q$dir\E/lunary|\Q$root\E)
                        |\bpostgres.*\Q$dir\E/lunary}x } @lines;
    };

    wait_until { grep { /nginx/ } $servers->() } 100, 'nginx';
    ok(scalar(grep { /postgres/ } $servers->()), "$test: its servers run");

    kill 'INT', -$pid;
    my $ended = wait_until { waitpid($pid, POSIX::WNOHANG()) == $pid } 20;

    ok($ended, "$test: it ends by Ctrl-C");
    is($? >> 8, 130, 'the status is 130');
    is_deeply([$servers->()], [], 'no server is left');
    is_deeply([grep { -e } glob("$dir/lunary-*"), $root], [], 'no file left');
}

done_testing();
