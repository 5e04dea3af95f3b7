# Access by key: each credential and its status.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Test;
use Test::Nginx::Socket;

plan 'no_plan';
use_database();
no_long_string();
run_tests();

__DATA__

=== TEST 1: no key
--- run: 101
--- error_code: 401
--- response_headers
WWW-Authenticate: Bearer realm="lunary"
Content-Type: application/json; charset=utf-8
Cache-Control: private, no-store
--- message: Missing API key
--- no_query



=== TEST 2: not a UUID
--- run eval
[(101) x 12]
--- more_headers eval
[map { "Authorization: Bearer $_" } 'x', '1', 'null',
 'cccccccc-0000-4000-8000-00000000000',
 'cccccccc-0000-4000-8000-0000000000011',
 'cccccccc-0000-4000-8000-00000000000g',
 '{cccccccc-0000-4000-8000-000000000001}',
 'cccccccc000040008000000000000001',
 'cccccccc-0000-4000-8000-000000000001 x',
 'cccccccc-0000-4000-8000-000000000001,',
 '"cccccccc-0000-4000-8000-000000000001"', "'; drop table run; --"]
--- error_code eval
[(401) x 12]
--- response_headers_like eval
[('WWW-Authenticate: Bearer realm="lunary", *error="invalid_token".*') x 12]
--- message eval
[('Invalid access token') x 12]
--- no_query



=== TEST 3: another scheme, or none
--- run eval
[(101) x 7]
--- more_headers eval
[map { "Authorization: $_" } 'Basic dXNlcjpwYXNz',
 'Token cccccccc-0000-4000-8000-000000000001',
 'cccccccc-0000-4000-8000-000000000001', 'Bearer', 'Bearer  ', '',
 'Bearercccccccc-0000-4000-8000-000000000001']
--- error_code eval
[(401) x 7]
--- response_headers_like eval
[('WWW-Authenticate: Bearer realm="lunary", *error="invalid_token".*') x 7]
--- message eval
[('Invalid access token') x 7]
--- no_query



=== TEST 4: an unknown key
--- run: 101
--- more_headers
Authorization: Bearer cccccccc-ffff-4000-8000-00000000dead
--- error_code: 401
--- response_headers_like
WWW-Authenticate: Bearer realm="lunary", *error="invalid_token".*
Content-Type: application/json; charset=utf-8
Cache-Control: private, no-store
--- message: Invalid API key



=== TEST 5: a public key
--- run: 101
--- key: public
--- error_code: 401
--- response_headers_like
WWW-Authenticate: Bearer realm="lunary", *error="invalid_token".*
--- message: This route requires a private API key



=== TEST 6: an organisation's key
--- run: 101
--- key: org
--- error_code: 401
--- response_headers_like
WWW-Authenticate: Bearer realm="lunary", *error="invalid_token".*
--- message: Org API key cannot access this route



=== TEST 7: a key is refused likewise if the run does not exist
--- run eval
[(999) x 3]
--- more_headers eval
[map { "Authorization: Bearer cccccccc-$_" } '0000-4000-8000-000000000011',
 '0000-4000-8000-000000000012', 'ffff-4000-8000-00000000dead']
--- error_code eval
[401, 401, 401]
--- message eval
['This route requires a private API key',
 'Org API key cannot access this route', 'Invalid API key']



=== TEST 8: the scheme in any case, the key in any case, more spaces
--- run eval
[(110) x 5]
--- more_headers eval
["Authorization: bearer cccccccc-0000-4000-8000-000000000001",
 "Authorization: BEARER cccccccc-0000-4000-8000-000000000001",
 "Authorization: bEaReR CCCCCCCC-ABCD-4FFF-8000-00000000ABCD",
 "Authorization: Bearer   cccccccc-0000-4000-8000-000000000001",
 "authorization: Bearer cccccccc-abcd-4FFF-8000-00000000abcd"]
--- error_code eval
[(200) x 5]
--- ids eval
[('110') x 5]



=== TEST 9: X-API-Key
--- run eval
[(110) x 4]
--- more_headers eval
["X-API-Key: cccccccc-0000-4000-8000-000000000001",
 "x-api-key: CCCCCCCC-0000-4000-8000-000000000001",
 "X-API-Key: cccccccc-0000-4000-8000-000000000002",
 "X-API-Key: cccccccc-0000-4000-8000-000000000011"]
--- error_code eval
[200, 200, 404, 401]
--- message eval
[undef, undef, 'Run not found', 'This route requires a private API key']



=== TEST 10: X-API-Key is the bare key
--- run eval
[(110) x 4]
--- more_headers eval
["X-API-Key: Bearer cccccccc-0000-4000-8000-000000000001",
 "X-API-Key: x", "X-API-Key: ",
 "X-API-Key: cccccccc-0000-4000-8000-000000000001\n"
 . "X-API-Key: cccccccc-0000-4000-8000-000000000001"]
--- error_code eval
[(401) x 4]
--- response_headers_like eval
[('WWW-Authenticate: Bearer realm="lunary", *error="invalid_token".*') x 4]
--- message eval
[('Invalid access token') x 4]
--- no_query



=== TEST 11: X-API-Key counts only without an Authorization header
--- run eval
[(110) x 3]
--- more_headers eval
["Authorization: Basic dXNlcjpwYXNz\n"
 . "X-API-Key: cccccccc-0000-4000-8000-000000000001",
 "Authorization: Bearer cccccccc-0000-4000-8000-000000000001\n"
 . "X-API-Key: x",
 "X-API-Key: cccccccc-0000-4000-8000-000000000001\n"
 . "Authorization: Bearer cccccccc-0000-4000-8000-000000000002"]
--- error_code eval
[401, 200, 404]
--- message eval
['Invalid access token', undef, 'Run not found']



=== TEST 12: nginx itself refuses a repeated Authorization
--- skip_nginx: 4: < 1.23.0
--- run: 110
--- more_headers
Authorization: Bearer cccccccc-0000-4000-8000-000000000001
Authorization: Bearer cccccccc-0000-4000-8000-000000000001
--- error_code: 400



=== TEST 13: a key opens its own project only
--- run eval
[110, 111, 110, 111, 110]
--- more_headers eval
[map { "Authorization: Bearer cccccccc-0000-4000-8000-00000000000$_" }
 1, 1, 2, 2, 3]
--- error_code eval
[200, 404, 404, 200, 404]
--- ids eval
['110', undef, undef, '111', undef]



=== TEST 14: if several rows hold a key, the lowest id decides
--- run eval
[111, 110, 110, 110, 110]
--- more_headers eval
[map { "Authorization: Bearer cccccccc-0000-4000-8000-00000000002$_" }
 1, 1, 2, 3, 4]
--- error_code eval
[200, 404, 401, 401, 200]
--- message eval
[undef, 'Run not found', 'This route requires a private API key',
 'Org API key cannot access this route', undef]



=== TEST 15: the log shows the key only in nginx's own lines of headers
--- log_level: debug
--- run: 110
--- key: alpha
--- grep_error_log eval
qr/^(?!.*(?:http header|http process request header|http request line|posix_memalign|malloc)).*cccccccc-0000.*/
--- grep_error_log_out



=== TEST 16: a key that is added, and one that is removed
--- config
location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
    lunary_related_runs $run_id;
}
--- init
Lunary::Test::pg()->do(q{delete from api_key where id in (900, 901)});
Lunary::Test::pg()->do(q{insert into api_key (id, type, api_key, project_id)
    values (900, 'private', 'cccccccc-0000-4000-8000-000000000900',
            '00000000-0000-4000-8000-00000000a001')});
--- run: 110
--- more_headers
Authorization: Bearer cccccccc-0000-4000-8000-000000000900
--- ids: 110
