/* calibrate.h: fits a basis for K and V of every layer and KV head to recorded sequences, and shares bits among all.
 *
 * For one layer and KV head, over the tokens after the sinks of all sequences, with C the covariance of V:
 *
 *     V: the eigenvectors of C; component variances are its eigenvalues (Karhunen-Loeve transform)
 *     K: an error e costs q . e in a logit, squared e' M e on average, with M the second moment of scale * q over the
 *        recorded queries. With G = M^1/2 the eigenvectors U of G C G decorrelate G k, whose errors all cost the same:
 *        the basis is G^-1 U.
 *
 * Before the rotary embedding, M is that of the queries as a key at position t meets them, R_t' q, t drawn by chance in
 * proportion to what its error would do to the output.
 *
 * What an error does to the output o = sum p v of one query is, to first order and for errors independent from token to
 * token, E^2 = (sum p_t^2 D_V + sum p_t^2 |v_t - o|^2 D_K) / |o|^2 over the stored tokens, where D_V is the mean
 * squared error of a value and D_K that of a logit. With a and b the means over queries of sqrt(sum p^2) / |o| and
 * sqrt(sum p^2 |v - o|^2) / |o|, a head's error is sqrt(a^2 D_V + b^2 D_K): reverse water-filling inside the head gives
 * it as a curve over bits, and the planes go where the lower convex hulls of all heads' curves fall fastest, so that
 * the mean over heads is least. */
#ifndef KVS_SIM_CALIBRATE_H
#define KVS_SIM_CALIBRATE_H

#include "kernels/constants.h"
#include "traces/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kvs_share { KVS_SHARE_HEAD, KVS_SHARE_MODEL } kvs_share;

typedef struct kvs_calibrate_options {
    double bits; /* of code an element, K and V together, on average over the heads */
    int sink, page, window, before_rope;
    int64_t from_position; /* queries before it do not count */
    kvs_share share;       /* whose bits are one budget */
    int quiet;
} kvs_calibrate_options;

/* What it expects of one head. */
typedef struct kvs_calibrated_head {
    double k_bits, v_bits; /* mean widths */
    double error, bound; /* the mean relative change of the output: of these widths, and by the rate-distortion bound of
                          * normal components (reverse water-filling with real bits) at the same bits */
} kvs_calibrated_head;

/* Fills records (kvs_constants_bytes(header)) and heads [layers * kv_heads] from a trace with queries. KVS_INPUT names
 * the trace: no queries at or after from_position, values that are not finite, keys that the options do not fit. */
KVS_MUST_CHECK kvs_status kvs_calibrate(kvs_trace *trace, const kvs_calibrate_options *options,
                                        kvs_constants_header *header, uint8_t *records, kvs_calibrated_head *heads,
                                        kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
