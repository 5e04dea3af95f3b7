package Lunary::Load;

# Load at a steady rate from a process of its own, while the test restarts,
# reloads and kills.  Every answer is compared with what it has to be.
#
#   my $load = Lunary::Load->start(port => $port, rate => 100, seconds => 8,
#                                  answers => { $uri => $body, ... },
#                                  header => { Authorization => ... });
#   ...
#   my $result = $load->finish;            or $load->stop, before its end
#   $result->{sent}, {status}{200}, {wrong} (texts), {slowest} (seconds)
#
# leave => 0.5 lets this part of the clients go away at a random moment of
# the first "stay" seconds, with a FIN or a RST; nothing is asked of them.
#
# And what a load needs: trees() of runs, slow() ones, expected() answers.

use strict;
use warnings;

use Exporter qw( import );
use Errno qw( EAGAIN EINTR );
use JSON::XS qw( decode_json encode_json );
use Lunary::Client;
use Lunary::Oracle;
use Lunary::Test qw( key project related_uri run_id );
use Lunary::System qw( wait_until );
use POSIX ();
use Test::More ();
use Time::HiRes qw( sleep time );

our @EXPORT_OK = qw( trees slow expected whole soon );


sub start {
    my ($class, %arg) = @_;

    pipe my $in, my $out or die "pipe: $!";

    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        close $in;

        # a load may have come to its end before it is asked to
        $SIG{USR1} = 'IGNORE';

        my $result = eval { run(%arg) } // { wrong => ["load: $@"] };
        print $out encode_json($result);
        close $out;
        POSIX::_exit(0);
    }

    close $out;

    return bless { pid => $pid, in => $in, started => time, %arg }, $class;
}


sub finish {
    my ($self) = @_;

    my $in = delete $self->{in};
    my $text = do { local $/; <$in> } // '';

    waitpid delete $self->{pid}, 0;

    return eval { decode_json($text) } // { wrong => ['the load broke'] };
}


# sends no more, and waits for the answers that are due
sub stop {
    my ($self) = @_;

    kill 'USR1', $self->{pid};
    return $self->finish;
}


# until so many seconds of the load have passed
sub at {
    my ($self, $seconds) = @_;

    my $left = $self->{started} + $seconds - time;
    sleep $left if $left > 0;
}


sub run {
    my (%arg) = @_;

    local $SIG{PIPE} = 'IGNORE';

    my @uris = sort keys %{ $arg{answers} };
    my $total = $arg{rate} * $arg{seconds};
    my $patience = $arg{patience} // 40;
    my (@idle, %busy, %leaving);

    local $SIG{USR1} = sub { $total = -1 };

    my ($readers, $sent, $start) = ('', 0, time);
    my %result = (sent => 0, left => 0, status => {}, wrong => [],
                  slowest => 0, times => []);

    my $wrong = sub {
        my ($client, $text) = @_;

        return if @{ $result{wrong} } >= 20;
        push @{ $result{wrong} },
            sprintf '%s %s, sent at %.2f, after %.2f s', $client->{uri}, $text,
                    $client->{sent} - $start, time - $client->{sent};
    };

    my $drop = sub {
        my ($fd, $rst) = @_;

        my $client = delete $busy{$fd};
        delete $leaving{$fd};
        vec($readers, $fd, 1) = 0;
        $rst ? $client->reset : $client->close;
    };

    while ($sent < $total || %busy) {

        my $now = time;

        while ($sent < $total && $now >= $start + $sent / $arg{rate}) {
            my $client = $arg{close} ? undef : pop @idle;
            $client //= Lunary::Client->new(port => $arg{port})->connect;

            $client->{uri} = $uris[$sent++ % @uris];
            $client->{sent} = $now;
            $client->{buffer} = '';
            $client->send($client->request('GET', $client->{uri},
                                           %{ $arg{header} // {} }));

            my $fd = fileno $client->{socket};
            $busy{$fd} = $client;
            vec($readers, $fd, 1) = 1;

            $leaving{$fd} = $now + rand($arg{stay} // 0.3)
                if $arg{leave} && rand() < $arg{leave};
        }

        my $ready = $readers;
        my $n = select $ready, undef, undef, $sent < $total || %leaving
                                             ? 0.004 : 0.1;

        if ($n > 0) {
            my $bits = unpack 'b*', $ready;

            for (my $fd = index $bits, '1'; $fd >= 0;
                 $fd = index $bits, '1', $fd + 1)
            {
                my $client = $busy{$fd} or next;
                my $bytes = sysread $client->{socket}, $client->{buffer},
                                    262144, length $client->{buffer};

                next if !defined $bytes && ($! == EAGAIN || $! == EINTR);

                my $closed = !defined $bytes ? 'reset'
                             : $bytes == 0 ? 'eof' : undef;

                # a connection that nginx closed before it took the request
                if ($closed && $client->{buffer} eq '' && $client->{used}) {
                    my $again = Lunary::Client->new(port => $arg{port});
                    my ($uri, $when) = @$client{qw( uri sent )};

                    $drop->($fd);
                    $again->connect;
                    @$again{qw( uri sent )} = ($uri, $when);
                    $again->send($again->request('GET', $uri,
                                                 %{ $arg{header} // {} }));
                    $result{again}++;
                    $busy{fileno $again->{socket}} = $again;
                    vec($readers, fileno $again->{socket}, 1) = 1;
                    next;
                }

                my $answer = $client->parse(0, $closed);
                next if !$answer && !$closed;

                my $took = time - $client->{sent};
                my $status = $answer ? $answer->{status} : 0;
                my $expected = $arg{answers}{$client->{uri}};

                $result{sent}++;
                $result{status}{$status}++;
                $result{slowest} = $took if $took > $result{slowest};
                push @{ $result{times} }, $took;

                if (!$answer || !$answer->{whole}) {
                    $wrong->($client, "cut ($closed, status $status)");

                } elsif ($status != 200) {
                    $wrong->($client, "status $status")
                        if !($arg{refusals} && $status =~ $arg{refusals});

                } elsif (defined $expected && $answer->{body} ne $expected) {
                    $wrong->($client, 'the body of another');
                }

                my $close = $closed || ($answer->{header}{connection} // '')
                                       eq 'close' || $arg{close};

                if ($close) {
                    $drop->($fd);

                } else {
                    $client->{used} = 1;
                    delete $busy{$fd};
                    delete $leaving{$fd};
                    vec($readers, $fd, 1) = 0;
                    push @idle, $client;
                }
            }
        }

        $now = time;

        for my $fd (keys %leaving) {
            next if $leaving{$fd} > $now;
            $drop->($fd, rand() < 0.5);
            $result{left}++;
        }

        if ($sent >= $total && $now > $start + $arg{seconds} + $patience) {
            $wrong->($busy{$_}, 'no answer') for keys %busy;
            last;
        }
    }

    return \%result;
}


# a one-line account, for diag() and for a failure
sub whole {
    my ($result) = @_;

    my @times = sort { $a <=> $b } @{ $result->{times} // [] };

    return sprintf '%d answers (%s), %d left, p50 %.3f s, p99 %.3f s,'
                   . ' slowest %.3f s',
        $result->{sent} // 0, join(', ', map { "$_: $result->{status}{$_}" }
                                   sort keys %{ $result->{status} // {} }),
        $result->{left} // 0, $times[@times / 2] // 0,
        $times[@times * 0.99] // 0, $result->{slowest} // 0;
}


# makes trees of so many runs, of about so many bytes an answer: their numbers
sub trees {
    my ($pg, %arg) = @_;

    my $first = $arg{first} // 1_000_000;
    my $runs = $arg{runs} // 10;
    my $text = int(($arg{bytes} // 20_000) / $runs) - 300;
    $text = 1 if $text < 1;

    my @numbers = map { $first + $_ * 10_000 } 0 .. ($arg{count} // 8) - 1;

    $pg->do(<<'EOF_SQL', $text, $text, project('alpha'), \@numbers, $runs - 1);
insert into run (id, parent_run_id, project_id, type, name, created_at, input)
select ('00000000-0000-4000-8000-' || lpad((t.first + g.n)::text, 12, '0'))
       ::uuid,
    case when g.n > 0 then ('00000000-0000-4000-8000-'
        || lpad((t.first + (g.n - 1) / 3)::text, 12, '0'))::uuid end,
    p.id, 'chain', 'tree ' || t.first || ' run ' || g.n,
    timestamptz '2026-11-10 00:00:00+00' + make_interval(secs => g.n),
    jsonb_build_object('some_text', substr(repeat(md5(t.first || ' ' || g.n),
        ?::int / 32 + 1), 1, ?::int))
from (select ?::uuid as id) p, unnest(?::int[]) t (first),
    generate_series(0, ?::int) g (n)
EOF_SQL

    $pg->do('analyze run');

    return @numbers;
}


# from now on nginx's role waits so many seconds when it reads this run
sub slow {
    my ($pg, %seconds) = @_;

    $pg->do(q{
create table if not exists slow_run (id uuid primary key, seconds float8)});
    $pg->do(q{grant select on slow_run to public});
    $pg->do(q{
create or replace function slow_run(uuid) returns boolean
language plpgsql stable as $$
declare
    s float8;
begin
    select seconds into s from slow_run where slow_run.id = $1;
    if found then
        perform pg_sleep(s);
    end if;
    return true;
end $$});

    $pg->do(q{insert into slow_run values (?, ?) on conflict (id)
              do update set seconds = excluded.seconds}, run_id($_),
            $seconds{$_}) for keys %seconds;

    if (!$pg->value(q{select count(*) from pg_policy})) {
        $pg->do(q{create policy slow_run on run using (slow_run(id))});
        $pg->do(q{alter table run enable row level security});
    }
}


# asks for each run once, and lets the oracle say whether that is right:
# { uri => body }
sub expected {
    my ($port, $pg, @numbers) = @_;

    my $oracle = Lunary::Oracle->new($pg->dbh);
    my %answers;

    for my $n (@numbers) {
        my $answer = Lunary::Client->new(port => $port)
            ->related(run_id($n), key('alpha'), Connection => 'close');

        die "run $n: status $answer->{status}\n" if $answer->{status} != 200;

        my $why = $oracle->compare($answer->{body},
                                   $oracle->related(project('alpha'),
                                                    run_id($n)));
        die "run $n: $why\n" if defined $why;

        $answers{related_uri($n)} = $answer->{body};
    }

    return \%answers;
}


# a test: what is to become true in time does
sub soon(&$$) {
    my ($check, $timeout, $name) = @_;

    Test::More::ok(scalar wait_until(\&$check, $timeout), $name);
}


1;
