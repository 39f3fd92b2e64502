/* fragment.c: codes in the order in which the registers of the matrix instruction m16n8k16 want them.
 *
 * Keys are its matrix A: 16 tokens by 16 channels. Lane 4g + q holds, in four registers of two halves, the tokens g
 * and g + 8 at the channels 2q, 2q + 1, 2q + 8, 2q + 9. One mask leaves one code in each half of a 32-bit word, where
 * it is a binary16 subnormal, code * 2^-24 * 2^(its place in its byte): nothing is shifted or converted, and the known
 * power of two goes into the other operand or into the sum. So, in a word, from a code's low bit:
 *     half  (16 bits)    the lower bit of the channel
 *     byte  (8 bits)     token g or g + 8
 *     then  (width bits) channel + 8, and for 2-bit codes (4 bits) the tile of the next 16 tokens.
 * Words of a lane stand together, as many as fit a 16-byte access, so that one access a lane loads 16 channels of 128
 * tokens at 2 bits. Values are the same with channels as the rows of A, tokens as its columns; there, a tile's rows
 * g, g + 8 and the next tile's are channels 8(g/2) + g%2 + {0, 2, 4, 6}, the order in which a lane that loads 8
 * consecutive channels holds them.
 *
 * Boosted channels come first, so that a step of 16 channels has one width; a step that mixes both is stored wide. */
#include "kernels/layouts/arrange.h"

enum { LANES = 32, WORD = 32, STEP = 16 };

/* Strides of the words of one step: word i of a lane, `vector` of them together. Bits. */
typedef struct word_strides {
    uint32_t vector, lane, group;
} word_strides;

static word_strides strides_of(uint32_t words) {
    uint32_t vector = words % 4 == 0 ? 4 : words % 2 == 0 ? 2 : 1;
    return (word_strides){vector, vector * WORD, vector * WORD * LANES};
}

static uint32_t word_bit(word_strides s, uint32_t word) {
    return word % s.vector * WORD + word / s.vector * s.group;
}

/* Codes of `width` bits, `words` words a lane and step of 16 channels. */
static kvs_layout_field key_field(uint32_t base, int width, uint32_t words) {
    word_strides s = strides_of(words);
    kvs_layout_field field = {.base = base, .width = width};
    field.row[0] = 16;
    field.row[1] = s.lane;
    field.row[2] = 2 * s.lane;
    field.row[3] = width == 8 ? word_bit(s, 1) : (uint32_t)width;
    for (int i = 4; i < 8; i++) field.row[i] = (words * LANES * WORD) << (i - 4);
    for (int i = 0; i < 3; i++) field.token[i] = (4 * s.lane) << i;
    field.token[3] = 8;
    field.token[4] = width == 2 ? 4 : word_bit(s, width == 4 ? 1 : 2);
    for (int i = 5; i < 8; i++) field.token[i] = word_bit(s, (uint32_t)width / 2 << (i - 5));
    return field;
}

static kvs_layout_field value_field(uint32_t base, int width, uint32_t words) {
    word_strides s = strides_of(words);
    kvs_layout_field field = {.base = base, .width = width};
    field.token[0] = 16;
    field.token[1] = s.lane;
    field.token[2] = 2 * s.lane;
    field.token[3] = width == 8 ? word_bit(s, 1) : (uint32_t)width;
    for (int i = 4; i < 8; i++) field.token[i] = (words * LANES * WORD) << (i - 4);
    field.row[0] = 4 * s.lane;
    field.row[1] = 8;
    field.row[2] = width == 2 ? 4 : word_bit(s, width == 4 ? 1 : 2);
    field.row[3] = 8 * s.lane;
    field.row[4] = 16 * s.lane;
    for (int i = 5; i < 8; i++) field.row[i] = word_bit(s, (uint32_t)width / 2 << (i - 5));
    return field;
}

static uint32_t key_words(const kvs_format *format, int width) {
    return (uint32_t)(format->shape.page_tokens / 32 * width / 2);
}

static void append_keys(kvs_format *format) {
    const kvs_page_shape *shape = &format->shape;
    uint32_t words = key_words(format, shape->bits), wide_words = key_words(format, shape->boost_bits);
    format->keys = KVS_KEYS_FRAGMENT;
    format->wide_rows = (shape->boost_channels + STEP - 1) / STEP * STEP;
    uint32_t wide = (uint32_t)format->wide_rows, narrow = (uint32_t)shape->head_dim - wide;
    if (wide > 0) {
        uint32_t bits = wide / STEP * wide_words * LANES * WORD;
        format->key_more =
            key_field(kvs_append(format, "key codes, boosted", 0, bits, 16), shape->boost_bits, wide_words);
    }
    if (narrow > 0) {
        uint32_t bits = narrow / STEP * words * LANES * WORD;
        format->key = key_field(kvs_append(format, "key codes", 0, bits, 16), shape->bits, words);
    }
}

/* Group after group; per step and q: the scales of channels 2q, 2q + 1, 2q + 8, 2q + 9, then their zeros: 16 bytes, one
 * access. */
static void append_key_meta(kvs_format *format) {
    uint32_t group = 32u * (uint32_t)format->shape.head_dim, groups = (uint32_t)kvs_key_groups(&format->shape);
    uint32_t begin = kvs_append(format, "key scale, zero", 0, groups * group, 16);
    kvs_layout_field field = {.base = begin, .width = 16, .row = {16, 128, 256, 32, 512, 1024, 2048, 4096}};
    for (int i = 0; i < 8; i++) field.token[i] = group << i;
    format->key_scale = format->key_zero = field;
    format->key_zero.base = begin + 64;
}

/* Group after group; per 32 tokens and g: scale and zero of tokens g, g + 8, g + 16, g + 24: 16 bytes, one access. */
static void append_value_meta(kvs_format *format) {
    uint32_t group = 32u * (uint32_t)format->shape.page_tokens, groups = (uint32_t)kvs_value_groups(&format->shape);
    uint32_t begin = kvs_append(format, "value scale, zero", 0, groups * group, 16);
    kvs_layout_field field = {.base = begin, .width = 16, .token = {128, 256, 512, 32, 64, 1024, 2048, 4096}};
    for (int i = 0; i < 8; i++) field.row[i] = group << i;
    format->value_scale = format->value_zero = field;
    format->value_zero.base = begin + 16;
}

static void arrange(kvs_format *format) {
    const kvs_page_shape *shape = &format->shape;
    format->sorted = 1;
    append_keys(format);
    append_key_meta(format);
    kvs_append_index(format, KVS_INDEX_CHANNELS);
    uint32_t words = (uint32_t)(shape->head_dim / 32 * shape->value_bits / 2);
    uint32_t bits = (uint32_t)shape->page_tokens / STEP * words * LANES * WORD;
    format->value = value_field(kvs_append(format, "value codes", 0, bits, 16), shape->value_bits, words);
    append_value_meta(format);
    kvs_close_heads(format);
}

const kvs_layout kvs_layout_fragment = {
    .name = "fragment",
    .summary = "codes in the order that the tensor-core instruction wants, boosted channels first",
    .min_page_tokens = 32,
    .arrange = arrange,
};
