/* quantize_k.cu: keys: channel scores, choice of the boosted channels, scales and zeros, codes, packing. A block has
 * one page, which it copies once into shared memory.
 *
 * Eight lanes share 8 channels; lane r of them has the tokens r, r + 8, ... That is what the scores' tree of sums asks
 * for (kernels/ranking.h): its first levels add tokens that differ in high bits, all of one lane; the last three add
 * over lanes. There each lane keeps half of its channels, so that in the end thread d has channel d. */
#include "core/random.h"
#include "kernels/cuda/encode.cuh"

namespace {

enum { RESIDUES = 8 };

/* Shared memory, in this order. */
struct layout_of_shared {
    kvs_encoder *encoders; /* [head_dim] */
    kvs_u32x2 *exact;      /* [head_dim]: minimum and divisor */
    float *scores;         /* [head_dim]; means before */
    uint16_t *rows;        /* [head_dim]: fragment: the row of a channel; else the channel of a row further on */
    uint32_t *counts;      /* [8]: boosted channels of each warp */
    unsigned char *keys;   /* [tokens][head_dim] binary16; 16 bytes between rows spread them over the banks */
    unsigned char *codes;
    int pitch; /* of keys, in bytes */
};

KVS_DEVICE layout_of_shared shared_of(const kvs_page_shape &shape) {
    layout_of_shared s;
    unsigned char *at = KVS_SHARED;
    int head_dim = shape.head_dim;
    s.encoders = (kvs_encoder *)at;
    s.exact = (kvs_u32x2 *)(at + 16 * head_dim);
    s.scores = (float *)(at + 24 * head_dim);
    s.rows = (uint16_t *)(at + 28 * head_dim);
    s.counts = (uint32_t *)(at + 30 * head_dim);
    s.keys = at + 30 * head_dim + 32;
    s.pitch = 2 * head_dim + 16;
    s.codes = s.keys + shape.page_tokens * s.pitch;
    return s;
}

size_t bytes_before_codes(const kvs_page_shape &shape) {
    return (size_t)(shape.head_dim * 30 + 32 + shape.page_tokens * (2 * shape.head_dim + 16));
}

KVS_DEVICE void fetch_page(const kvs_page_shape &shape, const uint16_t *source, layout_of_shared s) {
    int chunks = shape.head_dim / 8;
    for (int i = (int)threadIdx.x; i < shape.page_tokens * chunks; i += (int)blockDim.x) {
        int token = i / chunks, chunk = i - token * chunks;
        kvs_cp_async16(s.keys + token * s.pitch + chunk * 16, source + (int64_t)i * 8);
    }
    kvs_cp_async_commit();
    kvs_cp_async_wait<0>();
}

/* This thread's first token, at its 8 channels; the next one lies 8 rows on. */
KVS_DEVICE const kvs_u32x4 *my_keys(layout_of_shared s, int k) {
    int channel = (int)threadIdx.x;
    return (const kvs_u32x4 *)(s.keys + (channel % RESIDUES + RESIDUES * k) * s.pitch + channel / RESIDUES * 16);
}

/* --- sums and extremes over the tokens of a channel ----------------------------------------------------------------
 */

/* Thread r of 8 starts with its share of 8 channels and ends with the whole of channel r. */
KVS_DEVICE float scatter_sum(float (&share)[8], int r) {
#pragma unroll
    for (int half = 4; half > 0; half /= 2) {
        bool upper = (r & half) != 0;
#pragma unroll
        for (int c = 0; c < half; c++) {
            float kept = upper ? share[c + half] : share[c], sent = upper ? share[c] : share[c + half];
            share[c] = kept + kvs_shfl_xor(sent, half);
        }
    }
    return share[0];
}

template <bool maximum> KVS_DEVICE float scatter_extreme(uint32_t (&pairs)[4], int r) {
#pragma unroll
    for (int half = 2; half > 0; half /= 2) {
        bool upper = (r & 2 * half) != 0;
#pragma unroll
        for (int c = 0; c < half; c++) {
            uint32_t kept = upper ? pairs[c + half] : pairs[c], sent = upper ? pairs[c] : pairs[c + half];
            uint32_t other = kvs_shfl_xor(sent, 2 * half);
            pairs[c] = maximum ? kvs_pair_max(kept, other) : kvs_pair_min(kept, other);
        }
    }
    uint32_t other = kvs_shfl_xor(pairs[0], 1);
    uint32_t both = maximum ? kvs_pair_max(pairs[0], other) : kvs_pair_min(pairs[0], other);
    return r & 1 ? kvs_pair_high(both) : kvs_pair_low(both);
}

template <int count> KVS_DEVICE void extremes_of(layout_of_shared s, int r, float &minimum, float &maximum) {
    uint32_t low[4], high[4];
    kvs_u32x4 x = kvs_ld_shared(my_keys(s, 0));
#pragma unroll
    for (int p = 0; p < 4; p++) low[p] = high[p] = kvs_pair_at(x, p);
    for (int k = 1; k < count; k++) {
        x = kvs_ld_shared(my_keys(s, k));
#pragma unroll
        for (int p = 0; p < 4; p++) {
            low[p] = kvs_pair_min(low[p], kvs_pair_at(x, p));
            high[p] = kvs_pair_max(high[p], kvs_pair_at(x, p));
        }
    }
    minimum = scatter_extreme<false>(low, r);
    maximum = scatter_extreme<true>(high, r);
}

enum term { ABSOLUTE, PLAIN, SQUARED };

/* The first levels of the tree of sums: over this thread's tokens first, first + step, ... */
template <term what, int first, int step, int count>
KVS_DEVICE void local_tree(layout_of_shared s, const float (&means)[8], float (&sums)[8]) {
    if constexpr (step < count) {
        float others[8];
        local_tree<what, first, 2 * step, count>(s, means, sums);
        local_tree<what, first + step, 2 * step, count>(s, means, others);
#pragma unroll
        for (int c = 0; c < 8; c++) sums[c] += others[c];
    } else {
        kvs_u32x4 x = kvs_ld_shared(my_keys(s, first));
#pragma unroll
        for (int c = 0; c < 8; c++) {
            float value = kvs_element(x, c), deviation = value - means[c];
            sums[c] = what == ABSOLUTE ? fabsf(value) : what == PLAIN ? value : deviation * deviation;
        }
    }
}

template <int count> KVS_DEVICE float sum_magnitudes(layout_of_shared s, int r) {
    float sums[8], none[8] = {};
    local_tree<ABSOLUTE, 0, 1, count>(s, none, sums);
    return scatter_sum(sums, r);
}

/* Two passes, as the definition has them; means go around through shared memory. */
template <int count> KVS_DEVICE float sum_squared_deviations(layout_of_shared s, int r, float tokens) {
    float sums[8], means[8] = {};
    local_tree<PLAIN, 0, 1, count>(s, means, sums);
    float mean = scatter_sum(sums, r) / tokens;
    kvs_st_shared(s.scores + threadIdx.x, mean);
    kvs_syncwarp();
#pragma unroll
    for (int c = 0; c < 8; c++) means[c] = kvs_ld_shared(s.scores + threadIdx.x / 8 * 8 + c);
    local_tree<SQUARED, 0, 1, count>(s, means, sums);
    kvs_syncwarp();
    return scatter_sum(sums, r);
}

template <int count>
KVS_DEVICE float score_of(const kvs_quantize_args &args, layout_of_shared s, float minimum, float maximum) {
    int r = (int)threadIdx.x % RESIDUES;
    float tokens = (float)(count * RESIDUES);
    if (args.metric == KVS_METRIC_MAGNITUDE) return sum_magnitudes<count>(s, r) / tokens;
    if (args.metric == KVS_METRIC_RANGE) return maximum - minimum;
    if (args.metric == KVS_METRIC_VARIANCE) return sum_squared_deviations<count>(s, r, tokens) / tokens;
    const kvs_page_place *place = args.places + blockIdx.x;
    uint64_t key = kvs_ld_global_nc(&place->seed);
    key = kvs_random_key(key, (uint64_t)kvs_ld_global_nc(&place->sequence));
    key = kvs_random_key(key, (uint64_t)kvs_ld_global_nc(&place->layer));
    key = kvs_random_key(key, (uint64_t)kvs_ld_global_nc(&place->kv_head));
    key = kvs_random_key(key, (uint64_t)kvs_ld_global_nc(&place->page));
    return kvs_random_unit(key, threadIdx.x);
}

/* --- which channels are boosted ------------------------------------------------------------------------------------
 */

/* How many of channels [first, end) come before this one: a higher score, or the same and a lower channel. Scores are
 * not negative, so that their bits are in their order; `below` is the largest key that does not come before. */
KVS_DEVICE int count_before(const int *keys, int first, int end, int below) {
    int count = 0;
#pragma unroll 4
    for (int e = first; e < end; e += 4) {
        kvs_u32x4 four = kvs_ld_shared((const kvs_u32x4 *)(keys + e));
        count += (int)four.x > below;
        count += (int)four.y > below;
        count += (int)four.z > below;
        count += (int)four.w > below;
    }
    return count;
}

KVS_DEVICE int rank_of(const float *scores, int head_dim, float score) {
    const int *keys = (const int *)scores;
    int channel = (int)threadIdx.x, key = kvs_bit_cast<int>(score), own = channel / 32 * 32, rank = 0;
    for (int e = own; e < own + 32; e++) rank += kvs_ld_shared(keys + e) > (e < channel ? key - 1 : key);
    return rank + count_before(keys, 0, own, key - 1) + count_before(keys, own + 32, head_dim, key);
}

/* The place of this thread's channel. Every thread of the block calls it. */
KVS_DEVICE kvs_channel_place choose(const kvs_format &format, layout_of_shared s, float score) {
    int channel = (int)threadIdx.x, head_dim = format.shape.head_dim, count = format.shape.boost_channels;
    if (count == 0 || count == head_dim) {
        kvs_channel_place all = {count != 0, channel, count != 0 ? channel : 0};
        if (!format.sorted && count == 0) all.row = 0;
        return all;
    }
    kvs_st_shared(s.scores + channel, score);
    kvs_syncthreads();
    int rank = rank_of(s.scores, head_dim, score), boosted = rank < count;
    uint32_t warp_boosted = kvs_ballot(boosted);
    if (channel % 32 == 0) kvs_st_shared(s.counts + channel / 32, (uint32_t)kvs_popcount(warp_boosted));
    kvs_syncthreads();
    int before = kvs_popcount(warp_boosted & ((1u << channel % 32) - 1u));
    for (int w = 0; w < channel / 32; w++) before += (int)kvs_ld_shared(s.counts + w);
    kvs_channel_place at = {boosted, boosted ? rank : count, before};
    if (format.sorted) at.row = boosted ? before : count + channel - before;
    return at;
}

/* Scale, zero and index of this thread's channel. */
KVS_DEVICE void store_metadata(const kvs_format &format, uint8_t *page, uint8_t *meta_page, kvs_channel_place at,
                               kvs_affine_group group) {
    int channel = (int)threadIdx.x, row = kvs_meta_row(&format, channel, at);
    kvs_put_half(meta_page, format.key_scale, 0, row, group.scale);
    kvs_put_half(meta_page, format.key_zero, 0, row, group.zero);
    uint8_t *index = page + format.index_byte;
    if (format.index == KVS_INDEX_RANKS) kvs_st_global(index + channel, (uint8_t)at.row);
    if (format.index == KVS_INDEX_CHANNELS) kvs_st_global(index + at.row, (uint8_t)channel);
    if (format.index == KVS_INDEX_MASK) {
        uint32_t mask = kvs_ballot(at.boosted);
        if (channel % 32 == 0) kvs_st_global((uint32_t *)index + channel / 32, mask);
    }
}

/* --- packing: fragment ---------------------------------------------------------------------------------------------
 */

/* Per row and residue, 16-bit chunks: the codes of a channel in one half of a word (kernels/layouts/fragment.c). A
 * chunk has 4 tokens at 2 bits, otherwise 2. Offsets in chunks. */
KVS_DEVICE int chunks_of(int count, int width) {
    return width == 2 ? count / 4 : count / 2;
}

KVS_DEVICE int chunk_offset(const kvs_format &format, int count, int row) {
    int wide = chunks_of(count, format.shape.boost_bits), narrow = chunks_of(count, format.shape.bits);
    return row < format.wide_rows ? row * RESIDUES * wide
                                  : format.wide_rows * RESIDUES * wide + (row - format.wide_rows) * RESIDUES * narrow;
}

/* Tokens 4 * block .. of this thread's count, to the chunks that begin at `at`. */
KVS_DEVICE void stage_fragment(uint16_t *at, bool is_2_bits, int block, const uint32_t (&codes)[4]) {
    if (is_2_bits)
        kvs_st_shared(at + block,
                      (uint16_t)(kvs_two_bytes(codes[0], codes[1]) | kvs_two_bytes(codes[2], codes[3]) << 4));
    else
        kvs_st_shared((uint32_t *)at + block, kvs_four_bytes(codes[0], codes[1], codes[2], codes[3]));
}

KVS_DEVICE uint32_t two_rows(const uint16_t *even, const uint16_t *odd) {
    uint32_t low = kvs_ld_shared(even);
    return low | (uint32_t)kvs_ld_shared(odd) << 16;
}

/* The words of one lane and step of 16 rows. */
template <int count>
KVS_DEVICE void emit_step(const kvs_format &format, const unsigned char *staged, uint8_t *page, int step, int lane) {
    bool is_wide = 16 * step < format.wide_rows;
    const kvs_layout_field &field = is_wide ? format.key_more : format.key;
    int width = field.width, chunks = chunks_of(count, width), words = width == 8 ? 2 * chunks : chunks;
    const uint16_t *first = (const uint16_t *)staged + chunk_offset(format, count, 16 * step) + lane / 4 * chunks;
    const uint16_t *row = first + 2 * (lane % 4) * RESIDUES * chunks;
    int stride = RESIDUES * chunks;
    uint8_t *at = page + field.base / 8 + (uint32_t)((step - (is_wide ? 0 : format.wide_rows / 16)) * words * 128);
    if (count >= 16 && width != 8) {
        for (int i = 0; i < chunks; i += 4) {
            kvs_u32x2 rows[4];
#pragma unroll
            for (int j = 0; j < 4; j++)
                rows[j] = kvs_ld_shared((const kvs_u32x2 *)(row + (j % 2 + j / 2 * 8) * stride + i));
            kvs_u32x4 four;
            four.x = kvs_byte_perm(rows[0].x, rows[1].x, 0x5410) | kvs_byte_perm(rows[2].x, rows[3].x, 0x5410) << width;
            four.y = kvs_byte_perm(rows[0].x, rows[1].x, 0x7632) | kvs_byte_perm(rows[2].x, rows[3].x, 0x7632) << width;
            four.z = kvs_byte_perm(rows[0].y, rows[1].y, 0x5410) | kvs_byte_perm(rows[2].y, rows[3].y, 0x5410) << width;
            four.w = kvs_byte_perm(rows[0].y, rows[1].y, 0x7632) | kvs_byte_perm(rows[2].y, rows[3].y, 0x7632) << width;
            kvs_st_global((kvs_u32x4 *)(at + i * 128) + lane, four);
        }
        return;
    }
    for (int i = 0; i < chunks; i++) {
        uint32_t low = two_rows(row + i, row + stride + i);
        uint32_t high = two_rows(row + 8 * stride + i, row + 9 * stride + i);
        if (width == 8) {
            kvs_st_global((uint32_t *)(at + kvs_fragment_word((uint32_t)words, (uint32_t)lane, 2u * i)), low);
            kvs_st_global((uint32_t *)(at + kvs_fragment_word((uint32_t)words, (uint32_t)lane, 2u * i + 1)), high);
        } else
            kvs_st_global((uint32_t *)(at + kvs_fragment_word((uint32_t)words, (uint32_t)lane, (uint32_t)i)),
                          low | high << width);
    }
}

/* --- packing: rows -------------------------------------------------------------------------------------------------
 */

/* Codes are staged a byte each, [channel][tokens + 16]. */

/* Bits [shift, shift + width) of the 32 / width codes that follow `staged`. */
KVS_DEVICE uint32_t squeeze_word(const unsigned char *staged, int width, int shift) {
    uint32_t word = 0, mask = ((1u << width) - 1u) * 0x01010101u;
    for (int i = 0; i < 8 / width; i++) {
        uint32_t bytes = kvs_ld_shared((const uint32_t *)staged + i) >> shift & mask;
        word |= kvs_squeeze(bytes, width) << 4 * width * i;
    }
    return word;
}

/* Rows [0, rows) of consecutive words. channels NULL: row = channel. */
KVS_DEVICE void emit_rows(const kvs_format &format, const unsigned char *staged, uint8_t *page, uint32_t base_bit,
                          int rows, const uint16_t *channels, int width, int shift) {
    int tokens = format.shape.page_tokens, words = tokens * width / 32;
    for (int i = (int)threadIdx.x; i < rows * words; i += (int)blockDim.x) {
        int row = i / words, word = i - row * words;
        int channel = channels == nullptr ? row : (int)kvs_ld_shared(channels + row);
        uint32_t bits = squeeze_word(staged + channel * (tokens + 16) + word * 32 / width, width, shift);
        kvs_st_global((uint32_t *)(page + base_bit / 8) + i, bits);
    }
}

KVS_DEVICE void emit_planes(const kvs_format &format, layout_of_shared s, uint8_t *page) {
    const kvs_page_shape &shape = format.shape;
    const uint16_t *all = format.sorted ? s.rows : nullptr;
    emit_rows(format, s.codes, page, format.key.base, shape.head_dim, all, shape.bits, 0);
    for (int plane = 1; plane * shape.bits < shape.boost_bits && shape.boost_channels > 0; plane++)
        emit_rows(format, s.codes, page, format.key_more.base + (uint32_t)(plane - 1) * format.plane_bits,
                  shape.boost_channels, s.rows, shape.bits, plane * shape.bits);
}

/* Thread d writes the row of channel d. */
KVS_DEVICE void emit_scattered(const kvs_format &format, layout_of_shared s, uint8_t *page, kvs_channel_place at) {
    int tokens = format.shape.page_tokens, channel = (int)threadIdx.x, width = kvs_key_bits(&format, at.boosted);
    uint8_t *row = page + kvs_key_place(&format, 0, channel, at).part[0].bit / 8;
    for (int i = 0; i < tokens * width / 32; i++)
        kvs_st_global((uint32_t *)row + i, squeeze_word(s.codes + channel * (tokens + 16) + i * 32 / width, width, 0));
}

/* --- the kernel ----------------------------------------------------------------------------------------------------
 */

/* A few tokens at a time, so that few registers do. */
template <int count, bool fragment> KVS_DEVICE void encode_keys(const kvs_quantize_args &args, layout_of_shared s) {
    const int tokens = count < 4 ? count : 4;
    int r = (int)threadIdx.x % RESIDUES, first = (int)threadIdx.x / RESIDUES * 8;
    uint16_t *chunks[8];
    uint32_t is_2_bits = 0;
    if constexpr (fragment) {
#pragma unroll
        for (int c = 0; c < 8; c++) {
            int row = (int)kvs_ld_shared(s.rows + first + c);
            int width = row < args.format.wide_rows ? args.format.shape.boost_bits : args.format.shape.bits;
            chunks[c] = (uint16_t *)s.codes + chunk_offset(args.format, count, row) + r * chunks_of(count, width);
            is_2_bits |= (uint32_t)(width == 2) << c;
        }
    }
#pragma unroll 1
    for (int block = 0; block < count / tokens; block++) {
        kvs_u32x4 x[tokens];
#pragma unroll
        for (int k = 0; k < tokens; k++) x[k] = kvs_ld_shared(my_keys(s, tokens * block + k));
#pragma unroll
        for (int c = 0; c < 8; c++) {
            kvs_u32x4 words = kvs_ld_shared((const kvs_u32x4 *)(s.encoders + first + c));
            float values[tokens];
            uint32_t codes[tokens];
#pragma unroll
            for (int k = 0; k < tokens; k++) values[k] = kvs_element(x[k], c);
            kvs_encode(args.rule.rounding, kvs_bit_cast<kvs_encoder>(words), values, codes, [&] {
                kvs_u32x2 of_channel = kvs_ld_shared(s.exact + first + c);
                kvs_affine_group group = {0.0f, 0.0f, kvs_bit_cast<float>(of_channel.y),
                                          kvs_bit_cast<float>(of_channel.x)};
                return group;
            });
            if constexpr (fragment) {
                stage_fragment(chunks[c], (is_2_bits >> c & 1) != 0, block, codes);
            } else {
                unsigned char *row = s.codes + (first + c) * (count * RESIDUES + 16) + r + RESIDUES * tokens * block;
#pragma unroll
                for (int k = 0; k < tokens; k++) kvs_st_shared(row + RESIDUES * k, (unsigned char)codes[k]);
            }
        }
    }
}

template <int count, bool fragment> KVS_KERNEL(256, 2) quantize_keys(const kvs_quantize_args args) {
    const kvs_format &format = args.format;
    int head_dim = format.shape.head_dim, channel = (int)threadIdx.x, r = channel % RESIDUES;
    layout_of_shared s = shared_of(format.shape);
    fetch_page(format.shape, args.x + (int64_t)blockIdx.x * count * RESIDUES * head_dim, s);
    uint8_t *page = kvs_head_page(format, args.tensors[0], args.blocks, blockIdx.x, 0), *meta_page = page;
    if (format.key_scale.tensor) meta_page = kvs_head_page(format, args.tensors[1], args.blocks, blockIdx.x, 1);
    kvs_syncthreads();
    float minimum, maximum, score = 0.0f;
    extremes_of<count>(s, r, minimum, maximum);
    if (format.shape.boost_channels > 0 && format.shape.boost_channels < head_dim)
        score = score_of<count>(args, s, minimum, maximum);
    kvs_channel_place at = choose(format, s, score);
    float levels = kvs_affine_levels(kvs_key_bits(&format, at.boosted));
    kvs_affine_group group = kvs_affine_fit(args.rule, minimum, maximum, levels);
    kvs_st_shared((kvs_u32x4 *)(s.encoders + channel), kvs_bit_cast<kvs_u32x4>(kvs_encoder_of(group, levels)));
    kvs_u32x2 exact = {kvs_bit_cast<uint32_t>(group.minimum), kvs_bit_cast<uint32_t>(group.divisor)};
    kvs_st_shared(s.exact + channel, exact);
    if (fragment)
        kvs_st_shared(s.rows + channel, (uint16_t)at.row);
    else if (format.sorted || at.boosted)
        kvs_st_shared(s.rows + at.row, (uint16_t)channel);
    store_metadata(format, page, meta_page, at, group);
    kvs_syncthreads();
    encode_keys<count, fragment>(args, s);
    kvs_syncthreads();
    if (fragment) {
        for (int i = channel; i < head_dim / 16 * 32; i += (int)blockDim.x)
            emit_step<count>(format, s.codes, page, i / 32, i % 32);
    } else if (format.keys == KVS_KEYS_PLANES)
        emit_planes(format, s, page);
    else
        emit_scattered(format, s, page, at);
}

template <int count> int launch(const kvs_quantize_args *args, kvs_stream stream) {
    const kvs_page_shape &shape = args->format.shape;
    dim3 grid((unsigned)args->pages), block((unsigned)shape.head_dim);
    size_t bytes = bytes_before_codes(shape);
    if constexpr (count >= 4)
        if (args->format.keys == KVS_KEYS_FRAGMENT) {
            int wide = args->format.wide_rows, narrow = shape.head_dim - wide;
            bytes += (size_t)shape.page_tokens *
                     (size_t)(wide * (shape.boost_bits == 2 ? 1 : 2) + narrow * (shape.bits == 2 ? 1 : 2)) / 2;
            return kvs_launch((quantize_keys<count, true>), grid, block, bytes, stream, *args);
        }
    bytes += (size_t)shape.head_dim * (size_t)(shape.page_tokens + 16);
    return kvs_launch((quantize_keys<count, false>), grid, block, bytes, stream, *args);
}

} // namespace

extern "C" int KVS_BACKEND(kvs_quantize_pack_k)(const kvs_quantize_args *args, void *stream) {
    if (args->pages == 0) return 0;
    switch (args->format.shape.page_tokens) {
    case 16:
        return launch<2>(args, stream);
    case 32:
        return launch<4>(args, stream);
    case 64:
        return launch<8>(args, stream);
    case 128:
        return launch<16>(args, stream);
    default:
        return launch<32>(args, stream);
    }
}
