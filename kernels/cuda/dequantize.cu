/* dequantize.cu: pages back to binary16; and copy.
 *
 * A thread computes 8 consecutive channels of a token at a time and stores them with one access. Codes of keys come to
 * that order through shared memory (unpack_k.cuh), those of values lie in it. */
#include "kernels/cuda/head_dim.cuh"
#include "kernels/cuda/unpack_k.cuh"
#include "kernels/cuda/value_tokens.cuh"

namespace {

/* --- codes to values -----------------------------------------------------------------------------------------------
 */

#define CODE_MAGIC 8388608.0f /* 2^23: with a code in its lowest byte it is 2^23 + code */

/* code * scale + zero in two roundings. The product comes from (2^23 + code) * scale - 2^23 * scale, whose terms are
 * exact, so that one multiply-add rounds what the definition rounds. */
struct line {
    float scale, minus, zero;
};

KVS_DEVICE line line_of(float scale, float zero) {
    line l = {scale, -CODE_MAGIC * scale, zero};
    return l;
}

KVS_DEVICE float value_of(line l, uint32_t codes, int byte) {
    uint32_t magic = kvs_bit_cast<uint32_t>(CODE_MAGIC);
    return kvs_fma(kvs_bit_cast<float>(kvs_byte_perm(codes, magic, 0x7650u | (uint32_t)byte)), l.scale, l.minus) +
           l.zero;
}

/* --- keys ----------------------------------------------------------------------------------------------------------
 */

/* Scales and zeros of the page in shared memory, [groups][head_dim] pairs in the order of channels. */
KVS_DEVICE void gather_lines(const kvs_format &format, const uint8_t *page, const uint8_t *meta_page, uint32_t *pairs) {
    int row = (int)threadIdx.x, channel = row, head_dim = format.shape.head_dim;
    if (format.index == KVS_INDEX_CHANNELS) channel = kvs_ld_global_nc(page + format.index_byte + row);
    const uint8_t *scale = meta_page + kvs_field_bit(&format.key_scale, 0, row) / 8;
    uint32_t apart = (format.key_zero.base - format.key_scale.base) / 8;
    for (int group = 0; group < kvs_key_groups(&format.shape); group++) {
        uint32_t low = kvs_ld_global_nc((const uint16_t *)scale);
        uint32_t high = kvs_ld_global_nc((const uint16_t *)(scale + apart));
        kvs_st_shared(pairs + group * head_dim + channel, low | high << 16);
        scale += format.key_scale.token[0] / 8;
    }
}

KVS_DEVICE void load_lines(const uint32_t *pairs, line (&lines)[8]) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        kvs_u32x4 four = kvs_ld_shared((const kvs_u32x4 *)pairs + i);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            uint32_t pair = kvs_pair_at(four, j);
            lines[4 * i + j] = line_of(kvs_pair_low(pair), kvs_pair_high(pair));
        }
    }
}

/* Tokens r, r + 8, r + 16, r + 24 of a block at 8 channels. */
KVS_DEVICE void store_block(const kvs_keys &codes, const unsigned char *at, const line (&lines)[8], int live,
                            kvs_u32x4 *y) {
    kvs_u32x4 even = kvs_ld_shared((const kvs_u32x4 *)at), odd = kvs_ld_shared((const kvs_u32x4 *)(at + codes.stride));
#pragma unroll
    for (int k = 0; k < 4; k++) {
        uint32_t pairs[4];
#pragma unroll
        for (int p = 0; p < 4; p++)
            pairs[p] = kvs_pair_of(value_of(lines[2 * p], kvs_pair_at(even, p), k),
                                   value_of(lines[2 * p + 1], kvs_pair_at(odd, p), k));
        kvs_u32x4 eight = {pairs[0], pairs[1], pairs[2], pairs[3]};
        if (k < live) kvs_st_global(y + k * KVS_RESIDUES * (codes.head_dim / 8), eight);
    }
}

/* A block has one page. head_dim 0: read from the shape. */
template <int fixed_head_dim, bool fragment> KVS_KERNEL(256, 3) dequantize_keys(const kvs_dequantize_args args) {
    const kvs_format &format = args.format;
    int head_dim = fixed_head_dim > 0 ? fixed_head_dim : format.shape.head_dim, tokens = format.shape.page_tokens;
    kvs_keys codes = kvs_codes_in(KVS_SHARED, head_dim, tokens / KVS_RESIDUES);
    int blocks = (codes.live + 3) / 4, chunks = head_dim / 8;
    uint32_t *pairs = (uint32_t *)(codes.bytes + blocks * codes.block);
    const uint8_t *page = kvs_head_page(format, (uint8_t *)args.tensors[0], args.blocks, blockIdx.x, 0), *meta = page;
    if (format.key_scale.tensor) meta = kvs_head_page(format, (uint8_t *)args.tensors[1], args.blocks, blockIdx.x, 1);
    gather_lines(format, page, meta, pairs);
    if (fragment)
        kvs_read_fragment(format, codes, page);
    else
        kvs_read_rows(format, codes, page);
    kvs_syncthreads();
    int chunk = (int)threadIdx.x % chunks, r = (int)threadIdx.x / chunks;
    kvs_u32x4 *y = (kvs_u32x4 *)args.y + ((int64_t)blockIdx.x * tokens + r) * chunks + chunk;
    line lines[8];
    for (int block = 0; block < blocks; block++) {
        if (32 * block % format.shape.key_group == 0)
            load_lines(pairs + 32 * block / format.shape.key_group * head_dim + 8 * chunk, lines);
        store_block(codes, codes.bytes + kvs_key_cell(codes, r, chunk) + block * codes.block, lines,
                    codes.live - 4 * block, y + (int64_t)block * 32 * chunks);
    }
}

/* --- values --------------------------------------------------------------------------------------------------------
 */

/* Codes of 8 consecutive channels of four tokens, as bytes. */
template <bool fragment>
KVS_DEVICE void load_codes(const kvs_format &format, const uint8_t *page, kvs_value_tokens t, int chunk,
                           kvs_eight_codes (&codes)[KVS_VALUE_TOKENS]) {
    if (fragment) {
        kvs_load_value_fragment(format, page, t, chunk, codes);
    } else {
#pragma unroll
        for (int i = 0; i < KVS_VALUE_TOKENS; i++)
            codes[i] = kvs_load_value_row(format, page, kvs_value_token(t, i), chunk);
    }
}

template <int head_dim, bool fragment>
KVS_KERNEL(KVS_VALUE_THREADS, 6)
dequantize_values(const kvs_dequantize_args args) {
    const int lanes = kvs_value_row<head_dim>::lanes, chunks = kvs_value_row<head_dim>::chunks;
    const kvs_format &format = args.format;
    const kvs_page_shape &shape = format.shape;
    uint32_t parts = (uint32_t)shape.page_tokens / KVS_VALUE_TOKENS, groups = (uint32_t)args.pages * parts;
    uint32_t group = blockIdx.x * (KVS_VALUE_THREADS / lanes) + threadIdx.x / lanes;
    int chunk = (int)threadIdx.x % lanes;
    if (group >= groups || chunk >= chunks) return;
    kvs_value_tokens t = kvs_value_tokens_at(group, parts);
    const uint8_t *page = kvs_head_page(format, (uint8_t *)args.tensors[0], args.blocks, t.page, 0), *meta = page;
    if (format.value_scale.tensor) meta = kvs_head_page(format, (uint8_t *)args.tensors[1], args.blocks, t.page, 1);
    kvs_eight_codes codes[KVS_VALUE_TOKENS];
    load_codes<fragment>(format, page, t, chunk, codes);
#pragma unroll
    for (int i = 0; i < KVS_VALUE_TOKENS; i++) {
        int token = kvs_value_token(t, i), pair = kvs_value_pair<fragment>(shape, token, 8 * chunk / shape.value_group);
        uint32_t both = kvs_ld_global_nc((const uint32_t *)(meta + format.value_scale.base / 8) + pair);
        line l = line_of(kvs_pair_low(both), kvs_pair_high(both));
        uint32_t pairs[4];
#pragma unroll
        for (int p = 0; p < 4; p++) pairs[p] = kvs_pair_of(value_of(l, codes[i].even, p), value_of(l, codes[i].odd, p));
        kvs_u32x4 eight = {pairs[0], pairs[1], pairs[2], pairs[3]};
        kvs_st_global((kvs_u32x4 *)args.y + ((int64_t)t.page * shape.page_tokens + token) * chunks + chunk, eight);
    }
}

/* --- full precision ------------------------------------------------------------------------------------------------
 */

enum { THREADS = 128 };

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

template <bool fragment> int launch_keys(const kvs_dequantize_args *args, kvs_stream stream) {
    const kvs_page_shape &shape = args->format.shape;
    dim3 grid((unsigned)args->pages), block((unsigned)shape.head_dim);
    size_t bytes = (size_t)((shape.page_tokens + 31) / 32 * 16 * kvs_key_pitch(shape.head_dim)) +
                   4 * (size_t)(shape.head_dim * kvs_key_groups(&shape));
    if (shape.head_dim == 128) return kvs_launch((dequantize_keys<128, fragment>), grid, block, bytes, stream, *args);
    return kvs_launch((dequantize_keys<0, fragment>), grid, block, bytes, stream, *args);
}

template <int head_dim> int launch_values(const kvs_dequantize_args *args, kvs_stream stream) {
    dim3 grid(kvs_value_blocks<head_dim>(args->pages, args->format.shape.page_tokens)), block(KVS_VALUE_THREADS);
    if (args->format.keys == KVS_KEYS_FRAGMENT)
        return kvs_launch((dequantize_values<head_dim, true>), grid, block, 0, stream, *args);
    return kvs_launch((dequantize_values<head_dim, false>), grid, block, 0, stream, *args);
}

} // namespace

extern "C" int KVS_BACKEND(kvs_dequantize)(const kvs_dequantize_args *args, void *stream) {
    dim3 grid((unsigned)args->pages);
    if (args->pages == 0) return 0;
    if (args->format.keys == KVS_KEYS_FULL) return kvs_launch(gather_full, grid, dim3(THREADS), 0, stream, *args);
    if (!args->values)
        return args->format.keys == KVS_KEYS_FRAGMENT ? launch_keys<true>(args, stream)
                                                      : launch_keys<false>(args, stream);
    return kvs_with_head_dim(args->format.shape.head_dim,
                             [=](auto head_dim) { return launch_values<decltype(head_dim)::value>(args, stream); });
}

extern "C" int KVS_BACKEND(kvs_copy)(const void *source, void *destination, int64_t bytes, void *stream) {
    int64_t per_block = (int64_t)COPY_THREADS * COPY_VECTORS * 16;
    dim3 grid((unsigned)((bytes + per_block - 1) / per_block));
    if (bytes == 0) return 0;
    return kvs_launch(copy, grid, dim3(COPY_THREADS), 0, stream, (const kvs_u32x4 *)source, (kvs_u32x4 *)destination,
                      bytes / 16);
}
