/* profile_predict.h: what the transaction model predicts of one launch, from the addresses that the SIMT runtime
 * records. */
#ifndef KVS_ANALYSIS_PROFILE_PREDICT_H
#define KVS_ANALYSIS_PROFILE_PREDICT_H

#include "analysis/profile.h"
#include "analysis/workload.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Runs a workload of the SIMT executor and fills the launch's predicted counters, its blocks and the profile's lines of
 * it. Records at most profile->sample_blocks blocks (0: all) and runs no others; counts are then scaled to the grid,
 * those of lines are not. Predicted:
 *   load_*, store_*, copy_*     requests, sectors and useful bytes (analysis/transactions.h)
 *   l2_read_, l2_write_sectors  sectors of loads and copies, and of stores, with nothing found in L1
 *   dram_read_bytes             32 bytes for each distinct sector that is read, but for those that the kernel wrote
 *                               whole itself, which it finds in L2; compulsory_written_bytes: each that is written
 *   shared_*_conflicts          of shared loads with ldmatrix, and of shared stores
 *   local_*, bulk_copy_bytes    0: the kernels have none in their source
 * Fails with KVS_DEVICE when the kernel breaks a rule of the SIMT runtime, with KVS_INPUT when memory is short. */
KVS_MUST_CHECK kvs_status kvs_profile_predict(kvs_profile *profile, int launch, const kvs_workload *workload,
                                              kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
