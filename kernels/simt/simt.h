/* simt.h: what a kernel source uses of the machine, so that one source runs on a GPU and on the host.
 *
 * A .cu file includes this header and reaches memory, other lanes and the matrix unit through these wrappers only. With
 * nvcc they are in device.h, each exactly one instruction of the stated width; with the host compiler they are in
 * host.h, where the threads of a block are fibers and every access is recorded and checked.
 *
 *   T is a trivially copyable type of 1, 2, 4, 8 or 16 bytes, and its address a multiple of its size.
 *   T kvs_ld_global(const T *)       T kvs_ld_global_nc(const T *)   read-only for the whole launch
 *   void kvs_st_global(T *, T)       T kvs_ld_shared(const T *)      void kvs_st_shared(T *, T)
 *   uint32_t kvs_atomic_add_global(uint32_t *, uint32_t)             returns what was there; relaxed, device scope
 *   void kvs_threadfence()                                           orders global writes for all blocks
 *   void kvs_cp_async16(void *shared, const void *global)            16 bytes, both addresses multiples of 16
 *   void kvs_cp_async_commit()       void kvs_cp_async_wait<N>()     until at most N of this thread's groups are open
 *   void kvs_ldmatrix_x4(uint32_t r[4], const void *shared)          lane l gives row l%8 of matrix l/8
 *   void kvs_ldmatrix_x4_trans(uint32_t r[4], const void *shared)
 *   void kvs_mma_m16n8k16(float d[4], const uint32_t a[4], const uint32_t b[2])  d += a b; f16 in, f32 sums
 *   T kvs_shfl(T, int lane)  T kvs_shfl_xor(T, int mask)  T kvs_shfl_down(T, int distance)   T of 4 bytes, full warp
 *   uint32_t kvs_ballot(int)   int kvs_any(int)   int kvs_all(int)   void kvs_syncwarp()   void kvs_syncthreads()
 *
 *   kvs_pair_min, _max, _min_unsigned, _mul, _fma, _of, _low, _high, kvs_exp2, kvs_fma, kvs_sqrt, kvs_byte_perm,
 *   kvs_popcount, kvs_movmatrix_trans                                arithmetic, in math.h
 *
 *   KVS_KERNEL(max_threads, min_blocks) name(...)    a kernel, with the bounds that the compiler allots registers for
 *   KVS_DEVICE                                       a force-inlined function of the kernel side
 *   KVS_SHARED                                       unsigned char *: dynamic shared memory, 128-byte aligned
 *   threadIdx, blockIdx, blockDim, gridDim, dim3     as in CUDA
 *   int kvs_launch(kernel, dim3 grid, dim3 block, size_t shared_bytes, kvs_stream, args...)
 *                                                    0, or an error that kvs_launch_text(error) explains; a block that
 *                                                    wants more shared memory than the device has is not launched
 *   size_t kvs_shared_limit()                        the most shared memory of a block of the current device
 *   KVS_BACKEND(name)                                name_cuda or name_simt: both builds link into one program
 */
#ifndef KVS_KERNELS_SIMT_SIMT_H
#define KVS_KERNELS_SIMT_SIMT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A queue of work: a cudaStream_t on a device; unused on the host, where a launch returns when it is done. */
typedef void *kvs_stream;

struct alignas(8) kvs_u32x2 {
    uint32_t x, y;
};

struct alignas(16) kvs_u32x4 {
    uint32_t x, y, z, w;
};

#ifdef __CUDACC__
#include "kernels/simt/device.h"
#else
#include "kernels/simt/host.h"
#endif
#include "kernels/simt/math.h"

#endif
