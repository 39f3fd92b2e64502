/* rank.h: ranking metrics against what truly matters: the attention error of pages stored by each.
 *
 * Pages and the queries that read them are sampled: of each (sequence, layer, KV head) `pages` pages evenly among those
 * that a recorded query reads, and of each page `queries` positions evenly among its readers (the last reader always
 * counts). A page is judged with all others, and V, in full precision (analysis/channel_oracle.h); stored channels
 * have 2 bits, boosted ones 4, by the rule of kernels/ranking_error.h.
 *
 * Dynamic selection scores each page by itself; static selection takes the mean of a metric's scores of the sequence's
 * first pages, for all its pages. With a shared budget the heads whose pages are stored in the same step boost as many
 * channels together as with a fixed count, those with the highest scores of all (analysis/shared_budget.h). */
#ifndef KVS_SIM_RANK_H
#define KVS_SIM_RANK_H

#include "analysis/rank_result.h"
#include "core/status.h"
#include "kernels/ranking.h"
#include "traces/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_RANK_METRICS = 64 };

typedef struct kvs_rank_options {
    const kvs_ranking *metrics[KVS_RANK_METRICS];
    int metrics_count;
    double ratios[KVS_RANK_RATIOS]; /* besides kvs_rank_main_ratios */
    int ratios_count;
    int budgets;                            /* bit 1 << kvs_rank_budget of each; KVS_BUDGET_HEAD always counts */
    int prefix;                             /* pages that static selection looks at */
    int sink, page, window, pages, queries; /* window: of past queries, in positions; 0: all */
    uint64_t seed;
    int threads, quiet;
    const char *journal; /* path where finished heads are kept, or NULL; the trace's digest is taken with it */
    int restart;         /* forget an older journal */
} kvs_rank_options;

/* Fills results but for version and command line. KVS_USAGE: too many ratios; KVS_INPUT: the trace has no queries, is
 * not causal or has no page that a query reads; KVS_INTERRUPTED: what was finished is in the journal, if there is one.
 * *results is the caller's, freed with kvs_rank_results_clear also on failure. The same bytes whatever the number of
 * threads. */
KVS_MUST_CHECK kvs_status kvs_rank(kvs_trace *trace, const kvs_rank_options *options, kvs_rank_results *results,
                                   kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
