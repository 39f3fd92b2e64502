/* device_backend.c: the back ends that compute on an executor: CUDA, and the same kernels on the host. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim/device_unit.h"

static kvs_status open_executor(const char *name, const kvs_executor **executor, kvs_executor_facts *facts,
                                kvs_error *error) {
    KVS_TRY(kvs_executor_find(name, executor, error));
    return (*executor)->open(facts, error);
}

/* --- what a scheme needs -------------------------------------------------------------------------------------------
 */

static kvs_status plan_scheme(const kvs_scheme *scheme, kvs_device_store stores[2], kvs_error *error) {
    KVS_TRY(kvs_device_store_of(scheme, "k", &scheme->k, &stores[0], error));
    return kvs_device_store_of(scheme, "v", &scheme->v, &stores[1], error);
}

static kvs_status accept(const kvs_scheme *scheme, kvs_error *error) {
    kvs_device_store stores[2];
    if (scheme->head_dim % 16 != 0)
        return kvs_fail(error, KVS_USAGE, scheme->spec, "head_dim", "%d is not a multiple of 16; use --backend cpu",
                        scheme->head_dim);
    return plan_scheme(scheme, stores, error);
}

/* The stores of a pass, whose schemes have been accepted; NULL without memory. */
static kvs_device_store *plan(const kvs_pass *pass) {
    kvs_device_store *stores = calloc(2 * (size_t)pass->schemes_count + 1, sizeof *stores);
    for (int s = 0; stores != NULL && s < pass->schemes_count; s++)
        if (plan_scheme(pass->schemes[s], stores + 2 * s, NULL) != KVS_OK) {
            free(stores);
            return NULL;
        }
    return stores;
}

/* --- memory --------------------------------------------------------------------------------------------------------
 */

static int64_t bytes_of_host(const kvs_pass *pass, int64_t tokens, int64_t queries) {
    kvs_device_store *stores = plan(pass);
    if (stores == NULL) return INT64_MAX / 2;
    size_t sizes[KVS_DEVICE_ARRAYS];
    kvs_device_sizes(pass, stores, tokens, queries, sizes);
    size_t bytes = kvs_device_sent_bytes(pass, stores, tokens, queries) + kvs_device_fetched_bytes(sizes) +
                   kvs_device_rounded_bytes(pass, tokens, queries);
    free(stores);
    return (int64_t)bytes;
}

static int64_t bytes_of_device(const kvs_pass *pass, int64_t tokens, int64_t queries) {
    kvs_device_store *stores = plan(pass);
    if (stores == NULL) return INT64_MAX / 2;
    size_t sizes[KVS_DEVICE_ARRAYS], bytes = 0;
    kvs_device_sizes(pass, stores, tokens, queries, sizes);
    for (int i = 0; i < KVS_DEVICE_ARRAYS; i++) bytes += (sizes[i] / 512 + 1) * 512;
    free(stores);
    return (int64_t)bytes;
}

/* --- states --------------------------------------------------------------------------------------------------------
 */

static void close_device(void *opened) {
    kvs_device_state *state = opened;
    if (state == NULL) return;
    const kvs_executor *executor = state->executor;
    for (int i = 0; i < KVS_DEVICE_ARRAYS; i++) executor->release(state->arrays[i].at);
    executor->release_host(state->sent.at);
    executor->release_host(state->fetched.at);
    executor->close_stream(state->stream);
    free(state->rounded.memory);
    free(state->stores);
    free(state);
}

static kvs_status open_device(const char *name, const kvs_pass *pass, void **opened, kvs_error *error) {
    const kvs_executor *executor;
    kvs_executor_facts facts;
    *opened = NULL;
    KVS_TRY(open_executor(name, &executor, &facts, error));
    kvs_device_state *state = calloc(1, sizeof *state);
    if (state == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    *state = (kvs_device_state){.executor = executor, .pass = pass, .stores = plan(pass)};
    kvs_status status = state->stores != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    if (status == KVS_OK) status = executor->open_stream(&state->stream, error);
    if (status == KVS_OK)
        *opened = state;
    else
        close_device(state);
    return status;
}

/* What is still on its way when a unit fails must have ended before its memory is used again. */
static kvs_status unit_on_device(void *opened, const kvs_unit *unit, kvs_unit_errors *errors, kvs_error *error) {
    kvs_device_state *state = opened;
    kvs_status status = kvs_device_unit(state, unit, errors, error);
    kvs_error later;
    if (status != KVS_OK) (void)(state->executor->wait(state->stream, &later) == KVS_OK);
    return status;
}

/* --- CUDA ----------------------------------------------------------------------------------------------------------
 */

static kvs_status probe_cuda(char *device, size_t device_bytes, kvs_error *error) {
    const kvs_executor *executor;
    kvs_executor_facts facts;
    KVS_TRY(open_executor("cuda", &executor, &facts, error));
    snprintf(device, device_bytes, "%s, compute capability %d.%d", facts.name, facts.compute_major,
             facts.compute_minor);
    return KVS_OK;
}

static kvs_status open_cuda(const kvs_pass *pass, void **state, kvs_error *error) {
    return open_device("cuda", pass, state, error);
}

static kvs_status free_bytes_cuda(int64_t *bytes, kvs_error *error) {
    const kvs_executor *executor;
    kvs_executor_facts facts;
    KVS_TRY(open_executor("cuda", &executor, &facts, error));
    *bytes = (int64_t)(facts.free_bytes / 16 * 15); /* the rest is for what the driver wastes */
    return KVS_OK;
}

static int most_units_cuda(void) {
    const kvs_executor *executor;
    return kvs_executor_find("cuda", &executor, NULL) == KVS_OK ? executor->streams : 1;
}

const kvs_backend kvs_backend_cuda = {
    .name = "cuda",
    .summary = "kernels on an NVIDIA GPU, a stream for each thread",
    .probe = probe_cuda,
    .open = open_cuda,
    .unit = unit_on_device,
    .close = close_device,
    .bytes = bytes_of_host,
    .accept = accept,
    .free_bytes = free_bytes_cuda,
    .device_bytes = bytes_of_device,
    .most_units = most_units_cuda,
};

/* --- the SIMT runtime ----------------------------------------------------------------------------------------------
 */

static kvs_status probe_simt(char *device, size_t device_bytes, kvs_error *error) {
    const kvs_executor *executor;
    kvs_executor_facts facts;
    KVS_TRY(open_executor("simt", &executor, &facts, error));
    snprintf(device, device_bytes, "%s", facts.name);
    return KVS_OK;
}

static kvs_status open_simt(const kvs_pass *pass, void **state, kvs_error *error) {
    return open_device("simt", pass, state, error);
}

static kvs_status free_bytes_simt(int64_t *bytes, kvs_error *error) {
    (void)error;
    *bytes = INT64_MAX; /* the host's memory is not asked */
    return KVS_OK;
}

static int most_units_simt(void) {
    return 1;
}

const kvs_backend kvs_backend_simt = {
    .name = "simt",
    .summary = "the CUDA kernels on the host, thread by thread and checked: for tests, thousands of times slower",
    .probe = probe_simt,
    .open = open_simt,
    .unit = unit_on_device,
    .close = close_device,
    .bytes = bytes_of_host,
    .accept = accept,
    .free_bytes = free_bytes_simt,
    .device_bytes = bytes_of_device,
    .most_units = most_units_simt,
};
