/* fp16.c: the usual paged caches in full precision: [token][head][channel] and [head][token][channel]. */
#include "kernels/layouts/arrange.h"

static void arrange(kvs_format *format, uint32_t head_stride, uint32_t token_stride) {
    const kvs_page_shape *shape = &format->shape;
    uint32_t half = 2u * (uint32_t)(shape->head_dim * shape->page_tokens * shape->kv_heads);
    format->keys = KVS_KEYS_FULL;
    format->tensors = 1;
    format->key = kvs_linear_field(0, 16, 8 * token_stride, 16);
    format->value = kvs_linear_field(8 * half, 16, 8 * token_stride, 16);
    format->head_bytes[0] = head_stride;
    format->block_bytes[0] = 2 * half;
    format->page_bits.payload = 2.0 * 16.0 * shape->head_dim * shape->page_tokens;
    format->sections_count = 2;
    format->sections[0] = (kvs_section){"keys of all heads", 0, 0, half};
    format->sections[1] = (kvs_section){"values of all heads", 0, half, half};
}

static void arrange_nhd(kvs_format *format) {
    uint32_t row = 2u * (uint32_t)format->shape.head_dim;
    arrange(format, row, row * (uint32_t)format->shape.kv_heads);
}

static void arrange_hnd(kvs_format *format) {
    uint32_t row = 2u * (uint32_t)format->shape.head_dim;
    arrange(format, row * (uint32_t)format->shape.page_tokens, row);
}

const kvs_layout kvs_layout_fp16_nhd = {
    .name = "fp16-nhd",
    .summary = "full precision, [token][head][channel]",
    .min_page_tokens = 16,
    .arrange = arrange_nhd,
};

const kvs_layout kvs_layout_fp16_hnd = {
    .name = "fp16-hnd",
    .summary = "full precision, [head][token][channel]",
    .min_page_tokens = 16,
    .arrange = arrange_hnd,
};
