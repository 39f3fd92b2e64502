/* scheduler.c: one engine step at a time: vLLM v1's scheduler (first come, first served). */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/engine_internal.h"

kvs_status kvs_engine_create(const kvs_requests *requests, kvs_allocator *allocator, kvs_engine_options options,
                             kvs_engine **engine, kvs_error *error) {
    kvs_engine *e = calloc(1, sizeof *e);
    if (e == NULL) return kvs_fail(error, KVS_INPUT, requests->source, NULL, "out of memory");
    *e = (kvs_engine){.requests = requests, .allocator = allocator, .options = options};
    int64_t most = options.max_seqs < requests->count ? options.max_seqs : requests->count;
    e->running = malloc((size_t)(most + 1) * sizeof *e->running);
    e->preempted = malloc((size_t)(most + 1) * sizeof *e->preempted);
    e->log.count = requests->count;
    e->log.first_token_s = malloc((size_t)(requests->count + 1) * sizeof(double));
    e->log.finish_s = malloc((size_t)(requests->count + 1) * sizeof(double));
    if (e->running == NULL || e->preempted == NULL || e->log.first_token_s == NULL || e->log.finish_s == NULL) {
        kvs_engine_destroy(e);
        return kvs_fail(error, KVS_INPUT, requests->source, NULL, "out of memory for %" PRId64 " requests",
                        requests->count);
    }
    e->preempted_capacity = most + 1;
    for (int64_t r = 0; r < requests->count; r++) e->log.first_token_s[r] = e->log.finish_s[r] = NAN;
    *engine = e;
    return KVS_OK;
}

void kvs_request_log_clear(kvs_request_log *log) {
    free(log->first_token_s);
    free(log->finish_s);
    *log = (kvs_request_log){0};
}

void kvs_engine_destroy(kvs_engine *e) {
    if (e == NULL) return;
    for (int64_t i = 0; i < e->running_count; i++) e->allocator->type->release(e->allocator, &e->running[i]);
    free(e->running);
    free(e->preempted);
    kvs_request_log_clear(&e->log);
    free(e);
}

int64_t kvs_engine_running(const kvs_engine *e, const kvs_engine_sequence **sequences) {
    *sequences = e->running;
    return e->running_count;
}

int64_t kvs_engine_waiting(const kvs_engine *e) {
    return e->preempted_count + e->arrived - e->admitted;
}

double kvs_engine_arrival_s(const kvs_engine *e, int64_t request) {
    if (e->options.saturate) return 0.0;
    return 1e-9 * (double)(e->requests->arrival_ns[request] - e->requests->arrival_ns[0]);
}

/* Frees the sequence admitted last and puts it at the front of the queue. */
static kvs_status preempt_last(kvs_engine *e, kvs_error *error) {
    kvs_engine_sequence *victim = &e->running[--e->running_count];
    e->allocator->type->release(e->allocator, victim);
    victim->lost = victim->computed;
    victim->computed = victim->scheduled = 0;
    if (e->preempted_count == e->preempted_capacity) {
        int64_t capacity = 2 * e->preempted_capacity;
        kvs_engine_sequence *grown = realloc(e->preempted, (size_t)capacity * sizeof *grown);
        if (grown == NULL) return kvs_fail(error, KVS_INPUT, e->requests->source, NULL, "out of memory");
        e->preempted = grown;
        e->preempted_capacity = capacity;
    }
    e->preempted[e->preempted_count++] = *victim;
    e->preemptions++;
    return KVS_OK;
}

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* What the sequence's share of the step reads and computes. */
static void count(kvs_engine *e, kvs_engine_sequence *s, int64_t tokens, kvs_step *step) {
    s->scheduled = (int32_t)tokens;
    step->sequences++;
    step->tokens += tokens;
    step->decodes += tokens == 1 && s->computed + 1 == s->known && s->generated > 0;
    step->kv_bytes += kvs_read_bytes(e->allocator->geometry, s->computed + (tokens == 1));
    step->pairs += (double)tokens * ((double)s->computed + 0.5 * (double)(tokens + 1));
    s->computed += s->scheduled;
}

/* Only its last token is left, and a recording says that it came later. */
static int is_early(const kvs_engine *e, const kvs_engine_sequence *s, double now_s) {
    const double *leave = e->options.leave_s;
    return leave != NULL && now_s < leave[s->request] && s->generated + 1 >= e->requests->output_tokens[s->request] &&
           s->generated > 0;
}

static kvs_status schedule_running(kvs_engine *e, int64_t *budget, int *preempted, kvs_step *step, kvs_error *error) {
    for (int64_t i = 0; i < e->running_count; i++) {
        kvs_engine_sequence *s = &e->running[i];
        s->scheduled = 0;
        int64_t tokens = smaller(s->known - s->computed, *budget);
        if (tokens == 0 || is_early(e, s, step->start_s)) continue;
        while (i < e->running_count && !e->allocator->type->extend(e->allocator, s, s->computed + tokens)) {
            KVS_TRY(preempt_last(e, error));
            *preempted = 1;
        }
        if (i == e->running_count) break; /* it preempted itself */
        *budget -= tokens;
        count(e, s, tokens, step);
    }
    return KVS_OK;
}

static void leave(kvs_engine *e, int64_t request, double now_s) {
    e->log.finish_s[request] = now_s;
    e->completed++;
}

/* A request that cannot run even alone would block the queue for ever. */
static kvs_status refuse_too_large(kvs_engine *e, int64_t request, int *refused, kvs_error *error) {
    const kvs_requests *q = e->requests;
    int64_t tokens = (int64_t)q->input_tokens[request] + q->output_tokens[request];
    *refused = !e->allocator->type->fits(e->allocator, tokens);
    if (!*refused) return KVS_OK;
    if (!e->options.skip_bad)
        return kvs_fail(error, KVS_INPUT, q->source, NULL,
                        "request %" PRId64 " of %" PRId64 " tokens is larger than the whole memory of %.0f bytes; "
                        "--skip-bad leaves such requests out",
                        request, tokens, e->allocator->options.memory_bytes);
    e->skipped++;
    e->admitted++;
    return KVS_OK;
}

static kvs_status schedule_waiting(kvs_engine *e, int64_t *budget, kvs_step *step, kvs_error *error) {
    while (*budget > 0 && e->running_count < e->options.max_seqs) {
        kvs_engine_sequence s = {.request = e->admitted};
        int again = e->preempted_count > 0, refused = 0;
        if (!again && e->admitted == e->arrived) return KVS_OK;
        if (!again) KVS_TRY(refuse_too_large(e, e->admitted, &refused, error));
        if (refused) continue;
        if (again) {
            s = e->preempted[e->preempted_count - 1];
            if (e->options.leave_s != NULL && step->start_s >= e->options.leave_s[s.request]) {
                e->preempted_count--;
                leave(e, s.request, step->start_s);
                continue;
            }
        } else
            s.known = e->requests->input_tokens[s.request];
        int64_t hit = 0;
        int admitted = e->allocator->type->admit(e->allocator, &s, *budget, e->options.reserve_full_input,
                                                 e->running_count > 0, &hit);
        if (admitted < 0) return kvs_fail(error, KVS_INPUT, e->requests->source, NULL, "out of memory");
        if (!admitted) return KVS_OK;
        if (again)
            e->preempted_count--;
        else
            e->admitted++;
        if (!again) { /* what a preempted one finds of its own is no shared prefix */
            e->queried_tokens += s.known;
            e->hit_tokens += hit;
        }
        e->recomputed_tokens += s.lost > hit ? s.lost - hit : 0;
        s.lost = 0;
        s.computed = (int32_t)hit;
        int64_t tokens = smaller(s.known - hit, *budget);
        *budget -= tokens;
        count(e, &s, tokens, step);
        e->running[e->running_count++] = s;
    }
    return KVS_OK;
}

kvs_status kvs_engine_schedule(kvs_engine *e, double now_s, kvs_step *step, double *next_s, kvs_error *error) {
    *step = (kvs_step){.start_s = now_s};
    while (e->arrived < e->requests->count && kvs_engine_arrival_s(e, e->arrived) <= now_s) e->arrived++;
    int64_t budget = e->options.max_batched_tokens;
    int preempted = 0;
    KVS_TRY(schedule_running(e, &budget, &preempted, step, error));
    if (!preempted) KVS_TRY(schedule_waiting(e, &budget, step, error));
    *next_s = e->arrived < e->requests->count ? kvs_engine_arrival_s(e, e->arrived) : INFINITY;
    for (int64_t i = 0; i < e->running_count && e->options.leave_s != NULL; i++)
        *next_s = fmin(*next_s, fmax(now_s, e->options.leave_s[e->running[i].request]));
    e->peak_running = e->running_count > e->peak_running ? e->running_count : e->peak_running;
    int64_t waiting = kvs_engine_waiting(e);
    e->peak_waiting = waiting > e->peak_waiting ? waiting : e->peak_waiting;
    return e->options.check ? e->allocator->type->check(e->allocator, error) : KVS_OK;
}

void kvs_engine_finish_step(kvs_engine *e, double end_s) {
    int64_t kept = 0;
    e->steps++;
    for (int64_t i = 0; i < e->running_count; i++) {
        kvs_engine_sequence *s = &e->running[i];
        int done = 0;
        if (s->scheduled > 0 && s->computed == s->known) {
            int32_t wanted = e->requests->output_tokens[s->request];
            if (s->generated == 0) e->log.first_token_s[s->request] = end_s;
            e->output_tokens++;
            s->generated++;
            s->known++;
            done = s->generated >= wanted; /* a request for no tokens ends with its prompt */
        }
        if (e->options.leave_s != NULL) done = end_s >= e->options.leave_s[s->request];
        if (done) {
            e->allocator->type->release(e->allocator, s);
            leave(e, s->request, end_s);
        } else if (kept++ != i)
            e->running[kept - 1] = *s;
    }
    e->running_count = kept;
}
