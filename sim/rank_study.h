/* rank_study.h: the parts of a ranking study (rank.h): what is known of all pages, and one head's work. */
#ifndef KVS_SIM_RANK_STUDY_H
#define KVS_SIM_RANK_STUDY_H

#include "kernels/scheme.h"
#include "sim/journal.h"
#include "sim/rank.h"

/* One (sequence, layer, KV head): its pages [first, last). */
typedef struct kvs_rank_unit {
    int first, last;
    int done; /* judged, here or before an interruption */
} kvs_rank_unit;

typedef struct kvs_rank_study {
    kvs_trace *trace;
    const kvs_rank_options *options;
    kvs_rank_results *results;
    int units_count;
    kvs_rank_unit *units;
    int *unit_of;   /* [pages] */
    float *scores;  /* [metrics][pages][head_dim]; the first is NaN where the metric lacks its queries */
    float *fixed;   /* [metrics][units][head_dim]: the same for static selection */
    int *counts;    /* [metrics][selections][budgets][pages][ratios]: boosts; -1: no choice */
    int most;       /* boosts that the greedy oracle goes up to */
    double *greedy; /* [pages][most + 1]: its errors */
} kvs_rank_study;

static inline float *kvs_rank_scores_of(const kvs_rank_study *s, int metric, int page) {
    return s->scores + kvs_rank_row(s->results, metric, page) * (size_t)s->results->head_dim;
}
static inline float *kvs_rank_fixed_of(const kvs_rank_study *s, int metric, int unit) {
    size_t row = (size_t)metric * (size_t)s->units_count + (size_t)unit;
    return s->fixed + row * (size_t)s->results->head_dim;
}
/* The counts [ratios] of one page. */
static inline int *kvs_rank_counts_of(const kvs_rank_study *s, int metric, int selection, int budget, int page) {
    size_t way = ((size_t)metric * KVS_SELECTIONS + (size_t)selection) * KVS_BUDGETS + (size_t)budget;
    return s->counts + (way * (size_t)s->results->pages_count + (size_t)page) * (size_t)s->results->ratios_count;
}
static inline double *kvs_rank_greedy_of(const kvs_rank_study *s, int page) {
    return s->greedy + (size_t)page * ((size_t)s->most + 1);
}
static inline kvs_window kvs_rank_window_of(const kvs_rank_options *options) {
    return (kvs_window){.sink_tokens = options->sink, .page_tokens = options->page};
}

/* --- rank_unit.c: safe from several threads on different units ------------------------------------------------------
 */

/* Scores of all metrics on a unit's pages: study->scores, study->fixed, results->ranks. */
KVS_MUST_CHECK kvs_status kvs_rank_score_unit(kvs_rank_study *study, int unit, kvs_error *error);
/* Oracles, agreements and errors by study->counts of a unit's pages; study->greedy. */
KVS_MUST_CHECK kvs_status kvs_rank_judge_unit(kvs_rank_study *study, int unit, kvs_error *error);

/* --- rank_budget.c --------------------------------------------------------------------------------------------------
 */

/* Fills study->counts from the scores. */
KVS_MUST_CHECK kvs_status kvs_rank_share(kvs_rank_study *study, kvs_error *error);
/* The greedy oracle's errors with shared budgets, from study->greedy. */
KVS_MUST_CHECK kvs_status kvs_rank_share_greedy(kvs_rank_study *study, kvs_error *error);

/* --- rank_journal.c -------------------------------------------------------------------------------------------------
 */

/* Opens options->journal and takes what it holds: those units are done. */
KVS_MUST_CHECK kvs_status kvs_rank_journal_open(kvs_rank_study *study, kvs_journal **journal, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_rank_journal_add(const kvs_rank_study *study, kvs_journal *journal, int unit,
                                               kvs_error *error);

#endif
