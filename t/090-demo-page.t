# The demonstration: "make demo" starts, the printed commands work, the page
# draws the traces, can be used with the keyboard and requests nothing from
# other servers, and Ctrl-C stops and removes everything.
#
# SCREENSHOT=file saves a picture of the page.

use strict;
use warnings;
use utf8;

use File::Basename qw( dirname );
use File::Spec;
use File::Temp qw( tempdir );
use IO::Socket::INET;
use JSON::PP qw( decode_json );
use POSIX ();
use Test::More;
use Time::HiRes qw( sleep time );

use lib File::Spec->rel2abs(dirname(__FILE__) . '/lib');
use Lunary::Browser;

my $top = File::Spec->rel2abs(dirname(__FILE__) . '/..');
my $module = $ENV{MODULE} || ($ENV{BUILD} || "$top/build")
             . '/ngx_http_lunary_module.so';

plan skip_all => 'not with a sanitizer in the module' if $ENV{SANITIZE};
plan skip_all => "no $module" if !-e $module;

binmode Test::More->builder->$_, ':encoding(UTF-8)'
    for qw( output failure_output todo_output );

$ENV{MODULE} = $module;
delete $ENV{PORT};
$SIG{ALRM} = sub { die "this takes too long\n" };

my %demo;
my $browser;


# starts the demonstration in its own process group, as a shell does

sub start {
    my (%env) = @_;

    pipe my $read, my $write or die "pipe: $!\n";

    my $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        POSIX::setpgid(0, 0);
        umask 077;
        $SIG{INT} = $SIG{TERM} = 'DEFAULT';
        $ENV{NGINX} = $ENV{TEST_NGINX_BINARY} if $ENV{TEST_NGINX_BINARY};
        @ENV{keys %env} = values %env;
        open STDIN, '<', '/dev/null';
        open STDOUT, '>&', $write;
        open STDERR, '>&', $write;
        close $read;
        exec("$top/conf/demo/run.sh") or POSIX::_exit(127);
    }

    close $write;
    POSIX::setpgid($pid, $pid);

    return (pid => $pid, out => $read, text => '');
}


# reads until the text matches, or to the end

sub read_until {
    my ($demo, $re, $seconds) = @_;

    alarm($seconds || 60);

    while ($demo->{text} !~ $re) {
        my $n = sysread $demo->{out}, $demo->{text}, 65536,
                        length $demo->{text};
        last if !$n;
    }

    alarm 0;

    utf8::decode(my $text = $demo->{text});
    return $text;
}


# waits at most this number of seconds for its exit status

sub reap {
    my ($demo, $seconds) = @_;

    my $until = time + $seconds;

    while (time < $until) {
        return $? if waitpid($demo->{pid}, POSIX::WNOHANG()) == $demo->{pid};
        sleep 0.05;
    }

    return;
}


# the processes with the directory in their command line, and the directories

sub left_behind {
    my ($dir) = @_;

    my @left = grep { -e } $dir;

    for my $file (glob '/proc/[0-9]*/cmdline') {
        open my $fh, '<', $file or next;
        local $/;
        my $line = <$fh> // '';
        push @left, "$file: $line" if index($line, $dir) >= 0;
    }

    return @left;
}


sub directories { glob(($ENV{TMPDIR} || '/tmp') . '/lunary-demo.*') }


END {
    local $?;
    $browser->close if $browser;

    if ($demo{pid} && kill(0, $demo{pid})) {
        kill TERM => $demo{pid};
        waitpid $demo{pid}, 0;
    }
}


# failures: the reason is printed, and nothing is left

my %before = map { $_ => 1 } directories();

sub new_directories { grep { !$before{$_} } directories() }

{
    my %failed = start(MODULE => '/nowhere/module.so');
    my $text = read_until(\%failed, qr/\z(?!.)x/s);

    is reap(\%failed, 10), 1 << 8, 'no module: status 1';
    like $text, qr{^demo: /nowhere/module\.so is not there: make$}m,
        'the reason is printed';
    is_deeply [new_directories()], [], 'no directory is left';

    my $taken = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1);

    %failed = start(PORT => $taken->sockport);
    $text = read_until(\%failed, qr/\z(?!.)x/s);

    is reap(\%failed, 10), 1 << 8, 'port taken: status 1';
    like $text, qr/port \d+ is taken/, 'the reason is printed';
    is_deeply [new_directories()], [], 'no directory is left';
}

# a signal while it starts

sub has_postgres {
    my @new = new_directories() or return;

    # the server's process, not its file
    return grep { /^\/proc.*postgres/ } left_behind("$new[0]/postgresql.conf");
}

for my $seconds (0.3, 1.2, 0) {
    my %stopped = start();
    my $when = "after $seconds s";

    if ($seconds) {
        sleep $seconds;

    } else {
        # bash starts postgres with SIGQUIT ignored
        $when = 'when postgres starts';
        my $until = time + 30;
        sleep 0.001 while !has_postgres() && time < $until;
        ok scalar has_postgres(), 'postgres starts';
    }

    kill TERM => $stopped{pid};
    read_until(\%stopped, qr/\z(?!.)x/s, 20);

    ok defined reap(\%stopped, 15), "SIGTERM $when ends it";
    is_deeply [new_directories()], [], 'no directory is left';
}


# a start as it should be, whatever the environment says

%demo = start(LC_ALL => 'xx_YY', PGHOST => '/nowhere', PGUSER => 'nobody',
              PGOPTIONS => '-x', http_proxy => 'http://127.0.0.1:9',
              TMPDIR => tempdir(CLEANUP => 1));

my $text = read_until(\%demo, qr/Ctrl-C/);
my ($base) = $text =~ m{(http://127\.0\.0\.1:\d+/)\s*$}m;
my ($dir) = $text =~ m{Logs are in (\S+)/logs};

ok $base && $dir, 'the demonstration starts'
    or do { diag $text; done_testing; exit };

my @samples;

while ($text =~ /^# (.+)\n(curl .+)$/mg) {
    push @samples, { title => $1, curl => $2 };
}

is @samples, 6, 'six samples are printed';
like `curl -sf ${base}status 2>&1`, qr/<title>Related runs: status</,
    'the page of what is counted is there';

for my $sample (@samples) {
    my $json = `$sample->{curl} -s -f 2>&1`;
    my $runs = eval { decode_json($json) };

    ok $runs && @$runs, "as printed: $sample->{title}" or diag $json;

    $sample->{runs} = $runs || [];
    ($sample->{id}) = $sample->{curl} =~ m{/v1/runs/([0-9a-f-]{36})/related};
}

my %by = map { $_->{title} => $_ } @samples;

is scalar @{ $by{'Research, 60 runs'}{runs} }, 60, '60 runs of research';

my ($with_session) = $text =~ /^With a session.*\n(curl .+)$/m;
my $as_member = `$with_session -s -f 2>&1`;

is_deeply eval { decode_json($as_member) }, $samples[0]{runs},
    'as printed: the first one with a session';


# the page

if (!Lunary::Browser::available()) {
    $ENV{CI} ? fail 'chromium and chromedriver are there'
             : diag 'no chromium-driver: the page is not tested';
    goto ctrl_c;
}

$browser = Lunary::Browser->new;
$browser->requests;                     # its own pages, while it started
$browser->get($base);

ok $browser->wait_js(q{document.querySelectorAll('.row').length == 12}),
    'the page shows the first sample';

is $browser->js(q{return document.querySelector('h1').textContent}),
    'parcel-agent', 'with its name';

is_deeply $browser->js(q{
    return [...document.querySelectorAll('#samples button')].map(
        b => [b.dataset.id, b.querySelector('b').textContent])
}), [map { [$_->{id}, $_->{title}] } @samples],
    'the page offers what run.sh prints';

my $shown = q{document.querySelectorAll('.row')};
my $active = q{(document.activeElement.getAttribute('aria-label') || '')};

sub rows   { $browser->js("return $shown.length") }
sub active { $browser->js("return $active") }
sub panel  { $browser->js('return document.getElementById("run").innerText') }
sub said   { $browser->js('return document.getElementById("said").innerText') }

sub same {
    my ($expression, $want, $name) = @_;

    my $ok = $browser->wait_js("($expression) === " . JSON::PP->new
                               ->allow_nonref->ascii->encode($want), 5);
    ok $ok, $name
        or diag 'got: ', explain $browser->js("return ($expression)");
}

like said(), qr/^parcel-agent: 12 runs, 9\.12 s$/, 'the summary is announced';

my $summary = $browser->js(
    q{return document.getElementById('summary').innerText});

like $summary, qr/\Q$_\E/, "the summary has $_"
    for '9.12 s', '1,122', '$0.00328', 'Marta Lindqvist', 'success', 'refund',
        '2026-11-10 21:48:04';

# the positions of the bars match the times

my ($root, @bars) = @{ $browser->js(<<'JS') };
    return [...document.querySelectorAll('.row')].map(r => {
        const b = r.querySelector('.bar').getBoundingClientRect();
        return [b.left, b.width];
    });
JS

my @runs = @{ $by{'Refund by an agent'}{runs} };
my $off = 0;

for my $i (0 .. $#bars) {
    my ($run) = grep { ($_->{startedAt} = $_->{createdAt}) && $_->{id} eq
        $browser->js('return document.querySelectorAll(".row")[arguments[0]]'
                     . '.dataset.id', $i + 1) } @runs;
    my $ms = (substr($run->{createdAt}, 17, 6)
              - substr($runs[0]{createdAt}, 17, 6)) * 1000;
    my $left = $root->[0] + $root->[1] * $ms / 9118;
    my $width = $root->[1] * $run->{duration} * 1000 / 9118;

    $off++ if abs($left - $bars[$i][0]) > 1.5
              || abs(($width < 4 ? 4 : $width) - $bars[$i][1]) > 1.5;
}

is $off, 0, 'every bar begins and ends at its time';


# the keyboard: one Tab stop for the tree, then arrows

$browser->js('document.body.focus()');
$browser->keys('Tab');
same q{document.activeElement.className}, 'skip', 'the first Tab: the trace';
$browser->keys('Enter');
like active(), qr/^parcel-agent, agent, success, 9\.12 s/, 'Enter goes there';

my $ring = q{getComputedStyle(document.activeElement).outlineStyle};
same $ring, 'solid', 'the focus can be seen';

$browser->keys('Down', 'Down');
like active(), qr/^gpt-4o-mini, llm, success, 1\.26 s, 149 tokens, \$0\.0000363/,
    'two down';
$browser->keys('Left');
like active(), qr/^understand/, 'left: the parent';
$browser->keys('Left');
is rows(), 11, 'left again folds';
same q{document.activeElement.getAttribute('aria-expanded')}, 'false',
    'a folded run has aria-expanded false';
$browser->keys('Right');
is rows(), 12, 'right unfolds';
$browser->keys('Right');
like active(), qr/^gpt-4o-mini/, 'right again: the first child';
$browser->keys('End');
like active(), qr/^gpt-4o, llm, success, .* thumbs up$/, 'End: the last run';
$browser->keys('Home', 'Left');
is rows(), 1, 'the root folds all';
$browser->keys('Right', 'End', 'Enter');

same q{document.activeElement.id}, 'run-name', 'Enter opens the run';

my $panel = panel();

like $panel, qr/\Q$_\E/, "the panel has $_"
    for 'Solved in one mail. Thank you!', '266 (214 prompt, 52 completion)',
        '$0.00105', 'helpdesk-answer', 'Hi Marta, I am sorry about the wait.',
        'You write for the parcel desk', 'maxTokens', 'timeToFirstTokenMs';

$browser->keys('Escape');
same q{document.querySelectorAll('#run *').length}, 0, 'Escape closes it';
like active(), qr/^gpt-4o, llm/, 'the row has the focus again';

$browser->keys('Up', 'Up', 'Up', 'Space');
like panel(), qr/calls payments_refund.*amount: "48\.90"/s,
    'a tool call with its arguments';
$browser->keys('Shift+Tab');
$browser->js('document.querySelector(".row[tabindex=\"0\"]").focus()');
$browser->keys('Down');
like panel(), qr/payments\.refund.*idempotencyKey/s,
    'the panel follows the arrows';

# the JSON of the first section

$browser->js('document.querySelector("#run .part .tool").focus()');
$browser->keys('Enter');
like panel(), qr/\{\n  "order": "58-1140",\n  "amount"/, 'a value as JSON';
$browser->keys('Escape');


# all other samples, selected with the keyboard

sub pick {
    my ($title) = @_;

    $browser->js(q{
        for (const b of document.querySelectorAll('#samples button')) {
            if (b.querySelector('b').textContent == arguments[0]) {
                b.focus();
            }
        }
    }, $title);
    $browser->keys('Enter');
    ok $browser->wait_js(
        "asking === null"
        . " && document.querySelector('#samples button[aria-current]')"
        . ".querySelector('b').textContent === " . JSON::PP->new
        ->allow_nonref->encode($title)
        . ' && document.getElementById("tree").ariaRowCount === "'
        . scalar(@{ $by{$title}{runs} }) . '"'), "picked: $title";
    $browser->js('document.querySelector(".row[tabindex=\"0\"]").focus()');
}

pick('Chat thread with feedback');
like $browser->js(q{return document.getElementById('tree').innerHTML}),
    qr/thumbs up.*thumbs down/s, 'thumbs up and down';
$browser->keys('Enter');
like panel(), qr/Messages\s+6/, 'the number of messages of the thread';
like panel(), qr/me he mudado/, 'the first message';
$browser->keys('Escape', 'Down', 'Down', 'Enter');
like panel(), qr/Thread’s feedback\s+thumbs up/, 'the feedback above a run';
$browser->keys('Escape');

pick('A run that failed');
is $browser->js(q{return document.querySelectorAll('.failed').length}), 5,
    'five runs failed';
like active(), qr/^invoice-import, agent, error, 48\.2 s/,
    'the label of a failed run';
$browser->keys('Enter');
like panel(), qr/Error.*The model is overloaded after 3 attempts.*Output\s+none/s,
    'an error, and no output';
$browser->keys('Escape');

pick('Research, 60 runs');
is $browser->js('return document.querySelector("[aria-level=\"4\"]") !== null'),
    JSON::PP::true, 'four levels';
$browser->keys('PageDown', 'PageDown', 'End');
same q{(() => { const r = document.activeElement.getBoundingClientRect();
       return r.top > 100 && r.bottom <= innerHeight })()}, JSON::PP::true,
    'the last row is scrolled to';

pick('Code review, still running');
like active(), qr/^code-review, agent, running, running/, 'a run without end';
$browser->keys('Down', 'Down', 'Enter');
like panel(), qr/<img src=x onerror="alert\(document\.cookie\)"> or <\/script>/,
    'markup is text';
is $browser->js(q{return document.querySelectorAll('main img, main script, '
                + 'aside img, aside script, main b b').length}), 0,
    'only text';
$browser->keys('Escape', 'End', 'Enter');
like panel(), qr/Input\s+none\s+Output.*empty text/s, 'empty values';
$browser->keys('Escape');

pick('Parents in a cycle');
is_deeply $browser->js(q{return [...document.querySelectorAll('.row')].map(
    r => r.getAttribute('aria-level'))}), [qw( 1 2 3 )],
    'a cycle is cut where it was asked for';


# a made-up response with any JSON

sub pretend {
    my ($status, $body) = @_;

    $browser->js(<<'JS', $status, $body);
        window.realFetch = window.realFetch || window.fetch;
        window.fetch = async () => new Response(arguments[1],
            { status: arguments[0], headers: { 'Retry-After': '3' } });
        show('00000000-0000-4000-8000-000000000001');
JS
}

sub run_with {
    my ($fields) = @_;

    pretend(200, '[{"id":"00000000-0000-4000-8000-000000000001","type":"llm",'
            . '"createdAt":"2026-01-01T00:00:00.000Z"' . $fields . '}]');
    $browser->wait_js('document.querySelectorAll(".row").length === 1');
    $browser->js('document.querySelector(".row").focus()');
    $browser->keys('Enter');
    return panel();
}

like run_with(''), qr/llm/, 'a run with hardly a field';

for my $value ('0', 'false', '""', '"text"', '[]', '{}', '[[]]', '[null]',
               '{"":{"":""}}', '{"role":"user"}', '{"role":1,"content":2}',
               '[{"role":"x","content":null}]', '{"__proto__":{"a":1}}',
               '[{"role":"user","content":[1,null,{"text":"t"},{"a":[]}]}]',
               '[{"role":"a","content":"","toolCalls":[null,1,{"function":7}]}]',
               '[' x 3000 . ']' x 3000)
{
    my $short = length $value > 60 ? substr($value, 0, 20) . '...' : $value;

    ok run_with(",\"input\":$value,\"output\":$value,\"error\":$value,"
                . "\"params\":$value,\"metadata\":$value,\"tags\":$value,"
                . "\"feedback\":$value,\"parentFeedback\":$value,"
                . "\"firstMessage\":$value,"
                . "\"user\":{\"id\":\"1\",\"props\":$value}"),
        "a panel for $short";
}

like run_with(',"output":12345678901234567890.10'),
    qr/12345678901234567890\.10/, 'a number to the letter';

pretend(200, '[{"id":"a","type":"x","createdAt":"2026-01-01T00:00:00.000Z",'
        . '"parentRunId":"gone"},{"id":"b","type":"x","parentRunId":"b",'
        . '"createdAt":"2026-01-01T00:00:00.000Z"},{"id":"c","type":"x",'
        . '"parentRunId":"a","createdAt":"nonsense"}]');
same 'document.querySelectorAll(".row").length', 3,
    'orphans, and a run that is its own parent';

# a trace much larger than a screen

$browser->js(<<'JS');
    const runs = [];
    for (let i = 0; i < 20000; i++) {
        runs.push({ id: 'r' + i, type: 'tool', name: 'run ' + i,
            createdAt: new Date(1.7e12 + i).toISOString(), duration: 1,
            parentRunId: i ? 'r' + Math.floor((i - 1) / 4) : undefined });
    }
    window.fetch = async () => new Response(JSON.stringify(runs));
    show('r0');
JS

same 'document.getElementById("tree").ariaRowCount', '20000',
    'a trace of 20,000 runs';
cmp_ok rows(), '<', 100, 'of which those in view are drawn';
$browser->js('document.querySelector(".row").focus()');
$browser->keys('PageDown', 'PageDown', 'PageDown', 'PageDown', 'Enter');
like panel(), qr/^run \d+/, 'one far down opens';
$browser->keys('Escape', 'End');
same 'trace.active.index', 19999, 'End goes to the last';
like active(), qr/^run \d+,/, 'which has the focus';
$browser->keys('Home', 'Left');
is rows(), 1, 'everything is folded';

for ([405, 'Error 405'], [500, 'Error 500'], [503, 'Error 503'],
     [504, 'Error 504'])
{
    my ($status, $head) = @$_;

    pretend($status, '{"message":"Told so"}');
    same 'document.querySelector("#message h2").textContent', $head, $head;
    like $browser->js('return document.getElementById("message").innerText'),
        qr/Told so.*It is worth a try in 3 s.*Try again/s, 'with its message';
}

pretend(200, '[{"id":"broken');
same 'document.querySelector("#message h2").textContent', 'No trace',
    'a response that is not JSON';

$browser->js('window.fetch = window.realFetch');


# error responses of the real server

sub ask_for {
    my ($id, $key) = @_;

    $browser->js(q{
        document.getElementById('id').value = '';
        document.getElementById('key').value = '';
        document.getElementById('id').focus();
    });
    $browser->keys($id, 'Tab', $key, 'Enter');
}

my ($key) = $samples[0]{curl} =~ /Bearer ([0-9a-f-]{36})/;

ask_for($samples[0]{id}, '00000000-0000-4000-8000-00000000abcd');
same 'document.querySelector("#message h2").textContent', 'Not allowed',
    'an unknown key';
like said(), qr/Invalid API key/, 'with the message of the response';
same 'document.activeElement.id', 'key', 'the field of the key has the focus';

ask_for('00000000-0000-4000-8000-00000000abcd', $key);
same 'document.querySelector("#message h2").textContent', 'Run not found',
    'a run that is none';

ask_for('a/b?c#d%', $key);
ok $browser->wait_js(
    'document.querySelector("#message p").textContent.includes("a/b?c#d%")'),
    'an id that is none';

# a session instead of a key

sub credential {
    $browser->js('return document.querySelector(".took").innerText')
}

ask_for($samples[0]{id}, $key);
ok $browser->wait_js('document.querySelectorAll(".row").length === 12'),
    'the key again';
like credential(), qr/to a key$/, 'the page says that a key opened the trace';

ask_for($samples[0]{id}, $key);
ok $browser->wait_js(
    'document.querySelector(".took").innerText.startsWith("not modified")'),
    'asked for again it is not modified';
is rows(), 12, 'the same trace';

$browser->js('document.getElementById("as-session").focus()');
$browser->keys('Enter');
ok $browser->wait_js(
    'document.querySelector(".took").innerText.endsWith("to a session")'),
    'one button further a session opens it';
is rows(), 12, 'the same trace';
same 'document.getElementById("as-session").ariaPressed', 'true',
    'the button says so';

my $session = $browser->js('return document.getElementById("key").value');

ask_for('00000000-0000-4000-8000-00000000abcd', $session);
same 'document.querySelector("#message h2").textContent', 'Run not found',
    'a run that is none, for a session';

ask_for($samples[0]{id}, $session =~ s/\.[^.]*$/.c2lnbmF0dXJl/r);
same 'document.querySelector("#message h2").textContent', 'Not allowed',
    'a session without a signature';
like said(), qr/Invalid access token/, 'with the message of the response';

$browser->js('document.getElementById("as-key").click()');
same 'document.getElementById("key").value', $key, 'back to the key';

ask_for(uc $samples[1]{id}, uc $key);
ok $browser->wait_js('document.querySelectorAll(".row").length === 10'),
    'another run, in capitals';


# contrast of text and background, in both colour schemes

for my $scheme (qw( light dark )) {
    $browser->cdp('Emulation.setEmulatedMedia', { features => [
        { name => 'prefers-color-scheme', value => $scheme } ] });

    for my $title ('Refund by an agent', 'A run that failed',
                   'Code review, still running')
    {
        pick($title);
        $browser->keys('Down', 'Enter');
        is_deeply $browser->contrast('script, style, .hidden, .skip, svg'), {},
            "contrast, $scheme: $title";
        $browser->keys('Escape');
    }
}

$browser->cdp('Emulation.setEmulatedMedia', { features => [
    { name => 'prefers-color-scheme', value => 'light' } ] });


# a narrow screen

$browser->cdp('Emulation.setDeviceMetricsOverride',
    { width => 390, height => 800, deviceScaleFactor => 1, mobile => \1 });
pick('Refund by an agent');
ok $browser->js('return document.documentElement.scrollWidth <= 390'),
    'nothing sticks out of a telephone';
$browser->keys('Enter');
like panel(), qr/parcel-agent/, 'a run fills it';
$browser->keys('Escape');
$browser->cdp('Emulation.clearDeviceMetricsOverride');


# the picture

if (my $file = $ENV{SCREENSHOT}) {
    $browser->cdp('Emulation.setDeviceMetricsOverride',
        { width => 1440, height => 780, deviceScaleFactor => 1,
          mobile => \0 });
    $browser->get($base);
    pick('Refund by an agent');
    $browser->keys('Down', 'Down', 'Down', 'Down', 'Down', 'Down', 'Down',
                   'Down', 'Enter');
    $browser->js('document.activeElement.blur()');
    sleep 0.3;
    cmp_ok $browser->screenshot($file), '<', 300 * 1024, "$file";
    $browser->keys('Escape');
    $browser->cdp('Emulation.clearDeviceMetricsOverride');
}


# the requests of the page, and their servers

my @urls = $browser->requests;
my @foreign = grep {
    $_ ne $base && !m{^(?:data|chrome):} && !m{^\Q$base\Ev1/runs/[^/]+/related(?:\?projectId=[0-9a-f-]{36})?$}
    && !m{^\Q$base\E#}
} @urls;

cmp_ok scalar @urls, '>', 6, 'requests were seen';
is_deeply \@foreign, [], 'all requests are for the page and the endpoint';

my @complaints = grep {
    $_->{level} eq 'SEVERE' && $_->{message} !~ /status of 40[14]/
} $browser->log('browser');

is_deeply [map { $_->{message} } @complaints], [], 'no error in the console';


# without the database, then without nginx

if (open my $fh, '<', "$dir/data/postmaster.pid") {
    chomp(my $pid = <$fh>);
    kill QUIT => $pid;
    for (1 .. 100) { last if !-e "$dir/data/postmaster.pid"; sleep 0.05 }
}

$browser->js('show(arguments[0])', $samples[2]{id});
ok $browser->wait_js(
    '(document.querySelector("#message h2") || {}).textContent === "Error 503"',
    20), 'the database is gone: 503';


ctrl_c:

# Ctrl-C: the terminal sends SIGINT to the whole group

kill INT => -$demo{pid};
my $status = reap(\%demo, 15);
is $status, 0, 'Ctrl-C ends it';
is_deeply [left_behind($dir)], [], 'nothing is left';
delete $demo{pid};

if ($browser) {
    $browser->js('show(arguments[0])', $samples[0]{id});
    ok $browser->wait_js(
        'document.querySelector("#message h2").textContent === "No response"'),
        'the page says that the server is gone';
}

done_testing;
