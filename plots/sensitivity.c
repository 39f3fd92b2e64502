/* sensitivity.c: heat maps of channels by layer and head: how sensitive each is, and how often it is boosted. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plots/rankings.h"

typedef struct sensitivity_config {
    char metric[KVS_PARAM_TEXT_BYTES];
    double ratio, span;
} sensitivity_config;

static const kvs_param params[] = {
    {"metric", KVS_PARAM_TEXT, offsetof(sensitivity_config, metric), "", 0, 0, "",
     "whose choices are drawn beside the greedy oracle's; without it the first of the file", NULL},
    {"ratio", KVS_PARAM_REAL, offsetof(sensitivity_config, ratio), "0.25", 0, 1, "",
     "the boost ratio, one of those that were judged", NULL},
    {"span", KVS_PARAM_REAL, offsetof(sensitivity_config, span), "1000", 2, 1e9, "times",
     "the colours of the sensitivity reach from the largest value down to this part of it at most", NULL},
    {.name = NULL},
};

enum { WIDTH = 800, LEFT = 70, RIGHT = 706, BAR = 724, TOP = 92, BETWEEN = 62, MAPS = 3, FIRST_VALUE = 5 };

typedef struct sensitivity_page {
    const kvs_rank_results *results;
    kvs_figure *figure;
    int metric, boosts, rows;
    double *values[MAPS]; /* [rows][head_dim]: sensitivity, share of pages that boost: greedy, metric */
    int *pages;           /* [rows] */
    double low, high;     /* of the sensitivity */
} sensitivity_page;

static void add_choice(const kvs_rank_results *r, int metric, int page, int boosts, double *shares) {
    const int16_t *ranks = r->ranks + kvs_rank_row(r, metric, page) * (size_t)r->head_dim;
    for (int d = 0; d < r->head_dim; d++) shares[d] += ranks[d] >= 0 && ranks[d] < boosts;
}

/* Means over the pages of each layer and head; NaN where it has none. */
static void take_means(sensitivity_page *s, double span) {
    const kvs_rank_results *r = s->results;
    size_t dim = (size_t)r->head_dim;
    for (int p = 0; p < r->pages_count; p++) {
        size_t row = (size_t)(r->pages[p].layer * r->kv_heads + r->pages[p].head);
        s->pages[row]++;
        for (size_t d = 0; d < dim; d++) s->values[0][row * dim + d] += (double)r->sensitivity[(size_t)p * dim + d];
        add_choice(r, kvs_rank_greedy(r), p, s->boosts, s->values[1] + row * dim);
        add_choice(r, s->metric, p, s->boosts, s->values[2] + row * dim);
    }
    s->low = INFINITY;
    for (size_t i = 0; i < (size_t)s->rows * dim; i++) {
        int pages = s->pages[i / dim];
        for (int map = 0; map < MAPS; map++) s->values[map][i] = pages > 0 ? s->values[map][i] / pages : NAN;
        double value = s->values[0][i];
        if (!(value > 0) || isinf(value)) continue;
        s->low = fmin(s->low, value);
        s->high = fmax(s->high, value);
    }
    if (s->high == 0) s->low = s->high = 1;
    s->low = fmax(s->low, s->high / span);
}

static void write_rows(const sensitivity_page *s) {
    const kvs_rank_results *r = s->results;
    FILE *csv = s->figure->csv;
    fputs("layer,head,row,channel,sensitivity,boosted_by_greedy,boosted_by_metric\n", csv);
    for (int i = 0; i < s->rows * r->head_dim; i++) {
        int row = i / r->head_dim;
        fprintf(csv, "%d,%d,%d,%d", row / r->kv_heads, row % r->kv_heads, row, i % r->head_dim);
        for (int map = 0; map < MAPS; map++) {
            fputc(',', csv);
            kvs_style_csv_number(csv, s->values[map][i]);
        }
        fputc('\n', csv);
    }
}

/* The colours of a share, which are linear. */
static void share_scale(kvs_figure *figure, kvs_box bar) {
    fprintf(figure->gp,
            "unset logscale cb\nset cbrange [0:1]\nset cbtics 0.5\nclip(value) = value\nset colorbox user origin "
            "screen %.5f,%.5f size screen %.5f,%.5f noborder\n",
            bar.left / figure->width, 1 - bar.bottom / figure->height, (bar.right - bar.left) / figure->width,
            (bar.bottom - bar.top) / figure->height);
    kvs_style_label(figure, bar.left, bar.top - 12, KVS_LEFT, KVS_FONT_SMALL, KVS_INK, "pages");
}

static void draw_map(const sensitivity_page *s, int map, double top, double height, const char *title) {
    const kvs_rank_results *r = s->results;
    kvs_figure *figure = s->figure;
    kvs_box box = {LEFT, top, RIGHT, top + height}, bar = {BAR, top, BAR + 14, top + height};
    if (map == 0)
        kvs_style_heat_scale(figure, bar, s->low, s->high, "error");
    else
        share_scale(figure, bar);
    kvs_style_label(figure, LEFT, top - 12, KVS_LEFT, KVS_FONT_TEXT, KVS_INK, title);
    kvs_style_label(figure, (box.left + box.right) / 2, box.bottom + 27, KVS_CENTER, KVS_FONT_SMALL, KVS_INK,
                    "channel");
    kvs_style_upright(figure, 18, (box.top + box.bottom) / 2, KVS_FONT_SMALL, KVS_INK, "layer");
    kvs_style_panel(figure, box);
    kvs_style_index_tics(figure, "x", r->head_dim, 17, 1, 0);
    kvs_style_index_tics(figure, "y", r->layers, 13, r->kv_heads, (r->kv_heads - 1) / 2.0);
    for (int layer = 1; layer < r->layers && height >= 8 * r->layers; layer++) {
        double line = top + height * layer / r->layers;
        kvs_style_line(figure, box.left, line, box.right, line, "front lw 0.5 lc rgb '#ffffff'");
    }
    long cells = (long)s->rows * r->head_dim;
    kvs_style_heat_map(figure, &(kvs_heat_map){.columns = r->head_dim,
                                               .rows = s->rows,
                                               .x_column = 4,
                                               .y_column = 3,
                                               .value_column = FIRST_VALUE + map,
                                               .first = 0,
                                               .last = cells - 1,
                                               .page_cells = MAPS * cells});
    kvs_style_next_panel(figure);
}

static void draw(const sensitivity_page *s, double ratio) {
    const kvs_rank_results *r = s->results;
    double height = fmin(fmax(9.0 * s->rows, 110), 300);
    char text[200];
    snprintf(text, sizeof text, "rows of a layer: its KV heads; %d of %d channels boosted", s->boosts, r->head_dim);
    kvs_rankings_begin(s->figure, r, WIDTH, (int)(TOP + MAPS * height + (MAPS - 1) * BETWEEN + 44),
                       "Sensitivity of Key channels, and which are boosted", text);
    fputs("unset grid\nset border 0\n", s->figure->gp);
    write_rows(s);
    draw_map(s, 0, TOP, height, "error with that channel alone at 2 bits");
    snprintf(text, sizeof text, "share of pages where the greedy oracle boosts it (ratio %g)", ratio);
    draw_map(s, 1, TOP + height + BETWEEN, height, text);
    snprintf(text, sizeof text - 4, "share of pages where %s boosts it", r->metrics[s->metric].name);
    kvs_style_fit(text, KVS_FONT_TEXT, RIGHT - LEFT);
    draw_map(s, 2, TOP + 2 * (height + BETWEEN), height, text);
    kvs_style_end(s->figure);
}

static kvs_status compose(const kvs_rank_results *r, const void *config_of, kvs_figure *figure, kvs_error *error) {
    const sensitivity_config *config = config_of;
    int ratio = kvs_rank_ratio_index(r, config->ratio);
    if (ratio < 0 || r->ratios[ratio].boost_count == 0)
        return kvs_fail(error, KVS_USAGE, "plot sensitivity", "ratio", "%g was not judged, or boosts no channel",
                        config->ratio);
    int metric = config->metric[0] != '\0' ? kvs_rankings_find(r, config->metric) : 0;
    if (metric < 0)
        return kvs_fail(error, KVS_USAGE, "plot sensitivity", "metric", "the file has no ranking %s", config->metric);
    sensitivity_page s = {.results = r,
                          .figure = figure,
                          .metric = metric,
                          .boosts = r->ratios[ratio].boost_count,
                          .rows = r->layers * r->kv_heads};
    size_t cells = (size_t)s.rows * (size_t)r->head_dim;
    double *values = calloc(MAPS * cells, sizeof *values);
    s.pages = calloc((size_t)s.rows, sizeof *s.pages);
    int good = values != NULL && s.pages != NULL;
    for (int map = 0; good && map < MAPS; map++) s.values[map] = values + (size_t)map * cells;
    if (good) take_means(&s, config->span);
    if (good) draw(&s, config->ratio);
    free(values);
    free(s.pages);
    return good ? KVS_OK : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
}

const kvs_plot_type kvs_plot_sensitivity = {
    .name = "sensitivity",
    .summary = "heat maps by layer, head and channel: sensitivity, and pages that boost it (of kvscope rank)",
    .params = params,
    .config_bytes = sizeof(sensitivity_config),
    .compose_ranking = compose,
};
