/* rank_json.c: a ranking study as JSON. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>

#include "analysis/rank_result.h"

static void add(cJSON *object, const char *name, double value) {
    char text[32];
    kvs_real_text(value, text, sizeof text); /* cJSON would round */
    cJSON_AddItemToObject(object, name, cJSON_CreateRaw(text));
}

/* {"0.125": number, ...}: the member at `offset` of each ratio's summary. */
static void add_ratios(cJSON *object, const char *name, const kvs_rank_results *r, const kvs_rank_error *errors,
                       size_t offset) {
    cJSON *ratios = cJSON_AddObjectToObject(object, name);
    for (int i = 0; i < r->ratios_count; i++) {
        char ratio[32];
        snprintf(ratio, sizeof ratio, "%.9g", r->ratios[i].ratio);
        add(ratios, ratio, *(const double *)(const void *)((const char *)&errors[i] + offset));
    }
}

static void add_errors(cJSON *object, const char *name, const kvs_rank_results *r, const kvs_rank_error *errors) {
    add_ratios(object, name, r, errors, offsetof(kvs_rank_error, error));
}

static void add_interval(cJSON *object, const kvs_rank_results *r, const kvs_rank_error *errors) {
    const kvs_rank_error *at = &errors[kvs_rank_ratio_index(r, kvs_rank_main_ratios[1])];
    char low[32], high[32], text[80];
    kvs_real_text(at->ci95_low, low, sizeof low);
    kvs_real_text(at->ci95_high, high, sizeof high);
    snprintf(text, sizeof text, isnan(at->ci95_low) ? "null" : "[%s, %s]", low, high);
    cJSON_AddItemToObject(object, "ci95", cJSON_CreateRaw(text));
}

static void add_selection(cJSON *object, const kvs_rank_results *r, int scope, int metric, int budget) {
    const kvs_rank_error *dynamic = kvs_rank_summary_of(r, scope, metric, KVS_SELECT_DYNAMIC, budget);
    add_errors(object, "error", r, dynamic);
    add_errors(object, "static_error", r, kvs_rank_summary_of(r, scope, metric, KVS_SELECT_STATIC, budget));
    add_ratios(object, "gap_closed", r, dynamic, offsetof(kvs_rank_error, gap_closed));
    add_interval(object, r, dynamic);
}

static cJSON *metric_json(const kvs_rank_results *r, int scope, int metric) {
    const kvs_rank_score *score = kvs_rank_score_of(r, scope, metric);
    cJSON *object = cJSON_CreateObject();
    cJSON_AddStringToObject(object, "metric", r->metrics[metric].name);
    add(object, "spearman", score->agreement.spearman);
    add(object, "kendall", score->agreement.kendall);
    add(object, "top_k_overlap", score->agreement.top_k_overlap);
    add_selection(object, r, scope, metric, KVS_BUDGET_HEAD);
    cJSON *stability = cJSON_AddObjectToObject(object, "stability");
    add(stability, "previous_page", score->overlap_previous);
    add(stability, "first_page", score->overlap_first);
    cJSON *budgets = cJSON_AddObjectToObject(object, "budgets");
    for (int budget = KVS_BUDGET_HEAD + 1; budget < KVS_BUDGETS; budget++)
        if (r->budgets & 1 << budget)
            add_selection(cJSON_AddObjectToObject(budgets, kvs_rank_budget_names[budget]), r, scope, metric, budget);
    return object;
}

static void add_oracle(cJSON *object, const kvs_rank_results *r, int scope) {
    const kvs_rank_score *score = kvs_rank_score_of(r, scope, 0);
    cJSON *oracle = cJSON_AddObjectToObject(object, "oracle");
    cJSON_AddNumberToObject(oracle, "pages", score->pages);
    add_errors(oracle, "random", r, kvs_rank_summary_of(r, scope, kvs_rank_chance(r), 0, KVS_BUDGET_HEAD));
    add_errors(oracle, "greedy", r, kvs_rank_summary_of(r, scope, kvs_rank_greedy(r), 0, KVS_BUDGET_HEAD));
    cJSON *budgets = cJSON_AddObjectToObject(oracle, "greedy_budgets");
    for (int budget = KVS_BUDGET_HEAD + 1; budget < KVS_BUDGETS; budget++)
        if (r->budgets & 1 << budget)
            add_errors(budgets, kvs_rank_budget_names[budget], r,
                       kvs_rank_summary_of(r, scope, kvs_rank_greedy(r), 0, budget));
    double greedy = 0, exhaustive = 0, none = 0;
    for (int p = 0; p < r->pages_count; p++) {
        const kvs_rank_page *page = &r->pages[p];
        if ((score->layer >= 0 && page->layer != score->layer) || (score->head >= 0 && page->head != score->head))
            continue;
        none += page->none / score->pages;
        greedy += page->four_greedy / score->pages;
        exhaustive += page->four_exhaustive / score->pages;
    }
    add(oracle, "none_boosted", none);
    cJSON *four = cJSON_AddObjectToObject(oracle, "four_of_sixteen");
    add(four, "greedy", greedy);
    add(four, "exhaustive", exhaustive);
}

static void add_scope(cJSON *object, const kvs_rank_results *r, int scope) {
    cJSON *metrics = cJSON_AddArrayToObject(object, "metrics");
    for (int m = 0; m < kvs_rank_chance(r); m++) cJSON_AddItemToArray(metrics, metric_json(r, scope, m));
    add_oracle(object, r, scope);
}

static void add_sampling(cJSON *root, const kvs_rank_results *r) {
    cJSON *sampling = cJSON_AddObjectToObject(root, "sampling");
    cJSON_AddNumberToObject(sampling, "pages_per_head", r->pages_per_head);
    cJSON_AddNumberToObject(sampling, "positions_per_page", r->positions_per_page);
    cJSON_AddNumberToObject(sampling, "rank_window", r->rank_window);
    cJSON_AddNumberToObject(sampling, "prefix_pages", r->prefix_pages);
    cJSON_AddNumberToObject(sampling, "page_tokens", r->page_tokens);
    cJSON_AddNumberToObject(sampling, "sink", r->sink);
}

/* layers or heads: scopes first to last - 1. */
static void add_parts(cJSON *root, const char *name, const kvs_rank_results *r, int first, int last) {
    cJSON *parts = cJSON_AddArrayToObject(root, name);
    for (int scope = first; scope < last; scope++) {
        const kvs_rank_score *score = kvs_rank_score_of(r, scope, 0);
        cJSON *part = cJSON_CreateObject();
        cJSON_AddItemToArray(parts, part);
        cJSON_AddNumberToObject(part, "layer", score->layer);
        if (score->head >= 0) cJSON_AddNumberToObject(part, "head", score->head);
        add_scope(part, r, scope);
    }
}

cJSON *kvs_rank_results_to_json(const kvs_rank_results *r) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "command", "rank");
    cJSON_AddStringToObject(root, "version", r->version);
    cJSON_AddStringToObject(root, "trace", r->trace_path);
    add_scope(root, r, 0);
    add_sampling(root, r);
    add_parts(root, "layers", r, 1, 1 + r->layers);
    add_parts(root, "heads", r, 1 + r->layers, r->scopes_count);
    return root;
}
