#include "sim/model/proxy.h"

#include <math.h>
#include <stdlib.h>

#include "analysis/correlation.h"
#include "sim/replay.h"

const char *const kvs_proxy_names[KVS_PROXIES] = {"attention_output_rel_l2.mean",
                                                  "attention_output_rel_l2.p99",
                                                  "attention_output_nrmse",
                                                  "logit_mse.mean",
                                                  "attention_kl.mean",
                                                  "top1_disagreement",
                                                  "key_rel_l2",
                                                  "value_rel_l2"};

static void take(const kvs_errors *e, double values[KVS_PROXIES]) {
    const double all[KVS_PROXIES] = {e->attention_output_rel_l2.mean,
                                     e->attention_output_rel_l2.p99,
                                     e->attention_output_nrmse,
                                     e->logit_mse.mean,
                                     e->attention_kl.mean,
                                     1 - e->top1_agreement,
                                     e->key_rel_l2,
                                     e->value_rel_l2};
    for (int m = 0; m < KVS_PROXIES; m++) values[m] = all[m];
}

/* Over the schemes of which both numbers are available. */
static double correlate(const kvs_evaluation *evaluation, const kvs_proxies *proxies, int measure, int count) {
    double x[KVS_CORRELATION_MOST], y[KVS_CORRELATION_MOST];
    int kept = 0;
    for (int i = 0; i < count && kept < KVS_CORRELATION_MOST; i++) {
        x[kept] = proxies->values[i][measure];
        y[kept] = evaluation->schemes[i].difference;
        kept += isfinite(x[kept]) && isfinite(y[kept]);
    }
    return kept < 3 ? NAN : kvs_spearman(x, y, kept);
}

kvs_status kvs_proxies_judge(const char *trace_path, kvs_scheme *const *schemes, int count, uint64_t seed, int quiet,
                             const kvs_evaluation *evaluation, kvs_proxies *proxies, kvs_error *error) {
    kvs_trace *trace;
    kvs_replay_options options = {.seed = (int64_t)seed, .quiet = quiet};
    KVS_TRY(kvs_backend_find("cpu", &options.backend, error));
    KVS_TRY(kvs_trace_open(trace_path, &trace, error));
    kvs_status status = KVS_OK;
    int head_dim = kvs_trace_header_of(trace)->head_dim;
    kvs_result *results = calloc((size_t)count + 1, sizeof *results);
    proxies->values = calloc((size_t)count + 1, sizeof *proxies->values);
    if (results == NULL || proxies->values == NULL)
        status = kvs_fail(error, KVS_INPUT, trace_path, NULL, "out of memory");
    else if (count > KVS_CORRELATION_MOST)
        status = kvs_fail(error, KVS_USAGE, trace_path, NULL, "%d schemes are more than the %d that can be ranked",
                          count, KVS_CORRELATION_MOST);
    else if (count > 0 && schemes[0]->head_dim != head_dim)
        status = kvs_fail(error, KVS_INPUT, trace_path, "head_dim", "is %d, the model's is %d", head_dim,
                          schemes[0]->head_dim);
    else
        status = kvs_replay(trace, (const kvs_scheme *const *)schemes, count, &options, NULL, results, error);
    for (int i = 0; i < count && status == KVS_OK; i++) take(&results[i].errors, proxies->values[i]);
    for (int i = 0; i < count && results != NULL; i++) kvs_result_clear(&results[i]);
    free(results);
    kvs_trace_close(trace);
    for (int m = 0; m < KVS_PROXIES && status == KVS_OK; m++)
        proxies->correlation[m] = correlate(evaluation, proxies, m, count);
    return status;
}
