# Random changes of rows of every kind: a 304 is never sent if the response
# would differ by a byte.
#
# SEED=n repeats a run; ROUNDS=100000 makes a long one.

use strict;
use warnings;

use lib 't/lib';
use List::Util qw( first );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::System qw( patience );
use Lunary::Test;
use Test::More;

my $seed = $ENV{SEED} || int rand 100_000;
my $rounds = $ENV{ROUNDS} || 1000;
my $trees = 12;

srand $seed;
diag("SEED=$seed ROUNDS=$rounds");

my $pg = Lunary::Pg->new(conf => { synchronous_commit => 'off' });
plan(skip_all => 'no validators') if !$pg->has_validators;

my $dbh = $pg->dbh;
my $other = $pg->dbh('lunary');

my $nginx = Lunary::Nginx->new(workers => 2,
    http => 'lunary_database "' . $pg->conninfo . '"; lunary_etag on;
        lunary_key_cache zone=keys:1m; lunary_pool max=3;',
    server => 'access_log off; keepalive_requests 1000000;',
    config => <<'EOF_CONFIG')->start;
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
        location ~ "^/stream/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
            lunary_buffers 1k;
        }
EOF_CONFIG

my ($alpha, $beta) = map { project($_) } qw( alpha beta );
my @users = @{ $dbh->selectcol_arrayref('select id from external_user') };
my @versions = @{ $dbh->selectcol_arrayref(
    'select id from template_version') };
my @runs = map { my $t = $_; map { run_id(700_000 + $t * 100 + $_) } 0 .. 8 }
           1 .. $trees;

sub pick { return $_[rand @_] }

sub add {
    my ($id, $parent, $project) = @_;

    $dbh->do('insert into run (id, project_id, parent_run_id, type,
              created_at, name, input, external_user_id, template_version_id)
              values (?, ?, ?, ?, now(), ?, ?, ?, ?)', undef, $id, $project,
             $parent, pick(qw( llm chat tool thread agent )), rand,
             '{"x": ' . rand() . '}', pick(undef, undef, @users),
             pick(undef, undef, @versions));
}

# a tree: each run below one before it
for my $t (0 .. $trees - 1) {
    my @tree = @runs[$t * 9 .. $t * 9 + 8];

    add($tree[$_], $_ ? $tree[rand $_] : undef, $alpha) for 0 .. $#tree;
}

my %column = (
    name => sub { rand }, input => sub { '"' . rand() . '"' },
    output => sub { '[' . rand() . ']' }, error => sub { pick(undef, '{}') },
    feedback => sub { pick(undef, '{"thumb": "up"}', '{"x": ' . rand() . '}') },
    params => sub { '{"a_b": ' . rand() . '}' }, metadata => sub { '{}' },
    tags => sub { '{' . int(rand 9) . '}' }, cost => sub { rand },
    prompt_tokens => sub { int rand 99 }, status => sub { pick(qw( a b )) },
    completion_tokens => sub { int rand 99 },
    type => sub { pick(qw( llm chat thread tool )) },
    is_public => sub { pick('t', 'f') },
    created_at => sub { '2026-01-01 00:00:0' . int rand 9 },
    ended_at => sub { pick(undef, 'infinity', '2026-01-02') },
    external_user_id => sub { pick(undef, @users) },
    template_version_id => sub { pick(undef, @versions) },
    parent_run_id => sub { pick(undef, @runs) },
    project_id => sub { pick($alpha, $alpha, $beta) },
);
my @columns = sort keys %column;

sub write_run {
    my ($db) = @_;

    my $column = pick(@columns);
    $db->do("update run set $column = ? where id = ?", undef,
            $column{$column}->(), pick(@runs));
}

my @rare = (
    sub { $dbh->do('vacuum run') }, sub { $dbh->do('vacuum (freeze) run') },
    sub { $dbh->do('vacuum external_user, template, template_version') },
    sub { $dbh->do('analyze run') },
    sub { $dbh->do('alter table run rename column input to x');
          $dbh->do('alter table run rename column output to input');
          $dbh->do('alter table run rename column x to output') },
    sub { $dbh->do('alter table run drop column metadata');
          $dbh->do('alter table run add column metadata jsonb default \'{"x": '
                   . rand() . '}\'') },
    sub { $dbh->do('cluster run using run_pkey') },
);

my @changes = (
    (sub { write_run($dbh) }) x 8,
    sub { $dbh->do('update external_user set props = ? where id = ?', undef,
                   '{"x": ' . rand() . '}', pick(@users)) },
    sub { $dbh->do('update external_user set project_id = ? where id = ?',
                   undef, pick($alpha, $beta), pick(@users)) },
    sub { $dbh->do('update template set slug = ? where id in (select
                   template_id from template_version where id = ?)', undef,
                   rand, pick(@versions)) },
    sub { $dbh->do('update template_version set template_id = (select id from
                   template order by random() limit 1) where id = ?', undef,
                   pick(@versions)) },
    # delete, and perhaps insert with the same id
    sub { my $id = pick(@runs);
          $dbh->do('begin');
          $dbh->do('update run set parent_run_id = null
                    where parent_run_id = ?', undef, $id);
          $dbh->do('delete from run where id = ?', undef, $id);
          add($id, pick(undef, @runs), $alpha) if rand() < 0.9;
          $dbh->do('commit') },
    sub { my $id = pick(@runs);
          add($id, undef, $alpha) if !$dbh->selectrow_array(
              'select 1 from run where id = ?', undef, $id) },
    # rolled back
    sub { $other->do('begin'); write_run($other); $other->do('rollback') },
    sub { $other->do('begin'); write_run($other); $other->do('savepoint s');
          write_run($other); $other->do('rollback to s'); write_run($other);
          $other->do(pick('commit', 'rollback')) },
    sub { $other->do('begin');
          $other->do('select from run where id = ? for update', undef,
                     pick(@runs));
          $other->do('commit') },
);

# changes may break foreign keys: errors and checks are disabled
for my $db ($dbh, $other) {
    $db->{RaiseError} = 0;
    $db->{PrintError} = 0;
    $db->do('set session_replication_role = replica');
}

my $client = $nginx->client->connect;
my (%kept, %count, @stale);

sub get {
    my ($place, $id, %header) = @_;

    return $client->exchange(GET => "$place/v1/runs/$id/related",
                             Authorization => 'Bearer ' . key('alpha'),
                             %header);
}

# compares a conditional response with the current one
sub ask {
    my ($round, $id) = @_;

    my $kept = $kept{$id};
    my $place = pick('', '', '/stream');
    my $got = get($place, $id, $kept ? ('If-None-Match' => $kept->{tag}) : ());
    my $now = get('', $id);

    $count{$got->{status}}++;

    if ($got->{status} == 304) {
        push @stale, "round $round, run $id" if $kept->{body} ne $now->{body};

    } elsif ($kept && $got->{status} == 200) {
        $count{missed}++ if $kept->{body} eq $got->{body};
    }

    if ($now->{status} == 200 && $now->{header}{etag}) {
        $kept{$id} = { tag => $now->{header}{etag}, body => $now->{body} };
    } else {
        delete $kept{$id};
    }
}

for my $round (1 .. $rounds) {
    pick(@changes)->();
    $dbh->do('rollback') if !$dbh->{AutoCommit};
    pick(@rare)->() if rand() < 0.005;

    ask($round, pick(@runs)) for 1 .. 3;
    last if @stale > 5;
}

is("@stale", '', 'no 304 for a response that has changed');
cmp_ok($count{304} // 0, '>', $rounds / 10, 'there were 304s');
cmp_ok($count{200} // 0, '>', $rounds / 10, 'there were 200s');
cmp_ok($count{missed} // 0, '<', $count{304} // 0,
       'most responses that had not changed were a 304');
diag(join ', ', map { "$_: $count{$_}" } sort keys %count);

$nginx->stop;

done_testing();
