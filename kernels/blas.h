/* blas.h: OpenBLAS, made ready to be called from OpenMP's threads. */
#ifndef KVS_KERNELS_BLAS_H
#define KVS_KERNELS_BLAS_H

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Holds OpenBLAS to one thread for each call and has it take the buffers that as many calls need as OpenMP has threads.
 * It takes them when it is first called, 128 MiB of address space a call, and where there are none 0.3.21 tries again
 * for ever; here that is KVS_INPUT. May be called often; from one thread. */
KVS_MUST_CHECK kvs_status kvs_blas_begin(kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
