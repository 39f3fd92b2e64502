/* frontier.c: memory against accuracy, a panel for each trace and measure: what saves memory at which cost, and what
 * nothing else beats. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plots/frontier.h"

static const char *const memories[] = {"bits", "bytes_per_token", NULL};

static const char *const label_choices[] = {"frontier", "all", NULL};

static const kvs_param params[] = {
    {"memory", KVS_PARAM_CHOICE, offsetof(frontier_config, memory), "bits", 0, 0, "",
     "effective bits per element, or bytes per token over all layers and heads", memories},
    {"error", KVS_PARAM_CHOICE, offsetof(frontier_config, measure), "auto", 0, 0, "",
     "what the memory is held against; of an agreement, what it lacks to 1. auto: the perplexity's increase and the "
     "accuracy of tasks where a closed loop found them, else the error of the attention output",
     kvs_result_measure_names},
    {"statistic", KVS_PARAM_CHOICE, offsetof(frontier_config, statistic), "mean", 0, 0, "",
     "which statistic over samples, where the measure has several", kvs_statistic_names},
    {"labels", KVS_PARAM_CHOICE, offsetof(frontier_config, labels), "frontier", 0, 0, "",
     "which points are named: those on the frontier, or all, in larger panels; more than four of one scheme with the "
     "same memory together",
     label_choices},
    {"low", KVS_PARAM_REAL, offsetof(frontier_config, low), "0", 0, 1e12, "", "leave out less memory than this", NULL},
    {"high", KVS_PARAM_REAL, offsetof(frontier_config, high), "0", 0, 1e12, "",
     "leave out more memory than this; 0: none", NULL},
    {.name = NULL},
};

enum { ABOVE = 64, BELOW = 56, LEFT = 74, RIGHT = 18 };

/* Width of the page and height of a panel: more where all points are named. */
static const int widths[] = {800, 1240}, heights[] = {330, 860};

/* --- what is drawn ------------------------------------------------------------------------------------------------ */

static double memory_of(const frontier_page *page, const kvs_result *result) {
    return page->config->memory == 0 ? result->effective_bits : result->bytes_per_token;
}

/* The numbers of one measure, and the axis that holds them for all traces, so that they can be compared. Returns how
 * many there are. */
static int take_measure(frontier_page *page, int measure) {
    int count = page->results->results_count, found = 0;
    double low = INFINITY, high = -INFINITY;
    page->measure = measure;
    for (int i = 0; i < count; i++) {
        const kvs_result *result = &page->results->results[i];
        double memory = memory_of(page, result), most = page->config->high,
               full = kvs_result_measure_full(result, measure);
        double error = kvs_result_measure(result, measure, page->config->statistic);
        int drawn =
            memory > 0 && memory >= page->config->low && memory <= (most > 0 ? most : DBL_MAX) && isfinite(error);
        page->memory[i] = drawn ? memory : NAN;
        page->error[i] = drawn ? error : NAN;
        found += drawn;
        if (!drawn) continue;
        low = fmin(low, isfinite(full) ? fmin(error, full) : error);
        high = fmax(high, isfinite(full) ? fmax(error, full) : error);
    }
    double room = fmax(high - low, 1e-3) * 0.08;
    page->axes.low_y = low - room;
    page->axes.high_y = high + room;
    page->axes.y = kvs_zero_axis_find(page->error, count, kvs_measure_least(measure));
    return found;
}

/* The measures of the page: the one that is asked for, or what the results have. */
static void choose_measures(frontier_page *page) {
    static const int closed[] = {KVS_MEASURE_INCREASE, KVS_MEASURE_TASKS};
    if (page->config->measure > 0) {
        page->measures[page->measures_count++] = page->config->measure - 1;
        return;
    }
    for (int i = 0; i < 2; i++)
        if (take_measure(page, closed[i]) > 0) page->measures[page->measures_count++] = closed[i];
    if (page->measures_count == 0) page->measures[page->measures_count++] = 0;
}

/* --- the page ----------------------------------------------------------------------------------------------------- */

static int has_points(const frontier_page *page, int trace) {
    for (int i = 0; i < page->results->results_count; i++)
        if (page->results->results[i].trace == trace && !isnan(page->memory[i])) return 1;
    return 0;
}

/* Draws the panels from y on, or counts them where y is below 0. */
static kvs_status draw_panels(frontier_page *page, double y, int *panels, kvs_error *error) {
    int height = heights[page->config->labels];
    *panels = 0;
    for (int trace = 0; trace < page->results->traces_count; trace++)
        for (int m = 0; m < page->measures_count; m++) {
            if (page->measures_count > 1 || page->measure != page->measures[m]) take_measure(page, page->measures[m]);
            if (!has_points(page, trace)) continue;
            kvs_box box = {LEFT, y + *panels * (height + BELOW + 26) + 26, page->width - RIGHT, 0};
            box.bottom = box.top + height;
            if (y >= 0) KVS_TRY(kvs_frontier_panel(page, trace, box, error));
            ++*panels;
        }
    return KVS_OK;
}

static kvs_status draw_page(frontier_page *page, kvs_error *error) {
    double top = kvs_family_legend_bottom(&page->labels, page->width, ABOVE);
    int panels, closed = kvs_measure_is_closed_loop(page->measures[0]);
    kvs_status status = draw_panels(page, -1, &panels, error);
    kvs_style_begin(page->figure, page->width, (int)top + panels * (heights[page->config->labels] + BELOW + 26),
                    closed ? "Memory of the KV cache against accuracy of the model that runs with it"
                           : "Memory of the KV cache against attention error",
                    "Filled and joined: the Pareto frontier, where no other scheme is better in one and as good in the "
                    "other.");
    kvs_family_legend_write(page->figure, &page->labels, ABOVE);
    fputs("trace,frontier,family,memory,error,scheme,layout,model,measure\n", page->figure->csv);
    if (status == KVS_OK) status = draw_panels(page, top, &panels, error);
    if (status == KVS_OK) kvs_style_end(page->figure);
    return status;
}

static kvs_status compose(const kvs_results *results, const void *config_of, kvs_figure *figure, kvs_error *error) {
    frontier_page page = {.results = results, .config = config_of, .figure = figure};
    page.width = widths[page.config->labels];
    if (page.config->measure > 0)
        KVS_TRY(kvs_result_measure_check("plot frontier", page.config->measure - 1, page.config->statistic, error));
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
        choose_measures(&page);
        if (take_measure(&page, page.measures[0]) == 0)
            status =
                kvs_fail(error, KVS_INPUT, "results", kvs_result_measure_names[page.measures[0] + 1],
                         "no result has both this and a memory account; errors need queries in the trace, perplexity "
                         "and task accuracy kvscope eval");
        else
            status = kvs_frontier_memory_axis(&page, -1, &page.axes) > 0 ? draw_page(&page, error) : KVS_OK;
    }
    free(numbers);
    free(indices);
    kvs_scheme_labels_clear(&page.labels);
    return status;
}

const kvs_plot_type kvs_plot_frontier = {
    .name = "frontier",
    .summary =
        "memory against perplexity and task accuracy, or attention error; the Pareto frontier marked and labelled",
    .params = params,
    .config_bytes = sizeof(frontier_config),
    .compose = compose,
};
