#include "analysis/shared_budget.h"

#include <stdlib.h>

typedef struct candidate {
    float score;
    int head, channel;
} candidate;

static int descending(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    if (x->head != y->head) return x->head < y->head ? -1 : 1;
    return (x->channel > y->channel) - (x->channel < y->channel);
}

kvs_status kvs_shared_counts(const float *const *scores, int heads, int head_dim, int total, int *counts,
                             kvs_error *error) {
    size_t all = (size_t)heads * (size_t)head_dim;
    candidate *candidates = malloc(all * sizeof *candidates);
    if (candidates == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (size_t i = 0; i < all; i++) {
        int head = (int)(i / (size_t)head_dim), channel = (int)(i % (size_t)head_dim);
        candidates[i] = (candidate){scores[head][channel], head, channel};
    }
    qsort(candidates, all, sizeof *candidates, descending);
    for (int h = 0; h < heads; h++) counts[h] = 0;
    for (int i = 0; i < total; i++) counts[candidates[i].head]++;
    free(candidates);
    return KVS_OK;
}

void kvs_shared_steps(const double *const *errors, int heads, int most, int total, int *counts) {
    for (int h = 0; h < heads; h++) counts[h] = 0;
    for (int step = 0; step < total; step++) {
        int best = -1;
        double gain = 0;
        for (int h = 0; h < heads; h++) {
            if (counts[h] == most) continue;
            double off = errors[h][counts[h]] - errors[h][counts[h] + 1];
            if (best >= 0 && !(off > gain)) continue;
            best = h;
            gain = off;
        }
        counts[best]++;
    }
}
