/* Does a run yield each warp instruction once, with its lanes, addresses, width and line? Also how fast it runs. */
#include "core/progress.h"
#include "tests/parity/simt_test.h"

/* What was recorded, ordered by block, warp and time. */
struct recording {
    kvs_simt_request requests[8192];
    size_t count;
};

static void keep(void *context, const kvs_simt_request *requests, size_t count) {
    recording *r = static_cast<recording *>(context);
    assert_true(r->count + count <= sizeof r->requests / sizeof *r->requests);
    memcpy(r->requests + r->count, requests, count * sizeof *requests);
    r->count += count;
}

static recording *record(uint64_t seed) {
    static recording kept;
    kept.count = 0;
    kvs_simt_settings()->record = keep;
    kvs_simt_settings()->record_context = &kept;
    kvs_simt_settings()->order_seed = seed;
    kvs_simt_settings()->threads = 1;
    return &kept;
}

static const uint64_t base = (uint64_t)1 << 32; /* of the memory that is registered first */
static int line_a, line_b, line_c;

static void check_request(const kvs_simt_request &r, kvs_simt_kind kind, uint32_t width, int line, uint32_t warp,
                          uint32_t mask) {
    assert_int_equal(r.kind, kind);
    assert_int_equal(r.width, width);
    assert_int_equal(r.line, line);
    assert_int_equal(r.warp, warp);
    assert_int_equal(r.mask, mask);
    assert_non_null(strstr(r.file, "test_simt_record.cu"));
}

KVS_KERNEL(64, 1) every_kind(const kvs_u32x4 *in, uint32_t *out) {
    uint32_t t = threadIdx.x, r[4];
    kvs_cp_async16(KVS_SHARED + 16 * t, in + t), line_a = __LINE__;
    kvs_cp_async_commit();
    kvs_cp_async_wait<0>();
    kvs_syncthreads();
    kvs_ldmatrix_x4(r, KVS_SHARED + 16 * (63 - t)), line_b = __LINE__;
    kvs_st_global((uint16_t *)(out + t), (uint16_t)r[0]);
    kvs_ld_global_nc((const uint32_t *)(in + t));
    kvs_atomic_add_global(out + 64, 1);
    kvs_ld_shared((const kvs_u32x2 *)(void *)KVS_SHARED + t);
    kvs_syncthreads();
    kvs_st_shared(KVS_SHARED + t, (unsigned char)1);
    kvs_ld_global(in + t);
}

static void test_every_kind(void **) {
    for (uint64_t seed = 0; seed < 4; seed++) {
        recording *r = record(seed);
        device_array<uint32_t> in(256, "in", KVS_SIMT_READ_ONLY), out(65, "out");
        launched(kvs_launch(every_kind, 1, 64, 1024, nullptr, (const kvs_u32x4 *)(void *)in.data, out.data));
        static const struct {
            kvs_simt_kind kind;
            uint32_t width;
            int line; /* from the first */
            uint64_t first;
            int64_t step; /* from thread to thread */
        } wanted[] = {
            {KVS_SIMT_COPY, 16, 0, base, 16},
            {KVS_SIMT_LDMATRIX, 16, 4, 1008, -16},
            {KVS_SIMT_STORE_GLOBAL, 2, 5, base + 1536, 4},
            {KVS_SIMT_LOAD_GLOBAL_NC, 4, 6, base, 16},
            {KVS_SIMT_ATOMIC_GLOBAL, 4, 7, base + 1536 + 256, 0},
            {KVS_SIMT_LOAD_SHARED, 8, 8, 0, 8},
            {KVS_SIMT_STORE_SHARED, 1, 10, 0, 1},
            {KVS_SIMT_LOAD_GLOBAL, 16, 11, base, 16},
        };
        enum { COUNT = sizeof wanted / sizeof *wanted };
        assert_int_equal(line_b, line_a + 4);
        assert_int_equal(r->count, 2 * COUNT);
        uint32_t seen[2] = {0, 0};
        for (size_t i = 0; i < r->count; i++) {
            const kvs_simt_request &q = r->requests[i];
            assert_true(q.warp < 2);
            const auto &w = wanted[seen[q.warp]++];
            check_request(q, w.kind, w.width, line_a + w.line, q.warp, 0xffffffff);
            for (uint32_t l = 0; l < 32; l++)
                assert_int_equal(q.address[l], w.first + (uint64_t)(w.step * (int64_t)(32 * q.warp + l)));
            for (uint32_t l = 0; l < 32; l++)
                assert_int_equal(q.to[l], q.kind == KVS_SIMT_COPY ? 16 * (32 * q.warp + l) : 0);
            assert_string_equal(q.kernel, "every_kind");
        }
    }
}

/* Lanes take a branch or the other or none, run a loop a different number of times, and come together after it. */
KVS_KERNEL(32, 1) divergent(const uint32_t *in, uint32_t *out) {
    uint32_t t = threadIdx.x;
    if (t < 8)
        kvs_st_global(out + t, 1u), line_a = __LINE__;
    else if (t < 12)
        kvs_st_global(out + t, 2u);
    for (uint32_t i = 0; i < t % 4; i++) kvs_ld_global(in + 64 * i + t), line_b = __LINE__;
    kvs_ld_global((const unsigned char *)in + t), line_c = __LINE__;
    if (t == 31) return;
    kvs_syncwarp();
    kvs_ld_global((const unsigned char *)in + t);
}

static void test_divergence(void **) {
    for (uint64_t seed = 0; seed < 6; seed++) {
        recording *r = record(seed);
        device_array<uint32_t> in(512, "in", KVS_SIMT_READ_ONLY), out(12, "out");
        launched(kvs_launch(divergent, 1, 32, 0, nullptr, in.data, out.data));
        assert_int_equal(r->count, 2 + 3 + 1 + 1);
        uint32_t turns[3] = {0, 0, 0}, branches = 0;
        for (size_t i = 0; i < r->count; i++) {
            const kvs_simt_request &q = r->requests[i];
            if (q.line == line_b) { /* turn i of the loop: the lanes that make it */
                uint64_t turn = (q.address[3] - base - 12) / 256, mask = 0;
                for (uint32_t l = 0; l < 32; l++)
                    if (l % 4 > turn) mask |= 1u << l;
                check_request(q, KVS_SIMT_LOAD_GLOBAL, 4, line_b, 0, (uint32_t)mask);
                turns[turn]++;
            } else if (q.kind == KVS_SIMT_STORE_GLOBAL) {
                check_request(q, q.kind, 4, q.line, 0, q.line == line_a ? 0xff : 0xf00);
                branches++;
            } else {
                check_request(q, KVS_SIMT_LOAD_GLOBAL, 1, q.line, 0, q.line == line_c ? 0xffffffff : 0x7fffffff);
            }
        }
        assert_int_equal(branches, 2);
        for (uint32_t count : turns) assert_int_equal(count, 1);
    }
}

/* Two accesses on one line, of which some lanes make only the second. */
KVS_KERNEL(32, 1) one_line(const uint32_t *in, uint32_t *out) {
    uint32_t t = threadIdx.x;
    kvs_st_global(out + t, (t % 2 ? kvs_ld_global(in + t) : 0) + kvs_ld_global(in + 64 + t));
}

static void test_one_line(void **) {
    recording *r = record(0);
    device_array<uint32_t> in(96, "in", KVS_SIMT_READ_ONLY), out(32, "out");
    launched(kvs_launch(one_line, 1, 32, 0, nullptr, in.data, out.data));
    assert_int_equal(r->count, 3);
    uint32_t seen = 0;
    for (size_t i = 0; i < r->count; i++) {
        const kvs_simt_request &q = r->requests[i];
        if (q.kind != KVS_SIMT_LOAD_GLOBAL) continue;
        bool first = q.mask == 0xaaaaaaaau;
        seen |= first ? 1 : 2;
        assert_true(first || q.mask == 0xffffffffu);
        for (uint32_t l = 0; l < 32; l++)
            if (q.mask >> l & 1) assert_int_equal(q.address[l], base + 4 * l + (first ? 0 : 256));
    }
    assert_int_equal(seen, 3);
}

/* An inner loop of different length, then what is common to a turn: turns stay together. */
KVS_KERNEL(32, 1) inner_loop(const uint32_t *in, uint32_t *out) {
    uint32_t t = threadIdx.x;
    for (uint32_t turn = 0; turn < 5; turn++) {
        uint32_t sum = 0;
        for (uint32_t i = 0; i <= t % 3; i++) sum += kvs_ld_global(in + 128 * turn + 32 * i + t);
        kvs_st_global(out + 32 * turn + t, sum);
    }
}

/* A turn whose second half some lanes leave out, each in other turns. */
KVS_KERNEL(32, 1) left_out(const uint32_t *in, uint32_t *out) {
    uint32_t t = threadIdx.x;
    for (uint32_t turn = 0; turn < 6; turn++) {
        uint32_t x = kvs_ld_global(in + 128 * turn + t);
        if (t % 2 && turn % 2 == 0) continue;
        kvs_st_global(out + 32 * turn + t, x);
    }
}

/* Accesses of one turn are apart by less than from turn to turn, and no request holds two turns. */
static void check_turns(const recording *r, uint64_t load_turn, uint64_t store_turn, uint64_t store_base) {
    for (size_t i = 0; i < r->count; i++) {
        const kvs_simt_request &q = r->requests[i];
        bool store = q.kind == KVS_SIMT_STORE_GLOBAL;
        uint64_t begin = store ? store_base : base, size = store ? store_turn : load_turn;
        uint64_t turn = (q.address[__builtin_ctz(q.mask)] - begin) / size;
        for (uint32_t l = 0; l < 32; l++)
            if (q.mask >> l & 1) assert_int_equal((q.address[l] - begin) / size, turn);
    }
}

static void test_turns(void **) {
    for (uint64_t seed = 0; seed < 3; seed++) {
        recording *r = record(seed);
        device_array<uint32_t> in(1024, "in", KVS_SIMT_READ_ONLY), out(256, "out");
        launched(kvs_launch(inner_loop, 1, 32, 0, nullptr, in.data, out.data));
        assert_int_equal(r->count, 5 * (3 + 1));
        check_turns(r, 512, 128, base + 4096 + 512);
        r->count = 0;
        launched(kvs_launch(left_out, 1, 32, 0, nullptr, in.data, out.data));
        assert_int_equal(r->count, 6 * 2);
        check_turns(r, 512, 128, base + 4096 + 512);
    }
}

KVS_KERNEL(32, 1) one_each(uint32_t *out) {
    kvs_st_global(out + blockIdx.x * 32 + threadIdx.x, 1u);
}

/* A sample spreads evenly and runs the rest, or leaves it out. */
static void test_sample(void **) {
    for (int only = 0; only < 2; only++) {
        recording *r = record(0);
        kvs_simt_settings()->sample_blocks = 7;
        kvs_simt_settings()->sample_only = only;
        device_array<uint32_t> out(100 * 32, "out");
        launched(kvs_launch(one_each, 100, 32, 0, nullptr, out.data));
        assert_int_equal(r->count, 7);
        for (uint64_t i = 0; i < 7; i++) assert_int_equal(r->requests[i].block, (i * 100 + 6) / 7);
        uint32_t written = 0;
        for (int b = 0; b < 100; b++) written += out[b * 32];
        assert_int_equal(written, only ? 7 : 100);
    }
    assert_int_equal(kvs_simt_sampled(100, 7), 7);
    assert_int_equal(kvs_simt_sampled(5, 7), 5);
    assert_int_equal(kvs_simt_sampled(5, 0), 5);
}

/* Accesses and meetings of one kind of work, for the rates below. */
KVS_KERNEL(256, 1) busy(const float *in, float *out, int turns) {
    uint32_t t = threadIdx.x;
    float sum = 0, *tile = (float *)(void *)KVS_SHARED;
    for (int i = 0; i < turns; i++) {
        kvs_st_shared(tile + t, kvs_ld_global(in + (t + 32 * i) % 1024));
        kvs_syncthreads();
        for (uint32_t k = 0; k < 8; k++) sum += kvs_ld_shared(tile + (t + 32 * k) % 256);
        sum += kvs_shfl_xor(sum, 1);
        kvs_syncthreads();
    }
    kvs_st_global(out + blockIdx.x * 256 + t, sum);
}

static void count_requests(void *context, const kvs_simt_request *, size_t count) {
    *static_cast<uint64_t *>(context) += count;
}

static void test_rates(void **) {
    static const char *const names[] = {"fast", "checked", "recorded", "checked and recorded"};
    enum { BLOCKS = 8, TURNS = 60 };
    device_array<float> in(1024, "in", KVS_SIMT_READ_ONLY), out(BLOCKS * 256, "out");
    for (int mode = 0; mode < 4; mode++) {
        uint64_t requests = 0;
        kvs_simt_settings()->unchecked = mode % 2 == 0;
        kvs_simt_settings()->record = mode >= 2 ? count_requests : NULL;
        kvs_simt_settings()->record_context = &requests;
        kvs_simt_settings()->threads = 1;
        double started = kvs_seconds();
        launched(kvs_launch(busy, BLOCKS, 256, 1024, nullptr, in.data, out.data, (int)TURNS));
        double operations = BLOCKS * 256.0 * (TURNS * (10 + 3) + 1), seconds = kvs_seconds() - started;
        print_message("# %s: %.0f million operations of a thread a second\n", names[mode], operations / seconds / 1e6);
        assert_int_equal(requests, mode >= 2 ? BLOCKS * 8 * (TURNS * 10 + 1) : 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_every_kind, default_options),
        cmocka_unit_test_setup(test_divergence, default_options),
        cmocka_unit_test_setup(test_one_line, default_options),
        cmocka_unit_test_setup(test_turns, default_options),
        cmocka_unit_test_setup(test_sample, default_options),
        cmocka_unit_test_setup(test_rates, default_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
