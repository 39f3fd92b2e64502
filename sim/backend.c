#include "sim/backend.h"

#include <string.h>

extern const kvs_backend kvs_backend_cpu, kvs_backend_cuda;

const kvs_backend *const kvs_backends[] = {&kvs_backend_cpu, &kvs_backend_cuda, NULL};

/* Stands in for CUDA in a build without it: known by name, so that asking for it is no typing error. */
static kvs_status no_cuda(char *device, size_t device_bytes, kvs_error *error) {
    (void)device, (void)device_bytes;
    return kvs_fail(error, KVS_DEVICE, "--backend", "cuda", "this build has no CUDA back end; use --backend cpu");
}

const kvs_backend kvs_backend_cuda = {
    .name = "cuda", .summary = "kernels on an NVIDIA GPU (not in this build)", .probe = no_cuda};

kvs_status kvs_backend_find(const char *name, const kvs_backend **backend, kvs_error *error) {
    for (int i = 0; kvs_backends[i] != NULL; i++) {
        *backend = kvs_backends[i];
        if (strcmp(kvs_backends[i]->name, name) == 0) return KVS_OK;
    }
    return kvs_fail(error, KVS_USAGE, "--backend", name, "unknown back end; known: cpu, cuda");
}
