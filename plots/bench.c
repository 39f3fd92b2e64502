/* bench.c: what kvscope bench measured on a device: attention's time beside its floor, its speed over full precision
 * and its share of copy bandwidth, by batch, length and layout; the share that quantizing and dequantizing reach. */
#include <math.h>
#include <string.h>

#include "plots/style.h"

typedef struct bench_config {
    int against;
} bench_config;

static const char *const rivals[] = {"fp16", "fastest", NULL};
static const kvs_param params[] = {
    {"against", KVS_PARAM_CHOICE, offsetof(bench_config, against), "fp16", 0, 0, "",
     "full precision that speed is over: our kernel, or the faster of it and the --peer", rivals},
    {.name = NULL},
};

enum { MOST = 12, LEFT = 74, TOP = 88, GAP = 24, PANELS = 720, LEAST = 170, HIGH = 150, ROW = 186, LEGEND = 150 };

/* The distinct values of the rows: batches and lengths ascending, layouts and kernels of pages as they come. */
typedef struct axes {
    int batches[MOST], lengths[MOST];
    const char *layouts[MOST], *kernels[MOST], *packed[MOST]; /* packed: layouts with times of pages */
    int batches_count, lengths_count, layouts_count, kernels_count, packed_count;
} axes;

/* Rows of the .csv that are one line of a panel. */
typedef struct span {
    int first, count;
} span;

typedef struct page {
    const kvs_timings *timings;
    const bench_config *config;
    kvs_figure *figure;
    axes axes;
    span lines[MOST][MOST]; /* [length][layout] */
    span bars;
    int rows;                                 /* of the .csv */
    double low, high, best, share, bar_share; /* seconds; the largest speedup and shares of copy */
} page;

static int is_attention(const kvs_timing *row) {
    return row->batch > 0 && row->tokens > 0 && row->layout[0] != '\0';
}

static int is_of_pages(const kvs_timing *row) {
    return row->batch == 0 && row->layout[0] != '\0';
}

static int put_number(int *list, int *count, int number) {
    int at = 0;
    while (at < *count && list[at] < number) at++;
    if (at < *count && list[at] == number) return 1;
    if (*count == MOST) return 0;
    memmove(list + at + 1, list + at, sizeof *list * (size_t)(*count - at));
    list[at] = number;
    ++*count;
    return 1;
}

static int index_of(const char *const *list, int count, const char *text) {
    for (int i = 0; i < count; i++)
        if (strcmp(list[i], text) == 0) return i;
    return -1;
}

static int put_text(const char **list, int *count, const char *text) {
    if (index_of(list, *count, text) >= 0) return 1;
    if (*count == MOST) return 0;
    list[(*count)++] = text;
    return 1;
}

static kvs_status find_axes(const kvs_timings *timings, axes *a, kvs_error *error) {
    for (int i = 0; i < timings->count; i++) {
        const kvs_timing *row = &timings->rows[i];
        int good = 1;
        if (is_attention(row))
            good = put_number(a->batches, &a->batches_count, row->batch) &&
                   put_number(a->lengths, &a->lengths_count, row->tokens);
        else if (is_of_pages(row))
            good = put_text(a->kernels, &a->kernels_count, row->kernel) &&
                   put_text(a->packed, &a->packed_count, row->layout);
        else
            continue;
        if (!good || !put_text(a->layouts, &a->layouts_count, row->layout))
            return kvs_fail(error, KVS_INPUT, "results", row->kernel,
                            "more than %d batches, lengths, layouts or kernels cannot be drawn", MOST);
    }
    if (a->layouts_count > 0) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, "results", NULL, "hold no time of a layout");
}

/* --- numbers ------------------------------------------------------------------------------------------------------ */

static double speedup_of(const page *p, const kvs_timing *row) {
    return p->config->against == 0 ? row->speedup_vs_fp16 : row->speedup_vs_fastest;
}

static void write_row(page *p, double x, const kvs_timing *row) {
    FILE *csv = p->figure->csv;
    double numbers[] = {x, 1e6 * row->seconds, 1e6 * row->seconds * row->of_copy, speedup_of(p, row),
                        100 * row->of_copy};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        kvs_style_csv_number(csv, numbers[i]);
        fputc(',', csv);
    }
    int layout = index_of(p->axes.layouts, p->axes.layouts_count, row->layout);
    fprintf(csv, "%d,%d,%d,", kvs_style_color(layout), row->batch, row->tokens);
    kvs_style_csv_text(csv, row->kernel);
    fputc(',', csv);
    kvs_style_csv_text(csv, row->layout);
    fputc('\n', csv);
    p->rows++;
}

/* The measurement of a place, NULL where there is none. */
static const kvs_timing *find(const page *p, int batch, int tokens, const char *kernel, const char *layout) {
    for (int i = 0; i < p->timings->count; i++) {
        const kvs_timing *row = &p->timings->rows[i];
        if (row->batch == batch && row->tokens == tokens && strcmp(row->layout, layout) == 0 &&
            (kernel == NULL || strcmp(row->kernel, kernel) == 0))
            return row;
    }
    return NULL;
}

static void write_attention(page *p) {
    const axes *a = &p->axes;
    for (int l = 0; l < a->lengths_count; l++)
        for (int y = 0; y < a->layouts_count; y++) {
            span *line = &p->lines[l][y];
            line->first = p->rows;
            for (int b = 0; b < a->batches_count; b++) {
                const kvs_timing *row = find(p, a->batches[b], a->lengths[l], NULL, a->layouts[y]);
                if (row == NULL) continue;
                write_row(p, b, row);
                p->low = fmin(p->low, row->seconds * fmin(row->of_copy, 1));
                p->high = fmax(p->high, row->seconds * fmax(row->of_copy, 1));
                p->share = fmax(p->share, row->of_copy);
                p->best = fmax(p->best, speedup_of(p, row)); /* fmax takes the number where one is NaN */
            }
            line->count = p->rows - line->first;
        }
}

static void write_bars(page *p) {
    const axes *a = &p->axes;
    p->bars.first = p->rows;
    for (int k = 0; k < a->kernels_count; k++)
        for (int y = 0; y < a->packed_count; y++) {
            const kvs_timing *row = find(p, 0, 0, a->kernels[k], a->packed[y]);
            if (row == NULL) continue;
            write_row(p, k * (a->packed_count + 1) + y, row);
            p->bar_share = fmax(p->bar_share, row->of_copy);
        }
    p->bars.count = p->rows - p->bars.first;
}

/* --- panels ------------------------------------------------------------------------------------------------------- */

/* A row of panels, one a length: a column of the .csv by batch; a dashed line a layout, or one for all. */
typedef struct measure {
    const char *name;
    int column, dashed; /* dashed: a column too; 0: the line `level` */
    double level;
} measure;

static void draw_lines(const page *p, const measure *m, int length) {
    FILE *gp = p->figure->gp;
    const char *name = p->figure->name;
    int begun = 0;
    fputs("plot ", gp);
    if (m->dashed == 0) {
        fprintf(gp, "%.6g with lines dt 2 lw 1 lc rgb '%s'", m->level, KVS_FAINT);
        begun = 1;
    }
    for (int y = 0; y < p->axes.layouts_count; y++) {
        span line = p->lines[length][y];
        if (line.count == 0) continue;
        int last = line.first + line.count - 1, color = kvs_style_color(y);
        if (m->dashed > 0)
            fprintf(gp, "%s'%s.csv' skip 1 every ::%d::%d using 1:%d with lines dt 2 lw 1 lc rgb %d",
                    begun++ ? ", \\\n     " : "", name, line.first, last, m->dashed, color);
        fprintf(gp, "%s'%s.csv' skip 1 every ::%d::%d using 1:%d with linespoints lw 1.6 pt %d ps 0.8 lc rgb %d",
                begun++ ? ", \\\n     " : "", name, line.first, last, m->column, kvs_style_filled_shape(y), color);
    }
    fputc('\n', gp);
}

static void batch_tics(const page *p) {
    fprintf(p->figure->gp, "set xrange [-0.4:%.6g]\nset xtics (", p->axes.batches_count - 0.6);
    for (int b = 0; b < p->axes.batches_count; b++)
        fprintf(p->figure->gp, "%s'%d' %d", b ? ", " : "", p->axes.batches[b], b);
    fputs(")\n", p->figure->gp);
}

static void draw_measure(const page *p, const measure *m, double top, double wide) {
    FILE *gp = p->figure->gp;
    kvs_style_upright(p->figure, LEFT - 54, top + HIGH / 2.0, KVS_FONT_SMALL, KVS_INK, m->name);
    for (int l = 0; l < p->axes.lengths_count; l++) {
        double left = LEFT + l * (wide + GAP);
        char text[64];
        snprintf(text, sizeof text, "%d tokens", p->axes.lengths[l]);
        if (top == TOP) kvs_style_label(p->figure, left + 8, top - 14, KVS_LEFT, KVS_FONT_TEXT, KVS_INK, text);
        if (l == 0)
            kvs_style_label(p->figure, left - 8, top + HIGH + 16, KVS_RIGHT, KVS_FONT_SMALL, KVS_FAINT, "batch");
        kvs_style_panel(p->figure, (kvs_box){left, top, left + wide, top + HIGH});
        batch_tics(p);
        if (m->column == 2)
            kvs_style_log_axis(p->figure, "y", 1e6 * p->low / 1.3, 1e6 * p->high * 1.3, 1e6 * p->low / 1.3);
        else
            fprintf(gp, "set yrange [0:%.6g]\nset ytics autofreq\n",
                    1.08 * fmax(m->level, m->column == 4 ? p->best : 100 * p->share));
        if (l > 0) fputs("set format y ''\n", gp);
        draw_lines(p, m, l);
        fputs("set format y '% h'\n", gp);
        kvs_style_next_panel(p->figure);
    }
}

static void draw_bars(const page *p, double top, double right) {
    FILE *gp = p->figure->gp;
    const axes *a = &p->axes;
    double middle = (a->packed_count - 1) / 2.0;
    kvs_style_upright(p->figure, LEFT - 54, top + HIGH / 2.0, KVS_FONT_SMALL, KVS_INK, "pages: % of copy");
    kvs_style_panel(p->figure, (kvs_box){LEFT, top, right, top + HIGH});
    fprintf(gp, "set xrange [-1:%d]\nset yrange [0:%.6g]\nset xtics (", a->kernels_count * (a->packed_count + 1) - 1,
            108 * fmax(1, p->bar_share));
    for (int k = 0; k < a->kernels_count; k++) {
        fputs(k ? ", " : "", gp);
        kvs_style_quote(gp, a->kernels[k]);
        fprintf(gp, " %.6g", k * (a->packed_count + 1) + middle);
    }
    fprintf(gp,
            ")\nplot 100 with lines dt 2 lw 1 lc rgb '%s', \\\n     '%s.csv' skip 1 every ::%d::%d using "
            "1:5:(0.86):6 with boxes fs solid noborder lc rgb variable\n",
            KVS_FAINT, p->figure->name, p->bars.first, p->bars.first + p->bars.count - 1);
    kvs_style_next_panel(p->figure);
}

/* --- the page ----------------------------------------------------------------------------------------------------- */

static void begin(const page *p, int width, int height) {
    const kvs_timings *t = p->timings;
    char conditions[512];
    snprintf(conditions, sizeof conditions,
             "%.200s, %s; %d KV heads, %d query heads, head_dim %d, page %d, boost %.4g, sinks %d, V window %d; median "
             "of %d",
             t->device != NULL ? t->device : "unknown device", t->backend != NULL ? t->backend : "?", t->kv_heads,
             t->query_heads, t->head_dim, t->page_tokens, t->head_dim > 0 ? 1.0 * t->boost_channels / t->head_dim : 0,
             t->sink_tokens, t->window_tokens, t->repeats);
    kvs_style_begin(p->figure, width, height, "Kernels against full precision and the copy bandwidth of the same run",
                    conditions);
    fputs("x,time_us,floor_us,speedup,percent_of_copy,color,batch,tokens,kernel,layout\n", p->figure->csv);
}

static void legend(const page *p, double x) {
    for (int y = 0; y < p->axes.layouts_count; y++)
        kvs_style_legend_point(p->figure, x, TOP + 10 + 20.0 * y, kvs_style_filled_shape(y), kvs_style_color(y),
                               p->axes.layouts[y]);
}

/* Where nothing was compared with full precision, that row of panels is left out. */
static int has_speedup(const page *p) {
    for (int i = 0; i < p->timings->count; i++)
        if (isfinite(speedup_of(p, &p->timings->rows[i]))) return 1;
    return 0;
}

static kvs_status compose(const kvs_timings *timings, const void *config, kvs_figure *figure, kvs_error *error) {
    page p = {.timings = timings, .config = config, .figure = figure, .low = INFINITY};
    KVS_TRY(find_axes(timings, &p.axes, error));
    const measure measures[] = {
        {"attention: us (dashed: floor)", 2, 3, 0},
        {"attention: % of copy", 5, 0, 100},
        {p.config->against == 0 ? "speed over fp16-hnd" : "speed over the faster fp16", 4, 0, 1},
    };
    int columns = p.axes.lengths_count, bars = p.axes.kernels_count > 0;
    int rows = columns > 0 ? 2 + has_speedup(&p) : 0, shown = columns > 0 ? columns : 1;
    double wide = fmax(LEAST, (PANELS - GAP * (shown - 1.0)) / shown), right = LEFT + shown * (wide + GAP) - GAP;
    begin(&p, (int)right + LEGEND, TOP + ROW * (rows + bars) + 8);
    legend(&p, right + 20);
    write_attention(&p);
    write_bars(&p);
    for (int i = 0; i < rows; i++) draw_measure(&p, &measures[i], TOP + ROW * i, wide);
    if (bars) draw_bars(&p, TOP + ROW * rows, right);
    kvs_style_end(figure);
    return KVS_OK;
}

const kvs_plot_type kvs_plot_bench = {
    .name = "bench",
    .summary = "time beside its floor, share of copy bandwidth, speed over full precision (of kvscope bench --json)",
    .params = params,
    .config_bytes = sizeof(bench_config),
    .compose_timings = compose,
};
