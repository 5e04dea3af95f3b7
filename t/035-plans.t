# The plans of the module's statements in a table of a million runs, for wide,
# deep and bushy trees: with any statistics, runs are found by index or ctid,
# and the work is proportional to the runs of the response.

use strict;
use warnings;

use lib 't/lib';
use JSON::XS qw( decode_json );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::System qw( read_file );
use Lunary::Test qw( key project );
use Test::More;

my $million = $ENV{LUNARY_RUNS} // 1_000_000;
my $pg = Lunary::Pg->new;
my ($key, $project) = (key('alpha'), project('alpha'));

sub id {
    return sprintf 'b0000000-0000-4000-8000-%012d', $_[0];
}

# a tree of $size runs from number $first on; the parent of run i is run
# $parent(i), both counted from 0
sub tree {
    my ($first, $size, $parent) = @_;

    $pg->do(<<"EOF_SQL");
insert into run (id, created_at, project_id, type, name, parent_run_id, input)
select ('b0000000-0000-4000-8000-' || lpad(($first + i)::text, 12, '0'))::uuid,
    timestamptz '2026-01-01' + i * interval '1 ms', '$project',
    case when i % 3 = 0 then 'llm' else 'tool' end, 'run',
    case when i > 0 then ('b0000000-0000-4000-8000-'
        || lpad(($first + ($parent))::text, 12, '0'))::uuid end,
    jsonb_build_object('n', i)
from generate_series(0, $size - 1) as i
EOF_SQL
}

my %tree = (wide => 10_000_000, deep => 20_000_000, bushy => 30_000_000,
            small => 40_000_000);
my %runs = (wide => 5000, deep => 2000, bushy => 5000, small => 10);

sub fill {

    # inserts are faster without indexes and foreign keys
    my $indexes = $pg->dbh->selectall_arrayref(q{
        select indexname, indexdef from pg_indexes
        where tablename = 'run' and indexname <> 'run_pkey'});

    $pg->do("drop index $_->[0]") for @$indexes;
    $pg->do('set session_replication_role = replica');

    tree(100_000_000, $million, 'i - i % 10 - case when i % 10 = 0 then 10'
                                . ' else 0 end');
    tree($tree{wide}, $runs{wide}, '0');
    tree($tree{deep}, $runs{deep}, 'i - 1');
    tree($tree{bushy}, $runs{bushy}, '(i - 1) / 4');
    tree($tree{small}, $runs{small}, '0');

    # a million runs in traces of ten, each with a root
    $pg->do("update run set parent_run_id = null
             where id >= '@{[ id(100_000_000) ]}'
             and right(id::text, 1) = '0'");
    $pg->do($_->[1]) for @$indexes;
    $pg->do('set session_replication_role = origin');
}


# the statements, as the module sends them

sub statements {
    $pg->do(q{alter role lunary_ro set log_statement = 'all'});

    my $nginx = Lunary::Nginx->new(
        http => 'lunary_database "' . $pg->conninfo . '";
                 lunary_key_cache zone=keys:1m;',
        config => <<'EOF_CONFIG')->start;
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
        location ~ "^/tagged/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
            lunary_etag on;
        }
EOF_CONFIG
    my $mark = $pg->log_mark;
    my $child = id($tree{small} + 1);

    # the first asks with the key, the second with its project
    for my $id ((id($tree{small})) x 2, $child) {
        is($nginx->client->get("/v1/runs/$id/related",
                               Authorization => "Bearer $key")->{status},
           200, 'a response');
    }

    for my $id (id($tree{small}), $child) {
        is($nginx->client->get("/tagged/v1/runs/$id/related",
                               Authorization => "Bearer $key")->{status},
           200, 'a tagged response');
    }

    my %text = map { /LOG:  execute lunary_(\w+): (.*)/ ? ($1 => $2) : () }
               $pg->statements_since($mark);

    $nginx->stop;
    $pg->do(q{alter role lunary_ro reset log_statement});

    return \%text;
}

# what the module sets in its sessions
sub settings {
    my $source = read_file('src/pg/ngx_lunary_conn.c');

    return grep { $_->[0] !~ /read_only/ }
           map { [/\('(\w+)', '(\w+)'\)/] }
           grep { /^\s*" \('\w+', '\w+'\)/ } split /\n/, $source;
}

sub nodes {
    my ($node) = @_;

    return ($node, map { nodes($_) } @{ $node->{Plans} // [] });
}

sub check {
    my ($when, $text) = @_;

    my $dbh = $pg->dbh;

    for my $name (sort keys %$text) {
        $dbh->do("prepare it (uuid, uuid) as $text->{$name}");

        for my $kind (sort keys %tree) {
            my $second = $name =~ /key/ ? $key : $project;
            my ($plan) = $dbh->selectrow_array(
                'explain (analyze, buffers, timing off, format json) '
                . "execute it ('@{[ id($tree{$kind}) ]}', '$second')");
            my $top = decode_json($plan)->[0]{Plan};
            my $where = "$when, $name, $kind";

            # a key has a row of its own
            is($top->{'Actual Rows'}, $runs{$kind} + ($name =~ /key/ ? 1 : 0),
               "$where: all runs");

            my @odd = grep { ($_->{'Relation Name'} // '') eq 'run'
                             && $_->{'Node Type'} ne 'Tid Scan'
                             && ($_->{'Index Name'} // '')
                                !~ /^run_(?:pkey|id_|parent_run_id_)/ }
                      nodes($top);
            is(join(' ', map { "$_->{'Node Type'} "
                               . ($_->{'Index Name'} // '') } @odd), '',
               "$where: each run by its id, its parent or its place");

            my $pages = $top->{'Shared Hit Blocks'}
                        + $top->{'Shared Read Blocks'};
            cmp_ok($pages, '<=', 300 + 25 * $runs{$kind},
                   "$where: $pages pages for $runs{$kind} runs");
        }

        $dbh->do('deallocate it');
    }
}


# with the statistics of an almost empty table
$pg->do('analyze');
fill();
$pg->do("set $_->[0] = $_->[1]") for settings();

# a bad plan would run for hours
$pg->do("set statement_timeout = '60s'");
my $text = statements();
is(join(' ', sort keys %$text), 'full full_tagged main main_key main_tagged',
   'the statements');
check('stale statistics', $text);

$pg->do('analyze');
check('fresh statistics', $text);

# with the statistics of a table of a hundred million runs
$pg->do(q{update pg_class set reltuples = 100 * reltuples
          where oid = 'run'::regclass or oid in
              (select indexrelid from pg_index
               where indrelid = 'run'::regclass)});
check('a hundred million runs', $text);

$pg->do(q{delete from pg_statistic where starelid = 'run'::regclass});
$pg->do(q{update pg_class set reltuples = -1, relpages = 0
          where oid = 'run'::regclass});
check('no statistics', $text);

done_testing();
