/* rank_summary.c: means over the pages of a ranking study, and how sure they are. */
#include <math.h>
#include <stdlib.h>

#include "core/random.h"
#include "sim/rank.h"

enum { DRAWS = 1000 };

static int belongs(const kvs_rank_page *page, int layer, int head) {
    return layer < 0 || (page->layer == layer && page->head == head);
}

static double gap(double random, double error, double greedy) {
    return random > greedy ? (random - error) / (random - greedy) : NAN;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One draw: as many sequences as there are, with replacement; of each its pages with exponential weights (the Bayesian
 * bootstrap, Rubin 1981), so that no draw is without pages. */
static double drawn_gap(const kvs_ranked *ranked, int metric, int layer, int head, int sequences, uint64_t key) {
    double random = 0, error = 0, greedy = 0;
    uint64_t counter = 0;
    for (int i = 0; i < sequences; i++) {
        int sequence = (int)(kvs_random_bits(key, counter++) % (uint64_t)sequences), count = 0;
        for (int p = 0; p < ranked->count; p++)
            count += ranked->pages[p].sequence == sequence && belongs(&ranked->pages[p], layer, head);
        for (int p = 0; p < ranked->count; p++) {
            const kvs_rank_page *page = &ranked->pages[p];
            if (page->sequence != sequence || !belongs(page, layer, head)) continue;
            double times = -log(1.0 - (double)kvs_random_unit(key, counter++)); /* Exp(1) */
            random += times * page->random[KVS_RANK_RATIOS - 1] / count;
            error += times * page->scores[metric].error[KVS_RANK_RATIOS - 1] / count;
            greedy += times * page->greedy[KVS_RANK_RATIOS - 1] / count;
        }
    }
    return gap(random, error, greedy);
}

static void interval(const kvs_ranked *ranked, int metric, int layer, int head, uint64_t seed, double ci95[2]) {
    double draws[DRAWS];
    int sequences = 0;
    for (int p = 0; p < ranked->count; p++)
        if (ranked->pages[p].sequence >= sequences) sequences = ranked->pages[p].sequence + 1;
    for (int i = 0; i < DRAWS; i++)
        draws[i] = drawn_gap(ranked, metric, layer, head, sequences, kvs_random_key(seed, (uint64_t)i));
    qsort(draws, DRAWS, sizeof *draws, ascending);
    ci95[0] = draws[DRAWS / 40];
    ci95[1] = draws[DRAWS - 1 - DRAWS / 40];
}

void kvs_rank_summarize(const kvs_ranked *ranked, int metric, int layer, int head, uint64_t seed, kvs_rank_summary *s) {
    *s = (kvs_rank_summary){.ci95 = {NAN, NAN}};
    for (int p = 0; p < ranked->count; p++) {
        const kvs_rank_page *page = &ranked->pages[p];
        if (!belongs(page, layer, head)) continue;
        const kvs_rank_score *score = &page->scores[metric];
        s->pages++;
        s->mean.spearman += score->spearman;
        s->mean.kendall += score->kendall;
        s->mean.overlap += score->overlap;
        for (int r = 0; r < KVS_RANK_RATIOS; r++) {
            s->mean.error[r] += score->error[r];
            s->mean.static_error[r] += score->static_error[r];
            s->random[r] += page->random[r];
            s->greedy[r] += page->greedy[r];
        }
        for (int i = 0; i < 2; i++) s->four[i] += page->four[i];
    }
    double pages = s->pages;
    double *sums[] = {&s->mean.spearman, &s->mean.kendall, &s->mean.overlap, &s->four[0], &s->four[1]};
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) *sums[i] /= pages;
    for (int r = 0; r < KVS_RANK_RATIOS; r++) {
        s->mean.error[r] /= pages;
        s->mean.static_error[r] /= pages;
        s->random[r] /= pages;
        s->greedy[r] /= pages;
        s->gap_closed[r] = gap(s->random[r], s->mean.error[r], s->greedy[r]);
    }
    if (!isnan(s->gap_closed[KVS_RANK_RATIOS - 1])) interval(ranked, metric, layer, head, seed, s->ci95);
}
