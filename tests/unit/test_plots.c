/* test_plots.c: do plots say what the results say, and do labels keep apart? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "plots/labels.h"
#include "plots/measure.h"
#include "plots/pareto.h"
#include "plots/placement.h"
#include "plots/plot.h"
#include "plots/style.h"
#include "tests/unit/plot_results.h"

/* --- the frontier ------------------------------------------------------------------------------------------------- */

static int beaten(const double *a, const double *b, int count, int i) {
    for (int k = 0; k < count; k++)
        if (a[k] <= a[i] && b[k] <= b[i] && (a[k] < a[i] || b[k] < b[i])) return 1;
    return isnan(a[i]) || isnan(b[i]);
}

static void pareto_equals_brute_force(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 400; seed++) {
        double a[40], b[40];
        int order[40], count = (int)(seed % 41);
        for (int i = 0; i < count; i++) { /* few distinct values, so that there are ties */
            a[i] = (double)(kvs_random_bits(seed, (uint64_t)i) % 12);
            b[i] = (double)(kvs_random_bits(seed + 1000, (uint64_t)i) % 12);
            if (kvs_random_bits(seed + 2000, (uint64_t)i) % 9 == 0) b[i] = NAN;
        }
        int on = kvs_pareto(a, b, count, order), expected = 0;
        for (int i = 0; i < count; i++) expected += !beaten(a, b, count, i);
        assert_int_equal(on, expected);
        uint64_t seen = 0;
        for (int k = 0; k < count; k++) {
            seen |= UINT64_C(1) << order[k];
            assert_int_equal(beaten(a, b, count, order[k]), k >= on);
            if (k > 0 && k < on) assert_true(a[order[k]] >= a[order[k - 1]] && b[order[k]] <= b[order[k - 1]]);
        }
        assert_true(seen == (UINT64_C(1) << count) - 1);
    }
}

static int boxes_overlap(kvs_box a, kvs_box b) {
    return a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
}

static void labels_keep_apart(void **state) {
    (void)state;
    enum { POINTS = 14 };
    const kvs_box panel = {70, 20, 780, 350};
    double points[2 * POINTS];
    kvs_placed labels[POINTS];
    for (int i = 0; i < POINTS; i++) { /* steep, and closer to one another than labels are high */
        points[2 * i] = 250 + 6.0 * i;
        points[2 * i + 1] = 60 + 11.0 * i;
        labels[i] = (kvs_placed){.x = points[2 * i], .y = points[2 * i + 1], .width = 150};
    }
    kvs_place_labels(panel, 15, &(kvs_obstacles){points, points, POINTS, POINTS}, labels, POINTS);
    for (int i = 0; i < POINTS; i++) {
        kvs_box box = labels[i].box;
        assert_true(box.left >= panel.left && box.right <= panel.right && box.top >= panel.top &&
                    box.bottom <= panel.bottom);
        for (int k = 0; k < POINTS; k++) {
            kvs_box point = {points[2 * k] - 4, points[2 * k + 1] - 4, points[2 * k] + 4, points[2 * k + 1] + 4};
            assert_false(boxes_overlap(box, point));
            if (k != i) assert_false(boxes_overlap(box, labels[k].box));
        }
    }
}

/* The frontier's .csv against brute force over the results themselves. */
static void frontier_csv_says_what_results_say(void **state) {
    (void)state;
    kvs_results results = example_results();
    kvs_figure figure;
    assert_int_equal(compose(kvs_plot_type_find("frontier"), &results, "", &figure, NULL), KVS_OK);
    const char *line = strchr(figure.csv_text, '\n') + 1;
    int rows = 0;
    for (; *line != '\0'; line = strchr(line, '\n') + 1, rows++) {
        int trace, on, family;
        double memory, error, a[64], b[64];
        char scheme[96];
        assert_int_equal(sscanf(line, "%d,%d,%d,%lf,%lf,\"%95[^\"]\"", &trace, &on, &family, &memory, &error, scheme),
                         6);
        int count = 0, own = -1;
        for (int i = 0; i < results.results_count; i++) {
            const kvs_result *result = &results.results[i];
            if (result->trace != trace) continue;
            if (strcmp(result->scheme, scheme) == 0) own = count;
            a[count] = result->effective_bits;
            b[count++] = result->errors.attention_output_rel_l2.mean;
        }
        assert_true(own >= 0);
        assert_true(fabs(a[own] - memory) < 1e-8 * memory && fabs(b[own] - error) <= 1e-8 * error);
        assert_int_equal(on, !beaten(a, b, count, own));
    }
    assert_int_equal(rows, results.results_count);
    kvs_figure_clear(&figure);
    kvs_results_clear(&results);
}

/* With labels=all every point is named; with low and high only what lies between is drawn. */
static void frontier_names_all_points_in_a_range(void **state) {
    (void)state;
    kvs_results results = example_results();
    kvs_scheme_labels labels;
    kvs_figure figure;
    kvs_error error;
    assert_int_equal(kvs_scheme_labels_make(&results, &labels, &error), KVS_OK);
    assert_int_equal(compose(kvs_plot_type_find("frontier"), &results, "labels=all,low=2.8,high=3.6", &figure, &error),
                     KVS_OK);
    int drawn = 0, rows = -1;
    for (int i = 0; i < results.results_count; i++) {
        double bits = results.results[i].effective_bits;
        char text[160];
        snprintf(text, sizeof text, "'%s'", labels.labels[i].text);
        int shown = strstr(figure.gp_text, text) != NULL;
        if (bits >= 2.8 && bits <= 3.6) {
            drawn++;
            if (!shown) fail_msg("%s has no label", text);
        } else if (shown && strchr(text, ' ') != NULL) { /* the legend names bare families */
            fail_msg("%s has a label", text);
        }
    }
    for (const char *c = figure.csv_text; *c != '\0'; c++) rows += *c == '\n';
    assert_int_equal(rows, drawn);
    assert_true(drawn > 20 && drawn < results.results_count);
    kvs_figure_clear(&figure);
    kvs_scheme_labels_clear(&labels);
    kvs_results_clear(&results);
}

/* Fourteen of one family and memory have one name, of what they have in common. */
static void a_column_of_many_shares_a_label(void **state) {
    (void)state;
    kvs_results results = example_results();
    for (int i = 11; i < 25; i++) {
        char scheme[64];
        snprintf(scheme, sizeof scheme, "kitty:boost=0.25,rank=%c%d,sink=32", 'a' + i, i);
        free(results.results[i].scheme);
        results.results[i].scheme = strdup(scheme);
        results.results[i].effective_bits = 2.6;
    }
    kvs_figure figure;
    assert_int_equal(compose(kvs_plot_type_find("frontier"), &results, "labels=all,high=2.7", &figure, NULL), KVS_OK);
    assert_non_null(strstr(figure.gp_text, "kitty boost=0.25 (14)"));
    assert_null(strstr(figure.gp_text, "l11"));
    kvs_figure_clear(&figure);
    kvs_results_clear(&results);
}

/* What all schemes that name a parameter agree on is in no label, and of a path only the last part is. */
static void labels_leave_out_what_all_agree_on(void **state) {
    (void)state;
    static const char *const schemes[] = {"fp16", "int:bits=2,sink=32", "nvfp4:sink=32", "tcq:constants=a/{model}/one",
                                          "tcq:constants=a/{model}/two"},
                             *const texts[] = {"fp16", "int bits=2", "nvfp4", "tcq one", "tcq two"};
    kvs_result rows[5] = {{0}};
    for (int i = 0; i < 5; i++) rows[i].scheme = (char *)(uintptr_t)schemes[i];
    kvs_results results = {.results = rows, .results_count = 5};
    kvs_scheme_labels labels;
    kvs_error error;
    assert_int_equal(kvs_scheme_labels_make(&results, &labels, &error), KVS_OK);
    for (int i = 0; i < 5; i++) assert_string_equal(labels.labels[i].text, texts[i]);
    assert_string_equal(labels.shared, "sink=32"); /* said once, and with no family */
    for (int i = 0; i < labels.families_count; i++) assert_string_equal(labels.families[i].common, "");
    kvs_scheme_labels_clear(&labels);
}

/* With a closed loop, panels of the perplexity's increase and of task accuracy, of which more is better. */
static void frontier_shows_the_closed_loop(void **state) {
    (void)state;
    kvs_results results = example_results();
    example_closed_loop(&results);
    results.results[5].closed_loop.task_accuracy = NAN;
    kvs_figure figure;
    assert_int_equal(compose(kvs_plot_type_find("frontier"), &results, "", &figure, NULL), KVS_OK);
    assert_non_null(strstr(figure.gp_text, "full precision"));
    const char *line = strchr(figure.csv_text, '\n') + 1;
    int rows[2] = {0, 0};
    for (; *line != '\0'; line = strchr(line, '\n') + 1) {
        int trace, on, family;
        double memory, value, a[64], b[64];
        char scheme[96], rest[128];
        assert_int_equal(sscanf(line, "%d,%d,%d,%lf,%lf,\"%95[^\"]\",%127[^\n]", &trace, &on, &family, &memory, &value,
                                scheme, rest),
                         7);
        int tasks = strstr(rest, ",task_accuracy") != NULL, count = 0, own = -1;
        assert_true(tasks || strstr(rest, ",perplexity_increase") != NULL);
        rows[tasks]++;
        for (int i = 0; i < results.results_count; i++) {
            const kvs_result *result = &results.results[i];
            if (result->trace != trace) continue;
            if (strcmp(result->scheme, scheme) == 0) own = count;
            a[count] = result->effective_bits;
            b[count++] = tasks ? -result->closed_loop.task_accuracy : 100 * result->closed_loop.perplexity_ratio - 100;
        }
        assert_true(own >= 0);
        assert_true(fabs((tasks ? -b[own] : b[own]) - value) <= 1e-8 * fabs(value) + 1e-12);
        assert_int_equal(on, !beaten(a, b, count, own));
    }
    assert_int_equal(rows[0], results.results_count);
    assert_int_equal(rows[1], results.results_count - 1);
    kvs_figure_clear(&figure);
    assert_int_equal(compose(kvs_plot_type_find("frontier"), &results, "error=perplexity", &figure, NULL), KVS_OK);
    assert_null(strstr(figure.csv_text, "task_accuracy"));
    kvs_figure_clear(&figure);
    kvs_error error;
    assert_int_equal(
        compose(kvs_plot_type_find("frontier"), &results, "error=perplexity,statistic=p99", &figure, &error),
        KVS_USAGE);
    kvs_results_clear(&results);
}

/* The rank of x[i], ties in the middle, by counting. */
static double rank_of(const double *x, int count, int i) {
    double rank = 0.5;
    for (int k = 0; k < count; k++) rank += x[k] < x[i] ? 1 : x[k] == x[i] ? 0.5 : 0;
    return rank;
}

static void proxy_csv_has_points_and_their_correlation(void **state) {
    (void)state;
    kvs_results results = example_results();
    kvs_figure figure;
    kvs_error error = {0};
    const kvs_plot_type *proxy = kvs_plot_type_find("proxy");
    assert_false(proxy->applies(&results));
    assert_int_equal(compose(proxy, &results, "", &figure, &error), KVS_INPUT);
    assert_string_equal(error.object, "closed_loop.loss_difference");
    example_closed_loop(&results);
    assert_true(proxy->applies(&results));
    assert_int_equal(compose(proxy, &results, "error=top1_agreement", &figure, &error), KVS_OK);
    const char *line = strchr(figure.csv_text, '\n') + 1;
    double x[EXAMPLE_SCHEMES], y[EXAMPLE_SCHEMES], stated = NAN;
    for (int t = 0; t < EXAMPLE_TRACES; t++) {
        double xy = 0, xx = 0, yy = 0, middle = (EXAMPLE_SCHEMES + 1) / 2.0;
        for (int i = 0; i < EXAMPLE_SCHEMES; i++, line = strchr(line, '\n') + 1) {
            int trace, family;
            assert_int_equal(sscanf(line, "%d,%d,%lf,%lf,%lf", &trace, &family, &x[i], &y[i], &stated), 5);
            const kvs_result *result = &results.results[t * EXAMPLE_SCHEMES + i];
            assert_int_equal(trace, t);
            assert_true(fabs(x[i] - (1 - result->errors.top1_agreement)) < 1e-9);
            assert_true(fabs(y[i] - result->closed_loop.loss_difference) < 1e-9);
        }
        for (int i = 0; i < EXAMPLE_SCHEMES; i++) {
            double a = rank_of(x, EXAMPLE_SCHEMES, i) - middle, b = rank_of(y, EXAMPLE_SCHEMES, i) - middle;
            xy += a * b, xx += a * a, yy += b * b;
        }
        assert_true(fabs(stated - xy / sqrt(xx * yy)) < 1e-8);
        assert_true(stated > 0.5 && stated < 1);
        char text[64];
        snprintf(text, sizeof text, "rank correlation %.3f (Spearman, 31 schemes)", stated);
        assert_non_null(strstr(figure.gp_text, text));
    }
    assert_int_equal(*line, '\0');
    kvs_figure_clear(&figure);
    kvs_results_clear(&results);
}

static void names_leave_out_what_is_common(void **state) {
    (void)state;
    char scheme[][64] = {"fp16", "kitty:boost=0.25,rank=magnitude,sink=32", "kitty:boost=0.5,rank=magnitude,sink=32",
                         "kitty:rank=range,sink=32", "kivi:bits=2,sink=0"};
    static const char *const texts[] = {"fp16", "kitty boost=0.25 magnitude", "kitty boost=0.5 magnitude",
                                        "kitty range", "kivi bits=2 sink=0"};
    kvs_result rows[5] = {{0}};
    for (int i = 0; i < 5; i++) rows[i].scheme = scheme[i];
    kvs_results results = {.results_count = 5, .results = rows};
    kvs_scheme_labels labels;
    assert_int_equal(kvs_scheme_labels_make(&results, &labels, NULL), KVS_OK);
    for (int i = 0; i < 5; i++) assert_string_equal(labels.labels[i].text, texts[i]);
    assert_int_equal(labels.families_count, 3);
    assert_string_equal(labels.families[1].name, "kitty");
    assert_string_equal(labels.families[1].common, "sink=32");
    assert_string_equal(labels.families[2].common, "");
    kvs_scheme_labels_clear(&labels);
}

/* --- the other tables --------------------------------------------------------------------------------------------- */

static void memory_csv_adds_up(void **state) {
    (void)state;
    kvs_results results = example_results();
    kvs_figure figure;
    assert_int_equal(compose(kvs_plot_type_find("memory"), &results, "panels=24", &figure, NULL), KVS_OK);
    const char *line = strchr(figure.csv_text, '\n') + 1;
    int rows = 0;
    for (; *line != '\0'; line = strchr(line, '\n') + 1, rows++) {
        long long tokens;
        double payload, metadata, residual, padding, full;
        char scheme[96], model[32];
        assert_int_equal(sscanf(line, "%*d,%lld,%lf,%lf,%lf,%lf,%lf,\"%95[^\"]\",\"%31[^\"]\"", &tokens, &payload,
                                &metadata, &residual, &padding, &full, scheme, model),
                         8);
        assert_true(full == 16);
        int i = 0;
        while (strcmp(results.results[i].scheme, scheme) != 0) i++;
        double stored = (double)(tokens < 160 ? 0 : tokens - 160) / (double)tokens;
        double bits = results.results[i].effective_bits - 0.9; /* as plot_results.h makes them */
        double expected = bits * stored + 16 * (1 - stored) + 8 * 0.05 * stored / 8;
        assert_true(fabs(payload + metadata + residual + padding - expected) < 1e-6);
    }
    assert_true(rows >= 11 * 12);
    kvs_figure_clear(&figure);
    kvs_results_clear(&results);
}

static void channels_csv_has_every_channel(void **state) {
    (void)state;
    kvs_results results = example_results();
    kvs_figure figure;
    assert_int_equal(compose(kvs_plot_type_find("channels"), &results, "", &figure, NULL), KVS_OK);
    const char *line = strchr(figure.csv_text, '\n') + 1;
    for (int t = 0; t < results.traces_count; t++) {
        const kvs_trace_summary *trace = &results.traces[t];
        for (int i = 0; i < trace->layers * trace->kv_heads * trace->head_dim; i++) {
            int own, layer, head, row, channel;
            double v[4];
            assert_int_equal(sscanf(line, "%d,%d,%d,%d,%d,%lf,%lf,%lf,%lf", &own, &layer, &head, &row, &channel, &v[0],
                                    &v[1], &v[2], &v[3]),
                             9);
            assert_int_equal(own, t);
            assert_int_equal((layer * trace->kv_heads + head) * trace->head_dim + channel, i);
            assert_int_equal(row, layer * trace->kv_heads + head);
            const kvs_channel_statistics *c = &trace->channels;
            const float expected[] = {c->k_magnitude[i], c->v_magnitude[i], c->k_range[i], c->v_range[i]};
            for (int q = 0; q < 4; q++) assert_true(fabs(v[q] - (double)expected[q]) <= 1e-8 * v[q]);
            line = strchr(line, '\n') + 1;
        }
    }
    assert_int_equal(*line, '\0');
    kvs_figure_clear(&figure);
    kvs_results_clear(&results);
}

static void heads_csv_follows_the_measure(void **state) {
    (void)state;
    kvs_results results = example_results();
    results.results_count = 2; /* fp16, which is left out, and int at 2 bits */
    kvs_figure figure;
    assert_int_equal(compose(kvs_plot_type_find("heads"), &results, "error=attention_kl,statistic=p99", &figure, NULL),
                     KVS_OK);
    const kvs_result *result = &results.results[1];
    const char *line = strchr(figure.csv_text, '\n') + 1;
    for (int i = 0; i < result->heads_count; i++, line = strchr(line, '\n') + 1) {
        int layer, head;
        double error;
        assert_int_equal(sscanf(line, "0,%d,%d,%lf,\"int:bits=2\"", &layer, &head, &error), 3);
        assert_int_equal(layer * results.traces[0].kv_heads + head, i);
        assert_true(fabs(error - result->heads[i].errors.attention_kl.p99) <= 1e-8 * error);
    }
    assert_int_equal(*line, '\0');
    kvs_figure_clear(&figure);
    results.results_count = EXAMPLE_TRACES * EXAMPLE_SCHEMES;
    kvs_results_clear(&results);
}

/* --- what is missing ---------------------------------------------------------------------------------------------- */

static void missing_numbers_are_named(void **state) {
    (void)state;
    static const char *const objects[][2] = {
        {"frontier", "attention_output_rel_l2"}, {"heads", "layers"}, {"channels", "channels"}, {"memory", "memory"}};
    kvs_results results = example_results();
    for (int t = 0; t < results.traces_count; t++) {
        free(results.traces[t].channels.v_range);
        results.traces[t].channels.v_range = NULL;
    }
    for (int i = 0; i < results.results_count; i++) {
        results.results[i].errors.attention_output_rel_l2.mean = NAN;
        results.results[i].heads_count = results.results[i].memory_count = 0;
    }
    for (int i = 0; i < 4; i++) {
        kvs_figure figure;
        kvs_error error = {0};
        assert_int_equal(compose(kvs_plot_type_find(objects[i][0]), &results, "", &figure, &error), KVS_INPUT);
        assert_string_equal(error.object, objects[i][1]);
        assert_null(figure.csv_text);
    }
    kvs_figure figure;
    kvs_error error = {0};
    assert_int_equal(
        compose(kvs_plot_type_find("frontier"), &results, "error=key_rel_l2,statistic=p99", &figure, &error),
        KVS_USAGE);
    results.results[3].memory_count = 1;
    results.results[3].memory[0].tokens = INT64_MAX;
    assert_int_equal(compose(kvs_plot_type_find("memory"), &results, "", &figure, &error), KVS_INPUT);
    assert_non_null(strstr(error.rule, "result 3 has a length of"));
    results.results[3].trace = 7;
    assert_int_equal(compose(kvs_plot_type_find("memory"), &results, "", &figure, &error), KVS_INPUT);
    kvs_results_clear(&results);
}

static void quoting_leaves_nothing_to_gnuplot(void **state) {
    (void)state;
    static const struct {
        const char *text, *quoted;
    } cases[] = {
        {"plain", "'plain'"},
        {"it's", "'it\xe2\x80\x99s'"},
        {"a\nb\tc\x7f", "'a b c '"},
        {"\\n`touch x`\"$(x)\"@m", "'\\n`touch x`\"$(x)\"@m'"},
        {"caf\xc3\xa9 \xe2\x80\xa6", "'caf\xc3\xa9 \xe2\x80\xa6'"},
        {"\xff\xc3(\xc0\x80\xed\xa0\x80\xf5\x80\x80\x80\xc2\x85", "'  (             '"},
        {"", "''"},
        {NULL, "''"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *text = NULL;
        size_t bytes;
        FILE *file = open_memstream(&text, &bytes);
        kvs_style_quote(file, cases[i].text);
        fclose(file);
        if (i != 5) assert_string_equal(text, cases[i].quoted);
        for (const char *c = text; *c; c++) assert_true((unsigned char)*c >= 0x20);
        free(text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pareto_equals_brute_force),
        cmocka_unit_test(labels_keep_apart),
        cmocka_unit_test(frontier_csv_says_what_results_say),
        cmocka_unit_test(frontier_names_all_points_in_a_range),
        cmocka_unit_test(a_column_of_many_shares_a_label),
        cmocka_unit_test(labels_leave_out_what_all_agree_on),
        cmocka_unit_test(frontier_shows_the_closed_loop),
        cmocka_unit_test(proxy_csv_has_points_and_their_correlation),
        cmocka_unit_test(names_leave_out_what_is_common),
        cmocka_unit_test(memory_csv_adds_up),
        cmocka_unit_test(channels_csv_has_every_channel),
        cmocka_unit_test(heads_csv_follows_the_measure),
        cmocka_unit_test(missing_numbers_are_named),
        cmocka_unit_test(quoting_leaves_nothing_to_gnuplot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
