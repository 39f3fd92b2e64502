/* rank.h: ranking metrics against what truly matters: the attention error of pages stored by each.
 *
 * Pages and the queries that read them are sampled: of each (sequence, layer, KV head) `pages` pages evenly among those
 * that a recorded query reads, and of each page `queries` positions evenly among its readers (the last reader always
 * counts). A page is judged with all others, and V, in full precision (analysis/channel_oracle.h); stored channels
 * have 2 bits, boosted ones 4, by the rule of kernels/ranking_error.h. */
#ifndef KVS_SIM_RANK_H
#define KVS_SIM_RANK_H

#include "core/status.h"
#include "kernels/ranking.h"
#include "traces/trace.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_RANK_RATIOS = 2, KVS_RANK_METRICS = 64 };
extern const double kvs_rank_ratios[KVS_RANK_RATIOS]; /* 0.125, 0.25 */

typedef struct kvs_rank_options {
    const kvs_ranking *metrics[KVS_RANK_METRICS];
    int metrics_count;
    int sink, page, window, pages, queries; /* window: of past queries, in positions; 0: all */
    uint64_t seed;
    int threads, quiet;
} kvs_rank_options;

/* Of one metric on one page; all NaN where the trace has no query that the metric needs. */
typedef struct kvs_rank_score {
    double spearman, kendall, overlap; /* with the single-channel oracle; overlap of the top at ratio 0.25 */
    double error[KVS_RANK_RATIOS];
    double static_error[KVS_RANK_RATIOS]; /* with the channels that the metric chose on the sequence's first page */
} kvs_rank_score;

typedef struct kvs_rank_page {
    int sequence, layer, head, page;
    double random[KVS_RANK_RATIOS], greedy[KVS_RANK_RATIOS];
    double none;            /* error with no channel boosted */
    double four[2];         /* 4 of the 16 most sensitive channels, others exact: greedy, and the best of all 1820 */
    kvs_rank_score *scores; /* [metrics_count] */
} kvs_rank_page;

typedef struct kvs_ranked {
    int count;
    kvs_rank_page *pages; /* by layer, head, sequence, page */
    kvs_rank_score *scores;
} kvs_ranked;

/* KVS_INPUT where the trace has no queries, is not causal or has no page that a query reads. *ranked is the caller's,
 * freed with kvs_ranked_clear also on failure. The same bytes whatever the number of threads. */
KVS_MUST_CHECK kvs_status kvs_rank(kvs_trace *trace, const kvs_rank_options *options, kvs_ranked *ranked,
                                   kvs_error *error);
void kvs_ranked_clear(kvs_ranked *ranked);

/* Means over pages of one layer and head, or of all where layer is -1. NaN where a page lacks the metric. */
typedef struct kvs_rank_summary {
    int pages;
    kvs_rank_score mean;
    double random[KVS_RANK_RATIOS], greedy[KVS_RANK_RATIOS], four[2];
    double gap_closed[KVS_RANK_RATIOS]; /* (random - error) / (random - greedy), of the means */
    double ci95[2];                     /* of gap_closed at 0.25: bootstrap: sequences drawn, their pages weighted */
} kvs_rank_summary;

void kvs_rank_summarize(const kvs_ranked *ranked, int metric, int layer, int head, uint64_t seed,
                        kvs_rank_summary *summary);

#ifdef __cplusplus
}
#endif
#endif
