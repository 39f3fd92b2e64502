/* frontier.c: memory against error, one panel a trace: what saves memory at which cost, and what nothing else beats. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plots/labels.h"
#include "plots/measure.h"
#include "plots/pareto.h"
#include "plots/placement.h"
#include "plots/style.h"

typedef struct frontier_config {
    int memory, measure, statistic;
} frontier_config;

static const char *const memories[] = {"bits", "bytes_per_token", NULL};

static const kvs_param params[] = {
    {"memory", KVS_PARAM_CHOICE, offsetof(frontier_config, memory), "bits", 0, 0, "",
     "effective bits per element, or bytes per token over all layers and heads", memories},
    KVS_MEASURE_PARAMS(frontier_config),
    {.name = NULL},
};

enum {
    WIDTH = 800,
    PANEL = 330,
    ABOVE = 64,
    BELOW = 56,
    LINE = 15,
    LEFT = 74,
    RIGHT = 782,
    MOST_LABELS = KVS_MOST_PLACED
};

typedef struct frontier_axes {
    double low_x, high_x, low_y, high_y;
    double lowest_tic;
    double zero_y; /* where an error of 0 is drawn on the logarithmic axis; 0 if there is none */
} frontier_axes;

typedef struct frontier_page {
    const kvs_results *results;
    const frontier_config *config;
    kvs_figure *figure;
    kvs_scheme_labels labels;
    double *memory, *error; /* [results_count]; NaN: not drawn */
    int *of_trace, *order;  /* scratch */
    double *trace_memory, *trace_error;
    int rows; /* of the .csv, so far */
    frontier_axes axes;
} frontier_page;

/* --- what is drawn ------------------------------------------------------------------------------------------------ */

static void measure_all(frontier_page *page) {
    for (int i = 0; i < page->results->results_count; i++) {
        const kvs_result *result = &page->results->results[i];
        double memory = page->config->memory == 0 ? result->effective_bits : result->bytes_per_token;
        double error = kvs_measure(&result->errors, page->config->measure, page->config->statistic);
        int drawn = isfinite(memory) && memory > 0 && isfinite(error);
        page->memory[i] = drawn ? memory : NAN;
        page->error[i] = !drawn ? NAN : error > 0 ? error : 0;
    }
}

/* The range of memory of one trace, or of all (trace -1). Returns how many points there are. */
static int find_memory_axis(const frontier_page *page, int trace, frontier_axes *axes) {
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

/* The range of errors of all traces, so that they can be compared. */
static void find_error_axis(const frontier_page *page, frontier_axes *axes) {
    double low = INFINITY, high = 0;
    int zeros = 0;
    for (int i = 0; i < page->results->results_count; i++) {
        if (isnan(page->error[i])) continue;
        zeros += page->error[i] == 0;
        if (page->error[i] == 0) continue;
        low = fmin(low, page->error[i]);
        high = fmax(high, page->error[i]);
    }
    if (high == 0) low = high = 1e-3; /* only zeros: any decade will do */
    double decades = fmax(log10(high / low), 0.6);
    axes->high_y = high * pow(10, decades * 0.08);
    axes->low_y = axes->lowest_tic = low / pow(10, decades * 0.10);
    axes->zero_y = 0;
    if (zeros > 0) {
        axes->zero_y = axes->low_y / pow(10, decades * 0.08);
        axes->low_y = axes->zero_y / pow(10, decades * 0.06);
    }
}

/* --- the page ----------------------------------------------------------------------------------------------------- */

typedef struct legend_entry {
    char text[256];
    double x, y;
} legend_entry;

/* The families side by side from y on; a new line where they do not fit. Returns the y below them. */
static double place_legend(const kvs_scheme_labels *labels, double y, legend_entry *entries) {
    const double left = 24;
    double x = left;
    for (int i = 0; i < labels->families_count; i++) {
        const kvs_scheme_family *family = &labels->families[i];
        legend_entry *entry = &entries[i];
        snprintf(entry->text, sizeof entry->text - 4, family->common[0] ? "%s (%s)" : "%s", family->name,
                 family->common);
        kvs_style_fit(entry->text, KVS_FONT_SMALL, WIDTH - 60);
        double width = kvs_style_text_width(entry->text, KVS_FONT_SMALL) + 30;
        if (x > left && x + width > WIDTH) {
            x = left;
            y += LINE + 2;
        }
        entry->x = x;
        entry->y = y;
        x += width;
    }
    return y + LINE;
}

static void write_axes(const frontier_page *page) {
    FILE *gp = page->figure->gp;
    const frontier_axes *axes = &page->axes;
    kvs_style_log_axis(page->figure, "x", axes->low_x, axes->high_x, axes->low_x);
    if (page->config->memory == 0) fputs("set xtics (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)\n", gp);
    kvs_style_log_axis(page->figure, "y", axes->low_y, axes->high_y, axes->lowest_tic);
    if (axes->zero_y > 0) fprintf(gp, "set ytics add ('0' %.9g)\n", axes->zero_y);
    fprintf(gp, "shown(error) = error > 0 ? error : %.9g\n", axes->zero_y);
}

static double x_pixel(const frontier_axes *axes, kvs_box box, double memory) {
    return box.left + (box.right - box.left) * log(memory / axes->low_x) / log(axes->high_x / axes->low_x);
}

static double y_pixel(const frontier_axes *axes, kvs_box box, double error) {
    double y = error > 0 ? error : axes->zero_y;
    return box.bottom - (box.bottom - box.top) * log(y / axes->low_y) / log(axes->high_y / axes->low_y);
}

/* --- a panel: the points of one trace, in `order`, the first `on` of them on the frontier ------------------------- */

static int equal_points(const frontier_page *page, int i, int k) {
    return page->memory[i] == page->memory[k] && page->error[i] == page->error[k];
}

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
        fputc('\n', csv);
    }
}

static void write_points(frontier_page *page, int drawn, int on) {
    FILE *gp = page->figure->gp;
    const char *name = page->figure->name;
    int first = page->rows;
    fprintf(gp, "plot '%s.csv' skip 1 every ::%d::%d using 4:(shown($5)) with steps lw 1.4 lc rgb '#999999'", name,
            first, first + on - 1);
    if (drawn > on)
        fprintf(gp,
                ", \\\n     '%s.csv' skip 1 every ::%d::%d using 4:(shown($5)):(open_shape[$3+1]):(tint[$3+1]) "
                "with points pt variable ps 0.75 lw 1.2 lc rgb variable",
                name, first + on, first + drawn - 1);
    fprintf(gp,
            ", \\\n     '%s.csv' skip 1 every ::%d::%d using 4:(shown($5)):(shape[$3+1]):(color[$3+1]) "
            "with points pt variable ps 1.1 lc rgb variable\n",
            name, first, first + on - 1);
}

/* The points of the panel in pixels, and after them the frontier's line, which has a corner between two points. */
static kvs_obstacles find_obstacles(const frontier_page *page, kvs_box box, int drawn, int on, double *pixels) {
    double *line = pixels + 2 * drawn;
    for (int k = 0; k < drawn; k++) {
        pixels[2 * k] = x_pixel(&page->axes, box, page->memory[page->order[k]]);
        pixels[2 * k + 1] = y_pixel(&page->axes, box, page->error[page->order[k]]);
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

/* The labels of the frontier, of at most MOST_LABELS of its points; equal points share one, of what their names have in
 * common. */
static kvs_status write_labels(frontier_page *page, kvs_box box, int drawn, int on, kvs_error *error) {
    kvs_placed placed[MOST_LABELS];
    char texts[MOST_LABELS][160];
    int families[MOST_LABELS], count = 0, stride = (on + MOST_LABELS - 1) / MOST_LABELS;
    double *pixels = malloc(sizeof *pixels * 2 * (size_t)(drawn + 2 * on));
    if (pixels == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    kvs_obstacles obstacles = find_obstacles(page, box, drawn, on, pixels);
    for (int k = 0, equals; k<on; k += stride> equals + 1 ? stride : equals + 1) {
        const int *at = &page->order[k];
        const kvs_scheme_label *label = &page->labels.labels[*at];
        char text[sizeof label->text];
        memcpy(text, label->text, sizeof text);
        for (equals = 0; k + equals + 1 < on && equal_points(page, at[0], at[equals + 1]);)
            kvs_scheme_label_common(text, page->labels.labels[at[++equals]].text);
        snprintf(texts[count], sizeof *texts - 4, equals ? "%s (%d alike)" : "%s", text, equals + 1);
        kvs_style_fit(texts[count], KVS_FONT_SMALL, 300);
        families[count] = label->family;
        placed[count] = (kvs_placed){
            .x = pixels[2 * k], .y = pixels[2 * k + 1], .width = kvs_style_text_width(texts[count], KVS_FONT_SMALL)};
        count++;
    }
    kvs_place_labels(box, LINE, &obstacles, placed, count);
    free(pixels);
    for (int i = 0; i < count; i++) {
        const kvs_placed *label = &placed[i];
        double middle = (label->box.top + label->box.bottom) / 2;
        char color[16];
        snprintf(color, sizeof color, "#%06x", (unsigned)kvs_style_shade(families[i]));
        kvs_style_label(page->figure, label->box.left, middle, KVS_LEFT, KVS_FONT_SMALL, color, texts[i]);
        if (label->needs_leader)
            kvs_style_line(page->figure, label->x, label->y, label->leader_x, label->leader_y,
                           "lw 0.7 lc rgb '#aaaaaa'");
    }
    return KVS_OK;
}

static void write_panel_texts(frontier_page *page, int trace, kvs_box box, int drawn, int on, int missing) {
    const kvs_trace_summary *summary = &page->results->traces[trace];
    char model[200], text[400], conditions[160], counts[96];
    int length = snprintf(conditions, sizeof conditions, "; memory at %lld tokens", (long long)summary->at_tokens);
    if (page->results->from_position > 0)
        snprintf(conditions + length, sizeof conditions - (size_t)length, ", error from position %lld on",
                 (long long)page->results->from_position);
    kvs_trace_label(summary, model, sizeof model - 4);
    kvs_style_fit(model, KVS_FONT_TEXT, WIDTH - 32 - kvs_style_text_width(conditions, KVS_FONT_TEXT));
    snprintf(text, sizeof text, "%s%s", model, conditions);
    kvs_style_label(page->figure, 16, box.top - 16, KVS_LEFT, KVS_FONT_TEXT, KVS_INK, text);
    length = snprintf(counts, sizeof counts, "%d of %d on the frontier", on, drawn);
    if (missing > 0) snprintf(counts + length, sizeof counts - (size_t)length, ", %d without this error", missing);
    kvs_style_label(page->figure, box.right, box.top + 8, KVS_RIGHT, KVS_FONT_SMALL, KVS_FAINT, counts);
    char measure[96];
    kvs_measure_text(page->config->measure, page->config->statistic, measure, sizeof measure);
    kvs_style_upright(page->figure, 16, (box.top + box.bottom) / 2, KVS_FONT_SMALL, KVS_INK, measure);
    kvs_style_label(page->figure, (box.left + box.right) / 2, box.bottom + 36, KVS_CENTER, KVS_FONT_SMALL, KVS_INK,
                    page->config->memory == 0 ? "effective bits per element (payload, metadata, residual, padding)"
                                              : "bytes per token, all layers and KV heads");
    if (page->axes.zero_y > 0) {
        double y = y_pixel(&page->axes, box, sqrt(page->axes.zero_y * page->axes.lowest_tic));
        kvs_style_line(page->figure, box.left, y, box.right, y, "dt 3 lw 0.8 lc rgb '#bbbbbb'");
    }
}

/* Draws the panel of one trace into the box, if anything of it can be drawn; *used says whether. */
static kvs_status draw_panel(frontier_page *page, int trace, kvs_box box, kvs_error *error) {
    int count = 0, missing = 0;
    for (int i = 0; i < page->results->results_count; i++) {
        if (page->results->results[i].trace != trace) continue;
        if (isnan(page->memory[i])) {
            missing++;
            continue;
        }
        page->of_trace[count] = i;
        page->trace_memory[count] = page->memory[i];
        page->trace_error[count++] = page->error[i];
    }
    int on = kvs_pareto(page->trace_memory, page->trace_error, count, page->order);
    if (on < 0) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (int k = 0; k < count; k++) page->order[k] = page->of_trace[page->order[k]];
    kvs_style_panel(page->figure, box);
    if (page->config->memory == 1) find_memory_axis(page, trace, &page->axes); /* bytes are the model's, bits are not */
    write_axes(page);
    write_panel_texts(page, trace, box, count, on, missing);
    KVS_TRY(write_labels(page, box, count, on, error));
    write_rows(page, trace, count, on);
    write_points(page, count, on);
    kvs_style_next_panel(page->figure);
    page->rows += count;
    return KVS_OK;
}

static void write_marks(frontier_page *page) {
    static const struct {
        const char *name;
        int (*of)(int index);
    } marks[] = {{"color", kvs_style_color},
                 {"tint", kvs_style_tint},
                 {"shape", kvs_style_filled_shape},
                 {"open_shape", kvs_style_open_shape}};
    for (int m = 0; m < 4; m++) {
        fprintf(page->figure->gp, "array %s[%d] = [", marks[m].name, page->labels.families_count);
        for (int i = 0; i < page->labels.families_count; i++)
            fprintf(page->figure->gp, "%s%d", i ? ", " : "", marks[m].of(i));
        fputs("]\n", page->figure->gp);
    }
}

static int has_points(const frontier_page *page, int trace) {
    for (int i = 0; i < page->results->results_count; i++)
        if (page->results->results[i].trace == trace && !isnan(page->memory[i])) return 1;
    return 0;
}

static kvs_status draw_page(frontier_page *page, kvs_error *error) {
    const kvs_results *results = page->results;
    legend_entry *legend = calloc((size_t)page->labels.families_count, sizeof *legend);
    if (legend == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    double top = place_legend(&page->labels, ABOVE, legend);
    int panels = 0;
    for (int trace = 0; trace < results->traces_count; trace++) panels += has_points(page, trace);
    int each = PANEL + BELOW + 26;
    char title[160];
    snprintf(title, sizeof title, "Memory of the KV cache against attention error");
    kvs_style_begin(
        page->figure, WIDTH, (int)top + panels * each, title,
        "Filled and joined: the Pareto frontier, where no other scheme has both less memory and less error.");
    for (int i = 0; i < page->labels.families_count; i++)
        kvs_style_legend_point(page->figure, legend[i].x, legend[i].y, kvs_style_filled_shape(i), kvs_style_color(i),
                               legend[i].text);
    free(legend);
    write_marks(page);
    fputs("trace,frontier,family,memory,error,scheme,layout,model\n", page->figure->csv);
    for (int trace = 0, panel = 0; trace < results->traces_count; trace++) {
        if (!has_points(page, trace)) continue;
        double y = top + each * panel++ + 26;
        KVS_TRY(draw_panel(page, trace, (kvs_box){LEFT, y, RIGHT, y + PANEL}, error));
    }
    kvs_style_end(page->figure);
    return KVS_OK;
}

static kvs_status compose(const kvs_results *results, const void *config_of, kvs_figure *figure, kvs_error *error) {
    frontier_page page = {.results = results, .config = config_of, .figure = figure};
    KVS_TRY(kvs_measure_check("plot frontier", page.config->measure, page.config->statistic, error));
    KVS_TRY(kvs_scheme_labels_make(results, &page.labels, error));
    size_t count = (size_t)results->results_count;
    double *numbers = malloc(sizeof *numbers * 4 * count);
    int *indices = malloc(sizeof *indices * 2 * count);
    kvs_status status = KVS_OK;
    if (numbers == NULL || indices == NULL) {
        status = kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    } else {
        page.memory = numbers;
        page.error = numbers + count;
        page.trace_memory = numbers + 2 * count;
        page.trace_error = numbers + 3 * count;
        page.of_trace = indices;
        page.order = indices + count;
        measure_all(&page);
        find_error_axis(&page, &page.axes);
        if (find_memory_axis(&page, -1, &page.axes) == 0)
            status =
                kvs_fail(error, KVS_INPUT, "results", kvs_measure_names[page.config->measure],
                         "no result has both this error and a memory account; an error needs queries in the trace");
        else
            status = draw_page(&page, error);
    }
    free(numbers);
    free(indices);
    kvs_scheme_labels_clear(&page.labels);
    return status;
}

const kvs_plot_type kvs_plot_frontier = {
    .name = "frontier",
    .summary = "memory against attention error, the Pareto frontier marked and labelled",
    .params = params,
    .config_bytes = sizeof(frontier_config),
    .compose = compose,
};
