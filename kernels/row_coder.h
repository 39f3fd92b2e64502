/* row_coder.h: a row of values of variance about 1 as codes of one width: by the trellis, or each value by itself. */
#ifndef KVS_KERNELS_ROW_CODER_H
#define KVS_KERNELS_ROW_CODER_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/trellis.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_ROW_MAX_BITS = KVS_TRELLIS_MAX_BITS };

typedef enum kvs_row_coding { KVS_ROW_TRELLIS, KVS_ROW_LLOYD_MAX } kvs_row_coding;
extern const char *const kvs_row_coding_choices[];

typedef struct kvs_row_coder {
    kvs_row_coding coding;
    double distortion[KVS_ROW_MAX_BITS + 1];                   /* mean squared error of a standard normal value */
    float levels[KVS_ROW_MAX_BITS + 1][1 << KVS_ROW_MAX_BITS]; /* Lloyd-Max, ascending */
} kvs_row_coder;

void kvs_row_coder_make(kvs_row_coding coding, kvs_row_coder *coder);

/* codes [count], each below 2^bits, and values [count] that they stand for; 0 bits: all 0. A width above 0 is admitted
 * by kvs_trellis_admits. scratch: kvs_trellis_scratch(count) floats. */
void kvs_row_encode(const kvs_row_coder *coder, int bits, int count, const float *x, uint8_t *codes, float *values,
                    float *scratch);

#ifdef __cplusplus
}
#endif
#endif
