/* cpu_unit.h: the CPU back end's two halves: storing K and V of a unit, and attention over what was stored. */
#ifndef KVS_SIM_CPU_UNIT_H
#define KVS_SIM_CPU_UNIT_H

#include "kernels/product.h"
#include "sim/backend.h"

/* Memory that grows and is carved anew for each unit. */
typedef struct kvs_arena {
    char *memory;
    size_t bytes, used;
} kvs_arena;

/* Makes room for `bytes` and forgets what was carved. KVS_INPUT when memory is short. */
KVS_MUST_CHECK kvs_status kvs_arena_reset(kvs_arena *arena, size_t bytes, kvs_error *error);
/* Carves an array, aligned to 64 bytes; the caller reserved enough (kvs_arena_bytes of each, summed). */
void *kvs_arena_take(kvs_arena *arena, size_t count, size_t element_bytes);
size_t kvs_arena_bytes(size_t count, size_t element_bytes);

/* One of K, V or a head's queries: as recorded, as binary16, and the difference. */
typedef struct kvs_rounded {
    const float *recorded, *half; /* the same array when the values are binary16 already */
    const float *change;          /* half - recorded; NULL when there is none */
} kvs_rounded;

/* Rounds rows of head_dim values; half and change have room for them unless binary16. An overflow of binary16 is
 * KVS_INPUT and names the tensor and the place. */
KVS_MUST_CHECK kvs_status kvs_round_rows(const kvs_pass *pass, const kvs_unit *unit, const char *tensor, int head,
                                         const float *recorded, int64_t rows, float *half, float *change,
                                         kvs_rounded *rounded, kvs_error *error);

/* What a scheme made of K or V: the changes dequantized - half of the tokens of the stored range. Those of V lie row by
 * row, those of K are packed for attention (kernels/product.h). */
typedef struct kvs_stored {
    const kvs_window *window; /* NULL: nothing is stored quantized */
    int64_t begin, end;       /* the stored range once every token is in the cache */
    float *change;            /* from begin on */
} kvs_stored;

/* Tokens of the unit's sequence that a prefill stores at once. */
int64_t kvs_unit_prefill(const kvs_pass *pass, const kvs_unit *unit);
/* The end of the stored range that the query at an index of unit->positions sees; the sinks' end when it sees none. */
int64_t kvs_unit_stored_end(const kvs_pass *pass, const kvs_unit *unit, const kvs_window *window, int index);
/* Tokens that are stored at a time: whole pages, and whole panels of packed keys. */
int64_t kvs_store_chunk(const kvs_store *store);
/* Fills stored (whose change has room for all tokens) and error. With pack not NULL, changes are packed with it; chunk
 * holds kvs_store_chunk tokens. scratch: kvs_store_scratch_floats. */
void kvs_store_head(const kvs_pass *pass, const kvs_unit *unit, const kvs_store *store, const kvs_page_context *context,
                    const kvs_rounded *x, const kvs_product *pack, kvs_stored *stored, float *chunk, float *scratch,
                    kvs_stored_error *error);

/* The context of the unit's pages: queries only where a scheme of the pass uses them, rounded to binary16, and sums
 * only where one uses attention. keys: [tokens][head_dim] as binary16. The arena has kvs_unit_context_bytes free. */
size_t kvs_unit_context_bytes(const kvs_pass *pass, const kvs_unit *unit);
KVS_MUST_CHECK kvs_status kvs_unit_context(const kvs_pass *pass, const kvs_unit *unit, const float *keys,
                                           kvs_arena *arena, kvs_page_context *context, kvs_error *error);

/* log sum exp of a query's scaled logits over the first `visible` keys [visible][head_dim]; logits [visible] gets them.
 */
float kvs_log_sum(float scale, int head_dim, const float *keys, const float *query, int visible, float *logits);

/* A unit ready for attention. */
typedef struct kvs_prepared {
    const kvs_pass *pass;
    const kvs_unit *unit;
    const kvs_product *product;
    kvs_rounded k, v;
    float *k_packed, *k_change_packed; /* K as recorded, and what rounding changes, packed */
    const kvs_rounded *q;              /* [group] */
    const kvs_stored *keys, *values;   /* [schemes_count] */
} kvs_prepared;

/* Positions that a block of attention holds, and the bytes that it works in. */
int kvs_unit_span(const kvs_pass *pass, int64_t tokens);
size_t kvs_unit_attend_bytes(const kvs_pass *pass, int64_t tokens);
/* Attention of positions [first, last) of the unit, at most a span; work is an arena with that many bytes free. The
 * seconds of errors grow by `share` of those that each scheme took. */
void kvs_unit_attend(const kvs_prepared *prepared, int first, int last, double share, kvs_arena *work,
                     kvs_unit_errors *errors);

#endif
