/* profile_internal.h: what the readers of a profile share. */
#ifndef KVS_ANALYSIS_PROFILE_INTERNAL_H
#define KVS_ANALYSIS_PROFILE_INTERNAL_H

#include "analysis/profile.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Takes a metric that is a counter into the launch's counters; the others are made again. */
void kvs_profile_adopt(kvs_profile_launch *launch, const kvs_profile_metric *metric);

/* An empty line more, or NULL with KVS_INPUT in the error. */
kvs_profile_line *kvs_profile_new_line(kvs_profile *profile, kvs_error *error);

/* What its readers rely on: bounds, names that are there. */
KVS_MUST_CHECK kvs_status kvs_profile_validate(const kvs_profile *profile, const char *path, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
