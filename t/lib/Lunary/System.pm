package Lunary::System;

# System functions for the tests: temporary directories, free ports, waiting for
# an event, running a command.

use strict;
use warnings;

use Cwd qw( abs_path );
use Exporter qw( import );
use File::Basename qw( dirname );
use File::Path qw( remove_tree );
use File::Temp ();
use IO::Handle;
use IO::Socket::INET;
use POSIX ();
use Time::HiRes qw( sleep time );

our @EXPORT_OK = qw( alive background children free_port kill_wait patience
                     program project_dir read_file run_cmd tmp_base tmpdir
                     wait_until write_file );

my (@dirs, %ports, @background);
my $owner = $$;

# servers of other users read these files
umask 022;


# on a signal a test stops its servers and removes its directories: exit() runs
# the END blocks
for my $signal (qw( INT TERM HUP )) {
    $SIG{$signal} = sub {
        if ($$ == $owner) {
            # a second signal would interrupt the END blocks
            $SIG{$_} = 'IGNORE' for qw( INT TERM HUP );
            exit 1;
        }

        $SIG{$signal} = 'DEFAULT';
        kill $signal, $$;
    };
}


# the top of the repository
sub project_dir {
    return dirname(dirname(dirname(dirname(abs_path(__FILE__)))));
}


# the path of a program, which may be one for root alone
sub program {
    my ($name) = @_;

    for my $dir (split(/:/, $ENV{PATH}), '/usr/sbin') {
        return "$dir/$name" if -x "$dir/$name";
    }

    die "$name is not installed\n";
}


# where temporary directories are made: /tmp, where the path of a socket would
# be too long in TMPDIR, or the user that PostgreSQL runs as may not enter it
sub tmp_base {
    my $base = abs_path($ENV{LUNARY_TMP} // $ENV{TMPDIR} // '/tmp') // '';

    return '/tmp' if !-d $base || length $base > 60;

    for (my $dir = $base; $dir ne '/' && $> == 0; $dir = dirname($dir)) {
        return '/tmp' if !((stat $dir)[2] & 1);
    }

    return $base;
}


# a directory with access for other users; it is removed when this process ends
sub tmpdir {
    my ($name) = @_;

    my $dir = File::Temp::tempdir("lunary-$name-XXXXXXXX", DIR => tmp_base());

    chmod 0755, $dir or die "chmod $dir: $!";
    push @dirs, $dir;

    return $dir;
}


# a port below the range that the system uses for clients, so that no client
# gets the port of a server that is being restarted
sub free_port {
    my ($low) = read_file('/proc/sys/net/ipv4/ip_local_port_range')
                =~ /^(\d+)/;
    my $below = ($low // 0) > 12_000 ? $low : 0;

    for (1 .. 1000) {
        my $socket = IO::Socket::INET->new(
            LocalAddr => '127.0.0.1', Proto => 'tcp', Listen => 1,
            LocalPort => $below ? $below - 1 - int rand 10_000 : 0) or next;

        my $port = $socket->sockport;
        next if $ports{$port}++;

        return $port;
    }

    die "no free port";
}


# the factor for timeouts if nginx runs under a sanitizer or valgrind; t/run
# sets it
sub patience {
    return $ENV{LUNARY_PATIENCE} || 1;
}


# calls the function until it returns true, and returns its value
sub wait_until(&;$$) {
    my ($check, $timeout, $what) = @_;

    my $end = time + ($timeout // 10) * patience();

    while (1) {
        my $result = $check->();
        return $result if $result;

        if (time > $end) {
            die "waited in vain for $what\n" if defined $what;
            return;
        }

        sleep 0.02;
    }
}


# (exit status, output and errors together)
sub run_cmd {
    my (@cmd) = @_;

    my $pid = open my $out, '-|';
    die "fork: $!" if !defined $pid;

    if ($pid == 0) {
        open STDERR, '>&', \*STDOUT or POSIX::_exit(127);
        open STDIN, '<', '/dev/null' or POSIX::_exit(127);
        no warnings 'exec';
        exec { $cmd[0] } @cmd or do {
            print "$cmd[0]: $!\n";
            STDOUT->flush;
            POSIX::_exit(127);
        };
    }

    my $text = do { local $/; <$out> } // '';

    # close() sets $? to the child's status
    local ($?, $!);
    close $out;

    return ($?, $text);
}


sub read_file {
    my ($name, $from) = @_;

    open my $in, '<:raw', $name or return '';
    seek $in, $from, 0 if $from;

    return do { local $/; <$in> } // '';
}


sub write_file {
    my ($name, $text) = @_;

    open my $out, '>:raw', $name or die "$name: $!";
    print $out $text or die "$name: $!";
    close $out or die "$name: $!";
}


# pids of the direct children of a process
sub children {
    my ($parent) = @_;

    my @pids;

    for my $file (glob '/proc/[0-9]*/stat') {
        my $stat = read_file($file);
        next if $stat !~ /^(\d+) \(.*\) (\S) (\d+)/s;
        push @pids, $1 if $3 == $parent && $2 ne 'Z';
    }

    @pids = sort { $a <=> $b } @pids;
    return @pids;
}


# a zombie is not alive
sub alive {
    my ($pid) = @_;

    return read_file("/proc/$pid/stat") =~ /^\d+ \(.*\) [^ZX]/s;
}


# runs the function in another process, which ends with this one
sub background(&) {
    my ($code) = @_;

    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        eval { $code->(); 1 } or warn $@;
        POSIX::_exit(0);
    }

    push @background, $pid;
}


# signals a process and waits until it exits; kills it at the timeout
sub kill_wait {
    my ($signal, $pid, $timeout) = @_;

    kill $signal, $pid;

    my $gone = sub {
        return if alive($pid);

        # removes the zombie, which a new nginx would take for a running one
        waitpid $pid, 0;
        return 1;
    };

    return 1 if wait_until { $gone->() } $timeout // 10;

    kill 'KILL', $pid;
    wait_until { $gone->() } 5;

    return 0;
}


END {
    if ($$ == $owner) {
        local ($?, $!, $@);
        kill_wait('KILL', $_) for @background;
        remove_tree(@dirs, { error => \my $error }) if !$ENV{LUNARY_KEEP};
    }
}


1;
