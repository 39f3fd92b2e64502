/* eval_print.c: what kvscope eval found, as tables or as one JSON document. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>

#include "core/version.h"
#include "sim/commands/eval.h"
#include "sim/model/device_model.h"

/* --- output --------------------------------------------------------------------------------------------------------
 */

static const kvs_result *row(const eval_data *d, int run) {
    return &d->results.results[run];
}

static const char *task_summary(const eval_data *d, int task) {
    return kvs_task_find(d->settings->tasks.texts[task])->summary;
}

/* Tokens of the text a second, in full precision. */
static double token_rate(const eval_data *d) {
    return d->results.traces[0].windows * (double)d->settings->window / row(d, 0)->closed_loop.pass_s;
}

/* Operations a second of the full-precision passes. */
static double forward_rate(const eval_data *d) {
    double once = kvs_model_operations(&d->model->config, (int)d->settings->window, 0);
    return once * d->results.traces[0].windows / row(d, 0)->closed_loop.pass_s;
}

/* Bytes a second that decoding in full precision reads. */
static double step_rate(const eval_data *d) {
    return eval_step_bytes(d) * row(d, 0)->closed_loop.steps_per_s;
}

static void add_number(cJSON *to, const char *name, double value) {
    if (isfinite(value))
        cJSON_AddNumberToObject(to, name, value);
    else
        cJSON_AddNullToObject(to, name);
}

static void add_positions(cJSON *to, const kvs_result *result) {
    cJSON *kl = cJSON_AddArrayToObject(to, "kl_by_position");
    cJSON *agreement = cJSON_AddArrayToObject(to, "top1_agreement_by_position");
    for (int i = 0; i < result->positions_count; i++) {
        cJSON_AddItemToArray(kl, cJSON_CreateNumber(result->positions[i].kl_mean));
        cJSON_AddItemToArray(agreement, cJSON_CreateNumber(result->positions[i].top1_agreement));
    }
}

/* What a scheme has and full precision has not. */
static void add_difference(cJSON *to, const kvs_result *result) {
    const kvs_closed_loop *found = &result->closed_loop;
    add_number(to, "perplexity_ratio", found->perplexity_ratio);
    add_number(to, "loss_difference", found->loss_difference);
    add_number(to, "loss_difference_stderr", found->loss_difference_stderr);
    add_number(to, "top1_agreement", found->top1_agreement);
    add_number(to, "kl_mean", found->kl_mean);
    add_positions(to, result);
    cJSON *bits = cJSON_AddObjectToObject(to, "bits");
    add_number(bits, "payload", result->bits.payload);
    add_number(bits, "metadata", result->bits.metadata);
    add_number(bits, "residual", result->bits.residual);
    add_number(bits, "padding", result->bits.padding);
    add_number(bits, "effective", result->effective_bits);
}

static void add_tasks(cJSON *to, const kvs_result *result) {
    cJSON *tasks = cJSON_AddArrayToObject(to, "tasks");
    for (int i = 0; i < result->tasks_count; i++) {
        const kvs_task_result *found = &result->tasks[i];
        cJSON *task = cJSON_CreateObject();
        cJSON_AddStringToObject(task, "task", found->task);
        cJSON_AddNumberToObject(task, "distance", (double)found->distance);
        cJSON_AddNumberToObject(task, "answer_tokens", (double)found->answer_tokens);
        add_number(task, "token_accuracy", found->token_accuracy);
        add_number(task, "exact", found->exact);
        cJSON_AddItemToArray(tasks, task);
    }
}

static cJSON *score_json(const eval_data *d, int run) {
    const kvs_closed_loop *found = &row(d, run)->closed_loop;
    cJSON *one = cJSON_CreateObject();
    if (run > 0) cJSON_AddStringToObject(one, "scheme", row(d, run)->scheme);
    cJSON_AddNumberToObject(one, "tokens", found->tokens);
    add_number(one, "loss_nats_per_token", found->loss_nats_per_token);
    add_number(one, "loss_stderr", found->loss_stderr);
    add_number(one, "perplexity", found->perplexity);
    add_number(one, "top1_accuracy", found->top1_accuracy);
    if (run > 0) add_difference(one, row(d, run));
    add_number(one, "seconds", found->pass_s);
    if (d->settings->generate > 0) {
        cJSON *generation = cJSON_AddObjectToObject(one, "generation");
        add_number(generation, "common_prefix_tokens", found->common_prefix_tokens);
        add_number(generation, "equal_share", found->equal_share);
        add_number(generation, "tokens_per_s", found->steps_per_s);
    }
    if (d->settings->trace != NULL && run > 0) {
        double values[KVS_PROXIES];
        kvs_proxy_values(&row(d, run)->errors, values);
        cJSON *open_loop = cJSON_AddObjectToObject(one, "open_loop");
        for (int m = 0; m < KVS_PROXIES; m++) add_number(open_loop, kvs_proxy_names[m], values[m]);
    }
    if (d->settings->tasks.count > 0) {
        add_number(one, "task_accuracy", found->task_accuracy);
        add_tasks(one, row(d, run));
    }
    return one;
}

static void add_speed(cJSON *root, const eval_data *d) {
    cJSON *speed = cJSON_AddObjectToObject(root, "speed");
    add_number(speed, "tokens_per_s", token_rate(d));
    add_number(speed, "forward_flops_per_s", forward_rate(d));
    add_number(speed, "blas_flops_per_s", d->blas_rate);
    add_number(speed, "fraction_of_blas", forward_rate(d) / d->blas_rate);
    add_number(speed, "logit_seconds", d->logit_seconds);
    add_number(speed, "decoding_bytes_per_token", d->settings->generate > 0 ? eval_step_bytes(d) : NAN);
    add_number(speed, "decoding_bytes_per_s", d->settings->generate > 0 ? step_rate(d) : NAN);
    add_number(speed, "read_bytes_per_s", d->read_rate);
    if (d->model->device == NULL) return;
    add_number(speed, "weight_bytes", (double)d->model->device->bytes);
    add_number(speed, "largest_cache_bytes", (double)d->model->device->largest_cache);
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
    cJSON_AddNumberToObject(root, "windows", d->results.traces[0].windows);
    cJSON_AddNumberToObject(root, "window_tokens", (double)d->settings->window);
    cJSON_AddNumberToObject(root, "prompt_tokens", (double)d->settings->prompt);
    add_speed(root, d);
    cJSON_AddItemToObject(root, "full_precision", score_json(d, 0));
    if (d->settings->trace != NULL) {
        double correlation[KVS_PROXIES];
        kvs_proxies_judge(&d->results.results[1], d->count, correlation);
        cJSON *judged = cJSON_AddObjectToObject(root, "rank_correlation_with_loss");
        for (int m = 0; m < KVS_PROXIES; m++) add_number(judged, kvs_proxy_names[m], correlation[m]);
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

static void print_row(const eval_data *d, int run) {
    const kvs_closed_loop *found = &row(d, run)->closed_loop;
    char spread[32] = "-"; /* one document has none */
    if (isfinite(found->loss_stderr)) snprintf(spread, sizeof spread, "%.4f", found->loss_stderr);
    printf("%-44s %9.6f %8s %9.4f", row(d, run)->scheme, found->loss_nats_per_token, spread, found->perplexity);
    if (run == 0)
        printf(" %9s %8s %10s %9s\n", "", "", "", "");
    else
        printf(" %9.5f %8.4f %10.3g %9.3f\n", found->perplexity_ratio, found->top1_agreement, found->kl_mean,
               row(d, run)->effective_bits);
}

static void print_table(const eval_data *d) {
    printf("%s: %.0f windows of %lld tokens, %.0f predictions, %.0f tokens/s\n", d->model->config.name,
           d->results.traces[0].windows, (long long)d->settings->window, row(d, 0)->closed_loop.tokens, token_rate(d));
    const kvs_device_model *device = d->model->device;
    if (device != NULL)
        printf("%s: weights take %.3g GB, the largest cache %.3g GB\n", device->facts.name, (double)device->bytes / 1e9,
               (double)device->largest_cache / 1e9);
    if (isfinite(d->blas_rate))
        printf("forward pass %.1f GFLOP/s, %.0f %% of the BLAS library's %.1f at these sizes\n", forward_rate(d) / 1e9,
               100 * forward_rate(d) / d->blas_rate, d->blas_rate / 1e9);
    printf("%-44s %9s %8s %9s %9s %8s %10s %9s\n", "scheme", "loss", "+-", "ppl", "ppl ratio", "top-1 =", "KL",
           "bits/elem");
    for (int run = 0; run <= d->count; run++) print_row(d, run);
}

static void print_generation(const eval_data *d) {
    const eval_settings *s = d->settings;
    printf("\ngreedy generation of %lld tokens behind %lld prompts of %lld tokens\n", (long long)s->generate,
           (long long)s->prompts, (long long)s->prompt_tokens);
    if (isfinite(d->read_rate))
        printf("decoding reads weights and cache, %.3g MB a token, at %.1f GB/s: %.0f %% of the %.1f GB/s of %s\n",
               eval_step_bytes(d) / 1e6, step_rate(d) / 1e9, 100 * step_rate(d) / d->read_rate, d->read_rate / 1e9,
               d->model->device != NULL ? "copying" : "reading as much alone");
    printf("%-44s %13s %11s %9s\n", "scheme", "common prefix", "equal share", "tokens/s");
    for (int run = 0; run <= d->count; run++)
        printf("%-44s %13.1f %11.4f %9.1f\n", row(d, run)->scheme, row(d, run)->closed_loop.common_prefix_tokens,
               row(d, run)->closed_loop.equal_share, row(d, run)->closed_loop.steps_per_s);
}

static void print_tasks(const eval_data *d) {
    for (int task = 0; task < d->settings->tasks.count; task++) {
        printf("\n%s: share of answer tokens that are right (of whole answers), by distance\n%-44s",
               task_summary(d, task), "scheme");
        for (int i = 0; i < d->distances_count; i++) printf(" %15d", d->distances[i]);
        putchar('\n');
        for (int run = 0; run <= d->count; run++) {
            printf("%-44s", row(d, run)->scheme);
            for (int i = 0; i < d->distances_count; i++) {
                const kvs_task_result *found = &row(d, run)->tasks[task * d->distances_count + i];
                printf("   %.3f (%5.3f)", found->token_accuracy, found->exact);
            }
            putchar('\n');
        }
    }
}

static void print_proxies(const eval_data *d) {
    printf("\nrank correlation of errors on %s with the loss, over %d schemes\n", d->settings->trace, d->count);
    double correlation[KVS_PROXIES];
    kvs_proxies_judge(&d->results.results[1], d->count, correlation);
    for (int m = 0; m < KVS_PROXIES; m++)
        if (isfinite(correlation[m])) printf("%-44s %9.4f\n", kvs_proxy_names[m], correlation[m]);
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
