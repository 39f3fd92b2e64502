/* Is a kernel with a planted fault reported, at its line and by its thread, and the same kernel without it not? Each
 * case is one kernel with a flag; a broken run must give the one fault, a sound run none, in every order of threads. */
#include <signal.h>

#include "core/progress.h"
#include "tests/parity/simt_test.h"

static int planted; /* the line of the access that is to be blamed */
#define PLANTED (planted = __LINE__)

/* broken; 4096 words of read-write memory; 64 read-only words; 64 words that nobody has written */
struct arguments {
    int broken;
    uint32_t *memory;
    const uint32_t *constant;
    uint32_t *unwritten;
};
typedef void case_kernel(arguments);

static uint32_t *words() {
    return (uint32_t *)(void *)KVS_SHARED;
}

/* So that no word is unwritten. */
KVS_DEVICE void fill() {
    for (int i = 0; i < 4; i++) kvs_st_shared(words() + 64 * i + threadIdx.x, 0u);
    kvs_syncthreads();
}

KVS_KERNEL(64, 1) missing_barrier(arguments a) {
    uint32_t t = threadIdx.x;
    fill();
    PLANTED, kvs_st_shared(words() + t, t);
    if (!a.broken) kvs_syncthreads();
    PLANTED, kvs_ld_shared(words() + 63 - t);
}

KVS_KERNEL(64, 1) missing_syncwarp(arguments a) {
    uint32_t t = threadIdx.x;
    fill();
    PLANTED, kvs_st_shared(words() + t, t);
    if (!a.broken) kvs_syncwarp();
    PLANTED, kvs_ld_shared(words() + (t ^ 1));
}

/* A shuffle makes lanes meet, but orders no memory. */
KVS_KERNEL(64, 1) shuffle_as_barrier(arguments a) {
    uint32_t t = threadIdx.x;
    fill();
    PLANTED, kvs_st_shared(words() + t, t);
    kvs_shfl_xor(t, 1);
    if (!a.broken) kvs_syncwarp();
    PLANTED, kvs_ld_shared(words() + (t ^ 1));
}

/* A syncwarp orders one warp only. */
KVS_KERNEL(64, 1) syncwarp_as_barrier(arguments a) {
    uint32_t t = threadIdx.x;
    fill();
    PLANTED, kvs_st_shared(words() + t, t);
    if (a.broken) kvs_syncwarp();
    if (!a.broken) kvs_syncthreads();
    PLANTED, kvs_ld_shared(words() + (t ^ 32));
}

KVS_KERNEL(64, 1) overwrites_read(arguments a) {
    uint32_t t = threadIdx.x;
    kvs_st_shared(words() + t, t);
    kvs_syncthreads();
    PLANTED, kvs_ld_shared(words() + (t ^ 1));
    if (!a.broken) kvs_syncwarp();
    PLANTED, kvs_st_shared(words() + t, t);
}

/* All threads read one word; one of them writes it. */
KVS_KERNEL(64, 1) overwrites_broadcast(arguments a) {
    uint32_t t = threadIdx.x;
    if (t == 0) kvs_st_shared(words(), t);
    kvs_syncthreads();
    kvs_ld_shared(words());
    if (!a.broken) kvs_syncthreads();
    kvs_syncwarp();
    if (t == 37) PLANTED, kvs_st_shared(words(), t);
}

KVS_KERNEL(64, 1) both_write(arguments a) {
    uint32_t t = threadIdx.x;
    if (t == 0 || (t == 1 && a.broken)) PLANTED, kvs_st_shared(words(), 7u);
}

/* One byte of a word that another thread writes as a whole. */
KVS_KERNEL(64, 1) overlapping_write(arguments a) {
    uint32_t t = threadIdx.x;
    if (t == 0) PLANTED, kvs_st_shared(words(), 7u);
    if (t == 1) PLANTED, kvs_st_shared(KVS_SHARED + (a.broken ? 3 : 4), (unsigned char)1);
}

/* The first block writes; the second reads what the first left behind. */
KVS_KERNEL(64, 1) unwritten_shared(arguments a) {
    uint32_t t = threadIdx.x;
    if (!a.broken || blockIdx.x == 0) kvs_st_shared(words() + t, t);
    PLANTED, kvs_ld_shared(words() + t);
}

/* Seven of eight bytes are written. */
KVS_KERNEL(64, 1) half_written_shared(arguments a) {
    uint32_t t = threadIdx.x;
    for (int i = 0; i < (a.broken ? 7 : 8); i++) kvs_st_shared(KVS_SHARED + 8 * t + i, (unsigned char)i);
    PLANTED, kvs_ld_shared((kvs_u32x2 *)(void *)KVS_SHARED + t);
}

KVS_KERNEL(64, 1) load_beyond(arguments a) {
    PLANTED, kvs_ld_global(a.constant + threadIdx.x + a.broken);
}

KVS_KERNEL(64, 1) load_before(arguments a) {
    PLANTED, kvs_ld_global_nc(a.constant + threadIdx.x - a.broken);
}

KVS_KERNEL(64, 1) store_beyond(arguments a) {
    PLANTED, kvs_st_global(a.memory + (a.broken ? 4096 - 63 : 0) + threadIdx.x, 1u);
}

/* The last of the 16 bytes lie beyond. */
KVS_KERNEL(64, 1) wide_load_beyond(arguments a) {
    PLANTED, kvs_ld_global((const kvs_u32x2 *)(const void *)(a.constant + 2 * (threadIdx.x % 32 + a.broken)));
}

KVS_KERNEL(64, 1) copy_from_beyond(arguments a) {
    PLANTED, kvs_cp_async16(KVS_SHARED + 16 * threadIdx.x, a.constant + 4 * (threadIdx.x % 16 + a.broken));
}

KVS_KERNEL(64, 1) misaligned_load(arguments a) {
    PLANTED, kvs_ld_global((const kvs_u32x2 *)(const void *)(a.memory + 2 * threadIdx.x + a.broken));
}

KVS_KERNEL(64, 1) misaligned_shared(arguments a) {
    PLANTED, kvs_st_shared((uint32_t *)(void *)(KVS_SHARED + 4 * threadIdx.x + 2 * a.broken), 1u);
}

KVS_KERNEL(64, 1) misaligned_row(arguments a) {
    uint32_t t = threadIdx.x, r[4];
    for (int i = 0; i < 4; i++) kvs_st_shared(words() + 4 * t + i, t);
    kvs_syncthreads();
    PLANTED, kvs_ldmatrix_x4(r, KVS_SHARED + 16 * (t % 32) + 8 * a.broken);
}

KVS_KERNEL(64, 1) write_to_constant(arguments a) {
    if (a.broken) PLANTED, kvs_st_global((uint32_t *)(uintptr_t)a.constant + threadIdx.x, 1u);
}

KVS_KERNEL(64, 1) shared_beyond(arguments a) {
    PLANTED, kvs_st_shared(words() + 192 + 64 * a.broken + threadIdx.x, 1u);
}

KVS_KERNEL(64, 1) different_barriers(arguments a) {
    if (a.broken && threadIdx.x >= 32)
        kvs_syncthreads();
    else
        PLANTED, kvs_syncthreads();
}

KVS_KERNEL(64, 1) barrier_in_branch(arguments a) {
    if (!a.broken || threadIdx.x < 16) PLANTED, kvs_syncthreads();
    kvs_shfl_xor(1, 1);
}

KVS_KERNEL(64, 1) shuffle_in_branch(arguments a) {
    if (!a.broken || threadIdx.x < 7) PLANTED, kvs_shfl_xor(1, 1);
    kvs_ballot(1);
}

/* Waits for another lane without letting it run. */
KVS_KERNEL(64, 1) endless_loop(arguments a) {
    uint32_t t = threadIdx.x;
    while (a.broken && (PLANTED, kvs_ld_global(a.memory + 64 + t) == 0)) continue;
}

KVS_KERNEL(64, 1) shuffle_from_ended(arguments a) {
    if (a.broken && threadIdx.x == 9) return;
    PLANTED, kvs_shfl(1, 9);
}

KVS_KERNEL(64, 1) matrix_of_some(arguments a) {
    uint32_t x[4] = {}, t = threadIdx.x;
    float d[4] = {};
    if (a.broken && t == 40) return;
    PLANTED, kvs_mma_m16n8k16(d, x, x);
}

static void copy(arguments a) {
    PLANTED, kvs_cp_async16(KVS_SHARED + 16 * threadIdx.x, a.memory + 4 * threadIdx.x);
}

KVS_KERNEL(64, 1) missing_wait(arguments a) {
    copy(a);
    kvs_cp_async_commit();
    if (!a.broken) kvs_cp_async_wait<0>();
    PLANTED, kvs_ld_shared(words() + 4 * threadIdx.x);
}

KVS_KERNEL(64, 1) missing_commit(arguments a) {
    copy(a);
    if (!a.broken) kvs_cp_async_commit();
    kvs_cp_async_wait<0>();
    PLANTED, kvs_ld_shared(words() + 4 * threadIdx.x);
}

KVS_KERNEL(64, 1) waits_for_too_few(arguments a) {
    copy(a);
    kvs_cp_async_commit();
    kvs_cp_async_commit(); /* an empty group counts */
    if (a.broken)
        kvs_cp_async_wait<2>();
    else
        kvs_cp_async_wait<1>();
    PLANTED, kvs_ld_shared(words() + 4 * threadIdx.x);
}

KVS_KERNEL(64, 1) copy_without_barrier(arguments a) {
    fill();
    copy(a);
    kvs_cp_async_commit();
    kvs_cp_async_wait<0>();
    if (!a.broken) kvs_syncthreads();
    PLANTED, kvs_ld_shared(words() + 4 * (63 - threadIdx.x));
}

/* The next copy begins before all have read the last. */
KVS_KERNEL(64, 1) copy_over_readers(arguments a) {
    copy(a);
    kvs_cp_async_commit();
    kvs_cp_async_wait<0>();
    kvs_syncthreads();
    PLANTED, kvs_ld_shared(words() + 4 * (63 - threadIdx.x));
    if (!a.broken) kvs_syncthreads();
    PLANTED, kvs_cp_async16(KVS_SHARED + 16 * threadIdx.x, a.memory + 4 * threadIdx.x);
}

KVS_KERNEL(64, 1) blocks_write_one(arguments a) {
    PLANTED, kvs_st_global(a.memory + threadIdx.x + (a.broken ? 0 : 64 * blockIdx.x), 1u);
}

KVS_KERNEL(64, 1) lanes_write_one(arguments a) {
    unsigned char *bytes = (unsigned char *)a.memory;
    PLANTED, kvs_st_global(bytes + threadIdx.x / (1 + a.broken), (unsigned char)1);
}

KVS_KERNEL(64, 1) reads_other_thread(arguments a) {
    uint32_t *mine = a.memory + 64 * blockIdx.x;
    kvs_st_global(mine + threadIdx.x, 1u);
    if (!a.broken) kvs_syncthreads();
    PLANTED, kvs_ld_global(mine + 63 - threadIdx.x);
}

KVS_KERNEL(64, 1) unwritten_global(arguments a) {
    if (!a.broken) kvs_st_global(a.unwritten + threadIdx.x, 1u);
    if (blockIdx.x == 0) PLANTED, kvs_ld_global(a.unwritten + threadIdx.x);
}

KVS_KERNEL(64, 1) written_as_constant(arguments a) {
    uint32_t *mine = a.memory + 64 * blockIdx.x + threadIdx.x;
    kvs_st_global(mine, 1u);
    if (a.broken) PLANTED, kvs_ld_global_nc(mine);
}

static const struct planted_case {
    const char *name;
    case_kernel *kernel;
    kvs_simt_fault fault;
    unsigned blocks;
    int thread; /* in ascending order, who is blamed in the first faulty block */
} cases[] = {
#define CASE(kernel, fault, blocks, thread)                                                                            \
    { #kernel, kernel, fault, blocks, thread }
    CASE(missing_barrier, KVS_SIMT_RACE, 2, 32),
    CASE(missing_syncwarp, KVS_SIMT_RACE, 2, 1),
    CASE(shuffle_as_barrier, KVS_SIMT_RACE, 2, 0),
    CASE(syncwarp_as_barrier, KVS_SIMT_RACE, 2, 32),
    CASE(overwrites_read, KVS_SIMT_RACE, 2, 1),
    CASE(overwrites_broadcast, KVS_SIMT_RACE, 2, 37),
    CASE(both_write, KVS_SIMT_RACE, 1, 1),
    CASE(overlapping_write, KVS_SIMT_RACE, 1, 1),
    CASE(unwritten_shared, KVS_SIMT_UNWRITTEN_READ, 2, 0),
    CASE(half_written_shared, KVS_SIMT_UNWRITTEN_READ, 1, 0),
    CASE(load_beyond, KVS_SIMT_OUT_OF_BOUNDS, 2, 63),
    CASE(load_before, KVS_SIMT_OUT_OF_BOUNDS, 2, 0),
    CASE(store_beyond, KVS_SIMT_OUT_OF_BOUNDS, 1, 63),
    CASE(wide_load_beyond, KVS_SIMT_OUT_OF_BOUNDS, 2, 31),
    CASE(copy_from_beyond, KVS_SIMT_OUT_OF_BOUNDS, 2, 15),
    CASE(misaligned_load, KVS_SIMT_MISALIGNED, 2, 0),
    CASE(misaligned_shared, KVS_SIMT_MISALIGNED, 1, 0),
    CASE(misaligned_row, KVS_SIMT_MISALIGNED, 1, 0),
    CASE(write_to_constant, KVS_SIMT_READ_ONLY_WRITE, 1, 0),
    CASE(shared_beyond, KVS_SIMT_SHARED_OVERFLOW, 1, 0),
    CASE(different_barriers, KVS_SIMT_BARRIER_DIVERGENCE, 1, 0),
    CASE(barrier_in_branch, KVS_SIMT_DEADLOCK, 1, 0),
    CASE(shuffle_in_branch, KVS_SIMT_DEADLOCK, 1, 0),
    CASE(endless_loop, KVS_SIMT_DEADLOCK, 1, 0),
    CASE(shuffle_from_ended, KVS_SIMT_INACTIVE_LANE, 1, 0),
    CASE(matrix_of_some, KVS_SIMT_INACTIVE_LANE, 1, 32),
    CASE(missing_wait, KVS_SIMT_PENDING_COPY, 2, 0),
    CASE(missing_commit, KVS_SIMT_PENDING_COPY, 2, 0),
    CASE(waits_for_too_few, KVS_SIMT_PENDING_COPY, 2, 0),
    CASE(copy_without_barrier, KVS_SIMT_RACE, 2, 32),
    CASE(copy_over_readers, KVS_SIMT_PENDING_COPY, 2, 32),
    CASE(blocks_write_one, KVS_SIMT_RACE, 2, 0),
    CASE(lanes_write_one, KVS_SIMT_RACE, 1, 1),
    CASE(reads_other_thread, KVS_SIMT_RACE, 2, 32),
    CASE(unwritten_global, KVS_SIMT_UNWRITTEN_READ, 1, 0),
    CASE(written_as_constant, KVS_SIMT_RACE, 2, 0),
#undef CASE
};

static void run_case(const planted_case &c, int broken, uint64_t seed) {
    device_array<uint32_t> memory(4096, "memory"), constant(64, "constant", KVS_SIMT_READ_ONLY);
    device_array<uint32_t> unwritten(64, "unwritten", KVS_SIMT_UNWRITTEN);
    arguments a = {broken, memory.data, constant.data, unwritten.data};
    kvs_simt_settings()->order_seed = seed;
    kvs_simt_settings()->threads = 1;
    planted = 0;
    int result = kvs_launch_as(c.name, c.kernel, c.blocks, 64, 1024, nullptr, a);
    const kvs_simt_report *report = kvs_simt_last_report();
    kvs_simt_fault wanted = broken ? c.fault : KVS_SIMT_NO_FAULT;
    /* Which of two threads comes second decides who is blamed, so only one order is held to a thread. */
    int right_thread = !broken || seed != 0 || report->warp * 32 + report->lane == c.thread;
    int right_line = !broken || seed != 0 || planted == 0 || report->line == planted;
    /* Depending on the order, a copy that begins too early meets a reader, or the reader meets the copy. */
    if (seed != 0 && wanted == KVS_SIMT_PENDING_COPY && report->fault == KVS_SIMT_RACE) wanted = KVS_SIMT_RACE;
    if (result != (int)wanted || report->fault != wanted || !right_thread || !right_line)
        fail_msg("%s, broken %d, seed %llu, line %d: %s", c.name, broken, (unsigned long long)seed, planted,
                 kvs_simt_last_text());
    if (broken) assert_non_null(strstr(kvs_simt_last_text(), "test_simt_faults.cu"));
}

static void test_planted_faults(void **) {
    for (const planted_case &c : cases) run_case(c, 1, 0);
}

static void test_sound_twins(void **) {
    for (const planted_case &c : cases)
        for (uint64_t seed = 0; seed < 5; seed++) run_case(c, 0, seed);
}

static void test_faults_in_any_order(void **) {
    for (const planted_case &c : cases)
        for (uint64_t seed = 1; seed < 5; seed++) run_case(c, 1, seed);
}

KVS_KERNEL(64, 1) late_fault(uint32_t *memory) {
    if ((blockIdx.x + gridDim.x * blockIdx.y) % 100 == 57) kvs_st_global(memory + 64, 1u);
}

/* The lowest block is reported whatever the number of threads of the host. */
static void test_lowest_block(void **) {
    device_array<uint32_t> memory(64, "memory");
    for (int threads = 1; threads <= 4; threads++)
        for (int again = 0; again < 20; again++) {
            kvs_simt_settings()->threads = threads;
            assert_int_equal(kvs_launch(late_fault, dim3(20, 20), 64, 0, nullptr, memory.data), KVS_SIMT_OUT_OF_BOUNDS);
            assert_int_equal(kvs_simt_last_report()->block.x, 57 % 20);
            assert_int_equal(kvs_simt_last_report()->block.y, 57 / 20);
            assert_string_equal(kvs_simt_last_report()->kernel, "late_fault");
        }
}

KVS_KERNEL(1024, 1) nothing() {}

static void test_bad_launches(void **) {
    assert_int_equal(kvs_launch(nothing, 1, 1024, KVS_SIMT_SHARED_BYTES, nullptr), 0);
    assert_int_equal(kvs_launch(nothing, 0, 32, 0, nullptr), KVS_SIMT_BAD_LAUNCH);
    assert_int_equal(kvs_launch(nothing, 1, 0, 0, nullptr), KVS_SIMT_BAD_LAUNCH);
    assert_int_equal(kvs_launch(nothing, 1, dim3(1025), 0, nullptr), KVS_SIMT_BAD_LAUNCH);
    assert_int_equal(kvs_launch(nothing, 1, dim3(32, 33), 0, nullptr), KVS_SIMT_BAD_LAUNCH);
    assert_int_equal(kvs_launch(nothing, 1, dim3(1, 1, 65), 0, nullptr), KVS_SIMT_BAD_LAUNCH);
    assert_int_equal(kvs_launch(nothing, dim3(1, 65536), 32, 0, nullptr), KVS_SIMT_BAD_LAUNCH);
    assert_int_equal(kvs_launch(nothing, 1, 32, KVS_SIMT_SHARED_BYTES + 1, nullptr), KVS_SIMT_SHARED_OVERFLOW);
    kvs_simt_settings()->shared_bytes = 48 * 1024;
    assert_int_equal(kvs_launch(nothing, 1, 32, 48 * 1024 + 1, nullptr), KVS_SIMT_SHARED_OVERFLOW);
}

static void test_registration(void **) {
    device_array<uint32_t> memory(64, "memory");
    kvs_error error;
    assert_int_equal(kvs_simt_register(memory.data + 4, 16, "inside", KVS_SIMT_READ_WRITE, &error), KVS_USAGE);
    assert_int_equal(kvs_simt_register(memory.data - 4, 32, "across", KVS_SIMT_READ_WRITE, &error), KVS_USAGE);
    assert_int_equal(kvs_simt_register((char *)memory.data + 1025, 32, "odd", KVS_SIMT_READ_WRITE, &error), KVS_USAGE);
    assert_int_equal(kvs_simt_register(memory.data + 64, 0, "empty", KVS_SIMT_READ_WRITE, &error), KVS_USAGE);
    assert_int_equal(kvs_simt_register(memory.data + 64, 16, "after", KVS_SIMT_READ_WRITE, &error), KVS_OK);
    kvs_simt_forget(memory.data + 64);
    kvs_simt_forget(memory.data + 64);
}

/* The last test: the wish to stop cannot be taken back. */
static void test_interrupt(void **) {
    kvs_interrupt_catch();
    assert_int_equal(kvs_launch(nothing, 1, 32, 0, nullptr), 0);
    raise(SIGINT);
    assert_int_equal(kvs_launch(nothing, 1000, 32, 0, nullptr), KVS_SIMT_STOPPED);
    assert_non_null(strstr(kvs_simt_last_text(), "interrupted"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_planted_faults, default_options),
        cmocka_unit_test_setup(test_sound_twins, default_options),
        cmocka_unit_test_setup(test_faults_in_any_order, default_options),
        cmocka_unit_test_setup(test_lowest_block, default_options),
        cmocka_unit_test_setup(test_bad_launches, default_options),
        cmocka_unit_test_setup(test_registration, default_options),
        cmocka_unit_test_setup(test_interrupt, default_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
