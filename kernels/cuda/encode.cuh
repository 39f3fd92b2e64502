/* encode.cuh: codes of kernels/affine.h without a division each, and what the quantizing kernels share.
 *
 * With y = x - minimum, y * (1 / divisor) differs from y / divisor by less than 2^-21 of it. Both round to the same
 * code unless they are that near to a half; there, the definition itself is evaluated. */
#ifndef KVS_KERNELS_CUDA_ENCODE_CUH
#define KVS_KERNELS_CUDA_ENCODE_CUH

#include "kernels/kernels.h"
#include "kernels/simt/simt.h"

#define KVS_ROUND_MAGIC 12582912.0f /* 1.5 * 2^23: adding it rounds to a whole number in the low bits */

/* What a group's codes are computed with. */
struct alignas(16) kvs_encoder {
    float minimum, inverse, divisor, levels;
};

KVS_DEVICE kvs_encoder kvs_encoder_of(kvs_affine_group group, float levels) {
    kvs_encoder encoder = {group.minimum, group.divisor > 0.0f ? 1.0f / group.divisor : 0.0f, group.divisor, levels};
    return encoder;
}

/* The codes of count values, in the low bits. */
template <int count>
KVS_DEVICE void kvs_encode(kvs_rounding rounding, kvs_encoder e, const float (&x)[count], uint32_t (&codes)[count]) {
    float worst = 0.0f;
#pragma unroll
    for (int i = 0; i < count; i++) {
        float steps = (x[i] - e.minimum) * e.inverse;
        steps = steps < e.levels ? steps : e.levels;
        float shifted = steps + KVS_ROUND_MAGIC;
        float off = fabsf(steps - (shifted - KVS_ROUND_MAGIC));
        worst = off > worst ? off : worst;
        codes[i] = kvs_bit_cast<uint32_t>(shifted) & 0xffu;
    }
    if (worst > 0.5f - 1e-6f * (e.levels + 1.0f)) {
        kvs_affine_group group = {0.0f, 0.0f, e.divisor, e.minimum};
#pragma unroll
        for (int i = 0; i < count; i++) codes[i] = (uint32_t)kvs_affine_code(rounding, group, x[i], e.levels);
    }
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
    int64_t block = page / format.shape.kv_heads;
    int head = (int)(page - block * format.shape.kv_heads);
    if (blocks != nullptr) block = kvs_ld_global_nc(blocks + block);
    return tensor + block * format.block_bytes[which] + (int64_t)head * format.head_bytes[which];
}

KVS_DEVICE void kvs_put_half(uint8_t *page, const kvs_layout_field &field, int token, int row, float value) {
    uint16_t half = (uint16_t)kvs_pair_of(value, 0.0f);
    kvs_st_global((uint16_t *)(page + kvs_field_bit(&field, token, row) / 8), half);
}

/* Where word `word` of a lane lies in a step of `words` words a lane (kernels/layouts/fragment.c). Bytes. */
KVS_DEVICE uint32_t kvs_fragment_word(uint32_t words, uint32_t lane, uint32_t word) {
    uint32_t vector = words % 4 == 0 ? 4 : words % 2 == 0 ? 2 : 1;
    return word / vector * vector * 128 + lane * vector * 4 + word % vector * 4;
}

#endif
