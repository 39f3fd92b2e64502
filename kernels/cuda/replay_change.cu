/* replay_change.cu: what storing changed: packed pages against what was recorded. */
#include "kernels/cuda/encode.cuh"
#include "kernels/cuda/unpack.cuh"
#include "kernels/replay_kernels.h"

namespace {

enum { THREADS = 128 };

KVS_KERNEL(THREADS, 8) widen(const kvs_widen_args args) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= args.count) return;
    float half = kvs_pair_low(kvs_ld_global_nc(args.half + i));
    if (args.wide != nullptr) kvs_st_global(args.wide + i, half);
    if (args.change != nullptr) kvs_st_global(args.change + i, half - kvs_ld_global_nc(args.recorded + i));
}

/* Squares that a thread has summed. */
struct squares {
    double error, energy;
};

KVS_DEVICE void compare(const kvs_change_args &args, int64_t element, float value, squares &sums) {
    float half = kvs_pair_low(kvs_ld_global_nc(args.half + element));
    double recorded = (double)kvs_ld_global_nc(args.recorded + element), distance = (double)value - recorded;
    sums.error += distance * distance;
    sums.energy += recorded * recorded;
    kvs_st_global(args.change + element, value - half);
}

/* Thread 0 stores what all threads of the block have summed, added as a tree. */
KVS_DEVICE void store_sums(squares mine, double *to) {
    double *shared = (double *)KVS_SHARED;
    kvs_st_shared(shared + threadIdx.x, mine.error);
    kvs_st_shared(shared + THREADS + threadIdx.x, mine.energy);
    kvs_syncthreads();
    for (unsigned half = THREADS / 2; half > 0; half /= 2) {
        if (threadIdx.x < half)
            for (int i = 0; i < 2; i++) {
                double *at = shared + i * THREADS + threadIdx.x;
                kvs_st_shared(at, kvs_ld_shared(at) + kvs_ld_shared(at + half));
            }
        kvs_syncthreads();
    }
    if (threadIdx.x < 2) kvs_st_global(to + threadIdx.x, kvs_ld_shared(shared + threadIdx.x * THREADS));
}

KVS_KERNEL(THREADS, 4) change_keys(const kvs_change_args args) {
    const kvs_format &format = args.format;
    const uint8_t *page = kvs_head_page(format, (uint8_t *)args.tensors[0], nullptr, blockIdx.x, 0), *meta = page;
    if (format.key_scale.tensor) meta = kvs_head_page(format, (uint8_t *)args.tensors[1], nullptr, blockIdx.x, 1);
    int head_dim = format.shape.head_dim, tokens = format.shape.page_tokens;
    int64_t first = (int64_t)blockIdx.x * tokens;
    if (tokens > args.tokens - first) tokens = (int)(args.tokens - first);
    squares sums = {0.0, 0.0};
    for (int channel = (int)threadIdx.x; channel < head_dim; channel += THREADS) {
        kvs_channel_place at = kvs_find_channel(format, page, channel);
        int row = kvs_meta_row(&format, channel, at);
        float scale = 0.0f, zero = 0.0f;
        for (int t = 0; t < tokens; t++) {
            if (t % format.shape.key_group == 0) {
                scale = kvs_load_half(meta, format.key_scale, t / format.shape.key_group, row);
                zero = kvs_load_half(meta, format.key_zero, t / format.shape.key_group, row);
            }
            uint32_t code = kvs_load_key_code(format, page, t, channel, at);
            compare(args, (first + t) * head_dim + channel, kvs_affine_value((float)code, scale, zero), sums);
        }
    }
    store_sums(sums, args.sums + 2 * (int64_t)blockIdx.x);
}

KVS_KERNEL(THREADS, 4) change_values(const kvs_change_args args) {
    const kvs_format &format = args.format;
    const uint8_t *page = kvs_head_page(format, (uint8_t *)args.tensors[0], nullptr, blockIdx.x, 0), *meta = page;
    if (format.value_scale.tensor) meta = kvs_head_page(format, (uint8_t *)args.tensors[1], nullptr, blockIdx.x, 1);
    int head_dim = format.shape.head_dim, tokens = format.shape.page_tokens;
    int64_t first = (int64_t)blockIdx.x * tokens;
    if (tokens > args.tokens - first) tokens = (int)(args.tokens - first);
    squares sums = {0.0, 0.0};
    for (int i = (int)threadIdx.x; i < tokens * head_dim; i += THREADS) {
        int t = i / head_dim, channel = i - t * head_dim;
        int group = channel / format.shape.value_group;
        float scale = kvs_load_half(meta, format.value_scale, t, group);
        float zero = kvs_load_half(meta, format.value_zero, t, group);
        uint32_t code = kvs_load_bits(page, kvs_field_bit(&format.value, t, channel), format.value.width);
        compare(args, first * head_dim + i, kvs_affine_value((float)code, scale, zero), sums);
    }
    store_sums(sums, args.sums + 2 * (int64_t)blockIdx.x);
}

} // namespace

extern "C" int KVS_BACKEND(kvs_replay_widen)(const kvs_widen_args *args, void *stream) {
    dim3 grid((unsigned)((args->count + THREADS - 1) / THREADS));
    return args->count == 0 ? 0 : kvs_launch(widen, grid, dim3(THREADS), 0, stream, *args);
}

extern "C" int KVS_BACKEND(kvs_replay_change)(const kvs_change_args *args, void *stream) {
    int64_t pages = (args->tokens + args->format.shape.page_tokens - 1) / args->format.shape.page_tokens;
    dim3 grid((unsigned)pages);
    size_t shared = 2 * THREADS * sizeof(double);
    if (pages == 0) return 0;
    if (args->values) return kvs_launch(change_values, grid, dim3(THREADS), shared, stream, *args);
    return kvs_launch(change_keys, grid, dim3(THREADS), shared, stream, *args);
}
