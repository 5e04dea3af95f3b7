package Lunary::NoTls;

# A way to a PostgreSQL server on which TLS breaks off: who asks for it is
# told that it can be had, and has the connection reset once the handshake
# has begun.  Sessions in plain text are passed on.
#
#   my $way = Lunary::NoTls->new($pg->{port});
#   $way->{port};
#   $way->mode('refuse')  all connections are closed (at first)
#   $way->mode('reset')   handshakes are reset at once
#   $way->mode('full')    likewise, but the next connection is not taken
#                         before its first SYN was lost
#   $way->mode('hold')    handshakes wait;  $way->held  until one does,
#   $way->go              resets it

use strict;
use warnings;

use IO::Handle;
use IO::Pipe;
use IO::Select;
use IO::Socket::INET;
use Lunary::System qw( kill_wait patience read_file wait_until );
use POSIX ();
use Socket qw( SOCK_NONBLOCK SOCK_STREAM PF_INET SOL_SOCKET SO_LINGER );
use Time::HiRes qw( sleep time );

my @all;
my $owner = $$;


sub new {
    my ($class, $to) = @_;

    # the queue of those that are not accepted yet must be easily filled
    my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1)
                 or die "listen: $!";

    my $self = bless { port => $listen->sockport, to => $to, mode => 'refuse',
                       listen => $listen, orders => IO::Pipe->new,
                       news => IO::Pipe->new }, $class;

    $self->{pid} = fork // die "fork: $!";

    if ($self->{pid} == 0) {
        local $SIG{PIPE} = 'IGNORE';
        $self->{orders}->reader;
        $self->{news}->writer;
        $self->{news}->autoflush(1);
        eval { $self->serve; 1 } or warn $@;
        POSIX::_exit(0);
    }

    close delete $self->{listen};
    $self->{orders}->writer;
    $self->{orders}->autoflush(1);
    $self->{news}->reader;

    push @all, $self;
    return $self;
}


sub mode {
    my ($self, $mode) = @_;

    $self->{orders}->print("$mode\n");
    $self->told('mode');
}

sub held { return $_[0]->told('held') }
sub go { $_[0]{orders}->print("go\n") }

sub told {
    my ($self, $what) = @_;

    IO::Select->new($self->{news})->can_read(20 * patience())
        or die "waited in vain to hear: $what\n";

    my $line = readline $self->{news};
    die "heard $line and not $what\n" if $line ne "$what\n";
}


sub serve {
    my ($self) = @_;

    my $listen = $self->{listen};
    my $select = $self->{select} = IO::Select->new($listen, $self->{orders});
    my $parent = getppid;

    while (getppid == $parent) {
        for my $socket ($select->can_read(1)) {

            # closed together with the other end a moment ago
            next if !defined fileno $socket;

            if ($socket == $listen) {
                my $new = $listen->accept or next;
                $select->add($new) if $self->{mode} ne 'refuse';

            } elsif ($socket == $self->{orders}) {
                my $order = readline($socket) // return;
                chomp $order;

                if ($order eq 'go') {
                    $self->reset(delete $self->{held});
                    next;
                }

                $self->{mode} = $order;
                $self->{news}->print("mode\n");

            } elsif (!$self->take($socket)) {
                my $other = delete $self->{peer}{$socket};
                delete $self->{peer}{$other} if $other;
                delete $self->{tls}{$socket};

                $select->remove($_), close $_ for $socket, $other // ();
            }
        }
    }
}


# false for one that is to be closed
sub take {
    my ($self, $socket) = @_;

    sysread $socket, my $bytes, 65536 or return;

    if (my $other = $self->{peer}{$socket}) {
        return syswrite $other, $bytes;
    }

    if (delete $self->{tls}{$socket}) {
        $self->{news}->print("held\n") if $self->{mode} eq 'hold';
        $self->{held} = $socket;
        $self->{select}->remove($socket);
        $self->reset(delete $self->{held}) if $self->{mode} ne 'hold';
        return 1;
    }

    if (length $bytes == 8 && unpack('x4N', $bytes) == 80877103) {
        $self->{tls}{$socket} = 1;
        return syswrite $socket, 'S';
    }

    my $other = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                                      PeerPort => $self->{to}) or return;

    $self->{peer}{$socket} = $other;
    $self->{peer}{$other} = $socket;
    $self->{select}->add($other);

    return syswrite $other, $bytes;
}


sub reset {
    my ($self, $socket) = @_;

    my @fill = $self->{mode} eq 'full' ? $self->fill : ();
    my $before = $self->asking;

    setsockopt $socket, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
    close $socket;

    return if !@fill;

    my $end = time + 2;
    sleep 0.01 while time < $end && $self->asking <= $before;
}


# connections, more than have room
sub fill {
    my ($self) = @_;

    my $to = Socket::pack_sockaddr_in($self->{port},
                                      Socket::inet_aton('127.0.0.1'));
    my @fill;

    for (1 .. 5) {
        socket my $socket, PF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0
            or die "socket: $!";
        connect $socket, $to;
        push @fill, $socket;
    }

    wait_until { $self->asking } 10, 'the queue to be full';

    return @fill;
}


# how many SYNs to us have no answer
sub asking {
    my ($self) = @_;

    my $to = sprintf '0100007F:%04X', $self->{port};

    return scalar(() = read_file('/proc/net/tcp') =~ / $to 02 /g);
}


sub stop {
    my ($self) = @_;

    my $pid = delete $self->{pid} or return;
    kill_wait('KILL', $pid);
}


END {
    if ($$ == $owner) {
        local ($?, $!, $@);
        $_->stop for @all;
    }
}


1;
