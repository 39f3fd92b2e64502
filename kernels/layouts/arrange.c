#include "kernels/layouts/arrange.h"

kvs_layout_field kvs_linear_field(uint32_t base, int width, uint32_t token_stride, uint32_t row_stride) {
    kvs_layout_field field = {.base = base, .width = width};
    for (int i = 0; i < 8; i++) {
        field.token[i] = token_stride << i;
        field.row[i] = row_stride << i;
    }
    return field;
}

uint32_t kvs_append(kvs_format *format, const char *name, int tensor, uint32_t bits, uint32_t alignment) {
    uint32_t begin = (format->head_bytes[tensor] + alignment - 1) / alignment * alignment;
    uint32_t bytes = (bits + 7) / 8;
    format->sections[format->sections_count++] = (kvs_section){name, tensor, begin, bytes};
    format->head_bytes[tensor] = begin + bytes;
    if (tensor >= format->tensors) format->tensors = tensor + 1;
    return begin * 8;
}

void kvs_append_key_pairs(kvs_format *format, int tensor) {
    uint32_t group = 32u * (uint32_t)format->shape.head_dim, groups = (uint32_t)kvs_key_groups(&format->shape);
    uint32_t begin = kvs_append(format, "key scale, zero", tensor, groups * group, 16);
    format->key_scale = kvs_linear_field(begin, 16, group, 32);
    format->key_zero = kvs_linear_field(begin + 16, 16, group, 32);
    format->key_scale.tensor = format->key_zero.tensor = tensor;
}

void kvs_append_value_pairs(kvs_format *format, int tensor) {
    uint32_t group = 32u * (uint32_t)format->shape.page_tokens, groups = (uint32_t)kvs_value_groups(&format->shape);
    uint32_t begin = kvs_append(format, "value scale, zero", tensor, groups * group, 16);
    format->value_scale = kvs_linear_field(begin, 16, 32, group);
    format->value_zero = kvs_linear_field(begin + 16, 16, 32, group);
    format->value_scale.tensor = format->value_zero.tensor = tensor;
}

void kvs_append_value_rows(kvs_format *format) {
    uint32_t width = (uint32_t)format->shape.value_bits, head_dim = (uint32_t)format->shape.head_dim;
    uint32_t begin = kvs_append(format, "value codes", 0, width * head_dim * (uint32_t)format->shape.page_tokens, 16);
    format->value = kvs_linear_field(begin, (int)width, width * head_dim, width);
}

void kvs_append_index(kvs_format *format, kvs_index_form form) {
    int boosted = format->shape.boost_channels, head_dim = format->shape.head_dim;
    if (boosted == 0 || boosted == head_dim) return;
    uint32_t bits = (uint32_t)head_dim * (form == KVS_INDEX_MASK ? 1 : 8);
    format->index = form;
    format->index_byte = kvs_append(format, "channel index", 0, bits, 16) / 8;
}

void kvs_append_key_planes(kvs_format *format) {
    const kvs_page_shape *shape = &format->shape;
    uint32_t width = (uint32_t)shape->bits, row = width * (uint32_t)shape->page_tokens;
    uint32_t low = kvs_append(format, "key codes, low plane", 0, row * (uint32_t)shape->head_dim, 16);
    format->keys = KVS_KEYS_PLANES;
    format->key = kvs_linear_field(low, shape->bits, width, row);
    if (shape->boost_channels == 0) return;
    uint32_t planes = (uint32_t)(shape->boost_bits / shape->bits - 1);
    format->plane_bits = row * (uint32_t)shape->boost_channels;
    uint32_t more = kvs_append(format, "key codes, further planes", 0, format->plane_bits * planes, 16);
    format->key_more = kvs_linear_field(more, shape->bits, width, row);
}

static double index_bits(const kvs_format *format) {
    static const int per_channel[] = {0, 8, 8, 1};
    return per_channel[format->index] * format->shape.head_dim;
}

void kvs_close_heads(kvs_format *format) {
    const kvs_page_shape *shape = &format->shape;
    double bytes = 0.0, boosted = shape->boost_channels, head_dim = shape->head_dim;
    for (int i = 0; i < format->tensors; i++) {
        format->head_bytes[i] = (format->head_bytes[i] + 31) / 32 * 32;
        format->block_bytes[i] = format->head_bytes[i] * (uint32_t)shape->kv_heads;
        bytes += format->head_bytes[i];
    }
    double key = shape->bits * (head_dim - boosted) + shape->boost_bits * boosted;
    format->page_bits.payload = shape->page_tokens * (key + shape->value_bits * head_dim);
    double groups = head_dim * kvs_key_groups(shape) + (double)shape->page_tokens * kvs_value_groups(shape);
    format->page_bits.metadata = 32.0 * groups + index_bits(format);
    format->page_bits.padding = 8.0 * bytes - format->page_bits.payload - format->page_bits.metadata;
}
