#include "sim/timeline.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/params.h"
#include "traces/request_csv.h"

/* --- the recording ----------------------------------------------------------------------------------------------- */

static const char *const names[] = {"t", "running", "waiting", "kv_cache_pct", NULL};

static kvs_status fail_line(const char *path, int64_t line, const char *rule, kvs_error *error) {
    char place[32];
    snprintf(place, sizeof place, "line %lld", (long long)line);
    return kvs_fail(error, KVS_INPUT, path, place, "%s", rule);
}

static kvs_status add_row(kvs_timeline *timeline, const char *path, int64_t line, char *text, const int columns[4],
                          kvs_error *error) {
    char *fields[KVS_CSV_MAX_FIELDS];
    double values[4];
    int count = kvs_csv_split(text, fields);
    for (int c = 0; c < 4; c++) {
        if (columns[c] >= count || kvs_parse_real(fields[columns[c]], &values[c]) || values[c] < 0)
            return fail_line(path, line, "has a t, running, waiting or kv_cache_pct that is no number of at least 0",
                             error);
    }
    if (values[3] > 100) return fail_line(path, line, "has a kv_cache_pct above 100", error);
    if (timeline->count > 0 && values[0] <= timeline->rows[timeline->count - 1].t_s)
        return fail_line(path, line, "is not later than the line above it", error);
    if ((timeline->count & (timeline->count + 1)) == 0) { /* full at 0, 1, 3, 7, ... */
        void *grown = realloc(timeline->rows, (size_t)(2 * timeline->count + 1) * sizeof *timeline->rows);
        if (grown == NULL) return fail_line(path, line, "does not fit in memory", error);
        timeline->rows = grown;
    }
    timeline->rows[timeline->count++] = (kvs_timeline_row){values[0], values[1], values[2], values[3]};
    return KVS_OK;
}

static kvs_status read_rows(FILE *file, const char *path, char **text, kvs_timeline *timeline, kvs_error *error) {
    size_t bytes = 0;
    int columns[4];
    for (int64_t line = 1;; line++) {
        ssize_t length = getline(text, &bytes, file);
        if (length < 0) break;
        (*text)[strcspn(*text, "\r\n")] = '\0';
        if ((*text)[0] == '\0') continue;
        if (line > 1)
            KVS_TRY(add_row(timeline, path, line, *text, columns, error));
        else if (kvs_csv_columns(*text, names, columns) != NULL)
            return fail_line(path, line, "is no header with t, running, waiting and kv_cache_pct", error);
    }
    if (timeline->count > 0) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, path, NULL, "holds no moment");
}

kvs_status kvs_timeline_load(const char *path, kvs_timeline *timeline, kvs_error *error) {
    *timeline = (kvs_timeline){0};
    char *text = NULL;
    FILE *file = fopen(path, "r");
    if (file == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be opened: %s", strerror(errno));
    kvs_status status = read_rows(file, path, &text, timeline, error);
    fclose(file);
    free(text);
    if (status != KVS_OK) kvs_timeline_clear(timeline);
    return status;
}

void kvs_timeline_clear(kvs_timeline *timeline) {
    free(timeline->rows);
    *timeline = (kvs_timeline){0};
}

/* --- requests in the order of their admission, arriving when they were admitted ---------------------------------- */

static int64_t moment(const kvs_requests *q, int64_t r, kvs_request_moment m) {
    return q->moments_ns[r * KVS_MOMENTS + m];
}

typedef struct ranked {
    int64_t scheduled_ns, request;
} ranked;

static int by_schedule(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->scheduled_ns != y->scheduled_ns) return x->scheduled_ns < y->scheduled_ns ? -1 : 1;
    return (x->request > y->request) - (x->request < y->request);
}

static kvs_status by_admission(const kvs_requests *q, kvs_requests *sorted, kvs_error *error) {
    ranked *order = malloc((size_t)(q->count + 1) * sizeof *order);
    kvs_status status = order != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, q->source, NULL, "out of memory");
    *sorted = (kvs_requests){.block_tokens = q->block_tokens};
    snprintf(sorted->source, sizeof sorted->source, "%s", q->source);
    for (int64_t r = 0; r < q->count && status == KVS_OK; r++)
        order[r] = (ranked){moment(q, r, KVS_MOMENT_SCHEDULED), r};
    if (status == KVS_OK) qsort(order, (size_t)q->count, sizeof *order, by_schedule);
    for (int64_t i = 0; i < q->count && status == KVS_OK; i++) {
        int64_t r = order[i].request;
        kvs_request one = {.arrival_ns = order[i].scheduled_ns,
                           .input_tokens = q->input_tokens[r],
                           .output_tokens = q->output_tokens[r],
                           .blocks = (int32_t)(q->block_start[r + 1] - q->block_start[r])};
        one.block_ids = q->block_ids != NULL ? q->block_ids + q->block_start[r] : NULL;
        memcpy(one.moments_ns, q->moments_ns + r * KVS_MOMENTS, sizeof one.moments_ns);
        status = kvs_requests_append(sorted, &one, 1, error);
    }
    free(order);
    sorted->unique_blocks = q->unique_blocks;
    if (status != KVS_OK) kvs_requests_clear(sorted);
    return status;
}

/* --- the clock of the recording ---------------------------------------------------------------------------------- */

typedef struct replay {
    const kvs_timeline *timeline;
    const kvs_requests *requests; /* as the engine has them */
    kvs_allocator *allocator;
    kvs_clock clock;
    double zero_ns; /* on the requests' clock: the engine's time 0 */
    int recorded;
    int64_t next; /* the next moment of the timeline */
    kvs_timeline_row now;
    kvs_timeline_row *model;
    double *estimates, *leave_s; /* scratch; when each request's last token came */
} replay;

static double seconds_of(const replay *p, int64_t request, kvs_request_moment m) {
    return 1e-9 * ((double)moment(p->requests, request, m) - p->zero_ns);
}

enum { SHORTEST_US = 100 }; /* of a step that is late already */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* How long this step takes. One that brings out a first token ends when that was recorded. Otherwise each running
 * request gives an estimate, the time to its last token over its tokens to come, and their median counts: one that
 * the recorded engine is going to preempt has more time than steps, one that our model preempted has less. Where only
 * parts of prompts run, the step is their share of the time to their first token. */
static double recorded_seconds(const replay *p, const kvs_engine *engine, double now_s) {
    const kvs_engine_sequence *running;
    int64_t count = kvs_engine_running(engine, &running), estimates = 0;
    double first = INFINITY, part = INFINITY;
    for (int64_t i = 0; i < count; i++) {
        const kvs_engine_sequence *s = &running[i];
        if (s->scheduled == 0) continue;
        double to_first = seconds_of(p, s->request, KVS_MOMENT_FIRST_TOKEN) - now_s;
        double to_last = seconds_of(p, s->request, KVS_MOMENT_LAST_TOKEN) - now_s;
        int32_t left = p->requests->output_tokens[s->request] - s->generated;
        if (s->computed < s->known)
            part = fmin(part, to_first * s->scheduled / (s->known - s->computed + s->scheduled));
        else if (s->generated == 0)
            first = fmin(first, to_first);
        if (s->computed == s->known && left > 0 && to_last > 0) p->estimates[estimates++] = to_last / left;
    }
    double step = first;
    if (!isfinite(step) && estimates > 0) {
        qsort(p->estimates, (size_t)estimates, sizeof *p->estimates, by_value);
        step = p->estimates[estimates / 2];
    }
    if (!isfinite(step)) step = part;
    return isfinite(step) && step > 1e-6 * SHORTEST_US ? step : 1e-6 * SHORTEST_US;
}

/* --- the comparison ---------------------------------------------------------------------------------------------- */

static void observe(replay *p, const kvs_engine *engine, double now_s) {
    const kvs_engine_sequence *running;
    kvs_memory_state m = {0};
    p->allocator->type->state(p->allocator, &m);
    p->now = (kvs_timeline_row){now_s, (double)kvs_engine_running(engine, &running), 0, 0};
    p->now.kv_cache_pct = 100 * (1 - (double)m.free / (double)m.total);
    p->now.waiting = (double)kvs_engine_waiting(engine);
    for (int64_t r = 0; r < p->requests->count && p->recorded; r++) /* queued, and not yet there for our engine */
        p->now.waiting +=
            seconds_of(p, r, KVS_MOMENT_QUEUED) <= now_s && seconds_of(p, r, KVS_MOMENT_SCHEDULED) > now_s;
}

/* Copies what is now to all moments of the timeline before `until_s`. */
static void fill_until(replay *p, double until_s, double offset_s) {
    for (; p->next < p->timeline->count && p->timeline->rows[p->next].t_s - offset_s < until_s; p->next++) {
        p->model[p->next] = p->now;
        p->model[p->next].t_s = p->timeline->rows[p->next].t_s;
    }
}

static kvs_status play(replay *p, kvs_engine *engine, double offset_s, int64_t *steps, kvs_error *error) {
    for (double now = 0;;) {
        kvs_step step;
        double next;
        KVS_TRY(kvs_engine_schedule(engine, now, &step, &next, error));
        if (step.sequences == 0 && isinf(next)) break;
        double end = next;
        if (step.sequences > 0)
            end = now + (p->recorded ? recorded_seconds(p, engine, now) : p->clock.seconds(p->clock.model, &step));
        fill_until(p, end, offset_s);
        kvs_engine_finish_step(engine, end);
        *steps += step.sequences > 0;
        now = end;
        observe(p, engine, now);
    }
    fill_until(p, INFINITY, offset_s);
    return KVS_OK;
}

static kvs_deviation deviation(const kvs_timeline *timeline, const kvs_timeline_row *model, size_t offset) {
    kvs_deviation d = {0};
    for (int64_t i = 0; i < timeline->count; i++) {
        double theirs = *(const double *)((const char *)&timeline->rows[i] + offset);
        double ours = *(const double *)((const char *)&model[i] + offset);
        double off = fabs(ours - theirs);
        d.mean_abs += off / (double)timeline->count;
        if (off > d.max_abs) {
            d.max_abs = off;
            d.max_at_s = timeline->rows[i].t_s;
        }
    }
    return d;
}

static kvs_status prepare(replay *p, kvs_error *error) {
    size_t requests = (size_t)p->requests->count;
    p->model = calloc((size_t)p->timeline->count, sizeof *p->model);
    p->estimates = malloc((requests + 1) * sizeof *p->estimates);
    p->leave_s = malloc((requests + 1) * sizeof *p->leave_s);
    if (p->model == NULL || p->estimates == NULL || p->leave_s == NULL)
        return kvs_fail(error, KVS_INPUT, p->requests->source, NULL, "out of memory");
    for (int64_t r = 0; p->recorded && r < p->requests->count; r++)
        p->leave_s[r] = seconds_of(p, r, KVS_MOMENT_LAST_TOKEN);
    return KVS_OK;
}

static kvs_status compare(replay *p, double offset_s, kvs_engine_options options, kvs_timeline_result *result,
                          kvs_error *error) {
    kvs_engine *engine;
    if (p->recorded) options.leave_s = p->leave_s;
    KVS_TRY(kvs_engine_create(p->requests, p->allocator, options, &engine, error));
    kvs_status status = play(p, engine, offset_s, &result->steps, error);
    if (status == KVS_OK) result->preemptions = (int64_t)kvs_engine_occupancy(engine, 0).preemptions;
    kvs_engine_destroy(engine);
    if (status != KVS_OK) return status;
    result->kv_cache_pct = deviation(p->timeline, p->model, offsetof(kvs_timeline_row, kv_cache_pct));
    result->running = deviation(p->timeline, p->model, offsetof(kvs_timeline_row, running));
    result->waiting = deviation(p->timeline, p->model, offsetof(kvs_timeline_row, waiting));
    return KVS_OK;
}

kvs_status kvs_timeline_verify(const kvs_timeline *timeline, double offset_s, const kvs_requests *requests,
                               kvs_allocator *allocator, kvs_engine_options options, kvs_clock clock,
                               kvs_timeline_result *result, kvs_error *error) {
    replay p = {.timeline = timeline, .allocator = allocator, .clock = clock, .recorded = requests->moments_ns != NULL};
    kvs_requests sorted = {0};
    *result = (kvs_timeline_result){.moments = timeline->count, .recorded_timing = p.recorded};
    result->seconds = timeline->rows[timeline->count - 1].t_s;
    if (p.recorded) KVS_TRY(by_admission(requests, &sorted, error));
    p.requests = p.recorded ? &sorted : requests;
    p.zero_ns = (double)p.requests->arrival_ns[0];
    kvs_status status = prepare(&p, error);
    if (status == KVS_OK) status = compare(&p, offset_s, options, result, error);
    free(p.estimates);
    free(p.leave_s);
    if (status == KVS_OK)
        result->model = p.model;
    else
        free(p.model);
    kvs_requests_clear(&sorted);
    return status;
}
