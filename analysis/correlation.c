#include "analysis/correlation.h"

#include <math.h>

/* Ranks counted from 0; with equal values, their mean. */
static void rank(const double *x, int n, double *ranks) {
    for (int i = 0; i < n; i++) {
        int below = 0, same = 0;
        for (int j = 0; j < n; j++) {
            below += x[j] < x[i];
            same += x[j] == x[i];
        }
        ranks[i] = below + (same - 1) / 2.0;
    }
}

double kvs_spearman(const double *a, const double *b, int n) {
    double x[KVS_CORRELATION_MOST], y[KVS_CORRELATION_MOST], xy = 0, xx = 0, yy = 0, mean = (n - 1) / 2.0;
    rank(a, n, x);
    rank(b, n, y);
    for (int i = 0; i < n; i++) {
        xy += (x[i] - mean) * (y[i] - mean);
        xx += (x[i] - mean) * (x[i] - mean);
        yy += (y[i] - mean) * (y[i] - mean);
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : NAN;
}

static int sign(double x) {
    return (x > 0) - (x < 0);
}

double kvs_kendall(const double *a, const double *b, int n) {
    double agreement = 0, of_a = 0, of_b = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) {
            int x = sign(a[i] - a[j]), y = sign(b[i] - b[j]);
            agreement += x * y;
            of_a += x != 0;
            of_b += y != 0;
        }
    return of_a > 0 && of_b > 0 ? agreement / sqrt(of_a * of_b) : NAN;
}

/* Whether i is among the k highest. */
static int on_top(const double *x, int n, int k, int i) {
    int before = 0;
    for (int j = 0; j < n; j++) before += x[j] > x[i] || (x[j] == x[i] && j < i);
    return before < k;
}

double kvs_top_overlap(const double *a, const double *b, int n, int k) {
    int shared = 0;
    for (int i = 0; i < n; i++) shared += on_top(a, n, k, i) && on_top(b, n, k, i);
    return (double)shared / k;
}
