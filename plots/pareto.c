#include "plots/pareto.h"

#include <math.h>
#include <stdlib.h>

typedef struct point {
    double a, b;
    int index, known;
} point;

static int compare(const void *left, const void *right) {
    const point *p = left, *q = right;
    if (p->known != q->known) return q->known - p->known;
    if (p->known && p->a != q->a) return p->a < q->a ? -1 : 1;
    if (p->known && p->b != q->b) return p->b < q->b ? -1 : 1;
    return p->index - q->index;
}

int kvs_pareto(const double *cost_a, const double *cost_b, int count, int *order) {
    point *points = malloc(sizeof *points * (size_t)(count > 0 ? count : 1));
    if (points == NULL) return -1;
    for (int i = 0; i < count; i++)
        points[i] = (point){cost_a[i], cost_b[i], i, !isnan(cost_a[i]) && !isnan(cost_b[i])};
    qsort(points, (size_t)count, sizeof *points, compare);
    /* By rising a: a point is on the frontier if its b is below all before it, or if it equals the last that was. */
    int found = 0, others = 0, last = -1;
    int *rest = malloc(sizeof *rest * (size_t)(count > 0 ? count : 1));
    for (int i = 0; rest != NULL && i < count; i++) {
        const point *p = &points[i];
        int equal = last >= 0 && p->a == points[last].a && p->b == points[last].b;
        if (p->known && (last < 0 || p->b < points[last].b || equal)) {
            order[found++] = p->index;
            last = i;
        } else {
            rest[others++] = p->index;
        }
    }
    for (int i = 0; rest != NULL && i < others; i++) order[found + i] = rest[i];
    if (rest == NULL) found = -1;
    free(rest);
    free(points);
    return found;
}
