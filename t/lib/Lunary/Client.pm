package Lunary::Client;

# Raw HTTP/1.x on a socket, for what no other client does: leaving in the
# middle, reading slowly, sending nonsense.  And HTTP/2 by curl and nghttp.
#
#   my $client = Lunary::Client->new(port => 8080);
#   my $answer = $client->get($uri, Authorization => "Bearer $key");
#   $answer->{status}, {header}{lower-case}, {body}, {whole}, {raw}
#
#   $client->send($text); $client->read_some; $client->reset;

use strict;
use warnings;

use Errno qw( EAGAIN EINTR EWOULDBLOCK );
use IO::Select;
use IO::Socket::INET;
use Lunary::System qw( patience run_cmd );
use Socket qw( SOL_SOCKET SO_ERROR SO_LINGER SO_RCVBUF );
use Time::HiRes qw( time );


sub new {
    my ($class, %arg) = @_;

    my $self = bless { port => $arg{port} // $ENV{TEST_NGINX_PORT} // 1984,
                       timeout => ($arg{timeout} // 15) * patience(),
                       buffer => '',
                       rcvbuf => $arg{rcvbuf} }, $class;

    return $self;
}


sub connect {
    my ($self) = @_;

    my $socket = IO::Socket::INET->new(Proto => 'tcp') or die "socket: $!";

    setsockopt $socket, SOL_SOCKET, SO_RCVBUF, $self->{rcvbuf}
        if $self->{rcvbuf};

    my $to = Socket::pack_sockaddr_in($self->{port},
                                      Socket::inet_aton('127.0.0.1'));

    # after a signal it goes on by itself
    if (!connect $socket, $to) {
        $! == EINTR && IO::Select->new($socket)->can_write($self->{timeout})
            && !($! = $socket->sockopt(SO_ERROR))
            or die "connect to $self->{port}: $!\n";
    }

    $socket->blocking(0);
    $self->{socket} = $socket;
    $self->{select} = IO::Select->new($socket);
    $self->{buffer} = '';

    return $self;
}


sub request {
    my ($self, $method, $uri, %header) = @_;

    my $version = delete $header{version} // '1.1';
    my $body = delete $header{body};

    $header{Host} //= 'localhost';
    $header{'Content-Length'} = length $body if defined $body;

    return "$method $uri HTTP/$version\r\n"
           . join('', map { "$_: $header{$_}\r\n" } sort keys %header)
           . "\r\n" . ($body // '');
}


sub send {
    my ($self, $text) = @_;

    $self->connect if !$self->{socket};

    local $SIG{PIPE} = 'IGNORE';
    my $end = time + $self->{timeout};

    while ($text ne '') {
        my $bytes = syswrite $self->{socket}, $text;

        if (defined $bytes) {
            substr $text, 0, $bytes, '';
            next;
        }

        return 0 if $! != EAGAIN && $! != EINTR || time > $end;
        $self->{select}->can_write(0.1);
    }

    return 1;
}


# reads once into the buffer: bytes read, 0 at the end, undef on a reset,
# -1 when nothing came in time
sub read_some {
    my ($self, $timeout, $max) = @_;

    return -1 if !$self->{select}->can_read($timeout // $self->{timeout});

    my $bytes = sysread $self->{socket}, $self->{buffer}, $max // 65536,
                        length $self->{buffer};

    return -1 if !defined $bytes && ($! == EAGAIN || $! == EINTR);
    return $bytes;
}


# one answer; whole tells whether it came to its proper end
sub answer {
    my ($self, $method) = @_;

    my $head = ($method // '') eq 'HEAD';
    my $end = time + $self->{timeout};
    my $closed;

    while (1) {
        my $answer = $self->parse($head, $closed);
        return $answer if $answer;

        if ($closed || time > $end) {
            my $status = $self->{buffer} =~ m{^HTTP/\S+ (\d+)} ? $1 : 0;
            return { status => $status, header => {}, body => '', whole => 0,
                     raw => $self->{buffer}, closed => $closed };
        }

        my $bytes = $self->read_some($end - time);
        $closed = 'eof' if defined $bytes && $bytes == 0;
        $closed = 'reset' if !defined $bytes;
    }
}


sub parse {
    my ($self, $head, $closed) = @_;

    my $buffer = \$self->{buffer};

    return if $$buffer !~ m{^HTTP/(\S+) (\d+)[^\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n};

    my ($from, %header) = ($+[0]);
    my ($version, $status) = ($1, $2);

    for my $line (split /\r\n/, $3 // '') {
        my ($key, $value) = split /:\s*/, $line, 2;
        $key = lc $key;
        $header{$key} = defined $header{$key} ? "$header{$key}, $value"
                                              : $value;
    }

    my %answer = (version => $version, status => $status, whole => 1,
                  header => \%header, body => '', closed => $closed,
                  head => substr $$buffer, 0, $from);

    if ($head || $status =~ /^(?:1..|204|304)$/) {
        substr $$buffer, 0, $from, '';
        return \%answer;
    }

    if (($header{'transfer-encoding'} // '') eq 'chunked') {
        pos($$buffer) = $from;

        while ($$buffer =~ /\G([0-9A-Fa-f]+)\r\n/gc) {
            my ($size, $at) = (hex $1, pos $$buffer);
            last if length $$buffer < $at + $size + 2;

            $answer{body} .= substr $$buffer, $at, $size;
            pos($$buffer) = $at + $size + 2;

            if ($size == 0) {
                substr $$buffer, 0, pos $$buffer, '';
                return \%answer;
            }
        }

        return if !$closed;
        $answer{whole} = 0;
        return \%answer;
    }

    if (defined(my $length = $header{'content-length'})) {
        if (length $$buffer >= $from + $length) {
            $answer{body} = substr $$buffer, $from, $length;
            substr $$buffer, 0, $from + $length, '';
            return \%answer;
        }

        return if !$closed;
        $answer{body} = substr $$buffer, $from;
        $answer{whole} = 0;
        return \%answer;
    }

    return if !$closed;

    $answer{body} = substr $$buffer, $from;
    $answer{whole} = $closed eq 'eof' ? 1 : 0;
    return \%answer;
}


# a whole exchange; the connection is kept for the next
sub exchange {
    my ($self, $method, $uri, %header) = @_;

    $self->send($self->request($method, $uri, %header))
        or return { status => 0, header => {}, body => '', whole => 0 };

    my $answer = $self->answer($method);

    $self->close if $answer->{closed}
                    || ($answer->{header}{connection} // '') eq 'close';
    return $answer;
}


sub get {
    my ($self, $uri, %header) = @_;

    return $self->exchange('GET', $uri, %header);
}


sub related {
    my ($self, $id, $key, %header) = @_;

    return $self->get("/v1/runs/$id/related",
                      Authorization => "Bearer $key", %header);
}


# leaves politely, with a FIN
sub close {
    my ($self) = @_;

    close delete $self->{socket} if $self->{socket};
}


# leaves with a RST
sub reset {
    my ($self) = @_;

    return if !$self->{socket};

    setsockopt $self->{socket}, SOL_SOCKET, SO_LINGER, pack 'II', 1, 0;
    $self->close;
}


# HTTP/2 with prior knowledge, by curl
sub http2 {
    my ($self, $uri, @options) = @_;

    my ($status, $text) = run_cmd('curl', '-isS', '--http2-prior-knowledge',
        '--max-time', $self->{timeout}, @options,
        "http://127.0.0.1:$self->{port}$uri");

    my %answer = (status => 0, header => {}, body => '',
                  whole => $status == 0, curl => $status >> 8, raw => $text);

    if ($text =~ m{^HTTP/2 (\d+)[^\n]*\r\n(.*?\r\n)?\r\n}s) {
        @answer{qw( status body )} = ($1, substr $text, $+[0]);

        for my $line (split /\r\n/, $2 // '') {
            my ($key, $value) = split /:\s*/, $line, 2;
            $answer{header}{lc $key} = $value;
        }
    }

    return \%answer;
}


1;
