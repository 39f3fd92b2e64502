#include "plots/select.h"

#include <stdlib.h>
#include <string.h>

#include "plots/pareto.h"

static int same_family(const kvs_results *results, int a, int b) {
    const char *x = results->results[a].scheme, *y = results->results[b].scheme;
    if (x == NULL || y == NULL) return x == y;
    size_t length = strcspn(x, ":");
    return length == strcspn(y, ":") && memcmp(x, y, length) == 0;
}

/* The size of the family whose first entry is number i; 0 if entry i is not the first of its family. */
static int family_size(const kvs_results *results, const int *from, int count, int i) {
    int size = 0;
    for (int k = 0; k < count; k++) {
        if (!same_family(results, from[i], from[k])) continue;
        if (k < i) return 0;
        size++;
    }
    return size;
}

/* Takes the entry of a family, its first at `first`, that is number `rank` of it. */
static void take(const kvs_results *results, const int *from, char *taken, int count, int first, int rank) {
    for (int k = first; k < count; k++) {
        if (!same_family(results, from[first], from[k])) continue;
        if (rank-- == 0) taken[k] = 1;
    }
}

/* `want` of `count` entries: turn by turn from each family, within a family evenly spread; in their own order. */
static int spread(const kvs_results *results, const int *from, int count, int want, int *chosen) {
    char *taken = calloc((size_t)count + 1, 1);
    int *shares = calloc((size_t)count + 1, sizeof *shares), found = 0;
    if (taken != NULL && shares != NULL) {
        for (int left = want < count ? want : count; left > 0;)
            for (int i = 0; i < count && left > 0; i++) {
                if (family_size(results, from, count, i) <= shares[i]) continue;
                shares[i]++;
                left--;
            }
        for (int i = 0; i < count; i++) {
            int size = family_size(results, from, count, i);
            for (int n = 0; n < shares[i]; n++)
                take(results, from, taken, count, i, shares[i] > 1 ? n * (size - 1) / (shares[i] - 1) : size / 2);
        }
        for (int i = 0; i < count; i++)
            if (taken[i]) chosen[found++] = from[i];
    } else {
        found = -1;
    }
    free(taken);
    free(shares);
    return found;
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
        if (on >= 0) found = spread(results, order, on > 0 ? on : of_trace, want, chosen);
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
