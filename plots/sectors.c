/* sectors.c: sectors a request takes, and the useful bytes of each, by kernel and layout: bars are predicted, marks
 * measured. */
#include <math.h>
#include <string.h>

#include "plots/launches.h"

static const kvs_param params[] = {{.name = NULL}};

enum { WIDTH = 860, TOP = 104, LINE = 22, HEADING = 24, LEFT = 190, RIGHT = 640, MOST = 32 };

/* Reads are loads and asynchronous copies together. */
typedef struct access {
    double requests, sectors, useful;
} access;

static access read_of(const double *c) {
    double copies = isfinite(c[KVS_COUNTER_COPY_REQUESTS]) ? 1 : 0;
    access a = {c[KVS_COUNTER_LOAD_REQUESTS], c[KVS_COUNTER_LOAD_SECTORS], c[KVS_COUNTER_LOAD_USEFUL_BYTES]};
    if (copies > 0) {
        a.requests += c[KVS_COUNTER_COPY_REQUESTS];
        a.sectors += c[KVS_COUNTER_COPY_SECTORS];
        a.useful += c[KVS_COUNTER_COPY_USEFUL_BYTES];
    }
    return a;
}

static access written_of(const double *c) {
    return (access){c[KVS_COUNTER_STORE_REQUESTS], c[KVS_COUNTER_STORE_SECTORS], c[KVS_COUNTER_STORE_USEFUL_BYTES]};
}

static double ratio(double a, double b) {
    return b > 0 ? a / b : NAN;
}

/* Where a launch is drawn, in lines from the top of the panel; kernels have a heading each. */
typedef struct page {
    const kvs_profile *profile;
    kvs_figure *figure;
    double y; /* pixels */
    int rows;
} page;

static void write_row(page *p, const kvs_profile_launch *l, double y) {
    FILE *csv = p->figure->csv;
    access sides[] = {read_of(l->predicted), written_of(l->predicted), read_of(l->measured), written_of(l->measured)};
    fprintf(csv, "%.9g", y);
    for (int i = 0; i < 4; i++) {
        fputc(',', csv);
        kvs_style_csv_number(csv, ratio(sides[i].sectors, sides[i].requests));
    }
    for (int i = 0; i < 2; i++) {
        fputc(',', csv);
        kvs_style_csv_number(csv, ratio(sides[i].useful, sides[i].sectors));
    }
    fputc(',', csv);
    kvs_style_csv_text(csv, l->kernel);
    fputc(',', csv);
    kvs_style_csv_text(csv, kvs_launch_layout(l));
    fputc('\n', csv);
    for (int i = 0; i < 2; i++) {
        char text[32] = "-";
        if (sides[i].sectors > 0) snprintf(text, sizeof text, "%.1f", ratio(sides[i].useful, sides[i].sectors));
        kvs_style_label(p->figure, RIGHT + 70 + 80 * i, y, KVS_RIGHT, KVS_FONT_SMALL, KVS_INK, text);
    }
    kvs_style_label(p->figure, LEFT - 10, y, KVS_RIGHT, KVS_FONT_SMALL, KVS_INK, kvs_launch_layout(l));
}

static void lay_out(page *p) {
    const kvs_profile *profile = p->profile;
    const char *kernel = "";
    p->y = TOP;
    for (int i = 0; i < profile->launches_count; i++) {
        const kvs_profile_launch *l = &profile->launches[i];
        if (l->refused != NULL) continue;
        if (strcmp(kernel, l->kernel) != 0) {
            kernel = l->kernel;
            kvs_style_label(p->figure, 16, p->y + HEADING / 2.0 + 2, KVS_LEFT, KVS_FONT_TEXT, KVS_INK, kernel);
            p->y += HEADING;
        }
        write_row(p, l, p->y + LINE / 2.0);
        p->y += LINE;
        p->rows++;
    }
}

static double height_of(const kvs_profile *profile) {
    double height = TOP;
    const char *kernel = "";
    for (int i = 0; i < profile->launches_count; i++) {
        if (profile->launches[i].refused != NULL) continue;
        if (strcmp(kernel, profile->launches[i].kernel) != 0) height += HEADING;
        kernel = profile->launches[i].kernel;
        height += LINE;
    }
    return height;
}

/* Bars of half a line each, above and below the row's middle; marks where a GPU counted. */
static void draw(page *p, double bottom) {
    FILE *gp = p->figure->gp;
    const char *name = p->figure->name;
    fprintf(gp, "set xrange [0:%d]\nset yrange [%.6g:%d]\nunset ytics\nset xtics 4\n", MOST, bottom, TOP);
    fprintf(gp,
            "plot '%s.csv' skip 1 using (0):1:(0):2:($1-8):($1-0.5) with boxxyerror fs solid noborder lc rgb %d, \\\n"
            "     '%s.csv' skip 1 using (0):1:(0):3:($1+0.5):($1+8) with boxxyerror fs solid noborder lc rgb %d, \\\n"
            "     '%s.csv' skip 1 using 4:($1-9):(0):(9) with vectors nohead lw 2.4 lc rgb '%s', \\\n"
            "     '%s.csv' skip 1 using 5:($1):(0):(9) with vectors nohead lw 2.4 lc rgb '%s'\n",
            name, kvs_style_color(1), name, kvs_style_color(5), name, KVS_INK, name, KVS_INK);
}

static kvs_status compose(const kvs_profile *profile, const void *config, kvs_figure *figure, kvs_error *error) {
    (void)config;
    char conditions[512];
    double bottom = height_of(profile);
    page p = {.profile = profile, .figure = figure};
    kvs_launch_conditions(profile, conditions, sizeof conditions);
    kvs_style_begin(figure, WIDTH, (int)bottom + 56, "Sectors a request, by kernel and layout", conditions);
    fputs(
        "y,read,written,read_measured,written_measured,read_bytes_per_sector,written_bytes_per_sector,kernel,layout\n",
        figure->csv);
    kvs_style_legend_patch(figure, LEFT + 6, 72, kvs_style_color(1), "read (loads and asynchronous copies)");
    kvs_style_legend_patch(figure, LEFT + 256, 72, kvs_style_color(5), "written");
    if (profile->device != NULL) {
        kvs_style_line(figure, LEFT + 340, 64, LEFT + 340, 80, "lw 2.4 lc rgb '" KVS_INK "'");
        kvs_style_label(figure, LEFT + 350, 72, KVS_LEFT, KVS_FONT_SMALL, KVS_INK, "measured");
    }
    kvs_style_label(figure, RIGHT + 112, 64, KVS_CENTER, KVS_FONT_SMALL, KVS_INK, "useful bytes a sector, of 32");
    kvs_style_label(figure, RIGHT + 70, 84, KVS_RIGHT, KVS_FONT_SMALL, KVS_FAINT, "read");
    kvs_style_label(figure, RIGHT + 150, 84, KVS_RIGHT, KVS_FONT_SMALL, KVS_FAINT, "written");
    kvs_style_label(figure, (LEFT + RIGHT) / 2.0, bottom + 38, KVS_CENTER, KVS_FONT_SMALL, KVS_INK,
                    "sectors of 32 bytes a request (16 bytes a lane and nothing wasted: 16)");
    lay_out(&p);
    if (p.rows == 0) return kvs_fail(error, KVS_INPUT, "profile", "launches", "no kernel ran");
    kvs_style_panel(figure, (kvs_box){LEFT, TOP, RIGHT, bottom});
    draw(&p, bottom);
    kvs_style_next_panel(figure);
    fputs("set ytics\n", figure->gp);
    kvs_style_end(figure);
    return KVS_OK;
}

const kvs_plot_type kvs_plot_sectors = {
    .name = "sectors",
    .summary = "sectors a request and useful bytes a sector, by kernel and layout (of kvscope profile)",
    .params = params,
    .config_bytes = 1,
    .compose_profile = compose,
};
