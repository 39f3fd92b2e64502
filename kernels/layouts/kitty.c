/* kitty.c: the layout that Kitty published (arXiv 2511.18643): scales and zeros lie in a tensor of their own. */
#include "kernels/layouts/arrange.h"

static void arrange(kvs_format *format) {
    kvs_append_key_planes(format);
    kvs_append_index(format, KVS_INDEX_RANKS);
    kvs_append_value_rows(format);
    kvs_append_key_pairs(format, 1);
    kvs_append_value_pairs(format, 1);
    kvs_close_heads(format);
}

const kvs_layout kvs_layout_kitty = {
    .name = "kitty",
    .summary = "two planes of codes, channel index, scales and zeros in a separate tensor (as published)",
    .min_page_tokens = 16,
    .arrange = arrange,
};
