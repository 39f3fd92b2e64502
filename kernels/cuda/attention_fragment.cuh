/* attention_fragment.cuh: logits and outputs of one page in the fragment layout, straight from its bits.
 *
 * A word of the page masked is a register of the matrix instruction; see attention_pages.cuh for its arithmetic. */
#ifndef KVS_KERNELS_CUDA_ATTENTION_FRAGMENT_CUH
#define KVS_KERNELS_CUDA_ATTENTION_FRAGMENT_CUH

#include "kernels/cuda/attention_pages.cuh"

/* `words` consecutive words of this lane, from word `first` of a step that has `step_words` (fragment.c). */
template <int words>
KVS_DEVICE void kvs_load_words(const unsigned char *step, int step_words, int first, uint32_t (&out)[words]) {
    int lane = (int)threadIdx.x % 32;
    if (words % 4 == 0) { /* then step_words is a multiple of 4 as well */
#pragma unroll
        for (int i = 0; i < words / 4; i++) {
            kvs_u32x4 four = kvs_ld_shared((const kvs_u32x4 *)(step + (first / 4 + i) * 512) + lane);
            out[4 * i] = four.x, out[4 * i + 1] = four.y, out[4 * i + 2] = four.z, out[4 * i + 3] = four.w;
        }
        return;
    }
    int vector = step_words % 4 == 0 ? 4 : step_words % 2 == 0 ? 2 : 1;
#pragma unroll
    for (int i = 0; i < words; i++) {
        int word = first + i;
        const unsigned char *at = step + word / vector * vector * 128 + lane * vector * 4 + word % vector * 4;
        out[i] = kvs_ld_shared((const uint32_t *)at);
    }
}

/* The first operands of two tiles from one word of 2-bit codes; the second tile's codes stand 4 bits higher. */
KVS_DEVICE void kvs_mask2(uint32_t word, uint32_t (&even)[4], uint32_t (&odd)[4]) {
    uint32_t upper = word >> 8;
    even[0] = word & 0x00030003u, even[1] = upper & 0x00030003u;
    even[2] = word & 0x000c000cu, even[3] = upper & 0x000c000cu;
    odd[0] = word & 0x00300030u, odd[1] = upper & 0x00300030u;
    odd[2] = word & 0x00c000c0u, odd[3] = upper & 0x00c000c0u;
}

KVS_DEVICE void kvs_mask4(uint32_t word, uint32_t (&a)[4]) {
    uint32_t upper = word >> 8;
    a[0] = word & 0x000f000fu, a[1] = upper & 0x000f000fu;
    a[2] = word & 0x00f000f0u, a[3] = upper & 0x00f000f0u;
}

KVS_DEVICE void kvs_mask8(uint32_t low, uint32_t high, uint32_t (&a)[4]) {
    a[0] = low & 0x00ff00ffu, a[1] = (low >> 8) & 0x00ff00ffu;
    a[2] = high & 0x00ff00ffu, a[3] = (high >> 8) & 0x00ff00ffu;
}

/* sums[tile] += codes of one step times b; odd is b for odd tiles. `codes` is the step's first byte. */
template <int tiles>
KVS_DEVICE void kvs_multiply_step(float (&sums)[tiles][4], const unsigned char *codes, int width, int step_words,
                                  int first_tile, const uint32_t (&even)[2], const uint32_t (&odd)[2]) {
    uint32_t a[4], other[4];
    if (width == 2) {
        uint32_t words[tiles / 2];
        kvs_load_words(codes, step_words, first_tile / 2, words);
#pragma unroll
        for (int i = 0; i < tiles / 2; i++) {
            kvs_mask2(words[i], a, other);
            kvs_mma_m16n8k16(sums[2 * i], a, even);
            kvs_mma_m16n8k16(sums[2 * i + 1], other, odd);
        }
    } else if (width == 4) {
        uint32_t words[tiles];
        kvs_load_words(codes, step_words, first_tile, words);
#pragma unroll
        for (int i = 0; i < tiles; i++) {
            kvs_mask4(words[i], a);
            if (i % 2)
                kvs_mma_m16n8k16(sums[i], a, odd);
            else
                kvs_mma_m16n8k16(sums[i], a, even);
        }
    } else {
#pragma unroll
        for (int i = 0; i < tiles; i++) {
            uint32_t words[2];
            kvs_load_words(codes, step_words, 2 * (first_tile + i), words);
            kvs_mask8(words[0], words[1], a);
            if (i % 2)
                kvs_mma_m16n8k16(sums[i], a, odd);
            else
                kvs_mma_m16n8k16(sums[i], a, even);
        }
    }
}

/* One step of 16 tokens: output += codes times b. `codes` is the step's first byte. */
template <class shape>
KVS_DEVICE void kvs_multiply_values(kvs_attended<shape> &a, const unsigned char *codes, int width,
                                    const uint32_t (&b)[2]) {
    const int head_dim = shape::head_dim;
    uint32_t even[4], odd[4];
    if (width == 2) {
        uint32_t words[head_dim / 32];
        kvs_load_words(codes, head_dim / 32, 0, words);
#pragma unroll
        for (int i = 0; i < head_dim / 32; i++) {
            kvs_mask2(words[i], even, odd);
            kvs_mma_m16n8k16(a.output[2 * i], even, b);
            kvs_mma_m16n8k16(a.output[2 * i + 1], odd, b);
        }
    } else if (width == 4) {
        uint32_t words[head_dim / 16];
        kvs_load_words(codes, head_dim / 16, 0, words);
#pragma unroll
        for (int i = 0; i < head_dim / 16; i++) {
            kvs_mask4(words[i], even);
            kvs_mma_m16n8k16(a.output[i], even, b);
        }
    } else {
#pragma unroll
        for (int i = 0; i < head_dim / 16; i++) {
            uint32_t words[2];
            kvs_load_words(codes, head_dim / 8, 2 * i, words);
            kvs_mask8(words[0], words[1], even);
            kvs_mma_m16n8k16(a.output[i], even, b);
        }
    }
}

/* The pages of one head, as attention_pages.cuh wants them. Offsets are bytes, the same in shared memory. */
template <int head_dim_, int blocks> struct kvs_fragment_pages {
    static const int head_dim = head_dim_, residents = KVS_ATTENTION_RESIDENTS(head_dim_, 0);
    typedef kvs_attention_shape<head_dim_, kvs_order_pairs<head_dim_>, blocks> shape;
    uint32_t wide, narrow, key_meta, index, values, value_meta, page_bytes, shared_bytes;
    int page_tokens, wide_steps, bits, boost_bits, value_bits, indexed;

    KVS_HD kvs_fragment_pages of(const kvs_format &format) {
        kvs_fragment_pages p;
        p.wide = format.key_more.base / 8;
        p.narrow = format.key.base / 8;
        p.key_meta = format.key_scale.base / 8;
        p.index = format.index_byte;
        p.values = format.value.base / 8;
        p.value_meta = format.value_scale.base / 8;
        p.page_bytes = format.head_bytes[0];
        p.shared_bytes = kvs_max_bytes(p.page_bytes, p.values + kvs_tail_bytes(head_dim));
        p.page_tokens = format.shape.page_tokens;
        p.wide_steps = format.wide_rows / 16;
        p.bits = format.shape.bits;
        p.boost_bits = format.shape.boost_bits;
        p.value_bits = format.shape.value_bits;
        p.indexed = format.index != KVS_INDEX_NONE;
        return p;
    }

    KVS_DEVICE void fetch_keys(const kvs_fragment_pages &p, unsigned char *page, const kvs_page_source &source) {
        kvs_fetch(page, source.at[0], p.values);
    }

    KVS_DEVICE void fetch_values(const kvs_fragment_pages &p, unsigned char *page, const kvs_page_source &source) {
        kvs_fetch(page + p.values, source.at[0] + p.values, p.page_bytes - p.values);
    }

    /* Token of row g + 8 * high of a tile, in the stretch of `tiles` tiles that begins at token `first`. */
    template <int tiles> KVS_DEVICE int token(const kvs_fragment_pages &, int first, int tile, int g, int high) {
        return first + 16 * tile + g + 8 * high;
    }

    /* What brings the page's largest key scale below 2^5: an exponent, at most 15. */
    KVS_DEVICE int open_keys(const kvs_fragment_pages &p, unsigned char *page) {
        uint32_t largest = 0;
#pragma unroll
        for (int step = 0; step < head_dim / 16; step++) {
            const unsigned char *at = page + p.key_meta + step * 64 + threadIdx.x % 4 * 16;
            kvs_u32x2 scales = kvs_ld_shared((const kvs_u32x2 *)at);
            largest = kvs_pair_max(largest, kvs_pair_max(scales.x, scales.y));
        }
        largest = kvs_pair_max(largest, kvs_shfl_xor(largest, 1));
        largest = kvs_pair_max(largest, kvs_shfl_xor(largest, 2));
        return kvs_shift_below(fmaxf(kvs_pair_low(largest), kvs_pair_high(largest)), 5, 15);
    }

    /* Logits of tiles * 16 tokens of the page, from token `first` on: of each tile, rows g and g + 8. */
    template <int tiles>
    KVS_DEVICE void logits(const kvs_fragment_pages &p, const unsigned char *page, kvs_queries queries, int shift,
                           int first, float (&out)[2 * tiles]) {
        int lane = (int)threadIdx.x % 32, q = lane % 4;
        bool second = lane / 4 % 2 != 0;
        int tile_bits = p.bits == 2 ? 4 : 0;
        uint32_t low_power = kvs_pair_power(shift), odd_power = kvs_pair_power(tile_bits);
        float sums[tiles][4] = {}, zeros[4] = {};
#pragma unroll 1
        for (int pair = 0; pair < head_dim / 32; pair++) {
            uint32_t channel = (uint32_t)(pair * 32 + lane), b[4];
            if (p.indexed) channel = kvs_ld_shared(page + p.index + channel);
            kvs_ldmatrix_x4_trans(b, queries.columns + channel * 16);
#pragma unroll(tiles == 2 ? 1 : 2)
            for (int half = 0; half < 2; half++) {
                int step = 2 * pair + half;
                bool is_wide = step < p.wide_steps;
                int width = is_wide ? p.boost_bits : p.bits, step_words = p.page_tokens / 32 * width / 2;
                kvs_u32x4 scales = kvs_ld_shared((const kvs_u32x4 *)(page + p.key_meta + step * 64 + q * 16));
                uint32_t z[4] = {scales.z, scales.z, scales.w, scales.w}, columns[2] = {b[0], b[1]};
                kvs_mma_m16n8k16(zeros, z, columns);
                uint32_t high_power = width == 8 ? low_power : kvs_pair_power(shift - width);
                uint32_t even[2] = {kvs_split_product(columns[0], kvs_pair_mul(scales.x, low_power), second),
                                    kvs_split_product(columns[1], kvs_pair_mul(scales.y, high_power), second)};
                uint32_t odd[2] = {even[0], even[1]};
                if (is_wide || width != 2) {
                    odd[0] = kvs_pair_mul(even[0], odd_power);
                    odd[1] = kvs_pair_mul(even[1], odd_power);
                }
                uint32_t at = is_wide ? p.wide + (uint32_t)(step * step_words * 128)
                                      : p.narrow + (uint32_t)((step - p.wide_steps) * step_words * 128);
                kvs_multiply_step<tiles>(sums, page + at, width, step_words, first / 16, even, odd);
                b[0] = b[2], b[1] = b[3];
            }
        }
        float unscale = kvs_ld_shared(queries.unscale + q);
        float even_power = kvs_power(24 - shift) * unscale, odd_scale = even_power * kvs_power(-tile_bits);
        float zero = zeros[0] * unscale;
#pragma unroll
        for (int i = 0; i < tiles; i++) {
            float power = i % 2 ? odd_scale : even_power;
            out[2 * i] = kvs_fma(sums[i][0] + sums[i][1], power, zero);
            out[2 * i + 1] = kvs_fma(sums[i][2] + sums[i][3], power, zero);
        }
    }

    /* Scales and zeros of the values of two tiles: tokens g, g + 8 of each, the scale in the low half. */
    KVS_DEVICE kvs_u32x4 value_meta_of(const kvs_fragment_pages &p, const unsigned char *page, int tile_pair) {
        const unsigned char *at = page + p.value_meta + tile_pair * 128 + threadIdx.x % 32 / 4 * 16;
        return kvs_ld_shared((const kvs_u32x4 *)at);
    }

    /* Softens the logits of tiles * 16 tokens and adds their values. */
    template <int tiles>
    KVS_DEVICE void attend(const kvs_fragment_pages &p, kvs_attended<shape> &a, const unsigned char *page, int first,
                           float (&weights)[2 * tiles]) {
        uint32_t largest = 0;
#pragma unroll
        for (int i = 0; i < tiles / 2; i++) {
            kvs_u32x4 m = value_meta_of(p, page, first / 32 + i);
            uint32_t x = kvs_pair_max(m.x & 0xffffu, m.y & 0xffffu), y = kvs_pair_max(m.z & 0xffffu, m.w & 0xffffu);
            largest = kvs_pair_max(largest, kvs_pair_max(x, y));
        }
        int shift = kvs_value_shift(a, largest);
        kvs_soften(a, weights, 24 - shift, p.value_bits == 2 ? 4 : 0);
        float low_power = kvs_power(shift), high_power = kvs_power(p.value_bits == 8 ? shift : shift - p.value_bits);
        int step_words = head_dim / 32 * p.value_bits / 2;
#pragma unroll
        for (int i = 0; i < tiles / 2; i++) {
            kvs_u32x4 m = value_meta_of(p, page, first / 32 + i);
            uint32_t pairs[4] = {m.x, m.y, m.z, m.w}, b[2][2];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float weight = weights[4 * i + j];
                a.shift[0] = kvs_fma(weight, kvs_pair_high(pairs[j]), a.shift[0]);
                weight = weight * kvs_pair_low(pairs[j]) * (j % 2 ? high_power : low_power);
                b[j / 2][j % 2] = kvs_movmatrix_trans(kvs_split_weight(weight));
            }
#pragma unroll
            for (int j = 0; j < 2; j++) {
                int step = first / 16 + 2 * i + j;
                kvs_multiply_values(a, page + p.values + step * step_words * 128, p.value_bits, b[j]);
            }
        }
    }
};

#endif
