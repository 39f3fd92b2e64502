/* eval_run.c: the schemes of kvscope eval, a few at a time, resumable where there is an output. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/progress.h"
#include "sim/commands/eval.h"
#include "sim/commands/report.h"
#include "sim/journal.h"
#include "sim/model/device_model.h"
#include "sim/model/speed.h"

enum { BATCH = 8, TASKS_LIMIT = 64 }; /* schemes that share the passes in full precision; a kill loses no more */

typedef struct eval_run_state {
    eval_data *data;
    kvs_closed_loop_plan plan;
    const kvs_task *tasks[TASKS_LIMIT];
    kvs_journal *journal;     /* NULL without an output */
    char *path;               /* the journal's */
    kvs_trace_summary source; /* paths and digests of model, text and trace */
} eval_run_state;

static kvs_status no_memory(kvs_error *error) {
    return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
}

/* --- the plan ------------------------------------------------------------------------------------------------------
 */

static kvs_status make_plan(eval_run_state *r, kvs_error *error) {
    const eval_settings *s = r->data->settings;
    uint64_t seed = (uint64_t)s->common.seed;
    int context = (int)(s->task_context > 0 ? s->task_context : s->window);
    if (s->tasks.count > TASKS_LIMIT)
        return kvs_fail(error, KVS_USAGE, "--task", NULL, "more than %d tasks", TASKS_LIMIT);
    for (int i = 0; i < s->tasks.count; i++) r->tasks[i] = kvs_task_find(s->tasks.texts[i]);
    r->plan = (kvs_closed_loop_plan){
        .model = r->data->model,
        .tokens = &r->data->tokens,
        .text = {.window_tokens = (int)s->window,
                 .max_windows = (int)s->windows,
                 .prompt_tokens = (int)s->prompt,
                 .seed = seed},
        .generation = {.prompts = (int)s->prompts,
                       .prompt_tokens = (int)s->prompt_tokens,
                       .generate = (int)s->generate,
                       .prompt_exact = s->prompt > 0,
                       .seed = seed},
        .tokenizer = r->data->tokenizer,
        .tasks = r->tasks,
        .tasks_count = s->tasks.count,
        .task = {.context = context,
                 .samples = (int)s->samples,
                 .distances = r->data->distances,
                 .distances_count = r->data->distances_count,
                 .seed = seed},
        .trace = s->trace,
        .at_tokens = s->at_tokens > 0 ? s->at_tokens : s->window,
    };
    return KVS_OK;
}

static void silence(kvs_closed_loop_plan *plan, int quiet) {
    plan->quiet = plan->text.quiet = plan->generation.quiet = plan->task.quiet = quiet;
}

/* --- where results come from ---------------------------------------------------------------------------------------
 */

static kvs_status digest(const char *path, char **text, kvs_error *error) {
    char found[65];
    KVS_TRY(kvs_file_sha256(path, found, error));
    *text = strdup(found);
    return *text != NULL ? KVS_OK : no_memory(error);
}

/* The path of the weights, or of their index where they are in several files. */
static void weights_path(const char *directory, char *path, size_t bytes) {
    snprintf(path, bytes, "%s/model.safetensors.index.json", directory);
    if (access(path, R_OK) != 0) snprintf(path, bytes, "%s/model.safetensors", directory);
}

static kvs_status describe_source(eval_run_state *r, kvs_error *error) {
    const eval_settings *s = r->data->settings;
    kvs_trace_summary *source = &r->source;
    char weights[4096];
    weights_path(s->model, weights, sizeof weights);
    source->path = strdup(s->trace != NULL ? s->trace : s->tokens);
    source->model_path = strdup(s->model);
    source->tokens_path = strdup(s->tokens);
    if (source->path == NULL || source->model_path == NULL || source->tokens_path == NULL) return no_memory(error);
    KVS_TRY(digest(source->path, &source->sha256, error));
    if (s->random_weights) snprintf(weights, sizeof weights, "%s/config.json", s->model);
    KVS_TRY(digest(weights, &source->model_sha256, error));
    return digest(s->tokens, &source->tokens_sha256, error);
}

/* Moves paths and digests to the trace that a run described; what they replace is freed. */
static void adopt_source(kvs_trace_summary *source, kvs_trace_summary *trace) {
    char **from[] = {&source->path,         &source->sha256,      &source->model_path,
                     &source->model_sha256, &source->tokens_path, &source->tokens_sha256};
    char **to[] = {&trace->path,         &trace->sha256,      &trace->model_path,
                   &trace->model_sha256, &trace->tokens_path, &trace->tokens_sha256};
    for (int i = 0; i < 6; i++) {
        free(*to[i]);
        *to[i] = *from[i];
        *from[i] = NULL;
    }
}

/* Everything that results depend on, as a text; the caller's. NULL when memory is short. */
static char *key_of(const eval_run_state *r) {
    const eval_settings *s = r->data->settings;
    char *key = NULL;
    size_t bytes = 0;
    FILE *text = open_memstream(&key, &bytes);
    if (text == NULL) return NULL;
    fprintf(text, "eval on %s%s\nversion %s\nmodel %s\ntokens %s\ntrace %s\nseed %lld\n", s->backend,
            s->random_weights ? " with random weights" : "", r->data->results.version, r->source.model_sha256,
            r->source.tokens_sha256, s->trace != NULL ? r->source.sha256 : "none", (long long)s->common.seed);
    fprintf(text, "window %lld\nwindows %lld\nprompt %lld\ngenerate %lld %lld %lld\nat_tokens %lld\n",
            (long long)s->window, (long long)s->windows, (long long)s->prompt, (long long)s->generate,
            (long long)s->prompts, (long long)s->prompt_tokens, (long long)r->plan.at_tokens);
    for (int i = 0; i < s->tasks.count; i++) fprintf(text, "task %s\n", s->tasks.texts[i]);
    if (s->tasks.count > 0)
        fprintf(text, "distances %s\nsamples %lld\ncontext %d\n", s->distances, (long long)s->samples,
                r->plan.task.context);
    for (int i = 0; i < r->data->count; i++) fprintf(text, "scheme %s\n", r->data->specs[i]);
    if (ferror(text) | fclose(text)) {
        free(key);
        return NULL;
    }
    return key;
}

/* The first output's path, its extension replaced. */
static char *journal_path(const char *output) {
    size_t stem = (size_t)(strrchr(output, '.') - output); /* kvs_report_check_output has seen the extension */
    char *path = malloc(stem + sizeof ".journal");
    if (path == NULL) return NULL;
    memcpy(path, output, stem);
    memcpy(path + stem, ".journal", sizeof ".journal");
    return path;
}

static kvs_status open_journal(eval_run_state *r, kvs_error *error) {
    const eval_settings *s = r->data->settings;
    r->path = journal_path(s->outputs.texts[0]);
    char *key = key_of(r);
    kvs_status status = r->path != NULL && key != NULL ? KVS_OK : no_memory(error);
    if (status == KVS_OK) status = kvs_journal_open(r->path, key, s->restart, &r->data->results, &r->journal, error);
    free(key);
    return status;
}

/* --- batches -------------------------------------------------------------------------------------------------------
 */

/* Keeps what a batch found: rows 0 (once) and of the schemes at `indices`, and the trace (once). */
static kvs_status keep(eval_run_state *r, const int *indices, int count, kvs_result *full, kvs_result *found,
                       kvs_trace_summary *summary, kvs_error *error) {
    kvs_results *results = &r->data->results;
    if (results->traces[0].path == NULL) {
        if (r->journal != NULL) adopt_source(&r->source, summary);
        results->traces[0] = *summary;
        *summary = (kvs_trace_summary){0};
        if (r->journal != NULL) KVS_TRY(kvs_journal_add_trace(r->journal, results, 0, error));
    }
    for (int i = -1; i < count; i++) {
        int place = i < 0 ? 0 : indices[i] + 1;
        kvs_result *one = i < 0 ? full : &found[i];
        if (results->results[place].scheme != NULL) continue;
        results->results[place] = *one;
        *one = (kvs_result){0};
        if (r->journal != NULL) KVS_TRY(kvs_journal_add_result(r->journal, results, place, error));
    }
    return KVS_OK;
}

static kvs_status run_batch(eval_run_state *r, const int *indices, int count, kvs_error *error) {
    kvs_result full = {0}, *found = calloc((size_t)count + 1, sizeof *found);
    kvs_scheme **schemes = calloc((size_t)count + 1, sizeof *schemes);
    kvs_trace_summary summary = {0};
    double logits = 0;
    int opened = 0;
    kvs_status status = found != NULL && schemes != NULL ? KVS_OK : no_memory(error);
    for (; status == KVS_OK && opened < count; opened++) {
        status =
            kvs_scheme_open(r->data->specs[indices[opened]], r->plan.model->config.head_dim, &schemes[opened], error);
        if (status != KVS_OK) break;
    }
    int first = r->data->results.traces[0].path == NULL;
    if (status == KVS_OK)
        status = kvs_closed_loop_run(&r->plan, schemes, count, &full, found, first ? &summary : NULL, &logits, error);
    if (status == KVS_OK) status = keep(r, indices, count, &full, found, &summary, error);
    r->data->logit_seconds = isnan(r->data->logit_seconds) ? logits : r->data->logit_seconds + logits;
    kvs_trace_summary_clear(&summary);
    kvs_result_clear(&full);
    for (int i = 0; i < count && found != NULL; i++) kvs_result_clear(&found[i]);
    for (int i = 0; i < opened; i++) kvs_scheme_close(schemes[i]);
    free(schemes);
    free(found);
    return status;
}

static int finished(const kvs_results *results) {
    int count = 0;
    for (int i = 1; i < results->results_count; i++) count += results->results[i].scheme != NULL;
    return count;
}

static kvs_status run_rest(eval_run_state *r, kvs_error *error) {
    eval_data *d = r->data;
    int batch = r->journal != NULL ? BATCH : d->count, left = d->count - finished(&d->results), many = left > batch;
    int *indices = calloc((size_t)d->count + 1, sizeof *indices), waiting = 0;
    if (indices == NULL) return no_memory(error);
    silence(&r->plan, d->settings->common.quiet || many); /* one bar: of schemes, or of what one batch does */
    kvs_progress progress;
    kvs_progress_begin(&progress, "eval", "schemes", left, d->settings->common.quiet || !many);
    kvs_status status = KVS_OK;
    int alone = d->results.results[0].scheme == NULL && left == 0; /* full precision, and no scheme */
    for (int i = 0; status == KVS_OK && i < d->count; i++) {
        if (d->results.results[i + 1].scheme == NULL) indices[waiting++] = i;
        if (waiting == 0 || (waiting < batch && i + 1 < d->count)) continue;
        status = run_batch(r, indices, waiting, error);
        kvs_progress_add(&progress, waiting);
        waiting = 0;
    }
    if (alone && status == KVS_OK) status = run_batch(r, indices, 0, error);
    kvs_progress_end(&progress);
    free(indices);
    if (status == KVS_INTERRUPTED && r->journal != NULL)
        return kvs_fail(error, status, r->path, NULL,
                        "interrupted; %d of %d schemes are kept, the same command goes on from there",
                        finished(&d->results), d->count);
    return status;
}

/* --- files ---------------------------------------------------------------------------------------------------------
 */

static kvs_status write_all(const eval_run_state *r, kvs_error *error) {
    const eval_settings *s = r->data->settings;
    kvs_results view = r->data->results;
    view.results++;
    view.results_count--;
    for (int i = 0; i < s->outputs.count; i++) KVS_TRY(kvs_report_write(&view, s->outputs.texts[i], error));
    if (r->path != NULL) unlink(r->path); /* everything in it is written now */
    return KVS_OK;
}

double eval_step_bytes(const eval_data *d) {
    const eval_settings *s = d->settings;
    return kvs_model_step_bytes(d->model, (double)s->prompt_tokens + (double)s->generate / 2);
}

static kvs_status measure_speed(eval_data *d, kvs_error *error) {
    if (!d->settings->speed) return KVS_OK;
    if (d->model->device != NULL)
        return kvs_device_model_rates(d->model, (int)d->settings->window, &d->blas_rate, &d->read_rate, error);
    if (d->settings->generate > 0) KVS_TRY(kvs_read_rate((size_t)eval_step_bytes(d), &d->read_rate, error));
    return kvs_blas_rate(&d->model->config, (int)d->settings->window, &d->blas_rate, error);
}

static kvs_status begin(eval_run_state *r, kvs_error *error) {
    eval_data *d = r->data;
    kvs_replay_options described = {.seed = d->settings->common.seed, .prompt_exact = d->settings->prompt > 0};
    KVS_TRY(kvs_backend_find("cpu", &described.backend, error));
    KVS_TRY(kvs_report_begin("eval", kvs_command_line(), &described, &d->results, error));
    d->results.traces = calloc(1, sizeof *d->results.traces);
    d->results.results = calloc((size_t)d->count + 1, sizeof *d->results.results);
    if (d->results.traces == NULL || d->results.results == NULL) return no_memory(error);
    d->results.traces_count = 1;
    d->results.results_count = d->count + 1;
    KVS_TRY(make_plan(r, error));
    if (d->settings->outputs.count == 0) return KVS_OK;
    KVS_TRY(describe_source(r, error));
    return open_journal(r, error);
}

kvs_status eval_run(eval_data *data, kvs_error *error) {
    eval_run_state r = {.data = data};
    kvs_status status = begin(&r, error);
    if (status == KVS_OK) status = measure_speed(data, error);
    if (status == KVS_OK) status = run_rest(&r, error);
    if (status == KVS_OK) status = write_all(&r, error);
    kvs_journal_close(r.journal);
    kvs_trace_summary_clear(&r.source);
    free(r.path);
    return status;
}
