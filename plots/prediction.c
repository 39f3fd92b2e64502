/* prediction.c: what was predicted against what was measured, of every count of every kernel and layout. */
#include <math.h>
#include <string.h>

#include "plots/launches.h"

static const kvs_param params[] = {{.name = NULL}};

enum { WIDTH = 820, HEIGHT = 560 };
static const kvs_box box = {86, 78, 540, 492};

/* Metrics that are drawn, by their unit. */
static const char *const units[] = {"requests", "sectors", "bytes", "conflicts"};
enum { UNITS = sizeof units / sizeof *units };

static int unit_of(const kvs_profile_metric *metric) {
    for (int i = 0; i < UNITS; i++)
        if (strcmp(metric->unit, units[i]) == 0) return i;
    return -1;
}

/* Zeros have no place on a logarithmic axis; they are in the .csv and counted in the legend. */
static int is_drawn(const kvs_profile_metric *m) {
    return unit_of(m) >= 0 && isfinite(m->predicted) && isfinite(m->measured);
}

static int applies(const kvs_profile *profile) {
    for (int i = 0; i < profile->metrics_count; i++)
        if (is_drawn(&profile->metrics[i])) return 1;
    return 0;
}

static kvs_status compose(const kvs_profile *profile, const void *config, kvs_figure *figure, kvs_error *error) {
    double low = INFINITY, high = 0;
    int rows = 0, equal[UNITS] = {0}, all[UNITS] = {0};
    char conditions[512];
    (void)config;
    kvs_launch_conditions(profile, conditions, sizeof conditions);
    kvs_style_begin(figure, WIDTH, HEIGHT, "Predicted against measured", conditions);
    fputs("predicted,measured,unit,color,shape,metric,kernel,layout\n", figure->csv);
    for (int i = 0; i < profile->metrics_count; i++) {
        const kvs_profile_metric *m = &profile->metrics[i];
        if (!is_drawn(m)) continue;
        int unit = unit_of(m);
        all[unit]++;
        equal[unit] += m->predicted == m->measured;
        rows++;
        if (m->predicted > 0 && m->measured > 0) {
            low = fmin(low, fmin(m->predicted, m->measured));
            high = fmax(high, fmax(m->predicted, m->measured));
        }
        kvs_style_csv_number(figure->csv, m->predicted);
        fputc(',', figure->csv);
        kvs_style_csv_number(figure->csv, m->measured);
        fprintf(figure->csv, ",%d,%d,%d,", unit, kvs_style_color(unit + 1), kvs_style_open_shape(unit));
        kvs_style_csv_text(figure->csv, m->metric);
        fputc(',', figure->csv);
        kvs_style_csv_text(figure->csv, profile->launches[m->launch].kernel);
        fputc(',', figure->csv);
        kvs_style_csv_text(figure->csv, kvs_launch_layout(&profile->launches[m->launch]));
        fputc('\n', figure->csv);
    }
    if (rows == 0 || high == 0)
        return kvs_fail(error, KVS_INPUT, "profile", "measured", "nothing was measured beside a prediction");
    for (int u = 0, line = 0; u < UNITS; u++) {
        char text[96];
        if (all[u] == 0) continue;
        snprintf(text, sizeof text, "%s: %d of %d equal", units[u], equal[u], all[u]);
        kvs_style_legend_point(figure, box.right + 26, box.top + 10 + 20.0 * line++, kvs_style_open_shape(u),
                               kvs_style_color(u + 1), text);
    }
    kvs_style_label(figure, (box.left + box.right) / 2, box.bottom + 40, KVS_CENTER, KVS_FONT_TEXT, KVS_INK,
                    "predicted");
    kvs_style_upright(figure, box.left - 66, (box.top + box.bottom) / 2, KVS_FONT_TEXT, KVS_INK, "measured");
    kvs_style_panel(figure, box);
    kvs_style_log_axis(figure, "x", low / 2, high * 2, low / 2);
    kvs_style_log_axis(figure, "y", low / 2, high * 2, low / 2);
    fprintf(figure->gp,
            "plot x with lines lw 0.8 lc rgb '#888888', \\\n"
            "     '%s.csv' skip 1 using 1:2:5:4 with points pt variable lc rgb variable ps 0.9\n",
            figure->name);
    kvs_style_next_panel(figure);
    kvs_style_end(figure);
    return KVS_OK;
}

const kvs_plot_type kvs_plot_prediction = {
    .name = "prediction",
    .summary = "predicted against measured counts of every kernel and layout (of a measured kvscope profile)",
    .params = params,
    .config_bytes = 1,
    .applies_to_profile = applies,
    .compose_profile = compose,
};
