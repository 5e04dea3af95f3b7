# The primary crashes under load and its standby is promoted: every response is
# a complete 200, and sessions move to the new primary.  LUNARY_FULL=1 for the
# full size.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Load qw( expected soon trees whole );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test qw( key );
use Test::More;

my ($rate, $seconds) = $ENV{LUNARY_FULL} ? (200, 12) : (100, 7);

sub location {
    return <<'EOF_CONFIG';
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
EOF_CONFIG
}


# read-write: requests wait until the standby is promoted; any: they use the
# standby at once

for my $attrs (qw( read-write any )) {

    my $pg = Lunary::Pg->new;
    my @numbers = trees($pg, count => 8, runs => 10, bytes => 20_000);
    my $standby = $pg->standby;
    $pg->catch_up($standby);

    my $conninfo = $pg->conninfo(
        host => "$pg->{socket_dir},$standby->{socket_dir}",
        port => "$pg->{port},$standby->{port}",
        target_session_attrs => $attrs);

    my $nginx = Lunary::Nginx->new(config => location(), http => <<"EOF_HTTP");
        lunary_database "$conninfo";
        lunary_queue 4096 timeout=15s;
EOF_HTTP

    $nginx->start;

    my $answers = expected($nginx->{port}, $pg, @numbers);

    ok($pg->sessions, "$attrs: sessions with the primary at first");
    is($standby->sessions, 0, "$attrs: no session with the standby");

    my $load = Lunary::Load->start(
        port => $nginx->{port}, rate => $rate, seconds => $seconds,
        answers => $answers,
        header => { Authorization => 'Bearer ' . key('alpha') });

    $load->at($seconds / 4);
    $pg->stop('immediate');
    $standby->promote;
    $load->at($seconds * 3 / 4);
    ok($standby->sessions, "$attrs: sessions with the promoted standby");

    my $result = $load->finish;

    is(join("\n", @{ $result->{wrong} }), '',
       "$attrs: every response is a complete 200");
    is($result->{sent}, $rate * $seconds, "$attrs: all have a response");
    note(whole($result));

    $nginx->stop;
    soon { !$standby->sessions } 5,
       "$attrs: no session is left";
    $standby->stop('immediate');
}

done_testing();
