/* channels.c: magnitude and range of every channel of K and V: the picture of the outlier channels. */
#include <math.h>
#include <stdlib.h>

#include "plots/labels.h"
#include "plots/style.h"

typedef struct channels_config {
    double span;
} channels_config;

static const kvs_param params[] = {
    {"span", KVS_PARAM_REAL, offsetof(channels_config, span), "1000", 2, 1e9, "times",
     "the colour scale reaches from the largest value down to this part of it at most", NULL},
    {.name = NULL},
};

enum { WIDTH = 800, LEFT = 58, PANEL = 302, GAP = 42, TOP = 100, BETWEEN = 58, QUANTITIES = 4, FIRST_VALUE = 6 };

/* In the order of the columns of the .csv: K and V side by side, one quantity a line. */
static const struct {
    const char *title;
    size_t offset;
} quantities[QUANTITIES] = {{"K magnitude", offsetof(kvs_channel_statistics, k_magnitude)},
                            {"V magnitude", offsetof(kvs_channel_statistics, v_magnitude)},
                            {"K range", offsetof(kvs_channel_statistics, k_range)},
                            {"V range", offsetof(kvs_channel_statistics, v_range)}};

static const float *values_of(const kvs_trace_summary *trace, int quantity) {
    return *(float *const *)((const char *)&trace->channels + quantities[quantity].offset);
}

static int has_channels(const kvs_trace_summary *trace) {
    for (int quantity = 0; quantity < QUANTITIES; quantity++)
        if (values_of(trace, quantity) == NULL) return 0;
    return 1;
}

static long cells_of(const kvs_trace_summary *trace) {
    return (long)trace->layers * trace->kv_heads * trace->head_dim;
}

static double map_height(const kvs_trace_summary *trace) {
    double height = 9.0 * trace->layers * trace->kv_heads;
    return height < 110 ? 110 : height > 300 ? 300 : height;
}

static void write_rows(FILE *csv, const kvs_trace_summary *trace, int number) {
    for (long i = 0; i < cells_of(trace); i++) {
        long row = i / trace->head_dim;
        fprintf(csv, "%d,%ld,%ld,%ld,%ld", number, row / trace->kv_heads, row % trace->kv_heads, row,
                i % trace->head_dim);
        for (int quantity = 0; quantity < QUANTITIES; quantity++) {
            fputc(',', csv);
            kvs_style_csv_number(csv, values_of(trace, quantity)[i]);
        }
        fputc(',', csv);
        kvs_style_csv_text(csv, trace->model_name);
        fputc('\n', csv);
    }
}

/* The range of positive values of two quantities side by side. */
static void find_range(const kvs_trace_summary *trace, int quantity, double span, double *low, double *high) {
    *low = INFINITY;
    *high = 0;
    for (int q = quantity; q < quantity + 2; q++)
        for (long i = 0; i < cells_of(trace); i++) {
            double value = values_of(trace, q)[i];
            if (!(value > 0) || isinf(value)) continue;
            *low = fmin(*low, value);
            *high = fmax(*high, value);
        }
    if (*high == 0) *low = *high = 1;
    *low = fmax(*low, *high / span);
}

static void draw_pair(kvs_figure *figure, const kvs_trace_summary *trace, int quantity, double span, double y,
                      double height, kvs_heat_map map) {
    double low, high;
    find_range(trace, quantity, span, &low, &high);
    for (int side = 0; side < 2; side++) {
        double x = LEFT + side * (PANEL + GAP);
        kvs_box box = {x, y, x + PANEL, y + height};
        if (side == 0) {
            kvs_style_heat_scale(figure, (kvs_box){736, y, 750, y + height}, low, high,
                                 quantity == 0 ? "mean |x|" : "max - min");
        }
        kvs_style_label(figure, x, y - 12, KVS_LEFT, KVS_FONT_TEXT, KVS_INK, quantities[quantity + side].title);
        kvs_style_label(figure, (box.left + box.right) / 2, box.bottom + 27, KVS_CENTER, KVS_FONT_SMALL, KVS_INK,
                        "channel");
        if (side == 0) kvs_style_upright(figure, 18, (box.top + box.bottom) / 2, KVS_FONT_SMALL, KVS_INK, "layer");
        kvs_style_panel(figure, box);
        kvs_style_index_tics(figure, "x", trace->head_dim, 9, 1, 0);
        kvs_style_index_tics(figure, "y", trace->layers, 13, trace->kv_heads, (trace->kv_heads - 1) / 2.0);
        for (int layer = 1; layer < trace->layers && height >= 8 * trace->layers; layer++) {
            double line = y + height * layer / trace->layers;
            kvs_style_line(figure, box.left, line, box.right, line, "front lw 0.5 lc rgb '#ffffff'");
        }
        map.value_column = FIRST_VALUE + quantity + side;
        kvs_style_heat_map(figure, &map);
        if (side == 0) fputs("unset colorbox\n", figure->gp);
        kvs_style_next_panel(figure);
    }
}

static kvs_status compose(const kvs_results *results, const void *config_of, kvs_figure *figure, kvs_error *error) {
    const channels_config *config = config_of;
    int traces = 0;
    long page_cells = 0, first = 0;
    double page_height = TOP - 34, y = TOP;
    for (int i = 0; i < results->traces_count; i++) {
        const kvs_trace_summary *trace = &results->traces[i];
        if (!has_channels(trace)) continue;
        traces++;
        page_cells += QUANTITIES * cells_of(trace);
        page_height += 2 * (map_height(trace) + BETWEEN) + 30;
    }
    if (traces == 0)
        return kvs_fail(error, KVS_INPUT, "results", "channels", "no trace has its channel statistics in this file");
    kvs_style_begin(figure, WIDTH, (int)page_height, "Channels of K and V: where the outliers are",
                    "over all tokens; the rows of a layer are its KV heads; logarithmic colours, clipped below");
    fputs("unset grid\nset border 0\n", figure->gp);
    fputs("trace,layer,head,row,channel,k_magnitude,v_magnitude,k_range,v_range,model\n", figure->csv);
    for (int i = 0; i < results->traces_count; i++) {
        const kvs_trace_summary *trace = &results->traces[i];
        if (!has_channels(trace)) continue;
        double height = map_height(trace);
        char model[200];
        kvs_trace_label(trace, model, sizeof model - 4);
        kvs_style_fit(model, KVS_FONT_TEXT, WIDTH - 32);
        kvs_style_label(figure, 16, y - 34, KVS_LEFT, KVS_FONT_TEXT, KVS_INK, model);
        kvs_heat_map map = {.columns = trace->head_dim,
                            .rows = trace->layers * trace->kv_heads,
                            .x_column = 5,
                            .y_column = 4,
                            .first = first,
                            .last = first + cells_of(trace) - 1,
                            .page_cells = page_cells};
        for (int line = 0; line < 2; line++)
            draw_pair(figure, trace, 2 * line, config->span, y + line * (height + BETWEEN), height, map);
        write_rows(figure->csv, trace, i);
        first += cells_of(trace);
        y += 2 * (height + BETWEEN) + 30;
    }
    kvs_style_end(figure);
    return KVS_OK;
}

static int applies(const kvs_results *results) {
    int traces = 0;
    for (int t = 0; t < results->traces_count; t++) traces += has_channels(&results->traces[t]);
    return traces > 0;
}

const kvs_plot_type kvs_plot_channels = {
    .name = "channels",
    .summary = "magnitude and range of each channel of K and V per layer and head as heat maps",
    .params = params,
    .config_bytes = sizeof(channels_config),
    .compose = compose,
    .applies = applies,
};
