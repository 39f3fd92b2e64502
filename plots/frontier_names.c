/* frontier_names.c: which points of a frontier panel get a label, and what it says. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "plots/frontier.h"

enum { MOST_ON_FRONTIER = 24, MOST_IN_COLUMN = 4 };

static const char *text_of(const frontier_page *page, int k) {
    return page->labels.labels[page->order[k]].text;
}

/* A label for point k, which stands for `others` more; `all` is what their names have in common. */
static void name(const frontier_page *page, int k, int others, const char *all, frontier_name *made) {
    *made = (frontier_name){.point = k, .family = page->labels.labels[page->order[k]].family};
    const char *form = others == 0 ? "%s" : page->config->labels == FRONTIER_LABEL_ALL ? "%s (%d)" : "%s (%d alike)";
    snprintf(made->text, sizeof made->text - 4, form, all, others + 1);
    kvs_style_fit(made->text, KVS_FONT_SMALL, 300);
}

static int equal_points(const frontier_page *page, int k, int other) {
    int a = page->order[k], b = page->order[other];
    return page->memory[a] == page->memory[b] && page->error[a] == page->error[b];
}

static int name_frontier(const frontier_page *page, int on, frontier_name *names) {
    int count = 0, stride = (on + MOST_ON_FRONTIER - 1) / MOST_ON_FRONTIER;
    for (int k = 0, equals; k<on; k += stride> equals + 1 ? stride : equals + 1) {
        char text[sizeof page->labels.labels->text];
        memcpy(text, text_of(page, k), sizeof text);
        for (equals = 0; k + equals + 1 < on && equal_points(page, k, k + equals + 1);)
            kvs_scheme_label_common(text, text_of(page, k + ++equals));
        name(page, k, equals, text, &names[count++]);
    }
    return count;
}

/* Of one family, and one above the other. */
static int in_column(const frontier_page *page, int k, int other) {
    int a = page->order[k], b = page->order[other];
    return page->labels.labels[a].family == page->labels.labels[b].family &&
           fabs(log(page->memory[a] / page->memory[b])) < 1e-3;
}

/* How many of the points [from, to) are in the column of point k. */
static int count_column(const frontier_page *page, int k, int from, int to) {
    int count = 0;
    for (int other = from; other < to; other++) count += in_column(page, k, other);
    return count;
}

/* A column of many points has one label, at the lowest of them. */
static int name_all(const frontier_page *page, int drawn, frontier_name *names) {
    int count = 0;
    for (int k = 0; k < drawn && count < FRONTIER_MOST_NAMES; k++) {
        int shared = count_column(page, k, 0, drawn) > MOST_IN_COLUMN;
        if (shared && count_column(page, k, 0, k) > 0) continue;
        char text[sizeof page->labels.labels->text];
        int lowest = k, others = 0;
        memcpy(text, text_of(page, k), sizeof text);
        for (int other = k + 1; shared && other < drawn; other++) {
            if (!in_column(page, k, other)) continue;
            others++;
            kvs_scheme_label_common(text, text_of(page, other));
            lowest = page->error[page->order[other]] < page->error[page->order[lowest]] ? other : lowest;
        }
        name(page, lowest, others, text, &names[count++]);
    }
    return count;
}

int kvs_frontier_names(const frontier_page *page, int drawn, int on, frontier_name *names) {
    return page->config->labels == FRONTIER_LABEL_ALL ? name_all(page, drawn, names) : name_frontier(page, on, names);
}
