/* The transaction model against closed forms, and on random requests against counting bytes and words one by one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "analysis/transactions.h"
#include "core/random.h"

static kvs_simt_request make(kvs_simt_kind kind, uint32_t width, uint32_t mask, uint64_t first, uint64_t step) {
    kvs_simt_request r = {.kernel = "k", .file = "f.cu", .line = 1, .kind = kind, .width = width, .mask = mask};
    for (uint32_t l = 0; l < 32; l++) {
        r.address[l] = first + l * step;
        r.to[l] = 16 * l;
    }
    return r;
}

static kvs_transaction_counts count(kvs_simt_request r) {
    kvs_transaction_counts counts = {0};
    kvs_transactions_count(&r, &counts);
    assert_int_equal(counts.requests, 1);
    assert_int_equal(counts.lanes, __builtin_popcount(r.mask));
    return counts;
}

static const uint32_t all = 0xffffffffu;
static const uint64_t base = (uint64_t)1 << 32;

static void test_contiguous(void **state) {
    (void)state;
    static const uint64_t sectors[] = {1, 2, 4, 8, 16}, lines[] = {1, 1, 1, 2, 4};
    static const kvs_simt_kind kinds[] = {KVS_SIMT_LOAD_GLOBAL, KVS_SIMT_LOAD_GLOBAL_NC, KVS_SIMT_STORE_GLOBAL};
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 5; i++) {
            uint32_t width = 1u << i;
            kvs_transaction_counts c = count(make(kinds[k], width, all, base, width));
            assert_int_equal(c.sectors, sectors[i]);
            assert_int_equal(c.lines, lines[i]);
            assert_int_equal(c.useful_bytes, 32 * width);
            assert_int_equal(c.lane_bytes, 32 * width);
            assert_int_equal(c.wavefronts + c.conflicts, 0);
            /* Off the boundary by one element: one sector more, and one line more where the last line was full. */
            c = count(make(kinds[k], width, all, base + width, width));
            assert_int_equal(c.sectors, sectors[i] + 1);
            assert_int_equal(c.lines, lines[i] + (width >= 4));
        }
}

static void test_strided_broadcast_predicated(void **state) {
    (void)state;
    for (uint32_t stride = 1; stride <= 16; stride *= 2) { /* words */
        kvs_transaction_counts c = count(make(KVS_SIMT_LOAD_GLOBAL, 4, all, base, 4 * stride));
        assert_int_equal(c.sectors, stride < 8 ? 4 * stride : 32);
        assert_int_equal(c.lines, stride < 32 ? stride : 32);
        assert_int_equal(c.useful_bytes, 128);
    }
    kvs_transaction_counts c = count(make(KVS_SIMT_LOAD_GLOBAL, 8, all, base + 40, 0));
    assert_int_equal(c.sectors, 1);
    assert_int_equal(c.useful_bytes, 8);
    assert_int_equal(c.lane_bytes, 256);
    c = count(make(KVS_SIMT_STORE_GLOBAL, 4, 0x000000ffu, base, 4)); /* all but eight lanes predicated off */
    assert_int_equal(c.sectors, 1);
    c = count(make(KVS_SIMT_STORE_GLOBAL, 4, 0x80000000u, base, 4));
    assert_int_equal(c.sectors, 1);
    assert_int_equal(c.lane_bytes, 4);
}

static void test_copies(void **state) {
    (void)state;
    kvs_transaction_counts c = count(make(KVS_SIMT_COPY, 16, all, base, 16));
    assert_int_equal(c.sectors, 16);
    assert_int_equal(c.lines, 4);
    assert_int_equal(c.wavefronts, 4);
    assert_int_equal(c.conflicts, 0);
    c = count(make(KVS_SIMT_COPY, 16, all, base + 32, 16)); /* lines are straddled */
    assert_int_equal(c.sectors, 16);
    assert_int_equal(c.lines, 8);
    assert_int_equal(c.wavefronts, 8);
    c = count(make(KVS_SIMT_COPY, 16, all, base + 16, 16)); /* sectors are */
    assert_int_equal(c.sectors, 32);
    assert_int_equal(c.useful_bytes, 512);
    c = count(make(KVS_SIMT_COPY, 16, 0x55555555u, base, 16)); /* halves of sectors */
    assert_int_equal(c.sectors, 16);
    assert_int_equal(c.useful_bytes, 256);
    /* Rows of 128 bytes, their pieces exchanged by the row's number: sectors stay whole. */
    kvs_simt_request r = make(KVS_SIMT_COPY, 16, all, base, 16);
    for (uint32_t l = 0; l < 32; l++) r.to[l] = 16 * (l / 8 * 8 + (l % 8 ^ l / 8));
    c = count(r);
    assert_int_equal(c.sectors, 16);
    assert_int_equal(c.wavefronts, 4);
}

static void test_banks(void **state) {
    (void)state;
    for (int store = 0; store < 2; store++) {
        kvs_simt_kind kind = store ? KVS_SIMT_STORE_SHARED : KVS_SIMT_LOAD_SHARED;
        for (uint32_t stride = 1; stride <= 64; stride++) { /* words: gcd(stride, 32) lanes fall on one bank */
            uint32_t ways = stride & -stride;
            kvs_transaction_counts c = count(make(kind, 4, all, 0, 4 * stride));
            assert_int_equal(c.wavefronts, ways < 32 ? ways : 32);
            assert_int_equal(c.conflicts, c.wavefronts - 1);
            assert_int_equal(c.sectors + c.lines, 0);
        }
        assert_int_equal(count(make(kind, 1, all, 0, 1)).wavefronts, 1); /* bytes of one word are no conflict */
        assert_int_equal(count(make(kind, 2, all, 0, 2)).wavefronts, 1);
        assert_int_equal(count(make(kind, 4, all, 64, 0)).wavefronts, 1); /* a broadcast */
        assert_int_equal(count(make(kind, 8, all, 0, 8)).wavefronts, 2);
        assert_int_equal(count(make(kind, 16, all, 0, 16)).wavefronts, 4);
        assert_int_equal(count(make(kind, 16, all, 0, 16)).conflicts, 0);
        assert_int_equal(count(make(kind, 8, 0x0000ffffu, 0, 8)).wavefronts, 1); /* the other half is off */
        assert_int_equal(count(make(kind, 8, all, 0, 16)).conflicts, 2);         /* two lanes a bank in each half */
        assert_int_equal(count(make(kind, 16, all, 0, 32)).conflicts, 4);
        assert_int_equal(count(make(kind, 16, all, 0, 128)).conflicts, 28);
        /* Equal neighbours share a turn when they read, not when they write. */
        assert_int_equal(count(make(kind, 8, all, 0, 0)).wavefronts, store ? 2 : 1);
        assert_int_equal(count(make(kind, 16, all, 0, 0)).wavefronts, store ? 4 : 2);
    }
}

static void test_ldmatrix(void **state) {
    (void)state;
    for (uint32_t row_words = 4; row_words <= 64; row_words += 4) { /* 8 rows of 16 bytes a matrix */
        uint32_t quads = row_words / 4, ways = quads & -quads;
        kvs_transaction_counts c = count(make(KVS_SIMT_LDMATRIX, 16, all, 0, 4 * row_words));
        assert_int_equal(c.wavefronts, 4 * (ways < 8 ? ways : 8));
        assert_int_equal(c.conflicts, c.wavefronts - 4);
    }
    assert_int_equal(count(make(KVS_SIMT_LDMATRIX, 16, all, 0, 0)).wavefronts, 4);
}

/* --- random requests, counted the slow way ---------------------------------------------------------------------------
 */

enum { SPAN = 4096 };

static uint64_t distinct(const unsigned char *bytes, int unit) {
    uint64_t units = 0;
    for (int u = 0; u < SPAN / unit; u++) {
        int any = 0;
        for (int b = 0; b < unit; b++) any |= bytes[u * unit + b];
        units += (uint64_t)any;
    }
    return units;
}

/* Serves words greedily, one of each bank a wavefront, until none is left. */
static uint64_t serve(const kvs_simt_request *r, int begin, int end) {
    unsigned char wanted[SPAN / 4] = {0};
    for (int l = begin; l < end; l++)
        if (r->mask >> l & 1)
            for (uint32_t b = 0; b < r->width; b++) wanted[(r->address[l] + b) / 4] = 1;
    for (uint64_t wavefronts = 0;; wavefronts++) {
        int served = 0;
        for (int bank = 0; bank < 32; bank++)
            for (int word = bank; word < SPAN / 4; word += 32)
                if (wanted[word]) {
                    wanted[word] = 0;
                    served = 1;
                    break;
                }
        if (!served) return wavefronts;
    }
}

static void test_random(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 3000; seed++) {
        uint32_t width = 1u << kvs_random_bits(seed, 100) % 5, range = 4u << kvs_random_bits(seed, 101) % 7;
        uint32_t mask = seed % 3 == 0 ? all : (uint32_t)kvs_random_bits(seed, 102);
        kvs_simt_request r = make(seed % 2 ? KVS_SIMT_LOAD_GLOBAL : KVS_SIMT_STORE_SHARED, width, mask, 0, 0);
        unsigned char bytes[SPAN] = {0};
        for (uint32_t l = 0; l < 32; l++) {
            r.address[l] = kvs_random_bits(seed, l) % range * width % SPAN;
            for (uint32_t b = 0; b < width && mask >> l & 1; b++) bytes[r.address[l] + b] = 1;
        }
        kvs_transaction_counts c = count(r);
        assert_int_equal(c.useful_bytes, distinct(bytes, 1));
        if (seed % 2) {
            assert_int_equal(c.sectors, distinct(bytes, 32));
            assert_int_equal(c.lines, distinct(bytes, 128));
        } else {
            int turns = width <= 4 ? 1 : (int)width / 4;
            uint64_t wavefronts = 0;
            for (int t = 0; t < turns; t++) wavefronts += serve(&r, t * 32 / turns, (t + 1) * 32 / turns);
            assert_int_equal(c.wavefronts, wavefronts);
        }
    }
}

/* --- rows and footprints ---------------------------------------------------------------------------------------------
 */

static void test_rows(void **state) {
    (void)state;
    kvs_transactions t;
    kvs_error error;
    kvs_transactions_begin(&t);
    for (int line = 9; line > 0; line--)
        for (int turn = 0; turn < line; turn++) {
            kvs_simt_request r = make(line % 2 ? KVS_SIMT_LOAD_GLOBAL : KVS_SIMT_COPY, 16, all, base, 16);
            r.line = line;
            kvs_transactions_record(&t, &r, 1);
        }
    kvs_simt_request other = make(KVS_SIMT_LOAD_SHARED, 4, all, 0, 8);
    other.kernel = "another";
    kvs_transactions_record(&t, &other, 1);
    assert_int_equal(kvs_transactions_finish(&t, &error), KVS_OK);
    assert_int_equal(t.row_count, 10);
    assert_string_equal(t.rows[0].kernel, "another");
    for (size_t i = 1; i < t.row_count; i++) {
        assert_int_equal(t.rows[i].line, i);
        assert_int_equal(t.rows[i].counts.requests, i);
        assert_int_equal(t.rows[i].counts.sectors, 16 * i);
    }
    kvs_transaction_counts loads = kvs_transactions_sum(&t, NULL, KVS_KINDS_LOAD);
    assert_int_equal(loads.requests, 1 + 3 + 5 + 7 + 9);
    assert_true(kvs_sectors_per_request(&loads) == 16 && kvs_bytes_per_sector(&loads) == 32);
    assert_int_equal(kvs_transactions_sum(&t, "k", KVS_KINDS_COPY).requests, 2 + 4 + 6 + 8);
    assert_int_equal(kvs_transactions_sum(&t, "k", KVS_KINDS_SHARED).requests, 0);
    assert_int_equal(kvs_transactions_sum(&t, NULL, KVS_KINDS_SHARED).conflicts, 1);
    kvs_transaction_counts none = kvs_transactions_sum(&t, "absent", KVS_KINDS_READ);
    assert_true(isnan(kvs_sectors_per_request(&none)) && isnan(kvs_bytes_per_sector(&none)));
    kvs_transactions_clear(&t);
    assert_int_equal(t.row_count, 0);
}

static void test_footprint(void **state) {
    (void)state;
    kvs_transactions t;
    kvs_error error;
    kvs_transactions_begin(&t);
    enum { REQUESTS = 3000 };
    for (uint64_t i = 0; i < REQUESTS; i++) { /* each 512 bytes twice, from both ends */
        kvs_simt_request r = make(KVS_SIMT_LOAD_GLOBAL_NC, 16, all, base + 512 * i, 16);
        kvs_transactions_record(&t, &r, 1);
        r = make(KVS_SIMT_COPY, 16, all, base + 512 * (REQUESTS - 1 - i), 16);
        kvs_transactions_record(&t, &r, 1);
    }
    kvs_simt_request r = make(KVS_SIMT_STORE_GLOBAL, 4, 0x00000fffu, base, 4); /* one sector and a half */
    kvs_transactions_record(&t, &r, 1);
    r = make(KVS_SIMT_ATOMIC_GLOBAL, 4, 1, base + 512 * REQUESTS, 4); /* read and written */
    kvs_transactions_record(&t, &r, 1);
    assert_int_equal(kvs_transactions_finish(&t, &error), KVS_OK);
    kvs_footprint f = kvs_transactions_footprint(&t, "k");
    assert_int_equal(f.read_sectors, 16 * REQUESTS + 1);
    assert_int_equal(f.read_bytes, 512 * REQUESTS + 4);
    assert_int_equal(f.written_sectors, 3);
    assert_int_equal(f.partial_sectors, 2);
    assert_int_equal(f.written_bytes, 48 + 4);
    assert_int_equal(kvs_transactions_sum(&t, NULL, KVS_KINDS_READ).sectors, 2 * 16 * REQUESTS); /* L2 traffic */
    assert_int_equal(kvs_transactions_footprint(&t, "absent").read_sectors, 0);
    kvs_transactions_clear(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contiguous), cmocka_unit_test(test_strided_broadcast_predicated),
        cmocka_unit_test(test_copies),     cmocka_unit_test(test_banks),
        cmocka_unit_test(test_ldmatrix),   cmocka_unit_test(test_random),
        cmocka_unit_test(test_rows),       cmocka_unit_test(test_footprint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
