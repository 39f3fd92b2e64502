/* rank_result.h: what `kvscope rank` found: each ranking of Key channels against oracles, page by page and summed up.
 *
 * One file is enough to print every table and draw every plot of it; schema of the HDF5 form: analysis/RANKING.md. A
 * number that is not available is NaN here, null in JSON; never 0. */
#ifndef KVS_ANALYSIS_RANK_RESULT_H
#define KVS_ANALYSIS_RANK_RESULT_H

#include <stddef.h>
#include <stdint.h>

#include "analysis/field.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cJSON;

#define KVS_RANK_FORMAT "kvscope-ranking"
enum { KVS_RANK_MAJOR = 1, KVS_RANK_MINOR = 0 }; /* a reader refuses another major version */

/* Who shares the boosts of a page: nobody (a fixed count), the KV heads of a layer, all layers. At equal bits. */
typedef enum kvs_rank_budget { KVS_BUDGET_HEAD, KVS_BUDGET_LAYER, KVS_BUDGET_MODEL, KVS_BUDGETS } kvs_rank_budget;
/* Channels chosen anew on each page, or once per head on a calibration prefix. */
typedef enum kvs_rank_selection { KVS_SELECT_DYNAMIC, KVS_SELECT_STATIC, KVS_SELECTIONS } kvs_rank_selection;
extern const char *const kvs_rank_budget_names[KVS_BUDGETS]; /* "head", ... */
extern const char *const kvs_rank_selection_names[KVS_SELECTIONS];

enum { KVS_RANK_RATIOS = 16 };               /* at most */
extern const double kvs_rank_main_ratios[2]; /* 0.125, 0.25: always among them */

typedef struct kvs_rank_ratio {
    double ratio;
    int boost_count; /* of head_dim channels */
} kvs_rank_ratio;

/* Rankings: the metrics, and behind them two that no metric is. */
typedef struct kvs_rank_metric {
    char *name;
    char *uses; /* "keys", "past queries", "future queries"; "draws" and "errors" of the two */
} kvs_rank_metric;
#define KVS_RANK_CHANCE "chance" /* mean of 8 draws: e_random */
#define KVS_RANK_GREEDY "greedy" /* the greedy oracle: e_greedy */

typedef struct kvs_rank_page {
    int sequence, layer, head, page;     /* head: KV head */
    double none;                         /* error with no channel boosted */
    double four_greedy, four_exhaustive; /* 4 of the 16 most sensitive channels, others exact: greedy, best of 1820 */
} kvs_rank_page;

/* Of one ranking on one page, with the single-channel oracle; overlap: of the boost count's highest at ratio 0.25. */
typedef struct kvs_rank_agreement {
    double spearman, kendall, top_k_overlap;
} kvs_rank_agreement;

/* Means over the pages of a scope. Of `overlap_*` those of a sequence's pages but the first judged: the part of the
 * channels boosted at 0.25 that were so on its judged page before, and on its first. */
typedef struct kvs_rank_score {
    int layer, head, metric; /* scope: layer and head, a layer (head -1), or all (both -1) */
    int pages;
    kvs_rank_agreement agreement;
    double overlap_previous, overlap_first;
} kvs_rank_score;

typedef struct kvs_rank_error {
    int layer, head, metric, budget, selection;
    double ratio;
    double error;               /* mean relative L2 change of the attention output, V in full precision */
    double gap_closed;          /* (chance - error) / (chance - greedy), both with a fixed count, of the means */
    double ci95_low, ci95_high; /* of gap_closed: bootstrap: sequences drawn, their pages weighted */
} kvs_rank_error;

typedef struct kvs_rank_results {
    char *version, *command_line, *trace_path, *trace_sha256, *model_name, *model_family;
    int64_t seed;
    int layers, query_heads, kv_heads, head_dim, sequences;
    int sink, page_tokens, rank_window, prefix_pages; /* rank_window: of past queries, in positions; 0: all */
    int pages_per_head, positions_per_page;           /* sampled at most */
    int budgets;                                      /* bit 1 << kvs_rank_budget for each that was judged */
    int ratios_count;
    kvs_rank_ratio ratios[KVS_RANK_RATIOS]; /* ascending */
    int metrics_count;                      /* with the last two, chance and greedy */
    kvs_rank_metric *metrics;
    int pages_count;
    kvs_rank_page *pages; /* by layer, head, sequence, page */

    /* Page by page. */
    float *sensitivity;             /* [pages][head_dim]: the single-channel oracle */
    int16_t *ranks;                 /* [metrics][pages][head_dim]: 0 is boosted first; -1: not ranked */
    kvs_rank_agreement *agreements; /* [metrics][pages] */
    double *errors;                 /* [metrics][selections][budgets][pages][ratios] */

    /* Summed up, by kvs_rank_summarize: for each scope (all, then the layers, then their heads) and metric. */
    int scopes_count;
    kvs_rank_score *scores;    /* [scopes][metrics] */
    kvs_rank_error *summaries; /* [scopes][metrics][selections][budgets][ratios] */
} kvs_rank_results;

/* Of the attributes, the tables ratios, metrics and pages, and what is summed up. */
extern const kvs_field kvs_rank_results_fields[], kvs_rank_ratio_fields[], kvs_rank_metric_fields[],
    kvs_rank_page_fields[], kvs_rank_score_fields[], kvs_rank_error_fields[];

/* Allocates the arrays that are not there yet for the counts and dimensions given, numbers NaN and ranks -1. KVS_INPUT
 * when memory is short. */
KVS_MUST_CHECK kvs_status kvs_rank_results_alloc(kvs_rank_results *results, kvs_error *error);
void kvs_rank_results_clear(kvs_rank_results *results);

/* Where numbers lie. */
static inline size_t kvs_rank_row(const kvs_rank_results *r, int metric, int page) {
    return (size_t)metric * (size_t)r->pages_count + (size_t)page;
}
/* The errors [ratios] of one page. */
static inline double *kvs_rank_errors_of(const kvs_rank_results *r, int metric, int selection, int budget, int page) {
    size_t way = ((size_t)metric * KVS_SELECTIONS + (size_t)selection) * KVS_BUDGETS + (size_t)budget;
    return r->errors + (way * (size_t)r->pages_count + (size_t)page) * (size_t)r->ratios_count;
}
/* The number of a scope: 0 is all. */
static inline int kvs_rank_scope(const kvs_rank_results *r, int layer, int head) {
    return layer < 0 ? 0 : head < 0 ? 1 + layer : 1 + r->layers + layer * r->kv_heads + head;
}
static inline const kvs_rank_score *kvs_rank_score_of(const kvs_rank_results *r, int scope, int metric) {
    return &r->scores[scope * r->metrics_count + metric];
}
/* The summaries [ratios]. */
static inline const kvs_rank_error *kvs_rank_summary_of(const kvs_rank_results *r, int scope, int metric, int selection,
                                                        int budget) {
    size_t way = (((size_t)scope * (size_t)r->metrics_count + (size_t)metric) * KVS_SELECTIONS + (size_t)selection);
    return r->summaries + (way * KVS_BUDGETS + (size_t)budget) * (size_t)r->ratios_count;
}
/* Indices: of a ratio, or -1; of chance and of the greedy oracle. */
int kvs_rank_ratio_index(const kvs_rank_results *results, double ratio);
static inline int kvs_rank_chance(const kvs_rank_results *r) {
    return r->metrics_count - 2;
}
static inline int kvs_rank_greedy(const kvs_rank_results *r) {
    return r->metrics_count - 1;
}

/* Part of the first `count` channels of one page that are so on another, by one ranking; NaN where one is not ranked.
 */
double kvs_rank_shared(const kvs_rank_results *results, int metric, int page, int other, int count);

/* Sums up what the pages hold. KVS_INPUT when memory is short. */
KVS_MUST_CHECK kvs_status kvs_rank_summarize(kvs_rank_results *results, kvs_error *error);

/* The document of `kvscope rank --json`; the caller's, freed with cJSON_Delete; NULL when memory is short. */
struct cJSON *kvs_rank_results_to_json(const kvs_rank_results *results);

KVS_MUST_CHECK kvs_status kvs_rank_results_write_h5(const kvs_rank_results *results, const char *path,
                                                    kvs_error *error);
/* *results is the caller's, freed with kvs_rank_results_clear. Refuses any other file with KVS_INPUT. */
KVS_MUST_CHECK kvs_status kvs_rank_results_read_h5(const char *path, kvs_rank_results *results, kvs_error *error);
/* Whether an HDF5 file is one of these. */
int kvs_rank_results_is_h5(const char *path);

#ifdef __cplusplus
}
#endif
#endif
