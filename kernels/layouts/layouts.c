/* layouts.c: the list of layouts. A new one is a file here and a line in each half of this list. */
#include <stddef.h>

#include "kernels/layout.h"

extern const kvs_layout kvs_layout_fp16_nhd, kvs_layout_fp16_hnd, kvs_layout_kitty, kvs_layout_kitty_inline;
extern const kvs_layout kvs_layout_mixed_scattered, kvs_layout_permuted, kvs_layout_fragment;
extern const kvs_layout kvs_layout_int, kvs_layout_kivi, kvs_layout_channel_packed, kvs_layout_bit_planes;

const kvs_layout *const kvs_layouts[] = {
    &kvs_layout_fp16_nhd,
    &kvs_layout_fp16_hnd,
    &kvs_layout_kitty,
    &kvs_layout_kitty_inline,
    &kvs_layout_mixed_scattered,
    &kvs_layout_permuted,
    &kvs_layout_fragment,
    &kvs_layout_int,
    &kvs_layout_kivi,
    &kvs_layout_channel_packed,
    &kvs_layout_bit_planes,
    NULL,
};
