# conf/log-format.conf: each line is a JSON object with the same fields, in
# UTF-8, whatever a client sends; it has all variables of the module, and no
# key or token.

use strict;
use warnings;

use lib 't/lib';
use JSON::XS ();
use Lunary::Nginx;
use Lunary::System qw( project_dir read_file wait_until );
use Lunary::Test;
use Test::More;

my $top = project_dir();
my $conf = read_file("$top/conf/log-format.conf");
my $nginx = Lunary::Nginx->new(
    http => 'lunary_database "' . pg()->conninfo . '";'
            . "include $top/conf/log-format.conf;",
    config => <<'EOF_CONFIG')->start;
        access_log logs/json.log lunary_json;
        large_client_header_buffers 4 64k;
        ignore_invalid_headers off;
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
        location = /elsewhere {
            return 200 ok;
        }
EOF_CONFIG

my $json = JSON::XS->new->utf8;
my $lines = 0;

# sends bytes, and returns their line of the log
sub logged {
    my ($text) = @_;

    my $client = $nginx->client;
    $client->send($text);
    $client->answer;
    $client->close;

    my @all;

    wait_until {
        my $log = read_file("$nginx->{dir}/logs/json.log");
        @all = split /\n/, $log;
        @all > $lines && $log =~ /\n\z/;
    } 5;

    $lines = @all;
    return $all[-1];
}

sub request {
    my ($uri, @headers) = @_;

    return "GET $uri HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
           . join('', map { "$_\r\n" } @headers) . "\r\n";
}


# all variables: names and values

my $source = join '', map { read_file($_) } glob "$top/src/http/*.c";
my %variables = map { $_ => 1 }
                $source =~ /^    ngx_string\("(lunary_\w+)"\),?$/mg;

cmp_ok scalar(keys %variables), '>', 8, 'the module has variables';
like $conf, qr/"\$$_"/, "\$$_ is in it" for sort keys %variables;

my $key = key('alpha');
my $line = logged(request(related_uri(101) . '?a="b"\\',
                          "Authorization: Bearer $key", 'User-Agent: "x\\"'));
my $is = $json->decode($line);

is $is->{outcome}, 'ok', 'outcome';
is $is->{credential}, 'key', 'credential';
is $is->{project}, project('alpha'), 'project';
is $is->{status}, 200, 'status';
is $is->{runs}, 6, 'number of runs';
is $is->{uri}, related_uri(101) . '?a="b"\\', 'quotes and backslashes';
is $is->{agent}, '"x\\"', 'quotes in the user agent';
like $line, qr/"$_":"?\d+\.\d{3}\b/, "$_ is a time"
    for qw( total queue first_row query );
unlike $line, qr/\Q$key\E/, 'no key';

my @fields = sort keys %$is;


# whatever a client sends

my @bad = (
    ['no credential', request(related_uri(101))],
    ['no run', request('/v1/runs/x/related', "Authorization: Bearer $key")],
    ['elsewhere', request('/elsewhere')],
    ['no such place', request('/nowhere')],
    (map { my $c = chr $_; [sprintf('byte %02x', $_),
        request("/elsewhere?$c$c", "User-Agent: a$c", "X-$c: y",
                "Authorization: $c")] }
     1 .. 9, 11, 12, 14 .. 31, 34, 39, 92, 127, 128, 191, 192, 224, 240, 254,
     255),
    ['UTF-8', request("/elsewhere?\xc3\xa9", "User-Agent: \xe2\x82\xac")],
    ['half of UTF-8', request("/elsewhere?\xc3", "User-Agent: \xe2\x82")],
    ['an encoded NUL', request('/elsewhere?%00%ff', 'User-Agent: %00')],
    ['60k', request('/elsewhere?' . 'x' x 60_000, 'User-Agent: ' . '"' x 999)],
    ['no HTTP', "\x16\x03\x01\x02\x00\x01\"\\\xff\r\n\r\n"],
    ['no method', "\"\\\xff / HTTP/1.1\r\n\r\n"],
    ['no version', "GET / HTTP/\"9\r\n\r\n"],
    ['HTTP/0.9', "GET /elsewhere?\"\\\r\n"],
    ['two keys', request(related_uri(101), "Authorization: Bearer $key",
                         'Authorization: "')],
    ['no Host', "GET /elsewhere HTTP/1.1\r\nUser-Agent: \\\r\n\r\n"],
    ['a bad Host', "GET / HTTP/1.1\r\nHost: \"\xff\\\r\n\r\n"],
    ['a method of its own', "FOO-BAR_BAZ /elsewhere?\\ HTTP/1.1\r\nHost: "
                            . "localhost\r\nConnection: close\r\n\r\n"],
);

for my $bad (@bad) {
    my ($name, $text) = @$bad;

    $line = logged($text);
    $is = eval { $json->decode($line) };

    ok utf8::decode(my $copy = $line), "$name: UTF-8";
    is_deeply [sort keys %{ $is // {} }], \@fields, "$name: JSON"
        or diag $line;
}

$nginx->stop;

done_testing;
