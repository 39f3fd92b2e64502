/* attention.c: the host's part of the attention kernels: how much to split, how much room that takes. */
#include "kernels/attention.h"
#include "kernels/kernels.h"

enum { BLOCK_HEADS = 4, BLOCK_WARPS = 4, MAX_SPLITS = 256, TILE = 16, MERGED_AT_ONCE = 16 };

static int64_t jobs_of(const kvs_attention_args *args) {
    int per_kv = args->query_heads / args->format.shape.kv_heads;
    return (int64_t)args->sequences * args->format.shape.kv_heads * ((per_kv + BLOCK_HEADS - 1) / BLOCK_HEADS);
}

size_t kvs_attention_workspace(const kvs_attention_args *args) {
    size_t jobs = (size_t)jobs_of(args), part = (size_t)(args->format.shape.head_dim + 4) * BLOCK_HEADS * sizeof(float);
    return (jobs * 4 + 127) / 128 * 128 + jobs * (size_t)args->splits * part;
}

/* What is dealt to the warps of one sequence and head: pages and tiles of 16 tokens (cuda/attention_pages.cuh), if its
 * values are stored as late as a tail of that size allows. */
static int64_t units_of(const kvs_attention_args *args, int tokens) {
    int P = args->format.shape.page_tokens;
    if (args->format.keys == KVS_KEYS_FULL) return (tokens + TILE - 1) / TILE;
    int sinks = tokens < args->sink_tokens ? tokens : args->sink_tokens, after = tokens - sinks;
    int window = args->tail_tokens > P ? args->tail_tokens - P : 0;
    int key_pages = after / P, value_pages = after > window ? (after - window) / P : 0;
    int full_tiles = (sinks + TILE - 1) / TILE + (after - key_pages * P + TILE - 1) / TILE;
    return value_pages + full_tiles + (int64_t)(key_pages - value_pages) * ((P + 31) / 32 * 2);
}

/* Waves of blocks, each as long as the units of a warp and a start; and then the splits are merged, 16 under way at a
 * time. In times of a unit, of which a page takes longer than a tile in full precision: measured at batch 1. */
int kvs_attention_splits(const kvs_attention_args *args, int multiprocessors, int longest_tokens) {
    int rows = args->format.keys == KVS_KEYS_PLANES || args->format.keys == KVS_KEYS_SCATTERED;
    int64_t residents = KVS_ATTENTION_RESIDENTS(args->format.shape.head_dim, rows);
    int64_t jobs = jobs_of(args), room = multiprocessors * residents, units = units_of(args, longest_tokens);
    int64_t most = (units + BLOCK_WARPS - 1) / BLOCK_WARPS, best = 1;
    double start = 2.0, merge = args->format.keys == KVS_KEYS_FULL ? 1.1 : 0.3, best_time = 1e300;
    if (most > MAX_SPLITS) most = MAX_SPLITS;
    for (int64_t splits = 1; splits <= most; splits++) {
        int64_t waves = (jobs * splits + room - 1) / room;
        int64_t per_warp = (units + splits * BLOCK_WARPS - 1) / (splits * BLOCK_WARPS);
        int64_t merges = splits == 1 ? 0 : (splits + MERGED_AT_ONCE - 1) / MERGED_AT_ONCE;
        double time = (double)waves * ((double)per_warp + start) + merge * (double)merges;
        if (time < best_time) {
            best_time = time;
            best = splits;
        }
    }
    return (int)best;
}
