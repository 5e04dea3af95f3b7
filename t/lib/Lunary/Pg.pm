package Lunary::Pg;

# Temporary PostgreSQL servers, each with its own data directory, socket and
# port.  The machine's cluster is never used.
#
#   my $pg = Lunary::Pg->shared;            one for all tests
#   my $pg = Lunary::Pg->new(conf => {...}); one for this test alone
#
#   $pg->conninfo(%more)                    for lunary_database
#   $pg->dbh, $pg->psql($sql), $pg->value($sql)
#   $pg->stop('fast'), $pg->start, $pg->restart('immediate'), $pg->reload
#   $pg->freeze, $pg->thaw                  SIGSTOP, SIGCONT
#   $pg->standby, $pg->promote
#
# Packages: postgresql libdbi-perl libdbd-pg-perl openssl

use strict;
use warnings;

use DBI;
use File::Path qw( remove_tree );
use Lunary::System qw( children free_port kill_wait project_dir read_file
                     run_cmd tmpdir wait_until write_file );
use POSIX ();
use Time::HiRes qw( sleep );

my ($shared, @all);
my $owner = $$;


sub bindir {
    my @dirs = sort { ($b =~ m{/(\d+)/})[0] <=> ($a =~ m{/(\d+)/})[0] }
               grep { -x "$_/initdb" } glob '/usr/lib/postgresql/*/bin';

    return $ENV{PG_BINDIR} // $dirs[0] // die "PostgreSQL is not installed\n";
}


# PostgreSQL does not run as root
sub as_user {
    my ($class, @cmd) = @_;

    # it ends if the test is killed
    return ('setpriv', '--pdeathsig', 'INT', '--', @cmd) if $> != 0;

    my $user = getpwnam('postgres') ? 'postgres' : 'nobody';
    my $gid = (getpwnam $user)[3];

    return ('setpriv', "--reuid=$user", "--regid=$gid", '--init-groups',
            '--pdeathsig', 'INT', '--', @cmd);
}


# starts a server as that user: its pid
sub spawn {
    my ($class, $log, @cmd) = @_;

    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        setpgrp;
        chdir '/';
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', $log;
        open STDERR, '>&', \*STDOUT;

        delete @ENV{grep { /^(?:PG|PATRONI_)/ } keys %ENV};
        exec $class->as_user(@cmd) or POSIX::_exit(127);
    }

    return $pid;
}


sub own {
    my ($class, @files) = @_;

    return if $> != 0;

    my ($uid, $gid) = (getpwnam(getpwnam('postgres') ? 'postgres'
                                                     : 'nobody'))[2, 3];
    chown $uid, $gid, @files;
}


sub check {
    my (@cmd) = @_;

    my ($status, $output) = run_cmd(@cmd);
    die "@cmd failed:\n$output" if $status != 0;

    return $output;
}


# the server that `make test` started, or one for this process
sub shared {
    my ($class) = @_;

    return $shared if $shared;

    if (my $known = $ENV{LUNARY_PG}) {
        my ($socket_dir, $port, $dir) = split /:/, $known;
        $shared = bless { socket_dir => $socket_dir, port => $port,
                          dir => $dir, data => "$dir/data",
                          log => "$dir/log", foreign => 1 }, $class;
        return $shared;
    }

    $shared = $class->new(conf => { log_statement => "'all'",
                                    max_connections => 300 });
    return $shared;
}


# the value of LUNARY_PG with which another process uses this server
sub handle {
    my ($self) = @_;

    return join ':', @$self{qw( socket_dir port dir )};
}


sub new {
    my ($class, %arg) = @_;

    my $dir = tmpdir('pg');
    $class->own($dir);

    my $self = bless { dir => $dir, data => "$dir/data", log => "$dir/log",
                       socket_dir => $dir, port => $arg{port} // free_port(),
                       hba => $arg{hba} }, $class;

    if ($arg{empty}) {
        $self->initdb;

    } else {
        my $template = $class->template;
        check('cp', '-a', '--reflink=auto', $template, $self->{data});
    }

    $self->configure(%{ $arg{conf} // {} });
    push @all, $self;

    $self->tls if $arg{ssl};
    $self->start if $arg{start} // 1;

    return $self;
}


sub initdb {
    my ($self) = @_;

    check($self->as_user(bindir() . '/initdb', '-D', $self->{data},
                         '-U', 'postgres', '-A', 'trust', '-E', 'UTF8',
                         '--locale=C.UTF-8', '--no-sync'));
}


# a data directory with schema, role and fixtures; it is made once and copied
sub template {
    my ($class) = @_;

    return $ENV{LUNARY_PG_TEMPLATE} if $ENV{LUNARY_PG_TEMPLATE};

    my $pg = $class->new(empty => 1);
    my $sql = project_dir() . '/t/sql';

    $pg->dbh('postgres')->do('create database lunary');
    $pg->psql_file("$sql/schema.sql", "$sql/role.sql", "$sql/fixtures.sql");
    $pg->stop;

    $ENV{LUNARY_PG_TEMPLATE} = $pg->{data};
    return $pg->{data};
}


sub configure {
    my ($self, %conf) = @_;

    $self->{conf} = { %conf };

    %conf = (
        listen_addresses => "'127.0.0.1'",
        port => $self->{port},
        unix_socket_directories => "'$self->{socket_dir}'",
        max_connections => 100,
        shared_buffers => "'32MB'",
        fsync => 'off',
        synchronous_commit => 'off',
        full_page_writes => 'off',
        autovacuum => 'off',
        log_line_prefix => "'%m [%p] %e %a %u '",
        log_connections => 'on',
        log_disconnections => 'on',
        timezone => "'Asia/Kolkata'",
        max_wal_size => "'256MB'",
        %conf,
    );

    write_file("$self->{data}/postgresql.auto.conf", '');
    write_file("$self->{data}/postgresql.conf",
               join '', map { "$_ = $conf{$_}\n" } sort keys %conf);
    write_file("$self->{data}/pg_hba.conf", $self->{hba} // <<"EOF_HBA");
local all all trust
local replication all trust
host all all 127.0.0.1/32 trust
EOF_HBA
    $self->own(glob "$self->{data}/*.conf");
}


sub start {
    my ($self) = @_;

    my $pid = $self->{pid} = $self->spawn($self->{log},
        bindir() . '/postgres', '-D', $self->{data});

    my $ready = wait_until {
        my @lines = split /\n/, read_file("$self->{data}/postmaster.pid");
        return 1 if ($lines[0] // '') eq $pid
                    && ($lines[7] // '') =~ /^ready/;
        return -1 if waitpid($pid, 1) == $pid;
        return 0;
    } 60;

    if (!defined $ready || $ready != 1) {
        die "PostgreSQL did not start:\n" . read_file($self->{log});
    }

    return $self;
}


sub stop {
    my ($self, $mode) = @_;

    my $pid = delete $self->{pid} or return;
    my %signal = (smart => 'TERM', fast => 'INT', immediate => 'QUIT',
                  kill => 'KILL');

    delete $self->{dbh};
    $self->thaw($pid);

    kill_wait($signal{$mode // 'fast'}, $pid, 30)
        or warn "PostgreSQL $pid had to be killed\n";
}


sub restart {
    my ($self, $mode) = @_;

    $self->stop($mode);
    $self->start;
}


sub reload {
    my ($self) = @_;

    $self->value('select pg_reload_conf()');
}


# sends SIGSTOP to the postmaster and its children
sub freeze {
    my ($self) = @_;

    my $pid = $self->pid;
    kill 'STOP', $pid;
    kill 'STOP', children($pid);
}


sub thaw {
    my ($self, $pid) = @_;

    $pid //= $self->pid;
    kill 'CONT', children($pid), $pid;
}


sub pid {
    my ($self) = @_;

    return $self->{pid} // (split /\n/,
        read_file("$self->{data}/postmaster.pid"))[0] // die "not running";
}


# a libpq connection string; the arguments replace the defaults
sub conninfo {
    my ($self, %arg) = @_;

    %arg = (host => $self->{socket_dir}, port => $self->{port},
            dbname => 'lunary', user => 'lunary_ro', %arg);

    return join ' ', map { "$_=$arg{$_}" }
                     grep { defined $arg{$_} } sort keys %arg;
}


# a database handle of a superuser; it is cached
sub dbh {
    my ($self, $dbname) = @_;

    my $dbh = $self->{dbh}{$$ . ($dbname // '')};
    return $dbh if $dbh && $dbh->ping;

    $dbh = DBI->connect(
        'dbi:Pg:' . join(';', "host=$self->{socket_dir}",
                         "port=$self->{port}", 'dbname=' . ($dbname
                                                            // 'lunary')),
        'postgres', '', { RaiseError => 1, PrintError => 0,
                          AutoCommit => 1, AutoInactiveDestroy => 1,
                          pg_enable_utf8 => 1 });

    $dbh->do(q{set application_name = 'test'});
    $dbh->do(q{set client_min_messages = warning});

    return $self->{dbh}{$$ . ($dbname // '')} = $dbh;
}


sub do {
    my ($self, $sql, @args) = @_;

    return $self->dbh->do($sql, undef, @args);
}


sub value {
    my ($self, $sql, @args) = @_;

    return ($self->dbh->selectrow_array($sql, undef, @args))[0];
}


# validators need PostgreSQL 15
sub has_validators {
    my ($self) = @_;

    return $self->value('show server_version_num') >= 150000;
}


sub psql_file {
    my ($self, @files) = @_;

    return check("@{[ bindir() ]}/psql", '-X', '-q', '-A', '-t',
                 '-v', 'ON_ERROR_STOP=1', '-h', $self->{socket_dir},
                 '-p', $self->{port}, '-U', 'postgres', '-d', 'lunary',
                 map { ('-f', $_) } @files);
}


sub psql {
    my ($self, $sql, @more) = @_;

    return check("@{[ bindir() ]}/psql", '-X', '-q', '-A', '-t',
                 '-v', 'ON_ERROR_STOP=1', '-h', $self->{socket_dir},
                 '-p', $self->{port}, '-U', 'postgres', '-d', 'lunary',
                 @more, '-c', $sql);
}


# the number of sessions of nginx's role
sub sessions {
    my ($self, $where) = @_;

    return $self->value(q{select count(*) from pg_stat_activity
        where usename = 'lunary_ro' and } . ($where // 'true'));
}


# the current end of the server's log, and the text since
sub log_mark {
    my ($self) = @_;

    return -s $self->{log} // 0;
}


sub log_since {
    my ($self, $mark) = @_;

    return read_file($self->{log}, $mark);
}


# statements of nginx's role since the mark, except for the setup of sessions
sub statements_since {
    my ($self, $mark) = @_;

    return grep { / lunary_ro LOG:  (?:statement|execute|parse|bind)/
                  && !/\bset_config\(|\bpg_catalog\./ }
           split /\n/, $self->log_since($mark);
}


# starts a streaming standby of this server
sub standby {
    my ($self, %conf) = @_;

    my $dir = tmpdir('pg');
    $self->own($dir);

    my $new = bless { dir => $dir, data => "$dir/data", log => "$dir/log",
                      socket_dir => $dir, port => free_port(),
                      hba => $self->{hba} }, ref $self;

    check($self->as_user(bindir() . '/pg_basebackup', '-D', $new->{data},
                         '-h', $self->{socket_dir}, '-p', $self->{port},
                         '-U', 'postgres', '-X', 'stream', '-c', 'fast',
                         '--no-sync'));

    $new->configure(hot_standby => 'on', primary_conninfo =>
        "'host=$self->{socket_dir} port=$self->{port} user=postgres'",
        %{ $self->{conf} // {} }, %conf);
    write_file("$new->{data}/standby.signal", '');
    $self->own("$new->{data}/standby.signal");

    push @all, $new;
    return $new->start;
}


# waits until the standby has replayed the WAL of this server
sub catch_up {
    my ($self, $standby) = @_;

    my $lsn = $self->value('select pg_current_wal_flush_lsn()');

    # recovery may cancel the query
    wait_until {
        eval { $standby->value('select pg_last_wal_replay_lsn() >= ?::pg_lsn',
                               $lsn) }
    } 30, 'the standby';
}


sub promote {
    my ($self) = @_;

    $self->value('select pg_promote(true, 30)')
        or die "the standby was not promoted";
}


# a CA, and certificates for the server and for clients
sub certificates {
    my ($class) = @_;

    my $dir = tmpdir('tls');

    write_file("$dir/ext", "subjectAltName=DNS:localhost,DNS:db.test,"
                           . "IP:127.0.0.1\n");

    check('openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes',
          '-days', '30', '-subj', '/CN=test CA', '-keyout', "$dir/ca.key",
          '-out', "$dir/ca.crt");

    for my $name (qw( server lunary_ro )) {
        my $cn = $name eq 'server' ? 'localhost' : $name;

        check('openssl', 'req', '-new', '-newkey', 'rsa:2048', '-nodes',
              '-subj', "/CN=$cn", '-keyout', "$dir/$name.key",
              '-out', "$dir/$name.csr");
        check('openssl', 'x509', '-req', '-in', "$dir/$name.csr", '-days',
              '30', '-CA', "$dir/ca.crt", '-CAkey', "$dir/ca.key",
              '-CAcreateserial', '-out', "$dir/$name.crt",
              $name eq 'server' ? ('-extfile', "$dir/ext") : ());
        chmod 0600, "$dir/$name.key";
    }

    return $dir;
}


# turns TLS on; $pg->{tls} is the directory of the certificates
sub tls {
    my ($self) = @_;

    my $dir = $self->{tls} = $self->certificates;

    for my $file (qw( server.crt server.key ca.crt )) {
        check('cp', "$dir/$file", "$self->{data}/$file");
        $self->own("$self->{data}/$file");
        chmod 0600, "$self->{data}/$file";
    }

    open my $out, '>>', "$self->{data}/postgresql.conf" or die $!;
    print $out "ssl = on\nssl_ca_file = 'ca.crt'\n";
    close $out;
}


sub DESTROY {
    my ($self) = @_;

    return if $self->{foreign} || $$ != $owner || !$self->{pid};

    local ($?, $!, $@);
    $self->stop('immediate');
    remove_tree($self->{dir}, { error => \my $error })
        if !$ENV{LUNARY_KEEP}
           && ($ENV{LUNARY_PG_TEMPLATE} // '') ne $self->{data};
}


END {
    if ($$ == $owner) {
        local ($?, $!, $@);
        $_->stop('immediate') for grep { $_ && $_->{pid} } @all;
    }
}


1;
