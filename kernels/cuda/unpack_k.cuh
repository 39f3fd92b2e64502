/* unpack_k.cuh: the layout's page back to codes in shared memory, in the places of pack_k.cuh. */
#ifndef KVS_KERNELS_CUDA_UNPACK_K_CUH
#define KVS_KERNELS_CUDA_UNPACK_K_CUH

#include "kernels/cuda/pack_k.cuh"

/* One word a block is all there is: words of 32 tokens follow each other two rows of eight on. */
KVS_DEVICE kvs_keys kvs_codes_in(unsigned char *bytes, int head_dim, int live) {
    kvs_keys codes = kvs_keys_in(bytes, head_dim, live);
    codes.block = 2 * codes.stride;
    return codes;
}

/* --- fragment ------------------------------------------------------------------------------------------------------
 */

/* The reverse of kvs_fragment_words: the words of four rows. */
KVS_DEVICE void kvs_rows_of_words(const uint32_t (&words)[4], int width, uint32_t (&row)[4]) {
    if (width == 8) {
        row[0] = kvs_byte_perm(words[0], words[2], 0x5410), row[1] = kvs_byte_perm(words[0], words[2], 0x7632);
        row[2] = kvs_byte_perm(words[1], words[3], 0x5410), row[3] = kvs_byte_perm(words[1], words[3], 0x7632);
        return;
    }
    uint32_t low = words[0], high = width == 2 ? words[0] >> 4 : words[1];
    uint32_t even = kvs_byte_perm(low, high, 0x5410), odd = kvs_byte_perm(low, high, 0x7632);
    uint32_t mask = width == 2 ? 0x03030303u : 0x0f0f0f0fu;
    row[0] = even & mask, row[2] = even >> width & mask;
    row[1] = odd & mask, row[3] = odd >> width & mask;
}

KVS_DEVICE void kvs_put_rows(const kvs_rows_of_lane &rows, int offset, int width, const uint32_t (&words)[4]) {
    uint32_t row[4];
    kvs_rows_of_words(words, width, row);
#pragma unroll
    for (int i = 0; i < 4; i++) kvs_st_shared((uint32_t *)(rows.word[i] + offset), row[i]);
}

/* The reverse of kvs_emit_step. */
template <int each>
KVS_DEVICE void kvs_read_step(const kvs_keys &codes, const kvs_rows_of_lane &rows, const uint8_t *at, int lane) {
    int blocks = codes.live / 4;
    uint32_t words[4] = {0, 0, 0, 0};
    if (blocks * each % 4 == 0) {
        for (int b = 0; b < blocks; b += 4 / each) {
            kvs_u32x4 four = kvs_ld_global_nc((const kvs_u32x4 *)(at + b * each * 128) + lane);
#pragma unroll
            for (int i = 0; i < 4 / each; i++) {
#pragma unroll
                for (int j = 0; j < each; j++) words[j] = kvs_pair_at(four, i * each + j);
                kvs_put_rows(rows, (b + i) * codes.block, 2 * each, words);
            }
        }
        return;
    }
    for (int b = 0; b < blocks; b++) {
#pragma unroll
        for (int j = 0; j < each; j++)
            words[j] =
                kvs_ld_global_nc((const uint32_t *)(at + kvs_fragment_word((uint32_t)(blocks * each), (uint32_t)lane,
                                                                           (uint32_t)(b * each + j))));
        kvs_put_rows(rows, b * codes.block, 2 * each, words);
    }
}

KVS_DEVICE void kvs_read_fragment(const kvs_format &format, const kvs_keys &codes, const uint8_t *page) {
    int lane = (int)threadIdx.x % 32, q = lane % 4, blocks = codes.live / 4;
    const uint8_t *index = page + format.index_byte;
    for (int step = (int)threadIdx.x / 32; step < codes.head_dim / 16; step += codes.head_dim / 32) {
        bool is_wide = 16 * step < format.wide_rows;
        const kvs_layout_field &field = is_wide ? format.key_more : format.key;
        int within = step - (is_wide ? 0 : format.wide_rows / 16), width = field.width;
        const uint8_t *at = page + field.base / 8 + (uint32_t)(within * blocks * width / 2 * 128);
        kvs_rows_of_lane rows;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int row = 16 * step + 2 * q + i % 2 + i / 2 * 8;
            int channel = format.index == KVS_INDEX_NONE ? row : (int)kvs_ld_global_nc(index + row);
            rows.word[i] = kvs_code_word(codes, lane / 4, channel);
        }
        if (width == 2)
            kvs_read_step<1>(codes, rows, at, lane);
        else if (width == 4)
            kvs_read_step<2>(codes, rows, at, lane);
        else
            kvs_read_step<4>(codes, rows, at, lane);
    }
}

/* --- rows of consecutive tokens ------------------------------------------------------------------------------------
 */

/* The reverse of kvs_merge_twos and kvs_merge_fours: the bits of each of four words, or two, at `shift`. */
template <int shift> KVS_DEVICE void kvs_part_twos(uint32_t merged, uint32_t *x) {
#pragma unroll
    for (int j = 0; j < 4; j++) x[j] |= kvs_shifted(merged, shift - 2 * j) & 0x03030303u << shift;
}

template <int shift> KVS_DEVICE void kvs_part_fours(uint32_t merged, uint32_t *x) {
    x[0] |= kvs_shifted(merged, shift) & 0x0f0f0f0fu << shift;
    x[1] |= kvs_shifted(merged, shift - 4) & 0x0f0f0f0fu << shift;
}

/* The reverse of kvs_row_words: x gets the codes' bits [shift, shift + width). */
template <int width, int shift>
KVS_DEVICE void kvs_codes_of_words(uint32_t (&words)[width], bool odd, uint32_t (&x)[8]) {
    uint32_t four[4];
    if constexpr (width == 2) {
        uint32_t low = kvs_byte_perm(words[0], words[1], 0x6420), high = kvs_byte_perm(words[0], words[1], 0x7531);
        kvs_swap(odd, low, high);
        kvs_part_twos<shift>(low, x);
        kvs_part_twos<shift>(high, x + 4);
    } else if constexpr (width == 4) {
        kvs_transpose_bytes(words[0], words[1], words[2], words[3], four);
        kvs_swap(odd, four[0], four[2]);
        kvs_swap(odd, four[1], four[3]);
#pragma unroll
        for (int i = 0; i < 4; i++) kvs_part_fours<shift>(four[i], x + 2 * i);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) kvs_swap(odd, words[2 * i], words[2 * i + 1]);
        kvs_transpose_bytes(words[0], words[2], words[4], words[6], four);
#pragma unroll
        for (int i = 0; i < 4; i++) x[i] = four[i];
        kvs_transpose_bytes(words[1], words[3], words[5], words[7], four);
#pragma unroll
        for (int i = 0; i < 4; i++) x[i + 4] = four[i];
    }
}

/* The reverse of kvs_emit_block: x |= the codes of a block. */
template <int width, int shift>
KVS_DEVICE void kvs_read_block(const kvs_keys &codes, const uint8_t *row, int block, bool odd, uint32_t (&x)[8]) {
    uint32_t words[width];
    const uint8_t *at = row + block * width * 4;
    if (codes.live % 4 == 0) {
#pragma unroll
        for (int i = 0; i < width; i += 2) {
            kvs_u32x2 two = kvs_ld_global_nc((const kvs_u32x2 *)(at + 4 * i));
            words[i] = two.x, words[i + 1] = two.y;
        }
    } else {
        int count = 4 * block + 4 <= codes.live ? width : width / 2;
#pragma unroll
        for (int i = 0; i < width; i++) words[i] = i < count ? kvs_ld_global_nc((const uint32_t *)at + i) : 0;
    }
    kvs_codes_of_words<width, shift>(words, odd, x);
}

/* A row of the page: its channel, and where the further bits of a boosted one are. */
struct kvs_row_place {
    int channel, boosted, more;
    uint32_t bit; /* of token 0 */
};

KVS_DEVICE int kvs_boosted_before(const uint32_t *mask, int channel) {
    int before = 0;
    for (int i = 0; i < channel / 32; i++) before += kvs_popcount(kvs_ld_global_nc(mask + i));
    return before + kvs_popcount(kvs_ld_global_nc(mask + channel / 32) & ((1u << channel % 32) - 1u));
}

KVS_DEVICE kvs_row_place kvs_place_of_row(const kvs_format &format, const uint8_t *page, int row) {
    int count = format.shape.boost_channels;
    const uint8_t *index = page + format.index_byte;
    kvs_row_place at = {row, count > 0, row, format.key.base + (uint32_t)row * format.key.row[0]};
    if (format.index == KVS_INDEX_RANKS) {
        at.more = kvs_ld_global_nc(index + row);
        at.boosted = at.more < count;
    } else if (format.index == KVS_INDEX_CHANNELS) {
        at.channel = kvs_ld_global_nc(index + row);
        at.boosted = row < count;
    }
    if (format.keys == KVS_KEYS_SCATTERED) {
        int before = count > 0 ? row : 0;
        if (format.index == KVS_INDEX_MASK) {
            before = kvs_boosted_before((const uint32_t *)index, row);
            at.boosted = kvs_ld_global_nc(index + row / 8) >> row % 8 & 1;
        }
        at.bit += (uint32_t)before * format.boosted_extra_bits;
    }
    return at;
}

KVS_DEVICE void kvs_store_block(const kvs_keys &codes, const kvs_row_of_words &to, int block, const uint32_t (&x)[8]) {
#pragma unroll
    for (int r = 0; r < KVS_RESIDUES; r++) kvs_st_shared(kvs_word_of(to, r, block * codes.block), x[r]);
}

/* Thread d reads row d, and what the further planes have of its channel. */
template <int bits>
KVS_DEVICE void kvs_read_planes_of(const kvs_format &format, const kvs_keys &codes, const uint8_t *page,
                                   kvs_row_place at) {
    int row_bytes = codes.live * bits, planes = at.boosted ? format.shape.boost_bits / bits : 1;
    kvs_row_of_words to = kvs_words_of(codes, at.channel);
    const uint8_t *row = page + at.bit / 8, *more = page + format.key_more.base / 8 + at.more * row_bytes;
    uint32_t apart = format.plane_bits / 8;
#pragma unroll 4
    for (int block = 0; block < (codes.live + 3) / 4; block++) {
        uint32_t x[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        kvs_read_block<bits, 0>(codes, row, block, to.odd, x);
        if constexpr (bits < 8) {
            if (planes > 1) kvs_read_block<bits, bits>(codes, more, block, to.odd, x);
        }
        if constexpr (bits == 2) {
            if (planes > 2) {
                kvs_read_block<2, 4>(codes, more + apart, block, to.odd, x);
                kvs_read_block<2, 6>(codes, more + 2 * apart, block, to.odd, x);
            }
        }
        kvs_store_block(codes, to, block, x);
    }
}

template <int width>
KVS_DEVICE void kvs_read_row(const kvs_keys &codes, const uint8_t *row, const kvs_row_of_words &to) {
#pragma unroll 4
    for (int block = 0; block < (codes.live + 3) / 4; block++) {
        uint32_t x[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        kvs_read_block<width, 0>(codes, row, block, to.odd, x);
        kvs_store_block(codes, to, block, x);
    }
}

KVS_DEVICE void kvs_read_rows(const kvs_format &format, const kvs_keys &codes, const uint8_t *page) {
    kvs_row_place at = kvs_place_of_row(format, page, (int)threadIdx.x);
    if (format.keys == KVS_KEYS_PLANES) {
        if (format.shape.bits == 2)
            kvs_read_planes_of<2>(format, codes, page, at);
        else if (format.shape.bits == 4)
            kvs_read_planes_of<4>(format, codes, page, at);
        else
            kvs_read_planes_of<8>(format, codes, page, at);
        return;
    }
    kvs_row_of_words to = kvs_words_of(codes, at.channel);
    int width = kvs_key_bits(&format, at.boosted);
    if (width == 2)
        kvs_read_row<2>(codes, page + at.bit / 8, to);
    else if (width == 4)
        kvs_read_row<4>(codes, page + at.bit / 8, to);
    else
        kvs_read_row<8>(codes, page + at.bit / 8, to);
}

#endif
