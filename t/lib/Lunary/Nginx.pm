package Lunary::Nginx;

# An nginx with master and workers, without Test::Nginx: for reloads, upgrades,
# signals and load.
#
#   my $nginx = Lunary::Nginx->new(http => $text, config => $text,
#                                  workers => 2, daemon => 1);
#   $nginx->start; $nginx->reload; $nginx->upgrade; $nginx->stop;
#   ($status, $output) = $nginx->test;        nginx -t
#
# before => [...]: a command that runs nginx, such as unshare.
#
# stop() fails a test for each [alert], [crit] and [emerg] in the error log, and
# for each report of a sanitizer.

use strict;
use warnings;

use Lunary::Client;
use Lunary::System qw( alive children free_port kill_wait project_dir
                     read_file run_cmd tmpdir wait_until write_file );
use POSIX ();
use Test::More ();

my @all;
my $owner = $$;


sub binary {
    my $known = $ENV{TEST_NGINX_BINARY};
    return $known if $known && $known =~ m{/};

    for my $dir (split(/:/, $ENV{PATH}), '/usr/sbin', '/sbin') {
        my $file = "$dir/" . ($known // 'nginx');
        return $file if -x $file;
    }

    die "nginx is not installed\n";
}


sub modules {
    return split ' ', $ENV{TEST_NGINX_LOAD_MODULES}
                      // project_dir() . '/build/ngx_http_lunary_module.so';
}


sub new {
    my ($class, %arg) = @_;

    my $dir = $arg{dir} // tmpdir('nginx');
    mkdir "$dir/logs";
    mkdir "$dir/html";

    my $self = bless { dir => $dir, port => free_port(),
                       log => "$dir/logs/error.log", allow => $arg{allow},
                       %arg }, $class;

    $self->configure;
    push @all, $self;

    return $self;
}


# %arg: main, events, http, server, config, workers, log_level, or conf (a whole
# file instead of these); other arguments keep their values
sub configure {
    my ($self, %arg) = @_;

    @$self{keys %arg} = values %arg;

    my $dir = $self->{dir};
    my $modules = join '', map { "load_module $_;\n" } modules();
    my $user = $> == 0 ? 'user root;' : '';
    my $temp = join "\n    ", map { "${_}_temp_path $dir/${_}_temp;" }
                              qw( client_body proxy fastcgi scgi uwsgi );
    my %conf = (main => '', events => '', http => '', server => '',
                config => '', workers => 1, log_level => 'info',
                connections => 4096, %$self);

    # only root can create the default path
    $temp .= "\n    lunary_temp_path $dir/lunary_temp;"
        if $modules =~ /lunary/ && $conf{http} !~ /\blunary_temp_path\b/;

    write_file("$dir/nginx.conf", $self->{conf} // <<"EOF_CONFIG");
$modules
$user
worker_processes $conf{workers};
error_log $self->{log} $conf{log_level};
pid $dir/nginx.pid;
env LD_PRELOAD;
env ASAN_OPTIONS;
env UBSAN_OPTIONS;
env LSAN_OPTIONS;
$conf{main}

events {
    worker_connections $conf{connections};
    $conf{events}
}

http {
    access_log $dir/logs/access.log;
    default_type text/plain;
    variables_hash_max_size 2048;
    $temp
$conf{http}

    server {
        listen 127.0.0.1:$self->{port};
        $conf{server}
$conf{config}
        location = /ok {
            return 200 ok;
        }
    }
}
EOF_CONFIG
}


sub command {
    my ($self, @more) = @_;

    my @before = $ENV{TEST_NGINX_LD_PRELOAD}
                 ? ('env', "LD_PRELOAD=$ENV{TEST_NGINX_LD_PRELOAD}") : ();

    @before = ('valgrind', '-q', split ' ', $ENV{TEST_NGINX_USE_VALGRIND})
        if $ENV{TEST_NGINX_USE_VALGRIND};

    unshift @before, @{ $self->{before} // [] };

    return (@before, binary(), '-e', $self->{log}, '-p', "$self->{dir}/",
            '-c', "$self->{dir}/nginx.conf", @more);
}


sub test {
    my ($self) = @_;

    # nginx does not free memory when it refuses a configuration
    local $ENV{ASAN_OPTIONS} = ($ENV{ASAN_OPTIONS} // '') . ':detect_leaks=0';

    return run_cmd($self->command('-t'));
}


sub start {
    my ($self) = @_;

    my $out = "$self->{dir}/logs/stderr";

    # an nginx that can be upgraded must not be a child of the test
    my @mode = $self->{daemon} ? () : ('-g', 'daemon off;');
    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', $out;
        open STDERR, '>&', \*STDOUT;
        exec $self->command(@mode) or POSIX::_exit(127);
    }

    $self->{pid} = $pid;

    if ($self->{daemon}) {
        waitpid $pid, 0;
        die "nginx does not start:\n" . read_file($out) if $?;
        ($self->{pid}) = read_file("$self->{dir}/nginx.pid") =~ /^(\d+)/;
    }

    wait_until {
        return 1 if eval { Lunary::Client->new(port => $self->{port})
                           ->connect };
        die "nginx does not start:\n" . read_file($out)
            if waitpid($pid, 1) == $pid;
        return;
    } 20, 'nginx';

    return $self;
}


sub client {
    my ($self, %arg) = @_;

    return Lunary::Client->new(port => $self->{port}, %arg);
}


sub signal {
    my ($self, $signal) = @_;

    kill $signal, $self->{pid};
}


sub worker_pids {
    my ($self) = @_;

    return children($self->{pid});
}


# reloads, and waits until all old workers are replaced; false at the timeout
sub reload {
    my ($self, $timeout) = @_;

    my %old = map { $_ => 1 } $self->worker_pids;

    $self->signal('HUP');

    return wait_until {
        my @now = $self->worker_pids;
        return @now && !grep { $old{$_} } @now;
    } $timeout // 20;
}


# upgrades the binary, and waits until the old master exits
sub upgrade {
    my ($self, $timeout) = @_;

    my $old = $self->{pid};
    my $file = "$self->{dir}/nginx.pid";

    $self->signal('USR2');

    my $new = wait_until {
        my ($pid) = read_file($file) =~ /^(\d+)/;
        return $pid && $pid != $old ? $pid : undef;
    } $timeout // 20;

    return if !$new;

    wait_until { children($new) } 20;
    kill 'QUIT', $old;
    $self->{pid} = $new;

    return wait_until { waitpid $old, 1; !alive($old) } $timeout // 20;
}


sub mark {
    my ($self) = @_;

    return -s $self->{log} // 0;
}


sub log_since {
    my ($self, $mark) = @_;

    return read_file($self->{log}, $mark);
}


# stops nginx and checks the error log
sub stop {
    my ($self, $signal, $timeout) = @_;

    my $pid = delete $self->{pid} or return;

    my $quit = kill_wait($signal // 'QUIT', $pid, $timeout // 20);
    Test::More::fail("nginx $pid does not quit") if !$quit;

    $self->check_log;
    return $quit;
}


# lines that match "allow" are not failures
sub check_log {
    my ($self) = @_;

    my $allow = $self->{allow};
    my $text = read_file($self->{log})
               . read_file("$self->{dir}/logs/stderr");

    for my $line (split /\n/, $text) {
        next if $line !~ /\[(?:alert|crit|emerg)\]
                          |AddressSanitizer|LeakSanitizer|runtime\ error:
                          |\bAssertion\ .*failed/x;
        next if $allow && $line =~ $allow;
        Test::More::fail("in the error log: $line");
    }
}


END {
    if ($$ == $owner) {
        local ($?, $!, $@);
        for my $nginx (@all) {
            kill_wait('TERM', $nginx->{pid}, 5) if $nginx->{pid};
        }
    }
}


1;
