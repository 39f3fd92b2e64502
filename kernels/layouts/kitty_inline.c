/* kitty_inline.c: kitty with the metadata inside the page: one stretch of memory a page instead of two. */
#include "kernels/layouts/arrange.h"

static void arrange(kvs_format *format) {
    kvs_append_key_planes(format);
    kvs_append_key_pairs(format, 0);
    kvs_append_index(format, KVS_INDEX_RANKS);
    kvs_append_value_rows(format);
    kvs_append_value_pairs(format, 0);
    kvs_close_heads(format);
}

const kvs_layout kvs_layout_kitty_inline = {
    .name = "kitty-inline",
    .summary = "kitty with scales and zeros inside the page",
    .min_page_tokens = 16,
    .arrange = arrange,
};
