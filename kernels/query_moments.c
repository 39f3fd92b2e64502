#include "kernels/query_moments.h"

#include <math.h>

#include "kernels/scheme.h"

typedef enum power { MAGNITUDE, SQUARE } power;

static void add(power of, int head_dim, const float *query, double *sums) {
    if (of == MAGNITUDE)
        for (int d = 0; d < head_dim; d++) sums[d] += (double)fabsf(query[d]);
    else
        for (int d = 0; d < head_dim; d++) sums[d] += (double)query[d] * (double)query[d];
}

static void mean_of(power of, const kvs_query_set *queries, float *means) {
    double sums[KVS_MAX_HEAD_DIM] = {0};
    int head_dim = queries->head_dim;
    for (int h = 0; h < queries->heads; h++)
        for (int i = 0; i < queries->count; i++) add(of, head_dim, kvs_query_at(queries, h, i), sums);
    double count = queries->count > 0 ? (double)queries->heads * queries->count : 1.0;
    for (int d = 0; d < head_dim; d++) means[d] = (float)(sums[d] / count);
}

void kvs_query_magnitude(const kvs_query_set *queries, float *means) {
    mean_of(MAGNITUDE, queries, means);
}

void kvs_query_square(const kvs_query_set *queries, float *means) {
    mean_of(SQUARE, queries, means);
}
