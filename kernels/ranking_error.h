/* ranking_error.h: how much less a channel's quantization error costs at the boosted width: the core of the rankings
 * that quantize before they choose.
 *
 * e_b[t,d] is value - key when channel d is stored with b bits in one group of the whole page by the rule of the
 * published system of Kitty: halves up, binary16 scale and zero, scale at least 1e-6 (kernels/affine.h). b is 2 and 4,
 * its widths. */
#ifndef KVS_KERNELS_RANKING_ERROR_H
#define KVS_KERNELS_RANKING_ERROR_H

#include "kernels/ranking.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kvs_error_moment {
    KVS_ERROR_SQUARE,   /* sum_t w[t] e[t,d]^2 */
    KVS_ERROR_VARIANCE, /* the same less (sum_t w[t] e[t,d])^2 / sum_t w[t]: softmax ignores what all keys share */
} kvs_error_moment;

/* errors [tokens][head_dim] = e_b. scratch: 2 * head_dim floats. */
void kvs_channel_errors(int tokens, int head_dim, const float *k, int bits, float *scratch, float *errors);

/* scores[d] = (mean_q q[d]^2) (moment of e_2 - moment of e_4), w = 1 / tokens. scratch: kvs_ranking_scratch. */
void kvs_score_errors(const kvs_page_context *context, kvs_error_moment moment, int tokens, int head_dim,
                      const float *k, float *scratch, float *scores);
/* scores[d] = sum_q q[d]^2 (moment of e_2 - moment of e_4), w the attention weights of q on the page's tokens. */
void kvs_score_attended_errors(const kvs_page_context *context, kvs_error_moment moment, int tokens, int head_dim,
                               const float *k, float *scratch, float *scores);

#ifdef __cplusplus
}
#endif
#endif
