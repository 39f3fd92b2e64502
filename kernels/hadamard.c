#include "kernels/hadamard.h"

#include <math.h>
#include <string.h>

#include "core/simd.h"

enum { MAX_PALEY = 20 };

/* The order of the Paley factor of n: 1, 12 or 20; 0 where there is none. */
static int paley_order(int n) {
    static const int orders[] = {1, 12, 20};
    for (int i = 0; i < 3; i++) {
        int rest = n / orders[i];
        if (rest > 0 && rest * orders[i] == n && (rest & (rest - 1)) == 0) return orders[i];
    }
    return 0;
}

int kvs_hadamard_admits(int n) {
    return n >= 1 && n <= KVS_HADAMARD_MAX && paley_order(n) > 0;
}

/* 1 where a is a square modulo the prime q, -1 where not, 0 for a = 0. */
static int residue(int a, int q) {
    for (int i = 1; i < q && a != 0; i++)
        if (i * i % q == a) return 1;
    return a == 0 ? 0 : -1;
}

/* I + S, S antisymmetric: first row and column +-1, the rest by residues. */
static void paley(int order, float signs[MAX_PALEY][MAX_PALEY]) {
    int q = order - 1;
    for (int i = 0; i < order; i++)
        for (int j = 0; j < order; j++) {
            int s = i == 0 ? 1 : j == 0 ? -1 : residue((j - i + q) % q, q);
            signs[i][j] = i == j ? 1.0f : (float)s;
        }
}

/* One stage for all bits of the index in turn: the lowest is transformed and becomes the highest, so that after log2(n)
 * stages each has been and stands where it was, and every stage is the same contiguous loop. */
KVS_SIMD static void stage(int half, const float *restrict x, float *restrict y) {
    for (int i = 0; i < half; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        y[i] = a + b;
        y[i + half] = a - b;
    }
}

KVS_SIMD static void scale_row(int n, float factor, const float *x, float *y) {
    for (int i = 0; i < n; i++) y[i] = x[i] * factor;
}

/* y[i] = sum_j signs[i][j] x[j], each of x and y [order] blocks of `block` elements; transposed where back. */
KVS_SIMD static void mix_blocks(int order, int block, int back, float signs[MAX_PALEY][MAX_PALEY],
                                const float *restrict x, float *restrict y) {
    for (int i = 0; i < order; i++)
        for (int e = 0; e < block; e++) {
            float sum = 0.0f;
            for (int j = 0; j < order; j++) sum += (back ? signs[j][i] : signs[i][j]) * x[j * block + e];
            y[i * block + e] = sum;
        }
}

static void transform(int n, int64_t rows, int back, float *x) {
    int order = paley_order(n), block = n / order;
    float a[KVS_HADAMARD_MAX], b[KVS_HADAMARD_MAX], signs[MAX_PALEY][MAX_PALEY];
    float factor = (float)(1.0 / sqrt(n));
    if (order > 1) paley(order, signs);
    for (int64_t r = 0; r < rows; r++, x += n) {
        float *from = a, *to = b;
        memcpy(from, x, sizeof *x * (size_t)n);
        for (int length = 1; length < block; length *= 2) {
            for (int at = 0; at < n; at += block) stage(block / 2, from + at, to + at);
            float *next = from;
            from = to, to = next;
        }
        if (order > 1) {
            mix_blocks(order, block, back, signs, from, to);
            from = to;
        }
        scale_row(n, factor, from, x);
    }
}

void kvs_hadamard_rows(int n, int64_t rows, float *x) {
    transform(n, rows, 0, x);
}

void kvs_hadamard_rows_back(int n, int64_t rows, float *x) {
    transform(n, rows, 1, x);
}
