/* calibrate_fit.h: from the statistics of heads to bases and widths (sim/calibrate.h has the formulas). */
#ifndef KVS_SIM_CALIBRATE_FIT_H
#define KVS_SIM_CALIBRATE_FIT_H

#include "kernels/trellis.h"
#include "sim/calibrate.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Sums over one layer and KV head of all sequences; indices KVS_CONSTANTS_K and _V. */
typedef struct kvs_head_statistics {
    double tokens, queries, moments;
    double *sums[2];    /* [head_dim] */
    double *squares[2]; /* [head_dim][head_dim]: sum of x x' */
    double *moment;     /* the same: sum of scaled queries' q q' as keys meet them */
    double effects[2];  /* sum over queries of sqrt(sum p^2 |v - o|^2) / |o|, and of sqrt(sum p^2) / |o| */
} kvs_head_statistics;

/* What a head's error is at every number of planes. */
typedef struct kvs_head_curve {
    int planes;        /* most that can be given */
    double *variances; /* [2 * head_dim] weighted variances of K's components, then V's */
    double *errors;    /* [planes + 1] */
    int *components;   /* [planes]: which component the next plane goes to */
} kvs_head_curve;

static inline int kvs_curve_planes(int head_dim) {
    return 2 * head_dim * KVS_TRELLIS_MAX_BITS; /* for each component of K and V */
}

/* Fills mean and basis of both records of a head, and its curve, whose arrays are the caller's. KVS_INPUT where an
 * eigenvalue is not found or a number overflows binary16. */
KVS_MUST_CHECK kvs_status kvs_calibrate_fit(int head_dim, kvs_head_statistics *statistics,
                                            const kvs_constants_record records[2], kvs_head_curve *curve,
                                            kvs_error *error);

/* given [heads]: planes of each head, `budget` in all, where the mean error is least. */
KVS_MUST_CHECK kvs_status kvs_calibrate_share(int heads, const kvs_head_curve *curves, int64_t budget, int *given,
                                              kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
