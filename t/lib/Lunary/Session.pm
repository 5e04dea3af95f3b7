package Lunary::Session;

# Session tokens as made by Lunary's backend.
#
#   my $token = token(secret => $secret, claims => { exp => time + 60 });
#   my $token = token(secret => $secret, header => '{"alg":"none"}',
#                     payload => '{}');
#
# Header and payload are JSON text; "claims" are added to the usual claims.

use strict;
use warnings;

use Digest::SHA qw( hmac_sha256 );
use Exporter qw( import );
use JSON::XS ();
use MIME::Base64 qw( encode_base64url );

our @EXPORT_OK = qw( token );

my $json = JSON::XS->new->canonical->utf8;


sub token {
    my (%arg) = @_;

    my $header = $arg{header} // '{"alg":"HS256","typ":"JWT"}';
    my $payload = $arg{payload} // $json->encode({
        userId => '00000000-0000-4000-8000-00000000b001',
        email => 'someone@example.com',
        orgId => '00000000-0000-4000-8000-00000000c001',
        iat => time, exp => time + 3600, %{ $arg{claims} // {} },
    });

    my $input = join '.', map { encode_base64url($_) } $header, $payload;

    return "$input." . encode_base64url(hmac_sha256($input, $arg{secret}));
}


1;
