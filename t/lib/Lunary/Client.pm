package Lunary::Client;

# An HTTP client on a plain socket.  It can leave during a response, read slowly
# and send invalid requests.  There is one event loop, turn().
#
#   my $client = Lunary::Client->new(port => 8080);
#   my $answer = $client->get($uri, Authorization => "Bearer $key");
#   $answer->{status}, {header}{lower-case}, {body}, {whole}, {closed}
#
#   $client->send($text); $client->read_some; $client->answer; $client->reset;
#
#   my @answers = await($seconds, @clients);        of several clients at once
#
# A response of any size; only its length, digest and end are stored:
#
#   my $in = Lunary::Client->stream(port => $port, uri => $uri, key => $key,
#                                   version => '1.1', rcvbuf => 8192,
#                                   each => sub { ... each piece of body ... });
#   $in->take(50_000);                   reads this many bytes, or to the end
#   $in->rest(rate => 2e6);              reads to the end, at most at this rate
#   $in->{length}, ->md5, {tail}, {whole}, {closed}, {header}, {over}
#
# Lunary::Client::Http2->stream does the same with HTTP/2.
#
# Many clients; each sends one request or pipeline after another:
#
#   crowd(port => 8080, clients => 40, seconds => 60,
#       next => sub { return \%request, ... },   a pipeline; undef: not yet;
#                                                an empty list: no more
#       done => sub { my ($request, $answer) = @_; ... },
#       tick => sub { ... });                    called every 20 ms
#
# A request is { text, method }.  With leave => 'close' or 'reset' the client
# leaves after it has read "after" bytes and waited "wait" seconds, and the
# response is { left => 1 }.  With slow => $bytes it reads that many at a time.
# After "timeout" seconds the response is { unfinished => 1 }.

use strict;
use warnings;

use Digest::MD5;
use Errno qw( EAGAIN EINTR );
use Exporter qw( import );
use IO::Select;
use IO::Socket::INET;
use List::Util qw( max min );
use Lunary::System qw( patience run_cmd );
use Lunary::Test qw( key );
use Socket qw( SOL_SOCKET SO_ERROR SO_LINGER SO_RCVBUF );
use Time::HiRes qw( sleep time );

our @EXPORT_OK = qw( await crowd frame );


sub new {
    my ($class, %arg) = @_;

    return bless { %arg, port => $arg{port} // $ENV{TEST_NGINX_PORT} // 1984,
                   timeout => ($arg{timeout} // 15) * patience(),
                   buffer => '', out => '' }, $class;
}


sub connect {
    my ($self) = @_;

    my $socket = IO::Socket::INET->new(Proto => 'tcp') or die "socket: $!";

    setsockopt $socket, SOL_SOCKET, SO_RCVBUF, $self->{rcvbuf}
        if $self->{rcvbuf};

    my $to = Socket::pack_sockaddr_in($self->{port},
                                      Socket::inet_aton('127.0.0.1'));

    # connect() continues in the background after a signal
    if (!connect $socket, $to) {
        $! == EINTR && IO::Select->new($socket)->can_write($self->{timeout})
            && !($! = $socket->sockopt(SO_ERROR))
            or die "connect to $self->{port}: $!\n";
    }

    $socket->blocking(0);
    delete @$self{qw( answer closed served )};
    @$self{qw( socket buffer out taken sent )} = ($socket, '', '', 0, time);

    return $self;
}


# the event loop

# Waits until a client can send or receive, and lets each do so once.  A client
# reads at most "max" bytes, and nothing if that is 0.
sub turn {
    my ($seconds, @clients) = @_;

    my ($in, $out) = ('', '');

    @clients = grep { $_->{socket} } @clients;

    for my $client (@clients) {
        my $fd = fileno $client->{socket};
        vec($in, $fd, 1) = 1 if $client->{max} // 1;
        vec($out, $fd, 1) = 1 if $client->{out} ne '';
    }

    return if select($in, $out, undef, max(0, $seconds)) < 1;

    for my $client (@clients) {
        my $fd = fileno $client->{socket};
        $client->flush if vec($out, $fd, 1);
        $client->receive if vec($in, $fd, 1);
    }
}


sub flush {
    my ($self) = @_;

    local $SIG{PIPE} = 'IGNORE';
    my $bytes = syswrite $self->{socket}, $self->{out};

    if (defined $bytes) {
        substr $self->{out}, 0, $bytes, '';

    } elsif ($! != EAGAIN && $! != EINTR) {
        $self->{out} = '';
        $self->{failed} = 1;
    }
}


sub receive {
    my ($self) = @_;

    my $bytes = sysread $self->{socket}, $self->{buffer},
                        min($self->{max} // 262144, 262144),
                        length $self->{buffer};

    return if !defined $bytes && ($! == EAGAIN || $! == EINTR);

    $self->{received} = time;
    $self->{taken} += $bytes // 0;
    $self->{closed} = defined $bytes ? 'eof' : 'reset' if !$bytes;
}


# sends all of the text before it reads anything; false if that fails
sub send {
    my ($self, $text) = @_;

    $self->connect if !$self->{socket};

    my $end = time + $self->{timeout};

    @$self{qw( out sent failed )} = ($text, time, 0);
    local $self->{max} = 0;

    turn(0.1, $self) while $self->{out} ne '' && time < $end;

    return $self->{out} eq '' && !$self->{failed};
}


# reads once into the buffer: the number of bytes, 0 at the end, undef after a
# reset, -1 if nothing comes in time
sub read_some {
    my ($self, $timeout, $max) = @_;

    my $taken = $self->{taken};

    local $self->{max} = $max;
    turn($timeout // $self->{timeout}, $self);

    return $self->{taken} - $taken if $self->{taken} > $taken;
    return -1 if !$self->{closed};
    return $self->{closed} eq 'eof' ? 0 : undef;
}


# waits until all responses are over, and returns them; at the timeout a
# response may be incomplete
sub await {
    my ($seconds, @clients) = @_;

    my $end = time + $seconds;

    while (my @open = grep { !$_->parse } @clients) {
        last if time > $end;
        turn($end - time, @open);
    }

    return map {
        my $answer = $_->current;

        $answer->{time} //= time - $_->{sent};
        delete $_->{answer} if $answer->{over};
        $answer
    } @clients;
}


# the next answer; {whole} is true if it is complete
sub answer {
    my ($self, $method) = @_;

    $self->current->{method} = $method // 'GET';
    return (await($self->{timeout}, $self))[0];
}


# the next response if it was received, without waiting
sub ready {
    my ($self) = @_;

    turn(0, $self);
    return $self->parse && (await(0, $self))[0];
}


# responses

# the current response; that of a stream is the client itself
sub current {
    my ($self) = @_;

    return $self if $self->{digest};
    return $self->{answer} //= { method => 'GET', status => 0, whole => 0,
                                 header => {}, body => '', length => 0 };
}


sub fields {
    my ($text) = @_;

    my %header;

    for my $line (split /\r\n/, $text // '') {
        my ($name, $value) = split /:\s*/, $line, 2;
        $name = lc $name;
        $header{$name} = defined $header{$name} ? "$header{$name}, $value"
                                                : $value;
    }

    return \%header;
}


# moves data from the buffer to the response; true if the response is over
sub parse {
    my ($self) = @_;

    my ($answer, $in) = ($self->current, \$self->{buffer});

    return 1 if $answer->{over};

    if (!defined $answer->{head}
        && $$in =~ m{^(HTTP/\S+ (\d+)[^\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n)})
    {
        @$answer{qw( head status header )} = ($1, $2, fields($3));
        substr $$in, 0, $+[0], '';

        my $empty = $answer->{method} eq 'HEAD'
                    || $answer->{status} =~ /^(?:1..|204|304)$/;

        $answer->{left} = $empty ? 0 : $answer->{header}{'content-length'};
        $answer->{chunked} = 1 if !$empty && 'chunked'
            eq ($answer->{header}{'transfer-encoding'} // '');
    }

    parse_body($answer, $in) if defined $answer->{head};

    if ($self->{closed} && !$answer->{whole}) {
        $answer->{status} = $1
            if !$answer->{head} && $$in =~ m{^HTTP/\S+ (\d+)};
        $answer->{closed} = $self->{closed};
        $answer->{whole} = 1
            if $answer->{closed} eq 'eof' && $answer->{head}
               && !$answer->{chunked} && !defined $answer->{left};
    }

    return if !$answer->{whole} && !$answer->{closed};

    $answer->{time} = time - $self->{sent};
    return $answer->{over} = 1;
}


# "left" bytes of the body or of the chunk are still to come
sub parse_body {
    my ($answer, $in) = @_;

    my $at = 0;

    while (1) {
        my $left = $answer->{left};

        if ($answer->{chunked} && !$left) {
            pos($$in) = $at;
            last if $$in !~ /\G(?:\r\n)?(?:0\r\n\r\n
                             |([1-9A-Fa-f][0-9A-Fa-f]*)\r\n)/gcx;

            $at = pos $$in;
            $left = hex($1 // 0);
            $answer->{whole} = 1, last if $left == 0;
        }

        my $part = substr $$in, $at, $left // length $$in;

        body($answer, $part) if $part ne '';
        $at += length $part;
        $answer->{left} = $left - length $part if defined $left;
        $answer->{whole} = 1
            if defined $left && !$answer->{left} && !$answer->{chunked};

        last if $answer->{whole} || $at == length $$in;
    }

    substr $$in, 0, $at, '';
}


sub body {
    my ($answer, $part) = @_;

    $answer->{length} += length $part;

    if (defined $answer->{body}) {
        $answer->{body} .= $part;
        return;
    }

    $answer->{digest}->add($part);
    $answer->{tail} = substr $answer->{tail} . $part, -200;
    $answer->{each}->($part) if $answer->{each};
}


# requests

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


# sends a request, and does not wait for its response
sub ask {
    my ($self, $uri, %header) = @_;

    $self->send($self->request('GET', $uri, %header));
    return $self;
}


# sends a request and returns the response; the connection stays open
sub exchange {
    my ($self, $method, $uri, %header) = @_;

    $self->send($self->request($method, $uri, %header))
        or return { status => 0, header => {}, body => '', whole => 0,
                    time => 0 };

    my $answer = $self->answer($method);

    $self->close if ends($answer);
    return $answer;
}


# whether the connection ends after this response
sub ends {
    my ($answer) = @_;

    return $answer->{closed}
           || ($answer->{header}{connection} // '') eq 'close';
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


# closes the connection with a FIN
sub close {
    my ($self) = @_;

    close delete $self->{socket} if $self->{socket};
}


# closes the connection with a RST
sub reset {
    my ($self) = @_;

    return if !$self->{socket};

    setsockopt $self->{socket}, SOL_SOCKET, SO_LINGER, pack 'II', 1, 0;
    $self->close;
}


# a request and its response with HTTP/2, by curl
sub http2 {
    my ($self, $uri, @options) = @_;

    my ($status, $text) = run_cmd('curl', '-isS', '--http2-prior-knowledge',
        '--max-time', $self->{timeout}, @options,
        "http://127.0.0.1:$self->{port}$uri");

    my %answer = (status => 0, header => {}, body => '',
                  whole => $status == 0, curl => $status >> 8, raw => $text);

    @answer{qw( status header body )} = ($1, fields($2), substr $text, $+[0])
        if $text =~ m{^HTTP/2 (\d+)[^\n]*\r\n(.*?\r\n)?\r\n}s;

    return \%answer;
}


# streams

sub stream {
    my ($class, %arg) = @_;

    my $self = $class->new(timeout => 30, key => key('alpha'),
        version => '1.1', method => 'GET', header => {}, status => 0,
        length => 0, tail => '', digest => Digest::MD5->new, %arg)->connect;

    $self->begin;
    return $self;
}


sub begin {
    my ($self) = @_;

    $self->send($self->request('GET', $self->{uri},
        version => $self->{version}, Authorization => "Bearer $self->{key}",
        $self->{version} eq '1.1' ? (Connection => 'close') : (),
        %{ $self->{headers} // {} }));
}


# reads once, without waiting
sub some {
    my ($self, $max, $timeout) = @_;

    return if $self->{over};

    $self->read_some($timeout // 0, $max);
    $self->parse;
}


# reads until this number of bytes was received in total
sub take {
    my ($self, $bytes) = @_;

    my $end = time + $self->{timeout};

    $bytes = int $bytes;
    $self->some($bytes - $self->{taken}, 0.1)
        while !$self->{over} && $self->{taken} < $bytes && time < $end;

    return $self;
}


# reads to the end, or for this number of seconds; rate: bytes per second
sub rest {
    my ($self, %arg) = @_;

    my $start = time;
    my $end = $start + ($arg{seconds} // $self->{timeout});
    my $had = $self->{taken};

    while (!$self->{over} && time < $end) {

        if (!$arg{rate}) {
            $self->some(undef, 0.1);
            next;
        }

        my $may = $had + $arg{rate} * (time - $start) - $self->{taken};

        $self->some(int $may) if $may >= 1;
        sleep 0.005 if $may < 65536;
    }

    return $self;
}


sub md5 {
    my ($self) = @_;

    return $self->{md5} //= $self->{digest}->hexdigest;
}


# crowds

sub crowd {
    my (%arg) = @_;

    my $end = time + ($arg{seconds} // 600);
    my ($tick, @idle, @busy) = (0);

    $arg{timeout} = ($arg{timeout} // 20) * patience();

    while (time < $end) {
        my $no_more;

        while (@busy < $arg{clients}) {
            my @requests = $arg{next}->();

            $no_more = !@requests;
            last if !$requests[0];

            my $client = pop @idle
                         // __PACKAGE__->new(port => $arg{port})->connect;

            $client->{requests} = \@requests;
            $client->{out} = join '', map { $_->{text} } @requests;
            $client->begin_answer;
            push @busy, $client;
        }

        last if $no_more && !@busy;

        if ($arg{tick} && time >= $tick) {
            $arg{tick}->();
            $tick = time + 0.02;
        }

        $_->pace for @busy;
        turn(0.005, @busy);
        $_->advance(\%arg) for @busy;

        push @idle, grep { $_->{socket} && !@{ $_->{requests} } } @busy;
        @busy = grep { @{ $_->{requests} } } @busy;
    }

    $_->over(\%arg, { status => 0, unfinished => 1 }) for @busy;
}


sub begin_answer {
    my ($self) = @_;

    @$self{qw( sent begun )} = (time, $self->{taken});
}


# lets a slow client read once in 10 ms
sub pace {
    my ($self) = @_;

    my $slow = $self->{requests}[0]{slow};
    my $wait = $slow && time < ($self->{received} // 0) + 0.01;

    $self->{max} = $wait ? 0 : $slow;
}


# passes complete responses to "done"
sub advance {
    my ($self, $arg) = @_;

    my $requests = $self->{requests};

    while (my $request = $requests->[0]) {
        my $answer = $self->current;

        $answer->{method} = $request->{method};

        return $self->give_up($request, $arg) if !$self->parse;

        delete $self->{answer};
        $answer->{reused} = $self->{served}++;
        shift @$requests;
        $arg->{done}->($request, $answer);
        $self->begin_answer;

        return $self->over($arg, { left => 1 })
            if ends($answer) || $arg->{close};
    }
}


sub give_up {
    my ($self, $request, $arg) = @_;

    my $waited = time - $self->{sent};

    if ($request->{leave} && $self->{out} eq ''
        && $self->{taken} - $self->{begun} >= ($request->{after} // 0)
        && $waited >= ($request->{wait} // 0))
    {
        $self->over($arg, { left => 1 }, $request->{leave});

    } elsif ($waited > $arg->{timeout}) {
        $self->over($arg, { status => 0, unfinished => 1 });
    }
}


# the connection ends: "done" gets this response for the first request, and
# { left => 1 } for those behind it
sub over {
    my ($self, $arg, $answer, $how) = @_;

    $how //= 'close';
    $self->$how;

    for my $request (splice @{ $self->{requests} }) {
        $arg->{done}->($request, $answer);
        $answer = { left => 1 };
    }
}


# HTTP/2

sub frame {
    my ($type, $flags, $stream, $payload) = @_;

    return substr(pack('N', length $payload), 1)
           . pack('CCN', $type, $flags, $stream) . $payload;
}


package Lunary::Client::Http2;

# The stream has a window of "window" bytes.  It is updated after each read,
# unless "hold" is set.

use strict;
use warnings;

our @ISA = qw( Lunary::Client );

*frame = \&Lunary::Client::frame;


sub string { return pack('C', length $_[0]) . $_[0] }


sub begin {
    my ($self) = @_;

    my $window = $self->{window} // 65535;

    $self->send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        . frame(4, 0, 0, pack 'nN', 4, $window)
        . frame(8, 0, 0, pack 'N', 2**30)
        . frame(1, 5, 1, "\x82\x86\x04" . string($self->{uri}) . "\x01"
            . string('localhost') . "\0" . string('authorization')
            . string("Bearer $self->{key}")));
}


sub parse {
    my ($self) = @_;

    my $grow = 0;

    return 1 if $self->{over};

    while (length $self->{buffer} >= 9) {
        my ($length, $type, $flags, $stream) =
            unpack 'NCCN', "\0$self->{buffer}";

        last if length $self->{buffer} < 9 + $length;

        my $payload = substr $self->{buffer}, 9, $length;
        substr $self->{buffer}, 0, 9 + $length, '';

        $self->send(frame(4, 1, 0, '')) if $type == 4 && !($flags & 1);

        # ":status: 200" is indexed
        $self->{status} = $payload =~ /^\x88/ ? 200 : 0 if $type == 1;

        if ($type == 0) {
            Lunary::Client::body($self, $payload);
            $grow += $length;
        }

        if ($type == 3) {
            $self->{reset} = unpack 'N', $payload;
            $self->{over} = 1;

        } elsif ($type <= 1 && $flags & 1) {
            $self->{whole} = $self->{over} = 1;
        }

        $self->{goaway} = 1 if $type == 7;
    }

    $self->{over} = 1 if $self->{closed};
    $self->send(frame(8, 0, 1, pack 'N', $grow))
        if $grow && !$self->{hold} && !$self->{over};

    return $self->{over};
}


1;
