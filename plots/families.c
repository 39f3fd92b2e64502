#include "plots/families.h"

enum { LINE = 17, LEFT = 24 };

typedef struct legend_entry {
    char text[256];
    double x, y;
} legend_entry;

/* The entry of a family behind the one before; a new line where it does not fit. Returns the x behind it. */
static double place(const kvs_scheme_family *family, int width, double x, double y, legend_entry *entry) {
    snprintf(entry->text, sizeof entry->text - 4, family->common[0] ? "%s (%s)" : "%s", family->name, family->common);
    kvs_style_fit(entry->text, KVS_FONT_SMALL, width - 60);
    double length = kvs_style_text_width(entry->text, KVS_FONT_SMALL) + 30;
    int fits = x <= LEFT || x + length <= width;
    entry->x = fits ? x : LEFT;
    entry->y = fits ? y : y + LINE;
    return entry->x + length;
}

double kvs_family_legend_bottom(const kvs_scheme_labels *labels, int width, double y) {
    legend_entry entry = {.y = y};
    double x = LEFT;
    for (int i = 0; i < labels->families_count; i++) x = place(&labels->families[i], width, x, entry.y, &entry);
    return entry.y + LINE - 2 + (labels->shared[0] ? LINE : 0);
}

void kvs_family_legend_write(kvs_figure *figure, const kvs_scheme_labels *labels, double y) {
    static const struct {
        const char *name;
        int (*of)(int index);
    } marks[] = {{"color", kvs_style_color},
                 {"tint", kvs_style_tint},
                 {"shape", kvs_style_filled_shape},
                 {"open_shape", kvs_style_open_shape}};
    legend_entry entry = {.y = y};
    double x = LEFT;
    for (int i = 0; i < labels->families_count; i++) {
        x = place(&labels->families[i], figure->width, x, entry.y, &entry);
        kvs_style_legend_point(figure, entry.x, entry.y, kvs_style_filled_shape(i), kvs_style_color(i), entry.text);
    }
    if (labels->shared[0]) {
        char text[256];
        snprintf(text, sizeof text - 4, "all that set it: %s", labels->shared);
        kvs_style_fit(text, KVS_FONT_SMALL, figure->width - 60);
        kvs_style_label(figure, LEFT - 8, entry.y + LINE, KVS_LEFT, KVS_FONT_SMALL, KVS_FAINT, text);
    }
    for (int m = 0; m < 4; m++) {
        fprintf(figure->gp, "array %s[%d] = [", marks[m].name, labels->families_count);
        for (int i = 0; i < labels->families_count; i++) fprintf(figure->gp, "%s%d", i ? ", " : "", marks[m].of(i));
        fputs("]\n", figure->gp);
    }
}
