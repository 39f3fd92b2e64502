#include "analysis/cupti/config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The first of a counter's names that the chip has; NULL: none. */
static const char *name_on_chip(const kvs_cupti_config *config, const kvs_counter_type *type) {
    for (int i = 0; i < KVS_COUNTER_NAMES && type->cupti[i] != NULL; i++) {
        CUpti_Profiler_Host_GetMetricProperties_Params look = {
            .structSize = CUpti_Profiler_Host_GetMetricProperties_Params_STRUCT_SIZE,
            .pHostObject = config->host,
            .pMetricName = type->cupti[i]};
        if (config->cupti->cuptiProfilerHostGetMetricProperties(&look) == CUPTI_SUCCESS) return type->cupti[i];
    }
    return NULL;
}

static void choose_names(kvs_cupti_config *config, kvs_counter_set counters) {
    for (int i = 0; i < KVS_COUNTERS; i++) {
        config->name_of[i] = -1;
        if ((counters & KVS_COUNTER_BIT(i)) == 0) continue;
        const char *name = name_on_chip(config, &kvs_counter_types[i]);
        if (name == NULL) {
            config->missing |= KVS_COUNTER_BIT(i);
            continue;
        }
        int at = 0;
        while (at < config->count && strcmp(config->names[at], name) != 0) at++;
        if (at == config->count) config->names[config->count++] = name;
        config->name_of[i] = at;
        config->collected |= KVS_COUNTER_BIT(i);
    }
}

static kvs_status schedule(kvs_cupti_config *config, kvs_error *error) {
    const kvs_cupti *cupti = config->cupti;
    CUpti_Profiler_Host_ConfigAddMetrics_Params add = {.structSize =
                                                           CUpti_Profiler_Host_ConfigAddMetrics_Params_STRUCT_SIZE,
                                                       .pHostObject = config->host,
                                                       .ppMetricNames = config->names,
                                                       .numMetrics = (size_t)config->count};
    CUpti_Profiler_Host_GetConfigImageSize_Params size = {
        .structSize = CUpti_Profiler_Host_GetConfigImageSize_Params_STRUCT_SIZE, .pHostObject = config->host};
    KVS_CUPTI_TRY(cupti, cuptiProfilerHostConfigAddMetrics, &add);
    KVS_CUPTI_TRY(cupti, cuptiProfilerHostGetConfigImageSize, &size);
    config->image_bytes = size.configImageSize;
    config->image = calloc(1, config->image_bytes);
    if (config->image == NULL) return kvs_fail(error, KVS_INPUT, "cupti", "config image", "out of memory");
    CUpti_Profiler_Host_GetConfigImage_Params get = {.structSize =
                                                         CUpti_Profiler_Host_GetConfigImage_Params_STRUCT_SIZE,
                                                     .pHostObject = config->host,
                                                     .configImageSize = config->image_bytes,
                                                     .pConfigImage = config->image};
    CUpti_Profiler_Host_GetNumOfPasses_Params passes = {.structSize =
                                                            CUpti_Profiler_Host_GetNumOfPasses_Params_STRUCT_SIZE,
                                                        .configImageSize = config->image_bytes,
                                                        .pConfigImage = config->image};
    KVS_CUPTI_TRY(cupti, cuptiProfilerHostGetConfigImage, &get);
    KVS_CUPTI_TRY(cupti, cuptiProfilerHostGetNumOfPasses, &passes);
    config->passes = passes.numOfPasses;
    return KVS_OK;
}

kvs_status kvs_cupti_config_open(kvs_cupti_config *config, const kvs_cupti *cupti, const char *chip,
                                 const uint8_t *availability, kvs_counter_set counters, kvs_error *error) {
    CUpti_Profiler_Host_Initialize_Params begin = {.structSize = CUpti_Profiler_Host_Initialize_Params_STRUCT_SIZE,
                                                   .profilerType = CUPTI_PROFILER_TYPE_RANGE_PROFILER,
                                                   .pChipName = chip,
                                                   .pCounterAvailabilityImage = availability};
    *config = (kvs_cupti_config){.cupti = cupti};
    KVS_CUPTI_TRY(cupti, cuptiProfilerHostInitialize, &begin);
    config->host = begin.pHostObject;
    choose_names(config, counters);
    if (config->count == 0)
        return kvs_fail(error, KVS_DEVICE, "cupti", chip, "this chip has none of the counters that were asked for");
    return schedule(config, error);
}

kvs_status kvs_cupti_config_evaluate(const kvs_cupti_config *config, const uint8_t *data, size_t data_bytes,
                                     size_t range, double *values, kvs_error *error) {
    double raw[KVS_COUNTERS] = {0};
    const char *names[KVS_COUNTERS];
    memcpy(names, config->names, sizeof names);
    CUpti_Profiler_Host_EvaluateToGpuValues_Params evaluate = {
        .structSize = CUpti_Profiler_Host_EvaluateToGpuValues_Params_STRUCT_SIZE,
        .pHostObject = config->host,
        .pCounterDataImage = data,
        .counterDataImageSize = data_bytes,
        .rangeIndex = range,
        .ppMetricNames = names,
        .numMetrics = (size_t)config->count,
        .pMetricValues = raw};
    KVS_CUPTI_TRY(config->cupti, cuptiProfilerHostEvaluateToGpuValues, &evaluate);
    for (int i = 0; i < KVS_COUNTERS; i++)
        values[i] = config->name_of[i] < 0 ? (double)NAN : raw[config->name_of[i]] * kvs_counter_types[i].scale;
    return KVS_OK;
}

/* Deinitializing fails only for an object that CUPTI does not know. */
void kvs_cupti_config_close(kvs_cupti_config *config) {
    CUpti_Profiler_Host_Deinitialize_Params end = {.structSize = CUpti_Profiler_Host_Deinitialize_Params_STRUCT_SIZE,
                                                   .pHostObject = config->host};
    if (config->host != NULL) (void)config->cupti->cuptiProfilerHostDeinitialize(&end);
    free(config->image);
    *config = (kvs_cupti_config){.cupti = NULL};
}
