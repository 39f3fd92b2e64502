/* file.h: output files that appear whole or not at all, input digests. */
#ifndef KVS_CORE_FILE_H
#define KVS_CORE_FILE_H

#include <stdio.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An output under way: write to `temporary` (beside `path`), then commit or abandon. */
typedef struct kvs_output {
    char path[4096], temporary[4160];
} kvs_output;

/* Checks that path can be written (its folder exists and admits a new file; path is no folder) by creating the
 * temporary file, empty. Fails with KVS_INPUT. */
KVS_MUST_CHECK kvs_status kvs_output_begin(const char *path, kvs_output *output, kvs_error *error);
/* Flushes the temporary file to the disk and renames it to path; on failure removes it. */
KVS_MUST_CHECK kvs_status kvs_output_commit(const kvs_output *output, kvs_error *error);
/* Removes the temporary file. */
void kvs_output_abandon(const kvs_output *output);

/* Writes a whole text file that way. */
KVS_MUST_CHECK kvs_status kvs_write_text(const char *path, const char *text, kvs_error *error);

/* Creates a folder, and the folders above it, unless they are there. */
KVS_MUST_CHECK kvs_status kvs_make_folder(const char *path, kvs_error *error);

/* The SHA-256 of a file's bytes as 64 hexadecimal digits and a NUL. */
KVS_MUST_CHECK kvs_status kvs_file_sha256(const char *path, char digest[65], kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
