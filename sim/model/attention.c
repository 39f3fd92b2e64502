#include "sim/model/attention.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "sim/model/matrix.h"
#include "sim/model/vector.h"

/* Where the tokens of a block divide: [begin, low) is stored for all its queries, [low, high) for some, the rest for
 * none. */
typedef struct division {
    int begin, low, high;
} division;

static division divide(const kvs_cache_side *side, int first, int rows) {
    if (side->stored == NULL) return (division){0, 0, 0};
    int low = side->stored_end[first], high = side->stored_end[first + rows - 1];
    if (high <= side->stored_begin) return (division){0, 0, 0};
    return (division){side->stored_begin, low < side->stored_begin ? side->stored_begin : low, high};
}

size_t kvs_attention_scratch(int tokens) {
    return 2 * (size_t)KVS_ATTENTION_ROWS * (size_t)tokens;
}

/* out[r][t] = q_r . keys[from + t] for t < to - from */
static void dot_keys(int head_dim, const float *q, int rows, const float *keys, int from, int to, float *out,
                     int out_stride) {
    if (to > from)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, to - from, head_dim, 1.0f, q, head_dim,
                    keys + (size_t)from * (size_t)head_dim, head_dim, 0.0f, out, out_stride);
}

/* out[r] += sum over from <= t < to of weights[r][t - from] values[t] */
static void add_values(int head_dim, const float *weights, int stride, int rows, const float *values, int from, int to,
                       float *out, size_t out_stride) {
    if (to > from)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, head_dim, to - from, 1.0f, weights, stride,
                    values + (size_t)from * (size_t)head_dim, head_dim, 1.0f, out, (int)out_stride);
}

static void score(int head_dim, const kvs_cache_side *k, const float *q, int first, int rows, float *scores,
                  float *mixed) {
    int stride = first + rows;
    division d = divide(k, first, rows);
    dot_keys(head_dim, q, rows, k->full, 0, d.begin, scores, stride);
    dot_keys(head_dim, q, rows, k->stored, d.begin, d.high, scores + d.begin, stride);
    dot_keys(head_dim, q, rows, k->full, d.high, stride, scores + d.high, stride);
    int width = d.high - d.low;
    dot_keys(head_dim, q, rows, k->full, d.low, d.high, mixed, width);
    for (int r = 0; r < rows && width > 0; r++) {
        int end = k->stored_end[first + r] < d.low ? d.low : k->stored_end[first + r];
        memcpy(scores + (size_t)r * (size_t)stride + end, mixed + (size_t)r * (size_t)width + (end - d.low),
               (size_t)(d.high - end) * sizeof *scores);
    }
}

static void weigh(int head_dim, const kvs_cache_side *v, int first, int rows, float *weights, float *mixed, float *out,
                  size_t out_stride) {
    int stride = first + rows;
    division d = divide(v, first, rows);
    int width = d.high - d.low;
    for (int r = 0; r < rows; r++) {
        memset(out + (size_t)r * out_stride, 0, (size_t)head_dim * sizeof *out);
        if (width == 0) continue;
        int end = v->stored_end[first + r] < d.low ? d.low : v->stored_end[first + r];
        float *row = weights + (size_t)r * (size_t)stride, *other = mixed + (size_t)r * (size_t)width;
        memset(other, 0, (size_t)(end - d.low) * sizeof *other);
        memcpy(other + (end - d.low), row + end, (size_t)(d.high - end) * sizeof *other);
        memset(row + end, 0, (size_t)(d.high - end) * sizeof *row);
    }
    add_values(head_dim, weights, stride, rows, v->full, 0, d.begin, out, out_stride);
    add_values(head_dim, weights + d.begin, stride, rows, v->stored, d.begin, d.high, out, out_stride);
    add_values(head_dim, mixed, width, rows, v->full, d.low, d.high, out, out_stride);
    add_values(head_dim, weights + d.high, stride, rows, v->full, d.high, stride, out, out_stride);
}

void kvs_attention_block(int head_dim, float scale, const kvs_cache_side *k, const kvs_cache_side *v, const float *q,
                         int first, int rows, float *scratch, float *out, size_t out_stride) {
    int stride = first + rows;
    float *mixed = scratch + (size_t)rows * (size_t)stride;
    score(head_dim, k, q, first, rows, scratch, mixed);
    for (int r = 0; r < rows; r++) {
        float *row = scratch + (size_t)r * (size_t)stride;
        int visible = first + r + 1;
        kvs_softmax(visible, scale, row);
        memset(row + visible, 0, (size_t)(stride - visible) * sizeof *row);
    }
    weigh(head_dim, v, first, rows, scratch, mixed, out, out_stride);
}

/* --- one token -----------------------------------------------------------------------------------------------------
 */

/* Rows [from, to) of one copy. */
typedef struct run {
    const float *rows;
    int from, to;
} run;

static int within(int token, int from, int to) {
    return token < from ? from : token > to ? to : token;
}

/* Tokens [from, to) as the query at a position reads them: in full precision, as stored, in full precision. */
static void divide_part(const kvs_cache_side *side, int position, int from, int to, run runs[3]) {
    int end = side->stored != NULL ? side->stored_end[position] : 0, begin = side->stored_begin;
    if (begin > end) begin = end;
    begin = within(begin, from, to);
    end = within(end, from, to);
    runs[0] = (run){side->full, from, begin};
    runs[1] = (run){side->stored, begin, end};
    runs[2] = (run){side->full, end, to};
}

void kvs_attention_part(int head_dim, float scale, const kvs_cache_side *k, const kvs_cache_side *v, const float *q,
                        int queries, int position, int part, float *scratch, kvs_part_sum *sums) {
    int from = part * KVS_ATTENTION_PART, to = from + KVS_ATTENTION_PART;
    size_t dim = (size_t)head_dim;
    if (to > position + 1) to = position + 1;
    run runs[3];
    divide_part(k, position, from, to, runs);
    for (int i = 0; i < 3; i++)
        if (runs[i].to > runs[i].from)
            kvs_rows_dot(runs[i].rows + (size_t)runs[i].from * dim, runs[i].to - runs[i].from, head_dim, q, queries,
                         scratch + (runs[i].from - from), KVS_ATTENTION_PART);
    for (int i = 0; i < queries; i++)
        sums[i].top = kvs_exponentials(to - from, scale, scratch + i * KVS_ATTENTION_PART, &sums[i].sum);
    memset(sums->value, 0, (size_t)queries * dim * sizeof *sums->value);
    divide_part(v, position, from, to, runs);
    for (int i = 0; i < 3; i++)
        if (runs[i].to > runs[i].from)
            kvs_rows_weigh(runs[i].rows + (size_t)runs[i].from * dim, runs[i].to - runs[i].from, head_dim,
                           scratch + (runs[i].from - from), KVS_ATTENTION_PART, queries, sums->value);
}

void kvs_attention_join(int head_dim, float scale, int parts, const kvs_part_sum *sums, int stride, float *out) {
    float top = sums[0].top, total = 0;
    for (int i = 1; i < parts; i++) top = sums[i * stride].top > top ? sums[i * stride].top : top;
    for (int i = 0; i < parts; i++) total += sums[i * stride].sum * expf(scale * (sums[i * stride].top - top));
    memset(out, 0, (size_t)head_dim * sizeof *out);
    for (int i = 0; i < parts; i++) {
        float weight = expf(scale * (sums[i * stride].top - top)) / total;
        kvs_rows_weigh(sums[i * stride].value, 1, head_dim, &weight, 1, 1, out);
    }
}
