/* Does the transaction model predict what an H200 counted? The probes run on the SIMT runtime, which records them; the
 * model's counts are held against tests/golden/transactions-h200.csv. */
#include "analysis/transactions.h"
#include "tests/golden/transaction_probe.h"
#include "tests/parity/simt_test.h"

enum { FIELDS = 9, NAME_BYTES = 16 };
static const char *const kinds[PROBE_KINDS] = {"ld.global", "st.global", "cp.async",
                                               "ld.shared", "st.shared", "ldmatrix"};
static const kvs_simt_kind recorded[PROBE_KINDS] = {KVS_SIMT_LOAD_GLOBAL, KVS_SIMT_STORE_GLOBAL, KVS_SIMT_COPY,
                                                    KVS_SIMT_LOAD_SHARED, KVS_SIMT_STORE_SHARED, KVS_SIMT_LDMATRIX};

/* One line of the file; numbers that were not counted are -1. */
struct measured {
    char kind[NAME_BYTES];
    long numbers[FIELDS - 1]; /* width, pattern, requests, sectors, lines, useful bytes, wavefronts, conflicts */
};

static int read_line(FILE *file, measured *m) {
    char line[256];
    do
        if (fgets(line, sizeof line, file) == NULL) return 0;
    while (line[0] == '#' || strncmp(line, "kind,", 5) == 0);
    char *field = line;
    for (int i = 0; i < FIELDS; i++) {
        char *end = field + strcspn(field, ",\n");
        if (i == 0)
            snprintf(m->kind, sizeof m->kind, "%.*s", (int)(end - field), field);
        else
            m->numbers[i - 1] = end > field ? strtol(field, NULL, 10) : -1;
        field = *end != '\0' ? end + 1 : end;
    }
    return 1;
}

static void compare(const measured &m, const char *what, long measured_count, uint64_t predicted) {
    if (measured_count >= 0 && predicted != (uint64_t)measured_count)
        fail_msg("%s of %ld bytes, pattern %ld: %llu %s predicted, %ld measured", m.kind, m.numbers[0], m.numbers[1],
                 (unsigned long long)predicted, what, measured_count);
}

static void test_h200(void **) {
    FILE *file = fopen("tests/golden/transactions-h200.csv", "r");
    assert_non_null(file);
    unsigned char *memory = static_cast<unsigned char *>(aligned_alloc(512, PROBE_BYTES));
    uint32_t never = 0, compared = 0, exact_copies = 0, copies = 0;
    memset(memory, 0, PROBE_BYTES);
    for_each_probe([&](int kind, uint32_t width, probe_pattern p, uint32_t number) {
        measured m;
        assert_true(read_line(file, &m));
        assert_string_equal(m.kind, kinds[kind]);
        assert_int_equal(m.numbers[0], width);
        assert_int_equal(m.numbers[1], number);
        kvs_transactions t;
        kvs_error error;
        kvs_transactions_begin(&t);
        kvs_simt_settings()->unchecked = 1; /* lanes that store to one place are what is wanted */
        kvs_simt_settings()->record = kvs_transactions_record;
        kvs_simt_settings()->record_context = &t;
        launched(launch_probe(kind, p, width, memory, &never));
        assert_int_equal(kvs_transactions_finish(&t, &error), KVS_OK);
        kvs_transaction_counts counts = kvs_transactions_sum(&t, NULL, 1u << recorded[kind]);
        compare(m, "requests", m.numbers[2], counts.requests);
        compare(m, "sectors", m.numbers[3], counts.sectors);
        compare(m, "lines", m.numbers[4], counts.lines);
        compare(m, "useful bytes", m.numbers[5], counts.useful_bytes);
        compare(m, "conflicts", m.numbers[7], counts.conflicts);
        if (kind == PROBE_COPY) { /* exact for whole sectors, an upper bound otherwise */
            copies++;
            exact_copies += (uint64_t)m.numbers[6] == counts.wavefronts;
            assert_true(counts.wavefronts >= (uint64_t)m.numbers[6]);
            if (counts.lane_bytes == counts.sectors * KVS_SECTOR_BYTES)
                compare(m, "wavefronts", m.numbers[6], counts.wavefronts);
        } else {
            compare(m, "wavefronts", m.numbers[6], counts.wavefronts);
        }
        compared++;
        kvs_transactions_clear(&t);
    });
    measured rest;
    assert_false(read_line(file, &rest));
    print_message("# %u instructions; copies: wavefronts of %u of %u exact\n", compared, exact_copies, copies);
    fclose(file);
    free(memory);
}

/* Scattered, divergent accesses of every kind. */
KVS_KERNEL(64, 1) mixed_kernel(const uint32_t *in, uint32_t *out, uint32_t *counter) {
    uint32_t t = threadIdx.x, b = blockIdx.x, sum = 0, *tile = (uint32_t *)(void *)KVS_SHARED;
    kvs_cp_async16(KVS_SHARED + 16 * t, in + 4 * ((t * 7 + b) % 64));
    kvs_cp_async_commit();
    kvs_cp_async_wait<0>();
    kvs_syncthreads();
    for (uint32_t i = 0; i < (t + b) % 5; i++) sum += kvs_ld_shared(tile + (i * 33 + t * (b % 4)) % 256);
    if (t % 3 == b % 3) sum += kvs_ld_global(in + (t * t + b) % 256);
    if (t == 0) kvs_atomic_add_global(counter, 1);
    kvs_st_global(out + 64 * b + t, sum);
}

/* The rows and footprints are the same whatever the threads of the host and the order of lanes, warps and blocks. */
static void test_same_in_every_order(void **) {
    enum { BLOCKS = 50, WAYS = 8 };
    kvs_transactions all[WAYS];
    kvs_footprint footprints[WAYS];
    kvs_error error;
    device_array<uint32_t> in(256, "in", KVS_SIMT_READ_ONLY), out(64 * BLOCKS, "out"), counter(1, "counter");
    for (int way = 0; way < WAYS; way++) {
        kvs_transactions_begin(&all[way]);
        kvs_simt_settings()->record = kvs_transactions_record;
        kvs_simt_settings()->record_context = &all[way];
        kvs_simt_settings()->threads = way % 4 + 1;
        kvs_simt_settings()->order_seed = (uint64_t)way / 2;
        launched(kvs_launch(mixed_kernel, BLOCKS, 64, 1024, nullptr, in.data, out.data, counter.data));
        assert_int_equal(kvs_transactions_finish(&all[way], &error), KVS_OK);
        footprints[way] = kvs_transactions_footprint(&all[way], NULL);
        assert_int_equal(all[way].row_count, 5);
        assert_int_equal(all[way].row_count, all[0].row_count);
        for (size_t i = 0; i < all[0].row_count; i++) {
            const kvs_transaction_row *a = &all[0].rows[i], *b = &all[way].rows[i];
            assert_true(a->line == b->line && a->kind == b->kind && a->width == b->width);
            assert_memory_equal(&a->counts, &b->counts, sizeof a->counts);
        }
        assert_memory_equal(&footprints[0], &footprints[way], sizeof footprints[0]);
    }
    for (int way = 0; way < WAYS; way++) kvs_transactions_clear(&all[way]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_h200, default_options),
        cmocka_unit_test_setup(test_same_in_every_order, default_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
