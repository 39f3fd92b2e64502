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

/* The words of one channel and block, of which a lane takes residue r ^ turn at step r. Lanes of a warp have blocks and
 * channels whose words of one residue share banks: so each turns to another at a time. */
struct kvs_turned_words {
    unsigned char *base;
    int cell, turn, step;
};

KVS_DEVICE kvs_turned_words kvs_turn_words(const kvs_keys &keys, int channel, int block, bool turned) {
    kvs_turned_words words;
    words.turn = turned ? (block ^ channel / 8 * 2) % 4 | channel % 2 * 4 : 0;
    words.cell = kvs_key_cell(keys, words.turn, channel / 8);
    words.base = keys.bytes + channel % 2 * keys.stride + channel % 8 / 2 * 4 + block * keys.block;
    words.step = keys.pitch + 16; /* a residue is a bit of the row, and of the permuted chunk */
    return words;
}

KVS_DEVICE uint32_t *kvs_turned_word(const kvs_turned_words &words, int r) {
    return (uint32_t *)(words.base + (words.cell ^ r * words.step));
}

/* Words of residue pairs r / 2 ^ turn / 2 in the order of residues, or the reverse. */
KVS_DEVICE void kvs_turn_pairs(uint32_t (&four)[4], int turn) {
    bool near = (turn & 2) != 0, far = (turn & 4) != 0;
    uint32_t a = near ? four[1] : four[0], b = near ? four[0] : four[1];
    uint32_t c = near ? four[3] : four[2], d = near ? four[2] : four[3];
    four[0] = far ? c : a, four[1] = far ? d : b;
    four[2] = far ? a : c, four[3] = far ? b : d;
}

/* Bytes 0 of four words, then bytes 1, ... */
KVS_DEVICE void kvs_transpose_bytes(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t (&out)[4]) {
    uint32_t ab = kvs_byte_perm(a, b, 0x5140), cd = kvs_byte_perm(c, d, 0x5140);
    out[0] = kvs_byte_perm(ab, cd, 0x5410), out[1] = kvs_byte_perm(ab, cd, 0x7632);
    ab = kvs_byte_perm(a, b, 0x7362), cd = kvs_byte_perm(c, d, 0x7362);
    out[2] = kvs_byte_perm(ab, cd, 0x5410), out[3] = kvs_byte_perm(ab, cd, 0x7632);
}

/* The `width` words of a block's 32 codes, of which bits [shift, shift + width) are taken. */
KVS_DEVICE void kvs_row_words(const kvs_keys &keys, int channel, int block, int width, int shift,
                              uint32_t (&words)[8]) {
    kvs_turned_words from = kvs_turn_words(keys, channel, block, width < 8);
    uint32_t mask = ((1u << width) - 1u) * 0x01010101u, x[8];
#pragma unroll
    for (int r = 0; r < KVS_RESIDUES; r++) x[r] = kvs_ld_shared(kvs_turned_word(from, r)) >> shift & mask;
    uint32_t four[4];
    if (width == 2) {
        uint32_t half[2] = {0, 0};
#pragma unroll
        for (int r = 0; r < KVS_RESIDUES; r++) half[r / 4] += x[r] * (1u << 2 * ((r ^ from.turn) % 4));
        uint32_t low = from.turn < 4 ? half[0] : half[1], high = from.turn < 4 ? half[1] : half[0];
        words[0] = kvs_byte_perm(low, high, 0x5140), words[1] = kvs_byte_perm(low, high, 0x7362);
    } else if (width == 4) {
        uint32_t pairs[4], even = from.turn % 2 ? 16 : 1, odd = 17 - even;
#pragma unroll
        for (int i = 0; i < 4; i++) pairs[i] = x[2 * i] * even + x[2 * i + 1] * odd;
        kvs_turn_pairs(pairs, from.turn);
        kvs_transpose_bytes(pairs[0], pairs[1], pairs[2], pairs[3], four);
#pragma unroll
        for (int i = 0; i < 4; i++) words[i] = four[i];
    } else {
        kvs_transpose_bytes(x[0], x[1], x[2], x[3], four);
#pragma unroll
        for (int i = 0; i < 4; i++) words[2 * i] = four[i];
        kvs_transpose_bytes(x[4], x[5], x[6], x[7], four);
#pragma unroll
        for (int i = 0; i < 4; i++) words[2 * i + 1] = four[i];
    }
}

/* Where a page has an odd number of 16 tokens, rows begin at multiples of 4 bytes, otherwise of 8. */
KVS_DEVICE void kvs_emit_block(const kvs_keys &keys, uint8_t *row, int channel, int block, int width, int shift) {
    uint32_t words[8];
    kvs_row_words(keys, channel, block, width, shift, words);
    uint8_t *at = row + block * width * 4;
    int count = 4 * block + 4 <= keys.live ? width : width / 2;
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
        if (keys.live % 4 == 0) {
            kvs_u32x2 two = {words[i], words[i + 1]};
            if (i < count) kvs_st_global((kvs_u32x2 *)(at + 4 * i), two);
        } else {
            if (i < count) kvs_st_global((uint32_t *)(at + 4 * i), words[i]);
            if (i + 1 < count) kvs_st_global((uint32_t *)(at + 4 * i + 4), words[i + 1]);
        }
    }
}

/* Rows [0, rows), one after another. channels NULL: row = channel. */
KVS_DEVICE void kvs_emit_rows(const kvs_keys &keys, uint8_t *at, int rows, const uint8_t *channels, int width,
                              int shift) {
    int blocks = (keys.live + 3) / 4, row_bytes = keys.live * width;
    for (int i = (int)threadIdx.x; i < rows * blocks; i += keys.head_dim) {
        int row = i / blocks, block = i - row * blocks;
        int channel = channels == nullptr ? row : (int)kvs_ld_shared(channels + row);
        kvs_emit_block(keys, at + row * row_bytes, channel, block, width, shift);
    }
}

KVS_DEVICE void kvs_emit_planes(const kvs_format &format, const kvs_keys &keys, const uint8_t *order, uint8_t *page) {
    const kvs_page_shape &shape = format.shape;
    kvs_emit_rows(keys, page + format.key.base / 8, shape.head_dim, format.sorted ? order : nullptr, shape.bits, 0);
    for (int plane = 1; plane * shape.bits < shape.boost_bits && shape.boost_channels > 0; plane++)
        kvs_emit_rows(keys, page + (format.key_more.base + (uint32_t)(plane - 1) * format.plane_bits) / 8,
                      shape.boost_channels, order, shape.bits, plane * shape.bits);
}

/* Thread d writes the row of channel d. */
KVS_DEVICE void kvs_emit_scattered(const kvs_format &format, const kvs_keys &keys, uint8_t *page,
                                   kvs_channel_place at) {
    int channel = (int)threadIdx.x;
    uint32_t bit = kvs_field_bit(&format.key, 0, channel) + (uint32_t)at.before * format.boosted_extra_bits;
    for (int block = 0; block < (keys.live + 3) / 4; block++)
        kvs_emit_block(keys, page + bit / 8, channel, block, kvs_key_bits(&format, at.boosted), 0);
}

#endif
