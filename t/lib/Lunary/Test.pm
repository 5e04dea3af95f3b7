package Lunary::Test;

# Common code of the Test::Nginx files.  It must be loaded before
# Test::Nginx::Socket, which reads its environment when it is loaded:
#
#   use lib 't/lib';
#   use Lunary::Test;
#   use Test::Nginx::Socket;
#   use_database();
#
# A block without http_config uses the test's database.  If the config has no
# lunary_related_runs, the usual location is added.  Additional sections:
#
#   --- run: 101            GET of run 101 of the fixtures; also "HEAD 101"
#   --- key: alpha          this project's key as a bearer token
#   --- oracle: alpha 101   the response equals the oracle's; with "nulls"
#                           after it for lunary_null_fields include
#   --- ids: 101 102        the runs of the response, in order
#   --- message: Not found  the response is a JSON object with this message
#   --- no_query            no query is sent
#
# Each [alert], [crit] and [emerg] in the error log is a failure.

use strict;
use warnings;

use Exporter qw( import );
use JSON::XS qw( decode_json );
use Lunary::Oracle;
use Lunary::Pg;
use Lunary::System qw( project_dir );

our @EXPORT = qw( use_database pg oracle key project run_id related_uri );

my %keys = (
    alpha  => 'cccccccc-0000-4000-8000-000000000001',
    beta   => 'cccccccc-0000-4000-8000-000000000002',
    empty  => 'cccccccc-0000-4000-8000-000000000003',
    public => 'cccccccc-0000-4000-8000-000000000011',
    org    => 'cccccccc-0000-4000-8000-000000000012',
);

my %projects = (
    alpha => '00000000-0000-4000-8000-00000000a001',
    beta  => '00000000-0000-4000-8000-00000000a002',
    empty => '00000000-0000-4000-8000-00000000a003',
);

my ($pg, $oracle, $mark);


BEGIN {
    $ENV{PATH} .= ':/usr/sbin:/sbin';
    $ENV{TEST_NGINX_LOAD_MODULES}
        //= project_dir() . '/build/ngx_http_lunary_module.so';

    # libpq reads PG*, and nginx reads inherited sockets from NGINX
    delete @ENV{'NGINX', grep { /^PG(?!_BINDIR)/ } keys %ENV};
}


sub pg {
    return $pg //= Lunary::Pg->shared;
}


sub oracle {
    return $oracle //= Lunary::Oracle->new(pg()->dbh);
}


sub key {
    my ($name) = @_;

    return $keys{$name} // die "no key $name";
}


sub project {
    my ($name) = @_;

    return $projects{$name} // die "no project $name";
}


sub run_id {
    my ($n) = @_;

    return $n =~ /^\d+$/ ? sprintf '00000000-0000-4000-8000-%012d', $n : $n;
}


sub related_uri {
    my ($n) = @_;

    return '/v1/runs/' . run_id($n) . '/related';
}


sub request_line {
    my ($run) = @_;

    my ($n, $method) = reverse split ' ', $run;

    return ($method // 'GET') . ' ' . related_uri($n);
}


sub prepare {
    my ($block) = @_;

    $block->set_value('http_config',
                      "lunary_database \"$ENV{TEST_NGINX_CONNINFO}\";\n")
        if !defined $block->http_config;

    # only root can create the default path
    $block->set_value('http_config', $block->http_config
                                     . "lunary_temp_path lunary_temp;\n")
        if $block->http_config !~ /\blunary_temp_path\b/;

    my $config = $block->config // '';

    $block->set_value('config', $config . <<'EOF_CONFIG')
location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
    lunary_related_runs $run_id;
}
EOF_CONFIG
        if $config !~ /\blunary_related_runs\b/;

    if (defined(my $run = $block->run)) {
        my @lines = map { request_line($_) } ref $run ? @$run : $run;
        $block->set_value('request', ref $run ? \@lines : $lines[0]);
    }

    if (defined(my $key = $block->key)) {
        my $header = 'Authorization: Bearer ' . key($key) . "\n";
        my $more = $block->more_headers // '';

        $block->set_value('more_headers',
            ref $more ? [map { "$header$_" } @$more] : "$header$more");
    }

    $mark = pg()->log_mark if defined $block->no_query;

    forbid($block);
}


# adds [alert], [crit] and [emerg] to no_error_log, except for levels that the
# block uses itself
sub forbid {
    my ($block) = @_;

    my $named = join "\n", map { ref $_ eq 'ARRAY' ? @$_ : $_ // '' }
                           scalar $block->error_log,
                           scalar $block->no_error_log;
    my $known = $block->no_error_log;
    my @levels = map { "[$_]" } grep { $named !~ /\[$_\\?\]/ }
                 defined $block->must_die ? () : qw( alert crit emerg );

    return if !@levels;

    my @patterns = !defined $known ? ()
                   : ref $known eq 'ARRAY' ? @$known
                   : ref $known ? $known
                   : grep { length } split /\n+/, $known;

    $block->set_value('no_error_log', [@patterns, @levels]);
}


sub check {
    my ($block, $body, $i, $repeated, $dry_run) = @_;

    return if $dry_run;

    my $name = $block->name;
    my ($said, $ids, $message) = map {
        ref $_ eq 'ARRAY' ? $_->[$i] : $_
    } scalar $block->oracle, scalar $block->ids, scalar $block->message;

    if (defined $said) {
        my ($project, $n, $nulls) = split ' ', $said;
        my $rows = oracle()->related(project($project), run_id($n));
        my $why = $rows ? oracle()->compare($body, $rows,
                                            nulls => defined $nulls)
                        : 'there is no such run';

        Test::More::is($why, undef, "$name - as the oracle says");
    }

    if (defined $ids) {
        my $runs = eval { decode_json($body) };
        my @ids = map { $_->{id} =~ s/^0{8}-0000-4000-8000-0*//r }
                  ref $runs eq 'ARRAY' ? @$runs : ();

        Test::More::is("@ids", $ids, "$name - runs and their order");
    }

    if (defined $message) {
        Test::More::is_deeply(eval { decode_json($body) },
                              { message => $message }, "$name - message");
    }

    if (defined $block->no_query) {
        Test::More::is(join("\n", pg()->statements_since($mark)), '',
                       "$name - the database is not asked");
    }
}


# called after Test::Nginx::Socket is loaded: starts the database, and
# implements the sections above
sub use_database {
    pg();

    $ENV{TEST_NGINX_CONNINFO} //= pg()->conninfo;
    $ENV{TEST_NGINX_PG_SOCKET} //= pg()->{socket_dir};
    $ENV{TEST_NGINX_PG_PORT} //= pg()->{port};

    Test::Nginx::Socket::repeat_each($ENV{LUNARY_REPEAT})
        if ($ENV{LUNARY_REPEAT} // 1) > 1;
    Test::Nginx::Socket::add_block_preprocessor(\&prepare);
    Test::Nginx::Socket::add_response_body_check(\&check);
}


1;
