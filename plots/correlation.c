/* correlation.c: how well each ranking agrees with the single-channel oracle, and what that is worth: the share of the
 * gap between chance and the greedy oracle that it closes. */
#include <math.h>
#include <stdlib.h>

#include "plots/rankings.h"

static const kvs_param params[] = {{.name = NULL}};

enum {
    WIDTH = 920,
    TOP = 108,
    ROW = 22,
    LEFT = 196,
    MIDDLE = 520,
    SECOND = 580,
    RIGHT = 896,
    MEASURES = 3,
    RATIOS = 2
};

/* Columns of the .csv: row, then these three, the lowest and highest Spearman of a head, then three for each ratio. */
static const char *const measures[MEASURES] = {"Spearman", "Kendall (tau-b)", "top-k overlap"};
enum { FIRST_MEASURE = 2, LOWEST_HEAD = 5, HIGHEST_HEAD = 6, FIRST_GAP = 7 };

/* By Spearman, the best first; what has none last. */
static int order_rows(const kvs_rank_results *r, int *order) {
    int count = 0;
    for (int m = 0; m < kvs_rank_chance(r); m++) {
        double own = kvs_rank_score_of(r, 0, m)->agreement.spearman;
        int at = count++;
        for (; at > 0; at--) {
            double above = kvs_rank_score_of(r, 0, order[at - 1])->agreement.spearman;
            if (!(isnan(above) ? !isnan(own) : own > above)) break;
            order[at] = order[at - 1];
        }
        order[at] = m;
    }
    return count;
}

static void put(FILE *csv, double value) {
    fputc(',', csv);
    kvs_style_csv_number(csv, value);
}

/* Writes a row; returns its lowest number but for the gaps. */
static double write_row(const kvs_rank_results *r, FILE *csv, int row, int metric) {
    const kvs_rank_agreement *a = &kvs_rank_score_of(r, 0, metric)->agreement;
    const kvs_rank_error *errors = kvs_rank_summary_of(r, 0, metric, KVS_SELECT_DYNAMIC, KVS_BUDGET_HEAD);
    double low = INFINITY, high = -INFINITY;
    for (int scope = 1 + r->layers; scope < r->scopes_count; scope++) {
        double one = kvs_rank_score_of(r, scope, metric)->agreement.spearman;
        if (isnan(one)) continue;
        low = fmin(low, one);
        high = fmax(high, one);
    }
    fprintf(csv, "%d", row);
    const double numbers[] = {a->spearman, a->kendall, a->top_k_overlap, isinf(low) ? NAN : low,
                              isinf(high) ? NAN : high};
    for (int i = 0; i < 5; i++) put(csv, numbers[i]);
    for (int i = 0; i < RATIOS; i++) {
        const kvs_rank_error *e = &errors[kvs_rank_ratio_index(r, kvs_rank_main_ratios[i])];
        put(csv, e->gap_closed);
        put(csv, e->ci95_low);
        put(csv, e->ci95_high);
    }
    fputc(',', csv);
    kvs_style_csv_text(csv, r->metrics[metric].name);
    fputc('\n', csv);
    return fmin(low, fmin(a->kendall, a->top_k_overlap));
}

static void draw_agreement(kvs_figure *figure, kvs_box box, int rows, double low) {
    for (int i = 0; i < MEASURES; i++)
        kvs_style_legend_point(figure, LEFT + 4 + 112.0 * i, TOP - 26, kvs_style_filled_shape(i),
                               kvs_style_color(1 + i), measures[i]);
    kvs_style_label(figure, (box.left + box.right) / 2, box.bottom + 36, KVS_CENTER, KVS_FONT_SMALL, KVS_INK,
                    "agreement with the single-channel oracle (bar: heads)");
    kvs_style_panel(figure, box);
    fprintf(figure->gp, "set yrange [%d.5:-0.5]\nset xrange [%.2f:1]\nunset ytics\n", rows - 1,
            fmin(0, floor(low * 5) / 5));
    const char *name = figure->name;
    fprintf(figure->gp, "plot '%s.csv' skip 1 using %d:1:%d:%d with xerrorbars pt 0 lw 4 lc rgb '#d8d8d8'", name,
            FIRST_MEASURE, LOWEST_HEAD, HIGHEST_HEAD);
    for (int i = 0; i < MEASURES; i++)
        fprintf(figure->gp, ", \\\n     '%s.csv' skip 1 using %d:1 with points pt %d ps 1 lc rgb %d", name,
                FIRST_MEASURE + i, kvs_style_filled_shape(i), kvs_style_color(1 + i));
    fputc('\n', figure->gp);
    kvs_style_next_panel(figure);
}

static void draw_gaps(const kvs_rank_results *r, kvs_figure *figure, kvs_box box, int rows) {
    double low = 0;
    for (int m = 0; m < kvs_rank_chance(r); m++)
        for (int i = 0; i < RATIOS; i++) {
            const kvs_rank_error *errors = kvs_rank_summary_of(r, 0, m, KVS_SELECT_DYNAMIC, KVS_BUDGET_HEAD);
            double one = errors[kvs_rank_ratio_index(r, kvs_rank_main_ratios[i])].ci95_low;
            if (isfinite(one)) low = fmin(low, one);
        }
    for (int i = 0; i < RATIOS; i++) {
        char text[48];
        snprintf(text, sizeof text, "boost %g", kvs_rank_main_ratios[i]);
        kvs_style_legend_point(figure, SECOND + 4 + 100.0 * i, TOP - 26, kvs_style_filled_shape(i),
                               kvs_style_color(4 + i), text);
    }
    kvs_style_label(figure, (box.left + box.right) / 2, box.bottom + 36, KVS_CENTER, KVS_FONT_SMALL, KVS_INK,
                    "gap closed (0 chance, 1 greedy) with 95 % interval");
    kvs_style_panel(figure, box);
    fprintf(figure->gp, "set yrange [%d.5:-0.5]\nset xrange [%.2f:1]\nunset ytics\nplot ", rows - 1,
            fmax(-1, floor(low * 5) / 5));
    for (int i = 0; i < RATIOS; i++) {
        int column = FIRST_GAP + 3 * i;
        fprintf(figure->gp, "%s'%s.csv' skip 1 using %d:($1%+.2f):%d:%d with xerrorbars pt %d ps 1 lw 1.4 lc rgb %d",
                i ? ", \\\n     " : "", figure->name, column, i ? 0.16 : -0.16, column + 1, column + 2,
                kvs_style_filled_shape(i), kvs_style_color(4 + i));
    }
    fputc('\n', figure->gp);
    kvs_style_next_panel(figure);
}

static kvs_status compose(const kvs_rank_results *r, const void *config, kvs_figure *figure, kvs_error *error) {
    (void)config;
    int *order = malloc((size_t)r->metrics_count * sizeof *order);
    if (order == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    int rows = order_rows(r, order);
    double bottom = TOP + ROW * rows, low = 0;
    kvs_rankings_begin(figure, r, WIDTH, (int)bottom + 58, "Rankings against the oracle",
                       "fixed count, chosen on each page; k is the boost count at 0.25");
    fputs("row,spearman,kendall,top_k_overlap,spearman_lowest_head,spearman_highest_head,gap_0.125,ci95_low_0.125,"
          "ci95_high_0.125,gap_0.25,ci95_low_0.25,ci95_high_0.25,metric\n",
          figure->csv);
    for (int i = 0; i < rows; i++) {
        char name[160];
        double least = write_row(r, figure->csv, i, order[i]);
        if (isfinite(least)) low = fmin(low, least);
        snprintf(name, sizeof name - 4, "%s", r->metrics[order[i]].name);
        kvs_style_fit(name, KVS_FONT_SMALL, LEFT - 22);
        kvs_style_label(figure, LEFT - 8, TOP + ROW * (i + 0.5), KVS_RIGHT, KVS_FONT_SMALL, KVS_INK, name);
    }
    free(order);
    draw_agreement(figure, (kvs_box){LEFT, TOP, MIDDLE, bottom}, rows, low);
    draw_gaps(r, figure, (kvs_box){SECOND, TOP, RIGHT, bottom}, rows);
    kvs_style_end(figure);
    return KVS_OK;
}

const kvs_plot_type kvs_plot_correlation = {
    .name = "correlation",
    .summary = "Spearman, Kendall and overlap of each ranking with the oracle, and the gap it closes (of kvscope rank)",
    .params = params,
    .config_bytes = 1,
    .compose_ranking = compose,
};
