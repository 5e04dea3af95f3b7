package Lunary::PgBouncer;

# A PgBouncer before one of the test's servers, a Lunary::Pooler.
#
#   my $bouncer = Lunary::PgBouncer->new($pg, mode => 'transaction');
#   Lunary::PgBouncer->carries_statements   "max_prepared_statements" is known
#
# Packages: pgbouncer

use strict;
use warnings;

use Lunary::Pooler;
use Lunary::System qw( program run_cmd );

our @ISA = qw( Lunary::Pooler );


sub new {
    my ($class, $pg, %arg) = @_;

    my $self = $class->SUPER::new($pg);
    my $dir = $self->{dir};

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

    my $text = join '', "[databases]\nlunary = host=$pg->{socket_dir}"
        . " port=$pg->{port} user=lunary_ro\n\n[pgbouncer]\n",
        map { "$_ = $conf{$_}\n" } sort keys %conf;

    return $self->configure($text, program('pgbouncer'), '-q', "$dir/conf")
        ->start;
}


# 1.21 and newer
sub carries_statements {
    my ($status, $out) = run_cmd(program('pgbouncer'), '--version');
    my ($minor) = $out =~ /^PgBouncer 1\.(\d+)/ or die "PgBouncer: $out\n";

    return $minor >= 21;
}


1;
