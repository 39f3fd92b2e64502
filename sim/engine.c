/* engine.c: the loop around the scheduler: time, samples, summary. */
#include "sim/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/progress.h"
#include "sim/engine_internal.h"

/* The kinds of bytes in memory. A complete page counts once however many share it: what is used, less the buffers and
 * the pages that single sequences are still filling, is complete. */
static void split_bytes(const kvs_engine *e, const kvs_memory_state *m, kvs_occupancy *o) {
    const kvs_geometry *g = e->allocator->geometry;
    int paged = e->running_count > 0 && e->running[0].blocks != NULL;
    double complete = (double)m->used;
    for (int64_t i = 0; i < e->running_count; i++) {
        const kvs_engine_sequence *s = &e->running[i];
        kvs_bits bytes = kvs_sequence_bytes(g, s->computed);
        int64_t full = paged ? kvs_pages_full(g, s->computed) : 0;
        if (paged && full < s->complete) full = s->complete; /* found in the cache; its sinks are still to come */
        double whole = (double)(full * g->page_tokens);
        double k = fmax(0, (double)kvs_stored_tokens(&g->k, s->computed) - whole);
        double v = fmax(0, (double)kvs_stored_tokens(&g->v, s->computed) - whole);
        complete -= (double)(g->buffer_pages + s->pages - full);
        o->payload_bytes += k * g->k.payload + v * g->v.payload;
        o->metadata_bytes += k * g->k.metadata + v * g->v.metadata;
        o->padding_bytes += k * g->k.padding + v * g->v.padding;
        o->residual_bytes += bytes.residual;
    }
    if (paged) {
        double tokens = complete * g->page_tokens;
        o->payload_bytes += tokens * (g->k.payload + g->v.payload);
        o->metadata_bytes += tokens * (g->k.metadata + g->v.metadata);
        o->padding_bytes += tokens * (g->k.padding + g->v.padding);
    }
    o->used_bytes = m->used_bytes;
    o->fragmentation_bytes =
        o->used_bytes - o->payload_bytes - o->metadata_bytes - o->padding_bytes - o->residual_bytes;
}

kvs_occupancy kvs_engine_occupancy(const kvs_engine *e, double now_s) {
    kvs_memory_state m = {0};
    e->allocator->type->state(e->allocator, &m);
    kvs_occupancy o = {
        .t_s = now_s,
        .used_pages = (double)m.used,
        .free_pages = (double)m.free,
        .cached_free_pages = (double)m.cached_free,
        .running = (double)e->running_count,
        .waiting = (double)kvs_engine_waiting(e),
        .hit_tokens = (double)e->hit_tokens,
        .queried_tokens = (double)e->queried_tokens,
        .evictions = (double)e->allocator->evictions,
        .preemptions = (double)e->preemptions,
        .recomputed_tokens = (double)e->recomputed_tokens,
        .output_tokens = (double)e->output_tokens,
    };
    split_bytes(e, &m, &o);
    double capacity = e->allocator->options.memory_bytes, free_bytes = capacity - m.used_bytes;
    o.external_bytes = fmax(0, free_bytes - m.largest_free_bytes);
    return o;
}

/* Samples at even distances; when they are too many, every other one goes and the distance doubles. */
typedef struct recorder {
    kvs_occupancy *samples;
    int64_t count, most;
    double distance_s, next_s;
    double busy_s, running_s, used_s; /* integrals over time */
    int64_t peak_used;
} recorder;

static void record(recorder *r, const kvs_engine *e, double now_s) {
    if (now_s < r->next_s) return;
    if (r->count == r->most) {
        for (int64_t i = 0; 2 * i < r->count; i++) r->samples[i] = r->samples[2 * i];
        r->count = (r->count + 1) / 2;
        r->distance_s *= 2;
    }
    r->samples[r->count++] = kvs_engine_occupancy(e, now_s);
    r->next_s = now_s + r->distance_s;
}

static void integrate(recorder *r, const kvs_engine *e, double seconds) {
    kvs_memory_state m = {0};
    e->allocator->type->state(e->allocator, &m);
    r->busy_s += seconds;
    r->running_s += seconds * (double)e->running_count;
    r->used_s += m.total > 0 ? seconds * (double)m.used / (double)m.total : 0;
    if (m.used > r->peak_used) r->peak_used = m.used;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Mean, median and 99th percentile of count values, which get sorted; NaN when there are none. */
static void statistics(double *values, int64_t count, double *mean, double *p50, double *p99) {
    double sum = 0;
    *mean = *p50 = *p99 = NAN;
    if (count == 0) return;
    qsort(values, (size_t)count, sizeof *values, by_value);
    for (int64_t i = 0; i < count; i++) sum += values[i];
    *mean = sum / (double)count;
    for (int q = 0; q < 2; q++) {
        double place = (q == 0 ? 0.5 : 0.99) * (double)(count - 1);
        int64_t low = (int64_t)place, high = low + 1 < count ? low + 1 : low;
        *(q == 0 ? p50 : p99) = values[low] + (place - (double)low) * (values[high] - values[low]);
    }
}

static kvs_status summarize_latency(const kvs_engine *e, kvs_occupancy_run *run, kvs_error *error) {
    double *values = malloc((size_t)(e->log.count + 1) * sizeof *values);
    if (values == NULL) return kvs_fail(error, KVS_INPUT, e->requests->source, NULL, "out of memory");
    int64_t n = 0;
    for (int64_t r = 0; r < e->log.count; r++)
        if (!isnan(e->log.first_token_s[r])) values[n++] = e->log.first_token_s[r] - kvs_engine_arrival_s(e, r);
    statistics(values, n, &run->ttft_mean_s, &run->ttft_p50_s, &run->ttft_p99_s);
    n = 0;
    for (int64_t r = 0; r < e->log.count; r++)
        if (!isnan(e->log.finish_s[r]) && e->requests->output_tokens[r] > 1)
            values[n++] = (e->log.finish_s[r] - e->log.first_token_s[r]) / (e->requests->output_tokens[r] - 1);
    statistics(values, n, &run->tpot_mean_s, &run->tpot_p50_s, &run->tpot_p99_s);
    free(values);
    return KVS_OK;
}

static kvs_status summarize(const kvs_engine *e, const recorder *r, double end_s, kvs_occupancy_run *run,
                            kvs_error *error) {
    const kvs_geometry *g = e->allocator->geometry;
    kvs_memory_state m = {0};
    e->allocator->type->state(e->allocator, &m);
    run->memory_bytes = e->allocator->options.memory_bytes;
    run->page_bytes = g->page_bytes;
    run->buffer_bytes = g->buffer_bytes;
    run->page_tokens = g->page_tokens;
    run->total_pages = m.total;
    run->buffer_pages = g->buffer_pages;
    run->requests = e->requests->count;
    run->completed = e->completed;
    run->skipped = e->skipped;
    run->steps = e->steps;
    run->duration_s = end_s;
    run->tokens_per_s = (double)e->output_tokens / end_s;
    run->requests_per_s = (double)e->completed / end_s;
    run->input_tokens = kvs_requests_total_input(e->requests);
    run->output_tokens = e->output_tokens;
    run->queried_tokens = e->queried_tokens;
    run->hit_tokens = e->hit_tokens;
    run->hit_rate = e->queried_tokens > 0 ? (double)e->hit_tokens / (double)e->queried_tokens : NAN;
    run->evictions = e->allocator->evictions;
    run->preemptions = e->preemptions;
    run->recomputed_tokens = e->recomputed_tokens;
    run->peak_running = e->peak_running;
    run->peak_waiting = e->peak_waiting;
    run->peak_used_pages = r->peak_used;
    run->mean_running = r->running_s / end_s;
    run->mean_used_share = r->used_s / end_s;
    run->samples = r->count;
    kvs_occupancy_summarize(run);
    return summarize_latency(e, run, error);
}

static kvs_status loop(kvs_engine *e, kvs_clock clock, recorder *r, double *end_s, kvs_error *error) {
    for (double now = 0;;) {
        kvs_step step;
        double next;
        KVS_TRY(kvs_engine_schedule(e, now, &step, &next, error));
        if (step.sequences == 0 && isinf(next)) return KVS_OK;
        double end = step.sequences > 0 ? now + clock.seconds(clock.model, &step) : next;
        integrate(r, e, end - now);
        if (step.sequences > 0) {
            kvs_engine_finish_step(e, end);
            *end_s = end;
        }
        now = end;
        record(r, e, now);
        if ((e->steps & 0xfff) == 0 && kvs_interrupted())
            return kvs_fail(error, KVS_INTERRUPTED, e->requests->source, NULL, "interrupted");
    }
}

static kvs_status check_end(const kvs_engine *e, kvs_error *error) {
    kvs_memory_state m = {0};
    e->allocator->type->state(e->allocator, &m);
    if (e->completed + e->skipped != e->requests->count || m.used != 0)
        return kvs_fail(error, KVS_CHECK, e->requests->source, NULL, "%lld requests did not end and %lld pages leaked",
                        (long long)(e->requests->count - e->completed - e->skipped), (long long)m.used);
    return e->allocator->type->check(e->allocator, error);
}

kvs_status kvs_engine_run(const kvs_requests *requests, kvs_allocator *allocator, kvs_engine_options options,
                          kvs_clock clock, kvs_occupancy_run *run, kvs_request_log *log, kvs_error *error) {
    double started = kvs_seconds(), end_s = 0;
    kvs_engine *e;
    KVS_TRY(kvs_engine_create(requests, allocator, options, &e, error));
    recorder r = {.most = options.max_samples > 16 ? options.max_samples : 16,
                  .distance_s = options.sample_s > 0 ? options.sample_s : 1e-3};
    r.samples = malloc((size_t)r.most * sizeof *r.samples);
    kvs_status status =
        r.samples != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, requests->source, NULL, "out of memory");
    if (status == KVS_OK) status = loop(e, clock, &r, &end_s, error);
    if (status == KVS_OK) status = check_end(e, error);
    run->series = r.samples;
    if (status == KVS_OK) status = summarize(e, &r, end_s > 0 ? end_s : NAN, run, error);
    run->wall_s = kvs_seconds() - started;
    if (status == KVS_OK && log != NULL) {
        *log = e->log;
        e->log = (kvs_request_log){0};
    }
    kvs_engine_destroy(e);
    if (status != KVS_OK) kvs_occupancy_run_clear(run);
    return status;
}
