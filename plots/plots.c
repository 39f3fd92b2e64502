/* plots.c: the list of plots. A new one is a file here and a line in each half of this list. */
#include <string.h>

#include "plots/plot.h"

extern const kvs_plot_type kvs_plot_frontier, kvs_plot_heads, kvs_plot_channels, kvs_plot_memory, kvs_plot_proxy;
extern const kvs_plot_type kvs_plot_roofline, kvs_plot_prediction, kvs_plot_sectors;
extern const kvs_plot_type kvs_plot_occupancy, kvs_plot_hit_rate, kvs_plot_concurrency;
extern const kvs_plot_type kvs_plot_bench;
extern const kvs_plot_type kvs_plot_correlation, kvs_plot_boost, kvs_plot_stability, kvs_plot_sensitivity;

const kvs_plot_type *const kvs_plot_types[] = {
    &kvs_plot_frontier, &kvs_plot_heads, &kvs_plot_channels, &kvs_plot_memory, &kvs_plot_proxy, NULL,
};

const kvs_plot_type *const kvs_occupancy_plot_types[] = {
    &kvs_plot_occupancy,
    &kvs_plot_hit_rate,
    &kvs_plot_concurrency,
    NULL,
};

const kvs_plot_type *const kvs_profile_plot_types[] = {&kvs_plot_roofline, &kvs_plot_prediction, &kvs_plot_sectors,
                                                       NULL};

const kvs_plot_type *const kvs_timings_plot_types[] = {&kvs_plot_bench, NULL};

const kvs_plot_type *const kvs_ranking_plot_types[] = {
    &kvs_plot_correlation, &kvs_plot_boost, &kvs_plot_stability, &kvs_plot_sensitivity, NULL,
};

const kvs_plot_type *kvs_plot_type_find(const char *name) {
    for (int i = 0; kvs_plot_types[i] != NULL; i++)
        if (strcmp(kvs_plot_types[i]->name, name) == 0) return kvs_plot_types[i];
    return NULL;
}
