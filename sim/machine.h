/* machine.h: model shapes and devices of the serving model, built in or from a JSON file with the same member names. */
#ifndef KVS_SIM_MACHINE_H
#define KVS_SIM_MACHINE_H

#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_model_shape {
    char name[64];
    int64_t layers, query_heads, kv_heads, head_dim;
    double parameters;       /* all of them */
    double bytes_per_weight; /* 2: bfloat16 */
    char source[160];
} kvs_model_shape;

typedef struct kvs_device {
    char name[64];
    double memory_bytes;
    double bandwidth_bytes_per_s; /* of its memory, as stated by the vendor */
    double flops_per_s;           /* dense 16-bit matrix operations, two a multiply-add */
    char source[160];
} kvs_device;

extern const kvs_model_shape kvs_model_shapes[]; /* ended by an empty name */
extern const kvs_device kvs_devices[];

/* A built-in name, or else a JSON file. Fails with KVS_USAGE (neither) or KVS_INPUT (a file that breaks a rule). */
KVS_MUST_CHECK kvs_status kvs_model_shape_get(const char *name, kvs_model_shape *shape, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_device_get(const char *name, kvs_device *device, kvs_error *error);

static inline double kvs_weight_bytes(const kvs_model_shape *shape) {
    return shape->parameters * shape->bytes_per_weight;
}

#ifdef __cplusplus
}
#endif
#endif
