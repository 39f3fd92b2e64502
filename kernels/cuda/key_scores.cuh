/* key_scores.cuh: a page of keys in shared memory, and what is computed over the tokens of a channel: extremes, the
 * scores of kernels/rankings/, ranks. */
#ifndef KVS_KERNELS_CUDA_KEY_SCORES_CUH
#define KVS_KERNELS_CUDA_KEY_SCORES_CUH

#include "kernels/cuda/encode.cuh"

enum { KVS_RESIDUES = 8 };

/* [tokens][head_dim] binary16, rows of `pitch` bytes, a multiple of 128. The 16-byte chunks of a row are permuted by
 * the token's three low bits: eight lanes that read one chunk of eight tokens meet all banks once, and so do eight that
 * read a row. */
struct kvs_keys {
    unsigned char *bytes;
    int head_dim, pitch;
    int live;   /* tokens of a lane */
    int mine;   /* this lane's first token at its 8 channels, in bytes */
    int stride; /* to its next token */
    int block;  /* of codes (pack_k.cuh): from the words of 32 tokens to those of the next */
};

KVS_HD int kvs_key_pitch(int head_dim) {
    return head_dim == 96 ? 256 : 2 * head_dim;
}

KVS_DEVICE int kvs_key_cell(const kvs_keys &keys, int token, int chunk) {
    return token * keys.pitch + ((chunk ^ token % KVS_RESIDUES) << 4);
}

KVS_DEVICE kvs_keys kvs_keys_in(unsigned char *bytes, int head_dim, int live) {
    kvs_keys keys;
    keys.bytes = bytes;
    keys.head_dim = head_dim;
    keys.pitch = kvs_key_pitch(head_dim);
    keys.live = live;
    keys.mine = kvs_key_cell(keys, (int)threadIdx.x % KVS_RESIDUES, (int)threadIdx.x / 8);
    keys.stride = KVS_RESIDUES * keys.pitch;
    keys.block = 4 * keys.stride;
    return keys;
}

KVS_DEVICE kvs_u32x4 kvs_my_keys(const kvs_keys &keys, int k) {
    return kvs_ld_shared((const kvs_u32x4 *)(keys.bytes + keys.mine + k * keys.stride));
}

/* --- over lanes ----------------------------------------------------------------------------------------------------
 */

/* Thread r of 8 starts with its share of 8 channels and ends with the whole of channel r. */
KVS_DEVICE float kvs_scatter_sum(float (&share)[8]) {
    int r = (int)threadIdx.x % KVS_RESIDUES;
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

template <bool maximum> KVS_DEVICE float kvs_scatter_extreme(uint32_t (&pairs)[4]) {
    int r = (int)threadIdx.x % KVS_RESIDUES;
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

struct kvs_extremes {
    float minimum, maximum;
};

/* Of this thread's channel, over the lanes' tokens [begin, end). */
KVS_DEVICE kvs_extremes kvs_extremes_of(const kvs_keys &keys, int begin, int end) {
    uint32_t low[4], high[4];
    kvs_u32x4 x = kvs_my_keys(keys, begin);
#pragma unroll
    for (int p = 0; p < 4; p++) low[p] = high[p] = kvs_pair_at(x, p);
#pragma unroll 5
    for (int k = begin + 1; k < end; k++) {
        x = kvs_my_keys(keys, k);
#pragma unroll
        for (int p = 0; p < 4; p++) {
            low[p] = kvs_pair_min(low[p], kvs_pair_at(x, p));
            high[p] = kvs_pair_max(high[p], kvs_pair_at(x, p));
        }
    }
    kvs_extremes e;
    e.minimum = kvs_scatter_extreme<false>(low);
    e.maximum = kvs_scatter_extreme<true>(high);
    return e;
}

/* --- scores --------------------------------------------------------------------------------------------------------
 */

enum kvs_score_term { KVS_SCORE_ABSOLUTE, KVS_SCORE_PLAIN, KVS_SCORE_SQUARED };

/* The first levels of the tree of sums: over this thread's tokens first, first + step, ...; those that the page does
 * not have count as +0. */
template <kvs_score_term what, int first, int step, int count>
KVS_DEVICE void kvs_local_tree(const kvs_keys &keys, const float (&means)[8], float (&sums)[8]) {
    if constexpr (step < count) {
        float others[8];
        kvs_local_tree<what, first, 2 * step, count>(keys, means, sums);
        kvs_local_tree<what, first + step, 2 * step, count>(keys, means, others);
#pragma unroll
        for (int c = 0; c < 8; c++) sums[c] += others[c];
    } else {
        bool live = first < keys.live;
        kvs_u32x4 x = {0, 0, 0, 0};
        if (live) x = kvs_my_keys(keys, first);
#pragma unroll
        for (int c = 0; c < 8; c++) {
            float value = kvs_element(x, c), deviation = live ? value - means[c] : 0.0f;
            sums[c] = what == KVS_SCORE_ABSOLUTE ? fabsf(value)
                      : what == KVS_SCORE_PLAIN  ? value
                                                 : deviation * deviation;
        }
    }
}

template <int count> KVS_DEVICE float kvs_sum_magnitudes(const kvs_keys &keys) {
    float sums[8], none[8] = {};
    kvs_local_tree<KVS_SCORE_ABSOLUTE, 0, 1, count>(keys, none, sums);
    return kvs_scatter_sum(sums);
}

/* Two passes, as the definition has them; means [head_dim] go around through shared memory. */
template <int count>
KVS_DEVICE float kvs_sum_squared_deviations(const kvs_keys &keys, float tokens, float *shared_means) {
    float sums[8], means[8] = {};
    kvs_local_tree<KVS_SCORE_PLAIN, 0, 1, count>(keys, means, sums);
    float mean = kvs_scatter_sum(sums) / tokens;
    kvs_st_shared(shared_means + threadIdx.x, mean);
    kvs_syncwarp();
#pragma unroll
    for (int c = 0; c < 8; c++) means[c] = kvs_ld_shared(shared_means + threadIdx.x / 8 * 8 + c);
    kvs_local_tree<KVS_SCORE_SQUARED, 0, 1, count>(keys, means, sums);
    kvs_syncwarp();
    return kvs_scatter_sum(sums);
}

/* --- ranks ---------------------------------------------------------------------------------------------------------
 */

/* Whole numbers in the order of scores; -0 is 0. */
KVS_DEVICE int kvs_ordered(float score) {
    int bits = kvs_bit_cast<int>(score + 0.0f);
    return bits < 0 ? bits ^ 0x7fffffff : bits;
}

/* The warp's scores in descending order, by a bitonic sort. */
KVS_DEVICE int kvs_sort_warp(int score) {
    int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int size = 2; size <= 32; size *= 2)
#pragma unroll
        for (int half = size / 2; half > 0; half /= 2) {
            int other = kvs_shfl_xor(score, half);
            bool larger = ((lane & half) == 0) == ((lane & size) == 0);
            score = larger ? (other > score ? other : score) : (other < score ? other : score);
        }
    return score;
}

/* How many of 32 descending scores are above this. */
KVS_DEVICE int kvs_count_above(const int *sorted, int score) {
    int count = 0;
#pragma unroll
    for (int step = 16; step > 0; step /= 2)
        if (kvs_ld_shared(sorted + count + step - 1) > score) count += step;
    return count + (kvs_ld_shared(sorted + count) > score);
}

/* How many channels come before this thread's: a higher score, or the same and a lower channel. sorted [head_dim] is
 * shared memory; every thread of the block calls it. */
KVS_DEVICE int kvs_rank_of(int *sorted, int head_dim, int score) {
    int lane = (int)threadIdx.x % 32, own = (int)threadIdx.x / 32, in_order = kvs_sort_warp(score), rank = 0;
    kvs_st_shared(sorted + threadIdx.x, in_order);
    if (kvs_any(kvs_shfl_down(in_order, 1) == in_order && lane < 31)) /* ties in the warp */
        for (int e = 0; e < 31; e++) rank += kvs_shfl(score, e) == score && e < lane;
    kvs_syncthreads();
    for (int warp = 0; warp < head_dim / 32; warp++)
        rank += kvs_count_above(sorted + 32 * warp, warp < own ? score - 1 : score);
    return rank;
}

#endif
