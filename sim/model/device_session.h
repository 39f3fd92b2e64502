/* device_session.h: the inside of a session on a device, for the files that run it: device_setup.c (memory),
 * device_session.c (tokens through layers) and device_observe.c (what an observer is shown). */
#ifndef KVS_SIM_MODEL_DEVICE_SESSION_H
#define KVS_SIM_MODEL_DEVICE_SESSION_H

#include "sim/device_store.h"
#include "sim/model/device_model.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    KVS_DEVICE_BLOCK = 1024,       /* tokens that pass a layer at once */
    KVS_DEVICE_STAGED_PAGES = 16,  /* pages that are packed at once */
    KVS_DEVICE_PACKED_HEADS = 256, /* of KV, at most */
};

/* The cache of one layer: pages, and with a scheme the rows in full precision beside them. */
typedef struct kvs_device_cache {
    uint8_t *tensors[2];
    uint16_t *sink_k, *sink_v; /* [kv_heads][sinks][head_dim] */
    uint16_t *tail_k, *tail_v; /* [kv_heads][tail][head_dim] */
} kvs_device_cache;

typedef struct kvs_device_shown kvs_device_shown;

struct kvs_device_session {
    const kvs_model *model;
    kvs_device_model *d;
    kvs_model_pass pass;
    int capacity, seen, layers_kept;
    kvs_format format; /* of the pages */
    int packed, sinks, tail, table_pages;
    kvs_device_store k_store, v_store; /* packed */
    kvs_device_cache *layers;          /* [layers_kept] */
    size_t cache_bytes;
    int *pages_at[2]; /* [capacity + 1]: stored pages of K and of V once so many tokens are there; on the host */
    /* On the device: */
    void **memory;
    int memory_count;
    float *cosines, *sines;             /* [capacity][head_dim / 2] */
    int32_t *lengths, *device_pages[2]; /* [capacity], by position of the query */
    int32_t *table, *ids;               /* [KVS_DEVICE_BLOCK][table_pages], [capacity] */
    float *x;                           /* [capacity][hidden] */
    float *wide;                        /* [KVS_DEVICE_BLOCK][projections or 2 intermediate] */
    float *attended;                    /* [KVS_DEVICE_BLOCK][query_heads * head_dim] */
    void *left;                         /* [KVS_DEVICE_BLOCK][largest left factor] in the type of the weights */
    uint16_t *q, *staged;               /* [KVS_DEVICE_BLOCK][query_heads][head_dim]; pages to be packed */
    kvs_page_place *places;             /* of them */
    uint32_t *overflows;
    void *workspace;
    size_t workspace_bytes;
    int workspace_rows;      /* that it has been used with: it is ready for as many */
    kvs_device_shown *shown; /* for the observer of the pass; NULL without one */
};

/* Memory for session->capacity tokens; model, d, pass, capacity and layers_kept are set. */
KVS_MUST_CHECK kvs_status kvs_device_session_set_up(kvs_device_session *session, kvs_error *error);

/* Where K or V of a layer lie in full precision. */
kvs_cache_rows kvs_device_rows(const kvs_device_session *session, const kvs_device_cache *layer, int values);

/* --- the observer of a pass: in full precision, after the rotary embedding -----------------------------------------
 */

/* KVS_USAGE where the pass asks for more. */
KVS_MUST_CHECK kvs_status kvs_device_shown_open(kvs_device_session *session, kvs_error *error);
void kvs_device_shown_close(kvs_device_shown *shown); /* NULL: nothing */

/* Keeps the queries of a block whose layer is under way: rows tokens, the first of them number `done` of this call. */
KVS_MUST_CHECK kvs_status kvs_device_show_block(const kvs_device_session *session, int done, int rows, int tokens,
                                                kvs_error *error);
/* Calls the observer for a layer that all tokens of this call have passed. */
KVS_MUST_CHECK kvs_status kvs_device_show_layer(const kvs_device_session *session, int layer, int tokens,
                                                kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
