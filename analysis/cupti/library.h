/* library.h: CUPTI and the CUDA driver, loaded at run time, so that kvscope starts where neither is there.
 *
 * Empty in a build without CUPTI's headers (KVS_HAVE_CUPTI). cupti_profiler_host.h includes <string>, which C has not:
 * the Makefile provides an empty one, last on the include path. */
#ifndef KVS_ANALYSIS_CUPTI_LIBRARY_H
#define KVS_ANALYSIS_CUPTI_LIBRARY_H

#if defined(KVS_HAVE_CUPTI) && !defined(__cplusplus)

#include <cuda.h>
#include <cupti_callbacks.h>
#include <cupti_profiler_host.h>
#include <cupti_profiler_target.h>
#include <cupti_range_profiler.h>
#include <cupti_target.h>
#include <cupti_version.h>

#include "core/status.h"

/* Every function that is called, once. */
#define KVS_CUPTI_HOST_FUNCTIONS(X)                                                                                    \
    X(cuptiGetVersion)                                                                                                 \
    X(cuptiGetResultString)                                                                                            \
    X(cuptiProfilerHostInitialize)                                                                                     \
    X(cuptiProfilerHostDeinitialize)                                                                                   \
    X(cuptiProfilerHostGetMetricProperties)                                                                            \
    X(cuptiProfilerHostConfigAddMetrics)                                                                               \
    X(cuptiProfilerHostGetConfigImageSize)                                                                             \
    X(cuptiProfilerHostGetConfigImage)                                                                                 \
    X(cuptiProfilerHostGetNumOfPasses)                                                                                 \
    X(cuptiProfilerHostEvaluateToGpuValues)
#define KVS_CUPTI_TARGET_FUNCTIONS(X)                                                                                  \
    X(cuptiProfilerInitialize)                                                                                         \
    X(cuptiProfilerDeInitialize)                                                                                       \
    X(cuptiProfilerDeviceSupported)                                                                                    \
    X(cuptiProfilerGetCounterAvailability)                                                                             \
    X(cuptiDeviceGetChipName)                                                                                          \
    X(cuptiRangeProfilerEnable)                                                                                        \
    X(cuptiRangeProfilerDisable)                                                                                       \
    X(cuptiRangeProfilerGetCounterDataSize)                                                                            \
    X(cuptiRangeProfilerCounterDataImageInitialize)                                                                    \
    X(cuptiRangeProfilerSetConfig)                                                                                     \
    X(cuptiRangeProfilerStart)                                                                                         \
    X(cuptiRangeProfilerPushRange)                                                                                     \
    X(cuptiRangeProfilerPopRange)                                                                                      \
    X(cuptiRangeProfilerStop)                                                                                          \
    X(cuptiRangeProfilerDecodeData)                                                                                    \
    X(cuptiRangeProfilerGetCounterDataInfo)                                                                            \
    X(cuptiRangeProfilerCounterDataGetRangeInfo)                                                                       \
    X(cuptiSubscribe)                                                                                                  \
    X(cuptiUnsubscribe)                                                                                                \
    X(cuptiEnableCallback)
#define KVS_CUDA_DRIVER_FUNCTIONS(X)                                                                                   \
    X(cuInit)                                                                                                          \
    X(cuGetErrorString)                                                                                                \
    X(cuCtxGetCurrent)                                                                                                 \
    X(cuCtxGetDevice)                                                                                                  \
    X(cuCtxGetLimit)                                                                                                   \
    X(cuCtxSetLimit)                                                                                                   \
    X(cuCtxSynchronize)                                                                                                \
    X(cuStreamCreate)                                                                                                  \
    X(cuStreamDestroy)                                                                                                 \
    X(cuStreamIsCapturing)                                                                                             \
    X(cuStreamSynchronize)                                                                                             \
    X(cuEventCreate)                                                                                                   \
    X(cuEventDestroy)                                                                                                  \
    X(cuEventRecord)                                                                                                   \
    X(cuEventElapsedTime)

/* A field of each function's name and type. (cuda.h renames some with macros; fields and symbols follow.) */
#define KVS_FUNCTION_FIELD(name) __typeof__(&name) name;
typedef struct kvs_cupti {
    void *handles[3];
    KVS_CUPTI_HOST_FUNCTIONS(KVS_FUNCTION_FIELD)
    KVS_CUPTI_TARGET_FUNCTIONS(KVS_FUNCTION_FIELD)
    KVS_CUDA_DRIVER_FUNCTIONS(KVS_FUNCTION_FIELD)
} kvs_cupti;

/* Loads libcupti (NULL: $KVSCOPE_CUPTI, or where CUDA puts it). Enough for the host's part: which counters a chip has,
 * and in how many passes. Fails with KVS_DEVICE and the remedy. */
KVS_MUST_CHECK kvs_status kvs_cupti_load(kvs_cupti *cupti, const char *path, kvs_error *error);
/* Then the driver as well (NULL: $KVSCOPE_CUDA_DRIVER, or libcuda.so.1), without initializing it. */
KVS_MUST_CHECK kvs_status kvs_cupti_load_driver(kvs_cupti *cupti, const char *path, kvs_error *error);
/* The libraries stay loaded where a driver was initialized: CUPTI hooks into it. */
void kvs_cupti_unload(kvs_cupti *cupti);

/* What CUPTI or the driver returned, as a status: KVS_DEVICE, with the remedy where there is one. `call` is what
 * failed, for the report. */
KVS_MUST_CHECK kvs_status kvs_cupti_done(const kvs_cupti *cupti, CUptiResult result, const char *call,
                                         kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_driver_done(const kvs_cupti *cupti, CUresult result, const char *call, kvs_error *error);

/* Calls a function by its name and hands a failure on. */
#define KVS_CUPTI_TRY(cupti, function, ...)                                                                            \
    KVS_TRY(kvs_cupti_done(cupti, (cupti)->function(__VA_ARGS__), #function, error))
#define KVS_DRIVER_TRY(cupti, function, ...)                                                                           \
    KVS_TRY(kvs_driver_done(cupti, (cupti)->function(__VA_ARGS__), #function, error))

#endif
#endif
