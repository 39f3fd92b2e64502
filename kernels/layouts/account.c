/* account.c: layouts whose bytes the memory accounts of their schemes count, and that no kernel stores yet. */
#include "kernels/layout.h"

const kvs_layout kvs_layout_int = {
    .name = "int",
    .summary = "per token the codes of its channels, then a scale and a zero a group (account only)",
};

const kvs_layout kvs_layout_kivi = {
    .name = "kivi",
    .summary =
        "K: per channel the codes of a page's tokens; V: per token those of its channels; scales and zeros apart "
        "(account only)",
};

const kvs_layout kvs_layout_channel_packed = {
    .name = "channel-packed",
    .summary = "as kitty, but each K channel in one row at its own width: for boost bits that are no multiple of bits "
               "(account only)",
};

const kvs_layout kvs_layout_bit_planes = {
    .name = "bit-planes",
    .summary = "per page means, scales and widths of the channels, then each channel's codes as bit planes over the "
               "page's tokens (account only)",
};
