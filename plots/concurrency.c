/* concurrency.c: the most requests that ran at once, and the mean, one bar a run. */
#include <math.h>
#include <stdlib.h>

#include "plots/style.h"

typedef struct concurrency_config {
    int bars;
} concurrency_config;

static const kvs_param params[] = {
    {"bars", KVS_PARAM_INT, offsetof(concurrency_config, bars), "24", 1, 100, "", "at most so many runs", NULL},
    {.name = NULL},
};

enum { WIDTH = 800, TOP = 78, LINE = 24, LEFT = 330, RIGHT = 730 };

/* Runs with a clock: those of a sequential replay have no concurrency. */
static const kvs_occupancy_run *bar_of(const kvs_occupancy_results *results, int bar) {
    for (int i = 0; i < results->runs_count; i++)
        if (results->runs[i].steps > 0 && bar-- == 0) return &results->runs[i];
    return NULL;
}

static void draw(const kvs_occupancy_results *results, int count, kvs_figure *figure) {
    FILE *csv = figure->csv, *gp = figure->gp;
    double bottom = TOP + LINE * count, most = 1;
    kvs_style_begin(figure, WIDTH, (int)bottom + 56, "Requests that run at once",
                    "bar: the most; line: the mean over time; the scheme's pages and buffers in that memory");
    fputs("bar,peak,mean,memory_gb,scheme,allocator\n", csv);
    for (int i = 0; i < count; i++) {
        const kvs_occupancy_run *run = bar_of(results, i);
        char name[256], value[64];
        most = fmax(most, (double)run->peak_running);
        fprintf(csv, "%d,%lld,", i, (long long)run->peak_running);
        kvs_style_csv_number(csv, run->mean_running);
        fputc(',', csv);
        kvs_style_csv_number(csv, run->memory_bytes / 1e9);
        fputc(',', csv);
        kvs_style_csv_text(csv, run->scheme);
        fputc(',', csv);
        kvs_style_csv_text(csv, run->allocator);
        fputc('\n', csv);
        snprintf(name, sizeof name - 4, "%s, %s, %.3g GB", run->scheme, run->allocator, run->memory_bytes / 1e9);
        snprintf(value, sizeof value, "%lld", (long long)run->peak_running);
        kvs_style_fit(name, KVS_FONT_SMALL, LEFT - 26);
        kvs_style_label(figure, LEFT - 10, TOP + LINE * (i + 0.5), KVS_RIGHT, KVS_FONT_SMALL, KVS_INK, name);
        kvs_style_label(figure, RIGHT + 8, TOP + LINE * (i + 0.5), KVS_LEFT, KVS_FONT_SMALL, KVS_INK, value);
    }
    kvs_style_label(figure, (LEFT + RIGHT) / 2.0, bottom + 38, KVS_CENTER, KVS_FONT_SMALL, KVS_INK, "running requests");
    kvs_style_panel(figure, (kvs_box){LEFT, TOP, RIGHT, bottom});
    fprintf(gp, "set xrange [0:%.6g]\nset yrange [%d.5:-0.5]\nunset ytics\n", 1.02 * most, count - 1);
    fprintf(gp,
            "plot '%s.csv' skip 1 using (0):1:(0):2:($1-0.32):($1+0.32) with boxxyerror fs solid noborder lc rgb %d, "
            "\\\n     '%s.csv' skip 1 using 3:1:(0):(0.32) with vectors nohead lw 2 lc rgb '%s', \\\n"
            "     '%s.csv' skip 1 using 3:1:(0):(-0.32) with vectors nohead lw 2 lc rgb '%s'\n",
            figure->name, kvs_style_color(1), figure->name, KVS_INK, figure->name, KVS_INK);
    kvs_style_next_panel(figure);
    fputs("set ytics\n", gp);
    kvs_style_end(figure);
}

static kvs_status compose(const kvs_occupancy_results *results, const void *config, kvs_figure *figure,
                          kvs_error *error) {
    int count = 0, most = ((const concurrency_config *)config)->bars;
    while (count < most && bar_of(results, count) != NULL) count++;
    if (count == 0) return kvs_fail(error, KVS_INPUT, "results", "peak_running", "no run has a clock");
    draw(results, count, figure);
    return KVS_OK;
}

const kvs_plot_type kvs_plot_concurrency = {
    .name = "concurrency",
    .summary = "the most requests that run at once, one bar a run (of kvscope alloc)",
    .params = params,
    .config_bytes = sizeof(concurrency_config),
    .compose_occupancy = compose,
};
