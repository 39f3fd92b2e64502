/* transform.h: a store whose tokens pass invertible maps before its codec, and the way back after it: rotations,
 * channel scales and orders, undoing the rotary embedding.
 *
 * A map acts on each token by itself. What it is fitted to is the prefix of the sequence (kvs_window.prefix_tokens), as
 * the maps before it leave it. Arithmetic is binary32; what comes back is not rounded to binary16. */
#ifndef KVS_KERNELS_TRANSFORM_H
#define KVS_KERNELS_TRANSFORM_H

#include "kernels/scheme.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Tokens that a map is given at a time, at most. */
enum { KVS_MAP_TOKENS = 64, KVS_MAX_MAPS = 4 };

typedef struct kvs_map kvs_map;

/* Where rows of tokens stand. */
typedef struct kvs_map_rows {
    const kvs_page_context *context;
    int head_dim;
    int64_t first_token, tokens; /* tokens <= KVS_MAP_TOKENS */
} kvs_map_rows;

typedef struct kvs_map_type {
    const char *name;
    int unturns;                 /* it needs context->rope.inverse_frequency */
    int (*admits)(int head_dim); /* NULL: any */
    const char *what_admits;     /* "2^k, 12 * 2^k or 20 * 2^k" */
    size_t (*state_floats)(int head_dim);
    /* prefix: [tokens][head_dim]; fills state. NULL: nothing to fit, no state. */
    void (*fit)(const kvs_map *map, int head_dim, int64_t tokens, const float *prefix, const kvs_page_context *context,
                float *state);
    /* x [tokens][head_dim] in place. */
    void (*forward)(const kvs_map *map, kvs_map_rows rows, const float *state, float *x);
    void (*back)(const kvs_map *map, kvs_map_rows rows, const float *state, float *x);
} kvs_map_type;

struct kvs_map {
    const kvs_map_type *type;
    int count;       /* order: channels of a group; rotation: 1 with signs by chance */
    double strength; /* smooth: the exponent */
};

/* Undoes the rotary embedding of keys; the identity where context->rope.inverse_frequency is NULL. */
extern const kvs_map_type kvs_map_unturn;
/* H diag(s) x: the orthonormal Hadamard transform; with count 1 after signs s by chance, keyed by seed, layer and KV
 * head. */
extern const kvs_map_type kvs_map_rotate;
/* x_d / l_d with l_d = max over the prefix of |x_d| and |x_e|, e the channel that the rotary embedding turns with d, to
 * the power of strength (QServe's SmoothAttention): it commutes with the embedding, so it folds into the weights. */
extern const kvs_map_type kvs_map_smooth;
/* Channels in another order: clusters of (minimum, maximum) over the prefix, by k-means, so that groups of `count`
 * channels hold channels of like range (SKVQ). */
extern const kvs_map_type kvs_map_cluster;
/* Channels by rising sum of |x_d| over the prefix (RotateKV). */
extern const kvs_map_type kvs_map_sort;

/* Wraps what store is: maps [count] in the order they are applied, forth; the inner codec sees mapped tokens, its
 * context the mapped prefix. KVS_USAGE where a map does not admit head_dim. */
KVS_MUST_CHECK kvs_status kvs_transform_store(kvs_scheme *scheme, kvs_store *store, const kvs_map *maps, int count,
                                              kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
