/* heat.c: the heat maps of style.h. */
#include "plots/style.h"

enum { RECTANGLES = 16000 }; /* more would make the SVG larger than two megabytes */

void kvs_style_heat_scale(kvs_figure *figure, kvs_box bar, double low, double high, const char *label) {
    double width = figure->width, height = figure->height;
    if (high <= low) high = low * 1.001;
    fprintf(figure->gp, "set colorbox user origin screen %.5f,%.5f size screen %.5f,%.5f noborder\n", bar.left / width,
            1 - bar.bottom / height, (bar.right - bar.left) / width, (bar.bottom - bar.top) / height);
    kvs_style_log_axis(figure, "cb", low, high, low);
    fprintf(figure->gp, "clip(value) = value < %.9g ? %.9g : value\n", low, low);
    kvs_style_label(figure, bar.left, bar.top - 12, KVS_LEFT, KVS_FONT_SMALL, KVS_INK, label);
}

void kvs_style_heat_map(kvs_figure *figure, const kvs_heat_map *map) {
    int x = map->x_column, y = map->y_column, value = map->value_column;
    fprintf(figure->gp, "set xrange [-0.5:%d.5]\nset yrange [%d.5:-0.5]\n", map->columns - 1, map->rows - 1);
    fprintf(figure->gp, "plot '%s.csv' skip 1 every ::%ld::%ld using %d:%d:", figure->name, map->first, map->last, x,
            y);
    if (map->page_cells <= RECTANGLES || map->columns < 2 || map->rows < 2) /* gnuplot's images are 2 x 2 at least */
        fprintf(figure->gp,
                "($%d-0.5):($%d+0.5):($%d-0.5):($%d+0.5):(clip($%d)) with boxxyerror fs solid noborder lc palette\n", x,
                x, y, y, value);
    else
        fprintf(figure->gp, "(clip($%d)) with image\n", value);
}
