package Test::Nginx::Socket;

# The tests are written for Test::Nginx::Socket.  If it is installed (or found
# by PERL5LIB), this file loads it, otherwise Lunary::Runner.

use strict;
use warnings;

use Cwd ();

my $real;

BEGIN {
    my $own = Cwd::abs_path(__FILE__);

    for my $dir (grep { !ref } @INC) {
        my $file = "$dir/Test/Nginx/Socket.pm";

        if (-f $file && Cwd::abs_path($file) ne $own) {
            $real = $file;
            last;
        }
    }

    if (defined $real) {
        local $SIG{__WARN__} = sub {
            warn @_ if $_[0] !~ /redefined/;
        };
        require $real;

    } else {
        require Lunary::Runner;
    }
}


1;
