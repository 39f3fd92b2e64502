#include "plots/select.h"

#include <stdlib.h>

#include "plots/pareto.h"

/* `want` of `count` entries, evenly spread, first and last among them. */
static int spread(const int *from, int count, int want, int *chosen) {
    if (want > count) want = count;
    for (int i = 0; i < want; i++) chosen[i] = from[want > 1 ? i * (count - 1) / (want - 1) : count / 2];
    return want;
}

/* The share of one trace of the candidates. */
static int select_of_trace(const kvs_results *results, const int *candidates, int count, int trace, int want,
                           int *chosen) {
    size_t size = (size_t)count;
    double *costs = malloc(sizeof *costs * 2 * size);
    int *indices = malloc(sizeof *indices * 2 * size), *own = indices, found = -1;
    if (costs != NULL && indices != NULL) {
        int *order = indices + size, of_trace = 0;
        for (int i = 0; i < count; i++) {
            const kvs_result *result = &results->results[candidates[i]];
            if (result->trace != trace) continue;
            costs[of_trace] = result->effective_bits;
            costs[size + (size_t)of_trace] = result->errors.attention_output_rel_l2.mean;
            own[of_trace++] = candidates[i];
        }
        int on = kvs_pareto(costs, costs + size, of_trace, order);
        for (int i = 0; i < of_trace; i++) order[i] = own[order[i]];
        if (on >= 0) found = spread(order, on > 0 ? on : of_trace, want, chosen);
    }
    free(costs);
    free(indices);
    return found;
}

static int is_quantized(const kvs_result *result) {
    return result->bits.payload > 0 && result->effective_bits < 16;
}

int kvs_select_panels(const kvs_results *results, kvs_usable usable, int most, int *chosen, int *candidates) {
    int count = 0, quantized = 0, traces = 0;
    for (int i = 0; i < results->results_count; i++)
        if (usable(&results->results[i])) quantized += is_quantized(&results->results[i]);
    int *all = malloc(sizeof *all * (size_t)(results->results_count + 1));
    unsigned char *seen = calloc((size_t)results->traces_count + 1, 1);
    int found = all == NULL || seen == NULL ? -1 : 0;
    for (int i = 0; found == 0 && i < results->results_count; i++) {
        const kvs_result *result = &results->results[i];
        if (!usable(result) || (quantized > 0 && !is_quantized(result))) continue;
        all[count++] = i;
        traces += !seen[result->trace];
        seen[result->trace] = 1;
    }
    if (found == 0 && count <= most) {
        for (; found < count; found++) chosen[found] = all[found];
    } else {
        int share = traces > 0 && most / traces > 0 ? most / traces : 1;
        for (int trace = 0; found >= 0 && found < most && trace < results->traces_count; trace++) {
            if (!seen[trace]) continue;
            int more = select_of_trace(results, all, count, trace, share, chosen + found);
            found = more < 0 ? -1 : found + more;
        }
    }
    *candidates = count;
    free(all);
    free(seen);
    return found;
}
