/* host.h: the wrappers of simt.h on the host. Included by simt.h alone. */
#ifndef KVS_KERNELS_SIMT_HOST_H
#define KVS_KERNELS_SIMT_HOST_H

#define KVS_BACKEND(name)                   name##_simt
#define KVS_KERNEL(max_threads, min_blocks) void
#define KVS_DEVICE                          static inline __attribute__((always_inline))

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned along_x = 1, unsigned along_y = 1, unsigned along_z = 1)
        : x(along_x), y(along_y), z(along_z) {}
};

#endif
