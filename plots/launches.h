/* launches.h: what the plots of a profile share: a colour for each kernel, a shape for each layout, and their legend.
 */
#ifndef KVS_PLOTS_LAUNCHES_H
#define KVS_PLOTS_LAUNCHES_H

#include "plots/style.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "kitty", or "every layout". */
const char *kvs_launch_layout(const kvs_profile_launch *launch);

/* The number of a launch's kernel, or layout, among those of launches that ran, in the order of the profile. */
int kvs_launch_kernel_index(const kvs_profile *profile, int launch);
int kvs_launch_layout_index(const kvs_profile *profile, int launch);

/* One line a kernel (a coloured square), then one a layout (an open shape), from (x, y) down; in `width` pixels. */
void kvs_launch_legend(kvs_figure *figure, const kvs_profile *profile, double x, double y, double width);

/* Whether anything was measured. */
int kvs_launch_is_measured(const kvs_profile *profile);

/* The measured value of a metric of a launch, NaN where there is none. */
double kvs_launch_measured(const kvs_profile *profile, int launch, const char *metric);

/* A line of conditions for under the title: input, shape, and what measured. */
void kvs_launch_conditions(const kvs_profile *profile, char *text, size_t text_bytes);

#ifdef __cplusplus
}
#endif
#endif
