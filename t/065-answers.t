# Answers that are kept: served again only where nothing they were made of has
# changed.  Whatever changes shows in the next answer.

use strict;
use warnings;

use lib 't/lib';
use JSON::XS qw( decode_json );
use Lunary::Crowd;
use Lunary::Load qw( soon );
use Lunary::Nginx;
use Lunary::Oracle;
use Lunary::Pg;
use Lunary::System qw( run_cmd tmpdir wait_until );
use Lunary::Test qw( key project run_id );
use Test::More;

my $pg = Lunary::Pg->new;
my $location = sub { <<"EOF_CONFIG" };
        location ~ "^/$_[0]/(?<run_id>.*)\$" {
            $_[1]
            lunary_related_runs \$run_id;
        }
EOF_CONFIG
my $nginx = Lunary::Nginx->new(
    http => 'lunary_database "' . $pg->conninfo . '"; lunary_pool max=2;
             lunary_answer_cache 4m;
             lunary_query_timeout 2s; lunary_key_cache zone=keys:1m valid=1h;',
    config => join '', 'location = /status { lunary_status; }',
        $location->('kept', ''),
        $location->('nulls', 'lunary_null_fields include;'),
        $location->('short', 'lunary_buffers 1k;'),
        $location->('by_key', 'lunary_key_cache off;'))->start;

sub get {
    my ($where, $n, %arg) = @_;

    return $nginx->client->exchange($arg{method} // 'GET',
        "/$where/" . run_id($n), Connection => 'close',
        Authorization => 'Bearer ' . key($arg{key} // 'alpha'));
}

sub reused {
    my $page = $nginx->client->get('/status?format=json',
                                   Connection => 'close');

    return decode_json($page->{body})->{counters}{answers_reused};
}

# how many of the answers that this asks for are kept ones
sub reuses(&) {
    my ($ask) = @_;

    my $before = reused();
    $ask->();

    return reused() - $before;
}

# nothing is kept, and nothing known to have changed: memory of another size
my $memory = 4096;

sub room {
    my ($size, %conf) = @_;

    $nginx->configure(%conf, http => $nginx->{http}
                      =~ s/(lunary_answer_cache) \w+/$1 $size/r);
    $nginx->reload;
}

sub forget {
    my (%conf) = @_;

    $memory += 4;
    room("${memory}k", %conf);
}

# asks until an answer is kept
sub keep {
    my ($where, $n, %arg) = @_;

    forget();

    for (1 .. 5) {
        return if reuses { get($where, $n, %arg) };
    }

    fail("$where $n is kept");
}

sub as_oracle {
    my ($n, $body, %arg) = @_;

    my $oracle = Lunary::Oracle->new($pg->dbh);

    return $oracle->compare($body, $oracle->related(project('alpha'),
                                                    run_id($n)), %arg);
}


# the key, seen, kept, and then the same

get('kept', 110);
my @answers;
is(reuses { push @answers, get('kept', 101) for 1 .. 2 }, 0,
   'what is asked for twice is not kept before');
is(reuses { push @answers, get('kept', 101) for 1 .. 3 }, 3,
   'the third is the one that was kept, and so on');
is($answers[0]{status}, 200, 'status');
is(as_oracle(101, $answers[0]{body}), undef, 'as the oracle says');

for my $answer (@answers[1 .. 4]) {
    is($answer->{body}, $answers[0]{body}, 'the same to the letter');
    is_deeply({ %{ $answer->{header} }, date => undef },
              { %{ $answers[0]{header} }, date => undef }, 'the headers');
}


# each change shows at once, and what is there then is kept anew

my $r = sub { "'" . run_id($_[0]) . "'" };
my @sql = (
    101, q{update run set output = '{"new_key": [1, 2.50]}' where id = R(101)},
    101, q{update run set error = null where id = R(104)},
    101, q{update run set name = name where id = R(103)},
    101, q{update external_user set props = '{"other": 1}' where id = 1},
    101, q{update external_user set project_id = P(2) where id = 1},
    101, q{update external_user set project_id = P(1) where id = 1},
    101, q{update template set slug = 'another' where id = 1},
    101, q{update template_version set template_id = 4 where id = 12},
    101, q{delete from template_version where id = 12},
    101, q{insert into run (id, parent_run_id, project_id, type, created_at)
           values (R(1901), R(106), P(1), 'llm', now())},
    101, q{update run set is_deleted = true where id = R(102)},
    101, q{update run set is_deleted = false where id = R(102)},
    101, q{update run set project_id = P(2) where id = R(102)},
    101, q{update run set project_id = P(1) where id = R(102)},
    101, q{delete from run where id = R(1901)},
    101, q{delete from external_user where id = 2},
    # what stands between a run and its chat, and is not in the answer itself
    400, q{-- not kept
           update run set is_deleted = false where id = R(400)},
    400, q{insert into run (id, parent_run_id, project_id, type, created_at)
           values (R(1902), R(401), P(1), 'chat', now()),
                  (R(1903), R(1902), P(1), 'llm', now())},
    400, q{update run set is_deleted = true where id = R(1902)},
    400, q{update run set feedback = '{"thumb": "down"}' where id = R(1902)},
    400, q{update run set feedback = '{"thumb": "up"}' where id = R(400)},
    # below another project's, above, and in a circle
    300, q{update run set project_id = P(1) where id = R(301)},
    300, q{update run set project_id = P(2) where id = R(301)},
    220, q{-- not kept
           update run set parent_run_id = null where id = R(220)},
    220, q{update run set parent_run_id = R(222) where id = R(220)},
    110, q{update run set parent_run_id = R(101) where id = R(110)},
    110, q{-- not kept
           update run set parent_run_id = null where id = R(110)},
    110, q{update run set type = 'thread' where id = R(110)},
    110, q{-- not kept
           update run set type = 'llm' where id = R(110)},
    # templates of one transaction, one of which takes the other's place
    101, q{vacuum full template;
           insert into template (id, project_id, slug)
           values (101, P(1), 'old'), (102, P(1), 'new');
           update template_version set template_id = 101 where id = 11},
    101, q{update template_version set template_id = 102 where id = 11;
           delete from template where id = 101;
           vacuum full template},
    110, q{vacuum full run},
    110, q{begin; update run set name = 'a' where id = R(110);
           update run set name = 'b' where id = R(110); commit},
);

while (my ($n, $sql) = splice @sql, 0, 2) {
    $sql =~ s/R\((\d+)\)/$r->($1)/ge;
    $sql =~ s/P\((\d)\)/"'" . project($1 == 1 ? 'alpha' : 'beta') . "'"/ge;

    my $what = $sql =~ s/\s+/ /gr;
    $what =~ s/00000000-0000-4000-8000-0+//g;

    # what is above a run, or in a circle, or not found, is not kept
    if ($sql =~ /^(?:-- not kept)/) {
        forget();
        get('kept', $n) for 1 .. 4;

    } else {
        keep('kept', $n);
    }

    $pg->do($_) for split /;\s*/, $sql;

    my $answer;
    is(reuses { $answer = get('kept', $n) }, 0, "not a kept one after $what");
    is(as_oracle($n, $answer->{body}), undef, 'but as the oracle says')
        if $answer->{status} == 200;
    is(get('kept', $n)->{body}, get('by_key', $n)->{body}, 'and again');
}


# a new version in the place of one that was kept

for my $row ([ 'run', $r->(101), 'name' ],
             [ 'external_user', 1, 'external_id' ])
{
    my ($table, $id, $column) = @$row;
    my $tries = 0;
    my $move = sub {
        $pg->do("update $table set $column = '$table $tries' where id = $id");
        $pg->do("vacuum $table");
        return $pg->value("select ctid::text from $table where id = $id");
    };

    # to and fro between the first free places of the page
    $move->() for 1 .. 4;
    my $was = $move->();
    keep('kept', 101);
    do { $tries++ } until $move->() eq $was || $tries > 20;

    cmp_ok($tries, '<', 20, "$table: the same place");
    like(get('kept', 101)->{body}, qr/"$table $tries"/,
         'what is there now is served');
}


# a run that goes, and one that was not there

keep('kept', 120);
$pg->do("update run set is_deleted = true where id = @{[ $r->(120) ]}");
is(get('kept', 120)->{status}, 404, 'a deleted run is not found');
$pg->do("update run set is_deleted = false where id = @{[ $r->(120) ]}");
is(get('kept', 120)->{status}, 200, 'and is back');


# who may read what

keep('kept', 101);
get('kept', 111, key => 'beta');
is(reuses { is(get('kept', 101, key => 'beta')->{status}, 404,
               'another project does not find it') for 1 .. 4 }, 0,
   'nor is it served from what is kept');
keep('kept', 310, key => 'beta');
unlike(get('kept', 310, key => 'beta')->{body}, qr/"ada"|greeting/,
       'another project\'s user and template are no value');


# HEAD, null fields, and an answer that has to stream in its location

is(reuses { is(get('kept', 101, method => 'HEAD')->{status}, 200, 'HEAD') }, 0,
   'HEAD asks whether it is there');
keep('nulls', 101);
is(as_oracle(101, get('nulls', 101)->{body}, nulls => 1), undef,
   'null fields have answers of their own');
is(as_oracle(101, get('kept', 101)->{body}), undef, 'and without');

my $short;
keep('kept', 101);
is(reuses { $short = get('short', 101) }, 0,
   'too long for the buffer of the location');
is($short->{header}{'transfer-encoding'}, 'chunked', 'streams');
is($short->{body}, get('kept', 101)->{body}, 'the same');


# what the database refuses is refused

keep('kept', 101);
$pg->do('begin; lock table run in access exclusive mode');
is(get('kept', 101)->{status}, 504, 'a lock: 504, whatever is kept');
$pg->do('rollback');

for my $gone ([ 'run', 'tags' ], [ 'run', 'metadata' ],
              [ 'external_user', 'last_seen' ], [ 'template', 'slug' ])
{
    my ($table, $column) = @$gone;

    keep('kept', 101);
    $pg->do("alter table $table rename $column to hidden");
    is(get('kept', 101)->{status}, 500, "without $table.$column: 500");
    $pg->do("alter table $table rename hidden to $column");
    soon { get('kept', 101)->{status} == 200 } 5, 'it is back';
}

keep('kept', 101);
$pg->do('revoke select on template from lunary_ro');
is(get('kept', 101)->{status}, 500, 'a grant goes: 500');
$pg->do('grant select on template to lunary_ro');
soon { get('kept', 101)->{status} == 200 } 5, 'the grant is back';


# connections that break, and a server that is another one now

keep('kept', 101);
$pg->do(q{select pg_terminate_backend(pid) from pg_stat_activity
          where usename = 'lunary_ro'});
is(get('kept', 101)->{status}, 200, 'the connection breaks: asked once more');

keep('kept', 101);
$pg->stop('fast');
is(get('kept', 101)->{status}, 503, 'no database, no answer');
$pg->start;
soon { get('kept', 101)->{status} == 200 } 10, 'the database is back';
is(as_oracle(101, get('kept', 101)->{body}), undef, 'as the oracle says');

# a backup, in which other things happen then, by the same numbers
my $backup = tmpdir('backup');
my $rename = sub {
    $pg->do('update run set name = ? where id = ?', $_[0], run_id(101));
    return $pg->value('select ctid || \' \' || xmin from run where id = '
                      . $r->(101));
};
$pg->stop('fast');
is((run_cmd('cp', '-a', $pg->{data}, "$backup/data"))[0], 0, 'a backup');
$pg->start;
my $was = $rename->('before');
soon { get('kept', 101)->{status} == 200 } 10, 'the database is back';
keep('kept', 101);
my $kept = time;
$pg->stop('fast');
is((run_cmd('rm', '-r', $pg->{data}))[0], 0, 'the data is lost');
is((run_cmd('mv', "$backup/data", $pg->{data}))[0], 0, 'and restored');
$pg->start;
is($rename->('after'), $was, 'another version, of the same number');
cmp_ok(time - $kept, '<', 10, 'soon enough')
    or diag('a slow machine: this shows nothing');

my $answer;
soon { $answer = get('kept', 101); $answer->{status} == 200 } 10, 'it is back';
like($answer->{body}, qr/"name":"after"/, 'what was restored is served');


# a server that crashes and loses what was not on its disk, but seen: versions
# come again

$pg->do(q{alter system set synchronous_commit = off});
$pg->reload;
forget();
get('kept', 110);
wait_until { $pg->value('show synchronous_commit') eq 'off' } 5, 'the setting';
$pg->do(q{update run set name = 'before' where id = ?}, run_id(110));
get('kept', 110) for 1 .. 2;
is(reuses { like(get('kept', 110)->{body}, qr/"before"/, 'before') }, 1,
   'kept');
kill KILL => $pg->value('select pg_backend_pid()');
$pg->{dbh} = undef;
wait_until { eval { $pg->value('select 1') } or do { $pg->{dbh} = undef } }
    20, 'the server after its crash';
$pg->do(q{update run set name = 'after' where id = ?}, run_id(110));
soon { $answer = get('kept', 110); $answer->{status} == 200 } 10, 'it is back';
like($answer->{body}, qr/"name":"after"/, 'what is there now is served');
$pg->do(q{alter system reset synchronous_commit});
$pg->reload;


# While trees are changed, one after the other and each as a whole, many ask
# for them: each answer is of one moment, and of none before it was asked for

my $trees = 60;
$pg->do(q{insert into run (id, project_id, type, parent_run_id, created_at)
    select ('00000000-0000-4000-8000-' || lpad((5000 + n)::text, 12, '0'))
        ::uuid, ?, 'llm',
        case when n % 10 > 0 then ('00000000-0000-4000-8000-'
            || lpad((5000 + n - n % 10)::text, 12, '0'))::uuid end, now()
    from generate_series(0, ? * 10 - 1) n}, project('alpha'), $trees);
$pg->do('update run set metadata = to_jsonb(0) where id >= ? and id < ?',
        run_id(5000), run_id(5000 + 10 * $trees));

my ($asked, @version, @wrong) = (0, (0) x $trees);

# a third of them, for the others are to be kept
my $change = sub {
    my $tree = int rand $trees / 3;

    $version[$tree]++;
    $pg->do('update run set metadata = to_jsonb(?::int)
             where id >= ? and id < ?', $version[$tree],
            run_id(5000 + 10 * $tree), run_id(5010 + 10 * $tree));
};

forget(workers => 2);

my $reused = reuses {
    Lunary::Crowd->new(port => $nginx->{port}, clients => 8,
        next => sub {
            return if $asked++ >= 4000;

            $change->() if $asked % 50 == 0;

            my $tree = int rand $trees;
            return { method => 'GET', least => $version[$tree], tree => $tree,
                     text => 'GET /kept/' . run_id(5000 + 10 * $tree)
                             . " HTTP/1.1\r\nHost: l\r\n"
                             . 'Authorization: Bearer ' . key('alpha')
                             . "\r\n\r\n" };
        },
        done => sub {
            my ($request, $answer) = @_;

            my @found = $answer->{body} =~ /"metadata":(\d+)/g;

            push @wrong, "tree $request->{tree}: $answer->{status},"
                         . " @found, asked for at $request->{least}"
                if @found != 10 || (grep { $_ != $found[0] } @found)
                   || $found[0] < $request->{least};
        })->run(300);
};

is(join("\n", @wrong[0 .. ($#wrong < 9 ? $#wrong : 9)]), '',
   'each answer is whole, and of its time');
cmp_ok($reused, '>', 1000, "$reused of 4000 were kept ones");


# rows that have no versions: a view, a role that may not see them

$pg->do('alter table external_user rename to people');
$pg->do('create view external_user as select * from people');
$pg->do('grant select on external_user to lunary_ro');
$nginx->reload;
is(reuses { get('kept', 101) for 1 .. 5 }, 0, 'a view: nothing is kept');
is(as_oracle(101, get('kept', 101)->{body}), undef, 'as the oracle says');
$pg->do('drop view external_user');
$pg->do('alter table people rename to external_user');

$pg->do('revoke select on template from lunary_ro');
$pg->do('grant select (id, slug, project_id) on template to lunary_ro');
$nginx->reload;
is(reuses { get('kept', 101) for 1 .. 5 }, 0,
   'grants on columns: nothing is kept');
is(as_oracle(101, get('kept', 101)->{body}), undef, 'as the oracle says');
$pg->do('grant select on template to lunary_ro');


# more than there is room for, and none at all

room('256k');

$pg->do(q{insert into run (id, project_id, type, created_at, output)
    select ('00000000-0000-4000-8000-' || lpad((3000 + n)::text, 12, '0'))
        ::uuid, ?, 'llm', now(), to_jsonb(repeat(md5(n::text), 625))
    from generate_series(0, 39) n}, project('alpha'));

for my $round (1 .. 4) {
    for my $n (3000 .. 3039) {
        my $why = as_oracle($n, get('kept', $n)->{body});
        defined $why and fail("round $round, run $n: $why");
    }
}

soon { reuses { get('kept', 3039) for 1 .. 3 } } 15,
     'an answer makes room when it is no longer asked for';

room('off');
is(reuses { get('kept', 101) for 1 .. 5 }, 0, 'off: nothing is kept');

done_testing();
