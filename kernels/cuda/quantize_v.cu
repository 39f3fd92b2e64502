/* quantize_v.cu: values: extremes of a token over its channels, codes, packing. One pass, all in registers.
 *
 * A group of lanes holds four tokens, 8 consecutive channels a lane: with tokens 2q, 2q + 1, 2q + 8, 2q + 9 of a step
 * of 16 a lane has whole words of the fragment layout; in the other layouts, 8 codes are adjacent anyway. */
#include "kernels/cuda/encode.cuh"

namespace {

enum { THREADS = 128, TOKENS = 4 };

/* Lanes that share a token; with 96 channels, 4 of 16 have none. */
template <int head_dim> struct row {
    static const int lanes = head_dim == 64 ? 8 : head_dim == 256 ? 32 : 16;
    static const int chunks = head_dim / 8;
};

KVS_DEVICE int token_of(int step, int q, int i) {
    return 16 * step + 2 * q + (i & 1) + 8 * (i >> 1);
}

KVS_DEVICE kvs_affine_group fit_token(const kvs_affine_rule &rule, uint32_t extremes, float levels) {
    return kvs_affine_fit(rule, kvs_pair_low(extremes), -kvs_pair_high(extremes), levels);
}

/* Lane i % 4 of a group fits token i for all. */
template <int lanes>
KVS_DEVICE kvs_affine_group fit_tokens(const kvs_affine_rule &rule, const uint32_t (&extremes)[TOKENS],
                                       int lane_of_group, float levels, kvs_encoder (&encoders)[TOKENS]) {
    uint32_t pair = extremes[0];
#pragma unroll
    for (int i = 1; i < TOKENS; i++)
        if (lane_of_group % TOKENS == i) pair = extremes[i];
    kvs_affine_group mine = fit_token(rule, pair, levels);
    kvs_encoder own = kvs_encoder_of(mine, levels);
    int first = (int)(threadIdx.x % 32) / lanes * lanes;
#pragma unroll
    for (int i = 0; i < TOKENS; i++) {
        encoders[i].offset = kvs_shfl(own.offset, first + i);
        encoders[i].inverse = kvs_shfl(own.inverse, first + i);
        encoders[i].limit = kvs_shfl(own.limit, first + i);
        encoders[i].levels = levels;
    }
    return mine;
}

/* Scale and zero of a token stand together in every layout. */
template <bool fragment>
KVS_DEVICE void store_pair(const kvs_format &format, uint8_t *page, int token, kvs_affine_group group) {
    int pair = fragment ? token / 32 * 32 + token % 8 * 4 + token / 8 % 4 : token;
    kvs_st_global((uint32_t *)(page + format.value_scale.base / 8) + pair, kvs_pair_of(group.scale, group.zero));
}

/* Words of the fragment layout: bit 16(i&1) + width(i>>1) of token i, 8 of channel + 2, and 4 of channel + 4 at 2 bits.
 */
KVS_DEVICE void store_fragment(const kvs_format &format, uint8_t *page, int step, int q, int chunk,
                               const uint32_t (&codes)[TOKENS][8]) {
    uint32_t width = (uint32_t)format.value.width, words = (uint32_t)format.shape.head_dim / 32 * width / 2;
    uint8_t *base = page + format.value.base / 8 + (uint32_t)step * words * 128;
#pragma unroll
    for (int odd = 0; odd < 2; odd++) {
        uint32_t lane = (uint32_t)((2 * (chunk % 4) + odd) * 4 + q), first = (uint32_t)chunk / 4 * width / 2;
        uint32_t bytes[2][2]; /* [tile][tokens + 8]: rows g and g + 8 of two tokens */
#pragma unroll
        for (int tile = 0; tile < 2; tile++)
#pragma unroll
            for (int high = 0; high < 2; high++) {
                int c = odd + 4 * tile;
                bytes[tile][high] = kvs_four_bytes(codes[2 * high][c], codes[2 * high][c + 2], codes[2 * high + 1][c],
                                                   codes[2 * high + 1][c + 2]);
            }
        if (width == 2) {
            uint32_t word = bytes[0][0] | bytes[0][1] << 2 | bytes[1][0] << 4 | bytes[1][1] << 6;
            kvs_st_global((uint32_t *)(base + kvs_fragment_word(words, lane, first)), word);
        } else if (width == 4) {
#pragma unroll
            for (int tile = 0; tile < 2; tile++) {
                uint32_t word = bytes[tile][0] | bytes[tile][1] << 4;
                kvs_st_global((uint32_t *)(base + kvs_fragment_word(words, lane, first + (uint32_t)tile)), word);
            }
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++)
                kvs_st_global((uint32_t *)(base + kvs_fragment_word(words, lane, first + (uint32_t)i)),
                              bytes[i / 2][i % 2]);
        }
    }
}

/* 8 adjacent codes of one token. */
KVS_DEVICE void store_row(const kvs_format &format, uint8_t *page, int token, int chunk, const uint32_t (&codes)[8]) {
    uint32_t width = (uint32_t)format.value.width;
    uint8_t *at =
        page + (format.value.base + (uint32_t)token * format.value.token[0] + (uint32_t)chunk * 8 * width) / 8;
    uint32_t low = kvs_squeeze(kvs_four_bytes(codes[0], codes[1], codes[2], codes[3]), (int)width);
    uint32_t high = kvs_squeeze(kvs_four_bytes(codes[4], codes[5], codes[6], codes[7]), (int)width);
    if (width == 2)
        kvs_st_global((uint16_t *)at, (uint16_t)(low | high << 8));
    else if (width == 4)
        kvs_st_global((uint32_t *)at, low | high << 16);
    else
        kvs_st_global((kvs_u32x2 *)at, kvs_u32x2{low, high});
}

template <int head_dim, bool fragment> KVS_KERNEL(THREADS, 6) quantize_values(const kvs_quantize_args args) {
    const int lanes = row<head_dim>::lanes, chunks = row<head_dim>::chunks;
    int tokens = args.format.shape.page_tokens, in_group = (int)threadIdx.x % lanes;
    int page_shift = kvs_popcount((uint32_t)(tokens / TOKENS - 1)); /* tokens are a power of two */
    int64_t groups = args.pages << page_shift;
    int64_t group = (int64_t)blockIdx.x * (THREADS / lanes) + (int)threadIdx.x / lanes;
    bool active = group < groups && in_group < chunks;
    if (group >= groups) group = groups - 1;
    int64_t page = group >> page_shift;
    int part = (int)(group - (page << page_shift)), step = part / 4, q = part % 4;
    int chunk = in_group < chunks ? in_group : 0;
    kvs_u32x4 x[TOKENS];
#pragma unroll
    for (int i = 0; i < TOKENS; i++)
        x[i] = kvs_ld_global_nc(
            (const kvs_u32x4 *)(args.x + (page * tokens + token_of(step, q, i)) * head_dim + chunk * 8));
    uint32_t extremes[TOKENS]; /* minimum, and maximum negated */
#pragma unroll
    for (int i = 0; i < TOKENS; i++) {
        uint32_t low = kvs_pair_min(kvs_pair_min(x[i].x, x[i].y), kvs_pair_min(x[i].z, x[i].w));
        uint32_t high = kvs_pair_max(kvs_pair_max(x[i].x, x[i].y), kvs_pair_max(x[i].z, x[i].w));
        uint32_t firsts = kvs_byte_perm(low, high ^ 0x80008000u, 0x5410);
        uint32_t seconds = kvs_byte_perm(low, high ^ 0x80008000u, 0x7632);
        extremes[i] = kvs_pair_min(firsts, seconds);
#pragma unroll
        for (int mask = lanes / 2; mask > 0; mask /= 2)
            extremes[i] = kvs_pair_min(extremes[i], kvs_shfl_xor(extremes[i], mask));
    }
    float levels = kvs_affine_levels(args.format.shape.value_bits);
    kvs_encoder encoders[TOKENS];
    kvs_affine_group mine = fit_tokens<lanes>(args.rule, extremes, in_group, levels, encoders);
    if (!active) return;
    uint8_t *codes_page = kvs_head_page(args.format, args.tensors[0], args.blocks, page, 0);
    int meta_tensor = args.format.value_scale.tensor;
    uint8_t *meta_page = codes_page;
    if (meta_tensor) meta_page = kvs_head_page(args.format, args.tensors[1], args.blocks, page, 1);
    if (in_group < TOKENS) store_pair<fragment>(args.format, meta_page, token_of(step, q, in_group), mine);
    uint32_t codes[TOKENS][8];
#pragma unroll
    for (int i = 0; i < TOKENS; i++) {
        float values[8];
#pragma unroll
        for (int c = 0; c < 8; c++) values[c] = kvs_element(x[i], c);
        kvs_encode(args.rule.rounding, encoders[i], values, codes[i],
                   [&] { return fit_token(args.rule, extremes[i], levels); });
    }
    if (fragment) {
        store_fragment(args.format, codes_page, step, q, chunk, codes);
    } else {
#pragma unroll
        for (int i = 0; i < TOKENS; i++) store_row(args.format, codes_page, token_of(step, q, i), chunk, codes[i]);
    }
}

template <int head_dim> int launch(const kvs_quantize_args *args, kvs_stream stream) {
    int64_t per_block = THREADS / row<head_dim>::lanes;
    int64_t groups = args->pages * (args->format.shape.page_tokens / TOKENS);
    dim3 grid((unsigned)((groups + per_block - 1) / per_block));
    if (args->format.keys == KVS_KEYS_FRAGMENT)
        return kvs_launch((quantize_values<head_dim, true>), grid, dim3(THREADS), 0, stream, *args);
    return kvs_launch((quantize_values<head_dim, false>), grid, dim3(THREADS), 0, stream, *args);
}

} // namespace

extern "C" int KVS_BACKEND(kvs_quantize_pack_v)(const kvs_quantize_args *args, void *stream) {
    if (args->pages == 0) return 0;
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
