# Rare orders of events.  The test itself is the PostgreSQL server and decides
# when each message is sent.  It stops the worker if two events have to arrive
# at the same time.

use strict;
use warnings;

use lib 't/lib';
use IO::Socket::INET;
use Lunary::Client;
use Lunary::FakePg;
use Lunary::Nginx;
use Lunary::System qw( free_port read_file wait_until write_file );
use Test::More;
use Time::HiRes qw( time );

my $run = $Lunary::FakePg::Run;
my $bearer = "Bearer $run";
my $gate = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 8)
    or die $!;

# the behaviour of the server for each database name
my %server;

my $fake = Lunary::FakePg->new(hook => sub {
    my ($one, $when, @messages) = @_;

    my $hook = $server{$one->{database}} or return @messages;
    return $hook->($one, $when, @messages);
});

# each has its own location and pool
my %conf = (
    page     => 'lunary_pool max=1; lunary_buffers 4k max=8k;',
    reason   => 'lunary_pool max=1;',
    lines    => 'lunary_pool max=1;',
    leave    => 'lunary_pool max=1;',
    renew    => 'lunary_pool max=2;',
    slow     => 'lunary_pool max=2;',
    left     => 'lunary_pool max=2;',
    doomed   => 'lunary_pool max=3;',
    fresh    => 'lunary_pool max=3 connecting=1; lunary_queue 1;',
    grace    => 'lunary_pool max=1; lunary_query_timeout 390ms;',
    late     => 'lunary_pool max=1; lunary_query_timeout 250ms;',
    crowd    => 'lunary_pool max=3;',
    pace     => 'lunary_pool max=3; lunary_buffers 4k max=8k;
                 lunary_max_temp_file_size 0;',
);

# a port with a small send buffer
my $narrow = free_port();

my $nginx = Lunary::Nginx->new(
    server => "listen 127.0.0.1:$narrow sndbuf=64k;",
    config => <<"EOF_CONFIG" . join '', map {
        location /ssi/ {
            ssi on;
            root html;
        }
        location = /gate {
            proxy_pass http://127.0.0.1:@{[ $gate->sockport ]};
            proxy_intercept_errors on;
            error_page 404 = \@page;
        }
        location \@page {
            lunary_database "@{[ $fake->conninfo('good_page') ]}";
            $conf{page}
            lunary_related_runs $run;
        }
EOF_CONFIG
        <<"EOF_CONFIG" } keys %conf);
        location = /$_ {
            lunary_database "@{[ $fake->conninfo("good_$_") ]}";
            $conf{$_}
            lunary_related_runs $run;
        }
EOF_CONFIG

mkdir "$nginx->{dir}/html/ssi";
write_file("$nginx->{dir}/html/ssi/three.html", join '', map {
    qq{<!--# include virtual="/$_" -->} } qw( gate gate page ));

$nginx->start;
my $worker = wait_until { ($nginx->worker_pids)[0] } 10, 'a worker';


# clients

sub client { return $nginx->client->connect }

sub ask {
    my ($uri, $client) = @_;

    $client //= client();
    $client->ask($uri, Authorization => $bearer);
    return $client;
}

sub answers {
    my (@clients) = @_;

    return map {
        my $client = $_;
        $fake->run_until(sub { $client->ready }) // { status => 'none' }
    } @clients;
}

sub statuses { return join ' ', map { $_->{status} } answers(@_) }

# stops the worker; when it continues it finds all events at once
sub hold {
    kill 'STOP', $worker;
    wait_until { read_file("/proc/$worker/stat") =~ /^\d+ \(.*\) T/s } 10,
               'a stopped worker';
}

sub go_on { kill 'CONT', $worker }


# servers

# holds the responses to queries: [connection, messages]...
sub holding {
    my ($name) = @_;

    my @held;

    $server{"good_$name"} = sub {
        my ($one, $when, @messages) = @_;

        return @messages if $when ne 'answer';
        push @held, [$one, @messages];
        return;
    };

    return \@held;
}

sub held {
    my ($held, $n) = @_;

    return $fake->run_until(sub { @$held >= $n });
}

sub release { $fake->write(@$_) for splice @{ $_[0] } }

sub failure {
    my ($state, $text) = @_;

    return (Lunary::FakePg::failure('ERROR', $state, $text),
            Lunary::FakePg::ready());
}

# opens several sessions: first slow queries, then quick ones, as otherwise
# queries would not share a connection
sub sessions {
    my ($name, $n) = @_;

    my $held = holding($name);
    my @clients = map { ask("/$name") } 1 .. $n;
    my %of;

    $fake->run_until(sub {
        $of{$_->[0]} = 1 for @$held;
        return keys %of >= $n;
    });

    delete $server{"good_$name"};
    release($held);
    statuses(@clients);

    statuses(ask("/$name")) for 1 .. 20;
    is(scalar keys %of, $n, "$name: $n sessions");
}


# a connection is lost while two queries of one page are sent: libpq reports it
# with the second

for my $try (1 .. 5) {
    my $held = holding('page');
    my $page = client();
    $page->ask('/ssi/three.html', Authorization => $bearer);
    my @upstream = map { scalar $gate->accept } 1, 2;
    sysread $_, my $request, 4096 for @upstream;
    held($held, 1);

    hold();
    my ($one, @messages) = @{ shift @$held };
    my ($begin, $first, $row) = grep { $_->[0] =~ /[TD]/ } @messages;
    my @head = grep { $_->[0] =~ /[12]/ } @messages;

    # a response that has begun: larger than the first buffer, smaller than
    # one read
    $fake->write($one, @head, $begin, $first, ($row) x 24);
    syswrite $_, "HTTP/1.0 404 Not found\r\n\r\n" for @upstream;
    close $_ for @upstream;
    $fake->reset($one);
    go_on();

    $fake->run_until(sub { my $answer = $page->ready;
                           $answer && ($answer->{closed} || 1) });
    delete $server{good_page};
    release($held);
}

is(join(' ', $nginx->worker_pids), $worker,
   'lost while sending: the worker lives');
is(statuses(ask('/page')), 200, 'lost while sending: it serves');


# the server's message and SQLSTATE are not logged again with the next failure

statuses(ask('/reason'));
my $mark = $nginx->mark;
my $held = holding('reason');
my @clients = map { ask('/reason') } 1, 2;
held($held, 2);

my ($first, $second) = splice @$held;
$fake->write($first->[0], failure('22P02', 'what the row "secret" holds'));
my @short = map { $_->[0] eq 'D' ? Lunary::FakePg::row(
                                       Lunary::FakePg::text('x')) : $_ }
            @$second[1 .. $#$second];
$fake->write($second->[0], map { $_->[0] eq 'T' ? Lunary::FakePg::columns(1)
                                                : $_ } @short);
is(statuses(@clients), '500 500', 'a reason: two failures');
my $log = $nginx->log_since($mark);
like($log, qr/\(SQLSTATE 22P02\)/, 'a reason: the first, without its text');
like($log, qr/returned an invalid value \(SQLSTATE -\)/,
     'a reason: the second has none');

$mark = $nginx->mark;
$held = holding('lines');
my $client = ask('/lines');
held($held, 1);
$fake->write($held->[0][0], failure('57014', "one\nand \e[31manother"));
is(statuses($client), 504, 'lines: a failure');
like($nginx->log_since($mark), qr/\(SQLSTATE 57014: one\)$/m,
     'lines: the first alone is logged');


# a server reports the end of an idle session before it closes it: no query is
# sent in between, and a server's shorter idle timeout is not an error

for my $last (['57P05', 'idle too long', ''],
              ['57P01', 'by command', '57P01: by command']) {
    my ($state, $text, $logged) = @$last;
    my $one;

    $server{good_leave} = sub { $one = $_[0]; return @_[2 .. $#_] };
    is(statuses(ask('/leave')), 200, "$state: a session");

    $mark = $nginx->mark;
    $fake->write($one, Lunary::FakePg::failure('FATAL', $state, $text));
    my $first = $one;
    ok($fake->run_until(sub { $first->{over} }), "$state: it is closed");
    is(statuses(ask('/leave')), 200, "$state: another is used");

    my ($line) = $nginx->log_since($mark) =~ /\[error\].*SQLSTATE (.*)\)/;
    is($line // '', $logged, "$state: the log");
}


# the schema changes: sessions that probed the old schema are not used

{
    my ($probe, @early, @used);
    my @asked = ();

    statuses(ask('/renew'));

    $server{good_renew} = sub {
        my ($one, $when, @messages) = @_;

        if ($when eq 'probe' && $one->{number} == 2) {
            $probe = [$one, @messages];
            return;
        }

        return @messages if $when ne 'answer';
        push @used, $one->{number};
        return @messages if $one->{number} > 1;
        push @early, $one;
        return;
    };

    hold();
    @clients = map { ask('/renew') } 1, 2;
    go_on();
    $fake->run_until(sub { $probe && @early == 2 });
    hold();
    $fake->write($_, failure('42703', 'no such column')) for @early;
    $fake->write(@$probe);
    go_on();

    is(statuses(@clients), '500 500', 'renewed: two failures');
    @used = ();
    is(statuses(ask('/renew')), 200, 'renewed: served');
    is("@used", 3, 'renewed: on a newer session');
}


# a query behind a slow one, with no other connection, is not sent twice

{
    $server{good_slow} = sub {
        my ($one, $when, @messages) = @_;

        return @messages if $one->{number} == 1 || $when ne 'greeting';
        return (Lunary::FakePg::failure('FATAL', '53300', 'full'), undef);
    };

    $mark = $nginx->mark;
    statuses(ask('/slow'));
    @clients = map { ask('/slow') } 1 .. 4;
    statuses(@clients);
    ok($fake->run_until(sub { $nginx->log_since($mark) =~ /53300/ }),
       'slow: there is one session');

    my $greet = $server{good_slow};
    $held = holding('slow');
    my $hold = $server{good_slow};
    $server{good_slow} = sub { $hold->($_[0], $_[1], $greet->(@_)) };

    hold();
    @clients = map { ask('/slow') } 1, 2;
    go_on();
    held($held, 2);
    is(scalar @$held, 2, 'slow: one pipelined behind the other');
    $fake->run_until(sub { 0 }, 0.3);
    delete $server{good_slow};
    my $asked = @$held;
    release($held);
    $server{good_slow} = sub { $asked++ if $_[1] eq 'answer';
                               return $greet->(@_) };
    is(statuses(@clients), '200 200', 'slow: both are served');
    is($asked, 2, 'slow: and sent once');
}


# a query fails after its client left: its connection is still retired

{
    $held = holding('left');
    $client = ask('/left');
    held($held, 1);
    my ($one) = @{ shift @$held };

    $mark = $nginx->mark;
    hold();
    $client->close;
    $fake->write($one, failure('53200', 'out of memory'));
    go_on();

    ok($fake->run_until(sub { $one->{over} }), 'left: the connection ends');
    like($nginx->log_since($mark), qr/failed an abandoned query.*53200: out of memory/,
         'left: the log says why');
    delete $server{good_left};
    is(statuses(ask('/left')), 200, 'left: another is used');
}


# one query waits for a new session; the other sessions serve the others

{
    sessions('fresh', 2);

    my $greeting;
    $held = [];

    $server{good_fresh} = sub {
        my ($one, $when, @messages) = @_;

        if ($when eq 'greeting') {
            $greeting = [$one, @messages];
            return;
        }

        return @messages if $when ne 'answer' || @$held;
        push @$held, $one;
        return failure('40001', 'try again');
    };

    $client = ask('/fresh');
    $fake->run_until(sub { $greeting });
    is(statuses(map { ask('/fresh') } 1), 200, 'fresh: another is served');
    my $after = $server{good_fresh};
    $server{good_fresh} = sub { $_[1] eq 'greeting' ? @_[2 .. $#_]
                                                    : $after->(@_) };
    $fake->write(@$greeting);
    is(statuses($client), 200, 'fresh: the waiting one, too');
}


# a connect attempt that began before another session ended may end likewise: a
# retry waits for a session begun after that

{
    my ($probe, @queries, @greetings);

    statuses(ask('/doomed'));

    $server{good_doomed} = sub {
        my ($one, $when, @messages) = @_;

        if ($when eq 'greeting' && $one->{number} > 2) {
            push @greetings, [$one, @messages];
            return;
        }

        if ($when eq 'probe' && $one->{number} == 2) {
            $probe = [$one, @messages];
            return;
        }

        return @messages if $when ne 'answer' || $one->{number} > 2;
        push @queries, $one;
        $fake->reset($one) if $one->{number} == 2;
        return;
    };

    # the second session is ready after the first ends, and before the third
    hold();
    @clients = map { ask('/doomed') } 1, 2;
    go_on();
    $fake->run_until(sub { $probe && @queries == 2 });
    $fake->reset($queries[0]);
    $fake->run_until(sub { @greetings });
    $fake->write(@$probe);
    $fake->run_until(sub { @queries > 2 });

    my $more = $server{good_doomed};
    $server{good_doomed} = sub { $_[1] eq 'greeting' ? @_[2 .. $#_]
                                                     : $more->(@_) };
    release(\@greetings);

    is(statuses(@clients), '200 200', 'doomed: served by newer sessions');
}


# timeouts that are close together: the shorter one expires first

{
    my $order = '';

    for (1 .. 3) {
        my ($grace, $late) = (holding('grace'), holding('late'));
        delete $server{$_} for qw( good_grace good_late );
        statuses(ask("/$_")) for qw( grace late );
        ($grace, $late) = (holding('grace'), holding('late'));

        hold();
        @clients = map { ask("/$_") } qw( late grace );
        go_on();
        held($grace, 1);
        held($late, 1);
        $clients[1]->close;

        $fake->run_until(sub { $late->[0][0]{over} || $grace->[0][0]{over} });
        $order = $late->[0][0]{over} ? 'late first' : 'grace first';
        $fake->run_until(sub { $late->[0][0]{over} && $grace->[0][0]{over} });
        last if $order eq 'grace first';
    }

    is($order, 'grace first', 'an abandoned query gets a short grace time');
}


# the pool is full and all clients left, except for two slow queries: a query
# that waits behind one moves to the idle connection

{
    sessions('crowd', 3);
    $held = holding('crowd');

    my @all = map { client() } 1 .. 17;
    ask('/ok', $_) for @all;
    statuses(@all);

    hold();
    ask('/crowd', $_) for @all;
    go_on();
    ok(held($held, 16), 'a crowd: two connections are full');

    hold();
    $_->close for @all[2 .. 15];
    go_on();

    ok(held($held, 17), 'a crowd: the last request does not wait');

    delete $server{good_crowd};
    release($held);
    is(statuses(@all[0, 1, 16]), '200 200 200', 'a crowd: requests are served');
}

# slow clients do not make a query count as slow

{
    my $large = Lunary::FakePg::column(input => Lunary::FakePg::jsonb(
                                               '"' . 'x' x 2_000 . '"'));
    statuses(ask('/pace'));

    for (1, 2) {
        $held = holding('pace');
        $client = ask('/pace', Lunary::Client->new(port => $narrow,
                                                   rcvbuf => 8192)->connect);
        held($held, 1);

        my ($one, @messages) = @{ shift @$held };
        $fake->write($one, map { ($_) x (length $_->[1] > 2_000 ? 300 : 1) }
                           $large->(@messages));
        $fake->run_until(sub { 0 }, 0.15);
        is(statuses($client), 200, 'a slow client');
    }

    $held = holding('pace');
    @clients = map { client() } 1, 2;
    ask('/ok', $_) for @clients;
    statuses(@clients);
    hold();
    ask('/pace', $_) for @clients;
    go_on();
    held($held, 2);
    is($held->[1][0], $held->[0][0],
       'after slow clients: queries are pipelined');
    delete $server{good_pace};
    release($held);
    is(statuses(@clients), '200 200', 'after slow clients: served');
}

is(join(' ', $nginx->worker_pids), $worker, 'the worker lives');
$nginx->stop;

done_testing();
