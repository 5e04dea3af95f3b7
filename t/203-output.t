# Large responses through nginx's ways of output: sendfile, threads, direct I/O,
# gzip, subrequests, HTTP/2 and its windows.
#
# Packages: nghttp2-client

use strict;
use warnings;

use lib 't/lib';
use Lunary::Client qw( await frame );
use Lunary::Load qw( big_pg grow idle worker );
use Lunary::Nginx;
use Lunary::Test;
use Lunary::System qw( read_file run_cmd wait_until );
use Test::More;
use Time::HiRes qw( sleep time );

my $pg = big_pg();
my $uri = grow($pg, 2_000_000, runs => 700, bytes => 6000);
my $small = grow($pg, 1_000_000, runs => 10);
my $medium = grow($pg, 3_000_000, runs => 60, bytes => 6000);

my %ways = (
    sendfile => 'sendfile on;',
    chunk => 'sendfile on; sendfile_max_chunk 16k; tcp_nopush on;',
    read => 'sendfile off;',
    narrow => 'sendfile off; output_buffers 1 512;',
    aio => 'sendfile off; aio threads;',
    aiosend => 'sendfile on; aio threads; aio_write on;',
    directio => 'directio 4k; sendfile on; aio threads;',
    gzip => 'gzip on; gzip_types *; gzip_min_length 0;',
    gzipslow => 'gzip on; gzip_types *; gzip_proxied any; gzip_buffers 2 1k;
                 sendfile on;',
    postpone => 'postpone_output 1; sendfile on;',
    postponed => 'postpone_output 1m; sendfile off;',
    sub => "sub_filter_types *; sub_filter_once off;
            sub_filter 'some_tex' 'some_tex';",
    lowat => 'send_lowat 8k;',
);

my @files = (file => '', limited => 'lunary_max_temp_file_size 1m;',
             paused => 'lunary_max_temp_file_size 0;');
my $locations = '';

for my $way (sort keys %ways) {
    for (my $i = 0; $i < @files; $i += 2) {
        $locations .= <<"EOF_CONFIG";
        location ~ "^/$way/$files[$i]/v1/runs/(?<run_id>[^/]+)/related\$" {
            $ways{$way}
            $files[$i + 1]
            lunary_related_runs \$run_id;
        }
EOF_CONFIG
    }
}

my ($plain, $h2, $h2s) = map { Lunary::System::free_port() } 1 .. 3;

my $nginx = Lunary::Nginx->new(
    main => 'thread_pool default threads=4;',
    http => 'lunary_database "' . $pg->conninfo . qq{";
        lunary_pool max=6;
        lunary_buffers 64k max=256k;
        lunary_query_timeout 30s;
        lunary_queue 64 timeout=20s;
        lunary_temp_path lunary_temp;
        send_timeout 4s;},
    server => "listen 127.0.0.1:$plain sndbuf=64k;
               listen 127.0.0.1:$h2 http2 sndbuf=64k;
               http2_chunk_size 4k;",
    config => $locations . <<'EOF_CONFIG')->start;
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
        location /ssi/ {
            ssi on;
            default_type text/html;
            root html;
        }
EOF_CONFIG

my $worker = worker($nginx);

sub ask {
    my ($uri, %more) = @_;

    return Lunary::Client->stream(port => $plain, uri => $uri, %more);
}

sub ask2 {
    my ($uri, %more) = @_;

    return Lunary::Client::Http2->stream(port => $h2, uri => $uri, %more);
}

sub spools {
    return scalar grep { (readlink($_) // '') =~ m{/lunary_temp/} }
                  glob "/proc/$worker/fd/*";
}

my $good = Lunary::Client->stream(port => $nginx->{port}, uri => $uri)->rest;
my ($md5, $length) = ($good->md5, $good->{length});
ok($good->{whole}, 'complete');
cmp_ok($length, '>', 4_000_000, 'it is large');


# each way, with and without a file, to a client that pauses

for my $way (sort keys %ways) {
    my @names = map { $files[2 * $_] } 0 .. 2;
    my @gzip = $way =~ /gzip/ ? (headers => { 'Accept-Encoding' => 'gzip' })
                              : ();
    my (@all, %texts);

    for my $name (@names) {
        push @all, ask("/$way/$name$uri", @gzip, rcvbuf => 16384,
                       name => $name, each => sub {
                           $texts{$name} .= $_[0] if @gzip;
                       });
    }

    $_->take(10_000) for @all;
    sleep 0.3;
    ok(!(grep { !$_->{over} } await(20, @all)), "$way: all responses end");

    for my $in (@all) {
        my $name = "$way, $in->{name}";

        ok($in->{whole}, "$name: complete");

        if (@gzip) {
            require Compress::Zlib;
            is($in->{header}{'content-encoding'}, 'gzip', "$name: gzip");

            my $text = Compress::Zlib::memGunzip($texts{$in->{name}}) // '';
            is(Digest::MD5::md5_hex($text), $md5, "$name: unchanged");
            next;
        }

        is($in->md5, $md5, "$name: unchanged");
    }

    # clients that leave
    my @leave = map { ask("/$way/$_$uri", @gzip, rcvbuf => 16384)
                      ->take(30_000) } @names;
    $_ % 2 ? $leave[$_]->reset : $leave[$_]->close for 0 .. $#leave;
    ok(idle($pg), "$way: clients that left hold no connection");
}

ok(wait_until { !spools() } 5, 'no file is left open');


# responses by each way on one connection

my $client = Lunary::Client->new(port => $plain)->connect;
my $socket = $client->{socket};
my @wrong;

for my $way (map { ($_) x 2 } sort keys %ways) {
    for my $which ($small, $medium) {
        my $answer = $client->get("/$way/file$which", Authorization =>
                                  'Bearer ' . key('alpha'));
        push @wrong, $way
            if ($client->{socket} // 0) != $socket || !$answer->{whole}
               || $which eq $medium && length $answer->{body} < 360_000;
    }
}

is("@wrong", '', 'one connection, each way in turn');
$client->close;


# SSI pages with large parts; each subrequest has the Authorization header

mkdir "$nginx->{dir}/html/ssi";
Lunary::System::write_file("$nginx->{dir}/html/ssi/$_->[0]", $_->[1]) for
    [one => qq{<<!--# include virtual="$uri" -->>}],
    [three => join ',', '<', map({ qq{<!--# include virtual="$_" -->} }
                                 $uri, $small, $uri), '>'],
    [pause => join ',', map { qq{<!--# include virtual="/read/paused$_" -->} }
                            $uri, $uri];

my $tiny = ask($small)->rest->{length};

for my $case ([one => $length + 2], [three => 2 * $length + $tiny + 6],
              [pause => 2 * $length + 1]) {
    my ($name, $expected) = @$case;
    my @all = (ask("/ssi/$name"),
               ask("/ssi/$name", rcvbuf => 16384)->take(20_000),
               ask2("/ssi/$name"));

    $_->rest for @all;
    is(join(' ', map { $_->{whole} ? $_->{length} : 'cut' } @all),
       "$expected $expected $expected", "a page with parts: $name");
}

my $left = ask('/ssi/three', rcvbuf => 16384)->take(20_000);
$left->close;
ok(idle($pg), 'a page whose client left');


# HTTP/2

for my $name (map { $files[2 * $_] } 0 .. 2) {
    for my $way (qw( sendfile read aio narrow )) {
        my $in = ask2("/$way/$name$uri")->rest;
        ok($in->{whole}, "HTTP/2, $way, $name: complete");
        is($in->md5, $md5, "HTTP/2, $way, $name: unchanged");
    }

    # a window that stays closed for a while, then opens by one byte
    my $in = ask2("/read/$name$uri", window => 20_000, hold => 1)->take(15_000);
    $in->rest(seconds => 0.5);
    is($in->{length}, 20_000, "HTTP/2, $name: not more than the window");

    $in->send(frame(8, 0, 1, pack 'N', 1));
    $in->rest(seconds => 0.2);
    is($in->{length}, 20_001, "HTTP/2, $name: one byte more");
    ok(idle($pg), "HTTP/2, $name: the connection is released meanwhile")
        if $name eq 'file';

    $in->{hold} = 0;
    $in->send(frame(8, 0, 1, pack 'N', 30_000));
    $in->rest;
    ok($in->{whole}, "HTTP/2, $name, small windows: complete");
    is($in->md5, $md5, "HTTP/2, $name, small windows: unchanged");

    # a stream that is reset while it waits
    $in = ask2("/read/$name$uri", window => 20_000, hold => 1)->take(20_000);
    $in->send(frame(3, 0, 1, pack 'N', 8));
    ok(idle($pg, 3), "HTTP/2, $name: a reset frees the connection");
    $in->close;

    # a connection that is reset
    $in = ask2("/read/$name$uri", window => 20_000, hold => 1)->take(20_000);
    $in->reset;
    ok(idle($pg, 3), "HTTP/2, $name: a client that leaves frees it");
}

my $shut = ask2($uri, window => 20_000, hold => 1)->take(20_000);
ok(wait_until { $shut->rest(seconds => 0.1); $shut->{over} } 15,
   'HTTP/2: a window closed for longer than send_timeout');
ok(!$shut->{whole}, 'HTTP/2: ends the response');

my ($status, $text) = run_cmd('h2load', '-n', '8', '-c', '2', '-m', '4', '-H',
    'Authorization: Bearer ' . key('alpha'), "http://127.0.0.1:$h2$uri");
like($text, qr/8 succeeded, 0 failed, 0 errored/, 'HTTP/2: many large streams')
    or diag($text);

ok(wait_until { !spools() } 5, 'no file is left open in the end');
ok(idle($pg), 'no connection is busy');

$nginx->stop;
done_testing();
