#include "sim/page_keys.h"

#include <stdlib.h>

kvs_status kvs_page_keys_create(kvs_page_keys *keys, const kvs_requests *requests, int page_tokens, int first_token,
                                kvs_error *error) {
    int block = requests->block_tokens;
    *keys = (kvs_page_keys){.requests = requests, .page_tokens = page_tokens, .first_token = first_token, .per_id = 1};
    if (block > 0 && block % page_tokens != 0 && page_tokens % block != 0)
        return kvs_fail(error, KVS_USAGE, "page size", NULL,
                        "%d tokens neither divide nor are a multiple of the trace's blocks of %d", page_tokens, block);
    if (block > page_tokens) keys->per_id = block / page_tokens;
    keys->shared_keys = keys->keys = requests->unique_blocks * keys->per_id;
    keys->private_base = malloc((size_t)(requests->count > 0 ? requests->count : 1) * sizeof *keys->private_base);
    if (keys->private_base == NULL) return kvs_fail(error, KVS_INPUT, requests->source, NULL, "out of memory");
    for (int64_t r = 0; r < requests->count; r++) {
        int64_t tokens = (int64_t)requests->input_tokens[r] + requests->output_tokens[r];
        int64_t with_ids = requests->block_start[r + 1] > requests->block_start[r] ? requests->input_tokens[r] : 0;
        int64_t first_private = with_ids > first_token ? (with_ids - first_token) / page_tokens : 0;
        int64_t pages = tokens > first_token ? (tokens - first_token) / page_tokens : 0;
        keys->private_base[r] = keys->keys - first_private;
        if (pages > first_private) keys->keys += pages - first_private;
    }
    if (keys->keys < UINT32_MAX) return KVS_OK;
    kvs_page_keys_destroy(keys);
    return kvs_fail(error, KVS_INPUT, requests->source, NULL,
                    "has more than 2^32 - 2 distinct pages of %d tokens; larger pages help", page_tokens);
}

void kvs_page_keys_destroy(kvs_page_keys *keys) {
    free(keys->private_base);
    *keys = (kvs_page_keys){0};
}
