#include "kernels/gemm.h"

#include <cblas.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "kernels/simt/runtime.h"

#ifdef KVS_HAVE_CUDA
extern const kvs_gemm_library kvs_gemm_cublas;
#endif

/* --- OpenBLAS, on memory of the SIMT runtime -----------------------------------------------------------------------
 */

static kvs_status open_host(void **handle, kvs_error *error) {
    (void)error;
    *handle = NULL;
    return KVS_OK;
}

static void close_host(void *handle) {
    (void)handle;
}

static void widen(kvs_number number, const void *from, float *to, size_t count) {
    if (number == KVS_NUMBER_F32)
        memcpy(to, from, count * sizeof *to);
    else if (number == KVS_NUMBER_F16)
        kvs_halves_to_floats(from, to, count);
    else
        kvs_bfloats_to_floats(from, to, count);
}

static kvs_status multiply_host(void *handle, kvs_number number, int rows, int n, int k, const void *x, const void *w,
                                float beta, float *y, void *stream, kvs_error *error) {
    (void)handle, (void)stream;
    size_t x_count = (size_t)rows * (size_t)k, w_count = (size_t)n * (size_t)k;
    float *wide = malloc(sizeof *wide * (x_count + w_count));
    if (wide == NULL) return kvs_fail(error, KVS_DEVICE, "simt", "matrix product", "out of memory");
    widen(number, x, wide, x_count);
    widen(number, w, wide + x_count, w_count);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n, k, 1.0f, wide, k, wide + x_count, k, beta, y, n);
    kvs_simt_host_wrote(y, sizeof *y * (size_t)rows * (size_t)n);
    free(wide);
    return KVS_OK;
}

static const kvs_gemm_library host_library = {"simt", open_host, close_host, multiply_host};

/* --- the list ------------------------------------------------------------------------------------------------------
 */

static const kvs_gemm_library *const libraries[] = {
    &host_library,
#ifdef KVS_HAVE_CUDA
    &kvs_gemm_cublas,
#endif
    NULL,
};

struct kvs_gemm {
    const kvs_gemm_library *library;
    void *handle;
};

kvs_status kvs_gemm_open(const kvs_executor *executor, kvs_gemm **gemm, kvs_error *error) {
    *gemm = NULL;
    for (int i = 0; libraries[i] != NULL; i++) {
        if (strcmp(libraries[i]->executor, executor->name) != 0) continue;
        kvs_gemm *made = calloc(1, sizeof *made);
        if (made == NULL) return kvs_fail(error, KVS_DEVICE, executor->name, "matrix products", "out of memory");
        made->library = libraries[i];
        kvs_status status = made->library->open(&made->handle, error);
        if (status == KVS_OK)
            *gemm = made;
        else
            free(made);
        return status;
    }
    return kvs_fail(error, KVS_DEVICE, executor->name, "matrix products", "no library is known for this device");
}

void kvs_gemm_close(kvs_gemm *gemm) {
    if (gemm == NULL) return;
    gemm->library->close(gemm->handle);
    free(gemm);
}

kvs_status kvs_gemm_multiply(kvs_gemm *gemm, kvs_number number, int rows, int n, int k, const void *x, const void *w,
                             float beta, float *y, void *stream, kvs_error *error) {
    return gemm->library->multiply(gemm->handle, number, rows, n, k, x, w, beta, y, stream, error);
}
