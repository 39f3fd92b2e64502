/* hit_rate.c: prefix hit rate against the capacity of the cache, one line a scheme and page size. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plots/style.h"

typedef struct hit_rate_config {
    int x;
} hit_rate_config;

static const char *const axes[] = {"tokens", "bytes", NULL};
static const kvs_param params[] = {
    {"x", KVS_PARAM_CHOICE, offsetof(hit_rate_config, x), "tokens", 0, 0, "",
     "capacity in tokens that the pages hold, or in bytes", axes},
    {.name = NULL},
};

enum { WIDTH = 800, HEIGHT = 520 };
static const kvs_box box = {70, 78, 560, 460};

typedef struct line {
    const kvs_occupancy_run *first; /* names the line */
    const kvs_occupancy_run **runs; /* ascending capacity */
    int count;
} line;

static int by_tokens; /* for qsort: set before, read by nobody else */

static double capacity_of(const kvs_occupancy_run *run) {
    return by_tokens ? (double)run->total_pages * (double)run->page_tokens : run->memory_bytes;
}

static int by_capacity(const void *a, const void *b) {
    double x = capacity_of(*(const kvs_occupancy_run *const *)a), y = capacity_of(*(const kvs_occupancy_run *const *)b);
    return (x > y) - (x < y);
}

static int usable(const kvs_occupancy_run *run) {
    return isfinite(run->hit_rate) && isfinite(capacity_of(run)) && capacity_of(run) > 0 &&
           strcmp(run->allocator, "paged") == 0;
}

/* Puts each run into its line; returns the number of lines, or -1 when memory is short. */
static int make_lines(const kvs_occupancy_results *results, line *lines) {
    int count = 0;
    for (int i = 0; i < results->runs_count; i++) {
        const kvs_occupancy_run *run = &results->runs[i];
        int at = 0;
        if (!usable(run)) continue;
        while (at < count &&
               (strcmp(lines[at].first->scheme, run->scheme) != 0 || lines[at].first->page_tokens != run->page_tokens))
            at++;
        if (at == count) {
            lines[count++] = (line){.first = run, .runs = calloc((size_t)results->runs_count, sizeof *lines->runs)};
            if (lines[at].runs == NULL) return -1;
        }
        lines[at].runs[lines[at].count++] = run;
    }
    return count;
}

static void draw(const line *lines, int count, kvs_figure *figure) {
    FILE *csv = figure->csv, *gp = figure->gp;
    double low = INFINITY, high = 0, top = 0;
    long row = 0;
    kvs_style_begin(figure, WIDTH, HEIGHT, "Prefix hit rate against the capacity of the cache",
                    "hit tokens over queried tokens; paged allocator");
    fputs("line,capacity,hit_rate,evictions,scheme\n", csv);
    for (int i = 0; i < count; i++)
        for (int j = 0; j < lines[i].count; j++) {
            const kvs_occupancy_run *run = lines[i].runs[j];
            low = fmin(low, capacity_of(run));
            high = fmax(high, capacity_of(run));
            top = fmax(top, run->hit_rate);
            fprintf(csv, "%d,", i);
            kvs_style_csv_number(csv, capacity_of(run));
            fputc(',', csv);
            kvs_style_csv_number(csv, run->hit_rate);
            fprintf(csv, ",%lld,", (long long)run->evictions);
            kvs_style_csv_text(csv, run->scheme);
            fputc('\n', csv);
        }
    kvs_style_upright(figure, box.left - 52, (box.top + box.bottom) / 2, KVS_FONT_TEXT, KVS_INK, "hit rate");
    kvs_style_label(figure, (box.left + box.right) / 2, box.bottom + 38, KVS_CENTER, KVS_FONT_TEXT, KVS_INK,
                    by_tokens ? "capacity of the pages (tokens)" : "memory for the cache (bytes)");
    for (int i = 0; i < count; i++) {
        char name[256];
        snprintf(name, sizeof name - 4, "%s, pages of %lld", lines[i].first->scheme,
                 (long long)lines[i].first->page_tokens);
        kvs_style_fit(name, KVS_FONT_SMALL, WIDTH - box.right - 46);
        kvs_style_legend_point(figure, box.right + 24, box.top + 10 + 20.0 * i, kvs_style_filled_shape(i),
                               kvs_style_color(i), name);
    }
    kvs_style_panel(figure, box);
    kvs_style_log_axis(figure, "x", low / 1.3, high * 1.3, low / 1.3);
    fprintf(gp, "set yrange [0:%.6g]\nplot ", top > 0 ? 1.08 * top : 1);
    for (int i = 0; i < count; i++) {
        fprintf(gp, "%s'%s.csv' skip 1 every ::%ld::%ld using 2:3 with linespoints lw 1.6 pt %d lc rgb %d",
                i ? ", \\\n     " : "", figure->name, row, row + lines[i].count - 1, kvs_style_filled_shape(i),
                kvs_style_color(i));
        row += lines[i].count;
    }
    fputc('\n', gp);
    kvs_style_next_panel(figure);
    kvs_style_end(figure);
}

static kvs_status compose(const kvs_occupancy_results *results, const void *config, kvs_figure *figure,
                          kvs_error *error) {
    by_tokens = ((const hit_rate_config *)config)->x == 0;
    line *lines = calloc((size_t)results->runs_count + 1, sizeof *lines);
    int count = lines != NULL ? make_lines(results, lines) : -1;
    for (int i = 0; i < count; i++) qsort(lines[i].runs, (size_t)lines[i].count, sizeof *lines[i].runs, by_capacity);
    if (count > 0) draw(lines, count, figure);
    for (int i = 0; i < count; i++) free(lines[i].runs);
    free(lines);
    if (count < 0) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    if (count > 0) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, "results", "hit_rate", "no run of the paged allocator has a hit rate");
}

const kvs_plot_type kvs_plot_hit_rate = {
    .name = "hit-rate",
    .summary = "prefix hit rate against capacity, one line a scheme (of kvscope alloc)",
    .params = params,
    .config_bytes = sizeof(hit_rate_config),
    .compose_occupancy = compose,
};
