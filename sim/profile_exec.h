/* profile_exec.h: the kernels of another program in a profile, beside ours. */
#ifndef KVS_SIM_PROFILE_EXEC_H
#define KVS_SIM_PROFILE_EXEC_H

#include "analysis/profile.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Runs the program (argv ends with NULL) and adds a measured launch for each of its kernels: the mean over the launches
 * that were counted, at most `limit` of each (0: all), so that it stands beside one launch of ours. Evaluates the
 * profile, with a note for what was left out. Where the profile is empty, it says where it comes from.
 * Fails as kvs_exec_profile_run does; what was counted before is in the profile all the same. *exit_status is the
 * program's. */
KVS_MUST_CHECK kvs_status kvs_profile_add_program(char *const *argv, int64_t limit, kvs_profile *profile,
                                                  int *exit_status, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
