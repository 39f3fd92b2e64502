#include "sim/model/closed_loop.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/account.h"
#include "sim/replay.h"

static kvs_status no_memory(kvs_error *error) {
    return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
}

/* The result of run 0, full precision, or of scheme run - 1. */
static kvs_result *result_of(kvs_result *full, kvs_result *results, int run) {
    return run == 0 ? full : &results[run - 1];
}

/* --- text ----------------------------------------------------------------------------------------------------------
 */

static kvs_status take_positions(const kvs_eval_score *score, int predictions, kvs_result *result, kvs_error *error) {
    result->positions = calloc(KVS_EVAL_BINS, sizeof *result->positions);
    if (result->positions == NULL) return no_memory(error);
    for (int i = 0; i < KVS_EVAL_BINS; i++) {
        int64_t first = ((int64_t)predictions * i + KVS_EVAL_BINS - 1) / KVS_EVAL_BINS;
        int64_t until = ((int64_t)predictions * (i + 1) + KVS_EVAL_BINS - 1) / KVS_EVAL_BINS;
        if (until > first)
            result->positions[result->positions_count++] =
                (kvs_position_result){first, until, score->kl_bins[i], score->top1_bins[i]};
    }
    return KVS_OK;
}

static void take_score(const kvs_eval_score *score, const kvs_eval_score *full, kvs_closed_loop *found) {
    found->tokens = (double)score->predictions;
    found->loss_nats_per_token = score->loss;
    found->loss_stderr = score->loss_stderr;
    found->loss_difference = score->difference;
    found->loss_difference_stderr = score->difference_stderr;
    found->perplexity = exp(score->loss);
    found->perplexity_ratio = exp(score->difference);
    found->full_loss_nats_per_token = full->loss;
    found->top1_accuracy = score->top1_accuracy;
    found->top1_agreement = score->top1_agreement;
    found->kl_mean = score->kl_mean;
    found->pass_s = score->seconds;
}

static kvs_status run_text(const kvs_closed_loop_plan *plan, kvs_scheme *const *schemes, int count, kvs_result *full,
                           kvs_result *results, double *logit_seconds, kvs_trace_summary *summary, kvs_error *error) {
    kvs_evaluation evaluation;
    KVS_TRY(kvs_evaluate(plan->model, plan->tokens, schemes, count, &plan->text, &evaluation, error));
    kvs_status status = KVS_OK;
    *logit_seconds = evaluation.logit_seconds;
    if (summary != NULL) summary->windows = evaluation.windows;
    for (int run = 0; run <= count && status == KVS_OK; run++) {
        const kvs_eval_score *score = run == 0 ? &evaluation.full : &evaluation.schemes[run - 1];
        take_score(score, &evaluation.full, &result_of(full, results, run)->closed_loop);
        status = take_positions(score, plan->text.window_tokens - 1, result_of(full, results, run), error);
    }
    kvs_evaluation_clear(&evaluation);
    return status;
}

/* --- generation and tasks ------------------------------------------------------------------------------------------
 */

static kvs_status run_generation(const kvs_closed_loop_plan *plan, kvs_scheme *const *schemes, int count,
                                 kvs_result *full, kvs_result *results, kvs_error *error) {
    kvs_agreement *agreements = calloc((size_t)count + 1, sizeof *agreements);
    if (agreements == NULL) return no_memory(error);
    kvs_status status =
        kvs_agreement_run(plan->model, plan->tokens, schemes, count, &plan->generation, agreements, error);
    for (int run = 0; run <= count && status == KVS_OK; run++) {
        kvs_closed_loop *found = &result_of(full, results, run)->closed_loop;
        found->common_prefix_tokens = agreements[run].common_prefix;
        found->equal_share = agreements[run].equal_share;
        found->generated_tokens = plan->generation.generate;
        found->steps_per_s = agreements[run].steps_per_s;
    }
    free(agreements);
    return status;
}

/* The scores of one task, run by run: scores [distances][count + 1]. */
static kvs_status take_task(const kvs_closed_loop_plan *plan, const kvs_task *task, int count,
                            const kvs_task_score *scores, kvs_result *full, kvs_result *results, kvs_error *error) {
    for (int run = 0; run <= count; run++) {
        kvs_result *result = result_of(full, results, run);
        for (int d = 0; d < plan->task.distances_count; d++) {
            const kvs_task_score *first = &scores[d * (count + 1)], *score = first + run;
            char *name = strdup(task->name);
            if (name == NULL) return no_memory(error);
            result->tasks[result->tasks_count++] = (kvs_task_result){
                .task = name,
                .distance = plan->task.distances[d],
                .answer_tokens = score->answer_tokens,
                .token_accuracy = score->token_accuracy,
                .exact = score->exact,
                .full_token_accuracy = first->token_accuracy,
                .full_exact = first->exact,
            };
        }
    }
    return KVS_OK;
}

static void average_tasks(kvs_result *result) {
    double sum = 0, full = 0;
    for (int i = 0; i < result->tasks_count; i++) {
        sum += result->tasks[i].token_accuracy;
        full += result->tasks[i].full_token_accuracy;
    }
    result->closed_loop.task_accuracy = sum / result->tasks_count;
    result->closed_loop.full_task_accuracy = full / result->tasks_count;
}

static kvs_status run_tasks(const kvs_closed_loop_plan *plan, kvs_scheme *const *schemes, int count, kvs_result *full,
                            kvs_result *results, kvs_error *error) {
    size_t distances = (size_t)plan->task.distances_count, rows = distances * (size_t)plan->tasks_count;
    kvs_task_score *scores = calloc(distances * ((size_t)count + 1), sizeof *scores);
    kvs_status status = scores != NULL ? KVS_OK : no_memory(error);
    for (int run = 0; run <= count && status == KVS_OK; run++) {
        result_of(full, results, run)->tasks = calloc(rows, sizeof(kvs_task_result));
        if (result_of(full, results, run)->tasks == NULL) status = no_memory(error);
    }
    for (int i = 0; i < plan->tasks_count && status == KVS_OK; i++) {
        status = kvs_task_run(plan->model, plan->tokenizer, plan->tokens, plan->tasks[i], schemes, count, &plan->task,
                              scores, error);
        if (status == KVS_OK) status = take_task(plan, plan->tasks[i], count, scores, full, results, error);
    }
    for (int run = 0; run <= count && status == KVS_OK; run++) average_tasks(result_of(full, results, run));
    free(scores);
    return status;
}

/* --- the trace -----------------------------------------------------------------------------------------------------
 */

/* Whether the trace can be of this model; it may have fewer layers. */
static kvs_status check_trace(const kvs_closed_loop_plan *plan, const kvs_trace_header *header, kvs_error *error) {
    const kvs_model_config *c = &plan->model->config;
    const struct {
        const char *name;
        int theirs, ours;
    } shape[] = {{"/@head_dim", header->head_dim, c->head_dim},
                 {"/@num_kv_heads", header->kv_heads, c->kv_heads},
                 {"/@num_query_heads", header->query_heads, c->query_heads}};
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
        if (shape[i].theirs != shape[i].ours)
            return kvs_fail(error, KVS_INPUT, plan->trace, shape[i].name, "is %d, the model's is %d", shape[i].theirs,
                            shape[i].ours);
    if (strcmp(header->model_family, c->family) != 0)
        return kvs_fail(error, KVS_INPUT, plan->trace, "/@model_family", "is '%s', the model's is '%s'",
                        header->model_family, c->family);
    return KVS_OK;
}

static kvs_status replay(const kvs_closed_loop_plan *plan, kvs_scheme *const *schemes, int count,
                         kvs_trace_summary *summary, kvs_result *results, kvs_error *error) {
    kvs_trace *trace;
    kvs_replay_options options = {.seed = (int64_t)plan->text.seed, .at_tokens = plan->at_tokens, .quiet = plan->quiet};
    KVS_TRY(kvs_backend_find("cpu", &options.backend, error));
    KVS_TRY(kvs_trace_open(plan->trace, &trace, error));
    kvs_status status = check_trace(plan, kvs_trace_header_of(trace), error);
    if (status == KVS_OK)
        status = kvs_replay(trace, (const kvs_scheme *const *)schemes, count, &options, summary, results, error);
    kvs_trace_close(trace);
    return status;
}

/* What a replay would have filled: the account, and that no error is known. */
static kvs_status account(const kvs_closed_loop_plan *plan, const kvs_scheme *scheme, kvs_result *result,
                          kvs_error *error) {
    const kvs_model_config *c = &plan->model->config;
    kvs_errors_unknown(&result->errors);
    result->tokens_per_s = result->bytes_per_s = result->wall_s = NAN;
    return kvs_account(scheme, (int64_t)c->layers * c->kv_heads, plan->at_tokens, result, error);
}

static kvs_status summarize(const kvs_closed_loop_plan *plan, kvs_trace_summary *summary, kvs_error *error) {
    const kvs_model_config *c = &plan->model->config;
    summary->model_name = strdup(c->name);
    summary->model_family = strdup(c->family);
    summary->layers = c->layers;
    summary->query_heads = c->query_heads;
    summary->kv_heads = c->kv_heads;
    summary->head_dim = c->head_dim;
    summary->at_tokens = plan->at_tokens;
    return summary->model_name != NULL && summary->model_family != NULL ? KVS_OK : no_memory(error);
}

/* --- all of it -----------------------------------------------------------------------------------------------------
 */

/* Nothing is to fail after hours that could have failed at once. */
static kvs_status check(const kvs_closed_loop_plan *plan, kvs_error *error) {
    if (plan->generation.generate > 0)
        KVS_TRY(kvs_agreement_check(plan->model, plan->tokens, &plan->generation, error));
    for (int i = 0; i < plan->tasks_count; i++)
        KVS_TRY(kvs_task_check(plan->model, plan->tokenizer, plan->tokens, plan->tasks[i], &plan->task, error));
    return KVS_OK;
}

static kvs_status begin(const kvs_closed_loop_plan *plan, kvs_scheme *const *schemes, int count, kvs_result *full,
                        kvs_result *results, kvs_trace_summary *summary, kvs_error *error) {
    if (plan->trace != NULL) KVS_TRY(replay(plan, schemes, count, summary, results, error));
    for (int i = 0; i < count && plan->trace == NULL; i++) KVS_TRY(account(plan, schemes[i], &results[i], error));
    if (summary != NULL && plan->trace == NULL) KVS_TRY(summarize(plan, summary, error));
    if (summary != NULL) {
        summary->window_tokens = plan->text.window_tokens;
        summary->exact_tokens = plan->text.prompt_tokens;
    }
    kvs_errors_unknown(&full->errors);
    full->bits = full->page_bits = (kvs_bits){NAN, NAN, NAN, NAN};
    full->effective_bits = full->bytes_per_token = full->bytes_per_sequence = full->compression_vs_fp16 = NAN;
    full->tokens_per_s = full->bytes_per_s = full->wall_s = NAN;
    full->scheme = strdup("full precision");
    for (int run = 0; run <= count; run++) kvs_closed_loop_unknown(&result_of(full, results, run)->closed_loop);
    return full->scheme != NULL ? KVS_OK : no_memory(error);
}

kvs_status kvs_closed_loop_run(const kvs_closed_loop_plan *plan, kvs_scheme *const *schemes, int count,
                               kvs_result *full, kvs_result *results, kvs_trace_summary *summary, double *logit_seconds,
                               kvs_error *error) {
    KVS_TRY(check(plan, error));
    KVS_TRY(begin(plan, schemes, count, full, results, summary, error));
    KVS_TRY(run_text(plan, schemes, count, full, results, logit_seconds, summary, error));
    if (plan->generation.generate > 0) KVS_TRY(run_generation(plan, schemes, count, full, results, error));
    return plan->tasks_count > 0 ? run_tasks(plan, schemes, count, full, results, error) : KVS_OK;
}
