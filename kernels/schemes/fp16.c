/* fp16.c: the baseline. Nothing is quantized; what it loses is the rounding of the trace to binary16. */
#include "kernels/scheme.h"

static kvs_status open_fp16(kvs_scheme *scheme, kvs_error *error) {
    (void)error;
    scheme->k = scheme->v = (kvs_store){.window = KVS_NEVER_STORED, .head_dim = scheme->head_dim};
    return KVS_OK;
}

static const kvs_param params[] = {{.name = NULL}};

const kvs_scheme_type kvs_scheme_fp16 = {
    .name = "fp16",
    .summary = "full precision: every K and V is kept as binary16",
    .paper = "",
    .layout = "fp16-nhd",
    .params = params,
    .config_bytes = 0,
    .open = open_fp16,
};
