# Requests: method, id, order of the checks, bodies, keep-alive.

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

=== TEST 1: GET
--- run: 101
--- key: alpha
--- response_headers
Content-Type: application/json; charset=utf-8
Cache-Control: private, no-store
! WWW-Authenticate
! Retry-After
--- oracle: alpha 101



=== TEST 2: HEAD has the status and the headers, and no body
--- run: HEAD 101
--- key: alpha
--- response_headers
Content-Type: application/json; charset=utf-8
Cache-Control: private, no-store
--- response_body eval
''



=== TEST 3: HEAD of a run that does not exist
--- run: HEAD 999
--- key: alpha
--- error_code: 404
--- response_headers
Content-Type: application/json; charset=utf-8
Cache-Control: private, no-store
--- response_body eval
''



=== TEST 4: HEAD without a key
--- run: HEAD 101
--- error_code: 401
--- response_headers
WWW-Authenticate: Bearer realm="lunary"
--- response_body eval
''



=== TEST 5: other methods
--- run eval
[map { "$_ 101" } qw( POST PUT DELETE PATCH OPTIONS PROPFIND FOO )]
--- key: alpha
--- error_code eval
[(405) x 7]
--- response_headers eval
[("Allow: GET, HEAD\nContent-Type: application/json; charset=utf-8\n"
  . "Cache-Control: private, no-store\n! WWW-Authenticate") x 7]
--- message eval
[('Method not allowed') x 7]
--- no_query



=== TEST 6: the method is checked before the key
--- run: POST 101
--- error_code: 405
--- message: Method not allowed
--- no_query



=== TEST 7: the method is checked before the id
--- request
DELETE /v1/runs/x/related
--- error_code: 405
--- message: Method not allowed
--- no_query



=== TEST 8: an id that is no UUID is 404 without a query
--- request eval
my $id = '00000000-0000-4000-8000-00000000010';
["GET /v1/runs/x/related", "GET /v1/runs/$id/related",
 "GET /v1/runs/${id}11/related", "GET /v1/runs/${id}g/related",
 "GET /v1/runs/%7B${id}1%7D/related", "GET /v1/runs/${id}1%0a/related",
 "GET /v1/runs/${id}1%20/related", "GET /v1/runs/%20${id}1/related",
 "GET /v1/runs/00000000000040008000000000000101/related",
 "GET /v1/runs/0000000-00000-4000-8000-000000000101/related",
 "GET /v1/runs/00000000_0000_4000_8000_000000000101/related",
 "GET /v1/runs/%27%20or%201=1--/related",
 "GET /v1/runs/" . ("0" x 2000) . "/related"]
--- key: alpha
--- error_code eval
[(404) x 13]
--- response_headers eval
[("Content-Type: application/json; charset=utf-8\n"
  . "Cache-Control: private, no-store\n! WWW-Authenticate") x 13]
--- message eval
[('Run not found') x 13]
--- no_query



=== TEST 9: the id is checked before an unknown key
--- request
GET /v1/runs/x/related
--- more_headers
Authorization: Bearer cccccccc-ffff-4000-8000-00000000dead
--- error_code: 404
--- message: Run not found
--- no_query



=== TEST 10: a malformed key is refused before the id is checked
--- request eval
["GET /v1/runs/x/related", "GET /v1/runs/x/related"]
--- more_headers eval
["", "Authorization: Bearer x"]
--- error_code eval
[401, 401]
--- message eval
['Missing API key', 'Invalid access token']
--- no_query



=== TEST 11: an unknown key is refused before the run is looked up
--- run: 999
--- more_headers
Authorization: Bearer cccccccc-ffff-4000-8000-00000000dead
--- error_code: 401
--- message: Invalid API key



=== TEST 12: an id in upper case
--- request eval
["GET /v1/runs/0000ABCD-EF00-4000-8000-000000000112/related",
 "GET /v1/runs/0000abcd-ef00-4000-8000-000000000112/related",
 "GET /v1/runs/0000aBcD-Ef00-4000-8000-000000000112/related"]
--- key: alpha
--- error_code eval
[(200) x 3]
--- oracle eval
[("alpha 0000abcd-ef00-4000-8000-000000000112") x 3]



=== TEST 13: no such run
--- run: 999
--- key: alpha
--- error_code: 404
--- response_headers
Content-Type: application/json; charset=utf-8
Cache-Control: private, no-store
! WWW-Authenticate
--- message: Run not found



=== TEST 14: a run of another project looks like one that does not exist
--- run: 111
--- key: alpha
--- error_code: 404
--- response_headers
Content-Type: application/json; charset=utf-8
Cache-Control: private, no-store
! WWW-Authenticate
--- message: Run not found



=== TEST 15: unknown query arguments are ignored
--- request eval
my $uri = '/v1/runs/00000000-0000-4000-8000-000000000110/related';
["GET $uri?", "GET $uri?a=b&limit=0&project_id=x", "GET $uri?%00%ff"]
--- key: alpha
--- error_code eval
[(200) x 3]
--- oracle eval
[('alpha 110') x 3]



=== TEST 16: an id from other variables
--- config
location = /by-argument {
    lunary_related_runs $arg_id;
}
location = /fixed {
    lunary_related_runs 00000000-0000-4000-8000-000000000110;
}
location = /joined {
    lunary_related_runs 00000000-0000-4000-8000-$arg_rest;
}
location = /empty {
    lunary_related_runs $arg_nothing;
}
--- request eval
["GET /by-argument?id=00000000-0000-4000-8000-000000000110", "GET /fixed",
 "GET /joined?rest=000000000110", "GET /empty"]
--- key: alpha
--- error_code eval
[200, 200, 200, 404]
--- ids eval
['110', '110', '110', undef]



=== TEST 17: the body of a GET is discarded, and the connection stays open
--- raw_request eval
my $head = "/v1/runs/00000000-0000-4000-8000-000000000110/related HTTP/1.1\r\n"
           . "Host: localhost\r\n"
           . "Authorization: Bearer cccccccc-0000-4000-8000-000000000001\r\n";
"GET ${head}Content-Length: 9\r\n\r\nGET /bad "
. "GET ${head}Transfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n"
. "POST ${head}Content-Length: 3\r\n\r\nabc"
. "GET ${head}Connection: close\r\n\r\n"
--- ignore_response
--- access_log eval
[qr/"GET [^"]*" 200 /, qr/"POST [^"]*" 405 /]
--- no_access_log eval
[qr/" 400 /, qr{GET /bad}]



=== TEST 18: a body of half a megabyte, refused and allowed
--- config
client_body_buffer_size 8k;
--- request eval
["GET /v1/runs/00000000-0000-4000-8000-000000000110/related\n"
 . ("x" x 500000),
 "POST /v1/runs/00000000-0000-4000-8000-000000000110/related\n"
 . ("x" x 500000)]
--- key: alpha
--- error_code eval
[200, 405]
--- ids eval
['110', undef]



=== TEST 19: pipelining
--- pipelined_requests eval
["GET /v1/runs/00000000-0000-4000-8000-000000000110/related",
 "GET /v1/runs/00000000-0000-4000-8000-000000000120/related",
 "GET /v1/runs/00000000-0000-4000-8000-000000000999/related",
 "GET /v1/runs/x/related",
 "GET /v1/runs/00000000-0000-4000-8000-000000000101/related",
 "GET /v1/runs/00000000-0000-4000-8000-000000000110/related"]
--- key: alpha
--- error_code eval
[200, 200, 404, 404, 200, 200]
--- oracle eval
['alpha 110', 'alpha 120', undef, undef, 'alpha 101', 'alpha 110']



=== TEST 20: pipelining of long responses
--- pipelined_requests eval
["GET /v1/runs/00000000-0000-4000-8000-000000090000/related",
 "GET /v1/runs/00000000-0000-4000-8000-000000000110/related",
 "GET /v1/runs/00000000-0000-4000-8000-000000080000/related"]
--- key: alpha
--- error_code eval
[200, 200, 200]
--- oracle eval
['alpha 90000', 'alpha 110', 'alpha 80000']



=== TEST 21: HTTP/1.0
--- request
GET /v1/runs/00000000-0000-4000-8000-000000000101/related HTTP/1.0
--- key: alpha
--- response_headers
! Transfer-Encoding
--- oracle: alpha 101



=== TEST 22: HTTP/1.0 and a long response: no chunks
--- request
GET /v1/runs/00000000-0000-4000-8000-000000090000/related HTTP/1.0
--- key: alpha
--- response_headers
! Transfer-Encoding
--- oracle: alpha 90000



=== TEST 23: a response that fits into the first buffer has Content-Length
--- run: 101
--- key: alpha
--- response_headers_like
Content-Length: \d+
Connection: close
--- raw_response_headers_unlike: Transfer-Encoding
--- oracle: alpha 101



=== TEST 24: a longer response is streamed
--- run: 90000
--- key: alpha
--- response_headers
Transfer-Encoding: chunked
! Content-Length
--- oracle: alpha 90000



=== TEST 25: small buffers, and postpone_output 1
--- config
postpone_output 1;
lunary_buffers 1k max=4k;
--- run: 90000
--- key: alpha
--- oracle: alpha 90000



=== TEST 26: one large buffer
--- config
lunary_buffers 4m max=8m;
--- run: 90000
--- key: alpha
--- response_headers_like
Content-Length: \d+
--- oracle: alpha 90000



=== TEST 27: limit_rate
--- config
limit_rate 1m;
--- run: 90000
--- key: alpha
--- timeout: 10
--- oracle: alpha 90000



=== TEST 28: gzip
--- config
gzip on;
gzip_types application/json;
gunzip off;
--- run: 90000
--- key: alpha
--- more_headers
Accept-Encoding: gzip
--- response_headers
Content-Encoding: gzip
Content-Type: application/json; charset=utf-8
--- response_body_filters eval
sub {
    require IO::Uncompress::Gunzip;
    IO::Uncompress::Gunzip::gunzip(\$_[0], \my $text)
        or die $IO::Uncompress::Gunzip::GunzipError;
    return length($text) > 500000 && $text =~ /^\[.*\]$/s ? "whole" : $text;
}
--- response_body chomp
whole



=== TEST 29: an SSI subrequest
--- config
location = /page {
    ssi on;
    ssi_types text/plain;
    default_type text/plain;
    root html;
    try_files /page.txt =404;
}
--- user_files
>>> page.txt
before <!--# include virtual="/v1/runs/00000000-0000-4000-8000-000000000110/related" --> after
--- request
GET /page
--- key: alpha
--- response_body_like
^before \[\{"id":\s*"00000000-0000-4000-8000-000000000110".*\}\] after$



=== TEST 30: two SSI subrequests in order, one of them long
--- config
location = /page {
    ssi on;
    ssi_types text/plain;
    default_type text/plain;
    root html;
    try_files /page.txt =404;
}
--- user_files
>>> page.txt
a<!--# include virtual="/v1/runs/00000000-0000-4000-8000-000000090000/related" -->b<!--# include virtual="/v1/runs/00000000-0000-4000-8000-000000000110/related" -->c
--- request
GET /page
--- key: alpha
--- response_body_like
^a\[\{"id":.+\}\]b\[\{"id":\s*"00000000-0000-4000-8000-000000000110"[^\[]*\]c$



=== TEST 31: an SSI subrequest that is refused
--- config
location = /page {
    ssi on;
    ssi_types text/plain;
    default_type text/plain;
    root html;
    try_files /page.txt =404;
}
--- user_files
>>> page.txt
before <!--# include virtual="/v1/runs/x/related" --> after
--- request
GET /page
--- key: alpha
--- response_body_like
^before .*after$



=== TEST 32: auth_request
--- config
location = /guarded {
    auth_request /may;
    return 200 "in";
    default_type text/plain;
    try_files /index.html =404;
}
location = /may {
    internal;
    lunary_related_runs $arg_run;
}
--- request eval
["GET /guarded?run=00000000-0000-4000-8000-000000000110",
 "GET /guarded?run=00000000-0000-4000-8000-000000090000"]
--- key: alpha
--- error_code eval
[200, 200]
--- response_body_like eval
['in', 'in']



=== TEST 33: auth_request with a refused key
--- config
location = /guarded {
    auth_request /may;
    try_files /index.html =404;
}
location = /may {
    internal;
    lunary_related_runs 00000000-0000-4000-8000-000000000110;
}
--- request
GET /guarded
--- error_code: 401
--- response_headers_like
WWW-Authenticate: Bearer realm="lunary".*



=== TEST 34: mirror
--- config
location = /mirrored {
    mirror /copy;
    try_files /index.html =404;
}
location = /copy {
    internal;
    lunary_related_runs 00000000-0000-4000-8000-000000000110;
}
--- request eval
["GET /mirrored", "GET /mirrored"]
--- key: alpha
--- error_code eval
[200, 200]
--- response_body_like eval
['It works', 'It works']



=== TEST 35: add_header, and other locations are unchanged
--- config
location = /plain {
    default_type text/plain;
    try_files /index.html =404;
}
location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
    add_header X-Runs $lunary_runs;
    add_header X-Fixed yes always;
    lunary_related_runs $run_id;
}
--- request eval
["GET /plain", "GET /v1/runs/x/related"]
--- key: alpha
--- error_code eval
[200, 404]
--- response_headers eval
["! X-Fixed", "X-Fixed: yes"]



=== TEST 36: conditional headers and Range are ignored
--- run: 110
--- key: alpha
--- more_headers eval
["If-None-Match: *", "If-None-Match: *
If-Modified-Since: Wed, 11 Nov 2099 00:00:00 GMT", 'If-Match: "x"',
 "If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT", "Range: bytes=0-3"]
--- error_code eval
[(200) x 5]
--- oracle: alpha 110



=== TEST 37: conditional headers and Range are ignored for a long response
--- run: 90000
--- key: alpha
--- more_headers eval
["If-None-Match: *", 'If-Match: "x"',
 "If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT", "Range: bytes=0-3"]
--- error_code eval
[(200) x 4]
--- response_headers
Transfer-Encoding: chunked
--- oracle: alpha 90000



=== TEST 38: an "if" block inherits from its location
--- config
location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
    lunary_related_runs $run_id;
    if ($http_x_debug) {
        add_header X-Debug $lunary_outcome;
        set $debug 1;
    }
}
--- run: 110
--- key: alpha
--- more_headers
X-Debug: 1
--- response_headers
X-Debug: ok
--- oracle: alpha 110



=== TEST 39: an error response in an "if" block
--- config
location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
    lunary_related_runs $run_id;
    if ($http_x_debug) {
        set $debug 1;
    }
}
--- run eval
['x', '110', 'POST 110']
--- key: beta
--- more_headers
X-Debug: 1
--- error_code eval
[404, 404, 405]
--- message eval
[('Run not found') x 2, 'Method not allowed']



=== TEST 40: a "limit_except" block inherits from its location
--- config
location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
    lunary_related_runs $run_id;
    limit_except GET {
        allow all;
    }
}
location = /ready {
    lunary_status ready;
    limit_except GET {
        allow all;
    }
}
--- run eval
['110', 'POST 110']
--- key: alpha
--- error_code eval
[200, 405]
--- response_headers eval
["! Allow", "Allow: GET, HEAD"]



=== TEST 41: "if" and "limit_except" blocks with lunary_status
--- config
location = /ready {
    lunary_status ready;
    limit_except GET {
        allow all;
    }
    if ($http_x_debug) {
        set $debug 1;
    }
}
--- request eval
["GET /ready", "POST /ready"]
--- more_headers
X-Debug: 1
--- error_code eval
[200, 405]
--- response_body eval
['{"status": "ready"}', '{"message": "Method not allowed"}']



=== TEST 42: the error pages of lunary_status
--- config
location = /ready {
    lunary_status ready;
    error_page 405 /page.txt;
}
--- user_files
>>> page.txt
a page
--- request
POST /ready
--- error_code: 405
--- response_headers
! Allow
--- response_body
a page
