/* step.c: one token through all layers, as decoding does it: every weight and the whole cache are read once, so it is
 * bound by reading memory. One team of threads stays awake for all layers; each takes its part of the rows of a matrix,
 * of the heads, of the cache, and waits for the others where the next step needs all of it. A sum never depends on who
 * adds it up. */
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "core/progress.h"
#include "sim/model/rope.h"
#include "sim/model/session.h"
#include "sim/model/vector.h"

enum {
    WORTH_BYTES = 1 << 19, /* of weights from which on threads are worth waking */
    SPINS = 1 << 13,       /* looks before a waiting thread lets others run */
    LINE = 16              /* floats of a line of the processor's cache */
};

/* What the threads share. */
typedef struct team {
    const kvs_session *s;
    kvs_status status; /* the first failure; looked at after waiting */
    kvs_error *error;
    atomic_int here, round;
} team;

/* Waits until the whole team is here. OpenMP's own barriers spin for milliseconds, which on a machine with other work
 * to do may be what keeps the thread that they wait for from running: a tenth of the speed, where this keeps half. */
static void wait_for_all(team *t) {
    int round = atomic_load(&t->round);
    if (atomic_fetch_add(&t->here, 1) == omp_get_num_threads() - 1) {
        atomic_store(&t->here, 0);
        atomic_store(&t->round, round + 1);
        return;
    }
    for (int looks = 0; atomic_load_explicit(&t->round, memory_order_acquire) == round; looks++)
        if (looks > SPINS) sched_yield();
}

/* The calling thread's part [*first, *first + *count) of n things, in units. */
static void share(int n, int unit, int *first, int *count) {
    int64_t units = (n + unit - 1) / unit, threads = omp_get_num_threads(), me = omp_get_thread_num();
    int64_t from = units * me / threads * unit, to = units * (me + 1) / threads * unit;
    *first = (int)from;
    *count = (int)((to < n ? to : n) - from);
}

/* The calling thread's rows of y = w x, or y + w x. */
static void product(const kvs_matrix *w, const float *x, int add, float *y) {
    int first, count;
    share(w->rows, LINE, &first, &count);
    kvs_matrix part = kvs_matrix_part(w, first, count);
    kvs_matrix_times(&part, x, add, y + first);
}

/* Every thread norms the whole row for itself, into its scratch: that is less work than waiting. */
static const float *normed(const kvs_session *s, const float *weight) {
    float *h = kvs_session_scratch(s);
    kvs_rms_norm(s->model->config.hidden, s->x, weight, (float)s->model->config.norm_epsilon, h);
    return h;
}

/* --- queries, keys and values --------------------------------------------------------------------------------------
 */

static float *key_row(const kvs_session *s, int layer, int head) {
    size_t dim = (size_t)s->model->config.head_dim;
    return s->k + kvs_session_cache(s, layer) + (size_t)head * kvs_session_head_floats(s) + (size_t)s->seen * dim;
}

/* The norm of a head if there is one. */
static void place_row(const kvs_session *s, const float *from, const float *norm, float *to) {
    const kvs_model_config *c = &s->model->config;
    if (norm != NULL)
        kvs_rms_norm(c->head_dim, from, norm, (float)c->norm_epsilon, to);
    else
        memcpy(to, from, sizeof *to * (size_t)c->head_dim);
}

/* The projections of a KV head and of its queries go where attention reads them. */
static void place(const kvs_session *s, int index, int head) {
    const kvs_model_config *c = &s->model->config;
    const kvs_layer *layer = &s->model->layers[index];
    size_t dim = (size_t)c->head_dim, group = (size_t)(c->query_heads / c->kv_heads), mine = (size_t)head * group;
    const float *k = s->step.qkv + ((size_t)c->query_heads + (size_t)head) * dim, *v = k + (size_t)c->kv_heads * dim;
    float *key = key_row(s, index, head);
    for (size_t h = mine; h < mine + group; h++) place_row(s, s->step.qkv + h * dim, layer->q_norm, s->q + h * dim);
    place_row(s, k, layer->k_norm, key);
    memcpy(s->v + (key - s->k), v, sizeof *v * dim);
}

/* Turns a KV head's key and its queries, and stores what is due. */
static int turn_and_store(const kvs_session *s, int layer, int head) {
    const kvs_model_config *c = &s->model->config;
    size_t dim = (size_t)c->head_dim, angles = (size_t)s->seen * dim / 2;
    int group = c->query_heads / c->kv_heads;
    for (int h = head * group; h < (head + 1) * group; h++)
        kvs_rope_rotate(&c->rope, s->cosines + angles, s->sines + angles, s->q + (size_t)h * dim);
    kvs_rope_rotate(&c->rope, s->cosines + angles, s->sines + angles, key_row(s, layer, head));
    if (s->pass.scheme == NULL) return -1;
    if (!kvs_session_store(s, layer, 0, head)) return 0;
    return kvs_session_store(s, layer, 1, head) ? -1 : 1;
}

static void observe(team *t, int layer) {
    if (omp_get_thread_num() == 0 && t->status == KVS_OK) t->status = kvs_session_observe(t->s, layer, t->error);
    wait_for_all(t);
}

static void turn_and_store_all(team *t, int layer, int first, int count) {
    for (int head = first; head < first + count; head++) {
        int side = turn_and_store(t->s, layer, head);
        if (side < 0) continue;
#pragma omp critical(kvs_session_step)
        if (t->status == KVS_OK) t->status = kvs_session_overflow(t->s, layer, side, head, t->error);
    }
    wait_for_all(t);
}

static void take_in(team *t, int layer) {
    const kvs_model_pass *pass = &t->s->pass;
    int first, count;
    share(t->s->model->config.kv_heads, 1, &first, &count);
    for (int head = first; head < first + count; head++) place(t->s, layer, head);
    if (pass->observe != NULL && pass->before_rope) {
        wait_for_all(t);
        observe(t, layer);
    }
    turn_and_store_all(t, layer, first, count);
    if (pass->observe != NULL && !pass->before_rope) observe(t, layer);
}

/* --- attention -----------------------------------------------------------------------------------------------------
 */

static void attend(team *t, int layer) {
    const kvs_session *s = t->s;
    const kvs_model_config *c = &s->model->config;
    const int group = c->query_heads / c->kv_heads, parts = s->seen / KVS_ATTENTION_PART + 1;
    const float scale = (float)kvs_model_softmax_scale(c);
    size_t dim = (size_t)c->head_dim;
    int first, count;
    share(c->kv_heads * parts, 1, &first, &count);
    for (int i = first; i < first + count; i++) {
        int head = i / parts, part = i % parts;
        kvs_cache_side k, v;
        kvs_session_sides(s, layer, head, &k, &v);
        kvs_attention_part(c->head_dim, scale, &k, &v, s->q + (size_t)(head * group) * dim, group, s->seen, part,
                           kvs_session_scratch(s), &s->step.sums[part * c->query_heads + head * group]);
    }
    wait_for_all(t);
    share(c->query_heads, 1, &first, &count);
    for (int h = first; h < first + count; h++)
        kvs_attention_join(c->head_dim, scale, parts, &s->step.sums[h], c->query_heads, s->attended + (size_t)h * dim);
    wait_for_all(t);
}

/* --- a layer -------------------------------------------------------------------------------------------------------
 */

static void gate(const kvs_session *s, const kvs_layer *layer) {
    const kvs_model_config *c = &s->model->config;
    const float *h = normed(s, layer->post_norm);
    float *up = kvs_session_scratch(s) + c->hidden;
    int first, count;
    share(c->intermediate, LINE, &first, &count);
    kvs_matrix gate_rows = kvs_matrix_part(&layer->gate_up, first, count);
    kvs_matrix up_rows = kvs_matrix_part(&layer->gate_up, c->intermediate + first, count);
    kvs_matrix_times(&gate_rows, h, 0, s->step.gate + first);
    kvs_matrix_times(&up_rows, h, 0, up);
    kvs_silu_gate(count, s->step.gate + first, up);
}

static void run_layer(team *t, int index) {
    const kvs_session *s = t->s;
    const kvs_layer *layer = &s->model->layers[index];
    product(&layer->qkv, normed(s, layer->input_norm), 0, s->step.qkv);
    wait_for_all(t);
    take_in(t, index);
    if (t->status != KVS_OK) return; /* all threads see the same */
    attend(t, index);
    product(&layer->output, s->attended, 1, s->x);
    wait_for_all(t);
    gate(s, layer);
    wait_for_all(t);
    product(&layer->down, s->step.gate, 1, s->x);
    wait_for_all(t);
}

kvs_status kvs_session_step(const kvs_session *s, kvs_error *error) {
    if (kvs_interrupted()) return kvs_fail(error, KVS_INTERRUPTED, NULL, NULL, "interrupted");
    team t = {.s = s, .status = KVS_OK, .error = error};
#pragma omp parallel if (s->model->memory_bytes > WORTH_BYTES)
    for (int i = 0; i < s->model->config.layers && t.status == KVS_OK; i++) run_layer(&t, i);
    return t.status;
}

void kvs_step_logits(const kvs_model *model, const float *hidden, float *logits) {
#pragma omp parallel if (model->memory_bytes > WORTH_BYTES)
    product(&model->logit_head, hidden, 0, logits);
}
