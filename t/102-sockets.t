# libpq closes the socket of a connection during the connect and opens another,
# with another number or the same.  Run with each event method of this nginx.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Load qw( soon );
use Lunary::Nginx;
use Lunary::NoTls;
use Lunary::Pg;
use Lunary::System qw( free_port wait_until );
use Lunary::Test qw( key );
use Test::More;

my $pg = Lunary::Pg->new;
my $way = Lunary::NoTls->new($pg->{port});
my $bearer = 'Bearer ' . key('alpha');

sub conninfo {
    my ($port, %more) = @_;

    return '"' . $pg->conninfo(host => '127.0.0.1', port => $port,
                               %more) . '"';
}

my $nginx = Lunary::Nginx->new(
    connections => 512,
    http => 'lunary_pool max=1; lunary_queue 100 timeout=15s;
        lunary_connect_timeout 10s;',
    config => <<"EOF_CONFIG");
        location = /way {
            lunary_database ${\ conninfo($way->{port}, sslmode => 'prefer') };
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
        location = /several {
            lunary_database ${\ conninfo(free_port() . ",$pg->{port}",
                                         host => '127.0.0.1,127.0.0.1') };
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
EOF_CONFIG

sub get { return $nginx->client->get($_[0], Authorization => $bearer) }

# the number of descriptors of a worker
sub files { return scalar(() = glob "/proc/$_[0]/fd/*") }


for my $use (qw( epoll poll select )) {
    SKIP: {
        $nginx->configure(events => "use $use;");
        my ($status, $output) = $nginx->test;

        skip "this nginx has no $use", 8
            if $status && $output =~ /invalid event type/;

        $way->mode('refuse');
        $nginx->start;
        my $worker = wait_until { ($nginx->worker_pids)[0] } 10, 'a worker';

        is(get('/several')->{status}, 200, "$use: the second of two hosts");

        # this descriptor's number is lower than that of the reset socket
        my $below = $nginx->client;
        is($below->get('/ok')->{status}, 200, "$use: a client");
        my $files = files($worker);

        $way->mode('hold');
        my $client = $nginx->client->ask('/way', Authorization => $bearer);
        $way->held;

        $files = files($worker);
        $below->close;
        wait_until { files($worker) < $files } 10, 'the end of the client';
        $way->go;

        is($client->answer->{status}, 200,
           "$use: a socket with another number");
        is(get('/several')->{status}, 200, "$use: other requests");

        # events of the reset socket must not be taken for events of the
        # socket that replaces it
        $way->mode('full');
        $pg->value(q{select count(pg_terminate_backend(pid))
                     from pg_stat_activity where usename = 'lunary_ro'});
        is(get('/way')->{status}, 200, "$use: a slow connection");

        is(($nginx->worker_pids)[0], $worker, "$use: the worker lives");
        $way->mode('reset');
        ok($nginx->reload, "$use: a reload");
        is(get('/way')->{status}, 200, "$use: a request after the reload");

        $nginx->stop;
    }
}

soon { !$pg->sessions } 5, 'no session is left';

done_testing();
