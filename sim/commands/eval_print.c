/* eval_print.c: what kvscope eval found, as tables or as one JSON document. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>

#include "core/version.h"
#include "sim/commands/eval.h"

/* --- output --------------------------------------------------------------------------------------------------------
 */

/* Operations a second of the full-precision passes. */
static double forward_rate(const eval_data *d) {
    double once = kvs_model_operations(&d->model->config, (int)d->settings->window, 0);
    return once * d->evaluation.windows / d->evaluation.full.seconds;
}

/* Bytes of weights that decoding in full precision reads a second; of an untied embedding it reads one row. */
static double weight_rate(const eval_data *d) {
    const kvs_model_config *c = &d->model->config;
    double unread = c->tied ? 0 : (double)c->vocabulary * c->hidden;
    return 4.0 * ((double)d->model->parameters - unread) * d->agreements[0].steps_per_s;
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

static cJSON *score_json(const eval_data *d, int run) {
    const kvs_eval_score *score = run == 0 ? &d->evaluation.full : &d->evaluation.schemes[run - 1];
    cJSON *one = cJSON_CreateObject();
    if (run > 0) cJSON_AddStringToObject(one, "scheme", d->schemes[run - 1]->spec);
    cJSON_AddNumberToObject(one, "tokens", (double)score->predictions);
    add_number(one, "loss_nats_per_token", score->loss);
    add_number(one, "loss_stderr", score->loss_stderr);
    add_number(one, "perplexity", exp(score->loss));
    add_number(one, "top1_accuracy", score->top1_accuracy);
    if (run > 0) {
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
    if (d->settings->generate > 0) {
        cJSON *generation = cJSON_AddObjectToObject(one, "generation");
        add_number(generation, "common_prefix_tokens", d->agreements[run].common_prefix);
        add_number(generation, "equal_share", d->agreements[run].equal_share);
        add_number(generation, "tokens_per_s", d->agreements[run].steps_per_s);
    }
    if (d->settings->trace != NULL && run > 0) {
        cJSON *open_loop = cJSON_AddObjectToObject(one, "open_loop");
        for (int m = 0; m < KVS_PROXIES; m++) add_number(open_loop, kvs_proxy_names[m], d->proxies.values[run - 1][m]);
    }
    cJSON *tasks = cJSON_AddArrayToObject(one, "tasks");
    for (int i = 0; i < d->settings->tasks.count * d->distances_count; i++) {
        const kvs_task_score *found = &d->scores[i * (d->count + 1) + run];
        cJSON *task = cJSON_CreateObject();
        cJSON_AddStringToObject(task, "task", d->settings->tasks.texts[i / d->distances_count]);
        cJSON_AddNumberToObject(task, "distance", d->distances[i % d->distances_count]);
        cJSON_AddNumberToObject(task, "answer_tokens", (double)found->answer_tokens);
        add_number(task, "token_accuracy", found->token_accuracy);
        add_number(task, "exact", found->exact);
        cJSON_AddItemToArray(tasks, task);
    }
    return one;
}

static void add_speed(cJSON *root, const eval_data *d) {
    cJSON *speed = cJSON_AddObjectToObject(root, "speed");
    add_number(speed, "tokens_per_s",
               (double)d->evaluation.windows * (double)d->settings->window / d->evaluation.full.seconds);
    add_number(speed, "forward_flops_per_s", forward_rate(d));
    add_number(speed, "blas_flops_per_s", d->blas_rate);
    add_number(speed, "fraction_of_blas", forward_rate(d) / d->blas_rate);
    add_number(speed, "logit_seconds", d->evaluation.logit_seconds);
    add_number(speed, "decoding_weight_bytes_per_s", d->settings->generate > 0 ? weight_rate(d) : NAN);
    add_number(speed, "read_bytes_per_s", d->read_rate);
}

static cJSON *to_json(const eval_data *d) {
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
    add_speed(root, d);
    cJSON_AddItemToObject(root, "full_precision", score_json(d, 0));
    if (d->settings->trace != NULL) {
        cJSON *judged = cJSON_AddObjectToObject(root, "rank_correlation_with_loss");
        for (int m = 0; m < KVS_PROXIES; m++) add_number(judged, kvs_proxy_names[m], d->proxies.correlation[m]);
    }
    cJSON *results = cJSON_AddArrayToObject(root, "results");
    for (int run = 1; run <= d->count; run++) cJSON_AddItemToArray(results, score_json(d, run));
    return root;
}

static kvs_status print_json(const eval_data *d, kvs_error *error) {
    cJSON *root = to_json(d);
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

static void print_table(const eval_data *d) {
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

static const char *run_name(const eval_data *d, int run) {
    return run == 0 ? "full precision" : d->schemes[run - 1]->spec;
}

static void print_generation(const eval_data *d) {
    const eval_settings *s = d->settings;
    printf("\ngreedy generation of %lld tokens behind %lld prompts of %lld tokens\n", (long long)s->generate,
           (long long)s->prompts, (long long)s->prompt_tokens);
    if (isfinite(d->read_rate))
        printf("decoding reads weights at %.1f GB/s, %.0f %% of the %.1f GB/s of reading them alone\n",
               weight_rate(d) / 1e9, 100 * weight_rate(d) / d->read_rate, d->read_rate / 1e9);
    printf("%-44s %13s %11s %9s\n", "scheme", "common prefix", "equal share", "tokens/s");
    for (int run = 0; run <= d->count; run++)
        printf("%-44s %13.1f %11.4f %9.1f\n", run_name(d, run), d->agreements[run].common_prefix,
               d->agreements[run].equal_share, d->agreements[run].steps_per_s);
}

static void print_tasks(const eval_data *d) {
    for (int task = 0; task < d->settings->tasks.count; task++) {
        printf("\n%s: share of answer tokens that are right (of whole answers), by distance\n%-44s",
               kvs_task_find(d->settings->tasks.texts[task])->summary, "scheme");
        for (int i = 0; i < d->distances_count; i++) printf(" %15d", d->distances[i]);
        putchar('\n');
        for (int run = 0; run <= d->count; run++) {
            printf("%-44s", run_name(d, run));
            for (int i = 0; i < d->distances_count; i++) {
                const kvs_task_score *s = &d->scores[(task * d->distances_count + i) * (d->count + 1) + run];
                printf("   %.3f (%5.3f)", s->token_accuracy, s->exact);
            }
            putchar('\n');
        }
    }
}

static void print_proxies(const eval_data *d) {
    printf("\nrank correlation of errors on %s with the loss, over %d schemes\n", d->settings->trace, d->count);
    for (int m = 0; m < KVS_PROXIES; m++)
        if (isfinite(d->proxies.correlation[m])) printf("%-44s %9.4f\n", kvs_proxy_names[m], d->proxies.correlation[m]);
}

kvs_status eval_print(const eval_data *d, kvs_error *error) {
    if (d->settings->common.json) return print_json(d, error);
    if (d->settings->common.quiet) return KVS_OK;
    print_table(d);
    if (d->settings->trace != NULL) print_proxies(d);
    if (d->settings->generate > 0) print_generation(d);
    print_tasks(d);
    return KVS_OK;
}
