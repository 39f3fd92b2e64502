#include "kernels/ranking_error.h"

#include <math.h>

#include "core/simd.h"
#include "kernels/affine.h"
#include "kernels/query_moments.h"
#include "kernels/scheme.h"

enum { BASE_BITS = 2, BOOST_BITS = 4 };

void kvs_channel_errors(int tokens, int head_dim, const float *k, int bits, float *scratch, float *errors) {
    static const kvs_affine_rule rule = {KVS_ROUND_HALF_UP, KVS_META_BINARY16, KVS_DIVIDE_BY_WORKING,
                                         .scale_floor = 1e-6f};
    float levels = kvs_affine_levels(bits), *low = scratch, *range = scratch + head_dim;
    kvs_channel_ranges(tokens, head_dim, k, low, range); /* leaves the minima in its scratch */
    for (int d = 0; d < head_dim; d++) {
        kvs_affine_group group = kvs_affine_fit(rule, low[d], low[d] + range[d], levels);
        for (int t = 0; t < tokens; t++) {
            float x = k[(size_t)t * head_dim + d], code = kvs_affine_code(rule.rounding, group, x, levels);
            errors[(size_t)t * head_dim + d] = kvs_affine_value(code, group.scale, group.zero) - x;
        }
    }
}

/* Moments of errors with weights, NULL for 1 / tokens. */
KVS_SIMD static void moments(kvs_error_moment moment, int tokens, int head_dim, const float *errors,
                             const double *weights, double *restrict sums) {
    double first[KVS_MAX_HEAD_DIM] = {0}, total = 0;
    for (int d = 0; d < head_dim; d++) sums[d] = 0;
    for (int t = 0; t < tokens; t++, errors += head_dim) {
        double weight = weights != NULL ? weights[t] : 1.0 / tokens;
        total += weight;
        for (int d = 0; d < head_dim; d++) {
            double e = (double)errors[d];
            first[d] += weight * e;
            sums[d] += weight * e * e;
        }
    }
    for (int d = 0; moment == KVS_ERROR_VARIANCE && total > 0 && d < head_dim; d++)
        sums[d] -= first[d] * first[d] / total;
}

void kvs_score_errors(const kvs_page_context *context, kvs_error_moment moment, int tokens, int head_dim,
                      const float *k, float *scratch, float *scores) {
    double at_base[KVS_MAX_HEAD_DIM], at_boost[KVS_MAX_HEAD_DIM];
    float *errors = scratch + 2 * (size_t)head_dim;
    kvs_channel_errors(tokens, head_dim, k, BASE_BITS, scratch, errors);
    moments(moment, tokens, head_dim, errors, NULL, at_base);
    kvs_channel_errors(tokens, head_dim, k, BOOST_BITS, scratch, errors);
    moments(moment, tokens, head_dim, errors, NULL, at_boost);
    kvs_query_square(&context->queries, scratch);
    for (int d = 0; d < head_dim; d++) scores[d] = (float)((double)scratch[d] * (at_base[d] - at_boost[d]));
}

/* Attention weights of one query on the page: 0 for tokens after it. */
static void weigh(const kvs_page_context *context, int head, int index, int tokens, int head_dim, const float *k,
                  double *weights) {
    const kvs_query_set *queries = &context->queries;
    const float *q = kvs_query_at(queries, head, index);
    double log_sum = (double)queries->log_sums[head * queries->sums_stride + index];
    for (int t = 0; t < tokens; t++) {
        double logit = 0;
        for (int d = 0; d < head_dim; d++) logit += (double)q[d] * (double)k[(size_t)t * head_dim + d];
        weights[t] = context->first_token + t <= queries->positions[index]
                         ? exp((double)context->softmax_scale * logit - log_sum)
                         : 0.0;
    }
}

void kvs_score_attended_errors(const kvs_page_context *context, kvs_error_moment moment, int tokens, int head_dim,
                               const float *k, float *scratch, float *scores) {
    enum { BLOCK = 512 }; /* tokens that weights are held for at a time; larger pages are weighed block by block */
    double sums[KVS_MAX_HEAD_DIM] = {0}, found[KVS_MAX_HEAD_DIM], weights[BLOCK];
    const kvs_query_set *queries = &context->queries;
    float *errors = scratch + 2 * (size_t)head_dim;
    for (int boosted = 0; boosted < 2; boosted++) {
        kvs_channel_errors(tokens, head_dim, k, boosted ? BOOST_BITS : BASE_BITS, scratch, errors);
        for (int h = 0; h < queries->heads; h++)
            for (int i = 0; i < queries->count; i++)
                for (int t = 0; t < tokens; t += BLOCK) {
                    int block = tokens - t < BLOCK ? tokens - t : BLOCK;
                    kvs_page_context part = *context;
                    part.first_token += t;
                    weigh(&part, h, i, block, head_dim, k + (size_t)t * head_dim, weights);
                    moments(moment, block, head_dim, errors + (size_t)t * head_dim, weights, found);
                    const float *q = kvs_query_at(queries, h, i);
                    for (int d = 0; d < head_dim; d++)
                        sums[d] += (boosted ? -1.0 : 1.0) * (double)q[d] * (double)q[d] * found[d];
                }
    }
    for (int d = 0; d < head_dim; d++) scores[d] = (float)sums[d];
}
