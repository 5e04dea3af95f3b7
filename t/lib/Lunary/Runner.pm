package Test::Nginx::Socket;

# The part of Test::Nginx::Socket that the tests use, for machines without it.
# For each block of a test file it starts nginx, sends the requests, and
# compares responses and logs with the sections of the block.
#
# Sections: http_config, config, user_files, request, pipelined_requests,
# raw_request, more_headers, timeout, ignore_response, error_code,
# response_headers, response_headers_like, raw_response_headers_unlike,
# response_body, response_body_like, response_body_unlike,
# response_body_filters, error_log, no_error_log, access_log, no_access_log,
# grep_error_log, grep_error_log_out, log_level, skip_nginx, init, and SKIP,
# ONLY, LAST of Test::Base.
#
# Packages: libtest-base-perl

use strict;
use warnings;

use Test::Base -base;

use File::Path qw( remove_tree );
use File::Spec ();
use List::Util qw( first shuffle );
use Lunary::Client;
use Lunary::Nginx;
use Lunary::System qw( free_port read_file run_cmd wait_until write_file );

our @EXPORT = qw( add_block_preprocessor add_response_body_check log_level
                  no_long_string no_root_location repeat_each run_tests );

my $root = $ENV{TEST_NGINX_SERVROOT} || File::Spec->rel2abs('t/servroot');
my ($repeat, $level) = (1, 'debug');
my (@preprocessors, @body_checks, $nginx, $nginx_version, $log_pos);

$ENV{TEST_NGINX_SERVER_ROOT} = $root;


sub repeat_each (@)             { $repeat = shift if @_; $repeat }
sub log_level (@)               { $level = shift }
sub no_long_string ()           { }
sub no_root_location ()         { }
sub add_block_preprocessor (&)  { unshift @preprocessors, shift }
sub add_response_body_check ($) { push @body_checks, shift }


# blocks

sub run_tests () {
    my $seed = $ENV{TEST_NGINX_SEED} || int rand 1_000_000;

    # removes only files of nginx and the tests
    remove_tree(map { "$root/$_" } qw( html logs ), glob("$root/*_temp"));
    mkdir $root;

    $nginx = Lunary::Nginx->new(dir => $root,
        port => $ENV{TEST_NGINX_PORT} || free_port(),
        server => 'server_name localhost; client_max_body_size 30m;');

    write_file("$root/html/index.html", 'It works!');

    (run_cmd(Lunary::Nginx::binary(), '-V'))[1] =~ m{nginx/(\d+)\.(\d+)\.(\d+)}
        or die "nginx has no version\n";
    $nginx_version = sprintf '%d.%03d%03d', $1, $2, $3;

    print "# random order, TEST_NGINX_SEED=$seed repeats it\n";
    srand $seed;

    for my $block (shuffle(Test::Base::blocks())) {
        $_->($block) for @preprocessors;
        $block->set_value('name', "$0 " . $block->name);
        run_block($block);
    }
}


sub run_block {
    my ($block) = @_;

    my $name = $block->name;

    if (my ($n, $why) = skipped($block)) {
        SKIP: { skip("$name - $why", $n * $repeat) }
        return;
    }

    unlink glob "$root/logs/*";
    write_user_files($block);

    $nginx->configure(http => expand($block->http_config),
                      config => expand($block->config),
                      log_level => $block->log_level || $level);
    $nginx->start;

    eval($block->init // '');
    die "$name - init: $@" if $@;

    $log_pos = 0;
    run_requests($block, $_) for 0 .. $repeat - 1;

    $nginx->stop;
}


# (number of tests to skip, reason), or nothing; skip_nginx is "4: < 1.23.0"
sub skipped {
    my ($block) = @_;

    my $spec = $block->skip_nginx // return;

    $spec =~ /^(\d+): < (\d+)\.(\d+)\.(\d+)$/
        or die $block->name, " - bad skip_nginx: $spec\n";

    return $nginx_version < sprintf('%d.%03d%03d', $2, $3, $4)
           ? ($1, "nginx before $2.$3.$4") : ();
}


sub expand {
    my ($text) = @_;

    return ($text // '') =~ s{\$(TEST_NGINX_[A-Z0-9_]+)}
                             {$ENV{$1} // die "no variable $1\n"}ger;
}


sub write_user_files {
    my ($block) = @_;

    my (undef, %files) = split /^>>> (\S+)[^\n]*\n/m, $block->user_files // '';

    write_file("$root/html/$_", $files{$_}) for keys %files;
}


# requests

# for each connection [text, methods of its requests]
sub requests_of {
    my ($block) = @_;

    my $raw = $block->raw_request;
    my $headers = $block->more_headers // '';
    my $list = $block->pipelined_requests;

    return [$raw] if defined $raw;

    my $requests = $list // $block->request
                   // die $block->name, " - no request\n";
    my @list = ref $requests ? @$requests : $requests;

    my @texts = map {
        build($list[$_], ref $headers ? $headers->[$_] : $headers,
              $list && $_ < $#list ? 'keep-alive' : 'close')
    } 0 .. $#list;
    my @methods = map { /^\s*(\S+)/ } @list;

    return $list ? [join('', @texts), @methods]
                 : map { [$texts[$_], $methods[$_]] } 0 .. $#list;
}


sub build {
    my ($request, $headers, $connection) = @_;

    my ($line, $body) = split /\n/, $request =~ s/^\s+//r, 2;
    my ($method, $uri, $version) = split ' ', $line;
    my $text = join '', map { s/:\s*/: /r . "\r\n" }
                        grep { /\S/ } split /\n/, $headers;

    $body //= '';

    if ($body ne '' && $text !~ /^(?:Content-Length|Transfer-Encoding):/im) {
        $body =~ s/^\s+|\s+$//g;
        $text .= 'Content-Length: ' . length($body) . "\r\n";
    }

    $text = "Connection: $connection\r\n$text" if $text !~ /^Connection:/im;
    $text = "Host: localhost\r\n$text" if $text !~ /^Host:/im;

    return join(' ', $method, $uri, $version // 'HTTP/1.1')
           . "\r\n$text\r\n$body";
}


sub run_requests {
    my ($block, $repeated) = @_;

    my $name = $block->name;
    my @requests = requests_of($block);
    my $many = @requests > 1 || $block->pipelined_requests;
    my $i = 0;

    for my $request (@requests) {
        my ($text, @methods) = @$request;
        my $client = $nginx->client(timeout => $block->timeout || 3);

        $client->send($text);

        my @answers = map { $client->answer($_) } @methods;

        for my $answer (@answers) {
            fail("$name - the response is not complete") if !$answer->{whole};
        }

        my $bytes;
        1 while ($bytes = $client->read_some // 0) > 0;

        fail("$name - the connection stays open") if $bytes;
        fail("$name - bytes behind the response: $client->{buffer}")
            if @methods && $client->{buffer} ne '';

        for my $answer (@answers) {
            check_response($block, $answer, $i++, $many, $repeated);
            check_error_log($block, $repeated);
            check_access_log($block, $repeated);
        }

        check_access_log($block, $repeated) if !@methods;
    }
}


# responses

sub check_response {
    my ($block, $answer, $i, $many, $repeated) = @_;

    my $name = $block->name;

    # the value of a section for this response
    my $get = sub {
        my $section = shift;
        my $value = $block->$section;

        die "$name - $section: an array, as there are many requests\n"
            if $many && defined $value && ref $value ne 'ARRAY';

        return ref $value eq 'ARRAY' ? $value->[$i] : $value;
    };

    is($answer->{status}, $get->('error_code') // 200,
       "$name - status code ok");

    my $pattern = $get->('raw_response_headers_unlike');
    unlike($answer->{head}, qr/$pattern/, "$name - raw headers unlike")
        if defined $pattern;

    check_headers($name, $answer, $get->('response_headers'), 0);
    check_headers($name, $answer, $get->('response_headers_like'), 1);
    check_body($block, $answer->{body}, $get, "(req $repeated.$i)");

    $_->($block, $answer->{body}, $i, $repeated, 0) for @body_checks;
}


sub check_headers {
    my ($name, $answer, $expected, $like) = @_;

    for my $line (split /\n/, $expected // '') {
        my ($not, $key, $value) =
            $line =~ /^\s*(!?)\s*([^\s:]+)\s*:?\s*(.*?)\s*$/ or next;
        my $is = $answer->{header}{lc $key};

        if ($not) {
            is($is, undef, "$name - header $key not present");

        } elsif ($like) {
            like($is // '', qr/^$value$/, "$name - header $key like ok");

        } else {
            is($is // '', $value, "$name - header $key ok");
        }
    }
}


sub check_body {
    my ($block, $body, $get, $where) = @_;

    my $name = $block->name;
    my ($expected, $like, $unlike) = map { $get->("response_body$_") }
                                     '', '_like', '_unlike';

    $body = $block->response_body_filters->($body)
        if defined $block->response_body_filters;

    if (defined $expected) {
        ref $expected ? like($body, $expected, "$name - body like $where")
                      : is($body, $expected, "$name - body $where");
    }

    like($body, qr/$like/s, "$name - body like $where") if defined $like;
    unlike($body, qr/$unlike/s, "$name - body unlike $where")
        if defined $unlike;
}


# logs

sub patterns {
    my ($value) = @_;

    return @$value if ref $value eq 'ARRAY';
    return ref $value ? $value : grep { length } split /\n+/, $value // '';
}


sub found {
    my ($pattern, @lines) = @_;

    return first { ref $pattern ? /$pattern/ : index($_, $pattern) >= 0 }
           @lines;
}


# waits for the wanted lines; asserts that they are logged, and that unwanted
# lines are not
sub check_log {
    my ($name, $file, $wanted, $unwanted, $from) = @_;

    my @wanted = grep { defined } patterns($wanted);
    my @lines;

    wait_until {
        @lines = split /^/, read_file("$root/logs/$file", $from);
        !grep { !defined found($_, @lines) } @wanted;
    } 1;

    for my $pattern (@wanted) {
        ok(defined found($pattern, @lines),
           "$name - \"$pattern\" matches a line in $file");
    }

    for my $pattern (grep { defined } patterns($unwanted)) {
        is(found($pattern, @lines), undef,
           "$name - \"$pattern\" matches no line in $file");
    }

    return @lines;
}


sub check_error_log {
    my ($block, $repeated) = @_;

    my $name = $block->name;
    my $pattern = $block->grep_error_log;
    my @lines = check_log($name, 'error.log', scalar $block->error_log,
                          scalar $block->no_error_log, $log_pos);

    $log_pos += length $_ for @lines;

    is(join('', map { /$pattern/ ? "$&\n" : () } @lines),
       $block->grep_error_log_out, "$name - grep_error_log_out")
        if defined $pattern;
}


sub check_access_log {
    my ($block, $repeated) = @_;

    check_log($block->name, 'access.log', scalar $block->access_log,
              scalar $block->no_access_log, 0);
}


1;
