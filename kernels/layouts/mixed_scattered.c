/* mixed_scattered.c: each channel at its own width behind a mask. Where a channel begins depends on how many boosted
 * ones come before it: the layout that Kitty argues against, here to be measured. */
#include "kernels/layouts/arrange.h"

static void arrange(kvs_format *format) {
    const kvs_page_shape *shape = &format->shape;
    uint32_t tokens = (uint32_t)shape->page_tokens;
    uint32_t extra = (uint32_t)(shape->boost_bits - shape->bits) * tokens, row = (uint32_t)shape->bits * tokens;
    uint32_t codes = row * (uint32_t)shape->head_dim + extra * (uint32_t)shape->boost_channels;
    format->keys = KVS_KEYS_SCATTERED;
    format->boosted_extra_bits = extra;
    format->key = kvs_linear_field(kvs_append(format, "key codes", 0, codes, 16), shape->bits, 0, row);
    kvs_append_key_pairs(format, 0);
    kvs_append_index(format, KVS_INDEX_MASK);
    kvs_append_value_rows(format);
    kvs_append_value_pairs(format, 0);
    kvs_close_heads(format);
}

const kvs_layout kvs_layout_mixed_scattered = {
    .name = "mixed-scattered",
    .summary = "each channel at its own width behind a mask",
    .min_page_tokens = 16,
    .arrange = arrange,
};
