/* families.h: the legend of plots that draw schemes as points, family by family, and the marks of each. */
#ifndef KVS_PLOTS_FAMILIES_H
#define KVS_PLOTS_FAMILIES_H

#include "plots/labels.h"
#include "plots/style.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where a legend from y on ends, below, in a figure of that width. */
double kvs_family_legend_bottom(const kvs_scheme_labels *labels, int width, double y);

/* Draws it, side by side and line by line, and defines the arrays color, tint, shape and open_shape [families], from 1.
 */
void kvs_family_legend_write(kvs_figure *figure, const kvs_scheme_labels *labels, double y);

#ifdef __cplusplus
}
#endif
#endif
