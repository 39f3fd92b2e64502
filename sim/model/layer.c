/* layer.c: many tokens through a layer, in blocks of rows. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "core/progress.h"
#include "kernels/cache.h"
#include "sim/model/rope.h"
#include "sim/model/session.h"
#include "sim/model/vector.h"

enum { WORTH_ATTENDING = 1 << 13 /* queries times keys from which on threads are worth waking */ };

/* --- one layer: q, k, v --------------------------------------------------------------------------------------------
 */

/* Moves one token's projections [heads][head_dim] to row `token` of to [heads][stride][head_dim], through the norm of a
 * head if there is one. */
static void spread(const kvs_session *s, const float *from, int heads, const float *norm, int stride, int token,
                   float *to) {
    const kvs_model_config *c = &s->model->config;
    size_t dim = (size_t)c->head_dim;
    for (int h = 0; h < heads; h++) {
        float *row = to + ((size_t)h * (size_t)stride + (size_t)token) * dim;
        if (norm != NULL)
            kvs_rms_norm(c->head_dim, from + (size_t)h * dim, norm, (float)c->norm_epsilon, row);
        else
            memcpy(row, from + (size_t)h * dim, sizeof(float) * dim);
    }
}

static void project(const kvs_session *s, int index) {
    const kvs_model_config *c = &s->model->config;
    const kvs_layer *layer = &s->model->layers[index];
    int q_columns = c->query_heads * c->head_dim, kv_columns = c->kv_heads * c->head_dim;
    int columns = q_columns + 2 * kv_columns;
    float *k = s->k + kvs_session_cache(s, index), *v = s->v + kvs_session_cache(s, index);
#pragma omp parallel for schedule(dynamic) if (s->tokens > KVS_PASS_ROWS)
    for (int first = 0; first < s->tokens; first += KVS_PASS_ROWS) {
        int rows = s->tokens - first < KVS_PASS_ROWS ? s->tokens - first : KVS_PASS_ROWS;
        float *h = kvs_session_scratch(s), *qkv = h + (size_t)KVS_PASS_ROWS * (size_t)c->hidden;
        for (int r = 0; r < rows; r++)
            kvs_rms_norm(c->hidden, s->x + (size_t)(first + r) * (size_t)c->hidden, layer->input_norm,
                         (float)c->norm_epsilon, h + (size_t)r * (size_t)c->hidden);
        kvs_matrix_multiply(&layer->qkv, h, rows, 0, qkv);
        for (int r = 0; r < rows; r++) {
            const float *row = qkv + (size_t)r * (size_t)columns;
            int at = s->seen + first + r;
            spread(s, row, c->query_heads, layer->q_norm, s->tokens, first + r, s->q);
            spread(s, row + q_columns, c->kv_heads, layer->k_norm, s->capacity, at, k);
            spread(s, row + q_columns + kv_columns, c->kv_heads, NULL, s->capacity, at, v);
        }
    }
}

static void rotate(const kvs_session *s, int index) {
    const kvs_model_config *c = &s->model->config;
    size_t half = (size_t)c->head_dim / 2, dim = (size_t)c->head_dim;
    float *k = s->k + kvs_session_cache(s, index);
#pragma omp parallel for collapse(2) schedule(static) if (s->tokens > KVS_PASS_ROWS)
    for (int h = 0; h < c->query_heads + c->kv_heads; h++)
        for (int t = 0; t < s->tokens; t++) {
            size_t at = (size_t)(s->seen + t), head = (size_t)(h < c->query_heads ? h : h - c->query_heads);
            float *row = h < c->query_heads ? s->q + (head * (size_t)s->tokens + (size_t)t) * dim
                                            : k + (head * (size_t)s->capacity + at) * dim;
            kvs_rope_rotate(&c->rope, s->cosines + at * half, s->sines + at * half, row);
        }
}

/* --- one layer: the cache ------------------------------------------------------------------------------------------
 */

int kvs_session_store(const kvs_session *s, int layer, int side, int head) {
    const kvs_rope *rope = &s->model->config.rope;
    size_t at = kvs_session_cache(s, layer) + (size_t)head * kvs_session_head_floats(s);
    const kvs_store *store = side == 0 ? &s->pass.scheme->k : &s->pass.scheme->v;
    float *full = (side == 0 ? s->k : s->v) + at, *stored = (side == 0 ? s->k_stored : s->v_stored) + at;
    kvs_page_context context = {
        .place = {.seed = s->pass.seed, .sequence = s->pass.sequence, .layer = layer, .kv_head = head},
        .rope = {rope->rotary_dim, 0, rope->inverse_frequency},
    };
    return kvs_store_append(store, &context, s->seen, s->tokens, s->pass.prompt_tokens, full, stored,
                            kvs_session_scratch(s));
}

kvs_status kvs_session_overflow(const kvs_session *s, int layer, int side, int head, kvs_error *error) {
    char object[64];
    snprintf(object, sizeof object, "%s of layer %d, head %d", side == 0 ? "K" : "V", layer, head);
    return kvs_fail(error, KVS_INPUT, s->model->directory, object, "does not fit binary16");
}

static kvs_status fill_cache(const kvs_session *s, int layer, kvs_error *error) {
    int overflowing = INT_MAX;
#pragma omp parallel for schedule(dynamic) reduction(min : overflowing) if (s->tokens > KVS_PASS_ROWS)
    for (int i = 0; i < 2 * s->model->config.kv_heads; i++)
        if (!kvs_session_store(s, layer, i % 2, i / 2) && i < overflowing) overflowing = i;
    return overflowing == INT_MAX ? KVS_OK : kvs_session_overflow(s, layer, overflowing % 2, overflowing / 2, error);
}

void kvs_session_sides(const kvs_session *s, int layer, int head, kvs_cache_side *k, kvs_cache_side *v) {
    const kvs_scheme *scheme = s->pass.scheme;
    size_t at = kvs_session_cache(s, layer) + (size_t)head * kvs_session_head_floats(s);
    *k = (kvs_cache_side){s->k + at, NULL, 0, NULL};
    *v = (kvs_cache_side){s->v + at, NULL, 0, NULL};
    if (scheme != NULL && scheme->k.codec != NULL)
        *k = (kvs_cache_side){s->k + at, s->k_stored + at, scheme->k.window.sink_tokens, s->k_end};
    if (scheme != NULL && scheme->v.codec != NULL)
        *v = (kvs_cache_side){s->v + at, s->v_stored + at, scheme->v.window.sink_tokens, s->v_end};
}

/* --- one layer: attention and the rest -----------------------------------------------------------------------------
 */

static void attend(const kvs_session *s, int index) {
    const kvs_model_config *c = &s->model->config;
    size_t dim = (size_t)c->head_dim, stride = (size_t)c->query_heads * dim;
    int blocks = (s->tokens + KVS_ATTENTION_ROWS - 1) / KVS_ATTENTION_ROWS, group = c->query_heads / c->kv_heads;
    float scale = (float)kvs_model_softmax_scale(c);
#pragma omp parallel for schedule(dynamic) if ((size_t)s->tokens * (size_t)(s->seen + s->tokens) > WORTH_ATTENDING)
    for (int task = 0; task < blocks * c->query_heads; task++) {
        int block = blocks - 1 - task / c->query_heads, head = task % c->query_heads; /* the longest first */
        int first = block * KVS_ATTENTION_ROWS;
        int rows = s->tokens - first < KVS_ATTENTION_ROWS ? s->tokens - first : KVS_ATTENTION_ROWS;
        kvs_cache_side k, v;
        kvs_session_sides(s, index, head / group, &k, &v);
        const float *q = s->q + ((size_t)head * (size_t)s->tokens + (size_t)first) * dim;
        kvs_attention_block(c->head_dim, scale, &k, &v, q, s->seen + first, rows, kvs_session_scratch(s),
                            s->attended + (size_t)first * stride + (size_t)head * dim, stride);
    }
}

static void finish_layer(const kvs_session *s, const kvs_layer *layer) {
    const kvs_model_config *c = &s->model->config;
    size_t hidden = (size_t)c->hidden, inner = (size_t)c->intermediate;
    size_t q_columns = (size_t)c->query_heads * (size_t)c->head_dim;
    kvs_matrix gate_rows = kvs_matrix_part(&layer->gate_up, 0, c->intermediate);
    kvs_matrix up_rows = kvs_matrix_part(&layer->gate_up, c->intermediate, c->intermediate);
#pragma omp parallel for schedule(dynamic) if (s->tokens > KVS_PASS_ROWS)
    for (int first = 0; first < s->tokens; first += KVS_PASS_ROWS) {
        int rows = s->tokens - first < KVS_PASS_ROWS ? s->tokens - first : KVS_PASS_ROWS;
        float *x = s->x + (size_t)first * hidden, *h = kvs_session_scratch(s), *gate = h + KVS_PASS_ROWS * hidden;
        float *up = gate + KVS_PASS_ROWS * inner;
        kvs_matrix_multiply(&layer->output, s->attended + (size_t)first * q_columns, rows, 1, x);
        for (int r = 0; r < rows; r++)
            kvs_rms_norm(c->hidden, x + (size_t)r * hidden, layer->post_norm, (float)c->norm_epsilon,
                         h + (size_t)r * hidden);
        kvs_matrix_multiply(&gate_rows, h, rows, 0, gate);
        kvs_matrix_multiply(&up_rows, h, rows, 0, up);
        for (int r = 0; r < rows; r++) kvs_silu_gate(c->intermediate, gate + (size_t)r * inner, up + (size_t)r * inner);
        kvs_matrix_multiply(&layer->down, gate, rows, 1, x);
    }
}

kvs_status kvs_session_observe(const kvs_session *s, int layer, kvs_error *error) {
    size_t at = kvs_session_cache(s, layer);
    kvs_projections now = {s->seen, s->tokens, s->capacity, s->q, s->k + at, s->v + at};
    return s->pass.observe(s->pass.user, layer, &now, error);
}

kvs_status kvs_session_layer(const kvs_session *s, int layer, kvs_error *error) {
    const kvs_model_pass *pass = &s->pass;
    if (kvs_interrupted()) return kvs_fail(error, KVS_INTERRUPTED, NULL, NULL, "interrupted");
    project(s, layer);
    if (pass->observe != NULL && pass->before_rope) KVS_TRY(kvs_session_observe(s, layer, error));
    rotate(s, layer);
    if (pass->scheme != NULL) KVS_TRY(fill_cache(s, layer, error));
    if (pass->observe != NULL && !pass->before_rope) KVS_TRY(kvs_session_observe(s, layer, error));
    attend(s, layer);
    finish_layer(s, &s->model->layers[layer]);
    return KVS_OK;
}
