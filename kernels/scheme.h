/* scheme.h: how the K and V of a sequence become codes. A scheme is one file in kernels/schemes/ that registers one
 * kvs_scheme_type; a kvs_scheme is one of these with its parameters set for one head_dim.
 *
 * A scheme stores K and V each as a kvs_store: a window policy (which tokens are quantized when) and a page codec. A
 * page is page_tokens consecutive tokens of one KV head; its content never depends on when it is read, so each page
 * is quantized once. */
#ifndef KVS_KERNELS_SCHEME_H
#define KVS_KERNELS_SCHEME_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "core/params.h"
#include "core/status.h"
#include "kernels/ranking.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- the window policy: which tokens are stored quantized --------------------------------------------------------- */

typedef struct kvs_window {
    int sink_tokens;   /* S: the first tokens stay in full precision */
    int page_tokens;   /* P: tokens leave full precision P at a time; 1: token by token */
    int recent_tokens; /* W: the last W tokens stay in full precision */
    int decode_lag;    /* steps by which decoding quantizes later than a prefill would (Kitty's simulator: 1 for K) */
    int prefix_tokens; /* nothing is stored before this many tokens are there: what the codec is fitted to */
} kvs_window;

/* Of a store without a codec: a recent window without end, so no token is ever due. */
#define KVS_NEVER_STORED ((kvs_window){.page_tokens = 1, .recent_tokens = INT_MAX})

/* The end of the stored range [S, end) once `tokens` tokens have been seen, the first prefill_tokens of them at once:
 *     S + floor(max(0, tokens - S - W - lag) / P) * P, and at least what the prefill stored (same formula, no lag);
 *     S as long as tokens < prefix_tokens.
 * A query at position p sees the state after p tokens, and token p itself in full precision. */
int64_t kvs_window_stored_end(const kvs_window *window, int64_t tokens, int64_t prefill_tokens);

/* --- bits ----------------------------------------------------------------------------------------------------------
 */

/* payload: codes; in a store without a codec the binary16 words themselves. metadata: scales, zeros, channel indices.
 * residual: tokens that a codec has not stored yet or never will (sinks, window, buffer), 16 bits an element. padding:
 * what alignment of the layout wastes. */
typedef struct kvs_bits {
    double payload, metadata, residual, padding;
} kvs_bits;

/* --- a store: one of K and V ---------------------------------------------------------------------------------------
 */

typedef struct kvs_store kvs_store;

/* What a codec writes about consecutive pages; each pointer may be NULL. A page has page_groups groups. */
typedef struct kvs_coded {
    float *x_hat;          /* [pages * page_tokens][head_dim] dequantized; may be the input */
    uint8_t *codes;        /* the same shape, one code a byte */
    float *scales, *zeros; /* [pages][page_groups] as stored: per channel [groups of tokens][head_dim], per token
                            * [page_tokens][groups of channels] */
    uint8_t *ranks;        /* [pages][head_dim]: the rank of a boosted channel, the boost count for the others */
} kvs_coded;

typedef struct kvs_codec {
    /* Quantizes and dequantizes consecutive pages, the first at first->place: x is [pages * page_tokens][head_dim] and
     * holds binary16 values; first->queries are all that exist (kvs_page_context_of). scratch:
     * kvs_store_scratch_floats(store) floats. */
    void (*pages)(const kvs_store *store, const kvs_page_context *first, int64_t pages, const float *x, kvs_coded out,
                  float *scratch);
    size_t (*scratch_floats)(const kvs_store *store);
    /* Groups of a page; NULL where the metadata of a page are not scales and zeros: then `pages` leaves scales, zeros
     * and ranks alone. */
    int (*page_groups)(const kvs_store *store);
    /* Bits of one full page in the scheme's layout; residual is 0. */
    kvs_bits (*page_bits)(const kvs_store *store);
} kvs_codec;

struct kvs_store {
    kvs_window window;
    int head_dim;
    const kvs_codec *codec; /* NULL: full precision, nothing is ever stored quantized */
    kvs_query_needs needs;  /* of the codec */
    int unturns;            /* the codec undoes the rotary embedding: context->rope.inverse_frequency must be there */
    int reads_prefix;       /* the codec reads context->prefix, at each call of `pages` */
    double head_bits;       /* metadata once a head and sequence: what was fitted to the prefix */
    void *config;           /* the codec's own settings; owned by the scheme */
};

/* --- a scheme ------------------------------------------------------------------------------------------------------
 */

typedef struct kvs_scheme kvs_scheme;

typedef struct kvs_scheme_type {
    const char *name, *summary;
    const char *paper;       /* where it was published, or "" */
    const char *layout;      /* its page layout with default parameters; kvs_scheme.layout is what was opened */
    const kvs_param *params; /* of the configuration struct */
    size_t config_bytes;
    /* Fills scheme->k and scheme->v from scheme->config for scheme->head_dim, or says which parameter does not fit
     * (KVS_USAGE). Memory of the stores' config comes from kvs_scheme_alloc. */
    kvs_status (*open)(kvs_scheme *scheme, kvs_error *error);
} kvs_scheme_type;

struct kvs_scheme {
    const kvs_scheme_type *type;
    char *spec;         /* as the user wrote it */
    const char *layout; /* the page layout that the account counts; type->layout unless open chose another */
    int head_dim;
    void *config;
    kvs_store k, v;
    int model_layers, model_kv_heads; /* of the one model that its constants are for; 0: any */
    const char *model_name;           /* the same; NULL or "": not known */
    const char *constants;            /* the file that they came from; NULL: none */
    void *allocations;
};

/* All registered scheme types, ended by NULL; and one by its name, or NULL. */
extern const kvs_scheme_type *const kvs_scheme_types[];
const kvs_scheme_type *kvs_scheme_type_find(const char *name);

/* The largest head_dim that can be opened. */
#define KVS_MAX_HEAD_DIM 1024

/* Opens "name:key=value,..." for one head_dim. Fails with KVS_USAGE, naming scheme and parameter. *scheme is the
 * caller's, freed with kvs_scheme_close. */
KVS_MUST_CHECK kvs_status kvs_scheme_open(const char *spec, int head_dim, kvs_scheme **scheme, kvs_error *error);
void kvs_scheme_close(kvs_scheme *scheme);

/* Zeroed memory that lives as long as the scheme; NULL when there is none. */
void *kvs_scheme_alloc(kvs_scheme *scheme, size_t bytes);

/* Makes store one with this window and codec and a copy of config (bytes; may be 0). KVS_INPUT where memory is short.
 */
KVS_MUST_CHECK kvs_status kvs_store_make(kvs_scheme *scheme, kvs_store *store, kvs_window window,
                                         const kvs_codec *codec, const void *config, size_t config_bytes,
                                         kvs_error *error);

/* Stores tokens [S, stored_end) of one head page by page: x, x_hat, codes [tokens][head_dim], of which only the stored
 * range is written; x_hat may be x, codes may be NULL. Pages are counted from the first token after the sinks,
 * whatever context->place.page is. scratch: kvs_store_scratch_floats(store) floats. A store without a codec stores
 * nothing. */
void kvs_store_pages(const kvs_store *store, const kvs_page_context *context, int64_t stored_end, const float *x,
                     float *x_hat, uint8_t *codes, float *scratch);
/* Whether K or V uses queries; and KVS_USAGE, naming the scheme, where the caller has none to give it. */
int kvs_scheme_uses_queries(const kvs_scheme *scheme);
KVS_MUST_CHECK kvs_status kvs_scheme_without_queries(const kvs_scheme *scheme, const char *caller, kvs_error *error);
/* KVS_USAGE, naming the scheme, where K or V undoes the rotary embedding and the caller does not know it. */
KVS_MUST_CHECK kvs_status kvs_scheme_without_rope(const kvs_scheme *scheme, const char *caller, kvs_error *error);
/* KVS_USAGE, naming the scheme, where its constants are for a model of another name (where both are known), of other
 * layers and KV heads, or for any one at all where the caller does not know them. */
KVS_MUST_CHECK kvs_status kvs_scheme_check_model(const kvs_scheme *scheme, const char *name, int layers, int kv_heads,
                                                 kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_scheme_without_constants(const kvs_scheme *scheme, const char *caller, kvs_error *error);
size_t kvs_store_scratch_floats(const kvs_store *store);

/* --- the memory account --------------------------------------------------------------------------------------------
 */

/* Total bits of one KV head, K and V together, once `tokens` tokens have been decoded. */
kvs_bits kvs_scheme_head_bits(const kvs_scheme *scheme, int64_t tokens);

/* Bits per element of a full quantized page alone, K and V together, without what is kept once a head. Where K and V
 * pages differ in tokens, each is averaged over its own page and the two are averaged. */
kvs_bits kvs_scheme_page_bits(const kvs_scheme *scheme);

static inline double kvs_bits_sum(kvs_bits bits) {
    return bits.payload + bits.metadata + bits.residual + bits.padding;
}

#ifdef __cplusplus
}
#endif
#endif
