/* heads.c: the error of each layer and KV head, one heat map a scheme: where a scheme hurts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plots/labels.h"
#include "plots/measure.h"
#include "plots/select.h"
#include "plots/style.h"

typedef struct heads_config {
    int panels, measure, statistic;
    double span;
} heads_config;

static const kvs_param params[] = {
    {"panels", KVS_PARAM_INT, offsetof(heads_config, panels), "6", 1, 24, "",
     "at most so many schemes, spread over the frontier of each trace", NULL},
    KVS_MEASURE_PARAMS(heads_config),
    {"span", KVS_PARAM_REAL, offsetof(heads_config, span), "1000", 2, 1e30, "times",
     "the colour scale reaches from the largest value down to this part of it at most", NULL},
    {.name = NULL},
};

enum { WIDTH = 800, COLUMNS = 3, LEFT = 62, RIGHT = 702, TOP = 84, GAP = 48, BETWEEN = 84, TALLEST = 300 };

typedef struct heads_page {
    const kvs_results *results;
    const heads_config *config;
    kvs_figure *figure;
    kvs_scheme_labels labels;
    int *chosen, count, candidates;
    double low, high; /* of the positive errors of all panels */
    long cells, rows; /* of all panels; of the .csv so far */
} heads_page;

static int has_heads(const kvs_result *result) {
    return result->heads_count > 0;
}

static const kvs_trace_summary *trace_of(const heads_page *page, int panel) {
    return &page->results->traces[page->results->results[page->chosen[panel]].trace];
}

/* The error of one cell, or NaN. The last entry of a layer and head counts. */
static double cell(const heads_page *page, int panel, int layer, int head) {
    const kvs_result *result = &page->results->results[page->chosen[panel]];
    for (int i = result->heads_count - 1; i >= 0; i--)
        if (result->heads[i].layer == layer && result->heads[i].head == head)
            return kvs_measure(&result->heads[i].errors, page->config->measure, page->config->statistic);
    return NAN;
}

static void find_range(heads_page *page) {
    page->low = INFINITY;
    page->high = 0;
    for (int panel = 0; panel < page->count; panel++) {
        const kvs_result *result = &page->results->results[page->chosen[panel]];
        const kvs_trace_summary *trace = trace_of(page, panel);
        page->cells += (long)trace->layers * trace->kv_heads;
        for (int i = 0; i < result->heads_count; i++) {
            double error = kvs_measure(&result->heads[i].errors, page->config->measure, page->config->statistic);
            if (!(error > 0) || isinf(error)) continue;
            page->low = fmin(page->low, error);
            page->high = fmax(page->high, error);
        }
    }
    page->low = fmax(page->low, page->high / page->config->span);
}

static void write_rows(heads_page *page, int panel) {
    FILE *csv = page->figure->csv;
    const kvs_result *result = &page->results->results[page->chosen[panel]];
    const kvs_trace_summary *trace = trace_of(page, panel);
    for (int layer = 0; layer < trace->layers; layer++)
        for (int head = 0; head < trace->kv_heads; head++) {
            fprintf(csv, "%d,%d,%d,", panel, layer, head);
            kvs_style_csv_number(csv, cell(page, panel, layer, head));
            fputc(',', csv);
            kvs_style_csv_text(csv, result->scheme);
            fputc(',', csv);
            kvs_style_csv_text(csv, trace->model_name);
            fputc('\n', csv);
        }
}

static void draw_panel(heads_page *page, int panel, kvs_box box) {
    kvs_figure *figure = page->figure;
    const kvs_trace_summary *trace = trace_of(page, panel);
    const kvs_result *result = &page->results->results[page->chosen[panel]];
    double room = box.right - box.left + GAP - 14;
    char scheme[200], text[240];
    snprintf(scheme, sizeof scheme - 4, "%s", page->labels.labels[page->chosen[panel]].text);
    kvs_style_fit(scheme, KVS_FONT_SMALL, room);
    snprintf(text, sizeof text - 4, "%.3g bits, %s", result->effective_bits, kvs_trace_name(trace));
    kvs_style_fit(text, KVS_FONT_SMALL, room);
    kvs_style_label(figure, box.left, box.top - 26, KVS_LEFT, KVS_FONT_SMALL, KVS_INK, scheme);
    kvs_style_label(figure, box.left, box.top - 11, KVS_LEFT, KVS_FONT_SMALL, KVS_FAINT, text);
    kvs_style_label(figure, (box.left + box.right) / 2, box.bottom + 28, KVS_CENTER, KVS_FONT_SMALL, KVS_INK,
                    "KV head");
    kvs_style_upright(figure, box.left - 34, (box.top + box.bottom) / 2, KVS_FONT_SMALL, KVS_INK, "layer");
    kvs_style_panel(figure, box);
    kvs_style_index_tics(figure, "x", trace->kv_heads, 9, 1, 0);
    kvs_style_index_tics(figure, "y", trace->layers, 13, 1, 0);
    long cells = (long)trace->layers * trace->kv_heads;
    kvs_style_heat_map(figure, &(kvs_heat_map){.columns = trace->kv_heads,
                                               .rows = trace->layers,
                                               .x_column = 3,
                                               .y_column = 2,
                                               .value_column = 4,
                                               .first = page->rows,
                                               .last = page->rows + cells - 1,
                                               .page_cells = page->cells});
    page->rows += cells;
    write_rows(page, panel);
}

/* The height of the panels of a line, by the trace with most layers in it. */
static double line_height(const heads_page *page, int line) {
    int layers = 1;
    for (int panel = line * COLUMNS; panel < page->count && panel < (line + 1) * COLUMNS; panel++)
        if (trace_of(page, panel)->layers > layers) layers = trace_of(page, panel)->layers;
    return layers * 22 + 30 > TALLEST ? TALLEST : layers * 22 + 30;
}

static void draw_page(heads_page *page) {
    kvs_figure *figure = page->figure;
    int columns = page->count < COLUMNS ? page->count : COLUMNS;
    double width = (RIGHT - LEFT - GAP * (columns - 1.0)) / columns, height = TOP;
    for (int line = 0; line * COLUMNS < page->count; line++) height += line_height(page, line) + BETWEEN;
    char conditions[256], measure[96];
    kvs_measure_text(page->config->measure, page->config->statistic, measure, sizeof measure);
    snprintf(conditions, sizeof conditions, "%s; colours clipped below%s", measure,
             page->count < page->candidates ? "; schemes from the frontier (--scheme chooses)" : "");
    kvs_style_begin(figure, WIDTH, (int)height - 24, "Attention error by layer and KV head", conditions);
    fputs("unset grid\nset border 0\n", figure->gp);
    fputs("panel,layer,head,error,scheme,model\n", figure->csv);
    double y = TOP + 10;
    for (int panel = 0; panel < page->count; panel++) {
        double x = LEFT + (panel % COLUMNS) * (width + GAP), bottom = y + line_height(page, panel / COLUMNS);
        if (panel == 0) kvs_style_heat_scale(figure, (kvs_box){724, y, 738, bottom}, page->low, page->high, "error");
        draw_panel(page, panel, (kvs_box){x, y, x + width, bottom});
        kvs_style_next_panel(figure);
        if (panel == 0) fputs("unset colorbox\n", figure->gp);
        if (panel % COLUMNS == COLUMNS - 1) y = bottom + BETWEEN;
    }
    kvs_style_end(figure);
}

static kvs_status compose(const kvs_results *results, const void *config_of, kvs_figure *figure, kvs_error *error) {
    heads_page page = {.results = results, .config = config_of, .figure = figure};
    KVS_TRY(kvs_measure_check("plot heads", page.config->measure, page.config->statistic, error));
    KVS_TRY(kvs_scheme_labels_make(results, &page.labels, error));
    kvs_status status = KVS_OK;
    page.chosen = malloc(sizeof *page.chosen * (size_t)(results->results_count + 1));
    if (page.chosen != NULL)
        page.count = kvs_select_panels(results, has_heads, page.config->panels, page.chosen, &page.candidates);
    if (page.chosen == NULL || page.count < 0) {
        status = kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    } else if (page.count == 0) {
        status = kvs_fail(error, KVS_INPUT, "results", "layers", "no result has errors by layer and head");
    } else {
        find_range(&page);
        if (page.high > 0)
            draw_page(&page);
        else
            status = kvs_fail(error, KVS_INPUT, "results", kvs_measure_names[page.config->measure],
                              "no layer and head has this error above 0; an error needs queries in the trace");
    }
    free(page.chosen);
    kvs_scheme_labels_clear(&page.labels);
    return status;
}

static int applies(const kvs_results *results) {
    int heads = 0;
    for (int i = 0; i < results->results_count; i++) heads += has_heads(&results->results[i]);
    return heads > 0;
}

const kvs_plot_type kvs_plot_heads = {
    .name = "heads",
    .summary = "error per layer and KV head as heat maps, one a scheme",
    .params = params,
    .config_bytes = sizeof(heads_config),
    .compose = compose,
    .applies = applies,
};
