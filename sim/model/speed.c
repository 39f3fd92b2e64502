#include "sim/model/speed.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/progress.h"
#include "core/simd.h"
#include "sim/model/model.h"

typedef struct product {
    int rows, columns, inner;
    int transposed;    /* whether the second factor is [columns][inner] */
    double operations; /* of all products of this size in a pass */
} product;

static void multiply(const product *p, const float *memory, float *out) {
    const float *x = memory, *y = memory + (size_t)p->rows * (size_t)p->inner;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, p->transposed ? CblasTrans : CblasNoTrans, p->rows, p->columns, p->inner,
                1.0f, x, p->inner, y, p->transposed ? p->inner : p->columns, 0.0f, out, p->columns);
}

/* Operations a second of all threads together, each on its own factors. */
static double measure(const product *p, float *memory, size_t floats) {
    double operations = 0, started = 0, ended = 0;
    const double once = 2.0 * p->rows * p->columns * p->inner;
#pragma omp parallel reduction(+ : operations)
    {
        float *own = memory + (size_t)omp_get_thread_num() * floats;
        float *out = own + (size_t)p->rows * (size_t)p->inner + (size_t)p->columns * (size_t)p->inner;
        multiply(p, own, out);
#pragma omp barrier
#pragma omp single
        started = kvs_seconds();
        do {
            multiply(p, own, out);
            operations += once;
        } while (kvs_seconds() - started < 0.05);
#pragma omp barrier
#pragma omp single
        ended = kvs_seconds();
    }
    return operations / (ended - started);
}

kvs_status kvs_blas_rate(const kvs_model_config *c, int tokens, double *rate, kvs_error *error) {
    const int rows = 128, block = 64, keys = tokens / 2 > block ? tokens / 2 : block;
    double q_columns = (double)c->query_heads * c->head_dim, columns = q_columns + 2.0 * c->kv_heads * c->head_dim;
    double each = 2.0 * tokens * c->layers;
    product products[] = {
        {rows, (int)columns, c->hidden, 1, each * columns * c->hidden},
        {rows, c->hidden, (int)q_columns, 1, each * q_columns * c->hidden},
        {rows, c->intermediate, c->hidden, 1, each * 2.0 * c->intermediate * c->hidden},
        {rows, c->hidden, c->intermediate, 1, each * (double)c->intermediate * c->hidden},
        {block, keys, c->head_dim, 1, each * q_columns * (tokens + 1) / 2},
        {block, c->head_dim, keys, 0, each * q_columns * (tokens + 1) / 2},
    };
    const int count = sizeof products / sizeof *products;
    size_t floats = 0;
    for (int i = 0; i < count; i++) {
        size_t m = (size_t)products[i].rows, n = (size_t)products[i].columns, k = (size_t)products[i].inner;
        size_t need = m * k + n * k + m * n;
        floats = need > floats ? need : floats;
    }
    float *memory = calloc(floats * (size_t)omp_get_max_threads(), sizeof *memory);
    if (memory == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory for measuring matrix products");
    double operations = 0, seconds = 0;
    for (int i = 0; i < count; i++) {
        operations += products[i].operations;
        seconds += products[i].operations / measure(&products[i], memory, floats);
    }
    free(memory);
    *rate = operations / seconds;
    return KVS_OK;
}

/* The sum of `count` floats, over as many lanes as the loads are worth. */
KVS_SIMD static float sum(const float *values, size_t count) {
    enum { LANES = 64 };
    float lanes[LANES] = {0}, total = 0;
    for (size_t i = 0; i < count / LANES; i++)
        for (int j = 0; j < LANES; j++) lanes[j] += values[i * LANES + (size_t)j];
    for (int j = 0; j < LANES; j++) total += lanes[j];
    return total;
}

/* The best time of a pass of all threads over `count` floats. */
static double read_seconds(const float *values, size_t count) {
    enum { PASSES = 20 };
    double best = INFINITY, started = 0;
    float kept = 0;
#pragma omp parallel reduction(+ : kept)
    for (int pass = 0; pass < PASSES; pass++) {
        size_t each = count / (size_t)omp_get_num_threads();
#pragma omp barrier
#pragma omp master
        started = kvs_seconds();
        kept += sum(values + each * (size_t)omp_get_thread_num(), each);
#pragma omp barrier
#pragma omp master
        best = fmin(best, kvs_seconds() - started);
    }
    volatile float used = kept; /* or the reading would be left out */
    (void)used;
    return best;
}

kvs_status kvs_read_rate(size_t bytes, double *rate, kvs_error *error) {
    void *memory;
    if (posix_memalign(&memory, KVS_HUGE_PAGE, bytes) != 0)
        return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory for measuring how fast it is read");
    madvise(memory, bytes, MADV_HUGEPAGE); /* as the weights */
    memset(memory, 0, bytes);
    *rate = (double)bytes / read_seconds(memory, bytes / sizeof(float));
    free(memory);
    return KVS_OK;
}
