# Workers are killed under load, with 2,000 keys in a key cache that is too
# small for them.  No key ever has access to another key's project, no worker
# crashes, and the counters are kept.  LUNARY_FULL=1 for the full length.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Client qw( crowd );
use Lunary::Load qw( soon );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::System qw( patience );
use Test::More;

my $KEYS = 2000;
my $SECONDS = ($ENV{LUNARY_FULL} ? 60 : 10) * patience();

my $pg = Lunary::Pg->new;

sub id { return sprintf '%08d-0000-4000-8000-00000000%04x', $_[1], $_[0] }
sub project_id { return id($_[0], 11) }
sub api_key { return id($_[0], 22) }
sub run_id { return id($_[0], 33) }

for my $n (0 .. $KEYS - 1) {
    $pg->dbh->do('insert into project (id, org_id, name)
                  select ?, org_id, ? from project limit 1', undef,
                 project_id($n), "project $n");
    $pg->dbh->do(q{insert into api_key (type, api_key, project_id)
                   values ('private', ?, ?)}, undef, api_key($n),
                 project_id($n));
    $pg->dbh->do(q{insert into run (id, project_id, type, name)
                   values (?, ?, 'chain', ?)}, undef, run_id($n),
                 project_id($n), "run $n");
}

$pg->do('create index on api_key (api_key)');
$pg->do('analyze');

my $nginx = Lunary::Nginx->new(
    workers => 4,
    daemon => 1,
    allow => qr/exited on signal 9/,
    http => 'lunary_database "' . $pg->conninfo . '";
        lunary_pool max=4;
        lunary_queue 1000 timeout=10s;
        lunary_key_cache zone=keys:32k valid=1h;',
    config => <<'EOF_CONFIG')->start;
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
            add_header X-Cache $lunary_key_cache_status always;
        }
        location = /metrics {
            lunary_status;
        }
EOF_CONFIG

my (@wrong, %seen);
my $killed = 0;
my $next = 0;

# requests with each key its own run, and sometimes that of another key
sub request {
    my ($key, $run) = @_;

    return { key => $key, run => $run, method => 'GET', text => join "\r\n",
             "GET /v1/runs/${\ run_id($run) }/related HTTP/1.1",
             'Host: localhost', "Authorization: Bearer ${\ api_key($key) }",
             '', '' };
}

sub check {
    my ($request, $answer) = @_;

    my ($key, $run) = @$request{qw( key run )};
    my $status = $answer->{status};

    # its worker was killed
    return $seen{lost}++ if !$answer->{whole} && $killed;

    $seen{$answer->{header}{'x-cache'} // '-'}++;

    my ($name) = $answer->{body} =~ /"name":"run (\d+)"/;
    my $right = $key == $run
                ? $status == 200 && defined $name && $name == $run
                  && index($answer->{body}, project_id($key)) > 0
                : $status == 404;

    push @wrong, "key $key, run $run: $status $answer->{body}"
        if !$right && @wrong < 5;

    return;
}

sub load {
    my (%arg) = @_;

    crowd(port => $nginx->{port}, clients => 32, done => \&check, %arg);
}

load(seconds => $SECONDS,
    next => sub {
        my @keys = map { rand() < 0.5 ? int rand $KEYS : int rand 100 } 1 .. 4;
        return map { request($_, rand() < 0.2 ? int rand $KEYS : $_) } @keys;
    },
    tick => sub {
        return if ++$next % 3;
        my @pids = $nginx->worker_pids;
        $killed += kill 'KILL', $pids[rand @pids] if @pids;
    });

is("@wrong", '', 'no key opened another project');
cmp_ok($killed, '>', 20, "$killed workers were killed");
cmp_ok($seen{$_} // 0, '>', 100, "$_: $seen{$_}") for qw( HIT MISS );
note('lost: ', $seen{lost} // 0);

# all keys; now no request is lost

soon { $nginx->worker_pids == 4 } 5, 'there are workers';
($killed, %seen) = (0);

my @all = map { [$_, $_], [$_, ($_ + 1) % $KEYS] } 0 .. $KEYS - 1;
load(seconds => 60, next => sub {
    return map { request(@$_) } splice @all, 0, 4;
});

is("@wrong", '', 'each of the keys opens its own project, and no other');
is($seen{lost} // 0, 0, 'no response is lost');
is(scalar(grep { /exited on signal (?!9\b)/ }
          split /\n/, $nginx->log_since(0)), 0, 'no worker ends by itself');

my $metrics = $nginx->client->get('/metrics')->{body};
my %value = $metrics =~ /^(lunary_\S+) (\d+)$/mg;

cmp_ok($value{'lunary_requests_total{outcome="ok"}'}, '>=', $KEYS,
       'the counters are there');
is($value{'lunary_queue_length'}, 0, 'no request waits');
cmp_ok($value{'lunary_connections{state="idle"}'}
       + $value{'lunary_connections{state="busy"}'}, '<=', 16,
       'the connections of killed workers are not counted');

$nginx->stop;
done_testing();
