/* frontier.h: what the files of the frontier plot share. */
#ifndef KVS_PLOTS_FRONTIER_H
#define KVS_PLOTS_FRONTIER_H

#include "plots/families.h"
#include "plots/labels.h"
#include "plots/measure.h"
#include "plots/placement.h"
#include "plots/style.h"
#include "plots/zero_axis.h"

enum { FRONTIER_LABEL_FRONTIER, FRONTIER_LABEL_ALL };

typedef struct frontier_config {
    int memory, measure, statistic, labels;
    double low, high; /* of memory; 0: none */
} frontier_config;

enum {
    FRONTIER_LINE = 15,
    FRONTIER_MOST_MEASURES = 2,
    FRONTIER_MOST_NAMES = KVS_MOST_PLACED,
};

typedef struct frontier_axes {
    double low_x, high_x;
    kvs_zero_axis y;      /* of a measure on a logarithmic axis */
    double low_y, high_y; /* of one on a linear axis */
} frontier_axes;

typedef struct frontier_page {
    const kvs_results *results;
    const frontier_config *config;
    kvs_figure *figure;
    kvs_scheme_labels labels;
    int measures[FRONTIER_MOST_MEASURES], measures_count;
    int measure;            /* of the panel under way */
    double *memory, *error; /* [results_count], of that measure; NaN: not drawn */
    int *of_trace, *order;  /* scratch */
    double *trace_memory, *trace_error;
    int rows; /* of the .csv, so far */
    int width;
    frontier_axes axes;
} frontier_page;

/* What is written beside point number `point` of page->order. */
typedef struct frontier_name {
    int point, family;
    char text[160];
} frontier_name;

/* Fills names [FRONTIER_MOST_NAMES] of a panel whose points are page->order [drawn], the first `on` of them on the
 * frontier: those on the frontier, at most 24 of them, points that are equal sharing one of what their names have in
 * common; or of all points, more than four of one family and memory sharing one. Returns how many. */
int kvs_frontier_names(const frontier_page *page, int drawn, int on, frontier_name *names);

/* The range of memory of one trace, or of all (trace -1). Returns how many points there are. */
int kvs_frontier_memory_axis(const frontier_page *page, int trace, frontier_axes *axes);

/* Draws the panel of one trace, of page->measure, into the box; it has points. */
KVS_MUST_CHECK kvs_status kvs_frontier_panel(frontier_page *page, int trace, kvs_box box, kvs_error *error);

#endif
