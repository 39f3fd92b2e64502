/* requests_generate.c: synthetic requests of any number: conversations whose turns repeat what was said before. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/random.h"
#include "traces/requests.h"

enum { BLOCK = 512, OPEN = 4096, LONGEST = 64 }; /* tokens of a block; conversations at a time; blocks of an input */

/* A conversation so far: the ids of its full blocks. */
typedef struct conversation {
    uint32_t ids[LONGEST];
    int blocks;
} conversation;

/* Request n: half the time the next turn of an open conversation, otherwise a new one in its place. New blocks per
 * turn are geometric with mean 4, outputs exponential with mean 256 tokens, arrivals Poisson at 10 a second. */
static void next_turn(conversation *open, uint64_t key, uint32_t *unique, kvs_request *request) {
    conversation *c = &open[kvs_random_bits(key, 0) % OPEN];
    int fresh = 1;
    while (fresh < LONGEST / 2 && kvs_random_unit(key, 100 + (uint64_t)fresh) < 0.75f) fresh++;
    if (kvs_random_unit(key, 1) < 0.5f || c->blocks + fresh > LONGEST) c->blocks = 0;
    for (int i = 0; i < fresh; i++) c->ids[c->blocks++] = (*unique)++;
    int last = 1 + (int)(kvs_random_bits(key, 2) % BLOCK); /* tokens in the last block, which may be partial */
    request->input_tokens = (c->blocks - 1) * BLOCK + last;
    request->output_tokens = 1 + (int)(-256 * log(1 - (double)kvs_random_unit(key, 3)));
    request->blocks = c->blocks;
    request->block_ids = c->ids;
    request->arrival_ns += (int64_t)(-1e8 * log(1 - (double)kvs_random_unit(key, 4)));
}

kvs_status kvs_requests_generate(int64_t count, uint64_t seed, kvs_requests *requests, kvs_error *error) {
    conversation *open = calloc(OPEN, sizeof *open);
    if (open == NULL) return kvs_fail(error, KVS_INPUT, "generated", NULL, "out of memory");
    kvs_requests r = {.format = "generated", .block_tokens = BLOCK};
    snprintf(r.source, sizeof r.source, "generated:%lld,seed=%llu", (long long)count, (unsigned long long)seed);
    kvs_request request = {0};
    uint32_t unique = 0;
    kvs_status status = KVS_OK;
    for (int64_t n = 0; n < count && status == KVS_OK; n++) {
        next_turn(open, kvs_random_key(kvs_random_key(seed, 0x616c6c6f63u), (uint64_t)n), &unique, &request);
        status = kvs_requests_append(&r, &request, 0, error);
    }
    free(open);
    if (status != KVS_OK)
        kvs_requests_clear(&r);
    else
        *requests = r;
    return status;
}
