# The variables, the form of the metrics page, and the readiness response.  The
# values of the metrics are tested in 081-metrics.t.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Test;
use Test::Nginx::Socket;

# a location that shows all variables in headers and log
my $shown = <<'EOF_CONFIG';
add_header X-Outcome $lunary_outcome always;
add_header X-Project $lunary_project_id always;
add_header X-Runs $lunary_runs always;
add_header X-Queue $lunary_queue_time always;
add_header X-Connect $lunary_connect_time always;
add_header X-First $lunary_first_row_time always;
add_header X-Query $lunary_query_time always;
add_header X-State $lunary_sqlstate always;
add_header X-Cache $lunary_key_cache_status always;
add_header X-Credential $lunary_credential_type always;
add_header X-Version $lunary_version always;
add_header X-Addr $lunary_addr always;
add_header X-Retries $lunary_retries always;
EOF_CONFIG

our $Related = "location ~ \"^/v1/runs/(?<run_id>[^/]+)/related\$\" {\n$shown"
               . "lunary_related_runs \$run_id;\n}\n";

our $Elsewhere = "location / {\n$shown" . "return 200 ok;\n}\n";

our $Http = <<'EOF_CONFIG';
lunary_database "$TEST_NGINX_CONNINFO";
log_format shown '$uri outcome=$lunary_outcome project=$lunary_project_id '
                 'runs=$lunary_runs queue=$lunary_queue_time '
                 'connect=$lunary_connect_time first=$lunary_first_row_time '
                 'query=$lunary_query_time state=$lunary_sqlstate '
                 'cache=$lunary_key_cache_status';
access_log $TEST_NGINX_SERVER_ROOT/logs/access.log shown;
EOF_CONFIG

our $Status = <<'EOF_CONFIG';
location = /metrics {
    lunary_status;
}
location = /ready {
    lunary_status ready;
}
EOF_CONFIG

plan 'no_plan';
use_database();

# when requests are repeated the key cache has the key
our $Missed = repeat_each() > 1 ? '' : 'X-Cache: MISS';

no_root_location();
no_long_string();
run_tests();

__DATA__

=== TEST 1: a 200
--- http_config eval: $::Http
--- config eval: $::Related
--- run: 101
--- key: alpha
--- response_headers_like
X-Outcome: ok
X-Project: 00000000-0000-4000-8000-00000000a001
X-Runs: 6
X-Queue: \d+\.\d{3}
X-Connect: \d+\.\d{3}|-
X-First: \d+\.\d{3}
X-Query: \d+\.\d{3}
X-State: -
X-Cache: BYPASS
X-Credential: key
X-Version: \d+\.\d+\.\d+
X-Addr: \S+:\d+
X-Retries: 0
--- access_log eval
qr/outcome=ok project=0{8}-0000-4000-8000-0{8}a001 runs=6 queue=\d+\.\d{3} connect=(?:\d+\.\d{3}|-) first=\d+\.\d{3} query=\d+\.\d{3} state=- cache=BYPASS$/



=== TEST 2: HEAD
--- http_config eval: $::Http
--- config eval: $::Related
--- run: HEAD 101
--- key: alpha
--- response_headers_like
X-Outcome: ok
X-Project: 00000000-0000-4000-8000-00000000a001
X-Runs: 0
X-Query: \d+\.\d{3}



=== TEST 3: an error response without a query
--- http_config eval: $::Http
--- config eval: $::Related
--- request eval
["DELETE " . main::related_uri(101), "GET " . main::related_uri(101),
 "GET " . main::related_uri(101), "GET /v1/runs/x/related"]
--- more_headers eval
[map { "Authorization: $_" } ("Bearer " . main::key('alpha')), "Basic x",
 "Bearer x", "Bearer " . main::key('alpha')]
--- error_code eval
[405, 401, 401, 404]
--- response_headers eval
[map { "X-Outcome: $_
! X-Project
X-Runs: -
X-Queue: -
X-Connect: -
X-First: -
X-Query: -
X-State: -
! X-Cache
! X-Addr
X-Retries: 0
X-Credential: " . ($_ eq 'not_found' ? 'key' : 'none')
} qw( method denied denied not_found )]
--- no_query



=== TEST 4: an error response after a query
--- http_config eval: $::Http
--- config eval: $::Related
--- run eval
[(101) x 3]
--- more_headers eval
[map { "Authorization: Bearer $_" } main::key('public'), main::key('org'),
 'cccccccc-ffff-4000-8000-00000000dead']
--- error_code eval
[(401) x 3]
--- response_headers_like eval
[map { "X-Outcome: denied
X-Project:
X-Runs: 0
X-Queue: \\d+\\.\\d{3}
X-First: $_
X-Query: \\d+\\.\\d{3}
X-State: -
X-Cache: BYPASS" } ('\d+\.\d{3}') x 3]



=== TEST 5: no such run
--- http_config eval: $::Http
--- config eval: $::Related
--- run: 999
--- key: beta
--- error_code: 404
--- response_headers_like
X-Outcome: not_found
X-Project: 00000000-0000-4000-8000-00000000a002
X-Runs: 0
X-Query: \d+\.\d{3}



=== TEST 6: the key cache
--- http_config eval: $::Http . "lunary_key_cache zone=keys:64k valid=60s;\n"
--- config eval: $::Related
--- run eval
[101, 101, 999, 101, 101]
--- more_headers eval
[map { "Authorization: Bearer $_" } (main::key('alpha')) x 3,
 main::key('beta'), 'x']
--- error_code eval
[200, 200, 404, 404, 401]
--- response_headers eval
["$::Missed\nX-Project: " . main::project('alpha'),
 "X-Cache: HIT\nX-Project: " . main::project('alpha'),
 "X-Cache: HIT\nX-Project: " . main::project('alpha'),
 "$::Missed\nX-Project: " . main::project('beta'),
 "! X-Cache\n! X-Project"]



=== TEST 7: all variables survive an internal redirect
--- http_config eval: $::Http
--- config eval
"error_page 404 \@fallback;
location \@fallback {
    return 200 'own';
}
$::Related"
--- run: 999
--- key: alpha
--- error_code: 404
--- response_body chop
own
--- access_log eval
qr/outcome=not_found project=0{8}-0000-4000-8000-0{8}a001 runs=0 queue=\d+\.\d{3} connect=(?:\d+\.\d{3}|-) first=\d+\.\d{3} query=\d+\.\d{3} state=- cache=BYPASS$/



=== TEST 8: after a second pass the variables show the second
--- http_config eval: $::Http
--- config eval
"error_page 404 = /v1/runs/00000000-0000-4000-8000-000000000110/related;
$::Related"
--- request
GET /v1/runs/x/related
--- key: alpha
--- error_code: 200
--- access_log eval
qr/outcome=ok project=0{8}-0000-4000-8000-0{8}a001 runs=1 queue=\d/



=== TEST 9: empty in another location, and a dash in the log
--- http_config eval: $::Http
--- config eval: $::Related . $::Elsewhere
--- request
GET /elsewhere
--- response_headers
! X-Outcome
! X-Project
! X-Runs
! X-Queue
! X-Connect
! X-First
! X-Query
! X-State
! X-Cache
--- access_log eval
qr/^\/elsewhere outcome=- project=- runs=- queue=- connect=- first=- query=- state=- cache=-$/



=== TEST 10: the variables are not cached
--- http_config eval: $::Http
--- config eval
"set \$early \"[\$lunary_outcome]\";
$::Related"
--- run: 110
--- key: alpha
--- response_headers
X-Outcome: ok
X-Runs: 1



=== TEST 11: the metrics page
--- config eval: $::Related . $::Status
--- request
GET /metrics
--- response_headers
Content-Type: text/plain; version=0.0.4; charset=utf-8
Cache-Control: no-store
! Retry-After
--- response_body_like chop
^# HELP lunary_build_info [^\n]+\.
# TYPE lunary_build_info gauge
lunary_build_info\{version="\d+\.\d+\.\d+",nginx="1\.\d+\.\d+",libpq="\d+\.\d+"\} 1
# HELP lunary_requests_total [^\n]+\.
# TYPE lunary_requests_total counter
lunary_requests_total\{outcome="ok"\} 0
(?:lunary_requests_total\{outcome="[a-z_]+"\} 0
){11}# HELP



=== TEST 12: HEAD of each page
--- config eval: $::Related . $::Status
--- request eval
["HEAD /metrics", "HEAD /metrics?format=json", "HEAD /ready"]
--- response_headers_like eval
[map { "Content-Type: $_
Content-Length: \\d\\d+
Cache-Control: no-store" } 'text/plain; version=0.0.4; charset=utf-8',
 ('application/json; charset=utf-8') x 2]
--- response_body eval
['', '', '']



=== TEST 13: other methods
--- config eval: $::Related . $::Status
--- request eval
["POST /metrics\nformat=json", "DELETE /metrics", "PUT /ready\nx"]
--- error_code eval
[405, 405, 405]
--- response_headers eval
[("Allow: GET, HEAD") x 3]
--- response_body_unlike eval
[('lunary|status') x 3]



=== TEST 14: JSON with format=json, otherwise text
--- config eval: $::Related . $::Status
--- request eval
[map { "GET /metrics?$_" } 'format=json', 'a=b&format=json&c=d',
 'format=xml', 'format=', 'format', 'format=jsonx', 'format=JSON',
 'xformat=json']
--- response_headers eval
[('Content-Type: application/json; charset=utf-8') x 2,
 ('Content-Type: text/plain; version=0.0.4; charset=utf-8') x 6]
--- response_body_like eval
[('^\{\n  "build": \{\n') x 2, ('^# HELP ') x 6]



=== TEST 15: the metrics page without a database
--- http_config
--- config
location = /metrics {
    lunary_status;
}
location = /lunary_related_runs {
    return 200;
}
--- request
GET /metrics
--- response_body_like chop
(?m)^lunary_connections\{state="idle"\} 0$



=== TEST 16: ready
--- config eval: $::Related . $::Status
--- request
GET /ready
--- response_headers
Content-Type: application/json; charset=utf-8
Cache-Control: no-store
! Retry-After
--- response_body chop
{"status": "ready"}



=== TEST 17: not ready if no connection can be made
--- http_config
lunary_database "host=127.0.0.1 port=1 dbname=lunary user=lunary_ro";
--- config eval: $::Related . $::Status
--- init
select undef, undef, undef, 0.3;
--- request eval
["GET /ready", "HEAD /ready"]
--- error_code eval
[503, 503]
--- response_headers eval
[("Content-Type: application/json; charset=utf-8\nCache-Control: no-store\n"
 . "Retry-After: 1") x 2]
--- response_body eval
['{"status": "unreachable"}', '']



=== TEST 18: readiness of each database, regardless of other settings
--- config eval
"$::Related
location = /ready {
    lunary_status ready;
}
location = /away {
    lunary_database 'host=127.0.0.1 port=1 dbname=lunary user=lunary_ro';
    lunary_status ready;
}
location = /also {
    lunary_database 'host=127.0.0.1 port=1 dbname=lunary user=lunary_ro';
    lunary_pool max=3;
    lunary_status ready;
}"
--- init
select undef, undef, undef, 0.3;
--- request eval
["GET /ready", "GET /away", "GET /also"]
--- error_code eval
[200, 503, 503]



=== TEST 19: no key, password or connection string in pages and log
--- http_config
lunary_database "$TEST_NGINX_CONNINFO password=s3cret application_name=secr3t";
lunary_key_cache zone=keys:64k;
--- config eval: $::Related . $::Status
--- request eval
["GET " . main::related_uri(101), "GET /metrics", "GET /metrics?format=json",
 "GET /ready"]
--- key: alpha
--- log_level: info
--- response_body_unlike eval
['s3cret', ('s3cret|secr3t|lunary_ro|cccccccc-|a001') x 3]
--- no_error_log eval
[qr/s3cret|secr3t|cccccccc-/]



=== TEST 20: empty after a redirect from another location
--- http_config eval: $::Http
--- config eval
"$::Related
location = /gone {
    error_page 404 /elsewhere;
    return 404;
}
location = /elsewhere {
    add_header X-Outcome [\$lunary_outcome] always;
    return 200 ok;
}"
--- request
GET /gone
--- error_code: 404
--- response_headers
X-Outcome: []

