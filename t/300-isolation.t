# Projects are isolated: random forests over several projects, with parents,
# users and templates of other projects, cycles, threads and deleted runs; many
# requests at a time over few connections, with clients that leave, slow
# readers, locks, cancelled queries, terminated sessions and errors.  Every
# complete 200 equals the oracle's response for that key, every cut one is a
# prefix of it, and no text of another project is ever sent.
#
#   SEED=17 REQUESTS=100000 RUNS=5000 make test T=t/300-isolation.t

use strict;
use warnings;

use lib 't/lib';
use Lunary::Client qw( crowd );
use Lunary::Nginx;
use Lunary::Oracle;
use Lunary::Pg;
use Lunary::Test;
use Lunary::System qw( wait_until );
use Test::More;
use Time::HiRes qw( time );

my $seed = $ENV{SEED} // time % 100000 | 0;
my $requests = $ENV{REQUESTS} // 6000;
my $nruns = $ENV{RUNS} // 600;
my $rounds = $ENV{ROUNDS} // 3;
my $nprojects = 4;

diag("SEED=$seed REQUESTS=$requests RUNS=$nruns ROUNDS=$rounds");
srand $seed;

sub pick { return $_[rand @_] }
sub chance { return rand() < $_[0] }
sub uuid {
    return join '-', map { join '', map { sprintf '%x', rand 16 } 1 .. $_ }
                     8, 4, 4, 4, 12;
}

my $pg = Lunary::Pg->new(conf => { max_connections => 100,
                                   deadlock_timeout => "'100ms'" });
my $dbh = $pg->dbh;
$dbh->do('set client_min_messages = error');


# A forest.  All values of a project contain "mark<project>x", which the
# response of another project must never contain.

my (@project, @key, @runs, @dead_keys, @users, @versions, @far, %home);

sub json {
    my ($p) = @_;

    return undef if chance(0.2);
    return 'null' if chance(0.05);

    my $mark = "mark${p}x";
    my $size = chance(0.02) ? 20000 : chance(0.1) ? 2000 : 10;
    my $text = '\u00e9 ' x rand $size;

    return pick(qq{"$mark"}, qq{[{"role_of":"$mark","x":[1,2.50]},"b"]},
                qq{{"the_key":"$mark $text","k_$mark":{"_id":1e3}}},
                qq{["$mark $text"]});
}

sub make_project {
    my ($p) = @_;

    $project[$p] = uuid();
    $key[$p] = uuid();

    $dbh->do('insert into project (id, name) values (?, ?)', undef,
             $project[$p], "p$p");
    $dbh->do(q{insert into api_key (type, api_key, project_id)
               values ('private', ?, ?)}, undef, $key[$p], $project[$p]);

    for my $type (qw( public org_private )) {
        push @dead_keys, uuid();
        $dbh->do('insert into api_key (type, api_key, project_id)
                  values (?::api_key_type, ?, ?)', undef, $type,
                 $dead_keys[-1], $type eq 'public' ? $project[$p] : undef);
    }

    for my $i (1 .. 5) {
        push @users, $dbh->selectrow_array('insert into external_user
            (project_id, external_id, props, last_seen)
            values (?, ?, ?, now()) returning id', undef, $project[$p],
            "mark${p}x user $i", json($p));

        my $template = $dbh->selectrow_array('insert into template
            (slug, project_id) values (?, ?) returning id', undef,
            "mark${p}x slug $i", $project[$p]);
        push @versions, $dbh->selectrow_array('insert into template_version
            (template_id) values (?) returning id', undef, $template);
    }
}

sub make_runs {
    my ($n) = @_;

    $dbh->begin_work;

    my $insert = $dbh->prepare('insert into run (id, project_id, created_at,
        ended_at, type, name, parent_run_id, is_deleted, input, output,
        error, params, metadata, feedback, tags, cost, prompt_tokens,
        completion_tokens, external_user_id, template_version_id, status)
        values (?, ?, timestamptz \'2026-01-01\' + ? * interval \'1 s\',
        now(), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)');

    for (1 .. $n) {
        my $p = int rand $nprojects;
        my $id = uuid();
        my $type = chance(0.08) ? 'thread'
                   : pick(qw( chat chat llm tool chain agent ));

        # most parents are of the same project; some trees are large
        my @same = grep { $home{$_} == $p } chance(0.3) ? @far : @runs;
        my $parent = !@runs || chance(0.2) ? undef
                     : @same && chance(0.85) ? pick(@same) : pick(@runs);

        $insert->execute($id, $project[$p], int rand 1000, $type,
            "mark${p}x run", $parent, chance(0.1) ? 1 : 0, map({ json($p) }
            1 .. 6), chance(0.5) ? ["mark${p}x tag", undef] : undef,
            chance(0.5) ? rand : undef, chance(0.5) ? 7 : undef,
            chance(0.5) ? 11 : undef, chance(0.6) ? pick(@users) : undef,
            chance(0.6) ? pick(@versions) : undef, 'success');

        $home{$id} = $p;
        push @runs, $id;
        push @far, $id if @far < 12 || chance(0.02);
    }

    # cycles, also through another project
    for (1 .. $n / 25) {
        $dbh->do('update run set parent_run_id = ? where id = ?', undef,
                 pick(@runs), pick(@runs));
    }

    my $self = pick(@runs);
    $dbh->do('update run set parent_run_id = id where id = ?', undef, $self);

    $dbh->commit;
    $dbh->do('analyze');
}

make_project($_) for 0 .. $nprojects - 1;
make_runs($nruns);


# Three ways to the same database: prepared statements, few connections and
# the key cache; no prepared statements; tiny buffers without a file.

my $place = sub {
    my ($name, $conf) = @_;
    return <<"EOF_CONFIG";
        location ~ "^/$name/(?<run_id>[^/]+)/related\$" {
            $conf
            lunary_related_runs \$run_id;
        }
EOF_CONFIG
};

my $nginx = Lunary::Nginx->new(workers => 2, log_level => 'error',
    http => 'lunary_database "' . $pg->conninfo . q{";
        lunary_query_timeout 400ms;
        lunary_connect_timeout 2s;
        lunary_queue 512 timeout=2s;
        lunary_pool max=2;
        lunary_buffers 8k max=32k;
        keepalive_requests 100000;},
    config => $place->('v', 'lunary_key_cache zone=keys:256k valid=1s;')
        . $place->('n', 'lunary_null_fields include; lunary_prepare off;')
        . $place->('s', 'lunary_max_temp_file_size 0;
                         lunary_pool max=1 lifetime=1s;'));
$nginx->start;


# Requests and their responses.

my $oracle = Lunary::Oracle->new($pg->dbh);
my (%known, %count, @wrong, @cut, %disturbed);

sub wrong {
    my ($request, $why) = @_;

    $count{wrong}++;
    push @wrong, "$request->{place} run $request->{run} key of"
                 . " $request->{p}: $why" if @wrong < 10;
}

sub rows {
    my ($request) = @_;

    return if $request->{p} !~ /^\d+$/;
    return $oracle->related($project[$request->{p}], $request->{run});
}

sub check {
    my ($request, $answer) = @_;

    $count{asked}++;

    return $count{left}++ if $answer->{left};
    return wrong($request, 'no response in time') if $answer->{unfinished};

    my $status = $answer->{status};
    $count{"of $status"}++;

    my $p = $request->{p};
    my @marks = $answer->{body} =~ /mark(\d+)x/g;

    return wrong($request, "the body has a mark of another project")
        if grep { $_ ne $p } @marks;

    if ($status == 200) {
        return whole($request, $answer) if $answer->{whole};

        # the response was cut
        $count{cut}++;
        push @cut, [$request, $answer];
        return;
    }

    return wrong($request, "$status is cut short")
        if !$answer->{whole} && $status;

    if ($status == 404) {
        return wrong($request, '404 for a run that is there')
            if rows($request);
        return wrong($request, '404 for a key that opens nothing')
            if $p !~ /^\d+$/;
        return;
    }

    return if $status == 401 && $p !~ /^\d+$/;
    return if $status == 503 || $status == 504;
    return if $status == 500 && $disturbed{grants};

    # no byte of a response: an old worker closed a connection that was kept
    # alive; or a reset discarded what was not read
    return if !$status
              && ($disturbed{reload} || $request->{version} eq '1.0'
                                        && $disturbed{any});

    wrong($request, "status $status");
}

sub whole {
    my ($request, $answer) = @_;

    my $rows = rows($request);
    return wrong($request, '200 for a run that is not there') if !$rows;
    return if $request->{method} eq 'HEAD';

    my $name = "$request->{p} $request->{run} $request->{nulls}";

    if (defined $known{$name}) {
        $count{compared}++;
        return wrong($request, 'not what it was before')
            if $known{$name} ne $answer->{body};
        return;
    }

    my $why = $oracle->compare($answer->{body}, $rows,
                               nulls => $request->{nulls});
    return wrong($request, $why) if defined $why;

    $count{compared}++;
    $known{$name} = $answer->{body};
}


sub make_request {
    my $place = pick(qw( v v n s ));
    my $p = chance(0.06) ? 'dead' : int rand $nprojects;
    my $run = chance(0.03) ? uuid() : chance(0.1) ? pick(@far) : pick(@runs);

    # mostly keys of the run's project, as otherwise most responses are 404
    $p = $home{$run} if $p ne 'dead' && defined $home{$run} && chance(0.7);

    my $key = $p eq 'dead' ? pick(@dead_keys, uuid()) : $key[$p];
    my $method = chance(0.1) ? 'HEAD' : 'GET';
    my $version = chance(0.05) ? '1.0' : '1.1';

    my %request = (place => $place, p => $p, run => $run, method => $method,
        version => $version, nulls => $place eq 'n' ? 1 : 0,
        text => "$method /$place/$run/related HTTP/$version\r\nHost: l\r\n"
                . "Authorization: Bearer $key\r\n\r\n");

    if (chance(0.08)) {
        $request{leave} = pick(qw( close reset ));
        $request{after} = chance(0.5) ? int rand 9000 : 0;
        $request{wait} = rand 0.05;

    } elsif (chance(0.03)) {
        $request{slow} = 500 + int rand 4000;
    }

    return \%request;
}


# Disturbances: one at a time, for a moment each.

my ($undo, $due, $quiet) = (undef, 0, 0);

my @troubles = (
    (map { [kill => sub {
        $dbh->do(q{select pg_terminate_backend(pid) from pg_stat_activity
            where usename = 'lunary_ro' order by random() limit 2});
    }] } 1 .. 3),
    (map { [cancel => sub {
        $dbh->do(q{select pg_cancel_backend(pid) from pg_stat_activity
            where usename = 'lunary_ro' and state = 'active'});
    }] } 1 .. 2),
    (map { [lock => sub {
        $dbh->do(q{set lock_timeout = '300ms'});
        $dbh->begin_work;
        $undo = sub { $dbh->rollback };
        eval { $dbh->do('lock table run in access exclusive mode'); 1 }
            or do { $dbh->rollback; undef $undo };
    }] } 1 .. 2),
    [grants => sub {
        $dbh->do(q{set lock_timeout = '300ms'});
        $undo = sub { $dbh->do('grant select on external_user to lunary_ro') };
        eval { $dbh->do('revoke select on external_user from lunary_ro') };
    }],
    [killall => sub {
        $dbh->do(q{select pg_terminate_backend(pid) from pg_stat_activity
            where usename = 'lunary_ro'});
    }],
    [reload => sub { $nginx->signal('HUP') }],
);

sub disturb {
    my $now = time;

    if ($undo) {
        return if $now < $due;
        $undo->();
        undef $undo;
        $due = $now + 0.1 + rand 0.3;
        return;
    }

    return if $now < $due;

    my ($name, $do) = @{ pick(@troubles) };

    return if $name eq 'reload' && $count{reload} && $count{reload} > 5;

    $count{$name}++;
    $disturbed{any} = $disturbed{$name} = 1;
    $do->();
    $due = $now + 0.2 + rand 0.5;
}


sub ask_many {
    my ($n, %arg) = @_;

    crowd(port => $nginx->{port}, clients => 48, seconds => 300,
        next => sub {
            return if $n <= 0;
            my $many = chance(0.2) ? 2 + int rand 4 : 1;
            $n -= $many;
            return map { make_request() } 1 .. $many;
        },
        done => \&check, %arg);
}

for my $round (1 .. $rounds) {
    $oracle->forget;
    %known = ();
    %disturbed = ();
    @cut = ();

    # without disturbances no request may fail
    my %before = %count;
    ask_many($requests / $rounds / 3);

    for my $status (500, 503, 504, 0) {
        is(($count{"of $status"} // 0) - ($before{"of $status"} // 0), 0,
           "round $round, undisturbed: none of status $status");
    }
    is(scalar @cut, 0, "round $round, undisturbed: none cut short");
    is($count{wrong} // 0, 0, "round $round, undisturbed: all are right")
        or last;

    my $old = join ' ', $nginx->worker_pids;

    ask_many($requests / $rounds * 2 / 3, tick => \&disturb);

    $undo->() if $undo;
    undef $undo;
    $dbh->do('grant select on external_user to lunary_ro');

    is($count{wrong} // 0, 0, "round $round, disturbed: all are right")
        or last;

    # a cut response is a prefix of the right one
    $disturbed{grants} = 0;

    wait_until {
        $nginx->client->get("/v/$runs[0]/related", Authorization =>
            "Bearer $key[$home{$runs[0]}]")->{status} =~ /^(?:200|404)$/
    } 10, 'the database after the disturbances';

    my $beginnings = 0;

    for my $pair (@cut) {
        my ($request, $answer) = @$pair;
        my $name = "$request->{p} $request->{run} $request->{nulls}";

        my $body = $known{$name};

        if (!defined $body && $request->{method} eq 'GET') {
            my $whole = wait_until {
                my $again = $nginx->client->get(
                    "/$request->{place}/$request->{run}/related",
                    Authorization => "Bearer $key[$request->{p}]");
                $again->{status} == 200 && $again->{whole} && $again;
            } 10, 'a complete response';

            whole($request, $whole);
            $body = $whole->{body};
        }

        $beginnings++ if index($body // '', $answer->{body}) == 0;
    }

    is($beginnings, scalar @cut, "round $round: cut responses are prefixes");

    # the next round has other runs
    make_runs(int($nruns / 10));
    $dbh->do('update run set is_deleted = not is_deleted where random() < 0.1');
}

is(join("\n", @wrong), '', 'nothing was wrong');


# A statement whose first use on a connection fails is prepared after that.

$oracle->forget;
my $some = (grep { rows({ p => $home{$_}, run => $_ }) } @runs)[0];

$nginx->configure(config => $place->('f', 'lunary_pool max=1;'), workers => 1);
$nginx->reload;

sub first {
    return $nginx->client->get("/f/$some/related", Authorization =>
                               "Bearer $key[$home{$some}]")->{status};
}

# the first failure retires the connection, the second follows too soon for that
$dbh->do('revoke select on external_user from lunary_ro');
is(first(), 500, 'the first use of a statement fails');
is(first(), 500, 'it fails on another connection, too');
$dbh->do('grant select on external_user to lunary_ro');
is(first(), 200, 'the next use succeeds');


diag(join "\n", grep { /500|42/ } split /\n/, $nginx->log_since(0)) if @wrong;
diag(join ', ', map { "$_: $count{$_}" } sort keys %count);

$nginx->stop;
done_testing();
