/* layouts.c: the list of page layouts: those that the schemes' memory accounts count. */
#include <stddef.h>
#include <string.h>

#include "kernels/layout.h"

static const kvs_layout fp16_nhd = {
    .name = "fp16-nhd",
    .summary = "binary16 words, [tokens][KV heads][head_dim]",
};
static const kvs_layout int_rows = {
    .name = "int",
    .summary = "per token the codes of its channels, then a scale and a zero a group",
};
static const kvs_layout kivi = {
    .name = "kivi",
    .summary =
        "K: per channel the codes of a page's tokens; V: per token those of its channels; scales and zeros apart",
};
static const kvs_layout kitty = {
    .name = "kitty",
    .summary = "K in planes of `bits` bits: the low one of all channels, the others of boosted channels, found by an "
               "index of one byte a channel; V per token; scales and zeros apart",
};
static const kvs_layout channel_packed = {
    .name = "channel-packed",
    .summary = "as kitty, but each K channel in one row at its own width: for boost bits that are no multiple of bits",
};

const kvs_layout *const kvs_layouts[] = {&fp16_nhd, &int_rows, &kivi, &kitty, &channel_packed, NULL};

const kvs_layout *kvs_layout_find(const char *name) {
    for (int i = 0; kvs_layouts[i] != NULL; i++)
        if (strcmp(kvs_layouts[i]->name, name) == 0) return kvs_layouts[i];
    return NULL;
}
