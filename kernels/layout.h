/* layout.h: where the codes, scales, zeros and the channel index of a page lie in memory.
 *
 * A layout is one file in kernels/layouts/ that registers one kvs_layout. For one shape of page it fills a kvs_format,
 * plain data of which the functions below compute every position; the CPU, the kernels and the transaction model use
 * these same functions.
 *
 * A block holds the page_tokens tokens of one page for all KV heads of a layer, and lies in one or two tensors (codes,
 * and metadata where it is apart). The address of a bit of head h in block n of tensor x is
 *     tensor x + n * block_bytes[x] + h * head_bytes[x] + bit / 8, bit % 8 counted from the low end.
 * Words are little-endian, so a code never changes its bits with the width it is read at.
 *
 * Keys: a channel has bits-wide codes, or boost_bits where it is boosted; scale and zero per channel and group of
 * tokens. Values: value_bits-wide codes; scale and zero per token and group of channels. Both are binary16. A scheme
 * that quantizes keys per token stores them as values. */
#ifndef KVS_KERNELS_LAYOUT_H
#define KVS_KERNELS_LAYOUT_H

#include <stdint.h>

#include "core/hd.h"
#include "core/status.h"
#include "kernels/scheme.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_MAX_PAGE_TOKENS = 256, KVS_MAX_PARTS = 4, KVS_MAX_SECTIONS = 9 };

typedef struct kvs_page_shape {
    int head_dim;    /* 64, 96, 128 or 256 */
    int page_tokens; /* 16..256, a multiple of 16 and of what the layout asks for */
    int kv_heads;
    int bits, boost_bits; /* 2, 4 or 8; boost_bits >= bits */
    int boost_channels;   /* 0..head_dim */
    int value_bits;       /* 2, 4 or 8 */
    int key_group;        /* tokens of a channel that share scale and zero: the page (or 0), or a multiple of 32 that
                           * divides it */
    int value_group;      /* channels of a token that do: head_dim (or 0), or 32, 64 or 128 where that divides it */
} kvs_page_shape;

/* Positions of one kind of thing: base + the strides of the bits set in token and row. All in bits. A row is a channel,
 * or its place in the order that the layout gives the channels. */
typedef struct kvs_layout_field {
    uint32_t base, token[8], row[8];
    int width, tensor;
} kvs_layout_field;

KVS_HD uint32_t kvs_field_bit(const kvs_layout_field *field, int token, int row) {
    uint32_t bit = field->base;
    for (int i = 0; i < 8; i++)
        bit += ((uint32_t)(token >> i) & 1u) * field->token[i] + ((uint32_t)(row >> i) & 1u) * field->row[i];
    return bit;
}

typedef enum kvs_key_form {
    KVS_KEYS_FULL,      /* binary16 elements, no codes */
    KVS_KEYS_PLANES,    /* a plane of the low `bits` bits of all channels; planes of the further bits of boosted ones */
    KVS_KEYS_SCATTERED, /* channel after channel, each at its own width */
    KVS_KEYS_FRAGMENT,  /* boosted channels first at boost_bits, then the others at bits */
} kvs_key_form;

typedef enum kvs_index_form {
    KVS_INDEX_NONE,
    KVS_INDEX_RANKS,    /* byte c: the row of channel c in the further planes, or boost_channels */
    KVS_INDEX_CHANNELS, /* byte r: the channel in row r */
    KVS_INDEX_MASK,     /* bit c: channel c is boosted */
} kvs_index_form;

/* A stretch of a head's page, for people. */
typedef struct kvs_section {
    const char *name;
    int tensor;
    uint32_t begin, bytes; /* of head 0 */
} kvs_section;

typedef struct kvs_format {
    kvs_page_shape shape; /* boost_channels is 0 where boost_bits equals bits; groups are never 0 */
    kvs_key_form keys;
    kvs_index_form index;
    int tensors;
    uint32_t head_bytes[2], block_bytes[2]; /* all multiples of 16 */
    int sorted; /* rows are channels in the order of kvs_order_channels; otherwise row = channel */
    kvs_layout_field key,
        key_more; /* codes: all, or the low plane, or those at `bits`; and the further planes or boosted ones */
    kvs_layout_field value;
    kvs_layout_field key_scale, key_zero;     /* their "token" is a group of tokens */
    kvs_layout_field value_scale, value_zero; /* their "row" is a group of channels */
    uint32_t plane_bits;                      /* from one further plane to the next */
    uint32_t boosted_extra_bits;              /* scattered: what a boosted channel takes more than the others */
    int wide_rows;                            /* fragment: rows below this are stored at boost_bits */
    uint32_t index_byte;                      /* of tensor 0 */
    kvs_bits page_bits;                       /* of one head's page; residual is 0 */
    int sections_count;
    kvs_section sections[KVS_MAX_SECTIONS];
} kvs_format;

/* What the place of a channel's codes depends on. */
typedef struct kvs_channel_place {
    int boosted;
    int row;    /* planes: the row in the further planes; sorted: the row */
    int before; /* boosted channels before this one */
} kvs_channel_place;

/* A code is made of parts: bits [shift, shift + width) of it lie at `bit` of the head's page. */
typedef struct kvs_place {
    int parts;
    struct {
        uint32_t bit;
        int width, shift;
    } part[KVS_MAX_PARTS];
} kvs_place;

KVS_HD int kvs_key_bits(const kvs_format *format, int boosted) {
    return boosted ? format->shape.boost_bits : format->shape.bits;
}

KVS_HD kvs_place kvs_key_place(const kvs_format *format, int token, int channel, kvs_channel_place at) {
    kvs_place place;
    place.parts = 1;
    place.part[0].shift = 0;
    place.part[0].width = format->key.width;
    switch (format->keys) {
    case KVS_KEYS_FULL:
        place.part[0].bit = kvs_field_bit(&format->key, token, channel);
        break;
    case KVS_KEYS_PLANES:
        place.part[0].bit = kvs_field_bit(&format->key, token, format->sorted ? at.row : channel);
        if (at.boosted)
            for (int shift = format->shape.bits; shift < format->shape.boost_bits; shift += format->shape.bits) {
                int part = place.parts++;
                place.part[part].bit =
                    kvs_field_bit(&format->key_more, token, at.row) + (uint32_t)(part - 1) * format->plane_bits;
                place.part[part].width = format->shape.bits;
                place.part[part].shift = shift;
            }
        break;
    case KVS_KEYS_SCATTERED:
        place.part[0].width = kvs_key_bits(format, at.boosted);
        place.part[0].bit = kvs_field_bit(&format->key, 0, channel) + (uint32_t)at.before * format->boosted_extra_bits +
                            (uint32_t)(token * place.part[0].width);
        break;
    case KVS_KEYS_FRAGMENT:
        if (at.row < format->wide_rows) {
            place.part[0].width = format->key_more.width;
            place.part[0].bit = kvs_field_bit(&format->key_more, token, at.row);
        } else
            place.part[0].bit = kvs_field_bit(&format->key, token, at.row - format->wide_rows);
        break;
    }
    return place;
}

/* Groups of a page's keys along a channel, and of a token's values. */
KVS_HD int kvs_key_groups(const kvs_page_shape *shape) {
    return shape->page_tokens / shape->key_group;
}

KVS_HD int kvs_value_groups(const kvs_page_shape *shape) {
    return shape->head_dim / shape->value_group;
}

/* The row of a channel in key_scale and key_zero. */
KVS_HD int kvs_meta_row(const kvs_format *format, int channel, kvs_channel_place at) {
    return format->sorted ? at.row : channel;
}

/* Reads and writes a code of `width` bits that does not cross a byte, or 8 or 16 bits at a byte boundary. */
KVS_HD uint32_t kvs_read_bits(const uint8_t *bytes, uint32_t bit, int width) {
    const uint8_t *at = bytes + bit / 8;
    if (width == 16) return (uint32_t)at[0] | (uint32_t)at[1] << 8;
    return ((uint32_t)at[0] >> bit % 8) & ((1u << width) - 1u);
}

KVS_HD void kvs_write_bits(uint8_t *bytes, uint32_t bit, int width, uint32_t value) {
    uint8_t *at = bytes + bit / 8;
    if (width == 16) {
        at[0] = (uint8_t)value;
        at[1] = (uint8_t)(value >> 8);
    } else {
        uint32_t mask = ((1u << width) - 1u) << bit % 8;
        *at = (uint8_t)((*at & ~mask) | (value << bit % 8));
    }
}

/* --- the registry --------------------------------------------------------------------------------------------------
 */

typedef struct kvs_layout {
    const char *name, *summary;
    int min_page_tokens; /* a page has a multiple of this */
    /* Fills format for format->shape, which has been checked; everything else is zero. NULL: no kernel stores it. */
    void (*arrange)(kvs_format *format);
} kvs_layout;

/* All registered layouts, ended by NULL; and one by its name, or NULL. */
extern const kvs_layout *const kvs_layouts[];
const kvs_layout *kvs_layout_find(const char *name);

/* Says with KVS_USAGE which number of the shape is not supported. */
KVS_MUST_CHECK kvs_status kvs_format_make(const kvs_layout *layout, const kvs_page_shape *shape, kvs_format *format,
                                          kvs_error *error);

/* --- pages on the CPU: the oracle of the kernels -------------------------------------------------------------------
 */

/* Where the channels of a page stand. ranks [head_dim] as in kvs_coded: the rank of a boosted channel, boost_channels
 * for the others; NULL where there are none or all are boosted. A sorted layout has the boosted channels first, each
 * kind ascending. */
void kvs_order_channels(const kvs_format *format, const uint8_t *ranks, kvs_channel_place *channels);

/* One page of one head, as a codec gives it (kvs_coded): codes [page_tokens][head_dim], scales and zeros
 * [groups of tokens][head_dim] for keys, [page_tokens][groups of channels] for values; exactly representable in
 * binary16. */
typedef struct kvs_page {
    uint8_t *codes, *ranks; /* ranks: keys only */
    float *scales, *zeros;
} kvs_page;

/* tensors: the two tensors' bytes of one block. Packing sets the bits of this head's keys (or values) and no others. */
void kvs_pack_keys(const kvs_format *format, int head, const kvs_page *page, uint8_t *const tensors[2]);
void kvs_pack_values(const kvs_format *format, int head, const kvs_page *page, uint8_t *const tensors[2]);
void kvs_unpack_keys(const kvs_format *format, int head, const uint8_t *const tensors[2], kvs_page *page);
void kvs_unpack_values(const kvs_format *format, int head, const uint8_t *const tensors[2], kvs_page *page);

/* The same for the full-precision layouts: elements are binary16, [page_tokens][head_dim]. */
void kvs_pack_full(const kvs_format *format, int head, const uint16_t *k, const uint16_t *v, uint8_t *const tensors[2]);

#ifdef __cplusplus
}
#endif
#endif
