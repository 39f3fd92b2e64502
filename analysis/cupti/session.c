#include "analysis/cupti/session.h"

#include <stdlib.h>
#include <string.h>

/* The answers that say no are told apart as the errors that the calls after would give. */
static kvs_status check_support(const kvs_cupti *cupti, CUdevice device, kvs_error *error) {
    CUpti_Profiler_DeviceSupported_Params ask = {.structSize = CUpti_Profiler_DeviceSupported_Params_STRUCT_SIZE,
                                                 .cuDevice = device,
                                                 .api = CUPTI_PROFILER_RANGE_PROFILING};
    KVS_CUPTI_TRY(cupti, cuptiProfilerDeviceSupported, &ask);
    if (ask.isSupported == CUPTI_PROFILER_CONFIGURATION_SUPPORTED) return KVS_OK;
    const struct {
        CUpti_Profiler_Support_Level level;
        CUptiResult meaning;
    } reasons[] = {
        {ask.architecture, CUPTI_ERROR_NOT_SUPPORTED},
        {ask.vGpu, ask.vGpu == CUPTI_PROFILER_CONFIGURATION_DISABLED
                       ? CUPTI_ERROR_VIRTUALIZED_DEVICE_INSUFFICIENT_PRIVILEGES
                       : CUPTI_ERROR_VIRTUALIZED_DEVICE_NOT_SUPPORTED},
        {ask.confidentialCompute, CUPTI_ERROR_CONFIDENTIAL_COMPUTING_NOT_SUPPORTED},
        {ask.cmp, CUPTI_ERROR_CMP_DEVICE_NOT_SUPPORTED},
        {ask.sli, CUPTI_ERROR_SLI_DEVICE_NOT_SUPPORTED},
        {ask.wsl, CUPTI_ERROR_WSL_DEVICE_NOT_SUPPORTED},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].level == CUPTI_PROFILER_CONFIGURATION_UNSUPPORTED ||
            reasons[i].level == CUPTI_PROFILER_CONFIGURATION_DISABLED)
            return kvs_cupti_done(cupti, reasons[i].meaning, "cuptiProfilerDeviceSupported", error);
    return kvs_cupti_done(cupti, CUPTI_ERROR_NOT_SUPPORTED, "cuptiProfilerDeviceSupported", error);
}

static kvs_status availability_of(const kvs_cupti *cupti, CUcontext context, uint8_t **image, kvs_error *error) {
    CUpti_Profiler_GetCounterAvailability_Params ask = {
        .structSize = CUpti_Profiler_GetCounterAvailability_Params_STRUCT_SIZE, .ctx = context};
    KVS_CUPTI_TRY(cupti, cuptiProfilerGetCounterAvailability, &ask);
    *image = calloc(1, ask.counterAvailabilityImageSize);
    if (*image == NULL) return kvs_fail(error, KVS_INPUT, "cupti", "availability image", "out of memory");
    ask.pCounterAvailabilityImage = *image;
    KVS_CUPTI_TRY(cupti, cuptiProfilerGetCounterAvailability, &ask);
    return KVS_OK;
}

kvs_status kvs_cupti_session_open(kvs_cupti_session *session, const kvs_cupti *cupti, CUcontext context,
                                  CUdevice device, kvs_counter_set counters, kvs_error *error) {
    CUpti_Profiler_Initialize_Params begin = {.structSize = CUpti_Profiler_Initialize_Params_STRUCT_SIZE};
    CUpti_Device_GetChipName_Params chip = {.structSize = CUpti_Device_GetChipName_Params_STRUCT_SIZE,
                                            .deviceIndex = (size_t)device};
    uint8_t *availability = NULL;
    *session = (kvs_cupti_session){.cupti = cupti, .context = context};
    KVS_CUPTI_TRY(cupti, cuptiProfilerInitialize, &begin);
    KVS_TRY(check_support(cupti, device, error));
    KVS_CUPTI_TRY(cupti, cuptiDeviceGetChipName, &chip);
    for (size_t i = 0; i + 1 < sizeof session->chip && chip.pChipName[i] != '\0'; i++)
        session->chip[i] = chip.pChipName[i];
    kvs_status status = availability_of(cupti, context, &availability, error);
    if (status == KVS_OK)
        status = kvs_cupti_config_open(&session->config, cupti, session->chip, availability, counters, error);
    free(availability);
    return status;
}

void kvs_cupti_session_close(kvs_cupti_session *session) {
    kvs_cupti_session_disable(session);
    kvs_cupti_config_close(&session->config);
    *session = (kvs_cupti_session){.cupti = NULL};
}

kvs_status kvs_cupti_session_enable(kvs_cupti_session *session, size_t max_ranges, kvs_error *error) {
    const kvs_cupti *cupti = session->cupti;
    CUpti_RangeProfiler_Enable_Params enable = {.structSize = CUpti_RangeProfiler_Enable_Params_STRUCT_SIZE,
                                                .ctx = session->context};
    KVS_CUPTI_TRY(cupti, cuptiRangeProfilerEnable, &enable);
    session->profiler = enable.pRangeProfilerObject;
    session->max_ranges = max_ranges;
    CUpti_RangeProfiler_GetCounterDataSize_Params size = {.structSize =
                                                              CUpti_RangeProfiler_GetCounterDataSize_Params_STRUCT_SIZE,
                                                          .pRangeProfilerObject = session->profiler,
                                                          .pMetricNames = session->config.names,
                                                          .numMetrics = (size_t)session->config.count,
                                                          .maxNumOfRanges = max_ranges,
                                                          .maxNumRangeTreeNodes = (uint32_t)max_ranges};
    KVS_CUPTI_TRY(cupti, cuptiRangeProfilerGetCounterDataSize, &size);
    session->data_bytes = size.counterDataSize;
    session->data = malloc(session->data_bytes);
    if (session->data == NULL) return kvs_fail(error, KVS_INPUT, "cupti", "counter data image", "out of memory");
    return KVS_OK;
}

/* Disabling fails only for an object that CUPTI does not know. */
void kvs_cupti_session_disable(kvs_cupti_session *session) {
    CUpti_RangeProfiler_Disable_Params disable = {.structSize = CUpti_RangeProfiler_Disable_Params_STRUCT_SIZE,
                                                  .pRangeProfilerObject = session->profiler};
    if (session->profiler != NULL) (void)session->cupti->cuptiRangeProfilerDisable(&disable);
    session->profiler = NULL;
    free(session->data);
    session->data = NULL;
}

kvs_status kvs_cupti_session_set(kvs_cupti_session *session, CUpti_ProfilerRange range, CUpti_ProfilerReplayMode replay,
                                 kvs_error *error) {
    CUpti_RangeProfiler_CounterDataImage_Initialize_Params empty = {
        .structSize = CUpti_RangeProfiler_CounterDataImage_Initialize_Params_STRUCT_SIZE,
        .pRangeProfilerObject = session->profiler,
        .counterDataSize = session->data_bytes,
        .pCounterData = session->data};
    CUpti_RangeProfiler_SetConfig_Params set = {.structSize = CUpti_RangeProfiler_SetConfig_Params_STRUCT_SIZE,
                                                .pRangeProfilerObject = session->profiler,
                                                .configSize = session->config.image_bytes,
                                                .pConfig = session->config.image,
                                                .counterDataImageSize = session->data_bytes,
                                                .pCounterDataImage = session->data,
                                                .range = range,
                                                .replayMode = replay,
                                                .maxRangesPerPass = session->max_ranges,
                                                .numNestingLevels = 1,
                                                .minNestingLevel = 1,
                                                .passIndex = 0,
                                                .targetNestingLevel = 1};
    memset(session->data, 0, session->data_bytes);
    KVS_CUPTI_TRY(session->cupti, cuptiRangeProfilerCounterDataImageInitialize, &empty);
    KVS_CUPTI_TRY(session->cupti, cuptiRangeProfilerSetConfig, &set);
    return KVS_OK;
}

kvs_status kvs_cupti_session_start(kvs_cupti_session *session, kvs_error *error) {
    CUpti_RangeProfiler_Start_Params start = {.structSize = CUpti_RangeProfiler_Start_Params_STRUCT_SIZE,
                                              .pRangeProfilerObject = session->profiler};
    KVS_CUPTI_TRY(session->cupti, cuptiRangeProfilerStart, &start);
    return KVS_OK;
}

kvs_status kvs_cupti_session_push(kvs_cupti_session *session, const char *range, kvs_error *error) {
    CUpti_RangeProfiler_PushRange_Params push = {.structSize = CUpti_RangeProfiler_PushRange_Params_STRUCT_SIZE,
                                                 .pRangeProfilerObject = session->profiler,
                                                 .pRangeName = range};
    KVS_CUPTI_TRY(session->cupti, cuptiRangeProfilerPushRange, &push);
    return KVS_OK;
}

kvs_status kvs_cupti_session_pop(kvs_cupti_session *session, kvs_error *error) {
    CUpti_RangeProfiler_PopRange_Params pop = {.structSize = CUpti_RangeProfiler_PopRange_Params_STRUCT_SIZE,
                                               .pRangeProfilerObject = session->profiler};
    KVS_CUPTI_TRY(session->cupti, cuptiRangeProfilerPopRange, &pop);
    return KVS_OK;
}

kvs_status kvs_cupti_session_stop(kvs_cupti_session *session, int *all, kvs_error *error) {
    CUpti_RangeProfiler_Stop_Params stop = {.structSize = CUpti_RangeProfiler_Stop_Params_STRUCT_SIZE,
                                            .pRangeProfilerObject = session->profiler};
    KVS_CUPTI_TRY(session->cupti, cuptiRangeProfilerStop, &stop);
    *all = stop.isAllPassSubmitted != 0;
    return KVS_OK;
}

kvs_status kvs_cupti_session_decode(kvs_cupti_session *session, size_t *ranges, kvs_error *error) {
    CUpti_RangeProfiler_DecodeData_Params decode = {.structSize = CUpti_RangeProfiler_DecodeData_Params_STRUCT_SIZE,
                                                    .pRangeProfilerObject = session->profiler};
    CUpti_RangeProfiler_GetCounterDataInfo_Params info = {.structSize =
                                                              CUpti_RangeProfiler_GetCounterDataInfo_Params_STRUCT_SIZE,
                                                          .pCounterDataImage = session->data,
                                                          .counterDataImageSize = session->data_bytes};
    KVS_CUPTI_TRY(session->cupti, cuptiRangeProfilerDecodeData, &decode);
    if (decode.numOfRangeDropped > 0)
        return kvs_fail(error, KVS_DEVICE, "cupti", "cuptiRangeProfilerDecodeData",
                        "%zu ranges were dropped, so the counts are not whole", decode.numOfRangeDropped);
    KVS_CUPTI_TRY(session->cupti, cuptiRangeProfilerGetCounterDataInfo, &info);
    *ranges = info.numTotalRanges;
    return KVS_OK;
}

kvs_status kvs_cupti_session_values(kvs_cupti_session *session, size_t range, const char **name, double *values,
                                    kvs_error *error) {
    CUpti_RangeProfiler_CounterData_GetRangeInfo_Params info = {
        .structSize = CUpti_RangeProfiler_CounterData_GetRangeInfo_Params_STRUCT_SIZE,
        .pCounterDataImage = session->data,
        .counterDataImageSize = session->data_bytes,
        .rangeIndex = range,
        .rangeDelimiter = "/"};
    KVS_CUPTI_TRY(session->cupti, cuptiRangeProfilerCounterDataGetRangeInfo, &info);
    *name = info.rangeName == NULL ? "" : info.rangeName;
    return kvs_cupti_config_evaluate(&session->config, session->data, session->data_bytes, range, values, error);
}
