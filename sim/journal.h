/* journal.h: what long work has finished, on the disk line by line, so that nothing is lost when it is killed.
 *
 * JSON lines. The first holds the work's key: everything its results depend on. Each other one is something finished
 * (of a sweep a trace's summary or a result), synced before the next one begins. A last line that was torn is dropped.
 */
#ifndef KVS_SIM_JOURNAL_H
#define KVS_SIM_JOURNAL_H

#include "analysis/result.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cJSON;
typedef struct kvs_journal kvs_journal;

/* --- of any work --------------------------------------------------------------------------------------------------
 */

/* How the lines of one kind of work read. `what` is its name in messages, "kvscope_WHAT" that of the key. take gets
 * each line after the first; it fails with KVS_INPUT, naming path and object, at what it cannot have written. */
typedef struct kvs_journal_reader {
    const char *what;
    kvs_status (*take)(const struct cJSON *line, const char *path, const char *object, void *context, kvs_error *error);
    void *context;
} kvs_journal_reader;

/* Opens or begins the journal at path, for this process alone, and has its lines read where it is of the same key.
 * KVS_INPUT when it is of another key, damaged before its end, in use, or cannot be written. With restart, an older
 * journal is forgotten. */
KVS_MUST_CHECK kvs_status kvs_journal_begin(const char *path, const char *key, int restart,
                                            const kvs_journal_reader *reader, kvs_journal **journal, kvs_error *error);
/* Adds a line, which it takes over (NULL: memory was short); on the disk when it returns. */
KVS_MUST_CHECK kvs_status kvs_journal_add(kvs_journal *journal, struct cJSON *line, kvs_error *error);
/* Fails with KVS_INPUT: the line is damaged. */
kvs_status kvs_journal_refuse(const char *path, const char *object, kvs_error *error);

/* --- of results ---------------------------------------------------------------------------------------------------
 */

/* The same for a sweep. With lines of the same key there, fills the traces and results that they hold: results->traces
 * [traces_count] and results->results [results_count] are zeroed, one trace after the other with all schemes; a filled
 * one has a path or a scheme. */
KVS_MUST_CHECK kvs_status kvs_journal_open(const char *path, const char *key, int restart, kvs_results *results,
                                           kvs_journal **journal, kvs_error *error);
/* Adds one trace's summary with its channels, or one result, by its index; on the disk when it returns. */
KVS_MUST_CHECK kvs_status kvs_journal_add_trace(kvs_journal *journal, const kvs_results *results, int trace,
                                                kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_journal_add_result(kvs_journal *journal, const kvs_results *results, int result,
                                                 kvs_error *error);
/* Closes it; it stays on the disk until its results are written elsewhere. */
void kvs_journal_close(kvs_journal *journal);

#ifdef __cplusplus
}
#endif
#endif
