/* test_layout.c: has every bit of every layout exactly one place, and does what is packed come back? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/half.h"
#include "core/random.h"
#include "kernels/layout.h"

enum { HEADS = 3 };

static const int head_dims[] = {64, 96, 128, 256}, page_tokens[] = {16, 32, 48, 64, 96, 128, 208, 256};
static const struct widths {
    int bits, boost_bits, value_bits;
} widths[] = {{2, 4, 2}, {2, 8, 4}, {4, 8, 8}, {2, 2, 2}, {8, 8, 4}};

typedef void visit(const kvs_layout *layout, const kvs_format *format, uint64_t key);

static void visit_boosts(const kvs_layout *layout, kvs_page_shape shape, int full, visit *each, int *visited) {
    int counts[] = {0, 1, shape.head_dim / 8, shape.head_dim / 4 + 3, shape.head_dim};
    for (int boost = 0; boost < 5; boost++) {
        kvs_format format;
        shape.boost_channels = counts[boost];
        assert_int_equal(kvs_format_make(layout, &shape, &format, NULL), KVS_OK);
        if ((format.keys == KVS_KEYS_FULL) != full) return;
        each(layout, &format, kvs_random_key((uint64_t)(*visited)++, 7));
    }
}

/* Calls visit for every layout and shape that makes a format. */
static void visit_all(int full, visit *each) {
    int visited = 0;
    for (int l = 0; kvs_layouts[l] != NULL; l++)
        for (int d = 0; d < 4; d++)
            for (int p = 0; p < 8; p++)
                for (int w = 0; w < 5; w++) {
                    kvs_page_shape shape = {head_dims[d],
                                            page_tokens[p],
                                            HEADS,
                                            widths[w].bits,
                                            widths[w].boost_bits,
                                            0,
                                            widths[w].value_bits,
                                            0,
                                            0};
                    if (w % 2 == 1 && page_tokens[p] % 32 == 0) shape.key_group = 32, shape.value_group = 32;
                    if (kvs_layouts[l]->arrange != NULL && page_tokens[p] % kvs_layouts[l]->min_page_tokens == 0)
                        visit_boosts(kvs_layouts[l], shape, full, each, &visited);
                }
    assert_true(visited > 0);
}

/* Every channel gets a random rank; those below the boost count keep it. */
static void random_ranks(const kvs_format *format, uint64_t key, uint8_t *ranks) {
    int head_dim = format->shape.head_dim, count = format->shape.boost_channels, order[256];
    for (int i = 0; i < head_dim; i++) order[i] = i;
    for (int i = head_dim - 1; i > 0 && count < head_dim; i--) {
        int j = (int)(kvs_random_bits(key, (uint64_t)i) % (uint64_t)(i + 1)), swap = order[i];
        order[i] = order[j], order[j] = swap;
    }
    for (int i = 0; i < head_dim; i++) ranks[i] = (uint8_t)(order[i] < count ? order[i] : count);
}

typedef struct filled {
    uint8_t codes[256 * 256], ranks[256];
    float scales[256 * 8], zeros[256 * 8];
    kvs_page page;
} filled;

static void random_page(const kvs_format *format, uint64_t key, int keys, filled *f) {
    int head_dim = format->shape.head_dim, count = format->shape.boost_channels;
    f->page = (kvs_page){f->codes, f->ranks, f->scales, f->zeros};
    random_ranks(format, key, f->ranks);
    for (int i = 0; i < format->shape.page_tokens * head_dim; i++) {
        int width = format->shape.value_bits;
        if (keys) width = kvs_key_bits(format, count > 0 && (count == head_dim || f->ranks[i % head_dim] < count));
        f->codes[i] = (uint8_t)(kvs_random_bits(key + 1, (uint64_t)i) & ((1u << width) - 1u));
    }
    for (int i = 0; i < 256 * 8; i++) {
        f->scales[i] = kvs_round_to_half(kvs_random_unit(key + 2, (uint64_t)i));
        f->zeros[i] = kvs_round_to_half(kvs_random_unit(key + 3, (uint64_t)i) - 0.5f);
    }
}

static void own(uint8_t *owners, uint32_t bit, int width) {
    for (int i = 0; i < width; i++) {
        assert_int_equal(owners[bit + (uint32_t)i], 0);
        owners[bit + (uint32_t)i] = 1;
    }
}

static void own_keys(const kvs_format *format, const uint8_t *ranks, uint8_t *const owners[2]) {
    kvs_channel_place channels[256];
    kvs_order_channels(format, ranks, channels);
    for (int d = 0; d < format->shape.head_dim; d++) {
        int row = kvs_meta_row(format, d, channels[d]), bits = kvs_key_bits(format, channels[d].boosted);
        for (int g = 0; g < kvs_key_groups(&format->shape); g++) {
            own(owners[format->key_scale.tensor], kvs_field_bit(&format->key_scale, g, row), 16);
            own(owners[format->key_zero.tensor], kvs_field_bit(&format->key_zero, g, row), 16);
        }
        for (int t = 0; t < format->shape.page_tokens; t++) {
            kvs_place place = kvs_key_place(format, t, d, channels[d]);
            int covered = 0;
            for (int i = 0; i < place.parts; i++) {
                own(owners[0], place.part[i].bit, place.part[i].width);
                assert_int_equal(place.part[i].shift, covered);
                covered += place.part[i].width;
            }
            /* A step of the fragment layout that mixes widths is stored wide: padding. */
            assert_true(covered == bits || (format->keys == KVS_KEYS_FRAGMENT && covered > bits));
        }
    }
}

static void own_values(const kvs_format *format, uint8_t *const owners[2]) {
    for (int t = 0; t < format->shape.page_tokens; t++) {
        for (int g = 0; g < kvs_value_groups(&format->shape); g++) {
            own(owners[format->value_scale.tensor], kvs_field_bit(&format->value_scale, t, g), 16);
            own(owners[format->value_zero.tensor], kvs_field_bit(&format->value_zero, t, g), 16);
        }
        for (int d = 0; d < format->shape.head_dim; d++)
            own(owners[0], kvs_field_bit(&format->value, t, d), format->shape.value_bits);
    }
}

/* Every code, scale, zero and index bit takes bits of its own; what is left is the padding of the account. */
static void check_ownership(const kvs_layout *layout, const kvs_format *format, uint64_t key) {
    static const int index_bits[] = {0, 8, 8, 1};
    static filled f;
    uint8_t *owners[2] = {calloc(format->head_bytes[0] + 1u, 8), calloc(format->head_bytes[1] + 1u, 8)};
    (void)layout;
    random_page(format, key, 1, &f);
    own_keys(format, f.ranks, owners);
    own_values(format, owners);
    own(owners[0], 8 * format->index_byte, index_bits[format->index] * format->shape.head_dim);
    double owned = 0, total = 0;
    for (int x = 0; x < format->tensors; x++) {
        total += 8.0 * format->head_bytes[x];
        for (uint32_t i = 0; i < 8 * format->head_bytes[x]; i++) owned += owners[x][i];
        assert_int_equal(format->head_bytes[x] % 16, 0);
    }
    assert_true(kvs_bits_sum(format->page_bits) == total);
    if (format->keys == KVS_KEYS_FRAGMENT)
        assert_true(total - owned <= format->page_bits.padding);
    else
        assert_true(total - owned == format->page_bits.padding);
    free(owners[0]);
    free(owners[1]);
}

static void check_round_trip(const kvs_layout *layout, const kvs_format *format, uint64_t key) {
    static filled keys[HEADS], values[HEADS], back;
    uint8_t *block[2] = {calloc(format->block_bytes[0] + 1u, 1), calloc(format->block_bytes[1] + 1u, 1)};
    size_t elements = (size_t)(format->shape.page_tokens * format->shape.head_dim);
    size_t channels = (size_t)format->shape.head_dim, tokens = (size_t)format->shape.page_tokens;
    size_t key_groups = channels * (size_t)kvs_key_groups(&format->shape);
    size_t value_groups = tokens * (size_t)kvs_value_groups(&format->shape);
    int count = format->shape.boost_channels;
    (void)layout;
    for (int h = 0; h < HEADS; h++) {
        random_page(format, key + 10 * (uint64_t)h, 1, &keys[h]);
        random_page(format, key + 10 * (uint64_t)h + 5, 0, &values[h]);
        kvs_pack_keys(format, h, &keys[h].page, block);
        kvs_pack_values(format, h, &values[h].page, block);
    }
    for (int h = 0; h < HEADS; h++) {
        back.page = (kvs_page){back.codes, back.ranks, back.scales, back.zeros};
        kvs_unpack_keys(format, h, (const uint8_t *const *)block, &back.page);
        assert_memory_equal(back.codes, keys[h].codes, elements);
        assert_memory_equal(back.scales, keys[h].scales, sizeof(float) * key_groups);
        assert_memory_equal(back.zeros, keys[h].zeros, sizeof(float) * key_groups);
        if (format->index == KVS_INDEX_RANKS) assert_memory_equal(back.ranks, keys[h].ranks, channels);
        for (size_t d = 0; d < channels; d++)
            assert_int_equal(back.ranks[d] < count, count == format->shape.head_dim || keys[h].ranks[d] < count);
        kvs_unpack_values(format, h, (const uint8_t *const *)block, &back.page);
        assert_memory_equal(back.codes, values[h].codes, elements);
        assert_memory_equal(back.scales, values[h].scales, sizeof(float) * value_groups);
        assert_memory_equal(back.zeros, values[h].zeros, sizeof(float) * value_groups);
    }
    free(block[0]);
    free(block[1]);
}

static void check_full(const kvs_layout *layout, const kvs_format *format, uint64_t key) {
    int head_dim = format->shape.head_dim, tokens = format->shape.page_tokens;
    int nhd = strcmp(layout->name, "fp16-nhd") == 0;
    uint16_t *block = calloc(format->block_bytes[0], 1), *x = malloc(4u * (size_t)(head_dim * tokens));
    uint16_t *y = x + head_dim * tokens;
    uint8_t *tensors[2] = {(uint8_t *)block, NULL};
    for (int h = 0; h < HEADS; h++) {
        for (int i = 0; i < 2 * head_dim * tokens; i++)
            x[i] = (uint16_t)kvs_random_bits(key + (uint64_t)h, (uint64_t)i);
        kvs_pack_full(format, h, x, y, tensors);
        for (int t = 0; t < tokens; t++)
            for (int d = 0; d < head_dim; d++) {
                int at = nhd ? (t * HEADS + h) * head_dim + d : (h * tokens + t) * head_dim + d;
                assert_int_equal(block[at], x[t * head_dim + d]);
                assert_int_equal(block[HEADS * tokens * head_dim + at], y[t * head_dim + d]);
            }
    }
    free(block);
    free(x);
}

static void test_ownership(void **state) {
    (void)state;
    visit_all(0, check_ownership);
}

static void test_round_trip(void **state) {
    (void)state;
    visit_all(0, check_round_trip);
}

static void test_full_precision(void **state) {
    (void)state;
    visit_all(1, check_full);
}

static kvs_format make(const char *name, int head_dim, int tokens, int boosted) {
    kvs_page_shape shape = {head_dim, tokens, 1, 2, 4, boosted, 2, 0, 0};
    kvs_format format;
    assert_int_equal(kvs_format_make(kvs_layout_find(name), &shape, &format, NULL), KVS_OK);
    return format;
}

/* Kitty-Pro's page as published: 5120 bytes of codes, 128 of index, 512 of scales; 4096 and 512 for V. */
static void test_kitty_account(void **state) {
    (void)state;
    kvs_format pro = make("kitty", 128, 128, 32), kitty = make("kitty", 128, 128, 16);
    assert_int_equal(pro.head_bytes[0], 5120 + 128 + 4096);
    assert_int_equal(pro.head_bytes[1], 512 + 512);
    assert_true(kvs_bits_sum(pro.page_bits) / (2 * 128 * 128) == 2.53125);
    assert_true(kvs_bits_sum(kitty.page_bits) / (2 * 128 * 128) == 2.40625);
    assert_true(pro.page_bits.padding == 0);
    assert_int_equal(make("fragment", 128, 128, 32).head_bytes[0], 10368);
    /* Byte t/4, bits 2(t%4) of a row of 32 bytes; the further plane follows the low one. */
    kvs_place place = kvs_key_place(&pro, 77, 5, (kvs_channel_place){1, 9, 0});
    assert_int_equal(place.part[0].bit, 8 * (5 * 32 + 77 / 4) + 2 * (77 % 4));
    assert_int_equal(place.part[1].bit, 8 * (128 * 32 + 9 * 32 + 77 / 4) + 2 * (77 % 4));
}

/* Masking word after word of the fragment layout leaves the registers of matrix A of m16n8k16 (PTX ISA: register r of
 * lane 4g + q holds row g + 8(r&1) and columns 2q + 8(r>>1) and the next). */
static void check_registers(const uint8_t *codes, int step, int lane, int word, const filled *page, int keys) {
    uint32_t bits;
    memcpy(&bits, codes + 512 * step + 16 * lane + 4 * word, 4);
    for (int i = 0; i < 16; i++) {
        int tile = i / 8, r = i / 2 % 4, half = i % 2, g = lane / 4;
        int column = 2 * (lane % 4) + 8 * (r >> 1) + half;
        int token = 32 * word + 16 * tile + g + 8 * (r & 1), channel = 16 * step + column;
        if (!keys) {
            token = 16 * step + column;
            channel = 32 * word + 8 * (g / 2) + g % 2 + 2 * (r & 1) + 4 * tile;
        }
        int bit = 16 * half + 8 * (r & 1) + 2 * (r >> 1) + 4 * tile;
        assert_int_equal(bits >> bit & 3, page->codes[token * 128 + channel]);
    }
}

static void test_fragment_registers(void **state) {
    (void)state;
    kvs_format format = make("fragment", 128, 128, 0);
    static filled keys, values;
    random_page(&format, 11, 1, &keys);
    random_page(&format, 12, 0, &values);
    uint8_t *block[2] = {calloc(format.block_bytes[0], 1), NULL};
    kvs_pack_keys(&format, 0, &keys.page, block);
    kvs_pack_values(&format, 0, &values.page, block);
    for (int i = 0; i < 8 * 32 * 4; i++) {
        check_registers(block[0], i / 128, i / 4 % 32, i % 4, &keys, 1);
        check_registers(block[0] + format.value.base / 8, i / 128, i / 4 % 32, i % 4, &values, 0);
    }
    free(block[0]);
}

static void test_refusals(void **state) {
    (void)state;
    static const struct refused {
        kvs_page_shape shape;
        const char *object;
    } table[] = {
        {{80, 128, 1, 2, 4, 8, 2, 0, 0}, "head_dim"},    {{128, 48, 1, 2, 4, 8, 2, 0, 0}, "page"},
        {{128, 512, 1, 2, 4, 8, 2, 0, 0}, "page"},       {{128, 128, 0, 2, 4, 8, 2, 0, 0}, "kv_heads"},
        {{128, 128, 1, 3, 4, 8, 2, 0, 0}, "bits"},       {{128, 128, 1, 2, 4, 8, 6, 0, 0}, "bits"},
        {{128, 128, 1, 4, 2, 8, 2, 0, 0}, "boost_bits"}, {{128, 128, 1, 2, 4, 129, 2, 0, 0}, "boost"},
        {{128, 128, 1, 2, 4, -1, 2, 0, 0}, "boost"},     {{128, 16, 1, 2, 4, 8, 2, 0, 0}, "page"},
        {{128, 128, 1, 2, 4, 8, 2, 16, 0}, "group"},     {{128, 96, 1, 2, 4, 8, 2, 64, 0}, "group"},
        {{128, 128, 1, 2, 4, 8, 2, 0, 16}, "v_group"},   {{96, 128, 1, 2, 4, 8, 2, 0, 64}, "v_group"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        kvs_format format;
        kvs_error error;
        assert_int_equal(kvs_format_make(kvs_layout_find("fragment"), &table[i].shape, &format, &error), KVS_USAGE);
        assert_string_equal(error.file, "fragment");
        assert_string_equal(error.object, table[i].object);
    }
    kvs_format format;
    assert_int_equal(kvs_format_make(kvs_layout_find("kivi"), &table[0].shape, &format, NULL), KVS_USAGE);
    assert_null(kvs_layout_find("no-such-layout"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ownership),      cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_full_precision), cmocka_unit_test(test_kitty_account),
        cmocka_unit_test(test_refusals),       cmocka_unit_test(test_fragment_registers),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
