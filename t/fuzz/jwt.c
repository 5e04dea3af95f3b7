
/*
 * Session tokens.  The input is used twice.  First it is the whole token: it
 * must be refused, because it is not signed with the secret.  Then it is a
 * header, a zero byte and a payload, and the harness signs them.  If that token
 * is valid, it must be refused after its expiry, and if a byte is changed.
 */


#include "fuzz.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include "ngx_http_lunary_jwt.h"
#include "ngx_lunary_value.h"


#define FUZZ_NOW     1700000000
#define FUZZ_SECRET  "a secret of the tests, 32 bytes+"


static ngx_http_lunary_jwt_e fuzz_verify(u_char *p, size_t len, time_t now);
static u_char *fuzz_sign(const uint8_t *data, size_t size, size_t *len);
static size_t fuzz_encode(const uint8_t *p, size_t len, u_char *text);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t                  i, len;
    u_char                 *p;
    ngx_http_lunary_jwt_e   result, later;

    p = unit_copy(data, size);
    fuzz_must(fuzz_verify(p, size, FUZZ_NOW) == NGX_HTTP_LUNARY_JWT_INVALID);
    free(p);

    p = fuzz_sign(data, size, &len);
    result = fuzz_verify(p, len, FUZZ_NOW);

    /* later a valid token is either valid or expired */

    if (result != NGX_HTTP_LUNARY_JWT_INVALID) {
        later = fuzz_verify(p, len, (time_t) 1 << 62);
        fuzz_must(later == result || later == NGX_HTTP_LUNARY_JWT_EXPIRED);

        for (i = 0; i < len; i += 7) {
            p[i] ^= 1;
            fuzz_must(fuzz_verify(p, len, FUZZ_NOW)
                      == NGX_HTTP_LUNARY_JWT_INVALID);
            p[i] ^= 1;
        }
    }

    free(p);

    return 0;
}


static ngx_http_lunary_jwt_e
fuzz_verify(u_char *p, size_t len, time_t now)
{
    u_char                 *user;
    ngx_str_t               secret = ngx_string(FUZZ_SECRET), token;
    ngx_http_lunary_jwt_e   result;

    static ngx_http_lunary_jwt_key_t  key;

    if (key.hash == NULL) {
        fuzz_must(ngx_http_lunary_jwt_key(&key, &secret) == NGX_OK);
    }

    token.data = p;
    token.len = len;

    user = unit_alloc(NGX_LUNARY_UUID_LEN);
    result = ngx_http_lunary_jwt_verify(&key, &token, now, user);
    free(user);

    return result;
}


static u_char *
fuzz_sign(const uint8_t *data, size_t size, size_t *len)
{
    size_t         n;
    u_char        *text, *p, mac[EVP_MAX_MD_SIZE];
    unsigned int   maclen;
    const uint8_t *zero;

    zero = size ? memchr(data, '\0', size) : NULL;
    n = zero ? (size_t) (zero - data) : size;

    text = unit_alloc(size * 2 + 256);
    p = text + fuzz_encode(data, n, text);
    *p++ = '.';

    if (zero) {
        p += fuzz_encode(zero + 1, size - n - 1, p);
    }

    (void) HMAC(EVP_sha256(), FUZZ_SECRET, sizeof(FUZZ_SECRET) - 1, text,
                p - text, mac, &maclen);

    *p++ = '.';
    p += fuzz_encode(mac, maclen, p);

    *len = p - text;

    /* a block of exactly its size */

    p = unit_copy(text, *len);
    free(text);

    return p;
}


static size_t
fuzz_encode(const uint8_t *p, size_t len, u_char *text)
{
    int     n;
    u_char *c;

    n = EVP_EncodeBlock(text, p, (int) len);

    while (n && text[n - 1] == '=') {
        n--;
    }

    for (c = text; c < text + n; c++) {
        *c = (*c == '+') ? '-' : (*c == '/') ? '_' : *c;
    }

    return n;
}
