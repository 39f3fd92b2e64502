#include "kernels/executor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

static int64_t allocations, until_failure; /* atomic */

int64_t kvs_simt_allocations(void) {
    return __atomic_load_n(&allocations, __ATOMIC_RELAXED);
}

void kvs_simt_fail_allocation(int64_t number) {
    __atomic_store_n(&until_failure, number, __ATOMIC_RELAXED);
}

/* Memory aligned to 256, NULL where there is none or a test wants that there is none. */
static void *take_memory(size_t bytes) {
    if (__atomic_load_n(&until_failure, __ATOMIC_RELAXED) > 0 &&
        __atomic_sub_fetch(&until_failure, 1, __ATOMIC_RELAXED) == 0)
        return NULL;
    void *memory = aligned_alloc(256, (bytes + 255) / 256 * 256 + (bytes == 0 ? 256 : 0));
    if (memory != NULL) __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
    return memory;
}

static void give_memory(void *memory) {
    if (memory != NULL) __atomic_sub_fetch(&allocations, 1, __ATOMIC_RELAXED);
    free(memory);
}

static kvs_status allocate_simt(size_t bytes, const char *name, void **memory, kvs_error *error) {
    *memory = take_memory(bytes);
    if (*memory == NULL) return kvs_fail(error, KVS_DEVICE, "simt", name, "no memory for %zu bytes", bytes);
    kvs_status status = kvs_simt_register(*memory, bytes == 0 ? 256 : bytes, name, KVS_SIMT_UNWRITTEN, error);
    if (status != KVS_OK) {
        give_memory(*memory);
        *memory = NULL;
    }
    return status;
}

static void release_simt(void *memory) {
    if (memory == NULL) return;
    kvs_simt_forget(memory);
    give_memory(memory);
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

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* The host's time, which says nothing about a device: so that what times kernels runs everywhere. */
static kvs_status time_simt(kvs_executor_work *work, void *context, int sets, int repeats, double *seconds,
                            kvs_error *error) {
    for (int i = 0; i < repeats; i++) {
        double begin = now();
        KVS_TRY(work(context, i % sets, NULL, error));
        seconds[i] = now() - begin;
    }
    return KVS_OK;
}

static kvs_status open_stream_simt(void **stream, kvs_error *error) {
    (void)error;
    *stream = NULL;
    return KVS_OK;
}

static void close_stream_simt(void *stream) {
    (void)stream;
}

static kvs_status wait_simt(void *stream, kvs_error *error) {
    (void)stream, (void)error;
    return KVS_OK;
}

static kvs_status allocate_host_simt(size_t bytes, void **memory, kvs_error *error) {
    *memory = take_memory(bytes);
    if (*memory != NULL) return KVS_OK;
    return kvs_fail(error, KVS_DEVICE, "simt", "host memory", "no memory for %zu bytes", bytes);
}

static kvs_status send_simt(void *to, const void *from, size_t bytes, void *stream, kvs_error *error) {
    (void)stream;
    return upload_simt(to, from, bytes, error);
}

static kvs_status fetch_simt(void *to, const void *from, size_t bytes, void *stream, kvs_error *error) {
    (void)stream;
    return download_simt(to, from, bytes, error);
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
    .time = time_simt,
    .streams = 1,
    .open_stream = open_stream_simt,
    .close_stream = close_stream_simt,
    .wait = wait_simt,
    .allocate_host = allocate_host_simt,
    .release_host = give_memory,
    .send = send_simt,
    .fetch = fetch_simt,
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

/* --- checked launches ----------------------------------------------------------------------------------------------
 */

kvs_status kvs_executor_launched(const kvs_executor *executor, int launch, const char *kernel, kvs_error *error) {
    if (launch == 0) return KVS_OK;
    return kvs_fail(error, KVS_DEVICE, executor->name, kernel, "%s", executor->kernels->text(launch));
}

static kvs_status check_pages(const kvs_executor *executor, const char *kernel, const kvs_format *format, int64_t pages,
                              kvs_error *error) {
    if (pages < 0 || pages > INT32_MAX / (format->shape.page_tokens / 4))
        return kvs_fail(error, KVS_USAGE, executor->name, kernel, "%lld pages are more than one launch takes",
                        (long long)pages);
    if (pages % format->shape.kv_heads != 0)
        return kvs_fail(error, KVS_USAGE, executor->name, kernel, "%lld pages are not a multiple of %d KV heads",
                        (long long)pages, format->shape.kv_heads);
    return KVS_OK;
}

kvs_status kvs_executor_quantize(const kvs_executor *executor, int values, const kvs_quantize_args *args, void *stream,
                                 kvs_error *error) {
    const char *kernel = values ? "quantize_pack_v" : "quantize_pack_k";
    KVS_TRY(check_pages(executor, kernel, &args->format, args->pages, error));
    if (args->format.keys == KVS_KEYS_FULL)
        return kvs_fail(error, KVS_USAGE, executor->name, kernel, "a full-precision layout holds no codes");
    if (args->rule.meta != KVS_META_BINARY16)
        return kvs_fail(error, KVS_USAGE, executor->name, kernel, "scales and zeros must be stored as binary16");
    if (args->metric < KVS_METRIC_MAGNITUDE || args->metric > KVS_METRIC_GIVEN)
        return kvs_fail(error, KVS_USAGE, executor->name, kernel, "no kernel has this ranking metric");
    if (!values && args->metric == KVS_METRIC_RANDOM && args->places == NULL)
        return kvs_fail(error, KVS_USAGE, executor->name, kernel, "the random ranking needs the places of the pages");
    if (!values && args->metric == KVS_METRIC_GIVEN && args->scores == NULL)
        return kvs_fail(error, KVS_USAGE, executor->name, kernel, "a given ranking needs the scores of the pages");
    int launch =
        values ? executor->kernels->quantize_pack_v(args, stream) : executor->kernels->quantize_pack_k(args, stream);
    return kvs_executor_launched(executor, launch, kernel, error);
}

kvs_status kvs_executor_dequantize(const kvs_executor *executor, const kvs_dequantize_args *args, void *stream,
                                   kvs_error *error) {
    KVS_TRY(check_pages(executor, "dequantize", &args->format, args->pages, error));
    return kvs_executor_launched(executor, executor->kernels->dequantize(args, stream), "dequantize", error);
}

kvs_status kvs_executor_attend(const kvs_executor *executor, const kvs_attention_args *args, void *stream,
                               kvs_error *error) {
    const kvs_page_shape *shape = &args->format.shape;
    int full = args->format.keys == KVS_KEYS_FULL, kv_heads = shape->kv_heads;
    const char *kernel = full ? "decode_attention_fp16" : "decode_attention";
    if (!full && (shape->key_group != shape->page_tokens || shape->value_group != shape->head_dim))
        return kvs_fail(error, KVS_USAGE, executor->name, kernel,
                        "groups of %d tokens and %d channels: only whole pages and tokens are supported",
                        shape->key_group, shape->value_group);
    if (args->sequences < 1 || args->sequences > 65535)
        return kvs_fail(error, KVS_USAGE, executor->name, kernel, "%d sequences are not in 1..65535", args->sequences);
    if (args->query_heads % kv_heads != 0 || args->query_heads / kv_heads < 1 || args->query_heads / kv_heads > 16)
        return kvs_fail(error, KVS_USAGE, executor->name, kernel, "%d query heads are not 1 to 16 times %d KV heads",
                        args->query_heads, kv_heads);
    if (args->splits < 1)
        return kvs_fail(error, KVS_USAGE, executor->name, kernel, "%d splits are fewer than 1", args->splits);
    if ((uintptr_t)args->out % 16 != 0)
        return kvs_fail(error, KVS_USAGE, executor->name, kernel, "out does not begin at a multiple of 16 bytes");
    int launch = full ? executor->kernels->decode_attention_fp16(args, stream)
                      : executor->kernels->decode_attention(args, stream);
    return kvs_executor_launched(executor, launch, kernel, error);
}

kvs_status kvs_executor_copy(const kvs_executor *executor, const void *source, void *destination, size_t bytes,
                             void *stream, kvs_error *error) {
    if (bytes % 16 != 0)
        return kvs_fail(error, KVS_USAGE, executor->name, "copy", "%zu bytes are not a multiple of 16", bytes);
    return kvs_executor_launched(executor, executor->kernels->copy(source, destination, (int64_t)bytes, stream), "copy",
                                 error);
}
