/* gemm.h: matrix products on an executor: cuBLAS on CUDA, loaded when it is first needed, and OpenBLAS for the SIMT
 * runtime. */
#ifndef KVS_KERNELS_GEMM_H
#define KVS_KERNELS_GEMM_H

#include "kernels/executor.h"
#include "kernels/model_kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_gemm kvs_gemm;

/* KVS_DEVICE where the library is missing, naming it and the remedy. *gemm is the caller's, freed with kvs_gemm_close.
 */
KVS_MUST_CHECK kvs_status kvs_gemm_open(const kvs_executor *executor, kvs_gemm **gemm, kvs_error *error);
void kvs_gemm_close(kvs_gemm *gemm);

/* y [rows][n] = beta y + x [rows][k] w [n][k]^T on the stream: x and w in `number`, y and sums in binary32. */
KVS_MUST_CHECK kvs_status kvs_gemm_multiply(kvs_gemm *gemm, kvs_number number, int rows, int n, int k, const void *x,
                                            const void *w, float beta, float *y, void *stream, kvs_error *error);

/* What a library gives: one row in gemm.c. */
typedef struct kvs_gemm_library {
    const char *executor;
    kvs_status (*open)(void **handle, kvs_error *error);
    void (*close)(void *handle);
    kvs_status (*multiply)(void *handle, kvs_number number, int rows, int n, int k, const void *x, const void *w,
                           float beta, float *y, void *stream, kvs_error *error);
} kvs_gemm_library;

#ifdef __cplusplus
}
#endif
#endif
