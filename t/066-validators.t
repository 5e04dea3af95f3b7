# Validators: which responses have a tag, what changes it, and when the response
# is 304.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Load qw( soon );
use Lunary::System qw( wait_until );
use Lunary::Test;
use Test::More;

my $pg = Lunary::Pg->new;
my $alpha = key('alpha');

# location of each variant
sub place {
    my ($name, $conf) = @_;

    return qq{location ~ "^/$name/v1/runs/(?<run_id>[^/]+)/related\$" {
                  lunary_related_runs \$run_id; $conf }\n};
}

my $nginx = Lunary::Nginx->new(workers => 2,
    http => 'lunary_database "' . $pg->conninfo . '"; lunary_etag on;
        lunary_key_cache zone=keys:1m;
        log_format outcome "$status $lunary_outcome $lunary_runs";',
    config => place(on => '') . place(stream => 'lunary_buffers 1k;')
        . place(off => 'lunary_etag off;')
        . place(nulls => 'lunary_null_fields include;')
        . place(gzip => 'gzip on; gzip_min_length 1;
                         gzip_types application/json;')
        . place(outcome => 'add_header X-Outcome $lunary_outcome always;')
    )->start;

sub get {
    my ($place, $n, %header) = @_;

    my $method = delete $header{method} // 'GET';
    my $client = $nginx->client;
    my $answer = $client->exchange($method => "/$place" . related_uri($n),
                                   Authorization => "Bearer $alpha", %header);
    $client->close;

    return $answer;
}

sub tag {
    my ($n, $place) = @_;

    my $answer = get($place // 'on', $n);
    is($answer->{status}, 200, "run $n: status");

    return $answer->{header}{etag} // '';
}


if (!$pg->has_validators) {
    my $answer = get('on', 101, 'If-None-Match' => '*');

    is($answer->{status}, 200, 'PostgreSQL 14 and older: status');
    is($answer->{header}{etag}, undef, 'PostgreSQL 14 and older: no tag');
    done_testing();
    exit;
}


# what a response with a tag looks like

my $answer = get(on => 101);
my $tag = $answer->{header}{etag};
like($tag, qr{^W/"[0-9a-f]{32}"$}, 'a weak tag');
is($answer->{header}{'cache-control'}, 'private, no-cache', 'Cache-Control');
is($answer->{header}{vary}, 'Authorization, X-API-Key', 'Vary');

my $off = get(off => 101);
is($off->{header}{etag}, undef, 'off: no tag');
is($off->{header}{'cache-control'}, 'private, no-store', 'off: Cache-Control');
is($off->{header}{vary}, undef, 'off: no Vary');
is($off->{body}, $answer->{body}, 'off: the same body');
is(get(off => 101, 'If-None-Match' => $tag)->{status}, 200,
   'off: a condition is ignored');

my %tags = map { tag(101) => 1 } 1 .. 12;
is_deeply([keys %tags], [$tag], 'the same tag on each connection');
is(tag(101, 'stream'), $tag, 'the same tag if the response streams');
isnt(tag(101, 'nulls'), $tag, 'another one for another representation');
isnt(tag(102), $tag, 'another run has another tag');


# 304

my $same = get(on => 101, 'If-None-Match' => $tag);
is($same->{status}, 304, 'not modified');
is($same->{body}, '', 'no body');
is($same->{header}{etag}, $tag, 'the tag');
is($same->{header}{'cache-control'}, 'private, no-cache', 'Cache-Control');
is($same->{header}{vary}, 'Authorization, X-API-Key', 'Vary');
is($same->{header}{'content-type'}, undef, 'no Content-Type');
is($same->{header}{'content-length'}, undef, 'no Content-Length');
is(get(outcome => 101, 'If-None-Match' => $tag)->{header}{'x-outcome'},
   'not_modified', 'the outcome');

my ($opaque) = $tag =~ m{^W/(.*)};

for ([$opaque, 304], ['*', 304], [qq{"x", $tag}, 304], [qq{$tag, "x"}, 304],
     [qq{"x",$tag,W/"y"}, 304], [qq{W/"a, b" , $opaque}, 304],
     [qq{,, $tag}, 304], [qq{"x" , , \t$tag}, 304],
     ['"x"', 200], ['', 200], ['W/', 200], ['W/""', 200], ['"', 200],
     [substr($opaque, 1), 200], [substr($opaque, 0, -1), 200],
     [uc $opaque, 200], [qq{"x" $tag}, 200], [qq{w/$opaque}, 200],
     ["*, $opaque", 200], [qq{x, $tag}, 200], ["$opaque" x 2, 200])
{
    my ($condition, $status) = @$_;
    my $answer = get(on => 101, 'If-None-Match' => $condition);

    is($answer->{status}, $status, "If-None-Match: $condition");
    is($answer->{header}{etag}, $tag, "If-None-Match: $condition: tag");
}

my $client = $nginx->client->connect;
for my $n (1 .. 3) {
    is($client->exchange(GET => '/on' . related_uri(101),
                         Authorization => "Bearer $alpha",
                         'If-None-Match' => $tag)->{status}, 304,
       "$n on one connection");
}
$client->close;

is(get(stream => 101, 'If-None-Match' => $tag)->{status}, 304,
   'a long response');

my $gzip = get(gzip => 101, 'Accept-Encoding' => 'gzip');
is($gzip->{header}{'content-encoding'}, 'gzip', 'gzip');
is($gzip->{header}{etag}, $tag, 'gzip: the same tag');
is(get(gzip => 101, 'Accept-Encoding' => 'gzip', 'If-None-Match' => $tag)
       ->{status}, 304, 'gzip: 304');


# responses without a tag, and statuses that come before a 304

my $head = get(on => 101, method => 'HEAD');
is($head->{header}{etag}, undef, 'HEAD: no tag');
is(get(on => 101, method => 'HEAD', 'If-None-Match' => $tag)->{status}, 200,
   'HEAD: a condition is ignored');

for (['an unknown key', 401, Authorization => 'Bearer ' . run_id(7)],
     ["another project's key", 404, Authorization => 'Bearer ' . key('beta')],
     ['no key', 401, Authorization => 'Basic x'])
{
    my ($name, $status, @header) = @$_;
    my $answer = get(on => 101, @header, 'If-None-Match' => "$tag, *");

    is($answer->{status}, $status, "$name: status");
    is($answer->{header}{etag}, undef, "$name: no tag");
    is($answer->{header}{'cache-control'}, 'private, no-store',
       "$name: Cache-Control");
}

is(get(on => 999999, 'If-None-Match' => '*')->{status}, 404, 'no such run');


# a change of the response changes its tag; then there is a 304 for the new tag

my $u = "(select external_user_id from run where id = '@{[ run_id(700) ]}')";

sub changed {
    my ($name, $n, @sql) = @_;

    # one worker may detect a schema change before the other
    my $tag;
    soon { $tag = get(on => $n)->{header}{etag};
           get(on => $n, 'If-None-Match' => $tag)->{status} == 304 } 5,
         "$name: before";

    $pg->do($_) for @sql;

    my $after = get(on => $n, 'If-None-Match' => $tag);
    is($after->{status}, 200, "$name: 200") or return;

    # a schema change replaces the sessions, at most once a second
    soon { get(on => $n)->{header}{etag} ne $tag } 5, "$name: another tag";
    soon { get(on => $n, 'If-None-Match' => get(on => $n)->{header}{etag})
               ->{status} == 304 } 5, "$name: 304 again";
}

my $template = $pg->value('select v.id from template_version v limit 1');
my $user = $pg->value('select id from external_user limit 1');
my ($root, $child, $chat, $thread) = map { run_id($_) } 101, 102, 600, 500;

$pg->do("update run set external_user_id = $user,
         template_version_id = $template where id = '$child'");

changed("the column $_->[0]", 101,
        "update run set $_->[0] = $_->[1] where id = '$child'")
    for ['name', q{'another'}], ['input', q{'"x"'}], ['output', q{'"x"'}],
        ['error', q{'"x"'}], ['feedback', q{'"x"'}], ['metadata', q{'"x"'}],
        ['params', q{'"x"'}], ['tags', q{'{x}'}], ['cost', 7],
        ['prompt_tokens', 7], ['completion_tokens', 7], ['status', q{'x'}],
        ['is_public', 'not is_public'], ['created_at', q{'2026-01-01'}],
        ['ended_at', q{'2026-01-02'}], ['type', q{'tool'}];

changed('the root', 101, "update run set name = 'x' where id = '$root'");
changed('the user', 101,
        "update external_user set props = '{}' where id = $user");
changed('the version of a template', 101,
        "update template_version set template_id = template_id
         where id = $template");
changed('the template', 101, "update template set slug = 'x' where id =
        (select template_id from template_version where id = $template)");
changed('a user of another project', 101, "update external_user set
        project_id = '@{[ project('beta') ]}' where id = $user");
changed('a child more', 101,
        "insert into run (id, project_id, type, created_at, parent_run_id)
         values ('@{[ run_id(990001) ]}', '@{[ project('alpha') ]}', 'llm',
         now(), '$child')");
changed('a child less', 101,
        "delete from run where id = '@{[ run_id(990001) ]}'");
changed('a child of another project', 101, "update run set project_id =
        '@{[ project('beta') ]}' where id = '$child'");
changed('the run is in its project again', 101, "update run set project_id =
        '@{[ project('alpha') ]}' where id = '$child'");
changed('what is above a run', 602,
        "update run set feedback = '{\"x\": 1}' where id = '$chat'");
changed('the chats of a thread', 500,
        "update run set input = '\"x\"' where parent_run_id = '$thread'");


# without a change the tag is the same, and there is a 304

sub unchanged {
    my ($name, $n, $change) = @_;

    my $tag = get(on => $n)->{header}{etag};
    $change->();

    # after "analyze" sessions read the catalog again
    soon { get(on => $n, 'If-None-Match' => $tag)->{status} == 304 } 5, $name;
}

unchanged('vacuum', 101, sub { $pg->do('vacuum run') });
unchanged('freeze', 101, sub { $pg->do('vacuum (freeze) run') });
unchanged('analyze', 101, sub { $pg->do('analyze') });
unchanged('another run', 101,
          sub { $pg->do('update run set name = name where id = ?',
                        run_id(200)) });
unchanged('a rollback', 101, sub {
    $pg->do('begin');
    $pg->do('update run set name = ? where id = ?', 'x', $root);
    $pg->do('rollback');
});
unchanged('rows that are locked', 101, sub {
    $pg->do('begin');
    $pg->dbh->selectall_arrayref('select from run for update');
    $pg->do('commit');
});


# schema changes that do not rewrite rows

changed('two columns that change their names', 101,
        'alter table run rename column input to x',
        'alter table run rename column output to input',
        'alter table run rename column x to output');
changed('a column that is dropped and added', 101,
        'alter table run drop column params',
        q{alter table run add column params jsonb default '{"new": 1}'});
changed('a table that takes the place of another', 101,
        'create table other (like template including all)',
        'alter table template rename to old',
        'alter table other rename to template',
        'grant select on template to lunary_ro');


# another server, or a restarted one

sub renewed {
    my ($name, $change) = @_;

    my $tag = get(on => 101)->{header}{etag};
    isnt($tag // '', '', "$name: a tag");
    $change->();

    my $after;
    soon { $after = get(on => 101, 'If-None-Match' => $tag);
           $after->{status} =~ /^(?:200|304)$/ } 15, "$name: served";
    is($after->{status}, 200, "$name: no 304");
    isnt($after->{header}{etag}, $tag, "$name: another tag");
}

renewed('a restart', sub { $pg->restart('fast') });
renewed('a crash of the server', sub { $pg->restart('immediate') });
renewed('a crash of a backend', sub {
    my ($pid) = $pg->value('select pg_backend_pid()');
    kill 'KILL', $pid;
    wait_until { eval { $pg->value('select 1') } } 15;
});


# a server with functions that the role may not execute

$pg->do('revoke execute on function set_config(text, text, boolean)
         from public');
$pg->restart('fast');

soon { get(on => 101)->{status} == 200 } 10, 'set_config revoked: served';
is(get(on => 101)->{header}{etag}, undef, 'set_config revoked: no tag');
is(get(on => 101, 'If-None-Match' => '*')->{status}, 200,
   'set_config revoked: a condition is ignored');

$pg->do('grant execute on function set_config(text, text, boolean) to public');
$pg->restart('fast');
soon { get(on => 101)->{header}{etag} } 10, 'granted again: a tag';


# a view has no versions

$pg->do('alter table external_user rename to users');
$pg->do('create view external_user as select * from users');
$pg->do('grant select on external_user to lunary_ro');
$pg->restart('fast');

soon { get(on => 101)->{status} == 200 } 10, 'a view: served';
is(get(on => 101)->{header}{etag}, undef, 'a view: no tag');
is(get(on => 101)->{header}{'cache-control'}, 'private, no-store',
   'a view: Cache-Control');
is(get(on => 101, 'If-None-Match' => '*')->{status}, 200,
   'a view: a condition is ignored');

$nginx->stop;

done_testing();
