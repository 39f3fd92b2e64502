/* boost.c: attention error against the boost ratio, one curve a ranking, between chance and the greedy oracle. */
#include <math.h>
#include <stdlib.h>

#include "plots/rankings.h"

typedef struct boost_config {
    int budget, selection;
} boost_config;

static const char *const budgets[] = {"head", "layer", "model", NULL};
static const char *const selections[] = {"dynamic", "static", NULL};
static const kvs_param params[] = {
    {"budget", KVS_PARAM_CHOICE, offsetof(boost_config, budget), "head", 0, 0, "",
     "who shares the boosts: head (a fixed count), the heads of a layer, the model", budgets},
    {"selection", KVS_PARAM_CHOICE, offsetof(boost_config, selection), "dynamic", 0, 0, "",
     "channels chosen on each page, or once on the sequence's first pages", selections},
    {.name = NULL},
};

enum { WIDTH = 800, HEIGHT = 470 };
static const kvs_box box = {78, 70, 560, 414};

/* Chance and the greedy oracle are drawn with a fixed count where they have no other. */
static const kvs_rank_error *errors_of(const kvs_rank_results *r, const boost_config *c, int metric) {
    const kvs_rank_error *own = kvs_rank_summary_of(r, 0, metric, c->selection, c->budget);
    int fallback = metric >= kvs_rank_chance(r) && isnan(own[r->ratios_count - 1].error);
    return fallback ? kvs_rank_summary_of(r, 0, metric, KVS_SELECT_DYNAMIC, KVS_BUDGET_HEAD) : own;
}

static void write_row(FILE *csv, double ratio, double error, const char *metric) {
    kvs_style_csv_number(csv, ratio);
    fputc(',', csv);
    kvs_style_csv_number(csv, error);
    fputc(',', csv);
    kvs_style_csv_text(csv, metric);
    fputc('\n', csv);
}

/* Writes the rows of a curve, with nothing boosted first; 0 where no error of it is known. */
static int write_curve(const kvs_rank_results *r, const kvs_rank_error *errors, int metric, double none, FILE *csv) {
    int known = 0;
    for (int i = 0; i < r->ratios_count; i++) known += errors[i].error > 0;
    if (known == 0) return 0;
    write_row(csv, 0, none, r->metrics[metric].name);
    for (int i = 0; i < r->ratios_count; i++)
        write_row(csv, r->ratios[i].ratio, errors[i].error > 0 ? errors[i].error : NAN, r->metrics[metric].name);
    return 1;
}

static void find_range(const kvs_rank_results *r, const kvs_rank_error *errors, double *low, double *high) {
    for (int i = 0; i < r->ratios_count; i++) {
        if (!(errors[i].error > 0) || isinf(errors[i].error)) continue;
        *low = fmin(*low, errors[i].error);
        *high = fmax(*high, errors[i].error);
    }
}

static kvs_status compose(const kvs_rank_results *r, const void *config_of, kvs_figure *figure, kvs_error *error) {
    const boost_config *config = config_of;
    double none = 0, low = INFINITY, high = 0;
    for (int p = 0; p < r->pages_count; p++) none += r->pages[p].none / r->pages_count;
    kvs_rankings_curve *curves = malloc((size_t)r->metrics_count * sizeof *curves);
    if (curves == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    int count = 0, metrics = 0;
    long row = 0;
    fputs("ratio,error,metric\n", figure->csv);
    for (int m = 0; m < r->metrics_count; m++) {
        const kvs_rank_error *errors = errors_of(r, config, m);
        if (!write_curve(r, errors, m, none, figure->csv)) continue;
        find_range(r, errors, &low, &high);
        curves[count++] = (kvs_rankings_curve){r->metrics[m].name, m, row, row + r->ratios_count};
        row += r->ratios_count + 1;
        metrics += m < kvs_rank_chance(r);
    }
    if (metrics > 0 && none > 0 && isfinite(none)) {
        char conditions[160];
        snprintf(conditions, sizeof conditions, "%s selection, %s", selections[config->selection],
                 config->budget == KVS_BUDGET_HEAD    ? "a fixed count per page"
                 : config->budget == KVS_BUDGET_LAYER ? "boosts shared by the heads of a layer"
                                                      : "boosts shared by all heads of the model");
        kvs_rankings_begin(figure, r, WIDTH, HEIGHT, "Attention error against boosted channels", conditions);
        kvs_rankings_legend(figure, r, curves, count, box.right + 24, box.top + 8);
        kvs_style_label(figure, (box.left + box.right) / 2, box.bottom + 38, KVS_CENTER, KVS_FONT_TEXT, KVS_INK,
                        "boost ratio (channels at 4 bits; the others have 2)");
        kvs_style_upright(figure, 18, (box.top + box.bottom) / 2, KVS_FONT_TEXT, KVS_INK,
                          "mean relative L2 error of the output");
        kvs_style_panel(figure, box);
        kvs_style_log_axis(figure, "y", low / 1.1, fmax(high, none) * 1.1, low / 1.1);
        fprintf(figure->gp, "set xrange [0:%.9g]\n", r->ratios[r->ratios_count - 1].ratio);
        kvs_rankings_draw_curves(figure, r, curves, count, 1, 2);
        kvs_style_next_panel(figure);
        kvs_style_end(figure);
    }
    free(curves);
    if (metrics > 0 && none > 0 && isfinite(none)) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, "results", "errors", "none for budget %s, selection %s", budgets[config->budget],
                    selections[config->selection]);
}

const kvs_plot_type kvs_plot_boost = {
    .name = "boost",
    .summary = "attention error against the boost ratio, one curve a ranking, with chance and greedy (of kvscope rank)",
    .params = params,
    .config_bytes = sizeof(boost_config),
    .compose_ranking = compose,
};
