package Lunary::Crowd;

# Many clients at a time in one process, each with requests of its own, some
# of which leave early or read slowly.
#
#   Lunary::Crowd->new(port => 8080, clients => 40,
#       next => sub { return \%request, ... },    a pipeline; none: the end
#       done => sub { my ($request, $answer) = @_; ... },
#       tick => sub { ... })->run($seconds);
#
# A request: { text, method } and perhaps { leave => 'close' or 'reset',
# after => bytes of its answer or seconds to wait, slow => bytes at a time }.
# An answer is what Lunary::Client makes of it, or { left => 1 }.

use strict;
use warnings;

use Errno qw( EAGAIN EINTR );
use Lunary::Client;
use Lunary::System qw( patience );
use Time::HiRes qw( sleep time );


sub new {
    my ($class, %arg) = @_;

    return bless { clients => 16, timeout => 20 * patience(), %arg }, $class;
}


sub run {
    my ($self, $seconds) = @_;

    my $end = time + ($seconds // 600);
    my $next = 0;

    $self->{all} = [map { +{ crowd => $self } } 1 .. $self->{clients}];
    $self->{over} = 0;

    while (time < $end) {
        for my $one (@{ $self->{all} }) {
            begin($self, $one) if !$one->{requests} && !$self->{over};
        }

        my @busy = grep { $_->{requests} } @{ $self->{all} };
        last if !@busy;

        if (time >= $next) {
            $self->{tick}->() if $self->{tick};
            $next = time + 0.02;
        }

        turn($self, @busy);
    }

    for my $one (grep { $_->{requests} } @{ $self->{all} }) {
        finish($self, $one, { status => 0, unfinished => 1 });
    }
}


sub begin {
    my ($self, $one) = @_;

    my @requests = $self->{next}->();

    if (!@requests) {
        $self->{over} = 1;
        return;
    }

    if (!$one->{client} || !$one->{client}{socket}) {
        $one->{client} = Lunary::Client->new(port => $self->{port},
                                             rcvbuf => $self->{rcvbuf});
        $one->{client}->connect;
    }

    $one->{requests} = \@requests;
    $one->{out} = join '', map { $_->{text} } @requests;
    $one->{since} = time;
}


sub turn {
    my ($self, @busy) = @_;

    my ($read, $write) = ('', '');
    my $now = time;

    for my $one (@busy) {
        my $fd = fileno $one->{client}{socket};
        vec($write, $fd, 1) = 1 if $one->{out} ne '';
        vec($read, $fd, 1) = 1
            if !$one->{requests}[0]{slow} || $now >= ($one->{rest} // 0);
    }

    select($read, $write, undef, 0.005);

    for my $one (@busy) {
        my $fd = fileno $one->{client}{socket};

        if (vec($write, $fd, 1)) {
            local $SIG{PIPE} = 'IGNORE';
            my $bytes = syswrite $one->{client}{socket}, $one->{out};
            substr $one->{out}, 0, $bytes, '' if $bytes;
            $one->{out} = '' if !defined $bytes && $! != EAGAIN;
        }

        take($self, $one) if vec($read, $fd, 1);
        leave($self, $one) if $one->{requests};
    }
}


sub take {
    my ($self, $one) = @_;

    my $client = $one->{client};
    my $request = $one->{requests}[0];

    my $bytes = $client->read_some(0, $request->{slow});
    return if defined $bytes && $bytes < 0;

    $one->{rest} = time + 0.01;
    $one->{got} += $bytes // 0;

    my $closed = !defined $bytes ? 'reset' : $bytes == 0 ? 'eof' : undef;

    while ($one->{requests} && @{ $one->{requests} }) {
        my $answer = $client->parse($one->{requests}[0]{method} eq 'HEAD',
                                    $closed);

        if (!$answer) {
            return if !$closed;

            my $status = $client->{buffer} =~ m{^HTTP/\S+ (\d+)} ? $1 : 0;
            finish($self, $one, { status => $status, whole => 0, body => '',
                                  header => {}, closed => $closed });
            return;
        }

        my $close = ($answer->{header}{connection} // '') eq 'close';

        $self->{done}->(shift @{ $one->{requests} }, $answer);
        $one->{got} = 0;
        $one->{since} = time;

        if ($close || $answer->{closed}) {
            finish($self, $one, { status => 0, left => 1 });
            return;
        }
    }

    delete $one->{requests} if !@{ $one->{requests} };
}


sub leave {
    my ($self, $one) = @_;

    my $request = $one->{requests}[0] or return;
    my $leave = $request->{leave};

    if ($leave && $one->{out} eq ''
        && ($one->{got} // 0) >= ($request->{after} // 0)
        && time - $one->{since} >= ($request->{wait} // 0))
    {
        finish($self, $one, { status => 0, left => 1 }, $leave);

    } elsif (time - $one->{since} > $self->{timeout}) {
        finish($self, $one, { status => 0, unfinished => 1 });
    }
}


# the connection is over; what it still owed is told with the last word
sub finish {
    my ($self, $one, $answer, $how) = @_;

    my $requests = delete $one->{requests};

    ($how // '') eq 'reset' ? $one->{client}->reset : $one->{client}->close;
    $one->{got} = 0;

    my $first = shift @$requests or return;

    $self->{done}->($first, $answer);

    # those behind were never begun, as far as anyone can tell
    $self->{done}->($_, { status => 0, left => 1 }) for @$requests;
}


1;
