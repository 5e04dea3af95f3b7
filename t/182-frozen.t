# All processes of PostgreSQL are stopped: requests get an error within the
# timeouts, other locations are served, and service resumes with PostgreSQL.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Load qw( expected soon trees whole );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test qw( key related_uri run_id );
use Lunary::System qw( wait_until );
use Test::More;
use Time::HiRes qw( sleep time );

my $pg = Lunary::Pg->new;
my @numbers = trees($pg, count => 4, runs => 10, bytes => 20_000);

my $nginx = Lunary::Nginx->new(
    http => 'lunary_database "' . $pg->conninfo . '";
        lunary_query_timeout 1500ms;
        lunary_queue 256 timeout=1s;
        lunary_connect_timeout 2s;
        lunary_pool max=4;',
    config => <<'EOF_CONFIG')->start;
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
EOF_CONFIG

my $answers = expected($nginx->{port}, $pg, @numbers);
my $bearer = 'Bearer ' . key('alpha');

sub get {
    my ($uri) = @_;

    return $nginx->client(timeout => 15)->get($uri, Authorization => $bearer,
                                              Connection => 'close');
}

# under load, so that busy, idle and connecting sessions are all stopped; once
# briefly, and once until all of them time out
for my $long (0.8, 6) {

    my $load = Lunary::Load->start(
        port => $nginx->{port}, rate => 60, seconds => $long + 2,
        answers => $answers, refusals => qr/^50[34]$/,
        header => { Authorization => $bearer });

    $load->at(1);
    $pg->freeze;

    my $end = time + $long;
    my ($others, $wrong) = (0, 0);

    while (time < $end) {
        my $answer = get('/ok');
        $others = $answer->{time} if $answer->{time} > $others;
        $wrong++ if $answer->{status} != 200;
        sleep 0.02;
    }

    is($wrong, 0, "$long s: other locations respond");
    cmp_ok($others, '<', 0.2, "$long s: at once");

    $pg->thaw;

    my $start = time;
    soon { get(related_uri($numbers[0]))->{status} == 200 } 10,
       "$long s: requests are served again";
    my $back = time - $start;
    cmp_ok($back, '<', 1, "$long s: within a second");

    my $result = $load->finish;

    is(join("\n", @{ $result->{wrong} }), '',
       "$long s: a complete 200, or 503, or 504");

    # a request may wait in the queue, be sent, and be retried
    cmp_ok($result->{slowest}, '<', 1 + 1.5 + 0.8,
           "$long s: every response in time");
    note(whole($result), sprintf ', back after %.3f s', $back);

    if ($long > 2) {
        ok($result->{status}{503}, 'queued requests get a 503');
        ok($result->{status}{504}, 'running requests time out');

    } else {
        is(join(' ', keys %{ $result->{status} }), 200,
           "$long s: too short to cause an error");
    }
}

soon { $pg->sessions <= 4 } 5, 'no more sessions than the pool maximum';
soon { !$pg->sessions(q{state = 'active'}) } 3, 'no query is left';

# one session ends while the process of another is stopped: the other may be
# lost without an event, and gets no request

$nginx->configure(config => <<"EOF_CONFIG");
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related\$" {
            lunary_database "${\ $pg->conninfo(application_name => 'two') }";
            lunary_pool max=2;
            lunary_connect_timeout 300ms;
            lunary_related_runs \$run_id;
        }
EOF_CONFIG
ok($nginx->reload, 'a pool of two');

my $pids = wait_until {
    my @clients = map { $nginx->client->connect } 1 .. 8;
    $_->send($_->request('GET', related_uri($numbers[0]),
                         Authorization => $bearer)) for @clients;
    $_->answer for @clients;

    # backends that have completed the session's setup
    my $found = $pg->dbh->selectcol_arrayref(q{select pid
        from pg_stat_activity where application_name = 'two'
        and state = 'idle' and query not in ('') and query !~ 'set_config'});
    @$found == 2 ? $found : undef;
} 10, 'two sessions';

my $mark = $nginx->mark;
kill 'STOP', $pids->[0];
$pg->value('select pg_terminate_backend(?::int)', $pids->[1]);
soon { $nginx->log_since($mark) =~ /closed a connection/ } 5,
     'a session is lost';

my $answer = get(related_uri($numbers[0]));
is($answer->{status}, 200, 'a request after it is served');
cmp_ok($answer->{time}, '<', 0.3, 'at once');
kill 'CONT', $pids->[0];

$nginx->stop;
soon { !$pg->sessions } 5, 'no session is left';

done_testing();
