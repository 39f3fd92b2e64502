#include "analysis/channel_oracle.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "core/simd.h"

enum { MOST = 1024 }; /* channels */

/* The arrays in scratch. factors are e^x of moving one channel, or of a channel alone. */
typedef struct work {
    float *weights; /* [queries][tokens]: e^x of what is chosen so far */
    float *values;  /* [tokens][head_dim]: v - o of one query */
    float *rows;    /* [head_dim][tokens]: p (e^x - 1) of each candidate */
    float *moved;   /* [head_dim][head_dim] */
    float *factors; /* [queries][head_dim][tokens] */
} work;

static work work_in(const kvs_oracle_page *p, float *scratch) {
    size_t tokens = (size_t)p->tokens, dim = (size_t)p->head_dim, queries = (size_t)p->queries;
    work w = {.weights = scratch};
    w.values = w.weights + queries * tokens;
    w.rows = w.values + tokens * dim;
    w.moved = w.rows + dim * tokens;
    w.factors = w.moved + dim * dim;
    return w;
}

size_t kvs_oracle_scratch(int tokens, int head_dim, int queries) {
    size_t t = (size_t)tokens, dim = (size_t)head_dim, n = (size_t)queries;
    return n * t + 2 * t * dim + dim * dim + n * dim * t;
}

/* e^(scale q_d change_td) for each token t. */
static void factors_of(const kvs_oracle_page *p, const float *query, int d, const float *from, const float *to,
                       float *factors) {
    double scaled = p->softmax_scale * (double)query[d];
    for (int t = 0; t < p->tokens; t++) {
        size_t at = (size_t)t * (size_t)p->head_dim + (size_t)d;
        double change = (to != NULL ? (double)to[at] : 0.0) - (from != NULL ? (double)from[at] : 0.0);
        factors[t] = expf((float)(scaled * change));
    }
}

static void center_values(const kvs_oracle_page *p, int query, float *values) {
    const float *output = p->outputs + (size_t)query * (size_t)p->head_dim;
    for (int t = 0; t < p->tokens; t++)
        for (int d = 0; d < p->head_dim; d++) {
            size_t at = (size_t)t * (size_t)p->head_dim + (size_t)d;
            values[at] = p->v[at] - output[d];
        }
}

static double norm(const float *x, int count) {
    double sum = 0;
    for (int i = 0; i < count; i++) sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

KVS_SIMD static void row_of(int tokens, const float *restrict p, const float *restrict weights,
                            const float *restrict factors, float *restrict row) {
    for (int t = 0; t < tokens; t++) row[t] = p[t] * (weights[t] * factors[t] - 1.0f);
}

/* Adds to errors [rows] what the rows of w->rows change of query's output; values are centred already. */
static void add_errors(const kvs_oracle_page *p, const work *w, int query, int rows, double *errors) {
    int dim = p->head_dim, tokens = p->tokens;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, dim, tokens, 1.0f, w->rows, tokens, w->values, dim,
                0.0f, w->moved, dim);
    double energy = fmax(norm(p->outputs + (size_t)query * (size_t)dim, dim), 1e-30);
    for (int r = 0; r < rows; r++) {
        double gain = 0;
        for (int t = 0; t < tokens; t++) gain += (double)w->rows[(size_t)r * (size_t)tokens + (size_t)t];
        errors[r] += norm(w->moved + (size_t)r * (size_t)dim, dim) / (1.0 + gain) / energy / p->queries;
    }
}

static const float *query_of(const kvs_oracle_page *p, int query) {
    return p->q + (size_t)query * (size_t)p->head_dim;
}

/* w->weights: channels of ranks below `count` boosted, those of negative rank exact, the others at the base width. */
static void start(const kvs_oracle_page *p, const work *w, const int *ranks, int count) {
    for (int i = 0; i < p->queries; i++)
        for (int t = 0; t < p->tokens; t++) {
            double x = 0;
            const float *q = query_of(p, i);
            for (int d = 0; d < p->head_dim; d++) {
                size_t at = (size_t)t * (size_t)p->head_dim + (size_t)d;
                x += (double)q[d] * (double)(ranks[d] < 0 ? 0.0f : ranks[d] < count ? p->boost[at] : p->base[at]);
            }
            w->weights[(size_t)i * (size_t)p->tokens + (size_t)t] = expf((float)(p->softmax_scale * x));
        }
}

/* The error of w->weights as they are. */
static double error_now(const kvs_oracle_page *p, const work *w) {
    double error = 0;
    size_t tokens = (size_t)p->tokens;
    for (int i = 0; i < p->queries; i++) {
        center_values(p, i, w->values);
        for (size_t t = 0; t < tokens; t++)
            w->rows[t] = p->probabilities[(size_t)i * tokens + t] * (w->weights[(size_t)i * tokens + t] - 1.0f);
        add_errors(p, w, i, 1, &error);
    }
    return error;
}

double kvs_oracle_error(const kvs_oracle_page *page, const int *ranks, int count, float *scratch) {
    work w = work_in(page, scratch);
    start(page, &w, ranks, count);
    return error_now(page, &w);
}

void kvs_oracle_single(const kvs_oracle_page *page, float *scratch, double *errors) {
    work w = work_in(page, scratch);
    size_t tokens = (size_t)page->tokens;
    memset(errors, 0, sizeof *errors * (size_t)page->head_dim);
    for (size_t t = 0; t < tokens; t++) w.weights[t] = 1.0f;
    for (int i = 0; i < page->queries; i++) {
        center_values(page, i, w.values);
        for (int d = 0; d < page->head_dim; d++) {
            factors_of(page, query_of(page, i), d, NULL, page->base, w.factors);
            row_of(page->tokens, page->probabilities + (size_t)i * tokens, w.weights, w.factors,
                   w.rows + (size_t)d * tokens);
        }
        add_errors(page, &w, i, page->head_dim, errors);
    }
}

/* Errors of boosting each candidate besides what w->weights has. */
static void try_all(const kvs_oracle_page *p, const work *w, int candidates, double *errors) {
    size_t tokens = (size_t)p->tokens, dim = (size_t)p->head_dim;
    memset(errors, 0, sizeof *errors * (size_t)candidates);
    for (int i = 0; i < p->queries; i++) {
        center_values(p, i, w->values);
        for (int c = 0; c < candidates; c++)
            row_of(p->tokens, p->probabilities + (size_t)i * tokens, w->weights + (size_t)i * tokens,
                   w->factors + ((size_t)i * dim + (size_t)c) * tokens, w->rows + (size_t)c * tokens);
        add_errors(p, w, i, candidates, errors);
    }
}

/* Boosts candidate c for good. */
static void apply(const kvs_oracle_page *p, const work *w, int c) {
    size_t tokens = (size_t)p->tokens, dim = (size_t)p->head_dim;
    for (int i = 0; i < p->queries; i++)
        for (size_t t = 0; t < tokens; t++)
            w->weights[(size_t)i * tokens + t] *= w->factors[((size_t)i * dim + (size_t)c) * tokens + t];
}

/* Fills the factors of boosting each candidate, and the weights with none boosted. */
static void prepare(const kvs_oracle_page *p, const work *w, const int *candidates, int count, int rest_exact) {
    int ranks[MOST];
    size_t tokens = (size_t)p->tokens, dim = (size_t)p->head_dim;
    for (int d = 0; d < p->head_dim; d++) ranks[d] = rest_exact ? -1 : 1;
    for (int c = 0; c < count; c++) ranks[candidates[c]] = 1;
    start(p, w, ranks, 0);
    for (int i = 0; i < p->queries; i++)
        for (int c = 0; c < count; c++)
            factors_of(p, query_of(p, i), candidates[c], p->base, p->boost,
                       w->factors + ((size_t)i * dim + (size_t)c) * tokens);
}

void kvs_oracle_greedy(const kvs_oracle_page *page, const int *candidates, int candidates_count, int rest_exact,
                       int count, float *scratch, int *chosen, double *errors) {
    work w = work_in(page, scratch);
    double tried[MOST];
    char taken[MOST] = {0};
    prepare(page, &w, candidates, candidates_count, rest_exact);
    errors[0] = error_now(page, &w);
    for (int step = 0; step < count; step++) {
        try_all(page, &w, candidates_count, tried);
        int best = -1;
        for (int c = 0; c < candidates_count; c++)
            if (!taken[c] && (best < 0 || tried[c] < tried[best])) best = c;
        taken[best] = 1;
        chosen[step] = candidates[best];
        errors[step + 1] = tried[best];
        apply(page, &w, best);
    }
}

enum { SETS = 1820 }; /* 16 over 4 */

/* p (e^x - 1) of one query with the four candidates of a set boosted. */
static void set_row(const kvs_oracle_page *p, const work *w, int query, const unsigned char set[4], float *row) {
    size_t tokens = (size_t)p->tokens, first = (size_t)query * (size_t)p->head_dim;
    const float *f[4], *weights = w->weights + (size_t)query * tokens;
    for (int i = 0; i < 4; i++) f[i] = w->factors + (first + set[i]) * tokens;
    for (size_t t = 0; t < tokens; t++)
        row[t] = p->probabilities[(size_t)query * tokens + t] *
                 (weights[t] * (f[0][t] * f[1][t]) * (f[2][t] * f[3][t]) - 1.0f);
}

double kvs_oracle_best_4_of_16(const kvs_oracle_page *page, const int candidates[16], float *scratch) {
    unsigned char sets[SETS][4];
    double errors[SETS] = {0}, best = INFINITY;
    int count = 0;
    for (int a = 3; a < 16; a++)
        for (int b = 2; b < a; b++)
            for (int c = 1; c < b; c++)
                for (int d = 0; d < c; d++, count++)
                    for (int i = 0; i < 4; i++) sets[count][i] = (unsigned char)(const int[]){a, b, c, d}[i];
    work w = work_in(page, scratch);
    prepare(page, &w, candidates, 16, 1);
    for (int i = 0; i < page->queries; i++) {
        center_values(page, i, w.values);
        for (int first = 0; first < SETS; first += page->head_dim) {
            int rows = SETS - first < page->head_dim ? SETS - first : page->head_dim;
            for (int r = 0; r < rows; r++)
                set_row(page, &w, i, sets[first + r], w.rows + (size_t)r * (size_t)page->tokens);
            add_errors(page, &w, i, rows, errors + first);
        }
    }
    for (int s = 0; s < SETS; s++) best = fmin(best, errors[s]);
    return best;
}
