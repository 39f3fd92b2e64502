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

/* The lanes that share a group of channels; `first` is the first of them. Lane i % 4 of them fits token i for all. */
KVS_DEVICE kvs_affine_group fit_tokens(const kvs_affine_rule &rule, const uint32_t (&extremes)[TOKENS], int first,
                                       float levels, bool wide, kvs_encoder (&encoders)[TOKENS]) {
    uint32_t pair = extremes[0];
#pragma unroll
    for (int i = 1; i < TOKENS; i++)
        if ((int)threadIdx.x % TOKENS == i) pair = extremes[i];
    kvs_affine_group mine = fit_token(rule, pair, levels);
    kvs_encoder own = kvs_encoder_of(mine, -kvs_pair_high(pair), levels, wide);
#pragma unroll
    for (int i = 0; i < TOKENS; i++) {
        encoders[i].offset = kvs_shfl(own.offset, first + i);
        encoders[i].inverse = kvs_shfl(own.inverse, first + i);
        encoders[i].window = kvs_shfl(own.window, first + i);
    }
    return mine;
}

/* Scale and zero of a token stand together in every layout, those of a group of channels after those of the one before.
 */
template <bool fragment>
KVS_DEVICE void store_pair(const kvs_format &format, uint8_t *page, int token, int group_of_channels,
                           kvs_affine_group group) {
    int pair = fragment ? token / 32 * 32 + token % 8 * 4 + token / 8 % 4 : token;
    pair += group_of_channels * format.shape.page_tokens;
    kvs_st_global((uint32_t *)(page + format.value_scale.base / 8) + pair, kvs_pair_of(group.scale, group.zero));
}

/* Codes of 8 consecutive channels of a token, as bytes: even channels, odd channels. */
struct eight_codes {
    uint32_t even, odd;
};

/* Words of the fragment layout: bit 16(i&1) + width(i>>1) of token i, 8 of channel + 2, and 4 of channel + 4 at 2 bits.
 */
KVS_DEVICE void store_fragment(const kvs_format &format, uint8_t *page, int step, int q, int chunk,
                               const eight_codes (&codes)[TOKENS]) {
    uint32_t width = (uint32_t)format.value.width, words = (uint32_t)format.shape.head_dim / 32 * width / 2;
    uint8_t *base = page + format.value.base / 8 + (uint32_t)step * words * 128;
#pragma unroll
    for (int odd = 0; odd < 2; odd++) {
        uint32_t lane = (uint32_t)((2 * (chunk % 4) + odd) * 4 + q), first = (uint32_t)chunk / 4 * width / 2;
        uint32_t token[TOKENS];
#pragma unroll
        for (int i = 0; i < TOKENS; i++) token[i] = odd ? codes[i].odd : codes[i].even;
        if (width == 8) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                uint32_t word = kvs_byte_perm(token[i % 2 * 2], token[i % 2 * 2 + 1], i / 2 ? 0x7632 : 0x5410);
                kvs_st_global((uint32_t *)(base + kvs_fragment_word(words, lane, first + (uint32_t)i)), word);
            }
            continue;
        }
        uint32_t low = token[0] | token[2] << width, high = token[1] | token[3] << width;
        uint32_t tiles[2] = {kvs_byte_perm(low, high, 0x5410), kvs_byte_perm(low, high, 0x7632)};
        if (width == 2) {
            kvs_st_global((uint32_t *)(base + kvs_fragment_word(words, lane, first)), tiles[0] | tiles[1] << 4);
        } else {
#pragma unroll
            for (int i = 0; i < 2; i++)
                kvs_st_global((uint32_t *)(base + kvs_fragment_word(words, lane, first + (uint32_t)i)), tiles[i]);
        }
    }
}

/* 8 adjacent codes of one token. */
KVS_DEVICE void store_row(const kvs_format &format, uint8_t *page, int token, int chunk, eight_codes codes) {
    uint32_t width = (uint32_t)format.value.width;
    uint8_t *at =
        page + (format.value.base + (uint32_t)token * format.value.token[0] + (uint32_t)chunk * 8 * width) / 8;
    if (width == 8) {
        kvs_u32x2 eight = {kvs_byte_perm(codes.even, codes.odd, 0x5140), kvs_byte_perm(codes.even, codes.odd, 0x7362)};
        kvs_st_global((kvs_u32x2 *)at, eight);
        return;
    }
    uint32_t pairs = codes.even | codes.odd << width;
    if (width == 4) {
        kvs_st_global((uint32_t *)at, pairs);
    } else {
        pairs = (pairs | pairs >> 4) & 0x00ff00ffu;
        kvs_st_global((uint16_t *)at, (uint16_t)(pairs | pairs >> 8));
    }
}

/* Minimum, and maximum negated, of a token over the lanes that share its group. */
template <int lanes> KVS_DEVICE uint32_t extremes_of(kvs_u32x4 x, int sharing) {
    uint32_t low = kvs_pair_min(kvs_pair_min(x.x, x.y), kvs_pair_min(x.z, x.w));
    uint32_t high = kvs_pair_max(kvs_pair_max(x.x, x.y), kvs_pair_max(x.z, x.w));
    uint32_t firsts = kvs_byte_perm(low, high ^ 0x80008000u, 0x5410);
    uint32_t seconds = kvs_byte_perm(low, high ^ 0x80008000u, 0x7632);
    uint32_t extremes = kvs_pair_min(firsts, seconds);
#pragma unroll
    for (int mask = lanes / 2; mask > 0; mask /= 2)
        if (mask < sharing) extremes = kvs_pair_min(extremes, kvs_shfl_xor(extremes, mask));
    return extremes;
}

/* Four tokens of a page: part 4 * step + q of it. */
struct tokens_of_group {
    uint32_t page;
    int step, q;
};

KVS_DEVICE tokens_of_group tokens_at(uint32_t group, uint32_t parts) {
    tokens_of_group t;
    t.page = (parts & (parts - 1)) == 0 ? group >> kvs_popcount(parts - 1) : group / parts;
    int part = (int)(group - t.page * parts);
    t.step = part / 4, t.q = part % 4;
    return t;
}

template <int head_dim, bool fragment> KVS_KERNEL(THREADS, 6) quantize_values(const kvs_quantize_args args) {
    const int lanes = row<head_dim>::lanes, chunks = row<head_dim>::chunks;
    const kvs_page_shape &shape = args.format.shape;
    int tokens = shape.page_tokens, in_row = (int)threadIdx.x % lanes;
    int sharing = shape.value_group == head_dim ? lanes : shape.value_group / 8;
    uint32_t parts = (uint32_t)tokens / TOKENS, groups = (uint32_t)args.pages * parts;
    uint32_t group = blockIdx.x * (THREADS / lanes) + threadIdx.x / lanes;
    bool active = group < groups && in_row < chunks, wide = shape.value_bits == 8;
    tokens_of_group t = tokens_at(group < groups ? group : groups - 1, parts);
    int chunk = in_row < chunks ? in_row : 0;
    kvs_u32x4 x[TOKENS];
#pragma unroll
    for (int i = 0; i < TOKENS; i++)
        x[i] = kvs_ld_global_nc(
            (const kvs_u32x4 *)(args.x + ((int64_t)t.page * tokens + token_of(t.step, t.q, i)) * head_dim + chunk * 8));
    uint32_t extremes[TOKENS];
#pragma unroll
    for (int i = 0; i < TOKENS; i++) extremes[i] = extremes_of<lanes>(x[i], sharing);
    float levels = kvs_affine_levels(shape.value_bits);
    kvs_encoder encoders[TOKENS];
    kvs_affine_group mine =
        fit_tokens(args.rule, extremes, (int)threadIdx.x % 32 / sharing * sharing, levels, wide, encoders);
    if (!active) return;
    uint8_t *codes_page = kvs_head_page(args.format, args.tensors[0], args.blocks, t.page, 0), *meta_page = codes_page;
    if (args.format.value_scale.tensor) meta_page = kvs_head_page(args.format, args.tensors[1], args.blocks, t.page, 1);
    if (in_row % sharing < TOKENS)
        store_pair<fragment>(args.format, meta_page, token_of(t.step, t.q, in_row % TOKENS), in_row / sharing, mine);
    eight_codes codes[TOKENS];
#pragma unroll
    for (int i = 0; i < TOKENS; i++) {
        auto exact = [&] { return kvs_exact{fit_token(args.rule, extremes[i], levels), levels}; };
        float even[4], odd[4];
#pragma unroll
        for (int c = 0; c < 4; c++) even[c] = kvs_element(x[i], 2 * c), odd[c] = kvs_element(x[i], 2 * c + 1);
        codes[i].even = kvs_encode(args.rule.rounding, encoders[i], wide, even, exact);
        codes[i].odd = kvs_encode(args.rule.rounding, encoders[i], wide, odd, exact);
    }
    if (fragment) {
        store_fragment(args.format, codes_page, t.step, t.q, chunk, codes);
    } else {
#pragma unroll
        for (int i = 0; i < TOKENS; i++) store_row(args.format, codes_page, token_of(t.step, t.q, i), chunk, codes[i]);
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
