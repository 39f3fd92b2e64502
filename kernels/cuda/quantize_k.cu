/* quantize_k.cu: keys: channel scores, choice of the boosted channels, scales and zeros, codes, packing. A block has
 * one page, which it copies once into shared memory; thread d is responsible for channel d.
 *
 * Eight lanes share 8 channels; lane r of them has the tokens r, r + 8, ... That is what the scores' tree of sums asks
 * for (kernels/ranking.h): its first levels add tokens that differ in high bits, all of one lane; the last three add
 * over lanes. There each lane keeps half of its channels, so that in the end thread d has channel d.
 *
 * Codes go where the keys were, a byte each (pack_k.cuh), so that a page needs no second place in shared memory. */
#include "core/random.h"
#include "kernels/cuda/key_scores.cuh"
#include "kernels/cuda/pack_k.cuh"

namespace {

/* Shared memory behind the keys, per channel. */
struct channels_of_block {
    kvs_u32x4 *exact;    /* minimum, divisor, levels */
    kvs_u32x2 *encoders; /* offset, inverse */
    int *scores;         /* in the order of scores; the variance's means before */
    uint8_t *order;      /* the channel of a row, in the fragment layout */
    uint32_t *counts;    /* [8]: boosted channels of each warp */
};

enum { BYTES_PER_CHANNEL = 16 + 8 + 4 + 1, BYTES_OF_COUNTS = 32 };

KVS_DEVICE channels_of_block channels_behind(unsigned char *at, int head_dim) {
    channels_of_block s;
    s.exact = (kvs_u32x4 *)at;
    s.encoders = (kvs_u32x2 *)(at + 16 * head_dim);
    s.scores = (int *)(at + 24 * head_dim);
    s.order = at + 28 * head_dim;
    s.counts = (uint32_t *)(at + 29 * head_dim);
    return s;
}

/* The block's threads are those of eight rows. */
KVS_DEVICE void fetch_page(const kvs_keys &keys, const uint16_t *source) {
    int chunks = keys.head_dim / 8, token = (int)threadIdx.x / chunks, chunk = (int)threadIdx.x - token * chunks;
    unsigned char *to = keys.bytes + kvs_key_cell(keys, token, chunk);
    const uint16_t *from = source + 8 * threadIdx.x;
#pragma unroll 16
    for (int k = 0; k < keys.live; k++) kvs_cp_async16(to + k * keys.stride, from + k * KVS_RESIDUES * keys.head_dim);
    kvs_cp_async_commit();
    kvs_cp_async_wait<0>();
}

/* --- which channels are boosted ------------------------------------------------------------------------------------
 */

KVS_DEVICE float random_score(const kvs_page_place *place) {
    uint64_t key = kvs_ld_global_nc(&place->seed);
    key = kvs_random_key(key, (uint64_t)kvs_ld_global_nc(&place->sequence));
    key = kvs_random_key(key, (uint64_t)kvs_ld_global_nc(&place->layer));
    key = kvs_random_key(key, (uint64_t)kvs_ld_global_nc(&place->kv_head));
    key = kvs_random_key(key, (uint64_t)kvs_ld_global_nc(&place->page));
    return kvs_random_unit(key, threadIdx.x);
}

template <int count> KVS_DEVICE float score_of(const kvs_quantize_args &args, const kvs_keys &keys, float *means) {
    float tokens = (float)(keys.live * KVS_RESIDUES);
    switch (args.metric) {
    case KVS_METRIC_MAGNITUDE:
        return kvs_sum_magnitudes<count>(keys) / tokens;
    case KVS_METRIC_VARIANCE:
        return kvs_sum_squared_deviations<count>(keys, tokens, means) / tokens;
    case KVS_METRIC_RANGE: {
        kvs_extremes e = kvs_extremes_of(keys, 0, keys.live);
        return e.maximum - e.minimum;
    }
    case KVS_METRIC_RANDOM:
        return random_score(args.places + blockIdx.x);
    default:
        return kvs_ld_global_nc(args.scores + (int64_t)blockIdx.x * keys.head_dim + threadIdx.x);
    }
}

/* The place of this thread's channel, given its rank. Every thread of the block calls it. */
KVS_DEVICE kvs_channel_place place_of(const kvs_format &format, uint32_t *counts, int rank) {
    int channel = (int)threadIdx.x, count = format.shape.boost_channels, boosted = rank < count;
    uint32_t warp_boosted = kvs_ballot(boosted);
    if (channel % 32 == 0) kvs_st_shared(counts + channel / 32, (uint32_t)kvs_popcount(warp_boosted));
    kvs_syncthreads();
    int before = kvs_popcount(warp_boosted & ((1u << channel % 32) - 1u));
    for (int w = 0; w < channel / 32; w++) before += (int)kvs_ld_shared(counts + w);
    kvs_channel_place at = {boosted, boosted ? rank : count, before};
    if (format.sorted) at.row = boosted ? before : count + channel - before;
    return at;
}

template <int count>
KVS_DEVICE kvs_channel_place choose(const kvs_quantize_args &args, const kvs_keys &keys, channels_of_block s) {
    int channel = (int)threadIdx.x, boosted = args.format.shape.boost_channels;
    if (boosted == 0 || boosted == keys.head_dim) {
        kvs_channel_place all = {boosted != 0, args.format.sorted || boosted != 0 ? channel : 0, boosted ? channel : 0};
        return all;
    }
    float score = score_of<count>(args, keys, (float *)s.scores);
    int rank = kvs_rank_of(s.scores, keys.head_dim, kvs_ordered(score));
    return place_of(args.format, s.counts, rank);
}

/* --- scales, zeros, index ------------------------------------------------------------------------------------------
 */

KVS_DEVICE void store_index(const kvs_format &format, uint8_t *page, kvs_channel_place at) {
    int channel = (int)threadIdx.x;
    uint8_t *index = page + format.index_byte;
    if (format.index == KVS_INDEX_RANKS) kvs_st_global(index + channel, (uint8_t)at.row);
    if (format.index == KVS_INDEX_CHANNELS) kvs_st_global(index + at.row, (uint8_t)channel);
    if (format.index == KVS_INDEX_MASK) {
        uint32_t mask = kvs_ballot(at.boosted);
        if (channel % 32 == 0) kvs_st_global((uint32_t *)index + channel / 32, mask);
    }
}

/* Scale and zero lie a fixed distance apart, groups too. */
KVS_DEVICE void store_group(const kvs_format &format, uint8_t *of_row, int group, kvs_affine_group fitted) {
    uint32_t pair = kvs_pair_of(fitted.scale, fitted.zero);
    uint8_t *at = of_row + (uint32_t)group * format.key_scale.token[0] / 8;
    uint32_t apart = (format.key_zero.base - format.key_scale.base) / 8;
    if (apart == 2) {
        kvs_st_global((uint32_t *)at, pair);
    } else {
        kvs_st_global((uint16_t *)at, (uint16_t)pair);
        kvs_st_global((uint16_t *)(at + apart), (uint16_t)(pair >> 16));
    }
}

/* --- codes ---------------------------------------------------------------------------------------------------------
 */

/* The encoders of this thread's 8 channels; their lanes have left them in shared memory. */
struct encoders_of_thread {
    float offset[8], inverse[8];
    uint32_t window; /* the largest */
};

KVS_DEVICE kvs_encoder encoder_of(const encoders_of_thread &e, int c) {
    kvs_encoder encoder = {e.offset[c], e.inverse[c], e.window};
    return encoder;
}

KVS_DEVICE encoders_of_thread share_encoder(channels_of_block s, kvs_affine_group group, kvs_encoder mine,
                                            float levels) {
    encoders_of_thread all;
    int channel = (int)threadIdx.x, first = channel / 8 * 8;
    kvs_u32x4 exact = {kvs_bit_cast<uint32_t>(group.minimum), kvs_bit_cast<uint32_t>(group.divisor),
                       kvs_bit_cast<uint32_t>(levels), 0};
    kvs_u32x2 encoder = {kvs_bit_cast<uint32_t>(mine.offset), kvs_bit_cast<uint32_t>(mine.inverse)};
    kvs_st_shared(s.exact + channel, exact);
    kvs_st_shared(s.encoders + channel, encoder);
    kvs_syncwarp();
    all.window = mine.window;
#pragma unroll
    for (int mask = 1; mask < 8; mask *= 2) {
        uint32_t other = kvs_shfl_xor(all.window, mask);
        all.window = other > all.window ? other : all.window;
    }
#pragma unroll
    for (int c = 0; c < 8; c += 2) {
        kvs_u32x4 two = kvs_ld_shared((const kvs_u32x4 *)(s.encoders + first + c));
        all.offset[c] = kvs_bit_cast<float>(two.x), all.inverse[c] = kvs_bit_cast<float>(two.y);
        all.offset[c + 1] = kvs_bit_cast<float>(two.z), all.inverse[c + 1] = kvs_bit_cast<float>(two.w);
    }
    return all;
}

/* Codes of this thread's tokens first .. first + 3, in place. Where one of the 32 is in doubt, which is rare, all are
 * looked at again, four by four. */
template <int live>
KVS_DEVICE void encode_block(kvs_rounding rounding, bool wide, const kvs_keys &keys, channels_of_block s,
                             const encoders_of_thread &e, int first) {
    kvs_u32x4 x[4];
    uint32_t codes[8], fractions = KVS_NO_FRACTIONS;
#pragma unroll
    for (int k = 0; k < 4; k++)
        x[k] = kvs_my_keys(keys, (live > 0 && live % 4 == 0) || first + k < keys.live ? first + k : keys.live - 1);
#pragma unroll
    for (int c = 0; c < 8; c++) {
        float values[4] = {kvs_element(x[0], c), kvs_element(x[1], c), kvs_element(x[2], c), kvs_element(x[3], c)};
        codes[c] = kvs_encode(encoder_of(e, c), wide, values, fractions);
    }
    if (kvs_doubtful(encoder_of(e, 0), fractions)) {
#pragma unroll
        for (int c = 0; c < 8; c++) {
            float values[4] = {kvs_element(x[0], c), kvs_element(x[1], c), kvs_element(x[2], c), kvs_element(x[3], c)};
            codes[c] = kvs_encode_surely(rounding, encoder_of(e, c), wide, values, [&] {
                kvs_u32x4 of = kvs_ld_shared(s.exact + threadIdx.x / 8 * 8 + c);
                kvs_exact exact = {{0.0f, 0.0f, kvs_bit_cast<float>(of.y), kvs_bit_cast<float>(of.x)},
                                   kvs_bit_cast<float>(of.z)};
                return exact;
            });
        }
    }
    kvs_put_codes(keys, first, codes);
}

template <int live>
KVS_DEVICE void encode_keys(const kvs_quantize_args &args, const kvs_keys &keys, channels_of_block s,
                            kvs_channel_place at, bool wide, uint8_t *of_row) {
    const kvs_page_shape &shape = args.format.shape;
    int tokens = shape.key_group / KVS_RESIDUES;
    float levels = kvs_affine_levels(kvs_key_bits(&args.format, at.boosted));
    for (int begin = 0, group = 0; begin < keys.live; begin += tokens, group++) {
        kvs_extremes e = kvs_extremes_of(keys, begin, begin + tokens);
        kvs_affine_group fitted = kvs_affine_fit(args.rule, e.minimum, e.maximum, levels);
        store_group(args.format, of_row, group, fitted);
        encoders_of_thread encoders = share_encoder(s, fitted, kvs_encoder_of(fitted, e.maximum, levels, wide), levels);
#pragma unroll 1
        for (int k = begin; k < begin + tokens; k += 4)
            encode_block<live>(args.rule.rounding, wide, keys, s, encoders, k);
        kvs_syncwarp(); /* the next group's encoders come to the same place */
    }
}

/* --- the kernel ----------------------------------------------------------------------------------------------------
 */

/* count: the power of two at or above the tokens of a lane. head_dim 0, or tokens of a lane 0: read from the shape.
 * With both given, codes have at most 4 bits. */
template <int count, int head_dim, int live> KVS_DEVICE void quantize(const kvs_quantize_args &args, bool fragment) {
    const kvs_format &format = args.format;
    kvs_keys keys = kvs_keys_in(KVS_SHARED, head_dim > 0 ? head_dim : format.shape.head_dim,
                                live > 0 ? live : format.shape.page_tokens / KVS_RESIDUES);
    int tokens = keys.live * KVS_RESIDUES, channel = (int)threadIdx.x;
    bool wide = head_dim == 0 && (format.shape.bits == 8 || format.shape.boost_bits == 8);
    channels_of_block s = channels_behind(keys.bytes + tokens * keys.pitch, keys.head_dim);
    fetch_page(keys, args.x + (int64_t)blockIdx.x * tokens * keys.head_dim);
    uint8_t *page = kvs_head_page(format, args.tensors[0], args.blocks, blockIdx.x, 0), *meta_page = page;
    if (format.key_scale.tensor) meta_page = kvs_head_page(format, args.tensors[1], args.blocks, blockIdx.x, 1);
    kvs_syncthreads();
    kvs_channel_place at = choose<count>(args, keys, s);
    if (fragment) kvs_st_shared(s.order + at.row, (uint8_t)channel);
    store_index(format, page, at);
    int row = kvs_meta_row(&format, channel, at);
    encode_keys<live>(args, keys, s, at, wide, meta_page + kvs_field_bit(&format.key_scale, 0, row) / 8);
    kvs_syncthreads();
    if (fragment)
        kvs_emit_fragment(format, keys, s.order, page);
    else if (format.keys == KVS_KEYS_PLANES)
        kvs_emit_planes<live % 8 == 0 && live != 0>(format, keys, page, at);
    else
        kvs_emit_scattered<live % 8 == 0 && live != 0>(format, keys, page, at);
}

/* Pages above 128 tokens: shared memory holds at most six of head_dim 64, whose threads may share the registers. */
template <int count>
KVS_KERNEL(count > 16 ? 384 : 256, count > 16 ? 1 : 2)
quantize_keys(const kvs_quantize_args args) {
    quantize<count, 0, 0>(args, args.format.keys == KVS_KEYS_FRAGMENT);
}

/* The shape of most models and of the benchmark. */
template <bool fragment> KVS_KERNEL(128, 6) quantize_keys_128(const kvs_quantize_args args) {
    quantize<16, 128, 16>(args, fragment);
}

int launch(const kvs_quantize_args *args, kvs_stream stream) {
    const kvs_page_shape &shape = args->format.shape;
    dim3 grid((unsigned)args->pages), block((unsigned)shape.head_dim);
    size_t bytes = (size_t)(shape.page_tokens * kvs_key_pitch(shape.head_dim) + shape.head_dim * BYTES_PER_CHANNEL) +
                   BYTES_OF_COUNTS;
    if (shape.head_dim == 128 && shape.page_tokens == 128 && shape.bits < 8 && shape.boost_bits < 8) {
        if (args->format.keys == KVS_KEYS_FRAGMENT)
            return kvs_launch(quantize_keys_128<true>, grid, block, bytes, stream, *args);
        return kvs_launch(quantize_keys_128<false>, grid, block, bytes, stream, *args);
    }
    if (shape.page_tokens <= 64) return kvs_launch(quantize_keys<8>, grid, block, bytes, stream, *args);
    if (shape.page_tokens <= 128) return kvs_launch(quantize_keys<16>, grid, block, bytes, stream, *args);
    return kvs_launch(quantize_keys<32>, grid, block, bytes, stream, *args);
}

} // namespace

extern "C" int KVS_BACKEND(kvs_quantize_pack_k)(const kvs_quantize_args *args, void *stream) {
    if (args->pages == 0) return 0;
    return launch(args, stream);
}
