package Lunary::FakePg;

# A server for PostgreSQL's protocol.  The name of the database selects a mode:
# "good", or a certain misbehaviour.  The data is a run with a few children, and
# every key is private.
#
#   my $fake = Lunary::FakePg->new; $fake->start;
#   $fake->conninfo('good'), ->conninfo('short_id'), ->conninfo('cut_17'),
#   ->conninfo('random_4711')
#
# With a name that ends in _xN only the first N connections have that mode,
# later ones are good.  modes() returns all modes.
#
# Or the test itself decides which messages are sent, and when:
#
#   my $fake = Lunary::FakePg->new(hook => sub {
#       my ($one, $when, @messages) = @_;     $one->{database}, $one->{number}
#       ...
#       return @messages;                     sent at once
#   });
#   $fake->run_until(sub { ... });  $fake->write($one, @messages);
#   $fake->reset($one);

use strict;
use warnings;

use IO::Select;
use IO::Socket::INET;
use Lunary::System qw( kill_wait patience );
use POSIX ();
use Socket qw( SOL_SOCKET SO_LINGER );
use Time::HiRes qw( time );

my @all;
my $owner = $$;

our $Run = '00000000-0000-4000-8000-000000000001';
our $Project = '00000000-0000-4000-8000-00000000b001';


# messages: [type, payload]

sub text { return pack 'N/a*', $_[0] }
sub int8 { return pack 'N q>', 8, $_[0] }
sub float8 { return pack 'N d>', 8, $_[0] }
sub bool { return pack 'N C', 1, $_[0] }
sub null { return pack 'N', 0xffffffff }
sub jsonb { return text("\1$_[0]") }
sub uuid { return text(pack 'H*', $_[0] =~ tr/-//dr) }

sub columns {
    my ($n) = @_;

    return ['T', pack('n', $n) . join '', map {
        pack 'Z* N n N n N n', "c$_", 0, 0, 25, 65535, 0xffffffff, 1
    } 1 .. $n];
}

sub row { return ['D', pack('n', scalar @_) . join '', @_] }

sub failure {
    my ($severity, $state, $text) = @_;

    return ['E', join '', map { "$_\0" } "S$severity", "V$severity",
                 defined $state ? "C$state" : (), "M$text", ''];
}

sub notice {
    my @message = @{ failure('NOTICE', '00000', $_[0]) };
    return ['N', $message[1]];
}

sub param { return ['S', "$_[0]\0$_[1]\0"] }
sub ready { return ['Z', $_[0] // 'I'] }
sub auth { return ['R', pack('N', $_[0]) . ($_[1] // '')] }


# a row of each statement; if the module's columns change, the good mode fails
# first

my $tags = pack 'N5', 1, 1, 25, 2, 1;

my @columns = qw( full kind project
    id is_public feedback parent_feedback type name created_at ended_at
    template_version_id template_slug cost completion_tokens prompt_tokens
    tags input output error status sibling_run_id params metadata
    user_id external_id user_created_at last_seen props parent_run_id );
my %at = map { $columns[$_] => $_ } 0 .. $#columns;

# the head: that the run exists, and the verdict on the credential
sub head_row { return (bool(0), text('private'), uuid($Project)) }

sub run_row {
    my ($i) = @_;

    my $id = sprintf '%s%012d', substr($Run, 0, 24), $i + 1;

    return ((null()) x $at{id}, uuid($id), bool(1), jsonb('{"thumb_up": 1}'),
        null(), text($i ? 'llm' : 'chain'), text("run $i"),
        int8(800_000_000_000_000 + $i), int8(800_000_001_500_000),
        int8(7), text('slug'), float8(0.25), int8(3), int8(4),
        text($tags . text('a') . null()), jsonb('{"a_b": [1, "x"]}'),
        jsonb('"out"'), null(), text('success'), null(), jsonb('{}'),
        jsonb('null'), int8(5), text('ext'), int8(1), null(),
        jsonb('{"e_mail": "x"}'), $i ? uuid($Run) : null());
}


sub greeting {
    return (auth(0), param(server_version => '15.4'),
            param(client_encoding => 'UTF8'),
            param(standard_conforming_strings => 'on'),
            param(integer_datetimes => 'on'), ['K', pack 'NN', 1, 2],
            ready());
}

sub reply {
    my ($kind, $prepared) = @_;

    my @head = (['1', ''], ['2', '']);

    return (@head, columns(3), row(map { text('on') } 1 .. 3),
            ['C', "SELECT 1\0"], ready()) if $kind eq 'session';
    return (@head, columns(1), row(text('1s')), ['C', "SELECT 1\0"], ready())
        if $kind eq 'interval';
    return (@head, columns(8), row(bool(1), bool(0), bool(1),
            (bool(0)) x 3, null(), null()), ['C', "SELECT 1\0"], ready())
        if $kind eq 'probe';

    my @rows = [head_row()];

    if ($kind =~ /full/) {

        # the head is in the rows; three columns more
        @rows = map { my @row = run_row($_);
                      [bool(0), @row[$at{id} .. $#row], null(), null(),
                       $_ ? uuid($Run) : null()] } 0 .. 2;

    } elsif ($kind !~ /exists|tag/) {
        $rows[0] = [head_row(), (null()) x (@columns - $at{id})];
        push @rows, map { [run_row($_)] } 0 .. 2;
    }

    return (($prepared ? () : $head[0]), $head[1],
            columns(scalar @{ $rows[0] }), map({ row(@$_) } @rows),
            ['C', "SELECT 3\0"], ready());
}


# Misbehaviour.  A mode changes the messages of the greeting, of the setup of a
# session, or of a response.  It returns messages or bytes; undef at the end
# closes the connection.

# replaces the column of the second row
sub column {
    my ($name, $value) = @_;

    my $n = $at{$name};

    return sub {
        my @messages = @_;
        my @rows = grep { $_->[0] eq 'D' } @messages;
        my $row = $rows[$n < $at{id} ? 0 : 1] // $rows[0];

        my @values;
        my $rest = substr $row->[1], 2;

        while (length $rest) {
            my $length = unpack 'N', $rest;
            $length = 0 if $length == 0xffffffff;
            push @values, substr $rest, 0, 4 + $length, '';
        }

        $values[$n] = $value if $n < @values;
        $row->[1] = pack('n', scalar @values) . join '', @values;

        return @messages;
    };
}

sub before {
    my ($type, @more) = @_;

    return sub { map { $_->[0] eq $type ? (@more, $_) : $_ } @_ };
}

sub after {
    my ($type, @more) = @_;

    return sub { map { $_->[0] eq $type ? ($_, @more) : $_ } @_ };
}

sub without {
    my ($type) = @_;

    return sub { grep { $_->[0] ne $type } @_ };
}

# the first response asks for FULL, and the function changes the second
sub full {
    my ($change) = @_;

    return sub {
        return (4 == grep { $_->[0] eq 'D' } @_)
               ? column(full => bool(1))->(@_) : $change->(@_);
    };
}

sub instead {
    my (@messages) = @_;

    return sub { @messages };
}

my $fatal = failure('FATAL', '57P01', 'terminating');
my $error = failure('ERROR', '22012', 'division by zero');
my $garbage = join '', map { chr(($_ * 7919) % 251) } 1 .. 3000;
my $flood = $ENV{LUNARY_FLOOD} // 4000;

# name => [when, how, statuses]

my %modes = (
    # the greeting
    refused       => ['greeting', instead(failure('FATAL', '53300', 'full'),
                      undef), 503],
    refused_bare  => ['greeting', instead(['E', "\0"], undef), 503],
    refused_long  => ['greeting', instead(failure('FATAL', '28000',
                      'x' x 25000), undef), 503],
    refused_old   => ['greeting', instead("EFATAL: no such thing\n\0", undef),
                      503],
    hang_up       => ['greeting', instead(undef), 503],
    silent        => ['greeting', instead(), 503],
    noise         => ['greeting', instead($garbage), 503],
    http          => ['greeting', instead("HTTP/1.1 400 Bad Request\r\n\r\n",
                      undef), 503],
    gss           => ['greeting', instead(auth(7)), 503],
    gss_more      => ['greeting', instead(auth(8, 'token')), 503],
    sspi          => ['greeting', instead(auth(9)), 503],
    auth_unknown  => ['greeting', instead(auth(99)), 503],
    auth_password => ['greeting', instead(auth(3)), 503],
    auth_md5      => ['greeting', instead(auth(5, 'ab')), 503],
    auth_sasl     => ['greeting', instead(auth(10, "SCRAM-SHA-256\0\0")), 503],
    auth_sasl_bad => ['greeting', instead(auth(10, "\xff" x 100)), 503],
    auth_final    => ['greeting', instead(auth(12, 'v=x')), 503],
    auth_short    => ['greeting', instead(['R', '']), 503],
    auth_huge     => ['greeting', instead('R' . pack('N', 0x7fffffff)), 503],
    auth_twice    => ['greeting', before('K', auth(0)), qr/200|503/],
    not_ready     => ['greeting', without('Z'), 503],
    ready_twice   => ['greeting', after('Z', ready()), qr/200|50[034]/],
    ready_failed  => ['greeting', sub { (grep({ $_->[0] ne 'Z' } @_),
                      ready('E')) }, qr/200|50[034]/],
    no_key        => ['greeting', without('K'), 200],
    no_params     => ['greeting', without('S'), qr/200|50[034]/],
    key_short     => ['greeting', sub { map { $_->[0] eq 'K' ? ['K', 'a']
                      : $_ } @_ }, qr/200|50[034]/],
    negotiate     => ['greeting', instead(['v', pack('NN', 196608, 0)],
                      undef), 503],
    params_flood  => ['greeting', before('K', map { param("p$_", 'v' x 20) }
                      1 .. $flood), qr/200|50[034]/],
    notices_first => ['greeting', before('K', map { notice('n' x 50) }
                      1 .. $flood), qr/200|50[034]/],
    param_bad     => ['greeting', before('K', ['S', 'no end']),
                      qr/200|50[034]/],
    version_none  => ['greeting', before('K', param('server_version', 'x')),
                      qr/200|50[034]/],
    early_rows    => ['greeting', before('Z', columns(1), row(text('x'))),
                      qr/200|50[034]/],

    # the setup of a session
    session_error => ['session', instead($error, ready()), 200],
    session_fatal => ['session', instead($fatal, undef), 503],
    session_gone  => ['session', instead(undef), 503],
    session_mute  => ['session', instead(), 503],
    interval_error => ['interval', instead($error, ready()), 200],
    probe_error   => ['probe', instead($error, ready()), 503],
    probe_empty   => ['probe', without('D'), 503],
    probe_wide    => ['probe', instead(['1', ''], ['2', ''], columns(70),
                      row(map { bool(1) } 1 .. 70), ['C', "SELECT 1\0"],
                      ready()), 503],
    probe_text    => ['probe', instead(['1', ''], ['2', ''], columns(8),
                      row((text('true')) x 6, null(), null()),
                      ['C', "SELECT 1\0"], ready()), 503],
    probe_copy    => ['probe', instead(['H', pack('Cnn', 0, 1, 0)], ready()),
                      qr/50[034]/],

    # values of a response
    short_id      => ['answer', column(id => text('abc')), 500],
    long_id       => ['answer', column(id => text('a' x 17)), 500],
    no_id         => ['answer', column(id => null()), 500],
    head_short    => ['answer', column(full => text('')), 500],
    head_wide     => ['answer', column(full => int8(1)), 500],
    head_none     => ['answer', sub { my $n = 0;
                      grep { $_->[0] ne 'D' || $n++ } @_ }, 500],
    head_twice    => ['answer', sub { my $n = 0; map { $_->[0] eq 'D' && !$n++
                      ? ($_, $_) : $_ } @_ }, 500],
    full          => ['answer', full(sub { @_ }), 200],
    full_gone     => ['answer', full(without('D')), 404],
    full_none     => ['answer', full(column(full => null())), 500],
    full_again    => ['answer', full(column(full => bool(1))), 500],
    full_wide     => ['answer', full(column(full => int8(0))), 500],
    full_few      => ['answer', full(instead(columns(3), row(map { bool(0) }
                      1 .. 3), ['C', "SELECT 1\0"], ready())), 500],
    head_absent   => ['answer', column(full => null()), 500],
    public_wide   => ['answer', column(is_public => text('tt')), 500],
    time_short    => ['answer', column(created_at => text('1234567')), 500],
    time_last     => ['answer', column(created_at =>
                      int8(9223372036854775806)), 200],
    time_first    => ['answer', column(created_at =>
                      int8(-9223372036854775807)), 200],
    version_short => ['answer', column(template_version_id =>
                      text('1234')), 500],
    cost_short    => ['answer', column(cost => text('1234')), 500],
    cost_nan      => ['answer', column(cost => float8('nan')), 200],
    tokens_short  => ['answer', column(prompt_tokens => text('1')), 500],
    tokens_huge   => ['answer', column(prompt_tokens =>
                      int8(9223372036854775807)), qr/200|500/],
    array_short   => ['answer', column(tags => text('abc')), 500],
    array_dims    => ['answer', column(tags => text(pack 'N3', 7, 0, 25)), 500],
    array_many    => ['answer', column(tags => text(pack 'N5', 1, 0, 25,
                      0x7fffffff, 1)), 500],
    array_huge    => ['answer', column(tags => text(pack 'N9', 3, 0, 25,
                      0x10000, 1, 0x10000, 1, 0x10000, 1)), 500],
    array_type    => ['answer', column(tags => text(pack 'N5', 1, 0, 23, 1, 1)),
                      500],
    array_element => ['answer', column(tags => text(pack 'N6', 1, 0, 25, 1, 1,
                      0x7ffffff0)), 500],
    array_rest    => ['answer', column(tags => text($tags . text('a') . null()
                      . 'rest')), 500],
    jsonb_empty   => ['answer', column(input => text('')), 500],
    jsonb_version => ['answer', column(input => text("\2{}")), 500],
    jsonb_bare    => ['answer', column(input => text("\1")), 500],
    jsonb_open    => ['answer', column(input => jsonb('{"a": [1, "x')), 500],
    jsonb_key     => ['answer', column(input => jsonb('{"a_')), 500],
    jsonb_escape  => ['answer', column(input => jsonb('{"a\\')), 500],
    parent_short  => ['answer', column(parent_run_id => text('x')), 500],
    user_short    => ['answer', column(user_id => text('x')), 500],
    seen_short    => ['answer', column(last_seen => text('x')), 500],
    key_none      => ['answer', column(kind => null()), 500],
    project_none  => ['answer', column(project => null()), 500],
    project_short => ['answer', column(project => text('x')), 500],

    # the row for HEAD
    exists_good   => ['answer', sub { @_ }, 200],
    exists_key    => ['answer', column(kind => null()), 401],
    exists_public => ['answer', column(kind => text('public')), 401],
    exists_project => ['answer', column(project => text('x')), 500],
    exists_not    => ['answer', column(full => null()), 404],
    exists_wide   => ['answer', column(full => text('tt')), 500],

    # shapes of a response
    fewer_columns => ['answer', sub { map { $_->[0] eq 'T' ? columns(3)
                      : $_->[0] eq 'D' ? row(map { text('x') } 1 .. 3)
                      : $_ } @_ }, 500],
    more_columns  => ['answer', sub { map { $_->[0] eq 'T' ? columns(60)
                      : $_->[0] eq 'D' ? row(map { text('x') } 1 .. 60)
                      : $_ } @_ }, 500],
    rows_narrow   => ['answer', sub { map { $_->[0] eq 'D'
                      ? row(text('x')) : $_ } @_ }, qr/50[034]/],
    no_columns    => ['answer', sub { map { $_->[0] eq 'T' ? columns(0)
                      : $_->[0] eq 'D' ? row() : $_ } @_ }, 500],
    undescribed   => ['answer', without('T'), qr/50[034]/],
    row_first     => ['answer', before('T', row(text('x'))), qr/50[034]/],
    described_twice => ['answer', after('T', columns(2)), qr/50[034]/],
    row_cut       => ['answer', sub { map { $_->[0] eq 'D'
                      ? ['D', substr $_->[1], 0, 40] : $_ } @_ }, qr/50[034]/],
    row_long      => ['answer', sub { map { $_->[0] eq 'D'
                      ? ['D', "$_->[1]more"] : $_ } @_ }, qr/50[034]/],
    value_long    => ['answer', column(type => pack('N', 0x7fffffff)),
                      qr/50[034]/],
    value_negative => ['answer', column(type => pack('N', 0xfffffff0) . 'x'),
                      qr/200|50[034]/],
    row_giant     => ['answer', sub { map { $_->[0] eq 'D'
                      ? ('D' . pack('N', 0x3fffffff)) : $_ } @_ },
                      qr/50[034]/],
    length_zero   => ['answer', before('D', 'D' . pack('N', 0)), qr/50[034]/],
    length_three  => ['answer', before('D', 'D' . pack('N', 3)), qr/50[034]/],
    length_high   => ['answer', before('D', 'D' . pack('N', 0xffffffff)),
                      qr/50[034]/],
    unknown_type  => ['answer', before('D', ['%', 'what']), qr/50[034]/],
    copy_out      => ['answer', before('D', ['H', pack('Cnn', 0, 1, 0)],
                      ['d', 'x'], ['c', '']), qr/50[034]/],
    copy_in       => ['answer', instead(['2', ''], ['G', pack('Cnn', 0, 1,
                      0)]), qr/50[034]/],
    copy_both     => ['answer', instead(['2', ''], ['W', pack('Cnn', 0, 1,
                      0)], ready()), qr/50[034]/],
    function      => ['answer', before('D', ['V', pack 'N', 0]), qr/50[034]/],
    empty_query   => ['answer', instead(['2', ''], ['I', ''], ready()),
                      qr/50[034]/],
    suspended     => ['answer', sub { map { $_->[0] eq 'C' ? ['s', ''] : $_ }
                      @_ }, qr/200|50[034]/],
    no_data       => ['answer', before('T', ['n', '']), qr/200|500/],
    not_complete  => ['answer', without('C'), qr/50[034]/],
    complete_twice => ['answer', after('C', ['C', "SELECT 3\0"]),
                      qr/200|50[034]/],
    complete_bad  => ['answer', sub { map { $_->[0] eq 'C' ? ['C', 'x'] : $_ }
                      @_ }, qr/200|50[034]/],
    rows_after    => ['answer', after('C', row(run_row(3))),
                      qr/200|50[034]/],
    rows_after_ready => ['answer', after('Z', row(run_row(3))),
                      qr/200|50[034]/],
    bound_twice   => ['answer', after('2', ['2', '']), qr/200|50[034]/],
    parsed_twice  => ['answer', after('1', ['1', '']), qr/200|50[034]/],
    not_bound     => ['answer', without('2'), qr/200|50[034]/],
    not_ready_yet => ['answer', without('Z'), qr/50[034]/],
    readies       => ['answer', after('Z', map { ready() } 1 .. 5),
                      qr/200|50[034]/],
    ready_open    => ['answer', sub { map { $_->[0] eq 'Z' ? ready('T') : $_ }
                      @_ }, qr/200|50[034]/],
    ready_early   => ['answer', before('D', ready()), qr/50[034]/],
    reversed      => ['answer', sub { reverse @_ }, qr/50[034]/],
    nothing       => ['answer', instead(ready()), 503],
    mute          => ['answer', instead(), qr/50[034]/],
    gone          => ['answer', instead(undef), 503],
    rubbish       => ['answer', instead($garbage), qr/50[034]/],
    rubbish_rows  => ['answer', before('C', $garbage), qr/50[034]/],
    notices       => ['answer', before('D', map { notice('n' x 50) }
                      1 .. $flood / 2), qr/200|50[034]/],
    params        => ['answer', before('D', map { param("p$_", 'v' x 20) }
                      1 .. $flood), qr/200|50[034]/],
    notifies      => ['answer', before('D', map { ['A', pack('N', 1)
                      . "c\0p\0"] } 1 .. $flood), qr/200|50[034]/],
    encoding      => ['answer', before('D', param('client_encoding',
                      'LATIN1')), 200],
    error_first   => ['answer', instead(['2', ''], $error, ready()), 500],
    error_between => ['answer', sub { my @m = @_; splice @m, -4, 2, $error;
                      @m }, 500],
    error_after   => ['answer', before('Z', $error), qr/50[03]/],
    error_twice   => ['answer', sub { map { $_->[0] eq 'C' ? ($error, $error)
                      : $_ } @_ }, qr/50[034]/],
    error_bare    => ['answer', before('C', ['E', "\0"]), qr/50[034]/],
    error_state   => ['answer', instead(failure('ERROR', 'x' x 200, 'y'),
                      ready()), 500],
    error_stateless => ['answer', instead(failure('ERROR', undef, 'y'),
                      ready()), qr/50[034]/],
    error_long    => ['answer', instead(failure('ERROR', '42P01',
                      'z' x 29000), ready()), 500],
    error_only    => ['answer', instead($error), qr/50[034]/],
    error_gone    => ['answer', sub { (@_[0 .. 3], $error, undef) },
                      qr/50[034]/],
    fatal_between => ['answer', sub { (@_[0 .. 3], $fatal, undef) }, 503],
    fatal_stays   => ['answer', sub { (@_[0 .. 3], $fatal) }, 503],
    fatal_after   => ['answer', after('Z', $fatal, undef), qr/200|503/],
    close_after   => ['answer', sub { (@_, undef) }, 200],
    conflict      => ['answer', instead(failure('ERROR', '40001', 'again'),
                      ready()), 503],
    cancelled     => ['answer', instead(failure('ERROR', '57014', 'stop'),
                      ready()), 504],
    forgotten     => ['answer', instead(failure('ERROR', '26000', 'what'),
                      ready()), 500],

    # after the response to the client has begun: 200, but cut
    rows_then_gone => ['answer', sub { many(sub { undef }, @_) }, 'cut'],
    rows_then_error => ['answer', sub { many(sub { ($error, ready()) }, @_) },
                      'cut'],
    rows_then_bad => ['answer', sub { many(sub { (row(text('x')), $_[1],
                      $_[2]) }, @_) }, 'cut'],
    rows_then_value => ['answer', sub { many(sub {
                      my @row = run_row(1); $row[$at{id}] = text('x');
                      (row(@row), @_[0, 1]) }, @_) }, 'cut'],
    rows_then_mute => ['answer', sub { many(sub { () }, @_) }, 'cut'],
);

sub many {
    my ($end, @messages) = @_;

    my ($head, @rows) = grep { $_->[0] eq 'D' } @messages;
    my @tail = @messages[-2, -1];

    return (@messages[0 .. $#messages - 6], $head, (@rows) x 300,
            $end->(@tail));
}

sub modes {
    return map { [$_, $modes{$_}[2]] } sort keys %modes;
}

# random damage to the messages of a greeting, a session or a response

sub damage {
    my ($state, $when, @messages) = @_;

    my $next = sub {
        # our own generator, so that a seed has the same results everywhere
        $state->{seed} = ($state->{seed} * 1103515245 + 12345) & 0x7fffffff;
        return ($state->{seed} >> 8) % $_[0];
    };

    # otherwise few sessions would get to a response
    return @messages if $next->(8) > ($when eq 'answer' ? 5 : 0);

    for (1 .. 1 + $next->(3)) {
        my $n = @messages or last;
        my $i = $next->($n);
        my $kind = $next->(11);
        my $message = $messages[$i];

        next if !ref $message;

        my ($type, $payload) = @$message;
        my $length = length $payload;

        if ($kind == 0) {
            splice @messages, $i, 1;

        } elsif ($kind == 1) {
            splice @messages, $i, 0, $message;

        } elsif ($kind == 2) {
            my $k = $next->($n);
            @messages[$i, $k] = @messages[$k, $i];

        } elsif ($kind <= 5 && $length) {
            substr $payload, $next->($length), 1, chr $next->(256);
            $messages[$i] = [$type, $payload];

        } elsif ($kind == 6 && $length) {
            $messages[$i] = [$type, substr $payload, 0, $next->($length)];

        } elsif ($kind == 7) {
            my @types = split //, 'RSKZTDCE12AntNGHWdcIsV3v';
            $messages[$i] = [$types[$next->(scalar @types)], $payload];

        } elsif ($kind == 8) {
            $messages[$i] = $type . pack('N', $next->(3) ? $length
                + $next->(40) : $next->(0x7fffffff)) . $payload;

        } elsif ($kind == 9) {
            @messages = (@messages[0 .. $i], undef);

        } else {
            my $bytes = join '', map { chr $next->(256) } 0 .. $next->(60);
            splice @messages, $i, 0, $bytes;
        }
    }

    return @messages;
}


sub new {
    my ($class, %arg) = @_;

    my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1',
        LocalPort => $arg{port}, Listen => 1024, ReuseAddr => 1)
        or die "listen: $!";

    my $self = bless { listen => $socket, port => $socket->sockport,
                       select => IO::Select->new($socket),
                       hook => $arg{hook} }, $class;
    push @all, $self;

    return $self;
}


sub conninfo {
    my ($self, $mode) = @_;

    return "host=127.0.0.1 port=$self->{port} user=fake dbname=$mode"
           . ' sslmode=disable password=none';
}


sub start {
    my ($self) = @_;

    my $pid = fork // die "fork: $!";

    if ($pid == 0) {
        local $SIG{PIPE} = 'IGNORE';
        $self->serve;
        POSIX::_exit(0);
    }

    $self->{pid} = $pid;
    close delete $self->{listen};

    return $self;
}


sub stop {
    my ($self) = @_;

    kill_wait('TERM', delete $self->{pid}, 5) if $self->{pid};
}


sub serve {
    my ($self) = @_;

    my $parent = getppid;

    $self->turn(1) while getppid == $parent;
}


# the result of the function, or nothing at the timeout
sub run_until {
    my ($self, $check, $seconds) = @_;

    my $end = time + ($seconds // 10) * patience();
    local $SIG{PIPE} = 'IGNORE';

    while (time < $end) {
        my $result = $check->();
        return $result if $result;
        $self->turn(0.02);
    }

    return;
}


sub turn {
    my ($self, $seconds) = @_;

    my $listen = $self->{listen};

    for my $socket ($self->{select}->can_read($seconds)) {
        if ($socket == $listen) {
            my $new = $listen->accept or next;
            $new->blocking(0);
            $self->{of}{$new} = { socket => $new, in => '', sent => 0 };
            $self->{select}->add($new);
            next;
        }

        my $one = $self->{of}{$socket} or next;
        my $bytes = sysread $socket, $one->{in}, 65536, length $one->{in};

        next if !defined $bytes && $!{EAGAIN};

        if (!$bytes || !eval { $self->take($one); 1 } || $one->{over}) {
            warn $@ if $@;
            $self->drop($one);
        }
    }
}


sub drop {
    my ($self, $one) = @_;

    my $socket = delete $one->{socket} or return;

    $one->{over} = 1;
    delete $self->{of}{$socket};
    $self->{select}->remove($socket);
    close $socket;
}


# ends a connection with a RST
sub reset {
    my ($self, $one) = @_;

    setsockopt $one->{socket}, SOL_SOCKET, SO_LINGER, pack 'II', 1, 0;
    $self->drop($one);
}


sub take {
    my ($self, $one) = @_;

    while (!$one->{over}) {
        if (!$one->{started}) {
            return if length $one->{in} < 8;
            my ($length, $version) = unpack 'NN', $one->{in};
            return if length $one->{in} < $length;
            my $packet = substr $one->{in}, 0, $length, '';

            if ($version == 80877103 || $version == 80877104) {
                syswrite $one->{socket}, 'N';
                next;
            }

            my %param = split /\0/, substr $packet, 8;
            $self->choose($one, $param{database} // 'good');
            $one->{started} = 1;
            $self->say($one, 'greeting', greeting());
            next;
        }

        return if length $one->{in} < 5;
        my ($type, $length) = unpack 'aN', $one->{in};
        return if length $one->{in} < $length + 1;
        my $payload = substr substr($one->{in}, 0, $length + 1, ''), 5;

        if ($type eq 'P') {
            my ($name, $sql) = unpack 'Z* Z*', $payload;
            my $kind = $name ne '' ? $name
                : $sql =~ /client_connection_check/ ? 'interval'
                : $sql =~ /pg_attribute/ ? 'probe'
                : $sql =~ /set_config/ ? 'session' : 'key';
            $one->{names}{$name} = $kind;
            $one->{parsed} = 1;

        } elsif ($type eq 'B') {
            my (undef, $name) = unpack 'Z* Z*', $payload;
            $one->{kind} = $one->{names}{$name} // 'key';

        } elsif ($type eq 'S') {
            my $kind = delete $one->{kind} // next;
            my $when = $kind =~ /^(?:session|interval|probe)$/ ? $kind
                       : 'answer';
            $self->say($one, $when, reply($kind, !delete $one->{parsed}));

        } elsif ($type eq 'X') {
            $one->{over} = 1;
        }
    }
}


sub choose {
    my ($self, $one, $name) = @_;

    my $count = ++$self->{count}{$name};

    @$one{qw( database number )} = ($name, $count);

    return if $name =~ s/_x(\d+)$// && $count > $1;
    return if $name =~ /^good/;

    if ($name =~ /^cut_(\d+)$/) {
        $one->{cut} = $1;

    } elsif ($name =~ /^bytes_(\d+)$/) {
        $one->{bytes} = $1;

    } elsif ($name =~ /^random_(\d+)$/) {
        $one->{damage} = { seed => $1 + 1000003 * $count };

    } else {
        $one->{mode} = $modes{$name} // warn "no mode $name\n";
    }
}


sub say {
    my ($self, $one, $when, @messages) = @_;

    # not the same ones for all
    @messages = map { [@$_] } @messages;

    my $mode = $one->{mode};

    if ($mode && $mode->[0] eq $when) {
        @messages = $mode->[1]->(@messages);
    }

    @messages = damage($one->{damage}, $when, @messages) if $one->{damage};
    @messages = $self->{hook}->($one, $when, @messages) if $self->{hook};

    $self->write($one, @messages);
}


sub write {
    my ($self, $one, @messages) = @_;

    my $out = '';

    for my $message (@messages) {
        if (!defined $message) {
            $one->{over} = 1;
            last;
        }

        $out .= !ref $message ? $message
                : $message->[0] . pack('N', 4 + length $message->[1])
                  . $message->[1];
    }

    if (defined $one->{cut} && $one->{sent} + length $out >= $one->{cut}) {
        $out = substr $out, 0, $one->{cut} - $one->{sent};
        $one->{over} = 1;
    }

    $one->{sent} += length $out;

    my $socket = $one->{socket};
    my $end = time + 10;

    while ($out ne '' && time < $end) {
        my $bytes = syswrite $socket, $out, $one->{bytes} // 1 << 30;

        if (defined $bytes) {
            substr $out, 0, $bytes, '';
            select undef, undef, undef, 0.0005 if $one->{bytes};
            next;
        }

        if (!$!{EAGAIN}) {
            $one->{over} = 1;
            return;
        }

        my $bits = '';
        vec($bits, fileno $socket, 1) = 1;
        select undef, $bits, undef, 0.1;
    }
}


# the bytes of a good session, for modes that cut it
sub session_length {
    my $length = 0;

    for my $message (greeting(), map { reply($_) }
                     qw( session interval probe lunary_key_main )) {
        $length += 5 + length $message->[1];
    }

    return $length;
}


END {
    if ($$ == $owner) {
        local ($?, $!, $@);
        $_->stop for @all;
    }
}


1;
