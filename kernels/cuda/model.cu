/* model.cu: the parts of a forward pass between its matrix products and its attention. */
#include "core/half.h"
#include "kernels/model_kernels.h"
#include "kernels/random_weight.h"
#include "kernels/simt/simt.h"

namespace {

enum { THREADS = 256, WARPS = THREADS / 32, MOST_BLOCKS = 4096 };

KVS_DEVICE void store(void *to, int64_t at, float value, kvs_number number) {
    if (number == KVS_NUMBER_F32)
        kvs_st_global((float *)to + at, value);
    else
        kvs_st_global((uint16_t *)to + at,
                      number == KVS_NUMBER_F16 ? kvs_float_to_half(value) : kvs_float_to_bfloat(value));
}

KVS_DEVICE float load(const void *from, int64_t at, kvs_number number) {
    if (number == KVS_NUMBER_F32) return kvs_ld_global_nc((const float *)from + at);
    uint16_t word = kvs_ld_global_nc((const uint16_t *)from + at);
    return number == KVS_NUMBER_F16 ? kvs_half_to_float(word) : kvs_bfloat_to_float(word);
}

KVS_DEVICE float warp_sum(float x) {
    for (int mask = 16; mask > 0; mask /= 2) x += kvs_shfl_xor(x, mask);
    return x;
}

/* Element-wise kernels take count elements in strides of the whole grid. */
KVS_DEVICE int64_t first_element() {
    return (int64_t)blockIdx.x * THREADS + threadIdx.x;
}

KVS_DEVICE int64_t all_threads() {
    return (int64_t)gridDim.x * THREADS;
}

dim3 grid_for(int64_t count) {
    int64_t blocks = (count + THREADS - 1) / THREADS;
    return dim3((unsigned)(blocks < (int64_t)MOST_BLOCKS ? blocks : (int64_t)MOST_BLOCKS));
}

KVS_KERNEL(THREADS, 1) embed(const kvs_embed_args args) {
    int64_t count = (int64_t)args.rows * args.columns;
    for (int64_t i = first_element(); i < count; i += all_threads()) {
        int32_t id = kvs_ld_global_nc(args.ids + i / args.columns);
        kvs_st_global(args.y + i, load(args.table, (int64_t)id * args.columns + i % args.columns, args.number));
    }
}

KVS_KERNEL(THREADS, 1) norm(const kvs_norm_args args) {
    float *parts = (float *)KVS_SHARED;
    int64_t row = (int64_t)blockIdx.x * args.columns;
    int thread = (int)threadIdx.x;
    float squares = 0.0f;
    for (int i = thread; i < args.columns; i += THREADS) {
        float x = kvs_ld_global(args.x + row + i);
        squares = kvs_fma(x, x, squares);
    }
    squares = warp_sum(squares);
    if (thread % 32 == 0) kvs_st_shared(parts + thread / 32, squares);
    kvs_syncthreads();
    float sum = 0.0f;
    for (int i = 0; i < WARPS; i++) sum += kvs_ld_shared(parts + i);
    float factor = 1.0f / kvs_sqrt(sum / (float)args.columns + args.epsilon);
    for (int i = thread; i < args.columns; i += THREADS)
        store(args.y, row + i, kvs_ld_global(args.x + row + i) * factor * load(args.weight, i, args.number),
              args.number);
}

KVS_DEVICE uint16_t *cache_row(const kvs_cache_rows &cache, int token, int head, int head_dim) {
    if (token < cache.sink_tokens) return cache.sinks + ((int64_t)head * cache.sink_tokens + token) * head_dim;
    int slot = token % cache.capacity;
    return cache.rows + slot / cache.page_tokens * cache.block_stride + head * cache.head_stride +
           slot % cache.page_tokens * cache.row_stride;
}

/* One warp has one head of one token. */
KVS_KERNEL(THREADS, 1) heads(const kvs_heads_args args) {
    int lane = (int)threadIdx.x % 32, head = (int)blockIdx.y * WARPS + (int)threadIdx.x / 32;
    int all = args.query_heads + 2 * args.kv_heads, dim = args.head_dim, half = args.rotary_dim / 2;
    if (head >= all) return;
    int row = (int)blockIdx.x, token = args.first + row, is_query = head < args.query_heads;
    int is_value = head >= args.query_heads + args.kv_heads;
    const float *x = args.projections + ((int64_t)row * all + head) * dim;
    const void *weight = is_query ? args.q_norm : is_value ? NULL : args.k_norm;
    float factor = 1.0f;
    if (weight != NULL) {
        float squares = 0.0f;
        for (int d = lane; d < dim; d += 32) squares = kvs_fma(kvs_ld_global(x + d), kvs_ld_global(x + d), squares);
        factor = 1.0f / kvs_sqrt(warp_sum(squares) / (float)dim + args.epsilon);
    }
    uint16_t *to = is_query   ? args.q + ((int64_t)row * args.query_heads + head) * dim
                   : is_value ? cache_row(args.v, token, head - args.query_heads - args.kv_heads, dim)
                              : cache_row(args.k, token, head - args.query_heads, dim);
    for (int d = lane; d < dim; d += 32) {
        float y = kvs_ld_global(x + d) * factor * (weight != NULL ? load(weight, d, args.number) : 1.0f);
        if (!is_value && d < args.rotary_dim) {
            int partner = d < half ? d + half : d - half, pair = d < half ? d : d - half;
            float other =
                kvs_ld_global(x + partner) * factor * (weight != NULL ? load(weight, partner, args.number) : 1.0f);
            float cosine = kvs_ld_global_nc(args.cosines + (int64_t)token * half + pair);
            float sine = kvs_ld_global_nc(args.sines + (int64_t)token * half + pair);
            y = d < half ? y * cosine - other * sine : y * cosine + other * sine;
        }
        uint16_t word = kvs_float_to_half(y);
        if ((word & 0x7fffu) >= 0x7c00u) kvs_atomic_add_global(args.overflows, 1);
        kvs_st_global(to + d, word);
    }
}

/* 16 bytes at a time: rows are multiples of 8 elements. */
KVS_KERNEL(THREADS, 1) gather(const kvs_gather_args args) {
    int parts = args.head_dim / 8;
    int64_t rows = (int64_t)args.pages * args.kv_heads * args.page_tokens;
    for (int64_t i = first_element(); i < rows * parts; i += all_threads()) {
        int64_t row = i / parts, page = row / args.page_tokens;
        int token = args.first + (int)(page / args.kv_heads) * args.page_tokens + (int)(row % args.page_tokens);
        const uint16_t *from = cache_row(args.from, token, (int)(page % args.kv_heads), args.head_dim);
        kvs_st_global((kvs_u32x4 *)args.x + i, kvs_ld_global((const kvs_u32x4 *)from + i % parts));
    }
}

KVS_KERNEL(THREADS, 1) swiglu(const kvs_swiglu_args args) {
    int64_t count = (int64_t)args.rows * args.columns;
    for (int64_t i = first_element(); i < count; i += all_threads()) {
        const float *gate = args.x + i / args.columns * 2 * args.columns + i % args.columns;
        float a = kvs_ld_global(gate), b = kvs_ld_global(gate + args.columns);
        store(args.y, i, a / (1.0f + kvs_exp2(-1.44269504f * a)) * b, args.number);
    }
}

KVS_KERNEL(THREADS, 1) narrow(const kvs_narrow_args args) {
    for (int64_t i = first_element(); i < args.count; i += all_threads())
        store(args.y, i, kvs_ld_global(args.x + i), args.number);
}

KVS_KERNEL(THREADS, 1) randomize(const kvs_random_args args) {
    for (int64_t i = first_element(); i < args.count; i += all_threads())
        store(args.y, i, args.spread > 0.0f ? kvs_random_weight(args.key, (uint64_t)i, args.spread) : 1.0f,
              args.number);
}

} // namespace

extern "C" int KVS_BACKEND(kvs_model_embed)(const kvs_embed_args *args, void *stream) {
    return kvs_launch(embed, grid_for((int64_t)args->rows * args->columns), dim3(THREADS), 0, stream, *args);
}

extern "C" int KVS_BACKEND(kvs_model_norm)(const kvs_norm_args *args, void *stream) {
    return kvs_launch(norm, dim3((unsigned)args->rows), dim3(THREADS), WARPS * sizeof(float), stream, *args);
}

extern "C" int KVS_BACKEND(kvs_model_heads)(const kvs_heads_args *args, void *stream) {
    int all = args->query_heads + 2 * args->kv_heads;
    dim3 grid((unsigned)args->rows, (unsigned)((all + WARPS - 1) / WARPS));
    return kvs_launch(heads, grid, dim3(THREADS), 0, stream, *args);
}

extern "C" int KVS_BACKEND(kvs_model_gather)(const kvs_gather_args *args, void *stream) {
    int64_t parts = (int64_t)args->pages * args->kv_heads * args->page_tokens * (args->head_dim / 8);
    return kvs_launch(gather, grid_for(parts), dim3(THREADS), 0, stream, *args);
}

extern "C" int KVS_BACKEND(kvs_model_swiglu)(const kvs_swiglu_args *args, void *stream) {
    return kvs_launch(swiglu, grid_for((int64_t)args->rows * args->columns), dim3(THREADS), 0, stream, *args);
}

extern "C" int KVS_BACKEND(kvs_model_narrow)(const kvs_narrow_args *args, void *stream) {
    return kvs_launch(narrow, grid_for(args->count), dim3(THREADS), 0, stream, *args);
}

extern "C" int KVS_BACKEND(kvs_model_randomize)(const kvs_random_args *args, void *stream) {
    return kvs_launch(randomize, grid_for(args->count), dim3(THREADS), 0, stream, *args);
}
