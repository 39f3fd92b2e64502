/* rank_budget.c: how many channels each page boosts: a fixed count, or its part of a budget that heads share. */
#include <math.h>
#include <stdlib.h>

#include "analysis/shared_budget.h"
#include "sim/rank_study.h"

/* Pages that are stored in the same step and share a budget. */
typedef struct pool {
    int *pages, count;
    const float **scores;
    const double **errors;
    int *boosts;
} pool;

static void close_pool(pool *p) {
    free(p->pages);
    free(p->scores);
    free(p->errors);
    free(p->boosts);
}

static kvs_status open_pool(pool *p, int most, kvs_error *error) {
    size_t count = (size_t)most;
    p->pages = malloc(count * sizeof *p->pages);
    p->scores = malloc(count * sizeof *p->scores);
    p->errors = malloc(count * sizeof *p->errors);
    p->boosts = malloc(count * sizeof *p->boosts);
    if (p->pages != NULL && p->scores != NULL && p->errors != NULL && p->boosts != NULL) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
}

/* The pages that share with page `first`; none where another page came before it in the same pool. */
static void gather(const kvs_rank_results *r, int budget, int first, pool *p) {
    const kvs_rank_page *own = &r->pages[first];
    p->count = 0;
    for (int i = 0; i < r->pages_count; i++) {
        const kvs_rank_page *page = &r->pages[i];
        int same_head = page->layer == own->layer && page->head == own->head;
        if (page->sequence != own->sequence || page->page != own->page) continue;
        if (budget == KVS_BUDGET_LAYER && page->layer != own->layer) continue;
        if (budget == KVS_BUDGET_HEAD && !same_head) continue;
        if (p->count == 0 && i < first) return;
        p->pages[p->count++] = i;
    }
}

static kvs_status share_pool(kvs_rank_study *s, int metric, int selection, int budget, pool *p, kvs_error *error) {
    const kvs_rank_results *r = s->results;
    int known = 1;
    for (int i = 0; i < p->count; i++) {
        p->scores[i] = selection == KVS_SELECT_STATIC ? kvs_rank_fixed_of(s, metric, s->unit_of[p->pages[i]])
                                                      : kvs_rank_scores_of(s, metric, p->pages[i]);
        known &= !isnan(p->scores[i][0]);
    }
    for (int ratio = 0; ratio < r->ratios_count; ratio++) {
        if (known)
            KVS_TRY(kvs_shared_counts(p->scores, p->count, r->head_dim, p->count * r->ratios[ratio].boost_count,
                                      p->boosts, error));
        for (int i = 0; i < p->count; i++)
            kvs_rank_counts_of(s, metric, selection, budget, p->pages[i])[ratio] = known ? p->boosts[i] : -1;
    }
    return KVS_OK;
}

static kvs_status share_all(kvs_rank_study *s, pool *p, kvs_error *error) {
    for (int budget = 0; budget < KVS_BUDGETS; budget++) {
        if (!(s->results->budgets & 1 << budget)) continue;
        for (int first = 0; first < s->results->pages_count; first++) {
            gather(s->results, budget, first, p);
            for (int metric = 0; p->count > 0 && metric < s->options->metrics_count; metric++)
                for (int selection = 0; selection < KVS_SELECTIONS; selection++)
                    KVS_TRY(share_pool(s, metric, selection, budget, p, error));
        }
    }
    return KVS_OK;
}

kvs_status kvs_rank_share(kvs_rank_study *study, kvs_error *error) {
    pool p = {0};
    kvs_status status = open_pool(&p, study->results->pages_count, error);
    if (status == KVS_OK) status = share_all(study, &p, error);
    close_pool(&p);
    return status;
}

static void share_greedy(kvs_rank_study *s, int budget, pool *p) {
    const kvs_rank_results *r = s->results;
    for (int i = 0; i < p->count; i++) p->errors[i] = kvs_rank_greedy_of(s, p->pages[i]);
    for (int ratio = 0; p->count > 0 && ratio < r->ratios_count; ratio++) {
        kvs_shared_steps(p->errors, p->count, s->most, p->count * r->ratios[ratio].boost_count, p->boosts);
        for (int i = 0; i < p->count; i++)
            kvs_rank_errors_of(r, kvs_rank_greedy(r), KVS_SELECT_DYNAMIC, budget, p->pages[i])[ratio] =
                p->errors[i][p->boosts[i]];
    }
}

kvs_status kvs_rank_share_greedy(kvs_rank_study *study, kvs_error *error) {
    pool p = {0};
    kvs_status status = open_pool(&p, study->results->pages_count, error);
    for (int budget = 1; status == KVS_OK && budget < KVS_BUDGETS; budget++)
        for (int first = 0; study->results->budgets & 1 << budget && first < study->results->pages_count; first++) {
            gather(study->results, budget, first, &p);
            share_greedy(study, budget, &p);
        }
    close_pool(&p);
    return status;
}
