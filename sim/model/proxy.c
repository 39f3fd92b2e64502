#include "sim/model/proxy.h"

#include <math.h>

#include "analysis/correlation.h"

const char *const kvs_proxy_names[KVS_PROXIES] = {"attention_output_rel_l2.mean",
                                                  "attention_output_rel_l2.p99",
                                                  "attention_output_nrmse",
                                                  "logit_mse.mean",
                                                  "attention_kl.mean",
                                                  "top1_disagreement",
                                                  "key_rel_l2",
                                                  "value_rel_l2"};

void kvs_proxy_values(const kvs_errors *e, double values[KVS_PROXIES]) {
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

void kvs_proxies_judge(const kvs_result *results, int count, double correlation[KVS_PROXIES]) {
    double values[KVS_PROXIES], x[KVS_CORRELATION_MOST], y[KVS_CORRELATION_MOST];
    for (int m = 0; m < KVS_PROXIES; m++) {
        int kept = 0;
        for (int i = 0; i < count && kept < KVS_CORRELATION_MOST; i++) {
            kvs_proxy_values(&results[i].errors, values);
            x[kept] = values[m];
            y[kept] = results[i].closed_loop.loss_difference;
            kept += isfinite(x[kept]) && isfinite(y[kept]);
        }
        correlation[m] = kept < 3 ? NAN : kvs_spearman(x, y, kept);
    }
}
