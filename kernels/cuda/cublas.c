/* cublas.c: matrix products by cuBLAS. The library is opened at run time: a program without a model does not need it,
 * and a machine without it can run everything else. */
#include <cublas_v2.h>
#include <dlfcn.h>
#include <stdlib.h>

#include "kernels/gemm.h"

typedef struct library {
    void *file;
    cublasHandle_t handle;
    cublasStatus_t (*create)(cublasHandle_t *);
    cublasStatus_t (*destroy)(cublasHandle_t);
    cublasStatus_t (*set_stream)(cublasHandle_t, cudaStream_t);
    cublasStatus_t (*gemm)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void *,
                           const void *, cudaDataType, int, const void *, cudaDataType, int, const void *, void *,
                           cudaDataType, int, cublasComputeType_t, cublasGemmAlgo_t);
    const char *(*text)(cublasStatus_t);
} library;

static const char *const files[] = {"libcublas.so.13", "libcublas.so.12", "libcublas.so"};

static kvs_status failed(const library *l, cublasStatus_t status, const char *what, kvs_error *error) {
    if (status == CUBLAS_STATUS_SUCCESS) return KVS_OK;
    return kvs_fail(error, KVS_DEVICE, "cublas", what, "%s", l->text(status));
}

static void close_cublas(void *handle) {
    library *l = handle;
    if (l == NULL) return;
    if (l->handle != NULL) (void)l->destroy(l->handle);
    if (l->file != NULL) dlclose(l->file);
    free(l);
}

static kvs_status find_symbols(library *l, kvs_error *error) {
    const struct {
        const char *name;
        void **place;
    } symbols[] = {{"cublasCreate_v2", (void **)&l->create},
                   {"cublasDestroy_v2", (void **)&l->destroy},
                   {"cublasSetStream_v2", (void **)&l->set_stream},
                   {"cublasGemmEx", (void **)&l->gemm},
                   {"cublasGetStatusString", (void **)&l->text}};
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++)
        if ((*symbols[i].place = dlsym(l->file, symbols[i].name)) == NULL)
            return kvs_fail(error, KVS_DEVICE, "cublas", symbols[i].name, "is not in the library that was found");
    return KVS_OK;
}

static kvs_status open_cublas(void **handle, kvs_error *error) {
    library *l = calloc(1, sizeof *l);
    *handle = NULL;
    if (l == NULL) return kvs_fail(error, KVS_DEVICE, "cublas", NULL, "out of memory");
    for (size_t i = 0; i < sizeof files / sizeof *files && l->file == NULL; i++) l->file = dlopen(files[i], RTLD_NOW);
    kvs_status status = l->file != NULL
                            ? find_symbols(l, error)
                            : kvs_fail(error, KVS_DEVICE, files[0], NULL,
                                       "cannot be loaded; install cuBLAS, or name its folder in LD_LIBRARY_PATH");
    if (status == KVS_OK) status = failed(l, l->create(&l->handle), "cublasCreate", error);
    if (status == KVS_OK)
        *handle = l;
    else
        close_cublas(l);
    return status;
}

/* The library counts columns first: what it sees is y^T = w^T^T x^T. */
static kvs_status multiply_cublas(void *handle, kvs_number number, int rows, int n, int k, const void *x, const void *w,
                                  float beta, float *y, void *stream, kvs_error *error) {
    static const struct {
        cudaDataType type;
        cublasComputeType_t compute;
    } numbers[] = {[KVS_NUMBER_F32] = {CUDA_R_32F, CUBLAS_COMPUTE_32F_PEDANTIC},
                   [KVS_NUMBER_F16] = {CUDA_R_16F, CUBLAS_COMPUTE_32F},
                   [KVS_NUMBER_BF16] = {CUDA_R_16BF, CUBLAS_COMPUTE_32F}};
    library *l = handle;
    float alpha = 1.0f;
    cudaDataType type = numbers[number].type;
    KVS_TRY(failed(l, l->set_stream(l->handle, stream), "cublasSetStream", error));
    return failed(l,
                  l->gemm(l->handle, CUBLAS_OP_T, CUBLAS_OP_N, n, rows, k, &alpha, w, type, k, x, type, k, &beta, y,
                          CUDA_R_32F, n, numbers[number].compute, CUBLAS_GEMM_DEFAULT),
                  "cublasGemmEx", error);
}

const kvs_gemm_library kvs_gemm_cublas = {"cuda", open_cublas, close_cublas, multiply_cublas};
