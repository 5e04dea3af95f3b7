# A response that has begun and is not complete is cut, whatever the cause and
# whatever else the location does: HTTP/1.0 has a reset, HTTP/1.1 has no last
# chunk and no response after it, HTTP/2 has RST_STREAM.  The outcome is "cut"
# and one line is logged; a client that does not read has the outcome
# "client_left".

use strict;
use warnings;

use lib 't/lib';
use Lunary::Client;
use Lunary::Filter;
use Lunary::Load qw( big_pg grow idle late_users );
use Lunary::Nginx;
use Lunary::Test;
use Lunary::System qw( free_port read_file wait_until write_file );
use Test::More;
use Time::HiRes qw( time );

my $filter = Lunary::Filter::load() or plan skip_all => 'no C compiler';

my $pg = big_pg();
my $uri = grow($pg, 2_000_000, runs => 1000, bytes => 6000);
my $small = grow($pg, 1_000_000, runs => 10);

late_users($pg);

# PostgreSQL stops at the last run, as reading its user is slow
sub stop_at_last {
    my ($stop) = @_;

    $pg->do(q{update run set external_user_id = ? where id = ?},
            $stop ? 900 : undef, run_id(2_000_999));
}

my %ways = (
    plain => '',
    late => 'lunary_query_timeout 1s;',
    full => 'lunary_buffers 64k max=128k; lunary_temp_path gone;',
    unread => 'send_timeout 1s;',
    error => 'refuse_filter error;',
    finalize => 'refuse_filter finalize;',
    header => 'refuse_filter header;',
);

my $locations = 'location = /after { internal; return 204; }';

for my $way (sort keys %ways) {
    for my $after ('', 'after-') {
        my $action = $after ? 'post_action /after;' : '';

        $locations .= <<"EOF_CONFIG";
        location ~ "^/$after$way/v1/runs/(?<run_id>[^/]+)/related\$" {
            $ways{$way}
            $action
            lunary_related_runs \$run_id;
        }
EOF_CONFIG
    }
}

my $h2 = free_port();
my $nginx = Lunary::Nginx->new(
    main => $filter,
    allow => qr/header already sent|\/gone\//,
    http => 'lunary_database "' . $pg->conninfo . '";
        lunary_query_timeout 60s;
        log_format outcome "$request_uri $lunary_outcome $lunary_runs";',
    server => "listen 127.0.0.1:$h2 http2; access_log logs/outcome.log outcome;",
    config => $locations . <<'EOF_CONFIG')->start;
        location /ssi/ {
            ssi on;
            default_type text/html;
            root html;
            post_action /after;
        }
EOF_CONFIG

rmdir "$nginx->{dir}/gone";
mkdir "$nginx->{dir}/html/ssi";

for my $way (qw( plain error after-plain after-error )) {
    write_file("$nginx->{dir}/html/ssi/$way",
               qq{begin\n<!--# include virtual="/$way$uri" -->\nend\n});
}

my $number = 0;


# two requests at once, of which only the first may be answered
sub ask {
    my ($protocol, $uri, %more) = @_;

    $uri .= '?n=' . ++$number;

    return Lunary::Client::Http2->stream(port => $h2, uri => $uri, %more)
        if $protocol eq '2';

    my $in = Lunary::Client->new(port => $nginx->{port}, %more,
        uri => $uri, method => 'GET', header => {}, status => 0, length => 0,
        tail => '', digest => Digest::MD5->new, timeout => 30)->connect;
    my @more = (version => $protocol, Authorization => 'Bearer '
                . key('alpha'));

    $in->send($in->request('GET', $uri, @more)
              . ($protocol eq '1.1' ? $in->request('GET', '/ok') : ''));

    return $in;
}

# outcome and runs of a request in the access log
sub logged {
    my ($in) = @_;

    my $file = "$nginx->{dir}/logs/outcome.log";
    my $line = wait_until {
        (read_file($file) =~ /^\Q$in->{uri}\E (.*)$/m)[0]
    } 20, "a line for $in->{uri}";

    return split ' ', $line;
}

sub middle {
    wait_until { $pg->sessions(q{wait_event = 'PgSleep'}) } 10, 'the middle';
}

sub terminate {
    $pg->do(q{select pg_terminate_backend(pid) from pg_stat_activity
              where usename = 'lunary_ro' and wait_event = 'PgSleep'});
}

sub is_cut {
    my ($in, $protocol, $name, %more) = @_;

    $in->rest(seconds => 15);
    $in->read_some(5) while $in->{over} && $protocol ne '2'
                            && !$in->{closed} && $in->{socket};

    is($in->{status}, 200, "$name: it has begun");
    ok(!$in->{whole}, "$name: it is not whole");
    unlike($in->{tail}, qr/\]\s*(?:end\s*)?\z/, "$name: no closing bracket");

    if ($protocol eq '2') {
        ok(defined $in->{reset}, "$name: RST_STREAM");

    } else {
        ok($in->{closed}, "$name: the connection is closed");
        is($in->{closed}, 'reset', "$name: by a reset")
            if $protocol eq '1.0';
        unlike("$in->{tail}$in->{buffer}", qr{HTTP/1\.1|ok\z},
               "$name: nothing is sent after it");
    }

    my $outcome = $more{outcome} // 'cut';
    my ($logged, $runs) = logged($in);

    is($logged, $outcome, "$name: the outcome is $outcome")
        if $more{outcome} // 1;

    return $runs;
}

# one line in the log for each response that was cut since
sub lines {
    my ($mark, $count, $name) = @_;

    my @lines = $nginx->log_since($mark) =~ /\[error\].*cut off.*/g;

    is(scalar(@lines), $count, "$name: $count lines in the log");
    unlike($nginx->log_since($mark), qr/answered with/,
           "$name: no line says that there was an error response");
}


for my $after ('', 'after-') {
    for my $protocol ('1.0', '1.1', '2') {
        my $mark;
        my $begin = sub {
            my ($way, %more) = @_;

            $mark = $nginx->mark;
            return ask($protocol, "/$after$way$uri", %more);
        };
        my $name = sub { "$_[0], HTTP/$protocol" . ($after && ', post_action') };

        # the database
        stop_at_last(1);

        my $in = $begin->('plain')->take(100_000);
        middle();
        terminate();
        my $runs = is_cut($in, $protocol, $name->('terminated'));
        cmp_ok($runs, '>', 100, $name->('terminated') . ': runs are counted');
        lines($mark, 1, $name->('terminated'));

        $in = $begin->('late');
        is_cut($in, $protocol, $name->('query timeout'));
        lines($mark, 1, $name->('query timeout'));

        # this machine
        stop_at_last(0);

        $in = $begin->('full', rcvbuf => 8192, hold => 1)->take(2000);
        ok((wait_until { $nginx->log_since($mark) =~ /cut off/ } 10),
           $name->('no file') . ': it fails');
        is_cut($in, $protocol, $name->('no file'));
        lines($mark, 1, $name->('no file'));

        # the client
        $in = $begin->('unread', rcvbuf => 8192, hold => 1)->take(2000);
        logged($in);
        $runs = is_cut($in, $protocol, $name->('send_timeout'),
                       outcome => 'client_left');
        is($runs, 1000, $name->('send_timeout') . ': all runs were generated');
        lines($mark, 0, $name->('send_timeout'));

        # a filter
        for my $way (qw( error finalize )) {
            $in = $begin->($way);
            is_cut($in, $protocol, $name->("a filter, $way"));
            lines($mark, 1, $name->("a filter, $way"));
        }

        # a filter that sends its own response
        $in = $begin->('header')->rest;
        isnt($in->{status}, 200, $name->('a filter, header') . ': refused');
        is((logged($in))[0], 'error', $name->('a filter, header')
           . ': the outcome is error');
        lines($mark, 0, $name->('a filter, header'));
    }
}


# an SSI page, with post_action in the page or in the included location

for my $protocol ('1.0', '1.1', '2') {
    for my $way (qw( plain after-plain error after-error )) {
        my $name = "a page, $way, HTTP/$protocol";
        my $mark = $nginx->mark;

        stop_at_last($way =~ /plain/);

        my $in = ask($protocol, "/ssi/$way")->take(100_000);

        if ($way =~ /plain/) {
            middle();
            terminate();
        }

        is_cut($in, $protocol, $name, outcome => '');
        lines($mark, 1, $name);
    }
}


# a client that leaves while the rest is sent from memory or from the file

stop_at_last(0);

for my $after ('', 'after-') {
    for my $how (qw( close reset )) {
        my $in = ask('1.1', "/${after}plain$uri", rcvbuf => 8192)->take(3000);

        ok(idle($pg), "$how: PostgreSQL is done");
        $how eq 'reset' ? $in->reset : $in->close;
        my ($outcome, $runs) = logged($in);
        is($outcome, 'client_left', "$how: the client has left");
        cmp_ok($runs, '>', 100, "$how: the runs that were generated");
    }

    my $in = ask('1.1', "/${after}plain$small");
    ok($in->rest->{whole}, 'a whole one');
    is_deeply([logged($in)], ['ok', 10], 'a whole one: the outcome is ok');
    $in->close;
}

ok(idle($pg), 'no connection is left busy');
$nginx->stop;
done_testing();
