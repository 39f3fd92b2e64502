#include "sim/model/forward.h"

#include <cblas.h>
#include <limits.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/progress.h"
#include "kernels/cache.h"
#include "sim/model/attention.h"
#include "sim/model/device_model.h"
#include "sim/model/rope.h"
#include "sim/model/vector.h"

enum {
    ROWS = 128,               /* tokens of one block of the matrix products with weights */
    WORTH_ATTENDING = 1 << 13 /* queries times keys from which on threads are worth waking */
};

struct kvs_session {
    const kvs_model *model;
    kvs_device_session *device; /* of a model on a device, which does everything */
    kvs_model_pass pass;
    int capacity, seen;         /* tokens */
    int layers_kept;            /* caches: 1 if each layer may overwrite the one before it */
    float *cosines, *sines;     /* [capacity][head_dim / 2] */
    float *k, *v;               /* [layers_kept][kv_heads][capacity][head_dim] */
    float *k_stored, *v_stored; /* the same; NULL without a scheme */
    int *k_end, *v_end;         /* [capacity]: what a query reads as stored */
    float *scratch;             /* [threads][scratch_floats] */
    size_t scratch_floats;
    /* Of the tokens under way, with room for `room`: */
    int tokens, room;
    float *x;        /* [tokens][hidden] */
    float *q;        /* [query_heads][tokens][head_dim] */
    float *attended; /* [tokens][query_heads * head_dim] */
};

static float *scratch_of(const kvs_session *s) {
    return s->scratch + (size_t)omp_get_thread_num() * s->scratch_floats;
}

static size_t head_floats(const kvs_session *s) {
    return (size_t)s->capacity * (size_t)s->model->config.head_dim;
}

/* Where the cache of a layer begins in k, v, k_stored and v_stored. */
static size_t cache_at(const kvs_session *s, int layer) {
    return (size_t)(layer % s->layers_kept) * (size_t)s->model->config.kv_heads * head_floats(s);
}

/* y[rows][n] = beta y + x[rows][k] w[n][k]^T; a single row is spread over the threads, by parts of w, where w is large
 * enough to be worth waking them. */
static void multiply(int rows, int n, int k, const float *x, const float *w, float beta, float *y) {
    enum { PART = 256, WORTH = 1 << 21 };
    if (rows > 1) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n, k, 1.0f, x, k, w, k, beta, y, n);
        return;
    }
#pragma omp parallel for schedule(static) if ((size_t)n * (size_t)k > WORTH)
    for (int first = 0; first < n; first += PART)
        cblas_sgemv(CblasRowMajor, CblasNoTrans, n - first < PART ? n - first : PART, k, 1.0f,
                    w + (size_t)first * (size_t)k, k, x, 1, beta, y + first, 1);
}

/* --- set-up --------------------------------------------------------------------------------------------------------
 */

static size_t block_floats(const kvs_model_config *c) {
    size_t projected = (size_t)(c->query_heads + 2 * c->kv_heads) * (size_t)c->head_dim;
    size_t inner = 2 * (size_t)c->intermediate;
    return ROWS * ((size_t)c->hidden + (projected > inner ? projected : inner));
}

static size_t largest_scratch(const kvs_session *s) {
    size_t sizes[] = {block_floats(&s->model->config), kvs_attention_scratch(s->capacity), 0, 0}, most = 0;
    if (s->pass.scheme != NULL) {
        sizes[2] = kvs_store_scratch_floats(&s->pass.scheme->k);
        sizes[3] = kvs_store_scratch_floats(&s->pass.scheme->v);
    }
    for (int i = 0; i < 4; i++) most = sizes[i] > most ? sizes[i] : most;
    return (most + 15) / 16 * 16;
}

static void window_ends(const kvs_session *s, const kvs_store *store, int *ends) {
    for (int p = 0; p < s->capacity; p++) {
        int exact = p < s->pass.prompt_tokens || store->codec == NULL;
        int64_t end = exact ? 0 : kvs_window_stored_end(&store->window, p, s->pass.prompt_tokens);
        ends[p] = (int)(end < p ? end : p);
    }
}

static kvs_status set_up(kvs_session *s, kvs_error *error) {
    const kvs_model_config *c = &s->model->config;
    size_t angles = (size_t)s->capacity * (size_t)c->head_dim / 2;
    size_t cache = (size_t)s->layers_kept * (size_t)c->kv_heads * head_floats(s);
    s->scratch_floats = largest_scratch(s);
    s->cosines = malloc(sizeof(float) * angles);
    s->sines = malloc(sizeof(float) * angles);
    s->k = malloc(sizeof(float) * cache);
    s->v = malloc(sizeof(float) * cache);
    s->k_end = malloc(sizeof(int) * (size_t)s->capacity);
    s->v_end = malloc(sizeof(int) * (size_t)s->capacity);
    s->scratch = aligned_alloc(64, sizeof(float) * s->scratch_floats * (size_t)omp_get_max_threads());
    int good = s->cosines && s->sines && s->k && s->v && s->k_end && s->v_end && s->scratch;
    if (s->pass.scheme != NULL) {
        s->k_stored = malloc(sizeof(float) * cache);
        s->v_stored = malloc(sizeof(float) * cache);
        good = good && s->k_stored && s->v_stored;
    }
    if (!good) return kvs_fail(error, KVS_INPUT, s->model->directory, NULL, "out of memory for %d tokens", s->capacity);
    kvs_rope_table(&c->rope, 0, s->capacity, s->cosines, s->sines);
    if (s->pass.scheme != NULL) {
        window_ends(s, &s->pass.scheme->k, s->k_end);
        window_ends(s, &s->pass.scheme->v, s->v_end);
    }
    return KVS_OK;
}

static kvs_status open_session(const kvs_model *model, const kvs_model_pass *pass, int capacity, int layers_kept,
                               kvs_session **session, kvs_error *error) {
    *session = NULL;
    int limit = model->config.max_positions;
    if (capacity < 1 || capacity > limit)
        return kvs_fail(error, KVS_INPUT, model->directory, "max_position_embeddings",
                        "%d tokens; the model admits 1 to %d", capacity, limit);
    if (pass->scheme != NULL) {
        KVS_TRY(kvs_scheme_without_queries(pass->scheme, "a closed loop", error));
        KVS_TRY(kvs_scheme_check_model(pass->scheme, model->config.name, model->config.layers, model->config.kv_heads,
                                       error));
    }
    kvs_session *s = calloc(1, sizeof *s);
    if (s == NULL) return kvs_fail(error, KVS_INPUT, model->directory, NULL, "out of memory");
    *s = (kvs_session){.model = model, .pass = *pass, .capacity = capacity, .layers_kept = layers_kept};
    kvs_status status = model->device == NULL
                            ? set_up(s, error)
                            : kvs_device_session_open(model, pass, capacity, layers_kept, &s->device, error);
    if (status == KVS_OK)
        *session = s;
    else
        kvs_session_close(s);
    return status;
}

kvs_status kvs_session_open(const kvs_model *model, const kvs_model_pass *pass, int capacity, kvs_session **session,
                            kvs_error *error) {
    return open_session(model, pass, capacity, model->config.layers, session, error);
}

void kvs_session_close(kvs_session *s) {
    if (s == NULL) return;
    kvs_device_session_close(s->device);
    void *all[] = {s->cosines, s->sines, s->k, s->v,       s->k_stored, s->v_stored,
                   s->k_end,   s->v_end, s->x, s->scratch, s->q,        s->attended};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(s);
}

/* Room for the rows of `tokens` tokens. */
static kvs_status make_room(kvs_session *s, int tokens, kvs_error *error) {
    const kvs_model_config *c = &s->model->config;
    s->tokens = tokens;
    if (tokens <= s->room) return KVS_OK;
    size_t q = sizeof(float) * (size_t)tokens * (size_t)c->query_heads * (size_t)c->head_dim;
    free(s->x);
    free(s->q);
    free(s->attended);
    s->x = malloc(sizeof(float) * (size_t)tokens * (size_t)c->hidden);
    s->q = malloc(q);
    s->attended = malloc(q);
    s->room = s->x && s->q && s->attended ? tokens : 0;
    return s->room > 0 ? KVS_OK
                       : kvs_fail(error, KVS_INPUT, s->model->directory, NULL, "out of memory for %d tokens", tokens);
}

static kvs_status embed(const kvs_session *s, const int32_t *ids, kvs_error *error) {
    const kvs_model_config *c = &s->model->config;
    for (int t = 0; t < s->tokens; t++) {
        if (ids[t] < 0 || ids[t] >= c->vocabulary)
            return kvs_fail(error, KVS_INPUT, s->model->directory, NULL, "token id %d is outside the vocabulary of %d",
                            ids[t], c->vocabulary);
        memcpy(s->x + (size_t)t * (size_t)c->hidden, s->model->embedding + (size_t)ids[t] * (size_t)c->hidden,
               sizeof(float) * (size_t)c->hidden);
    }
    return KVS_OK;
}

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
    float *k = s->k + cache_at(s, index), *v = s->v + cache_at(s, index);
#pragma omp parallel for schedule(dynamic) if (s->tokens > ROWS)
    for (int first = 0; first < s->tokens; first += ROWS) {
        int rows = s->tokens - first < ROWS ? s->tokens - first : ROWS;
        float *h = scratch_of(s), *qkv = h + (size_t)ROWS * (size_t)c->hidden;
        for (int r = 0; r < rows; r++)
            kvs_rms_norm(c->hidden, s->x + (size_t)(first + r) * (size_t)c->hidden, layer->input_norm,
                         (float)c->norm_epsilon, h + (size_t)r * (size_t)c->hidden);
        multiply(rows, columns, c->hidden, h, layer->qkv, 0.0f, qkv);
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
    float *k = s->k + cache_at(s, index);
#pragma omp parallel for collapse(2) schedule(static) if (s->tokens > ROWS)
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

/* The new rows of one head of K or V, and the pages that have become due. */
static int store_head(const kvs_session *s, const kvs_store *store, int layer, int head, float *full, float *stored) {
    const kvs_rope *rope = &s->model->config.rope;
    kvs_page_context context = {
        .place = {.seed = s->pass.seed, .sequence = s->pass.sequence, .layer = layer, .kv_head = head},
        .rope = {rope->rotary_dim, 0, rope->inverse_frequency},
    };
    return kvs_store_append(store, &context, s->seen, s->tokens, s->pass.prompt_tokens, full, stored, scratch_of(s));
}

static kvs_status fill_cache(const kvs_session *s, int layer, kvs_error *error) {
    const kvs_model_config *c = &s->model->config;
    const kvs_scheme *scheme = s->pass.scheme;
    int overflowing = INT_MAX;
#pragma omp parallel for schedule(dynamic) reduction(min : overflowing) if (s->tokens > ROWS)
    for (int i = 0; i < 2 * c->kv_heads; i++) {
        size_t at = cache_at(s, layer) + (size_t)(i / 2) * head_floats(s);
        int good = i % 2 == 0 ? store_head(s, &scheme->k, layer, i / 2, s->k + at, s->k_stored + at)
                              : store_head(s, &scheme->v, layer, i / 2, s->v + at, s->v_stored + at);
        if (!good && i < overflowing) overflowing = i;
    }
    if (overflowing == INT_MAX) return KVS_OK;
    char object[64];
    snprintf(object, sizeof object, "%s of layer %d, head %d", overflowing % 2 ? "V" : "K", layer, overflowing / 2);
    return kvs_fail(error, KVS_INPUT, s->model->directory, object, "does not fit binary16");
}

/* --- one layer: attention and the rest -----------------------------------------------------------------------------
 */

static void attend(const kvs_session *s, int index) {
    const kvs_model_config *c = &s->model->config;
    size_t dim = (size_t)c->head_dim, stride = (size_t)c->query_heads * dim;
    int blocks = (s->tokens + KVS_ATTENTION_ROWS - 1) / KVS_ATTENTION_ROWS, group = c->query_heads / c->kv_heads;
    const kvs_scheme *scheme = s->pass.scheme;
    float scale = (float)kvs_model_softmax_scale(c);
#pragma omp parallel for schedule(dynamic) if ((size_t)s->tokens * (size_t)(s->seen + s->tokens) > WORTH_ATTENDING)
    for (int task = 0; task < blocks * c->query_heads; task++) {
        int block = blocks - 1 - task / c->query_heads, head = task % c->query_heads; /* the longest first */
        int first = block * KVS_ATTENTION_ROWS;
        int rows = s->tokens - first < KVS_ATTENTION_ROWS ? s->tokens - first : KVS_ATTENTION_ROWS;
        size_t at = cache_at(s, index) + (size_t)(head / group) * head_floats(s);
        kvs_cache_side k = {s->k + at, NULL, 0, NULL}, v = {s->v + at, NULL, 0, NULL};
        if (scheme != NULL && scheme->k.codec != NULL)
            k = (kvs_cache_side){s->k + at, s->k_stored + at, scheme->k.window.sink_tokens, s->k_end};
        if (scheme != NULL && scheme->v.codec != NULL)
            v = (kvs_cache_side){s->v + at, s->v_stored + at, scheme->v.window.sink_tokens, s->v_end};
        const float *q = s->q + ((size_t)head * (size_t)s->tokens + (size_t)first) * dim;
        kvs_attention_block(c->head_dim, scale, &k, &v, q, s->seen + first, rows, scratch_of(s),
                            s->attended + (size_t)first * stride + (size_t)head * dim, stride);
    }
}

static void finish_layer(const kvs_session *s, const kvs_layer *layer) {
    const kvs_model_config *c = &s->model->config;
    size_t hidden = (size_t)c->hidden, inner = (size_t)c->intermediate;
    int q_columns = c->query_heads * c->head_dim;
#pragma omp parallel for schedule(dynamic) if (s->tokens > ROWS)
    for (int first = 0; first < s->tokens; first += ROWS) {
        int rows = s->tokens - first < ROWS ? s->tokens - first : ROWS;
        float *x = s->x + (size_t)first * hidden, *h = scratch_of(s), *gate = h + ROWS * hidden;
        float *up = gate + ROWS * inner;
        multiply(rows, c->hidden, q_columns, s->attended + (size_t)first * (size_t)q_columns, layer->output, 1.0f, x);
        for (int r = 0; r < rows; r++)
            kvs_rms_norm(c->hidden, x + (size_t)r * hidden, layer->post_norm, (float)c->norm_epsilon,
                         h + (size_t)r * hidden);
        multiply(rows, c->intermediate, c->hidden, h, layer->gate_up, 0.0f, gate);
        multiply(rows, c->intermediate, c->hidden, h, layer->gate_up + inner * hidden, 0.0f, up);
        for (int r = 0; r < rows; r++) kvs_silu_gate(c->intermediate, gate + (size_t)r * inner, up + (size_t)r * inner);
        multiply(rows, c->hidden, c->intermediate, gate, layer->down, 1.0f, x);
    }
}

static kvs_status observe(const kvs_session *s, int layer, kvs_error *error) {
    size_t at = cache_at(s, layer);
    kvs_projections now = {s->seen, s->tokens, s->capacity, s->q, s->k + at, s->v + at};
    return s->pass.observe(s->pass.user, layer, &now, error);
}

static kvs_status run_layer(const kvs_session *s, int layer, kvs_error *error) {
    const kvs_model_pass *pass = &s->pass;
    if (kvs_interrupted()) return kvs_fail(error, KVS_INTERRUPTED, NULL, NULL, "interrupted");
    project(s, layer);
    if (pass->observe != NULL && pass->before_rope) KVS_TRY(observe(s, layer, error));
    rotate(s, layer);
    if (pass->scheme != NULL) KVS_TRY(fill_cache(s, layer, error));
    if (pass->observe != NULL && !pass->before_rope) KVS_TRY(observe(s, layer, error));
    attend(s, layer);
    finish_layer(s, &s->model->layers[layer]);
    return KVS_OK;
}

/* --- the contract --------------------------------------------------------------------------------------------------
 */

static kvs_status run_here(kvs_session *s, const int32_t *ids, int tokens, float *hidden, kvs_error *error) {
    const kvs_model_config *c = &s->model->config;
    KVS_TRY(make_room(s, tokens, error));
    KVS_TRY(embed(s, ids, error));
    for (int i = 0; i < c->layers; i++) KVS_TRY(run_layer(s, i, error));
    for (int t = 0; t < tokens; t++)
        kvs_rms_norm(c->hidden, s->x + (size_t)t * (size_t)c->hidden, s->model->final_norm, (float)c->norm_epsilon,
                     hidden + (size_t)t * (size_t)c->hidden);
    return KVS_OK;
}

kvs_status kvs_session_run(kvs_session *s, const int32_t *ids, int tokens, float *hidden, kvs_error *error) {
    if (tokens < 1 || tokens > s->capacity - s->seen)
        return kvs_fail(error, KVS_INPUT, s->model->directory, NULL, "%d tokens behind %d do not fit the %d asked for",
                        tokens, s->seen, s->capacity);
    kvs_status status = s->device != NULL ? kvs_device_session_run(s->device, ids, tokens, hidden, error)
                                          : run_here(s, ids, tokens, hidden, error);
    if (status == KVS_OK) s->seen += tokens;
    return status;
}

kvs_status kvs_model_forward(const kvs_model *model, const kvs_model_pass *pass, const int32_t *ids, int tokens,
                             float *hidden, kvs_error *error) {
    kvs_session *session;
    KVS_TRY(open_session(model, pass, tokens, 1, &session, error));
    kvs_status status = kvs_session_run(session, ids, tokens, hidden, error);
    kvs_session_close(session);
    return status;
}

kvs_status kvs_model_logits(const kvs_model *model, const float *hidden, int rows, float *logits, kvs_error *error) {
    if (model->device != NULL) return kvs_device_model_logits(model, hidden, rows, logits, error);
    multiply(rows, model->config.vocabulary, model->config.hidden, hidden, model->logit_head, 0.0f, logits);
    return KVS_OK;
}
