/* fiber_cases.h: tests of fibers, for each way to switch (test_fiber.c, test_fiber_ucontext.c). */
#ifndef KVS_TESTS_FIBER_CASES_H
#define KVS_TESTS_FIBER_CASES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/simt/fiber.h"

enum { FIBERS = 100, ROUNDS = 50 };

typedef struct walker {
    kvs_fiber fiber;
    struct walker *next;
    kvs_fiber *home;
    uint64_t number, sum;
    double product;
    int rounds;
} walker;

/* Keeps more values alive over each switch than a call preserves registers, integer and floating. */
static void walk(void *argument) {
    walker *w = argument;
    uint64_t a = w->number, b = a + 1, c = a + 2, d = a + 3, e = a + 4, f = a + 5, g = a + 6, h = a + 7;
    double p = 1 + (double)a, q = p + 0.5, r = p + 0.25, s = p + 0.125, t = p + 2, u = p + 3, v = p + 4, x = p + 5;
    for (;;) {
        a += 1, b += a, c += b, d += c, e += d, f += e, g += f, h += g;
        p *= 1.0 + 0x1p-10, q += p, r += q, s += r, t += s, u += t, v += u, x += v;
        w->rounds++;
        w->sum = a ^ b ^ c ^ d ^ e ^ f ^ g ^ h;
        w->product = p + q + r + s + t + u + v + x;
        kvs_fiber_switch(&w->fiber, w->next != NULL ? &w->next->fiber : w->home);
    }
}

/* The same without switches. */
static void expect(walker *w) {
    uint64_t a = w->number, b = a + 1, c = a + 2, d = a + 3, e = a + 4, f = a + 5, g = a + 6, h = a + 7;
    double p = 1 + (double)a, q = p + 0.5, r = p + 0.25, s = p + 0.125, t = p + 2, u = p + 3, v = p + 4, x = p + 5;
    for (int i = 0; i < ROUNDS; i++) {
        a += 1, b += a, c += b, d += c, e += d, f += e, g += f, h += g;
        p *= 1.0 + 0x1p-10, q += p, r += q, s += r, t += s, u += t, v += u, x += v;
    }
    assert_int_equal(w->sum, a ^ b ^ c ^ d ^ e ^ f ^ g ^ h);
    assert_true(w->product == p + q + r + s + t + u + v + x);
}

/* A ring of fibers that hand on to one another; they are then left for good and their stacks used again. */
static void test_ring(void **state) {
    (void)state;
    static walker walkers[FIBERS];
    kvs_fiber_stacks stacks = {0};
    kvs_error error;
    assert_int_equal(kvs_fiber_stacks_reserve(&stacks, FIBERS, &error), KVS_OK);
    for (uint64_t turn = 0; turn < 3; turn++) {
        kvs_fiber home;
        memset(&home, 0, sizeof home);
        for (uint64_t i = 0; i < FIBERS; i++) {
            memset(&walkers[i], 0, sizeof walkers[i]);
            walkers[i].number = 1000 * turn + i;
            walkers[i].home = &home;
            walkers[i].next = i + 1 < FIBERS ? &walkers[i + 1] : NULL;
            kvs_fiber_start(&walkers[i].fiber, &stacks, (size_t)i, walk, &walkers[i]);
        }
        for (int round = 0; round < ROUNDS; round++) kvs_fiber_switch(&home, &walkers[0].fiber);
        for (int i = 0; i < FIBERS; i++) {
            assert_int_equal(walkers[i].rounds, ROUNDS);
            expect(&walkers[i]);
        }
    }
    kvs_fiber_stacks_free(&stacks);
    assert_null(stacks.memory);
}

typedef struct diver {
    kvs_fiber fiber;
    kvs_fiber *home;
    int depth, aligned;
} diver;

static int dive(diver *d, int depth) {
    volatile char local[512];
    _Alignas(16) volatile char word[16];
    local[0] = (char)depth;
    d->aligned &= (uintptr_t)word % 16 == 0;
    int below = depth > 0 ? dive(d, depth - 1) : 0;
    return below + (local[0] == (char)depth);
}

static void dive_entry(void *argument) {
    diver *d = argument;
    d->depth = dive(d, 50);
    kvs_fiber_switch(&d->fiber, d->home);
}

/* A stack is aligned as calls want it, and holds some depth of calls. */
static void test_stack(void **state) {
    (void)state;
    kvs_fiber_stacks stacks = {0};
    kvs_error error;
    assert_int_equal(kvs_fiber_stacks_reserve(&stacks, 40, &error), KVS_OK);
    for (size_t i = 0; i < 40; i++) {
        kvs_fiber home;
        diver d;
        memset(&home, 0, sizeof home);
        memset(&d, 0, sizeof d);
        d.home = &home;
        d.aligned = 1;
        kvs_fiber_start(&d.fiber, &stacks, i, dive_entry, &d);
        kvs_fiber_switch(&home, &d.fiber);
        assert_int_equal(d.depth, 51);
        assert_true(d.aligned);
    }
    kvs_fiber_stacks_free(&stacks);
}

static void test_no_memory(void **state) {
    (void)state;
    kvs_fiber_stacks stacks = {0};
    kvs_error error;
    assert_int_equal(kvs_fiber_stacks_reserve(&stacks, (size_t)1 << 40, &error), KVS_INPUT);
    assert_null(stacks.memory);
}

static int run_fiber_cases(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring),
        cmocka_unit_test(test_stack),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
