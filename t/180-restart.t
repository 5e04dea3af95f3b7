# PostgreSQL is restarted and crashes under load: every response is a complete
# 200.  LUNARY_FULL=1 for the full size.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Load qw( expected soon trees whole );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test qw( key );
use Test::More;

my ($rate, $seconds) = $ENV{LUNARY_FULL} ? (200, 12) : (100, 8);

my $pg = Lunary::Pg->new;
my @numbers = trees($pg, count => 8, runs => 10, bytes => 20_000);

my $nginx = Lunary::Nginx->new(
    http => 'lunary_database "' . $pg->conninfo . '";
        lunary_queue 4096 timeout=15s;',
    config => <<'EOF_CONFIG')->start;
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
EOF_CONFIG

my $answers = expected($nginx->{port}, $pg, @numbers);
my ($size) = map { length } values %$answers;
cmp_ok($size, '>', 15_000, "responses of $size bytes");

my $load = Lunary::Load->start(
    port => $nginx->{port}, rate => $rate, seconds => $seconds,
    answers => $answers,
    header => { Authorization => 'Bearer ' . key('alpha') });

$load->at($seconds / 6);
$pg->restart('fast');
$load->at($seconds / 2);
$pg->restart('immediate');

my $result = $load->finish;

is(join("\n", @{ $result->{wrong} }), '', 'every response is a complete 200');
is($result->{sent}, $rate * $seconds, 'all have a response');
note(whole($result));

cmp_ok($pg->sessions, '<=', 8, 'no more sessions than the pool maximum');

$nginx->stop;
soon { !$pg->sessions } 5, 'no session is left';

done_testing();
