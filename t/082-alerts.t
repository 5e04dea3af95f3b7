# The alert rules: their syntax, with recorded metrics, and in a real Prometheus
# while each failure is caused.  There is one nginx for each failure, and a
# healthy one; each must have exactly the expected alerts.
#
# Packages: prometheus

use strict;
use warnings;

use lib 't/lib';
use HTTP::Tiny;
use JSON::XS qw( decode_json );
use Lunary::Load qw( slow trees );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Session qw( token );
use Lunary::System qw( free_port kill_wait project_dir read_file run_cmd
                       tmpdir wait_until write_file );
use Lunary::Test qw( key project related_uri );
use POSIX ();
use Test::More;
use Time::HiRes qw( sleep );

plan skip_all => 'not with a sanitizer or valgrind: the rules are of times'
    if $ENV{SANITIZE} || $ENV{VALGRIND};

for my $tool (qw( prometheus promtool )) {
    plan skip_all => "$tool is not installed"
        if !grep { -x "$_/$tool" } split /:/, $ENV{PATH};
}

my $top = project_dir();
my ($status, $text) = run_cmd('promtool', 'check', 'rules',
                              "$top/conf/alerts.yml");
is $status, 0, 'promtool check rules' or diag $text;

($status, $text) = run_cmd('promtool', 'test', 'rules',
                           "$top/t/alerts.test.yml");
is $status, 0, 'promtool test rules' or diag $text;


# a server that is stopped, and one for the other failures; a failure that
# changes a database has its own

my $down = Lunary::Pg->new;
my $pg = Lunary::Pg->new(conf => { max_connections => 200 },
    hba => "local all lunary_pw scram-sha-256\nlocal all all trust\n");
my ($large) = trees($pg, count => 1, runs => 400, bytes => 12_000_000);

$pg->do(q{create role lunary_pw login password 'right'});
$pg->do('create role lunary_full login connection limit 0');
$pg->dbh->disconnect;
$pg->dbh('postgres')->do("create database $_ template lunary")
    for qw( grants broken late held lost cut sessions );
sql('sessions', 'revoke select on account_project from lunary_ro');

slow($pg, 110 => 0.1);

my $secret = tmpdir('secret') . '/secret';
write_file($secret, 'a secret');

# for each failure its cause, the requests, the clients and the alert

my $run = related_uri(101);
my %fault = (
    healthy  => { ask => $run, pause => 0.1 },
    away     => { alert => 'LunaryDatabaseAway', ask => $run, pause => 0.1,
                  conninfo => $down->conninfo,
                  happen => sub { $down->stop('immediate') } },
    login    => { alert => 'LunaryLoginRefused', ask => $run, pause => 0.1,
                  conninfo => $pg->conninfo(user => 'lunary_pw',
                                            password => 'wrong') },
    full     => { alert => 'LunaryDatabaseFull', ask => $run, pause => 0.1,
                  conninfo => $pg->conninfo(user => 'lunary_full') },
    grants   => { alert => 'LunarySchemaWrong', ask => $run, pause => 0.1,
                  happen => sub { sql('grants',
                      'revoke select on run from lunary_ro') } },
    broken   => { alert => 'LunaryErrors', ask => $run, pause => 0.1,
                  happen => sub { sql('broken',
                      'alter table api_key rename to keys',
                      'create view api_key as select * from keys'
                      . ' where 1 / (id - id) = 1',
                      'grant select on api_key to lunary_ro') } },
    queue    => { alert => 'LunaryQueueLong', ask => related_uri(110),
                  pause => 0.05, clients => 5, db => 'lunary',
                  config => 'lunary_pool max=1; lunary_queue 1;' },
    cut      => { alert => 'LunaryResponsesCut', ask => related_uri($large),
                  config => 'lunary_buffers 4k max=16k;'
                            . 'lunary_max_temp_file_size 0;',
                  client => \&slow_client,
                  meanwhile => sub { terminate('cut', 'Client'); sleep 0.3 } },
    late     => { alert => 'LunaryTimeouts', ask => $run, pause => 0.1,
                  config => 'lunary_query_timeout 300ms;',
                  meanwhile => sub { lock_for('late', 60) } },
    held     => { alert => 'LunaryFirstRowSlow', ask => $run, pause => 0.1,
                  meanwhile => sub { lock_for('held', 2); sleep 0.2 } },
    lost     => { alert => 'LunaryUnavailable', ask => $run, pause => 0.1,
                  meanwhile => sub { lock_for('lost', 3,
                      sub { terminate('lost', 'Lock'); sleep 0.2 }) } },
    keys     => { alert => 'LunaryKeysRefused', ask => $run, pause => 0.02,
                  key => sub { sprintf 'dddddddd-0000-4000-8000-%012x',
                               rand 2 ** 40 } },
    sessions => { alert => 'LunarySessionsRefused', pause => 0.1,
                  ask => "$run?projectId=" . project('alpha'),
                  config => "lunary_jwt_secret_file $secret;",
                  key => sub { token(secret => 'a secret') } },
);


sub sql {
    my ($db, @sql) = @_;

    $pg->dbh($db)->do($_) for @sql;
}

# the sessions that run the query of a request, without those in setup
sub terminate {
    my ($db, $wait) = @_;

    $pg->dbh($db)->do(q{select pg_terminate_backend(pid) from pg_stat_activity
        where usename = 'lunary_ro' and state = 'active' and datname = ?
        and wait_event_type = ?}, undef, $db, $wait);
}

sub lock_for {
    my ($db, $seconds, $meanwhile) = @_;

    my $dbh = $pg->dbh($db)->clone;
    my $end = Time::HiRes::time() + $seconds;

    $dbh->begin_work;
    $dbh->do('lock table run');

    while (Time::HiRes::time() < $end) {
        $meanwhile->() if $meanwhile;
        sleep 0.05;
    }

    $dbh->rollback;
    $dbh->disconnect;
}

sub slow_client {
    my ($nginx, $fault, @header) = @_;

    my $client = $nginx->client(rcvbuf => 4096)->connect;

    $client->ask($fault->{ask}, @header);

    # until the response is cut
    while (($client->read_some(2, 4096) // 0) > 0) {
        sleep 0.02;
    }

    $client->close;
}

sub client {
    my ($nginx, $fault, @header) = @_;

    $nginx->client->get($fault->{ask}, @header);
    sleep $fault->{pause};
}


# a process that repeats something

my @children;

sub again {
    my ($what) = @_;

    my $pid = fork() // die "fork: $!";

    if ($pid == 0) {
        $SIG{TERM} = 'DEFAULT';
        while (1) { eval { $what->(); 1 } or sleep 0.1 }
    }

    push @children, $pid;
}

END {
    local $?;
    kill_wait('KILL', $_, 5) for @children;
}


for my $name (sort keys %fault) {
    my $f = $fault{$name};
    my $db = $f->{db} // (grep({ $_ eq $name } qw( grants broken late held
                                                    lost cut sessions ))
                          ? $name : 'lunary');
    my $conninfo = $f->{conninfo} // $pg->conninfo(dbname => $db);

    $f->{nginx} = Lunary::Nginx->new(config => <<"EOF_CONFIG")->start;
        lunary_database "$conninfo";
        @{[ $f->{config} // '' ]}
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related\$" {
            lunary_related_runs \$run_id;
        }
        location = /metrics {
            lunary_status;
        }
EOF_CONFIG
}


# Prometheus with the rules; only their times are shorter

my $dir = tmpdir('prometheus');
my $port = free_port();
my $rules = read_file("$top/conf/alerts.yml");

$rules =~ s/\[\d+m\]/[15s]/g;
$rules =~ s/for: \d*[1-9]\d*[ms]/for: 4s/g;
write_file("$dir/alerts.yml", $rules);
write_file("$dir/prometheus.yml", <<'EOF_HEAD' . join '', map {
global:
  scrape_interval: 1s
  evaluation_interval: 1s
rule_files: [alerts.yml]
scrape_configs:
  - job_name: lunary
    static_configs:
EOF_HEAD
        "      - targets: ['127.0.0.1:$fault{$_}{nginx}{port}']\n"
        . "        labels: { fault: $_ }\n" } sort keys %fault);

my $prometheus = fork() // die "fork: $!";

if ($prometheus == 0) {
    open STDOUT, '>', "$dir/log";
    open STDERR, '>&', \*STDOUT;
    exec('prometheus', "--config.file=$dir/prometheus.yml",
         "--storage.tsdb.path=$dir/data",
         "--web.listen-address=127.0.0.1:$port") or POSIX::_exit(127);
}

push @children, $prometheus;

sub ask {
    my ($query) = @_;

    my $res = HTTP::Tiny->new(timeout => 5)->post_form(
        "http://127.0.0.1:$port/api/v1/query", { query => $query });

    return $res->{success} ? decode_json($res->{content})->{data}{result}
                           : undef;
}

# "failure alert" for each result of a query
sub fired {
    my ($query) = @_;

    return map { $_ => 1 } map { "$_->{metric}{fault} $_->{metric}{alertname}" }
           @{ ask($query) // [] };
}

wait_until { @{ ask('up == 1') // [] } == keys %fault } 30, 'Prometheus';


# cause the failures

for my $name (sort keys %fault) {
    my $f = $fault{$name};
    my $key = $f->{key} // sub { key('alpha') };
    my $client = $f->{client} // \&client;

    again(sub { $client->($f->{nginx}, $f, Connection => 'close',
                          Authorization => 'Bearer ' . $key->()) })
        for 1 .. $f->{clients} // 1;
    again($f->{meanwhile}) if $f->{meanwhile};
    $f->{happen}->() if $f->{happen};
}

my @expected = map { "$_ $fault{$_}{alert}" }
               grep { $fault{$_}{alert} } sort keys %fault;
my $firing = 'ALERTS{alertstate="firing"}';

wait_until {
    my %is = fired($firing);
    !grep { !$is{$_} } @expected;
} 60;

# continue for some time, so that unexpected alerts can fire
sleep 8;

my %ever = fired("count_over_time($firing\[5m])");

for my $name (sort keys %fault) {
    is join(', ', sort map { (split / /)[1] } grep { /^$name / } keys %ever),
        $fault{$name}{alert} // '', "$name: " . ($fault{$name}{alert}
                                                 // 'no alert');
}

my ($healthy) = @{ ask('lunary_requests_total{fault="healthy",outcome="ok"}')
                   // [] };
cmp_ok $healthy->{value}[1] // 0, '>', 50, 'the healthy nginx had requests';


# the text of an alert, and that it ends with its failure

my ($alert) = grep { $_->{labels}{fault} eq 'held' }
              @{ decode_json(HTTP::Tiny->new->get(
                  "http://127.0.0.1:$port/api/v1/alerts")->{content})
                 ->{data}{alerts} };
like $alert->{annotations}{summary}, qr/lets 127\.0\.0\.1:\d+ wait for the first row: [12]\.\d+s for/,
    'with its numbers' or diag explain $alert;

$down->start;
ok wait_until { my %is = fired($firing); !$is{'away LunaryDatabaseAway'} } 20,
    'the database is back: the alert ends';

kill_wait('TERM', $_, 10) for @children;
@children = ();
$_->{nginx}->stop('TERM') for values %fault;

done_testing;
