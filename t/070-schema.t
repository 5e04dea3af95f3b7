# The responses match conf/openapi.yaml, and that file agrees with Lunary's
# published description of the endpoint.
#
# Packages: libjson-validator-perl libyaml-libyaml-perl openapi-specification

use strict;
use warnings;

use lib 't/lib';
use JSON::Validator;
use JSON::Validator::Formats;
use JSON::XS ();
use Lunary::Nginx;
use Lunary::Test;
use Lunary::Session qw( token );
use Lunary::System qw( free_port write_file );
use Test::More;
use YAML::XS ();

$YAML::XS::Boolean = 'JSON::PP';

my $path = '/v1/runs/{id}/related';
my $api = YAML::XS::LoadFile('conf/openapi.yaml');
my $schema = JSON::Validator->new->schema('conf/openapi.yaml')->schema;

# JSON::Validator of Debian 13 and later does not include the schema of OpenAPI
my $openapi = JSON::Validator->new->schema(
    '/usr/share/openapi-specification/schemas/v3.0/schema.yaml')->schema;
$openapi->formats->{'uri-reference'} =
    \&JSON::Validator::Formats::check_uri_reference;

is_deeply([map { "$_" } $openapi->validate($api)], [],
          'conf/openapi.yaml is an OpenAPI description');


# the responses

my $nowhere = free_port();
my $nginx = Lunary::Nginx->new(
    http => 'lunary_database "' . pg()->conninfo . '";'
            . ' lunary_jwt_secret_file secret;',
    config => <<"EOF_CONFIG");
        location ~ "^/v1/runs/(?<run_id>[^/]+)/related\$" {
            lunary_related_runs \$run_id;
        }
        location ~ "^/down/v1/runs/(?<run_id>[^/]+)/related\$" {
            lunary_database "host=127.0.0.1 port=$nowhere";
            lunary_queue 10 timeout=200ms;
            lunary_related_runs \$run_id;
        }
        location ~ "^/none/v1/runs/(?<run_id>[^/]+)/related\$" {
            lunary_database "@{[ pg()->conninfo(dbname => 'postgres') ]}";
            lunary_related_runs \$run_id;
        }
EOF_CONFIG

my $secret = 'a secret of the tests, 32 bytes+';

write_file("$nginx->{dir}/secret", $secret);
chmod 0600, "$nginx->{dir}/secret";
$nginx->start;

my $client = $nginx->client;
my $json = JSON::XS->new->utf8->max_depth(100_000);

sub valid {
    my ($answer, $method, $status, $name) = @_;

    is($answer->{status}, $status, "$name: status");

    my $data = $method eq 'get' ? eval { $json->decode($answer->{body}) }
                                : undef;
    my %header = %{ $answer->{header} };
    my @errors = $schema->validate_response([$method, $path, $status], {
        body => sub {
            return { exists => defined $data, value => $data,
                     content_type => 'application/json' };
        },
        header => sub {
            my $value = $header{lc $_[0]};
            return { exists => defined $value, value => $value };
        },
    });

    is_deeply([map { "$_" } @errors], [], "$name: as described")
        or diag(substr $answer->{body}, 0, 500);
}

# the description has no years of more than four digits and no nested arrays
my $ids = pg()->dbh->selectcol_arrayref(q{
    select id from run r where project_id = ?
    and not (id between '00000000-0000-4000-8000-000000080001'
                    and '00000000-0000-4000-8000-000000099999')
    and id not in ('00000000-0000-4000-8000-000000000700',
                   '00000000-0000-4000-8000-000000000120',
                   '00000000-0000-4000-8000-000000007504',
                   '00000000-0000-4000-8000-000000007505')
    and coalesce(array_ndims(tags), 1) = 1
    and isfinite(created_at) and extract(year from created_at) < 10000
    and created_at >= '0001-01-01 00:00:00+00'
    and (ended_at is null or ended_at < '9999-12-31 00:00:00+00'
                             and ended_at >= '0001-01-01 00:00:00+00')
    order by id}, undef, project('alpha'));

# by an account of the project alpha
sub by_session {
    my ($method, $n, %claims) = @_;

    return $client->exchange($method,
        related_uri($n) . '?projectId=' . project('alpha'),
        Authorization => 'Bearer ' . token(secret => $secret,
                                           claims => \%claims));
}

valid($client->related($_, key('alpha')), 'get', 200, "run $_")
    for @$ids, run_id(90000);

valid($client->exchange('HEAD', related_uri(101), Authorization =>
                        'Bearer ' . key('alpha')), 'head', 200, 'HEAD');
valid($client->exchange('HEAD', related_uri(999), Authorization =>
                        'Bearer ' . key('alpha')), 'head', 404, 'HEAD, 404');
valid($client->get(related_uri(101)), 'get', 401, 'no key');
valid($client->related(run_id(101), $_), 'get', 401, "key $_")
    for 'x', key('public'), key('org'),
        'cccccccc-ffff-4000-8000-00000000dead';
valid($client->related(run_id(999), key('alpha')), 'get', 404, 'no run');
valid($client->related('x', key('alpha')), 'get', 404, 'no UUID');
valid(by_session('GET', $_), 'get', 200, "session, run $_") for 101, 999;
valid(by_session('HEAD', $_), 'head', 200, "session, HEAD $_") for 101, 999;
valid(by_session('GET', 101, exp => 1), 'get', 401, 'session, expired');
valid(by_session('GET', 101, nbf => 1e10), 'get', 401, 'session, not yet');
valid(by_session('GET', 101, userId => run_id(1)), 'get', 401,
      'session, no member');
valid($client->exchange('POST', related_uri(101)), 'get', 405, 'POST');
valid($client->get('/down' . related_uri(101),
                   Authorization => 'Bearer ' . key('alpha')),
      'get', 503, 'down');
valid($client->get('/none' . related_uri(101),
                   Authorization => 'Bearer ' . key('alpha')),
      'get', 500, 'no tables');

$nginx->stop;


# Lunary's published description: path, method, parameter, responses, security,
# and the fields with their types.  Where it calls a jsonb value or firstMessage
# an object, any JSON is meant.

my %published = (
    id => 'string', projectId => 'string', isPublic => 'boolean',
    feedback => 'Feedback', parentFeedback => 'Feedback', type => 'string',
    name => 'string', createdAt => 'string date-time',
    endedAt => 'string date-time', duration => 'number',
    templateVersionId => 'string', templateSlug => 'string',
    cost => 'number', tokens => { completion => 'number',
                                  prompt => 'number', total => 'number' },
    tags => ['string'], input => 'any', output => 'any', error => 'any',
    status => 'string', siblingRunId => 'string', params => 'any',
    metadata => 'any', firstMessage => 'any', messagesCount => 'integer',
    user => { id => 'string', externalId => 'string',
              createdAt => 'string date-time',
              lastSeen => 'string date-time', props => 'any' },
    traceId => 'string',
);

my @additions = qw( parentRunId promptTokens completionTokens );

sub resolve {
    my ($doc, $what) = @_;

    while (my $ref = $what->{'$ref'}) {
        $what = $doc;
        $what = $what->{$_} for grep { $_ ne '#' } split m{/}, $ref;
    }

    return $what;
}

# a schema in the short form of %published
sub short {
    my ($doc, $what) = @_;

    return 'Feedback' if ($what->{'$ref'} // '') =~ m{/Feedback$};

    $what = resolve($doc, $what);
    my $type = $what->{type} // 'any';

    return [short($doc, $what->{items})] if $type eq 'array';
    return 'any' if $type eq 'object' && !$what->{properties};
    return { map { $_ => short($doc, $what->{properties}{$_}) }
             keys %{ $what->{properties} } } if $type eq 'object';
    return defined $what->{format} ? "$type $what->{format}" : $type;
}

sub run_fields {
    my ($doc) = @_;

    my $answer = $doc->{paths}{$path}{get}{responses}{200}
                 {content}{'application/json'}{schema};
    is($answer->{type}, 'array', 'the answer is an array');

    return short($doc, $answer->{items});
}

my $run = run_fields($api);
my %added = map { $_ => delete $run->{$_} } @additions;

is_deeply($run, \%published, 'the published fields, and their types');
is_deeply(\%added, { parentRunId => 'string', promptTokens => 'number',
                     completionTokens => 'number' }, 'the additions');

my $get = $api->{paths}{$path}{get};
ok($get->{responses}{404}, '404 is described');
is_deeply([sort keys %{ $api->{paths} }], [$path], 'one path');
ok((grep { exists $_->{ProjectPrivateApiKeyAuth} } @{ $get->{security} }),
   'the key is described');
is_deeply([@{ $api->{components}{securitySchemes}
              {ProjectPrivateApiKeyAuth} }{qw( type scheme )}],
          [qw( http bearer )], 'as a bearer token');

my ($parameter) = map { resolve($api, $_) }
    @{ $api->{paths}{$path}{parameters} // $get->{parameters} };
is_deeply([@$parameter{qw( in name )}, $parameter->{schema}{type}],
          [qw( path id string )], 'the id is described');
ok((grep { exists $_->{DashboardSession} } @{ $get->{security} }),
   'the session is described');


# the published file, if it is beside the repository

my $page = '../shared/related-runs.openapi.yaml';

SKIP: {
    skip('the published page is not here', 2) if !-e $page;

    is_deeply(run_fields(YAML::XS::LoadFile($page)), \%published,
              'the facts above are those of the published page');
}

done_testing();
