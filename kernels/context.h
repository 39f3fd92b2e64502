/* context.h: what a running engine knows when it stores a page, beside the page itself.
 *
 * A metric or a codec may use it; what it may not use is the future. A page of a store with S sinks, pages of P
 * tokens, W recent tokens and a lag of L steps is stored once S + (page + 1) P + W + L tokens are there, so the queries
 * of all positions below that are past (or those below prefix_tokens, where they are more): this depends on the page
 * alone, never on when it is read nor on whether a prefill brought its tokens. Of a trace only recorded positions
 * exist. */
#ifndef KVS_KERNELS_CONTEXT_H
#define KVS_KERNELS_CONTEXT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where a page stands: random choices are keyed by it, constants of a model are found by it. */
typedef struct kvs_page_place {
    uint64_t seed;
    int sequence, layer, kv_head, page;
} kvs_page_place;

/* Which channels the rotary embedding turns together: of the first rotary_dim channels d and d + rotary_dim / 2, or
 * where interleaved 2i and 2i + 1. rotary_dim 0: none, or not known. */
typedef struct kvs_rope_pairs {
    int rotary_dim, interleaved;
    const double *inverse_frequency; /* [rotary_dim / 2]: position p turned pair i by p * inverse_frequency[i]. NULL:
                                      * the keys are not turned, or nobody asked (kvs_store.unturns) */
} kvs_rope_pairs;

/* Queries of the query heads that share one KV head, as binary16 values. */
typedef struct kvs_query_set {
    int heads, count, head_dim; /* count: positions; 0 where there are no queries */
    const int32_t *positions;   /* [count], increasing */
    const float *values;        /* [heads] arrays of [count][head_dim], head_stride floats apart */
    int64_t head_stride;
    const float *log_sums; /* [heads] arrays of [count], sums_stride floats apart: log sum exp(scaled logits) over the
                            * keys that the query saw, in full precision; NULL where nobody asked for attention */
    int64_t sums_stride;
} kvs_query_set;

/* The channel that is turned together with channel d, or d itself. */
static inline int kvs_rope_partner(kvs_rope_pairs rope, int d) {
    if (d >= rope.rotary_dim) return d;
    if (rope.interleaved) return d ^ 1;
    return d < rope.rotary_dim / 2 ? d + rope.rotary_dim / 2 : d - rope.rotary_dim / 2;
}

typedef struct kvs_page_context {
    kvs_page_place place;
    kvs_rope_pairs rope;
    float softmax_scale;
    int64_t first_token;   /* position of the page's first token; kvs_page_context_of sets it */
    kvs_query_set queries; /* all that exist; after kvs_page_context_of those asked for */
    const float *prefix;   /* the head's first kvs_window.prefix_tokens tokens of this tensor, [tokens][head_dim] as
                            * binary16 values; NULL where the window asks for none */
    const float *keys;     /* the head's keys from position 0, [tokens][head_dim] as binary16 values, for a codec of V
                            * that weighs by attention: those that are past alone; NULL where there are no queries */
} kvs_page_context;

typedef enum kvs_query_use {
    KVS_QUERIES_NONE,
    KVS_QUERIES_PAST,   /* what a running engine has seen */
    KVS_QUERIES_FUTURE, /* those that will read the page: an upper bound that no engine can reach */
} kvs_query_use;

/* What a store asks of its context. */
typedef struct kvs_query_needs {
    kvs_query_use use;
    int attention; /* log_sums as well */
    int window;    /* of past positions, counted back from when the page is stored; 0: all */
} kvs_query_needs;

struct kvs_window;

/* The context of page `page`, with the queries that it needs and no others. */
kvs_page_context kvs_page_context_of(const kvs_page_context *whole, const struct kvs_window *window,
                                     kvs_query_needs needs, int page);

/* The first page below `pages` for whose needs no position exists, or -1. Past queries alone can be missing: what
 * nothing reads in the future needs no choice. */
int kvs_page_without_queries(const struct kvs_window *window, kvs_query_needs needs, const int32_t *positions,
                             int count, int64_t pages);

/* The query of head h at index i: [head_dim]. */
static inline const float *kvs_query_at(const kvs_query_set *queries, int head, int index) {
    return queries->values + head * queries->head_stride + (int64_t)index * queries->head_dim;
}

#ifdef __cplusplus
}
#endif
#endif
