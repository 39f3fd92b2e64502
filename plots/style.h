/* style.h: what all plots share: palettes, fonts, terminals, titles, axes. A figure is laid out in pixels of its SVG,
 * x from the left and y from the top, so that a plot knows where its points and labels are. */
#ifndef KVS_PLOTS_STYLE_H
#define KVS_PLOTS_STYLE_H

#include "plots/plot.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A rectangle in pixels; y grows downwards. */
typedef struct kvs_box {
    double left, top, right, bottom;
} kvs_box;

typedef enum kvs_align { KVS_LEFT, KVS_CENTER, KVS_RIGHT } kvs_align;

enum { KVS_FONT_TITLE = 15, KVS_FONT_TEXT = 12, KVS_FONT_SMALL = 11 };
#define KVS_INK   "#222222"
#define KVS_FAINT "#666666"

/* Colours that the colour-blind tell apart (Okabe and Ito 2008) and point shapes, by index; both repeat, but not
 * together before 56. Tint: mixed with white, for what is not in the foreground. Shade: mixed with black, for text. */
int kvs_style_color(int index);
int kvs_style_tint(int index);
int kvs_style_shade(int index);
int kvs_style_filled_shape(int index);
int kvs_style_open_shape(int index);

/* Text from a file as a gnuplot string that stands for itself: single quotes, in which gnuplot expands nothing; an
 * apostrophe becomes a typographic one, control characters and bytes that are not UTF-8 become spaces. */
void kvs_style_quote(FILE *gp, const char *text);
/* A text field of the .csv (RFC 4180), on one line. Text comes last in a row: gnuplot cannot read past a "" in it. */
void kvs_style_csv_text(FILE *csv, const char *text);
/* A number of the .csv; NaN is written NaN, which gnuplot leaves out. */
void kvs_style_csv_number(FILE *csv, double value);

/* The width of a text in pixels, estimated on the generous side. */
double kvs_style_text_width(const char *text, int font);
/* Cuts a text in the buffer to that width, ending in an ellipsis; needs 4 bytes more than the text. */
void kvs_style_fit(char *text, int font, double width);
/* Where a text comes from: the file name without its folders. */
const char *kvs_style_base_name(const char *path);

/* The start of every .gp: terminals, encoding, palette; then the title and a line of conditions below it. */
void kvs_style_begin(kvs_figure *figure, int width, int height, const char *title, const char *conditions);
/* The end of every .gp: draws the page once more as PNG. */
void kvs_style_end(kvs_figure *figure);

/* A text at a place: y is its middle. color: "#rrggbb". kvs_style_upright reads upwards. */
void kvs_style_label(kvs_figure *figure, double x, double y, kvs_align align, int font, const char *color,
                     const char *text);
void kvs_style_upright(kvs_figure *figure, double x, double y, int font, const char *color, const char *text);
/* A point with its name to the right of it. */
void kvs_style_legend_point(kvs_figure *figure, double x, double y, int shape, int color, const char *text);
void kvs_style_legend_patch(kvs_figure *figure, double x, double y, int color, const char *text);
void kvs_style_line(kvs_figure *figure, double x0, double y0, double x1, double y1, const char *look);

/* Puts the next plot command's axes exactly into the box. */
void kvs_style_panel(kvs_figure *figure, kvs_box box);
/* Forgets labels, lines, tics and ranges of the panel before. */
void kvs_style_next_panel(kvs_figure *figure);

/* A logarithmic range of axis "x", "y" or "cb" (colour), with readable tics from lowest_tic on. */
void kvs_style_log_axis(kvs_figure *figure, const char *axis, double low, double high, double lowest_tic);
/* Tics at whole numbers 0..count-1, at most `most` of them, each at its number times `step` plus `shift`. */
void kvs_style_index_tics(kvs_figure *figure, const char *axis, int count, int most, double step, double shift);

/* --- heat maps ---------------------------------------------------------------------------------------------------- */

/* A logarithmic colour scale over low..high, drawn as a bar in the box, named above it. Later maps clip to low. */
void kvs_style_heat_scale(kvs_figure *figure, kvs_box bar, double low, double high, const char *label);

/* Rows first..last of the .csv (after its header) as rows x columns cells. page_cells: of all maps of the page; few
 * are drawn as rectangles, which stay sharp at any size, many as an image. */
typedef struct kvs_heat_map {
    int columns, rows;
    int x_column, y_column, value_column; /* of the .csv, from 1; x and y count from 0 */
    long first, last, page_cells;
} kvs_heat_map;
void kvs_style_heat_map(kvs_figure *figure, const kvs_heat_map *map);

#ifdef __cplusplus
}
#endif
#endif
