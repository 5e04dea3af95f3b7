package Lunary::Pgpool;

# A pgpool-II before one of the test's servers, a Lunary::Pooler.
#
#   my $pgpool = Lunary::Pgpool->new($pg, conf => { num_init_children => 1 });
#
# Packages: pgpool2

use strict;
use warnings;

use Lunary::Pooler;
use Lunary::System qw( free_port program );

our @ISA = qw( Lunary::Pooler );


sub new {
    my ($class, $pg, %arg) = @_;

    my $self = $class->SUPER::new($pg);
    my $dir = $self->{dir};

    my %conf = (
        backend_clustering_mode => "'streaming_replication'",
        backend_hostname0 => "'$pg->{socket_dir}'",
        backend_port0 => $pg->{port},
        listen_addresses => "'127.0.0.1'",
        port => $self->{port},
        unix_socket_directories => "'$dir'",
        pcp_port => free_port(),
        pcp_socket_dir => "'$dir'",
        pid_file_name => "'$dir/pid'",
        logdir => "'$dir'",
        sr_check_period => 0,
        num_init_children => 8,
        max_pool => 1,
        %{ $arg{conf} // {} },
    );

    return $self->configure(
        join('', map { "$_ = $conf{$_}\n" } sort keys %conf),
        program('pgpool'), '-n', '-f', "$dir/conf", '-F', "$dir/pcp.conf",
        '-a', "$dir/hba")->start;
}


1;
