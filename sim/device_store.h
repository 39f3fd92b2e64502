/* device_store.h: K or V of a unit through quantize_pack_k or quantize_pack_v, as a scheme's store asks. */
#ifndef KVS_SIM_DEVICE_STORE_H
#define KVS_SIM_DEVICE_STORE_H

#include "kernels/executor.h"
#include "kernels/scheme.h"

/* How the kernels do what a store describes, one page of theirs after the other from its first stored token on: in the
 * layout `kitty`, with one KV head. */
typedef struct kvs_device_store {
    const kvs_store *store;
    int full;   /* nothing is stored quantized, and nothing below means anything */
    int values; /* quantize_pack_v and the block's values: scales per token; otherwise quantize_pack_k and its keys */
    kvs_format format;
    kvs_affine_rule rule;
    kvs_metric metric;
} kvs_device_store;

/* Fails with KVS_USAGE, naming the scheme, tensor ("k" or "v") and what no kernel does. */
KVS_MUST_CHECK kvs_status kvs_device_store_of(const kvs_scheme *scheme, const char *tensor, const kvs_store *store,
                                              kvs_device_store *device, kvs_error *error);

/* Blocks of the kernels that hold so many stored tokens, and input tokens beyond the last that they may read. */
int64_t kvs_device_store_blocks(const kvs_device_store *device, int64_t tokens);
enum { KVS_DEVICE_STORE_BEYOND = KVS_MAX_PAGE_TOKENS };

/* Memory of the device that storing uses. */
typedef struct kvs_device_pages {
    uint8_t *tensors[2];
    kvs_page_place *places; /* of the kernel's pages; for KVS_METRIC_RANDOM */
} kvs_device_pages;

/* Packs `tokens` stored tokens from x on, [tokens + KVS_DEVICE_STORE_BEYOND][head_dim] binary16 on the device. */
KVS_MUST_CHECK kvs_status kvs_device_store_pack(const kvs_executor *executor, const kvs_device_store *device,
                                                const uint16_t *x, int64_t tokens, const kvs_device_pages *pages,
                                                void *stream, kvs_error *error);

#endif
