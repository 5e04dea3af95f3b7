# Sessions of the dashboard: the file of the secret, and the response to each
# kind of token.

use strict;
use warnings;

use lib 't/lib';
use Digest::SHA ();
use JSON::XS qw( decode_json );
use Lunary::Client;
use Lunary::Nginx;
use Lunary::Session qw( token );
use Lunary::System qw( read_file wait_until write_file );
use Lunary::Test;
use Test::More;

my $secret = 'a secret of the tests, 32 bytes+';
my $nginx = Lunary::Nginx->new;
my $dir = $nginx->{dir};
my $location = 'location / { lunary_related_runs $arg_id; }';

sub secret_file {
    my ($name, $text, $mode) = @_;

    write_file("$dir/$name", $text);
    chmod $mode // 0600, "$dir/$name" or die "$name: $!";
}

# the status and the output of nginx -t
sub conf {
    my ($directive) = @_;

    $nginx->configure(http => qq{lunary_database "host=/nowhere";\n$directive},
                      config => $location);
    return $nginx->test;
}

sub good {
    my ($directive, $name) = @_;

    my ($status, $output) = conf($directive);
    is($status, 0, "accepted: $name") or diag($output);
    unlike($output, qr/\[(?:warn|emerg)\]/, "no warning: $name");
    unlike($output, qr/\Q$secret\E/, "no secret: $name");
}

sub warned {
    my ($directive, $reason, $name) = @_;

    my ($status, $output) = conf($directive);
    is($status, 0, "accepted: $name") or diag($output);
    like($output, qr/\[warn\] .*$reason.* in .*nginx\.conf:\d+/,
         "warning: $name");
    unlike($output, qr/\Q$secret\E/, "no secret: $name");

    return $output;
}

sub bad {
    my ($directive, $reason, $name) = @_;

    my ($status, $output) = conf($directive);
    isnt($status, 0, "refused: $name");
    like($output, qr/\[emerg\] .*$reason.* in .*nginx\.conf:\d+/,
         "reason, file and line: $name");
    unlike($output, qr/\Q$secret\E/, "no secret: $name");
}


# the file of the secret

secret_file('good', $secret);
secret_file('newline', "$secret\n");
secret_file('group', "$secret\n", 0640);
secret_file('crlf', "$secret\r\n");
secret_file('zero', "\0" x 32);
secret_file('others', $secret, 0644);
secret_file('writable', $secret, 0602);
secret_file('short', substr $secret, 1);
secret_file('almost', substr($secret, 1) . "\n");
secret_file('empty', '');
secret_file('lf', "\n");
secret_file('crlf_alone', "\r\n");
secret_file('large', 'x' x 65536);
secret_file('larger', 'x' x 65537);
mkdir "$dir/directory", 0700 or die $!;
system('mkfifo', '-m', '600', "$dir/fifo") == 0 or die 'mkfifo';
symlink 'good', "$dir/link" or die $!;
symlink 'absent', "$dir/dangling" or die $!;

good("lunary_jwt_secret_file $dir/$_;", $_)
    for qw( good newline group crlf zero large link );
good('lunary_jwt_secret_file good;', 'a relative path');
good('lunary_jwt_secret_file off;', 'off');

warned("lunary_jwt_secret_file $dir/$_;", 'can be accessed by any user', $_)
    for qw( others writable );
warned("lunary_jwt_secret_file $dir/$_;", 'expected at least 32 bytes', $_)
    for qw( short almost );

bad("lunary_jwt_secret_file $dir/$_;", 'there is no secret', $_)
    for qw( empty lf crlf_alone );
bad("lunary_jwt_secret_file $dir/$_;", 'No such file', $_)
    for qw( absent dangling );
bad("lunary_jwt_secret_file $dir/$_;", 'is not a regular file', $_)
    for qw( directory fifo );
bad("lunary_jwt_secret_file $dir/larger;", 'at most 65536 bytes', 'larger');
bad('lunary_jwt_secret_file;', 'invalid number of arguments', 'no argument');
bad("lunary_jwt_secret_file $dir/good off;", 'invalid number of arguments',
    'two arguments');
bad("lunary_jwt_secret_file $dir/good; lunary_jwt_secret_file off;",
    'duplicate', 'twice');

SKIP: {
    skip 'root reads any file', 3 if $> == 0;
    secret_file('unreadable', $secret, 0);
    bad("lunary_jwt_secret_file $dir/unreadable;", 'Permission denied',
        'unreadable');
}

# a file that several locations use is read once and causes one warning

$location = join "\n", map {
    "location /$_ { lunary_jwt_secret_file $dir/others;"
    . ' lunary_related_runs $arg_id; }'
} 1 .. 3;

my $output = warned('', 'can be accessed by any user', 'in locations');
is(() = $output =~ /\[warn\]/g, 1, 'a file is read once');


# requests: one location has sessions disabled, one has another secret

my $other = 'another secret of the tests, +32';
my $project = project('alpha');
my $run = related_uri(101);

sub locations {
    my (%directive) = @_;

    return join "\n", map {
        qq{location ~ "^$_/v1/runs/(?<run_id>[^/]+)/related\$" {
            lunary_related_runs \$run_id; $directive{$_}
            add_header X-Credential \$lunary_credential_type always; }}
    } sort keys %directive;
}

# another nginx: the log of the one above has many [emerg]
$nginx = Lunary::Nginx->new;
$dir = $nginx->{dir};

secret_file('reloaded', "$secret\n");
secret_file('other', "$other\n");

$nginx->configure(
    http => 'lunary_database "' . pg()->conninfo . '";'
            . ' lunary_jwt_secret_file reloaded;'
            . ' large_client_header_buffers 4 32k;',
    config => locations('' => '', '/off' => 'lunary_jwt_secret_file off;',
                        '/other' => 'lunary_jwt_secret_file other;',
                        '/again' => 'lunary_jwt_secret_file reloaded;'),
    log_level => 'debug');
$nginx->start;

my $client = Lunary::Client->new(port => $nginx->{port});
my %messages = (
    invalid => 'Invalid access token',
    expired => 'Session expired',
    project => 'Unauthorized access to project',
    missing => 'Missing API key',
);

# a 401 with this message and a challenge
sub refused {
    my ($name, $why, $token, %arg) = @_;

    my $uri = ($arg{at} // '') . ($arg{run} // $run)
              . ($arg{query} // "?projectId=$project");
    my $answer = $client->get($uri, %{ $arg{header}
                              // { Authorization => "Bearer $token" } });

    is($answer->{status}, 401, "401: $name");
    is_deeply(eval { decode_json($answer->{body}) },
              { message => $messages{$why} }, "$why: $name");
    is($answer->{header}{'www-authenticate'},
       'Bearer realm="lunary", error="invalid_token"', "challenge: $name");
}

sub signed {
    return token(secret => $secret, claims => { @_ });
}

my $mark = pg()->log_mark;
my $good = signed();
my $id = '00000000-0000-4000-8000-00000000b001';

# the response to each kind of token; t/unit has more kinds

refused('no token', 'invalid', '');
refused('no JWT', 'invalid', 'x');
refused('three dots', 'invalid', '...');
refused('another secret', 'invalid', token(secret => $other));
refused('no signature', 'invalid', $good =~ s/[^.]+$//r);
refused('a digit less', 'invalid', substr $good, 0, -1);
refused('something behind', 'invalid', "$good x");
refused('two tokens', 'invalid', "$good, $good");
refused('another scheme', 'invalid', undef,
        header => { Authorization => "JWT $good" });
refused('no scheme', 'invalid', undef, header => { Authorization => $good });
refused('as X-API-Key', 'invalid', undef, header => { 'X-API-Key' => $good });
refused('too long', 'invalid', signed(x => 'x' x 6200));
refused('none', 'invalid',
        token(secret => $secret, header => '{"alg":"none"}'));
refused('HS384', 'invalid',
        token(secret => $secret, header => '{"alg":"HS384"}'));
refused('crit', 'invalid',
        token(secret => $secret, header => '{"alg":"HS256","crit":[]}'));
refused('no exp', 'invalid',
        token(secret => $secret, payload => qq({"userId":"$id"})));
refused('exp a string', 'invalid', signed(exp => '' . (time + 60)));
refused('exp twice', 'invalid', token(secret => $secret,
        payload => qq({"userId":"$id","exp":1,"exp":4102444800})));
refused('not yet valid', 'invalid', signed(nbf => time + 60));
refused('not yet valid and expired', 'invalid',
        signed(nbf => time + 60, exp => 1));
refused('a password reset', 'invalid', token(secret => $secret,
        payload => '{"email":"someone@example.com","exp":4102444800}'));
refused('userId no UUID', 'invalid', signed(userId => 'someone'));
refused('userId no UUID and expired', 'invalid',
        signed(userId => 'someone', exp => 1));
refused('expired', 'expired', signed(exp => time - 1));
refused('expired at this second', 'expired', signed(exp => time));
refused('expired long ago', 'expired', signed(exp => 0));
refused('expired, without a project', 'expired', signed(exp => 1),
        query => '');
refused('invalid, without a project', 'invalid', 'x.y.z', query => '');
refused('invalid, for no run', 'invalid', 'x.y.z',
        run => '/v1/runs/x/related');

# projectId

refused("projectId$_", 'project', $good, query => $_)
    for '', '?', '?projectId', '?projectId=', '?projectId=x', '?x=1',
        "?projectid=$project", "?ProjectId=$project", "?project=$project",
        "?projectId=$project&projectId=$project",
        "?projectId=$project&projectId",
        "?projectId=&projectId=$project", "?projectId=x&projectId=$project",
        "?projectId=$project&projectI%64=$project",
        "?%70rojectId=$project&x=1&projectId=x", "?projectId[]=$project",
        "?projectId=$project%00", "?projectId=$project%20",
        "?projectId=+$project",
        "?projectId=$project;x=1", "?x=1;projectId=$project",
        "?projectId==$project", '?projectId=' . $project =~ tr/-//dr,
        "?projectId=%7B$project%7D", "?project%Id=$project",
        "?projectId=${project}0", '?projectId=' . substr($project, 1),
        "?projectId=$project%", '?projectId=' . 'x' x 2000;
refused('no project, for no run', 'project', $good, query => '',
        run => '/v1/runs/x/related');

# an id that is not a UUID, with a valid session: 404 comes after the 401s

for my $query ("?projectId=$project", "?projectId=\U$project",
               "?a=b&projectId=$project&c", "?&&projectId=$project&",
               "?project%49d=$project", "?%70%72%6f%6a%65%63%74%49%64=$project",
               '?projectId=' . join('', map { sprintf '%%%02x', ord }
                                        split //, $project),
               "?projectid=x&projectId=$project&projectId2=y",
               "?x=projectId=y&projectId=$project")
{
    my $answer = $client->get("/v1/runs/x/related$query",
                              Authorization => "Bearer $good");
    is($answer->{status}, 404, "404: $query");
}

for my $scheme ('bearer', 'BEARER ', "Bearer\x20\x20") {
    my $answer = $client->get("/v1/runs/x/related?projectId=$project",
                              Authorization => "$scheme $good");
    is($answer->{status}, 404, "404: $scheme");
}

is($client->exchange('POST', "$run?projectId=$project",
                     Authorization => "Bearer $good")->{status}, 405,
   '405 comes before all');

# which locations accept a session

refused('sessions off', 'invalid', $good, at => '/off');
refused('sessions off, expired', 'invalid', signed(exp => 1), at => '/off');
refused('sessions off, no project', 'invalid', $good, at => '/off',
        query => '');
refused("another location's secret", 'invalid', $good, at => '/other');
refused("another location's own", 'project', token(secret => $other),
        at => '/other', query => '');
refused('the same secret again', 'project', $good, at => '/again',
        query => '');

is(join("\n", pg()->statements_since($mark)), '',
   'the database was not asked');

# $lunary_credential_type

for (['session', $good, ''], ['session', signed(exp => 1), ''],
     ['none', 'x.y.z', ''], ['none', $good, '/off'],
     ['key', key('alpha'), ''], ['key', key('alpha'), '/off'])
{
    my ($type, $credential, $at) = @$_;

    is($client->get("$at$run?projectId=x",
                    Authorization => "Bearer $credential")
       ->{header}{'x-credential'}, $type, "type at $at/: $type");
}

is($client->get($run)->{header}{'x-credential'}, 'none', 'type: none');

# keys are accepted as before, with or without projectId

for my $query ('', "?projectId=$project", '?projectId=x&projectId=y') {
    is($client->get("$run$query",
                    Authorization => 'Bearer ' . key('alpha'))->{status}, 200,
       "a key: $query");
}

is($client->get($run)->{status}, 401, 'neither key nor session');
is(decode_json($client->get($run)->{body})->{message}, 'Missing API key',
   'message: neither key nor session');


# the secret is not in the memory of a process after the key is made of it, and
# in no log; the same after a reload with a new secret

# the number of copies of the text in the memory of a process
sub copies {
    my ($pid, $text) = @_;

    my $copies = 0;

    # a sanitizer uses too much memory, and keeps freed memory
    return if $ENV{TEST_NGINX_LD_PRELOAD} || $ENV{TEST_NGINX_USE_VALGRIND};

    open my $mem, '<:raw', "/proc/$pid/mem" or return;

    for my $map (split /\n/, read_file("/proc/$pid/maps")) {
        no warnings 'portable';

        my ($from, $to) = map { hex } $map =~ /^(\w+)-(\w+) rw/ or next;

        sysseek $mem, $from, 0 or next;
        sysread $mem, my $bytes, $to - $from;
        $copies += () = ($bytes // '') =~ /\Q$text\E/g;
    }

    return $copies;
}

# the state of the inner hash of HMAC-SHA256 after the key, as in OpenSSL
sub hash_state {
    my ($text) = @_;

    my $block = $text . "\0" x (64 - length $text) ^ "\x36" x 64;
    my ($words) = Digest::SHA->new(256)->add($block)->getstate
                  =~ /^H((?::\w+){8})$/m;

    return pack 'L8', map { hex } $words =~ /\w+/g;
}

unlike(read_file($nginx->{log}), qr/\Q$secret\E/,
       'no secret in the log at level debug');
unlike(join("\n", grep { /lunary/ } split /\n/, read_file($nginx->{log})),
       qr/\Q$good\E/, 'no token in a line of the module');

SKIP: {
    skip 'the memory cannot be read', 4 if !defined copies($nginx->{pid}, 'x');

    for my $pid ($nginx->{pid}, $nginx->worker_pids) {
        is(copies($pid, $secret), 0, 'no secret in memory');
        is(copies($pid, hash_state($secret)), 1, 'one key in memory');
    }
}

secret_file('reloaded', "$other\n");
$nginx->reload or fail('no reload');
$client = Lunary::Client->new(port => $nginx->{port});

refused('the old secret after a reload', 'invalid', $good);
refused('the new secret after a reload', 'project', token(secret => $other),
        query => '');

SKIP: {
    skip 'the memory cannot be read', 6 if !defined copies($nginx->{pid}, 'x');

    for my $pid ($nginx->{pid}, $nginx->worker_pids) {
        is(copies($pid, hash_state($secret)), 0, 'the key is overwritten');
        is(copies($pid, $other), 0, 'no new secret in memory');
        is(copies($pid, hash_state($other)), 2, 'two new keys in memory');
    }
}

# a reload that fails keeps the old secret

my $log = $nginx->mark;
secret_file('reloaded', '');
$nginx->signal('HUP');
wait_until { $nginx->log_since($log) =~ /there is no secret in/ } 20, 'emerg';
refused('a token while the new file is empty', 'project',
        token(secret => $other), query => '');

$nginx->{allow} = qr/there is no secret in/;
$nginx->stop;

done_testing();
