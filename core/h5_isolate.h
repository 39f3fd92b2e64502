/* h5_isolate.h: a first look at an HDF5 file in a process of its own.
 *
 * HDF5 1.10 crashes on some damaged files, and on others allocates gigabytes or loops. So everything that is read from
 * a file before its values is read once by a child process, which has bounds on memory and time; only a file that the
 * child got through is opened here. */
#ifndef KVS_CORE_H5_ISOLATE_H
#define KVS_CORE_H5_ISOLATE_H

#include "core/h5.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the child does: reads what the parent will read, holding kvs_h5_lock. It may use no other lock and no OpenMP. */
typedef kvs_status (*kvs_h5_look)(const char *path, kvs_error *error);

/* Calls look(path) in a child process and returns its status and error; KVS_INPUT if the child died. Not to be called
 * with kvs_h5_lock held. */
KVS_MUST_CHECK kvs_status kvs_h5_isolated(const char *path, kvs_h5_look look, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
