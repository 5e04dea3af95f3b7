# conf/status.html in a browser: it draws the metrics of a real nginx, computes
# the right values from made-up ones, shows when the database or nginx is down,
# requests nothing from other servers, and is readable in both colour schemes
# and on a phone.
#
# SCREENSHOT=file saves a picture of the page.

use strict;
use warnings;
use utf8;

use lib 't/lib';
use JSON::PP ();
use Lunary::Browser;
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::System qw( project_dir read_file tmpdir write_file );
use Lunary::Test qw( key related_uri );
use Test::More;
use Time::HiRes qw( sleep time );

binmode Test::More->builder->$_, ':encoding(UTF-8)'
    for qw( output failure_output todo_output );

plan skip_all => 'not with a sanitizer or valgrind'
    if $ENV{SANITIZE} || $ENV{VALGRIND};

if (!Lunary::Browser::available()) {
    plan skip_all => 'no chromium-driver' if !$ENV{CI};
    fail 'chromium and chromedriver are there';
}

my $json = JSON::PP->new->allow_nonref->ascii;
my $dir = tmpdir('page');
my $pg = Lunary::Pg->new;

write_file("$dir/status.html", read_file(project_dir()
                                         . '/conf/status.html'));

# Content-Security-Policy, as in demo.conf
my ($policy) = read_file(project_dir() . '/conf/demo.conf')
               =~ /"(default-src [^"]+)"/;

my $nginx = Lunary::Nginx->new(allow => qr/exited on signal/,
    http => 'lunary_database "' . $pg->conninfo . '";',
    config => <<"EOF_CONFIG")->start;
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related\$" {
            lunary_related_runs \$run_id;
        }
        location = /lunary/metrics {
            lunary_status;
        }
        location = /lunary/status {
            default_type text/html;
            alias $dir/status.html;
            add_header Content-Security-Policy "$policy";
        }
EOF_CONFIG

my $browser = Lunary::Browser->new;
my $base = "http://127.0.0.1:$nginx->{port}";

sub get {
    my ($n, $key) = @_;

    return $nginx->client->get(related_uri($n), Connection => 'close',
        Authorization => 'Bearer ' . ($key // key('alpha')))->{status};
}

sub same {
    my ($expression, $want, $name, $seconds) = @_;

    my $ok = $browser->wait_js("($expression) === " . $json->encode($want),
                               $seconds || 5);
    ok $ok, $name or diag 'got: ', explain $browser->js("return $expression");
}

sub tile {
    return q{[...document.querySelectorAll('#tiles div')].find(t =>
        t.querySelector('dt').textContent === '} . $_[0]
        . q{').querySelector('dd').textContent};
}

sub said {
    return q{[...document.querySelectorAll('.chart')].map(c =>
        c.getAttribute('aria-label')).find(l => l.startsWith('} . $_[0]
        . q{:'))};
}

sub rows {
    return q{[...document.querySelectorAll('.card')].find(c =>
        c.querySelector('h2').textContent.startsWith('} . $_[0]
        . q{')).querySelector('.scroll').innerText};
}

my $state = q{document.getElementById('state').textContent};


# a real nginx

get(101) for 1 .. 5;
$browser->requests;
$browser->get("$base/lunary/status");

same $state, 'serving', 'it asks and says so', 10;
same tile('Connections busy'), '0 of 2', 'the connections', 10
    if $pg->sessions == 2;
ok $browser->wait_js('samples.length >= 2', 10), 'it asks again';

my $runs = $browser->js('return ' . tile('Runs served'));
is $runs =~ tr/,//dr, 30, 'runs of five responses';

get(101) for 1 .. 20;
get(101, '00000000-0000-4000-8000-00000000dead') for 1 .. 4;
ok $browser->wait_js(said('Requests') . q{.includes('denied')}, 10),
    'denied requests are drawn';
like $browser->js('return ' . said('Requests')),
    qr/^Requests: (?:[\d:APM ]+, )?ok [\d.]+, denied [\d.]+$/,
    'ok and denied requests are shown';
like $browser->js('return ' . said('Time')),
    qr/^Time: request, median [\d.]+ m?s, .*first row, 95 % [\d.]+ m?s$/,
    'times';
same rows('Hosts') . q{.trim().split('\n').length}, 2, 'its host';
like $browser->js('return document.getElementById("version").textContent'),
    qr/^\d+\.\d+\.\d+, nginx 1\.\d+\.\d+, libpq \d+\.\d+$/, 'versions';


# made-up metrics from here on: ten minutes of a busy day

$browser->js(<<'JS');
    paused = true;
    samples = [];
    window.clock = 1.8e12;
    window.fake = { counters: { requests: {}, database_errors: {},
        runs: 0, connects: 3, connect_failures: 1 },
        connections: { idle: 1, busy: 2, connecting: 0 },
        queue_length: 0,
        build: { version: '1.0.0', nginx: '1.22.1', libpq: '15.8' },
        hosts: [{ host: '10.0.0.11:5432', sessions: 8, connects: 31,
                  connect_failures: 2 },
                { host: '10.0.0.12:5432', sessions: 0, connects: 0,
                  connect_failures: 6 }] };
    const bounds = [.001, .01, .1, 1, null];
    for (const name of ['queue', 'first_row', 'request']) {
        fake[name + '_seconds'] = { count: 0, sum: 0,
            buckets: bounds.map(le => ({ le, count: 0 })) };
    }
    window.tell = (more, ms) => {
        for (const name in more.requests || {}) {
            fake.counters.requests[name] = (fake.counters.requests[name] || 0)
                                           + more.requests[name];
        }
        for (const name of ['first_row', 'request']) {
            const h = fake[name + '_seconds'];
            let sum = 0;
            (more[name] || []).forEach((n, i) => {
                sum += n;
                h.buckets[i].count += sum;
            });
            h.count += sum;
        }
        Object.assign(fake, more.set || {});
        Object.assign(fake.counters, more.counters || {});
        clock += ms === undefined ? 2000 : ms;
        add(clock, structuredClone(fake));
        draw();
    };
JS

sub pretend {
    my ($more, $ms) = @_;

    $browser->js('tell(arguments[0], arguments[1])', $more, $ms // 2000);
}

pretend({ requests => { ok => 100 } });
pretend({ requests => { ok => 60, cut => 1, error => 3 },
       first_row => [0, 10, 8, 2, 0], request => [20, 0, 0, 0, 0] });

is $browser->js('return ' . said('Requests')),
    'Requests: ok 30, error 1.5, cut 0.5', 'requests a second';
is $browser->js('return ' . tile('Requests a second')), '32', 'the rate';
is $browser->js('return ' . tile('Failed')), '6.25 %', 'those that failed';
is $browser->js('return ' . tile('First row, 95 %')), '550 ms',
    'a quantile, within its bucket';
is $browser->js('return ' . said('Time')), 'Time: request, median 0.5 ms,'
    . ' request, 95 % 0.95 ms, first row, median 10 ms, first row, 95 % 550 ms',
    'the others';
is $browser->js('return ' . rows('Hosts')) =~ s/\s+/ /gr =~ s/ $//r,
    'host sessions connects failures 10.0.0.11:5432 8 31 2'
    . ' 10.0.0.12:5432 0 0 6', 'hosts';
is $browser->js('return document.querySelector("td.bad").textContent'), '6',
    'the one that is away in another colour';
is $browser->js('return document.getElementById("version").textContent'),
    '1.0.0, nginx 1.22.1, libpq 15.8', 'the versions';
is $browser->js('return ' . said('Connections')),
    'Connections: idle 1, busy 2, connecting 0', 'connections';

pretend({ set => { queue_length => 17 }, first_row => [0, 0, 0, 0, 400] });
is $browser->js('return ' . said('Queue')), 'Queue: waiting 17', 'the queue';
is $browser->js('return ' . tile('First row, 95 %')), '1 s',
    'beyond the last bound it is that';

# nginx is restarted: all counters start from zero

pretend({ requests => { ok => -100, cut => -1, error => -1 } });
is $browser->js('return ' . said('Requests')), 'Requests: ok 30, error 1,'
    . ' cut 0', 'no less than nothing after a restart';

# a gap in the metrics is a gap in the charts

my $lines = q{document.querySelector('.chart path').getAttribute('d')
              .split('M').length - 1};
pretend({ requests => { ok => 10 } }, 60_000);
pretend({ requests => { ok => 10 } });
is $browser->js("return $lines"), 2, 'no line through a gap';

# markup is text

pretend({ counters => { database_errors => { '<img src=x>' => 7, 57 => 2 } } });
is $browser->js('return document.querySelectorAll("main img").length'), 0,
    'no markup from a response';
like $browser->js('return ' . rows('Errors')), qr/<img src=x>\s+7\s+7/,
    'markup is shown as text';

# no more than ten minutes are kept

srand 7;

for my $i (1 .. 310) {
    my $busy = $i > 115 && $i < 150;
    my $some = sub { int $_[0] * (0.8 + 0.4 * rand) };

    pretend({
        requests => { ok => $some->(300 + 60 * sin($i / 40)),
            denied => $some->($i % 97 ? 4 : 60), not_found => $some->(12),
            client_left => $some->(3), $busy ? (queue_full => $some->(90),
                                                queue_timeout => 30) : () },
        first_row => [60, $busy ? 100 : 300, $busy ? 230 : 30,
                      $busy ? 40 : $some->(3), 0],
        request => [10, 250, $some->($busy ? 200 : 90), $some->(5), 0],
        counters => { runs => 4_000 * $i, connects => 14,
                      database_errors => { 57 => 3, 53 => 1 } },
        set => { queue_length => $busy ? $some->(60) : 0,
            connections => { connecting => $i % 70 ? 0 : 1,
                             idle => $busy ? 0 : 3 + int($i / 30) % 3,
                             busy => ($busy ? 8 : 5 - int($i / 30) % 3)
                                     - ($i % 70 ? 0 : 1) } } });
}

cmp_ok $browser->js('return samples.length'), '<=', 301, 'ten minutes';

# selecting a time with the keyboard

$browser->js('document.querySelector(".chart").focus()');
my $latest = $browser->js('return ' . said('Requests'));
$browser->keys('Left', 'Left');
ok $browser->js('return document.querySelector(".cross") !== null'),
    'a moment is marked';
isnt $browser->js('return ' . said('Requests')), $latest,
    'the numbers of that time are shown';
$browser->js('document.activeElement.blur()');
is $browser->js('return ' . said('Requests')), $latest, 'the latest again';


# colours, and a phone

# the picture
sub picture {
    my ($name, $width, $height) = @_;

    my $file = $ENV{SCREENSHOT} or return;

    $file =~ s/(\.png)?$/$name.png/;
    $browser->cdp('Emulation.setDeviceMetricsOverride', { width => $width,
        height => $height, deviceScaleFactor => 1, mobile => \0 });
    $browser->js('paused = false; draw(); paused = true');
    cmp_ok $browser->screenshot($file), '<', 300 * 1024, $file;
    $browser->cdp('Emulation.clearDeviceMetricsOverride');
}

for my $scheme (qw( light dark )) {
    $browser->cdp('Emulation.setEmulatedMedia', { features => [
        { name => 'prefers-color-scheme', value => $scheme } ] });
    is_deeply $browser->contrast('script, style'), {}, "contrast, $scheme";
    picture($scheme eq 'light' ? '' : "-$scheme", 1280, 860);
}

$browser->cdp('Emulation.setDeviceMetricsOverride',
    { width => 390, height => 800, deviceScaleFactor => 1, mobile => \1 });
ok $browser->wait_js('document.documentElement.scrollWidth <= 390'),
    'the page is not wider than the phone';
cmp_ok $browser->js('return Math.max(...[...document.querySelectorAll('
    . '".chart svg *")].map(e => e.getBoundingClientRect().right))'), '<=',
    390, 'no chart is wider than the phone';
$browser->cdp('Emulation.clearDeviceMetricsOverride');
picture('-phone', 390, 1500);


# the button, then real failures

$browser->js('paused = false; samples = []');
ok $browser->wait_js('samples.length >= 1', 10), 'it goes on';
$browser->js('document.getElementById("pause").click()');
like $browser->js('return document.getElementById("when").textContent'),
    qr/^paused at /, 'a pause';
is $browser->js('return document.getElementById("pause")'
                . '.getAttribute("aria-pressed")'), 'true', 'the state of the button';
$browser->js('document.getElementById("pause").click()');

$pg->stop('immediate');
get(101);
same $state, 'the database is away', 'the database is away', 20;
$pg->start;
same $state, 'serving', 'the database is back', 20;

my @foreign = grep {
    !m{^(?:data|chrome):} && !m{^\Q$base\E/lunary/(?:status|metrics\?)}
} $browser->requests;
is_deeply \@foreign, [], 'no requests to other servers';
is_deeply [map { $_->{message} } grep { $_->{level} eq 'SEVERE' }
           $browser->log('browser')], [], 'no error in the console';

$nginx->stop('TERM');
same $state, 'no response from nginx', 'nginx is gone', 10;

$browser->close;
done_testing;
