/* cupti.c: what kvscope calls of CUPTI and of the CUDA driver, without a GPU: checks the order of the calls and gives
 * numbers that a test can work out. From the environment:
 *   FAKE_CUPTI_FAIL=FUNCTION=CODE   that function fails with that code
 *   FAKE_CUPTI_SUPPORT=vgpu|vgpu-off|cc|conf|sli|cmp|wsl   the device may not be profiled, for that reason
 *   FAKE_CUPTI_RANGES=N             decoding finds N ranges
 *   FAKE_CUPTI_DROPPED=N            decoding drops N ranges
 * A metric's value is the length of its name, and 1000 for each range before. */
#include "tests/fake/cupti.h"

#include <cuda.h>
#include <cupti_callbacks.h>
#include <cupti_driver_cbid.h>
#include <cupti_profiler_host.h>
#include <cupti_profiler_target.h>
#include <cupti_range_profiler.h>
#include <cupti_target.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/cupti/launch.h"

enum { PASSES = 3, MAX_LOG = 1 << 14, IMAGE_BYTES = 64, MAX_RANGES = 4096 };

static struct fake {
    char log[MAX_LOG];
    int initialized, hosts, enabled, set, started, nested, turns, all, ranges;
    size_t max_ranges;
    CUpti_ProfilerReplayMode replay;
    CUpti_ProfilerRange range;
    char names[MAX_RANGES][16];
    const uint8_t *config;
    CUpti_CallbackFunc callback;
    void *userdata;
    size_t limit;
    float milliseconds;
} fake = {.limit = 64};

static int object; /* its address stands for every object */

/* Notes the call; the code that it shall fail with, or 0. */
static int called(const char *name) {
    const char *fail = getenv("FAKE_CUPTI_FAIL"), *version = strstr(name, "_v2"); /* as cuda.h renames some */
    size_t length = version == NULL ? strlen(name) : (size_t)(version - name), used = strlen(fake.log);
    if (used + length + 2 < MAX_LOG) (void)snprintf(fake.log + used, MAX_LOG - used, "%.*s ", (int)length, name);
    if (fail == NULL || strncmp(fail, name, length) != 0 || fail[length] != '=') return 0;
    return (int)strtol(fail + length + 1, NULL, 10);
}

#define ENTER()                                                                                                        \
    do {                                                                                                               \
        int code = called(__func__);                                                                                   \
        if (code != 0) return code;                                                                                    \
    } while (0)
#define REQUIRE(condition)                                                                                             \
    if (!(condition)) return CUPTI_ERROR_INVALID_OPERATION
#define WHOLE(type)                                                                                                    \
    if (p->structSize != type##_Params_STRUCT_SIZE || p->pPriv != NULL) return CUPTI_ERROR_INVALID_PARAMETER

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text == NULL ? otherwise : (int)strtol(text, NULL, 10);
}

const char *fake_cupti_log(void) {
    return fake.log;
}

void fake_cupti_forget(void) {
    size_t limit = fake.limit;
    memset(&fake, 0, sizeof fake);
    fake.limit = limit;
}

/* --- the driver ----------------------------------------------------------------------------------------------------
 */

CUresult cuInit(unsigned flags) {
    (void)flags;
    ENTER();
    return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult result, const char **text) {
    *text = result == CUDA_ERROR_NO_DEVICE ? "no device" : "a fake failure";
    return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext *context) {
    ENTER();
    *context = (CUcontext)(void *)&object;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice *device) {
    ENTER();
    *device = 0;
    return CUDA_SUCCESS;
}
CUresult cuCtxGetLimit(size_t *value, CUlimit limit) {
    ENTER();
    if (limit != CU_LIMIT_MAX_L2_FETCH_GRANULARITY) return CUDA_ERROR_INVALID_VALUE;
    *value = fake.limit;
    return CUDA_SUCCESS;
}
CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
    ENTER();
    if (limit != CU_LIMIT_MAX_L2_FETCH_GRANULARITY) return CUDA_ERROR_INVALID_VALUE;
    fake.limit = value;
    return CUDA_SUCCESS;
}
CUresult cuCtxSynchronize(void) {
    ENTER();
    return CUDA_SUCCESS;
}
CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
    (void)flags;
    ENTER();
    *stream = (CUstream)(void *)&object;
    return CUDA_SUCCESS;
}
CUresult cuStreamDestroy(CUstream stream) {
    (void)stream;
    return CUDA_SUCCESS;
}
CUresult cuStreamSynchronize(CUstream stream) {
    (void)stream;
    ENTER();
    return CUDA_SUCCESS;
}
CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *capture) {
    ENTER();
    *capture = stream != NULL ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}
CUresult cuEventCreate(CUevent *event, unsigned flags) {
    (void)flags;
    ENTER();
    *event = (CUevent)(void *)&object;
    return CUDA_SUCCESS;
}
CUresult cuEventDestroy(CUevent event) {
    (void)event;
    return CUDA_SUCCESS;
}
CUresult cuEventRecord(CUevent event, CUstream stream) {
    (void)event, (void)stream;
    ENTER();
    return CUDA_SUCCESS;
}
/* 1, 2, 3, ... milliseconds */
CUresult cuEventElapsedTime(float *milliseconds, CUevent begin, CUevent end) {
    (void)begin, (void)end;
    ENTER();
    *milliseconds = fake.milliseconds += 1.0f;
    return CUDA_SUCCESS;
}

/* --- CUPTI on the host ---------------------------------------------------------------------------------------------
 */

CUptiResult cuptiGetVersion(uint32_t *version) {
    *version = 130001;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiGetResultString(CUptiResult result, const char **text) {
    (void)result;
    *text = "a fake failure";
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerHostInitialize(CUpti_Profiler_Host_Initialize_Params *p) {
    ENTER();
    WHOLE(CUpti_Profiler_Host_Initialize);
    if (strcmp(p->pChipName, "GH100") != 0) return CUPTI_ERROR_INVALID_CHIP_NAME;
    p->pHostObject = (CUpti_Profiler_Host_Object *)(void *)&object;
    fake.hosts++;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerHostDeinitialize(CUpti_Profiler_Host_Deinitialize_Params *p) {
    ENTER();
    WHOLE(CUpti_Profiler_Host_Deinitialize);
    REQUIRE(fake.hosts-- > 0);
    return CUPTI_SUCCESS;
}
/* This chip has no TMA, and no other name for DRAM bytes. */
CUptiResult cuptiProfilerHostGetMetricProperties(CUpti_Profiler_Host_GetMetricProperties_Params *p) {
    ENTER();
    WHOLE(CUpti_Profiler_Host_GetMetricProperties);
    if (strstr(p->pMetricName, "tma") != NULL || strstr(p->pMetricName, "dram__bytes_op") != NULL)
        return CUPTI_ERROR_INVALID_METRIC_NAME;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerHostConfigAddMetrics(CUpti_Profiler_Host_ConfigAddMetrics_Params *p) {
    ENTER();
    WHOLE(CUpti_Profiler_Host_ConfigAddMetrics);
    for (size_t i = 0; i < p->numMetrics; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(p->ppMetricNames[i], p->ppMetricNames[j]) == 0) return CUPTI_ERROR_INVALID_PARAMETER;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerHostGetConfigImageSize(CUpti_Profiler_Host_GetConfigImageSize_Params *p) {
    ENTER();
    WHOLE(CUpti_Profiler_Host_GetConfigImageSize);
    p->configImageSize = IMAGE_BYTES;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerHostGetConfigImage(CUpti_Profiler_Host_GetConfigImage_Params *p) {
    ENTER();
    WHOLE(CUpti_Profiler_Host_GetConfigImage);
    memset(p->pConfigImage, 'c', p->configImageSize);
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerHostGetNumOfPasses(CUpti_Profiler_Host_GetNumOfPasses_Params *p) {
    ENTER();
    WHOLE(CUpti_Profiler_Host_GetNumOfPasses);
    if (p->pConfigImage[0] != 'c') return CUPTI_ERROR_INVALID_PARAMETER;
    p->numOfPasses = PASSES;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerHostEvaluateToGpuValues(CUpti_Profiler_Host_EvaluateToGpuValues_Params *p) {
    ENTER();
    WHOLE(CUpti_Profiler_Host_EvaluateToGpuValues);
    REQUIRE(p->pCounterDataImage[0] == 'd' && p->rangeIndex < (size_t)fake.ranges);
    for (size_t i = 0; i < p->numMetrics; i++)
        p->pMetricValues[i] = (double)strlen(p->ppMetricNames[i]) + 1000.0 * (double)p->rangeIndex;
    return CUPTI_SUCCESS;
}

/* --- CUPTI on the device -------------------------------------------------------------------------------------------
 */

CUptiResult cuptiProfilerInitialize(CUpti_Profiler_Initialize_Params *p) {
    ENTER();
    WHOLE(CUpti_Profiler_Initialize);
    fake.initialized = 1;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerDeInitialize(CUpti_Profiler_DeInitialize_Params *p) {
    ENTER();
    WHOLE(CUpti_Profiler_DeInitialize);
    fake.initialized = 0;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerDeviceSupported(CUpti_Profiler_DeviceSupported_Params *p) {
    const char *why = getenv("FAKE_CUPTI_SUPPORT");
    const CUpti_Profiler_Support_Level yes = CUPTI_PROFILER_CONFIGURATION_SUPPORTED,
                                       no = CUPTI_PROFILER_CONFIGURATION_UNSUPPORTED;
    ENTER();
    WHOLE(CUpti_Profiler_DeviceSupported);
    REQUIRE(fake.initialized && p->api == CUPTI_PROFILER_RANGE_PROFILING);
    p->isSupported = p->architecture = p->sli = p->vGpu = p->confidentialCompute = p->cmp = p->wsl = yes;
    if (why == NULL) return CUPTI_SUCCESS;
    p->isSupported = no;
    if (strcmp(why, "cc") == 0) p->architecture = no;
    if (strcmp(why, "sli") == 0) p->sli = no;
    if (strcmp(why, "vgpu") == 0) p->vGpu = no;
    if (strcmp(why, "vgpu-off") == 0) p->vGpu = CUPTI_PROFILER_CONFIGURATION_DISABLED;
    if (strcmp(why, "conf") == 0) p->confidentialCompute = no;
    if (strcmp(why, "cmp") == 0) p->cmp = no;
    if (strcmp(why, "wsl") == 0) p->wsl = no;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiProfilerGetCounterAvailability(CUpti_Profiler_GetCounterAvailability_Params *p) {
    ENTER();
    WHOLE(CUpti_Profiler_GetCounterAvailability);
    REQUIRE(fake.initialized && !fake.enabled);
    if (p->pCounterAvailabilityImage == NULL) p->counterAvailabilityImageSize = IMAGE_BYTES;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiDeviceGetChipName(CUpti_Device_GetChipName_Params *p) {
    ENTER();
    WHOLE(CUpti_Device_GetChipName);
    p->pChipName = "GH100";
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerEnable(CUpti_RangeProfiler_Enable_Params *p) {
    ENTER();
    WHOLE(CUpti_RangeProfiler_Enable);
    REQUIRE(fake.initialized && !fake.enabled);
    fake.enabled = 1;
    fake.set = 0;
    p->pRangeProfilerObject = (CUpti_RangeProfiler_Object *)(void *)&object;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerDisable(CUpti_RangeProfiler_Disable_Params *p) {
    ENTER();
    WHOLE(CUpti_RangeProfiler_Disable);
    REQUIRE(fake.enabled);
    fake.enabled = fake.started = fake.nested = 0;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerGetCounterDataSize(CUpti_RangeProfiler_GetCounterDataSize_Params *p) {
    ENTER();
    WHOLE(CUpti_RangeProfiler_GetCounterDataSize);
    REQUIRE(fake.enabled && p->maxNumRangeTreeNodes >= p->maxNumOfRanges);
    p->counterDataSize = IMAGE_BYTES;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerCounterDataImageInitialize(CUpti_RangeProfiler_CounterDataImage_Initialize_Params *p) {
    ENTER();
    WHOLE(CUpti_RangeProfiler_CounterDataImage_Initialize);
    for (size_t i = 0; i < p->counterDataSize; i++) REQUIRE(p->pCounterData[i] == 0);
    p->pCounterData[0] = 'i';
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerSetConfig(CUpti_RangeProfiler_SetConfig_Params *p) {
    ENTER();
    WHOLE(CUpti_RangeProfiler_SetConfig);
    REQUIRE(fake.enabled && !fake.started && p->pCounterDataImage[0] == 'i' && p->pConfig[0] == 'c');
    REQUIRE(p->numNestingLevels == 1 && p->minNestingLevel == 1 && p->maxRangesPerPass <= MAX_RANGES);
    REQUIRE((p->range == CUPTI_AutoRange) == (p->replayMode == CUPTI_KernelReplay));
    fake.set = 1;
    fake.turns = fake.all = fake.ranges = 0;
    fake.range = p->range;
    fake.replay = p->replayMode;
    fake.max_ranges = p->maxRangesPerPass;
    fake.config = p->pConfig;
    p->pCounterDataImage[0] = 'd';
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerStart(CUpti_RangeProfiler_Start_Params *p) {
    ENTER();
    WHOLE(CUpti_RangeProfiler_Start);
    REQUIRE(fake.set && !fake.started && !fake.all);
    fake.started = 1;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerPushRange(CUpti_RangeProfiler_PushRange_Params *p) {
    ENTER();
    WHOLE(CUpti_RangeProfiler_PushRange);
    REQUIRE(fake.started && fake.nested == 0 && fake.range == CUPTI_UserRange);
    fake.nested++;
    if (fake.turns > 0) return CUPTI_SUCCESS;
    REQUIRE((size_t)fake.ranges < fake.max_ranges);
    (void)snprintf(fake.names[fake.ranges++], sizeof fake.names[0], "%s", p->pRangeName);
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerPopRange(CUpti_RangeProfiler_PopRange_Params *p) {
    ENTER();
    WHOLE(CUpti_RangeProfiler_PopRange);
    REQUIRE(fake.nested == 1);
    fake.nested = 0;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerStop(CUpti_RangeProfiler_Stop_Params *p) {
    ENTER();
    WHOLE(CUpti_RangeProfiler_Stop);
    REQUIRE(fake.started && fake.nested == 0);
    fake.started = 0;
    fake.turns++;
    fake.all = fake.replay == CUPTI_KernelReplay || fake.turns == PASSES;
    if (getenv("FAKE_CUPTI_ENDLESS") != NULL) fake.all = 0;
    p->isAllPassSubmitted = (uint8_t)fake.all;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerDecodeData(CUpti_RangeProfiler_DecodeData_Params *p) {
    ENTER();
    WHOLE(CUpti_RangeProfiler_DecodeData);
    REQUIRE(fake.all && fake.config[0] == 'c');
    p->numOfRangeDropped = (size_t)number("FAKE_CUPTI_DROPPED", 0);
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerGetCounterDataInfo(CUpti_RangeProfiler_GetCounterDataInfo_Params *p) {
    ENTER();
    WHOLE(CUpti_RangeProfiler_GetCounterDataInfo);
    p->numTotalRanges = (size_t)number("FAKE_CUPTI_RANGES", fake.ranges);
    return CUPTI_SUCCESS;
}
CUptiResult cuptiRangeProfilerCounterDataGetRangeInfo(CUpti_RangeProfiler_CounterData_GetRangeInfo_Params *p) {
    ENTER();
    WHOLE(CUpti_RangeProfiler_CounterData_GetRangeInfo);
    REQUIRE(p->rangeIndex < (size_t)fake.ranges && strcmp(p->rangeDelimiter, "/") == 0);
    p->rangeName = fake.names[p->rangeIndex];
    return CUPTI_SUCCESS;
}

/* --- callbacks, as a driver makes them -----------------------------------------------------------------------------
 */

CUptiResult cuptiSubscribe(CUpti_SubscriberHandle *subscriber, CUpti_CallbackFunc callback, void *userdata) {
    ENTER();
    *subscriber = (CUpti_SubscriberHandle)(void *)&object;
    fake.callback = callback;
    fake.userdata = userdata;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiUnsubscribe(CUpti_SubscriberHandle subscriber) {
    (void)subscriber;
    ENTER();
    fake.callback = NULL;
    return CUPTI_SUCCESS;
}
CUptiResult cuptiEnableCallback(uint32_t enable, CUpti_SubscriberHandle subscriber, CUpti_CallbackDomain domain,
                                CUpti_CallbackId id) {
    (void)enable, (void)subscriber, (void)domain, (void)id;
    ENTER();
    return CUPTI_SUCCESS;
}

/* Kernels run one range each, unless they are captured. */
static void call_driver(CUpti_CallbackId id, const char *function, const char *kernel, const void *params, int ranges) {
    CUpti_CallbackData data = {.callbackSite = CUPTI_API_ENTER,
                               .functionName = function,
                               .functionParams = params,
                               .symbolName = kernel,
                               .context = (CUcontext)(void *)&object};
    if (fake.callback != NULL) fake.callback(fake.userdata, CUPTI_CB_DOMAIN_DRIVER_API, id, &data);
    for (; ranges > 0 && fake.started && (size_t)fake.ranges < fake.max_ranges; ranges--) {
        (void)snprintf(fake.names[fake.ranges], sizeof fake.names[0], "%d", fake.ranges);
        fake.ranges++;
    }
    data.callbackSite = CUPTI_API_EXIT;
    if (fake.callback != NULL) fake.callback(fake.userdata, CUPTI_CB_DOMAIN_DRIVER_API, id, &data);
}

void fake_cuda_launch(const char *kernel) {
    kvs_launch_params params = {.stream = NULL};
    call_driver(CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel, "cuLaunchKernel", kernel, &params, 1);
}

void fake_cuda_capture(const char *kernel) {
    CUlaunchConfig config = {.hStream = (CUstream)(void *)&object};
    kvs_launch_ex_params params = {.config = &config};
    call_driver(CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx, "cuLaunchKernelEx", kernel, &params, 0);
}

void fake_cuda_graph(void) {
    call_driver(CUPTI_DRIVER_TRACE_CBID_cuGraphLaunch, "cuGraphLaunch", NULL, NULL, 2);
}
