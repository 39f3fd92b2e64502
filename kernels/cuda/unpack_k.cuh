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

/* The words of a block in a row, where a page of an odd number of 16 tokens has only half of the last; the reverse of
 * kvs_emit_block and kvs_row_words: x[r] |= the codes of residue r ^ turn << shift. turn: 0 where width is 8. */
KVS_DEVICE void kvs_read_block(const kvs_keys &codes, const uint8_t *row, int block, int width, int shift, int turn,
                               uint32_t (&x)[8]) {
    uint32_t words[8], four[4];
    const uint8_t *at = row + block * width * 4;
    int count = 4 * block + 4 <= codes.live ? width : width / 2;
#pragma unroll
    for (int i = 0; i < 8; i++) words[i] = i < count ? kvs_ld_global_nc((const uint32_t *)at + i) : 0;
    if (width == 2) {
        uint32_t low = kvs_byte_perm(words[0], words[1], turn < 4 ? 0x6420 : 0x7531);
        uint32_t high = kvs_byte_perm(words[0], words[1], turn < 4 ? 0x7531 : 0x6420);
#pragma unroll
        for (int r = 0; r < 4; r++) {
            int at_bit = 2 * ((r ^ turn) % 4);
            x[r] |= (low >> at_bit & 0x03030303u) << shift;
            x[r + 4] |= (high >> at_bit & 0x03030303u) << shift;
        }
    } else if (width == 4) {
        int even = turn % 2 * 4, odd = 4 - even;
        kvs_transpose_bytes(words[0], words[1], words[2], words[3], four);
        kvs_turn_pairs(four, turn);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            x[2 * i] |= (four[i] >> even & 0x0f0f0f0fu) << shift;
            x[2 * i + 1] |= (four[i] >> odd & 0x0f0f0f0fu) << shift;
        }
    } else {
        kvs_transpose_bytes(words[0], words[2], words[4], words[6], four);
#pragma unroll
        for (int i = 0; i < 4; i++) x[i] = four[i];
        kvs_transpose_bytes(words[1], words[3], words[5], words[7], four);
#pragma unroll
        for (int i = 0; i < 4; i++) x[i + 4] = four[i];
    }
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

KVS_DEVICE void kvs_read_rows(const kvs_format &format, const kvs_keys &codes, const uint8_t *page) {
    int blocks = (codes.live + 3) / 4, bits = format.shape.bits;
    for (int i = (int)threadIdx.x; i < codes.head_dim * blocks; i += codes.head_dim) {
        int row = i / blocks, block = i - row * blocks;
        kvs_row_place at = kvs_place_of_row(format, page, row);
        int width = format.keys == KVS_KEYS_SCATTERED ? kvs_key_bits(&format, at.boosted) : bits;
        kvs_turned_words to = kvs_turn_words(codes, at.channel, block, width < 8);
        uint32_t x[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        kvs_read_block(codes, page + at.bit / 8, block, width, 0, to.turn, x);
        if (format.keys == KVS_KEYS_PLANES) {
            uint32_t bit = format.key_more.base + (uint32_t)at.more * format.key_more.row[0];
            for (int shift = bits; at.boosted && shift < format.shape.boost_bits; shift += bits) {
                kvs_read_block(codes, page + bit / 8, block, bits, shift, to.turn, x);
                bit += format.plane_bits;
            }
        }
#pragma unroll
        for (int r = 0; r < KVS_RESIDUES; r++) kvs_st_shared(kvs_turned_word(to, r), x[r]);
    }
}

#endif
