/* page_keys.h: which content each page of a request holds, as dense keys for the block pool.
 *
 * Page i of a request holds tokens [first + i * page, first + (i + 1) * page), where `first` is 0 unless sink tokens
 * lie outside the pages. Its content is named by the trace's chained id of the block that holds the page's last token
 * and by the place of that token in the block, so equal keys mean equal tokens up to the page's end. Pages that reach
 * beyond the ids (generated tokens, traces without ids) get private keys that no other request has. */
#ifndef KVS_SIM_PAGE_KEYS_H
#define KVS_SIM_PAGE_KEYS_H

#include <stdint.h>

#include "traces/requests.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_page_keys {
    const kvs_requests *requests;
    int page_tokens, first_token;
    int64_t per_id;        /* pages that end in one block of the trace */
    int64_t shared_keys;   /* keys below this come from ids */
    int64_t keys;          /* all keys */
    int64_t *private_base; /* [count]: the private key of a request's page i is private_base + i */
} kvs_page_keys;

/* Fails with KVS_USAGE when neither the page nor the trace's block is a multiple of the other, with KVS_INPUT when
 * memory or 32-bit keys run out. The requests must outlive it. */
KVS_MUST_CHECK kvs_status kvs_page_keys_create(kvs_page_keys *keys, const kvs_requests *requests, int page_tokens,
                                               int first_token, kvs_error *error);
void kvs_page_keys_destroy(kvs_page_keys *keys);

/* The key of page `page` of request r. */
static inline uint32_t kvs_page_key(const kvs_page_keys *keys, int64_t r, int64_t page) {
    int64_t end = keys->first_token + (page + 1) * keys->page_tokens;
    const kvs_requests *q = keys->requests;
    if (end > q->input_tokens[r] || q->block_start[r] == q->block_start[r + 1])
        return (uint32_t)(keys->private_base[r] + page);
    int64_t last = end - 1, id = q->block_ids[q->block_start[r] + last / q->block_tokens];
    return (uint32_t)(id * keys->per_id + last % q->block_tokens / keys->page_tokens);
}

#ifdef __cplusplus
}
#endif
#endif
