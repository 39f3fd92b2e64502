#include "sim/replay.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/progress.h"
#include "sim/account.h"
#include "sim/model/rope.h"
#include "sim/pass.h"

/* Memory that all threads together may work in; one unit under one scheme is always admitted. Leaves a replay of any
 * trace whose heads fit below 300 MB. */
#define WORK_BYTES ((int64_t)240 << 20)

/* --- schemes -------------------------------------------------------------------------------------------------------
 */

/* spec with "{model}" replaced by a model's name; the caller's. NULL when memory is short. */
static char *name_model(const char *spec, const char *model) {
    static const char place[] = "{model}";
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (out == NULL) return NULL;
    for (const char *at; (at = strstr(spec, place)) != NULL; spec = at + strlen(place))
        fprintf(out, "%.*s%s", (int)(at - spec), spec, model);
    fputs(spec, out);
    if (!(ferror(out) | fclose(out))) return text;
    free(text);
    return NULL;
}

/* Opens a scheme for a model; its spec is as the user wrote it. */
static kvs_status open_named(const char *spec, const kvs_trace_header *header, kvs_scheme **scheme, kvs_error *error) {
    char *named = name_model(spec, header->model_name);
    if (named == NULL) return kvs_fail(error, KVS_INPUT, spec, NULL, "out of memory");
    kvs_status status = kvs_scheme_open(named, header->head_dim, scheme, error);
    free(named);
    KVS_TRY(status);
    char *written = kvs_scheme_alloc(*scheme, strlen(spec) + 1);
    if (written != NULL) {
        memcpy(written, spec, strlen(spec) + 1);
        (*scheme)->spec = written;
        return KVS_OK;
    }
    kvs_scheme_close(*scheme);
    *scheme = NULL;
    return kvs_fail(error, KVS_INPUT, spec, NULL, "out of memory");
}

static kvs_status open_scheme(const char *spec, const kvs_trace_header *header, const char *layout, kvs_scheme **scheme,
                              kvs_error *error) {
    KVS_TRY(open_named(spec, header, scheme, error));
    if (layout == NULL || strcmp((*scheme)->layout, layout) == 0) return KVS_OK;
    kvs_status status =
        kvs_fail(error, KVS_USAGE, "--layout", layout, "scheme %s is stored in layout %s", spec, (*scheme)->layout);
    kvs_scheme_close(*scheme);
    *scheme = NULL;
    return status;
}

kvs_status kvs_replay_open_trace(const char *path, const kvs_replay_options *options, kvs_trace **trace,
                                 kvs_error *error) {
    return options->cross ? kvs_trace_open_cross(path, trace, error) : kvs_trace_open(path, trace, error);
}

kvs_status kvs_replay_open_schemes(const char *const *specs, int count, const kvs_trace_header *header,
                                   const char *layout, kvs_scheme **schemes, kvs_error *error) {
    for (int i = 0; i < count; i++) {
        kvs_status status = open_scheme(specs[i], header, layout, &schemes[i], error);
        if (status == KVS_OK) continue;
        while (i > 0) kvs_scheme_close(schemes[--i]);
        return status;
    }
    return KVS_OK;
}

/* --- the trace -----------------------------------------------------------------------------------------------------
 */

/* What a replay knows of a trace before its values. */
typedef struct plan {
    const kvs_trace_header *header;
    int sequences;
    int32_t **positions, *all_positions; /* [sequences], into all recorded ones */
    int *queries;                        /* [sequences]: those at or after from_position */
    int64_t longest, most_queries;       /* tokens, positions of one sequence */
    int64_t tokens, bytes;               /* over all sequences; bytes of K, V and queries as recorded */
    int64_t positions_replayed, positions_recorded;
    int binary16; /* all of it */
    kvs_rope rope;
    int rope_known; /* how positions turned the keys */
} plan;

static void free_plan(plan *p) {
    free(p->positions);
    free(p->all_positions);
    free(p->queries);
}

static int64_t recorded_bytes(const plan *p, const kvs_sequence *s) {
    int64_t kv = (int64_t)s->tokens * (int64_t)(kvs_element_bytes(s->k_element) + kvs_element_bytes(s->v_element));
    int64_t q = (int64_t)s->queries * (int64_t)kvs_element_bytes(s->q_element) * p->header->query_heads;
    return (kv * p->header->kv_heads + (s->queries > 0 ? q : 0)) * p->header->layers * p->header->head_dim;
}

/* The angles by which the recorded keys were turned, where the trace says enough to know them. */
static int read_rope(const kvs_trace_header *header, const char *path, kvs_rope *rope) {
    kvs_error unused;
    if (!header->rope_applied || !(header->rope_theta > 0) || header->rotary_dim < 2) return 0;
    const char *scaling = header->rope_scaling;
    cJSON *object = scaling[0] != '\0' ? cJSON_Parse(scaling) : NULL;
    int known = (object != NULL || scaling[0] == '\0') &&
                kvs_rope_read(path, cJSON_IsNull(object) ? NULL : object, header->rope_theta, header->rotary_dim, 0,
                              rope, &unused) == KVS_OK;
    cJSON_Delete(object);
    return known;
}

static kvs_status make_plan(kvs_trace *trace, int64_t from_position, plan *p, kvs_error *error) {
    *p = (plan){.header = kvs_trace_header_of(trace), .sequences = kvs_trace_sequences(trace), .binary16 = 1};
    p->rope_known = read_rope(p->header, kvs_trace_path(trace), &p->rope);
    for (int i = 0; i < p->sequences; i++) p->positions_recorded += kvs_trace_sequence(trace, i)->queries;
    p->positions = calloc((size_t)(unsigned)p->sequences, sizeof *p->positions);
    p->queries = calloc((size_t)(unsigned)p->sequences, sizeof *p->queries);
    p->all_positions = calloc((size_t)p->positions_recorded + 1, sizeof *p->all_positions);
    if (p->positions == NULL || p->queries == NULL || p->all_positions == NULL)
        return kvs_fail(error, KVS_INPUT, kvs_trace_path(trace), NULL, "out of memory");
    int32_t *next = p->all_positions;
    for (int i = 0; i < p->sequences; i++) {
        const kvs_sequence *s = kvs_trace_sequence(trace, i);
        if (s->queries > 0) KVS_TRY(kvs_trace_read_query_pos(trace, i, next, error));
        int skipped = 0;
        while (skipped < s->queries && next[skipped] < from_position) skipped++;
        p->positions[i] = next + skipped;
        p->queries[i] = s->queries - skipped;
        next += s->queries;
        p->longest = s->tokens > p->longest ? s->tokens : p->longest;
        p->most_queries = s->queries > p->most_queries ? s->queries : p->most_queries;
        p->tokens += s->tokens;
        p->positions_replayed += p->queries[i];
        p->bytes += recorded_bytes(p, s);
        p->binary16 &= s->k_element == KVS_ELEMENT_BINARY16 && s->v_element == KVS_ELEMENT_BINARY16 &&
                       (s->queries == 0 || s->q_element == KVS_ELEMENT_BINARY16);
    }
    return KVS_OK;
}

static kvs_status summarize(const kvs_trace *trace, const plan *p, int64_t at_tokens, kvs_trace_summary *summary,
                            kvs_error *error) {
    summary->path = strdup(kvs_trace_path(trace));
    summary->model_name = strdup(p->header->model_name);
    summary->model_family = strdup(p->header->model_family);
    if (kvs_trace_is_cross(trace)) summary->attention = strdup("cross");
    summary->layers = p->header->layers;
    summary->query_heads = p->header->query_heads;
    summary->kv_heads = p->header->kv_heads;
    summary->head_dim = p->header->head_dim;
    summary->sequences = p->sequences;
    summary->tokens = p->tokens;
    summary->queries = p->positions_recorded;
    summary->at_tokens = at_tokens;
    summary->windows = summary->window_tokens = summary->exact_tokens = NAN; /* no text was run */
    if (summary->path == NULL || summary->model_name == NULL || summary->model_family == NULL ||
        (kvs_trace_is_cross(trace) && summary->attention == NULL))
        return kvs_fail(error, KVS_INPUT, kvs_trace_path(trace), NULL, "out of memory");
    return kvs_channels_alloc(summary, error);
}

/* --- passes --------------------------------------------------------------------------------------------------------
 */

static kvs_pass_job job_of(kvs_trace *trace, const plan *p, const kvs_replay_options *options) {
    const kvs_trace_header *header = p->header;
    kvs_pass_job job = {
        .trace = trace,
        .backend = options->backend,
        .pass = {.head_dim = header->head_dim,
                 .group = header->query_heads / header->kv_heads,
                 .softmax_scale = header->softmax_scale,
                 .rope = {header->rotary_dim, header->rope_interleaved,
                          p->rope_known ? p->rope.inverse_frequency : NULL},
                 .causal = header->causal,
                 .prompt_exact = options->prompt_exact,
                 .binary16 = p->binary16},
        .seed = (uint64_t)options->seed,
        .positions = p->positions,
        .queries = p->queries,
    };
    job.most_of_head = p->positions_replayed * job.pass.group;
    job.samples = job.most_of_head * header->layers * header->kv_heads;
    return job;
}

/* Bytes that the next pass takes with the schemes and threads of the job. */
static int64_t pass_bytes(const kvs_pass_job *job, const plan *p) {
    int64_t head = p->longest * job->pass.head_dim, queries = p->most_queries * job->pass.head_dim * job->pass.group;
    int64_t unit =
        (2 * head + queries) * (int64_t)sizeof(float) + job->backend->bytes(&job->pass, p->longest, p->most_queries);
    return unit * job->threads + kvs_tally_bytes(job->samples, job->most_of_head) * job->pass.schemes_count;
}

/* The same of the device. */
static int64_t device_bytes(const kvs_pass_job *job, const plan *p) {
    if (job->backend->device_bytes == NULL) return 0;
    return job->threads * job->backend->device_bytes(&job->pass, p->longest, p->most_queries);
}

/* Chooses how many of the remaining schemes share a pass and how many units run at a time: fewer of both where memory
 * is tight. KVS_DEVICE where the device cannot hold one unit under one scheme. Threads that get no unit of their own
 * help inside one. */
static kvs_status fit(kvs_pass_job *job, const plan *p, int remaining, int threads, kvs_error *error) {
    enum { FEW = 4 };
    int64_t free_bytes = INT64_MAX;
    if (job->backend->most_units != NULL) {
        int most = job->backend->most_units();
        threads = threads < most ? threads : most;
        KVS_TRY(job->backend->free_bytes(&free_bytes, error));
    }
    int64_t units = (int64_t)p->header->layers * p->header->kv_heads * p->sequences;
    int *count = &job->pass.schemes_count, *inner = &job->pass.inner_threads;
    *count = remaining;
    job->threads = threads < units ? threads : (int)units;
    for (*inner = threads / job->threads; pass_bytes(job, p) > WORK_BYTES || device_bytes(job, p) > free_bytes;) {
        if (*count > FEW || (job->threads == 1 && *count > 1)) {
            *count = (*count + 1) / 2;
        } else if (job->threads > 1) {
            job->threads = (job->threads + 1) / 2;
            *inner = threads / job->threads;
        } else if (*inner > 1) {
            *inner = (*inner + 1) / 2;
        } else {
            break;
        }
    }
    if (device_bytes(job, p) <= free_bytes) return KVS_OK;
    return kvs_fail(error, KVS_DEVICE, "--backend", job->backend->name,
                    "one head of %lld tokens and %lld queries needs %lld bytes of the device, and %lld are free",
                    (long long)p->longest, (long long)p->most_queries, (long long)device_bytes(job, p),
                    (long long)free_bytes);
}

static void complete(const plan *p, kvs_result *result) {
    kvs_closed_loop_unknown(&result->closed_loop);
    if (result->wall_s > 0) {
        result->tokens_per_s = (double)p->tokens / result->wall_s;
        result->bytes_per_s = (double)p->bytes / result->wall_s;
    } else {
        result->tokens_per_s = result->bytes_per_s = NAN;
    }
}

static kvs_status annotate(const plan *p, int64_t from_position, kvs_result *result, kvs_error *error) {
    char note[128] = "";
    if (p->positions_recorded == 0)
        snprintf(note, sizeof note, "the trace has no queries: errors of attention are not available");
    else if (p->positions_replayed == 0)
        snprintf(note, sizeof note, "no query at or after position %lld: errors of attention are not available",
                 (long long)from_position);
    if (note[0] == '\0') return KVS_OK;
    result->note = strdup(note);
    return result->note != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
}

static kvs_status run_passes(kvs_trace *trace, const plan *p, const kvs_scheme *const *schemes, int count,
                             const kvs_replay_options *options, kvs_trace_summary *summary, kvs_result *results,
                             kvs_error *error) {
    kvs_pass_job job = job_of(trace, p, options);
    int threads = options->threads > 0 ? options->threads : omp_get_num_procs();
    kvs_progress progress;
    double units = (double)p->sequences * p->header->layers * p->header->kv_heads;
    kvs_progress_begin(&progress, "replay", "heads x schemes", units * count, options->quiet);
    job.progress = &progress;
    kvs_status status = KVS_OK;
    int done = 0;
    do { /* once at least: a pass without schemes still measures the channels */
        job.pass.schemes = schemes + done;
        job.results = results + done;
        job.summary = done == 0 ? summary : NULL;
        status = fit(&job, p, count - done, threads, error);
        if (status == KVS_OK) status = kvs_pass_run(&job, error);
        done += job.pass.schemes_count;
    } while (status == KVS_OK && done < count);
    kvs_progress_end(&progress);
    return status;
}

/* --- schemes that need what the trace lacks ------------------------------------------------------------------------
 */

/* Why a store cannot do as a running engine would; "" when it can. */
static void say_missing(const plan *p, const kvs_trace *trace, const kvs_store *store, char *note, size_t bytes) {
    if (store->unturns && p->header->rope_applied && !p->rope_known) {
        snprintf(note, bytes, "the scheme stores keys before the rotary embedding, which the trace does not describe");
        return;
    }
    if (store->needs.use == KVS_QUERIES_NONE) return;
    if (p->positions_recorded == 0) {
        snprintf(note, bytes, "the scheme ranks with queries, and the trace has none");
        return;
    }
    if (!p->header->causal) {
        snprintf(note, bytes, "the scheme ranks with queries, and attention is not causal: none is past or future");
        return;
    }
    const int32_t *positions = p->all_positions;
    for (int i = 0; i < p->sequences; i++) {
        const kvs_sequence *s = kvs_trace_sequence(trace, i);
        int64_t end = kvs_window_stored_end(&store->window, s->tokens, s->prompt_tokens);
        int64_t pages = (end - store->window.sink_tokens) / store->window.page_tokens;
        int page = kvs_page_without_queries(&store->window, store->needs, positions, s->queries, pages);
        if (page >= 0) {
            snprintf(note, bytes, "sequence %d has no recorded query among those that may rank page %d", i, page);
            return;
        }
        positions += s->queries;
    }
}

/* A result that says nothing but why. */
static kvs_status leave_out(const plan *p, const char *note, kvs_result *result, kvs_error *error) {
    int heads = p->header->layers * p->header->kv_heads;
    result->heads = calloc((size_t)heads, sizeof *result->heads);
    result->percentiles = strdup("exact");
    result->note = strdup(note);
    result->wall_s = NAN;
    if (result->heads == NULL || result->percentiles == NULL || result->note == NULL)
        return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    result->heads_count = heads;
    kvs_errors_unknown(&result->errors);
    for (int h = 0; h < heads; h++) {
        result->heads[h].layer = h / p->header->kv_heads;
        result->heads[h].head = h % p->header->kv_heads;
        kvs_errors_unknown(&result->heads[h].errors);
    }
    return KVS_OK;
}

/* Runs the schemes that the trace has everything for; the others say what is missing. */
static kvs_status run_possible(kvs_trace *trace, const plan *p, const kvs_scheme *const *schemes, int count,
                               const kvs_replay_options *options, kvs_trace_summary *summary, kvs_result *results,
                               kvs_error *error) {
    const kvs_scheme **possible = calloc((size_t)count, sizeof *possible);
    kvs_result *found = calloc((size_t)count, sizeof *found);
    int *of = calloc((size_t)count, sizeof *of), runs = 0;
    kvs_status status = possible != NULL && found != NULL && of != NULL
                            ? KVS_OK
                            : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (int i = 0; status == KVS_OK && i < count; i++) {
        char note[128] = "";
        say_missing(p, trace, &schemes[i]->k, note, sizeof note);
        if (note[0] == '\0') say_missing(p, trace, &schemes[i]->v, note, sizeof note);
        if (note[0] == '\0') {
            possible[runs] = schemes[i];
            of[runs++] = i;
        } else
            status = leave_out(p, note, &results[i], error);
    }
    if (status == KVS_OK) status = run_passes(trace, p, possible, runs, options, summary, found, error);
    for (int r = 0; r < runs; r++) results[of[r]] = found[r];
    free(possible);
    free(found);
    free(of);
    return status;
}

kvs_status kvs_replay(kvs_trace *trace, const kvs_scheme *const *schemes, int count, const kvs_replay_options *options,
                      kvs_trace_summary *summary, kvs_result *results, kvs_error *error) {
    plan p;
    for (int i = 0; options->backend->accept != NULL && i < count; i++)
        KVS_TRY(options->backend->accept(schemes[i], error));
    kvs_status status = make_plan(trace, options->from_position, &p, error);
    int64_t at_tokens = options->at_tokens > 0 ? options->at_tokens : p.longest;
    if (status == KVS_OK && summary != NULL) status = summarize(trace, &p, at_tokens, summary, error);
    for (int i = 0; status == KVS_OK && i < count; i++)
        status = kvs_scheme_check_model(schemes[i], p.header->model_name, p.header->layers, p.header->kv_heads, error);
    if (status == KVS_OK) status = run_possible(trace, &p, schemes, count, options, summary, results, error);
    for (int i = 0; status == KVS_OK && i < count; i++) {
        int64_t heads = (int64_t)p.header->layers * p.header->kv_heads;
        complete(&p, &results[i]);
        status = kvs_account(schemes[i], heads, at_tokens, &results[i], error);
        if (status == KVS_OK && results[i].note == NULL)
            status = annotate(&p, options->from_position, &results[i], error);
    }
    free_plan(&p);
    return status;
}
