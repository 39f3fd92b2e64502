/* test_account.c: the window policy against a cache that is run step by step, and the memory account against a count
 * of every code, scale and index of every page at every length, and against closed forms. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/layout.h"
#include "kernels/scheme.h"

/* --- a cache, step by step -----------------------------------------------------------------------------------------
 */

/* Tokens enter at the back; what is stored leaves the buffer at the front, a page at a time. */
typedef struct cache {
    int sinks, stored, buffer, steps; /* tokens in each; decoding steps so far */
} cache;

static void append(cache *c, const kvs_window *w) {
    if (c->sinks < w->sink_tokens)
        c->sinks++;
    else
        c->buffer++;
}

/* Stores the oldest page as long as one stands before the recent window, `unseen` last tokens left out; nothing before
 * the prefix is there. */
static void quantize(cache *c, const kvs_window *w, int unseen) {
    if (c->sinks + c->stored + c->buffer < w->prefix_tokens) return;
    while (c->buffer - unseen - w->recent_tokens >= w->page_tokens) {
        c->buffer -= w->page_tokens;
        c->stored += w->page_tokens;
    }
}

static void prefill(cache *c, const kvs_window *w, int tokens) {
    for (int t = 0; t < tokens; t++) append(c, w);
    quantize(c, w, 0);
}

static void decode(cache *c, const kvs_window *w) {
    append(c, w);
    c->steps++;
    quantize(c, w, w->decode_lag); /* the lag outlives no page that the prefill stored: stored never shrinks */
}

static void the_window_is_that_of_a_cache_in_steps(void **state) {
    (void)state;
    const int sinks[] = {0, 1, 4, 32}, pages[] = {1, 3, 16, 32}, recents[] = {0, 1, 7, 32};
    const int prefills[] = {0, 1, 5, 33, 64, 65, 97, 128};
    for (int i = 0; i < 4 * 4 * 4 * 3 * 8 * 2; i++) {
        int prefix = i < 1536 ? 0 : 70;
        kvs_window w = {sinks[i % 4], pages[i / 4 % 4], recents[i / 16 % 4], i / 64 % 3, prefix};
        int first = prefills[i / 192 % 8];
        cache c = {0};
        prefill(&c, &w, first);
        for (int tokens = first; tokens <= 300; tokens++) {
            int64_t want = w.sink_tokens + c.stored;
            assert_int_equal(kvs_window_stored_end(&w, tokens, first), want);
            if (c.stored > 0) assert_int_equal(c.sinks + c.stored + c.buffer, tokens);
            decode(&c, &w);
        }
    }
}

static void a_query_sees_what_the_design_says(void **state) {
    (void)state;
    kvs_scheme *scheme;
    kvs_error error;
    assert_int_equal(kvs_scheme_open("kitty:sink=32,window=128,page=128", 128, &scheme, &error), KVS_OK);
    for (int64_t p = 0; p < 1000; p++) {
        int64_t k = p > 32 ? 32 + (p - 32) / 128 * 128 : 32, v = p > 160 ? 32 + (p - 160) / 128 * 128 : 32;
        assert_int_equal(kvs_window_stored_end(&scheme->k.window, p, 0), k);
        assert_int_equal(kvs_window_stored_end(&scheme->v.window, p, 0), v);
    }
    kvs_scheme_close(scheme);
    assert_int_equal(kvs_scheme_open("kitty:variant=simulator", 128, &scheme, &error), KVS_OK);
    for (int64_t p = 0; p < 1000; p++)
        assert_int_equal(kvs_window_stored_end(&scheme->v.window, p, 0), p > 160 ? p - 128 : 32);
    assert_int_equal(kvs_window_stored_end(&scheme->k.window, 32 + 256, 0), 32 + 128);   /* decoded: a step later */
    assert_int_equal(kvs_window_stored_end(&scheme->k.window, 32 + 256, 288), 32 + 256); /* prefilled: at once */
    kvs_scheme_close(scheme);
    assert_int_equal(kvs_scheme_open("fp16", 128, &scheme, &error), KVS_OK);
    assert_int_equal(kvs_window_stored_end(&scheme->k.window, 1 << 30, 1 << 30), 0);
    kvs_scheme_close(scheme);
}

/* --- bits, one by one ----------------------------------------------------------------------------------------------
 */

typedef struct store_facts { /* written down by hand, not read from the library */
    kvs_window window;
    int per_channel, group, bits, boost_bits, boosted, planes, meta_bits;
} store_facts;

typedef struct scheme_facts {
    const char *spec;
    int head_dim;
    store_facts k, v;
} scheme_facts;

static const scheme_facts known[] = {
    {"kitty", 128, {{32, 128, 0, 0, 0}, 1, 128, 2, 4, 16, 1, 16}, {{32, 128, 128, 0, 0}, 0, 128, 2, 0, 0, 1, 16}},
    {"kitty-pro", 128, {{32, 128, 0, 0, 0}, 1, 128, 2, 4, 32, 1, 16}, {{32, 128, 128, 0, 0}, 0, 128, 2, 0, 0, 1, 16}},
    {"kitty:variant=simulator,boost=0.2",
     128,
     {{32, 128, 0, 1, 0}, 1, 128, 2, 4, 25, 1, 32},
     {{32, 1, 128, 0, 0}, 0, 128, 2, 0, 0, 1, 32}},
    {"kitty:boost=0", 64, {{32, 128, 0, 0, 0}, 1, 128, 2, 4, 0, 1, 16}, {{32, 128, 128, 0, 0}, 0, 64, 2, 0, 0, 1, 16}},
    {"kitty:boost=1,bits=2,boost_bits=8,v_bits=3",
     96,
     {{32, 128, 0, 0, 0}, 1, 128, 2, 8, 96, 1, 16},
     {{32, 128, 128, 0, 0}, 0, 96, 3, 0, 0, 1, 16}},
    {"kitty:bits=3,boost_bits=6,boost=0.5,page=20,group=5,v_group=10,sink=3,window=30",
     50,
     {{3, 20, 0, 0, 0}, 1, 5, 3, 6, 25, 1, 16},
     {{3, 20, 30, 0, 0}, 0, 10, 3, 0, 0, 1, 16}},
    {"kitty:bits=3,boost_bits=5,boost=0.5,page=18,sink=0,window=0,k_lag=1,v_window=token",
     50,
     {{0, 18, 0, 1, 0}, 1, 18, 3, 5, 25, 0, 16},
     {{0, 1, 0, 0, 0}, 0, 50, 3, 0, 0, 1, 16}},
    {"kivi", 128, {{0, 128, 0, 0, 0}, 1, 32, 2, 0, 0, 1, 16}, {{0, 1, 128, 0, 0}, 0, 32, 2, 0, 0, 1, 16}},
    {"kivi:k_bits=4,group=16,residual=48,sink=32,meta=fp32",
     96,
     {{32, 48, 0, 0, 0}, 1, 16, 4, 0, 0, 1, 32},
     {{32, 1, 48, 0, 0}, 0, 16, 2, 0, 0, 1, 32}},
    {"int:bits=3,sink=2,window=9",
     37,
     {{2, 1, 9, 0, 0}, 0, 37, 3, 0, 0, 1, 16},
     {{2, 1, 9, 0, 0}, 0, 37, 3, 0, 0, 1, 16}},
    {"int:bits=8,group=32", 256, {{0, 1, 0, 0, 0}, 0, 32, 8, 0, 0, 1, 16}, {{0, 1, 0, 0, 0}, 0, 32, 8, 0, 0, 1, 16}},
};

enum { KNOWN = sizeof known / sizeof *known };

/* One row of codes: each counted, the last byte filled up. */
static void count_row(kvs_bits *bits, int codes, int width) {
    int used = 0;
    for (int c = 0; c < codes; c++) used += width;
    bits->payload += used;
    for (; used % 8 != 0; used++) bits->padding++;
}

static void count_page(kvs_bits *bits, const store_facts *f, int head_dim) {
    int tokens = f->window.page_tokens;
    for (int t = 0; t < tokens; t++) /* the first element of each group carries the group's two numbers */
        for (int d = 0; d < head_dim; d++)
            if ((f->per_channel ? t : d) % f->group == 0) bits->metadata += 2 * f->meta_bits;
    if (!f->per_channel) {
        for (int t = 0; t < tokens; t++) count_row(bits, head_dim, f->bits);
        return;
    }
    for (int d = 0; d < head_dim; d++) {
        int is_boosted = d < f->boosted;
        if (f->boosted > 0 && f->boosted < head_dim) bits->metadata += 8;
        if (!is_boosted)
            count_row(bits, tokens, f->bits);
        else if (!f->planes)
            count_row(bits, tokens, f->boost_bits);
        else
            for (int plane = 0; plane < f->boost_bits; plane += f->bits) count_row(bits, tokens, f->bits);
    }
}

static void count_store(kvs_bits *bits, const store_facts *f, int head_dim, const cache *c) {
    for (int page = 0; page < c->stored / f->window.page_tokens; page++) count_page(bits, f, head_dim);
    for (int t = 0; t < c->sinks + c->buffer; t++) bits->residual += 16 * head_dim;
}

static void assert_same_account(kvs_bits got, kvs_bits want, const char *spec, int tokens) {
    if (memcmp(&got, &want, sizeof got) != 0)
        fail_msg("%s at %d tokens: %.0f %.0f %.0f %.0f, not %.0f %.0f %.0f %.0f", spec, tokens, got.payload,
                 got.metadata, got.residual, got.padding, want.payload, want.metadata, want.residual, want.padding);
}

static void the_account_is_exact_at_every_length(void **state) {
    (void)state;
    for (int s = 0; s < KNOWN; s++) {
        const scheme_facts *f = &known[s];
        kvs_scheme *scheme;
        kvs_error error;
        if (kvs_scheme_open(f->spec, f->head_dim, &scheme, &error) != KVS_OK) fail_msg("%s: %s", f->spec, error.rule);
        cache k = {0}, v = {0};
        for (int tokens = 0; tokens <= 600; tokens++) {
            kvs_bits want = {0};
            count_store(&want, &f->k, f->head_dim, &k);
            count_store(&want, &f->v, f->head_dim, &v);
            assert_same_account(kvs_scheme_head_bits(scheme, tokens), want, f->spec, tokens);
            decode(&k, &f->k.window);
            decode(&v, &f->v.window);
        }
        assert_string_equal(scheme->layout, f->k.planes ? scheme->type->layout : "channel-packed");
        kvs_scheme_close(scheme);
    }
}

static void page_bits_are_those_of_a_counted_page(void **state) {
    (void)state;
    for (int s = 0; s < KNOWN; s++) {
        const scheme_facts *f = &known[s];
        kvs_scheme *scheme;
        kvs_error error;
        assert_int_equal(kvs_scheme_open(f->spec, f->head_dim, &scheme, &error), KVS_OK);
        kvs_bits k = {0}, v = {0}, got = kvs_scheme_page_bits(scheme);
        count_page(&k, &f->k, f->head_dim);
        count_page(&v, &f->v, f->head_dim);
        double k_elements = 2.0 * f->k.window.page_tokens * f->head_dim;
        double v_elements = 2.0 * f->v.window.page_tokens * f->head_dim;
        assert_true(fabs(got.payload - (k.payload / k_elements + v.payload / v_elements)) < 1e-12);
        assert_true(fabs(got.metadata - (k.metadata / k_elements + v.metadata / v_elements)) < 1e-12);
        assert_true(fabs(got.padding - (k.padding / k_elements + v.padding / v_elements)) < 1e-12);
        assert_true(got.residual == 0);
        kvs_scheme_close(scheme);
    }
}

static kvs_bits page_bits(const char *spec, int head_dim, int v, int *page_tokens) {
    kvs_scheme *scheme;
    kvs_error error;
    assert_int_equal(kvs_scheme_open(spec, head_dim, &scheme, &error), KVS_OK);
    const kvs_store *store = v ? &scheme->v : &scheme->k;
    kvs_bits bits = store->codec->page_bits(store);
    *page_tokens = store->window.page_tokens;
    kvs_scheme_close(scheme);
    return bits;
}

static double effective_page_bits(const char *spec, int head_dim) {
    kvs_scheme *scheme;
    kvs_error error;
    assert_int_equal(kvs_scheme_open(spec, head_dim, &scheme, &error), KVS_OK);
    double bits = kvs_bits_sum(kvs_scheme_page_bits(scheme));
    kvs_scheme_close(scheme);
    return bits;
}

static void closed_forms_hold(void **state) {
    (void)state;
    int tokens;
    kvs_bits k = page_bits("kitty:boost=0.25", 128, 0, &tokens), v = page_bits("kitty:boost=0.25", 128, 1, &tokens);
    assert_int_equal(tokens, 128);
    assert_true(k.payload == 8 * 5120 && k.metadata == 8 * (128 + 512) && k.padding == 0 && k.residual == 0);
    assert_true(v.payload == 8 * 4096 && v.metadata == 8 * 512 && v.padding == 0 && v.residual == 0);
    assert_true(effective_page_bits("kitty:boost=0.25", 128) == 2.53125);
    assert_true(effective_page_bits("kitty-pro", 128) == 2.53125);
    assert_true(effective_page_bits("kitty", 128) == 2.40625);
    assert_true(effective_page_bits("kivi:group=32", 128) == 3.0);
    assert_true(effective_page_bits("kivi:group=64", 128) == 2.5);
    assert_true(effective_page_bits("kivi:group=128", 128) == 2.25);
    assert_true(effective_page_bits("int:bits=4", 128) == 4.25);
    assert_true(effective_page_bits("int:bits=4,group=64", 128) == 4.5);
    assert_true(effective_page_bits("fp16", 128) == 16.0);
}

/* The layout that the kernels store, and the account that the scheme keeps of it, count alike. */
static void the_kitty_layout_takes_what_the_scheme_says(void **state) {
    (void)state;
    const int head_dims[] = {64, 96, 128, 256}, pages[] = {16, 32, 64, 128, 256},
              widths[][2] = {{2, 4}, {4, 8}, {2, 8}};
    const double boosts[] = {0, 0.125, 0.25, 0.5, 1};
    for (int i = 0; i < 4 * 5 * 3 * 5; i++) {
        const int *width = widths[i / 20 % 3];
        char spec[96];
        snprintf(spec, sizeof spec, "kitty:page=%d,bits=%d,boost_bits=%d,boost=%g,v_bits=%d", pages[i / 4 % 5],
                 width[0], width[1], boosts[i / 60], width[0]);
        int tokens, head_dim = head_dims[i % 4];
        kvs_bits k = page_bits(spec, head_dim, 0, &tokens), v = page_bits(spec, head_dim, 1, &tokens);
        kvs_page_shape shape = {.head_dim = head_dim,
                                .page_tokens = tokens,
                                .kv_heads = 1,
                                .bits = width[0],
                                .boost_bits = width[1],
                                .boost_channels = (int)(head_dim * boosts[i / 60]),
                                .value_bits = width[0]};
        kvs_format format;
        kvs_error error;
        if (kvs_format_make(kvs_layout_find("kitty"), &shape, &format, &error) != KVS_OK) fail_msg("%s", error.rule);
        assert_true(format.page_bits.payload == k.payload + v.payload);
        assert_true(format.page_bits.metadata == k.metadata + v.metadata);
        assert_true(k.padding == 0 && v.padding == 0);
        /* The kernels start a head's page at a multiple of 16 bytes, which it fills but here. */
        assert_true(format.page_bits.padding == 0 || (head_dim == 96 && tokens == 16));
        assert_true(format.page_bits.padding < 16 * 8 + 1);
    }
}

static void fp16_is_all_payload(void **state) {
    (void)state;
    kvs_scheme *scheme;
    kvs_error error;
    assert_int_equal(kvs_scheme_open("fp16", 96, &scheme, &error), KVS_OK);
    kvs_bits bits = kvs_scheme_head_bits(scheme, 1000);
    assert_true(bits.payload == 2 * 16 * 96 * 1000.0 && kvs_bits_sum(bits) == bits.payload);
    kvs_scheme_close(scheme);
}

/* What the tables cannot hold: any registered scheme, any head_dim; the account never shrinks as tokens come. */
static void every_scheme_keeps_the_invariants(void **state) {
    (void)state;
    const int head_dims[] = {64, 96, 128, 256};
    for (int i = 0; kvs_scheme_types[i] != NULL; i++)
        for (int h = 0; h < 4; h++) {
            kvs_scheme *scheme;
            kvs_error error;
            assert_int_equal(kvs_scheme_open(kvs_scheme_types[i]->name, head_dims[h], &scheme, &error), KVS_OK);
            double full = 2.0 * 16 * head_dims[h];
            for (int64_t tokens = 0; tokens < 3000; tokens += tokens % 50 + 1) {
                kvs_bits now = kvs_scheme_head_bits(scheme, tokens), next = kvs_scheme_head_bits(scheme, tokens + 1);
                assert_true(next.payload >= now.payload && next.metadata >= now.metadata);
                assert_true(kvs_bits_sum(now) <= full * (double)tokens);
            }
            kvs_bits page = kvs_scheme_page_bits(scheme), many = kvs_scheme_head_bits(scheme, 100000000);
            assert_true(fabs(kvs_bits_sum(many) / (2.0 * head_dims[h] * 1e8) - kvs_bits_sum(page)) < 1e-4);
            kvs_scheme_close(scheme);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_window_is_that_of_a_cache_in_steps),
        cmocka_unit_test(a_query_sees_what_the_design_says),
        cmocka_unit_test(the_account_is_exact_at_every_length),
        cmocka_unit_test(page_bits_are_those_of_a_counted_page),
        cmocka_unit_test(closed_forms_hold),
        cmocka_unit_test(the_kitty_layout_takes_what_the_scheme_says),
        cmocka_unit_test(fp16_is_all_payload),
        cmocka_unit_test(every_scheme_keeps_the_invariants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
