#include "sim/sweep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/file.h"
#include "core/progress.h"
#include "sim/journal.h"

enum { BATCH = 8 }; /* schemes that share a pass: few enough that a kill loses little */

/* Adds the constants that a scheme stores with to the key of the sweep. */
static kvs_status add_constants(const kvs_scheme *scheme, FILE *key, kvs_error *error) {
    char digest[65];
    if (scheme->constants == NULL) return KVS_OK;
    KVS_TRY(kvs_file_sha256(scheme->constants, digest, error));
    fprintf(key, "constants %s\n", digest);
    return KVS_OK;
}

/* Opens and closes everything once: nothing fails after hours that could have failed at once. Digests are [traces]. */
static kvs_status check(const kvs_sweep *sweep, char (*digests)[65], FILE *key, kvs_error *error) {
    kvs_scheme **schemes = calloc((size_t)sweep->specs_count, sizeof *schemes);
    kvs_status status = schemes != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (int t = 0; status == KVS_OK && t < sweep->traces_count; t++) {
        kvs_trace *trace = NULL;
        status = kvs_replay_open_trace(sweep->traces[t], &sweep->replay, &trace, error);
        if (status == KVS_OK)
            status = kvs_replay_open_schemes(sweep->specs, sweep->specs_count, kvs_trace_header_of(trace),
                                             sweep->layout, schemes, error);
        int opened = status == KVS_OK ? sweep->specs_count : 0;
        if (status == KVS_OK) status = kvs_file_sha256(sweep->traces[t], digests[t], error);
        if (status == KVS_OK) fprintf(key, "trace %s\n", digests[t]);
        for (int s = 0; s < opened; s++) {
            if (status == KVS_OK) status = add_constants(schemes[s], key, error);
            kvs_scheme_close(schemes[s]);
        }
        kvs_trace_close(trace);
    }
    free(schemes);
    return status;
}

/* Everything that results depend on, as a text: the caller's, also on failure. Checks all of it, and fills digests. */
static kvs_status make_key(const kvs_sweep *sweep, const kvs_results *results, char (*digests)[65], char **key,
                           kvs_error *error) {
    size_t bytes = 0;
    FILE *text = open_memstream(key, &bytes);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    fprintf(text, "version %s\nbackend %s\nseed %lld\nfrom_position %lld\nat_tokens %lld\nprompt_exact %d\n",
            results->version, results->backend, (long long)sweep->replay.seed, (long long)sweep->replay.from_position,
            (long long)sweep->replay.at_tokens, sweep->replay.prompt_exact);
    if (sweep->replay.cross) fprintf(text, "cross\n");
    for (int s = 0; s < sweep->specs_count; s++) fprintf(text, "scheme %s\n", sweep->specs[s]);
    kvs_status status = check(sweep, digests, text, error);
    if ((ferror(text) | fclose(text)) && status == KVS_OK)
        status = kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    return status;
}

/* The schemes of one trace under way. */
typedef struct stretch {
    const kvs_sweep *sweep;
    kvs_trace *trace;
    int index; /* of the trace */
    const char *digest;
    kvs_results *results;
    kvs_journal *journal;
    kvs_progress *progress;
} stretch;

/* Replays `count` schemes whose indices are given, then journals them. */
static kvs_status run_batch(const stretch *st, const int *indices, int count, kvs_error *error) {
    const char *specs[BATCH];
    kvs_scheme *schemes[BATCH];
    kvs_result found[BATCH] = {{0}};
    kvs_trace_summary summary = {0}, *known = &st->results->traces[st->index];
    for (int i = 0; i < count; i++) specs[i] = st->sweep->specs[indices[i]];
    KVS_TRY(kvs_replay_open_schemes(specs, count, kvs_trace_header_of(st->trace), st->sweep->layout, schemes, error));
    kvs_status status = kvs_replay(st->trace, (const kvs_scheme *const *)schemes, count, &st->sweep->replay,
                                   known->path == NULL ? &summary : NULL, found, error);
    for (int i = 0; i < count; i++) kvs_scheme_close(schemes[i]);
    if (status == KVS_OK && known->path == NULL) {
        summary.sha256 = strdup(st->digest);
        *known = summary;
        summary = (kvs_trace_summary){0};
        status = known->sha256 != NULL ? kvs_journal_add_trace(st->journal, st->results, st->index, error)
                                       : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    }
    for (int i = 0; i < count; i++) {
        int place = st->index * st->sweep->specs_count + indices[i];
        if (status == KVS_OK) {
            found[i].trace = st->index;
            st->results->results[place] = found[i];
            status = kvs_journal_add_result(st->journal, st->results, place, error);
        } else {
            kvs_result_clear(&found[i]);
        }
    }
    kvs_trace_summary_clear(&summary);
    kvs_progress_add(st->progress, count);
    return status;
}

static kvs_status run_trace(stretch *st, kvs_error *error) {
    const kvs_result *results = st->results->results + (size_t)st->index * (size_t)st->sweep->specs_count;
    KVS_TRY(kvs_replay_open_trace(st->sweep->traces[st->index], &st->sweep->replay, &st->trace, error));
    int indices[BATCH], count = 0;
    kvs_status status = KVS_OK;
    for (int s = 0; status == KVS_OK && s < st->sweep->specs_count; s++) {
        if (results[s].scheme == NULL) indices[count++] = s;
        if (count == 0 || (count < BATCH && s + 1 < st->sweep->specs_count)) continue;
        status = run_batch(st, indices, count, error);
        count = 0;
    }
    kvs_trace_close(st->trace);
    return status;
}

static int finished(const kvs_results *results) {
    int count = 0;
    for (int i = 0; i < results->results_count; i++) count += results->results[i].scheme != NULL;
    return count;
}

static kvs_status run_rest(const kvs_sweep *sweep, char (*digests)[65], kvs_results *results, kvs_journal *journal,
                           kvs_error *error) {
    kvs_progress progress;
    int left = results->results_count - finished(results);
    kvs_progress_begin(&progress, "sweep", "results", left, sweep->replay.quiet);
    kvs_sweep silent = *sweep;
    silent.replay.quiet = 1;
    kvs_status status = KVS_OK;
    for (int t = 0; status == KVS_OK && t < sweep->traces_count; t++) {
        stretch st = {&silent, NULL, t, digests[t], results, journal, &progress};
        status = run_trace(&st, error);
    }
    kvs_progress_end(&progress);
    if (status == KVS_INTERRUPTED)
        return kvs_fail(error, status, sweep->journal, NULL,
                        "interrupted; %d of %d results are kept, the same command goes on from there",
                        finished(results), results->results_count);
    return status;
}

static kvs_status run(const kvs_sweep *sweep, char (*digests)[65], kvs_results *results, kvs_error *error) {
    size_t traces = (size_t)sweep->traces_count, count = traces * (size_t)sweep->specs_count;
    char *key = NULL;
    kvs_status status = make_key(sweep, results, digests, &key, error);
    results->traces = calloc(traces, sizeof *results->traces);
    results->results = calloc(count, sizeof *results->results);
    if (results->traces == NULL || results->results == NULL) {
        if (status == KVS_OK) status = kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    } else {
        results->traces_count = sweep->traces_count;
        results->results_count = (int)count;
    }
    kvs_journal *journal = NULL;
    if (status == KVS_OK) status = kvs_journal_open(sweep->journal, key, sweep->restart, results, &journal, error);
    if (status == KVS_OK) status = run_rest(sweep, digests, results, journal, error);
    kvs_journal_close(journal);
    free(key);
    return status;
}

kvs_status kvs_sweep_run(const kvs_sweep *sweep, kvs_results *results, kvs_error *error) {
    char(*digests)[65] = calloc((size_t)sweep->traces_count, sizeof *digests);
    if (digests == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    kvs_status status = run(sweep, digests, results, error);
    free(digests);
    return status;
}
