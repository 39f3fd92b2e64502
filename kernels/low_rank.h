/* low_rank.h: the best approximation of a matrix by few outer products, by block power iteration. */
#ifndef KVS_KERNELS_LOW_RANK_H
#define KVS_KERNELS_LOW_RANK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* left [rank][rows] and right [rank][columns] so that matrix [rows][columns] ~ sum_r left_r right_r^T: right starts as
 * uniform numbers under `key`; each round makes it orthonormal, left = matrix right, in the last round orthonormal too,
 * right = matrix^T left. Binary32, in a fixed order of additions. transposed is the matrix again as [columns][rows]. */
void kvs_low_rank(int rank, int rounds, int rows, int columns, const float *matrix, const float *transposed,
                  uint64_t key, float *left, float *right);

/* x [rows][columns] += sum_r left_r right_r^T. */
void kvs_add_low_rank(int rank, int rows, int columns, const float *left, const float *right, float *x);

#ifdef __cplusplus
}
#endif
#endif
