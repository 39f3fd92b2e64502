/* encode.cuh: codes of kernels/affine.h without a division each, and what the quantizing kernels share.
 *
 * x / divisor - minimum / divisor comes as one multiply-add. Its distance from what the definition rounds is below
 * `slack` of kvs_encoder_of, so both give the same code unless they are that near to a half; there, the definition
 * itself is evaluated. */
#ifndef KVS_KERNELS_CUDA_ENCODE_CUH
#define KVS_KERNELS_CUDA_ENCODE_CUH

#include "kernels/kernels.h"
#include "kernels/simt/simt.h"

#define KVS_ROUND_MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds to a whole number in the low bits */

/* What a group's codes are computed with. `limit`: how far from a whole number a result may be trusted. */
struct alignas(16) kvs_encoder {
    float offset, inverse, limit, levels;
};

KVS_DEVICE kvs_encoder kvs_encoder_of(kvs_affine_group group, float levels) {
    float inverse = group.divisor > 0.0f ? kvs_reciprocal(group.divisor) : 0.0f, offset = -group.minimum * inverse;
    float slack = 1e-6f * (levels + 1.0f) + 1e-6f * fabsf(offset);
    kvs_encoder encoder = {offset, inverse, 0.5f - slack, levels};
    return encoder;
}

/* The codes of count values, each in the low byte of a word; what is above it means nothing. exact() gives the group.
 */
template <int count, class Exact>
KVS_DEVICE void kvs_encode(kvs_rounding rounding, kvs_encoder e, const float (&x)[count], uint32_t (&codes)[count],
                           Exact exact) {
    float worst = 0.0f;
#pragma unroll
    for (int i = 0; i < count; i++) {
        float steps = fminf(kvs_fma(x[i], e.inverse, e.offset), e.levels);
        float shifted = steps + KVS_ROUND_MAGIC;
        worst = fmaxf(worst, fabsf(steps - (shifted - KVS_ROUND_MAGIC)));
        codes[i] = kvs_bit_cast<uint32_t>(shifted);
    }
    if (!(worst <= e.limit)) {
        kvs_affine_group group = exact();
#pragma unroll
        for (int i = 0; i < count; i++) codes[i] = (uint32_t)kvs_affine_code(rounding, group, x[i], e.levels);
    }
}

/* The low bytes of two words, and of four. */
KVS_DEVICE uint32_t kvs_two_bytes(uint32_t a, uint32_t b) {
    return kvs_byte_perm(a, b, 0x0040);
}

KVS_DEVICE uint32_t kvs_four_bytes(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    return kvs_byte_perm(kvs_two_bytes(a, b), kvs_two_bytes(c, d), 0x5410);
}

/* Channel c of 8 consecutive ones. */
KVS_DEVICE uint32_t kvs_pair_at(kvs_u32x4 v, int pair) {
    return pair == 0 ? v.x : pair == 1 ? v.y : pair == 2 ? v.z : v.w;
}

KVS_DEVICE float kvs_element(kvs_u32x4 v, int c) {
    uint32_t pair = kvs_pair_at(v, c / 2);
    return c % 2 ? kvs_pair_high(pair) : kvs_pair_low(pair);
}

KVS_DEVICE uint8_t *kvs_head_page(const kvs_format &format, uint8_t *tensor, const int32_t *blocks, int64_t page,
                                  int which) {
    uint32_t heads = (uint32_t)format.shape.kv_heads;
    int64_t block = (uint32_t)page / heads;
    int head = (int)((uint32_t)page - (uint32_t)block * heads);
    if (blocks != nullptr) block = kvs_ld_global_nc(blocks + block);
    return tensor + block * format.block_bytes[which] + (int64_t)head * format.head_bytes[which];
}

KVS_DEVICE void kvs_put_half(uint8_t *page, const kvs_layout_field &field, int token, int row, float value) {
    uint16_t half = (uint16_t)kvs_pair_of(value, 0.0f);
    kvs_st_global((uint16_t *)(page + kvs_field_bit(&field, token, row) / 8), half);
}

/* Where word `word` of a lane lies in a step of `words` words a lane (kernels/layouts/fragment.c). Bytes. */
KVS_DEVICE uint32_t kvs_fragment_word(uint32_t words, uint32_t lane, uint32_t word) {
    uint32_t shift = words % 4 == 0 ? 2 : words % 2 == 0 ? 1 : 0; /* of words that stand together */
    return (word >> shift << shift) * 128 + (lane << shift) * 4 + (word & ((1u << shift) - 1u)) * 4;
}

/* Four codes of one byte each, squeezed together. */
KVS_DEVICE uint32_t kvs_squeeze(uint32_t bytes, int width) {
    if (width == 2) return bytes * 0x01041040u >> 24;
    if (width == 8) return bytes;
    bytes = (bytes | bytes >> 4) & 0x00ff00ffu;
    return (bytes | bytes >> 8) & 0xffffu;
}

#endif
