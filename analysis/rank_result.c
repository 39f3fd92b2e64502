#include "analysis/rank_result.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const kvs_rank_budget_names[KVS_BUDGETS] = {"head", "layer", "model"};
const char *const kvs_rank_selection_names[KVS_SELECTIONS] = {"dynamic", "static"};
const double kvs_rank_main_ratios[2] = {0.125, 0.25};

#define FIELD(row, type, name, member, unit)                                                                           \
    { name, KVS_FIELD_##type, offsetof(row, member), unit, 0 }
#define END                                                                                                            \
    { NULL, KVS_FIELD_REAL, 0, NULL, 0 }

#define ROOT(type, name, member, unit) FIELD(kvs_rank_results, type, name, member, unit)
const kvs_field kvs_rank_results_fields[] = {
    ROOT(TEXT, "version", version, ""),
    ROOT(TEXT, "command_line", command_line, ""),
    ROOT(TEXT, "trace_path", trace_path, ""),
    ROOT(TEXT, "trace_sha256", trace_sha256, ""),
    ROOT(TEXT, "model_name", model_name, ""),
    ROOT(TEXT, "model_family", model_family, ""),
    ROOT(LONG, "seed", seed, ""),
    ROOT(INT, "num_layers", layers, ""),
    ROOT(INT, "num_query_heads", query_heads, ""),
    ROOT(INT, "num_kv_heads", kv_heads, ""),
    ROOT(INT, "head_dim", head_dim, ""),
    ROOT(INT, "num_sequences", sequences, ""),
    ROOT(INT, "sink", sink, "tokens"),
    ROOT(INT, "page_tokens", page_tokens, "tokens"),
    ROOT(INT, "rank_window", rank_window, "positions"),
    ROOT(INT, "prefix_pages", prefix_pages, "pages"),
    ROOT(INT, "pages_per_head", pages_per_head, "pages"),
    ROOT(INT, "positions_per_page", positions_per_page, "positions"),
    ROOT(INT, "budgets", budgets, ""),
    END,
};

const kvs_field kvs_rank_ratio_fields[] = {
    FIELD(kvs_rank_ratio, REAL, "ratio", ratio, "1"),
    FIELD(kvs_rank_ratio, INT, "boost_count", boost_count, "channels"),
    END,
};

const kvs_field kvs_rank_metric_fields[] = {
    FIELD(kvs_rank_metric, TEXT, "name", name, ""),
    FIELD(kvs_rank_metric, TEXT, "uses", uses, ""),
    END,
};

#define PAGE(type, name, member, unit) FIELD(kvs_rank_page, type, name, member, unit)
const kvs_field kvs_rank_page_fields[] = {
    PAGE(INT, "sequence", sequence, ""),
    PAGE(INT, "layer", layer, ""),
    PAGE(INT, "head", head, ""),
    PAGE(INT, "page", page, ""),
    PAGE(REAL, "error_none", none, "1"),
    PAGE(REAL, "four_of_sixteen_greedy", four_greedy, "1"),
    PAGE(REAL, "four_of_sixteen_exhaustive", four_exhaustive, "1"),
    END,
};

#define SCORE(type, name, member, unit) FIELD(kvs_rank_score, type, name, member, unit)
const kvs_field kvs_rank_score_fields[] = {
    SCORE(INT, "layer", layer, ""),
    SCORE(INT, "head", head, ""),
    SCORE(INT, "metric", metric, ""),
    SCORE(INT, "pages", pages, "pages"),
    SCORE(REAL, "spearman", agreement.spearman, "1"),
    SCORE(REAL, "kendall", agreement.kendall, "1"),
    SCORE(REAL, "top_k_overlap", agreement.top_k_overlap, "1"),
    SCORE(REAL, "overlap_previous", overlap_previous, "1"),
    SCORE(REAL, "overlap_first", overlap_first, "1"),
    END,
};

#define ERROR(type, name, member, unit) FIELD(kvs_rank_error, type, name, member, unit)
const kvs_field kvs_rank_error_fields[] = {
    ERROR(INT, "layer", layer, ""),
    ERROR(INT, "head", head, ""),
    ERROR(INT, "metric", metric, ""),
    ERROR(INT, "budget", budget, ""),
    ERROR(INT, "selection", selection, ""),
    ERROR(REAL, "ratio", ratio, "1"),
    ERROR(REAL, "error", error, "1"),
    ERROR(REAL, "gap_closed", gap_closed, "1"),
    ERROR(REAL, "ci95_low", ci95_low, "1"),
    ERROR(REAL, "ci95_high", ci95_high, "1"),
    END,
};

/* --- memory --------------------------------------------------------------------------------------------------------
 */

static void unknown(double *numbers, size_t count) {
    for (size_t i = 0; i < count; i++) numbers[i] = NAN;
}

kvs_status kvs_rank_results_alloc(kvs_rank_results *r, kvs_error *error) {
    size_t metrics = (size_t)r->metrics_count, pages = (size_t)r->pages_count, dim = (size_t)r->head_dim;
    size_t errors = metrics * KVS_SELECTIONS * KVS_BUDGETS * pages * (size_t)r->ratios_count;
    if (r->metrics == NULL) r->metrics = calloc(metrics, sizeof *r->metrics);
    if (r->pages == NULL) r->pages = calloc(pages, sizeof *r->pages);
    r->sensitivity = malloc(pages * dim * sizeof *r->sensitivity);
    r->ranks = malloc(metrics * pages * dim * sizeof *r->ranks);
    r->agreements = malloc(metrics * pages * sizeof *r->agreements);
    r->errors = malloc(errors * sizeof *r->errors);
    if (r->metrics == NULL || r->pages == NULL || r->sensitivity == NULL || r->ranks == NULL || r->agreements == NULL ||
        r->errors == NULL)
        return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory for %d pages", r->pages_count);
    unknown(r->errors, errors);
    for (size_t i = 0; i < metrics * pages; i++) r->agreements[i] = (kvs_rank_agreement){NAN, NAN, NAN};
    for (size_t i = 0; i < pages * dim; i++) r->sensitivity[i] = NAN;
    memset(r->ranks, -1, metrics * pages * dim * sizeof *r->ranks);
    return KVS_OK;
}

void kvs_rank_results_clear(kvs_rank_results *r) {
    for (int m = 0; r->metrics != NULL && m < r->metrics_count; m++)
        kvs_fields_free(kvs_rank_metric_fields, &r->metrics[m]);
    kvs_fields_free(kvs_rank_results_fields, r);
    void *all[] = {r->metrics, r->pages, r->sensitivity, r->ranks, r->agreements, r->errors, r->scores, r->summaries};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    *r = (kvs_rank_results){0};
}

int kvs_rank_ratio_index(const kvs_rank_results *results, double ratio) {
    for (int i = 0; i < results->ratios_count; i++)
        if (results->ratios[i].ratio == ratio) return i;
    return -1;
}

double kvs_rank_shared(const kvs_rank_results *r, int metric, int page, int other, int count) {
    const int16_t *a = r->ranks + kvs_rank_row(r, metric, page) * (size_t)r->head_dim;
    const int16_t *b = r->ranks + kvs_rank_row(r, metric, other) * (size_t)r->head_dim;
    int shared = 0, chosen = 0, chosen_other = 0;
    for (int d = 0; d < r->head_dim; d++) {
        int in_a = a[d] >= 0 && a[d] < count, in_b = b[d] >= 0 && b[d] < count;
        chosen += in_a;
        chosen_other += in_b;
        shared += in_a && in_b;
    }
    return count > 0 && chosen == count && chosen_other == count ? (double)shared / count : NAN;
}
