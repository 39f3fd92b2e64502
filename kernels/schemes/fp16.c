/* fp16.c: the baseline. Nothing is quantized; what it loses is the rounding of the trace to binary16. */
#include "kernels/scheme.h"

static kvs_status open_fp16(kvs_scheme *scheme, kvs_error *error) {
    (void)error;
    /* A recent window without end: no token is ever due to be stored. */
    kvs_window window = {.page_tokens = 1, .recent_tokens = INT_MAX};
    scheme->k = scheme->v = (kvs_store){.window = window, .head_dim = scheme->head_dim};
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
