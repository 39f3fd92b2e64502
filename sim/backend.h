/* backend.h: who computes a unit of a replay: one (sequence, layer, KV head) under every scheme of a pass.
 *
 * A back end is one row in backend.c. All back ends agree to the bit on what is stored, and within a tolerance on the
 * attention over it. */
#ifndef KVS_SIM_BACKEND_H
#define KVS_SIM_BACKEND_H

#include <stdint.h>

#include "analysis/tally.h"
#include "core/status.h"
#include "kernels/scheme.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is the same for all units of a pass. */
typedef struct kvs_pass {
    const kvs_scheme *const *schemes;
    int schemes_count, head_dim, group; /* group: query heads that share a KV head */
    double softmax_scale;
    kvs_rope_pairs rope;
    int causal, prompt_exact;
    int binary16;      /* K, V and queries of all units are binary16 values already */
    int inner_threads; /* that one unit may use */
} kvs_pass;

/* One unit, as recorded. */
typedef struct kvs_unit {
    kvs_page_place place; /* of its pages; .page is 0 */
    const char *path;     /* of the trace, for errors */
    int tokens, prompt_tokens, queries;
    const float *k, *v; /* [tokens][head_dim] */
    const float *q;     /* [group] heads of [queries][head_dim], q_stride floats apart; NULL: no queries */
    int64_t q_stride;
    const int32_t *positions; /* [queries], increasing */
    kvs_query_set recorded;   /* all that were recorded, also those that are not replayed; no log_sums */
} kvs_unit;

typedef struct kvs_backend {
    const char *name, *summary;
    /* Says that the device is missing (KVS_DEVICE), or names it (device fits in device_bytes). */
    kvs_status (*probe)(char *device, size_t device_bytes, kvs_error *error);
    /* Opens what one thread needs to compute units one after another; *state is the caller's, freed with close. The
     * pass outlives it. */
    kvs_status (*open)(const kvs_pass *pass, void **state, kvs_error *error);
    /* Computes one unit: errors [schemes_count], their arrays allocated for group * queries samples. */
    kvs_status (*unit)(void *state, const kvs_unit *unit, kvs_unit_errors *errors, kvs_error *error);
    void (*close)(void *state);
    /* Bytes of the host that a state takes for units of that many tokens and queries. */
    int64_t (*bytes)(const kvs_pass *pass, int64_t tokens, int64_t queries);

    /* The rest is NULL and 0 where the host itself computes, which takes every scheme. */
    /* Says which part of a scheme the device cannot compute (KVS_USAGE). */
    kvs_status (*accept)(const kvs_scheme *scheme, kvs_error *error);
    /* Bytes of the device that are free, and that a state takes of them. */
    kvs_status (*free_bytes)(int64_t *bytes, kvs_error *error);
    int64_t (*device_bytes)(const kvs_pass *pass, int64_t tokens, int64_t queries);
    int (*most_units)(void); /* that may be computed at a time, each by a thread of its own */
} kvs_backend;

/* All back ends, ended by NULL; and one by its name (KVS_USAGE). */
extern const kvs_backend *const kvs_backends[];
KVS_MUST_CHECK kvs_status kvs_backend_find(const char *name, const kvs_backend **backend, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
