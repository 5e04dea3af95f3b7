# The schema changes while nginx runs: requests that can be served are, others
# get a 500 and one line in the log, and connections are not opened in a loop.

use strict;
use warnings;

use lib 't/lib';
use Lunary::FakePg;
use Lunary::Load qw( expected soon trees whole );
use Lunary::Nginx;
use Lunary::Oracle;
use Lunary::Pg;
use Lunary::Test qw( key project related_uri run_id );
use Lunary::System qw( read_file wait_until );
use Test::More;
use Time::HiRes qw( sleep time );

my $pg = Lunary::Pg->new;
my @small = trees($pg, count => 4, runs => 10, bytes => 20_000);
my $bearer = 'Bearer ' . key('alpha');

my $nginx = Lunary::Nginx->new(
    http => 'lunary_database "' . $pg->conninfo . '";
        lunary_pool max=4;',
    config => <<'EOF_CONFIG')->start;
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
EOF_CONFIG

my $answers = expected($nginx->{port}, $pg, @small, 101, 500);

sub get {
    my ($n) = @_;

    return $nginx->client->related(run_id($n), key('alpha'),
                                   Connection => 'close');
}

sub load {
    my (%arg) = @_;

    return Lunary::Load->start(port => $nginx->{port}, rate => 100,
        answers => $answers, header => { Authorization => $bearer }, %arg);
}

# a new oracle reads the list of columns again
sub as_oracle {
    my ($n) = @_;

    return Lunary::Oracle->new($pg->dbh)->compare(get($n)->{body},
        Lunary::Oracle->new($pg->dbh)->related(project('alpha'), run_id($n)));
}

sub logins {
    my ($mark) = @_;

    return scalar(() = $pg->log_since($mark)
                       =~ /connection authorized: user=lunary_ro/g);
}


# changes under load that do not change a response: no request fails

my @silent = (
    'alter table run add column extra_column text',
    'alter table run add column more jsonb default \'{}\'',
    'alter table run drop column extra_column',
    'alter table run drop column cached_prompt_tokens',
    'alter table run rename column more to still_more',
    # statements are planned or prepared again
    'alter table run alter column runtime type varchar',
    'alter table run alter column status type varchar',
    'alter table run alter column external_user_id type integer',
    'alter table external_user alter column props type jsonb using props',
    'create index on run (parent_run_id, created_at)',
    'analyze',
);

my $load = load(seconds => 4);

for my $sql (@silent) {
    $pg->do($sql);
    sleep 0.15;
}

my $result = $load->finish;
is(join("\n", @{ $result->{wrong} }), '',
   'changes that do not change a response');
note(whole($result));


# the type of a column changes (0A000): the statement is prepared again on a new
# connection

get($_) for @small;

my $log = $pg->log_mark;
my %seen;

for my $type (qw( json jsonb )) {
    $pg->do("alter table run alter column params type $type");
    $seen{$type}{get(101)->{status}}++ for 1 .. 4;
}

soon { get(101)->{status} == 200 } 5, 'the type of a column changes, and back';
note(map { "$_: " . join(' ', %{ $seen{$_} }) . "\n" } sort keys %seen);
is(join(' ', keys %{ $seen{jsonb} }), 200, 'changed back: at once');
cmp_ok(logins($log), '<=', 12, 'few logins');
is(as_oracle(101), undef, 'the response is right');


# a required column is dropped: 500, one line in the log, no reconnect loop

get($_) for @small;
my $mark = $nginx->mark;
$log = $pg->log_mark;
$pg->do('alter table run drop column error');

$result = load(seconds => 2, refusals => qr/^500$/)->finish;
is(join(' ', keys %{ $result->{status} }), 500, 'a column dropped: 500');
is(get($small[0])->{body}, '{"message": "Internal server error"}',
   'a column dropped: body');

my @lines = $nginx->log_since($mark) =~ /^.*42703.*$/mg;
is(scalar @lines, 1, 'a column dropped: one line in the log')
    or diag(join "\n", @lines);
cmp_ok(logins($log), '<=', 20,
       'a column dropped: ' . logins($log) . ' logins for 200 requests');

$pg->do('alter table run add column error jsonb');
soon { get($small[0])->{status} == 200 } 5, 'the column is back';


# a column that only older versions of the schema have

$pg->do('alter table run add column sibling_run_id uuid');
is(get($_)->{status}, 200, 'sibling_run_id appears') for @small;
$pg->do('update run set sibling_run_id = ? where id = ?', run_id(102),
        run_id(101));
$pg->restart('fast');
soon { get(101)->{body} =~ /"siblingRunId":/ } 5, 'sibling_run_id is served';
is(as_oracle(101), undef, 'equals the oracle');

$pg->do('alter table run drop column sibling_run_id');
soon { get(101)->{status} == 200 } 5, 'sibling_run_id is dropped';
is(as_oracle(101), undef, 'equals the oracle');

# a grant is revoked; a table is dropped

get(101);
$mark = $nginx->mark;
$pg->do('revoke select on template from lunary_ro');
is(get(101)->{status}, 500, 'a grant is revoked: 500');
like($nginx->log_since($mark), qr/42501/,
     'a grant is revoked: the log says why');
$pg->do('grant select on template to lunary_ro');
soon { get(101)->{status} == 200 } 5, 'the grant is back';

$pg->do('alter table external_user rename to hidden');
is(get(101)->{status}, 500, 'a table is renamed: 500');
$pg->do('alter table hidden rename to external_user');
soon { get(101)->{status} == 200 } 5, 'the table is back';

$nginx->stop;
soon { !$pg->sessions } 5, 'no session is left';

done_testing();
