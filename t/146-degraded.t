# A database in which the module lacks optional rights: requests are served,
# and a line in the log says what is missing and what that costs.  Error texts
# of functions are not logged.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Load qw( expected trees );
use Lunary::Nginx;
use Lunary::Pg;
use Lunary::Test qw( key related_uri run_id );
use Lunary::System qw( tmpdir write_file );
use Test::More;

my $pg = Lunary::Pg->new;
my @runs = trees($pg, count => 4, runs => 10, bytes => 20_000);

sub nginx {
    my ($conninfo) = @_;

    return Lunary::Nginx->new(
        http => 'lunary_database "' . ($conninfo // $pg->conninfo) . '";',
        config => <<'EOF_CONFIG')->start;
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related$" {
            lunary_related_runs $run_id;
        }
EOF_CONFIG
}

sub ask {
    my ($nginx, $n) = @_;

    return $nginx->client->get(related_uri($n),
                               Authorization => 'Bearer ' . key('alpha'));
}

my $nginx = nginx();
my $answers = expected($nginx->{port}, $pg, @runs);
unlike($nginx->log_since(0), qr/\[warn\]/, 'no warning where all is allowed');
$nginx->stop;


# functions of pg_catalog that the role may not execute

my %functions = (
    'set_config(text, text, boolean)' => qr/jit.*could not be set.*slower/,
    'pg_backend_pid()' => qr/could not be probed.*slower/,
    'repeat(text, integer)' => undef,
);

for my $function (sort keys %functions) {
    $pg->do("revoke execute on function pg_catalog.$function from public");

    my $nginx = nginx();
    my %wrong;

    for my $n (@runs, @runs) {
        my $answer = ask($nginx, $n);

        $wrong{"$n: $answer->{status}"} = 1
            if $answer->{body} ne $answers->{related_uri($n)};
    }

    is(join(' ', sort keys %wrong), '', "without $function: responses");

    my $log = $nginx->log_since(0);
    my @warnings = $log =~ /\[warn\] (.*)/g;

    if (my $text = $functions{$function}) {
        is(scalar(grep { /$text.*SQLSTATE 42501/ } @warnings), 1,
           "without $function: one line says so") or diag($log);

    } else {
        is("@warnings", '', "without $function: nothing is missing");
    }

    unlike($log, qr/\[error\]/, "without $function: no error");
    $nginx->stop;
    $pg->do("grant execute on function pg_catalog.$function to public");
}


# a function raises an error with any SQLSTATE and a payload in its text

$pg->do(<<'EOF_SQL');
create function tell() returns boolean language plpgsql volatile as $$
declare
    state text := current_setting('lunary.state', true);
begin
    raise exception 'the payload is %', 'secret-4711' using errcode = state;
end $$
EOF_SQL
$pg->do('alter table run enable row level security');
$pg->do('create policy telling on run using (tell())');

for my $state (qw( 08006 0A000 25006 26000 28000 3D000 40001 42501 42P01 53200
                   55P03 57014 57P01 P0001 22023 XX000 )) {
    $pg->do("alter role lunary_ro set lunary.state = '$state'");

    my $nginx = nginx();
    my $answer = ask($nginx, $runs[0]);

    like($answer->{status}, qr/^50[034]$/, "$state: status");
    unlike("$answer->{body}" . $nginx->log_since(0), qr/secret-4711/,
           "$state: its text is in no log");
    like($nginx->log_since(0), qr/SQLSTATE $state\)/, "$state: the code is");
    $nginx->stop;
}

$pg->do('alter role lunary_ro reset lunary.state');
$pg->do('drop policy telling on run');
$pg->do('alter table run disable row level security');


# a password file that libpq ignores: one line in the log, nothing on stderr;
# and the line of a failure names database and host

{
    my $dir = tmpdir('passfile');
    my $file = "$dir/pgpass";

    write_file($file, "*:*:*:*:secret-word\n");
    Lunary::Pg->own($dir, $file);
    chmod 0755, $dir;
    chmod 0644, $file;

    my $nginx = nginx("host=127.0.0.1 port=1 user=lunary_ro dbname=lunary"
                      . " passfile=$file");

    is(ask($nginx, $runs[0])->{status}, 503, 'a password file: status');

    my $log = $nginx->log_since(0);
    my $lines = () = $log =~ /password file "\Q$file\E" is ignored/g;

    is($lines, 1, 'a password file that others can read: one line')
        or diag($log);
    unlike($log, qr/has group or world access|secret-word/,
           'libpq logs nothing');
    like($log, qr/database "lunary" at "127\.0\.0\.1:1" cannot be connected/,
         'the line of a failure names database and host');
    $nginx->stop;
}

done_testing();
