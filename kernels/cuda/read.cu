/* read.cu: reads memory and keeps nothing: what it reads evicts everything else from the caches and leaves nothing
 * there that must be written back. Also the measure of how fast DRAM can be read. */
#include "kernels/kernels.h"
#include "kernels/simt/simt.h"

namespace {

enum { THREADS = 512, VECTORS = 4 };

/* The sum decides whether to write, so that the compiler must load first. */
KVS_KERNEL(THREADS, 2) read_all(const kvs_u32x4 *source, int64_t vectors, uint32_t *sink) {
    int64_t first = (int64_t)blockIdx.x * THREADS * VECTORS + threadIdx.x;
    uint32_t sum = 0;
#pragma unroll
    for (int i = 0; i < VECTORS; i++)
        if (first + i * THREADS < vectors) {
            kvs_u32x4 v = kvs_ld_global(source + first + i * THREADS);
            sum += v.x ^ v.y ^ v.z ^ v.w;
        }
    if (sum == 0x9e3779b9u) kvs_st_global(sink, sum);
}

} // namespace

extern "C" int KVS_BACKEND(kvs_read)(const void *source, int64_t bytes, uint32_t *sink, void *stream) {
    int64_t per_block = (int64_t)THREADS * VECTORS * 16;
    dim3 grid((unsigned)((bytes + per_block - 1) / per_block));
    if (bytes == 0) return 0;
    return kvs_launch(read_all, grid, dim3(THREADS), 0, stream, (const kvs_u32x4 *)source, bytes / 16, sink);
}
