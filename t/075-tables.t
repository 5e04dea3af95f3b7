# Tables that are not plain: views, partitions, inheritance, foreign tables,
# grants on columns, row security.  The responses equal those of plain tables,
# but have no tag.

use strict;
use warnings;

use lib 't/lib';
use JSON::XS qw( decode_json );
use Lunary::Load qw( soon );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test;
use Test::More;

my $bearer = 'Bearer ' . key('alpha');
my @runs = (101, 200, 211, 230, 301, 401, 500, 540, 602, 608, 700);
my $columns = join ', ', qw( id created_at ended_at tags project_id status
    name error input output params type parent_run_id prompt_tokens
    completion_tokens cost external_user_id feedback is_public
    template_version_id runtime metadata is_deleted cached_prompt_tokens );

sub all {
    my ($nginx) = @_;

    my $client = $nginx->client->connect;
    my %body;

    for my $n (@runs, 999999) {
        my $answer = $client->exchange(GET => related_uri($n),
                                       Authorization => $bearer);
        $body{$n} = "$answer->{status} $answer->{body}";
        $body{tag} //= $answer->{header}{etag};
    }

    $client->close;
    return \%body;
}

sub serve {
    my ($pg) = @_;

    return Lunary::Nginx->new(
        http => 'lunary_database "' . $pg->conninfo . '"; lunary_etag on;',
        config => <<'EOF_CONFIG')->start;
            location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
                lunary_related_runs $run_id;
            }
EOF_CONFIG
}

# the statement of a request, explained for a run
sub explained {
    my ($pg, $n) = @_;

    $pg->do(q{alter role lunary_ro set log_statement = 'all'});
    my $nginx = serve($pg);
    my $mark = $pg->log_mark;

    $nginx->client->get(related_uri($n), Authorization => $bearer);
    my ($sql) = map { /LOG:  execute lunary_main_\w+: (.*)/s ? $1 : () }
                $pg->statements_since($mark);

    $nginx->stop;
    $pg->do('alter role lunary_ro reset log_statement');

    my $dbh = $pg->dbh;
    $dbh->do("prepare it (uuid, uuid) as $sql");
    $dbh->do("set $_") for 'enable_seqscan = off', 'enable_bitmapscan = off',
        'plan_cache_mode = force_generic_plan';

    my ($plan) = $dbh->selectrow_array(
        "explain (analyze, timing off, format json) execute it
         ('@{[ run_id($n) ]}', '@{[ key('alpha') ]}')");

    $dbh->do($_) for 'deallocate it', 'reset all';
    return decode_json($plan)->[0]{Plan};
}

sub nodes {
    my ($node) = @_;

    return ($node, map { nodes($_) } @{ $node->{Plans} // [] });
}

my $plain = Lunary::Pg->new;
my $nginx = serve($plain);
my $expected = all($nginx);
is(defined $expected->{tag}, $plain->has_validators,
   'a plain table has tags');
$nginx->stop;
$plain->stop;

sub variant {
    my ($name, $change, $more) = @_;

    my $pg = Lunary::Pg->new;
    $pg->do($_) for ref $change ? $change->($pg) : split /;\s*\n/, $change;

    my $nginx = serve($pg);
    my $got = all($nginx);

    is($got->{tag}, undef, "$name: no tag");
    is($got->{$_}, $expected->{$_}, "$name: run $_") for @runs, 999999;
    unlike($nginx->log_since(0), qr/\[(?:error|crit|alert)\]/, "$name: no line");

    $more->($pg, $nginx) if $more;
    $nginx->stop;
    $pg->stop;
}

my $aside = "alter table run rename to run_plain;\n";
my $grant = "grant select on run to lunary_ro;\n";

variant('a view', <<"EOF_SQL");
$aside create view run as select * from run_plain;
$grant
EOF_SQL

variant('views of all', join '', map { <<"EOF_SQL" } qw( external_user template
alter table $_ rename to ${_}_plain;
create view $_ as select * from ${_}_plain;
grant select on $_ to lunary_ro;
EOF_SQL
    template_version api_key run ));

variant('range partitions', <<"EOF_SQL");
$aside create table run (like run_plain including defaults)
    partition by range (created_at);
create table run_before partition of run
    for values from (minvalue) to ('2026-11-10 12:00Z');
create table run_after partition of run
    for values from ('2026-11-10 12:00Z') to (maxvalue);
insert into run ($columns) select $columns from run_plain;
create index on run (id);
create index on run (parent_run_id);
$grant
EOF_SQL

variant('hash partitions', <<"EOF_SQL" . $grant, sub {
$aside create table run (like run_plain including defaults)
    partition by hash (id);
create table run_0 partition of run for values with (modulus 4, remainder 0);
create table run_1 partition of run for values with (modulus 4, remainder 1);
create table run_2 partition of run for values with (modulus 4, remainder 2);
create table run_3 partition of run for values with (modulus 4, remainder 3);
insert into run ($columns) select $columns from run_plain;
alter table run add primary key (id);
create index on run (parent_run_id);
EOF_SQL
    my ($pg) = @_;

    # a look-up by id reads one partition
    my %looks;

    for my $node (nodes(explained($pg, 101))) {
        next if ($node->{'Index Name'} // '') !~ /^run_\d_pkey$/;
        $looks{$node->{Alias}} += $node->{'Actual Loops'};
    }

    my $runs = () = $expected->{101} =~ /"id":"0{8}-/g;
    my $looks = 0;
    $looks += $_ for values %looks;
    cmp_ok($looks, '>', 0, "hash partitions: looked up by id");
    cmp_ok($looks, '<=', 2 * ($runs + 1),
           "hash partitions: $looks look-ups for $runs runs");
});

variant('inheritance', <<"EOF_SQL");
create table run_old () inherits (run);
alter table run drop constraint run_parent_run_id_fkey;
insert into run_old ($columns)
    select $columns from only run where right(id::text, 1) in ('1', '3', '8');
delete from only run where right(id::text, 1) in ('1', '3', '8');
create index on run_old (id);
create index on run_old (parent_run_id);
EOF_SQL

sub foreign {
    my ($pg) = @_;

    return ('create extension postgres_fdw',
            "create server back foreign data wrapper postgres_fdw options
             (host '$pg->{socket_dir}', port '$pg->{port}', dbname 'lunary')",
            "create user mapping for lunary_ro server back options
             (user 'postgres', password_required 'false')");
}

variant('a foreign table', sub {
    my ($pg) = @_;

    my $types = $pg->value(q{select string_agg(attname || ' ' ||
        format_type(atttypid, atttypmod), ', ' order by attnum)
        from pg_attribute where attrelid = 'run'::regclass and attnum > 0
        and not attisdropped});

    return (foreign($pg), $aside, "create foreign table run ($types)
            server back options (table_name 'run_plain')", $grant);
});

variant('a foreign child', sub {
    my ($pg) = @_;

    return (foreign($pg), "create table far (like run including defaults)",
            "insert into far ($columns) select $columns from run
             where right(id::text, 1) in ('1', '3', '8')",
            'alter table run drop constraint run_parent_run_id_fkey',
            "delete from run where right(id::text, 1) in ('1', '3', '8')",
            "create foreign table run_far () inherits (run)
             server back options (table_name 'far')");
});

variant('grants on columns', <<"EOF_SQL");
revoke select on run from lunary_ro;
grant select ($columns) on run to lunary_ro;
EOF_SQL


# row security hides rows, and each session logs one line

my $pg = Lunary::Pg->new;
$pg->do($_) for 'alter table run enable row level security',
    q{create policy shown on run using (id <>
      '00000000-0000-4000-8000-000000000102')};

$nginx = serve($pg);
my $answer = $nginx->client->get(related_uri(101), Authorization => $bearer);
is($answer->{status}, 200, 'row security: status');
is($answer->{header}{etag}, undef, 'row security: no tag');
unlike($answer->{body}, qr/"id":"00000000-0000-4000-8000-000000000102"/,
       'row security: a run is hidden');
$nginx->client->get(related_uri(101), Authorization => $bearer) for 1 .. 5;
my $sessions = $pg->sessions;
my @lines = $nginx->log_since(0) =~ /\[warn\].*(row security is active.*)/g;
is(scalar @lines, $sessions, 'row security: a line for each session');
$nginx->stop;

done_testing();
