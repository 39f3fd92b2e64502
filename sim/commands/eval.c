/* eval.c: kvscope eval: closed-loop accuracy of schemes. */
#include <math.h>
#include <omp.h>
#include <stdlib.h>

#include "core/progress.h"
#include "sim/commands/eval.h"
#include "sim/model/speed.h"

static const kvs_option options[] = {
    {"model", KVS_OPTION_TEXT, offsetof(eval_settings, model), "DIR", NULL, 0, 0, "a Hugging Face directory"},
    {"tokens", KVS_OPTION_TEXT, offsetof(eval_settings, tokens), "FILE", NULL, 0, 0, "HDF5 file with token_ids"},
    {"scheme", KVS_OPTION_LIST, offsetof(eval_settings, schemes), "S", NULL, 0, 0,
     "name:key=value,...; may be repeated"},
    {"window", KVS_OPTION_INT, offsetof(eval_settings, window), "N", "2048", 2, 1 << 24, "tokens of a window"},
    {"windows", KVS_OPTION_INT, offsetof(eval_settings, windows), "N", "0", 0, 1 << 24, "windows at most; 0: all"},
    {"prompt-exact", KVS_OPTION_INT, offsetof(eval_settings, prompt), "N", "0", 0, 1 << 24,
     "the first N tokens of a window are a prompt, exact within"},
    {"trace", KVS_OPTION_TEXT, offsetof(eval_settings, trace), "TRACE", NULL, 0, 0,
     "also replay this trace of the model: do its errors rank the schemes as the loss does?"},
    {"generate", KVS_OPTION_INT, offsetof(eval_settings, generate), "N", "0", 0, 1 << 20,
     "also generate N tokens greedily behind each prompt and compare"},
    {"prompts", KVS_OPTION_INT, offsetof(eval_settings, prompts), "N", "8", 1, 1 << 20, "prompts, taken evenly"},
    {"prompt-tokens", KVS_OPTION_INT, offsetof(eval_settings, prompt_tokens), "N", "1024", 1, 1 << 24, "of each"},
    {"task", KVS_OPTION_LIST, offsetof(eval_settings, tasks), "T", NULL, 0, 0,
     "also score a task, copy or retrieve, in contexts of a window; may be repeated"},
    {"distances", KVS_OPTION_TEXT, offsetof(eval_settings, distances), "LIST", "128,512,1024,1900", 0, 0,
     "tokens between what a task asks for and its answer"},
    {"samples", KVS_OPTION_INT, offsetof(eval_settings, samples), "N", "16", 1, 1 << 20, "of a task at each distance"},
    {"speed", KVS_OPTION_FLAG, offsetof(eval_settings, speed), NULL, NULL, 0, 0,
     "also measure the BLAS library at the pass's sizes"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

/* --- running -------------------------------------------------------------------------------------------------------
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

static kvs_status open_all(eval_data *d, kvs_error *error) {
    const eval_settings *s = d->settings;
    int runs = s->schemes.count + 1;
    KVS_TRY(parse_distances(s->distances, d->distances, &d->distances_count, error));
    for (int i = 0; i < s->tasks.count; i++)
        if (kvs_task_find(s->tasks.texts[i]) == NULL)
            return kvs_fail(error, KVS_USAGE, "--task", s->tasks.texts[i], "unknown task; known: copy, retrieve");
    KVS_TRY(kvs_model_open(s->model, &d->model, error));
    KVS_TRY(kvs_tokens_read(s->tokens, &d->tokens, error));
    if (s->tasks.count > 0) KVS_TRY(kvs_tokenizer_open(s->model, &d->tokenizer, error));
    d->schemes = calloc((size_t)runs, sizeof *d->schemes);
    d->agreements = calloc((size_t)runs, sizeof *d->agreements);
    d->scores = calloc((size_t)(s->tasks.count * d->distances_count * runs) + 1, sizeof *d->scores);
    if (d->schemes == NULL || d->agreements == NULL || d->scores == NULL)
        return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (; d->count < s->schemes.count; d->count++)
        KVS_TRY(kvs_scheme_open(s->schemes.texts[d->count], d->model->config.head_dim, &d->schemes[d->count], error));
    return KVS_OK;
}

static kvs_status run_text(eval_data *d, kvs_error *error) {
    const eval_settings *s = d->settings;
    kvs_eval_options how = {.window_tokens = (int)s->window,
                            .max_windows = (int)s->windows,
                            .prompt_tokens = (int)s->prompt,
                            .seed = (uint64_t)s->common.seed,
                            .quiet = s->common.quiet};
    if (s->speed) KVS_TRY(kvs_blas_rate(&d->model->config, how.window_tokens, &d->blas_rate, error));
    return kvs_evaluate(d->model, &d->tokens, d->schemes, d->count, &how, &d->evaluation, error);
}

static kvs_status run_generation(eval_data *d, kvs_error *error) {
    const eval_settings *s = d->settings;
    kvs_agreement_options how = {.prompts = (int)s->prompts,
                                 .prompt_tokens = (int)s->prompt_tokens,
                                 .generate = (int)s->generate,
                                 .prompt_exact = s->prompt > 0,
                                 .seed = (uint64_t)s->common.seed,
                                 .quiet = s->common.quiet};
    if (s->speed) d->read_rate = kvs_read_rate(d->model->memory, d->model->parameters);
    return kvs_agreement_run(d->model, &d->tokens, d->schemes, d->count, &how, d->agreements, error);
}

static kvs_status run_tasks(eval_data *d, kvs_error *error) {
    const eval_settings *s = d->settings;
    kvs_task_options how = {.context = (int)s->window,
                            .samples = (int)s->samples,
                            .distances = d->distances,
                            .distances_count = d->distances_count,
                            .seed = (uint64_t)s->common.seed,
                            .quiet = s->common.quiet};
    for (int i = 0; i < s->tasks.count; i++)
        KVS_TRY(kvs_task_run(d->model, d->tokenizer, &d->tokens, kvs_task_find(s->tasks.texts[i]), d->schemes, d->count,
                             &how, d->scores + i * d->distances_count * (d->count + 1), error));
    return KVS_OK;
}

static kvs_status evaluate(eval_data *d, kvs_error *error) {
    KVS_TRY(open_all(d, error));
    KVS_TRY(run_text(d, error));
    if (d->settings->trace != NULL)
        KVS_TRY(kvs_proxies_judge(d->settings->trace, d->schemes, d->count, (uint64_t)d->settings->common.seed,
                                  d->settings->common.quiet, &d->evaluation, &d->proxies, error));
    if (d->settings->generate > 0) KVS_TRY(run_generation(d, error));
    KVS_TRY(run_tasks(d, error));
    return eval_print(d, error);
}

static kvs_status run(const void *config, const kvs_texts *operands, kvs_error *error) {
    (void)operands;
    const eval_settings *s = config;
    if (s->model == NULL || s->tokens == NULL)
        return kvs_fail(error, KVS_USAGE, s->model == NULL ? "--model" : "--tokens", NULL, "is needed");
    if (s->prompt > s->window)
        return kvs_fail(error, KVS_USAGE, "--prompt-exact", NULL, "%lld is more than the window of %lld",
                        (long long)s->prompt, (long long)s->window);
    omp_set_num_threads(s->common.threads > 0 ? (int)s->common.threads : omp_get_num_procs());
    kvs_interrupt_catch();
    eval_data d = {.settings = s, .blas_rate = NAN, .read_rate = NAN};
    kvs_status status = evaluate(&d, error);
    kvs_evaluation_clear(&d.evaluation);
    for (int i = 0; i < d.count; i++) kvs_scheme_close(d.schemes[i]);
    free(d.schemes);
    free(d.agreements);
    free(d.scores);
    free(d.proxies.values);
    kvs_tokenizer_close(d.tokenizer);
    kvs_tokens_clear(&d.tokens);
    kvs_model_close(d.model);
    return status;
}

const kvs_command kvs_command_eval = {
    .name = "eval",
    .arguments = "--model DIR --tokens FILE [--scheme S ...]",
    .summary = "closed loop: perplexity, next-token agreement and KL of a model with a quantized cache",
    .details = "Runs the model over the tokens in windows, teacher-forced, once in full precision and once for each\n"
               "scheme with the cache of every layer as decoding would have left it. Example:\n"
               "  kvscope eval --model qwen3-7m --tokens validation_tokens.h5 --scheme fp16 --scheme kitty:boost=0.25\n"
               "  kvscope eval --model qwen3-7m --tokens validation_tokens.h5 --windows 1 --task copy --scheme kivi\n",
    .options = options,
    .config_bytes = sizeof(eval_settings),
    .min_operands = 0,
    .max_operands = 0,
    .run = run,
};
