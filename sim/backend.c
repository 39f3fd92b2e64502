#include "sim/backend.h"

#include <string.h>

extern const kvs_backend kvs_backend_cpu, kvs_backend_cuda, kvs_backend_simt;

const kvs_backend *const kvs_backends[] = {&kvs_backend_cpu, &kvs_backend_cuda, &kvs_backend_simt, NULL};

kvs_status kvs_backend_find(const char *name, const kvs_backend **backend, kvs_error *error) {
    for (int i = 0; kvs_backends[i] != NULL; i++) {
        *backend = kvs_backends[i];
        if (strcmp(kvs_backends[i]->name, name) == 0) return KVS_OK;
    }
    return kvs_fail(error, KVS_USAGE, "--backend", name, "unknown back end; known: cpu, cuda, simt");
}
