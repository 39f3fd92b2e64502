/* decode_attention_fp16.cu: attention over full-precision pages: the honest baseline. */
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/head_dim.cuh"

namespace {

enum { WARPS = 4, TILE = 16 };

/* A tile of 16 tokens: in which page of the sequence, and from which of its tokens on. A page has whole tiles. */
struct place {
    int page, token;
};

/* The rows of the lane's two tokens of a tile; the sequence's last token's where there is none. */
KVS_DEVICE void rows_of(const kvs_attention_args &args, const uint8_t *pages, place at, int tokens_left,
                        const uint16_t *(&k)[2], const uint16_t *(&v)[2], bool (&valid)[2]) {
    const kvs_format &format = args.format;
    int64_t block = kvs_ld_global_nc(args.page_table + (int64_t)blockIdx.z * args.table_pages + at.page);
    const uint8_t *page = pages + block * format.block_bytes[0];
    int row_elements = (int)(format.key.token[0] / 16);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int token = 8 * i + (int)threadIdx.x % 32 / 4;
        valid[i] = token < tokens_left;
        if (!valid[i]) token = tokens_left - 1;
        k[i] = (const uint16_t *)(const void *)page + (int64_t)(at.token + token) * row_elements;
        v[i] = (const uint16_t *)(const void *)((const uint8_t *)k[i] + format.value.base / 8);
    }
}

template <int head_dim>
KVS_KERNEL(WARPS * 32, KVS_RESIDENTS(head_dim > 128 ? 2 : 4))
attend(const kvs_attention_args args) {
    kvs_head_span span = kvs_heads_of_block(args);
    kvs_queries queries = kvs_queries_at(KVS_SHARED, head_dim);
    int tokens = kvs_ld_global_nc(args.lengths + blockIdx.z), page_tokens = args.format.shape.page_tokens;
    const uint8_t *pages = args.tensors[0] + (int64_t)span.kv_head * args.format.head_bytes[0];
    kvs_load_queries<head_dim>(args, span, queries);
    kvs_syncthreads();
    kvs_attended<kvs_attention_shape<head_dim, kvs_order_pairs<head_dim>, 1>> a;
    kvs_attend_nothing(a);
    int tiles = (tokens + TILE - 1) / TILE;
    int first = (int)((int64_t)tiles * blockIdx.x / gridDim.x) + (int)threadIdx.x / 32;
    int end = (int)((int64_t)tiles * (blockIdx.x + 1) / gridDim.x);
    place at = {TILE * first / page_tokens, TILE * first % page_tokens};
    for (int tile = first; tile < end; tile += WARPS) {
        const uint16_t *k[2], *v[2];
        bool valid[2];
        rows_of(args, pages, at, tokens - TILE * tile, k, v, valid);
        kvs_attend_rows(a, queries, k, v, valid);
        for (at.token += TILE * WARPS; at.token >= page_tokens; at.token -= page_tokens) at.page++;
    }
    kvs_finish(args, queries, a, KVS_SHARED);
}

template <int head_dim> int launch(const kvs_attention_args *args, kvs_stream stream) {
    int kv_heads = args->format.shape.kv_heads, per_kv = args->query_heads / kv_heads;
    int parts = (per_kv + KVS_BLOCK_HEADS - 1) / KVS_BLOCK_HEADS;
    dim3 grid((unsigned)args->splits, (unsigned)(kv_heads * parts), (unsigned)args->sequences);
    size_t bytes = kvs_queries_bytes(head_dim), merge = kvs_merge_bytes(head_dim, WARPS);
    return kvs_launch(attend<head_dim>, grid, dim3(WARPS * 32), bytes > merge ? bytes : merge, stream, *args);
}

} // namespace

extern "C" int KVS_BACKEND(kvs_decode_attention_fp16)(const kvs_attention_args *args, void *stream) {
    return kvs_with_head_dim(args->format.shape.head_dim,
                             [=](auto head_dim) { return launch<decltype(head_dim)::value>(args, stream); });
}
