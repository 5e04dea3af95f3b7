# There is one Cache-Control line, which nginx's variables, "expires" and header
# filters find, whatever else the location does.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Client;
use Lunary::Filter;
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test;
use Lunary::System qw( free_port );
use Test::More;

my $filter = Lunary::Filter::load() or plan skip_all => 'no C compiler';
my $pg = Lunary::Pg->shared;
my $upstream = free_port();

my %ways = (
    plain => '',
    variable => 'add_header X-Sent $sent_http_cache_control always;',
    expires => 'expires 1h;',
    epoch => 'expires epoch;',
    off => 'expires off;',
    add => 'add_header Cache-Control extra always;',
    clear => 'refuse_filter clear;',
);

my $locations = join '', map { <<"EOF_CONFIG" } sort keys %ways;
        location ~ "^/$_/v1/runs/(?<run_id>[^/]+)/related\$" {
            $ways{$_}
            lunary_related_runs \$run_id;
        }
EOF_CONFIG

my $nginx = Lunary::Nginx->new(
    main => $filter,
    http => 'lunary_database "' . $pg->conninfo . qq{";
    server {
        listen 127.0.0.1:$upstream;
        add_header Cache-Control "public, max-age=600";
        add_header Cache-Control "s-maxage=900";
        add_header Expires "Thu, 31 Dec 2037 23:55:55 GMT";
        add_header X-Accel-Redirect \$arg_to;
        location / {
            return 200 upstream;
        }
    }},
    config => $locations . qq{
        location /accel {
            proxy_pass http://127.0.0.1:$upstream;
        }
        location = /status {
            expires 1h;
            lunary_status;
        }
    })->start;

my $client = $nginx->client;
my @key = (Authorization => 'Bearer ' . key('alpha'));

# the Cache-Control lines of a response
sub lines {
    my ($uri, @header) = @_;

    my $answer = $client->get($uri, @header);

    return ($answer, [$answer->{head} =~ /^Cache-Control: (.*?)\r$/mg]);
}

my $private = 'private, no-store';
my %expected = (
    plain => [$private], variable => [$private], off => [$private],
    expires => ['max-age=3600'], epoch => ['no-cache'], clear => [],
    add => [$private, 'extra'],
);

for my $way (sort keys %ways) {
    my ($answer, $lines) = lines("/$way" . related_uri(110), @key);

    is($answer->{status}, 200, "$way: 200");
    is_deeply($lines, $expected{$way}, "$way: Cache-Control");
    is($answer->{header}{'x-sent'}, $private, "$way: \$sent_http")
        if $way eq 'variable';

    # "expires" and "add_header" do not apply to errors without "always"
    ($answer, $lines) = lines("/$way" . related_uri(110));
    is($answer->{status}, 401, "$way: 401");
    is_deeply($lines, $way =~ /^(?:expires|epoch)$/ ? [$private]
                      : $expected{$way}, "$way: Cache-Control of a 401");
    is(() = $answer->{head} =~ /^WWW-Authenticate:/mg, 1,
       "$way: one WWW-Authenticate");
}

for my $way (qw( plain variable expires )) {
    my ($answer, $lines) = lines("/accel?to=/$way" . related_uri(110), @key);

    is($answer->{status}, 200, "X-Accel-Redirect, $way: 200");
    is_deeply($lines, $expected{$way},
              "X-Accel-Redirect, $way: nothing of the upstream's");
    is(!exists $answer->{header}{expires}, $way ne 'expires',
       "X-Accel-Redirect, $way: no Expires of the upstream's");
}

my ($answer, $lines) = lines('/status');
is_deeply($lines, ['max-age=3600'], 'lunary_status: "expires" replaces it');

$nginx->stop;
done_testing();
