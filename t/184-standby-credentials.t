# A standby that lags does not have a key, a member and a run yet; and what
# $lunary_addr and the metrics show.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Load qw( soon );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Session qw( token );
use Lunary::System qw( write_file );
use Lunary::Test;
use Test::More;

my $secret = 'a secret of the tests, 32 bytes+';
my $primary = Lunary::Pg->new;
my $standby = $primary->standby(recovery_min_apply_delay => "'1h'");

my $nginx = Lunary::Nginx->new;
write_file("$nginx->{dir}/secret", $secret);
chmod 0600, "$nginx->{dir}/secret";

my $hosts = "host=$standby->{socket_dir},$primary->{socket_dir}"
            . " port=$standby->{port},$primary->{port}"
            . ' dbname=lunary user=lunary_ro password=lunary';

sub place {
    my ($name, $database) = @_;

    return qq{location ~ "^/$name/v1/runs/(?<run_id>[^/]+)/related\$" {
                  lunary_database "$database";
                  lunary_related_runs \$run_id;
                  lunary_jwt_secret_file $nginx->{dir}/secret;
                  add_header X-Addr \$lunary_addr always;
              }\n};
}

$nginx->configure(workers => 1,
    config => place(prefer => "$hosts target_session_attrs=prefer-standby")
        . place(any => $hosts)
        . place(only => "$hosts target_session_attrs=standby")
        . 'location = /status { lunary_status; }');
$nginx->start;

sub get {
    my ($place, $n, %header) = @_;

    my $query = delete $header{query} // '';
    my $method = delete $header{method} // 'GET';
    my $client = $nginx->client;
    my $answer = $client->exchange($method => "/$place" . related_uri($n)
                                   . $query, %header);
    $client->close;

    return $answer;
}

sub metric {
    my ($name) = @_;

    my $page = $nginx->client->get('/status')->{body};
    return $page =~ /^$name (\d+)$/m ? $1 : undef;
}

my %alpha = (Authorization => 'Bearer ' . key('alpha'));
my $new = '00000000-0000-4000-8000-0000000d0001';
my $key = 'cccccccc-0000-4000-8000-0000000d0001';
my $user = '00000000-0000-4000-8000-0000000d0002';

# rows that the standby has are only read there
my $answer = get(prefer => 101, %alpha);
is($answer->{status}, 200, 'an old run');
is($answer->{header}{'x-addr'}, "$standby->{socket_dir}:$standby->{port}",
   'from the standby');

$primary->do('insert into run (id, project_id, type, created_at)
              values (?, ?, ?, now())', run_id(990001), project('alpha'), 'llm');
$primary->do('insert into run (id, project_id, type, created_at, parent_run_id)
              values (?, ?, ?, now(), ?)', run_id(990002), project('alpha'),
             'llm', run_id(990001));
$primary->do('insert into api_key (type, api_key, project_id)
              values (?, ?, ?)', 'private', $key, project('alpha'));
$primary->do('insert into account (id, email, role) values (?, ?, ?)',
             $user, 'new@example.com', 'owner');
$primary->do('insert into account_project (account_id, project_id)
              values (?, ?)', $user, project('alpha'));

my $token = token(secret => $secret, claims => { userId => $user });
my %session = (Authorization => "Bearer $token",
               query => '?projectId=' . project('alpha'));

for my $place (qw( prefer any )) {
    $answer = get($place => 990001, %alpha);
    is($answer->{status}, 200, "$place: a new run");
    like($answer->{body}, qr/"id":"\Q@{[ run_id(990002) ]}\E"/,
         "$place: and the run below");
    is(get($place => 990002, %alpha)->{status}, 200, "$place: a new child");
    is(get($place => 990001, %alpha, method => 'HEAD')->{status}, 200,
       "$place: HEAD");
    is(get($place => 101, Authorization => "Bearer $key")->{status}, 200,
       "$place: a new key");
    is(get($place => 101, %session)->{status}, 200, "$place: a new member");
    like(get($place => 990001, %session)->{body}, qr/^\[\{/,
         "$place: a new member and a new run");
    is(get($place => 999999, %alpha)->{status}, 404, "$place: no such run");
    is(get($place => 101, Authorization => 'Bearer ' . run_id(5))->{status},
       401, "$place: no such key");
}

$answer = get(prefer => 990001, %alpha);
is($answer->{header}{'x-addr'},
   "$standby->{socket_dir}:$standby->{port},"
   . " $primary->{socket_dir}:$primary->{port}", 'both were asked');

is(get(only => 990001, %alpha)->{status}, 404,
   'target_session_attrs=standby: the primary is not asked');


# the one connection is busy: the result of the standby is used, and counted

my $other = $primary->dbh;
my $counted = metric('lunary_unconfirmed_total');
$other->do('begin');
$other->do('lock table run in access exclusive mode');

my $slow = $nginx->client;
$slow->send($slow->request(GET => '/prefer' . related_uri(990001), %alpha));
soon { $primary->value("select count(*) from pg_stat_activity
                        where wait_event_type = 'Lock'") } 5, 'a busy primary';

is(get(prefer => 999999, %alpha)->{status}, 404, 'busy: 404');
cmp_ok(metric('lunary_unconfirmed_total'), '>', $counted, 'busy: counted');

$other->do('rollback');
is($slow->answer->{status}, 200, 'the one that waited');

$nginx->stop;

done_testing();
