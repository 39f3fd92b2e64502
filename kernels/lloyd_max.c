#include "kernels/lloyd_max.h"

#include <math.h>

/* --- a density ----------------------------------------------------------------------------------------------------
 *
 * Mass and first moment below x are tabulated once; between two nodes they are cubics through the values and the
 * slopes, which are the density and x times the density. */

enum { CELLS = 2048, ROUNDS = 20000 };

typedef struct table {
    double low, step;
    double density[CELLS + 1], mass[CELLS + 1], moment[CELLS + 1];
} table;

static double normal(double x, int dim) {
    (void)dim;
    return exp(-0.5 * x * x);
}

static double sphere(double x, int dim) {
    double rest = 1.0 - x * x / dim;
    return rest > 0.0 ? pow(rest, 0.5 * (dim - 3)) : 0.0;
}

/* The density from -reach to reach, up to a factor that no centroid sees. */
static void tabulate(table *t, double (*density)(double x, int dim), int dim, double reach) {
    t->low = -reach;
    t->step = 2.0 * reach / CELLS;
    t->density[0] = density(t->low, dim);
    t->mass[0] = t->moment[0] = 0.0;
    for (int i = 0; i < CELLS; i++) { /* Simpson's rule */
        double a = t->low + i * t->step, m = a + 0.5 * t->step, b = a + t->step;
        double fa = t->density[i], fm = density(m, dim), fb = density(b, dim);
        t->density[i + 1] = fb;
        t->mass[i + 1] = t->mass[i] + t->step / 6.0 * (fa + 4.0 * fm + fb);
        t->moment[i + 1] = t->moment[i] + t->step / 6.0 * (a * fa + 4.0 * m * fm + b * fb);
    }
}

static double cubic(double u, double step, double y0, double y1, double slope0, double slope1) {
    double rise = y1 - y0, s0 = slope0 * step, s1 = slope1 * step;
    return y0 + u * (s0 + u * (3.0 * rise - 2.0 * s0 - s1 + u * (s0 + s1 - 2.0 * rise)));
}

static void below(const table *t, double x, double *mass, double *moment) {
    double at = (x - t->low) / t->step;
    int i = at <= 0.0 ? 0 : at >= CELLS ? CELLS - 1 : (int)at;
    double u = at - i, a = t->low + i * t->step, b = a + t->step, fa = t->density[i], fb = t->density[i + 1];
    *mass = cubic(u, t->step, t->mass[i], t->mass[i + 1], fa, fb);
    *moment = cubic(u, t->step, t->moment[i], t->moment[i + 1], a * fa, b * fb);
}

/* Moves every level to its centroid; the largest move. Only the lower half is computed: the density is even. */
static double improve(const table *t, int count, double *levels) {
    double mass = 0.0, moment = 0.0, most = 0.0;
    for (int j = 0; j < count / 2; j++) {
        double border = j + 1 < count / 2 ? 0.5 * (levels[j] + levels[j + 1]) : 0.0, next_mass, next_moment;
        below(t, border, &next_mass, &next_moment);
        double centroid = (next_moment - moment) / (next_mass - mass);
        most = fmax(most, fabs(centroid - levels[j]));
        levels[j] = centroid;
        mass = next_mass, moment = next_moment;
    }
    return most;
}

static void solve(const table *t, int bits, double *levels) {
    int count = 1 << bits;
    /* The density of levels of a fine codebook goes as the cube root of the density (Panter and Dite): for a normal one
     * that is a normal one of thrice the variance. A start that close leaves few rounds. */
    double cumulated[CELLS + 1];
    cumulated[0] = 0.0;
    for (int i = 0; i < CELLS; i++) cumulated[i + 1] = cumulated[i] + cbrt(t->density[i]) + cbrt(t->density[i + 1]);
    for (int j = 0, i = 0; j < count / 2; j++) {
        double want = cumulated[CELLS] * (j + 0.5) / count;
        while (cumulated[i + 1] < want) i++;
        levels[j] = t->low + t->step * (i + (want - cumulated[i]) / (cumulated[i + 1] - cumulated[i]));
    }
    for (int round = 0; round < ROUNDS && improve(t, count, levels) > 1e-12; round++) continue;
    for (int j = 0; j < count / 2; j++) levels[count - 1 - j] = -levels[j];
}

void kvs_lloyd_max_normal(int bits, double *levels) {
    table t;
    tabulate(&t, normal, 0, 9.0);
    solve(&t, bits, levels);
}

void kvs_lloyd_max_sphere(int dim, int bits, double *levels) {
    table t;
    tabulate(&t, sphere, dim, fmin(sqrt(dim), 9.0));
    solve(&t, bits, levels);
}

/* --- a sample ------------------------------------------------------------------------------------------------------
 */

static void start_at_quantiles(int samples, const double *values, const double *weights, int count, double *levels) {
    double total = 0.0, sum = 0.0;
    for (int i = 0; i < samples; i++) total += weights[i];
    for (int i = 0, j = 0; i < samples; i++) {
        sum += weights[i];
        for (; j < count && sum >= total * (j + 0.5) / count; j++) levels[j] = values[i];
        if (i + 1 == samples)
            for (; j < count; j++) levels[j] = values[i]; /* what rounding left */
    }
}

void kvs_lloyd_max_sample(int samples, const double *values, const double *weights, int count, int rounds,
                          double *levels) {
    start_at_quantiles(samples, values, weights, count, levels);
    for (int round = 0; round < rounds; round++) {
        int moved = 0;
        for (int j = 0, i = 0; j < count; j++) {
            double border = j + 1 < count ? 0.5 * (levels[j] + levels[j + 1]) : INFINITY, mass = 0.0, moment = 0.0;
            for (; i < samples && values[i] <= border; i++) {
                mass += weights[i];
                moment += weights[i] * values[i];
            }
            double centroid = mass > 0.0 ? moment / mass : levels[j];
            moved |= fabs(centroid - levels[j]) > 1e-9 * fabs(values[samples - 1] - values[0]);
            levels[j] = centroid;
        }
        if (!moved) break;
    }
}
