# PgBouncer in session mode and in transaction mode: many requests of all
# kinds, clients that leave, restarts of PgBouncer and of PostgreSQL.

use strict;
use warnings;

use lib 't/lib';
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use Lunary::Load qw( expected slow soon trees whole );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::PgBouncer;
use Lunary::Test qw( key related_uri run_id );
use Lunary::System qw( kill_wait read_file wait_until write_file );
use Test::More;
use Time::HiRes qw( sleep time );

my $bearer = 'Bearer ' . key('alpha');
my $location = <<'EOF_CONFIG';
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
EOF_CONFIG

# fixtures of each kind: a tree, a cycle, threads, a deep tree, values
my @kinds = (101, 102, 103, 500, 510, 540, 604, 700, 80990);

for my $mode (qw( session transaction )) {

    # off by default since PostgreSQL 19
    my $pg = Lunary::Pg->new(conf => { jit => 'on' });
    my @small = trees($pg, count => 4, runs => 10, bytes => 20_000);
    my ($long) = trees($pg, count => 1, runs => 3, bytes => 3_000,
                       first => 2_000_000);
    my $bouncer = Lunary::PgBouncer->new($pg, mode => $mode,
                                         conf => {
        default_pool_size => $mode eq 'session' ? 4 : 2,
        # otherwise it waits 15 seconds after a failed login
        server_login_retry => 1 });

    # the settings that the module does not make in a shared session
    $pg->do(q{alter role lunary_ro set client_connection_check_interval
              = '1s'});

    # a restart cuts what has begun: no response is larger than the buffers
    my $nginx = Lunary::Nginx->new(
        http => 'lunary_database "' . $bouncer->conninfo . '";
            lunary_queue 1024 timeout=15s;
            lunary_pool max=4 lifetime=2s;
            lunary_buffers 256k;'
            . ($mode eq 'transaction' ? 'lunary_prepare off;' : ''),
        config => $location)->start;

    my $answers = expected($nginx->{port}, $pg, @small, @kinds);
    slow($pg, $long => 30);

    my $load = sub {
        return Lunary::Load->start(port => $nginx->{port}, rate => 50,
            answers => $answers, header => { Authorization => $bearer }, @_);
    };

    # other clients use the same server connections: they see no settings and
    # no results of the module
    my $result = $load->(seconds => 2);
    my %seen;

    for (1 .. 200) {
        my $seen = eval {
            my $dbh = DBI->connect_cached('dbi:Pg:' . join(';',
                'host=127.0.0.1', "port=$bouncer->{port}", 'dbname=lunary'),
                'lunary_ro', '', { RaiseError => 1, PrintError => 0,
                                   PrintWarn => 0, pg_server_prepare => 0 });

            join ' ', map { ($dbh->selectrow_array("show $_"))[0] // 'none' }
                      qw( jit plan_cache_mode default_transaction_read_only )
        };

        $seen{$seen // $@}++;
        sleep 0.003;
    }

    %{ DBI->install_driver('Pg')->{CachedKids} } = ();
    is(join("\n", keys %seen), 'on auto off',
       "$mode: the pooler's other clients see nothing of ours");

    $result = $result->finish;
    is(join("\n", @{ $result->{wrong} }), '', "$mode: requests of all kinds");
    note("$mode: ", whole($result));

    for my $case (['a run that is not there', 999_999, 404],
                  ['an id that is none', 'nonsense', 404]) {
        is($nginx->client->related(run_id($case->[1]), key('alpha'))
           ->{status}, $case->[2], "$mode: $case->[0]");
    }
    is($nginx->client->related(run_id(101), key('empty'))->{status}, 404,
       "$mode: another's run");
    is($nginx->client->related(run_id(101), run_id(1))->{status}, 401,
       "$mode: an unknown key");


    # clients that leave
    my $client = $nginx->client->ask(related_uri($long),
        Authorization => $bearer);
    wait_until { $pg->sessions(q{wait_event = 'PgSleep'}) } 5, 'the query';
    $client->reset;
    soon { !$pg->sessions(q{wait_event = 'PgSleep'}) } 3,
         "$mode: a query is stopped when its client leaves";

    $result = $load->(seconds => 2, leave => 0.5, stay => 0.03, close => 1)
              ->finish;
    is(join("\n", @{ $result->{wrong} }), '', "$mode: while clients leave");


    # PostgreSQL restarts, then PgBouncer
    $result = $load->(seconds => 3);
    $result->at(0.3);
    $pg->restart('fast');
    $result->at(2);
    $pg->value(q{select count(pg_terminate_backend(pid))
                 from pg_stat_activity where usename = 'lunary_ro'});
    $result = $result->finish;
    is(join("\n", @{ $result->{wrong} }), '', "$mode: PostgreSQL restarts");
    note("$mode: ", whole($result));

    $result = $load->(seconds => 2);
    $result->at(0.5);
    $bouncer->stop;
    $bouncer->start;
    $result = $result->finish;
    is(join("\n", @{ $result->{wrong} }), '', "$mode: PgBouncer restarts");
    note("$mode: ", whole($result));


    # prepared statements are gone, or are unknown to this server connection
    $pg->do('alter table run alter column status type varchar');
    $result = $load->(seconds => 1)->finish;
    is(join("\n", @{ $result->{wrong} }), '', "$mode: a column's new type");

    my $log = $nginx->log_since(0);
    my @lines = $log =~ /^.*\[error\].*$/mg;
    cmp_ok(scalar @lines, '<=', 16, "$mode: " . @lines . ' lines in the log');
    unlike($log, qr/unsupported startup|26000.*given up/,
           "$mode: PgBouncer rejects no parameter");

    $nginx->stop;
    $bouncer->stop;
    soon { !$pg->sessions } 5, "$mode: no session is left";
    $pg->stop('immediate');
}


# A pooler in transaction mode may hand its connection to another client after
# the first result, so queries are not pipelined.  A proxy counts the queries
# in progress on each connection and delays each result.

{
    my $pg = Lunary::Pg->new;
    my @small = trees($pg, count => 4, runs => 10, bytes => 20_000);
    my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
                                       Listen => 64) or die $!;
    my $port = $listen->sockport;
    my $seen = "$pg->{dir}/most";
    my $pid = fork // die $!;

    relay($listen, "$pg->{socket_dir}/.s.PGSQL.$pg->{port}", $seen)
        if $pid == 0;

    for my $prepare (qw( off on )) {
        write_file($seen, '');

        my $nginx = Lunary::Nginx->new(
            http => 'lunary_database "'
                . $pg->conninfo(host => '127.0.0.1', port => $port,
                                sslmode => 'disable') . qq{";
                lunary_pool max=4 connecting=4;
                lunary_queue 1024 timeout=20s;
                lunary_prepare $prepare;}, config => $location)->start;

        my $answers = expected($nginx->{port}, $pg, @small);
        write_file($seen, '');

        my $result = Lunary::Load->start(port => $nginx->{port},
            rate => 300, seconds => 1, answers => $answers,
            header => { Authorization => $bearer })->finish;

        is(join("\n", @{ $result->{wrong} }), '', "prepare $prepare: responses");
        my $most = length read_file($seen);
        note("prepare $prepare: at most $most queries on a connection");

        $prepare eq 'off'
            ? is($most, 1, 'prepare off: one query at a time')
            : cmp_ok($most, '>', 1, 'prepare on: the proxy sees several');

        $nginx->stop;
    }

    kill_wait('KILL', $pid);
}

done_testing();


# the size of the file is the largest number of queries in progress
sub relay {
    my ($listen, $target, $seen) = @_;

    my $select = IO::Select->new($listen);
    my (%peer, %client, %text, %begun, %syncs, @later);

    while (1) {
        for my $socket ($select->can_read(0.001)) {
            if ($socket == $listen) {
                my $from = $listen->accept or next;
                my $to = IO::Socket::UNIX->new(Peer => $target) or next;
                @peer{$from, $to} = ($to, $from);
                @client{$from, $to} = ($from, $from);
                @text{$from, $to} = ('', '');
                $syncs{$from} = 0;
                $select->add($from, $to);
                next;
            }

            my $peer = $peer{$socket} or next;

            if (!sysread $socket, my $data, 65536) {
                $select->remove($socket, $peer);
                delete @peer{$socket, $peer};
                close $_ for $socket, $peer;
                next;

            } else {
                $text{$socket} .= $data;
                my $client = $client{$socket};
                my $from_client = $client == $socket;

                while (length $text{$socket} >= 5) {
                    my $startup = $from_client && !$begun{$client};
                    my $len = $startup ? unpack('N', $text{$socket})
                              : 1 + unpack 'xN', $text{$socket};
                    last if length $text{$socket} < $len;

                    my $type = $startup ? '' : substr $text{$socket}, 0, 1;
                    substr $text{$socket}, 0, $len, '';
                    $begun{$client} = 1 if $startup;

                    $syncs{$client}++ if $from_client && $type eq 'S';
                    
                    # the first one completes the login
                    $syncs{$client}-- if !$from_client && $type eq 'Z'
                                         && $begun{$client}++ > 1;
                    write_file($seen, 'x' x $syncs{$client})
                        if $syncs{$client} > -s $seen;
                }

                push @later, [time + ($from_client ? 0 : 0.005), $peer, $data];
            }
        }

        while (@later && $later[0][0] <= time) {
            my (undef, $peer, $data) = @{ shift @later };
            syswrite $peer, $data if $peer{$peer};
        }
    }
}
