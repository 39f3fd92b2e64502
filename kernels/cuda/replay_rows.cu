/* replay_rows.cu: softmax of a row, what changed logits do to it, and errors of the output. A block has one row. */
#include <math.h>

#include "core/exponent.h"
#include "kernels/replay_kernels.h"
#include "kernels/simt/simt.h"

namespace {

enum { THREADS = 128, WARPS = THREADS / 32, TOP = KVS_REPLAY_TOP, NONE = 0x7fffffff };

/* Shared memory of a row's block. */
struct board {
    float sums[WARPS], values[WARPS][TOP];
    int32_t positions[WARPS][TOP];
};

KVS_DEVICE int64_t sample_of(const kvs_replay_rows &rows, int row) {
    return (int64_t)(row / rows.positions) * rows.queries + rows.first + row % rows.positions;
}

/* --- sums and maxima over the block -------------------------------------------------------------------------------
 */

enum operation { SUM, MAXIMUM };

template <operation o> KVS_DEVICE float join(float a, float b) {
    return o == SUM ? a + b : fmaxf(a, b);
}

/* All threads get the result. */
template <operation o> KVS_DEVICE float over_block(board *shared, float x) {
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) x = join<o>(x, kvs_shfl_xor(x, mask));
    if (threadIdx.x % 32 == 0) kvs_st_shared(&shared->sums[threadIdx.x / 32], x);
    kvs_syncthreads();
    x = kvs_ld_shared(&shared->sums[0]);
#pragma unroll
    for (int w = 1; w < WARPS; w++) x = join<o>(x, kvs_ld_shared(&shared->sums[w]));
    kvs_syncthreads();
    return x;
}

/* --- the largest logits -------------------------------------------------------------------------------------------
 */

/* The largest that a thread has seen, larger ones first, ties to the lower position. */
struct best {
    float values[TOP];
    int32_t positions[TOP];
};

KVS_DEVICE void clear(best &b) {
#pragma unroll
    for (int i = 0; i < TOP; i++) b.values[i] = -INFINITY, b.positions[i] = NONE;
}

/* Positions come ascending. */
KVS_DEVICE void offer(best &b, float value, int32_t position) {
    if (!(value > b.values[TOP - 1])) return;
    b.values[TOP - 1] = value;
    b.positions[TOP - 1] = position;
#pragma unroll
    for (int i = TOP - 1; i > 0; i--)
        if (b.values[i] > b.values[i - 1]) {
            float v = b.values[i];
            int32_t p = b.positions[i];
            b.values[i] = b.values[i - 1], b.positions[i] = b.positions[i - 1];
            b.values[i - 1] = v, b.positions[i - 1] = p;
        }
}

KVS_DEVICE bool comes_before(float value, int32_t position, float other, int32_t other_position) {
    return value > other || (value == other && position < other_position);
}

/* The largest of the warp go to the board. */
KVS_DEVICE void post_best(board *shared, best &b) {
    int warp = (int)threadIdx.x / 32;
    for (int round = 0; round < TOP; round++) {
        float value = b.values[0];
        int32_t position = b.positions[0];
#pragma unroll
        for (int mask = 16; mask > 0; mask /= 2) {
            float other = kvs_shfl_xor(value, mask);
            int32_t other_position = kvs_shfl_xor(position, mask);
            if (comes_before(other, other_position, value, position)) value = other, position = other_position;
        }
        if (threadIdx.x % 32 == 0) {
            kvs_st_shared(&shared->values[warp][round], value);
            kvs_st_shared(&shared->positions[warp][round], position);
        }
        if (b.positions[0] == position) {
#pragma unroll
            for (int i = 0; i + 1 < TOP; i++) b.values[i] = b.values[i + 1], b.positions[i] = b.positions[i + 1];
            b.values[TOP - 1] = -INFINITY, b.positions[TOP - 1] = NONE;
        }
    }
}

/* After a barrier, one thread: the largest of the warps' lists; NONE where there are fewer. */
KVS_DEVICE void merge_best(const board *shared, int32_t (&positions)[TOP]) {
    int next[WARPS] = {};
    for (int i = 0; i < TOP; i++) {
        float value = -INFINITY;
        int32_t position = NONE;
        int from = 0;
        for (int w = 0; w < WARPS; w++) {
            float other = kvs_ld_shared(&shared->values[w][next[w]]);
            int32_t other_position = kvs_ld_shared(&shared->positions[w][next[w]]);
            if (comes_before(other, other_position, value, position))
                value = other, position = other_position, from = w;
        }
        positions[i] = position;
        if (position != NONE && next[from] < TOP - 1) next[from]++;
    }
}

/* --- the row as it was ---------------------------------------------------------------------------------------------
 */

KVS_KERNEL(THREADS, 8) softmax(const kvs_softmax_args args) {
    board *shared = (board *)KVS_SHARED;
    int row = (int)blockIdx.x;
    int visible = kvs_ld_global_nc(args.visible + args.rows.first + row % args.rows.positions);
    const float *logits = args.logits + row * args.stride;
    float *probabilities = args.probabilities + row * args.stride;
    best b;
    clear(b);
    for (int t = (int)threadIdx.x; t < visible; t += THREADS) offer(b, kvs_ld_global_nc(logits + t), t);
    float max = over_block<MAXIMUM>(shared, b.values[0]), sum = 0.0f;
    for (int t = (int)threadIdx.x; t < visible; t += THREADS) {
        float x = kvs_ld_global_nc(logits + t) - max;
        float value = kvs_exponent_value(kvs_exponent_of(x > KVS_EXPONENT_LOW ? x : KVS_EXPONENT_LOW));
        kvs_st_global(probabilities + t, value);
        sum += value;
    }
    sum = over_block<SUM>(shared, sum);
    float factor = 1.0f / sum;
    for (int t = (int)threadIdx.x; t < visible; t += THREADS)
        kvs_st_global(probabilities + t, kvs_ld_global(probabilities + t) * factor);
    post_best(shared, b);
    kvs_syncthreads();
    if (threadIdx.x > 0) return;
    int32_t positions[TOP];
    merge_best(shared, positions);
    for (int i = 0; i < TOP; i++)
        kvs_st_global(args.tops + (int64_t)row * TOP + i, positions[i] == NONE ? -1 : positions[i]);
}

/* --- the row as it becomes -----------------------------------------------------------------------------------------
 */

/* One row under a scheme. */
struct row_state {
    const float *logits, *probabilities;
    float *changes, *shifted;
    int visible;
};

/* A logit's change: what storing does inside the stored range, and rounding everywhere. */
KVS_DEVICE float change_of(const kvs_softmax_change_args &args, const row_state &r, int row, int64_t end, int t) {
    float change = t >= args.begin && t < end ? kvs_ld_global(r.changes + t) : 0.0f;
    if (args.rounding != nullptr) change += kvs_ld_global_nc(args.rounding + row * args.row.stride + t);
    return change;
}

/* Sum of e^(logit + change - max) over the row, in binary64; changes may be left out. */
KVS_DEVICE double sum_exponentials(board *shared, const row_state &r, int with_changes, float max) {
    double sum = 0.0;
    for (int t = (int)threadIdx.x; t < r.visible; t += THREADS) {
        double x = (double)kvs_ld_global_nc(r.logits + t) - (double)max;
        if (with_changes) x += (double)kvs_ld_global(r.changes + t);
        sum += exp(x);
    }
    float high = (float)sum, low = (float)(sum - (double)high);
    double total = (double)over_block<SUM>(shared, high);
    return total + (double)over_block<SUM>(shared, low);
}

/* Where a logit rises so far that differences would not do: p' - p and p' themselves, and KL. G is 0. */
KVS_DEVICE float recompute(board *shared, const row_state &r) {
    float before = -INFINITY, after = -INFINITY;
    for (int t = (int)threadIdx.x; t < r.visible; t += THREADS) {
        float logit = kvs_ld_global_nc(r.logits + t);
        before = fmaxf(before, logit);
        after = fmaxf(after, logit + kvs_ld_global(r.changes + t));
    }
    before = over_block<MAXIMUM>(shared, before);
    after = over_block<MAXIMUM>(shared, after);
    double log_before = (double)before + log(sum_exponentials(shared, r, 0, before));
    double log_after = (double)after + log(sum_exponentials(shared, r, 1, after));
    float kl = 0.0f;
    for (int t = (int)threadIdx.x; t < r.visible; t += THREADS) {
        double logit = (double)kvs_ld_global_nc(r.logits + t), change = (double)kvs_ld_global(r.changes + t);
        double p = exp(logit - log_before), q = exp(logit + change - log_after);
        kl += (float)(p * (log_after - log_before - change));
        kvs_st_global(r.changes + t, (float)(q - p));
        kvs_st_global(r.shifted + t, (float)q);
    }
    return over_block<SUM>(shared, kl);
}

struct shift_sums {
    float curve, tilt;
};

/* Changes become p (e^x - 1), shifted p e^x. */
KVS_DEVICE shift_sums shift(board *shared, const row_state &r, float mean) {
    shift_sums s = {0.0f, 0.0f};
    for (int t = (int)threadIdx.x; t < r.visible; t += THREADS) {
        float p = kvs_ld_global_nc(r.probabilities + t), x = kvs_ld_global(r.changes + t) - mean;
        /* the curve goes on falling with x itself */
        kvs_exponent e = kvs_exponent_of(x > KVS_EXPONENT_LOW ? x : KVS_EXPONENT_LOW);
        s.curve += p * kvs_exponent_curve(e, x);
        s.tilt += p * x;
        kvs_st_global(r.changes + t, p * kvs_exponent_less_one(e));
        kvs_st_global(r.shifted + t, p * kvs_exponent_value(e)); /* not change + p: e^x may be far below 1 */
    }
    s.curve = over_block<SUM>(shared, s.curve);
    s.tilt = over_block<SUM>(shared, s.tilt);
    return s;
}

/* How many of the largest logits stay; *first: whether the largest does. */
KVS_DEVICE int shared_tops(const board *shared, const int32_t *tops, int *count, int *first) {
    int32_t now[TOP];
    int same = 0;
    *count = 0;
    merge_best(shared, now);
    for (int i = 0; i < TOP; i++) {
        int32_t was = kvs_ld_global_nc(tops + i);
        *count += was >= 0;
        for (int j = 0; j < TOP; j++) same += was >= 0 && now[j] == was;
        if (i == 0) *first = now[0] == was;
    }
    return same;
}

KVS_KERNEL(THREADS, 6) softmax_change(const kvs_softmax_change_args args) {
    board *shared = (board *)KVS_SHARED;
    const kvs_replay_rows &rows = args.row.rows;
    int row = (int)blockIdx.x, index = rows.first + row % rows.positions;
    int64_t offset = row * args.row.stride, end = args.ends != nullptr ? kvs_ld_global_nc(args.ends + index) : 0;
    row_state r = {args.row.logits + offset, args.row.probabilities + offset, args.changes + offset,
                   args.shifted + offset, kvs_ld_global_nc(args.row.visible + index)};
    float mean = 0.0f, square = 0.0f, rise = -INFINITY;
    best b;
    clear(b);
    for (int t = (int)threadIdx.x; t < r.visible; t += THREADS) {
        float change = change_of(args, r, row, end, t);
        kvs_st_global(r.changes + t, change);
        mean += kvs_ld_global_nc(r.probabilities + t) * change;
        square += change * change;
        rise = fmaxf(rise, change);
        offer(b, kvs_ld_global_nc(r.logits + t) + change, t);
    }
    mean = over_block<SUM>(shared, mean);
    square = over_block<SUM>(shared, square);
    rise = over_block<MAXIMUM>(shared, rise);
    double gain = 0.0, kl = 0.0;
    if (rise - mean > KVS_EXPONENT_HIGH) {
        kl = (double)recompute(shared, r);
    } else {
        shift_sums s = shift(shared, r, mean);
        gain = (double)s.curve + (double)s.tilt;
        kl = log1p(gain) - (double)s.tilt;
        if (kl < 0.0) kl = 0.0;
    }
    post_best(shared, b);
    kvs_syncthreads();
    if (threadIdx.x > 0) return;
    int count, first = 0, same = shared_tops(shared, args.row.tops + (int64_t)row * TOP, &count, &first);
    int64_t sample = sample_of(rows, row);
    kvs_st_global(args.gains + row, gain);
    kvs_st_global(args.logit_mse + sample, square / (float)r.visible);
    kvs_st_global(args.attention_kl + sample, (float)kl);
    kvs_st_global(args.top1 + sample, (float)first);
    kvs_st_global(args.top8 + sample, (float)same / (float)count);
}

/* --- the output ----------------------------------------------------------------------------------------------------
 */

KVS_KERNEL(THREADS, 8) output(const kvs_output_args args) {
    board *shared = (board *)KVS_SHARED;
    int row = (int)blockIdx.x, head_dim = args.rows.head_dim;
    int64_t first = (int64_t)row * head_dim, part = (int64_t)args.rows.rows * head_dim;
    double gain = args.gains != nullptr ? kvs_ld_global_nc(args.gains + row) : 0.0;
    float squares = 0.0f;
    for (int d = (int)threadIdx.x; d < head_dim; d += THREADS) {
        float sum = 0.0f;
        for (int s = 0; s < args.splits; s++) sum += kvs_ld_global_nc(args.parts + s * part + first + d);
        if (args.gains != nullptr)
            sum = (float)(((double)sum - gain * (double)kvs_ld_global(args.output + first + d)) / (1.0 + gain));
        else
            kvs_st_global(args.output + first + d, sum);
        squares += sum * sum;
    }
    squares = over_block<SUM>(shared, squares);
    if (threadIdx.x > 0) return;
    int64_t sample = sample_of(args.rows, row);
    if (args.gains == nullptr) {
        kvs_st_global(args.energy + sample, (double)squares);
        return;
    }
    double error = (double)squares, energy = kvs_ld_global(args.energy + sample);
    kvs_st_global(args.output_error + sample, error);
    kvs_st_global(args.rel_l2 + sample, (float)fmin(sqrt(error) / fmax(sqrt(energy), 1e-30), 3e38));
}

} // namespace

extern "C" int KVS_BACKEND(kvs_replay_softmax)(const kvs_softmax_args *args, void *stream) {
    return kvs_launch(softmax, dim3((unsigned)args->rows.rows), dim3(THREADS), sizeof(board), stream, *args);
}

extern "C" int KVS_BACKEND(kvs_replay_softmax_change)(const kvs_softmax_change_args *args, void *stream) {
    return kvs_launch(softmax_change, dim3((unsigned)args->row.rows.rows), dim3(THREADS), sizeof(board), stream, *args);
}

extern "C" int KVS_BACKEND(kvs_replay_output)(const kvs_output_args *args, void *stream) {
    return kvs_launch(output, dim3((unsigned)args->rows.rows), dim3(THREADS), sizeof(board), stream, *args);
}
