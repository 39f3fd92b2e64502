#include "plots/rankings.h"

#include <string.h>

enum { BLACK = 0x222222, GREY = 0x8a8a8a, LINE = 18, COLORS = 6 /* without black and yellow */ };

void kvs_rankings_begin(kvs_figure *figure, const kvs_rank_results *r, int width, int height, const char *title,
                        const char *more) {
    char model[120], conditions[480];
    int named = r->model_name != NULL && r->model_name[0] != '\0';
    snprintf(model, sizeof model - 4, "%s", named ? r->model_name : kvs_style_base_name(r->trace_path));
    kvs_style_fit(model, KVS_FONT_SMALL, 200);
    snprintf(conditions, sizeof conditions, "%s: %d pages of %d layers x %d KV heads, %d sequences; %s", model,
             r->pages_count, r->layers, r->kv_heads, r->sequences, more);
    kvs_style_begin(figure, width, height, title, conditions);
}

static int is_metric(const kvs_rank_results *r, int metric) {
    return metric < kvs_rank_chance(r);
}

int kvs_rankings_color(const kvs_rank_results *r, int metric) {
    return is_metric(r, metric) ? kvs_style_color(1 + metric % COLORS) : metric == kvs_rank_greedy(r) ? BLACK : GREY;
}

int kvs_rankings_shape(const kvs_rank_results *r, int metric) {
    return kvs_style_filled_shape(is_metric(r, metric) ? metric : 0);
}

int kvs_rankings_find(const kvs_rank_results *r, const char *name) {
    for (int m = 0; m < r->metrics_count; m++)
        if (strcmp(r->metrics[m].name, name) == 0) return m;
    return -1;
}

void kvs_rankings_draw_curves(kvs_figure *figure, const kvs_rank_results *r, const kvs_rankings_curve *curves,
                              int count, int x_column, int y_column) {
    fputs("plot ", figure->gp);
    for (int i = 0; i < count; i++) {
        const kvs_rankings_curve *c = &curves[i];
        int metric = is_metric(r, c->metric);
        fprintf(figure->gp,
                "%s'%s.csv' skip 1 every ::%ld::%ld using %d:%d with linespoints lw %s dt %d pt %d ps %s lc rgb %d",
                i ? ", \\\n     " : "", figure->name, c->first, c->last, x_column, y_column, metric ? "1.2" : "2",
                metric || c->metric == kvs_rank_greedy(r) ? 1 : 2, kvs_rankings_shape(r, c->metric),
                metric ? "0.8" : "0.4", kvs_rankings_color(r, c->metric));
    }
    fputc('\n', figure->gp);
}

void kvs_rankings_legend(kvs_figure *figure, const kvs_rank_results *r, const kvs_rankings_curve *curves, int count,
                         double x, double y) {
    for (int i = 0; i < count; i++) {
        char name[160];
        snprintf(name, sizeof name - 4, "%s", curves[i].name);
        kvs_style_fit(name, KVS_FONT_SMALL, figure->width - x - 16);
        kvs_style_legend_point(figure, x, y + LINE * i, kvs_rankings_shape(r, curves[i].metric),
                               kvs_rankings_color(r, curves[i].metric), name);
    }
}
