/* stability.c: do the boosted channels stay the same from page to page? Above, the part shared with a sequence's first
 * judged page, by page; below, with the judged page before. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plots/rankings.h"

typedef struct stability_config {
    double ratio;
} stability_config;

static const kvs_param params[] = {
    {"ratio", KVS_PARAM_REAL, offsetof(stability_config, ratio), "0.25", 0, 1, "",
     "the boost ratio, one of those that were judged", NULL},
    {.name = NULL},
};

enum { WIDTH = 800, LEFT = 70, RIGHT = 566, TOP = 84, PANEL = 250, BETWEEN = 76 };
static const char single_channel[] = "single-channel oracle";

typedef struct stability_page {
    const kvs_rank_results *results;
    kvs_figure *figure;
    int boosts, last; /* the last page's number */
    int16_t *single;  /* [pages][head_dim]: ranks by the single-channel oracle */
    double *sums;     /* [2][last + 1]: of the part shared with the first page, and with the one before */
    int *counts;      /* the same */
    kvs_rankings_curve *curves;
    int count;
    long row;
} stability_page;

/* Ranks of one page's channels: a higher sensitivity first, ties to the lower channel. */
static void rank_single(const kvs_rank_results *r, int page, int16_t *ranks) {
    const float *x = r->sensitivity + (size_t)page * (size_t)r->head_dim;
    for (int d = 0; d < r->head_dim; d++) {
        int before = 0;
        for (int e = 0; e < r->head_dim; e++) before += x[e] > x[d] || (x[e] == x[d] && e < d);
        ranks[d] = (int16_t)before;
    }
}

static double shared(const stability_page *s, int metric, int page, int other) {
    const kvs_rank_results *r = s->results;
    if (metric >= 0) return kvs_rank_shared(r, metric, page, other, s->boosts);
    const int16_t *a = s->single + (size_t)page * (size_t)r->head_dim;
    const int16_t *b = s->single + (size_t)other * (size_t)r->head_dim;
    int both = 0;
    for (int d = 0; d < r->head_dim; d++) both += a[d] < s->boosts && b[d] < s->boosts;
    return (double)both / s->boosts;
}

static void add(stability_page *s, int which, int number, double value) {
    if (isnan(value)) return;
    s->sums[which * (s->last + 1) + number] += value;
    s->counts[which * (s->last + 1) + number]++;
}

/* Writes the curve of a metric (-1: the single-channel oracle), page by page. */
static void write_curve(stability_page *s, int metric, const char *name) {
    const kvs_rank_results *r = s->results;
    size_t numbers = 2 * ((size_t)s->last + 1);
    memset(s->sums, 0, numbers * sizeof *s->sums);
    memset(s->counts, 0, numbers * sizeof *s->counts);
    for (int p = 0, first = 0; p < r->pages_count; p++) {
        const kvs_rank_page *own = &r->pages[p], *before = p > 0 ? &r->pages[p - 1] : own;
        if (p == 0 || own->sequence != before->sequence || own->layer != before->layer || own->head != before->head) {
            first = p;
            continue;
        }
        add(s, 0, own->page, shared(s, metric, p, first));
        add(s, 1, own->page, shared(s, metric, p, p - 1));
    }
    long begin = s->row;
    for (int number = 0; number <= s->last; number++) {
        const int *count = &s->counts[number];
        if (*count == 0) continue;
        fprintf(s->figure->csv, "%d,", number);
        kvs_style_csv_number(s->figure->csv, s->sums[number] / *count);
        fputc(',', s->figure->csv);
        kvs_style_csv_number(s->figure->csv, s->sums[s->last + 1 + number] / s->counts[s->last + 1 + number]);
        fputc(',', s->figure->csv);
        kvs_style_csv_text(s->figure->csv, name);
        fputc('\n', s->figure->csv);
        s->row++;
    }
    if (s->row > begin)
        s->curves[s->count++] =
            (kvs_rankings_curve){name, metric >= 0 ? metric : kvs_rank_chance(r), begin, s->row - 1};
}

static void draw_panel(stability_page *s, double top, const char *title, int column) {
    kvs_box box = {LEFT, top, RIGHT, top + PANEL};
    kvs_figure *figure = s->figure;
    kvs_style_label(figure, LEFT, top - 14, KVS_LEFT, KVS_FONT_TEXT, KVS_INK, title);
    kvs_style_label(figure, (box.left + box.right) / 2, box.bottom + 36, KVS_CENTER, KVS_FONT_SMALL, KVS_INK,
                    "page of the sequence");
    kvs_style_upright(figure, 18, (box.top + box.bottom) / 2, KVS_FONT_SMALL, KVS_INK, "part of the boosted channels");
    if (column == 2) kvs_rankings_legend(figure, s->results, s->curves, s->count, RIGHT + 24, top + 8);
    kvs_style_panel(figure, box);
    double expected = (double)s->boosts / s->results->head_dim;
    kvs_style_label(figure, RIGHT - 6, box.bottom - PANEL * expected + 9, KVS_RIGHT, KVS_FONT_SMALL, KVS_FAINT,
                    "expected of chance");
    kvs_style_line(figure, LEFT, box.bottom - PANEL * expected, RIGHT, box.bottom - PANEL * expected,
                   "back lw 1 dt 3 lc rgb '" KVS_FAINT "'");
    fprintf(figure->gp, "set yrange [0:1]\nset xrange [0:%d.5]\n", s->last);
    kvs_rankings_draw_curves(figure, s->results, s->curves, s->count, 1, column);
    kvs_style_next_panel(figure);
}

static kvs_status draw(stability_page *s, kvs_error *error) {
    const kvs_rank_results *r = s->results;
    fputs("page,with_first,with_previous,metric\n", s->figure->csv);
    for (int p = 0; p < r->pages_count; p++) rank_single(r, p, s->single + (size_t)p * (size_t)r->head_dim);
    for (int m = 0; m < r->metrics_count; m++)
        if (m != kvs_rank_chance(r)) write_curve(s, m, r->metrics[m].name);
    write_curve(s, -1, single_channel);
    if (s->count == 0)
        return kvs_fail(error, KVS_INPUT, "results", "pages", "no head has two judged pages: kvscope rank --pages 2");
    char conditions[96];
    snprintf(conditions, sizeof conditions, "means; %d of %d channels boosted", s->boosts, r->head_dim);
    kvs_rankings_begin(s->figure, r, WIDTH, TOP + 2 * PANEL + BETWEEN + 56, "Stability of the boosted channels",
                       conditions);
    draw_panel(s, TOP, "shared with the first judged page", 2);
    draw_panel(s, TOP + PANEL + BETWEEN, "shared with the judged page before", 3);
    kvs_style_end(s->figure);
    return KVS_OK;
}

static kvs_status compose(const kvs_rank_results *r, const void *config_of, kvs_figure *figure, kvs_error *error) {
    const stability_config *config = config_of;
    int ratio = kvs_rank_ratio_index(r, config->ratio);
    if (ratio < 0 || r->ratios[ratio].boost_count == 0)
        return kvs_fail(error, KVS_USAGE, "plot stability", "ratio", "%g was not judged, or boosts no channel",
                        config->ratio);
    stability_page s = {.results = r, .figure = figure, .boosts = r->ratios[ratio].boost_count};
    for (int p = 0; p < r->pages_count; p++)
        if (r->pages[p].page > s.last) s.last = r->pages[p].page;
    size_t numbers = 2 * ((size_t)s.last + 1);
    s.single = malloc((size_t)r->pages_count * (size_t)r->head_dim * sizeof *s.single);
    s.sums = malloc(numbers * sizeof *s.sums);
    s.counts = malloc(numbers * sizeof *s.counts);
    s.curves = malloc(((size_t)r->metrics_count + 1) * sizeof *s.curves);
    int good = s.single != NULL && s.sums != NULL && s.counts != NULL && s.curves != NULL;
    kvs_status status = good ? draw(&s, error) : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    free(s.single);
    free(s.sums);
    free(s.counts);
    free(s.curves);
    return status;
}

const kvs_plot_type kvs_plot_stability = {
    .name = "stability",
    .summary = "boosted channels that stay from page to page, one curve a ranking (of kvscope rank)",
    .params = params,
    .config_bytes = sizeof(stability_config),
    .compose_ranking = compose,
};
