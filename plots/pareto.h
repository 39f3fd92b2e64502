/* pareto.h: which of several points no other point beats. */
#ifndef KVS_PLOTS_PARETO_H
#define KVS_PLOTS_PARETO_H

#ifdef __cplusplus
extern "C" {
#endif

/* A point is on the frontier if no other is at most as large in both costs and smaller in one. Of equal points all or
 * none are on it. A NaN in either cost keeps a point off it. order[] receives the points, those on the frontier first,
 * by cost_a, then the others by cost_a (ties by cost_b, then by index; NaN last). Returns how many are on it, or -1
 * when memory is short. */
int kvs_pareto(const double *cost_a, const double *cost_b, int count, int *order);

#ifdef __cplusplus
}
#endif
#endif
