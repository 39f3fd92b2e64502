#include "sim/calibrate_fit.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "kernels/trellis.h"

/* LAPACK, which OpenBLAS brings: eigenvalues ascending, eigenvectors over a's columns (a's rows here). */
void dsyev_(const char *vectors, const char *half, const int *n, double *a, const int *stride, double *values,
            double *work, const int *work_size, int *info);

/* --- bases ---------------------------------------------------------------------------------------------------------
 */

/* Room for one head; [n] or [n][n]. */
typedef struct room {
    double *values, *vectors, *root, *inverse, *product, *work;
} room;

static double *carve(int n, room *r) {
    size_t side = (size_t)n, square = side * side;
    double *memory = malloc(sizeof *memory * (side + 4 * square + 34 * side));
    if (memory == NULL) return NULL;
    *r = (room){memory,
                memory + side,
                memory + side + square,
                memory + side + 2 * square,
                memory + side + 3 * square,
                memory + side + 4 * square};
    return memory;
}

static kvs_status eigen(int n, room *r, kvs_error *error) {
    int info, work_size = 34 * n;
    dsyev_("V", "U", &n, r->vectors, &n, r->values, r->work, &work_size, &info);
    return info == 0 ? KVS_OK : kvs_fail(error, KVS_INPUT, NULL, NULL, "an eigenvalue does not converge");
}

/* Values below `part` of the largest are raised to it; all to 1 where there is none above 0. */
static void raise(int n, double part, double *values) {
    double most = values[n - 1];
    for (int i = 0; i < n; i++) values[i] = most > 0 ? fmax(values[i], part * most) : 1.0;
}

/* Component variances, and what the basis is scaled by: a component that hardly varies still has a length in binary16.
 */
static void keep_and_raise(int n, double *values, double *variances) {
    for (int i = 0; i < n; i++) variances[i] = fmax(values[i], 0.0);
    raise(n, 1e-6, values);
}

/* matrix = sum over eigenvectors u of value^power u u' */
static void power_of(int n, const room *r, double power, double *scaled, double *matrix) {
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) scaled[i * n + j] = pow(r->values[i], power) * r->vectors[i * n + j];
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, n, n, 1.0, scaled, n, r->vectors, n, 0.0, matrix, n);
}

static void covariance(int n, double count, const double *sums, const double *squares, double *result) {
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            result[i * n + j] = squares[i * n + j] / count - sums[i] / count * (sums[j] / count);
}

static kvs_status put_halves(int count, const double *values, uint16_t *halves, kvs_error *error) {
    for (int i = 0; i < count; i++) {
        if (!(fabs(values[i]) <= (double)KVS_HALF_MAX))
            return kvs_fail(error, KVS_INPUT, NULL, NULL, "a basis overflows binary16");
        halves[i] = kvs_float_to_half((float)values[i]);
    }
    return KVS_OK;
}

/* basis = the rows of vectors times the roots of values, and mean. */
static kvs_status put(int n, double count, const double *sums, room *r, kvs_constants_record record, kvs_error *error) {
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) r->vectors[i * n + j] *= sqrt(r->values[i]);
        r->work[i] = sums[i] / count;
    }
    KVS_TRY(put_halves(n * n, r->vectors, record.basis, error));
    return put_halves(n, r->work, record.mean, error);
}

enum { K = KVS_CONSTANTS_K, V = KVS_CONSTANTS_V };

static kvs_status fit_values(int n, const kvs_head_statistics *s, room *r, kvs_constants_record record,
                             double *variances, kvs_error *error) {
    covariance(n, s->tokens, s->sums[V], s->squares[V], r->vectors);
    KVS_TRY(eigen(n, r, error));
    keep_and_raise(n, r->values, variances);
    return put(n, s->tokens, s->sums[V], r, record, error);
}

static kvs_status fit_keys(int n, const kvs_head_statistics *s, room *r, kvs_constants_record record, double *variances,
                           kvs_error *error) {
    for (int i = 0; i < n * n; i++) r->vectors[i] = s->moments > 0 ? s->moment[i] / s->moments : i % (n + 1) == 0;
    KVS_TRY(eigen(n, r, error));
    raise(n, 1e-4, r->values);
    power_of(n, r, 0.5, r->product, r->root);
    power_of(n, r, -0.5, r->product, r->inverse);
    covariance(n, s->tokens, s->sums[K], s->squares[K], r->vectors);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1.0, r->root, n, r->vectors, n, 0.0, r->product, n);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1.0, r->product, n, r->root, n, 0.0, r->vectors, n);
    KVS_TRY(eigen(n, r, error));
    keep_and_raise(n, r->values, variances);
    memcpy(r->product, r->vectors, sizeof *r->product * (size_t)n * (size_t)n);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1.0, r->product, n, r->inverse, n, 0.0, r->vectors,
                n);
    return put(n, s->tokens, s->sums[K], r, record, error);
}

/* --- curves --------------------------------------------------------------------------------------------------------
 */

typedef struct step {
    double gain;
    int component, bit;
} step;

/* Larger gains first; then components, then bits in order. */
static int by_gain(const void *a, const void *b) {
    const step *x = a, *y = b;
    if (x->gain != y->gain) return x->gain < y->gain ? 1 : -1;
    return x->component != y->component ? x->component - y->component : x->bit - y->bit;
}

static kvs_status draw_curve(int n, kvs_head_curve *curve, kvs_error *error) {
    int per_component = curve->planes / (2 * n);
    step *steps = malloc(sizeof *steps * (size_t)curve->planes);
    if (steps == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    double left = 0;
    for (int i = 0; i < curve->planes; i++) {
        int component = i / per_component, bit = i % per_component;
        double fall = kvs_trellis_distortion(bit) - kvs_trellis_distortion(bit + 1);
        steps[i] = (step){curve->variances[component] * fall, component, bit};
    }
    for (int c = 0; c < 2 * n; c++) left += curve->variances[c];
    qsort(steps, (size_t)curve->planes, sizeof *steps, by_gain);
    curve->errors[0] = sqrt(left);
    for (int i = 0; i < curve->planes; i++) {
        curve->components[i] = steps[i].component;
        left -= steps[i].gain;
        curve->errors[i + 1] = sqrt(fmax(left, 0.0));
    }
    free(steps);
    return KVS_OK;
}

kvs_status kvs_calibrate_fit(int n, kvs_head_statistics *s, const kvs_constants_record records[2],
                             kvs_head_curve *curve, kvs_error *error) {
    room r;
    double *memory = carve(n, &r);
    if (memory == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    kvs_status status = fit_keys(n, s, &r, records[K], curve->variances, error);
    if (status == KVS_OK) status = fit_values(n, s, &r, records[V], curve->variances + n, error);
    free(memory);
    KVS_TRY(status);
    for (int i = 0; i < 2 * n; i++) {
        double effect = s->effects[i < n ? K : V] / s->queries;
        curve->variances[i] *= effect * effect;
    }
    return draw_curve(n, curve, error);
}

/* --- sharing -------------------------------------------------------------------------------------------------------
 */

/* The next corner of the lower convex hull of errors after `from`: where the mean slope is steepest. */
static int next_corner(const kvs_head_curve *curve, int from, double *slope) {
    int best = from;
    *slope = 0;
    for (int i = from + 1; i <= curve->planes; i++) {
        double here = (curve->errors[from] - curve->errors[i]) / (i - from);
        if (here >= *slope && here > 0) *slope = here, best = i;
    }
    return best;
}

kvs_status kvs_calibrate_share(int heads, const kvs_head_curve *curves, int64_t budget, int *given, kvs_error *error) {
    double *slopes = malloc(sizeof *slopes * (size_t)heads);
    int *corners = malloc(sizeof *corners * (size_t)heads);
    kvs_status status = KVS_OK;
    if (slopes == NULL || corners == NULL) status = kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (int h = 0; status == KVS_OK && h < heads; h++) {
        given[h] = 0;
        corners[h] = next_corner(&curves[h], 0, &slopes[h]);
    }
    while (status == KVS_OK && budget > 0) {
        int best = 0;
        for (int h = 1; h < heads; h++) best = slopes[h] > slopes[best] ? h : best;
        int more = corners[best] - given[best];
        if (more == 0) break;
        if (more > budget) more = (int)budget;
        given[best] += more;
        budget -= more;
        corners[best] = next_corner(&curves[best], given[best], &slopes[best]);
    }
    free(slopes);
    free(corners);
    return status;
}
