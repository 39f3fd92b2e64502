/* test_ranking.c: scores against scalar definitions, the order of sums, ties, and what random choices depend on. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/random.h"
#include "kernels/ranking.h"

enum { MAX_TOKENS = 300, MAX_CHANNELS = 256 };

static float page[MAX_TOKENS * MAX_CHANNELS], scratch[(MAX_TOKENS + 8) * MAX_CHANNELS], scores[MAX_CHANNELS];

/* Numbers of very different size, so that any other order of a sum gives another last place. */
static void fill(int tokens, int head_dim, uint64_t key) {
    for (int i = 0; i < tokens * head_dim; i++)
        page[i] = (kvs_random_unit(key, (uint64_t)i) - 0.5f) * exp2f((float)(kvs_random_bits(~key, (uint64_t)i) % 12));
}

/* s[t] += s[t + n/2], n halved until 1: seen from the root, even tokens plus odd ones, and so on. */
static float tree(const float *x, int stride, int tokens, int first, int step, int n) {
    if (step == n) return first < tokens ? x[first * stride] : 0.0f;
    return tree(x, stride, tokens, first, 2 * step, n) + tree(x, stride, tokens, first + step, 2 * step, n);
}

static float tree_of(const float *x, int stride, int tokens) {
    int n = 1;
    while (n < tokens) n *= 2;
    return tree(x, stride, tokens, 0, 1, n);
}

static void sums_follow_the_tree(void **state) {
    (void)state;
    const int counts[] = {1, 2, 3, 5, 7, 8, 16, 17, 31, 32, 33, 100, 127, 128, 129, 192, 255, 256, 300};
    const int head_dims[] = {1, 7, 64, 96, 128, 256};
    int other_order = 0;
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (size_t h = 0; h < sizeof head_dims / sizeof *head_dims; h++) {
            int tokens = counts[c], head_dim = head_dims[h];
            fill(tokens, head_dim, c * 10 + h);
            memcpy(scratch, page, sizeof page);
            kvs_tree_sum(tokens, head_dim, scratch, scores);
            for (int d = 0; d < head_dim; d++) {
                float want = tree_of(page + d, head_dim, tokens), running = 0;
                for (int t = 0; t < tokens; t++) running += page[t * head_dim + d];
                assert_memory_equal(&scores[d], &want, sizeof want);
                other_order += running != want;
            }
        }
    assert_true(other_order > 100); /* the inputs do tell orders apart */
}

static const float *score(const char *name, kvs_page_place place, int tokens, int head_dim) {
    const kvs_ranking *ranking = kvs_ranking_find(name);
    assert_non_null(ranking);
    ranking->score(&(kvs_page_context){.place = place}, tokens, head_dim, page, scratch, scores);
    return scores;
}

static void scores_are_what_their_formulas_say(void **state) {
    (void)state;
    const int counts[] = {1, 16, 48, 128, 200};
    for (size_t c = 0; c < 5; c++) {
        int tokens = counts[c], head_dim = 96;
        float column[MAX_TOKENS];
        fill(tokens, head_dim, 77 + c);
        for (int d = 0; d < head_dim; d++) {
            float least = INFINITY, most = -INFINITY, want;
            for (int t = 0; t < tokens; t++) {
                float x = page[t * head_dim + d];
                least = fminf(least, x), most = fmaxf(most, x);
                column[t] = fabsf(x);
            }
            want = tree_of(column, 1, tokens) / (float)tokens;
            assert_memory_equal(&score("magnitude", (kvs_page_place){0}, tokens, head_dim)[d], &want, sizeof want);
            want = most - least;
            assert_memory_equal(&score("range", (kvs_page_place){0}, tokens, head_dim)[d], &want, sizeof want);
            float mean = tree_of(page + d, head_dim, tokens) / (float)tokens;
            for (int t = 0; t < tokens; t++) {
                float deviation = page[t * head_dim + d] - mean;
                column[t] = deviation * deviation;
            }
            want = tree_of(column, 1, tokens) / (float)tokens;
            assert_memory_equal(&score("variance", (kvs_page_place){0}, tokens, head_dim)[d], &want, sizeof want);
        }
    }
}

static void ties_go_to_the_lower_channel(void **state) {
    (void)state;
    const float tied[] = {1, 3, 3, 0, 3, -1, 0.0f, -0.0f, 5};
    const int want[] = {4, 1, 2, 5, 3, 8, 6, 7, 0};
    int ranks[9];
    kvs_rank_channels(9, tied, ranks);
    assert_memory_equal(ranks, want, sizeof want);
    float same[MAX_CHANNELS] = {0};
    int all[MAX_CHANNELS];
    kvs_rank_channels(MAX_CHANNELS, same, all);
    for (int d = 0; d < MAX_CHANNELS; d++) assert_int_equal(all[d], d);
}

typedef struct scored {
    float score;
    int channel;
} scored;

static int by_rank(const void *a, const void *b) {
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->channel - y->channel;
}

static void ranks_are_those_of_a_sort(void **state) {
    (void)state;
    for (int head_dim = 1; head_dim <= MAX_CHANNELS; head_dim += head_dim < 70 ? 1 : 31) {
        scored sorted[MAX_CHANNELS];
        int ranks[MAX_CHANNELS];
        for (int d = 0; d < head_dim; d++) {
            scores[d] = (float)(kvs_random_bits(5, (uint64_t)(d + head_dim)) % 40); /* many ties */
            sorted[d] = (scored){scores[d], d};
        }
        qsort(sorted, (size_t)head_dim, sizeof *sorted, by_rank);
        kvs_rank_channels(head_dim, scores, ranks);
        for (int r = 0; r < head_dim; r++) assert_int_equal(ranks[sorted[r].channel], r);
    }
}

static void random_depends_on_the_place_alone(void **state) {
    (void)state;
    enum { D = 64 };
    const kvs_page_place base = {7, 1, 2, 3, 4};
    const kvs_page_place others[] = {{8, 1, 2, 3, 4}, {7, 2, 2, 3, 4}, {7, 1, 3, 3, 4}, {7, 1, 2, 4, 4},
                                     {7, 1, 2, 3, 5}, {7, 2, 1, 3, 4}}; /* the last: two of them swapped */
    float first[D];
    memcpy(first, score("random", base, 128, D), sizeof first);
    for (int i = 0; i < 6; i++) assert_memory_not_equal(score("random", others[i], 128, D), first, sizeof first);
    fill(32, D, 1);
    assert_memory_equal(score("random", base, 32, D), first,
                        sizeof first); /* neither keys nor calls in between count */
    float mean = 0;
    for (int d = 0; d < D; d++) {
        assert_true(first[d] >= 0 && first[d] < 1);
        mean += first[d] / D;
    }
    assert_true(mean > 0.3f && mean < 0.7f);
}

static void names_are_unique_and_documented(void **state) {
    (void)state;
    for (int i = 0; kvs_rankings[i] != NULL; i++) {
        assert_ptr_equal(kvs_ranking_find(kvs_rankings[i]->name), kvs_rankings[i]);
        assert_string_equal(kvs_ranking_names[i], kvs_rankings[i]->name);
        assert_true(strlen(kvs_rankings[i]->summary) > 0 && strlen(kvs_rankings[i]->formula) > 0);
    }
    assert_null(kvs_ranking_find("nonsense"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_follow_the_tree),
        cmocka_unit_test(scores_are_what_their_formulas_say),
        cmocka_unit_test(ties_go_to_the_lower_channel),
        cmocka_unit_test(ranks_are_those_of_a_sort),
        cmocka_unit_test(random_depends_on_the_place_alone),
        cmocka_unit_test(names_are_unique_and_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
