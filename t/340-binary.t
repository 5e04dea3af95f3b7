# The module as a file: its exported symbols, and the distribution's hardening
# flags.

use strict;
use warnings;

use lib 't/lib';
use Lunary::Nginx;
use Lunary::System qw( project_dir read_file run_cmd );
use Test::More;

my ($module) = grep { /lunary/ } Lunary::Nginx::modules();

sub output {
    my ($status, $text) = run_cmd(@_);

    is($status, 0, $_[0]);
    return $text;
}

my $symbols = output('nm', '-D', '--defined-only', $module);
my @shown = sort grep { !/^__(?:asan|odr_asan|ubsan|gcov)|^mangle_path/ }
            $symbols =~ /^\S+ \S (\S+)$/mg;

is("@shown", 'ngx_http_lunary_module ngx_module_names ngx_module_order'
             . ' ngx_modules',
                 'only the symbols that nginx looks up are exported');

SKIP: {
    my $flags = output(Lunary::Nginx::binary(), '-V');

    skip 'nginx itself is not hardened', 8
        if $flags !~ /-fstack-protector-strong/ || $flags !~ /-z,now/
           || $flags !~ /-D_FORTIFY_SOURCE=/ || $ENV{TEST_NGINX_LD_PRELOAD};

    my $headers = output('readelf', '-lW', '-d', $module);

    like($headers, qr/GNU_RELRO/, 'relocations are read-only');
    like($headers, qr/BIND_NOW/, 'symbols are resolved at start');
    unlike($headers, qr/GNU_STACK.* RWE /, 'no executable stack');
    unlike($headers, qr/\(TEXTREL\)/, 'no writable code');

    my $needed = output('nm', '-D', '--undefined-only', $module);

    like($needed, qr/ __stack_chk_fail\b/, 'stack protector');

  SKIP: {
        skip 'what counts lines is not optimized', 1 if $ENV{COVERAGE};
        like($needed, qr/ __snprintf_chk\b/,
             'fortified libc functions');
    }
}

my $top = project_dir();
my ($version) = read_file("$top/src/http/ngx_http_lunary.h")
                =~ /NGINX_LUNARY_VERSION\s+"([^"]+)"/;
my ($package) = read_file("$top/debian/changelog") =~ /^\S+ \(([^)]+)-\d+\)/;

is($package, $version, 'the package has the version of the module');

done_testing();
