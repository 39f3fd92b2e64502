/* encode.cuh: codes of kernels/affine.h without a division each, and what the quantizing kernels share.
 *
 * (x - minimum) / divisor + 1/2 comes as one multiply-add, x * inverse + offset, in fixed point: offset holds 2^7 (2^8
 * for codes of 8 bits), so that the result lies in [2^7, 2^8) and its bits are the code in byte 2 and 16 bits of
 * fraction below (for 8 bits, one place lower). Offset also holds half a `window`, more than the result can be away
 * from what the definition rounds: the code is right unless the fraction is below the window; there the definition
 * itself is evaluated. The window covers, in units of 2^-16 of a code: 2 * (1/2 or 1: the result's last place, 1/2 or
 * 1: offset's, 1/2: the definition's sum with 1/2) 2 * 2^16 * 2^-23 (|offset| + 2 levels + 2): the reciprocal, and the
 * definition's difference and quotient. */
#ifndef KVS_KERNELS_CUDA_ENCODE_CUH
#define KVS_KERNELS_CUDA_ENCODE_CUH

#include "kernels/kernels.h"
#include "kernels/simt/simt.h"

/* What a group's codes are computed with. window 2^16: always by the definition. */
struct kvs_encoder {
    float offset, inverse;
    uint32_t window;
};

struct kvs_exact {
    kvs_affine_group group;
    float levels;
};

/* No clamp is needed where the largest element's steps stay below levels + 1/4: always, but for a stored scale that is
 * a subnormal binary16, which may be half of what it stands for. wide: some codes of the format have 8 bits. */
KVS_DEVICE kvs_encoder kvs_encoder_of(kvs_affine_group group, float maximum, float levels, bool wide) {
    float inverse = group.divisor > 0.0f ? kvs_reciprocal(group.divisor) : 0.0f, offset = -group.minimum * inverse;
    float half = (wide ? 4.0f : 1.25f) + 0.01f * (fabsf(offset) + 2.0f * levels + 2.0f);
    bool fits = half < 16384.0f && kvs_fma(maximum, inverse, offset) < levels + 0.25f;
    float rounded = half + 0.5f + 8388608.0f; /* 2^23: a whole number, at least half, in the low bits */
    kvs_encoder encoder;
    encoder.offset = offset + kvs_fma(rounded - 8388608.0f, 1.0f / 65536.0f, wide ? 256.5f : 128.5f);
    encoder.inverse = inverse;
    encoder.window = fits ? 2 * (kvs_bit_cast<uint32_t>(rounded) & 0x7fffu) : 65536;
    return encoder;
}

/* Codes of four elements as the bytes of a word; fractions gets the lower of itself and theirs. wide as above. */
KVS_DEVICE uint32_t kvs_encode(kvs_encoder e, bool wide, const float (&x)[4], uint32_t &fractions) {
    uint32_t fixed[4];
#pragma unroll
    for (int i = 0; i < 4; i++) fixed[i] = kvs_bit_cast<uint32_t>(kvs_fma(x[i], e.inverse, e.offset));
    if (wide) {
#pragma unroll
        for (int i = 0; i < 4; i++) fixed[i] *= 2;
    }
    fractions = kvs_pair_min_unsigned(fractions, kvs_byte_perm(fixed[0], fixed[1], 0x5410));
    fractions = kvs_pair_min_unsigned(fractions, kvs_byte_perm(fixed[2], fixed[3], 0x5410));
    return kvs_byte_perm(kvs_byte_perm(fixed[0], fixed[1], 0x0062), kvs_byte_perm(fixed[2], fixed[3], 0x0062), 0x5410);
}

/* Whether fractions leave a code in doubt; those begin as KVS_NO_FRACTIONS. */
#define KVS_NO_FRACTIONS 0xffffffffu

KVS_DEVICE bool kvs_doubtful(kvs_encoder e, uint32_t fractions) {
    return (fractions & 0xffffu) < e.window || fractions >> 16 < e.window;
}

/* The same by the definition where there is doubt. exact() gives the group and its levels. */
template <class Exact>
KVS_DEVICE uint32_t kvs_encode_surely(kvs_rounding rounding, kvs_encoder e, bool wide, const float (&x)[4],
                                      Exact exact) {
    uint32_t fractions = KVS_NO_FRACTIONS, codes = kvs_encode(e, wide, x, fractions);
    if (kvs_doubtful(e, fractions)) {
        kvs_exact of = exact();
        codes = 0;
#pragma unroll
        for (int i = 0; i < 4; i++) codes |= (uint32_t)kvs_affine_code(rounding, of.group, x[i], of.levels) << 8 * i;
    }
    return codes;
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
    bool is_power = (heads & (heads - 1)) == 0;
    int64_t block = is_power ? (uint32_t)page >> kvs_popcount(heads - 1) : (uint32_t)page / heads;
    int head = (int)((uint32_t)page - (uint32_t)block * heads);
    if (blocks != nullptr) block = kvs_ld_global_nc(blocks + block);
    return tensor + block * format.block_bytes[which] + (int64_t)head * format.head_bytes[which];
}

/* Where word `word` of a lane lies in a step of `words` words a lane (kernels/layouts/fragment.c). Bytes. */
KVS_DEVICE uint32_t kvs_fragment_word(uint32_t words, uint32_t lane, uint32_t word) {
    uint32_t shift = words % 4 == 0 ? 2 : words % 2 == 0 ? 1 : 0; /* of words that stand together */
    return (word >> shift << shift) * 128 + (lane << shift) * 4 + (word & ((1u << shift) - 1u)) * 4;
}

#endif
