/* occupancy.c: what fills the memory of an allocator over time, stacked by kind, one panel a run. */
#include <math.h>
#include <stdlib.h>

#include "plots/style.h"

typedef struct occupancy_config {
    int panels;
} occupancy_config;

static const kvs_param params[] = {
    {"panels", KVS_PARAM_INT, offsetof(occupancy_config, panels), "6", 1, 24, "", "at most so many runs", NULL},
    {.name = NULL},
};

enum { WIDTH = 800, COLUMNS = 2, LEFT = 62, RIGHT = 770, TOP = 130, GAP = 70, PANEL = 170, BETWEEN = 92, KINDS = 5 };

static const struct {
    const char *name;
    int color;
} kinds[KINDS] = {
    {"payload", 1}, {"metadata", 5}, {"residual (full precision)", 3}, {"padding", 4}, {"internal fragmentation", 6}};

typedef struct page {
    const kvs_occupancy_results *results;
    kvs_figure *figure;
    int count;
    long rows; /* of the .csv so far */
} page;

/* Drawn runs have a series: those of a sequential replay have none. */
static const kvs_occupancy_run *drawn_run(const page *p, int panel) {
    for (int i = 0; i < p->results->runs_count; i++)
        if (p->results->runs[i].samples > 1 && panel-- == 0) return &p->results->runs[i];
    return NULL;
}

static void write_rows(page *p, int panel, const kvs_occupancy_run *run) {
    FILE *csv = p->figure->csv;
    for (int64_t i = 0; i < run->samples; i++) {
        const kvs_occupancy *o = &run->series[i];
        const double values[] = {o->payload_bytes,       o->metadata_bytes, o->residual_bytes, o->padding_bytes,
                                 o->fragmentation_bytes, o->running,        o->waiting};
        fprintf(csv, "%d,", panel);
        kvs_style_csv_number(csv, o->t_s);
        for (int v = 0; v < 7; v++) {
            fputc(',', csv);
            kvs_style_csv_number(csv, v < KINDS ? values[v] / 1e9 : values[v]);
        }
        fputc(',', csv);
        kvs_style_csv_number(csv, run->memory_bytes / 1e9);
        fputc(',', csv);
        kvs_style_csv_text(csv, run->scheme);
        fputc('\n', csv);
    }
}

static void write_areas(page *p, const kvs_occupancy_run *run) {
    FILE *gp = p->figure->gp;
    char below[128] = "0";
    long first = p->rows, last = p->rows + (long)run->samples - 1;
    fputs("plot ", gp);
    for (int kind = 0; kind < KINDS; kind++) {
        char above[128];
        snprintf(above, sizeof above, "%s+$%d", below, kind + 3);
        fprintf(gp,
                "'%s.csv' skip 1 every ::%ld::%ld using 2:(%s):(%s) with filledcurves fs solid noborder lc rgb %d, "
                "\\\n     ",
                p->figure->name, first, last, below, above, kvs_style_color(kinds[kind].color));
        snprintf(below, sizeof below, "%s", above);
    }
    fprintf(gp, "'%s.csv' skip 1 every ::%ld::%ld using 2:10 with lines lw 1.8 dt 2 lc rgb '#000000', \\\n     ",
            p->figure->name, first, last);
    fprintf(gp, "'%s.csv' skip 1 every ::%ld::%ld using 2:8 axes x1y2 with lines lw 0.8 lc rgb '%s'\n", p->figure->name,
            first, last, KVS_INK);
    p->rows = last + 1;
}

static void draw_panel(page *p, int panel, kvs_box box) {
    const kvs_occupancy_run *run = drawn_run(p, panel);
    kvs_figure *figure = p->figure;
    FILE *gp = figure->gp;
    char title[256], text[256];
    double room = box.right - box.left + 40;
    snprintf(title, sizeof title - 4, "%s, %s, %.3g GB", run->scheme, run->allocator, run->memory_bytes / 1e9);
    snprintf(text, sizeof text - 4, "peak %lld running, %.2g %% fragmented, %lld preempted",
             (long long)run->peak_running, 100 * run->fragmentation_share, (long long)run->preemptions);
    kvs_style_fit(title, KVS_FONT_SMALL, room);
    kvs_style_fit(text, KVS_FONT_SMALL, room);
    kvs_style_label(figure, box.left, box.top - 26, KVS_LEFT, KVS_FONT_SMALL, KVS_INK, title);
    kvs_style_label(figure, box.left, box.top - 11, KVS_LEFT, KVS_FONT_SMALL, KVS_FAINT, text);
    kvs_style_label(figure, (box.left + box.right) / 2, box.bottom + 34, KVS_CENTER, KVS_FONT_SMALL, KVS_INK,
                    "seconds");
    if (panel % COLUMNS == 0)
        kvs_style_upright(figure, box.left - 44, (box.top + box.bottom) / 2, KVS_FONT_SMALL, KVS_INK, "GB in use");
    kvs_style_panel(figure, box);
    fprintf(gp, "set xrange [0:%.6g]\nset yrange [0:%.6g]\nset y2range [0:%lld]\nset y2tics\n",
            run->series[run->samples - 1].t_s, 1.04 * run->memory_bytes / 1e9, (long long)run->peak_running + 1);
    write_rows(p, panel, run);
    write_areas(p, run);
    kvs_style_next_panel(figure);
    fputs("unset y2tics\nset autoscale y2\n", gp);
}

static void draw_page(page *p) {
    kvs_figure *figure = p->figure;
    int columns = p->count < COLUMNS ? p->count : COLUMNS, lines = (p->count + columns - 1) / columns;
    double width = (RIGHT - LEFT - GAP * (columns - 1.0)) / columns, x = 24;
    kvs_style_begin(figure, WIDTH, TOP + lines * (PANEL + BETWEEN) - 40, "What fills the memory of the cache over time",
                    "bytes handed out, by kind; a page that several requests share counts once");
    fputs("panel,t_s,payload_gb,metadata_gb,residual_gb,padding_gb,fragmentation_gb,running,waiting,memory_gb,scheme\n",
          figure->csv);
    for (int kind = 0; kind < KINDS; kind++) {
        kvs_style_legend_patch(figure, x, 66, kvs_style_color(kinds[kind].color), kinds[kind].name);
        x += kvs_style_text_width(kinds[kind].name, KVS_FONT_SMALL) + 34;
    }
    kvs_style_line(figure, 18, 86, 46, 86, "lw 1.8 dt 2 lc rgb '#000000'");
    kvs_style_label(figure, 52, 86, KVS_LEFT, KVS_FONT_SMALL, KVS_INK, "memory for the cache");
    kvs_style_line(figure, 198, 86, 226, 86, "lw 0.8 lc rgb '" KVS_INK "'");
    kvs_style_label(figure, 232, 86, KVS_LEFT, KVS_FONT_SMALL, KVS_INK, "running requests (axis on the right)");
    for (int panel = 0; panel < p->count; panel++) {
        double left = LEFT + (panel % columns) * (width + GAP), y = TOP + (panel / columns) * (PANEL + BETWEEN);
        draw_panel(p, panel, (kvs_box){left, y, left + width, y + PANEL});
    }
    kvs_style_end(figure);
}

static kvs_status compose(const kvs_occupancy_results *results, const void *config, kvs_figure *figure,
                          kvs_error *error) {
    page p = {.results = results, .figure = figure};
    int most = ((const occupancy_config *)config)->panels;
    while (p.count < most && drawn_run(&p, p.count) != NULL) p.count++;
    if (p.count == 0) return kvs_fail(error, KVS_INPUT, "results", "series", "no run has a time series");
    draw_page(&p);
    return KVS_OK;
}

const kvs_plot_type kvs_plot_occupancy = {
    .name = "occupancy",
    .summary = "memory in use over time, stacked by kind, fragmentation with it, one panel a run (of kvscope alloc)",
    .params = params,
    .config_bytes = sizeof(occupancy_config),
    .compose_occupancy = compose,
};
