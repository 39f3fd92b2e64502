/* h5.h: HDF5 with this project's errors and suspicion: nothing a file says is believed before it is checked.
 *
 * Only hard links are followed and no other file is ever opened (no soft or external links, no virtual datasets, no
 * external storage, no filter plug-ins). Each function that reads fails with KVS_INPUT and names file, object and rule.
 */
#ifndef KVS_CORE_H5_H
#define KVS_CORE_H5_H

#include <hdf5.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An open file, group or dataset, with the names that errors give it. */
typedef struct kvs_h5_place {
    hid_t id;
    const char *file;   /* the path of the file */
    const char *object; /* the path inside it; "" for the root */
} kvs_h5_place;

/* One process-wide lock around HDF5, which need not be built thread-safe; also keeps HDF5 from printing. Not recursive;
 * the functions below expect it to be held. */
void kvs_h5_lock(void);
void kvs_h5_unlock(void);

/* Fails with KVS_INPUT: the rule, then HDF5's own innermost reason. */
kvs_status kvs_h5_fail(kvs_error *error, kvs_h5_place at, const char *name, const char *rule);

/* Opens an existing regular file read-only. */
KVS_MUST_CHECK kvs_status kvs_h5_open(const char *path, hid_t *file, kvs_error *error);

/* Whether a link of that name exists (of any kind). */
int kvs_h5_has(kvs_h5_place at, const char *name);

KVS_MUST_CHECK kvs_status kvs_h5_group(kvs_h5_place at, const char *name, hid_t *group, kvs_error *error);

/* Opens a dataset of the given rank, no dimension of which is 0, whose storage is complete and consists of values in
 * this file: contiguous, compact or chunked (a chunk at most chunk_bytes large), with no filter but shuffle, deflate
 * and fletcher32. */
KVS_MUST_CHECK kvs_status kvs_h5_dataset(kvs_h5_place at, const char *name, int rank, uint64_t chunk_bytes,
                                         hsize_t *dims, hid_t *dataset, kvs_error *error);

/* Attributes: one integer of any width within [low, high]; one floating-point number, finite; one string, fixed or
 * variable in length, valid UTF-8, which with its NUL must fit in `bytes`. */
int kvs_h5_has_attribute(kvs_h5_place at, const char *name);
KVS_MUST_CHECK kvs_status kvs_h5_int(kvs_h5_place at, const char *name, int64_t low, int64_t high, int64_t *value,
                                     kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_h5_real(kvs_h5_place at, const char *name, double *value, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_h5_text(kvs_h5_place at, const char *name, char *text, size_t bytes, kvs_error *error);

/* Writing: an attribute from count elements in memory type `memory`, stored as `stored`; a text as a
 * string of variable length (h5py gives it back as str). */
KVS_MUST_CHECK kvs_status kvs_h5_put(kvs_h5_place at, const char *name, hid_t stored, hid_t memory, int count,
                                     const void *values, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_h5_put_text(kvs_h5_place at, const char *name, const char *text, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
