# A server that violates PostgreSQL's protocol: messages that are truncated, out
# of order, too long or senseless; values of the wrong size; a connection that
# ends at each byte of a session.  nginx stays alive, responds with 500, 503 or
# 504 or cuts the response, and serves again as soon as the server behaves.
#
#   SEED=17 SECONDS=600 make test T=t/320-server.t      longer, at random
#   STEP=1                                              cut at every byte

use strict;
use warnings;

use lib 't/lib';
use JSON::XS;
use List::Util qw( shuffle uniq );
use Lunary::Client qw( crowd );
use Lunary::FakePg;
use Lunary::Load qw( memory );
use Lunary::Nginx;
use Lunary::System qw( patience wait_until );
use Test::More;
use Time::HiRes qw( time );

my $seed = $ENV{SEED} // time % 100000 | 0;
my $seconds = $ENV{SECONDS} // 8;
my $step = $ENV{STEP} // 3;

diag("SEED=$seed SECONDS=$seconds STEP=$step");
srand $seed;

my $fake = Lunary::FakePg->new->start;
my $nginx = Lunary::Nginx->new(log_level => 'error', http => <<'EOF_CONFIG');
    lunary_pool max=1;
    lunary_queue 64 timeout=6s;
    lunary_buffers 8k;
EOF_CONFIG
my $timeout = 1500 * patience();    # ms


# Each behaviour has its own database, pool and location.  Returns the responses
# of each name, in order.

sub ask {
    my ($times, @names) = @_;

    my %answers;
    my @todo = map { shuffle(@names) } 1 .. $times;

    behave('', 'good', @names);

    # libpq leaks a result that has no end before ReadyForQuery
    local $ENV{ASAN_OPTIONS} = join ':', $ENV{ASAN_OPTIONS} // (),
        'detect_leaks=0'
        if !@names || $names[0] !~ /^(?:cut|bytes)_/;
    local $ENV{TEST_NGINX_USE_VALGRIND} = $ENV{TEST_NGINX_USE_VALGRIND}
                                          . ' --leak-check=no'
        if $ENV{TEST_NGINX_USE_VALGRIND}
           && (!@names || $names[0] !~ /^(?:cut|bytes)_/);

    $nginx->start;
    my $worker = wait_until { ($nginx->worker_pids)[0] } 10, 'a worker';

    crowd(port => $nginx->{port}, clients => 30, seconds => 300,
        next => sub {
            my $name = shift @todo // return;
            return { method => method($name), name => $name,
                     text => request($name) };
        },
        done => sub { push @{ $answers{$_[0]{name}} }, $_[1] });

    my $good = one('good');
    is(($nginx->worker_pids)[0], $worker, "$names[0]...: the worker lives")
        if @names;
    is($good->{status}, 200, 'a good request is served') if @names;

    $nginx->stop('TERM');
    return $good if !@names;
    return \%answers;
}

sub behave {
    my ($conf, @names) = @_;

    $nginx->configure(config => join '', map { <<"EOF_CONFIG" } @names);
        location = /$_ {
            lunary_database "@{[ $fake->conninfo($_) ]}";
            lunary_related_runs $Lunary::FakePg::Run;
            lunary_connect_timeout ${timeout}ms;
            lunary_query_timeout ${timeout}ms;
            $conf
        }
EOF_CONFIG
}

sub method { return $_[0] =~ /^exists_/ ? 'HEAD' : 'GET' }

sub request {
    my ($name) = @_;

    return method($name) . " /$name HTTP/1.1\r\nHost: l\r\nAuthorization:"
           . " Bearer $Lunary::FakePg::Run\r\n\r\n";
}

sub one {
    my ($name) = @_;

    my $client = $nginx->client(timeout => 10);
    $client->send(request($name));
    my $answer = $client->answer;
    $client->close;

    return $answer;
}

sub word {
    my ($answer) = @_;

    return 'none' if $answer->{unfinished};
    return 'cut' if !$answer->{whole};
    return $answer->{status};
}

# PostgreSQL validates the encoding of its strings, the module does not
sub json {
    return JSON::XS->new->decode($_[0]);
}

my $good = ask(1);
my $runs = eval { json($good->{body}) } // [];
is(scalar @$runs, 3, 'a good session is served')
    or BAIL_OUT("the fake server and the module disagree: $good->{body}");


# Each misbehaviour, always and once.

my @modes = Lunary::FakePg::modes();
my $always = ask(2, map { $_->[0] } @modes);

# one fake server serves all requests, so one may have waited for another:
# repeat alone those whose response was not the expected one

for my $pair (@modes) {
    my ($name, $expected) = @$pair;

    $always->{$name} = ask(1, $name)->{$name}
        if grep { word($_) !~ /^(?:$expected)$/ } @{ $always->{$name} };
}

for my $pair (@modes) {
    my ($name, $expected) = @$pair;

    for my $answer (@{ $always->{$name} }) {
        like(word($answer), qr/^(?:$expected)$/, "$name: the status");
        ok(eval { json($answer->{body}) }, "$name: is JSON")
            if word($answer) eq '200' && method($name) eq 'GET';
    }
}

# a correct server may send these as well, so they retire no connection
my %sane = map { $_ => 1 } qw( cancelled cost_nan exists_good exists_key
    exists_public exists_not full_gone head_absent time_first time_last
    tokens_huge );
my $once = ask(6, map { $sane{$_->[0]} ? () : "$_->[0]_x1" } @modes);

for my $name (sort keys %$once) {
    my @words = map { word($_) } @{ $once->{$name} };

    is($words[-1], 200, "$name: serves again (@words)");
    is($once->{$name}[-1]{body}, method($name) eq 'HEAD' ? '' : $good->{body},
       "$name: the right response");
}


# Unsolicited notifications take no memory.

behave('lunary_pool max=1;', 'notifies');
$nginx->start;

my %memory = (first => 5, last => 60);

for my $when (qw( first last )) {
    my @bad = grep { $_->{status} != 200 || $_->{body} ne $good->{body} }
              map { one('notifies') } 1 .. $memory{$when};

    is(scalar @bad, 0, "notifications, $when: the right responses");
    $memory{$when} = memory(($nginx->worker_pids)[0]);
}

SKIP: {
    skip 'what is free is kept', 1
        if $ENV{TEST_NGINX_LD_PRELOAD} || $ENV{TEST_NGINX_USE_VALGRIND};
    cmp_ok($memory{last} - $memory{first}, '<', 4_000_000,
           'notifications take no memory');
}

$nginx->stop('TERM');


# A byte at a time.

$timeout = 10_000;
$nginx->{http} =~ s/timeout=6s/timeout=20s/;
my $slow = ask(3, 'bytes_1', 'bytes_7', 'bytes_100');

for my $name (sort keys %$slow) {
    is(scalar(grep { $_->{status} == 200 && $_->{body} eq $good->{body} }
              @{ $slow->{$name} }), 3, "$name at a time");
}


# A session that ends at any byte: the retry succeeds.

my @cuts = map { $_ * $step + int rand $step }
           0 .. Lunary::FakePg::session_length() / $step;
my @wrong;

while (my @some = splice @cuts, 0, 250) {
    my $answers = ask(1, map { "cut_${_}_x1" } @some);

    for my $name (sort keys %$answers) {
        my $answer = $answers->{$name}[0];
        push @wrong, "$name: " . word($answer)
            if word($answer) ne '200' || $answer->{body} ne $good->{body};
    }
}

is("@wrong[0 .. ($#wrong < 9 ? $#wrong : 9)]", '',
   'a session may end at any byte');

$timeout = 1500 * patience();
$nginx->{http} =~ s/timeout=20s/timeout=6s/;

# sessions that always end at the same byte
my $never = ask(1, uniq map {
    'cut_' . int rand Lunary::FakePg::session_length()
} 1 .. 60);
my @others = grep { $never->{$_}[0]{status} !~ /^50[034]$/ } sort keys %$never;
is("@others", '', 'a session that always ends there is a 500, 503 or 504');


# At random.

my $end = time + $seconds;
my (%count, @odd);
my $number = $seed * 100000;

while (time < $end) {
    my $answers = ask(2, map { 'random_' . $number++ } 1 .. 150);

    for my $name (sort keys %$answers) {
        for my $answer (@{ $answers->{$name} }) {
            my $word = word($answer);

            $count{$word}++;
            push @odd, "$name: $word"
                if $word !~ /^(?:200|401|404|500|503|504|cut)$/;
        }
    }
}

is("@odd[0 .. ($#odd < 9 ? $#odd : 9)]", '',
   'random messages cause no other outcome');
diag(join ', ', map { "$_: $count{$_}" } sort keys %count);

$fake->stop;
done_testing();
