#include "kernels/error_feedback.h"

#include <string.h>

static void add_moments(const float *query, int n, double *sums) {
    for (int r = 0; r < n; r++)
        for (int c = 0; c <= r; c++) sums[r * n + c] += (double)query[r] * (double)query[c];
}

void kvs_feedback_factor(const kvs_query_set *queries, int head_dim, double ridge, double *factor) {
    int n = head_dim, count = queries->heads * queries->count;
    memset(factor, 0, sizeof *factor * (size_t)n * (size_t)n);
    for (int h = 0; h < queries->heads; h++)
        for (int i = 0; i < queries->count; i++) add_moments(kvs_query_at(queries, h, i), n, factor);
    for (int r = 0; r < n; r++) {
        for (int c = 0; c <= r; c++) factor[r * n + c] /= count > 0 ? count : 1;
        factor[r * n + r] *= 1.0 + ridge;
    }
    for (int k = 0; k < n; k++) { /* one column of L at a time, what is left to its right updated */
        double pivot = factor[k * n + k];
        for (int r = k + 1; r < n; r++) {
            double l = pivot > 0.0 ? factor[r * n + k] / pivot : 0.0;
            for (int c = k + 1; c <= r; c++) factor[r * n + c] -= l * factor[c * n + k];
        }
        for (int r = k + 1; r < n; r++) factor[r * n + k] = pivot > 0.0 ? factor[r * n + k] / pivot : 0.0;
    }
}

void kvs_feedback_apply(const double *factor, int head_dim, int tokens, int d, float *rows) {
    float *row = rows + (size_t)d * (size_t)tokens;
    for (int j = d + 1; j < head_dim; j++) {
        float l = (float)factor[j * head_dim + d];
        const float *error = rows + (size_t)j * (size_t)tokens;
        for (int t = 0; t < tokens; t++) row[t] -= l * error[t];
    }
}
