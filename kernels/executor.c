#include "kernels/executor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/simt/runtime.h"

#ifdef KVS_HAVE_CUDA
extern const kvs_executor kvs_executor_cuda;
#endif

/* --- the SIMT runtime as a device ----------------------------------------------------------------------------------
 */

static kvs_status open_simt(kvs_executor_facts *facts, kvs_error *error) {
    (void)error;
    *facts = (kvs_executor_facts){.name = "SIMT runtime on the host", .compute_major = 8, .multiprocessors = 1};
    return KVS_OK;
}

static kvs_status allocate_simt(size_t bytes, const char *name, void **memory, kvs_error *error) {
    size_t rounded = (bytes + 255) / 256 * 256 + (bytes == 0 ? 256 : 0);
    *memory = aligned_alloc(256, rounded);
    if (*memory == NULL) return kvs_fail(error, KVS_DEVICE, "simt", name, "no memory for %zu bytes", bytes);
    kvs_status status = kvs_simt_register(*memory, bytes == 0 ? rounded : bytes, name, KVS_SIMT_UNWRITTEN, error);
    if (status != KVS_OK) {
        free(*memory);
        *memory = NULL;
    }
    return status;
}

static void release_simt(void *memory) {
    if (memory == NULL) return;
    kvs_simt_forget(memory);
    free(memory);
}

static kvs_status synchronize_simt(kvs_error *error) {
    (void)error;
    return KVS_OK;
}

static kvs_status download_simt(void *to, const void *from, size_t bytes, kvs_error *error) {
    (void)error;
    memcpy(to, from, bytes);
    return KVS_OK;
}

static kvs_status upload_simt(void *to, const void *from, size_t bytes, kvs_error *error) {
    (void)error;
    kvs_simt_host_wrote(to, bytes);
    memcpy(to, from, bytes);
    return KVS_OK;
}

static kvs_status fill_simt(void *memory, int byte, size_t bytes, kvs_error *error) {
    (void)error;
    kvs_simt_host_wrote(memory, bytes);
    memset(memory, byte, bytes);
    return KVS_OK;
}

static const kvs_executor kvs_executor_simt = {
    .name = "simt",
    .kernels = &kvs_kernels_simt,
    .open = open_simt,
    .allocate = allocate_simt,
    .release = release_simt,
    .upload = upload_simt,
    .download = download_simt,
    .fill = fill_simt,
    .synchronize = synchronize_simt,
};

/* --- the list ------------------------------------------------------------------------------------------------------
 */

const kvs_executor *const kvs_executors[] = {
    &kvs_executor_simt,
#ifdef KVS_HAVE_CUDA
    &kvs_executor_cuda,
#endif
    NULL,
};

kvs_status kvs_executor_find(const char *name, const kvs_executor **device, kvs_error *error) {
    for (int i = 0; kvs_executors[i] != NULL; i++)
        if (strcmp(kvs_executors[i]->name, name) == 0) {
            *device = kvs_executors[i];
            return KVS_OK;
        }
    if (strcmp(name, "cuda") == 0)
        return kvs_fail(error, KVS_DEVICE, "cuda", NULL, "this build has no CUDA; build it where nvcc is");
    return kvs_fail(error, KVS_USAGE, name, NULL, "unknown device");
}

kvs_status kvs_executor_launched(const kvs_executor *device, int launch, const char *kernel, kvs_error *error) {
    if (launch == 0) return KVS_OK;
    return kvs_fail(error, KVS_DEVICE, device->name, kernel, "%s", device->kernels->text(launch));
}
