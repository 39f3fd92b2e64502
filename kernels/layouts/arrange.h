/* arrange.h: what the layouts share: filling fields, and laying sections one after the other. */
#ifndef KVS_KERNELS_LAYOUTS_ARRANGE_H
#define KVS_KERNELS_LAYOUTS_ARRANGE_H

#include "kernels/layout.h"

/* A field whose position is linear in token and row. Strides in bits. */
kvs_layout_field kvs_linear_field(uint32_t base, int width, uint32_t token_stride, uint32_t row_stride);

/* Appends a section of `bits` bits to tensor x of the head's page, at a multiple of `alignment` bytes; returns where it
 * begins, in bits. */
uint32_t kvs_append(kvs_format *format, const char *name, int tensor, uint32_t bits, uint32_t alignment);

/* Where the metadata of keys and values goes: pairs (scale, zero), 4 bytes a channel and a token. */
void kvs_append_key_pairs(kvs_format *format, int tensor);
void kvs_append_value_pairs(kvs_format *format, int tensor);

/* Values token after token, each head_dim codes. */
void kvs_append_value_rows(kvs_format *format);

/* The index of the boosted channels, if some but not all are. */
void kvs_append_index(kvs_format *format, kvs_index_form form);

/* A plane of low bits of all channels, then the planes of further bits, a row of page_tokens codes a channel. */
void kvs_append_key_planes(kvs_format *format);

/* Heads one after the other, each rounded up to a sector (32 bytes); and the account of bits. */
void kvs_close_heads(kvs_format *format);

#endif
