package Lunary::Dns;

# A DNS server with a few names, on a port of the loopback interface:
#
#   my $dns = Lunary::Dns->new('db.test' => ['127.0.0.1']);
#   $dns->{port}; $dns->set('db.test' => ['127.0.0.2']);
#   $dns->silent(1);     ignores all queries
#   $dns->queries        the number of queries

use strict;
use warnings;

use IO::Socket::INET;
use JSON::XS qw( decode_json encode_json );
use Lunary::System qw( background read_file tmpdir write_file );
use Socket qw( inet_aton );


sub new {
    my ($class, %names) = @_;

    my $dir = tmpdir('dns');
    my $self = bless { file => "$dir/names", count => "$dir/count",
                       names => {}, silent => 0 }, $class;

    my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
                                       Proto => 'udp') or die "socket: $!";
    $self->{port} = $socket->sockport;
    $self->set(%names);

    background { $self->serve($socket) };

    return $self;
}


sub set {
    my ($self, %names) = @_;

    $self->{names} = { %{ $self->{names} }, %names };

    write_file("$self->{file}.new", encode_json([$self->{silent},
                                                 $self->{names}]));
    rename "$self->{file}.new", $self->{file};
}


sub silent {
    my ($self, $silent) = @_;

    $self->{silent} = $silent;
    $self->set;
}


sub queries {
    my ($self) = @_;

    return -s $self->{count} // 0;
}


sub serve {
    my ($self, $socket) = @_;

    open my $count, '>>', $self->{count} or die $!;
    $count->autoflush(1);

    while (my $from = recv $socket, my $query, 512, 0) {
        print $count '.';

        my ($silent, $names) = @{ decode_json(read_file($self->{file})) };
        next if $silent;

        my ($at, @labels) = 12;

        while (my $len = ord substr $query, $at, 1) {
            push @labels, substr $query, $at + 1, $len;
            $at += $len + 1;
        }

        my $type = unpack 'n', substr $query, $at + 1, 2;
        my $known = $names->{join '.', @labels};
        my @addrs = $type == 1 ? @{ $known // [] } : ();

        my $answer = substr($query, 0, 2)
            . pack('nnnnn', $known ? 0x8180 : 0x8183, 1, scalar @addrs, 0, 0)
            . substr($query, 12, $at + 5 - 12)
            . join '', map { pack('nnnNn', 0xc00c, 1, 1, 1, 4)
                             . inet_aton($_) } @addrs;

        send $socket, $answer, 0, $from;
    }
}


1;
