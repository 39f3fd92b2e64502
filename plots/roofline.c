/* roofline.c: left, DRAM bytes moved against the bandwidth achieved; right, arithmetic intensity against operations a
 * second. The roofs are what kernel copy achieved in the same profile. */
#include <math.h>

#include "plots/launches.h"

static const kvs_param params[] = {{.name = NULL}};

enum { WIDTH = 1000, HEIGHT = 480, LEGEND = 800 };
static const kvs_box left = {72, 84, 372, 420}, right = {476, 84, 776, 420};

typedef struct extent {
    double low, high;
} extent;

static void widen(extent *e, double value) {
    if (!(value > 0) || !isfinite(value)) return;
    e->low = fmin(e->low, value);
    e->high = fmax(e->high, value);
}

/* What is drawn of one launch. */
typedef struct point {
    double bytes, bandwidth, intensity, rate; /* bytes/s; operations a byte; operations/s */
} point;

static point point_of(const kvs_profile *p, int launch) {
    const kvs_profile_launch *l = &p->launches[launch];
    point at = {.bandwidth = kvs_launch_measured(p, launch, "bandwidth")};
    at.bytes = at.bandwidth * l->seconds;
    at.intensity = l->operations > 0 ? l->operations / at.bytes : NAN;
    at.rate = l->operations > 0 ? l->operations / l->seconds : NAN;
    return at;
}

static int is_drawn(const kvs_profile *p, int launch) {
    return p->launches[launch].refused == NULL && isfinite(kvs_launch_measured(p, launch, "bandwidth"));
}

static void write_points(const kvs_profile *p, kvs_figure *figure) {
    FILE *csv = figure->csv;
    fputs("megabytes,bandwidth_gb_s,operations_per_byte,gop_s,color,shape,kernel,layout\n", csv);
    for (int i = 0; i < p->launches_count; i++) {
        if (!is_drawn(p, i)) continue;
        point at = point_of(p, i);
        const double numbers[] = {at.bytes / 1e6, at.bandwidth / 1e9, at.intensity, at.rate / 1e9};
        for (int k = 0; k < 4; k++) {
            kvs_style_csv_number(csv, numbers[k]);
            fputc(',', csv);
        }
        fprintf(csv, "%d,%d,", kvs_style_color(kvs_launch_kernel_index(p, i)),
                kvs_style_filled_shape(kvs_launch_layout_index(p, i)));
        kvs_style_csv_text(csv, p->launches[i].kernel);
        fputc(',', csv);
        kvs_style_csv_text(csv, kvs_launch_layout(&p->launches[i]));
        fputc('\n', csv);
    }
}

static void draw_panel(kvs_figure *figure, kvs_box box, extent x, extent y, int columns, const char *roof) {
    kvs_style_panel(figure, box);
    kvs_style_log_axis(figure, "x", x.low / 2, x.high * 2, x.low / 2);
    kvs_style_log_axis(figure, "y", y.low / 2, y.high * 2, y.low / 2);
    fprintf(figure->gp, "plot %s '%s.csv' skip 1 using %d:%d:6:5 with points pt variable lc rgb variable ps 1.1\n",
            roof, figure->name, columns, columns + 1);
    kvs_style_next_panel(figure);
}

static void draw_labels(kvs_figure *figure, kvs_box box, const char *x, const char *y) {
    kvs_style_label(figure, (box.left + box.right) / 2, box.bottom + 40, KVS_CENTER, KVS_FONT_SMALL, KVS_INK, x);
    kvs_style_upright(figure, box.left - 52, (box.top + box.bottom) / 2, KVS_FONT_SMALL, KVS_INK, y);
}

static int applies(const kvs_profile *profile) {
    for (int i = 0; i < profile->launches_count; i++)
        if (is_drawn(profile, i)) return 1;
    return 0;
}

static kvs_status compose(const kvs_profile *profile, const void *config, kvs_figure *figure, kvs_error *error) {
    extent bytes = {INFINITY, 0}, bandwidth = bytes, intensity = bytes, rate = bytes;
    double copy = NAN;
    char conditions[512], roof[128] = "";
    (void)config;
    for (int i = 0; i < profile->launches_count; i++) {
        if (!is_drawn(profile, i)) continue;
        point at = point_of(profile, i);
        double fraction = kvs_launch_measured(profile, i, "fraction_of_copy");
        widen(&bytes, at.bytes / 1e6), widen(&bandwidth, at.bandwidth / 1e9);
        widen(&intensity, at.intensity), widen(&rate, at.rate / 1e9);
        if (fraction > 0) copy = at.bandwidth / fraction / 1e9;
    }
    if (bytes.high == 0)
        return kvs_fail(error, KVS_INPUT, "profile", "bandwidth", "nothing was measured; a prediction has no roofline");
    widen(&bandwidth, copy);
    kvs_launch_conditions(profile, conditions, sizeof conditions);
    kvs_style_begin(figure, WIDTH, HEIGHT, "Roofline: memory traffic and arithmetic of each kernel and layout",
                    conditions);
    write_points(profile, figure);
    draw_labels(figure, left, "megabytes read from and written to DRAM", "achieved bandwidth (GB/s)");
    kvs_launch_legend(figure, profile, LEGEND, left.top + 8, WIDTH - LEGEND - 16);
    if (copy > 0) {
        kvs_style_label(figure, left.left, 70, KVS_LEFT, KVS_FONT_SMALL, KVS_FAINT, "dashed: kernel copy");
        snprintf(roof, sizeof roof, "%.9g with lines dt 2 lc rgb '#888888',", copy);
    }
    if (rate.high > 0) draw_labels(figure, right, "arithmetic operations a byte of DRAM", "Gop/s");
    draw_panel(figure, left, bytes, bandwidth, 1, roof);
    if (copy > 0) snprintf(roof, sizeof roof, "%.9g*x with lines dt 2 lc rgb '#888888',", copy);
    if (rate.high > 0) draw_panel(figure, right, intensity, rate, 3, roof);
    kvs_style_end(figure);
    return KVS_OK;
}

const kvs_plot_type kvs_plot_roofline = {
    .name = "roofline",
    .summary = "bandwidth against bytes, operations a second against intensity (of a measured kvscope profile)",
    .params = params,
    .config_bytes = 1,
    .applies_to_profile = applies,
    .compose_profile = compose,
};
