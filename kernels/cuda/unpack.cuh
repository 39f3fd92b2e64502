/* unpack.cuh: reading a page through the layout's own account of where everything lies. */
#ifndef KVS_KERNELS_CUDA_UNPACK_CUH
#define KVS_KERNELS_CUDA_UNPACK_CUH

#include "kernels/layout.h"
#include "kernels/simt/simt.h"

KVS_DEVICE uint32_t kvs_load_bits(const uint8_t *page, uint32_t bit, int width) {
    if (width == 16) return kvs_ld_global_nc((const uint16_t *)(page + bit / 8));
    return (uint32_t)kvs_ld_global_nc(page + bit / 8) >> bit % 8 & ((1u << width) - 1u);
}

KVS_DEVICE float kvs_load_half(const uint8_t *page, const kvs_layout_field &field, int token, int row) {
    return kvs_pair_low(kvs_load_bits(page, kvs_field_bit(&field, token, row), 16));
}

/* Where channel `channel` stands, by the page's index. */
KVS_DEVICE kvs_channel_place kvs_find_channel(const kvs_format &format, const uint8_t *page, int channel) {
    int count = format.shape.boost_channels, head_dim = format.shape.head_dim;
    const uint8_t *index = page + format.index_byte;
    kvs_channel_place at = {count > 0, channel, count > 0 ? channel : 0};
    if (format.index == KVS_INDEX_RANKS) {
        at.row = kvs_ld_global_nc(index + channel);
        at.boosted = at.row < count;
    } else if (format.index == KVS_INDEX_CHANNELS) {
        at.row = 0;
        while (at.row < head_dim - 1 && kvs_ld_global_nc(index + at.row) != channel) at.row++;
        at.boosted = at.row < count;
    } else if (format.index == KVS_INDEX_MASK) {
        at.before = 0;
        for (int i = 0; i < channel; i++) at.before += (int)kvs_load_bits(index, (uint32_t)i, 1);
        at.boosted = (int)kvs_load_bits(index, (uint32_t)channel, 1);
    }
    return at;
}

/* The code of a key. */
KVS_DEVICE uint32_t kvs_load_key_code(const kvs_format &format, const uint8_t *page, int token, int channel,
                                      kvs_channel_place at) {
    kvs_place place = kvs_key_place(&format, token, channel, at);
    uint32_t code = 0;
    for (int i = 0; i < place.parts; i++)
        code |= kvs_load_bits(page, place.part[i].bit, place.part[i].width) << place.part[i].shift;
    return code;
}

#endif
