package Lunary::PgBouncer;

# A PgBouncer for a server of the test.
#
#   my $bouncer = Lunary::PgBouncer->new($pg, mode => 'transaction');
#   $bouncer->conninfo; $bouncer->stop;
#   Lunary::PgBouncer->carries_statements   it has "max_prepared_statements"
#
# Packages: pgbouncer

use strict;
use warnings;

use IO::Socket::INET;
use Lunary::Pg;
use Lunary::System qw( free_port kill_wait read_file run_cmd tmpdir
                     wait_until write_file );
use POSIX ();

my @all;
my $owner = $$;


sub new {
    my ($class, $pg, %arg) = @_;

    my $dir = tmpdir('pgbouncer');
    my $self = bless { dir => $dir, port => free_port(), pg => $pg,
                       log => "$dir/log" }, $class;

    my %conf = (
        listen_addr => '127.0.0.1',
        listen_port => $self->{port},
        unix_socket_dir => $dir,
        auth_type => 'any',
        logfile => $self->{log},
        pidfile => "$dir/pid",
        pool_mode => $arg{mode} // 'session',
        max_client_conn => 200,
        default_pool_size => 10,
        admin_users => 'pgbouncer',
        server_check_delay => 0,
        %{ $arg{conf} // {} },
    );

    write_file("$dir/pgbouncer.ini", join '',
        "[databases]\nlunary = host=$pg->{socket_dir} port=$pg->{port}"
        . " user=lunary_ro\n\n[pgbouncer]\n",
        map { "$_ = $conf{$_}\n" } sort keys %conf);
    Lunary::Pg->own($dir, "$dir/pgbouncer.ini");

    push @all, $self;
    return $self->start;
}


sub binary {
    for my $dir (split(/:/, $ENV{PATH}), '/usr/sbin') {
        return "$dir/pgbouncer" if -x "$dir/pgbouncer";
    }

    die "pgbouncer is not installed\n";
}


# 1.21 and newer
sub carries_statements {
    my ($status, $out) = run_cmd(binary(), '--version');
    my ($minor) = $out =~ /^PgBouncer 1\.(\d+)/ or die "PgBouncer: $out\n";

    return $minor >= 21;
}


sub start {
    my ($self) = @_;

    my @cmd = Lunary::Pg->as_user(binary(), '-q',
                                  "$self->{dir}/pgbouncer.ini");
    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', '/dev/null';
        open STDERR, '>&', \*STDOUT;
        exec @cmd or POSIX::_exit(127);
    }

    $self->{pid} = $pid;

    wait_until {
        IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                              PeerPort => $self->{port})
    } 10 or die "PgBouncer does not start:\n" . read_file($self->{log});

    return $self;
}


sub conninfo {
    my ($self, %arg) = @_;

    return $self->{pg}->conninfo(host => '127.0.0.1',
                                 port => $self->{port}, %arg);
}


sub stop {
    my ($self) = @_;

    my $pid = delete $self->{pid} or return;
    kill_wait('QUIT', $pid, 10);
}


END {
    if ($$ == $owner) {
        local ($?, $!, $@);
        $_->stop for grep { $_->{pid} } @all;
    }
}


1;
