/* attention.c: the host's part of the attention kernels: how much to split, how much room that takes. */
#include "kernels/attention.h"
#include "kernels/kernels.h"

enum { BLOCK_HEADS = 4, BLOCK_WARPS = 4, MAX_SPLITS = 256 };

static int64_t jobs_of(const kvs_attention_args *args) {
    int per_kv = args->query_heads / args->format.shape.kv_heads;
    return (int64_t)args->sequences * args->format.shape.kv_heads * ((per_kv + BLOCK_HEADS - 1) / BLOCK_HEADS);
}

size_t kvs_attention_workspace(const kvs_attention_args *args) {
    size_t jobs = (size_t)jobs_of(args), part = (size_t)(args->format.shape.head_dim + 4) * BLOCK_HEADS * sizeof(float);
    return (jobs * 4 + 127) / 128 * 128 + jobs * (size_t)args->splits * part;
}

/* The blocks should fill the device once (or a whole number of times), and a warp should have at least one page. */
int kvs_attention_splits(const kvs_attention_args *args, int multiprocessors, int longest_tokens) {
    int rows = args->format.keys == KVS_KEYS_PLANES || args->format.keys == KVS_KEYS_SCATTERED;
    int64_t residents = KVS_ATTENTION_RESIDENTS(args->format.shape.head_dim, rows);
    int64_t jobs = jobs_of(args), room = multiprocessors * residents;
    int64_t pages = longest_tokens / args->format.shape.page_tokens;
    if (args->format.keys == KVS_KEYS_FULL)
        pages = (longest_tokens + 15) / 16;
    else /* tiles in full precision are dealt like pages, and take about as long */
        pages += (args->sink_tokens + args->tail_tokens) / 24;
    int64_t most = (pages + BLOCK_WARPS - 1) / BLOCK_WARPS, best = 1;
    double best_time = 1e300;
    if (most > MAX_SPLITS) most = MAX_SPLITS;
    for (int64_t splits = 1; splits <= most; splits++) {
        /* Waves of blocks, each as long as its pages a warp and a fixed start that is worth about two pages. */
        int64_t waves = (jobs * splits + room - 1) / room;
        int64_t per_warp = (pages + splits * BLOCK_WARPS - 1) / (splits * BLOCK_WARPS);
        double time = (double)waves * ((double)per_warp + 2.0);
        if (time < best_time) {
            best_time = time;
            best = splits;
        }
    }
    return (int)best;
}
