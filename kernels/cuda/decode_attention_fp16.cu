/* decode_attention_fp16.cu: attention over full-precision pages: the honest baseline. */
#include "kernels/cuda/attention.cuh"

namespace {

enum { WARPS = 4, TILE = 16 };

struct sequence_pages {
    const uint8_t *pages; /* of this head */
    const int32_t *table;
    int64_t block_bytes;
    uint32_t value_bytes; /* from keys to values */
    int page_shift, row_elements, tokens;
};

/* The row of a token's keys; the last token's where there is none. */
KVS_DEVICE const uint16_t *row_of(const sequence_pages &s, int token, bool &valid) {
    valid = token < s.tokens;
    token = valid ? token : s.tokens - 1;
    int64_t block = kvs_ld_global_nc(s.table + (token >> s.page_shift));
    int in_page = token & ((1 << s.page_shift) - 1);
    return (const uint16_t *)(s.pages + block * s.block_bytes) + (int64_t)in_page * s.row_elements;
}

template <int head_dim>
KVS_KERNEL(WARPS * 32, KVS_RESIDENTS(head_dim > 128 ? 2 : 4))
attend(const kvs_attention_args args) {
    const kvs_format &format = args.format;
    kvs_head_span span = kvs_heads_of_block(args);
    kvs_queries queries = kvs_queries_at(KVS_SHARED, head_dim);
    kvs_load_queries(args, span, queries);
    kvs_syncthreads();
    sequence_pages s;
    s.pages = args.tensors[0] + (int64_t)span.kv_head * format.head_bytes[0];
    s.table = args.page_table + (int64_t)blockIdx.z * args.table_pages;
    s.block_bytes = format.block_bytes[0];
    s.value_bytes = format.value.base / 8;
    s.row_elements = (int)(format.key.token[0] / 16);
    s.tokens = kvs_ld_global_nc(args.lengths + blockIdx.z);
    s.page_shift = 4;
    while (1 << s.page_shift < format.shape.page_tokens) s.page_shift++;
    kvs_attended<kvs_attention_shape<head_dim, kvs_order_pairs<head_dim>, 1>> a;
    kvs_attend_nothing(a);
    int tiles = (s.tokens + TILE - 1) / TILE, lanes_row = (int)threadIdx.x % 32 / 4;
    int first = (int)((int64_t)tiles * blockIdx.x / gridDim.x),
        end = (int)((int64_t)tiles * (blockIdx.x + 1) / gridDim.x);
    for (int tile = first + (int)threadIdx.x / 32; tile < end; tile += WARPS) {
        const uint16_t *k[2], *v[2];
        bool valid[2];
        for (int i = 0; i < 2; i++) {
            k[i] = row_of(s, TILE * tile + 8 * i + lanes_row, valid[i]);
            v[i] = (const uint16_t *)((const uint8_t *)k[i] + s.value_bytes);
        }
        kvs_attend_rows(a, queries, k, v, valid);
    }
    kvs_finish(args, span, a, KVS_SHARED);
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
