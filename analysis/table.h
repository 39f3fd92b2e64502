/* table.h: result files in HDF5 out of tables of fields (field.h): a table is a group, a column a dataset in it with
 * the attribute `unit`; texts are variable-length UTF-8, empty where there is none. Hold kvs_h5_lock around the
 * functions that take an open file. */
#ifndef KVS_ANALYSIS_TABLE_H
#define KVS_ANALYSIS_TABLE_H

#include "analysis/field.h"
#include "core/h5.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- writing -------------------------------------------------------------------------------------------------------
 */

/* A file that is built in memory. Every function returns KVS_OK or fills the error, naming the object. */
typedef struct kvs_table_file {
    const char *path;
    kvs_error *error;
    hid_t file, text; /* text: the type of variable-length UTF-8 */
} kvs_table_file;

/* Writes a whole file, or nothing: the attributes format and format_version, then what `fill` adds. It is built in
 * memory and written as bytes, so a full disk is an ordinary error. Takes the lock. */
KVS_MUST_CHECK kvs_status kvs_table_file_write(const char *path, const char *format, int major, int minor,
                                               kvs_status (*fill)(const kvs_table_file *file, const void *context),
                                               const void *context, kvs_error *error);

/* One struct as attributes of the root. */
KVS_MUST_CHECK kvs_status kvs_table_put_attributes(const kvs_table_file *file, const kvs_field *fields,
                                                   const void *row);
/* An array of structs as a table. */
KVS_MUST_CHECK kvs_status kvs_table_put(const kvs_table_file *file, const char *name, const kvs_field *fields,
                                        const void *array, size_t row_bytes, int count);
/* The same of scattered structs, with a first column `owner` [count] unless its name is NULL. */
KVS_MUST_CHECK kvs_status kvs_table_put_rows(const kvs_table_file *file, const char *name, const kvs_field *fields,
                                             const void *const *rows, int count, const char *owner, const int *owners);
/* A dataset of any rank; unit "" adds none. */
KVS_MUST_CHECK kvs_status kvs_table_put_dataset(const kvs_table_file *file, hid_t group, const char *name, hid_t stored,
                                                hid_t given, int rank, const hsize_t *dims, const void *values,
                                                const char *unit);

/* --- reading -------------------------------------------------------------------------------------------------------
 */

/* Fails with KVS_INPUT: /GROUP/NAME: RULE. */
kvs_status kvs_table_refuse(const char *path, const char *group, const char *name, const char *rule, kvs_error *error);

/* Whether the file has that format and major version. */
KVS_MUST_CHECK kvs_status kvs_table_check_format(hid_t file, const char *path, const char *format, int major,
                                                 kvs_error *error);
/* The root's attributes into a zeroed struct, whose texts become the caller's. */
KVS_MUST_CHECK kvs_status kvs_table_get_attributes(hid_t file, const char *path, const kvs_field *fields, void *row,
                                                   kvs_error *error);
/* [count] values of one column, the caller's; *count < 0: takes the column's own length. */
KVS_MUST_CHECK kvs_status kvs_table_get_column(hid_t file, const char *path, const char *group, const kvs_field *field,
                                               int64_t *count, void **values, kvs_error *error);
/* A whole table as an array of structs, zeroed but for the fields; an optional one that the file lacks is not
 * available. *rows (NULL before) is the caller's, also on failure; its texts go with it. */
KVS_MUST_CHECK kvs_status kvs_table_get(hid_t file, const char *path, const char *group, const kvs_field *fields,
                                        size_t row_bytes, int64_t *count, void **rows, kvs_error *error);

enum { KVS_TABLE_MOST_ROWS = 1 << 26 }; /* keeps hostile sizes out of memory arithmetic */

#ifdef __cplusplus
}
#endif
#endif
