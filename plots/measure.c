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
