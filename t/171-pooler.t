# Behind a pooler the module leaves nothing in shared sessions: meanwhile
# another client of the pool reads its settings, writes and listens.  PgBouncer
# in each mode, with each "lunary_prepare", and if supported with
# "max_prepared_statements" above 0.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Load qw( expected trees );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::PgBouncer;
use Test::More;

my $pg = Lunary::Pg->new;
my @runs = trees($pg, count => 4, runs => 10, bytes => 20_000);

$pg->do('create table scratch (n serial, text text)');
$pg->do('grant all on scratch, scratch_n_seq to lunary_ro');

my $config = <<'EOF_CONFIG';
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
EOF_CONFIG

# the responses without a pooler
my $direct = Lunary::Nginx->new(
    http => 'lunary_database "' . $pg->conninfo . '";',
    config => $config)->start;
my $answers = expected($direct->{port}, $pg, @runs);
$direct->stop;

my $carries = Lunary::PgBouncer->carries_statements;

for my $mode (qw( session transaction statement )) {
    for my $prepare (qw( auto on off )) {
        one_case($mode, $prepare, 0);
    }

    one_case($mode, 'on', 100) if $carries && $mode ne 'session';
}

done_testing();


sub one_case {
    my ($mode, $prepare, $max) = @_;

    my $what = "$mode, $prepare" . ($max ? ' and carried' : '');

    # with one server connection both clients use the same
    my $bouncer = Lunary::PgBouncer->new($pg, mode => $mode, conf => {
        default_pool_size => $mode eq 'session' ? 2 : 1,
        server_login_retry => 1,
        $carries ? (max_prepared_statements => $max) : () });

    my $nginx = Lunary::Nginx->new(
        http => 'lunary_database "' . $bouncer->conninfo . qq{";
            lunary_queue 64 timeout=15s;
            lunary_pool max=2 lifetime=1s;
            lunary_prepare $prepare;}, config => $config)->start;

    my ($seen, $other) = $bouncer->beside($nginx, $answers, round => sub {
        my ($round) = @_;

        # end the server's sessions and their prepared statements
        $pg->value(q{select count(pg_terminate_backend(pid))
                     from pg_stat_activity where usename = 'lunary_ro'})
            if $mode ne 'session' && $round == 3;
    });

    is(join(' ', sort keys %{ $seen->{status} }), 200, "$what: responses")
        or diag($nginx->log_since(0));
    is(join(' ', keys %{ $seen->{wrong} }), '',
       "$what: the same as without it");
    is(join('|', keys %{ $seen->{left} }), '',
       "$what: the other client's settings");
    is(join('|', keys %{ $seen->{errors} }), '',
       "$what: the other client writes and listens");
    is($other->selectrow_array('select count(*) from pg_prepared_statements'),
       0, "$what: no statement is left") if $prepare ne 'on';

    my $log = $nginx->log_since(0);
    my $lines = () = $log =~ /loses prepared statements/g;
    is($lines, $prepare eq 'on' && $mode ne 'session' && !$max ? 1 : 0,
       "$what: lines that it loses prepared statements");

    $other->disconnect;
    $nginx->stop;
    $bouncer->stop;
}
