/* geometry.h: how one sequence of a scheme lies in the pages of a pool, and what it reads.
 *
 * A page of the pool holds `page_tokens` tokens of K and V of all layers and KV heads, as the scheme stores them. The
 * tokens that are in full precision (sinks, residual buffers, windows, the page that is still filling) lie in a buffer
 * of fixed size that a sequence owns from admission to its end, taken from the same pool and so rounded up to pages.
 *
 * With S sinks, and for each of K and V pages of P tokens, a window of W and a lag (kvs_window): page i of the pool,
 * tokens [S + i*B, S + (i+1)*B), is taken once S + i*B + min(P + W + lag) tokens are there (then the first tokens of K
 * or V move in), and complete, so that another request may share it, once S + (i+1)*B + max(W + lag) are. In full
 * precision S = W = 0 and P = 1: a page is taken at its first token and complete at its last, as in vLLM. */
#ifndef KVS_SIM_GEOMETRY_H
#define KVS_SIM_GEOMETRY_H

#include <stdint.h>

#include "kernels/scheme.h"
#include "sim/machine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One of K and V: which tokens are stored as the scheme stores them, and their bytes over all layers and heads. */
typedef struct kvs_geometry_store {
    int32_t first, page, behind;       /* S, P, W + lag */
    int32_t prefix;                    /* nothing is stored before this many tokens are there */
    double fixed;                      /* bytes a sequence, once anything is stored; metadata */
    double payload, metadata, padding; /* bytes a stored token */
    double full;                       /* bytes a token in full precision */
} kvs_geometry_store;

typedef struct kvs_geometry {
    char scheme[192];
    int32_t page_tokens, first_token;
    int32_t taken_after;           /* min(P + W + lag) */
    int32_t full_behind;           /* max(W + lag) */
    int32_t taken_from, full_from; /* tokens: the lower and the higher prefix */
    double page_bytes, buffer_bytes;
    int64_t buffer_pages;
    kvs_geometry_store k, v;
} kvs_geometry;

/* page_tokens 0: the least common multiple of the scheme's pages, or 16 where it stores token by token. Fails with
 * KVS_USAGE when pages of that many tokens do not hold whole pages of the scheme. */
KVS_MUST_CHECK kvs_status kvs_geometry_of(const char *scheme, const kvs_model_shape *shape, int page_tokens,
                                          kvs_geometry *geometry, kvs_error *error);

/* Pages (without the buffer's) that a sequence of `tokens` tokens has taken, and how many of them are complete. */
static inline int64_t kvs_pages_taken(const kvs_geometry *g, int64_t tokens) {
    int64_t beyond = tokens - g->first_token - g->taken_after;
    return beyond < 0 || tokens < g->taken_from ? 0 : beyond / g->page_tokens + 1;
}

static inline int64_t kvs_pages_full(const kvs_geometry *g, int64_t tokens) {
    int64_t beyond = tokens - g->first_token - g->full_behind;
    return beyond < 0 || tokens < g->full_from ? 0 : beyond / g->page_tokens;
}

/* Tokens of one of K and V that are stored after `tokens` tokens. */
static inline int64_t kvs_stored_tokens(const kvs_geometry_store *s, int64_t tokens) {
    int64_t beyond = tokens - s->first - s->behind;
    return beyond < 0 || tokens < s->prefix ? 0 : beyond / s->page * s->page;
}

/* Bytes of one sequence of `tokens` tokens: stored (payload, metadata, padding) and in full precision (residual). */
kvs_bits kvs_sequence_bytes(const kvs_geometry *g, int64_t tokens);

static inline double kvs_fixed_bytes(const kvs_geometry_store *s, int64_t stored) {
    return stored > 0 ? s->fixed : 0.0;
}

/* Bytes that attention over `tokens` cached tokens reads. */
static inline double kvs_read_bytes(const kvs_geometry *g, int64_t tokens) {
    double k = (double)kvs_stored_tokens(&g->k, tokens), v = (double)kvs_stored_tokens(&g->v, tokens);
    return k * (g->k.payload + g->k.metadata) + ((double)tokens - k) * g->k.full + v * (g->v.payload + g->v.metadata) +
           ((double)tokens - v) * g->v.full + kvs_fixed_bytes(&g->k, (int64_t)k) + kvs_fixed_bytes(&g->v, (int64_t)v);
}

/* All pages of a sequence of `tokens` tokens, its buffer with them. */
static inline int64_t kvs_sequence_pages(const kvs_geometry *g, int64_t tokens) {
    return kvs_pages_taken(g, tokens) + g->buffer_pages;
}

#ifdef __cplusplus
}
#endif
#endif
