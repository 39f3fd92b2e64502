/* shared_limit.h: how much shared memory a block of the current CUDA device may have, which differs between devices:
 * 163 KB on compute capability 8.0, 99 KB on 8.6 and 8.9, 227 KB on 9.0. Implemented in device.c, used by kvs_launch
 * (kernels/simt/device.h). */
#ifndef KVS_KERNELS_CUDA_SHARED_LIMIT_H
#define KVS_KERNELS_CUDA_SHARED_LIMIT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Every device gives this many bytes without being asked; and what a launch that was refused returns. */
enum { KVS_SHARED_EVERYWHERE = 48 * 1024, KVS_SHARED_REFUSED = -1 };

size_t kvs_shared_limit(void);

/* Remembers both numbers for kvs_shared_refusal on this thread of the host; returns KVS_SHARED_REFUSED. */
int kvs_refuse_shared(size_t shared_bytes, size_t limit);
const char *kvs_shared_refusal(void);

#ifdef __cplusplus
}
#endif
#endif
