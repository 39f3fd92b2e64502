/* attention_pages.cuh: decode_attention over packed pages, for every form in which a layout keeps codes.
 *
 * Each warp has one page at a time in shared memory: while it works on the page's values, the next page's keys are on
 * their way, and the other way round; no barrier of the block is needed. What is in full precision goes first.
 *
 * A form (kvs_fragment_pages in attention_fragment.cuh, kvs_row_pages in attention_rows.cuh) is a structure made of the
 * kvs_format, with functions that fetch a page's keys and values, compute logits, and add values. A stretch of tokens
 * is `tiles` matrix tiles of 16; token() says which token a row of a tile is, below 0 where it is none. */
#ifndef KVS_KERNELS_CUDA_ATTENTION_PAGES_CUH
#define KVS_KERNELS_CUDA_ATTENTION_PAGES_CUH

#include "kernels/cuda/attention.cuh"

enum { KVS_PAGE_WARPS = 4, KVS_TILE = 16 };

/* A page of one head: its bytes in the tensor of codes, and in that of metadata where there is one. */
struct kvs_page_source {
    const uint8_t *at[2];
};

/* `bytes` bytes, a multiple of 16, by one warp. All lanes take as many turns: lanes that leave a loop earlier would go
 * their own way where the compiler unrolls it, and the warp would ask for the same bytes in more requests. */
KVS_DEVICE void kvs_fetch(unsigned char *shared, const uint8_t *from, uint32_t bytes) {
    uint32_t lane = threadIdx.x % 32 * 16;
    for (uint32_t turn = 0; turn < bytes; turn += 512)
        if (turn + lane < bytes) kvs_cp_async16(shared + turn + lane, from + turn + lane);
}

/* --- arithmetic of codes -------------------------------------------------------------------------------------------
 *
 * A masked code is a binary16 subnormal, code * 2^(place in its byte) * 2^-24, and so an operand of the matrix
 * instruction as it is. Scale and place go into the query (or the weight), whose product is split into a half and what
 * rounding left of it, both exact: h = q s rounded, then q s - h by one fused multiply-add. Zeros add q z to a score
 * and weight * z to an output. */

/* q s as the columns of a head: the rounded product in the first, the rest in the second. */
KVS_DEVICE uint32_t kvs_split_product(uint32_t q, uint32_t s, bool second) {
    uint32_t product = kvs_pair_mul(q, s);
    uint32_t rest = kvs_pair_fma(q, s, product ^ 0x80008000u);
    return second ? rest : product;
}

KVS_DEVICE uint32_t kvs_pair_power(int exponent) {
    return kvs_pair_of(kvs_power(exponent), kvs_power(exponent));
}

/* The exponent, at most `most`, that brings x below 2^limit. */
KVS_DEVICE int kvs_shift_below(float x, int limit, int most) {
    int shift = limit - 1 - kvs_exponent(x);
    return shift < most ? shift : most;
}

/* The exponent that brings the largest value scale of these tokens, `largest` of any lane, into [2^13, 2^14); or less,
 * since the unit of the outputs only grows: so that after the first pages it rarely changes. */
template <class shape> KVS_DEVICE int kvs_value_shift(const kvs_attended<shape> &a, uint32_t largest) {
    for (int mask = 4; mask < 32; mask *= 2) largest = kvs_pair_max(largest, kvs_shfl_xor(largest, mask));
    float scale = kvs_pair_low(largest);
    int shift = scale > 0.0f ? 13 - kvs_exponent(scale) : 40;
    return a.unit > 24 - shift ? 24 - a.unit : shift;
}

/* --- one sequence and KV head --------------------------------------------------------------------------------------
 */

struct kvs_attention_job {
    int tokens, sinks, key_pages, value_pages, page_tokens, tail_tokens;
    const uint8_t *pages[2];
    uint32_t block_bytes[2];
    const int32_t *table;
    const uint16_t *sink_k, *sink_v, *tail_k, *tail_v;
};

KVS_DEVICE kvs_attention_job kvs_job_of(const kvs_attention_args &args, kvs_head_span span) {
    kvs_attention_job j;
    int sequence = (int)blockIdx.z, head_dim = args.format.shape.head_dim;
    int64_t head = (int64_t)(args.one_cache ? 0 : sequence) * args.format.shape.kv_heads + span.kv_head;
    j.tokens = kvs_ld_global_nc(args.lengths + sequence);
    j.sinks = j.tokens < args.sink_tokens ? j.tokens : args.sink_tokens;
    j.key_pages = kvs_ld_global_nc(args.key_pages + sequence);
    j.value_pages = kvs_ld_global_nc(args.value_pages + sequence);
    j.page_tokens = args.format.shape.page_tokens;
    j.tail_tokens = args.tail_tokens;
    for (int i = 0; i < 2; i++) {
        j.pages[i] = args.tensors[i] + (int64_t)span.kv_head * args.format.head_bytes[i];
        j.block_bytes[i] = args.format.block_bytes[i];
    }
    j.table = args.page_table + (int64_t)sequence * args.table_pages;
    j.sink_k = args.sink_k + head * args.sink_tokens * head_dim;
    j.sink_v = args.sink_v + head * args.sink_tokens * head_dim;
    j.tail_k = args.tail_k + head * args.tail_tokens * head_dim;
    j.tail_v = args.tail_v + head * args.tail_tokens * head_dim;
    return j;
}

KVS_DEVICE kvs_page_source kvs_page_at(const kvs_attention_job &j, int page) {
    int64_t block = kvs_ld_global_nc(j.table + page);
    kvs_page_source source = {{j.pages[0] + block * j.block_bytes[0], j.pages[1] + block * j.block_bytes[1]}};
    return source;
}

/* 16 tokens in full precision: tile i of the sinks, then of the tail. */
template <class shape>
KVS_DEVICE void kvs_attend_full_tile(const kvs_attention_job &j, kvs_queries queries, kvs_attended<shape> &a,
                                     int tile) {
    int sink_tiles = (j.sinks + KVS_TILE - 1) / KVS_TILE, row = (int)threadIdx.x % 32 / 4;
    int tail_begin = j.sinks + j.key_pages * j.page_tokens;
    const uint16_t *k[2], *v[2];
    bool valid[2];
    for (int i = 0; i < 2; i++) {
        bool is_sink = tile < sink_tiles;
        int token = (is_sink ? tile * KVS_TILE : tail_begin + (tile - sink_tiles) * KVS_TILE) + 8 * i + row;
        int end = is_sink ? j.sinks : j.tokens;
        valid[i] = token < end;
        if (!valid[i]) token = end - 1;
        int64_t at = (int64_t)(is_sink ? token : token % j.tail_tokens) * shape::head_dim;
        k[i] = (is_sink ? j.sink_k : j.tail_k) + at;
        v[i] = (is_sink ? j.sink_v : j.tail_v) + at;
    }
    kvs_attend_rows(a, queries, k, v, valid);
}

/* Two tiles of tokens whose keys are packed and whose values are not. */
template <class form>
KVS_DEVICE void kvs_attend_mixed(const kvs_attention_job &j, const form &p, kvs_queries queries,
                                 kvs_attended<typename form::shape> &a, unsigned char *shared, int part) {
    typedef typename form::shape shape;
    int parts = (j.page_tokens + 31) / 32, page = j.value_pages + part / parts, first = part % parts * 32;
    int row = (int)threadIdx.x % 32 / 4;
    form::fetch_keys(p, shared, kvs_page_at(j, page));
    kvs_cp_async_commit();
    kvs_cp_async_wait<0>();
    kvs_syncwarp();
    float logits[4];
    int shift = form::open_keys(p, shared);
    form::template logits<2>(p, shared, queries, shift, first, logits);
    kvs_syncwarp();
    kvs_soften(a, logits, 0, 0);
#pragma unroll 1
    for (int i = 0; i < 2; i++) {
        uint32_t v[2][shape::head_dim / 8], b[2];
#pragma unroll
        for (int high = 0; high < 2; high++) {
            int token = form::template token<2>(p, first, i, row, high);
            token = j.sinks + page * j.page_tokens + (token < 0 ? 0 : token);
            shape::order::load(j.tail_v + (int64_t)(token % j.tail_tokens) * shape::head_dim, v[high]);
        }
        kvs_turn_weights(i ? logits[2] : logits[0], i ? logits[3] : logits[1], b);
        kvs_add_values(a, v[0], v[1], b);
    }
}

/* Pages `first`, first + step, ... */
template <class form, int tiles>
KVS_DEVICE void kvs_attend_pages(const kvs_attention_job &j, const form &p, kvs_queries queries,
                                 kvs_attended<typename form::shape> &a, unsigned char *shared, int first, int step) {
    int page = first;
    if (page >= j.value_pages) return;
    kvs_page_source source = kvs_page_at(j, page);
    form::fetch_keys(p, shared, source);
    kvs_cp_async_commit();
    form::fetch_values(p, shared, source);
    kvs_cp_async_commit();
    while (page < j.value_pages) {
        int next = page + step, shift = 0;
        if (next < j.value_pages) source = kvs_page_at(j, next);
        /* More than one stretch of tokens a page: all its keys must stay until its last logits. */
        for (int token = 0; token < j.page_tokens; token += tiles * KVS_TILE) {
            bool fetch = token + tiles * KVS_TILE >= j.page_tokens && next < j.value_pages;
            float logits[2 * tiles];
            kvs_cp_async_wait<1>();
            kvs_syncwarp();
            if (token == 0) shift = form::open_keys(p, shared);
            form::template logits<tiles>(p, shared, queries, shift, token, logits);
            kvs_syncwarp();
            if (fetch) form::fetch_keys(p, shared, source);
            kvs_cp_async_commit();
            kvs_cp_async_wait<1>();
            kvs_syncwarp();
            form::template attend<tiles>(p, a, shared, token, logits);
            kvs_syncwarp();
            if (fetch) form::fetch_values(p, shared, source);
            kvs_cp_async_commit();
        }
        page = next;
    }
    kvs_cp_async_wait<0>();
    kvs_syncwarp();
}

/* --- the kernel ----------------------------------------------------------------------------------------------------
 */

/* Shared memory: the queries, then a page for each warp. */
template <class form> static inline size_t kvs_before_pages() {
    return (size_t)form::head_dim * 16 + 128;
}

template <class form, int tiles>
KVS_KERNEL(KVS_PAGE_WARPS * 32, KVS_RESIDENTS(form::residents))
kvs_attend_kernel(const kvs_attention_args args, const form p) {
    const int head_dim = form::head_dim;
    kvs_head_span span = kvs_heads_of_block(args);
    kvs_queries queries = kvs_queries_at(KVS_SHARED, head_dim);
    kvs_load_queries(args, span, queries);
    kvs_syncthreads();
    kvs_attention_job j = kvs_job_of(args, span);
    int warps = (int)blockDim.x / 32, warp = (int)blockIdx.x * warps + (int)threadIdx.x / 32;
    int all = (int)gridDim.x * warps;
    unsigned char *shared = KVS_SHARED + (head_dim * 16 + 128) + (int)threadIdx.x / 32 * p.shared_bytes;
    kvs_attended<typename form::shape> a;
    kvs_attend_nothing(a);
    int tail = j.tokens - j.sinks - j.key_pages * j.page_tokens;
    int full_tiles = (j.sinks + KVS_TILE - 1) / KVS_TILE + (tail + KVS_TILE - 1) / KVS_TILE;
    int parts = (j.key_pages - j.value_pages) * ((j.page_tokens + 31) / 32);
    /* Pages are dealt from the first warp on, the rest from the last: no warp gets one more of both. */
    for (int i = all - 1 - warp; i < full_tiles + parts; i += all)
        if (i < parts)
            kvs_attend_mixed(j, p, queries, a, shared, i);
        else
            kvs_attend_full_tile(j, queries, a, i - parts);
    kvs_attend_pages<form, tiles>(j, p, queries, a, shared, warp, all);
    kvs_finish(args, span, a, KVS_SHARED);
}

template <class form, int tiles> int kvs_launch_pages(const kvs_attention_args *args, kvs_stream stream) {
    int kv_heads = args->format.shape.kv_heads, per_kv = args->query_heads / kv_heads;
    int parts = (per_kv + KVS_BLOCK_HEADS - 1) / KVS_BLOCK_HEADS, warps = KVS_PAGE_WARPS;
    form p = form::of(args->format);
    size_t before = kvs_before_pages<form>(), page = p.shared_bytes;
    while (warps > 1 && before + (size_t)warps * page > kvs_shared_limit()) warps--;
    dim3 grid((unsigned)args->splits, (unsigned)(kv_heads * parts), (unsigned)args->sequences);
    size_t bytes = before + (size_t)warps * page, merge = kvs_merge_bytes(form::head_dim, warps);
    return kvs_launch((kvs_attend_kernel<form, tiles>), grid, dim3((unsigned)warps * 32), bytes > merge ? bytes : merge,
                      stream, *args, p);
}

#endif
