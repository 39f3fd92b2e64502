/* hadamard.h: the orthonormal Hadamard transform of vectors, H x / sqrt(n), that spreads an outlier over all channels.
 *
 * H is the Kronecker product of a Paley matrix of order 1, 12 or 20 (Paley 1933, from the quadratic residues modulo 11
 * or 19) and Sylvester's of order 2^k, so n = 2^k, 12 * 2^k or 20 * 2^k: all of 64, 80, 96, 128, 160, 192, 256. Every
 * output is one fixed tree of additions: the same bits whatever the vector width. */
#ifndef KVS_KERNELS_HADAMARD_H
#define KVS_KERNELS_HADAMARD_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KVS_HADAMARD_MAX 1024

/* Whether there is a transform of order n, 1 <= n <= KVS_HADAMARD_MAX. */
int kvs_hadamard_admits(int n);

/* Transforms each row of x [rows][n] in place; _back is the inverse, which is the transposed one. Where n is a power of
 * two they are the same. */
void kvs_hadamard_rows(int n, int64_t rows, float *x);
void kvs_hadamard_rows_back(int n, int64_t rows, float *x);

#ifdef __cplusplus
}
#endif
#endif
