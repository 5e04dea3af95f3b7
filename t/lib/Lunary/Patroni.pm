package Lunary::Patroni;

# Two nodes of PostgreSQL that Patroni keeps, with its own Raft, and HAProxy
# before them, as doc/operations.md configures it.
#
#   my $patroni = Lunary::Patroni->new;
#   $patroni->primary, $patroni->standby    as they are now, a Lunary::Pg each
#   $patroni->conninfo                      of the primary, by HAProxy
#   $patroni->switchover; $patroni->stop
#
# Packages: haproxy patroni python3-pysyncobj

use strict;
use warnings;

use JSON::XS qw( encode_json );
use Lunary::Client;
use Lunary::Pg;
use Lunary::System qw( free_port kill_wait program project_dir read_file
                     run_cmd tmpdir wait_until write_file );

my @all;
my $owner = $$;


sub new {
    my ($class) = @_;

    my $dir = tmpdir('patroni');
    Lunary::Pg->own($dir);

    # both are copies of one template: the one that is not the leader follows
    my @nodes = map { { name => "node$_", rest => free_port(),
                        raft => '127.0.0.1:' . free_port(),
                        pg => Lunary::Pg->new(start => 0, hba => <<'EOF_HBA') }
local all all trust
host all all 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
EOF_HBA
                    } 1 .. 2;

    my $self = bless { dir => $dir, port => free_port(), nodes => \@nodes,
                       log => "$dir/haproxy.log", pids => [] }, $class;

    push @all, $self;

    $self->configure(@nodes);
    $self->configure(reverse @nodes);
    $self->configure_haproxy;

    for my $node (@nodes) {
        $self->spawn($node->{pg}{log}, 'patroni', "$dir/$node->{name}.yml");
    }

    $self->ready;
    $self->spawn($self->{log}, program('haproxy'), '-db', '-f',
                 "$dir/haproxy.cfg");

    wait_until {
        eval { Lunary::Client->new(port => $self->{port})->connect }
    } 20, 'HAProxy';

    return $self;
}


# JSON is YAML
sub configure {
    my ($self, $node, $other) = @_;

    my $pg = $node->{pg};
    my $address = "127.0.0.1:$pg->{port}";
    my $rest = "127.0.0.1:$node->{rest}";
    my $file = "$self->{dir}/$node->{name}.yml";

    write_file($file, encode_json({
        scope => 'lunary',
        name => $node->{name},
        restapi => { listen => $rest, connect_address => $rest },
        raft => { data_dir => "$self->{dir}/$node->{name}.raft",
                  self_addr => $node->{raft},
                  partner_addrs => [$other->{raft}] },
        postgresql => {
            listen => $address,
            connect_address => $address,
            data_dir => $pg->{data},
            bin_dir => Lunary::Pg->bindir,
            pgpass => "$self->{dir}/$node->{name}.pgpass",
            authentication => { superuser => { username => 'postgres' },
                                replication => { username => 'postgres' } },
        },
    }));

    Lunary::Pg->own($file);
}


sub configure_haproxy {
    my ($self) = @_;

    my ($conf) = read_file(project_dir() . '/doc/operations.md')
                 =~ /^```haproxy\n(.*?)^```$/ms or die 'no haproxy.cfg';

    for my $node (@{ $self->{nodes} }) {
        my $address = "127.0.0.1:$node->{pg}{port}";

        $conf =~ s/10\.0\.0\.\d+:5432 (.*)8008/$address $1$node->{rest}/
            or die "haproxy.cfg: no server for $node->{name}";
    }

    $conf =~ s/^( +bind +).*:5000$/${1}127.0.0.1:$self->{port}/m
        or die 'haproxy.cfg: no port';

    write_file("$self->{dir}/haproxy.cfg", $conf);
}


sub spawn {
    my ($self, $log, @cmd) = @_;

    push @{ $self->{pids} }, Lunary::Pg->spawn($log, @cmd);
}


# what Patroni says: the node that is a "primary" or a "replica"
sub node {
    my ($self, $role) = @_;

    for my $node (@{ $self->{nodes} }) {
        my $answer = eval { Lunary::Client->new(port => $node->{rest})
                            ->get("/$role") };
        return $node->{pg} if $answer && $answer->{status} == 200;
    }

    return;
}


sub primary { return $_[0]->node('primary') }
sub standby { return $_[0]->node('replica') }


# there is a primary, and a standby that follows it
sub ready {
    my ($self) = @_;

    wait_until {
        my $primary = $self->primary;
        return $primary && $self->standby && $primary->value(q{
            select count(*) from pg_stat_replication
            where state = 'streaming'});
    } 120 or die "Patroni does not start:\n", map { read_file($_->{pg}{log}) }
                                              @{ $self->{nodes} };

    $self->primary->catch_up($self->standby);
}


sub conninfo {
    my ($self) = @_;

    return $self->{nodes}[0]{pg}->conninfo(host => '127.0.0.1',
                                           port => $self->{port});
}


sub switchover {
    my ($self) = @_;

    my ($status, $text) = run_cmd('patronictl', '-c',
        "$self->{dir}/node1.yml", 'switchover', '--force', 'lunary');

    die "patronictl: $text" if $status != 0 || $text !~ /Successfully switched/;
    return $text;
}


# Patroni first, or it would start PostgreSQL again
sub stop {
    my ($self) = @_;

    kill_wait('KILL', $_, 10) for splice @{ $self->{pids} };

    for my $node (@{ $self->{nodes} }) {
        my $pid = eval { $node->{pg}->pid } or next;
        kill_wait('QUIT', $pid, 30);
    }
}


END {
    if ($$ == $owner) {
        local ($?, $!, $@);
        $_->stop for @all;
    }
}


1;
