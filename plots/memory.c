/* memory.c: memory against sequence length, stacked by kind, one panel a scheme, beside what 16 bits would take. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plots/labels.h"
#include "plots/select.h"
#include "plots/style.h"

typedef struct memory_config {
    int panels, unit;
} memory_config;

static const char *const units[] = {"bits", "bytes", NULL};

static const kvs_param params[] = {
    {"panels", KVS_PARAM_INT, offsetof(memory_config, panels), "6", 1, 24, "",
     "at most so many schemes, spread over the frontier of each trace", NULL},
    {"unit", KVS_PARAM_CHOICE, offsetof(memory_config, unit), "bits", 0, 0, "",
     "bytes of one sequence, or effective bits per element", units},
    {.name = NULL},
};

enum { WIDTH = 800, COLUMNS = 3, LEFT = 60, RIGHT = 782, TOP = 120, GAP = 56, PANEL = 170, BETWEEN = 88, KINDS = 4 };

static const struct {
    const char *name;
    int color;
    size_t offset;
} kinds[KINDS] = {{"payload", 1, offsetof(kvs_bits, payload)},
                  {"metadata", 5, offsetof(kvs_bits, metadata)},
                  {"residual (full precision)", 3, offsetof(kvs_bits, residual)},
                  {"padding", 4, offsetof(kvs_bits, padding)}};

typedef struct memory_page {
    const kvs_results *results;
    const memory_config *config;
    kvs_figure *figure;
    kvs_scheme_labels labels;
    int *chosen, count, candidates, rows;
    double scale; /* what one unit of the axis is, in bytes: 1, 1024, ... */
    const char *unit;
} memory_page;

static int has_memory(const kvs_result *result) {
    return result->memory_count > 1;
}

static const kvs_trace_summary *trace_of(const memory_page *page, int panel) {
    return &page->results->traces[page->results->results[page->chosen[panel]].trace];
}

/* Elements of K and V in one token, all layers and heads. */
static double token_elements(const kvs_trace_summary *trace) {
    return 2.0 * trace->layers * trace->kv_heads * trace->head_dim;
}

/* What bits of a point become on the axis, before the scale: bytes, or bits per element. */
static double axis_value(const memory_page *page, int panel, int64_t tokens, double bits) {
    return page->config->unit == 0 ? bits / (token_elements(trace_of(page, panel)) * (double)tokens) : bits / 8;
}

static double kind_bits(const kvs_memory_point *point, int kind) {
    double bits;
    memcpy(&bits, (const char *)&point->bits + kinds[kind].offset, sizeof bits);
    return bits;
}

static double full_bits(const memory_page *page, int panel, int64_t tokens) {
    return 16 * token_elements(trace_of(page, panel)) * (double)tokens;
}

/* The largest value on the y axis of a trace, and its shortest and longest sequence, over all its panels. */
static void find_ranges(const memory_page *page, const kvs_trace_summary *trace, double *high, int64_t *least,
                        int64_t *most) {
    *high = 0;
    *most = 1;
    *least = INT64_MAX;
    for (int panel = 0; panel < page->count; panel++) {
        const kvs_result *result = &page->results->results[page->chosen[panel]];
        if (trace_of(page, panel) != trace) continue;
        for (int i = 0; i < result->memory_count; i++) {
            const kvs_memory_point *point = &result->memory[i];
            *high = fmax(*high, axis_value(page, panel, point->tokens, kvs_bits_sum(point->bits)));
            *high = fmax(*high, axis_value(page, panel, point->tokens, full_bits(page, panel, point->tokens)));
            if (point->tokens > *most) *most = point->tokens;
            if (point->tokens < *least) *least = point->tokens;
        }
    }
}

static void choose_unit(memory_page *page, double high) {
    static const char *const names[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    int power = 0;
    page->scale = 1;
    page->unit = "effective bits per element";
    if (page->config->unit == 0) return;
    for (; power < 4 && high / page->scale >= 2048; power++) page->scale *= 1024;
    page->unit = names[power];
}

static int write_rows(memory_page *page, int panel) {
    FILE *csv = page->figure->csv;
    const kvs_result *result = &page->results->results[page->chosen[panel]];
    int rows = 0;
    for (int i = 0; i < result->memory_count; i++) {
        const kvs_memory_point *point = &result->memory[i];
        fprintf(csv, "%d,%lld", panel, (long long)point->tokens);
        for (int kind = 0; kind < KINDS; kind++) {
            fputc(',', csv);
            kvs_style_csv_number(csv, axis_value(page, panel, point->tokens, kind_bits(point, kind)));
        }
        fputc(',', csv);
        kvs_style_csv_number(csv, axis_value(page, panel, point->tokens, full_bits(page, panel, point->tokens)));
        fputc(',', csv);
        kvs_style_csv_text(csv, result->scheme);
        fputc(',', csv);
        kvs_style_csv_text(csv, trace_of(page, panel)->model_name);
        fputc('\n', csv);
        rows++;
    }
    return rows;
}

/* "4k" is 4096 tokens. */
static void tokens_text(int64_t tokens, char *text, size_t text_bytes) {
    int thousands = tokens >= 1024 && tokens % 1024 == 0;
    snprintf(text, text_bytes, "%lld%s", (long long)(thousands ? tokens / 1024 : tokens), thousands ? "k" : "");
}

/* Tics at multiples of a power of two (or, on the logarithmic axis, at every other power). */
static void write_token_tics(const memory_page *page, int64_t least, int64_t most) {
    FILE *gp = page->figure->gp;
    int64_t step = 1;
    while (step * 4 < most) step *= 2;
    int logarithmic = page->config->unit == 0;
    if (logarithmic)
        fprintf(gp, "set logscale x 2\nset xrange [%lld:%lld]\n", (long long)least, (long long)most);
    else
        fprintf(gp, "set xrange [0:%lld]\n", (long long)most);
    fputs("set xtics (", gp);
    int written = 0;
    for (int64_t tokens = logarithmic ? 1 : 0; tokens <= most; tokens = logarithmic ? tokens * 4 : tokens + step) {
        if (tokens < least && logarithmic) continue;
        char text[32];
        tokens_text(tokens, text, sizeof text);
        fprintf(gp, "%s'%s' %lld", written++ ? ", " : "", text, (long long)tokens);
    }
    fputs(")\n", gp);
}

static void write_areas(memory_page *page, int rows) {
    FILE *gp = page->figure->gp;
    char below[128] = "0";
    fputs("plot ", gp);
    for (int kind = 0; kind < KINDS; kind++) {
        char above[128];
        snprintf(above, sizeof above, "%s+$%d", below, kind + 3);
        fprintf(gp,
                "'%s.csv' skip 1 every ::%d::%d using 2:((%s)/scale):((%s)/scale) with filledcurves fs solid noborder "
                "lc rgb %d, \\\n     ",
                page->figure->name, page->rows, page->rows + rows - 1, below, above,
                kvs_style_color(kinds[kind].color));
        snprintf(below, sizeof below, "%s", above);
    }
    fprintf(gp, "'%s.csv' skip 1 every ::%d::%d using 2:($7/scale) with lines lw 1.8 dt 2 lc rgb '#000000'\n",
            page->figure->name, page->rows, page->rows + rows - 1);
}

/* The axes of a panel, the same for all panels of a trace. */
static void write_axes(memory_page *page, int panel) {
    double high;
    int64_t least, most;
    find_ranges(page, trace_of(page, panel), &high, &least, &most);
    choose_unit(page, high);
    fprintf(page->figure->gp, "scale = %.9g\nset yrange [0:%.9g]\n", page->scale, high * 1.04 / page->scale);
    write_token_tics(page, least, most);
}

static void draw_panel(memory_page *page, int panel, kvs_box box) {
    kvs_figure *figure = page->figure;
    const kvs_result *result = &page->results->results[page->chosen[panel]];
    const kvs_memory_point *last = &result->memory[result->memory_count - 1];
    double room = box.right - box.left + GAP - 12;
    char scheme[200], length[32], text[320];
    snprintf(scheme, sizeof scheme - 4, "%s", page->labels.labels[page->chosen[panel]].text);
    kvs_style_fit(scheme, KVS_FONT_SMALL, room);
    tokens_text(last->tokens, length, sizeof length);
    snprintf(text, sizeof text - 4, "%.3g bits at %s, %s",
             kvs_bits_sum(last->bits) * 16 / full_bits(page, panel, last->tokens), length,
             kvs_trace_name(trace_of(page, panel)));
    kvs_style_fit(text, KVS_FONT_SMALL, room);
    kvs_style_label(figure, box.left, box.top - 26, KVS_LEFT, KVS_FONT_SMALL, KVS_INK, scheme);
    kvs_style_label(figure, box.left, box.top - 11, KVS_LEFT, KVS_FONT_SMALL, KVS_FAINT, text);
    kvs_style_label(figure, (box.left + box.right) / 2, box.bottom + 32, KVS_CENTER, KVS_FONT_SMALL, KVS_INK, "tokens");
    kvs_style_upright(figure, box.left - 40, (box.top + box.bottom) / 2, KVS_FONT_SMALL, KVS_INK, page->unit);
    kvs_style_panel(figure, box);
    int rows = write_rows(page, panel);
    write_areas(page, rows);
    page->rows += rows;
    kvs_style_next_panel(figure);
}

static void draw_page(memory_page *page) {
    kvs_figure *figure = page->figure;
    int columns = page->count < COLUMNS ? page->count : COLUMNS, lines = (page->count + columns - 1) / columns;
    double width = (RIGHT - LEFT - GAP * (columns - 1.0)) / columns;
    kvs_style_begin(figure, WIDTH, TOP + lines * (PANEL + BETWEEN) - 40, "Memory of one sequence against its length",
                    page->count < page->candidates
                        ? "all layers and KV heads; a page that is not full yet waits as residual; schemes from the "
                          "frontier (--scheme chooses)"
                        : "all layers and KV heads; a page that is not full yet waits as residual");
    fputs("panel,tokens,payload,metadata,residual,padding,fp16,scheme,model\n", figure->csv);
    double x = 24;
    for (int kind = 0; kind < KINDS; kind++) {
        kvs_style_legend_patch(figure, x, 66, kvs_style_color(kinds[kind].color), kinds[kind].name);
        x += kvs_style_text_width(kinds[kind].name, KVS_FONT_SMALL) + 34;
    }
    kvs_style_line(figure, x - 6, 66, x + 26, 66, "lw 1.8 dt 2 lc rgb '#000000'");
    kvs_style_label(figure, x + 32, 66, KVS_LEFT, KVS_FONT_SMALL, KVS_INK, "16 bits an element");
    for (int panel = 0; panel < page->count; panel++) {
        double left = LEFT + (panel % columns) * (width + GAP), y = TOP + (panel / columns) * (PANEL + BETWEEN);
        write_axes(page, panel);
        draw_panel(page, panel, (kvs_box){left, y, left + width, y + PANEL});
    }
    kvs_style_end(figure);
}

static kvs_status compose(const kvs_results *results, const void *config_of, kvs_figure *figure, kvs_error *error) {
    memory_page page = {.results = results, .config = config_of, .figure = figure};
    KVS_TRY(kvs_scheme_labels_make(results, &page.labels, error));
    kvs_status status = KVS_OK;
    page.chosen = malloc(sizeof *page.chosen * (size_t)(results->results_count + 1));
    if (page.chosen != NULL)
        page.count = kvs_select_panels(results, has_memory, page.config->panels, page.chosen, &page.candidates);
    if (page.chosen == NULL || page.count < 0)
        status = kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    else if (page.count == 0)
        status = kvs_fail(error, KVS_INPUT, "results", "memory", "no result has its memory at several lengths");
    else
        draw_page(&page);
    free(page.chosen);
    kvs_scheme_labels_clear(&page.labels);
    return status;
}

const kvs_plot_type kvs_plot_memory = {
    .name = "memory",
    .summary = "memory against sequence length, stacked by kind, one panel a scheme",
    .params = params,
    .config_bytes = sizeof(memory_config),
    .compose = compose,
};
