/* eval.c: kvscope eval: closed-loop accuracy of schemes, as a table or as JSON. */
#include <cjson/cJSON.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/progress.h"
#include "core/version.h"
#include "sim/command.h"
#include "sim/model/evaluate.h"
#include "sim/model/speed.h"

typedef struct settings {
    kvs_common common;
    const char *model, *tokens;
    kvs_texts schemes;
    int64_t window, windows, prompt;
    int speed;
} settings;

static const kvs_option options[] = {
    {"model", KVS_OPTION_TEXT, offsetof(settings, model), "DIR", NULL, 0, 0, "a Hugging Face directory"},
    {"tokens", KVS_OPTION_TEXT, offsetof(settings, tokens), "FILE", NULL, 0, 0, "HDF5 file with token_ids"},
    {"scheme", KVS_OPTION_LIST, offsetof(settings, schemes), "S", NULL, 0, 0, "name:key=value,...; may be repeated"},
    {"window", KVS_OPTION_INT, offsetof(settings, window), "N", "2048", 2, 1 << 24, "tokens of a window"},
    {"windows", KVS_OPTION_INT, offsetof(settings, windows), "N", "0", 0, 1 << 24, "windows at most; 0: all"},
    {"prompt-exact", KVS_OPTION_INT, offsetof(settings, prompt), "N", "0", 0, 1 << 24,
     "the first N tokens of a window are a prompt, exact within"},
    {"speed", KVS_OPTION_FLAG, offsetof(settings, speed), NULL, NULL, 0, 0,
     "also measure the BLAS library at the pass's sizes"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

typedef struct run_data {
    const settings *settings;
    kvs_model *model;
    kvs_tokens tokens;
    kvs_scheme **schemes;
    int count;
    kvs_evaluation evaluation;
    double blas_rate; /* NaN: not measured */
} run_data;

/* --- output --------------------------------------------------------------------------------------------------------
 */

/* Operations a second of the full-precision passes. */
static double forward_rate(const run_data *d) {
    double once = kvs_model_operations(&d->model->config, (int)d->settings->window, 0);
    return once * d->evaluation.windows / d->evaluation.full.seconds;
}

static void add_number(cJSON *to, const char *name, double value) {
    if (isfinite(value))
        cJSON_AddNumberToObject(to, name, value);
    else
        cJSON_AddNullToObject(to, name);
}

static void add_bins(cJSON *to, const char *name, const double *values) {
    cJSON *list = cJSON_AddArrayToObject(to, name);
    for (int i = 0; i < KVS_EVAL_BINS; i++)
        cJSON_AddItemToArray(list, isfinite(values[i]) ? cJSON_CreateNumber(values[i]) : cJSON_CreateNull());
}

static cJSON *score_json(const kvs_eval_score *score, const char *scheme) {
    cJSON *one = cJSON_CreateObject();
    if (scheme != NULL) cJSON_AddStringToObject(one, "scheme", scheme);
    cJSON_AddNumberToObject(one, "tokens", (double)score->predictions);
    add_number(one, "loss_nats_per_token", score->loss);
    add_number(one, "loss_stderr", score->loss_stderr);
    add_number(one, "perplexity", exp(score->loss));
    add_number(one, "top1_accuracy", score->top1_accuracy);
    if (scheme != NULL) {
        add_number(one, "perplexity_ratio", exp(score->difference));
        add_number(one, "loss_difference", score->difference);
        add_number(one, "loss_difference_stderr", score->difference_stderr);
        add_number(one, "top1_agreement", score->top1_agreement);
        add_number(one, "kl_mean", score->kl_mean);
        add_bins(one, "kl_by_position", score->kl_bins);
        add_bins(one, "top1_agreement_by_position", score->top1_bins);
        cJSON *bits = cJSON_AddObjectToObject(one, "bits");
        add_number(bits, "payload", score->bits.payload);
        add_number(bits, "metadata", score->bits.metadata);
        add_number(bits, "residual", score->bits.residual);
        add_number(bits, "padding", score->bits.padding);
        add_number(bits, "effective", kvs_bits_sum(score->bits));
    }
    add_number(one, "seconds", score->seconds);
    return one;
}

static kvs_status print_json(const run_data *d, kvs_error *error) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "command", "eval");
    cJSON_AddStringToObject(root, "version", KVS_VERSION);
    cJSON_AddStringToObject(root, "command_line", kvs_command_line());
    cJSON_AddStringToObject(root, "model", d->model->config.name);
    cJSON_AddStringToObject(root, "model_family", d->model->config.family);
    cJSON_AddNumberToObject(root, "parameters", (double)d->model->parameters);
    cJSON_AddStringToObject(root, "tokens_file", d->settings->tokens);
    cJSON_AddNumberToObject(root, "documents", d->tokens.documents);
    cJSON_AddNumberToObject(root, "windows", d->evaluation.windows);
    cJSON_AddNumberToObject(root, "window_tokens", (double)d->settings->window);
    cJSON_AddNumberToObject(root, "prompt_tokens", (double)d->settings->prompt);
    cJSON_AddItemToObject(root, "full_precision", score_json(&d->evaluation.full, NULL));
    cJSON *speed = cJSON_AddObjectToObject(root, "speed");
    add_number(speed, "tokens_per_s",
               (double)d->evaluation.windows * (double)d->settings->window / d->evaluation.full.seconds);
    add_number(speed, "forward_flops_per_s", forward_rate(d));
    add_number(speed, "blas_flops_per_s", d->blas_rate);
    add_number(speed, "fraction_of_blas", forward_rate(d) / d->blas_rate);
    add_number(speed, "logit_seconds", d->evaluation.logit_seconds);
    cJSON *results = cJSON_AddArrayToObject(root, "results");
    for (int i = 0; i < d->count; i++)
        cJSON_AddItemToArray(results, score_json(&d->evaluation.schemes[i], d->schemes[i]->spec));
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    puts(text);
    cJSON_free(text);
    return KVS_OK;
}

static void print_row(const char *name, const kvs_eval_score *s, int full) {
    char spread[32] = "-"; /* one document has none */
    if (isfinite(s->loss_stderr)) snprintf(spread, sizeof spread, "%.4f", s->loss_stderr);
    printf("%-44s %9.6f %8s %9.4f", name, s->loss, spread, exp(s->loss));
    if (full)
        printf(" %9s %8s %10s %9s\n", "", "", "", "");
    else
        printf(" %9.5f %8.4f %10.3g %9.3f\n", exp(s->difference), s->top1_agreement, s->kl_mean, kvs_bits_sum(s->bits));
}

static void print_table(const run_data *d) {
    const kvs_evaluation *e = &d->evaluation;
    printf("%s: %d windows of %lld tokens, %lld predictions, %.0f tokens/s\n", d->model->config.name, e->windows,
           (long long)d->settings->window, (long long)e->full.predictions,
           (double)e->windows * (double)d->settings->window / e->full.seconds);
    if (isfinite(d->blas_rate))
        printf("forward pass %.1f GFLOP/s, %.0f %% of the BLAS library's %.1f at these sizes\n", forward_rate(d) / 1e9,
               100 * forward_rate(d) / d->blas_rate, d->blas_rate / 1e9);
    printf("%-44s %9s %8s %9s %9s %8s %10s %9s\n", "scheme", "loss", "+-", "ppl", "ppl ratio", "top-1 =", "KL",
           "bits/elem");
    print_row("full precision", &e->full, 1);
    for (int i = 0; i < d->count; i++) print_row(d->schemes[i]->spec, &e->schemes[i], 0);
}

/* --- running -------------------------------------------------------------------------------------------------------
 */

static kvs_status open_all(run_data *d, kvs_error *error) {
    const settings *s = d->settings;
    KVS_TRY(kvs_model_open(s->model, &d->model, error));
    KVS_TRY(kvs_tokens_read(s->tokens, &d->tokens, error));
    d->schemes = calloc((size_t)s->schemes.count + 1, sizeof *d->schemes);
    if (d->schemes == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (; d->count < s->schemes.count; d->count++)
        KVS_TRY(kvs_scheme_open(s->schemes.texts[d->count], d->model->config.head_dim, &d->schemes[d->count], error));
    return KVS_OK;
}

static kvs_status evaluate(run_data *d, kvs_error *error) {
    const settings *s = d->settings;
    KVS_TRY(open_all(d, error));
    kvs_eval_options how = {.window_tokens = (int)s->window,
                            .max_windows = (int)s->windows,
                            .prompt_tokens = (int)s->prompt,
                            .seed = (uint64_t)s->common.seed,
                            .quiet = s->common.quiet};
    if (s->speed) KVS_TRY(kvs_blas_rate(&d->model->config, how.window_tokens, &d->blas_rate, error));
    KVS_TRY(kvs_evaluate(d->model, &d->tokens, d->schemes, d->count, &how, &d->evaluation, error));
    if (s->common.json) return print_json(d, error);
    if (!s->common.quiet) print_table(d);
    return KVS_OK;
}

static kvs_status run(const void *config, const kvs_texts *operands, kvs_error *error) {
    (void)operands;
    const settings *s = config;
    if (s->model == NULL || s->tokens == NULL)
        return kvs_fail(error, KVS_USAGE, s->model == NULL ? "--model" : "--tokens", NULL, "is needed");
    if (s->prompt > s->window)
        return kvs_fail(error, KVS_USAGE, "--prompt-exact", NULL, "%lld is more than the window of %lld",
                        (long long)s->prompt, (long long)s->window);
    omp_set_num_threads(s->common.threads > 0 ? (int)s->common.threads : omp_get_num_procs());
    kvs_interrupt_catch();
    run_data d = {.settings = s, .blas_rate = NAN};
    kvs_status status = evaluate(&d, error);
    kvs_evaluation_clear(&d.evaluation);
    for (int i = 0; i < d.count; i++) kvs_scheme_close(d.schemes[i]);
    free(d.schemes);
    kvs_tokens_clear(&d.tokens);
    kvs_model_close(d.model);
    return status;
}

const kvs_command kvs_command_eval = {
    .name = "eval",
    .arguments = "--model DIR --tokens FILE [--scheme S ...]",
    .summary = "closed loop: perplexity, next-token agreement and KL of a model with a quantized cache",
    .details =
        "Runs the model over the tokens in windows, teacher-forced, once in full precision and once for each\n"
        "scheme with the cache of every layer as decoding would have left it. Example:\n"
        "  kvscope eval --model qwen3-7m --tokens validation_tokens.h5 --scheme fp16 --scheme kitty:boost=0.25\n",
    .options = options,
    .config_bytes = sizeof(settings),
    .min_operands = 0,
    .max_operands = 0,
    .run = run,
};
