/* constants.h: what a calibration found out about a model, once for each layer and KV head: for K and for V a mean, a
 * basis and a code width for each of its components. kvscope calibrate writes them, kernels/calibrated.h stores by
 * them.
 *
 * A vector x of head_dim values is x = mean + sum over c of z_c basis[c], z_c about standard normal; component c is
 * stored in widths[c] bits, or not at all. The file, little-endian:
 *
 *     "kvscope-constants 2\n", filled up with zeros to 32 bytes
 *     int32 layers, kv_heads, head_dim, before_rope (1: of keys before the rotary embedding), and what was stored when
 *         queries were weighed: int32 page, sink, window (tokens; a scheme with others is refused)
 *     the model's name, 68 bytes with at least one zero at the end, which ends at byte 128
 *     K of layer 0 head 0, K of layer 0 head 1, ..., V of layer 0 head 0, ...: each
 *         binary16 basis [head_dim components][head_dim channels], binary16 mean [head_dim], uint8 widths [head_dim],
 *         and a zero where head_dim is odd */
#ifndef KVS_KERNELS_CONSTANTS_H
#define KVS_KERNELS_CONSTANTS_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_CONSTANTS_K, KVS_CONSTANTS_V };

enum { KVS_CONSTANTS_NAME = 68 };

typedef struct kvs_constants_header {
    int32_t layers, kv_heads, head_dim, before_rope, page, sink, window;
    char model[KVS_CONSTANTS_NAME]; /* as the trace has it, cut where it is longer; "": not known */
} kvs_constants_header;

/* One record as it lies in the file; the pointers point into it. */
typedef struct kvs_constants_record {
    uint16_t *basis, *mean;
    uint8_t *widths;
} kvs_constants_record;

size_t kvs_constants_record_bytes(int head_dim);
/* Of all records [2][layers][kv_heads], the one of tensor KVS_CONSTANTS_K or _V. records is aligned to 2 bytes. */
kvs_constants_record kvs_constants_at(const kvs_constants_header *header, uint8_t *records, int tensor, int layer,
                                      int kv_head);
static inline size_t kvs_constants_bytes(const kvs_constants_header *header) {
    return 2 * (size_t)header->layers * (size_t)header->kv_heads * kvs_constants_record_bytes(header->head_dim);
}

/* Reads and checks a file: sizes within bounds and of the file, numbers finite, widths of at most KVS_TRELLIS_MAX_BITS.
 * KVS_INPUT names the file and the rule. *records is the caller's, freed with free. */
KVS_MUST_CHECK kvs_status kvs_constants_read(const char *path, kvs_constants_header *header, uint8_t **records,
                                             kvs_error *error);
/* Writes one, whole or not at all. */
KVS_MUST_CHECK kvs_status kvs_constants_write(const char *path, const kvs_constants_header *header,
                                              const uint8_t *records, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
