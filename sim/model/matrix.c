#include "sim/model/matrix.h"

#include <cblas.h>
#include <stdint.h>
#include <string.h>

#include "core/half.h"
#include "core/simd.h"

enum {
    LANES = 16,
    QUAD = 4,            /* rows whose sums run at once: additions of one sum must wait for each other */
    LINE = 4 * LANES,    /* bytes: of a vector, and of a line of the processor's cache */
    AHEAD = 4096,        /* bytes, beside the rows under way */
    NEAR = 16,           /* rows that stay in the first cache for several queries */
    PANEL_COLUMNS = 512, /* of weights that are widened for the BLAS library: */
    PANEL = 1 << 16      /* 256 KiB, so that they stay in the second cache */
};

/* Vectors of the compiler's: each clone gives them the registers that it has. */
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef float lanes8 __attribute__((vector_size(32)));
typedef float lanes4 __attribute__((vector_size(16)));

#define INLINE static inline __attribute__((always_inline)) /* into the clones */

kvs_matrix kvs_matrix_part(const kvs_matrix *w, int first, int rows) {
    size_t skipped = (size_t)first * (size_t)w->columns * kvs_number_bytes(w->number);
    return (kvs_matrix){(char *)w->values + skipped, rows, w->columns, w->number};
}

void kvs_matrix_row(const kvs_matrix *w, int row, float *x) {
    kvs_matrix one = kvs_matrix_part(w, row, 1);
    if (w->number == KVS_NUMBER_F32)
        memcpy(x, one.values, sizeof *x * (size_t)w->columns);
    else
        kvs_bfloats_to_floats(one.values, x, (size_t)w->columns);
}

/* --- one row of x --------------------------------------------------------------------------------------------------
 */

/* out[r] = the sum of sums[r], by halves: lane i with lane i + 8, then + 4, + 2, + 1. */
INLINE void sum_lanes(const lanes sums[QUAD], float out[QUAD]) {
    lanes8 half;
    lanes4 quarter[QUAD], low, high;
    for (int r = 0; r < QUAD; r++) {
        half = __builtin_shufflevector(sums[r], sums[r], 0, 1, 2, 3, 4, 5, 6, 7) +
               __builtin_shufflevector(sums[r], sums[r], 8, 9, 10, 11, 12, 13, 14, 15);
        quarter[r] = __builtin_shufflevector(half, half, 0, 1, 2, 3) + __builtin_shufflevector(half, half, 4, 5, 6, 7);
    }
    low = __builtin_shufflevector(quarter[0], quarter[1], 0, 1, 4, 5) +
          __builtin_shufflevector(quarter[0], quarter[1], 2, 3, 6, 7);
    high = __builtin_shufflevector(quarter[2], quarter[3], 0, 1, 4, 5) +
           __builtin_shufflevector(quarter[2], quarter[3], 2, 3, 6, 7);
    low = __builtin_shufflevector(low, high, 0, 2, 4, 6) + __builtin_shufflevector(low, high, 1, 3, 5, 7);
    memcpy(out, &low, sizeof low);
}

/* Adds the products of LANES columns of QUAD rows. */
INLINE void add_floats(const char *const w[QUAD], const float *x, lanes sums[QUAD]) {
    lanes left, right;
    memcpy(&right, x, sizeof right);
    for (int r = 0; r < QUAD; r++) {
        memcpy(&left, w[r], sizeof left);
        sums[r] += left * right;
    }
}

/* The same for 2 * LANES columns: a word holds two of them, the first in its lower half, and each is widened where it
 * stands; so x is taken apart into its even and its odd columns. */
INLINE void add_bfloats(const char *const w[QUAD], const float *x, lanes sums[QUAD]) {
    lanes first, second, even, odd;
    words pairs;
    memcpy(&first, x, sizeof first);
    memcpy(&second, x + LANES, sizeof second);
    even = __builtin_shufflevector(first, second, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    odd = __builtin_shufflevector(first, second, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    for (int r = 0; r < QUAD; r++) {
        memcpy(&pairs, w[r], sizeof pairs);
        sums[r] += (lanes)(pairs << 16) * even;
        sums[r] += (lanes)(pairs & 0xffff0000u) * odd;
    }
}

/* y[q][r] of rows w [rows][columns] of `bytes` bytes an element, a constant where this is called, and x
 * [count][columns]. Columns behind the last full vector are padded with zeros. Rows are asked for in the order of
 * memory some way ahead: QUAD streams at once are more than the processor follows by itself. */
INLINE void times(const void *w, int rows, int columns, const float *x, int count, int add, float *y, int y_stride,
                  const int bytes) {
    const int width = bytes == 4 ? LANES : 2 * LANES; /* LINE bytes of weights */
    const int whole = columns / width * width, rest = columns - whole;
    const size_t row_bytes = (size_t)columns * (size_t)bytes;
    float x_rest[2 * LANES] = {0}, out[QUAD];
    char w_rest[QUAD][LINE] = {{0}};
    for (int first = 0; first < rows; first += QUAD) {
        const int real = rows - first < QUAD ? rows - first : QUAD;
        const char *block = (const char *)w + (size_t)first * row_bytes, *ahead = block + QUAD * row_bytes + AHEAD;
        for (int q = 0; q < count; q++) {
            const float *x_row = x + (size_t)q * (size_t)columns;
            const char *at[QUAD];
            lanes sums[QUAD] = {{0}};
            for (int r = 0; r < QUAD; r++) /* rows that are not there repeat the last one */
                at[r] = block + (size_t)(r < real ? r : real - 1) * row_bytes;
            for (int c = 0; c < whole; c += width) {
                for (int r = 0; r < QUAD && q == 0; r++, ahead += LINE) __builtin_prefetch(ahead);
                (bytes == 4 ? add_floats : add_bfloats)(at, x_row + c, sums);
                for (int r = 0; r < QUAD; r++) at[r] += LINE;
            }
            if (rest > 0) {
                memcpy(x_rest, x_row + whole, sizeof *x_rest * (size_t)rest);
                for (int r = 0; r < QUAD; r++) at[r] = memcpy(w_rest[r], at[r], (size_t)rest * (size_t)bytes);
                (bytes == 4 ? add_floats : add_bfloats)(at, x_rest, sums);
            }
            sum_lanes(sums, out);
            float *y_row = y + (size_t)q * (size_t)y_stride + first;
            for (int r = 0; r < real; r++) y_row[r] = add ? y_row[r] + out[r] : out[r];
        }
    }
}

KVS_SIMD static void times_bfloats(const kvs_matrix *w, const float *x, int add, float *y) {
    times(w->values, w->rows, w->columns, x, 1, add, y, 0, 2);
}

KVS_SIMD static void times_floats(const kvs_matrix *w, const float *x, int add, float *y) {
    times(w->values, w->rows, w->columns, x, 1, add, y, 0, 4);
}

void kvs_matrix_times(const kvs_matrix *w, const float *x, int add, float *y) {
    (w->number == KVS_NUMBER_F32 ? times_floats : times_bfloats)(w, x, add, y);
}

KVS_SIMD void kvs_rows_dot(const float *rows, int count, int columns, const float *x, int xs, float *out, int stride) {
    times(rows, count, columns, x, xs, 0, out, stride, 4);
}

/* Rows [from, to) under one set of weights; lines from `ahead` on are asked for meanwhile, as many as the rows have. */
INLINE void weigh(const float *rows, int from, int to, int columns, const float *weights, const char *ahead,
                  float *out) {
    int c = 0;
    for (; c + QUAD * LANES <= columns; c += QUAD * LANES) {
        lanes sums[QUAD], row;
        memcpy(sums, out + c, sizeof sums);
        for (int t = from; t < to; t++)
            for (int i = 0; i < QUAD; i++) {
                if (ahead != NULL) __builtin_prefetch(ahead), ahead += LINE;
                memcpy(&row, rows + (size_t)t * (size_t)columns + c + i * LANES, sizeof row);
                sums[i] += weights[t] * row;
            }
        memcpy(out + c, sums, sizeof sums);
    }
    for (; c < columns; c++)
        for (int t = from; t < to; t++) out[c] += weights[t] * rows[(size_t)t * (size_t)columns + (size_t)c];
}

KVS_SIMD void kvs_rows_weigh(const float *rows, int count, int columns, const float *weights, int stride, int outs,
                             float *out) {
    for (int from = 0; from < count; from += NEAR) {
        int to = count - from < NEAR ? count : from + NEAR;
        const char *ahead = (const char *)(rows + (size_t)to * (size_t)columns);
        weigh(rows, from, to, columns, weights, ahead, out);
        for (int o = 1; o < outs; o++)
            weigh(rows, from, to, columns, weights + (size_t)o * (size_t)stride, NULL,
                  out + (size_t)o * (size_t)columns);
    }
}

/* --- many rows of x ------------------------------------------------------------------------------------------------
 */

/* A panel of weights at a time, the products with its columns added to those before. */
static void multiply_panels(const kvs_matrix *w, const float *x, int count, int add, float *y) {
    float panel[PANEL] __attribute__((aligned(64)));
    int parts = (w->columns + PANEL_COLUMNS - 1) / PANEL_COLUMNS, width = (w->columns + parts - 1) / parts;
    int height = PANEL / width / LANES * LANES;
    const uint16_t *values = w->values;
    for (int from = 0; from < w->rows; from += height) {
        int rows = w->rows - from < height ? w->rows - from : height;
        for (int c = 0; c < w->columns; c += width) {
            int columns = w->columns - c < width ? w->columns - c : width;
            for (int r = 0; r < rows; r++)
                kvs_bfloats_to_floats(values + (size_t)(from + r) * (size_t)w->columns + c,
                                      panel + (size_t)r * (size_t)columns, (size_t)columns);
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, count, rows, columns, 1.0f, x + c, w->columns, panel,
                        columns, c > 0 || add ? 1.0f : 0.0f, y + from, w->rows);
        }
    }
}

void kvs_matrix_multiply(const kvs_matrix *w, const float *x, int count, int add, float *y) {
    if (count == 1)
        kvs_matrix_times(w, x, add, y);
    else if (w->number == KVS_NUMBER_F32)
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, count, w->rows, w->columns, 1.0f, x, w->columns, w->values,
                    w->columns, add ? 1.0f : 0.0f, y, w->rows);
    else
        multiply_panels(w, x, count, add, y);
}
