/* eval.c: kvscope eval: closed-loop accuracy of schemes. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "core/progress.h"
#include "sim/commands/eval.h"
#include "sim/commands/report.h"
#include "sim/grid.h"

static const kvs_option options[] = {
    {"model", KVS_OPTION_TEXT, offsetof(eval_settings, model), "DIR", NULL, 0, 0, "a Hugging Face directory"},
    {"backend", KVS_OPTION_TEXT, offsetof(eval_settings, backend), "cpu|cuda|simt", "cpu", 0, 0,
     "what runs the model; simt: the CUDA kernels on the host, slowly"},
    {"random-weights", KVS_OPTION_FLAG, offsetof(eval_settings, random_weights), NULL, NULL, 0, 0,
     "of DIR only config.json is read, and weights are drawn by --seed: for trials of speed and memory"},
    {"tokens", KVS_OPTION_TEXT, offsetof(eval_settings, tokens), "FILE", NULL, 0, 0, "HDF5 file with token_ids"},
    {"scheme", KVS_OPTION_LIST, offsetof(eval_settings, schemes), "S", NULL, 0, 0,
     "name:key=value,...; may be repeated"},
    {"grid", KVS_OPTION_LIST, offsetof(eval_settings, grids), "SPEC|FILE", NULL, 0, 0,
     "schemes with lists and ranges of values, or a file of them, as in kvscope sweep"},
    {"o", KVS_OPTION_LIST, offsetof(eval_settings, outputs), "FILE", NULL, 0, 0,
     "write results: .h5, .csv or .json; repeat for several. Goes on after an interruption"},
    {"restart", KVS_OPTION_FLAG, offsetof(eval_settings, restart), NULL, NULL, 0, 0,
     "forget what an interrupted run left in FILE.journal"},
    {"at-tokens", KVS_OPTION_INT, offsetof(eval_settings, at_tokens), "N", "0", 0, 1e12,
     "sequence length that memory is stated for; 0: a window"},
    {"window", KVS_OPTION_INT, offsetof(eval_settings, window), "N", "2048", 2, 1 << 24, "tokens of a window"},
    {"windows", KVS_OPTION_INT, offsetof(eval_settings, windows), "N", "0", 0, 1 << 24,
     "windows at most, evenly spread; 0: all"},
    {"prompt-exact", KVS_OPTION_INT, offsetof(eval_settings, prompt), "N", "0", 0, 1 << 24,
     "the first N tokens of a window are a prompt, exact within"},
    {"trace", KVS_OPTION_TEXT, offsetof(eval_settings, trace), "TRACE", NULL, 0, 0,
     "also replay this trace of the model: do its errors rank the schemes as the loss does?"},
    {"generate", KVS_OPTION_INT, offsetof(eval_settings, generate), "N", "0", 0, 1 << 20,
     "also generate N tokens greedily behind each prompt and compare"},
    {"prompts", KVS_OPTION_INT, offsetof(eval_settings, prompts), "N", "8", 1, 1 << 20, "prompts, taken evenly"},
    {"prompt-tokens", KVS_OPTION_INT, offsetof(eval_settings, prompt_tokens), "N", "1024", 1, 1 << 24, "of each"},
    {"task", KVS_OPTION_LIST, offsetof(eval_settings, tasks), "T", NULL, 0, 0,
     "also score a task, copy or retrieve; may be repeated"},
    {"task-context", KVS_OPTION_INT, offsetof(eval_settings, task_context), "N", "0", 0, 1 << 24,
     "tokens of a task's text; 0: a window"},
    {"distances", KVS_OPTION_TEXT, offsetof(eval_settings, distances), "LIST", "128,512,1024,1900", 0, 0,
     "tokens between what a task asks for and its answer"},
    {"samples", KVS_OPTION_INT, offsetof(eval_settings, samples), "N", "16", 1, 1 << 20, "of a task at each distance"},
    {"speed", KVS_OPTION_FLAG, offsetof(eval_settings, speed), NULL, NULL, 0, 0,
     "also measure the BLAS library at the pass's sizes"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

/* --- what is asked for
 * ------------------------------------------------------------------------------------------------------
 */

/* "128,512" */
static kvs_status parse_distances(const char *text, int *distances, int *count, kvs_error *error) {
    for (*count = 0; text != NULL; (*count)++) {
        char *end;
        long distance = strtol(text, &end, 10);
        if (end == text || (*end != ',' && *end != '\0') || distance < 1 || distance > 1 << 24 ||
            *count == EVAL_DISTANCES)
            return kvs_fail(error, KVS_USAGE, "--distances", NULL, "must be up to %d numbers of tokens, as 128,512",
                            EVAL_DISTANCES);
        distances[*count] = (int)distance;
        text = *end == ',' ? end + 1 : NULL;
    }
    return KVS_OK;
}

/* The schemes of --scheme, then those of --grid; only the array is the caller's. */
static kvs_status join_specs(const eval_settings *s, const kvs_grid *grid, eval_data *d, kvs_error *error) {
    d->specs = calloc((size_t)(s->schemes.count + grid->count) + 1, sizeof *d->specs);
    if (d->specs == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (int i = 0; i < s->schemes.count; i++) d->specs[d->count++] = s->schemes.texts[i];
    for (int i = 0; i < grid->count; i++) d->specs[d->count++] = grid->specs[i];
    return KVS_OK;
}

/* Opens and checks everything once: nothing fails after hours that could have failed at once. */
static kvs_status open_all(eval_data *d, kvs_error *error) {
    const eval_settings *s = d->settings;
    KVS_TRY(parse_distances(s->distances, d->distances, &d->distances_count, error));
    for (int i = 0; i < s->tasks.count; i++)
        if (kvs_task_find(s->tasks.texts[i]) == NULL)
            return kvs_fail(error, KVS_USAGE, "--task", s->tasks.texts[i], "unknown task; known: copy, retrieve");
    kvs_model_options how = {.random_weights = s->random_weights, .seed = (uint64_t)s->common.seed};
    if (strcmp(s->backend, "cpu") != 0) KVS_TRY(kvs_executor_find(s->backend, &how.executor, error));
    KVS_TRY(kvs_model_open_with(s->model, &how, &d->model, error));
    for (int i = 0; i < d->count; i++) {
        kvs_scheme *scheme;
        KVS_TRY(kvs_scheme_open(d->specs[i], d->model->config.head_dim, &scheme, error));
        kvs_scheme_close(scheme);
    }
    KVS_TRY(kvs_tokens_read(s->tokens, &d->tokens, error));
    return s->tasks.count > 0 ? kvs_tokenizer_open(s->model, &d->tokenizer, error) : KVS_OK;
}

static kvs_status evaluate(eval_data *d, kvs_error *error) {
    kvs_grid grid = {0};
    kvs_status status = KVS_OK;
    for (int i = 0; status == KVS_OK && i < d->settings->grids.count; i++)
        status = kvs_grid_add(&grid, d->settings->grids.texts[i], error);
    if (status == KVS_OK) status = join_specs(d->settings, &grid, d, error);
    if (status == KVS_OK) status = open_all(d, error);
    if (status == KVS_OK) status = eval_run(d, error);
    if (status == KVS_OK) status = eval_print(d, error);
    kvs_grid_clear(&grid);
    return status;
}

static kvs_status check_arguments(const eval_settings *s, kvs_error *error) {
    if (s->model == NULL || s->tokens == NULL)
        return kvs_fail(error, KVS_USAGE, s->model == NULL ? "--model" : "--tokens", NULL, "is needed");
    if (s->prompt > s->window)
        return kvs_fail(error, KVS_USAGE, "--prompt-exact", NULL, "%lld is more than the window of %lld",
                        (long long)s->prompt, (long long)s->window);
    for (int i = 0; i < s->outputs.count; i++) KVS_TRY(kvs_report_check_output(s->outputs.texts[i], error));
    return KVS_OK;
}

static kvs_status run(const void *config, const kvs_texts *operands, kvs_error *error) {
    (void)operands;
    const eval_settings *s = config;
    KVS_TRY(check_arguments(s, error));
    omp_set_num_threads(s->common.threads > 0 ? (int)s->common.threads : omp_get_num_procs());
    kvs_interrupt_catch();
    eval_data d = {.settings = s, .blas_rate = NAN, .read_rate = NAN, .logit_seconds = NAN};
    kvs_status status = evaluate(&d, error);
    kvs_results_clear(&d.results);
    free(d.specs);
    kvs_tokenizer_close(d.tokenizer);
    kvs_tokens_clear(&d.tokens);
    kvs_model_close(d.model);
    return status;
}

const kvs_command kvs_command_eval = {
    .name = "eval",
    .arguments = "--model DIR --tokens FILE [--scheme S ...] [-o FILE]",
    .summary = "closed loop: perplexity, next-token agreement and KL of a model with a quantized cache",
    .details = "Runs the model over the tokens in windows, teacher-forced, once in full precision and once for each\n"
               "scheme with the cache of every layer as decoding would have left it. Example:\n"
               "  kvscope eval --model qwen3-7m --tokens validation_tokens.h5 --scheme fp16 --scheme kitty:boost=0.25\n"
               "  kvscope eval --model qwen3-7m --tokens validation_tokens.h5 --windows 1 --task copy --scheme kivi\n"
               "  kvscope eval --model qwen3-7m --tokens validation_tokens.h5 --grid 'kitty:boost=[0:0.5:0.125]' \\\n"
               "      --trace traces/sample/qwen3-7m.h5 -o closed.h5 && kvscope plot closed.h5 --kind proxy -o plots\n"
               "Result files (analysis/RESULTS.md) hold one row a scheme. With -o, finished schemes are kept in\n"
               "FILE.journal, and the same command goes on from there.\n",
    .options = options,
    .config_bytes = sizeof(eval_settings),
    .min_operands = 0,
    .max_operands = 0,
    .run = run,
};
