/* attention.cuh: what both attention kernels share: queries, online softmax, full-precision tokens, merging.
 *
 * A block has one KV head of one sequence, up to four of its query heads, and one split of its tokens; its warps go
 * their own ways and are merged at the end. The matrix instruction m16n8k16 computes scores as tokens x channels times
 * channels x 8 columns, and outputs as channels x tokens times tokens x 8 columns. Column 2h belongs to query head h,
 * and so does 2h + 1: there goes what rounding to binary16 left of the other operand, so that it counts with 22 bits.
 * Lane 4g + q then holds, of head q, the scores of tokens g and g + 8 of a tile, both columns; and likewise outputs.
 *
 * Which channels the rows of an output tile are depends on how values come: an order (below) says it. */
#ifndef KVS_KERNELS_CUDA_ATTENTION_CUH
#define KVS_KERNELS_CUDA_ATTENTION_CUH

#include "kernels/attention.h"
#include "kernels/kernels.h"
#include "kernels/simt/simt.h"

/* Parts whose outputs are asked for at once when they are merged: of warps, and of splits (a divisor of 32). */
enum { KVS_BLOCK_HEADS = 4, KVS_MERGE_WARPS = 4, KVS_MERGE_SPLITS = 16 };

#define KVS_LOWEST (-3.0e38f) /* below every score; differences of two are defined */

/* Shared memory of the block: queries as [channel][8 columns] of binary16, what undoes their scaling, and the heads. */
struct kvs_queries {
    unsigned char *columns;
    float *unscale; /* [4]: logits in units of log 2 per unit of score */
    int *heads;     /* [2]: first and count of the block's span, which the end of the block reads again */
};

KVS_DEVICE kvs_queries kvs_queries_at(unsigned char *shared, int head_dim) {
    float *unscale = (float *)(void *)(shared + head_dim * 16);
    kvs_queries queries = {shared, unscale, (int *)(void *)(unscale + KVS_BLOCK_HEADS)};
    return queries;
}

static inline size_t kvs_queries_bytes(int head_dim) {
    return (size_t)head_dim * 16 + 24;
}

struct alignas(8) kvs_f32x2 {
    float x, y;
};

struct alignas(16) kvs_f32x4 {
    float x, y, z, w;
};

KVS_DEVICE void kvs_scale(kvs_f32x4 &a, float factor) {
    a.x *= factor, a.y *= factor, a.z *= factor, a.w *= factor;
}

KVS_DEVICE void kvs_accumulate(kvs_f32x4 &a, const kvs_f32x4 &x, float weight) {
    a.x = kvs_fma(x.x, weight, a.x), a.y = kvs_fma(x.y, weight, a.y);
    a.z = kvs_fma(x.z, weight, a.z), a.w = kvs_fma(x.w, weight, a.w);
}

/* A power of two. */
KVS_DEVICE float kvs_power(int exponent) {
    return kvs_bit_cast<float>((uint32_t)(exponent + 127) << 23);
}

/* The exponent of x >= 0: x < 2^(exponent + 1). -127 for 0. */
KVS_DEVICE int kvs_exponent(float x) {
    return (int)(kvs_bit_cast<uint32_t>(x) >> 23) - 127;
}

/* The heads that this block has: the first of them, and how many. */
struct kvs_head_span {
    int kv_head, first, count;
};

KVS_DEVICE kvs_head_span kvs_heads_of_block(const kvs_attention_args &args) {
    int per_kv = args.query_heads / args.format.shape.kv_heads;
    int parts = (per_kv + KVS_BLOCK_HEADS - 1) / KVS_BLOCK_HEADS;
    int kv_head = (int)blockIdx.y / parts, part = (int)blockIdx.y % parts;
    int left = per_kv - part * KVS_BLOCK_HEADS;
    kvs_head_span span = {kv_head, kv_head * per_kv + part * KVS_BLOCK_HEADS,
                          left < KVS_BLOCK_HEADS ? left : KVS_BLOCK_HEADS};
    return span;
}

/* Scales each query by a power of two so that its largest element lies in [32, 64): exact, and nothing overflows. */
template <int head_dim>
KVS_DEVICE void kvs_load_queries(const kvs_attention_args &args, kvs_head_span span, kvs_queries queries) {
    int lane = (int)threadIdx.x % 32;
    if (threadIdx.x == 0) {
        kvs_st_shared(queries.heads, span.first);
        kvs_st_shared(queries.heads + 1, span.count);
    }
    for (int h = (int)threadIdx.x / 32; h < KVS_BLOCK_HEADS; h += (int)blockDim.x / 32) {
        const uint16_t *q = args.q + ((int64_t)blockIdx.z * args.query_heads + span.first + h) * head_dim;
        float x[head_dim / 32], largest = 0.0f;
#pragma unroll
        for (int i = 0; i < head_dim / 32; i++) {
            x[i] = h < span.count ? kvs_pair_low(kvs_ld_global_nc(q + 32 * i + lane)) : 0.0f;
            largest = fmaxf(largest, fabsf(x[i]));
        }
        for (int mask = 16; mask > 0; mask /= 2) largest = fmaxf(largest, kvs_shfl_xor(largest, mask));
        int shift = largest > 0.0f ? 5 - kvs_exponent(largest) : 0;
#pragma unroll
        for (int i = 0; i < head_dim / 32; i++) {
            float scaled = x[i] * kvs_power(shift);
            kvs_st_shared((uint32_t *)(queries.columns + (32 * i + lane) * 16 + h * 4), kvs_pair_of(scaled, scaled));
        }
        if (lane == 0)
            kvs_st_shared(queries.unscale + h, args.softmax_scale * 1.44269504088896341f * kvs_power(-shift));
    }
}

/* --- orders of channels --------------------------------------------------------------------------------------------
 */

/* An order gives the rows g, g + 8 (`high`) of output tile i their channels; and makes of 16 full-precision tokens the
 * first operand: load() a lane's share of one token, head_dim / 8 words, from shared or global memory; operand() tile i
 * of tokens g, g + 8. */

template <bool shared, class T> KVS_DEVICE T kvs_row_value(const T *at) {
    return shared ? kvs_ld_shared(at) : kvs_ld_global_nc(at);
}

/* 8 consecutive channels of every 32 a lane, as fragments are stored (kernels/layouts/fragment.c): coalesced. */
template <int head_dim> struct kvs_order_pairs {
    static const int period = 2;
    KVS_DEVICE int channel(int tile, int g, int high) {
        return tile / 2 * 32 + 8 * (g / 2) + g % 2 + 4 * (tile % 2) + 2 * high;
    }
    template <bool shared> KVS_DEVICE void load(const uint16_t *row, uint32_t (&x)[head_dim / 8]) {
        const kvs_u32x4 *at = (const kvs_u32x4 *)row + threadIdx.x % 4;
#pragma unroll
        for (int i = 0; i < head_dim / 32; i++) {
            kvs_u32x4 four = kvs_row_value<shared>(at + 4 * i);
            x[4 * i] = four.x, x[4 * i + 1] = four.y, x[4 * i + 2] = four.z, x[4 * i + 3] = four.w;
        }
    }
    KVS_DEVICE void operand(const uint32_t (&x0)[head_dim / 8], const uint32_t (&x1)[head_dim / 8], int tile,
                            uint32_t (&a)[4]) {
        a[0] = kvs_movmatrix_trans(x0[2 * tile]), a[1] = kvs_movmatrix_trans(x0[2 * tile + 1]);
        a[2] = kvs_movmatrix_trans(x1[2 * tile]), a[3] = kvs_movmatrix_trans(x1[2 * tile + 1]);
    }
};

/* As rows of codes come, 16 of them a lane (kernels/cuda/attention_rows.cuh). `block` 8: tiles 0..7 of every 128
 * channels are elements of the lane's own 16. 2: four lanes share 16 channels of every 32. */
template <int head_dim, int block> struct kvs_order_rows {
    static const int period = block == 8 ? 4 : 2;
    KVS_DEVICE int channel(int tile, int g, int high) {
        if (block == 8) return 16 * (head_dim / 128 * g + tile / 8) + tile % 8 + 8 * high;
        return tile / 2 * 32 + 16 * (g % 2) + 2 * (g / 2) + tile % 2 + 8 * high;
    }
    template <bool shared> KVS_DEVICE void load(const uint16_t *row, uint32_t (&x)[head_dim / 8]) {
        if (block == 8) {
            const kvs_u32x4 *at = (const kvs_u32x4 *)row + threadIdx.x % 4 * (head_dim / 32);
#pragma unroll
            for (int i = 0; i < head_dim / 32; i++) {
                kvs_u32x4 four = kvs_row_value<shared>(at + i);
                x[4 * i] = four.x, x[4 * i + 1] = four.y, x[4 * i + 2] = four.z, x[4 * i + 3] = four.w;
            }
        } else {
#pragma unroll
            for (int i = 0; i < head_dim / 8; i++)
                x[i] = kvs_row_value<shared>((const uint32_t *)row + 4 * i + threadIdx.x % 4);
        }
    }
    /* Rows 2q and 2q + 1, which are 16 * head_dim / 128 channels apart (or 16), as one pair of token `x`. */
    KVS_DEVICE uint32_t pair(const uint32_t (&x)[head_dim / 8], int tile, int high) {
        const int apart = block == 8 ? head_dim / 16 : 2;
        int element = block == 8 ? tile % 8 : tile % 2;
        int first = block == 8 ? tile / 8 * 8 + 4 * high + element / 2 : tile / 2 * 4 + high;
        return kvs_byte_perm(x[first], x[first + apart], element % 2 ? 0x7632 : 0x5410);
    }
    KVS_DEVICE void operand(const uint32_t (&x0)[head_dim / 8], const uint32_t (&x1)[head_dim / 8], int tile,
                            uint32_t (&a)[4]) {
        a[0] = kvs_movmatrix_trans(pair(x0, tile, 0)), a[1] = kvs_movmatrix_trans(pair(x0, tile, 1));
        a[2] = kvs_movmatrix_trans(pair(x1, tile, 0)), a[3] = kvs_movmatrix_trans(pair(x1, tile, 1));
    }
};

/* What a kernel is made for. `blocks` is how many parts of the channels have shifts of their own (groups of values). */
template <int head_dim_, class order_, int blocks_> struct kvs_attention_shape {
    static const int head_dim = head_dim_, blocks = blocks_;
    typedef order_ order;
};

/* --- online softmax ------------------------------------------------------------------------------------------------
 */

/* Where in its byte a code of tile i stands: `step` bits from tile to tile, in as many tiles as share a word. */
template <class shape> KVS_DEVICE int kvs_place_of(int step, int tile) {
    return step * (tile % shape::order::period) % 8;
}

/* What a warp has attended so far, of the lane's head. */
template <class shape> struct kvs_attended {
    float output[shape::head_dim / 16][4];
    float maximum;              /* of logits, in units of log 2 */
    float sum;                  /* of weights, of this lane's tokens */
    float shift[shape::blocks]; /* to be added to the outputs: sum of weight * zero, of this lane's tokens */
    int unit, step;             /* outputs of tile i are in units of 2^(unit - kvs_place_of(step, i)) */
};

template <class shape> KVS_DEVICE void kvs_attend_nothing(kvs_attended<shape> &a) {
#pragma unroll
    for (int i = 0; i < shape::head_dim / 16; i++)
#pragma unroll
        for (int r = 0; r < 4; r++) a.output[i][r] = 0.0f;
#pragma unroll
    for (int i = 0; i < shape::blocks; i++) a.shift[i] = 0.0f;
    a.maximum = KVS_LOWEST;
    a.sum = 0.0f;
    a.unit = a.step = 0;
}

/* Makes `logits` weights, and the units those that are asked for. Masked logits are KVS_LOWEST. */
template <class shape, int count>
KVS_DEVICE void kvs_soften(kvs_attended<shape> &a, float (&logits)[count], int unit, int step) {
    float maximum = a.maximum;
#pragma unroll
    for (int i = 0; i < count; i++) maximum = fmaxf(maximum, logits[i]);
    maximum = fmaxf(maximum, kvs_shfl_xor(maximum, 4));
    maximum = fmaxf(maximum, kvs_shfl_xor(maximum, 8));
    maximum = fmaxf(maximum, kvs_shfl_xor(maximum, 16));
    if (kvs_any(maximum > a.maximum || unit != a.unit || step != a.step)) {
        float keep = kvs_exp2(a.maximum - maximum), factors[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            factors[i] =
                keep * kvs_power(a.unit - kvs_place_of<shape>(a.step, i) - unit + kvs_place_of<shape>(step, i));
#pragma unroll
        for (int i = 0; i < shape::head_dim / 16; i++)
#pragma unroll
            for (int r = 0; r < 4; r++) a.output[i][r] *= factors[i % 4];
#pragma unroll
        for (int i = 0; i < shape::blocks; i++) a.shift[i] *= keep;
        a.sum *= keep;
        a.maximum = maximum;
        a.unit = unit;
        a.step = step;
    }
#pragma unroll
    for (int i = 0; i < count; i++) {
        logits[i] = logits[i] > KVS_LOWEST ? kvs_exp2(logits[i] - maximum) : 0.0f;
        a.sum += logits[i];
    }
}

/* A weight as the two columns of its head. */
KVS_DEVICE uint32_t kvs_split_weight(float weight) {
    float high = kvs_pair_low(kvs_pair_of(weight, 0.0f));
    return kvs_pair_of(high, weight - high);
}

/* --- full-precision tokens -----------------------------------------------------------------------------------------
 */

/* Weights of 16 tokens, as the second operand: tokens g, g + 8 of the lane's head. */
KVS_DEVICE void kvs_turn_weights(float low, float high, uint32_t (&b)[2]) {
    b[0] = kvs_movmatrix_trans(kvs_split_weight(low));
    b[1] = kvs_movmatrix_trans(kvs_split_weight(high));
}

/* Adds the values of 16 tokens; v0 and v1: tokens g and g + 8. */
template <class shape>
KVS_DEVICE void kvs_add_values(kvs_attended<shape> &a, const uint32_t (&v0)[shape::head_dim / 8],
                               const uint32_t (&v1)[shape::head_dim / 8], const uint32_t (&b)[2]) {
#pragma unroll
    for (int i = 0; i < shape::head_dim / 16; i++) {
        uint32_t operand[4];
        shape::order::operand(v0, v1, i, operand);
        kvs_mma_m16n8k16(a.output[i], operand, b);
    }
}

/* Attends to 16 tokens: rows of tokens g and g + 8. Rows that are not valid are read all the same. */
template <class shape>
KVS_DEVICE void kvs_attend_rows(kvs_attended<shape> &a, kvs_queries queries, const uint16_t *const (&k)[2],
                                const uint16_t *const (&v)[2], const bool (&valid)[2]) {
    const int head_dim = shape::head_dim;
    uint32_t k0[head_dim / 8], k1[head_dim / 8], v0[head_dim / 8], v1[head_dim / 8];
    kvs_order_pairs<head_dim>::template load<false>(k[0], k0);
    kvs_order_pairs<head_dim>::template load<false>(k[1], k1);
    shape::order::template load<false>(v[0], v0);
    shape::order::template load<false>(v[1], v1);
    int lane = (int)threadIdx.x % 32, row = lane % 8;
    /* Columns 2q, 2q + 1 of the j-th of four matrices are channels 8q + 2j, 8q + 2j + 1. */
    const unsigned char *q = queries.columns + (8 * (row / 2) + 2 * (lane / 8) + row % 2) * 16;
    float scores[4] = {};
#pragma unroll
    for (int i = 0; i < head_dim / 32; i++) {
        uint32_t b[4];
        kvs_ldmatrix_x4_trans(b, q + i * 32 * 16);
#pragma unroll
        for (int j = 0; j < 2; j++) {
            uint32_t keys[4] = {k0[4 * i + 2 * j], k1[4 * i + 2 * j], k0[4 * i + 2 * j + 1], k1[4 * i + 2 * j + 1]};
            uint32_t columns[2] = {b[2 * j], b[2 * j + 1]};
            kvs_mma_m16n8k16(scores, keys, columns);
        }
    }
    float unscale = kvs_ld_shared(queries.unscale + lane % 4);
    float logits[2] = {valid[0] ? scores[0] * unscale : KVS_LOWEST, valid[1] ? scores[2] * unscale : KVS_LOWEST};
    kvs_soften(a, logits, 0, 0);
    uint32_t b[2];
    kvs_turn_weights(logits[0], logits[1], b);
    kvs_add_values(a, v0, v1, b);
}

/* --- merging -------------------------------------------------------------------------------------------------------
 */

/* Of one head: its maximum, its sum, and head_dim outputs. */
KVS_DEVICE int kvs_part_floats(int head_dim) {
    return head_dim + 4;
}

static inline size_t kvs_merge_bytes(int head_dim, int warps) {
    return (size_t)(warps * KVS_BLOCK_HEADS * (head_dim + 4)) * 4;
}

/* Writes a warp's heads to its parts [4]. */
template <class shape> KVS_DEVICE void kvs_put_part(kvs_attended<shape> &a, float *parts) {
    const int tiles = shape::head_dim / 16;
    int lane = (int)threadIdx.x % 32, g = lane / 4;
    float *part = parts + lane % 4 * kvs_part_floats(shape::head_dim);
    for (int mask = 4; mask < 32; mask *= 2) {
        a.sum += kvs_shfl_xor(a.sum, mask);
#pragma unroll
        for (int i = 0; i < shape::blocks; i++) a.shift[i] += kvs_shfl_xor(a.shift[i], mask);
    }
    if (g == 0) {
        kvs_st_shared(part, a.maximum);
        kvs_st_shared(part + 1, a.sum);
    }
#pragma unroll
    for (int i = 0; i < tiles; i++) {
        float unit = kvs_power(a.unit - kvs_place_of<shape>(a.step, i)), shift = a.shift[i * shape::blocks / tiles];
#pragma unroll
        for (int high = 0; high < 2; high++)
            kvs_st_shared(part + 4 + shape::order::channel(i, g, high),
                          (a.output[i][2 * high] + a.output[i][2 * high + 1]) * unit + shift);
    }
}

/* One head of several parts (of warps, or of splits), as a warp has it: lane l channels 128 n + 4 l + 0..3. */
template <int head_dim> struct kvs_merged {
    static const int quads = (head_dim + 127) / 128;
    float maximum, sum;
    kvs_f32x4 output[quads];
};

template <bool shared, class T> KVS_DEVICE T kvs_part_value(const float *at) {
    return shared ? kvs_ld_shared((const T *)(const void *)at) : kvs_ld_global((const T *)(const void *)at);
}

/* Merges `count` parts, `stride` floats apart. Outputs of `batch` parts are asked for at once, the first of them with
 * the maxima: what a chain of loads would take counts where there is little else to do. */
template <int head_dim, bool shared, int batch>
KVS_DEVICE kvs_merged<head_dim> kvs_merge(const float *parts, int count, int stride) {
    const int quads = kvs_merged<head_dim>::quads;
    kvs_merged<head_dim> merged = {KVS_LOWEST, 0.0f, {}};
    int lane = (int)threadIdx.x % 32;
    float own_maximum = KVS_LOWEST, own_sum = 0.0f, keep = 0.0f;
#pragma unroll 1
    for (int first = 0; first < count; first += batch) {
        kvs_f32x4 x[batch][quads] = {};
        if (first % 32 == 0 && first + lane < count) {
            kvs_f32x2 head = kvs_part_value<shared, kvs_f32x2>(parts + (int64_t)(first + lane) * stride);
            own_maximum = head.x, own_sum = head.y;
        }
#pragma unroll
        for (int i = 0; i < batch; i++)
#pragma unroll
            for (int n = 0; n < quads; n++)
                if (first + i < count && 128 * n + 4 * lane < head_dim)
                    x[i][n] = kvs_part_value<shared, kvs_f32x4>(parts + (int64_t)(first + i) * stride + 4 + 128 * n +
                                                                4 * lane);
        if (first % 32 == 0) {
            float maximum = fmaxf(merged.maximum, first + lane < count ? own_maximum : KVS_LOWEST);
            for (int mask = 16; mask > 0; mask /= 2) maximum = fmaxf(maximum, kvs_shfl_xor(maximum, mask));
            float before = kvs_exp2(merged.maximum - maximum);
            keep = first + lane < count ? kvs_exp2(own_maximum - maximum) : 0.0f;
            merged.sum = kvs_fma(merged.sum, before, keep * own_sum);
#pragma unroll
            for (int n = 0; n < quads; n++) kvs_scale(merged.output[n], before);
            merged.maximum = maximum;
        }
#pragma unroll
        for (int i = 0; i < batch; i++) {
            float weight = kvs_shfl(keep, (first + i) % 32);
#pragma unroll
            for (int n = 0; n < quads; n++) kvs_accumulate(merged.output[n], x[i][n], weight);
        }
    }
    for (int mask = 16; mask > 0; mask /= 2) merged.sum += kvs_shfl_xor(merged.sum, mask);
    return merged;
}

/* Writes a head's outputs, times `factor`. */
template <int head_dim> KVS_DEVICE void kvs_put_outputs(kvs_merged<head_dim> &merged, float factor, float *to) {
    int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < kvs_merged<head_dim>::quads; n++) {
        kvs_scale(merged.output[n], factor);
        if (128 * n + 4 * lane < head_dim)
            kvs_st_global((kvs_f32x4 *)(void *)(to + 128 * n + 4 * lane), merged.output[n]);
    }
}

/* Whether this block is the last of its job's splits to come here: then it sees what the others wrote before. */
KVS_DEVICE bool kvs_is_last(uint32_t *counter, int splits, uint32_t *shared) {
    kvs_syncthreads();
    if (threadIdx.x == 0) {
        kvs_threadfence();
        uint32_t before = kvs_atomic_add_global(counter, 1u);
        kvs_threadfence();
        kvs_st_shared(shared, before);
    }
    kvs_syncthreads();
    return kvs_ld_shared(shared) == (uint32_t)splits - 1;
}

/* The end of a block: merges its warps, and, where it is the last split to end, the splits. `shared` is free memory. */
template <class shape>
KVS_DEVICE void kvs_finish(const kvs_attention_args &args, kvs_queries queries, kvs_attended<shape> &a,
                           unsigned char *shared) {
    const int head_dim = shape::head_dim, head_floats = head_dim + 4, stride = KVS_BLOCK_HEADS * head_floats;
    int warps = (int)blockDim.x / 32, warp = (int)threadIdx.x / 32;
    int first = kvs_ld_shared(queries.heads), count = kvs_ld_shared(queries.heads + 1);
    float *parts = (float *)shared;
    kvs_syncthreads();
    kvs_put_part(a, parts + warp * stride);
    kvs_syncthreads();
    int64_t job = (int64_t)blockIdx.z * gridDim.y + blockIdx.y, jobs = (int64_t)gridDim.z * gridDim.y;
    uint32_t *counter = (uint32_t *)args.workspace + job;
    float *splits =
        (float *)((unsigned char *)args.workspace + (jobs * 4 + 127) / 128 * 128) + job * args.splits * stride;
    float *out = args.out + ((int64_t)blockIdx.z * args.query_heads + first) * head_dim;
    for (int head = warp; head < count; head += warps) {
        kvs_merged<head_dim> merged =
            kvs_merge<head_dim, true, KVS_MERGE_WARPS>(parts + head * head_floats, warps, stride);
        if (args.splits == 1) {
            kvs_put_outputs(merged, 1.0f / merged.sum, out + head * head_dim);
            continue;
        }
        float *part = splits + (int64_t)blockIdx.x * stride + head * head_floats;
        kvs_f32x2 top = {merged.maximum, merged.sum};
        if (threadIdx.x % 32 == 0) kvs_st_global((kvs_f32x2 *)(void *)part, top);
        kvs_put_outputs(merged, 1.0f, part + 4);
    }
    if (args.splits == 1 || !kvs_is_last(counter, args.splits, (uint32_t *)shared)) return;
    for (int head = warp; head < count; head += warps) {
        kvs_merged<head_dim> merged =
            kvs_merge<head_dim, false, KVS_MERGE_SPLITS>(splits + head * head_floats, args.splits, stride);
        kvs_put_outputs(merged, 1.0f / merged.sum, out + head * head_dim);
    }
    if (threadIdx.x == 0) kvs_atomic_add_global(counter, 0u - (uint32_t)args.splits);
}

#endif
