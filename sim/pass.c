/* pass.c: threads take units, compute them, and hand them in; units are counted in their order, head by head. */
#include "sim/pass.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/channels.h"
#include "core/progress.h"

/* A computed unit until its turn comes. */
typedef struct parcel {
    struct parcel *next;
    int64_t unit, samples;
    kvs_channel_sums channels[2]; /* of K and V */
    void *channel_memory;
    kvs_unit_errors errors[]; /* [schemes_count] */
} parcel;

typedef struct run {
    kvs_pass_job *job;
    int64_t units, next, counted; /* units: taken so far up to next, counted up to counted */
    parcel *waiting;
    kvs_tally **tallies;          /* [schemes_count] */
    kvs_channel_sums channels[2]; /* of the head under way */
    void *channel_memory;
    kvs_status status;
    kvs_error error;
    int64_t failed;          /* the first unit that failed */
    double busy, *of_scheme; /* thread seconds: of everything, of each scheme alone */
} run;

/* --- units and their parts -----------------------------------------------------------------------------------------
 */

static int sequences_of(const run *r) {
    return kvs_trace_sequences(r->job->trace);
}

static kvs_page_place place_of(const run *r, int64_t unit) {
    int sequences = sequences_of(r), heads = kvs_trace_header_of(r->job->trace)->kv_heads;
    int64_t head = unit / sequences;
    return (kvs_page_place){.seed = r->job->seed,
                            .sequence = (int)(unit % sequences),
                            .layer = (int)(head / heads),
                            .kv_head = (int)(head % heads)};
}

/* Three arrays of [head_dim] for each of K and V, in one block. */
static void *alloc_channels(kvs_channel_sums sums[2], int head_dim) {
    size_t dim = (size_t)head_dim;
    double *memory = calloc(4 * dim, sizeof *memory);
    for (int i = 0; memory != NULL && i < 2; i++) {
        float *bounds = (float *)(memory + 2 * dim) + 2 * (size_t)i * dim;
        sums[i] = (kvs_channel_sums){0, memory + (size_t)i * dim, bounds, bounds + dim};
    }
    return memory;
}

static void free_parcel(const run *r, parcel *p) {
    for (int s = 0; p != NULL && s < r->job->pass.schemes_count; s++) kvs_unit_errors_free(&p->errors[s]);
    if (p != NULL) free(p->channel_memory);
    free(p);
}

static kvs_status make_parcel(const run *r, int64_t unit, parcel **made, kvs_error *error) {
    const kvs_pass *pass = &r->job->pass;
    size_t schemes = (size_t)pass->schemes_count;
    parcel *p = calloc(1, sizeof *p + schemes * sizeof *p->errors);
    *made = p;
    if (p != NULL) p->channel_memory = alloc_channels(p->channels, pass->head_dim);
    kvs_status status =
        p != NULL && p->channel_memory != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    if (status == KVS_OK) {
        p->unit = unit;
        p->samples = (int64_t)r->job->queries[place_of(r, unit).sequence] * pass->group;
    }
    for (size_t s = 0; status == KVS_OK && s < schemes; s++)
        status = kvs_unit_errors_alloc(p->samples, &p->errors[s], error);
    if (status == KVS_OK) return KVS_OK;
    free_parcel(r, p);
    *made = NULL;
    return status;
}

/* --- counting, in order --------------------------------------------------------------------------------------------
 */

static void end_head(run *r, int64_t head) {
    kvs_pass_job *job = r->job;
    int dim = job->pass.head_dim;
    for (int s = 0; s < job->pass.schemes_count; s++)
        kvs_tally_end_head(r->tallies[s], &job->results[s].heads[head].errors);
    for (int i = 0; job->summary != NULL && i < 2; i++) {
        float *magnitude = *kvs_channels_array(job->summary, 2 * i),
              *range = *kvs_channels_array(job->summary, 2 * i + 1);
        kvs_channels_end(&r->channels[i], dim, magnitude + head * dim, range + head * dim);
        r->channels[i].tokens = 0;
    }
}

static kvs_status count_parcel(run *r, const parcel *p, kvs_error *error) {
    for (int s = 0; s < r->job->pass.schemes_count; s++) {
        KVS_TRY(kvs_tally_add(r->tallies[s], &p->errors[s], p->samples, error));
        r->of_scheme[s] += p->errors[s].seconds;
    }
    for (int i = 0; i < 2; i++) kvs_channels_add(&r->channels[i], &p->channels[i], r->job->pass.head_dim);
    if ((p->unit + 1) % sequences_of(r) == 0) end_head(r, p->unit / sequences_of(r));
    return KVS_OK;
}

static void fail(run *r, int64_t unit, kvs_status status, const kvs_error *error) {
    if (r->status != KVS_OK && unit >= r->failed) return; /* the first unit's failure is the one to tell */
    r->status = status;
    r->failed = unit;
    r->error = *error;
}

/* Takes a parcel over; counts it and those that waited for it. */
static void hand_in(run *r, parcel *p) {
    p->next = r->waiting;
    r->waiting = p;
    for (parcel **link = &r->waiting; *link != NULL;) {
        parcel *found = *link;
        if (found->unit != r->counted) {
            link = &found->next;
            continue;
        }
        *link = found->next;
        kvs_error error;
        kvs_status status = count_parcel(r, found, &error);
        if (status != KVS_OK) fail(r, found->unit, status, &error);
        free_parcel(r, found);
        r->counted++;
        link = &r->waiting;
    }
}

/* --- computing -----------------------------------------------------------------------------------------------------
 */

/* Memory of one thread. */
typedef struct worker {
    void *state;
    float *values;
    size_t room;
} worker;

static int uses_queries(const kvs_pass *pass) {
    int uses = 0;
    for (int s = 0; s < pass->schemes_count; s++) uses |= kvs_scheme_uses_queries(pass->schemes[s]);
    return uses;
}

static kvs_status read_unit(run *r, worker *w, kvs_unit *unit, kvs_error *error) {
    kvs_pass_job *job = r->job;
    const kvs_sequence *sequence = kvs_trace_sequence(job->trace, unit->place.sequence);
    int s = unit->place.sequence, layer = unit->place.layer, head = unit->place.kv_head, group = job->pass.group;
    size_t dim = (size_t)job->pass.head_dim, rows = (size_t)sequence->tokens * dim;
    int read_queries = job->queries[s] > 0 || uses_queries(&job->pass) ? sequence->queries : 0;
    size_t query_rows = (size_t)read_queries * dim, need = 2 * rows + (size_t)group * query_rows;
    if (need > w->room) {
        free(w->values);
        w->values = malloc(need * sizeof *w->values);
        w->room = w->values != NULL ? need : 0;
        if (w->values == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory for one head");
    }
    float *k = w->values, *v = k + rows, *q = v + rows;
    KVS_TRY(kvs_trace_read_head(job->trace, s, KVS_TENSOR_K, layer, head, 0, k, error));
    KVS_TRY(kvs_trace_read_head(job->trace, s, KVS_TENSOR_V, layer, head, 0, v, error));
    for (int h = 0; h < group && read_queries > 0; h++)
        KVS_TRY(kvs_trace_read_head(job->trace, s, KVS_TENSOR_Q, layer, head * group + h, 0, q + (size_t)h * query_rows,
                                    error));
    unit->path = kvs_trace_path(job->trace);
    unit->tokens = sequence->tokens;
    unit->prompt_tokens = sequence->prompt_tokens;
    unit->queries = job->queries[s];
    unit->k = k;
    unit->v = v;
    unit->q = q + (size_t)(read_queries - unit->queries) * dim;
    unit->q_stride = (int64_t)query_rows;
    unit->positions = job->positions[s];
    unit->recorded = (kvs_query_set){.heads = group,
                                     .count = read_queries,
                                     .head_dim = job->pass.head_dim,
                                     .positions = job->positions[s] - (read_queries - unit->queries),
                                     .values = q,
                                     .head_stride = (int64_t)query_rows};
    return KVS_OK;
}

static kvs_status compute(run *r, worker *w, int64_t index, parcel **made, kvs_error *error) {
    kvs_pass_job *job = r->job;
    *made = NULL;
    if (kvs_interrupted()) return kvs_fail(error, KVS_INTERRUPTED, kvs_trace_path(job->trace), NULL, "interrupted");
    kvs_unit unit = {.place = place_of(r, index)};
    KVS_TRY(read_unit(r, w, &unit, error));
    parcel *p;
    KVS_TRY(make_parcel(r, index, &p, error));
    kvs_status status = job->backend->unit(w->state, &unit, p->errors, error);
    if (status == KVS_OK && job->summary != NULL) {
        kvs_channels_measure(unit.k, unit.tokens, job->pass.head_dim, &p->channels[0]);
        kvs_channels_measure(unit.v, unit.tokens, job->pass.head_dim, &p->channels[1]);
    }
    if (status == KVS_OK)
        *made = p;
    else
        free_parcel(r, p);
    return status;
}

static int take(run *r, int64_t *unit) {
    int taken;
#pragma omp critical(kvs_pass)
    {
        taken = r->status == KVS_OK && r->next < r->units;
        if (taken) *unit = r->next++;
    }
    return taken;
}

static void work(run *r) {
    worker w = {0};
    kvs_error error;
    kvs_status status = r->job->backend->open(&r->job->pass, &w.state, &error);
    if (status != KVS_OK) {
#pragma omp critical(kvs_pass)
        fail(r, 0, status, &error);
    }
    for (int64_t unit; status == KVS_OK && take(r, &unit);) {
        double started = kvs_seconds();
        parcel *p;
        status = compute(r, &w, unit, &p, &error);
#pragma omp critical(kvs_pass)
        {
            if (status == KVS_OK)
                hand_in(r, p);
            else
                fail(r, unit, status, &error);
            r->busy += kvs_seconds() - started;
        }
        if (status == KVS_OK) kvs_progress_add(r->job->progress, r->job->pass.schemes_count);
    }
    if (w.state != NULL) r->job->backend->close(w.state);
    free(w.values);
}

/* --- a pass --------------------------------------------------------------------------------------------------------
 */

static kvs_status open_run(run *r, kvs_error *error) {
    kvs_pass_job *job = r->job;
    size_t schemes = (size_t)job->pass.schemes_count;
    const kvs_trace_header *header = kvs_trace_header_of(job->trace);
    int heads = header->layers * header->kv_heads;
    r->units = (int64_t)heads * sequences_of(r);
    r->tallies = calloc(schemes, sizeof *r->tallies);
    r->of_scheme = calloc(schemes, sizeof *r->of_scheme);
    r->channel_memory = alloc_channels(r->channels, job->pass.head_dim);
    if (r->tallies == NULL || r->of_scheme == NULL || r->channel_memory == NULL)
        return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (size_t s = 0; s < schemes; s++) {
        kvs_result *result = &job->results[s];
        result->heads = calloc((size_t)heads, sizeof *result->heads);
        if (result->heads == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
        result->heads_count = heads;
        for (int h = 0; h < heads; h++) {
            result->heads[h].layer = h / header->kv_heads;
            result->heads[h].head = h % header->kv_heads;
        }
        KVS_TRY(kvs_tally_open(job->samples, job->most_of_head, &r->tallies[s], error));
    }
    return KVS_OK;
}

static void close_run(run *r) {
    for (parcel *p = r->waiting, *next; p != NULL; p = next) {
        next = p->next;
        free_parcel(r, p);
    }
    for (int s = 0; r->tallies != NULL && s < r->job->pass.schemes_count; s++) kvs_tally_close(r->tallies[s]);
    free(r->tallies);
    free(r->of_scheme);
    free(r->channel_memory);
}

static kvs_status conclude(run *r, double wall, kvs_error *error) {
    double schemes = 0;
    for (int s = 0; s < r->job->pass.schemes_count; s++) schemes += r->of_scheme[s];
    for (int s = 0; s < r->job->pass.schemes_count; s++) {
        kvs_result *result = &r->job->results[s];
        kvs_tally_end(r->tallies[s], &result->errors);
        result->percentiles = strdup(kvs_tally_percentiles(r->tallies[s]));
        if (result->percentiles == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
        double others = schemes - r->of_scheme[s]; /* thread seconds that this scheme alone would not have taken */
        result->wall_s = r->busy > others ? wall * (r->busy - others) / r->busy : wall;
    }
    return KVS_OK;
}

kvs_status kvs_pass_run(kvs_pass_job *job, kvs_error *error) {
    run r = {.job = job};
    double started = kvs_seconds();
    kvs_status status = open_run(&r, error);
    if (status == KVS_OK) {
        omp_set_max_active_levels(2); /* units, and blocks inside a unit */
#pragma omp parallel num_threads(job->threads)
        work(&r);
        status = r.status;
        if (status != KVS_OK && error != NULL) *error = r.error;
    }
    if (status == KVS_OK) status = conclude(&r, kvs_seconds() - started, error);
    close_run(&r);
    return status;
}
