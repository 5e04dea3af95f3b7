# Behind HAProxy with Patroni, as doc/operations.md configures them, the
# primary changes under load: every response that had not begun is a complete
# 200, and one that had is cut.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Client;
use Lunary::Load qw( expected grow soon trees whole $related );
use Lunary::Nginx;
use Lunary::Patroni;
use Lunary::System qw( project_dir read_file );
use Lunary::Test qw( key );
use Test::More;
use Time::HiRes qw( time );

my $rate = $ENV{LUNARY_FULL} ? 200 : 60;

my $patroni = Lunary::Patroni->new;
my ($old, $new) = ($patroni->primary, $patroni->standby);

# most responses are sent whole, one in nine streams
my @numbers = trees($old, count => 8, runs => 10, bytes => 20_000);
push @numbers, trees($old, count => 1, runs => 10, bytes => 300_000,
                     first => 2_000_000);

# more than the sockets on the way hold
my $long = grow($old, 3_000_000, runs => 160, bytes => 400_000);
$old->catch_up($new);

my ($conf) = read_file(project_dir() . '/doc/operations.md')
             =~ /^```nginx\n(lunary_database.*?)^```$/ms or die 'no nginx.conf';
my $conninfo = $patroni->conninfo;
$conf =~ s/"host=[^"]*"/"$conninfo"/;

my $nginx = Lunary::Nginx->new(http => $conf . <<'EOF_HTTP',
    log_format waits "$lunary_queue_time";
    lunary_max_temp_file_size 0;
EOF_HTTP
    config => $related . <<'EOF_CONFIG')->start;
        access_log logs/waits.log waits;

        location = /metrics {
            lunary_status;
            access_log off;
        }
EOF_CONFIG

my $answers = expected($nginx->{port}, $old, @numbers);
my $mark = $nginx->mark;

# has begun, and is read again after the switchover
my $begun = Lunary::Client->stream(port => $nginx->{port}, uri => $long,
                                   rcvbuf => 8192);
$begun->take(100_000);

my $load = Lunary::Load->start(
    port => $nginx->{port}, rate => $rate, seconds => 300, cut => 1,
    answers => $answers,
    header => { Authorization => 'Bearer ' . key('alpha') });

$load->at(2);

my $start = time;
$patroni->switchover;
my $took = time - $start;

is($patroni->primary, $new, 'the standby is the primary');
soon { $new->sessions(q{query ~ 'with recursive'}) } 30, 'it is asked';
$load->at(time - $load->{started} + 2);

my $result = $load->stop;

is(join("\n", @{ $result->{wrong} }), '',
   'every response that had not begun is a complete 200');

$patroni->ready;
is($patroni->standby, $old, 'the old primary is the standby');
is($old->sessions, 0, 'no session is left with it');

$begun->rest;
is($begun->{status}, 200, 'a response that had begun');
ok(!$begun->{whole}, 'it is cut');

my ($cut) = $nginx->client->get('/metrics')->{body}
            =~ /^lunary_requests_total\{outcome="cut"\} (\d+)$/m;
is($cut, $result->{cut} + 1, 'no other is cut but those that were seen so');

my @waits = grep { /^\d/ && $_ > 0.1 }
            split /\n/, read_file("$nginx->{dir}/logs/waits.log");
cmp_ok(scalar @waits, '>', 0, 'requests waited in the queue');

note(whole($result), sprintf ', %d cut, %d waited, patronictl took %.1f s',
     $result->{cut}, scalar @waits, $took);


# the log: the lines that README lists, each fault once in ten seconds

my @lines = grep { !/\[(?:info|notice)\].*(?:client|keepalive)/ }
            split /\n/, $nginx->log_since($mark);
my $database = qr/database "lunary" at "127\.0\.0\.1:\d+"/;

my %known = (back => qr/\[notice\].*: $database is back after \d+ ms/,
             lost => qr/\[error\].*: $database closed a connection/,
             away => qr/\[error\].*: $database cannot be connected to/,
             failed => qr/\[error\].*: $database failed a query,/,
             cut => qr/\[error\].* the response is cut off: /);
my %count = map { $_ => 0 } keys %known;

for my $line (@lines) {
    my @kinds = grep { $line =~ $known{$_} } keys %known;
    ok(@kinds == 1, "a line that is documented: $line");
    $count{$_}++ for @kinds;
}

# for a moment HAProxy takes both for the primary, and one refuses
cmp_ok($count{back}, '>=', 1, 'it is back');
is($count{cut}, $cut, 'a line for each response that is cut');
cmp_ok(scalar @lines, '<=', 20, 'no line for each request or attempt');

$nginx->stop;
$patroni->stop;

done_testing();
