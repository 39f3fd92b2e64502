/* quantize_v.cu: values: extremes of a token over its channels, codes, packing. One pass, all in registers. */
#include "kernels/cuda/head_dim.cuh"
#include "kernels/cuda/value_tokens.cuh"

namespace {

enum { TOKENS = KVS_VALUE_TOKENS };

/* Minimum, and maximum negated, of a token's 8 channels. */
KVS_DEVICE uint32_t extremes_of(kvs_u32x4 x) {
    uint32_t low = kvs_pair_min(kvs_pair_min(x.x, x.y), kvs_pair_min(x.z, x.w));
    uint32_t high = kvs_pair_max(kvs_pair_max(x.x, x.y), kvs_pair_max(x.z, x.w)) ^ 0x80008000u;
    return kvs_pair_min(kvs_byte_perm(low, high, 0x5410), kvs_byte_perm(low, high, 0x7632));
}

/* Lane i % 4 gets the extremes of token i over the lanes that share it. */
template <int lanes> KVS_DEVICE uint32_t gather_extremes(const kvs_u32x4 (&x)[TOKENS], int sharing) {
    uint32_t mine[TOKENS];
    bool upper = threadIdx.x & 2, odd = threadIdx.x & 1;
#pragma unroll
    for (int i = 0; i < TOKENS; i++) mine[i] = extremes_of(x[i]);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t kept = upper ? mine[i + 2] : mine[i], sent = upper ? mine[i] : mine[i + 2];
        mine[i] = kvs_pair_min(kept, kvs_shfl_xor(sent, 2));
    }
    uint32_t kept = odd ? mine[1] : mine[0], sent = odd ? mine[0] : mine[1];
    uint32_t extremes = kvs_pair_min(kept, kvs_shfl_xor(sent, 1));
#pragma unroll
    for (int mask = 4; mask < lanes; mask *= 2)
        if (mask < sharing) extremes = kvs_pair_min(extremes, kvs_shfl_xor(extremes, mask));
    return extremes;
}

KVS_DEVICE kvs_affine_group fit_token(const kvs_affine_rule &rule, uint32_t extremes, float levels) {
    return kvs_affine_fit(rule, kvs_pair_low(extremes), -kvs_pair_high(extremes), levels);
}

/* Codes of 8 channels of a token; extremes: of that token. */
template <bool surely>
KVS_DEVICE kvs_eight_codes encode_token(const kvs_affine_rule &rule, kvs_encoder encoder, bool wide, kvs_u32x4 x,
                                        uint32_t extremes, float levels, uint32_t &fractions) {
    kvs_eight_codes codes;
    float even[4], odd[4];
#pragma unroll
    for (int c = 0; c < 4; c++) even[c] = kvs_element(x, 2 * c), odd[c] = kvs_element(x, 2 * c + 1);
    if (surely) {
        auto exact = [&] { return kvs_exact{fit_token(rule, extremes, levels), levels}; };
        codes.even = kvs_encode_surely(rule.rounding, encoder, wide, even, exact);
        codes.odd = kvs_encode_surely(rule.rounding, encoder, wide, odd, exact);
    } else {
        codes.even = kvs_encode(encoder, wide, even, fractions);
        codes.odd = kvs_encode(encoder, wide, odd, fractions);
    }
    return codes;
}

/* plain: one group a token, at most 4 bits. */
template <int head_dim, bool fragment, bool plain>
KVS_KERNEL(KVS_VALUE_THREADS, 8)
quantize_values(const kvs_quantize_args args) {
    const int lanes = kvs_value_row<head_dim>::lanes, chunks = kvs_value_row<head_dim>::chunks;
    const kvs_format &format = args.format;
    const kvs_page_shape &shape = format.shape;
    int tokens = shape.page_tokens, in_row = (int)threadIdx.x % lanes;
    int sharing = plain || shape.value_group == head_dim ? lanes : shape.value_group / 8;
    bool wide = !plain && shape.value_bits == 8;
    uint32_t parts = (uint32_t)tokens / TOKENS, groups = (uint32_t)args.pages * parts;
    uint32_t group = blockIdx.x * (KVS_VALUE_THREADS / lanes) + threadIdx.x / lanes;
    bool active = group < groups && in_row < chunks;
    kvs_value_tokens t = kvs_value_tokens_at(group < groups ? group : groups - 1, parts);
    int chunk = in_row < chunks ? in_row : 0;
    kvs_u32x4 x[TOKENS];
#pragma unroll
    for (int i = 0; i < TOKENS; i++) {
        int64_t token = (int64_t)t.page * tokens + kvs_value_token(t, i);
        x[i] = kvs_ld_global_nc((const kvs_u32x4 *)(args.x + token * head_dim + chunk * 8));
    }
    uint32_t extremes = gather_extremes<lanes>(x, sharing);
    float levels = kvs_affine_levels(shape.value_bits);
    kvs_affine_group mine = fit_token(args.rule, extremes, levels);
    kvs_encoder own = kvs_encoder_of(mine, -kvs_pair_high(extremes), levels, wide), encoders[TOKENS];
    uint32_t of_token[TOKENS];
    int first = (int)threadIdx.x % 32 & ~(sharing - 1); /* sharing is a power of two */
#pragma unroll
    for (int i = 0; i < TOKENS; i++) {
        encoders[i].offset = kvs_shfl(own.offset, first + i);
        encoders[i].inverse = kvs_shfl(own.inverse, first + i);
        encoders[i].window = kvs_shfl(own.window, first + i);
        of_token[i] = kvs_shfl(extremes, first + i);
    }
    if (!active) return;
    uint8_t *page = kvs_head_page(format, args.tensors[0], args.blocks, t.page, 0), *meta_page = page;
    if (format.value_scale.tensor) meta_page = kvs_head_page(format, args.tensors[1], args.blocks, t.page, 1);
    if ((in_row & (sharing - 1)) < TOKENS) {
        int group_of_channels = plain ? 0 : 8 * in_row / shape.value_group;
        int pair = kvs_value_pair<fragment>(shape, kvs_value_token(t, in_row % TOKENS), group_of_channels);
        kvs_st_global((uint32_t *)(meta_page + format.value_scale.base / 8) + pair, kvs_pair_of(mine.scale, mine.zero));
    }
    kvs_eight_codes codes[TOKENS];
    bool doubtful = false;
#pragma unroll
    for (int i = 0; i < TOKENS; i++) {
        uint32_t fractions = KVS_NO_FRACTIONS;
        codes[i] = encode_token<false>(args.rule, encoders[i], wide, x[i], of_token[i], levels, fractions);
        doubtful = doubtful || kvs_doubtful(encoders[i], fractions);
    }
    if (doubtful) {
        uint32_t none = 0;
#pragma unroll
        for (int i = 0; i < TOKENS; i++)
            codes[i] = encode_token<true>(args.rule, encoders[i], wide, x[i], of_token[i], levels, none);
    }
    if (fragment) {
        kvs_store_value_fragment(format, page, t, chunk, codes);
    } else {
#pragma unroll
        for (int i = 0; i < TOKENS; i++) kvs_store_value_row(format, page, kvs_value_token(t, i), chunk, codes[i]);
    }
}

template <int head_dim, bool fragment> int launch_layout(const kvs_quantize_args *args, kvs_stream stream) {
    const kvs_page_shape &shape = args->format.shape;
    dim3 grid(kvs_value_blocks<head_dim>(args->pages, shape.page_tokens)), block(KVS_VALUE_THREADS);
    if (shape.value_group == head_dim && shape.value_bits < 8)
        return kvs_launch((quantize_values<head_dim, fragment, true>), grid, block, 0, stream, *args);
    return kvs_launch((quantize_values<head_dim, fragment, false>), grid, block, 0, stream, *args);
}

template <int head_dim> int launch(const kvs_quantize_args *args, kvs_stream stream) {
    return args->format.keys == KVS_KEYS_FRAGMENT ? launch_layout<head_dim, true>(args, stream)
                                                  : launch_layout<head_dim, false>(args, stream);
}

} // namespace

extern "C" int KVS_BACKEND(kvs_quantize_pack_v)(const kvs_quantize_args *args, void *stream) {
    if (args->pages == 0) return 0;
    return kvs_with_head_dim(args->format.shape.head_dim,
                             [=](auto head_dim) { return launch<decltype(head_dim)::value>(args, stream); });
}
