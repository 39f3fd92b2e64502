#include "plots/zero_axis.h"

#include <math.h>

#include "plots/style.h"

kvs_zero_axis kvs_zero_axis_find(const double *values, int count, double least) {
    double low = INFINITY, high = 0;
    int zeros = 0;
    for (int i = 0; i < count; i++) {
        if (isnan(values[i])) continue;
        zeros += !(values[i] > least);
        if (!(values[i] > least)) continue;
        low = fmin(low, values[i]);
        high = fmax(high, values[i]);
    }
    if (high == 0) low = high = least > 0 ? 10 * least : 1e-3; /* only zeros: any decade will do */
    double decades = fmax(log10(high / low), 0.6);
    kvs_zero_axis axis = {.high = high * pow(10, decades * 0.08), .least = least};
    axis.low = axis.lowest_tic = low / pow(10, decades * 0.10);
    if (zeros > 0) {
        axis.zero = axis.low / pow(10, decades * 0.08);
        axis.low = axis.zero / pow(10, decades * 0.06);
    }
    return axis;
}

void kvs_zero_axis_write(const kvs_zero_axis *axis, const char *name, kvs_figure *figure) {
    kvs_style_log_axis(figure, name, axis->low, axis->high, axis->lowest_tic);
    char text[32] = "0";
    if (axis->least > 0) snprintf(text, sizeof text, "< %g", axis->least);
    if (axis->zero > 0) fprintf(figure->gp, "set %stics add ('%s' %.9g)\n", name, text, axis->zero);
    fprintf(figure->gp, "shown_%s(value) = value > %.9g ? value : %.9g\n", name, axis->least, axis->zero);
}

double kvs_zero_axis_part(const kvs_zero_axis *axis, double value) {
    return log((value > axis->least ? value : axis->zero) / axis->low) / log(axis->high / axis->low);
}
