# Sessions of the dashboard: the file of the secret, and what becomes of each
# token.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Nginx;
use Lunary::System qw( write_file );
use Lunary::Test;
use Test::More;

my $secret = 'a secret of the tests, 32 bytes+';
my $nginx = Lunary::Nginx->new;
my $dir = $nginx->{dir};
my $location = 'location / { lunary_related_runs $arg_id; }';

sub secret_file {
    my ($name, $text, $mode) = @_;

    write_file("$dir/$name", $text);
    chmod $mode // 0600, "$dir/$name" or die "$name: $!";
}

# the status and the output of nginx -t
sub conf {
    my ($directive) = @_;

    $nginx->configure(http => qq{lunary_database "host=/nowhere";\n$directive},
                      config => $location);
    return $nginx->test;
}

sub good {
    my ($directive, $name) = @_;

    my ($status, $output) = conf($directive);
    is($status, 0, "accepted: $name") or diag($output);
    unlike($output, qr/\[(?:warn|emerg)\]/, "no warning: $name");
    unlike($output, qr/\Q$secret\E/, "no secret: $name");
}

sub warned {
    my ($directive, $reason, $name) = @_;

    my ($status, $output) = conf($directive);
    is($status, 0, "accepted: $name") or diag($output);
    like($output, qr/\[warn\] .*$reason.* in .*nginx\.conf:\d+/,
         "warning: $name");
    unlike($output, qr/\Q$secret\E/, "no secret: $name");

    return $output;
}

sub bad {
    my ($directive, $reason, $name) = @_;

    my ($status, $output) = conf($directive);
    isnt($status, 0, "refused: $name");
    like($output, qr/\[emerg\] .*$reason.* in .*nginx\.conf:\d+/,
         "reason, file and line: $name");
    unlike($output, qr/\Q$secret\E/, "no secret: $name");
}


# the file of the secret

secret_file('good', $secret);
secret_file('newline', "$secret\n");
secret_file('group', "$secret\n", 0640);
secret_file('crlf', "$secret\r\n");
secret_file('zero', "\0" x 32);
secret_file('others', $secret, 0644);
secret_file('writable', $secret, 0602);
secret_file('short', substr $secret, 1);
secret_file('almost', substr($secret, 1) . "\n");
secret_file('empty', '');
secret_file('lf', "\n");
secret_file('crlf_alone', "\r\n");
secret_file('large', 'x' x 65536);
secret_file('larger', 'x' x 65537);
mkdir "$dir/directory", 0700 or die $!;
system('mkfifo', '-m', '600', "$dir/fifo") == 0 or die 'mkfifo';
symlink 'good', "$dir/link" or die $!;
symlink 'absent', "$dir/dangling" or die $!;

good("lunary_jwt_secret_file $dir/$_;", $_)
    for qw( good newline group crlf zero large link );
good('lunary_jwt_secret_file good;', 'a relative path');
good('lunary_jwt_secret_file off;', 'off');

warned("lunary_jwt_secret_file $dir/$_;", 'can be accessed by any user', $_)
    for qw( others writable );
warned("lunary_jwt_secret_file $dir/$_;", 'expected at least 32 bytes', $_)
    for qw( short almost );

bad("lunary_jwt_secret_file $dir/$_;", 'there is no secret', $_)
    for qw( empty lf crlf_alone );
bad("lunary_jwt_secret_file $dir/$_;", 'No such file', $_)
    for qw( absent dangling );
bad("lunary_jwt_secret_file $dir/$_;", 'is not a regular file', $_)
    for qw( directory fifo );
bad("lunary_jwt_secret_file $dir/larger;", 'at most 65536 bytes', 'larger');
bad('lunary_jwt_secret_file;', 'invalid number of arguments', 'no argument');
bad("lunary_jwt_secret_file $dir/good off;", 'invalid number of arguments',
    'two arguments');
bad("lunary_jwt_secret_file $dir/good; lunary_jwt_secret_file off;",
    'duplicate', 'twice');

SKIP: {
    skip 'root reads any file', 3 if $> == 0;
    secret_file('unreadable', $secret, 0);
    bad("lunary_jwt_secret_file $dir/unreadable;", 'Permission denied',
        'unreadable');
}

# one that several locations name is read once, and warned about once

$location = join "\n", map {
    "location /$_ { lunary_jwt_secret_file $dir/others;"
    . ' lunary_related_runs $arg_id; }'
} 1 .. 3;

my $output = warned('', 'can be accessed by any user', 'in locations');
is(() = $output =~ /\[warn\]/g, 1, 'a file is read once');

done_testing();
