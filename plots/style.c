#include "plots/style.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/version.h"

/* Black first: what comes first in a file is the baseline. Yellow, hard to see on white, comes last. */
static const int okabe_ito[] = {0x000000, 0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0xe69f00, 0x56b4e9, 0xf0e442};
/* gnuplot's circle, square, triangles, diamond, pentagon: filled, and open. */
static const int filled_shapes[] = {7, 5, 9, 13, 11, 15, 3};
static const int open_shapes[] = {6, 4, 8, 12, 10, 14, 2};
enum { COLORS = 8, SHAPES = 7 };

int kvs_style_color(int index) {
    return okabe_ito[index % COLORS];
}

/* Each part of a colour scaled to numerator / 20 and moved by offset. */
static int mix(int color, int numerator, int offset) {
    int mixed = 0;
    for (int shift = 0; shift <= 16; shift += 8)
        mixed |= (((color >> shift) & 0xff) * numerator / 20 + offset) << shift;
    return mixed;
}

int kvs_style_tint(int index) {
    return mix(kvs_style_color(index), 9, 255 * 11 / 20);
}

int kvs_style_shade(int index) {
    return mix(kvs_style_color(index), 14, 0);
}

int kvs_style_filled_shape(int index) {
    return filled_shapes[index % SHAPES];
}

int kvs_style_open_shape(int index) {
    return open_shapes[index % SHAPES];
}

/* --- texts -------------------------------------------------------------------------------------------------------- */

/* The bytes of the UTF-8 character at text, or 0 if it is none or a control character (C0, DEL, C1). */
static int character_bytes(const char *text) {
    const unsigned char *c = (const unsigned char *)text;
    if (c[0] < 0x80) return c[0] >= 0x20 && c[0] != 0x7f;
    int bytes = c[0] >= 0xf0 && c[0] < 0xf5 ? 4 : c[0] >= 0xe0 && c[0] < 0xf0 ? 3 : c[0] >= 0xc2 && c[0] < 0xe0 ? 2 : 0;
    for (int i = 1; i < bytes; i++)
        if ((c[i] & 0xc0) != 0x80) return 0;
    int overlong = (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xf0 && c[1] < 0x90);
    int surrogate_or_beyond = (c[0] == 0xed && c[1] >= 0xa0) || (c[0] == 0xf4 && c[1] >= 0x90);
    int c1_control = c[0] == 0xc2 && c[1] < 0xa0;
    return overlong || surrogate_or_beyond || c1_control ? 0 : bytes;
}

/* The text between two marks, on one line, with what stands for a mark inside it. */
static void write_marked(FILE *file, const char *text, char mark, const char *inside) {
    fputc(mark, file);
    for (int bytes; text != NULL && *text != '\0'; text += bytes > 0 ? bytes : 1) {
        bytes = character_bytes(text);
        if (bytes == 0)
            fputc(' ', file);
        else if (*text == mark)
            fputs(inside, file);
        else
            fwrite(text, 1, (size_t)bytes, file);
    }
    fputc(mark, file);
}

/* gnuplot reads '' as an apostrophe, but not at the start of a text: a typographic one is safe everywhere. */
void kvs_style_quote(FILE *gp, const char *text) {
    write_marked(gp, text, '\'', "\xe2\x80\x99");
}

void kvs_style_csv_text(FILE *csv, const char *text) {
    write_marked(csv, text, '"', "\"\"");
}

void kvs_style_csv_number(FILE *csv, double value) {
    if (isnan(value))
        fputs("NaN", csv);
    else
        fprintf(csv, "%.9g", value);
}

double kvs_style_text_width(const char *text, int font) {
    double units = 0;
    for (; *text != '\0'; text++) {
        if (((unsigned char)*text & 0xc0) == 0x80) continue;
        units += strchr("ijlI.,:;|' ()[]", *text) != NULL ? 0.38 : strchr("mwMW", *text) != NULL ? 0.95 : 0.64;
    }
    return units * font;
}

void kvs_style_fit(char *text, int font, double width) {
    static const char ellipsis[] = "\xe2\x80\xa6";
    size_t length = strlen(text);
    if (kvs_style_text_width(text, font) <= width) return;
    while (length > 0) {
        do length--;
        while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80);
        memcpy(text + length, ellipsis, sizeof ellipsis);
        if (kvs_style_text_width(text, font) <= width) return;
    }
}

const char *kvs_style_base_name(const char *path) {
    const char *slash = path == NULL ? NULL : strrchr(path, '/');
    return slash != NULL ? slash + 1 : path != NULL ? path : "";
}

/* --- the page ----------------------------------------------------------------------------------------------------- */

void kvs_style_begin(kvs_figure *figure, int width, int height, const char *title, const char *conditions) {
    figure->width = width;
    figure->height = height;
    const char *name = figure->name;
    /* A font of 12 is 12 pixels in the SVG and 16 in the PNG, which is drawn at twice the size: 1.5 times as large. */
    fprintf(figure->gp,
            "# %s: drawn by kvscope %s from a results file. `gnuplot %s.gp` in this folder draws it again.\n"
            "if (!exists('kind')) kind = 'svg'\n"
            "reset\n"
            "set encoding utf8\n"
            "set datafile separator ','\n"
            "if (kind eq 'svg') set terminal svg noenhanced size %d,%d font 'sans-serif,%d' background '#ffffff'\n"
            "if (kind eq 'png') set terminal pngcairo noenhanced size %d,%d fontscale 1.5 linewidth 2 pointscale 2 "
            "font 'sans-serif,%d' background '#ffffff'\n"
            "set output '%s.'.kind\n"
            /* viridis (van der Walt and Smith 2015, CC0): even steps look even, in grey and to the colour-blind too */
            "set palette defined (0 '#440154', 1 '#482878', 2 '#3e4a89', 3 '#31688e', 4 '#26828e', 5 '#1f9e89', "
            "6 '#35b779', 7 '#6dcd59', 8 '#b4de2c', 9 '#fde725')\n"
            "set border 3 lc rgb '" KVS_INK "'\n"
            "set grid back lc rgb '#e4e4e4' lt 1 lw 0.7\n"
            "set tics nomirror out scale 0.6 font ',%d' textcolor rgb '" KVS_INK "'\n"
            "set xtics offset 0,0.3\n"
            "unset key\n"
            "set multiplot\n",
            name, KVS_VERSION, name, width, height, KVS_FONT_TEXT, 2 * width, 2 * height, KVS_FONT_TEXT, name,
            KVS_FONT_SMALL);
    kvs_style_label(figure, 16, 20, KVS_LEFT, KVS_FONT_TITLE, KVS_INK, title);
    char fitted[512];
    snprintf(fitted, sizeof fitted - 4, "%s", conditions);
    kvs_style_fit(fitted, KVS_FONT_SMALL, width - 32.0);
    kvs_style_label(figure, 16, 41, KVS_LEFT, KVS_FONT_SMALL, KVS_FAINT, fitted);
}

void kvs_style_end(kvs_figure *figure) {
    fprintf(figure->gp,
            "unset multiplot\n"
            "unset output\n"
            "if (kind eq 'svg') kind = 'png'; load '%s.gp'\n",
            figure->name);
}

static void screen(const kvs_figure *figure, double x, double y) {
    fprintf(figure->gp, "screen %.5f,%.5f", x / figure->width, 1 - y / figure->height);
}

static void label(kvs_figure *figure, double x, double y, const char *place, int font, const char *color,
                  const char *text) {
    fputs("set label ", figure->gp);
    kvs_style_quote(figure->gp, text);
    fputs(" at ", figure->gp);
    screen(figure, x, y);
    fprintf(figure->gp, " %s front font ',%d' textcolor rgb '%s'\n", place, font, color);
}

void kvs_style_label(kvs_figure *figure, double x, double y, kvs_align align, int font, const char *color,
                     const char *text) {
    static const char *const places[] = {[KVS_LEFT] = "left", [KVS_CENTER] = "center", [KVS_RIGHT] = "right"};
    label(figure, x, y, places[align], font, color, text);
}

void kvs_style_upright(kvs_figure *figure, double x, double y, int font, const char *color, const char *text) {
    label(figure, x, y, "center rotate by 90", font, color, text);
}

void kvs_style_legend_point(kvs_figure *figure, double x, double y, int shape, int color, const char *text) {
    fputs("set label '' at ", figure->gp);
    screen(figure, x, y);
    fprintf(figure->gp, " point pt %d ps 1 lc rgb %d\n", shape, color);
    kvs_style_label(figure, x + 10, y, KVS_LEFT, KVS_FONT_SMALL, KVS_INK, text);
}

void kvs_style_legend_patch(kvs_figure *figure, double x, double y, int color, const char *text) {
    fprintf(figure->gp, "set label '' at ");
    screen(figure, x, y);
    fprintf(figure->gp, " point pt 5 ps 1.6 lc rgb %d\n", color);
    kvs_style_label(figure, x + 10, y, KVS_LEFT, KVS_FONT_SMALL, KVS_INK, text);
}

void kvs_style_line(kvs_figure *figure, double x0, double y0, double x1, double y1, const char *look) {
    fputs("set arrow nohead from ", figure->gp);
    screen(figure, x0, y0);
    fputs(" to ", figure->gp);
    screen(figure, x1, y1);
    fprintf(figure->gp, " %s\n", look);
}

void kvs_style_panel(kvs_figure *figure, kvs_box box) {
    fprintf(figure->gp,
            "set lmargin at screen %.5f\nset rmargin at screen %.5f\nset tmargin at screen %.5f\n"
            "set bmargin at screen %.5f\n",
            box.left / figure->width, box.right / figure->width, 1 - box.top / figure->height,
            1 - box.bottom / figure->height);
}

void kvs_style_next_panel(kvs_figure *figure) {
    fputs("unset label\nunset arrow\nunset logscale xy\nset xtics autofreq\nset ytics autofreq\n", figure->gp);
}

/* --- axes --------------------------------------------------------------------------------------------------------- */

/* Digits at which a decade may be marked, from few to many: the first list that gives enough tics is used. */
static const char *const digit_lists[] = {"1", "13", "125", "12346", "123456789"};
enum { DIGIT_LISTS = 5, ENOUGH_TICS = 4, MOST_DECADES = 9 };

static int write_log_tics(FILE *gp, const char *digits, double low, double high) {
    int count = 0, first = (int)floor(log10(low)), last = (int)ceil(log10(high));
    int stride = 1 + (last - first) / MOST_DECADES;
    for (int decade = last; decade >= first; decade -= stride)
        for (const char *digit = digits; *digit != '\0'; digit++) {
            char text[32];
            snprintf(text, sizeof text, "%ce%d", *digit, decade); /* read back, so that 0.1 is 0.1 */
            double tic = strtod(text, NULL);
            if (tic < low || tic > high) continue;
            if (gp != NULL) fprintf(gp, "%s'%.10g' %.10g", count ? ", " : "", tic, tic);
            count++;
        }
    return count;
}

void kvs_style_log_axis(kvs_figure *figure, const char *axis, double low, double high, double lowest_tic) {
    int list = 0;
    while (list < DIGIT_LISTS - 1 && write_log_tics(NULL, digit_lists[list], lowest_tic, high) < ENOUGH_TICS) list++;
    fprintf(figure->gp, "set logscale %s\nset %srange [%.9g:%.9g]\nset %stics (", axis, axis, low, high, axis);
    if (write_log_tics(figure->gp, digit_lists[list], lowest_tic, high) == 0)
        fprintf(figure->gp, "'%.4g' %.9g", lowest_tic, lowest_tic);
    fputs(")\n", figure->gp);
}

void kvs_style_index_tics(kvs_figure *figure, const char *axis, int count, int most, double step, double shift) {
    static const int strides[] = {1, 2, 4, 8, 16, 32, 64, 128, 256};
    int stride = 1;
    for (int i = 0; i < (int)(sizeof strides / sizeof *strides) && (count - 1) / stride + 1 > most; i++)
        stride = strides[i];
    fprintf(figure->gp, "set %stics (", axis);
    for (int i = 0; i < count; i += stride) fprintf(figure->gp, "%s'%d' %.9g", i ? ", " : "", i, i * step + shift);
    fputs(")\n", figure->gp);
}
