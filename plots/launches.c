#include "plots/launches.h"

#include <math.h>
#include <string.h>

const char *kvs_launch_layout(const kvs_profile_launch *launch) {
    return launch->layout != NULL ? launch->layout : "every layout";
}

static const char *kernel_of(const kvs_profile_launch *launch) {
    return launch->kernel;
}

/* The number of launch's name among the distinct names of launches up to it; -1 when it did not run. */
static int index_of(const kvs_profile *p, int launch, const char *(*name)(const kvs_profile_launch *launch)) {
    int index = 0;
    for (int i = 0; i < p->launches_count; i++) {
        int seen = 0;
        if (p->launches[i].refused != NULL) continue;
        for (int j = 0; j < i && !seen; j++)
            seen = p->launches[j].refused == NULL && strcmp(name(&p->launches[j]), name(&p->launches[i])) == 0;
        if (!seen && strcmp(name(&p->launches[i]), name(&p->launches[launch])) == 0) return index;
        index += !seen;
    }
    return -1;
}

int kvs_launch_kernel_index(const kvs_profile *profile, int launch) {
    return index_of(profile, launch, kernel_of);
}

int kvs_launch_layout_index(const kvs_profile *profile, int launch) {
    return index_of(profile, launch, kvs_launch_layout);
}

static void legend_text(kvs_figure *figure, double x, double y, double width, int shape, int color, const char *text) {
    char fitted[128];
    snprintf(fitted, sizeof fitted - 4, "%s", text);
    kvs_style_fit(fitted, KVS_FONT_SMALL, width - 10);
    kvs_style_legend_point(figure, x, y, shape, color, fitted);
}

enum { LEGEND_LINE = 17 };

void kvs_launch_legend(kvs_figure *figure, const kvs_profile *profile, double x, double y, double width) {
    int next = 0;
    for (int i = 0; i < profile->launches_count; i++)
        if (profile->launches[i].refused == NULL && kvs_launch_kernel_index(profile, i) == next) {
            legend_text(figure, x, y, width, 5, kvs_style_color(next++), profile->launches[i].kernel);
            y += LEGEND_LINE;
        }
    y += LEGEND_LINE / 2.0;
    next = 0;
    for (int i = 0; i < profile->launches_count; i++)
        if (profile->launches[i].refused == NULL && kvs_launch_layout_index(profile, i) == next) {
            legend_text(figure, x, y, width, kvs_style_filled_shape(next++), 0x666666,
                        kvs_launch_layout(&profile->launches[i]));
            y += LEGEND_LINE;
        }
}

int kvs_launch_is_measured(const kvs_profile *profile) {
    return profile->device != NULL;
}

double kvs_launch_measured(const kvs_profile *profile, int launch, const char *metric) {
    const kvs_profile_metric *row = kvs_profile_find_metric(profile, launch, metric);
    return row != NULL ? row->measured : NAN;
}

void kvs_launch_conditions(const kvs_profile *profile, char *text, size_t text_bytes) {
    if (profile->sequences == 0) {
        (void)snprintf(text, text_bytes, "one launch of kernels of: %.200s", profile->input);
        return;
    }
    int length = snprintf(text, text_bytes, "%s, %d pages of %d tokens, %d KV heads, head_dim %d",
                          kvs_style_base_name(profile->input), profile->pages * profile->sequences,
                          profile->page_tokens, profile->kv_heads, profile->head_dim);
    if (length < 0 || (size_t)length >= text_bytes) return;
    if (profile->device != NULL)
        snprintf(text + length, text_bytes - (size_t)length, "; %s, %s cache", profile->device,
                 profile->cache != NULL ? profile->cache : "?");
    else
        snprintf(text + length, text_bytes - (size_t)length, "; predicted");
}
