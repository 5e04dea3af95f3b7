package Lunary::Load;

# Makes trees of runs, and sends requests for them.
#
# Another process sends the requests at a constant rate, while the test
# restarts, reloads and kills.  Each response is compared with the expected
# one.
#
#   my $load = Lunary::Load->start(port => $port, rate => 100, seconds => 8,
#                                  answers => { $uri => $body, ... },
#                                  header => { Authorization => ... });
#   ...
#   my $result = $load->finish;            or $load->stop, before its end
#   $result->{sent}, {status}{200}, {wrong} (texts), {slowest} (seconds)
#
# With cut => 1 a response that began with 200 and is cut is not wrong, but
# counted in {cut}.
#
# With leave => 0.5 that part of the clients leaves at a random moment of the
# first "stay" seconds, with a FIN or a RST.

use strict;
use warnings;

use Exporter qw( import );
use JSON::XS qw( decode_json encode_json );
use Lunary::Client qw( crowd );
use Lunary::Oracle;
use Lunary::Pg;
use Lunary::System qw( read_file wait_until );
use Lunary::Test qw( key project related_uri run_id );
use POSIX ();
use Test::More ();
use Time::HiRes qw( sleep time );

our @EXPORT_OK = qw( big_pg expected grow idle late_users memory peak slow soon
                     trees whole worker $related );

our $related = <<'EOF_CONFIG';
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
EOF_CONFIG


sub start {
    my ($class, %arg) = @_;

    pipe my $in, my $out or die "pipe: $!";

    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        close $in;

        # the load may be over before stop() is called
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

    return eval { decode_json($text) } // { wrong => ['the load failed'] };
}


# stops sending, and waits for the responses to the requests that were sent
sub stop {
    my ($self) = @_;

    kill 'USR1', $self->{pid};
    return $self->finish;
}


# waits until the load has run for this number of seconds
sub at {
    my ($self, $seconds) = @_;

    my $left = $self->{started} + $seconds - time;
    sleep $left if $left > 0;
}


sub run {
    my (%arg) = @_;

    my @uris = sort keys %{ $arg{answers} };
    my $total = $arg{rate} * $arg{seconds};
    my $client = Lunary::Client->new;
    my ($sent, $start, @again) = (0, time);

    my %result = (sent => 0, left => 0, cut => 0, status => {}, wrong => [],
                  slowest => 0, times => []);

    local $SIG{USR1} = sub { $total = -1 };

    crowd(port => $arg{port}, clients => 10_000, timeout => 40,
          close => $arg{close},
        next => sub {
            return shift @again if @again;
            return if $sent >= $total;
            return undef if time < $start + $sent / $arg{rate};

            my $uri = $uris[$sent++ % @uris];

            return { method => 'GET', uri => $uri, sent => time,
                     text => $client->request('GET', $uri,
                                              %{ $arg{header} // {} }),
                     wait => rand($arg{stay} // 0.3),
                     $arg{leave} && rand() < $arg{leave}
                     ? (leave => rand() < 0.5 ? 'close' : 'reset') : () };
        },
        done => sub {
            my ($request, $answer) = @_;

            # nginx closed an idle connection when the request was sent
            return push @again, $request
                if $answer->{closed} && !$answer->{status}
                   && $answer->{reused};
            return $result{left}++ if $answer->{left};
            return $result{cut}++ if $arg{cut} && $answer->{status} == 200
                                     && !$answer->{whole};

            my $took = time - $request->{sent};
            my $wrong = wrong($request, $answer, \%arg);

            push @{ $result{wrong} },
                sprintf '%s %s, sent at %.2f, after %.2f s', $request->{uri},
                        $wrong, $request->{sent} - $start, $took
                if defined $wrong && @{ $result{wrong} } < 20;

            return if $answer->{unfinished};

            $result{sent}++;
            $result{status}{ $answer->{status} }++;
            $result{slowest} = $took if $took > $result{slowest};
            push @{ $result{times} }, $took;
        });

    return \%result;
}


sub wrong {
    my ($request, $answer, $arg) = @_;

    my ($status, $refusals) = ($answer->{status}, $arg->{refusals});
    my $expected = $arg->{answers}{ $request->{uri} };

    return 'no response' if $answer->{unfinished};
    return "cut ($answer->{closed}, status $status)" if !$answer->{whole};

    return $refusals && $status =~ $refusals ? undef : "status $status"
        if $status != 200;

    return defined $expected && $answer->{body} ne $expected
           ? 'a wrong body' : undef;
}


# a summary of the result in one line
sub whole {
    my ($result) = @_;

    my @times = sort { $a <=> $b } @{ $result->{times} // [] };

    return sprintf '%d responses (%s), %d left, p50 %.3f s, p99 %.3f s,'
                   . ' slowest %.3f s',
        $result->{sent} // 0, join(', ', map { "$_: $result->{status}{$_}" }
                                   sort keys %{ $result->{status} // {} }),
        $result->{left} // 0, $times[@times / 2] // 0,
        $times[@times * 0.99] // 0, $result->{slowest} // 0;
}


# a server for large trees, with only those indexes that the queries need
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


# Makes a tree of "runs" runs with inputs of "bytes" bytes; run n has the
# number $first + n.  Shapes: bushy (three children each), wide, deep.  Returns
# the URI.
sub grow {
    my ($pg, $first, %arg) = @_;

    my $parent = { bushy => '(n - 1) / 3', wide => '0', deep => 'n - 1' }
                 ->{ $arg{shape} // 'bushy' };
    my $bytes = $arg{bytes} // 100;

    $pg->do(q{set session_replication_role = replica});
    $pg->do(qq{
insert into run (id, parent_run_id, project_id, type, name, created_at, input)
select ('00000000-0000-4000-8000-' || lpad(($first + n)::text, 12, '0'))::uuid,
    case when n > 0 then ('00000000-0000-4000-8000-'
        || lpad(($first + $parent)::text, 12, '0'))::uuid end,
    '@{[ project('alpha') ]}', 'chain', 'run ' || n,
    timestamptz '2026-11-10 00:00:00+00' + make_interval(secs => n),
    jsonb_build_object('some_text', substr(repeat(md5('$first ' || n),
        ($bytes + 31) / 32), 1, $bytes))
from generate_series(0, ? - 1) n}, $arg{runs} // 1);
    $pg->do(q{set session_replication_role = origin});
    $pg->do('analyze run');

    return related_uri($first);
}


# makes trees with responses of about "bytes" bytes, and returns their numbers
sub trees {
    my ($pg, %arg) = @_;

    my $runs = $arg{runs} // 10;
    my $bytes = int(($arg{bytes} // 20_000) / $runs) - 300;
    my @numbers = map { ($arg{first} // 1_000_000) + $_ * 10_000 }
                  0 .. ($arg{count} // 8) - 1;

    grow($pg, $_, runs => $runs, bytes => $bytes < 1 ? 1 : $bytes)
        for @numbers;

    return @numbers;
}


# from now on nginx's role waits this number of seconds when it reads the run
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


# Reading a user with one of these ids waits 30 s (900), fails (901) or is
# cancelled (902); 903 is an ordinary user
sub late_users {
    my ($pg) = @_;

    $pg->do(q{insert into external_user (id, project_id, external_id)
              select n, ?::uuid, 'late ' || n
              from generate_series(900, 903) n},
            project('alpha'));
    $pg->do(q{
create function late(bigint) returns boolean language plpgsql as $$
begin
    if $1 = 900 then
        perform pg_sleep(30);
    elsif $1 = 901 then
        perform 1 / 0;
    elsif $1 = 902 then
        raise sqlstate '57014';
    end if;
    return true;
end $$});
    $pg->do(q{create policy late on external_user using (late(id))});
    $pg->do(q{alter table external_user enable row level security});
}


# requests each run once, compares the response with the oracle's, and returns
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


# a test that passes if the function returns true in time
sub soon(&$$) {
    my ($check, $timeout, $name) = @_;

    Test::More::ok(scalar wait_until(\&$check, $timeout), $name);
}


# the pid of nginx's worker; waits until it is started
sub worker {
    my ($nginx) = @_;

    return wait_until { ($nginx->worker_pids)[0] } 20, 'a worker';
}


# the current and the peak memory of a process, in bytes
sub memory { return status($_[0], 'VmRSS') }
sub peak { return status($_[0], 'VmHWM') }

sub status {
    my ($pid, $name) = @_;

    return read_file("/proc/$pid/status") =~ /^$name:\s+(\d+) kB/m
           ? $1 * 1024 : die "no $name of process $pid\n";
}


# waits until all sessions of nginx are idle; false at the timeout
sub idle {
    my ($pg, $timeout) = @_;

    return wait_until {
        !$pg->sessions(q{state <> 'idle'})
    } $timeout // 5;
}


1;
