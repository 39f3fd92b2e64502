#include "sim/model/evaluate.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "core/progress.h"
#include "sim/model/vector.h"

enum { ROWS = 64 }; /* positions whose logits are computed at once */

/* What is kept of one prediction of one run. */
typedef struct prediction {
    double loss, kl;
    int right, agrees;
} prediction;

typedef struct sums {
    double *documents; /* loss by document */
    double loss, kl;
    int64_t right, agree;
    double kl_bins[KVS_EVAL_BINS];
    int64_t agree_bins[KVS_EVAL_BINS];
    double seconds;
} sums;

typedef struct evaluator {
    const kvs_model *model;
    const kvs_tokens *tokens;
    kvs_scheme *const *schemes;
    const kvs_eval_options *options;
    int runs, window;        /* runs: full precision first, then the schemes */
    float *hidden;           /* [runs][window][hidden] */
    float *logits;           /* [threads][2][ROWS][vocabulary] */
    prediction *predictions; /* [runs][window - 1] */
    sums *sums;              /* [runs] */
    int64_t *counts;         /* predictions by document */
    int64_t bin_counts[KVS_EVAL_BINS];
} evaluator;

/* --- one window ----------------------------------------------------------------------------------------------------
 */

static float *hidden_of(const evaluator *e, int run) {
    return e->hidden + (size_t)run * (size_t)e->window * (size_t)e->model->config.hidden;
}

static kvs_status run_window(evaluator *e, int index, kvs_error *error) {
    const int32_t *ids = e->tokens->ids + (size_t)index * (size_t)e->window;
    for (int run = 0; run < e->runs; run++) {
        kvs_model_pass pass = {.scheme = run > 0 ? e->schemes[run - 1] : NULL,
                               .prompt_tokens = e->options->prompt_tokens,
                               .seed = e->options->seed,
                               .sequence = index};
        double started = kvs_seconds();
        KVS_TRY(kvs_model_forward(e->model, &pass, ids, e->window, hidden_of(e, run), error));
        e->sums[run].seconds += kvs_seconds() - started;
    }
    return KVS_OK;
}

/* The logits of positions [first, first + rows) of every run, and what they say about the next tokens. */
static kvs_status judge_block(const evaluator *e, const int32_t *ids, int first, int rows, kvs_error *error) {
    size_t vocabulary = (size_t)e->model->config.vocabulary, hidden = (size_t)e->model->config.hidden;
    float *full = e->logits + 2 * ROWS * vocabulary * (size_t)omp_get_thread_num(), *other = full + ROWS * vocabulary;
    kvs_logit_row full_rows[ROWS];
    for (int run = 0; run < e->runs; run++) {
        float *logits = run == 0 ? full : other;
        KVS_TRY(kvs_model_logits(e->model, hidden_of(e, run) + (size_t)first * hidden, rows, logits, error));
        for (int r = 0; r < rows; r++) {
            const float *row = logits + (size_t)r * vocabulary, *full_row = full + (size_t)r * vocabulary;
            int target = ids[first + r + 1];
            kvs_logit_row summary = kvs_logits_summarize((int)vocabulary, row);
            if (run == 0) full_rows[r] = summary;
            e->predictions[(size_t)run * (size_t)(e->window - 1) + (size_t)(first + r)] = (prediction){
                .loss = summary.log_sum - (double)row[target],
                .kl = run == 0 ? 0 : kvs_logits_kl((int)vocabulary, full_row, full_rows[r], row, summary),
                .right = summary.top == target,
                .agrees = summary.top == full_rows[r].top,
            };
        }
    }
    return KVS_OK;
}

/* Sums run in the order of positions, so that the threads do not show. */
static void add_up(evaluator *e, int index) {
    int count = e->window - 1, document = 0;
    int64_t start = (int64_t)index * e->window;
    for (int p = 0; p < count; p++) {
        while (e->tokens->offsets[document + 1] <= start + p + 1) document++;
        int bin = (int)((int64_t)p * KVS_EVAL_BINS / count);
        e->counts[document]++;
        e->bin_counts[bin]++;
        for (int run = 0; run < e->runs; run++) {
            const prediction *one = &e->predictions[(size_t)run * (size_t)count + (size_t)p];
            sums *s = &e->sums[run];
            s->documents[document] += one->loss;
            s->loss += one->loss;
            s->kl += one->kl;
            s->right += one->right;
            s->agree += one->agrees;
            s->kl_bins[bin] += one->kl;
            s->agree_bins[bin] += one->agrees;
        }
    }
}

static kvs_status judge_window(evaluator *e, int index, double *seconds, kvs_error *error) {
    double started = kvs_seconds();
    kvs_status status = KVS_OK;
    const int32_t *ids = e->tokens->ids + (size_t)index * (size_t)e->window;
    int count = e->window - 1;
#pragma omp parallel for schedule(dynamic)
    for (int first = 0; first < count; first += ROWS) {
        kvs_error mine;
        kvs_status one = judge_block(e, ids, first, count - first < ROWS ? count - first : ROWS, &mine);
        if (one == KVS_OK) continue;
#pragma omp critical(kvs_evaluate)
        {
            status = one;
            *error = mine;
        }
    }
    if (status == KVS_OK) add_up(e, index);
    *seconds += kvs_seconds() - started;
    return status;
}

/* --- the whole text ------------------------------------------------------------------------------------------------
 */

/* Mean of sum_d x_d / sum_d n_d and its standard error over documents (Cochran, Sampling Techniques, 6.4). */
static void ratio_estimate(const double *sum, const double *minus, const int64_t *counts, int documents, double *mean,
                           double *stderr_) {
    double total = 0, n = 0, squares = 0;
    int used = 0;
    for (int d = 0; d < documents; d++) {
        total += sum[d] - (minus != NULL ? minus[d] : 0);
        n += (double)counts[d];
        used += counts[d] > 0;
    }
    *mean = total / n;
    for (int d = 0; d < documents; d++) {
        double rest = sum[d] - (minus != NULL ? minus[d] : 0) - *mean * (double)counts[d];
        squares += rest * rest;
    }
    *stderr_ = used > 1 ? sqrt(squares * used / (used - 1)) / n : NAN;
}

static void score(const evaluator *e, int run, kvs_eval_score *score) {
    const sums *s = &e->sums[run];
    int documents = e->tokens->documents;
    int64_t n = 0;
    for (int i = 0; i < KVS_EVAL_BINS; i++) n += e->bin_counts[i];
    *score = (kvs_eval_score){.predictions = n,
                              .top1_accuracy = (double)s->right / (double)n,
                              .top1_agreement = (double)s->agree / (double)n,
                              .kl_mean = s->kl / (double)n,
                              .seconds = s->seconds};
    ratio_estimate(s->documents, NULL, e->counts, documents, &score->loss, &score->loss_stderr);
    ratio_estimate(s->documents, e->sums[0].documents, e->counts, documents, &score->difference,
                   &score->difference_stderr);
    for (int i = 0; i < KVS_EVAL_BINS; i++) {
        double count = e->bin_counts[i] > 0 ? (double)e->bin_counts[i] : NAN;
        score->kl_bins[i] = s->kl_bins[i] / count;
        score->top1_bins[i] = (double)s->agree_bins[i] / count;
    }
    if (run == 0) return;
    kvs_bits bits = kvs_scheme_head_bits(e->schemes[run - 1], e->window);
    double elements = 2.0 * e->window * e->model->config.head_dim;
    score->bits = (kvs_bits){bits.payload / elements, bits.metadata / elements, bits.residual / elements,
                             bits.padding / elements};
}

static kvs_status allocate(evaluator *e, kvs_error *error) {
    const kvs_model_config *c = &e->model->config;
    size_t runs = (size_t)e->runs, window = (size_t)e->window, documents = (size_t)e->tokens->documents;
    e->hidden = malloc(sizeof(float) * runs * window * (size_t)c->hidden);
    e->logits = aligned_alloc(64, sizeof(float) * 2 * ROWS * (size_t)c->vocabulary * (size_t)omp_get_max_threads());
    e->predictions = malloc(sizeof *e->predictions * runs * window);
    e->counts = calloc(documents, sizeof *e->counts);
    e->sums = calloc(runs, sizeof *e->sums);
    int good = e->hidden && e->logits && e->predictions && e->counts && e->sums;
    for (int run = 0; good && run < e->runs; run++)
        good = (e->sums[run].documents = calloc(documents, sizeof(double))) != NULL;
    return good ? KVS_OK
                : kvs_fail(error, KVS_INPUT, e->model->directory, NULL, "out of memory for windows of %d tokens",
                           e->window);
}

static void release(evaluator *e) {
    for (int run = 0; e->sums != NULL && run < e->runs; run++) free(e->sums[run].documents);
    free(e->sums);
    free(e->hidden);
    free(e->logits);
    free(e->predictions);
    free(e->counts);
}

static kvs_status run_all(evaluator *e, kvs_evaluation *evaluation, kvs_error *error) {
    kvs_progress progress;
    kvs_progress_begin(&progress, "eval", "windows", evaluation->windows, e->options->quiet);
    kvs_status status = KVS_OK;
    int64_t all = e->tokens->count / e->window;
    for (int i = 0; i < evaluation->windows && status == KVS_OK; i++) {
        int index = (int)(i * all / evaluation->windows);
        status = run_window(e, index, error);
        if (status == KVS_OK) status = judge_window(e, index, &evaluation->logit_seconds, error);
        kvs_progress_add(&progress, 1);
    }
    kvs_progress_end(&progress);
    return status;
}

kvs_status kvs_evaluate(const kvs_model *model, const kvs_tokens *tokens, kvs_scheme *const *schemes, int count,
                        const kvs_eval_options *options, kvs_evaluation *evaluation, kvs_error *error) {
    *evaluation = (kvs_evaluation){0};
    int window = options->window_tokens;
    if (tokens->count < window)
        return kvs_fail(error, KVS_INPUT, "token_ids", NULL, "%d tokens do not fill a window of %d", tokens->count,
                        window);
    evaluator e = {.model = model, .tokens = tokens, .schemes = schemes, .options = options, .runs = count + 1};
    e.window = window;
    evaluation->windows = tokens->count / window;
    if (options->max_windows > 0 && options->max_windows < evaluation->windows)
        evaluation->windows = options->max_windows;
    evaluation->schemes = calloc((size_t)count + 1, sizeof *evaluation->schemes);
    kvs_status status =
        evaluation->schemes != NULL ? allocate(&e, error) : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    if (status == KVS_OK) status = run_all(&e, evaluation, error);
    if (status == KVS_OK) {
        score(&e, 0, &evaluation->full);
        for (int i = 0; i < count; i++) score(&e, i + 1, &evaluation->schemes[i]);
    } else
        kvs_evaluation_clear(evaluation);
    release(&e);
    return status;
}

void kvs_evaluation_clear(kvs_evaluation *evaluation) {
    free(evaluation->schemes);
    *evaluation = (kvs_evaluation){0};
}
