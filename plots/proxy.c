/* proxy.c: open-loop attention error against closed-loop loss, one panel a trace: does the cheap number rank schemes as
 * the model's loss does? */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/correlation.h"
#include "plots/families.h"
#include "plots/measure.h"
#include "plots/placement.h"
#include "plots/zero_axis.h"

typedef struct proxy_config {
    int measure, statistic;
} proxy_config;

static const kvs_param params[] = {
    KVS_MEASURE_PARAMS(proxy_config),
    {.name = NULL},
};

enum { WIDTH = 800, PANEL = 400, ABOVE = 64, BELOW = 56, LEFT = 86, RIGHT = 782, MOST_LABELS = 8, LINE = 15 };

typedef struct proxy_page {
    const kvs_results *results;
    const proxy_config *config;
    kvs_figure *figure;
    kvs_scheme_labels labels;
    double *error, *loss; /* [results_count]; both NaN where one is not available */
    int rows;             /* of the .csv, so far */
    kvs_zero_axis x, y;
} proxy_page;

static int take_numbers(proxy_page *page) {
    int count = page->results->results_count, found = 0;
    for (int i = 0; i < count; i++) {
        const kvs_result *result = &page->results->results[i];
        double error = kvs_measure(&result->errors, page->config->measure, page->config->statistic);
        double loss = result->closed_loop.loss_difference;
        int drawn = isfinite(error) && isfinite(loss);
        page->error[i] = drawn ? error : NAN;
        page->loss[i] = drawn ? loss : NAN;
        found += drawn;
    }
    page->x = kvs_zero_axis_find(page->error, count, 0);
    page->y = kvs_zero_axis_find(page->loss, count, 1e-4 /* below is rounding */);
    return found;
}

/* The results of a trace that are drawn, at most KVS_CORRELATION_MOST of them; returns how many. */
static int of_trace(const proxy_page *page, int trace, int *indices) {
    int count = 0;
    for (int i = 0; i < page->results->results_count && count < KVS_CORRELATION_MOST; i++)
        if (page->results->results[i].trace == trace && !isnan(page->error[i])) indices[count++] = i;
    return count;
}

/* NaN with fewer than 3 points. */
static double correlate(const proxy_page *page, const int *indices, int count) {
    double x[KVS_CORRELATION_MOST], y[KVS_CORRELATION_MOST];
    for (int i = 0; i < count; i++) {
        x[i] = page->error[indices[i]];
        y[i] = page->loss[indices[i]];
    }
    return count < 3 ? NAN : kvs_spearman(x, y, count);
}

/* How many places a point is apart in the two rankings; equal values share the middle place. */
static double misplaced(const proxy_page *page, const int *indices, int count, int i) {
    double apart = 0;
    for (int k = 0; k < count; k++) {
        double error = page->error[indices[k]] - page->error[indices[i]];
        double loss = page->loss[indices[k]] - page->loss[indices[i]];
        apart += 0.5 * (((error < 0) - (error > 0)) - ((loss < 0) - (loss > 0)));
    }
    return fabs(apart);
}

/* --- a panel ------------------------------------------------------------------------------------------------------ */

static void pixel(const proxy_page *page, kvs_box box, int result, double *x, double *y) {
    *x = box.left + (box.right - box.left) * kvs_zero_axis_part(&page->x, page->error[result]);
    *y = box.bottom - (box.bottom - box.top) * kvs_zero_axis_part(&page->y, page->loss[result]);
}

/* The points that the two rank the farthest apart, at most MOST_LABELS; of equal ones the first. */
static int choose_labels(const proxy_page *page, const int *indices, int count, int *chosen) {
    int found = 0;
    double last = INFINITY;
    for (int taken = -1; found < MOST_LABELS; last = misplaced(page, indices, count, taken)) {
        int best = -1;
        double most = 0;
        for (int i = 0; i < count; i++) {
            double apart = misplaced(page, indices, count, i);
            if (apart > most && (apart < last || (apart == last && i > taken))) best = i, most = apart;
        }
        if (best < 0) break;
        chosen[found++] = taken = best;
    }
    return found;
}

static kvs_status write_labels(proxy_page *page, kvs_box box, const int *indices, int count, kvs_error *error) {
    int chosen[MOST_LABELS], labels = choose_labels(page, indices, count, chosen);
    double *points = malloc(sizeof *points * 2 * (size_t)count);
    if (points == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (int i = 0; i < count; i++) pixel(page, box, indices[i], &points[2 * i], &points[2 * i + 1]);
    kvs_placed placed[MOST_LABELS];
    char texts[MOST_LABELS][160];
    for (int i = 0; i < labels; i++) {
        snprintf(texts[i], sizeof *texts - 4, "%s", page->labels.labels[indices[chosen[i]]].text);
        kvs_style_fit(texts[i], KVS_FONT_SMALL, 300);
        placed[i] = (kvs_placed){.x = points[2 * chosen[i]],
                                 .y = points[2 * chosen[i] + 1],
                                 .width = kvs_style_text_width(texts[i], KVS_FONT_SMALL)};
    }
    kvs_obstacles obstacles = {.points = points, .points_count = count};
    kvs_place_labels(box, LINE, &obstacles, placed, labels);
    free(points);
    for (int i = 0; i < labels; i++)
        kvs_placed_write(page->figure, &placed[i], page->labels.labels[indices[chosen[i]]].family, texts[i]);
    return KVS_OK;
}

static void write_rows(proxy_page *page, int trace, const int *indices, int count, double correlation) {
    FILE *csv = page->figure->csv;
    for (int i = 0; i < count; i++) {
        fprintf(csv, "%d,%d,", trace, page->labels.labels[indices[i]].family);
        kvs_style_csv_number(csv, page->error[indices[i]]);
        fputc(',', csv);
        kvs_style_csv_number(csv, page->loss[indices[i]]);
        fputc(',', csv);
        kvs_style_csv_number(csv, correlation);
        fputc(',', csv);
        kvs_style_csv_text(csv, page->results->results[indices[i]].scheme);
        fputc(',', csv);
        kvs_style_csv_text(csv, page->results->traces[trace].model_name);
        fputc('\n', csv);
    }
}

static void write_texts(proxy_page *page, int trace, kvs_box box, int count, double correlation) {
    const kvs_trace_summary *summary = &page->results->traces[trace];
    char text[400], model[200], measure[96], judged[128];
    kvs_trace_label(summary, model, sizeof model - 4);
    snprintf(text, sizeof text - 4, "%s; %.0f windows of %.0f tokens", model, summary->windows, summary->window_tokens);
    kvs_style_fit(text, KVS_FONT_TEXT, WIDTH - 32);
    kvs_style_label(page->figure, 16, box.top - 16, KVS_LEFT, KVS_FONT_TEXT, KVS_INK, text);
    if (isnan(correlation))
        snprintf(judged, sizeof judged, "%d schemes: too few, or too alike, to rank", count);
    else
        snprintf(judged, sizeof judged, "rank correlation %.3f (Spearman, %d schemes)", correlation, count);
    kvs_style_label(page->figure, box.left + 12, box.top + 14, KVS_LEFT, KVS_FONT_TEXT, KVS_INK, judged);
    kvs_measure_text(page->config->measure, page->config->statistic, measure, sizeof measure);
    snprintf(text, sizeof text, "open loop: %s", measure);
    kvs_style_label(page->figure, (box.left + box.right) / 2, box.bottom + 36, KVS_CENTER, KVS_FONT_SMALL, KVS_INK,
                    text);
    kvs_style_upright(page->figure, 16, (box.top + box.bottom) / 2, KVS_FONT_SMALL, KVS_INK,
                      "closed loop: loss above full precision's (nats per token)");
}

static kvs_status draw_panel(proxy_page *page, int trace, const int *indices, int count, kvs_box box,
                             kvs_error *error) {
    double correlation = correlate(page, indices, count);
    kvs_style_panel(page->figure, box);
    kvs_zero_axis_write(&page->x, "x", page->figure);
    kvs_zero_axis_write(&page->y, "y", page->figure);
    write_texts(page, trace, box, count, correlation);
    KVS_TRY(write_labels(page, box, indices, count, error));
    write_rows(page, trace, indices, count, correlation);
    fprintf(page->figure->gp,
            "plot '%s.csv' skip 1 every ::%d::%d using (shown_x($3)):(shown_y($4)):(shape[$2+1]):(color[$2+1]) "
            "with points pt variable ps 1.0 lc rgb variable\n",
            page->figure->name, page->rows, page->rows + count - 1);
    kvs_style_next_panel(page->figure);
    page->rows += count;
    return KVS_OK;
}

/* --- the page ----------------------------------------------------------------------------------------------------- */

static kvs_status draw_page(proxy_page *page, int *indices, kvs_error *error) {
    const kvs_results *results = page->results;
    double top = kvs_family_legend_bottom(&page->labels, WIDTH, ABOVE);
    int panels = 0, each = PANEL + BELOW + 26;
    for (int trace = 0; trace < results->traces_count; trace++) panels += of_trace(page, trace, indices) > 0;
    kvs_style_begin(
        page->figure, WIDTH, (int)top + panels * each, "The open loop judged by the closed loop",
        "A point is a scheme: its error in a replay, its cost to the running model. Named: ranked farthest apart.");
    kvs_family_legend_write(page->figure, &page->labels, ABOVE);
    fputs("trace,family,error,loss_difference,rank_correlation,scheme,model\n", page->figure->csv);
    for (int trace = 0, panel = 0; trace < results->traces_count; trace++) {
        int count = of_trace(page, trace, indices);
        if (count == 0) continue;
        double y = top + each * panel++ + 26;
        KVS_TRY(draw_panel(page, trace, indices, count, (kvs_box){LEFT, y, RIGHT, y + PANEL}, error));
    }
    kvs_style_end(page->figure);
    return KVS_OK;
}

static kvs_status compose(const kvs_results *results, const void *config_of, kvs_figure *figure, kvs_error *error) {
    proxy_page page = {.results = results, .config = config_of, .figure = figure};
    KVS_TRY(kvs_measure_check("plot proxy", page.config->measure, page.config->statistic, error));
    KVS_TRY(kvs_scheme_labels_make(results, &page.labels, error));
    size_t count = (size_t)results->results_count;
    int *indices = malloc(sizeof *indices * count);
    page.error = malloc(sizeof *page.error * 2 * count);
    page.loss = page.error != NULL ? page.error + count : NULL;
    kvs_status status;
    if (indices == NULL || page.error == NULL)
        status = kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    else if (take_numbers(&page) == 0)
        status = kvs_fail(error, KVS_INPUT, "results", "closed_loop.loss_difference",
                          "no result has both an open-loop error and a closed loop's loss: kvscope eval --trace has");
    else
        status = draw_page(&page, indices, error);
    free(indices);
    free(page.error);
    kvs_scheme_labels_clear(&page.labels);
    return status;
}

static int applies(const kvs_results *results) {
    int both = 0;
    for (int i = 0; i < results->results_count; i++)
        both += isfinite(results->results[i].closed_loop.loss_difference) &&
                isfinite(results->results[i].errors.attention_output_rel_l2.mean);
    return both > 0;
}

const kvs_plot_type kvs_plot_proxy = {
    .name = "proxy",
    .summary = "open-loop attention error against closed-loop loss, with their rank correlation",
    .params = params,
    .config_bytes = sizeof(proxy_config),
    .compose = compose,
    .applies = applies,
};
