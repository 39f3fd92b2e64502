/* frontier_panel.c: one panel of the frontier plot: the points of one trace under one measure. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plots/frontier.h"
#include "plots/pareto.h"

/* --- axes --------------------------------------------------------------------------------------------------------- */

/* The range of memory of one trace, or of all (trace -1). Returns how many points there are. */
int kvs_frontier_memory_axis(const frontier_page *page, int trace, frontier_axes *axes) {
    double low = INFINITY, high = 0;
    int drawn = 0;
    for (int i = 0; i < page->results->results_count; i++) {
        if (isnan(page->memory[i]) || (trace >= 0 && page->results->results[i].trace != trace)) continue;
        drawn++;
        low = fmin(low, page->memory[i]);
        high = fmax(high, page->memory[i]);
    }
    double octaves = fmax(log2(high / low), 0.5);
    axes->low_x = low / exp2(octaves * 0.28); /* room for the labels of the leftmost points */
    axes->high_x = high * exp2(octaves * 0.06);
    return drawn;
}

static void write_axes(const frontier_page *page) {
    FILE *gp = page->figure->gp;
    const frontier_axes *axes = &page->axes;
    kvs_style_log_axis(page->figure, "x", axes->low_x, axes->high_x, axes->low_x);
    if (page->config->memory == 0) fputs("set xtics (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)\n", gp);
    if (kvs_measure_is_linear(page->measure))
        fprintf(gp, "set yrange [%.9g:%.9g]\nshown_y(value) = value\n", axes->low_y, axes->high_y);
    else
        kvs_zero_axis_write(&axes->y, "y", page->figure);
}

static double x_pixel(const frontier_axes *axes, kvs_box box, double memory) {
    return box.left + (box.right - box.left) * log(memory / axes->low_x) / log(axes->high_x / axes->low_x);
}

static double y_pixel(const frontier_page *page, kvs_box box, double error) {
    const frontier_axes *axes = &page->axes;
    double part = kvs_measure_is_linear(page->measure) ? (error - axes->low_y) / (axes->high_y - axes->low_y)
                                                       : kvs_zero_axis_part(&axes->y, error);
    return box.bottom - (box.bottom - box.top) * part;
}

/* --- points and labels: of one trace, in `order`, the first `on` of them on the frontier -------------------------- */

static void write_rows(frontier_page *page, int trace, int drawn, int on) {
    FILE *csv = page->figure->csv;
    for (int k = 0; k < drawn; k++) {
        const kvs_result *result = &page->results->results[page->order[k]];
        const kvs_scheme_label *label = &page->labels.labels[page->order[k]];
        fprintf(csv, "%d,%d,%d,", trace, k < on, label->family);
        kvs_style_csv_number(csv, page->memory[page->order[k]]);
        fputc(',', csv);
        kvs_style_csv_number(csv, page->error[page->order[k]]);
        fputc(',', csv);
        kvs_style_csv_text(csv, result->scheme);
        fputc(',', csv);
        kvs_style_csv_text(csv, result->layout);
        fputc(',', csv);
        kvs_style_csv_text(csv, page->results->traces[trace].model_name);
        fprintf(csv, ",%s", kvs_result_measure_names[page->measure + 1]);
        fputc('\n', csv);
    }
}

static void write_points(frontier_page *page, int drawn, int on) {
    FILE *gp = page->figure->gp;
    const char *name = page->figure->name;
    int first = page->rows;
    fprintf(gp, "plot '%s.csv' skip 1 every ::%d::%d using 4:(shown_y($5)) with steps lw 1.4 lc rgb '#999999'", name,
            first, first + on - 1);
    if (drawn > on)
        fprintf(gp,
                ", \\\n     '%s.csv' skip 1 every ::%d::%d using 4:(shown_y($5)):(open_shape[$3+1]):(tint[$3+1]) "
                "with points pt variable ps 0.75 lw 1.2 lc rgb variable",
                name, first + on, first + drawn - 1);
    fprintf(gp,
            ", \\\n     '%s.csv' skip 1 every ::%d::%d using 4:(shown_y($5)):(shape[$3+1]):(color[$3+1]) "
            "with points pt variable ps 1.1 lc rgb variable\n",
            name, first, first + on - 1);
}

/* The points of the panel in pixels, and after them the frontier's line, which has a corner between two points. */
static kvs_obstacles find_obstacles(const frontier_page *page, kvs_box box, int drawn, int on, double *pixels) {
    double *line = pixels + 2 * drawn;
    for (int k = 0; k < drawn; k++) {
        pixels[2 * k] = x_pixel(&page->axes, box, page->memory[page->order[k]]);
        pixels[2 * k + 1] = y_pixel(page, box, page->error[page->order[k]]);
    }
    int corners = 0;
    for (int k = 0; k < on; k++) {
        if (k > 0) {
            line[2 * corners] = pixels[2 * k];
            line[2 * corners++ + 1] = pixels[2 * k - 1];
        }
        line[2 * corners] = pixels[2 * k];
        line[2 * corners++ + 1] = pixels[2 * k + 1];
    }
    return (kvs_obstacles){.points = pixels, .line = line, .points_count = drawn, .line_count = corners};
}

static kvs_status write_labels(frontier_page *page, kvs_box box, int drawn, int on, kvs_error *error) {
    kvs_placed placed[FRONTIER_MOST_NAMES];
    frontier_name names[FRONTIER_MOST_NAMES];
    double *pixels = malloc(sizeof *pixels * 2 * (size_t)(drawn + 2 * on));
    if (pixels == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    kvs_obstacles obstacles = find_obstacles(page, box, drawn, on, pixels);
    int count = kvs_frontier_names(page, drawn, on, names);
    for (int i = 0; i < count; i++)
        placed[i] = (kvs_placed){.x = pixels[2 * names[i].point],
                                 .y = pixels[2 * names[i].point + 1],
                                 .width = kvs_style_text_width(names[i].text, KVS_FONT_SMALL)};
    kvs_place_labels(box, FRONTIER_LINE, &obstacles, placed, count);
    free(pixels);
    for (int i = 0; i < count; i++) kvs_placed_write(page->figure, &placed[i], names[i].family, names[i].text);
    return KVS_OK;
}

/* A line between 0 and what a logarithmic axis shows; a line where full precision is on a linear one. */
static void draw_marks(frontier_page *page, int trace, kvs_box box) {
    if (!kvs_measure_is_linear(page->measure)) {
        if (page->axes.y.zero == 0) return;
        double y = y_pixel(page, box, sqrt(page->axes.y.zero * page->axes.y.lowest_tic));
        kvs_style_line(page->figure, box.left, y, box.right, y, "dt 3 lw 0.8 lc rgb '#bbbbbb'");
        return;
    }
    for (int i = 0; i < page->results->results_count; i++) {
        const kvs_result *result = &page->results->results[i];
        double full = kvs_result_measure_full(result, page->measure);
        if (result->trace != trace || !isfinite(full)) continue;
        double y = y_pixel(page, box, full);
        kvs_style_line(page->figure, box.left, y, box.right, y, "dt 3 lw 0.8 lc rgb '#888888'");
        kvs_style_label(page->figure, box.left + 6, y - 8, KVS_LEFT, KVS_FONT_SMALL, KVS_FAINT, "full precision");
        return;
    }
}

/* Under which conditions the numbers of a panel hold. */
static void describe(const frontier_page *page, int trace, char *text, size_t bytes) {
    const kvs_trace_summary *summary = &page->results->traces[trace];
    int length = snprintf(text, bytes, "; memory at %lld tokens", (long long)summary->at_tokens);
    text += length;
    bytes -= (size_t)length;
    if (page->measure == KVS_MEASURE_TASKS) {
        int64_t answers = 0;
        for (int i = 0; i < page->results->results_count && answers == 0; i++) {
            const kvs_result *result = &page->results->results[i];
            for (int k = 0; result->trace == trace && k < result->tasks_count; k++)
                answers += result->tasks[k].answer_tokens;
        }
        snprintf(text, bytes, "; %lld answer tokens of tasks", (long long)answers);
    } else if (kvs_measure_is_closed_loop(page->measure)) {
        if (summary->windows > 0)
            snprintf(text, bytes, "; %.0f windows of %.0f tokens", summary->windows, summary->window_tokens);
    } else if (page->results->from_position > 0) {
        snprintf(text, bytes, ", error from position %lld on", (long long)page->results->from_position);
    }
}

static void write_panel_texts(frontier_page *page, int trace, kvs_box box, int drawn, int on, int missing) {
    const kvs_trace_summary *summary = &page->results->traces[trace];
    char model[200], text[400], conditions[160], counts[96];
    describe(page, trace, conditions, sizeof conditions);
    kvs_trace_label(summary, model, sizeof model - 4);
    kvs_style_fit(model, KVS_FONT_TEXT, page->width - 32 - kvs_style_text_width(conditions, KVS_FONT_TEXT));
    snprintf(text, sizeof text, "%s%s", model, conditions);
    kvs_style_label(page->figure, 16, box.top - 16, KVS_LEFT, KVS_FONT_TEXT, KVS_INK, text);
    int length = snprintf(counts, sizeof counts, "%d of %d on the frontier", on, drawn);
    if (missing > 0) snprintf(counts + length, sizeof counts - (size_t)length, ", %d without this number", missing);
    double y = kvs_measure_more_is_better(page->measure) ? box.bottom - 10 : box.top + 8; /* where points are few */
    kvs_style_label(page->figure, box.right, y, KVS_RIGHT, KVS_FONT_SMALL, KVS_FAINT, counts);
    char measure[96];
    kvs_result_measure_text(page->measure, page->config->statistic, measure, sizeof measure);
    kvs_style_upright(page->figure, 16, (box.top + box.bottom) / 2, KVS_FONT_SMALL, KVS_INK, measure);
    kvs_style_label(page->figure, (box.left + box.right) / 2, box.bottom + 36, KVS_CENTER, KVS_FONT_SMALL, KVS_INK,
                    page->config->memory == 0 ? "effective bits per element (payload, metadata, residual, padding)"
                                              : "bytes per token, all layers and KV heads");
    draw_marks(page, trace, box);
}

/* Draws the panel of one trace into the box, which has points. */
kvs_status kvs_frontier_panel(frontier_page *page, int trace, kvs_box box, kvs_error *error) {
    int count = 0, missing = 0;
    for (int i = 0; i < page->results->results_count; i++) {
        if (page->results->results[i].trace != trace) continue;
        if (isnan(page->memory[i])) {
            missing++;
            continue;
        }
        page->of_trace[count] = i;
        page->trace_memory[count] = page->memory[i];
        page->trace_error[count++] = kvs_measure_more_is_better(page->measure) ? -page->error[i] : page->error[i];
    }
    int on = kvs_pareto(page->trace_memory, page->trace_error, count, page->order);
    if (on < 0) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (int k = 0; k < count; k++) page->order[k] = page->of_trace[page->order[k]];
    kvs_style_panel(page->figure, box);
    if (page->config->memory == 1)
        kvs_frontier_memory_axis(page, trace, &page->axes); /* bytes are the model's, bits are not */
    write_axes(page);
    write_panel_texts(page, trace, box, count, on, missing);
    KVS_TRY(write_labels(page, box, count, on, error));
    write_rows(page, trace, count, on);
    write_points(page, count, on);
    kvs_style_next_panel(page->figure);
    page->rows += count;
    return KVS_OK;
}
