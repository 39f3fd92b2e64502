/* device_unit.h: one unit of a replay on a device: memory, and the steps from recorded values to errors. */
#ifndef KVS_SIM_DEVICE_UNIT_H
#define KVS_SIM_DEVICE_UNIT_H

#include "sim/cpu_unit.h"
#include "sim/device_store.h"

/* Arrays on the device. R: rows of a block; N: stride of its matrices. */
typedef enum kvs_device_array {
    KVS_DEVICE_K_HALF,     /* [tokens + KVS_DEVICE_STORE_BEYOND][head_dim] binary16 */
    KVS_DEVICE_V_HALF,     /* the same */
    KVS_DEVICE_Q_HALF,     /* [samples][head_dim] binary16 */
    KVS_DEVICE_K,          /* [tokens][head_dim] as recorded */
    KVS_DEVICE_V,          /* the same */
    KVS_DEVICE_Q,          /* [samples][head_dim] as recorded */
    KVS_DEVICE_K_ROUNDING, /* half - recorded; these and Q_WIDE only where values are not binary16 already */
    KVS_DEVICE_V_ROUNDING,
    KVS_DEVICE_Q_ROUNDING,
    KVS_DEVICE_Q_WIDE, /* Q_HALF as binary32 */
    KVS_DEVICE_ENDS,   /* [1 + 2 schemes][queries]: visible keys, then the stored ends of each scheme's K and V */
    KVS_DEVICE_PLACES, /* [pages] kvs_page_place */
    KVS_DEVICE_CODES,  /* packed pages of the store under way */
    KVS_DEVICE_METADATA,
    KVS_DEVICE_SUMS,    /* [blocks of all stores, one after the other][2] double */
    KVS_DEVICE_CHANGED, /* [2 schemes][tokens][head_dim]: what storing changed of K and V */
    KVS_DEVICE_LOGITS,  /* [R][N], as the next four */
    KVS_DEVICE_PROBABILITIES,
    KVS_DEVICE_CHANGES,
    KVS_DEVICE_SHIFTED,
    KVS_DEVICE_ROUNDING, /* where values are not binary16 already */
    KVS_DEVICE_TOPS,     /* [R][KVS_REPLAY_TOP] */
    KVS_DEVICE_GAINS,    /* [R] double */
    KVS_DEVICE_PARTS,    /* [3 splits][R][head_dim] */
    KVS_DEVICE_OUTPUT,   /* [R][head_dim] */
    KVS_DEVICE_DOUBLES,  /* [1 + schemes][samples]: energy, then each scheme's output_error */
    KVS_DEVICE_FLOATS,   /* [schemes][5][samples]: rel_l2, logit_mse, attention_kl, top1, top8 */
    KVS_DEVICE_ARRAYS,
} kvs_device_array;

typedef struct kvs_device_memory {
    void *at;
    size_t bytes;
} kvs_device_memory;

/* What one thread needs to compute units one after another. */
typedef struct kvs_device_state {
    const kvs_executor *executor;
    const kvs_pass *pass;
    void *stream;
    kvs_device_store *stores; /* [2 schemes]: K and V of each scheme */
    kvs_device_memory arrays[KVS_DEVICE_ARRAYS];
    kvs_device_memory sent, fetched; /* memory of the host for copies */
    size_t sent_bytes;               /* used of sent */
    kvs_arena rounded;
} kvs_device_state;

/* Sizes of the arrays for units of that many tokens and positions. stores as in the state. */
void kvs_device_sizes(const kvs_pass *pass, const kvs_device_store *stores, int64_t tokens, int64_t queries,
                      size_t sizes[KVS_DEVICE_ARRAYS]);
/* Bytes of the host's memory for copies: to the device, and back. */
size_t kvs_device_sent_bytes(const kvs_pass *pass, const kvs_device_store *stores, int64_t tokens, int64_t queries);
size_t kvs_device_fetched_bytes(const size_t sizes[KVS_DEVICE_ARRAYS]);
/* Bytes of the host's memory for rounding values that are not binary16. */
size_t kvs_device_rounded_bytes(const kvs_pass *pass, int64_t tokens, int64_t queries);

/* The positions that a block of attention holds, and the parts that the tokens are split into for its outputs. */
int kvs_device_span(const kvs_pass *pass, int64_t tokens, int64_t queries);
int kvs_device_splits(const kvs_pass *pass, int64_t tokens, int64_t queries);
int64_t kvs_device_stride(int64_t tokens);

/* The steps of a unit, on the state's stream: makes room and sends what was recorded; packs K (even index) or V (odd)
 * of scheme index / 2 into KVS_DEVICE_CODES and KVS_DEVICE_METADATA, and says how many tokens; and all steps to the
 * end. */
KVS_MUST_CHECK kvs_status kvs_device_send(kvs_device_state *state, const kvs_unit *unit, kvs_unit_errors *errors,
                                          kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_device_pack(kvs_device_state *state, const kvs_unit *unit, int index, int64_t *tokens,
                                          kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_device_unit(kvs_device_state *state, const kvs_unit *unit, kvs_unit_errors *errors,
                                          kvs_error *error);

/* Attention of positions [first, last) of a unit whose recorded values and stored changes are on the device. */
KVS_MUST_CHECK kvs_status kvs_device_attend(const kvs_device_state *state, const kvs_unit *unit, int first, int last,
                                            kvs_error *error);

#endif
