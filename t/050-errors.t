# Errors: the response and the log line of each; error_page replaces the
# response.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Test;
use Lunary::System qw( free_port );
use Test::Nginx::Socket;

$ENV{TEST_NGINX_NOBODY_PORT} = free_port();

plan 'no_plan';
use_database();

my $dbh = pg()->dbh;
$dbh->do(q{do $$ begin
    if not exists (select from pg_roles where rolname = 'lunary_none') then
        create role lunary_none login;
    end if;
end $$});

$ENV{TEST_NGINX_NONE} = pg()->conninfo(user => 'lunary_none');
$ENV{TEST_NGINX_NO_TABLES} = pg()->conninfo(dbname => 'postgres');
$ENV{TEST_NGINX_NO_DATABASE} = pg()->conninfo(dbname => 'no_such_database');
$ENV{TEST_NGINX_NO_ROLE} = pg()->conninfo(user => 'no_such_role');

# an error that recurs within a short time is not logged again
sub told {
    return repeat_each() > 1 ? [] : [@_];
}

no_long_string();
run_tests();

__DATA__

=== TEST 1: the database is down
--- log_level: info
--- http_config
lunary_database "host=127.0.0.1 port=$TEST_NGINX_NOBODY_PORT dbname=lunary user=lunary_ro password=TopSecret";
lunary_queue 16 timeout=300ms;
--- run: 101
--- key: alpha
--- error_code: 503
--- response_headers_like
Retry-After: \d+
Content-Type: application/json; charset=utf-8
Cache-Control: private, no-store
--- message: Service unavailable
--- error_log eval: main::told(qr/\[(?:warn|error)\].*127\.0\.0\.1/)
--- no_error_log
TopSecret
cccccccc-0000



=== TEST 2: a unix socket that does not exist
--- http_config
lunary_database "host=$TEST_NGINX_PG_SOCKET/no dbname=lunary user=lunary_ro";
lunary_queue 16 timeout=300ms;
--- run: 101
--- key: alpha
--- error_code: 503
--- response_headers_like
Retry-After: \d+
--- message: Service unavailable



=== TEST 3: error responses that need no database while it is down
--- http_config
lunary_database "host=127.0.0.1 port=$TEST_NGINX_NOBODY_PORT dbname=lunary user=lunary_ro";
--- request eval
my $uri = '/v1/runs/00000000-0000-4000-8000-000000000101/related';
["GET $uri", "POST $uri", "GET /v1/runs/x/related", "GET $uri"]
--- more_headers eval
["", "", "Authorization: Bearer cccccccc-0000-4000-8000-000000000001",
 "Authorization: Bearer x"]
--- error_code eval
[401, 405, 404, 401]



=== TEST 4: other locations are served while the database is down
--- http_config
lunary_database "host=127.0.0.1 port=$TEST_NGINX_NOBODY_PORT dbname=lunary user=lunary_ro";
--- request
GET /
--- response_body_like: It works



=== TEST 5: no such database, no such role
--- http_config
lunary_queue 16 timeout=300ms;
--- config
location = /a {
    lunary_database "$TEST_NGINX_NO_DATABASE";
    lunary_related_runs 00000000-0000-4000-8000-000000000101;
}
location = /b {
    lunary_database "$TEST_NGINX_NO_ROLE";
    lunary_related_runs 00000000-0000-4000-8000-000000000101;
}
--- request eval
["GET /a", "GET /b"]
--- key: alpha
--- error_code eval
[503, 503]
--- response_headers_like eval
['Retry-After: \d+', 'Retry-After: \d+']
--- message eval
['Service unavailable', 'Service unavailable']



=== TEST 6: no grants: 500, and one line in the log
--- http_config
lunary_database "$TEST_NGINX_NONE";
--- run: 101
--- key: alpha
--- error_code: 500
--- response_headers
Content-Type: application/json; charset=utf-8
Cache-Control: private, no-store
! Retry-After
--- message: Internal server error
--- error_log eval: main::told('42501')



=== TEST 7: no tables: 500, without the server's message
--- http_config
lunary_database "$TEST_NGINX_NO_TABLES";
--- run: 101
--- key: alpha
--- error_code: 500
--- message: Internal server error
--- error_log eval: main::told('42P01')



=== TEST 8: error_page wins, and nothing of the refusal is left
--- config
error_page 401 /e401;
error_page 404 /e404;
error_page 405 /e405;
location = /e401 { return 200 "own 401"; }
location = /e404 { return 200 "own 404"; }
location = /e405 { return 200 "own 405"; }
location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
    lunary_related_runs $run_id;
}
--- request eval
my $uri = '/v1/runs/00000000-0000-4000-8000-000000000999/related';
["GET $uri", "GET $uri", "GET /v1/runs/x/related", "POST $uri", "GET $uri"]
--- more_headers eval
my $key = "Authorization: Bearer cccccccc-0000-4000-8000-000000000001";
["", $key, $key, "", "Authorization: Bearer x"]
--- error_code eval
[401, 404, 404, 405, 401]
--- response_headers eval
[("Content-Type: text/plain\n! WWW-Authenticate\n! Allow\n! Cache-Control\n"
  . "! Retry-After") x 5]
--- response_body eval
['own 401', 'own 404', 'own 404', 'own 405', 'own 401']



=== TEST 9: error_page with another status, and to a named location
--- config
location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
    error_page 401 404 = @other;
    lunary_related_runs $run_id;
}
location @other {
    return 202 "other";
}
--- request eval
my $uri = '/v1/runs/00000000-0000-4000-8000-000000000999/related';
["GET $uri", "GET $uri"]
--- more_headers eval
["", "Authorization: Bearer cccccccc-0000-4000-8000-000000000001"]
--- error_code eval
[202, 202]
--- response_headers eval
["! WWW-Authenticate\n! Cache-Control", "! WWW-Authenticate"]
--- response_body eval
['other', 'other']



=== TEST 10: error_page for 503
--- http_config
lunary_database "host=127.0.0.1 port=$TEST_NGINX_NOBODY_PORT dbname=lunary user=lunary_ro";
lunary_queue 16 timeout=300ms;
--- config
error_page 503 /e503;
location = /e503 { return 200 "own 503"; }
location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
    lunary_related_runs $run_id;
}
--- run: 101
--- key: alpha
--- error_code: 503
--- response_headers
! Retry-After
! Cache-Control
--- response_body: own 503



=== TEST 11: error_page that redirects to the endpoint
--- config
error_page 404 /v1/runs/00000000-0000-4000-8000-000000000110/related;
location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
    lunary_related_runs $run_id;
}
--- request
GET /nothing/here
--- key: alpha
--- error_code: 404
--- ids: 110



=== TEST 12: variables survive an internal redirect
--- http_config
lunary_database "$TEST_NGINX_CONNINFO";
log_format lunary '$uri outcome=$lunary_outcome project=$lunary_project_id';
access_log $TEST_NGINX_SERVER_ROOT/logs/access.log lunary;
--- config
error_page 404 /e404;
location = /e404 { return 200 "own 404"; }
location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
    lunary_related_runs $run_id;
}
--- run: 999
--- key: alpha
--- error_code: 404
--- access_log
/e404 outcome=not_found project=00000000-0000-4000-8000-00000000a001



=== TEST 13: variables of a 200
--- config
add_header X-Outcome $lunary_outcome always;
location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
    add_header X-Outcome $lunary_outcome always;
    add_header X-Project $lunary_project_id always;
    add_header X-State $lunary_sqlstate always;
    add_header X-Cache $lunary_key_cache_status always;
    lunary_related_runs $run_id;
}
--- run: 101
--- key: alpha
--- response_headers_like
X-Project: 00000000-0000-4000-8000-00000000a001
--- oracle: alpha 101



=== TEST 14: variables in another location
--- config
location = /v {
    return 200 "[$lunary_outcome][$lunary_runs][$lunary_query_time][$lunary_sqlstate]";
}
--- request
GET /v
--- response_body_like chomp
^\[-?\]\[-?\]\[-?\]\[-?\]$

