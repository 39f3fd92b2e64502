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

/* Bytes of a tile of values in full precision in shared memory, and from one token to the next. */
KVS_HD int kvs_tail_pitch(int head_dim) {
    return 2 * head_dim + 16;
}

KVS_HD uint32_t kvs_tail_bytes(int head_dim) {
    return (uint32_t)(KVS_TILE * kvs_tail_pitch(head_dim));
}

KVS_HD uint32_t kvs_max_bytes(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

/* 512 bytes a turn, `turns` turns. */
template <int turns> KVS_DEVICE void kvs_fetch_turns(unsigned char *&shared, const uint8_t *&from) {
#pragma unroll
    for (int i = 0; i < turns; i++) kvs_cp_async16(shared + 512 * i, from + 512 * i);
    shared += 512 * turns;
    from += 512 * turns;
}

/* `bytes` bytes, a multiple of 16, by one warp. All lanes take as many turns: lanes that left a loop earlier would go
 * their own way where the compiler unrolls it, and the warp would ask for the same bytes in more requests. */
KVS_DEVICE void kvs_fetch(unsigned char *shared, const uint8_t *from, uint32_t bytes) {
    uint32_t lane = threadIdx.x % 32 * 16, turns = bytes / 512;
    shared += lane;
    from += lane;
#pragma unroll 1
    for (; turns >= 8; turns -= 8) kvs_fetch_turns<8>(shared, from);
    if (turns & 4) kvs_fetch_turns<4>(shared, from);
    if (turns & 2) kvs_fetch_turns<2>(shared, from);
    if (turns & 1) kvs_fetch_turns<1>(shared, from);
    if (lane < bytes % 512) kvs_cp_async16(shared, from);
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
    int tokens, sinks, key_pages, value_pages, page_tokens;
    int kv_head, full_head; /* full_head: of the sinks and the tail */
};

KVS_DEVICE kvs_attention_job kvs_job_of(const kvs_attention_args &args, kvs_head_span span) {
    kvs_attention_job j;
    int sequence = (int)blockIdx.z;
    j.kv_head = span.kv_head;
    j.full_head = (args.one_cache ? 0 : sequence) * args.format.shape.kv_heads + span.kv_head;
    j.tokens = kvs_ld_global_nc(args.lengths + sequence);
    j.sinks = j.tokens < args.sink_tokens ? j.tokens : args.sink_tokens;
    j.key_pages = kvs_ld_global_nc(args.key_pages + sequence);
    j.value_pages = kvs_ld_global_nc(args.value_pages + sequence);
    j.page_tokens = args.format.shape.page_tokens;
    return j;
}

/* Where the element of a token's row of the tail is, counted from tail_k and from tail_v. */
KVS_DEVICE int64_t kvs_tail_element(const kvs_attention_args &args, const kvs_attention_job &j, int token,
                                    int head_dim) {
    return ((int64_t)j.full_head * args.tail_tokens + token % args.tail_tokens) * head_dim;
}

KVS_DEVICE kvs_page_source kvs_page_at(const kvs_attention_args &args, const kvs_attention_job &j, int page) {
    int64_t block = kvs_ld_global_nc(args.page_table + (int64_t)blockIdx.z * args.table_pages + page);
    kvs_page_source source;
    for (int i = 0; i < 2; i++)
        source.at[i] =
            args.tensors[i] + block * args.format.block_bytes[i] + j.kv_head * (int64_t)args.format.head_bytes[i];
    return source;
}

/* 16 tokens in full precision: tile i of the sinks, then of the tail. */
template <class shape>
KVS_DEVICE void kvs_attend_full_tile(const kvs_attention_args &args, const kvs_attention_job &j, kvs_queries queries,
                                     kvs_attended<shape> &a, int tile) {
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
        int64_t at = is_sink ? ((int64_t)j.full_head * args.sink_tokens + token) * shape::head_dim
                             : kvs_tail_element(args, j, token, shape::head_dim);
        k[i] = (is_sink ? args.sink_k : args.tail_k) + at;
        v[i] = (is_sink ? args.sink_v : args.tail_v) + at;
    }
    kvs_attend_rows(a, queries, k, v, valid);
}

/* A tile of tokens whose keys are packed and whose values are not: tile `part` % 2 of two whose logits come together.
 * Its values are fetched with the page's keys, to where the page's values would be. */
template <class form>
KVS_DEVICE void kvs_attend_mixed(const kvs_attention_args &args, const kvs_attention_job &j, const form &p,
                                 kvs_queries queries, kvs_attended<typename form::shape> &a, unsigned char *shared,
                                 int part) {
    const int head_dim = form::head_dim, chunks = head_dim / 8, pitch = kvs_tail_pitch(head_dim);
    int parts = (j.page_tokens + 31) / 32 * 2, page = j.value_pages + part / parts, first = part % parts / 2 * 32;
    int lane = (int)threadIdx.x % 32;
    bool odd = part % parts % 2 != 0;
    unsigned char *tail = shared + p.values;
#pragma unroll 1
    for (int i = lane; i < KVS_TILE * chunks; i += 32) {
        int row = i / chunks, token = form::template token<2>(p, first, odd, row % 8, row / 8);
        token = j.sinks + page * j.page_tokens + (token < 0 ? 0 : token);
        const uint16_t *from = args.tail_v + kvs_tail_element(args, j, token, head_dim) + i % chunks * 8;
        kvs_cp_async16(tail + row * pitch + i % chunks * 16, from);
    }
    form::fetch_keys(p, shared, kvs_page_at(args, j, page));
    kvs_cp_async_commit();
    kvs_cp_async_wait<0>();
    kvs_syncwarp();
    float both[4];
    int shift = form::open_keys(p, shared);
    form::template logits<2>(p, shared, queries, shift, first, both);
    float logits[2] = {odd ? both[2] : both[0], odd ? both[3] : both[1]};
    kvs_soften(a, logits, 0, 0);
    uint32_t v[2][head_dim / 8], b[2];
#pragma unroll
    for (int high = 0; high < 2; high++)
        form::shape::order::template load<true>((const uint16_t *)(tail + (lane / 4 + 8 * high) * pitch), v[high]);
    kvs_turn_weights(logits[0], logits[1], b);
    kvs_add_values(a, v[0], v[1], b);
    kvs_syncwarp();
}

template <class form>
KVS_DEVICE void kvs_fetch_page(const form &p, unsigned char *shared, const kvs_page_source &source) {
    form::fetch_keys(p, shared, source);
    kvs_cp_async_commit();
    form::fetch_values(p, shared, source);
    kvs_cp_async_commit();
}

/* Pages `first`, first + step, ..., of which the first has been asked for. */
template <class form, int tiles>
KVS_DEVICE void kvs_attend_pages(const kvs_attention_args &args, const kvs_attention_job &j, const form &p,
                                 kvs_queries queries, kvs_attended<typename form::shape> &a, unsigned char *shared,
                                 int first, int step) {
    kvs_page_source source = {};
    for (int page = first; page < j.value_pages; page += step) {
        int next = page + step, shift = 0;
        if (next < j.value_pages) source = kvs_page_at(args, j, next);
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
    int warps = (int)blockDim.x / 32, warp = (int)blockIdx.x * warps + (int)threadIdx.x / 32;
    int all = (int)gridDim.x * warps;
    unsigned char *shared = KVS_SHARED + (head_dim * 16 + 128) + (int)threadIdx.x / 32 * p.shared_bytes;
    kvs_attention_job j = kvs_job_of(args, span);
    /* The block's place in memory before it is known whether there is this page: one wait less before the first. */
    kvs_page_source source = {};
    if (warp < args.table_pages) source = kvs_page_at(args, j, warp);
    if (warp < j.value_pages) kvs_fetch_page(p, shared, source);
    kvs_load_queries<head_dim>(args, span, queries);
    kvs_syncthreads();
    kvs_attended<typename form::shape> a;
    kvs_attend_nothing(a);
    int tail = j.tokens - j.sinks - j.key_pages * j.page_tokens;
    int full_tiles = (j.sinks + KVS_TILE - 1) / KVS_TILE + (tail + KVS_TILE - 1) / KVS_TILE;
    int parts = (j.key_pages - j.value_pages) * ((j.page_tokens + 31) / 32 * 2);
    /* Pages are dealt from the first warp on, the rest from the last: no warp gets one more of both. What needs no page
     * goes first, while the first page comes. */
    int i = all - 1 - warp;
    for (; i < full_tiles; i += all) kvs_attend_full_tile(args, j, queries, a, i);
    int left = full_tiles + parts - i;
    kvs_attend_pages<form, tiles>(args, j, p, queries, a, shared, warp, all);
    for (; left > 0; left -= all) kvs_attend_mixed(args, j, p, queries, a, shared, left - 1);
    kvs_finish(args, queries, a, KVS_SHARED);
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
