/* config.h: which of CUPTI's counters a chip has for ours, their schedule of passes, and values from what they counted.
 * All on the host: a chip's name is enough. */
#ifndef KVS_ANALYSIS_CUPTI_CONFIG_H
#define KVS_ANALYSIS_CUPTI_CONFIG_H

#include "analysis/cupti/library.h"

#if defined(KVS_HAVE_CUPTI) && !defined(__cplusplus)

#include "analysis/counters.h"

typedef struct kvs_cupti_config {
    const kvs_cupti *cupti;
    CUpti_Profiler_Host_Object *host;
    kvs_counter_set collected, missing;
    const char *names[KVS_COUNTERS]; /* each once */
    int count;
    int name_of[KVS_COUNTERS]; /* of a counter, into names; -1: missing or not asked for */
    uint8_t *image;
    size_t image_bytes, passes;
} kvs_cupti_config;

/* For a chip ("GH100"); availability is what cuptiProfilerGetCounterAvailability gave, or NULL. Fails with KVS_DEVICE:
 * an unknown chip, or one that has none of the counters. Released with kvs_cupti_config_close, also after a failure. */
KVS_MUST_CHECK kvs_status kvs_cupti_config_open(kvs_cupti_config *config, const kvs_cupti *cupti, const char *chip,
                                                const uint8_t *availability, kvs_counter_set counters,
                                                kvs_error *error);
/* The values [KVS_COUNTERS] of a decoded range in our units; NaN where nothing was collected. */
KVS_MUST_CHECK kvs_status kvs_cupti_config_evaluate(const kvs_cupti_config *config, const uint8_t *data,
                                                    size_t data_bytes, size_t range, double *values, kvs_error *error);
void kvs_cupti_config_close(kvs_cupti_config *config);

#endif
#endif
