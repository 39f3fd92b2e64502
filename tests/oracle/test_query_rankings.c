/* test_query_rankings.c: rankings that use pairs, queries and attention, against their definitions in binary64. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/half.h"
#include "core/random.h"
#include "kernels/ranking.h"

enum { DIM = 16, TOKENS = 24, HEADS = 2, COUNT = 9, FIRST = 4 };

static float k[TOKENS][DIM], q[HEADS][COUNT][DIM], log_sums[HEADS][COUNT], scores[DIM];
static float scratch[(TOKENS + 6) * DIM + 2 * TOKENS];
static int32_t positions[COUNT];
static double weights[HEADS][COUNT][TOKENS], errors[2][TOKENS][DIM];
static kvs_page_context context;

static float value(uint64_t key, int i) {
    return (float)(_Float16)(4.0f * kvs_random_unit(key, (uint64_t)i) - 2.0f);
}

/* value - key in the words of kernels/README.md. */
static double error_of(int bits, int t, int d) {
    float low = k[0][d], high = k[0][d], levels = (float)((1 << bits) - 1);
    for (int i = 1; i < TOKENS; i++) low = fminf(low, k[i][d]), high = fmaxf(high, k[i][d]);
    float scale = fmaxf((high - low) / levels, 1e-6f);
    float code = fminf(fmaxf(floorf((k[t][d] - low) / scale + 0.5f), 0), levels);
    return (double)(code * (float)(_Float16)scale + (float)(_Float16)low - k[t][d]);
}

static void fill(kvs_rope_pairs rope) {
    for (int t = 0; t < TOKENS; t++)
        for (int d = 0; d < DIM; d++)
            k[t][d] = value(1, t * DIM + d) * (d % 5 == 1 ? 6.0f : 1.0f) + (d % 7 == 2 ? 9 : 0);
    for (int i = 0; i < COUNT; i++) {
        positions[i] = 6 + 4 * i; /* some see a part of the page, some all */
        for (int h = 0; h < HEADS; h++) {
            for (int d = 0; d < DIM; d++) q[h][i][d] = value(2, (h * COUNT + i) * DIM + d) * (d % 3 == 0 ? 3.0f : 0.5f);
            log_sums[h][i] = 8.0f + (float)i;
            for (int t = 0; t < TOKENS; t++) {
                double logit = 0;
                for (int d = 0; d < DIM; d++) logit += 0.25 * (double)q[h][i][d] * (double)k[t][d];
                weights[h][i][t] = FIRST + t <= positions[i] ? exp(logit - (double)log_sums[h][i]) : 0;
            }
        }
    }
    for (int b = 0; b < 2; b++)
        for (int t = 0; t < TOKENS; t++)
            for (int d = 0; d < DIM; d++) errors[b][t][d] = error_of(b ? 4 : 2, t, d);
    context = (kvs_page_context){.rope = rope,
                                 .softmax_scale = 0.25f,
                                 .first_token = FIRST,
                                 .queries = {HEADS, COUNT, DIM, positions, q[0][0], COUNT * DIM, log_sums[0], COUNT}};
}

static double query_mean(int d, int power) {
    double sum = 0;
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < COUNT; i++)
            sum += power == 2 ? (double)q[h][i][d] * (double)q[h][i][d] : fabs((double)q[h][i][d]);
    return sum / (HEADS * COUNT);
}

static double range_of(int d) {
    double low = 1e9, high = -1e9;
    for (int t = 0; t < TOKENS; t++) low = fmin(low, (double)k[t][d]), high = fmax(high, (double)k[t][d]);
    return high - low;
}

/* sum w e^2, or sum w (e - m)^2 around the weighted mean m. w NULL: 1 / TOKENS. */
static double moment(const double *w, int b, int d, int centred) {
    double total = 0, mean = 0, sum = 0;
    for (int t = 0; t < TOKENS; t++) total += w ? w[t] : 1.0 / TOKENS;
    for (int t = 0; t < TOKENS; t++) mean += (w ? w[t] : 1.0 / TOKENS) * errors[b][t][d];
    mean = centred && total > 0 ? mean / total : 0;
    for (int t = 0; t < TOKENS; t++)
        sum += (w ? w[t] : 1.0 / TOKENS) * (errors[b][t][d] - mean) * (errors[b][t][d] - mean);
    return sum;
}

static double attended(int d, int centred) {
    double sum = 0;
    for (int h = 0; h < HEADS; h++)
        for (int i = 0; i < COUNT; i++) {
            double saved = moment(weights[h][i], 0, d, centred) - moment(weights[h][i], 1, d, centred);
            sum += (double)q[h][i][d] * (double)q[h][i][d] * saved;
        }
    return sum;
}

static int partner(int d) {
    int rotary = context.rope.rotary_dim;
    if (d >= rotary) return -1;
    if (context.rope.interleaved) return d % 2 ? d - 1 : d + 1;
    return (d + rotary / 2) % rotary;
}

static double pair(int d, int with_queries) {
    double length = 0, square = 0, asked = query_mean(d, 2);
    int e = partner(d);
    if (e >= 0) asked += query_mean(e, 2);
    for (int t = 0; t < TOKENS; t++) {
        double here = (double)k[t][d] * (double)k[t][d] + (e >= 0 ? (double)k[t][e] * (double)k[t][e] : 0);
        length += sqrt(here) / TOKENS;
        square += here / TOKENS;
    }
    return with_queries ? sqrt(square * asked) : length;
}

static double want(const char *name, int d) {
    if (strncmp(name, "future_", 7) == 0) name += 7;
    if (strcmp(name, "pair_amplitude") == 0) return pair(d, 0);
    if (strcmp(name, "query_pair") == 0) return pair(d, 1);
    if (strcmp(name, "query_step") == 0) return query_mean(d, 1) * range_of(d);
    if (strcmp(name, "query_range") == 0) return query_mean(d, 2) * range_of(d) * range_of(d);
    if (strcmp(name, "query_error") == 0) return query_mean(d, 2) * (moment(NULL, 0, d, 0) - moment(NULL, 1, d, 0));
    if (strcmp(name, "centred_error") == 0) return query_mean(d, 2) * (moment(NULL, 0, d, 1) - moment(NULL, 1, d, 1));
    if (strcmp(name, "attention_error") == 0) return attended(d, 0);
    if (strcmp(name, "attention_centred") == 0) return attended(d, 1);
    return NAN;
}

static void scores_are_what_their_formulas_say(void **state) {
    (void)state;
    const kvs_rope_pairs ropes[] = {{DIM, 0, NULL}, {DIM / 2, 0, NULL}, {DIM, 1, NULL}, {0, 0, NULL}};
    int compared = 0;
    for (int r = 0; r < 4; r++) {
        fill(ropes[r]);
        for (int m = 0; kvs_rankings[m] != NULL; m++) {
            const kvs_ranking *ranking = kvs_rankings[m];
            if (isnan(want(ranking->name, 0))) {
                assert_int_equal(ranking->queries, KVS_QUERIES_NONE); /* those are tested in tests/unit */
                continue;
            }
            ranking->score(&context, TOKENS, DIM, k[0], scratch, scores);
            for (int d = 0; d < DIM; d++) {
                double expected = want(ranking->name, d), most = 0;
                for (int e = 0; e < DIM; e++) most = fmax(most, fabs(want(ranking->name, e)));
                assert_true(fabs((double)scores[d] - expected) <= 2e-6 * most);
                assert_true(most > 0);
                compared++;
            }
        }
    }
    assert_true(compared >= 4 * DIM * 10);
}

static void without_queries_all_channels_are_alike(void **state) {
    (void)state;
    fill((kvs_rope_pairs){DIM, 0, NULL});
    context.queries.count = 0;
    for (int m = 0; kvs_rankings[m] != NULL; m++) {
        if (kvs_rankings[m]->queries == KVS_QUERIES_NONE) continue;
        kvs_rankings[m]->score(&context, TOKENS, DIM, k[0], scratch, scores);
        for (int d = 0; d < DIM; d++) assert_true(scores[d] == 0.0f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_what_their_formulas_say),
        cmocka_unit_test(without_queries_all_channels_are_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
