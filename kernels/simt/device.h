/* device.h: the wrappers of simt.h on a GPU. Included by simt.h alone. */
#ifndef KVS_KERNELS_SIMT_DEVICE_H
#define KVS_KERNELS_SIMT_DEVICE_H

#include <cuda_runtime.h>

#include "kernels/cuda/shared_limit.h"

#define KVS_BACKEND(name) name##_cuda
#define KVS_BACKEND_NAME  "cuda"
/* Before compute capability 9.0 the compiler wants a few registers more for the same code: three blocks, not four. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
#define KVS_RESIDENTS(blocks) ((blocks) > 3 ? 3 : (blocks))
#else
#define KVS_RESIDENTS(blocks) (blocks)
#endif
#define KVS_KERNEL(max_threads, min_blocks) __global__ void __launch_bounds__(max_threads, min_blocks)
#define KVS_DEVICE                          static __device__ __forceinline__

extern __shared__ __align__(128) unsigned char kvs_shared_memory[];
#define KVS_SHARED kvs_shared_memory

/* The built-in type of the same size: an access to it is one instruction. */
template <size_t bytes> struct kvs_word;
template <> struct kvs_word<1> { typedef unsigned char type; };
template <> struct kvs_word<2> { typedef unsigned short type; };
template <> struct kvs_word<4> { typedef unsigned int type; };
template <> struct kvs_word<8> { typedef uint2 type; };
template <> struct kvs_word<16> { typedef uint4 type; };

template <class To, class From> KVS_DEVICE To kvs_bit_cast(From from) {
    static_assert(sizeof(To) == sizeof(From), "only between types of one size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

template <class T> KVS_DEVICE T kvs_ld_global(const T *address) {
    typedef typename kvs_word<sizeof(T)>::type word;
    __builtin_assume(__isGlobal(address));
    return kvs_bit_cast<T>(*reinterpret_cast<const word *>(address));
}

template <class T> KVS_DEVICE T kvs_ld_global_nc(const T *address) {
    typedef typename kvs_word<sizeof(T)>::type word;
    return kvs_bit_cast<T>(__ldg(reinterpret_cast<const word *>(address)));
}

template <class T> KVS_DEVICE void kvs_st_global(T *address, T value) {
    typedef typename kvs_word<sizeof(T)>::type word;
    __builtin_assume(__isGlobal(address));
    *reinterpret_cast<word *>(address) = kvs_bit_cast<word>(value);
}

template <class T> KVS_DEVICE T kvs_ld_shared(const T *address) {
    typedef typename kvs_word<sizeof(T)>::type word;
    __builtin_assume(__isShared(address));
    return kvs_bit_cast<T>(*reinterpret_cast<const word *>(address));
}

template <class T> KVS_DEVICE void kvs_st_shared(T *address, T value) {
    typedef typename kvs_word<sizeof(T)>::type word;
    __builtin_assume(__isShared(address));
    *reinterpret_cast<word *>(address) = kvs_bit_cast<word>(value);
}

KVS_DEVICE uint32_t kvs_atomic_add_global(uint32_t *address, uint32_t value) {
    return atomicAdd(address, value);
}

KVS_DEVICE void kvs_threadfence() {
    __threadfence();
}

KVS_DEVICE uint32_t kvs_shared_address(const void *shared) {
    return (uint32_t)__cvta_generic_to_shared(shared);
}

KVS_DEVICE void kvs_cp_async16(void *shared, const void *global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(kvs_shared_address(shared)),
                 "l"(__cvta_generic_to_global(global))
                 : "memory");
}

KVS_DEVICE void kvs_cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int open> KVS_DEVICE void kvs_cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(open) : "memory");
}

KVS_DEVICE void kvs_ldmatrix_x4(uint32_t r[4], const void *shared) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(kvs_shared_address(shared))
                 : "memory");
}

KVS_DEVICE void kvs_ldmatrix_x4_trans(uint32_t r[4], const void *shared) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(kvs_shared_address(shared))
                 : "memory");
}

KVS_DEVICE void kvs_mma_m16n8k16(float d[4], const uint32_t a[4], const uint32_t b[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <class T> KVS_DEVICE T kvs_shfl(T value, int lane) {
    return __shfl_sync(0xffffffffu, value, lane);
}

template <class T> KVS_DEVICE T kvs_shfl_xor(T value, int mask) {
    return __shfl_xor_sync(0xffffffffu, value, mask);
}

template <class T> KVS_DEVICE T kvs_shfl_down(T value, int distance) {
    return __shfl_down_sync(0xffffffffu, value, (unsigned)distance);
}

KVS_DEVICE uint32_t kvs_ballot(int predicate) {
    return __ballot_sync(0xffffffffu, predicate);
}

KVS_DEVICE int kvs_any(int predicate) {
    return __any_sync(0xffffffffu, predicate);
}

KVS_DEVICE int kvs_all(int predicate) {
    return __all_sync(0xffffffffu, predicate);
}

KVS_DEVICE void kvs_syncwarp() {
    __syncwarp();
}

KVS_DEVICE void kvs_syncthreads() {
    __syncthreads();
}

/* A block gets more than 48 KB of shared memory only after its limit is raised. */
template <class... Parameters, class... Arguments>
static int kvs_launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, kvs_stream stream,
                      Arguments... arguments) {
    if (shared_bytes > KVS_SHARED_EVERYWHERE) {
        size_t limit = kvs_shared_limit();
        if (shared_bytes > limit) return kvs_refuse_shared(shared_bytes, limit);
        cudaError_t raised =
            cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
        if (raised != cudaSuccess) return (int)raised;
    }
    kernel<<<grid, block, shared_bytes, (cudaStream_t)stream>>>(arguments...);
    return (int)cudaGetLastError();
}

static inline const char *kvs_launch_text(int error) {
    return error == KVS_SHARED_REFUSED ? kvs_shared_refusal() : cudaGetErrorString((cudaError_t)error);
}

#endif
