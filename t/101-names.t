# Host names: with nginx's resolver, a new address is used and a resolver that
# does not respond blocks no other request; without a resolver, names are
# resolved when the configuration is read.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Dns;
use Lunary::Load qw( soon );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test qw( key related_uri );
use Lunary::System qw( wait_until );
use Test::More;
use Time::HiRes qw( sleep time );

# two addresses with the same port and different databases
my $first = Lunary::Pg->new(conf => { listen_addresses => "'127.0.0.2'" });
my $second = Lunary::Pg->new(conf => { listen_addresses => "'127.0.0.3'" },
                             port => $first->{port},
                             hba => "local all all trust\n"
                                    . "host all all 127.0.0.0/8 trust\n",
                             start => 0);
$first->stop;

for my $pg ($first, $second) {
    Lunary::System::write_file("$pg->{data}/pg_hba.conf", <<'EOF_HBA');
local all all trust
host all lunary_case 127.0.0.0/8 password
host all all 127.0.0.0/8 trust
EOF_HBA
    Lunary::Pg->own("$pg->{data}/pg_hba.conf");
    $pg->start;
}

my $dns = Lunary::Dns->new('db.test' => ['127.0.0.2'],
                           'both.test' => ['127.0.0.9', '127.0.0.2']);
my $bearer = 'Bearer ' . key('alpha');

$first->do(q{create role lunary_case login password 'a secret'
             in role lunary_ro inherit});

# libpq compares host names in the password file by case
my $passfile = Lunary::System::tmpdir('pass') . '/pass';
Lunary::System::write_file($passfile, "DB.Test:*:*:*:a secret\n");
chmod 0600, $passfile;

sub conninfo {
    my ($host, %more) = @_;

    return '"' . $first->conninfo(host => $host, application_name => 'names',
                                  %more) . '"';
}

my $nginx = Lunary::Nginx->new(
    http => "resolver 127.0.0.1:$dns->{port} valid=1s ipv6=off;",
    config => <<"EOF_CONFIG")->start;
        location = /name {
            lunary_database ${\ conninfo('db.test') };
            lunary_pool max=2 lifetime=1s;
            lunary_queue 100 timeout=3s;
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
        location = /both {
            lunary_database ${\ conninfo('both.test') };
            lunary_connect_timeout 1s;
            lunary_queue 100 timeout=5s;
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
        location = /unknown {
            lunary_database ${\ conninfo('unknown.test') };
            lunary_queue 100 timeout=1s;
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
        location = /next {
            lunary_database ${\ conninfo('unknown.test,db.test') };
            lunary_queue 100 timeout=3s;
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
        location = /case {
            lunary_database ${\ conninfo('DB.Test', user => 'lunary_case',
                                         passfile => $passfile) };
            lunary_queue 100 timeout=3s;
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
        location = /dead {
            lunary_database ${\ conninfo("other.test,$first->{socket_dir}") };
            lunary_queue 100 timeout=3s;
            lunary_connect_timeout 500ms;
            lunary_pool max=2 lifetime=1s;
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
        location = /status {
            lunary_status;
        }
EOF_CONFIG

sub get {
    my ($uri) = @_;

    return $nginx->client(timeout => 20)->get($uri, Authorization => $bearer,
                                              Connection => 'close');
}

# the number of failed connect attempts
sub failures {
    return $nginx->client->get('/status')->{body}
           =~ /^lunary_connect_failures_total\S* (\d+)/m ? $1 : undef;
}

is(get('/name')->{status}, 200, 'a name');
ok($first->sessions, 'it uses the first address');
is($second->sessions, 0, 'the second has no session');

is(get('/case')->{status}, 200, 'a name in the case of the password file');
is(get('/both')->{status}, 200, 'a name of two addresses');
is(get('/unknown')->{status}, 503, 'a name that is unknown');

my $failures = failures();
my @lines = grep { /could not be resolved/ }
            split /\n/, $nginx->log_since(0);

cmp_ok($failures, '>=', 4,
       'each failed lookup counts as a failed connect attempt');
cmp_ok(scalar @lines, '<', $failures, 'the log shows a few');
like($lines[0], qr/\[error\].*"unknown\.test:.*\(3: Host not found\)/,
     'the line has the name');

is(get('/next')->{status}, 200, 'the next host after an unknown name');


# the address changes while requests are served

$dns->set('db.test' => ['127.0.0.3']);
my ($bad, $end) = (0, time + 15);

while (time < $end && !$second->sessions) {
    $bad++ if get('/name')->{status} != 200;
    sleep 0.05;
}

ok($second->sessions, 'a new address is used');
is($bad, 0, 'no request fails');

# the new address is used at once when the old one is down
$dns->set('db.test' => ['127.0.0.2']);
sleep 1.2;
$second->stop('fast');
is(get('/name')->{status}, 200, 'the new address when the old one is down');


# the resolver does not respond

$dns->silent(1);
sleep 1.2;

my @clients = map {
    $nginx->client->ask('/unknown', Authorization => $bearer)
} 1 .. 20;

my $slowest = 0;
$end = time + 1;

while (time < $end) {
    my $answer = get('/ok');
    $slowest = $answer->{time} if $answer->{time} > $slowest;
    sleep 0.02;
}

cmp_ok($slowest, '<', 0.2,
       'a dead resolver: other requests are served at once');
is(scalar(grep { $_->answer->{status} != 503 } @clients), 0,
   'a dead resolver: 503 from the queue');

# the resolver does not respond from the start on: no address is known, and
# nginx's own resolver timeout has not passed
$nginx->stop;
$nginx->configure(http => "$nginx->{http} resolver_timeout 0;");
$nginx->start;

my $dead = get('/dead');
is($dead->{status}, 200, 'a dead resolver: the next host is tried');
cmp_ok($dead->{time}, '<', 2.5, 'within the timeout of one host');

$dns->silent(0);
soon { get('/name')->{status} == 200 } 10, 'the resolver is back';

$nginx->stop;


# without a resolver names are resolved when the configuration is read

$nginx = Lunary::Nginx->new(config => <<"EOF_CONFIG");
        location = /name {
            lunary_database ${\ conninfo('localhost') };
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
EOF_CONFIG

$nginx->{allow} = qr/no\.such\.invalid/;

my ($status, $output) = $nginx->test;
is($status, 0, 'nginx -t resolves localhost') or diag($output);

$nginx->configure(config => $nginx->{config} =~ s/host=localhost
                                                 /host=no.such.invalid/xr);
($status, $output) = $nginx->test;
isnt($status, 0, 'nginx -t refuses a name that cannot be resolved');
like($output, qr/no\.such\.invalid/, 'the line has the name');

my $local = Lunary::Pg->new;
$nginx->configure(config => <<"EOF_CONFIG");
        location = /name {
            lunary_database "${\ $local->conninfo(host => 'localhost') }";
            lunary_related_runs 00000000-0000-4000-8000-000000000101;
        }
EOF_CONFIG
$nginx->start;
is(get('/name')->{status}, 200, 'a name without a resolver');

$nginx->stop;
soon { !$first->sessions && !$local->sessions } 5,
     'no session is left';

done_testing();
