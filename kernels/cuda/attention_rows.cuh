/* attention_rows.cuh: logits and outputs of one page whose codes lie in rows: a channel's tokens side by side, and a
 * token's channels. So they do in the layouts with planes (kitty, kitty-inline, permuted) and in mixed-scattered.
 *
 * The matrix instruction wants two channels in one register, and a word has many tokens of one. Two words of adjacent
 * rows become, by byte selection, two whose halves belong to the two rows, and a mask takes one code of each: beyond
 * what the fragment layout needs that is one instruction for 8 codes, and narrower loads. A lane's row g of the tiles
 * is its own 16 codes of a row: code i for row g of tile i, code i + 8 for row g + 8. With fewer than 128 tokens (or
 * channels) four lanes share 16 codes, and two tiles are made of 32.
 *
 * Further planes multiply their rows again with the query times 2^bits, 2^(2 bits), ...; scattered rows are put in
 * order, boosted ones first, so that a step of 16 has one width. Either needs a table of channels, made once a page. */
#ifndef KVS_KERNELS_CUDA_ATTENTION_ROWS_CUH
#define KVS_KERNELS_CUDA_ATTENTION_ROWS_CUH

#include "kernels/cuda/attention_pages.cuh"
#include "kernels/cuda/head_dim.cuh"

/* `words` words at an address of their size, or (not aligned) of one. */
template <int words, bool aligned> KVS_DEVICE void kvs_load_row(const unsigned char *at, uint32_t (&w)[words]) {
    if (!aligned || words == 1) {
#pragma unroll
        for (int i = 0; i < words; i++) w[i] = kvs_ld_shared((const uint32_t *)at + i);
    } else if (words == 2) {
        kvs_u32x2 two = kvs_ld_shared((const kvs_u32x2 *)at);
        w[0] = two.x, w[words / 2] = two.y;
    } else {
#pragma unroll
        for (int i = 0; i < words / 4; i++) {
            kvs_u32x4 four = kvs_ld_shared((const kvs_u32x4 *)at + i);
            w[4 * i] = four.x, w[4 * i + 1] = four.y, w[4 * i + 2] = four.z, w[4 * i + 3] = four.w;
        }
    }
}

/* Where code i of kvs_pair_codes stands in its byte. */
KVS_DEVICE int kvs_row_place(int width, int i) {
    return width == 2 ? 2 * (i % 4) : width == 4 ? 4 * (i % 2) : 0;
}

/* Of 16 codes of row a and of row b, from word `first` of each: codes 8 * high + part * count + i as pairs (a, b). */
template <int count, int width, int words>
KVS_DEVICE void kvs_pair_codes(const uint32_t (&a)[words], const uint32_t (&b)[words], int first, int high, int part,
                               uint32_t (&pairs)[count]) {
    if (width == 2) {
        uint32_t z = kvs_byte_perm(a[first], b[first], high ? 0x7632 : 0x5410);
        if (count == 2) z >>= 4 * part;
        uint32_t upper = z >> 8;
#pragma unroll
        for (int i = 0; i < count; i++) pairs[i] = (i < 4 ? z : upper) & 0x00030003u << 2 * (i % 4);
    } else if (width == 4) {
#pragma unroll
        for (int half = 0; half < (count == 8 ? 2 : 1); half++) {
            int select = count == 8 ? half : part / 2;
            uint32_t z = kvs_byte_perm(a[first + high], b[first + high], select ? 0x7632 : 0x5410);
            if (count == 2) z >>= 8 * (part % 2);
            uint32_t upper = z >> 8;
#pragma unroll
            for (int i = 0; i < (count == 8 ? 4 : 2); i++)
                pairs[4 * half + i] = (i < 2 ? z : upper) & 0x000f000fu << 4 * (i % 2);
        }
    } else {
#pragma unroll
        for (int two = 0; two < count / 2; two++) {
            const int w = first + 2 * high;
            uint32_t x = a[w], y = b[w];
            if (count == 8 ? two / 2 : part / 2) x = a[w + 1], y = b[w + 1];
            uint32_t z = kvs_byte_perm(x, y, (count == 8 ? two : part) % 2 ? 0x7632 : 0x5410);
            pairs[2 * two] = z & 0x00ff00ffu;
            pairs[2 * two + 1] = (z >> 8) & 0x00ff00ffu;
        }
    }
}

/* The first operands of `count` tiles from four rows: those of k = 2q, 2q + 1, 2q + 8, 2q + 9. */
template <int count, int width, int words>
KVS_DEVICE void kvs_row_operands(const uint32_t (&rows)[4][words], int first, int part, uint32_t (&a)[4][count]) {
#pragma unroll
    for (int i = 0; i < 4; i++)
        kvs_pair_codes<count, width>(rows[i / 2 * 2], rows[i / 2 * 2 + 1], first, i % 2, part, a[i]);
}

/* sums += codes of 16 rows times b. at: the lane's codes of its four rows. Where the step's width is not the page's
 * narrow one, `fix` [i % 4] brings tile i to the narrow one's place. */
template <int tiles, int width, bool aligned, bool fixed>
KVS_DEVICE void kvs_multiply_rows(float (&sums)[tiles][4], const unsigned char *page, const uint32_t (&at)[4], int part,
                                  const uint32_t (&b)[2], const uint32_t (&fix)[4]) {
    uint32_t rows[4][width / 2], a[4][tiles];
#pragma unroll
    for (int i = 0; i < 4; i++) kvs_load_row<width / 2, aligned>(page + at[i], rows[i]);
    kvs_row_operands<tiles, width>(rows, 0, part, a);
    uint32_t columns[4][2];
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int r = 0; r < 2; r++) columns[i][r] = fixed ? kvs_pair_mul(b[r], fix[i]) : b[r];
#pragma unroll
    for (int i = 0; i < tiles; i++) {
        uint32_t operand[4] = {a[0][i], a[1][i], a[2][i], a[3][i]};
        kvs_mma_m16n8k16(sums[i], operand, columns[i % 4]);
    }
}

/* The pages of one head, as attention_pages.cuh wants them. Offsets are bytes; those not of the source are in the
 * warp's shared memory: keys as they lie in the page, their metadata, values with a gap after every 32 tokens (so that
 * rows 32 tokens apart are in different banks), their metadata, the table of channels. */
template <int head_dim_, int block, int blocks, bool scattered> struct kvs_row_pages {
    static const int head_dim = head_dim_, residents = KVS_ATTENTION_RESIDENTS(head_dim_, 1);
    typedef kvs_attention_shape<head_dim_, kvs_order_rows<head_dim_, block>, blocks> shape;
    uint32_t key_bytes, key_meta, key_meta_bytes, index, order, values, value_meta, value_meta_bytes, shared_bytes;
    uint32_t key_meta_source, value_source, value_meta_source, low, more, plane_bytes, extra_bytes;
    uint32_t key_row_bytes, row_bytes, gap; /* a row of keys at `bits`; a token's values, and what follows 32 of them */
    int separate, page_tokens, bits, boost_bits, value_bits, value_groups, boosted, sorted, indexed;

    KVS_HD kvs_row_pages of(const kvs_format &format) {
        const kvs_page_shape &s = format.shape;
        kvs_row_pages p;
        p.separate = format.key_scale.tensor;
        p.page_tokens = s.page_tokens;
        p.bits = s.bits, p.boost_bits = s.boost_bits, p.value_bits = s.value_bits;
        p.boosted = s.boost_channels;
        p.sorted = format.sorted;
        p.indexed = format.index != KVS_INDEX_NONE;
        p.value_groups = (int)(format.value_scale.token[0] / 32);
        p.key_meta_source = format.key_scale.base / 8;
        p.value_source = format.value.base / 8;
        p.value_meta_source = format.value_scale.base / 8;
        p.low = format.key.base / 8, p.more = format.key_more.base / 8;
        p.plane_bytes = format.plane_bits / 8, p.extra_bytes = format.boosted_extra_bits / 8;
        p.key_row_bytes = (uint32_t)(s.page_tokens * s.bits) / 8;
        p.row_bytes = (uint32_t)(head_dim * s.value_bits) / 8;
        p.gap = (p.row_bytes + 15) / 16 * 16; /* whole copies of 16 bytes */
        p.index = format.index_byte;
        p.key_bytes = p.value_source;
        p.key_meta_bytes = p.separate ? (uint32_t)head_dim * 4 : 0;
        p.key_meta = p.separate ? p.key_bytes : p.key_meta_source;
        p.values = p.key_bytes + p.key_meta_bytes;
        p.value_meta = p.values + (uint32_t)p.page_tokens * p.row_bytes + (uint32_t)(p.page_tokens - 1) / 32 * p.gap;
        p.value_meta_bytes = (uint32_t)(p.page_tokens * p.value_groups) * 4;
        p.order = kvs_max_bytes(p.value_meta + p.value_meta_bytes, p.values + kvs_tail_bytes(head_dim));
        p.shared_bytes = p.order + head_dim;
        return p;
    }

    KVS_DEVICE void fetch_keys(const kvs_row_pages &p, unsigned char *page, const kvs_page_source &source) {
        kvs_fetch(page, source.at[0], p.key_bytes);
        if (p.separate) kvs_fetch(page + p.key_meta, source.at[1] + p.key_meta_source, p.key_meta_bytes);
    }

    KVS_DEVICE void fetch_values(const kvs_row_pages &p, unsigned char *page, const kvs_page_source &source) {
        uint32_t stretch = 32 * p.row_bytes, rest = (uint32_t)p.page_tokens * p.row_bytes;
        const uint8_t *from = source.at[0] + p.value_source;
        unsigned char *to = page + p.values;
        for (; rest > stretch; rest -= stretch, from += stretch, to += stretch + p.gap) kvs_fetch(to, from, stretch);
        kvs_fetch(to, from, rest);
        const uint8_t *meta = p.separate ? source.at[1] : source.at[0];
        kvs_fetch(page + p.value_meta, meta + p.value_meta_source, p.value_meta_bytes);
    }

    /* Token of row g + 8 * high of a tile, in the stretch of `tiles` tiles that begins at token `first`. */
    template <int tiles> KVS_DEVICE int token(const kvs_row_pages &p, int first, int tile, int g, int high) {
        if (tiles == 8) return first + 16 * g + tile + 8 * high;
        int token = first + 16 * (g % 2) + 2 * (g / 2) + tile + 8 * high;
        return token < p.page_tokens ? token : -1;
    }

    /* Fills the table of channels, and says what brings the largest key scale below 2^-1 (an exponent, at most 9):
     * times 2^6 for a further plane or a place, and times the query's 2^6, it is still a binary16. */
    KVS_DEVICE int open_keys(const kvs_row_pages &p, unsigned char *page) {
        int lane = (int)threadIdx.x % 32, before = 0;
        uint32_t largest = 0;
#pragma unroll
        for (int i = 0; i < head_dim / 32; i++) {
            int channel = 32 * i + lane;
            largest = kvs_pair_max(largest, kvs_ld_shared((const uint32_t *)(page + p.key_meta) + channel) & 0xffffu);
            if (!p.indexed || p.sorted) continue;
            int row;
            if (scattered) {
                uint32_t mask = kvs_ld_shared((const uint32_t *)(page + p.index) + i);
                int boosted_before = before + kvs_popcount(mask & ((1u << lane) - 1u));
                row = mask >> lane & 1u ? boosted_before : p.boosted + channel - boosted_before;
                before += kvs_popcount(mask);
            } else
                row = kvs_ld_shared(page + p.index + channel);
            if (scattered || row < p.boosted) kvs_st_shared(page + p.order + row, (unsigned char)channel);
        }
        kvs_syncwarp();
        for (int mask = 16; mask > 0; mask /= 2) largest = kvs_pair_max(largest, kvs_shfl_xor(largest, mask));
        return kvs_shift_below(kvs_pair_low(largest), -1, 9);
    }

    /* Rows that are multiplied alike: a plane, or the narrow or the boosted rows of scattered ones. */
    struct segment {
        uint32_t codes, channels; /* where they begin; channels 0 where row and channel are one */
        int rows, power;
        bool wide, has_zeros;
    };

    KVS_DEVICE segment segment_of(const kvs_row_pages &p, int number) {
        uint32_t table = !p.indexed ? 0 : p.sorted ? p.index : p.order;
        segment s = {p.low, 0, head_dim, 0, false, true};
        if (scattered) {
            s.wide = number > 0;
            s.rows = s.wide ? p.boosted : head_dim - p.boosted;
            if (table != 0) s.channels = s.wide ? table : table + (uint32_t)p.boosted;
        } else if (number == 0) {
            if (p.sorted) s.channels = table;
        } else {
            s.codes = p.more + (uint32_t)(number - 1) * p.plane_bytes;
            s.channels = table;
            s.rows = p.boosted;
            s.power = number * p.bits;
            s.has_zeros = false;
        }
        return s;
    }

    KVS_DEVICE int channel_of(const segment &s, const unsigned char *page, int row) {
        return s.channels != 0 ? (int)kvs_ld_shared(page + s.channels + row) : row;
    }

    /* Logits of tiles * 16 tokens of the page, from token `first` on: of each tile, rows g and g + 8. */
    template <int tiles>
    KVS_DEVICE void logits(const kvs_row_pages &p, const unsigned char *page, kvs_queries queries, int shift, int first,
                           float (&out)[2 * tiles]) {
        int lane = (int)threadIdx.x % 32, g = lane / 4, k = lane % 16;
        int word = first / 16 + (tiles == 8 ? g : g % 2);
        if (word >= p.page_tokens / 16) word = p.page_tokens / 16 - 1;
        /* Row 4i + q of a step is k = 2q, 2q + 1, 2q + 8, 2q + 9: four lanes read adjacent rows. */
        int row_of_k = lane / 16 * 16 + k % 8 / 2 + 4 * (k % 2) + 8 * (k / 8);
        int segments = p.boosted == 0 ? 1 : scattered ? 2 : p.boost_bits / p.bits;
        uint32_t fix[4];
#pragma unroll
        for (int i = 0; i < 4; i++) fix[i] = kvs_pair_power(kvs_row_place(p.bits, i) - kvs_row_place(p.boost_bits, i));
        float sums[tiles][4] = {}, zeros[4] = {};
#pragma unroll 1
        for (int number = 0; number < segments; number++) {
            segment s = segment_of(p, number);
            uint32_t power = kvs_pair_power(shift + s.power);
#pragma unroll 1
            for (int row = 0; row < s.rows; row += 32) {
                int own = row + row_of_k;
                uint32_t b[4];
                kvs_ldmatrix_x4_trans(b, queries.columns + channel_of(s, page, own < s.rows ? own : s.rows - 1) * 16);
#pragma unroll 1
                for (int half = 0; half < 2 && row + 16 * half < s.rows; half++) {
                    step<tiles>(p, page, s, row + 16 * half, word, power, b[0], b[1], fix, sums, zeros);
                    b[0] = b[2], b[1] = b[3];
                }
            }
        }
        float unscale = kvs_ld_shared(queries.unscale + lane % 4), zero = zeros[0] * unscale;
#pragma unroll
        for (int i = 0; i < tiles; i++) {
            float scale = unscale * kvs_power(24 - shift - kvs_row_place(p.bits, i));
            out[2 * i] = kvs_fma(sums[i][0] + sums[i][1], scale, zero);
            out[2 * i + 1] = kvs_fma(sums[i][2] + sums[i][3], scale, zero);
            if (tiles != 8 && token<tiles>(p, first, i, g, 0) < 0) out[2 * i] = out[2 * i + 1] = KVS_LOWEST;
        }
    }

    /* 16 rows of a segment, from `row` on; b0 and b1 are the query's columns. Rows that are not there count nothing. */
    template <int tiles>
    KVS_DEVICE void step(const kvs_row_pages &p, const unsigned char *page, const segment &s, int row, int word,
                         uint32_t power, uint32_t b0, uint32_t b1, const uint32_t (&fix)[4], float (&sums)[tiles][4],
                         float (&zeros)[4]) {
        int lane = (int)threadIdx.x % 32, part = tiles == 8 ? 0 : lane / 8;
        bool second = lane / 4 % 2 != 0;
        int width = scattered && s.wide ? p.boost_bits : p.bits;
        uint32_t meta[4], at[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int own = row + 4 * i + lane % 4, known = own < s.rows;
            if (!known) own = s.rows - 1;
            int channel = channel_of(s, page, own);
            meta[i] = kvs_ld_shared((const uint32_t *)(page + p.key_meta) + (p.sorted ? own : channel));
            if (!known) meta[i] = 0;
            uint32_t begin = (uint32_t)(scattered ? channel : own) * p.key_row_bytes;
            if (scattered) begin += (uint32_t)(s.wide ? own : channel - own) * p.extra_bytes;
            at[i] = s.codes + begin + (uint32_t)(word * 2 * width);
        }
        uint32_t scales[2], z[4];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            scales[i] = kvs_pair_mul(kvs_byte_perm(meta[2 * i], meta[2 * i + 1], 0x5410), power);
            z[2 * i] = z[2 * i + 1] = kvs_byte_perm(meta[2 * i], meta[2 * i + 1], 0x7632);
        }
        uint32_t columns[2] = {b0, b1};
        if (s.has_zeros) kvs_mma_m16n8k16(zeros, z, columns);
        uint32_t b[2] = {kvs_split_product(b0, scales[0], second), kvs_split_product(b1, scales[1], second)};
        if (scattered && s.wide) {
            if (width == 4)
                kvs_multiply_rows<tiles, 4, false, true>(sums, page, at, part, b, fix);
            else
                kvs_multiply_rows<tiles, 8, false, true>(sums, page, at, part, b, fix);
        } else if (width == 2)
            kvs_multiply_rows<tiles, 2, true, false>(sums, page, at, part, b, fix);
        else if (width == 4)
            kvs_multiply_rows<tiles, 4, true, false>(sums, page, at, part, b, fix);
        else
            kvs_multiply_rows<tiles, 8, true, false>(sums, page, at, part, b, fix);
    }

    /* Scale (low half) and zero of a token's values, in the part of its channels. */
    KVS_DEVICE uint32_t value_meta_of(const kvs_row_pages &p, const unsigned char *page, int token, int part) {
        int group = part * p.value_groups / blocks;
        return kvs_ld_shared((const uint32_t *)(page + p.value_meta) + (token < 0 ? 0 : token) * p.value_groups +
                             group);
    }

    /* Softens the logits of tiles * 16 tokens and adds their values. */
    template <int tiles>
    KVS_DEVICE void attend(const kvs_row_pages &p, kvs_attended<shape> &a, const unsigned char *page, int first,
                           float (&weights)[2 * tiles]) {
        int g = (int)threadIdx.x % 32 / 4;
        uint32_t largest = 0;
#pragma unroll
        for (int i = 0; i < 2 * tiles; i++)
#pragma unroll
            for (int part = 0; part < blocks; part++) {
                uint32_t meta = value_meta_of(p, page, token<tiles>(p, first, i / 2, g, i % 2), part);
                largest = kvs_pair_max(largest, meta & 0xffffu);
            }
        int shift = kvs_value_shift(a, largest);
        kvs_soften(a, weights, 24 - shift, p.value_bits);
        float power = kvs_power(shift);
#pragma unroll
        for (int i = 0; i < tiles; i++) {
            uint32_t at[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int t = token<tiles>(p, first, i, 2 * ((int)threadIdx.x % 4) + j % 2, j / 2);
                if (t < 0) t = first;
                at[j] = p.values + (uint32_t)t * p.row_bytes + (uint32_t)t / 32 * p.gap;
            }
#pragma unroll
            for (int part = 0; part < blocks; part++) {
                uint32_t b[2];
#pragma unroll
                for (int high = 0; high < 2; high++) {
                    uint32_t meta = value_meta_of(p, page, token<tiles>(p, first, i, g, high), part);
                    float weight = weights[2 * i + high];
                    a.shift[part] = kvs_fma(weight, kvs_pair_high(meta), a.shift[part]);
                    b[high] = kvs_movmatrix_trans(kvs_split_weight(weight * kvs_pair_low(meta) * power));
                }
                if (p.value_bits == 2)
                    multiply<2>(a, page, at, part, b);
                else if (p.value_bits == 4)
                    multiply<4>(a, page, at, part, b);
                else
                    multiply<8>(a, page, at, part, b);
            }
        }
    }

    /* Adds the values of 16 tokens to the outputs of one part of the channels. */
    template <int width>
    KVS_DEVICE void multiply(kvs_attended<shape> &a, const unsigned char *page, const uint32_t (&at)[4], int part,
                             const uint32_t (&b)[2]) {
        const int sixteens = block == 8 ? head_dim / 128 : 1, words = width / 2 * sixteens;
        const int count = head_dim / (16 * block) / blocks / sixteens; /* loads of a row that a part takes */
        int g = (int)threadIdx.x % 32 / 4;
#pragma unroll
        for (int i = 0; i < count; i++) {
            int sixteen = block == 8 ? g * sixteens : 2 * (part * count + i) + g % 2;
            uint32_t rows[4][words];
#pragma unroll
            for (int j = 0; j < 4; j++) kvs_load_row<words, true>(page + at[j] + sixteen * 2 * width, rows[j]);
#pragma unroll
            for (int n = 0; n < sixteens; n++) {
                uint32_t codes[4][block];
                kvs_row_operands<block, width>(rows, n * (width / 2), g / 2, codes);
#pragma unroll
                for (int t = 0; t < block; t++) {
                    uint32_t operand[4] = {codes[0][t], codes[1][t], codes[2][t], codes[3][t]};
                    kvs_mma_m16n8k16(a.output[((part * count + i) * sixteens + n) * block + t], operand, b);
                }
            }
        }
    }
};

template <int head_dim, bool scattered> int kvs_launch_rows_of(const kvs_attention_args *args, kvs_stream stream) {
    typedef kvs_row_pages<head_dim, head_dim % 128 == 0 ? 8 : 2, 1, scattered> form;
    if (args->format.shape.page_tokens % 128 == 0) return kvs_launch_pages<form, 8>(args, stream);
    return kvs_launch_pages<form, 2>(args, stream);
}

template <bool scattered> int kvs_launch_rows(const kvs_attention_args *args, kvs_stream stream) {
    return kvs_with_head_dim(args->format.shape.head_dim, [=](auto head_dim) {
        return kvs_launch_rows_of<decltype(head_dim)::value, scattered>(args, stream);
    });
}

#endif
