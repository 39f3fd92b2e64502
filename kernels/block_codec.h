/* block_codec.h: the codec of formats that cut a token into blocks of channels with one symmetric scale each: fp8,
 * NVFP4, MXFP4, q4_0, q8_0. What differs is how one block is encoded. */
#ifndef KVS_KERNELS_BLOCK_CODEC_H
#define KVS_KERNELS_BLOCK_CODEC_H

#include "kernels/scheme.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_block_config kvs_block_config;

struct kvs_block_config {
    int block;      /* channels of a block; it divides head_dim */
    int bits;       /* of a code */
    int scale_bits; /* of a block's scale: metadata */
    int fitted;     /* 1: `largest` is that of the prefix, kept once a head with 32 bits */
    const void *format;
    /* One block: x [block] -> x_hat (may be x) and, unless NULL, codes. largest: the largest magnitude of the prefix,
     * or 0 where nothing is fitted. */
    void (*encode)(const kvs_block_config *config, float largest, const float *x, float *x_hat, uint8_t *codes);
};

/* Makes store one; format and encode outlive it. KVS_USAGE where blocks do not divide head_dim. */
KVS_MUST_CHECK kvs_status kvs_block_store(kvs_scheme *scheme, kvs_store *store, kvs_window window,
                                          const kvs_block_config *config, kvs_error *error);

/* The largest magnitude of x [count]. */
float kvs_largest(const float *x, int64_t count);

#ifdef __cplusplus
}
#endif
#endif
