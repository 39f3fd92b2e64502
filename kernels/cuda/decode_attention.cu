/* decode_attention.cu: attention over pages in the fragment layout, sinks and tail in full precision.
 *
 * Each warp has one page at a time in shared memory: while it works on the page's values, the next page's keys are on
 * their way, and the other way round; no barrier of the block is needed. What is in full precision goes first. */
#include "kernels/cuda/packed.cuh"

namespace {

enum { MAX_WARPS = 4, TILE = 16, SHARED_BYTES = 227 * 1024 };

/* One sequence and KV head. */
struct job {
    int tokens, sinks, key_pages, value_pages, page_tokens, tail_tokens;
    const uint8_t *pages;
    const int32_t *table;
    int64_t block_bytes;
    const uint16_t *sink_k, *sink_v, *tail_k, *tail_v;
};

KVS_DEVICE job job_of(const kvs_attention_args &args, kvs_head_span span) {
    job j;
    int sequence = (int)blockIdx.z, head_dim = args.format.shape.head_dim;
    int64_t head = (int64_t)sequence * args.format.shape.kv_heads + span.kv_head;
    j.tokens = kvs_ld_global_nc(args.lengths + sequence);
    j.sinks = j.tokens < args.sink_tokens ? j.tokens : args.sink_tokens;
    j.key_pages = kvs_ld_global_nc(args.key_pages + sequence);
    j.value_pages = kvs_ld_global_nc(args.value_pages + sequence);
    j.page_tokens = args.format.shape.page_tokens;
    j.tail_tokens = args.tail_tokens;
    j.pages = args.tensors[0] + (int64_t)span.kv_head * args.format.head_bytes[0];
    j.table = args.page_table + (int64_t)sequence * args.table_pages;
    j.block_bytes = args.format.block_bytes[0];
    j.sink_k = args.sink_k + head * args.sink_tokens * head_dim;
    j.sink_v = args.sink_v + head * args.sink_tokens * head_dim;
    j.tail_k = args.tail_k + head * args.tail_tokens * head_dim;
    j.tail_v = args.tail_v + head * args.tail_tokens * head_dim;
    return j;
}

KVS_DEVICE const uint8_t *page_at(const job &j, int page) {
    return j.pages + (int64_t)kvs_ld_global_nc(j.table + page) * j.block_bytes;
}

/* Bytes [begin, end) of a page, by one warp. */
KVS_DEVICE void fetch(unsigned char *shared, const uint8_t *page, uint32_t begin, uint32_t end) {
    for (uint32_t at = begin + threadIdx.x % 32 * 16; at < end; at += 512) kvs_cp_async16(shared + at, page + at);
}

/* 16 tokens in full precision: tile i of the sinks, then of the tail. */
template <int head_dim>
KVS_DEVICE void attend_full_tile(const job &j, kvs_queries queries, kvs_attended<head_dim> &a, int tile) {
    int sink_tiles = (j.sinks + TILE - 1) / TILE, row = (int)threadIdx.x % 32 / 4;
    int tail_begin = j.sinks + j.key_pages * j.page_tokens;
    const uint16_t *k[2], *v[2];
    bool valid[2];
    for (int i = 0; i < 2; i++) {
        bool is_sink = tile < sink_tiles;
        int token = (is_sink ? tile * TILE : tail_begin + (tile - sink_tiles) * TILE) + 8 * i + row;
        int end = is_sink ? j.sinks : j.tokens;
        valid[i] = token < end;
        if (!valid[i]) token = end - 1;
        int64_t at = (int64_t)(is_sink ? token : token % j.tail_tokens) * head_dim;
        k[i] = (is_sink ? j.sink_k : j.tail_k) + at;
        v[i] = (is_sink ? j.sink_v : j.tail_v) + at;
    }
    kvs_attend_rows<head_dim>(a, queries, k, v, valid);
}

/* 32 tokens whose keys are packed and whose values are not. */
template <int head_dim>
KVS_DEVICE void attend_mixed(const job &j, const kvs_packed &p, kvs_queries queries, kvs_attended<head_dim> &a,
                             unsigned char *shared, int part) {
    int parts = j.page_tokens / 32, page = j.value_pages + part / parts, first = part % parts * 32;
    int row = (int)threadIdx.x % 32 / 4;
    fetch(shared, page_at(j, page), 0, p.values);
    kvs_cp_async_commit();
    kvs_cp_async_wait<0>();
    kvs_syncwarp();
    float logits[4];
    kvs_packed_logits<head_dim, 2>(p, shared, queries, j.page_tokens, first / TILE, logits);
    kvs_syncwarp();
    kvs_soften<head_dim>(a, logits, 0, 0);
#pragma unroll 1
    for (int i = 0; i < 2; i++) {
        kvs_u32x4 v0[head_dim / 32], v1[head_dim / 32];
        int token = j.sinks + page * j.page_tokens + first + i * TILE + row;
        kvs_load_row<head_dim>(j.tail_v + (int64_t)(token % j.tail_tokens) * head_dim, v0);
        kvs_load_row<head_dim>(j.tail_v + (int64_t)((token + 8) % j.tail_tokens) * head_dim, v1);
        uint32_t b[2];
        kvs_turn_weights(i ? logits[2] : logits[0], i ? logits[3] : logits[1], b);
        kvs_add_values<head_dim>(a, v0, v1, b);
    }
}

template <int head_dim, int tiles>
KVS_DEVICE void attend_pages(const job &j, const kvs_packed &p, kvs_queries queries, kvs_attended<head_dim> &a,
                             unsigned char *shared, int first, int step) {
    int page = first;
    if (page >= j.value_pages) return;
    const uint8_t *source = page_at(j, page);
    fetch(shared, source, 0, p.values);
    kvs_cp_async_commit();
    fetch(shared, source, p.values, p.bytes);
    kvs_cp_async_commit();
    while (page < j.value_pages) {
        int next = page + step;
        source = next < j.value_pages ? page_at(j, next) : source;
        /* More than one stretch of tokens a page: all its keys must stay until its last logits. */
        for (int tile = 0; tile < j.page_tokens / TILE; tile += tiles) {
            bool is_last = tile + tiles >= j.page_tokens / TILE;
            float logits[2 * tiles];
            kvs_cp_async_wait<1>();
            kvs_syncwarp();
            kvs_packed_logits<head_dim, tiles>(p, shared, queries, j.page_tokens, tile, logits);
            kvs_syncwarp();
            if (is_last && next < j.value_pages) fetch(shared, source, 0, p.values);
            kvs_cp_async_commit();
            kvs_cp_async_wait<1>();
            kvs_syncwarp();
            kvs_attend_packed<head_dim, tiles>(a, p, shared, tile, logits);
            kvs_syncwarp();
            if (is_last && next < j.value_pages) fetch(shared, source, p.values, p.bytes);
            kvs_cp_async_commit();
        }
        page = next;
    }
    kvs_cp_async_wait<0>();
    kvs_syncwarp();
}

template <int head_dim, int tiles>
KVS_KERNEL(MAX_WARPS * 32, head_dim > 128 ? 2 : 4)
attend(const kvs_attention_args args) {
    kvs_head_span span = kvs_heads_of_block(args);
    kvs_queries queries = kvs_queries_at(KVS_SHARED, head_dim);
    kvs_load_queries(args, span, queries);
    kvs_syncthreads();
    kvs_packed p = kvs_packed_of(args.format);
    job j = job_of(args, span);
    int warps = (int)blockDim.x / 32, warp = (int)blockIdx.x * warps + (int)threadIdx.x / 32;
    int all = (int)gridDim.x * warps;
    unsigned char *shared = KVS_SHARED + (head_dim * 16 + 128) + (int)threadIdx.x / 32 * p.bytes;
    kvs_attended<head_dim> a;
    kvs_attend_nothing(a);
    int tail = j.tokens - j.sinks - j.key_pages * j.page_tokens;
    int full_tiles = (j.sinks + TILE - 1) / TILE + (tail + TILE - 1) / TILE;
    int parts = (j.key_pages - j.value_pages) * (j.page_tokens / 32);
    /* Pages are dealt from the first warp on, the rest from the last: no warp gets one more of both. */
    for (int i = all - 1 - warp; i < full_tiles + parts; i += all)
        if (i < parts)
            attend_mixed<head_dim>(j, p, queries, a, shared, i);
        else
            attend_full_tile<head_dim>(j, queries, a, i - parts);
    attend_pages<head_dim, tiles>(j, p, queries, a, shared, warp, all);
    kvs_finish<head_dim>(args, span, a, KVS_SHARED);
}

template <int head_dim, int tiles> int launch_tiles(const kvs_attention_args *args, kvs_stream stream) {
    int kv_heads = args->format.shape.kv_heads, per_kv = args->query_heads / kv_heads;
    int parts = (per_kv + KVS_BLOCK_HEADS - 1) / KVS_BLOCK_HEADS, warps = MAX_WARPS;
    size_t before = (size_t)head_dim * 16 + 128, page = args->format.head_bytes[0];
    while (warps > 1 && before + (size_t)warps * page > SHARED_BYTES) warps--;
    dim3 grid((unsigned)args->splits, (unsigned)(kv_heads * parts), (unsigned)args->sequences);
    size_t bytes = before + (size_t)warps * page, merge = kvs_merge_bytes(head_dim, warps);
    return kvs_launch((attend<head_dim, tiles>), grid, dim3((unsigned)warps * 32), bytes > merge ? bytes : merge,
                      stream, *args);
}

template <int head_dim> int launch(const kvs_attention_args *args, kvs_stream stream) {
    if (args->format.shape.page_tokens >= 128) return launch_tiles<head_dim, 8>(args, stream);
    return launch_tiles<head_dim, 2>(args, stream);
}

} // namespace

extern "C" int KVS_BACKEND(kvs_decode_attention)(const kvs_attention_args *args, void *stream) {
    switch (args->format.shape.head_dim) {
    case 64:
        return launch<64>(args, stream);
    case 96:
        return launch<96>(args, stream);
    case 128:
        return launch<128>(args, stream);
    default:
        return launch<256>(args, stream);
    }
}
