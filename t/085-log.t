# The debug log of requests and of all kinds of failures: no line shows a key
# (except for nginx's own lines of request headers), a password, a connection
# string or a payload.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::System qw( wait_until );
use Lunary::Test qw( key project related_uri run_id );
use Test::More;

my $pg = Lunary::Pg->new;
my $wrong = 'cccccccc-0000-4000-8000-00000000dead';
my %keys = map { $_ => key($_) } qw( alpha beta public org );
my $conninfo = $pg->conninfo(password => 'TopSecret4711');

$pg->do(q{update run set input = '{"text": "Payload4711"}',
          name = 'Payload4711', error = '["Payload4711"]' where id = ?},
        run_id(101));

my $nginx = Lunary::Nginx->new(log_level => 'debug', workers => 2,
    http => qq{lunary_database "$conninfo";
        lunary_queue 4 timeout=300ms;
        lunary_query_timeout 500ms;
        lunary_key_cache zone=keys:64k;},
    config => <<'EOF_CONFIG');
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
        location = /metrics {
            lunary_status;
        }
EOF_CONFIG

$nginx->start;

sub status {
    my ($key, $n) = @_;

    return $nginx->client(timeout => 20)->get(related_uri($n // 101),
        Authorization => "Bearer $key", Connection => 'close')->{status};
}

sub is_back {
    ok(wait_until { status($keys{alpha}) == 200 } 10, "$_[0]: it is back");
}

# responses of each status
is_back('at first');
is(status($keys{alpha}), 200, 'with the key cache');
is(status($keys{$_}), 401, "a key that is $_") for qw( public org );
is(status($wrong), 401, 'an unknown key');
is(status("$wrong-x"), 401, 'a malformed key');
is(status($keys{beta}), 404, 'a run of another project');
like($nginx->client->get('/metrics')->{body}, qr/lunary_requests_total/,
     'metrics');

# a query that times out, and a client that leaves
my $dbh = $pg->dbh;
$dbh->begin_work;
$dbh->do('lock table run in access exclusive mode');
is(status($keys{alpha}), 504, 'a timeout');
my $client = $nginx->client->ask(related_uri(101),
    Authorization => "Bearer $keys{alpha}");
wait_until { $pg->sessions(q{wait_event_type = 'Lock'}) } 5, 'it waits';
$client->close;
$dbh->rollback;
is_back('after a lock');

# grants and columns that are removed
$pg->do('revoke select on run from lunary_ro');
is(status($keys{alpha}), 500, 'no grant');
$pg->do('grant select on run to lunary_ro');
is_back('after a grant');
$pg->do('alter table run drop column metadata');
is(status($keys{alpha}), 500, 'no column');
$pg->do('alter table run add column metadata jsonb');
is_back('after a column');

# an invalid value
$pg->do(q{alter table run alter column tags type text[] using
          array[array[name]]});
status($keys{alpha});

# a database that stops and starts
$pg->stop('immediate');
is(status($keys{alpha}), 503, 'the database is down');
$pg->start;
is_back('after it was away');
ok($nginx->reload, 'a reload');
is_back('after a reload');
$nginx->stop;

my $own = qr/(?:http header|http process request header|http request line)/;
my @lines = split /\n/, $nginx->log_since(0);

cmp_ok(scalar(grep { /\[debug\].*lunary/ } @lines), '>', 50,
       'the log has lines of the module');
is(join("\n", grep { /TopSecret/ } @lines), '', 'no password');
is(join("\n", grep { /user=lunary_ro|dbname=/ } @lines), '',
   'no connection string');
is(join("\n", grep { /Payload4711/ } @lines), '', 'no payload');

for my $key (values %keys, $wrong) {
    is(join("\n", grep { /$key/ && !/$own/ } @lines), '',
       'a key is in the lines of headers alone');
}

done_testing();
