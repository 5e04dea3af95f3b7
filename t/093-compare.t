# conf/compare with two servers that send prepared responses, and with the
# module on both sides: its requests, the differences it finds, invalid
# arguments, and its pauses.

use strict;
use warnings;

use lib 't/lib';
use IO::Select;
use IO::Socket::INET;
use JSON::PP ();
use Lunary::Nginx;
use Lunary::System qw( free_port project_dir read_file run_cmd tmpdir
                       write_file );
use Lunary::Test;
use POSIX ();
use Test::More;
use Time::HiRes qw( sleep time );

my $top = project_dir();
my $dir = tmpdir('compare');
my $a = '00000000-0000-4000-8000-0000000000a1';
my $b = '00000000-0000-4000-8000-0000000000b2';
my $project = '00000000-0000-4000-8000-000000000001';
my $jwt = 'eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOiJ1MSJ9.c2lnbmF0dXJl';
my %port = (backend => free_port(), module => free_port());
my @servers = map { server($_) } keys %port;

write_file("$dir/key", "cccccccc-0000-4000-8000-000000000001\n");
write_file("$dir/token", "$jwt\n");


# Sends the responses in the file "SIDE.responses".  A line has path with query,
# status, headers and body; the last line of a path is repeated.  Writes the
# requests to "SIDE.log"

sub server {
    my ($side) = @_;

    my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        LocalPort => $port{$side}, Listen => 64, ReuseAddr => 1) or die $!;
    my $pid = fork() // die "fork: $!";

    return $pid if $pid;

    my ($was, %served) = ('');

    while (my $socket = $listen->accept) {
        my $text = '';

        while ($text !~ /\r\n\r\n/ && sysread $socket, $text, 65536,
               length $text) { }

        my ($method, $uri) = $text =~ /^(\S+) (\S+)/;
        my ($auth) = $text =~ /^Authorization: (.*)\r$/mi;
        my $responses = read_file("$dir/$side.responses");
        my @lines = grep { $_->[0] eq $uri } map { [split /\t/, $_] }
                    split /\n/, $responses;

        ($was, %served) = ($responses) if $was ne $responses;

        my $line = $lines[$served{$uri}++] // $lines[-1]
                   // [$uri, 500, '', '{}'];

        open my $log, '>>', "$dir/$side.log";
        print $log join(' ', time, $method, $uri, $auth // '-'), "\n";
        close $log;

        sleep $1 if $line->[2] =~ /sleep=([\d.]+)/;

        my $header = $line->[2] =~ /retry/ ? "Retry-After: 1\r\n" : '';
        my $length = length($line->[3]) + ($line->[2] =~ /cut/ ? 9 : 0);

        print $socket "HTTP/1.1 $line->[1] X\r\n${header}Content-Length: "
            . "$length\r\nConnection: close\r\n\r\n$line->[3]";
        close $socket;
    }

    POSIX::_exit(0);
}

END {
    local $?;
    kill 'KILL', @servers if @servers;
    waitpid $_, 0 for @servers;
}


sub related { "/v1/runs/$_[0]/related" }

sub responses {
    my ($side, @lines) = @_;

    write_file("$dir/$side.responses",
               join '', map { join("\t", @$_) . "\n" } @lines);
}

sub compare {
    my (@args) = @_;

    unlink "$dir/$_.log" for keys %port;

    my ($status, $text) = run_cmd("$top/conf/compare",
        '--backend', "http://127.0.0.1:$port{backend}/",
        '--module', "http://127.0.0.1:$port{module}", '--rate', 1000,
        '--credential', "$dir/key", @args);

    return ($status >> 8, $text);
}

sub asked { map { (split / /)[2] } split /\n/, read_file("$dir/$_[0].log") }

# the output for one run, with these two responses
sub one {
    my ($backend, $module, @args) = @_;

    responses('backend', [related($a), 200, '', $backend]);
    responses('module', [related($a), 200, '', $module]);
    write_file("$dir/ids", "$a\n");

    return compare('--ids', "$dir/ids", @args);
}

sub item { qq({"id":"$a","projectId":"$project") . join('', map { ",$_" } @_)
           . '}' }

sub differs {
    my ($name, $backend, $module, $said) = @_;

    my ($status, $text) = one("[$backend]", "[$module]");

    is $status, 1, "$name: it differs" or diag $text;
    like $text, qr/^  \Q$said\E$/m, "$name: it is printed" or diag $text;
}

sub known {
    my ($name, $what, $backend, $module) = @_;

    my ($status, $text) = one("[$backend]", "[$module]");

    is $status, 0, "$name: no difference" or diag $text;
    like $text, qr/^ +\d+  \Q$what\E +\S/m, "$name: it is counted"
        or diag $text;
}


# equal responses

my ($status, $text) = one("[@{[ item() ]}]", "[@{[ item() ]}]");

is $status, 0, 'equal responses';
is $text, "1 run compared, 0 differ\n", 'nothing else is printed';


# differences

differs('a field', item('"name":"x"'), item('"name":"y"'),
        "run $a name: differs");
differs('a type', item('"input":"1"'), item('"input":1'),
        "run $a input: string in the backend, number in the module");
differs('deep inside', item('"input":[{"a":[1,2]}]'),
        item('"input":[{"a":[1,3]}]'), "run $a input[0].a[1]: differs");
differs('a key', item('"input":{"aB":1}'), item('"input":{"a_b":1}'),
        "run $a input.aB: missing in the module");
differs('a null in a value', item('"input":{"a":null}'), item('"input":{}'),
        "run $a input.a: missing in the module");
differs('an element', item('"tags":["a"]'), item('"tags":["a","b"]'),
        "run $a tags: 1 elements in the backend, 2 in the module");
differs('a field is missing', item('"name":"x"'), item(),
        "run $a name: missing in the module");
differs('a field of no known name', item(), item('"odd":1'),
        "run $a odd: only in the module");
differs('long digits in a string', item('"name":"12345678901234567890"'),
        item('"name":"12345678901234567891"'), "run $a name: differs");
differs('a number', item('"cost":0.1'), item('"cost":0.10000001'),
        "run $a cost: differs");
differs('a boolean', item('"input":true'), item('"input":1'),
        "run $a input: boolean in the backend, number in the module");

my $other = qq({"id":"$b","projectId":"$project","createdAt":"2026-01-01T);

differs('a run is missing', item() . ",${other}\"}", item(),
        "run $b: missing in the module");
differs('a run too many', item(), item() . ",${other}\"}",
        "run $b: only in the module");
differs('the order', item('"createdAt":"1"') . ",${other}1\"}",
        "${other}1\"}," . item('"createdAt":"1"'),
        'item 0: the order differs');
differs('a control character', item('"input":{"\u001b[2J":1}'), item(
        '"input":{}'), "run $a input.\\x{1b}[2J: missing in the module");


# known differences

known('null', 'null', item('"name":null'), item());
known('null in tokens', 'null', item('"tokens":{"prompt":null,"total":0}'),
      item('"tokens":{"total":0}'));
known('null on both sides', 'added', item('"name":null'),
      item('"name":null', '"user":null'));
known('more fields', 'added', item(), item('"tokens":{"total":1}',
      '"duration":1.5', '"traceId":"x"'));
known('digits', 'number', item('"output":12345678901234567000'),
      item('"output":12345678901234567890.10'));
known('a long integer', 'number', item('"output":123456789012345680000000'),
      item('"output":123456789012345678901234'));
known('more than a double can be', 'number', item('"output":[null]'),
      item('"output":[1e999]'));
known('an empty key', 'key', item('"input":{"undefined":1}'),
      item('"input":{"":1}'));
known('a letter beyond ASCII', 'key', item('"input":{"a\u00c9":1}'),
      item('"input":{"a\u00e9":1}'));
known('another project', 'project',
      item() . qq(,{"id":"$b","projectId":"$b"}), item());
known('one millisecond', 'order',
      item('"createdAt":"1"') . qq(,{"id":"$b","createdAt":"1"}),
      qq({"id":"$b","createdAt":"1"},) . item('"createdAt":"1"'));

responses('backend', [related($a), 200, '', '[]']);
responses('module', [related($a), 404, '', '{"message":"Run not found"}']);
($status, $text) = compare('--ids', "$dir/ids");
is $status, 0, 'a run that is not there';
like $text, qr/^ +1  absent /m, 'absent is a known difference';

responses('backend', [related($a), 200, 'sleep=2', '[]']);
responses('module', [related($a), 200, '',
                   '[' . item(qq("parentRunId":"$a")) . ']']);
($status, $text) = compare('--ids', "$dir/ids", '--timeout', 0.5);
is $status, 0, 'a run that is its own parent';
like $text, qr/^ +1  cycle /m, 'cycle is a known difference';

responses('backend', [related($a), 200, '', '[' . item('"name":"x"') . ']'],
                   [related($a), 200, '', '[' . item('"name":"y"')
                                               . ']']);
responses('module', [related($a), 200, '', '[' . item('"name":"y"') . ']']);
($status, $text) = compare('--ids', "$dir/ids");
is $status, 0, 'a run that changes between the two' or diag $text;
like $text, qr/^ +1  changed /m, 'changed is a known difference';
is scalar(asked($_)), 2, "$_: asked twice" for keys %port;


# other responses

for (['an error', 500, '', '{"message":"Internal"}', 'module 500 (Internal)'],
     ['no JSON', 200, '', '[{', 'module 200, not JSON'],
     ['a cut', 200, 'cut', '[]', 'module no whole response'])
{
    my ($name, $code, $how, $body, $said) = @$_;

    responses('backend', [related($a), 200, '', '[' . item() . ']']);
    responses('module', [related($a), $code, $how, $body]);
    ($status, $text) = compare('--ids', "$dir/ids");
    is $status, 1, "$name differs";
    like $text, qr/^  response: backend 200, \Q$said\E$/m, 'it is printed'
        or diag $text;
}

responses('module', [related($a), 503, 'retry', '{}'],
                  [related($a), 200, '', '[' . item() . ']']);
($status, $text) = compare('--ids', "$dir/ids");
is $status, 0, 'a server that is busy is asked once more';

responses($_, [related($a), 401, '', '{"message":"Invalid API key"}'])
    for keys %port;
($status, $text) = compare('--ids', "$dir/ids");
is $status, 2, 'a credential that both refuse';
is $text, 'compare: both refuse the credential: backend 401 (Invalid API key)'
    . ", module 401 (Invalid API key)\n", 'the refusal is printed';


# values only with --values; many differences in few lines

($status, $text) = one('[' . item('"input":"payload one"') . ']',
                       '[' . item('"input":"payload two"') . ']');
unlike $text, qr/payload/, 'no value';
($status, $text) = one('[' . item('"input":"payload one"') . ']',
                       '[' . item('"input":"payload two"') . ']', '--values');
like $text, qr/^    backend "payload one"\n    module  "payload two"$/m,
    '--values: both';

($status, $text) = one('[' . item(map { qq("f$_":1) } 1 .. 30) . ']',
                       '[' . item() . ']');
is scalar(() = $text =~ /^  run/mg), 10, 'ten of thirty differences';
like $text, qr/^  \.\.\. and 20 more$/m, 'the number of other differences';

my $deep = '[' x 3000 . ']' x 3000;
($status, $text) = one('[' . item("\"input\":$deep") . ']',
                       '[' . item("\"input\":$deep") . ']');
is $status, 0, 'JSON 3,000 deep' or diag $text;


# the source of the ids

sub list { qq({"page":0,"limit":3,"data":[) . join(',', map {
    qq({"id":"$_","input":"x"}) } @_) . ']}' }

my @ids = map { sprintf '00000000-0000-4000-8000-%012d', $_ } 1 .. 9;
my @each = map { [related($_), 200, '', '[]'] } @ids;

sub listed {
    my ($more, $n) = @_;

    responses('backend', @each,
        ["/v1/runs?${more}type=trace&limit=$n&page=0", 200, '',
         list(@ids[0 .. 2])],
        ["/v1/runs?${more}type=thread&limit=$n&page=0", 200, '', list()],
        ["/v1/runs?${more}type=llm&limit=$n&page=0", 200, '',
         list(@ids[2 .. 8])]);
    responses('module', map { [$_->[0], 404, '', '{}'] } @each);
}

listed('', 4);
($status, $text) = compare('--runs', 4);
is $status, 0, 'the newest runs' or diag $text;
is_deeply [grep { /related/ } asked('module')],
    [map { related($_) } @ids[0, 2, 1, 3]], 'of each kind in turn, each once';

my @lines = map { [split / /] } split /\n/, read_file("$dir/module.log")
            . read_file("$dir/backend.log");
is_deeply [grep { $_->[1] ne 'GET' } @lines], [], 'nothing but GET';
is_deeply [grep { "@$_[3, 4]" ne
                  'Bearer cccccccc-0000-4000-8000-000000000001' } @lines], [],
    'with the key';

@each = map { [related($_) . "?projectId=$project", 200, '', '[]'] } @ids;
listed("projectId=$project&", 2);
responses('module', map { [$_->[0], 200, '', '[]'] } @each);
($status, $text) = compare('--runs', 2, '--credential', "$dir/token",
                           '--project', $project);
is $status, 0, 'with a session' or diag $text;
is_deeply [grep { /related/ } asked('module')],
    [map { related($_) . "?projectId=$project" } @ids[0, 2]],
    'a session is sent with its project';
like read_file("$dir/module.log"), qr/ Bearer \Q$jwt\E$/m,
    'a session is sent with its token';
unlike $text, qr/\Q$jwt\E/, 'of which nothing is printed';

responses('backend');
($status, $text) = compare();
is $status, 2, 'no list';
is $text, 'compare: the backend lists no runs: its response to'
    . " /v1/runs?type=trace is 500\n", 'the reason is printed';


# pauses: by --rate, and at least as long as the responses took

write_file("$dir/ids", "$a\n" x 3);
responses($_, [related($a), 200, '', '[]']) for keys %port;
my $began = time;
compare('--ids', "$dir/ids", '--rate', 5);
cmp_ok time - $began, '>', 0.39, 'three runs at five a second';

responses('module', [related($a), 200, 'sleep=0.4', '[]']);
$began = time;
compare('--ids', "$dir/ids");
cmp_ok time - $began, '>', 1.95, 'a pause after slow responses';


# invalid arguments

sub refused {
    my ($name, $said, @args) = @_;

    my ($code, $out) = run_cmd("$top/conf/compare", @args);

    is $code >> 8, 2, "$name: status 2";
    like $out, qr/^compare: $said/, "$name: and why";
    unlike $out, qr/ line \d+\.$/m, "$name: in plain words";
}

my @good = ('--backend', 'http://127.0.0.1:1', '--module',
            'http://127.0.0.1:1', '--credential', "$dir/key");

refused('nothing', '--backend is missing\nusage:');
refused('no credential', '--credential is missing', @good[0 .. 3]);
refused('an unknown option', 'Unknown option: wrong\nusage:', '--wrong');
refused('no number', 'Value "x" invalid for option runs', @good, '--runs',
        'x');
refused('none', '--runs has to be more than 0', @good, '--runs', 0);
refused('no rate', '--rate has to be more than 0', @good, '--rate', -1);
refused('no URL', '--module is no URL', @good, '--module', 'localhost:80');
refused('a password in the URL', '--module is no URL', @good, '--module',
        'http://a:b@localhost');
refused('no file', '\S+/none: No such file', @good, '--credential',
        "$dir/none");
refused('no key', '\S+/ids.bad: its first line is neither a key nor a token',
        @good, '--credential', do { write_file("$dir/ids.bad", "x\n");
                                    "$dir/ids.bad" });
refused('a session alone', 'a session needs --project', @good,
        '--credential', "$dir/token");
refused('a project with a key', '--project is for a session', @good,
        '--project', $project);
refused('no id', '\S+/ids\.bad, line 1: no id of a run', @good, '--ids',
        "$dir/ids.bad");
write_file("$dir/empty", '');
refused('no ids', 'there are no runs to compare', @good, '--ids',
        "$dir/empty");
refused('no server', 'backend: Could not connect', @good, '--ids',
        "$dir/ids");

my ($code, $out) = run_cmd("$top/conf/compare", '--help');
is $code, 0, '--help';
like $out, qr/^usage: compare /, '--help prints the usage';


# the module with and without null fields: only nulls differ, in all runs of the
# fixtures

my $nginx = Lunary::Nginx->new(http => 'lunary_database "' . pg()->conninfo
    . '";', config => <<'EOF_CONFIG');
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
        location ~ "^/nulls/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
            lunary_null_fields include;
        }
EOF_CONFIG

$nginx->start;
write_file("$dir/all", join '', map { "$_->[0]\n" } @{ pg()->dbh
    ->selectall_arrayref('select id from run where project_id = ?'
                         . ' and parent_run_id is null limit 10', undef,
                         project('alpha')) });
write_file("$dir/alpha", key('alpha') . "\n");

($status, $text) = run_cmd("$top/conf/compare", '--rate', 1000,
    '--backend', "http://127.0.0.1:$nginx->{port}/nulls",
    '--module', "http://127.0.0.1:$nginx->{port}",
    '--credential', "$dir/alpha", '--ids', "$dir/all");
is $status, 0, 'the module and itself' or diag $text;
like $text, qr/^\d+ runs compared, 0 differ$/m, 'no differences';
is_deeply [$text =~ /^ +\d+  (\w+)/mg], ['null'], 'the known difference is null'
    or diag $text;

$nginx->stop;

done_testing;
