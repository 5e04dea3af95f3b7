package Lunary::NoTls;

# A proxy that breaks TLS to a PostgreSQL server: it accepts a request for TLS,
# and resets the connection during the handshake.  Sessions without TLS are
# forwarded.
#
#   my $way = Lunary::NoTls->new($pg->{port});
#   $way->{port};
#   $way->mode('refuse')  closes all connections (the default)
#   $way->mode('reset')   resets a handshake at once
#   $way->mode('full')    the same, and the first SYN of the next connection
#                         is lost
#   $way->mode('hold')    holds a handshake;  $way->held  waits for one,
#   $way->go              resets it

use strict;
use warnings;

use IO::Handle;
use IO::Pipe;
use IO::Select;
use IO::Socket::INET;
use Lunary::System qw( background patience read_file wait_until );
use Socket qw( SOCK_NONBLOCK SOCK_STREAM PF_INET SOL_SOCKET SO_LINGER );
use Time::HiRes qw( sleep time );


sub new {
    my ($class, $to) = @_;

    # a short backlog, which fill() fills
    my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1)
                 or die "listen: $!";

    my $self = bless { port => $listen->sockport, to => $to, mode => 'refuse',
                       listen => $listen, orders => IO::Pipe->new,
                       news => IO::Pipe->new }, $class;

    background {
        local $SIG{PIPE} = 'IGNORE';
        $self->{orders}->reader;
        $self->{news}->writer;
        $self->{news}->autoflush(1);
        $self->serve;
    };

    close delete $self->{listen};
    $self->{orders}->writer;
    $self->{orders}->autoflush(1);
    $self->{news}->reader;

    return $self;
}


sub mode {
    my ($self, $mode) = @_;

    $self->{orders}->print("$mode\n");
    $self->told('mode');
}

sub held { return $_[0]->told('held') }
sub go { $_[0]{orders}->print("go\n") }

# waits for a message of the proxy
sub told {
    my ($self, $what) = @_;

    IO::Select->new($self->{news})->can_read(20 * patience())
        or die "no message \"$what\"\n";

    my $line = readline $self->{news};
    die "the message \"$line\" is not \"$what\"\n" if $line ne "$what\n";
}


sub serve {
    my ($self) = @_;

    my $listen = $self->{listen};
    my $select = $self->{select} = IO::Select->new($listen, $self->{orders});
    my $parent = getppid;

    while (getppid == $parent) {
        for my $socket ($select->can_read(1)) {

            # already closed together with its peer
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


# handles what a socket received; false if the socket is to be closed
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


# opens more connections than the backlog holds
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

    wait_until { $self->asking } 10, 'a full backlog';

    return @fill;
}


# the number of unanswered SYNs to the proxy
sub asking {
    my ($self) = @_;

    my $to = sprintf '0100007F:%04X', $self->{port};

    return scalar(() = read_file('/proc/net/tcp') =~ / $to 02 /g);
}


1;
