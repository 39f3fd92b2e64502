/* zero_axis.h: a logarithmic axis for numbers that may be 0 or below, or too small to mean anything, which get a place
 * of their own below the others. */
#ifndef KVS_PLOTS_ZERO_AXIS_H
#define KVS_PLOTS_ZERO_AXIS_H

#include "plots/plot.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_zero_axis {
    double low, high, lowest_tic;
    double least; /* what is not above it counts as 0 */
    double zero;  /* where 0 is drawn; 0 if there is none */
} kvs_zero_axis;

/* The axis that holds all values [count] but NaN. */
kvs_zero_axis kvs_zero_axis_find(const double *values, int count, double least);

/* Sets axis "x" or "y", with its tics, and defines shown_x(value) or shown_y(value) for the plot command. */
void kvs_zero_axis_write(const kvs_zero_axis *axis, const char *name, kvs_figure *figure);

/* Where a value is drawn, as a part of the axis's length from its low end. */
double kvs_zero_axis_part(const kvs_zero_axis *axis, double value);

#ifdef __cplusplus
}
#endif
#endif
