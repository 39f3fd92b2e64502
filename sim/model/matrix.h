/* matrix.h: matrices of weights as they are held in memory, and products with them.
 *
 * Decoding reads every weight once a token, so weights that are stored as BF16 stay so: half the bytes of binary32.
 * They are widened in registers (a row of x) or a panel at a time in the processor's cache (many rows, for the BLAS
 * library). Products of one row sum over 16 lanes in a fixed order: the same bits on every machine and for any
 * partition. */
#ifndef KVS_SIM_MODEL_MATRIX_H
#define KVS_SIM_MODEL_MATRIX_H

#include <stddef.h>

#include "kernels/model_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* w [rows][columns]; number is KVS_NUMBER_F32 or KVS_NUMBER_BF16. */
typedef struct kvs_matrix {
    void *values;
    int rows, columns;
    kvs_number number;
} kvs_matrix;

/* Rows [first, first + rows) of a matrix: no copy. */
kvs_matrix kvs_matrix_part(const kvs_matrix *w, int first, int rows);

/* Row `row` in binary32: x [columns]. */
void kvs_matrix_row(const kvs_matrix *w, int row, float *x);

/* y[i] = w_i . x, or y[i] + w_i . x where add is 1: x [w->columns], y [w->rows]. */
void kvs_matrix_times(const kvs_matrix *w, const float *x, int add, float *y);

/* The same for x [count][w->columns] and y [count][w->rows], through the BLAS library where count is above 1. */
void kvs_matrix_multiply(const kvs_matrix *w, const float *x, int count, int add, float *y);

/* out[i * stride + t] = rows[t] . x[i]: rows [count][columns], x [xs][columns]. */
void kvs_rows_dot(const float *rows, int count, int columns, const float *x, int xs, float *out, int stride);

/* out[i][d] += sum over t of weights[i * stride + t] rows[t][d], in the order of t: out [outs][columns]. */
void kvs_rows_weigh(const float *rows, int count, int columns, const float *weights, int stride, int outs, float *out);

#ifdef __cplusplus
}
#endif
#endif
