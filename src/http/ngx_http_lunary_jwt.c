
#include <ngx_config.h>
#include <ngx_core.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include "ngx_http_lunary_jwt.h"
#include "ngx_lunary_value.h"


#define NGX_HTTP_LUNARY_JWT_LEN      8192   /* of a token, at most */
#define NGX_HTTP_LUNARY_JWT_MAC_LEN  32     /* SHA-256 */
#define NGX_HTTP_LUNARY_JWT_BLOCK    64     /* of SHA-256 */


/* the three parts of a token, still encoded */

typedef struct {
    ngx_str_t  header;
    ngx_str_t  payload;
    ngx_str_t  signature;
    ngx_str_t  input;       /* what is signed: header, dot, payload */
} ngx_http_lunary_jwt_t;


static EVP_MD_CTX *ngx_http_lunary_jwt_begin(u_char *block, u_char pad);
static ngx_int_t ngx_http_lunary_jwt_split(ngx_str_t *token,
    ngx_http_lunary_jwt_t *jwt);
static ngx_int_t ngx_http_lunary_jwt_decode(ngx_str_t *text, u_char *dst,
    size_t *len);
static ngx_int_t ngx_http_lunary_jwt_digit(u_char ch);
static ngx_int_t ngx_http_lunary_jwt_signature(
    ngx_http_lunary_jwt_key_t *key, ngx_http_lunary_jwt_t *jwt);
static ngx_int_t ngx_http_lunary_jwt_hash(EVP_MD_CTX *hash, EVP_MD_CTX *begun,
    u_char *p, size_t len, u_char *digest);
static json_t *ngx_http_lunary_jwt_json(ngx_str_t *text);
static ngx_int_t ngx_http_lunary_jwt_header(json_t *header);
static ngx_http_lunary_jwt_e ngx_http_lunary_jwt_claims(json_t *payload,
    time_t now, u_char *user);


/*
 * HMAC (RFC 2104).  OpenSSL's HMAC() would do this for each token, and look up
 * its algorithms by name, which takes twice as long as the hashes
 */

ngx_int_t
ngx_http_lunary_jwt_key(ngx_http_lunary_jwt_key_t *key, ngx_str_t *secret)
{
    u_char     block[NGX_HTTP_LUNARY_JWT_BLOCK];
    ngx_int_t  rc;

    ngx_memzero(key, sizeof(ngx_http_lunary_jwt_key_t));
    ngx_memzero(block, sizeof(block));

    (void) ERR_set_mark();

    rc = NGX_OK;

    if (secret->len <= sizeof(block)) {
        ngx_memcpy(block, secret->data, secret->len);

    } else if (EVP_Digest(secret->data, secret->len, block, NULL,
                          EVP_sha256(), NULL)
               != 1)
    {
        rc = NGX_ERROR;
    }

    key->inner = ngx_http_lunary_jwt_begin(block, 0x36);
    key->outer = ngx_http_lunary_jwt_begin(block, 0x5c);
    key->hash = EVP_MD_CTX_new();

    OPENSSL_cleanse(block, sizeof(block));

    if (key->inner == NULL || key->outer == NULL || key->hash == NULL) {
        rc = NGX_ERROR;
    }

    (void) ERR_pop_to_mark();

    return rc;
}


static EVP_MD_CTX *
ngx_http_lunary_jwt_begin(u_char *block, u_char pad)
{
    u_char       padded[NGX_HTTP_LUNARY_JWT_BLOCK];
    EVP_MD_CTX  *hash;
    ngx_uint_t   i;

    hash = EVP_MD_CTX_new();
    if (hash == NULL) {
        return NULL;
    }

    for (i = 0; i < sizeof(padded); i++) {
        padded[i] = block[i] ^ pad;
    }

    if (EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1
        || EVP_DigestUpdate(hash, padded, sizeof(padded)) != 1)
    {
        EVP_MD_CTX_free(hash);
        hash = NULL;
    }

    OPENSSL_cleanse(padded, sizeof(padded));

    return hash;
}


void
ngx_http_lunary_jwt_key_free(ngx_http_lunary_jwt_key_t *key)
{
    EVP_MD_CTX_free(key->inner);
    EVP_MD_CTX_free(key->outer);
    EVP_MD_CTX_free(key->hash);
}


/*
 * The signature is checked first: the JSON parser gets nothing that the owner
 * of the secret has not signed.
 */

ngx_http_lunary_jwt_e
ngx_http_lunary_jwt_verify(ngx_http_lunary_jwt_key_t *key, ngx_str_t *token,
    time_t now, u_char *user)
{
    json_t                 *json;
    ngx_int_t               rc;
    ngx_http_lunary_jwt_e   result;
    ngx_http_lunary_jwt_t   jwt;

    if (ngx_http_lunary_jwt_split(token, &jwt) != NGX_OK
        || ngx_http_lunary_jwt_signature(key, &jwt) != NGX_OK)
    {
        return NGX_HTTP_LUNARY_JWT_INVALID;
    }

    json = ngx_http_lunary_jwt_json(&jwt.header);
    rc = ngx_http_lunary_jwt_header(json);
    json_decref(json);

    if (rc != NGX_OK) {
        return NGX_HTTP_LUNARY_JWT_INVALID;
    }

    json = ngx_http_lunary_jwt_json(&jwt.payload);
    result = ngx_http_lunary_jwt_claims(json, now, user);
    json_decref(json);

    return result;
}


static ngx_int_t
ngx_http_lunary_jwt_split(ngx_str_t *token, ngx_http_lunary_jwt_t *jwt)
{
    u_char  *p, *dot, *last;

    if (token->len > NGX_HTTP_LUNARY_JWT_LEN) {
        return NGX_DECLINED;
    }

    p = token->data;
    last = p + token->len;

    dot = ngx_strlchr(p, last, '.');
    if (dot == NULL) {
        return NGX_DECLINED;
    }

    jwt->header.data = p;
    jwt->header.len = dot - p;

    p = dot + 1;

    dot = ngx_strlchr(p, last, '.');
    if (dot == NULL) {
        return NGX_DECLINED;
    }

    jwt->payload.data = p;
    jwt->payload.len = dot - p;

    jwt->input.data = token->data;
    jwt->input.len = dot - token->data;

    /* if there is a third dot, it is no digit of the signature */

    jwt->signature.data = dot + 1;
    jwt->signature.len = last - (dot + 1);

    return NGX_OK;
}


/*
 * base64url without padding.  Bits left over must be zero, so that only one
 * text gives these bytes; nginx's ngx_decode_base64url() does not check that.
 * "dst" has room for three quarters of the text
 */

static ngx_int_t
ngx_http_lunary_jwt_decode(ngx_str_t *text, u_char *dst, size_t *len)
{
    size_t      i;
    u_char     *d;
    uint32_t    bits;
    ngx_int_t   digit;
    ngx_uint_t  n;

    d = dst;
    bits = 0;
    n = 0;

    for (i = 0; i < text->len; i++) {

        digit = ngx_http_lunary_jwt_digit(text->data[i]);
        if (digit < 0) {
            return NGX_DECLINED;
        }

        bits = bits << 6 | (uint32_t) digit;
        n += 6;

        if (n >= 8) {
            n -= 8;
            *d++ = (u_char) (bits >> n);
            bits &= (1 << n) - 1;
        }
    }

    if (n == 6 || bits) {
        return NGX_DECLINED;
    }

    *len = d - dst;

    return NGX_OK;
}


static ngx_int_t
ngx_http_lunary_jwt_digit(u_char ch)
{
    if (ch >= 'A' && ch <= 'Z') {
        return ch - 'A';
    }

    if (ch >= 'a' && ch <= 'z') {
        return ch - 'a' + 26;
    }

    if (ch >= '0' && ch <= '9') {
        return ch - '0' + 52;
    }

    return ch == '-' ? 62 : ch == '_' ? 63 : -1;
}


static ngx_int_t
ngx_http_lunary_jwt_signature(ngx_http_lunary_jwt_key_t *key,
    ngx_http_lunary_jwt_t *jwt)
{
    size_t     len;
    u_char     mac[NGX_HTTP_LUNARY_JWT_MAC_LEN];
    u_char     signature[NGX_HTTP_LUNARY_JWT_MAC_LEN];
    ngx_int_t  rc;

    /* 32 bytes are 43 digits; a text of another length is not decoded */

    if (jwt->signature.len != (NGX_HTTP_LUNARY_JWT_MAC_LEN * 8 + 5) / 6
        || ngx_http_lunary_jwt_decode(&jwt->signature, signature, &len)
           != NGX_OK)
    {
        return NGX_DECLINED;
    }

    /* nginx's TLS connections look at the same queue of errors */

    (void) ERR_set_mark();

    rc = ngx_http_lunary_jwt_hash(key->hash, key->inner, jwt->input.data,
                                  jwt->input.len, mac);

    if (rc == NGX_OK) {
        rc = ngx_http_lunary_jwt_hash(key->hash, key->outer, mac, sizeof(mac),
                                      mac);
    }

    (void) ERR_pop_to_mark();

    if (rc == NGX_OK && CRYPTO_memcmp(mac, signature, sizeof(mac)) != 0) {
        rc = NGX_DECLINED;
    }

    /* it is the valid signature of a text that the client chose */

    OPENSSL_cleanse(mac, sizeof(mac));

    return rc;
}


static ngx_int_t
ngx_http_lunary_jwt_hash(EVP_MD_CTX *hash, EVP_MD_CTX *begun, u_char *p,
    size_t len, u_char *digest)
{
    ngx_int_t  rc;

    rc = NGX_OK;

    if (EVP_MD_CTX_copy_ex(hash, begun) != 1
        || EVP_DigestUpdate(hash, p, len) != 1
        || EVP_DigestFinal_ex(hash, digest, NULL) != 1)
    {
        rc = NGX_ERROR;
    }

    /* overwrites the copy */

    (void) EVP_MD_CTX_reset(hash);

    return rc;
}


/*
 * NULL if it is no JSON; the caller drops its reference.  It may be no object:
 * json_object_get() finds nothing in it then
 */

static json_t *
ngx_http_lunary_jwt_json(ngx_str_t *text)
{
    size_t  len;
    u_char  buf[NGX_HTTP_LUNARY_JWT_LEN / 4 * 3];

    if (ngx_http_lunary_jwt_decode(text, buf, &len) != NGX_OK) {
        return NULL;
    }

    return json_loadb((char *) buf, len, JSON_REJECT_DUPLICATES, NULL);
}


static ngx_int_t
ngx_http_lunary_jwt_header(json_t *header)
{
    json_t  *alg;

    alg = json_object_get(header, "alg");

    if (!json_is_string(alg)
        || ngx_strcmp(json_string_value(alg), "HS256") != 0)
    {
        return NGX_DECLINED;
    }

    /* lists extensions that must be understood, and none is */

    return json_object_get(header, "crit") ? NGX_DECLINED : NGX_OK;
}


static ngx_http_lunary_jwt_e
ngx_http_lunary_jwt_claims(json_t *payload, time_t now, u_char *user)
{
    double   seconds;
    json_t  *exp, *iat, *nbf, *id;

    seconds = (double) now;

    exp = json_object_get(payload, "exp");
    iat = json_object_get(payload, "iat");
    nbf = json_object_get(payload, "nbf");
    id = json_object_get(payload, "userId");

    if (!json_is_number(exp) || !json_is_string(id)) {
        return NGX_HTTP_LUNARY_JWT_INVALID;
    }

    if (iat && !json_is_number(iat)) {
        return NGX_HTTP_LUNARY_JWT_INVALID;
    }

    if (nbf && (!json_is_number(nbf) || json_number_value(nbf) > seconds)) {
        return NGX_HTTP_LUNARY_JWT_INVALID;
    }

    if (ngx_lunary_uuid_parse((u_char *) json_string_value(id),
                              json_string_length(id), user)
        != NGX_OK)
    {
        return NGX_HTTP_LUNARY_JWT_INVALID;
    }

    if (json_number_value(exp) <= seconds) {
        return NGX_HTTP_LUNARY_JWT_EXPIRED;
    }

    return NGX_HTTP_LUNARY_JWT_VALID;
}
