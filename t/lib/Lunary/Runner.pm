package Test::Nginx::Socket;

# The part of Test::Nginx::Socket that the tests here use, for machines
# without it.  A block of a test file starts an nginx of its own, sends its
# requests, and holds answer and error log against what the block says.
#
# Sections: main_config, http_config, config, post_main_config, user_files,
# request, pipelined_requests, raw_request, raw_request_middle_delay,
# more_headers, server_name, timeout, wait,
# abort, shutdown, ignore_response, error_code, error_code_like,
# response_headers, response_headers_like, raw_response_headers_like,
# raw_response_headers_unlike, response_body, response_body_like,
# response_body_unlike, response_body_filters, error_log, no_error_log,
# access_log, no_access_log, grep_error_log, grep_error_log_out, log_level,
# must_die, suppress_stderr, skip_nginx, skip_eval, init,
# post_setup_server_root, and SKIP, ONLY, LAST of Test::Base.

use strict;
use warnings;

use Test::Base -base;

use File::Path qw( make_path remove_tree );
use File::Spec ();
use IO::Socket::INET;
use List::Util ();
use Lunary::System qw( kill_wait patience read_file run_cmd wait_until
                     write_file );
use POSIX ();
use Time::HiRes qw( sleep time );

our @EXPORT = qw(
    run_tests repeat_each plan timeout workers worker_connections
    master_on master_off master_process_enabled log_level
    no_shuffle no_long_string no_root_location
    config_preamble env_to_nginx server_addr server_name server_port
    server_port_for_client server_root html_dir bail_out
    add_block_preprocessor add_response_body_check add_cleanup_handler
    add_test_cleanup_handler check_accum_error_log no_nginx_manager use_hup
    is_str $ServerPort $ServerPortForClient $ServerAddr $ServerName
    $NginxVersion
);

our $ServerPort = $ENV{TEST_NGINX_SERVER_PORT} || $ENV{TEST_NGINX_PORT}
                  || 1984;
our $ServerPortForClient = $ENV{TEST_NGINX_CLIENT_PORT} || $ServerPort;
our $ServerAddr = '127.0.0.1';
our $ServerName = 'localhost';
our $NginxVersion;

my $binary = $ENV{TEST_NGINX_BINARY} || 'nginx';
my $root = $ENV{TEST_NGINX_SERVROOT} || File::Spec->rel2abs('t/servroot');
my $level = $ENV{TEST_NGINX_LOG_LEVEL} || 'debug';
my $default_timeout = $ENV{TEST_NGINX_TIMEOUT} || 3;
my $master = $ENV{TEST_NGINX_MASTER_PROCESS} || 'off';
my $ordered = $ENV{TEST_NGINX_NO_SHUFFLE} || 0;
my ($repeat, $workers, $connections) = (1, 1, 64);
my ($root_location, $preamble, $all_of_log) = (1, '', 0);
my (@env, @preprocessors, @body_checks, @cleanups, @test_cleanups);
my ($nginx_pid, $log_pos, $previous_config) = (undef, 0, undef);
my $owner = $$;

$ENV{TEST_NGINX_SERVER_ROOT} = $root;
$ENV{TEST_NGINX_SERVER_PORT} //= $ServerPort;


# settings

sub setting {
    my ($ref, @value) = @_;

    $$ref = $value[0] if @value;
    return $$ref;
}

sub repeat_each (@)            { setting(\$repeat, @_) }
sub timeout (@)                { setting(\$default_timeout, @_) }
sub workers (@)                { setting(\$workers, @_) }
sub worker_connections (@)     { setting(\$connections, @_) }
sub log_level (@)              { setting(\$level, @_) }
sub server_addr (@)            { setting(\$ServerAddr, @_) }
sub server_name (@)            { setting(\$ServerName, @_) }
sub server_port (@)            { setting(\$ServerPort, @_) }
sub server_port_for_client (@) { setting(\$ServerPortForClient, @_) }
sub config_preamble ($)        { $preamble = shift }
sub master_on ()               { $master = 'on' }
sub master_off ()              { $master = 'off' }
sub no_shuffle ()              { $ordered = 1 }
sub no_root_location ()        { $root_location = 0 }
sub no_long_string ()          { }
sub use_hup ()                 { }
sub no_nginx_manager ()        { die "not supported\n" }
sub check_accum_error_log ()   { $all_of_log = 1 }
sub server_root ()             { $root }
sub html_dir ()                { "$root/html" }

sub master_process_enabled (@) {
    return $master if !@_;
    $master = shift() ? 'on' : 'off';
}

sub env_to_nginx (@)             { push @env, @_ }
sub add_block_preprocessor (&)   { unshift @preprocessors, shift }
sub add_response_body_check ($)  { push @body_checks, shift }
sub add_cleanup_handler ($)      { unshift @cleanups, shift }
sub add_test_cleanup_handler ($) { unshift @test_cleanups, shift }

sub bail_out (@) {
    stop_nginx();
    Test::More::BAIL_OUT(join '', @_);
}

sub is_str (@) {
    my ($got, $expected, $name) = @_;

    return ref $expected ? like($got, $expected, $name)
                         : is($got, $expected, $name);
}


# running

sub run_tests () {
    my $version = (run_cmd($binary, '-V'))[1];
    $version =~ m{/(\d+)\.(\d+)\.(\d+)} or bail_out("no $binary: $version");
    $NginxVersion = canonical($1, $2, $3);

    my @blocks = Test::Base::blocks();

    if (!$ordered) {
        my $seed = $ENV{TEST_NGINX_SEED} || int(time * 1000) % 1000000;
        print "# random order, TEST_NGINX_SEED=$seed repeats it\n";
        srand $seed;
        @blocks = List::Util::shuffle(@blocks);
    }

    for my $block (@blocks) {
        $_->($block) for @preprocessors;
        $block->set_value('name', "$0 " . $block->name);
        run_block($block);
        $_->($block) for @test_cleanups;
    }

    stop_nginx();
    $_->() for @cleanups;
}


sub canonical {
    return sprintf '%d.%03d%03d', @_;
}


# (number of tests to skip, why), or nothing
sub skipped {
    my ($block) = @_;

    if (defined(my $spec = $block->skip_nginx)) {
        $spec =~ /^\s*(\d+)\s*:\s*([<>]=?)\s*(\d+)\.(\d+)\.(\d+)
                  (?:\s*:\s*(.*?))?\s*$/xs
            or bail_out($block->name, " - bad skip_nginx: $spec");

        my ($n, $op, $why) = ($1, $2, $6);
        my $ver = canonical($3, $4, $5);
        my %is = ('<' => $NginxVersion < $ver, '<=' => $NginxVersion <= $ver,
                  '>' => $NginxVersion > $ver, '>=' => $NginxVersion >= $ver);

        return ($n, $why || "nginx version $op $ver") if $is{$op};
    }

    if (defined(my $spec = $block->skip_eval)) {
        $spec =~ /^\s*(\d+)\s*:\s*(.*)/s
            or bail_out($block->name, " - bad skip_eval: $spec");

        my ($n, $code) = ($1, $2);
        my $is = eval "package main; $code";
        bail_out($block->name, " - skip_eval: $@") if $@;

        return ($n, 'skip_eval') if $is;
    }

    return;
}


sub run_block {
    my ($block) = @_;

    my $name = $block->name;

    if (my ($n, $why) = skipped($block)) {
        for (1 .. $repeat) {
            SKIP: { skip("$name - $why", $n) }
        }
        return;
    }

    my $config = $block->config;

    if (!defined $config) {
        defined $previous_config or bail_out("$name - no config");
        $config = $previous_config;
    }

    $previous_config = $config;

    stop_nginx();
    prepare($block, $config);

    return expect_death($block) if defined $block->must_die;

    start_nginx($block) or return;

    if (defined $block->init) {
        eval $block->init;
        bail_out("$name - init: $@") if $@;
    }

    $log_pos = 0;

    for my $i (0 .. $repeat - 1) {
        write_user_files($block) if $i > 0;
        run_requests($block, $i);
    }
}


# nginx's directory

sub expand {
    my ($text) = @_;

    return '' if !defined $text;

    $text =~ s{\$(TEST_NGINX_[A-Z0-9_]+)}
              {$ENV{$1} // bail_out("no environment variable $1")}ge;

    return $text;
}


sub prepare {
    my ($block, $config) = @_;

    # nothing but what nginx and this file put there is ever removed
    remove_tree(map { "$root/$_" } qw( conf html logs cache ));
    remove_tree(glob("$root/*_temp"), glob("$root/*_cache"));
    rmdir $root;
    make_path("$root/logs", "$root/html", "$root/conf");

    write_file("$root/html/index.html", '<html><head><title>It works!'
               . '</title></head><body>It works!</body></html>');

    if (defined $block->post_setup_server_root) {
        eval $block->post_setup_server_root;
        bail_out($block->name, " - post_setup_server_root: $@") if $@;
    }

    write_user_files($block);
    write_config($block, $config);
}


sub write_user_files {
    my ($block) = @_;

    my $files = $block->user_files or return;

    if (!ref $files) {
        my @parts = split /^>>> (\S+)[^\n]*\n/m, $files;
        shift @parts;
        $files = [];
        push @$files, [splice @parts, 0, 2] while @parts;
    }

    for my $file (@$files) {
        my ($path, $body) = @$file;

        $path = "$root/html/$path" if $path !~ m{^/};
        make_path($path =~ s{/[^/]*$}{}r);
        write_file($path, expand($body));
    }
}


sub write_config {
    my ($block, $config) = @_;

    my $http = expand($block->http_config);
    my $modules = join '', map { "load_module $_;\n" }
                           split ' ', $ENV{TEST_NGINX_LOAD_MODULES} // '';
    my $log_level = $block->log_level || $level;
    my $server = $block->server_name // $ServerName;
    my $temp = join "\n    ",
        map { $http =~ /\b${_}_temp_path\b/
              ? () : "${_}_temp_path $root/${_}_temp;" }
        qw( client_body proxy fastcgi scgi uwsgi );

    my $postpone = $ENV{TEST_NGINX_POSTPONE_OUTPUT} // '';
    $postpone = $postpone =~ /^\d+$/ && $http !~ /\bpostpone_output\b/
                ? "postpone_output $postpone;" : '';

    my $location = $root_location ? <<"EOF_LOCATION" : '';
        location / {
            root $root/html;
            index index.html;
        }
EOF_LOCATION

    my $user = $> == 0 ? 'user ' . ($ENV{TEST_NGINX_WORKER_USER} || 'root')
                         . ';' : '';
    my $envs = join "\n", map { /\s/ ? "env '$_';" : "env $_;" }
               qw( LD_PRELOAD LD_LIBRARY_PATH ASAN_OPTIONS UBSAN_OPTIONS
                   LSAN_OPTIONS ), @env;
    my $event = $ENV{TEST_NGINX_EVENT_TYPE}
                ? "use $ENV{TEST_NGINX_EVENT_TYPE};" : '';

    write_file("$root/conf/nginx.conf", <<"EOF_CONFIG");
worker_processes $workers;
daemon on;
master_process $master;
error_log $root/logs/error.log $log_level;
pid $root/logs/nginx.pid;
$user
$envs
$modules
@{[ expand($block->main_config) ]}

http {
    access_log $root/logs/access.log;
    $temp
    $postpone
    default_type text/plain;
    keepalive_timeout 68s;

$http

    server {
        listen $ServerPort;
        server_name '$server';
        client_max_body_size 30M;

$preamble
@{[ expand($config) ]}

$location
    }
}

@{[ expand($block->post_main_config) ]}

events {
    accept_mutex off;
    worker_connections $connections;
    $event
}
EOF_CONFIG
}


# nginx

sub command {
    my ($block) = @_;

    my $command = "$binary -e $root/logs/error.log -p $root/"
                  . " -c $root/conf/nginx.conf > /dev/null";
    $command .= ' 2> /dev/null' if defined $block->suppress_stderr;

    if (my $preload = $ENV{TEST_NGINX_LD_PRELOAD}) {
        $command = "LD_PRELOAD='$preload' $command";
    }

    if (my $valgrind = $ENV{TEST_NGINX_USE_VALGRIND}) {
        $valgrind = '--leak-check=full' if $valgrind =~ /^\d+$/;
        $command = "valgrind -q $valgrind $command";
    }

    return $command;
}


sub start_nginx {
    my ($block) = @_;

    my $name = $block->name;

    # an nginx that was stopped may hold the port for a moment
    wait_until {
        return 1 if system(command($block)) == 0;
        read_file("$root/logs/error.log") !~ /bind\(\) to .* failed/;
    } 10;

    my $pid = wait_until {
        return read_file("$root/logs/nginx.pid") =~ /^(\d+)/ && $1;
    } $? == 0 ? 10 : 0;

    if (!$pid) {
        fail("$name - nginx does not start: "
             . read_file("$root/logs/error.log"));
        return;
    }

    $nginx_pid = $pid;

    wait_until {
        IO::Socket::INET->new(PeerAddr => $ServerAddr,
                              PeerPort => $ServerPortForClient)
    } 10;

    return 1;
}


sub stop_nginx {
    my $pid = $nginx_pid or return;

    undef $nginx_pid;

    my $log = "$root/logs/error.log";
    my $mark = -s $log // 0;

    kill_wait('QUIT', $pid, 15)
        or fail("nginx $pid does not quit");

    for my $line (split /\n/, read_file($log, $mark)) {
        fail("when nginx quits: $line")
            if $line =~ /\[(?:alert|crit|emerg)\]|\bruntime error:/;
    }
}


sub expect_death {
    my ($block) = @_;

    my $name = $block->name;

    for my $i (0 .. $repeat - 1) {
        unlink "$root/logs/error.log";
        $log_pos = 0;

        my $status = system(command($block));

        if ($status & 127) {
            fail("$name - nginx dies by signal " . ($status & 127));

        } elsif ($block->must_die =~ /^\d+$/) {
            is($status >> 8, $block->must_die,
               "$name - die with the expected exit code");

        } else {
            isnt($status, 0, "$name - die as expected");
        }

        check_error_log($block, $i);

        if ($status == 0) {
            $nginx_pid = wait_until {
                read_file("$root/logs/nginx.pid") =~ /^(\d+)/ && $1;
            } 5;
            stop_nginx();
        }
    }
}


# requests

# as sent: lists of [text, seconds to wait before it]
sub requests_of {
    my ($block) = @_;

    if (defined(my $raw = $block->raw_request)) {
        my $delay = $block->raw_request_middle_delay // 0;
        my @parts = ref $raw ? @$raw : $raw;
        my $n = 0;

        return [map { [$_, $n++ ? $delay : 0] } @parts];
    }

    my $headers = $block->more_headers // '';

    if (my $list = $block->pipelined_requests) {
        my $text = '';

        for my $i (0 .. $#$list) {
            $text .= build($block, expand($list->[$i]),
                           ref $headers ? $headers->[$i] : $headers,
                           $i == $#$list ? 'close' : 'keep-alive');
        }

        return [[$text, 0]];
    }

    my $request = $block->request;
    defined $request or bail_out($block->name, ' - no request');

    my @list = ref $request ? @$request : $request;
    my @requests;

    for my $i (0 .. $#list) {
        my @parts = ref $list[$i] ? @{ $list[$i] } : $list[$i];
        bail_out($block->name, ' - requests in parts are not supported')
            if @parts > 1;

        push @requests, [[build($block,
                          ref $parts[0] ? $parts[0]{value} : $parts[0],
                          ref $headers ? $headers->[$i] : $headers, 'close'),
                          0]];
    }

    return @requests;
}


sub build {
    my ($block, $request, $headers, $connection) = @_;

    $request =~ s/^(?:\s*#[^\n]+\s+|\s+)+//;

    my ($line, $body) = split /\n/, $request, 2;
    my ($method, $uri, $version) = split ' ', $line;
    my ($text, $chunked) = ('', 0);

    for my $header (split /\n+/, $headers) {
        next if $header =~ /^\s*#/;
        my ($key, $value) = split /:\s*/, $header, 2;
        $value //= '';
        $chunked = 1 if lc $key eq 'transfer-encoding'
                        && $value eq 'chunked';
        $text .= "$key: $value\r\n";
    }

    $body //= '';

    if (!$chunked && $body ne '' && $text !~ /^Content-Length:/m) {
        $body =~ s/^\s+|\s+$//g;
        $text .= 'Content-Length: ' . length($body) . "\r\n";
    }

    $text = "Connection: $connection\r\n$text" if $text !~ /^Connection/im;
    $text = "Host: $ServerName\r\n$text" if $text !~ /^Host:/im;

    return join(' ', $method, $uri // '/', $version // 'HTTP/1.1')
           . "\r\n$text\r\n$body";
}


sub run_requests {
    my ($block, $repeated) = @_;

    my @requests = requests_of($block);
    my $pipelined = $block->pipelined_requests;
    my $n = $pipelined ? @$pipelined : @requests;
    my $seconds = (seconds($block->timeout) // $default_timeout) * patience();

    for my $i (0 .. $#requests) {
        my $head = $requests[$i][0][0] =~ /^\s*HEAD\s/;
        my $answer = send_request($block, $requests[$i], $seconds);

        for my $j ($pipelined ? (0 .. $n - 1) : $i) {
            my $response;

            if (!defined $block->ignore_response) {
                ($response, $answer) = parse($block, $answer, $head);
                check_response($block, $response, $j, $n > 1 || $pipelined,
                               $repeated);
            }

            sleep $block->wait if $block->wait;

            check_error_log($block, $repeated);
            check_access_log($block, $repeated)
                if !defined $block->ignore_response;
        }
    }
}


sub seconds {
    my ($text) = @_;

    return if !defined $text || $text eq '';

    return $1 / 1000 if $text =~ /^\s*([\d.]+)ms\s*$/;
    return $1 if $text =~ /^\s*([\d.]+)s?\s*$/;

    die "bad time: $text\n";
}


sub send_request {
    my ($block, $parts, $seconds) = @_;

    my $name = $block->name;
    my $socket = IO::Socket::INET->new(
        PeerAddr => $ServerAddr, PeerPort => $ServerPortForClient,
        Timeout => $seconds);

    if (!$socket) {
        fail("$name - cannot connect to $ServerAddr:$ServerPortForClient");
        return '';
    }

    local $SIG{PIPE} = 'IGNORE';
    $socket->blocking(0);

    my $answer = '';
    my @parts = @$parts;
    my $text = (shift @parts)->[0];

    while (1) {
        my $writing = $text ne '';
        my ($readable, $writable) = ready($socket, $writing, $seconds);

        if (!$readable && !$writable) {
            if (defined $block->abort) {
                sleep 0.005;
            } else {
                fail("ERROR: client socket timed out - $name");
            }
            last;
        }

        if ($readable) {
            my $bytes = sysread $socket, $answer, 65536, length $answer;

            last if defined $bytes && $bytes == 0;
            last if !defined $bytes && !$!{EAGAIN} && !$!{EINTR};
        }

        if ($writable) {
            my $bytes = syswrite $socket, $text;

            if (defined $bytes) {
                substr $text, 0, $bytes, '';
            } elsif (!$!{EAGAIN} && !$!{EINTR}) {
                $text = '';
                @parts = ();
            }

            if ($text eq '' && @parts) {
                my $part = shift @parts;
                sleep $part->[1] if $part->[1];
                $text = $part->[0];

            } elsif ($text eq '' && defined $block->shutdown) {
                shutdown $socket, $block->shutdown =~ /(\d)/ ? $1 : 1;
            }
        }
    }

    close $socket;
    return $answer;
}


sub ready {
    my ($socket, $writing, $seconds) = @_;

    my $bits = '';
    vec($bits, fileno $socket, 1) = 1;

    my ($in, $out) = ($bits, $writing ? $bits : '');
    select $in, $out, undef, $seconds;

    return (vec($in, fileno $socket, 1),
            $writing && vec($out, fileno $socket, 1));
}


# (response, what follows it)
sub parse {
    my ($block, $raw, $head) = @_;

    my $name = $block->name;

    return ({ header => {}, raw => '', content => $raw }, '')
        if $raw !~ /^(HTTP\S+\s+(\d+)[^\n]*\n(.*?\r\n)?)\r\n/s;

    my $left = substr $raw, length($1) + 2;
    my %response = (code => $2, raw => $1, header => {});

    for my $line (split /\r\n/, $3 // '') {
        my ($key, $value) = split /:\s*/, $line, 2;
        push @{ $response{header}{lc $key} }, $value;
    }

    my $length = ($response{header}{'content-length'} // [])->[0];
    my $coding = ($response{header}{'transfer-encoding'} // [''])->[0];

    if ($head || $response{code} =~ /^(?:1..|204|304)$/) {
        $response{content} = $head ? $left : '';
        return (\%response, $left);
    }

    if ($coding eq 'chunked') {
        my $content = '';

        while ($left =~ s/^([0-9A-Fa-f]+)[ \t]*\r\n//) {
            my $size = hex $1;

            if (length $left < $size + 2
                || substr($left, $size, 2) ne "\r\n")
            {
                fail("$name - the answer ends within a chunk");
                return ({ %response, content => $content . $left }, '');
            }

            $content .= substr $left, 0, $size, '';
            substr $left, 0, 2, '';

            return ({ %response, content => $content }, $left)
                if $size == 0;
        }

        fail("$name - no last chunk found");
        return ({ %response, content => $content }, '');
    }

    if (defined $length) {
        warn "WARNING: $name - response body truncated\n"
            if length $left < $length;
        $response{content} = substr $left, 0, $length;
        return (\%response,
                length $left > $length ? substr $left, $length : '');
    }

    return ({ %response, content => $left }, '');
}


# answers

sub indexed {
    my ($block, $value, $i, $many) = @_;

    return ref $value eq 'ARRAY' ? $value->[$many ? $i : 0] : $value
        if !$many || ref $value eq 'ARRAY';

    bail_out($block->name, ' - many requests, so the expected results'
             . ' should be arrays as well');
}


sub header {
    my ($response, $key) = @_;

    return join ', ', @{ $response->{header}{lc $key} // [] };
}


sub check_response {
    my ($block, $response, $i, $many, $repeated) = @_;

    my $name = $block->name;
    my $get = sub { indexed($block, $_[0], $i, $many) };
    my $code = $response->{code} // '';

    if (defined $block->error_code_like) {
        my $pattern = $get->($block->error_code_like);
        like($code, qr/$pattern/sm, "$name - status code ok");

    } else {
        is($code, defined $block->error_code ? $get->($block->error_code)
                                             : 200, "$name - status code ok");
    }

    if (defined $block->raw_response_headers_like) {
        my $pattern = $get->($block->raw_response_headers_like);
        like($response->{raw}, qr/$pattern/s, "$name - raw headers like");
    }

    if (defined $block->raw_response_headers_unlike) {
        my $pattern = $get->($block->raw_response_headers_unlike);
        unlike($response->{raw}, qr/$pattern/s,
               "$name - raw headers unlike");
    }

    if (defined $block->response_headers) {
        check_headers($name, $response, $get->($block->response_headers),
                      0);

    } elsif (defined $block->response_headers_like) {
        check_headers($name, $response,
                      $get->($block->response_headers_like), 1);
    }

    check_body($block, $response, $get, $i, $repeated);

    $_->($block, $response->{content}, $i, $repeated, 0) for @body_checks;
}


sub check_headers {
    my ($name, $response, $expected, $like) = @_;

    my %header;

    for my $line (split /\n/, $expected) {
        $line =~ s/^\s+|\s+$//g;

        if ($line =~ s/^!\s*//) {
            $header{$line} = undef;
        } else {
            my ($key, $value) = split /\s*:\s*/, $line, 2;
            $header{$key} = $value;
        }
    }

    for my $key (sort keys %header) {
        my ($is, $value) = (header($response, $key), $header{$key});

        if (!defined $value) {
            unlike($response->{raw}, qr/^\s*\Q$key\E\s*:/ms,
                   "$name - header $key not present");

        } elsif ($like) {
            like($is, qr/^$value$/, "$name - header $key like ok");

        } else {
            $value =~ s/\$ServerPort(?:ForClient)?\b/$ServerPort/g;
            is($is, $value, "$name - header $key ok");
        }
    }
}


sub check_body {
    my ($block, $response, $get, $i, $repeated) = @_;

    my $name = $block->name;
    my $content = $response->{content};
    my $where = "(repeated req $repeated, req $i)";

    if (defined(my $filter = $block->response_body_filters)) {
        $content = $_->($content) for ref $filter eq 'ARRAY' ? @$filter
                                                             : $filter;
    }

    if (defined $block->response_body) {
        my $expected = $get->($block->response_body);

        if (ref $expected) {
            like($content, $expected, "$name - response_body like $where");

        } else {
            $expected =~ s/\$ServerPort(?:ForClient)?\b/$ServerPort/g
                if defined $expected;
            is($content, defined $expected ? expand($expected) : undef,
               "$name - response_body is expected $where");
        }

    } elsif (defined $block->response_body_like) {
        my $pattern = $get->($block->response_body_like);
        like($content, qr/$pattern/s, "$name - response_body_like $where");

    } elsif (defined $block->response_body_unlike) {
        my $pattern = $get->($block->response_body_unlike);
        unlike($content, qr/$pattern/s,
               "$name - response_body_unlike $where");
    }
}


# logs

sub patterns {
    my ($value) = @_;

    return if !defined $value;
    return @$value if ref $value eq 'ARRAY';
    return $value if ref $value;
    return grep { length } split /\n+/, $value;
}


sub found {
    my ($pattern, @lines) = @_;

    return List::Util::first {
        ref $pattern ? /$pattern/ : index($_, $pattern) >= 0
    } @lines;
}


sub check_error_log {
    my ($block, $repeated) = @_;

    my $name = $block->name;
    my $log = "$root/logs/error.log";
    my @wanted = patterns($block->error_log);
    my @lines;

    # a line may come a moment after the answer
    sleep 0.02;

    wait_until {
        @lines = split /^/, read_file($log, $all_of_log ? 0 : $log_pos);
        !grep { defined && !defined found($_, @lines) } @wanted;
    } 1 if @wanted || defined $block->no_error_log
           || defined $block->grep_error_log;

    if (defined(my $pattern = $block->grep_error_log)) {
        my $expected = $block->grep_error_log_out;

        $pattern = $pattern->[$repeated] if ref $pattern eq 'ARRAY';
        $expected = $expected->[$repeated] if ref $expected eq 'ARRAY';
        $pattern = qr/\Q$pattern/ if !ref $pattern;

        my $is = join '', map { /$pattern/ ? "$&\n" : () } @lines;

        is_str($is, ref $expected ? $expected : expand($expected),
               "$name - grep_error_log_out (req $repeated)");
    }

    for my $pattern (@wanted) {
        next if !defined $pattern;
        ok(defined found($pattern, @lines), "$name - pattern \"$pattern\""
           . " matches a line in error.log (req $repeated)");
    }

    for my $pattern (patterns($block->no_error_log)) {
        next if !defined $pattern;
        my $line = found($pattern, @lines);
        ok(!defined $line, "$name - pattern \"$pattern\" does not match a"
           . " line in error.log (req $repeated)"
           . (defined $line ? ": $line" : ''));
    }

    for my $line (@lines) {
        fail("$name - $line")
            if $line =~ /\bAssertion\ .*?failed\b|\bruntime\ error:
                         |\bERROR:\ (?:Address|Leak)Sanitizer/x;
    }

    $log_pos += length $_ for $all_of_log ? () : @lines;
}


sub check_access_log {
    my ($block, $repeated) = @_;

    my $name = $block->name;
    my @wanted = patterns($block->access_log);
    my @unwanted = patterns($block->no_access_log);
    my @lines;

    return if !@wanted && !@unwanted;

    sleep 0.02;

    wait_until {
        @lines = split /^/, read_file("$root/logs/access.log");
        !grep { !defined found($_, @lines) } @wanted;
    } 1;

    for my $pattern (@wanted) {
        ok(defined found($pattern, @lines), "$name - pattern \"$pattern\""
           . " matches a line in access.log (req $repeated)");
    }

    for my $pattern (@unwanted) {
        ok(!defined found($pattern, @lines), "$name - pattern \"$pattern\""
           . " does not match a line in access.log (req $repeated)");
    }
}


END {
    if ($$ == $owner && $nginx_pid) {
        local ($?, $!, $@);
        kill_wait('QUIT', $nginx_pid, 10);
    }
}


1;
