/* value_tokens.cuh: which thread has which values, and where their codes lie in a page.
 *
 * A group of lanes holds four tokens, 8 consecutive channels a lane: with tokens 2q, 2q + 1, 2q + 8, 2q + 9 of a step
 * of 16 a lane has whole words of the fragment layout; in the other layouts, 8 codes are adjacent anyway. */
#ifndef KVS_KERNELS_CUDA_VALUE_TOKENS_CUH
#define KVS_KERNELS_CUDA_VALUE_TOKENS_CUH

#include "kernels/cuda/encode.cuh"

enum { KVS_VALUE_THREADS = 128, KVS_VALUE_TOKENS = 4 };

/* Lanes that share a token; with 96 channels, 4 of 16 have none. */
template <int head_dim> struct kvs_value_row {
    static const int lanes = head_dim == 64 ? 8 : head_dim == 256 ? 32 : 16;
    static const int chunks = head_dim / 8;
};

template <int head_dim> static unsigned kvs_value_blocks(int64_t pages, int page_tokens) {
    int64_t per_block = KVS_VALUE_THREADS / kvs_value_row<head_dim>::lanes;
    return (unsigned)((pages * (page_tokens / KVS_VALUE_TOKENS) + per_block - 1) / per_block);
}

/* Four tokens of a page: part 4 * step + q of it. */
struct kvs_value_tokens {
    uint32_t page;
    int step, q;
};

KVS_DEVICE kvs_value_tokens kvs_value_tokens_at(uint32_t group, uint32_t parts) {
    kvs_value_tokens t;
    t.page = (parts & (parts - 1)) == 0 ? group >> kvs_popcount(parts - 1) : group / parts;
    int part = (int)(group - t.page * parts);
    t.step = part / 4, t.q = part % 4;
    return t;
}

KVS_DEVICE int kvs_value_token(kvs_value_tokens t, int i) {
    return 16 * t.step + 2 * t.q + (i & 1) + 8 * (i >> 1);
}

/* Scale and zero of a token stand together in every layout, those of a group of channels after those of the one before:
 * which pair. */
template <bool fragment> KVS_DEVICE int kvs_value_pair(const kvs_page_shape &shape, int token, int group) {
    return group * shape.page_tokens + (fragment ? token / 32 * 32 + token % 8 * 4 + token / 8 % 4 : token);
}

/* Codes of 8 consecutive channels of a token, as bytes: even channels, odd channels. */
struct kvs_eight_codes {
    uint32_t even, odd;
};

/* --- fragment ------------------------------------------------------------------------------------------------------
 */

/* The words of a lane's even or odd channels: bit 16(i&1) + width(i>>1) of token i, 8 of channel + 2, and 4 of
 * channel + 4 at 2 bits. */
struct kvs_value_words {
    uint8_t *base;
    uint32_t words, lane, first; /* of a step; of the fragment */
};

KVS_DEVICE kvs_value_words kvs_value_words_at(const kvs_format &format, const uint8_t *page, kvs_value_tokens t,
                                              int chunk, int odd) {
    kvs_value_words w;
    uint32_t width = (uint32_t)format.value.width;
    w.words = (uint32_t)format.shape.head_dim / 32 * width / 2;
    w.lane = (uint32_t)((2 * (chunk % 4) + odd) * 4 + t.q);
    w.first = (uint32_t)chunk / 4 * width / 2;
    w.base = (uint8_t *)(uintptr_t)page + format.value.base / 8 + (uint32_t)t.step * w.words * 128;
    return w;
}

KVS_DEVICE uint32_t *kvs_value_word(kvs_value_words w, uint32_t i) {
    return (uint32_t *)(w.base + kvs_fragment_word(w.words, w.lane, w.first + i));
}

KVS_DEVICE void kvs_store_value_fragment(const kvs_format &format, uint8_t *page, kvs_value_tokens t, int chunk,
                                         const kvs_eight_codes (&codes)[KVS_VALUE_TOKENS]) {
    int width = format.value.width;
#pragma unroll
    for (int odd = 0; odd < 2; odd++) {
        kvs_value_words w = kvs_value_words_at(format, page, t, chunk, odd);
        uint32_t token[KVS_VALUE_TOKENS];
#pragma unroll
        for (int i = 0; i < KVS_VALUE_TOKENS; i++) token[i] = odd ? codes[i].odd : codes[i].even;
        if (width == 8) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                kvs_st_global(kvs_value_word(w, (uint32_t)i),
                              kvs_byte_perm(token[i % 2 * 2], token[i % 2 * 2 + 1], i / 2 ? 0x7632 : 0x5410));
            continue;
        }
        uint32_t low = token[0] | token[2] << width, high = token[1] | token[3] << width;
        uint32_t first = kvs_byte_perm(low, high, 0x5410), second = kvs_byte_perm(low, high, 0x7632);
        if (width == 2) {
            kvs_st_global(kvs_value_word(w, 0), first | second << 4);
        } else {
            kvs_st_global(kvs_value_word(w, 0), first);
            kvs_st_global(kvs_value_word(w, 1), second);
        }
    }
}

KVS_DEVICE void kvs_load_value_fragment(const kvs_format &format, const uint8_t *page, kvs_value_tokens t, int chunk,
                                        kvs_eight_codes (&codes)[KVS_VALUE_TOKENS]) {
    int width = format.value.width;
#pragma unroll
    for (int odd = 0; odd < 2; odd++) {
        kvs_value_words w = kvs_value_words_at(format, page, t, chunk, odd);
        uint32_t token[KVS_VALUE_TOKENS];
        if (width == 8) {
            uint32_t words[4];
#pragma unroll
            for (int i = 0; i < 4; i++) words[i] = kvs_ld_global_nc(kvs_value_word(w, (uint32_t)i));
#pragma unroll
            for (int i = 0; i < KVS_VALUE_TOKENS; i++)
                token[i] = kvs_byte_perm(words[i / 2], words[i / 2 + 2], i % 2 ? 0x7632 : 0x5410);
        } else {
            uint32_t mask = width == 2 ? 0x03030303u : 0x0f0f0f0fu, first = kvs_ld_global_nc(kvs_value_word(w, 0));
            uint32_t second = width == 2 ? first >> 4 : kvs_ld_global_nc(kvs_value_word(w, 1));
            uint32_t low = kvs_byte_perm(first, second, 0x5410), high = kvs_byte_perm(first, second, 0x7632);
            token[0] = low & mask, token[1] = high & mask;
            token[2] = low >> width & mask, token[3] = high >> width & mask;
        }
#pragma unroll
        for (int i = 0; i < KVS_VALUE_TOKENS; i++) (odd ? codes[i].odd : codes[i].even) = token[i];
    }
}

/* --- rows: 8 adjacent codes of one token ---------------------------------------------------------------------------
 */

KVS_DEVICE uint8_t *kvs_value_row_at(const kvs_format &format, const uint8_t *page, int token, int chunk) {
    uint32_t bit =
        format.value.base + (uint32_t)token * format.value.token[0] + (uint32_t)(chunk * 8 * format.value.width);
    return (uint8_t *)(uintptr_t)page + bit / 8;
}

KVS_DEVICE void kvs_store_value_row(const kvs_format &format, uint8_t *page, int token, int chunk,
                                    kvs_eight_codes codes) {
    int width = format.value.width;
    uint8_t *at = kvs_value_row_at(format, page, token, chunk);
    uint32_t pairs = codes.even | codes.odd << width;
    if (width == 8) {
        kvs_u32x2 eight = {kvs_byte_perm(codes.even, codes.odd, 0x5140), kvs_byte_perm(codes.even, codes.odd, 0x7362)};
        kvs_st_global((kvs_u32x2 *)at, eight);
    } else if (width == 4) {
        kvs_st_global((uint32_t *)at, pairs);
    } else {
        pairs = (pairs | pairs >> 4) & 0x00ff00ffu;
        kvs_st_global((uint16_t *)at, (uint16_t)(pairs | pairs >> 8));
    }
}

KVS_DEVICE kvs_eight_codes kvs_load_value_row(const kvs_format &format, const uint8_t *page, int token, int chunk) {
    int width = format.value.width;
    const uint8_t *at = kvs_value_row_at(format, page, token, chunk);
    kvs_eight_codes codes;
    if (width == 8) {
        kvs_u32x2 eight = kvs_ld_global_nc((const kvs_u32x2 *)at);
        codes.even = kvs_byte_perm(eight.x, eight.y, 0x6420), codes.odd = kvs_byte_perm(eight.x, eight.y, 0x7531);
    } else if (width == 4) {
        uint32_t pairs = kvs_ld_global_nc((const uint32_t *)at);
        codes.even = pairs & 0x0f0f0f0fu, codes.odd = pairs >> 4 & 0x0f0f0f0fu;
    } else {
        uint32_t pairs = kvs_ld_global_nc((const uint16_t *)at);
        pairs = (pairs | pairs << 8) & 0x00ff00ffu;
        pairs = (pairs | pairs << 4) & 0x0f0f0f0fu;
        codes.even = pairs & 0x03030303u, codes.odd = pairs >> 2 & 0x03030303u;
    }
    return codes;
}

#endif
