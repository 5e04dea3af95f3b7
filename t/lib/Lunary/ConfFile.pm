package Lunary::ConfFile;

# Starts nginx with a file of conf/; only paths, addresses and ports are
# replaced.
#
#   my $nginx = conf_nginx('tls.conf', qr/text/ => 'replacement', ...);
#   $nginx->start;
#   serves($nginx, $name); status($nginx, $name, 200);

use strict;
use warnings;

use Exporter qw( import );
use JSON::XS qw( decode_json );
use Lunary::Client;
use Lunary::Nginx;
use Lunary::System qw( free_port project_dir read_file );
use Lunary::Test;
use Test::More;

our @EXPORT_OK = qw( conf_nginx serves status );


# %with: text => replacement
sub conf_nginx {
    my ($name, %with) = @_;

    my $nginx = Lunary::Nginx->new(allow => delete $with{allow});
    my $dir = $nginx->{dir};
    my $conf = read_file(project_dir() . "/conf/$name");
    my $status = free_port();
    my $http = $nginx->{port};

    if ($with{https}) {
        $with{qr/listen( +)443/} = "listen 127.0.0.1:$http";
        $http = delete $with{https};
    }

    my $module = join '', map { "load_module $_;\n" } $nginx->modules;
    my $user = $> == 0 ? 'user root;' : '';

    $conf =~ s/^load_module .*$/$module/m or die "$name loads nothing";
    $conf =~ s/^user .*$/$user/m;
    $conf =~ s/^pid .*$/pid $dir\/nginx.pid;/m;
    $conf =~ s/^error_log .*$/error_log $nginx->{log} info;/m;
    $conf =~ s{/var/log/nginx/}{$dir/logs/}g;
    $conf =~ s/listen( +)80;/listen 127.0.0.1:$http;/g;
    $conf =~ s/127\.0\.0\.1:9145/127.0.0.1:$status/g;
    $conf =~ s/^worker_processes .*$/worker_processes 1;/m;

    my $temp = join "\n", map { "${_}_temp_path $dir/${_}_temp;" }
                          qw( client_body proxy fastcgi scgi uwsgi lunary );
    my $envs = join "\n", map { "env $_;" }
               qw( LD_PRELOAD ASAN_OPTIONS UBSAN_OPTIONS LSAN_OPTIONS );

    $conf =~ s/^http \{$/$envs\nhttp {\n$temp/m;

    for my $what (sort keys %with) {
        $conf =~ s/$what/$with{$what}/g or die "$name has no $what";
    }

    $nginx->configure(conf => $conf);
    $nginx->{status_port} = $status;
    $nginx->{http_port} = $http;

    my ($code, $text) = $nginx->test;
    is $code, 0, "$name: nginx -t" or diag $text;

    return $nginx;
}


sub serves {
    my ($nginx, $name) = @_;

    my @bearer = (Authorization => 'Bearer ' . key('alpha'));
    my $answer = $nginx->client->get(related_uri(101), @bearer);

    is $answer->{status}, 200, "$name: 200";
    ok eval { @{ decode_json($answer->{body}) } }, "$name: runs";
    is $nginx->client->get('/elsewhere', @bearer)->{status},
        404, "$name: nothing else" if $name ne 'drop-in.conf';

    status($nginx, $name, 200);
}


sub status {
    my ($nginx, $name, $ready) = @_;

    my $client = Lunary::Client->new(port => $nginx->{status_port});

    is $client->get('/ready')->{status}, $ready, "$name: /ready is $ready";

    my $metrics = $client->get('/metrics');
    is $metrics->{status}, 200, "$name: /metrics";
    like $metrics->{body}, qr/^# TYPE \w+ counter$/m, "$name: counters";
}


1;
