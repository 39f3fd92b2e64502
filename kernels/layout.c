#include "kernels/layout.h"

#include <string.h>

#include "core/half.h"

const kvs_layout *kvs_layout_find(const char *name) {
    for (int i = 0; kvs_layouts[i] != NULL; i++)
        if (strcmp(kvs_layouts[i]->name, name) == 0) return kvs_layouts[i];
    return NULL;
}

static int is_width(int bits) {
    return bits == 2 || bits == 4 || bits == 8;
}

/* A lane of the kernels has 8 channels or 4 tokens 8 apart: groups are made of those. */
static kvs_status check_groups(const kvs_layout *layout, const kvs_page_shape *s, kvs_error *error) {
    if (s->key_group != s->page_tokens &&
        (s->key_group < 32 || s->key_group % 32 != 0 || s->page_tokens % s->key_group != 0))
        return kvs_fail(error, KVS_USAGE, layout->name, "group",
                        "%d tokens are neither the page of %d nor a multiple of 32 that divides it", s->key_group,
                        s->page_tokens);
    if (s->value_group != s->head_dim &&
        ((s->value_group != 32 && s->value_group != 64 && s->value_group != 128) || s->head_dim % s->value_group != 0))
        return kvs_fail(error, KVS_USAGE, layout->name, "v_group",
                        "%d channels are neither head_dim %d nor 32, 64 or 128 that divide it", s->value_group,
                        s->head_dim);
    return KVS_OK;
}

kvs_status kvs_format_make(const kvs_layout *layout, const kvs_page_shape *shape, kvs_format *format,
                           kvs_error *error) {
    kvs_page_shape s = *shape;
    if (s.key_group == 0) s.key_group = s.page_tokens;
    if (s.value_group == 0) s.value_group = s.head_dim;
    if (layout->arrange == NULL)
        return kvs_fail(error, KVS_USAGE, layout->name, NULL, "no kernel stores this layout; only its size is known");
    if (s.head_dim != 64 && s.head_dim != 96 && s.head_dim != 128 && s.head_dim != 256)
        return kvs_fail(error, KVS_USAGE, layout->name, "head_dim", "%d is none of 64, 96, 128, 256", s.head_dim);
    if (s.page_tokens < 16 || s.page_tokens > KVS_MAX_PAGE_TOKENS || s.page_tokens % layout->min_page_tokens != 0)
        return kvs_fail(error, KVS_USAGE, layout->name, "page", "%d tokens are no multiple of %d in 16..%d",
                        s.page_tokens, layout->min_page_tokens, KVS_MAX_PAGE_TOKENS);
    if (s.kv_heads < 1 || s.kv_heads > 4096)
        return kvs_fail(error, KVS_USAGE, layout->name, "kv_heads", "%d is not in 1..4096", s.kv_heads);
    if (!is_width(s.bits) || !is_width(s.boost_bits) || !is_width(s.value_bits))
        return kvs_fail(error, KVS_USAGE, layout->name, "bits", "%d, boosted %d, values %d: each must be 2, 4 or 8",
                        s.bits, s.boost_bits, s.value_bits);
    if (s.boost_bits < s.bits)
        return kvs_fail(error, KVS_USAGE, layout->name, "boost_bits", "%d bits are fewer than bits %d", s.boost_bits,
                        s.bits);
    if (s.boost_channels < 0 || s.boost_channels > s.head_dim)
        return kvs_fail(error, KVS_USAGE, layout->name, "boost", "%d channels are not in 0..%d", s.boost_channels,
                        s.head_dim);
    KVS_TRY(check_groups(layout, &s, error));
    memset(format, 0, sizeof *format);
    format->shape = s;
    if (s.boost_bits == s.bits) format->shape.boost_channels = 0;
    layout->arrange(format);
    return KVS_OK;
}

static int is_boosted(const kvs_format *format, const uint8_t *ranks, int channel) {
    int count = format->shape.boost_channels;
    return count == format->shape.head_dim || (count > 0 && ranks[channel] < count);
}

void kvs_order_channels(const kvs_format *format, const uint8_t *ranks, kvs_channel_place *channels) {
    int head_dim = format->shape.head_dim, count = format->shape.boost_channels, before = 0;
    for (int d = 0; d < head_dim; d++) {
        int boosted = is_boosted(format, ranks, d);
        int row = boosted ? (ranks != NULL && count < head_dim ? ranks[d] : d) : count;
        if (format->sorted) row = boosted ? before : count + d - before;
        channels[d] = (kvs_channel_place){boosted, row, before};
        before += boosted;
    }
}

/* --- bits of one head ----------------------------------------------------------------------------------------------
 */

typedef struct head_bytes {
    uint8_t *tensor[2];
} head_bytes;

static head_bytes head_of(const kvs_format *format, int head, const uint8_t *const tensors[2]) {
    head_bytes bytes = {{NULL, NULL}};
    for (int i = 0; i < format->tensors; i++)
        bytes.tensor[i] = (uint8_t *)(uintptr_t)tensors[i] + (size_t)head * format->head_bytes[i];
    return bytes;
}

static void put(head_bytes bytes, const kvs_layout_field *field, int token, int row, float value) {
    kvs_write_bits(bytes.tensor[field->tensor], kvs_field_bit(field, token, row), 16, kvs_float_to_half(value));
}

static float get(head_bytes bytes, const kvs_layout_field *field, int token, int row) {
    return kvs_half_to_float(
        (uint16_t)kvs_read_bits(bytes.tensor[field->tensor], kvs_field_bit(field, token, row), 16));
}

static void put_index(const kvs_format *format, const kvs_channel_place *channels, uint8_t *index) {
    for (int d = 0; d < format->shape.head_dim; d++) {
        if (format->index == KVS_INDEX_RANKS) index[d] = (uint8_t)channels[d].row;
        if (format->index == KVS_INDEX_CHANNELS) index[channels[d].row] = (uint8_t)d;
        if (format->index == KVS_INDEX_MASK) kvs_write_bits(index, (uint32_t)d, 1, (uint32_t)channels[d].boosted);
    }
}

/* ranks as kvs_order_channels takes them; a layout that does not keep the order of ranks gives them ascending. */
static void get_ranks(const kvs_format *format, const uint8_t *index, uint8_t *ranks) {
    int count = format->shape.boost_channels, head_dim = format->shape.head_dim, before = 0;
    for (int d = 0; d < head_dim; d++) ranks[d] = (uint8_t)(count < head_dim ? count : d);
    if (format->index == KVS_INDEX_RANKS) memcpy(ranks, index, (size_t)head_dim);
    if (format->index == KVS_INDEX_CHANNELS)
        for (int row = 0; row < count; row++) ranks[index[row]] = (uint8_t)row;
    if (format->index == KVS_INDEX_MASK)
        for (int d = 0; d < head_dim; d++)
            if (kvs_read_bits(index, (uint32_t)d, 1)) ranks[d] = (uint8_t)before++;
}

/* --- pages ---------------------------------------------------------------------------------------------------------
 */

void kvs_pack_keys(const kvs_format *format, int head, const kvs_page *page, uint8_t *const tensors[2]) {
    kvs_channel_place channels[KVS_MAX_HEAD_DIM];
    int head_dim = format->shape.head_dim;
    head_bytes bytes = head_of(format, head, (const uint8_t *const *)tensors);
    kvs_order_channels(format, page->ranks, channels);
    for (int d = 0; d < head_dim; d++) {
        for (int t = 0; t < format->shape.page_tokens; t++) {
            kvs_place place = kvs_key_place(format, t, d, channels[d]);
            uint32_t code = page->codes[(size_t)t * (size_t)head_dim + (size_t)d];
            for (int i = 0; i < place.parts; i++)
                kvs_write_bits(bytes.tensor[0], place.part[i].bit, place.part[i].width,
                               code >> place.part[i].shift & ((1u << place.part[i].width) - 1u));
        }
        int row = kvs_meta_row(format, d, channels[d]);
        for (int g = 0; g < kvs_key_groups(&format->shape); g++) {
            put(bytes, &format->key_scale, g, row, page->scales[g * head_dim + d]);
            put(bytes, &format->key_zero, g, row, page->zeros[g * head_dim + d]);
        }
    }
    if (format->index != KVS_INDEX_NONE) put_index(format, channels, bytes.tensor[0] + format->index_byte);
}

void kvs_unpack_keys(const kvs_format *format, int head, const uint8_t *const tensors[2], kvs_page *page) {
    kvs_channel_place channels[KVS_MAX_HEAD_DIM];
    int head_dim = format->shape.head_dim;
    head_bytes bytes = head_of(format, head, tensors);
    get_ranks(format, bytes.tensor[0] + format->index_byte, page->ranks);
    kvs_order_channels(format, page->ranks, channels);
    for (int d = 0; d < head_dim; d++) {
        for (int t = 0; t < format->shape.page_tokens; t++) {
            kvs_place place = kvs_key_place(format, t, d, channels[d]);
            uint32_t code = 0;
            for (int i = 0; i < place.parts; i++)
                code |= kvs_read_bits(bytes.tensor[0], place.part[i].bit, place.part[i].width) << place.part[i].shift;
            page->codes[(size_t)t * (size_t)head_dim + (size_t)d] = (uint8_t)code;
        }
        int row = kvs_meta_row(format, d, channels[d]);
        for (int g = 0; g < kvs_key_groups(&format->shape); g++) {
            page->scales[g * head_dim + d] = get(bytes, &format->key_scale, g, row);
            page->zeros[g * head_dim + d] = get(bytes, &format->key_zero, g, row);
        }
    }
}

void kvs_pack_values(const kvs_format *format, int head, const kvs_page *page, uint8_t *const tensors[2]) {
    int head_dim = format->shape.head_dim, groups = kvs_value_groups(&format->shape);
    head_bytes bytes = head_of(format, head, (const uint8_t *const *)tensors);
    for (int t = 0; t < format->shape.page_tokens; t++) {
        for (int d = 0; d < head_dim; d++)
            kvs_write_bits(bytes.tensor[0], kvs_field_bit(&format->value, t, d), format->value.width,
                           page->codes[(size_t)t * (size_t)head_dim + (size_t)d]);
        for (int g = 0; g < groups; g++) {
            put(bytes, &format->value_scale, t, g, page->scales[t * groups + g]);
            put(bytes, &format->value_zero, t, g, page->zeros[t * groups + g]);
        }
    }
}

void kvs_unpack_values(const kvs_format *format, int head, const uint8_t *const tensors[2], kvs_page *page) {
    int head_dim = format->shape.head_dim, groups = kvs_value_groups(&format->shape);
    head_bytes bytes = head_of(format, head, tensors);
    for (int t = 0; t < format->shape.page_tokens; t++) {
        for (int d = 0; d < head_dim; d++)
            page->codes[(size_t)t * (size_t)head_dim + (size_t)d] =
                (uint8_t)kvs_read_bits(bytes.tensor[0], kvs_field_bit(&format->value, t, d), format->value.width);
        for (int g = 0; g < groups; g++) {
            page->scales[t * groups + g] = get(bytes, &format->value_scale, t, g);
            page->zeros[t * groups + g] = get(bytes, &format->value_zero, t, g);
        }
    }
}

void kvs_pack_full(const kvs_format *format, int head, const uint16_t *k, const uint16_t *v,
                   uint8_t *const tensors[2]) {
    int head_dim = format->shape.head_dim;
    head_bytes bytes = head_of(format, head, (const uint8_t *const *)tensors);
    for (int t = 0; t < format->shape.page_tokens; t++)
        for (int d = 0; d < head_dim; d++) {
            size_t element = (size_t)t * (size_t)head_dim + (size_t)d;
            kvs_write_bits(bytes.tensor[0], kvs_field_bit(&format->key, t, d), 16, k[element]);
            kvs_write_bits(bytes.tensor[0], kvs_field_bit(&format->value, t, d), 16, v[element]);
        }
}
