#include "kernels/low_rank.h"

#include <math.h>
#include <string.h>

#include "core/random.h"
#include "core/simd.h"

/* out [rank][rows]: matrix [columns][rows] transposed, times each of in [rank][columns]. */
KVS_SIMD static void multiply(int rank, int rows, int columns, const float *restrict matrix, const float *restrict in,
                              float *restrict out) {
    memset(out, 0, sizeof *out * (size_t)rank * (size_t)rows);
    for (int c = 0; c < columns; c++)
        for (int r = 0; r < rank; r++) {
            float factor = in[r * columns + c];
            for (int i = 0; i < rows; i++) out[r * rows + i] += matrix[c * rows + i] * factor;
        }
}

static double dot(int length, const float *a, const float *b) {
    double sum = 0.0;
    for (int i = 0; i < length; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Gram-Schmidt, twice over; a vector that lies in the others' span becomes 0. */
static void orthonormalize(int rank, int length, float *vectors) {
    for (int r = 0; r < rank; r++) {
        float *v = vectors + r * length;
        double before = dot(length, v, v);
        for (int s = 0; s < 2 * r; s++) {
            const float *u = vectors + s % r * length;
            double along = dot(length, u, v);
            for (int i = 0; i < length; i++) v[i] = (float)((double)v[i] - along * (double)u[i]);
        }
        double after = dot(length, v, v), scale = after > 1e-12 * before ? 1.0 / sqrt(after) : 0.0;
        for (int i = 0; i < length; i++) v[i] = (float)((double)v[i] * scale);
    }
}

void kvs_low_rank(int rank, int rounds, int rows, int columns, const float *matrix, const float *transposed,
                  uint64_t key, float *left, float *right) {
    for (int i = 0; i < rank * columns; i++) right[i] = kvs_random_unit(key, (uint64_t)i);
    for (int round = 1; round <= rounds; round++) {
        orthonormalize(rank, columns, right);
        multiply(rank, rows, columns, transposed, right, left);
        if (round == rounds) orthonormalize(rank, rows, left);
        multiply(rank, columns, rows, matrix, left, right);
    }
}

KVS_SIMD void kvs_add_low_rank(int rank, int rows, int columns, const float *left, const float *right, float *x) {
    for (int t = 0; t < rows; t++)
        for (int r = 0; r < rank; r++) {
            float factor = left[r * rows + t];
#pragma omp simd
            for (int d = 0; d < columns; d++) x[t * columns + d] += factor * right[r * columns + d];
        }
}
