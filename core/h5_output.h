/* h5_output.h: an HDF5 file under way that appears whole or not at all, even when the disk fills.
 *
 * HDF5 1.10 keeps what it could not write, tries again when the process exits, and crashes there. So the file is
 * written through a driver of our own that remembers the first failed write and from then on accepts everything: HDF5
 * closes in peace, and kvs_h5_finish reports the failure and removes the file. Hold kvs_h5_lock around these functions.
 */
#ifndef KVS_CORE_H5_OUTPUT_H
#define KVS_CORE_H5_OUTPUT_H

#include "core/file.h"
#include "core/h5.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Not to be moved while it is open. */
typedef struct kvs_h5_output {
    hid_t file, driver; /* file: to create groups and datasets in */
    int failure;        /* errno of the first write that failed, or 0 */
    kvs_output output;
} kvs_h5_output;

/* Creates the temporary file beside path. On failure nothing is left to close. */
KVS_MUST_CHECK kvs_status kvs_h5_create(const char *path, kvs_h5_output *output, kvs_error *error);
/* Fails if a write has failed so far: long work looks at it now and then. */
KVS_MUST_CHECK kvs_status kvs_h5_output_check(const kvs_h5_output *output, kvs_error *error);
/* Closes the file with all that is open in it, and renames it to its path; on failure removes it. */
KVS_MUST_CHECK kvs_status kvs_h5_finish(kvs_h5_output *output, kvs_error *error);
/* Closes and removes it. */
void kvs_h5_abandon(kvs_h5_output *output);

#ifdef __cplusplus
}
#endif
#endif
