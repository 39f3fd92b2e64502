/* plot.h: a plot is one file in plots/ that registers one kvs_plot_type. It draws from a result file alone.
 *
 * A plot composes a figure: the text of NAME.csv (every number that is drawn) and of NAME.gp (how), which reads the
 * .csv beside it and writes NAME.svg and NAME.png; `gnuplot NAME.gp` in that folder draws it again by hand. Composing
 * is a pure function of the results: the same results give the same bytes. */
#ifndef KVS_PLOTS_PLOT_H
#define KVS_PLOTS_PLOT_H

#include <stddef.h>
#include <stdio.h>

#include "analysis/occupancy.h"
#include "analysis/profile.h"
#include "analysis/rank_result.h"
#include "analysis/result.h"
#include "analysis/timings.h"
#include "core/params.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_figure {
    char name[32];     /* the stem of its files */
    int width, height; /* pixels of the SVG; the PNG has twice as many each way */
    FILE *csv, *gp;    /* open while it is composed */
    char *csv_text, *gp_text;
    size_t csv_bytes, gp_bytes;
} kvs_figure;

typedef struct kvs_plot_type {
    const char *name, *summary;
    const kvs_param *params; /* of the configuration struct */
    size_t config_bytes;
    /* Writes figure->csv and figure->gp. Fails with KVS_INPUT when the results lack what the plot needs, with
     * KVS_USAGE when parameters do not fit together. */
    kvs_status (*compose)(const kvs_results *results, const void *config, kvs_figure *figure, kvs_error *error);
    /* Whether results have what the plot is about; without it `--kind all` leaves it out. NULL: they always have. */
    int (*applies)(const kvs_results *results);
    /* Instead of compose, for a plot of what `kvscope alloc` found. */
    kvs_status (*compose_occupancy)(const kvs_occupancy_results *results, const void *config, kvs_figure *figure,
                                    kvs_error *error);
    /* Or for a plot of what `kvscope profile` found. */
    int (*applies_to_profile)(const kvs_profile *profile); /* NULL: to all */
    kvs_status (*compose_profile)(const kvs_profile *profile, const void *config, kvs_figure *figure, kvs_error *error);
    /* Or for a plot of what `kvscope bench` measured on a device. */
    kvs_status (*compose_timings)(const kvs_timings *timings, const void *config, kvs_figure *figure, kvs_error *error);
    /* Or for a plot of what `kvscope rank` found. */
    kvs_status (*compose_ranking)(const kvs_rank_results *results, const void *config, kvs_figure *figure,
                                  kvs_error *error);
} kvs_plot_type;

/* All registered plots of replays and sweeps, ended by NULL; and one by its name, or NULL. The same of allocations,
 * of profiles, of timings and of ranking studies. */
extern const kvs_plot_type *const kvs_plot_types[];
extern const kvs_plot_type *const kvs_occupancy_plot_types[];
extern const kvs_plot_type *const kvs_profile_plot_types[];
extern const kvs_plot_type *const kvs_timings_plot_types[];
extern const kvs_plot_type *const kvs_ranking_plot_types[];
const kvs_plot_type *kvs_plot_type_find(const char *name);

/* Composes a figure; config as type->params describes it. *figure is the caller's, freed with kvs_figure_clear. */
KVS_MUST_CHECK kvs_status kvs_figure_compose(const kvs_plot_type *type, const kvs_results *results, const void *config,
                                             kvs_figure *figure, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_figure_compose_occupancy(const kvs_plot_type *type, const kvs_occupancy_results *results,
                                                       const void *config, kvs_figure *figure, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_figure_compose_profile(const kvs_plot_type *type, const kvs_profile *profile,
                                                     const void *config, kvs_figure *figure, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_figure_compose_timings(const kvs_plot_type *type, const kvs_timings *timings,
                                                     const void *config, kvs_figure *figure, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_figure_compose_ranking(const kvs_plot_type *type, const kvs_rank_results *results,
                                                     const void *config, kvs_figure *figure, kvs_error *error);
void kvs_figure_clear(kvs_figure *figure);

/* Writes NAME.csv and NAME.gp into the folder (made if missing) and removes pictures of an earlier run. */
KVS_MUST_CHECK kvs_status kvs_figure_write(const kvs_figure *figure, const char *folder, kvs_error *error);

/* Runs gnuplot there on what kvs_figure_write left. KVS_DEVICE when gnuplot is missing, or fails: with its message. */
KVS_MUST_CHECK kvs_status kvs_figure_draw(const kvs_figure *figure, const char *folder, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
