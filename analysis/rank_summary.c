/* rank_summary.c: means over the pages of a ranking study, and how sure they are. */
#include <math.h>
#include <stdlib.h>

#include "analysis/rank_result.h"
#include "core/random.h"

enum { DRAWS = 1000 };

/* The pages of one scope, and of each draw of the bootstrap what they weigh and what comes of it. */
typedef struct scope {
    kvs_rank_results *results;
    int number, layer, head;
    int *pages, count;
    int *sequences, sequences_count; /* those that have pages here */
    int *per_sequence;               /* [results->sequences]: pages of each */
    double *weights;                 /* [count] */
    double *gaps;                    /* [ways][ratios][DRAWS] */
} scope;

static double gap(double chance, double error, double greedy) {
    return chance > greedy ? (chance - error) / (chance - greedy) : NAN;
}

static int ways(const kvs_rank_results *r) {
    return r->metrics_count * KVS_SELECTIONS * KVS_BUDGETS;
}

/* The errors [pages][ratios] of a way to choose. */
static const double *errors_of(const kvs_rank_results *r, int way) {
    return r->errors + (size_t)way * (size_t)r->pages_count * (size_t)r->ratios_count;
}

static int way_of(int metric, int selection, int budget) {
    return (metric * KVS_SELECTIONS + selection) * KVS_BUDGETS + budget;
}

/* --- means ---------------------------------------------------------------------------------------------------------
 */

static double weighted(const scope *s, int way, int ratio, const double *weights) {
    const kvs_rank_results *r = s->results;
    const double *errors = errors_of(r, way) + ratio;
    double sum = 0;
    for (int i = 0; i < s->count; i++)
        sum += (weights != NULL ? weights[i] : 1.0 / s->count) * errors[(size_t)s->pages[i] * (size_t)r->ratios_count];
    return sum;
}

static kvs_rank_error *summary_of(const scope *s, int way) {
    const kvs_rank_results *r = s->results;
    return r->summaries + ((size_t)s->number * (size_t)ways(r) + (size_t)way) * (size_t)r->ratios_count;
}

static void summarize_errors(const scope *s) {
    const kvs_rank_results *r = s->results;
    for (int way = 0; way < ways(r); way++)
        for (int i = 0; i < r->ratios_count; i++) {
            double chance = weighted(s, way_of(kvs_rank_chance(r), 0, 0), i, NULL);
            double greedy = weighted(s, way_of(kvs_rank_greedy(r), 0, 0), i, NULL);
            double error = weighted(s, way, i, NULL);
            summary_of(s, way)[i] = (kvs_rank_error){.layer = s->layer,
                                                     .head = s->head,
                                                     .metric = way / (KVS_SELECTIONS * KVS_BUDGETS),
                                                     .selection = way / KVS_BUDGETS % KVS_SELECTIONS,
                                                     .budget = way % KVS_BUDGETS,
                                                     .ratio = r->ratios[i].ratio,
                                                     .error = error,
                                                     .gap_closed = gap(chance, error, greedy),
                                                     .ci95_low = NAN,
                                                     .ci95_high = NAN};
        }
}

static int same_head(const kvs_rank_page *a, const kvs_rank_page *b) {
    return a->sequence == b->sequence && a->layer == b->layer && a->head == b->head;
}

/* The mean of kvs_rank_shared over the pages behind a first one: with the page before, or with the first. */
static double shared_with(const scope *s, int metric, int with_first, int count) {
    const kvs_rank_results *r = s->results;
    double sum = 0;
    int pairs = 0, first = 0;
    for (int i = 0; i < s->count; i++) {
        int page = s->pages[i];
        if (i == 0 || !same_head(&r->pages[page], &r->pages[s->pages[i - 1]])) {
            first = page;
            continue;
        }
        sum += kvs_rank_shared(r, metric, page, with_first ? first : s->pages[i - 1], count);
        pairs++;
    }
    return pairs > 0 ? sum / pairs : NAN;
}

static void summarize_agreement(const scope *s) {
    const kvs_rank_results *r = s->results;
    int count = r->ratios[kvs_rank_ratio_index(r, kvs_rank_main_ratios[1])].boost_count;
    for (int metric = 0; metric < r->metrics_count; metric++) {
        kvs_rank_agreement sum = {0, 0, 0};
        for (int i = 0; i < s->count; i++) {
            const kvs_rank_agreement *one = &r->agreements[kvs_rank_row(r, metric, s->pages[i])];
            sum.spearman += one->spearman / s->count;
            sum.kendall += one->kendall / s->count;
            sum.top_k_overlap += one->top_k_overlap / s->count;
        }
        r->scores[s->number * r->metrics_count + metric] =
            (kvs_rank_score){.layer = s->layer,
                             .head = s->head,
                             .metric = metric,
                             .pages = s->count,
                             .agreement = s->count > 0 ? sum : (kvs_rank_agreement){NAN, NAN, NAN},
                             .overlap_previous = shared_with(s, metric, 0, count),
                             .overlap_first = shared_with(s, metric, 1, count)};
    }
}

/* --- bootstrap -----------------------------------------------------------------------------------------------------
 */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* As many sequences as there are, with replacement; of each its pages with exponential weights (the Bayesian bootstrap,
 * Rubin 1981), so that no draw is without pages. */
static void draw_weights(const scope *s, uint64_t key) {
    uint64_t counter = 0;
    for (int i = 0; i < s->count; i++) s->weights[i] = 0;
    for (int i = 0; i < s->sequences_count; i++) {
        int sequence = s->sequences[kvs_random_bits(key, counter++) % (uint64_t)s->sequences_count];
        for (int p = 0; p < s->count; p++)
            if (s->results->pages[s->pages[p]].sequence == sequence)
                s->weights[p] += -log(1.0 - (double)kvs_random_unit(key, counter++)) / s->per_sequence[sequence];
    }
}

static void summarize_intervals(const scope *s) {
    const kvs_rank_results *r = s->results;
    int ratios = r->ratios_count;
    for (int draw = 0; draw < DRAWS; draw++) {
        draw_weights(s, kvs_random_key((uint64_t)r->seed, (uint64_t)draw));
        for (int i = 0; i < ratios; i++) {
            double chance = weighted(s, way_of(kvs_rank_chance(r), 0, 0), i, s->weights);
            double greedy = weighted(s, way_of(kvs_rank_greedy(r), 0, 0), i, s->weights);
            for (int way = 0; way < ways(r); way++)
                if (!isnan(summary_of(s, way)[i].gap_closed))
                    s->gaps[(size_t)(way * ratios + i) * DRAWS + (size_t)draw] =
                        gap(chance, weighted(s, way, i, s->weights), greedy);
        }
    }
    for (int way = 0; way < ways(r); way++)
        for (int i = 0; i < ratios; i++) {
            kvs_rank_error *summary = &summary_of(s, way)[i];
            double *gaps = s->gaps + (size_t)(way * ratios + i) * DRAWS;
            if (isnan(summary->gap_closed)) continue;
            qsort(gaps, DRAWS, sizeof *gaps, ascending);
            summary->ci95_low = gaps[DRAWS / 40];
            summary->ci95_high = gaps[DRAWS - 1 - DRAWS / 40];
        }
}

/* --- scopes --------------------------------------------------------------------------------------------------------
 */

static void gather(scope *s, int number) {
    const kvs_rank_results *r = s->results;
    int head = number - 1 - r->layers;
    s->number = number;
    s->layer = number == 0 ? -1 : head < 0 ? number - 1 : head / r->kv_heads;
    s->head = head < 0 ? -1 : head % r->kv_heads;
    s->count = s->sequences_count = 0;
    for (int i = 0; i < r->sequences; i++) s->per_sequence[i] = 0;
    for (int p = 0; p < r->pages_count; p++) {
        const kvs_rank_page *page = &r->pages[p];
        if ((s->layer >= 0 && page->layer != s->layer) || (s->head >= 0 && page->head != s->head)) continue;
        s->pages[s->count++] = p;
        s->per_sequence[page->sequence]++;
    }
    for (int i = 0; i < r->sequences; i++)
        if (s->per_sequence[i] > 0) s->sequences[s->sequences_count++] = i;
}

static kvs_status summarize_all(scope *s, kvs_error *error) {
    kvs_rank_results *r = s->results;
    size_t pages = (size_t)r->pages_count, sequences = (size_t)r->sequences, each = (size_t)r->metrics_count;
    size_t errors = (size_t)ways(r) * (size_t)r->ratios_count, scopes = (size_t)r->scopes_count;
    free(r->scores);
    free(r->summaries);
    r->scores = calloc(scopes * each, sizeof *r->scores);
    r->summaries = calloc(scopes * errors, sizeof *r->summaries);
    s->pages = malloc(pages * sizeof *s->pages);
    s->weights = malloc(pages * sizeof *s->weights);
    s->sequences = malloc(sequences * sizeof *s->sequences);
    s->per_sequence = malloc(sequences * sizeof *s->per_sequence);
    s->gaps = malloc(errors * DRAWS * sizeof *s->gaps);
    if (r->scores == NULL || r->summaries == NULL || s->pages == NULL || s->weights == NULL || s->sequences == NULL ||
        s->per_sequence == NULL || s->gaps == NULL)
        return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (int number = 0; number < r->scopes_count; number++) {
        gather(s, number);
        summarize_errors(s);
        summarize_agreement(s);
        summarize_intervals(s);
    }
    return KVS_OK;
}

kvs_status kvs_rank_summarize(kvs_rank_results *results, kvs_error *error) {
    scope s = {.results = results};
    results->scopes_count = 1 + results->layers + results->layers * results->kv_heads;
    kvs_status status = summarize_all(&s, error);
    void *all[] = {s.pages, s.weights, s.sequences, s.per_sequence, s.gaps};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    return status;
}
