#include "plots/measure.h"

#include <math.h>
#include <string.h>

enum { MEASURES = 8, STATISTICS = 4 };

const char *const kvs_measure_names[] = {
    "attention_output_rel_l2",
    "logit_mse",
    "attention_kl",
    "attention_output_nrmse",
    "top1_agreement",
    "top8_agreement",
    "key_rel_l2",
    "value_rel_l2",
    NULL,
};
const char *const kvs_result_measure_names[] = {
    "auto",
    "attention_output_rel_l2",
    "logit_mse",
    "attention_kl",
    "attention_output_nrmse",
    "top1_agreement",
    "top8_agreement",
    "key_rel_l2",
    "value_rel_l2",
    "perplexity",
    "perplexity_increase",
    "next_token_kl",
    "task_accuracy",
    NULL,
};
const char *const kvs_statistic_names[] = {"mean", "median", "p99", "max", NULL};

static const struct {
    const char *text;
    size_t offset; /* of a kvs_statistic or a double in kvs_errors */
    int has_statistics, is_agreement;
} measures[MEASURES] = {
    {"relative L2 error of the attention output", offsetof(kvs_errors, attention_output_rel_l2), 1, 0},
    {"squared error of the logits", offsetof(kvs_errors, logit_mse), 1, 0},
    {"KL divergence of the attention (nats)", offsetof(kvs_errors, attention_kl), 1, 0},
    {"error energy over output energy, square root", offsetof(kvs_errors, attention_output_nrmse), 0, 0},
    {"1 - top-1 agreement of the attention", offsetof(kvs_errors, top1_agreement), 0, 1},
    {"1 - top-8 agreement of the attention", offsetof(kvs_errors, top8_agreement), 0, 1},
    {"relative error of the stored keys", offsetof(kvs_errors, key_rel_l2), 0, 0},
    {"relative error of the stored values", offsetof(kvs_errors, value_rel_l2), 0, 0},
};
static const size_t statistics[STATISTICS] = {offsetof(kvs_statistic, mean), offsetof(kvs_statistic, median),
                                              offsetof(kvs_statistic, p99), offsetof(kvs_statistic, max)};
static const char *const statistic_texts[STATISTICS] = {"mean ", "median ", "99th percentile of the ", "largest "};

double kvs_measure(const kvs_errors *errors, int measure, int statistic) {
    const char *field = (const char *)errors + measures[measure].offset;
    if (measures[measure].has_statistics) field += statistics[statistic];
    double value;
    memcpy(&value, field, sizeof value);
    return measures[measure].is_agreement ? 1 - value : value;
}

void kvs_measure_text(int measure, int statistic, char *text, size_t text_bytes) {
    snprintf(text, text_bytes, "%s%s", measures[measure].has_statistics ? statistic_texts[statistic] : "",
             measures[measure].text);
}

kvs_status kvs_measure_check(const char *plot, int measure, int statistic, kvs_error *error) {
    if (statistic == 0 || measures[measure].has_statistics) return KVS_OK;
    return kvs_fail(error, KVS_USAGE, plot, "statistic", "%s has one value only, no %s", kvs_measure_names[measure],
                    kvs_statistic_names[statistic]);
}

/* --- of whole results --------------------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    size_t offset;       /* in kvs_closed_loop */
    double scale, shift; /* drawn: scale * number + shift */
    int linear, more_is_better;
} closed_loops[] = {
    [KVS_MEASURE_PERPLEXITY - MEASURES] = {"perplexity", offsetof(kvs_closed_loop, perplexity), 1, 0, 1, 0},
    [KVS_MEASURE_INCREASE - MEASURES] = {"perplexity above full precision's (%)",
                                         offsetof(kvs_closed_loop, perplexity_ratio), 100, -100, 0, 0},
    [KVS_MEASURE_NEXT_KL -
        MEASURES] = {"KL divergence of the next token (nats)", offsetof(kvs_closed_loop, kl_mean), 1, 0, 0, 0},
    [KVS_MEASURE_TASKS - MEASURES] = {"task accuracy: share of right answer tokens",
                                      offsetof(kvs_closed_loop, task_accuracy), 1, 0, 1, 1},
};

int kvs_measure_is_closed_loop(int measure) {
    return measure >= MEASURES;
}

int kvs_measure_is_linear(int measure) {
    return measure >= MEASURES && closed_loops[measure - MEASURES].linear;
}

int kvs_measure_more_is_better(int measure) {
    return measure >= MEASURES && closed_loops[measure - MEASURES].more_is_better;
}

double kvs_measure_least(int measure) {
    return measure == KVS_MEASURE_INCREASE ? 0.01 : 0;
}

double kvs_result_measure(const kvs_result *result, int measure, int statistic) {
    if (measure < MEASURES) return kvs_measure(&result->errors, measure, statistic);
    double value;
    memcpy(&value, (const char *)&result->closed_loop + closed_loops[measure - MEASURES].offset, sizeof value);
    return closed_loops[measure - MEASURES].scale * value + closed_loops[measure - MEASURES].shift;
}

double kvs_result_measure_full(const kvs_result *result, int measure) {
    if (measure == KVS_MEASURE_PERPLEXITY) return exp(result->closed_loop.full_loss_nats_per_token);
    return measure == KVS_MEASURE_TASKS ? result->closed_loop.full_task_accuracy : NAN;
}

void kvs_result_measure_text(int measure, int statistic, char *text, size_t text_bytes) {
    if (measure < MEASURES)
        kvs_measure_text(measure, statistic, text, text_bytes);
    else
        snprintf(text, text_bytes, "%s", closed_loops[measure - MEASURES].text);
}

kvs_status kvs_result_measure_check(const char *plot, int measure, int statistic, kvs_error *error) {
    if (measure < MEASURES) return kvs_measure_check(plot, measure, statistic, error);
    if (statistic == 0) return KVS_OK;
    return kvs_fail(error, KVS_USAGE, plot, "statistic", "%s has one value only, no %s",
                    kvs_result_measure_names[measure + 1], kvs_statistic_names[statistic]);
}
