# The items: every field of every run of the fixtures, with and without nulls,
# compared with an independent computation.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Test;
use Test::Nginx::Socket;

my %all;

# every run of a project, except for the inner runs of long chains
sub all {
    my ($project) = @_;

    $all{$project} //= pg()->dbh->selectcol_arrayref(q{
        select id from run where project_id = ?
        and not (id between '00000000-0000-4000-8000-000000080001'
                        and '00000000-0000-4000-8000-000000080998')
        and not (id between '00000000-0000-4000-8000-000000090002'
                        and '00000000-0000-4000-8000-000000099999')
        order by id}, undef, project($project));

    return @{ $all{$project} };
}

plan 'no_plan';
log_level('info');
use_database();
no_long_string();
run_tests();

__DATA__

=== TEST 1: every run of the first project
--- run eval
[main::all('alpha')]
--- key: alpha
--- error_code eval
[map { 200 } main::all('alpha')]
--- oracle eval
[map { "alpha $_" } main::all('alpha')]



=== TEST 2: every run of the first project, with nulls
--- config
lunary_null_fields include;
--- run eval
[main::all('alpha')]
--- key: alpha
--- error_code eval
[map { 200 } main::all('alpha')]
--- oracle eval
[map { "alpha $_ nulls" } main::all('alpha')]



=== TEST 3: every run of the second project
--- run eval
[main::all('beta')]
--- key: beta
--- error_code eval
[map { 200 } main::all('beta')]
--- oracle eval
[map { "beta $_" } main::all('beta')]



=== TEST 4: every run of the second project, with nulls
--- config
lunary_null_fields include;
--- run eval
[main::all('beta')]
--- key: beta
--- error_code eval
[map { 200 } main::all('beta')]
--- oracle eval
[map { "beta $_ nulls" } main::all('beta')]



=== TEST 5: with small buffers, without prepared statements
--- config
lunary_null_fields include;
lunary_prepare off;
lunary_buffers 1k max=4k;
postpone_output 1;
--- run eval
[700, 500, 510, 540, 80000, 101]
--- key: alpha
--- error_code eval
[(200) x 6]
--- oracle eval
[map { "alpha $_ nulls" } 700, 500, 510, 540, 80000, 101]



=== TEST 6: a run that has all fields, in full
--- run: 103
--- key: alpha
--- response_body_like eval
my $json = <<'EOF_JSON';
[{"id":"00000000-0000-4000-8000-000000000103",
"projectId":"00000000-0000-4000-8000-00000000a001","isPublic":false,
"type":"llm","name":"gpt-4o","createdAt":"2026-11-10T21:48:04.840Z",
"endedAt":"2026-11-10T21:48:06.840Z","duration":2,
"templateVersionId":"12","templateSlug":"greeting","cost":0.001234,
"tokens":{"completion":34,"prompt":120,"total":154},"tags":["prod"],
"input":[{"role":"system","content":"You help."},
{"role":"user","content":"Where is my parcel?",
"toolCalls":[{"callId":"c1","functionName":"track"}]}],
"output":{"role":"assistant","content":null,
"finishReason":"tool_calls"},"status":"success",
"params":{"model":"gpt-4o","maxTokens":256,"temperature":0.20,
"responseFormat":{"jsonSchema":{"strictMode":true}}},
"user":{"id":"1","externalId":"ada",
"createdAt":"2025-01-02T03:04:05.678Z","lastSeen":"2026-11-10T21:00:00.000Z",
"props":{"name":"Ada","eMail":{"workAddress":"ada@example.com"}}},
"traceId":"00000000-0000-4000-8000-000000000101",
"parentRunId":"00000000-0000-4000-8000-000000000102",
"promptTokens":120,"completionTokens":34}]
EOF_JSON
$json =~ s/\n//g;
# space between tokens is ignored
my @tokens = map { quotemeta } $json =~ /"(?:[^"\\]|\\.)*"|[^"]/g;
'^' . CORE::join('\s*', @tokens) . '\s*$'



=== TEST 7: a run that has no optional field, in full
--- run: 110
--- key: alpha
--- response_body_like eval
my $json = '[{"id":"00000000-0000-4000-8000-000000000110",'
    . '"projectId":"00000000-0000-4000-8000-00000000a001",'
    . '"isPublic":false,"type":"llm",'
    . '"createdAt":"2026-11-10T21:48:04.090Z","cost":0,'
    . '"tokens":{"total":0}}]';
'^' . CORE::join('\s*', map { quotemeta } $json =~ /"[^"]*"|[^"]/g) . '\s*$'



=== TEST 8: a run that has no optional field, in full, with nulls
--- config
lunary_null_fields include;
--- run: 110
--- key: alpha
--- response_body_like eval
my $json = '[{"id":"00000000-0000-4000-8000-000000000110",'
    . '"projectId":"00000000-0000-4000-8000-00000000a001",'
    . '"isPublic":false,"feedback":null,"parentFeedback":null,"type":"llm",'
    . '"name":null,"createdAt":"2026-11-10T21:48:04.090Z","endedAt":null,'
    . '"duration":null,"templateVersionId":null,"templateSlug":null,'
    . '"cost":0,"tokens":{"completion":null,"prompt":null,"total":0},'
    . '"tags":null,"input":null,"output":null,"error":null,"status":null,'
    . '"siblingRunId":null,"params":null,"metadata":null,'
    . '"firstMessage":null,"messagesCount":null,"user":null,'
    . '"traceId":null,"parentRunId":null,"promptTokens":null,'
    . '"completionTokens":null}]';
'^' . CORE::join('\s*', map { quotemeta }
                  $json =~ /"[^"]*"|null|false|[^"]/g) . '\s*$'



=== TEST 9: the output does not depend on session settings
--- http_config
lunary_database "$TEST_NGINX_CONNINFO options='-c timezone=America/St_Johns -c datestyle=German,DMY -c intervalstyle=sql_standard -c bytea_output=escape -c extra_float_digits=-15 -c lc_numeric=C'";
--- run eval
[700, 101, 120, 500]
--- key: alpha
--- error_code eval
[(200) x 4]
--- oracle eval
[map { "alpha $_" } 700, 101, 120, 500]
