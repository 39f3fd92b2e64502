/* exec_read.h: what the injected library left, back into a profile. */
#ifndef KVS_ANALYSIS_EXEC_READ_H
#define KVS_ANALYSIS_EXEC_READ_H

#include "analysis/exec_profile.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Adds the file of one process. A failure that the file tells of (the first, of several processes) is returned as
 * KVS_DEVICE after what was counted before it was added; a file that is not one of these is KVS_INPUT. */
KVS_MUST_CHECK kvs_status kvs_exec_read(const char *path, kvs_exec_profile *profile, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
