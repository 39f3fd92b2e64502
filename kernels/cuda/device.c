/* device.c: the CUDA device of executor.h. The only file that calls the CUDA runtime, besides the launches. */
#include <cuda_runtime_api.h>
#include <stdio.h>

#include "kernels/cuda/shared_limit.h"
#include "kernels/executor.h"

static kvs_status failed(cudaError_t result, const char *what, kvs_error *error) {
    if (result == cudaSuccess) return KVS_OK;
    return kvs_fail(error, KVS_DEVICE, "cuda", what, "%s (%s)", cudaGetErrorString(result), cudaGetErrorName(result));
}

/* --- shared memory (shared_limit.h) -------------------------------------------------------------------------
 */

static __thread char refusal[96];

size_t kvs_shared_limit(void) {
    int device = 0, bytes = 0;
    if (cudaGetDevice(&device) == cudaSuccess &&
        cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) == cudaSuccess)
        return (size_t)bytes;
    (void)cudaGetLastError();
    return KVS_SHARED_EVERYWHERE;
}

int kvs_refuse_shared(size_t shared_bytes, size_t limit) {
    (void)snprintf(refusal, sizeof refusal, "%zu bytes of shared memory; a block may have %zu", shared_bytes, limit);
    return KVS_SHARED_REFUSED;
}

const char *kvs_shared_refusal(void) {
    return refusal;
}

/* --- the device ----------------------------------------------------------------------------------------------------
 */

static kvs_status open_cuda(kvs_executor_facts *facts, kvs_error *error) {
    int count = 0;
    struct cudaDeviceProp properties;
    cudaError_t result = cudaGetDeviceCount(&count);
    if (result != cudaSuccess || count == 0)
        return kvs_fail(error, KVS_DEVICE, "cuda", NULL, "no CUDA device: %s",
                        result == cudaSuccess ? "none is there" : cudaGetErrorString(result));
    KVS_TRY(failed(cudaSetDevice(0), "cudaSetDevice", error));
    KVS_TRY(failed(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties", error));
    if (properties.major < 8)
        return kvs_fail(error, KVS_DEVICE, "cuda", properties.name, "compute capability %d.%d is below 8.0",
                        properties.major, properties.minor);
    *facts = (kvs_executor_facts){.compute_major = properties.major,
                                  .compute_minor = properties.minor,
                                  .multiprocessors = properties.multiProcessorCount,
                                  .memory_bytes = properties.totalGlobalMem,
                                  .l2_bytes = (size_t)properties.l2CacheSize};
    for (size_t i = 0; i + 1 < sizeof facts->name && properties.name[i] != '\0'; i++)
        facts->name[i] = properties.name[i];
    return failed(cudaMemGetInfo(&facts->free_bytes, &facts->memory_bytes), "cudaMemGetInfo", error);
}

static kvs_status allocate_cuda(size_t bytes, const char *name, void **memory, kvs_error *error) {
    size_t free_bytes = 0, total = 0;
    *memory = NULL;
    cudaError_t result = cudaMalloc(memory, bytes == 0 ? 1 : bytes);
    if (result == cudaSuccess) return KVS_OK;
    (void)cudaGetLastError(); /* it stays until it is read */
    if (result != cudaErrorMemoryAllocation || cudaMemGetInfo(&free_bytes, &total) != cudaSuccess)
        return failed(result, name, error);
    return kvs_fail(error, KVS_DEVICE, "cuda", name, "%zu bytes are wanted and %zu of %zu are free", bytes, free_bytes,
                    total);
}

/* Freeing can only report what failed before, which synchronize reports as well. */
static void release_cuda(void *memory) {
    (void)cudaFree(memory);
}

static kvs_status upload_cuda(void *to, const void *from, size_t bytes, kvs_error *error) {
    return failed(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "copy to the device", error);
}

static kvs_status download_cuda(void *to, const void *from, size_t bytes, kvs_error *error) {
    return failed(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "copy from the device", error);
}

static kvs_status fill_cuda(void *memory, int byte, size_t bytes, kvs_error *error) {
    return failed(cudaMemset(memory, byte, bytes), "fill", error);
}

static kvs_status synchronize_cuda(kvs_error *error) {
    return failed(cudaDeviceSynchronize(), "kernel", error);
}

/* --- streams -------------------------------------------------------------------------------------------------------
 */

static kvs_status open_stream_cuda(void **stream, kvs_error *error) {
    return failed(cudaStreamCreateWithFlags((cudaStream_t *)stream, cudaStreamNonBlocking), "cudaStreamCreate", error);
}

static void close_stream_cuda(void *stream) {
    if (stream != NULL) (void)cudaStreamDestroy(stream);
}

static kvs_status wait_cuda(void *stream, kvs_error *error) {
    return failed(cudaStreamSynchronize(stream), "kernel", error);
}

static kvs_status allocate_host_cuda(size_t bytes, void **memory, kvs_error *error) {
    *memory = NULL;
    cudaError_t result = cudaMallocHost(memory, bytes == 0 ? 1 : bytes);
    if (result != cudaSuccess) (void)cudaGetLastError();
    return failed(result, "pinned memory of the host", error);
}

static void release_host_cuda(void *memory) {
    (void)cudaFreeHost(memory);
}

static kvs_status send_cuda(void *to, const void *from, size_t bytes, void *stream, kvs_error *error) {
    return failed(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream), "copy to the device", error);
}

static kvs_status fetch_cuda(void *to, const void *from, size_t bytes, void *stream, kvs_error *error) {
    return failed(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream), "copy from the device", error);
}

/* --- timing --------------------------------------------------------------------------------------------------------
 */

enum { MAX_SETS = 64 };

typedef struct timing {
    cudaStream_t stream;
    cudaEvent_t begin, end;
    cudaGraphExec_t graphs[MAX_SETS];
} timing;

static kvs_status capture(timing *t, kvs_executor_work *work, void *context, int set, kvs_error *error) {
    cudaGraph_t graph = NULL;
    KVS_TRY(failed(cudaStreamBeginCapture(t->stream, cudaStreamCaptureModeThreadLocal), "capture", error));
    kvs_status status = work(context, set, t->stream, error);
    cudaError_t ended = cudaStreamEndCapture(t->stream, &graph);
    if (status == KVS_OK) status = failed(ended, "capture", error);
    if (status == KVS_OK)
        status = failed(cudaGraphInstantiate(&t->graphs[set], graph, 0), "cudaGraphInstantiate", error);
    if (graph != NULL) (void)cudaGraphDestroy(graph);
    return status;
}

static kvs_status replay(timing *t, int set, double *seconds, kvs_error *error) {
    float milliseconds = 0.0f;
    KVS_TRY(failed(cudaEventRecord(t->begin, t->stream), "cudaEventRecord", error));
    KVS_TRY(failed(cudaGraphLaunch(t->graphs[set], t->stream), "cudaGraphLaunch", error));
    KVS_TRY(failed(cudaEventRecord(t->end, t->stream), "cudaEventRecord", error));
    KVS_TRY(failed(cudaEventSynchronize(t->end), "kernel", error));
    KVS_TRY(failed(cudaEventElapsedTime(&milliseconds, t->begin, t->end), "cudaEventElapsedTime", error));
    *seconds = milliseconds * 1e-3;
    return KVS_OK;
}

static kvs_status time_sets(timing *t, kvs_executor_work *work, void *context, int sets, int repeats, double *seconds,
                            kvs_error *error) {
    double warm_up;
    for (int i = 0; i < sets; i++) KVS_TRY(capture(t, work, context, i, error));
    for (int i = 0; i < sets; i++) KVS_TRY(replay(t, i, &warm_up, error));
    for (int i = 0; i < repeats; i++) KVS_TRY(replay(t, i % sets, &seconds[i], error));
    return KVS_OK;
}

static kvs_status time_cuda(kvs_executor_work *work, void *context, int sets, int repeats, double *seconds,
                            kvs_error *error) {
    timing t = {0};
    if (sets > MAX_SETS) sets = MAX_SETS;
    kvs_status status = failed(cudaStreamCreateWithFlags(&t.stream, cudaStreamNonBlocking), "cudaStreamCreate", error);
    if (status == KVS_OK) status = failed(cudaEventCreate(&t.begin), "cudaEventCreate", error);
    if (status == KVS_OK) status = failed(cudaEventCreate(&t.end), "cudaEventCreate", error);
    if (status == KVS_OK) status = time_sets(&t, work, context, sets, repeats, seconds, error);
    for (int i = 0; i < sets; i++)
        if (t.graphs[i] != NULL) (void)cudaGraphExecDestroy(t.graphs[i]);
    if (t.end != NULL) (void)cudaEventDestroy(t.end);
    if (t.begin != NULL) (void)cudaEventDestroy(t.begin);
    if (t.stream != NULL) (void)cudaStreamDestroy(t.stream);
    return status;
}

const kvs_executor kvs_executor_cuda = {
    .name = "cuda",
    .kernels = &kvs_kernels_cuda,
    .open = open_cuda,
    .allocate = allocate_cuda,
    .release = release_cuda,
    .upload = upload_cuda,
    .download = download_cuda,
    .fill = fill_cuda,
    .synchronize = synchronize_cuda,
    .streams = 16,
    .open_stream = open_stream_cuda,
    .close_stream = close_stream_cuda,
    .wait = wait_cuda,
    .allocate_host = allocate_host_cuda,
    .release_host = release_host_cuda,
    .send = send_cuda,
    .fetch = fetch_cuda,
    .time = time_cuda,
};
