/* journal.h: what a sweep has finished, on the disk line by line, so that nothing is lost when it is killed.
 *
 * JSON lines. The first holds the key of the sweep: everything its results depend on. Each other one is a trace's
 * summary or one finished result, synced before the next one begins. A last line that was torn is dropped. */
#ifndef KVS_SIM_JOURNAL_H
#define KVS_SIM_JOURNAL_H

#include "analysis/result.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_journal kvs_journal;

/* Opens or begins the journal at path, for this process alone. With lines of the same key there, fills the traces and
 * results that they hold: results->traces [traces_count] and results->results [results_count] are zeroed, one trace
 * after the other with all schemes; a filled one has a path or a scheme. KVS_INPUT when the journal is of another key,
 * damaged before its end, in use, or cannot be written. With restart, an older journal is forgotten. */
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
