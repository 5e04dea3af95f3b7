# Behind pgpool-II, which hands on the backend's own process, the module takes
# its sessions for its own with "lunary_prepare auto".  They are then left to
# other clients as far as pgpool-II resets them; with "off" nothing is left.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Load qw( expected trees whole $related );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Pgpool;
use Lunary::Test qw( key );
use Test::More;

my $pg = Lunary::Pg->new;
my @runs = trees($pg, count => 4, runs => 10, bytes => 20_000);

$pg->do('create table scratch (n serial, text text)');
$pg->do('grant all on scratch, scratch_n_seq to lunary_ro');

# what the responses are, without a pooler
my $direct = Lunary::Nginx->new(
    http => 'lunary_database "' . $pg->conninfo . '";',
    config => $related)->start;
my $answers = expected($direct->{port}, $pg, @runs);
$direct->stop;

# what pgpool-II does with a session when its client leaves: its default, and
# less than that
my %reset = (all => 'ABORT; DISCARD ALL', little => 'ABORT');

for my $reset (sort keys %reset) {
    for my $prepare (qw( off auto )) {
        my $what = "$prepare, $reset is reset";

        # one session: both clients use it in turn
        my $pgpool = Lunary::Pgpool->new($pg, conf => {
            num_init_children => 1, reset_query_list => "'$reset{$reset}'" });
        my $nginx = nginx($pgpool, "lunary_prepare $prepare;
                                    lunary_pool max=1 idle=1ms;");

        my ($seen, $other) = $pgpool->beside($nginx, $answers, again => 1);

        my ($status, $left, $errors) =
            map { join ' ', sort keys %{ $seen->{$_} } }
            qw( status left errors );
        my $statements = $other->selectrow_array(q{
            select count(*) from pg_prepared_statements});

        is(scalar keys %{ $seen->{pids} }, 1, "$what: in one session");

        if ($prepare eq 'auto' && $reset eq 'little') {
            is($status, '200 500', "$what: responses");
            like($nginx->log_since(0), qr/SQLSTATE 42P05/,
                 "$what: statements of the connection before are in the way");
            like($left, qr/\bdefault_transaction_read_only=on\b/,
                 "$what: settings are left");
            like($errors, qr/read-only transaction/,
                 "$what: the other client cannot write");
            cmp_ok($statements, '>', 0, "$what: statements are left");

        } else {
            is($status, 200, "$what: responses")
                or diag($nginx->log_since(0));
            is(join(' ', keys %{ $seen->{wrong} }), '',
               "$what: the same as without it");
            is($left, '', "$what: the other client's settings");
            is($errors, '', "$what: the other client writes and listens");
            is($statements, 0, "$what: no statement is left");
        }

        $other->disconnect;
        $nginx->stop;
        $pgpool->stop;
    }
}


# many at once

for my $prepare (qw( off auto )) {
    my $pgpool = Lunary::Pgpool->new($pg, conf => { num_init_children => 4 });
    my $nginx = nginx($pgpool, "lunary_prepare $prepare; lunary_pool max=4;");

    my $result = Lunary::Load->start(
        port => $nginx->{port}, rate => 60, seconds => 3,
        answers => $answers,
        header => { Authorization => 'Bearer ' . key('alpha') })->finish;

    is(join("\n", @{ $result->{wrong} }), '',
       "$prepare: every response is a complete 200");
    note(whole($result));

    $nginx->stop;
    $pgpool->stop;
}

done_testing();


sub nginx {
    my ($pgpool, $more) = @_;

    return Lunary::Nginx->new(config => $related, http =>
        'lunary_database "' . $pgpool->conninfo . qq{";
         lunary_queue 256 timeout=15s;
         $more})->start;
}
