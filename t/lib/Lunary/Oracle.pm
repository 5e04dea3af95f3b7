package Lunary::Oracle;

# Computes the expected response a second time, in Perl, from the tables,
# without any code of the module.
#
#   my $oracle = Lunary::Oracle->new($dbh);
#   my $rows = $oracle->related($project, $root);      undef: no such run
#   my $why = $oracle->compare($body, $rows, nulls => 1);    undef: equal
#
# Responses are compared token by token: the text of each number and string,
# and the order of keys.  Numbers are not converted to doubles.  Space between
# tokens is ignored.

use strict;
use warnings;

use JSON::XS ();
use List::Util qw( first );
use Math::BigInt;
use POSIX ();


my $json = JSON::XS->new;


sub new {
    my ($class, $dbh) = @_;

    return bless { dbh => $dbh }, $class;
}


# reads the tables again, as other sessions may have changed them
sub load {
    my ($self, $project) = @_;

    my $dbh = $self->{dbh};
    my %has = map { $_->[0] => 1 } @{ $dbh->selectall_arrayref(
        q{select attname from pg_attribute where attrelid = 'run'::regclass
          and attnum > 0 and not attisdropped}) };

    # finite times as seconds since 2000, exact to the microsecond (PostgreSQL
    # rounds seconds since 1970 for distant years)
    my $time = sub {
        my ($column, $name) = @_;
        my $since = "($column - timestamptz '2000-01-01 00:00:00+00')";

        # before PostgreSQL 14 these are doubles
        return "case when isfinite($column) then"
               . " (extract(epoch from date_trunc('second', $since))::numeric"
               . " + extract(microseconds from $since)::bigint % 1000000"
               . " * 0.000001)::text else $column\::text end as $name";
    };

    my $runs = $dbh->selectall_arrayref('select id, parent_run_id,'
        . ' project_id, is_public, type, name, status,'
        . ' to_json(tags)::text as tags,'
        . ' template_version_id, external_user_id, prompt_tokens,'
        . ' completion_tokens, cost::text,'
        . ' feedback::text, input::text, output::text, error::text,'
        . ' params::text, metadata::text, '
        . ($has{sibling_run_id} ? 'sibling_run_id, ' : '')
        . $time->('created_at', 'created_at') . ', '
        . $time->('ended_at', 'ended_at')
        . ' from run where project_id = ?', { Slice => {} }, $project);

    my %run = map { $_->{id} => $_ } @$runs;
    my %children;

    for my $run (@$runs) {
        push @{ $children{$run->{parent_run_id}} }, $run
            if defined $run->{parent_run_id};
    }

    my $users = $dbh->selectall_hashref('select id::text, external_id,'
        . ' props::text, ' . $time->('created_at', 'created_at') . ', '
        . $time->('last_seen', 'last_seen')
        . ' from external_user where project_id = ?', 'id', {}, $project);

    my $slugs = $dbh->selectall_hashref('select v.id, t.slug from'
        . ' template_version v join template t on t.id = v.template_id'
        . ' where t.project_id = ?', 'id', {}, $project);

    $self->{project}{$project} = { run => \%run, children => \%children,
                                   user => $users, slug => $slugs };
}


sub forget {
    my ($self) = @_;

    delete $self->{project};
}


# compares runs by time, with infinities at the ends, then by id
sub by_time {
    my ($x, $y) = map {
        /^-inf/ ? -9e99 : /^inf/ ? 9e99 : $_
    } $_[0]{created_at}, $_[1]{created_at};

    # doubles are too short for microseconds of distant years
    my $order = abs $x > 9e98 || abs $y > 9e98
        ? $x <=> $y : micros($x)->bcmp(micros($y));

    return $order || $_[0]{id} cmp $_[1]{id};
}


sub micros {
    my ($seconds) = @_;

    my ($sign, $whole, $part) = $seconds =~ /^(-?)(\d+)(?:\.(\d+))?$/
        or die "no time: $seconds";
    my $micros = Math::BigInt->new($whole . substr(($part // '')
                                                   . '000000', 0, 6));

    return $sign ? -$micros : $micros;
}


# the rows of the response, each a list of [field, value]; undef if there is no
# such run
sub related {
    my ($self, $project, $root) = @_;

    $root = lc $root;
    my $data = $self->{project}{$project} // $self->load($project);
    my $start = $data->{run}{$root};

    return if !$start;

    my (%seen, @set);
    my @todo = $start;

    while (my $run = shift @todo) {
        next if $seen{$run->{id}}++;
        push @set, $run;
        push @todo, @{ $data->{children}{$run->{id}} // [] };
    }

    return [map { $data->{item}{$_->{id}} //= $self->item($data, $_) }
            sort { by_time($a, $b) } @set];
}


# the ancestors, nearest first, and whether there is a topmost one (no cycle)
sub ancestors {
    my ($data, $run) = @_;

    my %seen = ($run->{id} => 1);
    my @up;

    while (defined(my $id = $run->{parent_run_id})) {
        $run = $data->{run}{$id} // last;
        return (0, @up) if $seen{$id}++;
        push @up, $run;
    }

    return (1, @up);
}


sub item {
    my ($self, $data, $run) = @_;

    my ($ends, @up) = ancestors($data, $run);
    my $chat = first { $_->{type} eq 'chat' } @up;
    my $thread = $run->{type} eq 'thread';
    my ($first, $count) = $thread ? messages($data, $run) : ();
    my $version = $run->{template_version_id};
    my $slug = defined $version && $data->{slug}{$version}
               ? $data->{slug}{$version}{slug} : undef;
    my $user = defined $run->{external_user_id}
               ? $data->{user}{$run->{external_user_id}} : undef;
    my ($prompt, $completion) = @$run{qw( prompt_tokens
                                          completion_tokens )};

    return [
        [id => text($run->{id})],
        [projectId => text($run->{project_id})],
        [isPublic => literal($run->{is_public} ? 'true' : 'false')],
        [feedback => json($run->{feedback})],
        [parentFeedback => $chat ? json($chat->{feedback}) : undef],
        [type => text($run->{type})],
        [name => text($run->{name})],
        [createdAt => iso($run->{created_at})],
        [endedAt => iso($run->{ended_at})],
        [duration => duration($run->{created_at}, $run->{ended_at})],
        [templateVersionId => text($version)],
        [templateSlug => text($slug)],
        [cost => double($run->{cost} // 0)],
        [tokens => ['object', [
            [completion => number($completion)],
            [prompt => number($prompt)],
            [total => number(($prompt // 0) + ($completion // 0))],
        ]]],
        [tags => defined $run->{tags} ? list($json->decode($run->{tags}))
                                      : undef],
        [input => json($run->{input})],
        [output => json($run->{output})],
        [error => json($run->{error})],
        [status => text($run->{status})],
        [siblingRunId => text($run->{sibling_run_id})],
        [params => json($run->{params})],
        [metadata => json($run->{metadata})],
        [firstMessage => $thread ? $first : undef],
        [messagesCount => $thread ? number($count) : undef],
        [user => $user ? ['object', [
            [id => text($user->{id})],
            [externalId => text($user->{external_id})],
            [createdAt => iso($user->{created_at})],
            [lastSeen => iso($user->{last_seen})],
            [props => json($user->{props})],
        ]] : undef],
        [traceId => $ends && @up ? text($up[-1]{id}) : undef],
        [parentRunId => text($run->{parent_run_id})],
        [promptTokens => number($prompt)],
        [completionTokens => number($completion)],
    ];
}


# (first message, number of messages) of a thread
sub messages {
    my ($data, $thread) = @_;

    my ($first, $count) = (undef, 0);

    my @chats = sort { by_time($a, $b) }
                grep { $_->{type} eq 'chat' }
                @{ $data->{children}{$thread->{id}} // [] };

    for my $chat (@chats) {
        for my $text (@$chat{qw( input output )}) {
            my @messages = elements($text);

            $count += @messages;
            $first //= $messages[0];
        }
    }

    return (defined $first ? json($first) : undef, $count);
}


# the texts of the elements of an array, or the text of another value
sub elements {
    my ($text) = @_;

    return if !defined $text || $text eq 'null';
    return $text if $text !~ /^\[/;

    my ($depth, @elements) = (0);

    for my $token (tokens($text)) {
        if ($depth == 1 && $token eq ',') {
            push @elements, '';
            next;
        }

        $depth-- if $token eq ']' || $token eq '}';
        last if $depth == 0 && $token eq ']';
        push @elements, '' if !@elements && $depth == 1;
        $elements[-1] .= $token if $depth >= 1;
        $depth++ if $token eq '[' || $token eq '{';
    }

    return @elements;
}


# values: undef if there is none, otherwise [kind, value]

sub text {
    my ($value) = @_;

    return defined $value ? ['text', $value] : undef;
}


sub literal {
    my ($value) = @_;

    return ['tokens', [$value]];
}


sub number {
    my ($value) = @_;

    return defined $value ? ['tokens', ["$value"]] : undef;
}


sub double {
    my ($value) = @_;

    return $value =~ /nan|inf/i ? undef : ['double', $value];
}


sub list {
    my ($value) = @_;

    return if !defined $value;

    return ['list', [map { ref $_ ? list($_) : text($_) } @$value]];
}


sub json {
    my ($text) = @_;

    return if !defined $text || $text eq 'null';

    return ['tokens', [camel(tokens($text))]];
}


sub duration {
    my ($from, $to) = @_;

    return if !defined $to || "$from $to" =~ /inf/;

    return ['decimal', micros($to) - micros($from)];
}


# ISO 8601 as JavaScript writes it, truncated to milliseconds
sub iso {
    my ($seconds) = @_;

    return if !defined $seconds || $seconds =~ /inf/;

    my $micros = micros($seconds);

    # Math::BigInt rounds down
    my ($millis) = $micros->copy->bdiv(1000);
    my ($secs, $ms) = $millis->bdiv(1000);
    my ($day, $second) = $secs->bdiv(86400);
    my ($year, $month, $mday) = civil($day->numify);

    $second = $second->numify;
    $ms = $ms->numify;

    my $text = $year >= 0 && $year <= 9999 ? sprintf '%04d', $year
               : sprintf '%s%06d', $year < 0 ? '-' : '+', abs $year;

    return ['text', sprintf '%s-%02d-%02dT%02d:%02d:%02d.%03dZ', $text,
            $month, $mday, $second / 3600, $second / 60 % 60,
            $second % 60, $ms];
}


# converts days since 2000 to year, month, day by counting years
sub civil {
    my ($day) = @_;

    my $cycles = POSIX::floor($day / 146097);
    my $year = 2000 + 400 * $cycles;
    $day -= 146097 * $cycles;

    while (1) {
        my $days = leap($year) ? 366 : 365;
        last if $day < $days;
        $day -= $days;
        $year++;
    }

    my @days = (31, leap($year) ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31,
                30, 31);
    my $month = 0;
    $day -= $days[$month++] while $day >= $days[$month];

    return ($year, $month + 1, $day + 1);
}


sub leap {
    my ($year) = @_;

    return $year % 4 == 0 && ($year % 100 != 0 || $year % 400 == 0);
}


# JSON text

sub tokens {
    my ($text) = @_;

    my @tokens = $text =~
        /\G\s*+([{}\[\]:,]|"(?:[^"\\]++|\\.)*+"|[^\s{}\[\]:,"]++)/gcs;

    push @tokens, substr $text, pos($text) // 0
        if substr($text, pos($text) // 0) =~ /\S/;

    return @tokens;
}


# the tokens with the object keys camel-cased
sub camel {
    my (@tokens) = @_;

    for my $i (1 .. $#tokens) {
        $tokens[$i - 1] = camel_key($tokens[$i - 1]) if $tokens[$i] eq ':';
    }

    return @tokens;
}


sub camel_key {
    my ($token) = @_;

    my @chars = substr($token, 1, -1)
                =~ /(\\u[0-9a-fA-F]{4}|\\.|.)/gs;
    my $key = @chars ? shift @chars : '';

    while (@chars) {
        my $char = shift @chars;

        if ($char eq '_') {
            $char = shift @chars // '';
            $char =~ tr/a-z/A-Z/ if length $char == 1;
        }

        $key .= $char;
    }

    return "\"$key\"";
}


sub unquote {
    my ($token) = @_;

    my %char = (b => "\b", f => "\f", n => "\n", r => "\r", t => "\t");

    return if $token !~ /^"(.*)"$/s;

    my $text = $1;

    return if $text =~ /[\x00-\x1f]/;

    $text =~ s{\\u([dD][89abAB]..)\\u([dD][c-fC-F]..)}
              {chr 0x10000 + ((hex($1) - 0xd800) << 10)
                   + hex($2) - 0xdc00}ge;
    $text =~ s{\\(?:u([0-9a-fA-F]{4})|(.))}
              {defined $1 ? chr hex $1 : $char{$2} // $2}ges;

    return $text;
}


# comparing

# undef if the body equals the rows, otherwise the first difference
sub compare {
    my ($self, $body, $rows, %arg) = @_;

    my $text = $body;
    return 'the response is not UTF-8' if !utf8::decode($text);

    my $state = { tokens => [tokens($text)], at => 0, path => '',
                  nulls => $arg{nulls} };
    my @rows = map { ['object', $_] } @$rows;

    my $why = compare_value($state, ['list', \@rows]);
    return $why if defined $why;

    return 'there is more after the end: '
           . join '', @{ $state->{tokens} }[$state->{at} .. $state->{at} + 5]
        if $state->{at} < @{ $state->{tokens} };

    return;
}


sub differs {
    my ($state, $expected) = @_;

    my $at = $state->{at} > 0 ? $state->{at} - 1 : 0;
    my $last = $#{ $state->{tokens} };
    my $got = join '', @{ $state->{tokens} }[$at .. ($at + 8 < $last
                                                     ? $at + 8 : $last)];

    my $why = sprintf '%s: expected %.200s, got %.200s',
                      $state->{path} || '.', $expected, $got;
    utf8::encode($why);

    return $why;
}


sub eat {
    my ($state, $token) = @_;

    my $got = $state->{tokens}[$state->{at}++];

    return if defined $got && $got eq $token;
    return differs($state, $token);
}


sub compare_value {
    my ($state, $value) = @_;

    return eat($state, 'null') if !defined $value;

    my ($kind, $what) = @$value;

    if ($kind eq 'tokens') {
        for my $token (@$what) {
            my $why = eat($state, $token);
            return $why if defined $why;
        }
        return;
    }

    if ($kind eq 'list' || $kind eq 'object') {
        return compare_all($state, $kind, $what);
    }

    my $got = $state->{tokens}[$state->{at}++] // '';

    if ($kind eq 'text') {
        my $is = unquote($got);
        return defined $is && $is eq $what ? undef
                                           : differs($state, "\"$what\"");
    }

    if ($kind eq 'double') {
        return differs($state, $what)
            if $got !~ /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?$/;
        my ($x, $y) = map { pack 'd', (POSIX::strtod($_))[0] } $got, $what;
        return $x eq $y ? undef : differs($state, $what);
    }

    if ($kind eq 'decimal') {
        return differs($state, "$what microseconds")
            if $got !~ /^-?(?:0|[1-9]\d*)(?:\.\d{1,6})?$/
               || micros($got)->bcmp($what) != 0;
        return;
    }

    die "no such kind: $kind";
}


sub compare_all {
    my ($state, $kind, $what) = @_;

    my $path = $state->{path};
    my $why = eat($state, $kind eq 'list' ? '[' : '{');
    return $why if defined $why;

    my @what = $kind eq 'list' || $state->{nulls}
               ? @$what : grep { defined $_->[1] } @$what;

    for my $i (0 .. $#what) {
        my ($key, $value) = $kind eq 'list' ? ($i, $what[$i])
                                            : @{ $what[$i] };
        local $state->{path} = "$path.$key";

        $why = eat($state, ',') if $i > 0;
        $why //= eat($state, "\"$key\"") // eat($state, ':')
            if $kind eq 'object';
        $why //= compare_value($state, $value);

        return $why if defined $why;
    }

    return eat($state, $kind eq 'list' ? ']' : '}');
}


1;
