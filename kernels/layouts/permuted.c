/* permuted.c: boosted channels moved to the front, so that row r of every plane is the same channel: the planes are
 * dense, nothing is gathered, and only the query is permuted. */
#include "kernels/layouts/arrange.h"

static void arrange(kvs_format *format) {
    format->sorted = 1;
    kvs_append_key_planes(format);
    kvs_append_key_pairs(format, 0);
    kvs_append_index(format, KVS_INDEX_CHANNELS);
    kvs_append_value_rows(format);
    kvs_append_value_pairs(format, 0);
    kvs_close_heads(format);
}

const kvs_layout kvs_layout_permuted = {
    .name = "permuted",
    .summary = "dense planes, boosted channels first: only the query is permuted",
    .min_page_tokens = 16,
    .arrange = arrange,
};
