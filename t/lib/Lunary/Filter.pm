package Lunary::Filter;

# Builds t/lib/filter, a filter module that refuses responses, for the nginx
# under test.  "load" is its load_module line, or undef if it does not build.

use strict;
use warnings;

use File::Basename qw( dirname );
use Lunary::Nginx;
use Lunary::System qw( project_dir read_file run_cmd tmpdir );

# the configured tree that the module was built with, and nginx's sources
sub tree {
    my $binary = Lunary::Nginx::binary();

    return (dirname($binary), dirname(dirname($binary)))
        if $binary =~ m{/objs/(?:nginx|angie)$};

    my $build = $ENV{BUILD} || project_dir() . '/build';
    my $flavour = $ENV{SANITIZE} ? 'debian-sanitize'
                : $ENV{COVERAGE} ? 'debian-coverage' : 'debian';

    return ("$build/nginx/$flavour/objs", '/usr/share/nginx/src');
}


sub load {
    my ($objs, $source) = tree();
    my $file = tmpdir('filter') . '/refuse.so';

    my ($include) = read_file("$objs/Makefile") =~ /^ALL_INCS = (.*?)\n\n/ms
        or return;
    my @include = grep { $_ ne '\\' } split ' ', $include;

    # some are relative to the sources
    @include = map { m{^(?:-I|/)} ? $_ : "$source/$_" } @include;

    my ($status, $out) = run_cmd('cc', '-shared', '-fPIC', '-O1', @include,
        '-o', $file,
        project_dir() . '/t/lib/filter/ngx_http_refuse_filter_module.c');

    warn $out if $status;
    return $status ? undef : "load_module $file;";
}


1;
