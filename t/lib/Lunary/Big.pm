package Lunary::Big;

# Large traces, and clients that take them in as they come: an answer of any
# size is never held whole, only its length, a digest and its end.
#
#   my $pg = big_pg();                   a database with few indexes
#   grow($pg, 1_000_000, runs => 100_000, bytes => 1000, shape => 'bushy');
#
#   my $in = Lunary::Big->new(port => $port, uri => $uri, key => $key,
#                             version => '1.1', rcvbuf => 8192);
#   $in->take(50_000);                   reads so many bytes, or to the end
#   $in->rest(rate => 2e6);              reads all, at most so fast
#   $in->{length}, ->md5, {tail}, {whole}, {closed}, {header}
#
# Lunary::Big::Http2 has the same verbs; the windows grow as they read.

use strict;
use warnings;

use Digest::MD5;
use Errno qw( EAGAIN EINTR );
use Exporter qw( import );
use Lunary::Client;
use Lunary::Pg;
use Lunary::Test qw( key project related_uri run_id );
use Lunary::System qw( read_file wait_until );
use Time::HiRes qw( sleep time );

our @EXPORT_OK = qw( big_pg grow memory peak idle together worker
                     $related );

our $related = <<'EOF_CONFIG';
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
EOF_CONFIG


# a server of its own; what is not needed to find a run only costs time
sub big_pg {
    my (%conf) = @_;

    my $pg = Lunary::Pg->new(conf => { shared_buffers => "'128MB'",
                                       work_mem => "'32MB'",
                                       max_wal_size => "'1GB'", %conf });

    my $names = $pg->dbh->selectcol_arrayref(q{
        select indexrelid::regclass::text from pg_index
        where indrelid = 'run'::regclass and not indisprimary
            and pg_get_indexdef(indexrelid) !~ '\((id, )?parent_run_id'});

    $pg->do("drop index $_") for @$names;

    return $pg;
}


# a tree of so many runs, with inputs of so many bytes; run n has the number
# first + n.  Shapes: bushy (three children each), wide, deep
sub grow {
    my ($pg, $first, %arg) = @_;

    my $runs = $arg{runs} // 1;
    my $parent = { bushy => '(n - 1) / 3', wide => '0', deep => 'n - 1' }
                 ->{ $arg{shape} // 'bushy' };
    my $input = $arg{input} // q{jsonb_build_object('some_text',
        substr(repeat(md5(n::text), (? + 31) / 32), 1, ?))};
    my @bytes = $arg{input} ? () : (($arg{bytes} // 100) x 2);

    $pg->do(q{set session_replication_role = replica});
    $pg->do(qq{
insert into run (id, parent_run_id, project_id, type, name, created_at, input)
select ('00000000-0000-4000-8000-' || lpad(($first + n)::text, 12, '0'))::uuid,
    case when n > 0 then ('00000000-0000-4000-8000-'
        || lpad(($first + $parent)::text, 12, '0'))::uuid end,
    '@{[ project('alpha') ]}', 'chain', 'run ' || n,
    timestamptz '2026-11-10 00:00:00+00' + make_interval(secs => n), $input
from generate_series(0, ? - 1) n}, @bytes, $runs);
    $pg->do(q{set session_replication_role = origin});
    $pg->do('analyze run');

    return related_uri($first);
}


# the worker of an nginx that may just have been started
sub worker {
    my ($nginx) = @_;

    return wait_until { ($nginx->worker_pids)[0] } 20, 'a worker';
}


# the memory of a process now, and the most it ever had, in bytes
sub memory { return status($_[0], 'VmRSS') }
sub peak { return status($_[0], 'VmHWM') }

sub status {
    my ($pid, $name) = @_;

    return read_file("/proc/$pid/status") =~ /^$name:\s+(\d+) kB/m
           ? $1 * 1024 : die "no $name of process $pid\n";
}


# whether nginx's sessions soon have nothing to do
sub idle {
    my ($pg, $timeout) = @_;

    return wait_until {
        !$pg->sessions(q{state <> 'idle'})
    } $timeout // 5;
}


# several clients read at once
sub together {
    my ($seconds, @clients) = @_;

    my $end = time + $seconds;

    while (my @open = grep { !$_->{over} } @clients) {
        my $bits = '';
        vec($bits, fileno $_->{socket}, 1) = 1 for @open;
        select $bits, undef, undef, 0.01;
        $_->some for @open;
        last if time > $end;
    }

    return !grep { !$_->{over} } @clients;
}


sub new {
    my ($class, %arg) = @_;

    my $self = bless { version => '1.1', key => key('alpha'), length => 0,
                       in => '', tail => '', taken => 0, header => {},
                       md5 => Digest::MD5->new, timeout => 30, %arg },
               $class;

    my $client = Lunary::Client->new(port => $arg{port},
                                     rcvbuf => $arg{rcvbuf})->connect;

    $self->{client} = $client;
    $self->{socket} = $client->{socket};
    $self->begin;

    return $self;
}


sub begin {
    my ($self) = @_;

    my $client = $self->{client};

    $client->send($client->request('GET', $self->{uri},
        version => $self->{version}, Authorization => "Bearer $self->{key}",
        $self->{version} eq '1.1' ? (Connection => 'close') : (),
        %{ $self->{headers} // {} }));
}


# one read of what is there, of at most so many bytes
sub some {
    my ($self, $max) = @_;

    return if $self->{over};

    my $bytes = sysread $self->{socket}, $self->{in}, $max // 262144,
                        length $self->{in};

    return if !defined $bytes && ($! == EAGAIN || $! == EINTR);

    $self->{taken} += $bytes // 0;
    $self->{closed} = !defined $bytes ? 'reset' : 'eof' if !$bytes;
    $self->parse;

    if ($self->{closed}) {
        $self->{over} = 1;
        $self->{whole} = 1 if $self->{closed} eq 'eof' && $self->{header_done}
                              && !$self->{chunked}
                              && !defined $self->{header}{'content-length'};
    }

    return $bytes;
}


sub parse {
    my ($self) = @_;

    if (!$self->{header_done}) {
        return if $self->{in}
                  !~ s{^HTTP/\S+ (\d+)[^\n]*\r\n(.*?\r\n)?\r\n}{}s;

        @$self{qw( header_done status )} = (1, $1);

        for my $line (split /\r\n/, $2 // '') {
            my ($name, $value) = split /:\s*/, $line, 2;
            $self->{header}{lc $name} = $value;
        }

        $self->{chunked} = ($self->{header}{'transfer-encoding'} // '')
                           eq 'chunked';
    }

    my ($at, $in) = (0, \$self->{in});

    if (!$self->{chunked}) {
        $self->body($$in);
        $$in = '';

        my $length = $self->{header}{'content-length'};
        $self->{whole} = $self->{over} = 1
            if defined $length && $self->{length} >= $length;
        return;
    }

    while ($at < length $$in) {

        if ($self->{left}) {
            my $part = substr $$in, $at, $self->{left};
            $self->body($part);
            $self->{left} -= length $part;
            $at += length $part;
            next;
        }

        pos($$in) = $at;
        last if $$in !~ /\G(?:\r\n)?([0-9A-Fa-f]+)\r\n/gc
                || hex $1 == 0 && length $$in < pos($$in) + 2;
        $at = pos $$in;
        $self->{left} = hex $1;
        $self->{whole} = $self->{over} = 1 if !$self->{left};
    }

    substr $$in, 0, $at, '';
}


sub body {
    my ($self, $part) = @_;

    $self->{length} += length $part;
    $self->{md5}->add($part);
    $self->{tail} = substr $self->{tail} . $part, -200;
    $self->{first} //= time if length $part;
    $self->{each}->($part) if $self->{each};
}


sub md5 {
    my ($self) = @_;

    return $self->{digest} //= $self->{md5}->hexdigest;
}


# reads until so many bytes came in all
sub take {
    my ($self, $bytes) = @_;

    my $end = time + $self->{timeout};

    $bytes = int $bytes;

    while (!$self->{over} && $self->{taken} < $bytes && time < $end) {
        $self->{client}{select}->can_read(0.1) or next;
        $self->some($bytes - $self->{taken} < 262144
                    ? $bytes - $self->{taken} : ());
    }

    return $self;
}


# reads to the end, or for so many seconds; rate: bytes a second
sub rest {
    my ($self, %arg) = @_;

    my $start = time;
    my $end = $start + ($arg{seconds} // $self->{timeout});
    my $had = $self->{taken};

    while (!$self->{over} && time < $end) {

        if (!$arg{rate}) {
            $self->{client}{select}->can_read(0.1) or next;
            $self->some;
            next;
        }

        my $may = $had + $arg{rate} * (time - $start) - $self->{taken};

        $may >= 1 ? $self->some($may < 262144 ? int $may : 262144)
                  : sleep 0.005;
        sleep 0.005 if $may < 65536;
    }

    return $self;
}


sub leave {
    my ($self, $how) = @_;

    ($how // '') eq 'reset' ? $self->{client}->reset : $self->{client}->close;
    $self->{over} = 1;
}


package Lunary::Big::Http2;

use strict;
use warnings;

our @ISA = qw( Lunary::Big );


sub frame {
    my ($type, $flags, $stream, $payload) = @_;

    return substr(pack('N', length $payload), 1)
           . pack('CCN', $type, $flags, $stream) . $payload;
}


sub string { return pack('C', length $_[0]) . $_[0] }


# window: how much the server may send unasked; then as much as was read is
# allowed anew, unless "hold" says otherwise
sub begin {
    my ($self) = @_;

    my $window = $self->{window} // 65535;

    $self->{client}->send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        . frame(4, 0, 0, pack 'nN', 4, $window)
        . frame(8, 0, 0, pack 'N', 2**30)
        . frame(1, 5, 1, "\x82\x86\x04" . string($self->{uri}) . "\x01"
            . string('localhost') . "\0" . string('authorization')
            . string("Bearer $self->{key}")));
}


sub parse {
    my ($self) = @_;

    my $grow = 0;

    while (length $self->{in} >= 9) {
        my ($length, $type, $flags, $stream) =
            unpack 'NCCN', "\0$self->{in}";

        last if length $self->{in} < 9 + $length;

        my $payload = substr $self->{in}, 9, $length;
        substr $self->{in}, 0, 9 + $length, '';

        $self->{client}->send(frame(4, 1, 0, ''))
            if $type == 4 && !($flags & 1);
        $self->{header_done} = 1 if $type == 1;

        # ":status: 200" is indexed
        $self->{status} = $payload =~ /^\x88/ ? 200 : 0 if $type == 1;

        if ($type == 0) {
            $self->body($payload);
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

    $self->{client}->send(frame(8, 0, 1, pack 'N', $grow))
        if $grow && !$self->{hold} && !$self->{over};
}


1;
