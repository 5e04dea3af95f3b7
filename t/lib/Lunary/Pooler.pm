package Lunary::Pooler;

# What the poolers before one of the test's servers have in common.
#
#   $pooler->conninfo; $pooler->stop
#   my $seen = $pooler->beside($nginx, $answers, again => 1);
#       requests, and what another client of the pooler finds meanwhile

use strict;
use warnings;

use DBI;
use IO::Socket::INET;
use Lunary::Pg;
use Lunary::System qw( free_port kill_wait read_file tmpdir wait_until
                     write_file );
use Lunary::Test qw( key );

my @all;
my $owner = $$;


# all that a session can be left with
my $left = q{
    select string_agg(name || '=' || setting, ' ' order by name)
    from pg_settings
    where source = 'session' and name not in ('client_encoding', 'DateStyle',
                                              'application_name', 'datestyle')
};


sub new {
    my ($class, $pg) = @_;

    my $dir = tmpdir('pooler');
    Lunary::Pg->own($dir);

    my $self = bless { dir => $dir, port => free_port(), pg => $pg,
                       log => "$dir/log" }, $class;

    push @all, $self;
    return $self;
}


# with this text in its file "conf" and this command
sub configure {
    my ($self, $text, @cmd) = @_;

    write_file("$self->{dir}/conf", $text);
    Lunary::Pg->own("$self->{dir}/conf");
    $self->{cmd} = \@cmd;

    return $self;
}


sub start {
    my ($self) = @_;

    $self->{pid} = Lunary::Pg->spawn("$self->{dir}/out",
                                      @{ $self->{cmd} });

    wait_until {
        IO::Socket::INET->new(PeerAddr => '127.0.0.1',
                              PeerPort => $self->{port})
    } 10 or die "@{ $self->{cmd} } does not start:\n",
                read_file("$self->{dir}/out"), read_file($self->{log});

    return $self;
}


sub conninfo {
    my ($self, %arg) = @_;

    return $self->{pg}->conninfo(host => '127.0.0.1',
                                 port => $self->{port}, %arg);
}


# another client; pgpool-II gives it a session of ours only where it names the
# same parameters
sub other {
    my ($self) = @_;

    return DBI->connect("dbi:Pg:host=127.0.0.1;port=$self->{port};"
        . 'dbname=lunary;application_name=nginx-lunary;client_encoding=UTF8',
        'lunary_ro', '', { RaiseError => 1, PrintError => 0,
                           pg_server_prepare => 0 });
}


# Asks for each run six times; between the requests another client reads its
# settings, writes and listens.  With again => 1 it connects for each turn
# anew; "round" is called after each round.  Returns { status } and { wrong } of
# the responses, { left }, { errors } and { pids } of the other client, and it.
sub beside {
    my ($self, $nginx, $answers, %arg) = @_;

    my $other = $self->other;
    my %seen = map { $_ => {} } qw( status wrong left errors pids );

    for my $round (1 .. 6) {
        for my $uri (sort keys %$answers) {
            $other->disconnect if $arg{again};

            my $answer = $nginx->client->get($uri,
                Authorization => 'Bearer ' . key('alpha'));

            $seen{status}{ $answer->{status} }++;
            $seen{wrong}{$uri} = 1 if $answer->{body} ne $answers->{$uri};

            $other = $self->other if $arg{again};
            $seen{left}{ $other->selectrow_array($left) // '' } = 1;
            $seen{pids}{ $other->selectrow_array('select pg_backend_pid()') }
                = 1;

            eval {
                $other->do("insert into scratch (text) values ('round')");
                $other->do('listen changes');
                $other->do("notify changes, '$uri'");
            } or $seen{errors}{ $other->errstr }++;
        }

        $arg{round}->($round) if $arg{round};
        $other = $self->other if !eval { $other->do('select 1') };
    }

    return \%seen, $other;
}


sub stop {
    my ($self) = @_;

    my $pid = delete $self->{pid} or return;
    kill_wait('QUIT', $pid, 10);
}


END {
    if ($$ == $owner) {
        local ($?, $!, $@);
        $_->stop for grep { $_->{pid} } @all;
    }
}


1;
