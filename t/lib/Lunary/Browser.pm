package Lunary::Browser;

# A headless Chromium, controlled through chromedriver (WebDriver): the commands
# that the tests of the pages need.
#
# Packages: chromium chromium-driver chromium-sandbox

use strict;
use warnings;

use File::Temp qw( tempdir );
use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP ();
use MIME::Base64 qw( decode_base64 );
use POSIX ();
use Time::HiRes qw( sleep time );

our %KEY = (
    Enter => "\x{E007}", Escape => "\x{E00C}", Tab => "\x{E004}",
    Space => ' ', Shift => "\x{E008}", Home => "\x{E011}", End => "\x{E010}",
    Left => "\x{E012}", Up => "\x{E013}", Right => "\x{E014}",
    Down => "\x{E015}", PageUp => "\x{E00E}", PageDown => "\x{E00F}",
    Backspace => "\x{E003}", Control => "\x{E009}",
);


sub available {
    for my $name (qw( chromedriver chromium )) {
        grep { -x "$_/$name" } split(/:/, $ENV{PATH}), '/usr/bin'
            or return 0;
    }

    return 1;
}


sub new {
    my ($class, %arg) = @_;

    my $listen = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1)
        or die "no free port: $!\n";
    my $port = $listen->sockport;
    close $listen;

    my $dir = tempdir('lunary-browser.XXXXXX', TMPDIR => 1, CLEANUP => 1);
    my $pid = fork() // die "fork: $!\n";

    if ($pid == 0) {
        POSIX::setpgid(0, 0);
        open STDIN, '<', '/dev/null';
        open STDOUT, '>', "$dir/driver.log";
        open STDERR, '>&', \*STDOUT;
        $ENV{HOME} = $ENV{TMPDIR} = $dir;
        delete @ENV{qw( http_proxy HTTP_PROXY https_proxy HTTPS_PROXY
                        all_proxy ALL_PROXY )};
        exec('chromedriver', "--port=$port") or POSIX::_exit(127);
    }

    my $self = bless {
        pid => $pid, dir => $dir, url => "http://127.0.0.1:$port",
        http => HTTP::Tiny->new(timeout => 60, proxy => undef,
                                http_proxy => undef, https_proxy => undef),
        owner => $$,
    }, $class;

    my $until = time + 20;

    until (eval { $self->call('GET', '/status')->{ready} }) {
        die "chromedriver does not start\n" if time > $until;
        sleep 0.1;
    }

    my @args = qw( --headless --disable-gpu --disable-quic --no-first-run
                   --disable-background-networking --disable-sync
                   --disable-component-update --disable-dev-shm-usage
                   --hide-scrollbars --force-device-scale-factor=1 );

    push @args, '--no-sandbox' if $> == 0;
    push @args, "--user-data-dir=$dir/profile",
                '--window-size=' . ($arg{size} || '1440,900'),
                '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1';

    my $session = $self->call('POST', '/session', { capabilities => {
        alwaysMatch => {
            browserName => 'chrome',
            'goog:chromeOptions' => { args => \@args },
            'goog:loggingPrefs' => { browser => 'ALL', performance => 'ALL' },
        },
    } });

    $self->{session} = "/session/$session->{sessionId}";

    return $self;
}


sub call {
    my ($self, $method, $path, $body) = @_;

    my $json = JSON::PP->new->utf8->allow_nonref;
    my $res = $self->{http}->request($method, "$self->{url}$path", {
        headers => { 'Content-Type' => 'application/json' },
        defined $body ? (content => $json->encode($body)) : (),
    });

    die "WebDriver: $method $path: $res->{status} "
        . substr($res->{content}, 0, 500) . "\n" if !$res->{success};

    return $json->decode($res->{content})->{value};
}


sub session {
    my ($self, $method, $path, $body) = @_;

    return $self->call($method, $self->{session} . $path, $body);
}


sub get  { $_[0]->session('POST', '/url', { url => $_[1] }) }


sub js {
    my ($self, $code, @args) = @_;

    return $self->session('POST', '/execute/sync',
                          { script => $code, args => \@args });
}


# waits until an expression is true and returns its value, or undef at a timeout
sub wait_js {
    my ($self, $expression, $seconds) = @_;

    my $until = time + ($seconds || 10);

    while (1) {
        my $value = $self->js("return ($expression)");
        return $value if $value;
        return if time > $until;
        sleep 0.05;
    }
}


# presses keys by name, such as "Shift+Tab", or types text
sub keys {
    my ($self, @keys) = @_;

    my @actions;

    for my $key (@keys) {
        my @chord = $key =~ /^(\w{2,})\+(\w+)$/ ? ($1, $2) : ($key);
        my @press = @chord > 1 || exists $KEY{$key}
                    ? map({ $KEY{$_} // $_ } @chord) : ();

        if (@press) {
            push @actions, map({ { type => 'keyDown', value => $_ } } @press),
                           map({ { type => 'keyUp', value => $_ } }
                               reverse @press);

        } else {
            push @actions, map { { type => 'keyDown', value => $_ },
                                 { type => 'keyUp', value => $_ } }
                           split //, $key;
        }
    }

    $self->session('POST', '/actions', { actions => [
        { type => 'key', id => 'keyboard', actions => \@actions },
    ] });
}


# the contrast of visible text and its background where it is less than 4.5, as
# { element => contrast }; elements in $without are skipped
sub contrast {
    my ($self, $without) = @_;

    return $self->js(<<'JS', $without);
    const canvas = document.createElement('canvas').getContext('2d');
    const rgb = c => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = c;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data]; };
    const light = c => c.slice(0, 3).map(x => x / 255).map(
        x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4)
        .reduce((s, x, i) => s + x * [.2126, .7152, .0722][i], 0);
    const bad = {};
    const walk = document.createTreeWalker(document.body,
                                           NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const e = walk.currentNode.parentElement;
        if (!walk.currentNode.data.trim() || !e.checkVisibility()
            || e.closest(arguments[0]))
            continue;
        let b = e, back;
        do { back = rgb(getComputedStyle(b).backgroundColor); }
        while (back[3] < 255 && (b = b.parentElement));
        if (!b) back = [255, 255, 255];
        const style = getComputedStyle(e);
        const [x, y] = [light(rgb(e.closest('svg') ? style.fill
                                                   : style.color)),
                        light(back)];
        const ratio = (Math.max(x, y) + .05) / (Math.min(x, y) + .05);
        if (ratio < 4.5)
            bad[e.tagName + '.' + e.className] = ratio.toFixed(2);
    }
    return bad;
JS
}


# a command of the Chrome DevTools Protocol
sub cdp {
    my ($self, $cmd, $params) = @_;

    return $self->session('POST', '/goog/cdp/execute',
                          { cmd => $cmd, params => $params || {} });
}


sub log {
    my ($self, $type) = @_;

    return @{ $self->session('POST', '/se/log', { type => $type }) };
}


# addresses of all requests since the last call
sub requests {
    my ($self) = @_;

    my @urls;

    for my $entry ($self->log('performance')) {
        my $message = JSON::PP->new->decode($entry->{message})->{message};

        push @urls, $message->{params}{request}{url}
            if $message->{method} eq 'Network.requestWillBeSent';
    }

    return @urls;
}


sub screenshot {
    my ($self, $file) = @_;

    my $png = decode_base64($self->session('GET', '/screenshot'));

    open my $fh, '>:raw', $file or die "$file: $!\n";
    print $fh $png;
    close $fh or die "$file: $!\n";

    return length $png;
}


sub close {
    my ($self) = @_;

    my $pid = delete $self->{pid} or return;

    eval { $self->session('DELETE', '') } if $self->{session};
    kill TERM => -$pid;
    waitpid $pid, 0;
}


sub DESTROY {
    my ($self) = @_;

    local ($?, $@);
    $self->close if $self->{owner} == $$;
}


1;
