#include "sim/serve.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One engine run that has to be made. */
typedef struct job {
    int row;
    int64_t batch;
    int arrivals; /* as the trace has them, rather than all at once */
    kvs_occupancy_run run;
} job;

typedef struct plan {
    const kvs_workload *workload;
    const kvs_serve_options *options;
    kvs_serve_row *rows;
    int row_count, count, capacity;
    job *jobs;
} plan;

static kvs_status fail_memory(kvs_error *error) {
    return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
}

/* --- requests ---------------------------------------------------------------------------------------------------- */

static kvs_status uniform_requests(const kvs_workload *w, int64_t count, kvs_requests *requests, kvs_error *error) {
    kvs_request one = {.input_tokens = w->input_tokens, .output_tokens = w->output_tokens};
    *requests = (kvs_requests){.source = "--uniform"};
    for (int64_t i = 0; i < count; i++) {
        kvs_status status = kvs_requests_append(requests, &one, 0, error);
        if (status == KVS_OK) continue;
        kvs_requests_clear(requests);
        return status;
    }
    return KVS_OK;
}

static kvs_status run_on(const plan *p, const kvs_requests *requests, job *j, kvs_error *error) {
    const kvs_serve_row *row = &p->rows[j->row];
    kvs_page_keys keys;
    kvs_allocator allocator;
    kvs_allocator_options memory = p->options->allocator;
    kvs_engine_options engine = p->options->engine;
    memory.memory_bytes = p->options->cache_bytes;
    memory.blocks = p->options->num_blocks;
    engine.max_seqs = j->batch;
    engine.saturate = !j->arrivals;
    engine.max_samples = 16;
    KVS_TRY(kvs_page_keys_create(&keys, requests, row->geometry.page_tokens, row->geometry.first_token, error));
    kvs_status status =
        kvs_allocator_open(kvs_allocator_type_find("paged"), &row->geometry, &keys, memory, &allocator, error);
    if (status == KVS_OK) {
        kvs_clock clock = {kvs_step_seconds, &row->model};
        status = kvs_engine_run(requests, &allocator, engine, clock, &j->run, NULL, error);
        kvs_allocator_close(&allocator);
    }
    kvs_page_keys_destroy(&keys);
    return status;
}

static kvs_status run_job(const plan *p, job *j, kvs_error *error) {
    kvs_requests requests;
    if (p->workload->trace != NULL) return run_on(p, p->workload->trace, j, error);
    KVS_TRY(uniform_requests(p->workload, j->batch, &requests, error));
    kvs_status status = run_on(p, &requests, j, error);
    kvs_requests_clear(&requests);
    return status;
}

static kvs_status run_jobs(plan *p, kvs_error *error) {
    kvs_status worst = KVS_OK;
#pragma omp parallel for schedule(dynamic) num_threads(p->options->threads)
    for (int i = p->count - 1; i >= 0; i--) {
        kvs_error own = {0};
        kvs_status status = worst == KVS_OK ? run_job(p, &p->jobs[i], &own) : KVS_OK;
        if (status == KVS_OK) continue;
#pragma omp critical(kvs_serve_failure)
        if (worst == KVS_OK) {
            worst = status;
            *error = own;
        }
    }
    return worst;
}

static kvs_status add_job(plan *p, int row, int64_t batch, int arrivals, kvs_error *error) {
    for (int i = 0; i < p->count; i++)
        if (p->jobs[i].row == row && p->jobs[i].batch == batch && p->jobs[i].arrivals == arrivals) return KVS_OK;
    if (p->count == p->capacity) {
        int capacity = 2 * p->capacity + 32;
        job *grown = realloc(p->jobs, (size_t)capacity * sizeof *grown);
        if (grown == NULL) return fail_memory(error);
        p->jobs = grown;
        p->capacity = capacity;
    }
    p->jobs[p->count++] = (job){.row = row, .batch = batch, .arrivals = arrivals};
    return KVS_OK;
}

static void drop_jobs(plan *p) {
    for (int i = 0; i < p->count; i++) kvs_occupancy_run_clear(&p->jobs[i].run);
    p->count = 0;
}

/* --- the largest batch ------------------------------------------------------------------------------------------- */

static int64_t pool_pages(const plan *p, const kvs_serve_row *row) {
    if (p->options->num_blocks > 0) return p->options->num_blocks - 1;
    return (int64_t)floor(p->options->cache_bytes / row->geometry.page_bytes) - 1; /* the null block */
}

/* The mean over the requests of what each takes at its final length. */
static double bytes_per_sequence(const plan *p, const kvs_serve_row *row) {
    const kvs_workload *w = p->workload;
    const kvs_geometry *g = &row->geometry;
    if (w->trace == NULL)
        return (double)kvs_sequence_pages(g, (int64_t)w->input_tokens + w->output_tokens) * g->page_bytes;
    double pages = 0;
    for (int64_t r = 0; r < w->trace->count; r++)
        pages += (double)kvs_sequence_pages(g, (int64_t)w->trace->input_tokens[r] + w->trace->output_tokens[r]);
    return pages / (double)w->trace->count * g->page_bytes;
}

static kvs_status size_rows(plan *p, kvs_error *error) {
    const kvs_workload *w = p->workload;
    for (int i = 0; i < p->row_count; i++) {
        kvs_serve_row *row = &p->rows[i];
        row->total_pages = pool_pages(p, row);
        row->kv_bytes_per_sequence = bytes_per_sequence(p, row);
        if (w->trace != NULL)
            KVS_TRY(add_job(p, i, p->options->engine.max_seqs, 0, error));
        else
            row->max_batch =
                row->total_pages / kvs_sequence_pages(&row->geometry, (int64_t)w->input_tokens + w->output_tokens);
    }
    if (w->trace != NULL) KVS_TRY(run_jobs(p, error));
    for (int i = 0; i < p->count; i++) p->rows[p->jobs[i].row].max_batch = p->jobs[i].run.peak_running;
    drop_jobs(p);
    for (int i = 0; i < p->row_count; i++) {
        kvs_serve_row *row = &p->rows[i];
        if (row->max_batch < 1 && i > 0)
            return kvs_fail(error, KVS_INPUT, row->geometry.scheme, "memory",
                            "a sequence of %d tokens is larger than the %.2f GB that are left for the cache",
                            w->input_tokens + w->output_tokens, p->options->cache_bytes / 1e9);
        for (row->power_of_two = row->max_batch > 0; 2 * row->power_of_two <= row->max_batch && row->power_of_two > 0;)
            row->power_of_two *= 2;
    }
    return KVS_OK;
}

/* --- throughput against batch ------------------------------------------------------------------------------------ */

static int64_t most(const plan *p, int row) {
    int64_t batch = p->rows[row].max_batch, wanted = p->workload->batch;
    return wanted > 0 && wanted < batch ? wanted : batch;
}

/* The batch at which two schemes can be compared: what both hold. */
static int64_t common_batch(const plan *p, int row) {
    return most(p, row) < most(p, 0) ? most(p, row) : most(p, 0);
}

static kvs_status plan_points(plan *p, kvs_error *error) {
    for (int i = 0; i < p->row_count; i++) {
        for (int64_t batch = 1; batch <= most(p, i); batch *= 2) KVS_TRY(add_job(p, i, batch, 0, error));
        if (most(p, i) > 0) KVS_TRY(add_job(p, i, most(p, i), 0, error));
        if (common_batch(p, i) == 0) continue;
        KVS_TRY(add_job(p, i, common_batch(p, i), 0, error));
        KVS_TRY(add_job(p, 0, common_batch(p, i), 0, error));
    }
    for (int i = 0; i < p->row_count && p->workload->trace != NULL; i++) KVS_TRY(add_job(p, i, most(p, i), 1, error));
    return KVS_OK;
}

static int by_batch(const void *a, const void *b) {
    const kvs_serve_point *x = a, *y = b;
    return (x->batch > y->batch) - (x->batch < y->batch);
}

static kvs_status collect(plan *p, int i, kvs_error *error) {
    kvs_serve_row *row = &p->rows[i];
    row->points = calloc((size_t)p->count + 1, sizeof *row->points);
    if (row->points == NULL) return fail_memory(error);
    row->offered_tokens_per_s = NAN;
    for (int j = 0; j < p->count; j++) {
        const job *one = &p->jobs[j];
        if (one->row != i) continue;
        kvs_serve_point point = {one->batch, one->run.preemptions, one->run.tokens_per_s, one->run.ttft_mean_s,
                                 one->run.tpot_mean_s};
        if (one->arrivals) {
            row->ttft_s = point.ttft_s;
            row->tpot_s = point.tpot_s;
            row->offered_tokens_per_s = point.tokens_per_s;
            continue;
        }
        row->points[row->points_count++] = point;
        if (point.batch == most(p, i)) row->best = point;
        if (point.batch == common_batch(p, i)) row->equal = point;
    }
    if (p->workload->trace == NULL) {
        row->ttft_s = row->best.ttft_s;
        row->tpot_s = row->best.tpot_s;
    }
    qsort(row->points, (size_t)row->points_count, sizeof *row->points, by_batch);
    return KVS_OK;
}

static double rate_at(const kvs_serve_row *row, int64_t batch) {
    for (int i = 0; i < row->points_count; i++)
        if (row->points[i].batch == batch) return row->points[i].tokens_per_s;
    return NAN;
}

kvs_status kvs_serve_run(const kvs_workload *workload, const kvs_serve_options *options, kvs_serve_row *rows, int count,
                         kvs_error *error) {
    plan p = {.workload = workload, .options = options, .rows = rows, .row_count = count};
    kvs_status status = size_rows(&p, error);
    if (status == KVS_OK) status = plan_points(&p, error);
    if (status == KVS_OK) status = run_jobs(&p, error);
    for (int i = 0; i < count && status == KVS_OK; i++) status = collect(&p, i, error);
    for (int i = 0; i < count && status == KVS_OK; i++) {
        rows[i].ratio_equal_memory = rows[i].best.tokens_per_s / rate_at(&rows[0], most(&p, 0));
        rows[i].ratio_equal_batch = rows[i].equal.tokens_per_s / rate_at(&rows[0], common_batch(&p, i));
    }
    drop_jobs(&p);
    free(p.jobs);
    return status;
}

void kvs_serve_row_clear(kvs_serve_row *row) {
    free(row->points);
    row->points = NULL;
    row->points_count = 0;
}
