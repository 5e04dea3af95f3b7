# A standby that lags: it does not have a new run or key yet, so the query is
# repeated on the read-write server.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Load qw( expected soon trees );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test qw( key project related_uri run_id );
use Lunary::System qw( wait_until );
use Test::More;
use Time::HiRes qw( sleep time );

my $pg = Lunary::Pg->new(conf => { wal_level => 'replica',
                                   max_wal_senders => 5 });
my ($old) = trees($pg, count => 1, runs => 10, bytes => 20_000);
my $standby = $pg->standby;

$pg->catch_up($standby);

my $location = <<'EOF_CONFIG';
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
        location = /metrics {
            lunary_status;
        }
EOF_CONFIG

my $both = $pg->conninfo(host => "$standby->{socket_dir},$pg->{socket_dir}",
                         port => "$standby->{port},$pg->{port}");

sub nginx {
    my ($conninfo) = @_;

    return Lunary::Nginx->new(http => "lunary_database \"$conninfo\";",
                              config => $location)->start;
}

sub ask {
    my ($nginx, $n, $key) = @_;

    return $nginx->client->get(related_uri($n),
                               Authorization => 'Bearer ' . $key);
}

sub unconfirmed {
    my ($nginx) = @_;

    return $nginx->client->get('/metrics')->{body}
           =~ /^lunary_unconfirmed_total (\d+)$/m ? $1 : undef;
}

# from here on the standby lags by hours
$standby->do(q{alter system set recovery_min_apply_delay = '1h'});
$standby->reload;

my ($new) = trees($pg, count => 1, runs => 10, bytes => 20_000,
                  first => 2_000_000);
my $key = run_id(4711);
$pg->do('insert into api_key (type, api_key, project_id) values (?, ?, ?)',
        'private', $key, project('alpha'));

my $direct = nginx($pg->conninfo);
my $answers = expected($direct->{port}, $pg, $old, $new);
$direct->stop;

for my $case (['', 'unset'], [' target_session_attrs=any', 'any'],
              [' target_session_attrs=prefer-standby', 'prefer-standby']) {
    my ($more, $name) = @$case;
    my $nginx = nginx($both . $more);

    is(ask($nginx, $old, key('alpha'))->{body}, $answers->{related_uri($old)},
       "$name: a run that both have");
    is($pg->sessions, 0, "$name: the primary is not asked for it");

    my $answer = ask($nginx, $new, key('alpha'));

    is($answer->{status}, 200, "$name: a run that only the primary has");
    is($answer->{body}, $answers->{related_uri($new)}, "$name: its body");
    is(ask($nginx, $new, $key)->{status}, 200, "$name: a key, too");
    is(ask($nginx, 999_999, key('alpha'))->{status}, 404,
       "$name: a run that none has");
    is(ask($nginx, $new, run_id(4712))->{status}, 401,
       "$name: a key that none has");
    is($pg->sessions, 1, "$name: over one connection");
    $nginx->stop;
}


# the primary is busy: the result of the standby is used at once, and counted

{
    my $nginx = nginx($both);
    is(ask($nginx, $new, key('alpha'))->{status}, 200, 'busy: before');

    $pg->do('begin');
    $pg->do('lock run');

    my $first = $nginx->client->connect;
    $first->ask(related_uri($new), Authorization => 'Bearer ' . key('alpha'));
    wait_until { $pg->sessions(q{wait_event_type = 'Lock'}) } 5,
               'a query that waits on the primary';

    my $start = time;
    is(ask($nginx, $new, key('alpha'))->{status}, 404, 'busy: the second');
    cmp_ok(time - $start, '<', 1, 'busy: at once');
    is(unconfirmed($nginx), 1, 'busy: it is counted');

    $pg->do('rollback');
    is($first->answer->{status}, 200, 'busy: the first');
    $nginx->stop;
}


# the primary is down

{
    my $nginx = nginx($both);
    is(ask($nginx, $new, key('alpha'))->{status}, 200, 'away: before');

    $pg->stop('immediate');
    is(ask($nginx, $new, key('alpha'))->{status}, 404, 'away: a run')
        for 1 .. 3;
    is(unconfirmed($nginx), 3, 'away: each is counted');
    is(ask($nginx, $old, key('alpha'))->{status}, 200,
       'away: a run that the standby has');
    $nginx->stop;
}

done_testing();
