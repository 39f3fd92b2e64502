/* executor.h: where kernels run: a CUDA device, or the SIMT runtime on the host. */
#ifndef KVS_KERNELS_EXECUTOR_H
#define KVS_KERNELS_EXECUTOR_H

#include <stddef.h>

#include "core/status.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a device can say about itself. */
typedef struct kvs_executor_facts {
    char name[128];
    int compute_major, compute_minor, multiprocessors;
    size_t memory_bytes, free_bytes, l2_bytes;
} kvs_executor_facts;

/* Starts work number `iteration` on the stream. */
typedef kvs_status kvs_executor_work(void *context, int iteration, void *stream, kvs_error *error);

/* Every function fails with KVS_DEVICE. Copies have ended when they return. */
typedef struct kvs_executor {
    const char *name;
    const kvs_kernels *kernels;
    /* Looks for the device; it must have compute capability 8.0. */
    kvs_status (*open)(kvs_executor_facts *facts, kvs_error *error);
    /* Memory aligned to 256, with nothing in it; released with release (which takes NULL). `name` is for reports. */
    kvs_status (*allocate)(size_t bytes, const char *name, void **memory, kvs_error *error);
    void (*release)(void *memory);
    kvs_status (*upload)(void *to, const void *from, size_t bytes, kvs_error *error);
    kvs_status (*download)(void *to, const void *from, size_t bytes, kvs_error *error);
    kvs_status (*fill)(void *memory, int byte, size_t bytes, kvs_error *error);
    /* Waits for all work, and says whether it failed. */
    kvs_status (*synchronize)(kvs_error *error);
    /* Streams: what is put on one is done in order, and beside what is on others. Where streams is 1, only one thread
     * of the host may use the executor, and everything is done when a call returns. */
    int streams; /* that are worth having at once */
    kvs_status (*open_stream)(void **stream, kvs_error *error);
    void (*close_stream)(void *stream);
    kvs_status (*wait)(void *stream, kvs_error *error);
    /* Copies on a stream; the host's side is memory of allocate_host (else they may wait), which stays untouched until
     * the stream has been waited for. */
    kvs_status (*allocate_host)(size_t bytes, void **memory, kvs_error *error);
    void (*release_host)(void *memory);
    kvs_status (*send)(void *to, const void *from, size_t bytes, void *stream, kvs_error *error);
    kvs_status (*fetch)(void *to, const void *from, size_t bytes, void *stream, kvs_error *error);
    /* Runs work 0 .. sets-1 as one graph each, in turn; seconds [repeats] of single runs. NULL: cannot be timed. */
    kvs_status (*time)(kvs_executor_work *work, void *context, int sets, int repeats, double *seconds,
                       kvs_error *error);
} kvs_executor;

/* The device of that name. Fails with KVS_USAGE for an unknown one, with KVS_DEVICE for CUDA in a build without. */
KVS_MUST_CHECK kvs_status kvs_executor_find(const char *name, const kvs_executor **device, kvs_error *error);

/* The devices of this build, ended by NULL. */
extern const kvs_executor *const kvs_executors[];

/* For tests of the SIMT runtime as a device: how much memory of it, the device's and the host's side together, is not
 * released; and that the number-th allocation from now on fails (0: none does). */
int64_t kvs_simt_allocations(void);
void kvs_simt_fail_allocation(int64_t number);

/* What a kernel's launch returned, as a status. */
KVS_MUST_CHECK kvs_status kvs_executor_launched(const kvs_executor *executor, int launch, const char *kernel,
                                                kvs_error *error);

/* The kernels with their arguments checked: what they do not support is KVS_USAGE and names itself, what the launch
 * reports is KVS_DEVICE. */
KVS_MUST_CHECK kvs_status kvs_executor_quantize(const kvs_executor *executor, int values, const kvs_quantize_args *args,
                                                void *stream, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_executor_dequantize(const kvs_executor *executor, const kvs_dequantize_args *args,
                                                  void *stream, kvs_error *error);
/* decode_attention, or decode_attention_fp16 in a full-precision layout. */
KVS_MUST_CHECK kvs_status kvs_executor_attend(const kvs_executor *executor, const kvs_attention_args *args,
                                              void *stream, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_executor_copy(const kvs_executor *executor, const void *source, void *destination,
                                            size_t bytes, void *stream, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
