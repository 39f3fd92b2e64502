/* host.h: the wrappers of simt.h on the host. Included by simt.h alone.
 *
 * A wrapper's last parameter is where it was called: default arguments are evaluated there. */
#ifndef KVS_KERNELS_SIMT_HOST_H
#define KVS_KERNELS_SIMT_HOST_H

#if __cplusplus >= 202002L
#include <source_location>
#endif
#include <tuple>

#include "kernels/simt/thread.h"

#define KVS_BACKEND(name)                   name##_simt
#define KVS_BACKEND_NAME                    "simt"
#define KVS_KERNEL(max_threads, min_blocks) void
#define KVS_DEVICE                          static inline __attribute__((always_inline))

struct dim3 : kvs_dim3 {
    constexpr dim3(unsigned along_x = 1, unsigned along_y = 1, unsigned along_z = 1)
        : kvs_dim3{along_x, along_y, along_z} {}
};

#define threadIdx  (kvs_simt_self->index)
#define blockIdx   (kvs_simt_self->view->block_index)
#define blockDim   (kvs_simt_self->view->block_dim)
#define gridDim    (kvs_simt_self->view->grid_dim)
#define KVS_SHARED (kvs_simt_self->view->shared)

/* The column of a call tells two accesses on one line apart. gcc gives it through the pointer to this structure of its
 * library, which declares it for C++20 only. */
#if __cplusplus < 202002L
namespace std {
struct source_location {
    struct __impl {
        const char *_M_file_name, *_M_function_name;
        unsigned _M_line, _M_column;
    };
};
} // namespace std
#endif
#if __cplusplus >= 202002L
#define KVS_COLUMN (int)std::source_location::current().column()
#elif defined(__clang__)
#define KVS_COLUMN __builtin_COLUMN()
#elif __GNUC__ >= 11
#define KVS_COLUMN (int)static_cast<const std::source_location::__impl *>(__builtin_source_location())->_M_column
#else
#define KVS_COLUMN 0
#endif
#define KVS_HERE kvs_simt_place here = {__builtin_FILE(), __builtin_LINE(), KVS_COLUMN}

template <class To, class From> KVS_DEVICE To kvs_bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From), "only between types of one size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

template <class T> KVS_DEVICE T kvs_simt_load(kvs_simt_kind kind, const T *address, kvs_simt_place here) {
    static_assert(sizeof(T) <= 16 && (sizeof(T) & (sizeof(T) - 1)) == 0, "1, 2, 4, 8 or 16 bytes");
    if (__builtin_expect(kvs_simt_self->watched, 0)) kvs_simt_touch(kind, address, sizeof(T), here);
    T value;
    memcpy(&value, (const void *)address, sizeof value);
    return value;
}

template <class T> KVS_DEVICE void kvs_simt_store(kvs_simt_kind kind, T *address, T value, kvs_simt_place here) {
    static_assert(sizeof(T) <= 16 && (sizeof(T) & (sizeof(T) - 1)) == 0, "1, 2, 4, 8 or 16 bytes");
    if (__builtin_expect(kvs_simt_self->watched, 0)) kvs_simt_touch(kind, address, sizeof(T), here);
    memcpy((void *)address, &value, sizeof value);
}

template <class T> KVS_DEVICE T kvs_ld_global(const T *address, KVS_HERE) {
    return kvs_simt_load(KVS_SIMT_LOAD_GLOBAL, address, here);
}

template <class T> KVS_DEVICE T kvs_ld_global_nc(const T *address, KVS_HERE) {
    return kvs_simt_load(KVS_SIMT_LOAD_GLOBAL_NC, address, here);
}

template <class T> KVS_DEVICE void kvs_st_global(T *address, T value, KVS_HERE) {
    kvs_simt_store(KVS_SIMT_STORE_GLOBAL, address, value, here);
}

template <class T> KVS_DEVICE T kvs_ld_shared(const T *address, KVS_HERE) {
    return kvs_simt_load(KVS_SIMT_LOAD_SHARED, address, here);
}

template <class T> KVS_DEVICE void kvs_st_shared(T *address, T value, KVS_HERE) {
    kvs_simt_store(KVS_SIMT_STORE_SHARED, address, value, here);
}

KVS_DEVICE uint32_t kvs_atomic_add_global(uint32_t *address, uint32_t value, KVS_HERE) {
    if (kvs_simt_self->watched) kvs_simt_touch(KVS_SIMT_ATOMIC_GLOBAL, address, sizeof *address, here);
    return __atomic_fetch_add(address, value, __ATOMIC_RELAXED);
}

KVS_DEVICE void kvs_threadfence() {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

KVS_DEVICE void kvs_cp_async16(void *shared, const void *global, KVS_HERE) {
    kvs_simt_copy_begin(shared, global, here);
}

KVS_DEVICE void kvs_cp_async_commit() {
    kvs_simt_copy_commit();
}

template <int open> KVS_DEVICE void kvs_cp_async_wait() {
    kvs_simt_copy_wait(open);
}

KVS_DEVICE void kvs_ldmatrix_x4(uint32_t r[4], const void *shared, KVS_HERE) {
    if (kvs_simt_self->watched) kvs_simt_touch(KVS_SIMT_LDMATRIX, shared, 16, here);
    kvs_simt_meet(KVS_SIMT_LDMATRIX_ROWS, shared, r, 0, 0, here);
}

KVS_DEVICE void kvs_ldmatrix_x4_trans(uint32_t r[4], const void *shared, KVS_HERE) {
    if (kvs_simt_self->watched) kvs_simt_touch(KVS_SIMT_LDMATRIX, shared, 16, here);
    kvs_simt_meet(KVS_SIMT_LDMATRIX_COLUMNS, shared, r, 0, 0, here);
}

KVS_DEVICE void kvs_mma_m16n8k16(float d[4], const uint32_t a[4], const uint32_t b[2], KVS_HERE) {
    const uint32_t *factors[2] = {a, b};
    kvs_simt_meet(KVS_SIMT_MMA, factors, d, 0, 0, here);
}

template <class T>
KVS_DEVICE T kvs_simt_exchange(kvs_simt_meeting meeting, T value, int argument, kvs_simt_place here) {
    T result;
    kvs_simt_meet(meeting, &value, &result, sizeof value, (uint32_t)argument, here);
    return result;
}

template <class T> KVS_DEVICE T kvs_shfl(T value, int lane, KVS_HERE) {
    return kvs_simt_exchange(KVS_SIMT_SHFL, value, lane, here);
}

template <class T> KVS_DEVICE T kvs_shfl_xor(T value, int mask, KVS_HERE) {
    return kvs_simt_exchange(KVS_SIMT_SHFL_XOR, value, mask, here);
}

template <class T> KVS_DEVICE T kvs_shfl_down(T value, int distance, KVS_HERE) {
    return kvs_simt_exchange(KVS_SIMT_SHFL_DOWN, value, distance, here);
}

KVS_DEVICE uint32_t kvs_simt_vote(kvs_simt_meeting meeting, int predicate, kvs_simt_place here) {
    uint32_t result;
    kvs_simt_meet(meeting, nullptr, &result, sizeof result, predicate != 0, here);
    return result;
}

KVS_DEVICE uint32_t kvs_ballot(int predicate, KVS_HERE) {
    return kvs_simt_vote(KVS_SIMT_BALLOT, predicate, here);
}

KVS_DEVICE int kvs_any(int predicate, KVS_HERE) {
    return (int)kvs_simt_vote(KVS_SIMT_ANY, predicate, here);
}

KVS_DEVICE int kvs_all(int predicate, KVS_HERE) {
    return (int)kvs_simt_vote(KVS_SIMT_ALL, predicate, here);
}

KVS_DEVICE void kvs_syncwarp(KVS_HERE) {
    kvs_simt_meet(KVS_SIMT_SYNCWARP, nullptr, nullptr, 0, 0, here);
}

KVS_DEVICE void kvs_syncthreads(KVS_HERE) {
    kvs_simt_meet(KVS_SIMT_SYNCTHREADS, nullptr, nullptr, 0, 0, here);
}

/* A kernel with its arguments, each thread of the grid called with a copy. */
template <class... Parameters> struct kvs_simt_closure {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
    static void run(const void *closure) {
        const auto *self = static_cast<const kvs_simt_closure *>(closure);
        std::apply(self->kernel, self->arguments);
    }
};

template <class... Parameters, class... Arguments>
static int kvs_launch_as(const char *text, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
                         kvs_stream, Arguments... arguments) {
    kvs_simt_closure<Parameters...> closure = {kernel, std::tuple<Parameters...>(arguments...)};
    kvs_simt_launch launch = {text, grid, block, shared_bytes, closure.run, &closure};
    return kvs_simt_run(&launch);
}

/* A macro, so that reports can name the kernel. */
#define kvs_launch(...) kvs_launch_as(#__VA_ARGS__, __VA_ARGS__)

static inline size_t kvs_shared_limit() {
    return kvs_simt_shared_limit();
}

static inline const char *kvs_launch_text(int) {
    return kvs_simt_last_text();
}

#endif
