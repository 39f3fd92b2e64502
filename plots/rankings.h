/* rankings.h: what the plots of a ranking study share: what it is about, and a mark for each ranking. */
#ifndef KVS_PLOTS_RANKINGS_H
#define KVS_PLOTS_RANKINGS_H

#include "plots/plot.h"
#include "plots/style.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "qwen3-7m: 360 pages of 6 layers x 2 KV heads, 2 sequences; ...": the line below the title. `more` follows. */
void kvs_rankings_begin(kvs_figure *figure, const kvs_rank_results *results, int width, int height, const char *title,
                        const char *more);

/* Metrics in colours; the greedy oracle black, chance and what else is no metric grey. */
int kvs_rankings_color(const kvs_rank_results *results, int metric);
int kvs_rankings_shape(const kvs_rank_results *results, int metric);

/* The place of the named ranking, or -1. */
int kvs_rankings_find(const kvs_rank_results *results, const char *name);

/* One curve of rows first..last of the .csv (after its header), the columns x and y from 1. */
typedef struct kvs_rankings_curve {
    const char *name;
    int metric;
    long first, last;
} kvs_rankings_curve;

/* The legend from x on and down from y, and the plot command of the curves in the panel that is set up. */
void kvs_rankings_draw_curves(kvs_figure *figure, const kvs_rank_results *results, const kvs_rankings_curve *curves,
                              int count, int x_column, int y_column);
void kvs_rankings_legend(kvs_figure *figure, const kvs_rank_results *results, const kvs_rankings_curve *curves,
                         int count, double x, double y);

#ifdef __cplusplus
}
#endif
#endif
