
/* session tokens: src/http/ngx_http_lunary_jwt.c */


#include "unit.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include "ngx_http_lunary_jwt.h"
#include "ngx_lunary_value.h"


#define TEST_NOW      1700000000
#define TEST_RANDOM   200000
#define TEST_LEN      8192

#define SECRET        "a secret of the tests, 32 bytes+"
#define HEADER        "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define ID            "\"userId\":\"01234567-89ab-cdef-0123-456789ABCDEF\""
#define EXP           "\"exp\":1700000001"
#define PAYLOAD       "{" ID ",\"email\":\"a@b.c\",\"orgId\":\"x\"," EXP "}"

#define VALID         NGX_HTTP_LUNARY_JWT_VALID
#define INVALID       NGX_HTTP_LUNARY_JWT_INVALID
#define EXPIRED       NGX_HTTP_LUNARY_JWT_EXPIRED


typedef struct {
    const char             *name;
    const char             *text;       /* of the header, or of the payload */
    ngx_http_lunary_jwt_e   result;
} test_json_t;


/* the encoded parts of a token, signed unchanged */

typedef struct {
    const char             *name;
    const char             *header;
    const char             *payload;
    ngx_http_lunary_jwt_e   result;
} test_text_t;


static void test_headers(void);
static void test_payloads(void);
static void test_texts(void);
static void test_parts(void);
static void test_signatures(void);
static void test_algorithms(void);
static void test_keys(void);
static void test_lengths(void);
static void test_depth(void);
static void test_times(void);
static void test_changes(void);
static void test_swaps(void);
static void test_mutations(void);
static void test_bytes(void);
static void test_signed(void);

static size_t test_encode(const void *p, size_t len, char *text);
static size_t test_sign(const EVP_MD *md, const char *secret, char *text,
    size_t len);
static size_t test_token(const char *header, const char *payload, char *text);
static ngx_http_lunary_jwt_e test_verify(const char *text, size_t len,
    time_t now);
static ngx_uint_t test_opens(const char *text, size_t len);
static void test_is(const char *text, size_t len,
    ngx_http_lunary_jwt_e result, const char *name);


static const u_char  test_user[] = {
    0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
    0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef
};


static ngx_http_lunary_jwt_key_t  test_key;


static const char  test_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";


static test_json_t  test_header_table[] = {
    { "alg alone", "{\"alg\":\"HS256\"}", VALID },
    { "typ and kid", "{\"typ\":\"x\",\"kid\":[1],\"alg\":\"HS256\"}", VALID },
    { "white space", " {\n\"alg\" :\t\"HS256\" }\r\n", VALID },
    { "an escape in the name", "{\"\\u0061lg\":\"HS256\"}", VALID },
    { "no alg", "{\"typ\":\"JWT\"}", INVALID },
    { "nothing", "", INVALID },
    { "an empty object", "{}", INVALID },
    { "alg null", "{\"alg\":null}", INVALID },
    { "alg true", "{\"alg\":true}", INVALID },
    { "alg a number", "{\"alg\":256}", INVALID },
    { "alg an array", "{\"alg\":[\"HS256\"]}", INVALID },
    { "alg an object", "{\"alg\":{\"HS256\":1}}", INVALID },
    { "alg empty", "{\"alg\":\"\"}", INVALID },
    { "none", "{\"alg\":\"none\"}", INVALID },
    { "None", "{\"alg\":\"None\"}", INVALID },
    { "HS384", "{\"alg\":\"HS384\"}", INVALID },
    { "HS512", "{\"alg\":\"HS512\"}", INVALID },
    { "RS256", "{\"alg\":\"RS256\"}", INVALID },
    { "ES256", "{\"alg\":\"ES256\"}", INVALID },
    { "PS256", "{\"alg\":\"PS256\"}", INVALID },
    { "EdDSA", "{\"alg\":\"EdDSA\"}", INVALID },
    { "hs256", "{\"alg\":\"hs256\"}", INVALID },
    { "Hs256", "{\"alg\":\"Hs256\"}", INVALID },
    { "a space before", "{\"alg\":\" HS256\"}", INVALID },
    { "a space behind", "{\"alg\":\"HS256 \"}", INVALID },
    { "a zero byte behind", "{\"alg\":\"HS256\\u0000\"}", INVALID },
    { "a part of the name", "{\"alg\":\"HS25\"}", INVALID },
    { "ALG", "{\"ALG\":\"HS256\"}", INVALID },
    { "alg twice", "{\"alg\":\"HS256\",\"alg\":\"HS256\"}", INVALID },
    { "none, then HS256", "{\"alg\":\"none\",\"alg\":\"HS256\"}", INVALID },
    { "HS256, then none", "{\"alg\":\"HS256\",\"alg\":\"none\"}", INVALID },
    { "alg twice by an escape",
      "{\"alg\":\"HS256\",\"\\u0061lg\":\"none\"}", INVALID },
    { "crit", "{\"alg\":\"HS256\",\"crit\":[\"exp\"]}", INVALID },
    { "crit empty", "{\"alg\":\"HS256\",\"crit\":[]}", INVALID },
    { "crit null", "{\"alg\":\"HS256\",\"crit\":null}", INVALID },
    { "crit b64",
      "{\"alg\":\"HS256\",\"b64\":false,\"crit\":[\"b64\"]}", INVALID },
    { "an array", "[\"HS256\"]", INVALID },
    { "an array of it", "[{\"alg\":\"HS256\"}]", INVALID },
    { "a string", "\"HS256\"", INVALID },
    { "null", "null", INVALID },
    { "no end", "{\"alg\":\"HS256\"", INVALID },
    { "something behind", "{\"alg\":\"HS256\"}x", INVALID },
    { "an object behind", "{\"alg\":\"HS256\"}{}", INVALID },
    { "a comma behind", "{\"alg\":\"HS256\",}", INVALID },
    { "single quotes", "{'alg':'HS256'}", INVALID },
    { "a byte order mark", "\xef\xbb\xbf{\"alg\":\"HS256\"}", INVALID },
    { "not UTF-8", "{\"alg\":\"HS256\",\"x\":\"\xff\"}", INVALID },
    { NULL, NULL, 0 }
};


static test_json_t  test_payload_table[] = {
    { "the claims alone", "{" ID "," EXP "}", VALID },
    { "exp first", "{" EXP "," ID "}", VALID },
    { "exp a fraction", "{" ID ",\"exp\":1700000000.5}", VALID },
    { "exp with an exponent", "{" ID ",\"exp\":1.7000001e9}", VALID },
    { "exp far ahead", "{" ID ",\"exp\":9223372036854775807}", VALID },
    { "exp now", "{" ID ",\"exp\":1700000000}", EXPIRED },
    { "exp now, a fraction", "{" ID ",\"exp\":1700000000.0}", EXPIRED },
    { "exp a second ago", "{" ID ",\"exp\":1699999999}", EXPIRED },
    { "exp zero", "{" ID ",\"exp\":0}", EXPIRED },
    { "exp negative", "{" ID ",\"exp\":-1}", EXPIRED },
    { "exp least", "{" ID ",\"exp\":-9223372036854775808}", EXPIRED },
    { "no exp", "{" ID "}", INVALID },
    { "exp null", "{" ID ",\"exp\":null}", INVALID },
    { "exp true", "{" ID ",\"exp\":true}", INVALID },
    { "exp a string", "{" ID ",\"exp\":\"1700000001\"}", INVALID },
    { "exp an array", "{" ID ",\"exp\":[1700000001]}", INVALID },
    { "exp an object", "{" ID ",\"exp\":{}}", INVALID },
    { "exp too large", "{" ID ",\"exp\":9223372036854775808}", INVALID },
    { "exp without a bound", "{" ID ",\"exp\":1e999}", INVALID },
    { "exp infinite", "{" ID ",\"exp\":Infinity}", INVALID },
    { "exp not a number", "{" ID ",\"exp\":NaN}", INVALID },
    { "exp in hexadecimal", "{" ID ",\"exp\":0x7fffffff}", INVALID },
    { "exp with a plus", "{" ID ",\"exp\":+1700000001}", INVALID },
    { "exp with a zero before", "{" ID ",\"exp\":01700000001}", INVALID },
    { "exp twice", "{" ID "," EXP "," EXP "}", INVALID },
    { "exp twice, one past", "{" ID ",\"exp\":1," EXP "}", INVALID },
    { "exp twice by an escape", "{" ID "," EXP ",\"e\\u0078p\":9}", INVALID },
    { "EXP", "{" ID ",\"EXP\":1700000001}", INVALID },
    { "exp deeper", "{" ID ",\"x\":{" EXP "}}", INVALID },
    { "nbf now", "{" ID "," EXP ",\"nbf\":1700000000}", VALID },
    { "nbf past", "{" ID "," EXP ",\"nbf\":-1}", VALID },
    { "nbf a fraction past", "{" ID "," EXP ",\"nbf\":1699999999.9}", VALID },
    { "nbf ahead", "{" ID "," EXP ",\"nbf\":1700000001}", INVALID },
    { "nbf a fraction ahead", "{" ID "," EXP ",\"nbf\":1700000000.1}",
      INVALID },
    { "nbf ahead, exp past", "{" ID ",\"exp\":1,\"nbf\":1700000001}",
      INVALID },
    { "nbf null", "{" ID "," EXP ",\"nbf\":null}", INVALID },
    { "nbf a string", "{" ID "," EXP ",\"nbf\":\"0\"}", INVALID },
    { "nbf false", "{" ID "," EXP ",\"nbf\":false}", INVALID },
    { "nbf a string, exp past", "{" ID ",\"exp\":1,\"nbf\":\"0\"}", INVALID },
    { "nbf twice", "{" ID "," EXP ",\"nbf\":1,\"nbf\":1}", INVALID },
    { "iat null", "{" ID "," EXP ",\"iat\":null}", INVALID },
    { "iat a string", "{" ID "," EXP ",\"iat\":\"1\"}", INVALID },
    { "iat a string, exp past", "{" ID ",\"exp\":1,\"iat\":\"1\"}", INVALID },
    { "iat ahead", "{" ID "," EXP ",\"iat\":1800000000}", VALID },
    { "lower case",
      "{\"userId\":\"01234567-89ab-cdef-0123-456789abcdef\"," EXP "}", VALID },
    { "an escape in the id",
      "{\"userId\":\"\\u00301234567-89ab-cdef-0123-456789abcdef\"," EXP "}",
      VALID },
    { "no userId", "{" EXP "}", INVALID },
    { "no userId, exp past", "{\"exp\":1}", INVALID },
    { "a password reset", "{\"email\":\"a@b.c\"," EXP "}", INVALID },
    { "userId null", "{\"userId\":null," EXP "}", INVALID },
    { "userId a number", "{\"userId\":1," EXP "}", INVALID },
    { "userId empty", "{\"userId\":\"\"," EXP "}", INVALID },
    { "userId an array",
      "{\"userId\":[\"01234567-89ab-cdef-0123-456789abcdef\"]," EXP "}",
      INVALID },
    { "userId without dashes",
      "{\"userId\":\"0123456789abcdef0123456789abcdef\"," EXP "}", INVALID },
    { "userId too short",
      "{\"userId\":\"01234567-89ab-cdef-0123-456789abcde\"," EXP "}",
      INVALID },
    { "userId too long",
      "{\"userId\":\"01234567-89ab-cdef-0123-456789abcdef0\"," EXP "}",
      INVALID },
    { "a zero byte behind userId",
      "{\"userId\":\"01234567-89ab-cdef-0123-456789abcdef\\u0000\"," EXP "}",
      INVALID },
    { "userId not hexadecimal",
      "{\"userId\":\"g1234567-89ab-cdef-0123-456789abcdef\"," EXP "}",
      INVALID },
    { "userId in braces",
      "{\"userId\":\"{01234567-89ab-cdef-0123-456789abcdef}\"," EXP "}",
      INVALID },
    { "userId of another kind, exp past", "{\"userId\":1,\"exp\":1}",
      INVALID },
    { "userId twice", "{" ID "," ID "," EXP "}", INVALID },
    { "userid", "{\"userid\":\"01234567-89ab-cdef-0123-456789abcdef\"," EXP
      "}", INVALID },
    { "another name twice", "{" ID "," EXP ",\"x\":1,\"x\":2}", INVALID },
    { "a name twice, deeper", "{" ID "," EXP ",\"x\":{\"y\":1,\"y\":1}}",
      INVALID },
    { "an array", "[" ID "," EXP "]", INVALID },
    { "an array of it", "[{" ID "," EXP "}]", INVALID },
    { "a string", "\"x\"", INVALID },
    { "a number", "1", INVALID },
    { "null", "null", INVALID },
    { "nothing", "", INVALID },
    { "an empty object", "{}", INVALID },
    { "no end", "{" ID "," EXP, INVALID },
    { "something behind", "{" ID "," EXP "}0", INVALID },
    { "an object behind", "{" ID "," EXP "}{}", INVALID },
    { "a comma behind", "{" ID "," EXP ",}", INVALID },
    { "a comment", "{" ID "," EXP "/**/}", INVALID },
    { "a byte order mark", "\xef\xbb\xbf{" ID "," EXP "}", INVALID },
    { "not UTF-8", "{" ID "," EXP ",\"x\":\"\xc0\x80\"}", INVALID },
    { "half a surrogate", "{" ID "," EXP ",\"x\":\"\\ud800\"}", INVALID },
    { NULL, NULL, 0 }
};


/* e30 is {}, eyJhbGciOiJIUzI1NiJ9 {"alg":"HS256"}, with an exp of 2^53 */

#define TEXT_HEADER   "eyJhbGciOiJIUzI1NiJ9"
#define TEXT_PAYLOAD                                                          \
    "eyJ1c2VySWQiOiIwMTIzNDU2Ny04OWFiLWNkZWYtMDEyMy00NTY3ODlhYmNkZWYiLCJleHA" \
    "iOjkwMDcxOTkyNTQ3NDA5OTIsIngiOiJ-fn4_P38ifQ"


static test_text_t  test_text_table[] = {
    { "digits of base64url", TEXT_HEADER, TEXT_PAYLOAD, VALID },
    { "header padded", TEXT_HEADER "=", TEXT_PAYLOAD, INVALID },
    { "header padded twice", TEXT_HEADER "==", TEXT_PAYLOAD, INVALID },
    { "payload padded", TEXT_HEADER, TEXT_PAYLOAD "==", INVALID },
    { "payload padded once", TEXT_HEADER, TEXT_PAYLOAD "=", INVALID },
    { "a digit more in the header", TEXT_HEADER "A", TEXT_PAYLOAD, INVALID },
    { "a digit more in the payload", TEXT_HEADER, TEXT_PAYLOAD "AAA",
      INVALID },
    { "bits left over in the payload", TEXT_HEADER,
      "eyJ1c2VySWQiOiIwMTIzNDU2Ny04OWFiLWNkZWYtMDEyMy00NTY3ODlhYmNkZWYiLCJle"
      "HAiOjkwMDcxOTkyNTQ3NDA5OTIsIngiOiJ-fn4_P38ifR", INVALID },
    { "bits left over in the header", "eyJhbGciOiJIUzI1NiJ9Cj",
      TEXT_PAYLOAD, INVALID },
    { "white space in the header", "eyJhbGciOiJIUzI1NiJ9Cg", TEXT_PAYLOAD,
      VALID },
    { "a newline behind the header", TEXT_HEADER "\n", TEXT_PAYLOAD, INVALID },
    { "a space before the header", " " TEXT_HEADER, TEXT_PAYLOAD, INVALID },
    { "a space in the header", "eyJhbGci OiJIUzI1NiJ9", TEXT_PAYLOAD,
      INVALID },
    { "a space before the payload", TEXT_HEADER, " " TEXT_PAYLOAD, INVALID },
    { "a tab behind the payload", TEXT_HEADER, TEXT_PAYLOAD "\t", INVALID },
    { "a plus sign of base64", TEXT_HEADER,
      "eyJ1c2VySWQiOiIwMTIzNDU2Ny04OWFiLWNkZWYtMDEyMy00NTY3ODlhYmNkZWYiLCJle"
      "HAiOjkwMDcxOTkyNTQ3NDA5OTIsIngiOiJ+fn4_P38ifQ", INVALID },
    { "a slash of base64", TEXT_HEADER,
      "eyJ1c2VySWQiOiIwMTIzNDU2Ny04OWFiLWNkZWYtMDEyMy00NTY3ODlhYmNkZWYiLCJle"
      "HAiOjkwMDcxOTkyNTQ3NDA5OTIsIngiOiJ-fn4/P38ifQ", INVALID },
    { "a percent sign", "%65yJhbGciOiJIUzI1NiJ9", TEXT_PAYLOAD, INVALID },
    { "a byte above ASCII", TEXT_HEADER "\xc3\xa4", TEXT_PAYLOAD, INVALID },
    { "an empty header", "", TEXT_PAYLOAD, INVALID },
    { "an empty payload", TEXT_HEADER, "", INVALID },
    { "one digit as the payload", TEXT_HEADER, "e", INVALID },
    { "nothing at all", "", "", INVALID },
    { "the header as JSON", "{\"alg\":\"HS256\"}", TEXT_PAYLOAD, INVALID },
    { "the payload as JSON", TEXT_HEADER, PAYLOAD, INVALID },
    { "header and payload swapped", TEXT_PAYLOAD, TEXT_HEADER, INVALID },
    { "four parts", TEXT_HEADER "." TEXT_HEADER, TEXT_PAYLOAD, INVALID },
    { "five parts", TEXT_HEADER ".e30", TEXT_PAYLOAD ".e30", INVALID },
    { "a dot before", "." TEXT_HEADER, TEXT_PAYLOAD, INVALID },
    { NULL, NULL, NULL, 0 }
};


static void
test_headers(void)
{
    char          text[TEST_LEN];
    size_t        len;
    test_json_t  *t;

    for (t = test_header_table; t->name; t++) {
        len = test_token(t->text, PAYLOAD, text);
        test_is(text, len, t->result, t->name);
    }
}


static void
test_payloads(void)
{
    char          text[TEST_LEN];
    size_t        len;
    test_json_t  *t;

    for (t = test_payload_table; t->name; t++) {
        len = test_token(HEADER, t->text, text);
        test_is(text, len, t->result, t->name);
    }
}


static void
test_texts(void)
{
    int           n;
    char          text[TEST_LEN];
    size_t        len;
    test_text_t  *t;

    for (t = test_text_table; t->name; t++) {
        n = snprintf(text, sizeof(text), "%s.%s", t->header, t->payload);
        len = test_sign(EVP_sha256(), SECRET, text, n);
        test_is(text, len, t->result, t->name);
    }
}


/* additions to a good token, and omissions */

static void
test_parts(void)
{
    int          n;
    char         good[TEST_LEN], text[TEST_LEN + 16];
    char        *dot;
    size_t       len;
    ngx_uint_t   i;

    static const char  *around[][2] = {
        { " ", "" }, { "", " " }, { "", "\n" }, { "\"", "\"" }, { ".", "" },
        { "", "." }, { "", ".e30" }, { "Bearer ", "" }, { "", "=" },
        { "", "A" }, { "", "," }, { "'", "'" }, { "<", ">" }
    };

    len = test_token(HEADER, PAYLOAD, good);
    test_is(good, len, VALID, "a good token");

    for (i = 0; i < sizeof(around) / sizeof(around[0]); i++) {
        n = snprintf(text, sizeof(text), "%s%s%s", around[i][0], good,
                     around[i][1]);
        test_is(text, n, INVALID, "something around it");
    }

    dot = strrchr(good, '.');

    test_is(good, dot - good, INVALID, "no signature");
    test_is(good, dot - good + 1, INVALID, "an empty signature");
    test_is(dot, good + len - dot, INVALID, "a signature alone");
    test_is("", 0, INVALID, "empty");
    test_is(".", 1, INVALID, "a dot");
    test_is("..", 2, INVALID, "two dots");
    test_is("...", 3, INVALID, "three dots");
    test_is(strchr(good, '.'), good + len - strchr(good, '.'), INVALID,
            "no header");
}


static void
test_signatures(void)
{
    char          text[TEST_LEN], *dot;
    size_t        len, n;
    ngx_uint_t    i;

    static const char  *secrets[] = {
        "", "another secret of 32 bytes and so", SECRET "\n", SECRET "\r\n",
        SECRET " ", " " SECRET, "a secret of the tests, 32 bytes",
        "A secret of the tests, 32 bytes+", SECRET SECRET
    };

    for (i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++) {
        len = test_token(HEADER, PAYLOAD, text);
        n = strrchr(text, '.') - text;
        len = test_sign(EVP_sha256(), secrets[i], text, n);
        test_is(text, len, INVALID, "another secret");
    }

    len = test_token(HEADER, PAYLOAD, text);
    dot = strrchr(text, '.');

    test_is(text, len - 1, INVALID, "a digit less");
    ngx_memset(dot + 1, 'A', 43);
    test_is(text, len, INVALID, "a signature of zeros");
    ngx_memset(dot + 1, '_', 43);
    test_is(text, len, INVALID, "bits left over in the signature");

    /* the right bytes as another text, whose last two bits are not zero */

    len = test_token(HEADER, PAYLOAD, text);
    text[len - 1] = test_digits[strchr(test_digits, text[len - 1])
                                - test_digits + 1];
    test_is(text, len, INVALID, "the signature written another way");
}


/* signed with the algorithm of the header */

static void
test_algorithms(void)
{
    char    text[TEST_LEN];
    size_t  len, n;

    len = test_token("{\"alg\":\"none\"}", PAYLOAD, text);
    n = strrchr(text, '.') + 1 - text;
    test_is(text, n, INVALID, "none without a signature");

    len = test_token("{\"alg\":\"HS384\"}", PAYLOAD, text);
    len = test_sign(EVP_sha384(), SECRET, text, strrchr(text, '.') - text);
    test_is(text, len, INVALID, "HS384");

    len = test_token("{\"alg\":\"HS512\"}", PAYLOAD, text);
    len = test_sign(EVP_sha512(), SECRET, text, strrchr(text, '.') - text);
    test_is(text, len, INVALID, "HS512");

    len = test_token("{\"alg\":\"HS256\"}", PAYLOAD, text);
    len = test_sign(EVP_sha512(), SECRET, text, strrchr(text, '.') - text);
    test_is(text, len, INVALID, "HS512 that calls itself HS256");

    len = test_token("{\"alg\":\"HS1\"}", PAYLOAD, text);
    len = test_sign(EVP_sha1(), SECRET, text, strrchr(text, '.') - text);
    test_is(text, len, INVALID, "HS1");
}


/* secrets of each length, compared with OpenSSL's HMAC() */

static void
test_keys(void)
{
    char                        text[TEST_LEN], secret[201];
    size_t                      len, i;
    u_char                      user[NGX_LUNARY_UUID_LEN];
    ngx_str_t                   value, token;
    ngx_uint_t                  ok;
    ngx_http_lunary_jwt_key_t   key;

    ok = 1;

    for (i = 0; i < sizeof(secret); i++) {
        secret[i] = (char) (unit_random(255) + 1);
    }

    for (i = 1; i < sizeof(secret); i++) {
        value.data = unit_copy(secret + sizeof(secret) - 1 - i, i);
        value.len = i;
        secret[sizeof(secret) - 1] = '\0';

        len = test_token(HEADER, PAYLOAD, text);
        len = test_sign(EVP_sha256(), secret + sizeof(secret) - 1 - i, text,
                        strrchr(text, '.') - text);
        token.data = (u_char *) text;
        token.len = len;

        ok &= ngx_http_lunary_jwt_key(&key, &value) == NGX_OK;
        free(value.data);

        ok &= ngx_http_lunary_jwt_verify(&key, &token, TEST_NOW, user)
              == VALID;
        text[10] ^= 1;
        ok &= ngx_http_lunary_jwt_verify(&key, &token, TEST_NOW, user)
              == INVALID;
        text[10] ^= 1;
        ok &= ngx_http_lunary_jwt_verify(&key, &token, TEST_NOW, user)
              == VALID;

        ngx_http_lunary_jwt_key_free(&key);
    }

    (void) unit_ok(ok, "secrets of 1 to 200 bytes");
}


static void
test_lengths(void)
{
    char    payload[TEST_LEN], text[2 * TEST_LEN];
    size_t  n, len, longest;

    longest = 0;

    /* not every length is possible, so it may be less */

    for (n = 5900; n < 6100; n++) {
        (void) snprintf(payload, sizeof(payload), "{" ID "," EXP ",\"x\":\"%*s"
                        "\"}", (int) n - 80, "");
        len = test_token(HEADER, payload, text);

        if (test_opens(text, len)) {
            longest = ngx_max(longest, len);

        } else if (len <= TEST_LEN) {
            break;
        }
    }

    (void) unit_ok(n == 6100 && longest > TEST_LEN - 4 && longest <= TEST_LEN,
                   "the longest token that is taken has %lu bytes",
                   (unsigned long) longest);
}


/* jansson has a limit of its own, far from the end of the stack */

static void
test_depth(void)
{
    char        payload[TEST_LEN], text[2 * TEST_LEN];
    char        opened[2501], closed[2501], name[64];
    size_t      len;
    ngx_uint_t  i;

    static const struct {
        ngx_uint_t              depth;
        ngx_http_lunary_jwt_e   result;
    } depths[] = {
        { 1, VALID }, { 2000, VALID }, { 2500, INVALID }
    };

    for (i = 0; i < sizeof(depths) / sizeof(depths[0]); i++) {
        ngx_memset(opened, '[', depths[i].depth);
        opened[depths[i].depth] = '\0';
        ngx_memset(closed, ']', depths[i].depth);
        closed[depths[i].depth] = '\0';

        (void) snprintf(payload, sizeof(payload), "{" ID "," EXP ",\"x\":%s%s}",
                        opened, closed);
        len = test_token(HEADER, payload, text);
        (void) snprintf(name, sizeof(name), "an array %lu deep",
                        (unsigned long) depths[i].depth);
        test_is(text, len, depths[i].result, name);
    }
}


static void
test_times(void)
{
    char        text[TEST_LEN];
    size_t      len;
    time_t      now;
    ngx_uint_t  ok;

    ok = 1;
    len = test_token(HEADER, "{" ID ",\"nbf\":1700000010,\"exp\":1700000020}",
                     text);

    for (now = 1700000000; now < 1700000030; now++) {
        ok &= test_verify(text, len, now)
              == (now < 1700000010 ? INVALID
                  : now < 1700000020 ? VALID : EXPIRED);
    }

    (void) unit_ok(ok, "from nbf until before exp");
}


/* each bit and digit changed, each byte added or removed, each prefix */

static void
test_changes(void)
{
    char        good[TEST_LEN], text[TEST_LEN];
    size_t      len, i, j;
    ngx_uint_t  opened;

    opened = 0;
    len = test_token(HEADER, PAYLOAD, good);

    for (i = 0; i < len; i++) {

        opened += test_opens(good, i);

        ngx_memcpy(text, good, len);

        for (j = 0; j < 8; j++) {
            text[i] = good[i] ^ (1 << j);
            opened += test_opens(text, len);
        }

        for (j = 0; test_digits[j]; j++) {
            text[i] = test_digits[j];
            opened += text[i] != good[i] && test_opens(text, len);
        }

        ngx_memcpy(text + i, good + i + 1, len - i - 1);
        opened += test_opens(text, len - 1);

        for (j = 0; test_digits[j]; j++) {
            ngx_memcpy(text, good, i);
            text[i] = test_digits[j];
            ngx_memcpy(text + i + 1, good + i, len - i);
            opened += test_opens(text, len + 1);
        }
    }

    (void) unit_ok(opened == 0, "no single change of a token opens");
}


/* parts of good tokens in other combinations */

static void
test_swaps(void)
{
    char        text[TEST_LEN], tokens[2][TEST_LEN], *part[2][3];
    ngx_uint_t  i, opened;

    (void) test_token(HEADER, PAYLOAD, tokens[0]);
    (void) test_token("{\"alg\":\"HS256\"}", "{" ID ",\"exp\":1700000002}",
                      tokens[1]);

    for (i = 0; i < 2; i++) {
        part[i][0] = strtok(tokens[i], ".");
        part[i][1] = strtok(NULL, ".");
        part[i][2] = strtok(NULL, ".");
    }

    opened = 0;

    for (i = 0; i < 8; i++) {
        (void) snprintf(text, sizeof(text), "%s.%s.%s", part[i & 1][0],
                        part[i >> 1 & 1][1], part[i >> 2 & 1][2]);

        opened |= test_opens(text, strlen(text)) << i;
    }

    (void) unit_ok(opened == (1 << 0 | 1 << 7), "parts of two tokens");

    opened = 0;

    for (i = 0; i < 27; i++) {
        (void) snprintf(text, sizeof(text), "%s.%s.%s", part[0][i % 3],
                        part[0][i / 3 % 3], part[0][i / 9]);

        if (i != 0 + 3 * 1 + 9 * 2) {
            opened += test_opens(text, strlen(text));
        }
    }

    (void) unit_ok(opened == 0, "parts of one token in another order");
}


static void
test_mutations(void)
{
    char        good[TEST_LEN], text[TEST_LEN];
    size_t      len, n, from, to;
    ngx_uint_t  i, j, opened;

    opened = 0;
    len = test_token(HEADER, PAYLOAD, good);

    for (i = 0; i < TEST_RANDOM; i++) {
        ngx_memcpy(text, good, len);

        for (j = unit_random(4) + 1; j; j--) {

            switch (unit_random(3)) {

            case 0:
                text[unit_random(len)] ^= 1 << unit_random(8);
                break;

            case 1:
                text[unit_random(len)] = test_digits[unit_random(65)];
                break;

            default:
                from = unit_random(len);
                to = unit_random(len);
                n = unit_random(len - ngx_max(from, to)) + 1;
                ngx_memmove(text + to, text + from, n);
            }
        }

        n = unit_random(4) ? len : unit_random(len) + 1;

        if (n != len || ngx_memcmp(text, good, len) != 0) {
            opened += test_opens(text, n);
        }
    }

    (void) unit_ok(opened == 0, "no random change of a token opens");
}


static void
test_bytes(void)
{
    char        text[512], *dots[2];
    size_t      len, n;
    ngx_uint_t  i, opened;

    opened = 0;

    for (i = 0; i < TEST_RANDOM; i++) {
        len = unit_random(400) + 50;

        for (n = 0; n < len; n++) {
            text[n] = (i & 1) ? (char) unit_random(256)
                              : test_digits[unit_random(64)];
        }

        /* most have three parts, the last as long as a signature */

        if (i & 6) {
            dots[0] = text + unit_random(len - 45);
            dots[1] = text + len - 44;
            *dots[0] = '.';
            *dots[1] = '.';
        }

        opened += test_opens(text, len);
    }

    (void) unit_ok(opened == 0, "no random bytes open");
}


/* random JSON with a good signature: two parsers read the same */

static void
test_signed(void)
{
    char        payload[512], text[2048];
    size_t      len, n;
    ngx_uint_t  i, bad, opened;

    bad = 0;
    opened = 0;

    for (i = 0; i < TEST_RANDOM / 10; i++) {
        len = strlen(PAYLOAD);
        ngx_memcpy(payload, PAYLOAD, len);
        payload[len] = '\0';

        for (n = unit_random(3); n; n--) {
            payload[unit_random(len)] = (char) (unit_random(255) + 1);
        }

        len = test_token(HEADER, payload, text);

        if (test_verify(text, len, TEST_NOW) == VALID) {
            opened++;
            bad += test_verify(text, len, TEST_NOW - 1) != VALID;

            /* a change may have made "exp" 17000e0061 */

            bad += test_verify(text, len, (time_t) 1 << 61) == INVALID;
            bad += test_verify(text, len - 1, TEST_NOW) != INVALID;
        }
    }

    (void) unit_ok(opened && bad == 0, "random changes below the signature");
}


static size_t
test_encode(const void *p, size_t len, char *text)
{
    int    n;
    char  *c;

    n = EVP_EncodeBlock((u_char *) text, p, len);

    while (n && text[n - 1] == '=') {
        n--;
    }

    text[n] = '\0';

    for (c = text; *c; c++) {
        *c = (*c == '+') ? '-' : (*c == '/') ? '_' : *c;
    }

    return n;
}


/* appends a dot and the signature; returns the new length */

static size_t
test_sign(const EVP_MD *md, const char *secret, char *text, size_t len)
{
    u_char        mac[EVP_MAX_MD_SIZE];
    unsigned int  n;

    (void) HMAC(md, secret, strlen(secret), (u_char *) text, len, mac, &n);

    text[len] = '.';

    return len + 1 + test_encode(mac, n, text + len + 1);
}


static size_t
test_token(const char *header, const char *payload, char *text)
{
    size_t  len;

    len = test_encode(header, strlen(header), text);
    text[len++] = '.';
    len += test_encode(payload, strlen(payload), text + len);

    return test_sign(EVP_sha256(), SECRET, text, len);
}


static ngx_http_lunary_jwt_e
test_verify(const char *text, size_t len, time_t now)
{
    u_char                 *user;
    ngx_str_t               token;
    ngx_http_lunary_jwt_e   result;

    token.len = len;
    token.data = unit_copy(text, len);

    user = unit_alloc(NGX_LUNARY_UUID_LEN);

    result = ngx_http_lunary_jwt_verify(&test_key, &token, now, user);

    free(user);
    free(token.data);

    return result;
}


static ngx_uint_t
test_opens(const char *text, size_t len)
{
    return test_verify(text, len, TEST_NOW) == VALID;
}


static void
test_is(const char *text, size_t len, ngx_http_lunary_jwt_e result,
    const char *name)
{
    u_char                  user[NGX_LUNARY_UUID_LEN];
    ngx_str_t               token;
    ngx_uint_t              ok;
    ngx_http_lunary_jwt_e   got;

    static const char  *names[] = { "valid", "invalid", "expired" };

    ok = test_verify(text, len, TEST_NOW) == result;

    token.data = (u_char *) text;
    token.len = len;
    got = ngx_http_lunary_jwt_verify(&test_key, &token, TEST_NOW, user);

    ok &= got == result;
    ok &= got != VALID || ngx_memcmp(user, test_user, sizeof(user)) == 0;

    (void) unit_ok(ok, "%s: %s", name, names[got]);
}


int
main(void)
{
    ngx_str_t  secret = ngx_string(SECRET);

    unit_seed();

    (void) unit_ok(ngx_http_lunary_jwt_key(&test_key, &secret) == NGX_OK,
                   "a key");

    test_headers();
    test_payloads();
    test_texts();
    test_parts();
    test_signatures();
    test_algorithms();
    test_keys();
    test_lengths();
    test_depth();
    test_times();
    test_changes();
    test_swaps();
    test_mutations();
    test_bytes();
    test_signed();

    ngx_http_lunary_jwt_key_free(&test_key);

    return unit_done();
}
