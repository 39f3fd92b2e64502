/* pack_k.cuh: codes of a page of keys in shared memory to the layout's page.
 *
 * Codes stand where the keys were (key_scores.cuh). The lane that has tokens r + 8k of 8 channels keeps those of four k
 * as the bytes of one word a channel: 16 bytes where the first key was for channels 0, 2, 4, 6 of the 8, 16 bytes where
 * the second was for the odd ones. So lanes that hold consecutive channels of one parity, as the fragment layout asks
 * for, read different banks. A word holds the tokens r, r + 8, r + 16, r + 24 of 32: a `block` here. */
#ifndef KVS_KERNELS_CUDA_PACK_K_CUH
#define KVS_KERNELS_CUDA_PACK_K_CUH

#include "kernels/cuda/key_scores.cuh"

KVS_DEVICE void kvs_put_codes(const kvs_keys &keys, int first, const uint32_t (&codes)[8]) {
    unsigned char *at = keys.bytes + keys.mine + first * keys.stride;
    kvs_u32x4 even = {codes[0], codes[2], codes[4], codes[6]}, odd = {codes[1], codes[3], codes[5], codes[7]};
    kvs_st_shared((kvs_u32x4 *)at, even);
    kvs_st_shared((kvs_u32x4 *)(at + keys.stride), odd);
}

/* The word of block 0. */
KVS_DEVICE unsigned char *kvs_code_word(const kvs_keys &keys, int residue, int channel) {
    return keys.bytes + kvs_key_cell(keys, residue, channel / 8) + channel % 2 * keys.stride + channel % 8 / 2 * 4;
}

/* --- fragment ------------------------------------------------------------------------------------------------------
 */

/* What a lane of the matrix instruction takes of 16 rows: channels 2q, 2q + 1, 2q + 8, 2q + 9. */
struct kvs_rows_of_lane {
    unsigned char *word[4];
};

/* The width / 2 words of a block (kernels/layouts/fragment.c). */
KVS_DEVICE void kvs_fragment_words(const kvs_rows_of_lane &rows, int offset, int width, uint32_t (&words)[4]) {
    uint32_t row[4];
#pragma unroll
    for (int i = 0; i < 4; i++) row[i] = kvs_ld_shared((const uint32_t *)(rows.word[i] + offset));
    if (width == 8) {
        words[0] = kvs_byte_perm(row[0], row[1], 0x5410), words[1] = kvs_byte_perm(row[2], row[3], 0x5410);
        words[2] = kvs_byte_perm(row[0], row[1], 0x7632), words[3] = kvs_byte_perm(row[2], row[3], 0x7632);
        return;
    }
    uint32_t even = row[0] | row[2] << width, odd = row[1] | row[3] << width;
    uint32_t low = kvs_byte_perm(even, odd, 0x5410), high = kvs_byte_perm(even, odd, 0x7632);
    words[0] = width == 2 ? low | high << 4 : low;
    words[1] = high;
}

/* Words of `each` a block; four together where the step's words are a multiple of four. */
template <int each>
KVS_DEVICE void kvs_emit_step(const kvs_keys &keys, const kvs_rows_of_lane &rows, uint8_t *at, int lane) {
    int blocks = keys.live / 4;
    uint32_t words[4];
    if (blocks * each % 4 == 0) {
        for (int b = 0; b < blocks; b += 4 / each) {
            uint32_t four[4];
#pragma unroll
            for (int i = 0; i < 4 / each; i++) {
                kvs_fragment_words(rows, (b + i) * keys.block, 2 * each, words);
#pragma unroll
                for (int j = 0; j < each; j++) four[i * each + j] = words[j];
            }
            kvs_u32x4 together = {four[0], four[1], four[2], four[3]};
            kvs_st_global((kvs_u32x4 *)(at + b * each * 128) + lane, together);
        }
        return;
    }
    for (int b = 0; b < blocks; b++) {
        kvs_fragment_words(rows, b * keys.block, 2 * each, words);
#pragma unroll
        for (int j = 0; j < each; j++)
            kvs_st_global((uint32_t *)(at + kvs_fragment_word((uint32_t)(blocks * each), (uint32_t)lane,
                                                              (uint32_t)(b * each + j))),
                          words[j]);
    }
}

/* A warp writes a step of 16 rows at a time. order: the channel of a row. */
KVS_DEVICE void kvs_emit_fragment(const kvs_format &format, const kvs_keys &keys, const uint8_t *order, uint8_t *page) {
    int lane = (int)threadIdx.x % 32, q = lane % 4, blocks = keys.live / 4;
    for (int step = (int)threadIdx.x / 32; step < keys.head_dim / 16; step += keys.head_dim / 32) {
        bool is_wide = 16 * step < format.wide_rows;
        const kvs_layout_field &field = is_wide ? format.key_more : format.key;
        int within = step - (is_wide ? 0 : format.wide_rows / 16), width = field.width;
        uint8_t *at = page + field.base / 8 + (uint32_t)(within * blocks * width / 2 * 128);
        kvs_rows_of_lane rows;
#pragma unroll
        for (int i = 0; i < 4; i++)
            rows.word[i] = kvs_code_word(keys, lane / 4, kvs_ld_shared(order + 16 * step + 2 * q + i % 2 + i / 2 * 8));
        if (width == 2)
            kvs_emit_step<1>(keys, rows, at, lane);
        else if (width == 4)
            kvs_emit_step<2>(keys, rows, at, lane);
        else
            kvs_emit_step<4>(keys, rows, at, lane);
    }
}

/* --- rows of consecutive tokens ------------------------------------------------------------------------------------
 */

/* The words of one channel, of a block one for each residue. Even channels take residues 0 to 7 in order, odd ones 4 to
 * 7 first: so lanes with the 32 consecutive channels of a warp read, or write, different banks at each step. */
struct kvs_row_of_words {
    unsigned char *base;
    int cell, step;
    bool odd;
};

KVS_DEVICE kvs_row_of_words kvs_words_of(const kvs_keys &keys, int channel) {
    kvs_row_of_words row;
    row.odd = channel % 2 != 0;
    row.cell = kvs_key_cell(keys, row.odd ? 4 : 0, channel / 8);
    row.base = keys.bytes + channel % 2 * keys.stride + channel % 8 / 2 * 4;
    row.step = keys.pitch + 16; /* a residue counts in the row and in the permuted chunk */
    return row;
}

KVS_DEVICE uint32_t *kvs_word_of(const kvs_row_of_words &row, int r, int offset) {
    return (uint32_t *)(row.base + (row.cell ^ r * row.step) + offset);
}

/* Bytes 0 of four words, then bytes 1, ... */
KVS_DEVICE void kvs_transpose_bytes(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t (&out)[4]) {
    uint32_t ab = kvs_byte_perm(a, b, 0x5140), cd = kvs_byte_perm(c, d, 0x5140);
    out[0] = kvs_byte_perm(ab, cd, 0x5410), out[1] = kvs_byte_perm(ab, cd, 0x7632);
    ab = kvs_byte_perm(a, b, 0x7362), cd = kvs_byte_perm(c, d, 0x7362);
    out[2] = kvs_byte_perm(ab, cd, 0x5410), out[3] = kvs_byte_perm(ab, cd, 0x7632);
}

KVS_DEVICE uint32_t kvs_shifted(uint32_t x, int left) {
    return left >= 0 ? x << left : x >> -left;
}

/* Of four words the bits [shift, shift + 2) of each byte, or of two words [shift, shift + 4), as one. */
template <int shift> KVS_DEVICE uint32_t kvs_merge_twos(const uint32_t *x) {
    uint32_t merged = 0;
#pragma unroll
    for (int j = 0; j < 4; j++) merged |= kvs_shifted(x[j], 2 * j - shift) & 0x03030303u << 2 * j;
    return merged;
}

template <int shift> KVS_DEVICE uint32_t kvs_merge_fours(const uint32_t *x) {
    return (kvs_shifted(x[0], -shift) & 0x0f0f0f0fu) | (kvs_shifted(x[1], 4 - shift) & 0xf0f0f0f0u);
}

KVS_DEVICE void kvs_swap(bool swapped, uint32_t &a, uint32_t &b) {
    uint32_t first = swapped ? b : a, second = swapped ? a : b;
    a = first, b = second;
}

/* The words of a block's 32 codes, or of their bits [shift, shift + width). x: in the row's order of residues. */
template <int width, int shift>
KVS_DEVICE void kvs_row_words(const uint32_t (&x)[8], bool odd, uint32_t (&words)[width]) {
    uint32_t four[4];
    if constexpr (width == 2) {
        uint32_t low = kvs_merge_twos<shift>(x), high = kvs_merge_twos<shift>(x + 4);
        kvs_swap(odd, low, high);
        words[0] = kvs_byte_perm(low, high, 0x5140), words[1] = kvs_byte_perm(low, high, 0x7362);
    } else if constexpr (width == 4) {
        uint32_t pairs[4];
#pragma unroll
        for (int i = 0; i < 4; i++) pairs[i] = kvs_merge_fours<shift>(x + 2 * i);
        kvs_swap(odd, pairs[0], pairs[2]);
        kvs_swap(odd, pairs[1], pairs[3]);
        kvs_transpose_bytes(pairs[0], pairs[1], pairs[2], pairs[3], words);
    } else {
        kvs_transpose_bytes(x[0], x[1], x[2], x[3], four);
#pragma unroll
        for (int i = 0; i < 4; i++) words[2 * i] = four[i];
        kvs_transpose_bytes(x[4], x[5], x[6], x[7], four);
#pragma unroll
        for (int i = 0; i < 4; i++) words[2 * i + 1] = four[i];
#pragma unroll
        for (int i = 0; i < 4; i++) kvs_swap(odd, words[2 * i], words[2 * i + 1]);
    }
}

KVS_DEVICE void kvs_load_block(const kvs_keys &keys, const kvs_row_of_words &from, int block, uint32_t (&x)[8]) {
#pragma unroll
    for (int r = 0; r < KVS_RESIDUES; r++) x[r] = kvs_ld_shared(kvs_word_of(from, r, block * keys.block));
}

/* Where a page has an odd number of 16 tokens, rows begin at multiples of 4 bytes, otherwise of 8; and the last block
 * of a row has only half of its words. */
template <int width, int shift>
KVS_DEVICE void kvs_emit_block(const kvs_keys &keys, const uint32_t (&x)[8], bool odd, int block, uint8_t *row) {
    uint32_t words[width];
    kvs_row_words<width, shift>(x, odd, words);
    uint8_t *at = row + block * width * 4;
    if (keys.live % 4 == 0) {
#pragma unroll
        for (int i = 0; i < width; i += 2) {
            kvs_u32x2 two = {words[i], words[i + 1]};
            kvs_st_global((kvs_u32x2 *)(at + 4 * i), two);
        }
        return;
    }
    int count = 4 * block + 4 <= keys.live ? width : width / 2;
#pragma unroll
    for (int i = 0; i < width; i++)
        if (i < count) kvs_st_global((uint32_t *)(at + 4 * i), words[i]);
}

/* Two blocks of a page of a multiple of 64 tokens, whose rows begin at multiples of 16 bytes. */
template <int width, int shift>
KVS_DEVICE void kvs_emit_two_blocks(const uint32_t (&x)[2][8], bool odd, int block, uint8_t *row) {
    uint32_t words[2 * width];
#pragma unroll
    for (int b = 0; b < 2; b++) {
        uint32_t of_block[width];
        kvs_row_words<width, shift>(x[b], odd, of_block);
#pragma unroll
        for (int i = 0; i < width; i++) words[b * width + i] = of_block[i];
    }
#pragma unroll
    for (int i = 0; i < 2 * width; i += 4) {
        kvs_u32x4 four = {words[i], words[i + 1], words[i + 2], words[i + 3]};
        kvs_st_global((kvs_u32x4 *)(row + block * width * 4 + 4 * i), four);
    }
}

/* Where the rows of one channel begin: in the first plane and, if it is boosted, in the next ones. */
struct kvs_plane_rows {
    uint8_t *first, *more;
    uint32_t apart; /* the planes after the second */
    int more_planes;
};

template <int bits>
KVS_DEVICE kvs_plane_rows kvs_plane_rows_of(const kvs_format &format, int live, uint8_t *page, kvs_channel_place at) {
    int row_bytes = live * bits, boosted = at.boosted && format.shape.boost_channels > 0;
    kvs_plane_rows rows;
    rows.first = page + format.key.base / 8 + (format.sorted ? at.row : (int)threadIdx.x) * row_bytes;
    rows.more = page + format.key_more.base / 8 + at.row * row_bytes;
    rows.apart = format.plane_bits / 8;
    rows.more_planes = boosted ? format.shape.boost_bits / bits - 1 : 0;
    return rows;
}

/* Thread d writes the row of channel d, and those of its further planes. */
template <int bits> KVS_DEVICE void kvs_emit_planes_of(const kvs_keys &keys, kvs_plane_rows to) {
    kvs_row_of_words from = kvs_words_of(keys, (int)threadIdx.x);
#pragma unroll 4
    for (int block = 0; block < (keys.live + 3) / 4; block++) {
        uint32_t x[8];
        kvs_load_block(keys, from, block, x);
        kvs_emit_block<bits, 0>(keys, x, from.odd, block, to.first);
        if constexpr (bits < 8) {
            if (to.more_planes > 0) kvs_emit_block<bits, bits>(keys, x, from.odd, block, to.more);
        }
        if constexpr (bits == 2) {
            if (to.more_planes > 1) {
                kvs_emit_block<2, 4>(keys, x, from.odd, block, to.more + to.apart);
                kvs_emit_block<2, 6>(keys, x, from.odd, block, to.more + 2 * to.apart);
            }
        }
    }
}

/* The same for codes of at most 4 bits on a page of a multiple of 64 tokens. */
template <int bits> KVS_DEVICE void kvs_emit_planes_by_two(const kvs_keys &keys, kvs_plane_rows to) {
    kvs_row_of_words from = kvs_words_of(keys, (int)threadIdx.x);
#pragma unroll 2
    for (int block = 0; block < keys.live / 4; block += 2) {
        uint32_t x[2][8];
        kvs_load_block(keys, from, block, x[0]);
        kvs_load_block(keys, from, block + 1, x[1]);
        kvs_emit_two_blocks<bits, 0>(x, from.odd, block, to.first);
        if constexpr (bits == 2) {
            if (to.more_planes > 0) kvs_emit_two_blocks<2, 2>(x, from.odd, block, to.more);
        }
    }
}

/* by_two: the page holds a multiple of 64 tokens, in codes of at most 4 bits. */
template <bool by_two>
KVS_DEVICE void kvs_emit_planes(const kvs_format &format, const kvs_keys &keys, uint8_t *page, kvs_channel_place at) {
    if constexpr (by_two) {
        if (format.shape.bits == 2)
            kvs_emit_planes_by_two<2>(keys, kvs_plane_rows_of<2>(format, keys.live, page, at));
        else
            kvs_emit_planes_by_two<4>(keys, kvs_plane_rows_of<4>(format, keys.live, page, at));
    } else if (format.shape.bits == 2) {
        kvs_emit_planes_of<2>(keys, kvs_plane_rows_of<2>(format, keys.live, page, at));
    } else if (format.shape.bits == 4) {
        kvs_emit_planes_of<4>(keys, kvs_plane_rows_of<4>(format, keys.live, page, at));
    } else {
        kvs_emit_planes_of<8>(keys, kvs_plane_rows_of<8>(format, keys.live, page, at));
    }
}

template <int width> KVS_DEVICE void kvs_emit_row(const kvs_keys &keys, const kvs_row_of_words &from, uint8_t *row) {
#pragma unroll 4
    for (int block = 0; block < (keys.live + 3) / 4; block++) {
        uint32_t x[8];
        kvs_load_block(keys, from, block, x);
        kvs_emit_block<width, 0>(keys, x, from.odd, block, row);
    }
}

/* Thread d writes the row of channel d. by_two as above: there a warp reads its codes once for both widths. */
template <bool by_two>
KVS_DEVICE void kvs_emit_scattered(const kvs_format &format, const kvs_keys &keys, uint8_t *page,
                                   kvs_channel_place at) {
    int channel = (int)threadIdx.x, width = kvs_key_bits(&format, at.boosted);
    uint32_t bit = kvs_field_bit(&format.key, 0, channel) + (uint32_t)at.before * format.boosted_extra_bits;
    kvs_row_of_words from = kvs_words_of(keys, channel);
    uint8_t *row = page + bit / 8;
    if constexpr (by_two) {
#pragma unroll 2
        for (int block = 0; block < keys.live / 4; block += 2) {
            uint32_t x[2][8];
            kvs_load_block(keys, from, block, x[0]);
            kvs_load_block(keys, from, block + 1, x[1]);
            if (width == 2)
                kvs_emit_two_blocks<2, 0>(x, from.odd, block, row);
            else
                kvs_emit_two_blocks<4, 0>(x, from.odd, block, row);
        }
    } else if (width == 2) {
        kvs_emit_row<2>(keys, from, row);
    } else if (width == 4) {
        kvs_emit_row<4>(keys, from, row);
    } else {
        kvs_emit_row<8>(keys, from, row);
    }
}

#endif
