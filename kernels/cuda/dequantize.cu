/* dequantize.cu: pages back to binary16, through the layout's own account of where everything lies. */
#include "kernels/cuda/encode.cuh"
#include "kernels/cuda/unpack.cuh"

namespace {

enum { THREADS = 128 };

/* A block has one page; thread by thread the channels of some tokens. */
KVS_KERNEL(THREADS, 4) dequantize_keys(const kvs_dequantize_args args) {
    const kvs_format &format = args.format;
    const uint8_t *page = kvs_head_page(format, (uint8_t *)args.tensors[0], args.blocks, blockIdx.x, 0);
    const uint8_t *meta = page;
    if (format.key_scale.tensor) meta = kvs_head_page(format, (uint8_t *)args.tensors[1], args.blocks, blockIdx.x, 1);
    int head_dim = format.shape.head_dim, tokens = format.shape.page_tokens;
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
            float value = kvs_affine_value((float)code, scale, zero);
            kvs_st_global(args.y + ((int64_t)blockIdx.x * tokens + t) * head_dim + channel, kvs_float_to_half(value));
        }
    }
}

KVS_KERNEL(THREADS, 4) dequantize_values(const kvs_dequantize_args args) {
    const kvs_format &format = args.format;
    const uint8_t *page = kvs_head_page(format, (uint8_t *)args.tensors[0], args.blocks, blockIdx.x, 0);
    const uint8_t *meta = page;
    if (format.value_scale.tensor) meta = kvs_head_page(format, (uint8_t *)args.tensors[1], args.blocks, blockIdx.x, 1);
    int head_dim = format.shape.head_dim, tokens = format.shape.page_tokens;
    for (int t = 0; t < tokens; t++) {
        for (int channel = (int)threadIdx.x; channel < head_dim; channel += THREADS) {
            int group = channel / format.shape.value_group;
            float scale = kvs_load_half(meta, format.value_scale, t, group);
            float zero = kvs_load_half(meta, format.value_zero, t, group);
            uint32_t code = kvs_load_bits(page, kvs_field_bit(&format.value, t, channel), format.value.width);
            float value = kvs_affine_value((float)code, scale, zero);
            kvs_st_global(args.y + ((int64_t)blockIdx.x * tokens + t) * head_dim + channel, kvs_float_to_half(value));
        }
    }
}

/* A full-precision page is only copied. */
KVS_KERNEL(THREADS, 4) gather_full(const kvs_dequantize_args args) {
    const kvs_format &format = args.format;
    const uint8_t *page = kvs_head_page(format, (uint8_t *)args.tensors[0], args.blocks, blockIdx.x, 0);
    const kvs_layout_field &field = args.values ? format.value : format.key;
    int chunks = format.shape.head_dim / 8;
    for (int i = (int)threadIdx.x; i < format.shape.page_tokens * chunks; i += THREADS) {
        int token = i / chunks, chunk = i - token * chunks;
        const uint8_t *from = page + kvs_field_bit(&field, token, 8 * chunk) / 8;
        kvs_u32x4 eight = kvs_ld_global_nc((const kvs_u32x4 *)from);
        kvs_st_global((kvs_u32x4 *)args.y + (int64_t)blockIdx.x * format.shape.page_tokens * chunks + i, eight);
    }
}

enum { COPY_THREADS = 512, COPY_VECTORS = 4 };

KVS_KERNEL(COPY_THREADS, 2) copy(const kvs_u32x4 *source, kvs_u32x4 *destination, int64_t vectors) {
    int64_t first = (int64_t)blockIdx.x * COPY_THREADS * COPY_VECTORS + threadIdx.x;
    kvs_u32x4 held[COPY_VECTORS];
#pragma unroll
    for (int i = 0; i < COPY_VECTORS; i++)
        if (first + i * COPY_THREADS < vectors) held[i] = kvs_ld_global_nc(source + first + i * COPY_THREADS);
#pragma unroll
    for (int i = 0; i < COPY_VECTORS; i++)
        if (first + i * COPY_THREADS < vectors) kvs_st_global(destination + first + i * COPY_THREADS, held[i]);
}

} // namespace

extern "C" int KVS_BACKEND(kvs_dequantize)(const kvs_dequantize_args *args, void *stream) {
    dim3 grid((unsigned)args->pages), block(THREADS);
    if (args->pages == 0) return 0;
    if (args->format.keys == KVS_KEYS_FULL) return kvs_launch(gather_full, grid, block, 0, stream, *args);
    if (args->values) return kvs_launch(dequantize_values, grid, block, 0, stream, *args);
    return kvs_launch(dequantize_keys, grid, block, 0, stream, *args);
}

extern "C" int KVS_BACKEND(kvs_copy)(const void *source, void *destination, int64_t bytes, void *stream) {
    int64_t per_block = (int64_t)COPY_THREADS * COPY_VECTORS * 16;
    dim3 grid((unsigned)((bytes + per_block - 1) / per_block));
    if (bytes == 0) return 0;
    return kvs_launch(copy, grid, dim3(COPY_THREADS), 0, stream, (const kvs_u32x4 *)source, (kvs_u32x4 *)destination,
                      bytes / 16);
}
