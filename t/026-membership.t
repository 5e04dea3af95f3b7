# Sessions and the database: which account has access to which project, the
# cache of memberships, and a database without the tables or grants.

use strict;
use warnings;

use lib 't/lib';
use JSON::XS qw( decode_json );
use Lunary::Client;
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Session qw( token );
use Lunary::System qw( wait_until write_file );
use Lunary::Test;
use Test::More;

my $secret = 'a secret of the tests, 32 bytes+';
my $pg = Lunary::Pg->new(conf => { log_statement => "'all'" });
my $nginx = Lunary::Nginx->new;
my ($alpha, $beta) = (project('alpha'), project('beta'));
my %roles = (
    1 => 'owner', 2 => 'admin', 3 => 'member', 4 => 'viewer',
    5 => 'collaborator',
);
my %denied = (
    6 => 'prompt_editor', 7 => 'billing', 8 => 'analytics', 9 => 'no role',
);

write_file("$nginx->{dir}/secret", "$secret\n");
chmod 0600, "$nginx->{dir}/secret";

sub location {
    my ($at, $more) = @_;

    return qq{location ~ "^$at/v1/runs/(?<run_id>[^/]+)/related\$" {
        lunary_related_runs \$run_id; $more
        add_header X-Cache \$lunary_key_cache_status always; }\n};
}

$nginx->configure(
    http => 'lunary_database "' . $pg->conninfo . '";'
            . ' lunary_jwt_secret_file secret;',
    config => location('', '')
              . location('/cached', 'lunary_key_cache zone=keys:1m valid=1h;')
              . location('/etag', 'lunary_etag on;')
              . location('/soon', 'lunary_key_cache zone=soon:1m valid=1s;'));
$nginx->start;

my $client = $nginx->client;

sub account { return sprintf '00000000-0000-4000-8000-00000000b%03d', $_[0] }

sub session {
    my ($n, %claims) = @_;

    return token(secret => $secret,
                 claims => { userId => $n =~ /^\d+$/ ? account($n) : $n,
                             %claims });
}

# a request with a token or a key; at: prefix, method, etag: If-None-Match
sub ask {
    my ($credential, $run, $project, %arg) = @_;

    return $client->exchange($arg{method} // 'GET',
                             ($arg{at} // '') . related_uri($run)
                             . (defined $project ? "?projectId=$project" : ''),
                             Authorization => "Bearer $credential",
                             defined $arg{etag}
                             ? ('If-None-Match' => $arg{etag}) : ());
}

sub is_refused {
    my ($answer, $message, $name) = @_;

    is($answer->{status}, 401, "401: $name");
    is_deeply(eval { decode_json($answer->{body}) }, { message => $message },
              "message: $name");
    is($answer->{header}{'www-authenticate'},
       'Bearer realm="lunary", error="invalid_token"', "challenge: $name");
}

sub unauthorized {
    is_refused($_[0], 'Unauthorized access to project', $_[1]);
}

# the headers that could distinguish two responses
sub headers {
    my ($answer) = @_;

    return { map { $_ => $answer->{header}{$_} }
             grep { !/^(?:date|x-cache)$/ } keys %{ $answer->{header} } };
}


# roles

my $as_key = ask(key('alpha'), 101);
is($as_key->{status}, 200, 'a key');

for my $n (sort keys %roles) {
    my $answer = ask(session($n), 101, $alpha);

    is($answer->{status}, 200, "200: $roles{$n}");
    is($answer->{body}, $as_key->{body}, "as by a key: $roles{$n}");
    is_deeply(headers($answer), headers($as_key), "headers: $roles{$n}");
    unauthorized(ask(session($n), 111, $beta), "not a member: $roles{$n}");
}

unauthorized(ask(session($_), 101, $alpha), $denied{$_}) for sort keys %denied;

# each run of the project, also those with a parent

my @runs = @{ $pg->dbh->selectcol_arrayref(
    'select id from run where project_id = ? order by id limit 200', undef,
    $alpha) };
my @differ = grep {
    my ($by_session, $by_key) = (ask(session(4), $_, $alpha),
                                 ask(key('alpha'), $_));
    $by_session->{status} != 200 || $by_session->{body} ne $by_key->{body};
} @runs;

cmp_ok(scalar @runs, '>', 20, 'runs of a project');
is("@differ", '', 'each run as by a key');


# membership

unauthorized(ask(session(10), 101, $alpha), 'a member of another project');
unauthorized(ask(session(11), 101, $alpha), 'a member of none');
unauthorized(ask(session(999), 101, $alpha), 'no account');
unauthorized(ask(session(1), 101, '00000000-0000-4000-8000-00000000afff'),
             'no project');
unauthorized(ask(session(key('alpha')), 101, $alpha), 'a key as the user');
unauthorized(ask(session(11), 999, $alpha), 'a member of none, no run');
unauthorized(ask(session(10), 101, $alpha, method => 'GET'), 'once more');
is(ask(session(10), 111, $beta)->{body}, ask(key('beta'), 111)->{body},
   'a member of beta reads beta');
is(ask(session(1, orgId => 'x', projectId => $beta), 101, $alpha)->{status},
   200, 'what else the token says decides nothing');
is(ask(session(uc account(1)), 101, uc $alpha)->{status}, 200,
   'ids in upper case');


# a run that does not exist

my $absent = ask(session(1), 999, $alpha);

is($absent->{status}, 200, 'no run: 200');
is($absent->{body}, '[]', 'no run: []');
is($absent->{header}{'content-type'}, 'application/json; charset=utf-8',
   'no run: its type');
is($absent->{header}{'cache-control'}, 'private, no-store',
   'no run: not to be stored');
ok(!exists $absent->{header}{etag}, 'no run: no ETag');

my $foreign = ask(session(1), 111, $alpha);

is($foreign->{body}, '[]', "another project's run: []");
is_deeply(headers($foreign), headers($absent),
          "another project's run looks like one that does not exist");
is(ask(key('alpha'), 999)->{status}, 404, '404 to a key');
is(ask(session(1), 'x', $alpha)->{status}, 404, 'an id that is no UUID: 404');


# validators: access is checked first

my $tagged = ask(session(1), 101, $alpha, at => '/etag');
my $etag = $tagged->{header}{etag};

is($tagged->{body}, $as_key->{body}, 'a run with an ETag');
is($etag, ask(key('alpha'), 101, undef, at => '/etag')->{header}{etag},
   'the ETag of a key');

SKIP: {
    skip 'no validators', 1 + keys %roles if !$pg->has_validators;

    like($etag, qr{^W/"}, 'an ETag');
    is(ask(session($_), 101, $alpha, at => '/etag', etag => $etag)->{status},
       304, "304: $roles{$_}") for sort keys %roles;
}

unauthorized(ask(session($_), 101, $alpha, at => '/etag', etag => $etag),
             "If-None-Match: account $_") for 6, 10, 11, 999;
is_refused(ask(session(1, exp => 1), 101, $alpha, at => '/etag',
               etag => $etag), 'Session expired', 'If-None-Match: expired');

for my $run (999, 111) {
    my $answer = ask(session(1), $run, $alpha, at => '/etag', etag => '*');

    is($answer->{status}, 200, "If-None-Match, no run $run: 200");
    is($answer->{body}, '[]', "If-None-Match, no run $run: []");
    ok(!exists $answer->{header}{etag}, "If-None-Match, no run $run: no ETag");
    is($answer->{header}{'cache-control'}, 'private, no-store',
       "If-None-Match, no run $run: not to be stored");
}


# HEAD

for my $run (101, 999, 111) {
    my $head = ask(session(1), $run, $alpha, method => 'HEAD');

    is($head->{status}, 200, "HEAD: $run");
    is($head->{body}, '', "HEAD without a body: $run");
    is($head->{header}{'content-type'}, 'application/json; charset=utf-8',
       "HEAD, its type: $run");
}

for my $n (6, 10, 999) {
    my $head = ask(session($n), 101, $alpha, method => 'HEAD');

    is($head->{status}, 401, "HEAD: account $n");
    is($head->{header}{'www-authenticate'},
       'Bearer realm="lunary", error="invalid_token"',
       "HEAD, challenge: account $n");
}


# one round trip

for my $at ('', '/cached', '/cached') {
    my $mark = $pg->log_mark;

    is(ask(session(3), 101, $alpha, at => $at)->{status}, 200,
       "served at $at/");
    is(scalar(grep { /execute/ } $pg->statements_since($mark)), 1,
       "one statement at $at/");
}


# the cache: an entry is for a user and a project, and for nothing else

is(ask(session(2), 101, $alpha, at => '/cached')->{header}{'x-cache'}, 'MISS',
   'membership: not cached');
is(ask(session(2), 101, $alpha, at => '/cached')->{header}{'x-cache'}, 'HIT',
   'membership: cached');
is(ask(session(2), 102, $alpha, at => '/cached')->{header}{'x-cache'}, 'HIT',
   'membership: cached, another run');
is(ask(session(2), 101, $alpha, at => '/cached', method => 'HEAD')
   ->{header}{'x-cache'}, 'HIT', 'membership: known for HEAD');
is(ask(session(2), 999, $alpha, at => '/cached')->{body}, '[]',
   'membership: cached, no run');
is(ask(session(2), 111, $alpha, at => '/cached')->{body}, '[]',
   "membership: cached, another project's run");

unauthorized(ask(session(2), 111, $beta, at => '/cached'),
             'cached for another project');
unauthorized(ask(session(10), 101, $alpha, at => '/cached'),
             'another user of the project');
is_refused(ask(account(2), 101, $alpha, at => '/cached'), 'Invalid API key',
           'the user as a key');
is_refused(ask(session(2, exp => 1), 101, $alpha, at => '/cached'),
           'Session expired', 'known, but expired');
is_refused(ask(token(secret => 'another'), 101, $alpha, at => '/cached'),
           'Invalid access token', 'known, but not signed');

# an account whose id is equal to a cached key

is(ask(key('alpha'), 101, undef, at => '/cached')->{status}, 200, 'a key');
is(ask(key('alpha'), 101, undef, at => '/cached')->{header}{'x-cache'}, 'HIT',
   'a key that is cached');
unauthorized(ask(session(key('alpha')), 101, $alpha, at => '/cached'),
             'a cached key as the user');

# refusals are not cached

$pg->do('insert into account_project values (?, ?)', account(11),
        $alpha);
is(ask(session(11), 101, $alpha, at => '/cached')->{status}, 200,
   'a new member, at once');

# a member who leaves

$pg->do('delete from account_project where account_id = ?',
        account(11));
unauthorized(ask(session(11), 101, $alpha), 'without a cache: at once');
is(ask(session(11), 101, $alpha, at => '/cached')->{status}, 200,
   'with a cache: not before "valid" is over');

is(ask(session(5), 101, $alpha, at => '/soon')->{status}, 200, 'a member');
$pg->do(q{update account set role = 'billing' where id = ?},
        account(5));
wait_until { ask(session(5), 101, $alpha, at => '/soon')->{status} == 401 } 10,
           'the end of "valid"';
unauthorized(ask(session(5), 101, $alpha, at => '/soon'),
             'another role, after "valid"');

# a session that expires while its membership is cached

my $short = session(1, exp => time + 2);

is(ask($short, 101, $alpha, at => '/cached')->{status}, 200,
   'for two seconds');
wait_until { ask($short, 101, $alpha, at => '/cached')->{status} != 200 } 10,
           'the end of the session';
is_refused(ask($short, 101, $alpha, at => '/cached'), 'Session expired',
           'after two seconds');


# without the grants or without the tables keys are still served

for my $case (
    ['the role of accounts', 'revoke select (role) on account from lunary_ro'],
    ['memberships', 'grant select (role) on account to lunary_ro',
                    'revoke select on account_project from lunary_ro'],
    ['no tables', 'drop table account_project, account cascade'])
{
    my ($name, @statements) = @$case;

    $pg->do($_) for @statements;
    $nginx->reload or fail('no reload');
    $client = $nginx->client;

    my $mark = $nginx->mark;

    for (1 .. 3) {
        is_refused(ask(session(1), 101, $alpha), 'Invalid access token',
                   "without $name");
    }

    is(ask(session(1), 101, $alpha, method => 'HEAD')->{status}, 401,
       "HEAD without $name");
    is(ask(key('alpha'), 101)->{body}, $as_key->{body},
       "a key, without $name");

    my @lines = grep { /account/ } split /\n/, $nginx->log_since($mark);

    is(scalar @lines, 1, "one line, without $name") or diag(@lines);
    like($lines[0] // '', qr/grant.*account.*account_project/i,
         "what to grant, without $name");
}


# if the database is down, the response is not a 401

$pg->stop;
is(ask(session(1), 101, $alpha)->{status}, 503, 'no database: 503');
is(ask('x.y.z', 101, $alpha)->{status}, 401, 'no database: 401 without it');

$nginx->stop;

done_testing();
