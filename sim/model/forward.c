/* forward.c: a pass over many tokens, layer by layer, in blocks of rows. */
#include <cblas.h>
#include <limits.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "core/progress.h"
#include "sim/model/attention.h"
#include "sim/model/model.h"
#include "sim/model/rope.h"
#include "sim/model/vector.h"

enum { ROWS = 128 }; /* tokens of one block of the matrix products with weights */

typedef struct forward {
    const kvs_model *model;
    const kvs_pass *pass;
    int tokens;
    float *x;                   /* [tokens][hidden] */
    float *attended;            /* [tokens][query_heads * head_dim] */
    float *cosines, *sines;     /* [tokens][head_dim / 2] */
    kvs_projections now;        /* of the layer under way */
    float *k_stored, *v_stored; /* [kv_heads][tokens][head_dim]; NULL without a scheme */
    int *k_end, *v_end;         /* [tokens] */
    float *scratch;             /* [threads][scratch_floats] */
    size_t scratch_floats;
} forward;

static float *scratch_of(const forward *f) {
    return f->scratch + (size_t)omp_get_thread_num() * f->scratch_floats;
}

/* y[rows][n] = beta y + x[rows][k] w[n][k]^T */
static void multiply(int rows, int n, int k, const float *x, const float *w, float beta, float *y) {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, n, k, 1.0f, x, k, w, k, beta, y, n);
}

/* --- set-up --------------------------------------------------------------------------------------------------------
 */

static size_t block_floats(const kvs_model_config *c) {
    size_t projected = (size_t)(c->query_heads + 2 * c->kv_heads) * (size_t)c->head_dim;
    size_t inner = 2 * (size_t)c->intermediate;
    return ROWS * ((size_t)c->hidden + (projected > inner ? projected : inner));
}

static size_t largest_scratch(const forward *f) {
    const kvs_model_config *c = &f->model->config;
    size_t sizes[] = {block_floats(c), kvs_attention_scratch(f->tokens), 0, 0}, most = 0;
    if (f->pass->scheme != NULL) {
        sizes[2] = kvs_store_scratch_floats(&f->pass->scheme->k);
        sizes[3] = kvs_store_scratch_floats(&f->pass->scheme->v);
    }
    for (int i = 0; i < 4; i++) most = sizes[i] > most ? sizes[i] : most;
    return (most + 15) / 16 * 16;
}

static void window_ends(const kvs_store *store, int prompt, int tokens, int *ends) {
    for (int p = 0; p < tokens; p++) {
        int64_t end = p < prompt || store->codec == NULL ? 0 : kvs_window_stored_end(&store->window, p, prompt);
        ends[p] = (int)(end < p ? end : p);
    }
}

static kvs_status set_up(forward *f, kvs_error *error) {
    const kvs_model_config *c = &f->model->config;
    size_t t = (size_t)f->tokens, dim = (size_t)c->head_dim;
    size_t q = t * (size_t)c->query_heads * dim, kv = t * (size_t)c->kv_heads * dim;
    f->scratch_floats = largest_scratch(f);
    f->x = malloc(sizeof(float) * t * (size_t)c->hidden);
    f->attended = malloc(sizeof(float) * q);
    f->cosines = malloc(sizeof(float) * t * dim / 2);
    f->sines = malloc(sizeof(float) * t * dim / 2);
    f->now = (kvs_projections){malloc(sizeof(float) * q), malloc(sizeof(float) * kv), malloc(sizeof(float) * kv)};
    f->k_end = malloc(sizeof(int) * t);
    f->v_end = malloc(sizeof(int) * t);
    f->scratch = aligned_alloc(64, sizeof(float) * f->scratch_floats * (size_t)omp_get_max_threads());
    int good = f->x && f->attended && f->cosines && f->sines && f->now.q && f->now.k && f->now.v && f->k_end &&
               f->v_end && f->scratch;
    if (f->pass->scheme != NULL) {
        f->k_stored = malloc(sizeof(float) * kv);
        f->v_stored = malloc(sizeof(float) * kv);
        good = good && f->k_stored && f->v_stored;
    }
    if (!good) return kvs_fail(error, KVS_INPUT, f->model->directory, NULL, "out of memory for %d tokens", f->tokens);
    kvs_rope_table(&c->rope, 0, f->tokens, f->cosines, f->sines);
    if (f->pass->scheme != NULL) {
        window_ends(&f->pass->scheme->k, f->pass->prompt_tokens, f->tokens, f->k_end);
        window_ends(&f->pass->scheme->v, f->pass->prompt_tokens, f->tokens, f->v_end);
    }
    return KVS_OK;
}

static void tear_down(forward *f) {
    void *all[] = {f->x,     f->attended, f->cosines, f->sines,   f->now.q,    f->now.k,
                   f->now.v, f->k_end,    f->v_end,   f->scratch, f->k_stored, f->v_stored};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static kvs_status embed(const forward *f, const int32_t *ids, kvs_error *error) {
    const kvs_model_config *c = &f->model->config;
    for (int t = 0; t < f->tokens; t++) {
        if (ids[t] < 0 || ids[t] >= c->vocabulary)
            return kvs_fail(error, KVS_INPUT, f->model->directory, NULL, "token id %d is outside the vocabulary of %d",
                            ids[t], c->vocabulary);
        memcpy(f->x + (size_t)t * (size_t)c->hidden, f->model->embedding + (size_t)ids[t] * (size_t)c->hidden,
               sizeof(float) * (size_t)c->hidden);
    }
    return KVS_OK;
}

/* --- one layer -----------------------------------------------------------------------------------------------------
 */

/* Moves one token's projections [heads][head_dim] to [heads][tokens][head_dim], through the norm of a head if any. */
static void spread(const forward *f, const float *from, int heads, const float *norm, int token, float *to) {
    const kvs_model_config *c = &f->model->config;
    size_t dim = (size_t)c->head_dim;
    for (int h = 0; h < heads; h++) {
        float *row = to + ((size_t)h * (size_t)f->tokens + (size_t)token) * dim;
        if (norm != NULL)
            kvs_rms_norm(c->head_dim, from + (size_t)h * dim, norm, (float)c->norm_epsilon, row);
        else
            memcpy(row, from + (size_t)h * dim, sizeof(float) * dim);
    }
}

static void project(const forward *f, const kvs_layer *layer) {
    const kvs_model_config *c = &f->model->config;
    int q_columns = c->query_heads * c->head_dim, kv_columns = c->kv_heads * c->head_dim;
    int columns = q_columns + 2 * kv_columns;
#pragma omp parallel for schedule(dynamic)
    for (int first = 0; first < f->tokens; first += ROWS) {
        int rows = f->tokens - first < ROWS ? f->tokens - first : ROWS;
        float *h = scratch_of(f), *qkv = h + (size_t)ROWS * (size_t)c->hidden;
        for (int r = 0; r < rows; r++)
            kvs_rms_norm(c->hidden, f->x + (size_t)(first + r) * (size_t)c->hidden, layer->input_norm,
                         (float)c->norm_epsilon, h + (size_t)r * (size_t)c->hidden);
        multiply(rows, columns, c->hidden, h, layer->qkv, 0.0f, qkv);
        for (int r = 0; r < rows; r++) {
            const float *row = qkv + (size_t)r * (size_t)columns;
            spread(f, row, c->query_heads, layer->q_norm, first + r, f->now.q);
            spread(f, row + q_columns, c->kv_heads, layer->k_norm, first + r, f->now.k);
            spread(f, row + q_columns + kv_columns, c->kv_heads, NULL, first + r, f->now.v);
        }
    }
}

static void rotate(const forward *f) {
    const kvs_model_config *c = &f->model->config;
    size_t half = (size_t)c->head_dim / 2;
#pragma omp parallel for collapse(2) schedule(static)
    for (int h = 0; h < c->query_heads + c->kv_heads; h++)
        for (int t = 0; t < f->tokens; t++) {
            float *heads = h < c->query_heads ? f->now.q : f->now.k;
            int head = h < c->query_heads ? h : h - c->query_heads;
            kvs_rope_rotate(&c->rope, f->cosines + (size_t)t * half, f->sines + (size_t)t * half,
                            heads + ((size_t)head * (size_t)f->tokens + (size_t)t) * (size_t)c->head_dim);
        }
}

/* Rounds one head of K or V to binary16, which is what any cache holds, and stores its pages. */
static int store_head(const forward *f, const kvs_store *store, int layer, int head, float *full, float *stored,
                      float *scratch) {
    size_t dim = (size_t)f->model->config.head_dim, at = (size_t)head * (size_t)f->tokens * dim;
    size_t count = (size_t)f->tokens * dim;
    if (kvs_round_floats_to_half(full + at, full + at, count) != count) return 0;
    if (store->codec == NULL) return 1;
    kvs_page_place place = {f->pass->seed, f->pass->sequence, layer, head, 0};
    int64_t end = kvs_window_stored_end(&store->window, f->tokens, f->pass->prompt_tokens);
    kvs_store_pages(store, place, end, full + at, stored + at, NULL, scratch);
    return 1;
}

static kvs_status fill_cache(const forward *f, int layer, kvs_error *error) {
    const kvs_model_config *c = &f->model->config;
    const kvs_scheme *scheme = f->pass->scheme;
    int overflowing = INT_MAX;
#pragma omp parallel for schedule(dynamic) reduction(min : overflowing)
    for (int i = 0; i < 2 * c->kv_heads; i++) {
        int head = i / 2;
        int good = i % 2 == 0 ? store_head(f, &scheme->k, layer, head, f->now.k, f->k_stored, scratch_of(f))
                              : store_head(f, &scheme->v, layer, head, f->now.v, f->v_stored, scratch_of(f));
        if (!good && i < overflowing) overflowing = i;
    }
    if (overflowing == INT_MAX) return KVS_OK;
    char object[64];
    snprintf(object, sizeof object, "%s of layer %d, head %d", overflowing % 2 ? "V" : "K", layer, overflowing / 2);
    return kvs_fail(error, KVS_INPUT, f->model->directory, object, "does not fit binary16");
}

static void attend(const forward *f) {
    const kvs_model_config *c = &f->model->config;
    size_t dim = (size_t)c->head_dim, head_floats = (size_t)f->tokens * dim;
    int blocks = (f->tokens + KVS_ATTENTION_ROWS - 1) / KVS_ATTENTION_ROWS, group = c->query_heads / c->kv_heads;
    int quantized = f->pass->scheme != NULL;
#pragma omp parallel for schedule(dynamic)
    for (int task = 0; task < blocks * c->query_heads; task++) {
        int block = blocks - 1 - task / c->query_heads, head = task % c->query_heads; /* the longest first */
        int first = block * KVS_ATTENTION_ROWS;
        int rows = f->tokens - first < KVS_ATTENTION_ROWS ? f->tokens - first : KVS_ATTENTION_ROWS;
        size_t kv = (size_t)(head / group) * head_floats;
        kvs_cache_side k = {f->now.k + kv, NULL, 0, NULL}, v = {f->now.v + kv, NULL, 0, NULL};
        if (quantized && f->pass->scheme->k.codec != NULL)
            k = (kvs_cache_side){k.full, f->k_stored + kv, f->pass->scheme->k.window.sink_tokens, f->k_end};
        if (quantized && f->pass->scheme->v.codec != NULL)
            v = (kvs_cache_side){v.full, f->v_stored + kv, f->pass->scheme->v.window.sink_tokens, f->v_end};
        size_t stride = (size_t)c->query_heads * dim;
        kvs_attention_block(c->head_dim, (float)kvs_model_softmax_scale(c), &k, &v,
                            f->now.q + (size_t)head * head_floats + (size_t)first * dim, first, rows, scratch_of(f),
                            f->attended + (size_t)first * stride + (size_t)head * dim, stride);
    }
}

static void finish_layer(const forward *f, const kvs_layer *layer) {
    const kvs_model_config *c = &f->model->config;
    size_t hidden = (size_t)c->hidden, inner = (size_t)c->intermediate;
    int q_columns = c->query_heads * c->head_dim;
#pragma omp parallel for schedule(dynamic)
    for (int first = 0; first < f->tokens; first += ROWS) {
        int rows = f->tokens - first < ROWS ? f->tokens - first : ROWS;
        float *x = f->x + (size_t)first * hidden, *h = scratch_of(f), *gate = h + ROWS * hidden;
        float *up = gate + ROWS * inner;
        multiply(rows, c->hidden, q_columns, f->attended + (size_t)first * (size_t)q_columns, layer->output, 1.0f, x);
        for (int r = 0; r < rows; r++)
            kvs_rms_norm(c->hidden, x + (size_t)r * hidden, layer->post_norm, (float)c->norm_epsilon,
                         h + (size_t)r * hidden);
        multiply(rows, c->intermediate, c->hidden, h, layer->gate_up, 0.0f, gate);
        multiply(rows, c->intermediate, c->hidden, h, layer->gate_up + inner * hidden, 0.0f, up);
        for (int r = 0; r < rows; r++) kvs_silu_gate(c->intermediate, gate + (size_t)r * inner, up + (size_t)r * inner);
        multiply(rows, c->hidden, c->intermediate, gate, layer->down, 1.0f, x);
    }
}

static kvs_status run_layers(const forward *f, kvs_error *error) {
    const kvs_pass *pass = f->pass;
    for (int i = 0; i < f->model->config.layers; i++) {
        const kvs_layer *layer = &f->model->layers[i];
        if (kvs_interrupted()) return kvs_fail(error, KVS_INTERRUPTED, NULL, NULL, "interrupted");
        project(f, layer);
        if (pass->observe != NULL && pass->before_rope) KVS_TRY(pass->observe(pass->user, i, &f->now, error));
        rotate(f);
        if (pass->scheme != NULL) KVS_TRY(fill_cache(f, i, error));
        if (pass->observe != NULL && !pass->before_rope) KVS_TRY(pass->observe(pass->user, i, &f->now, error));
        attend(f);
        finish_layer(f, layer);
    }
    return KVS_OK;
}

/* --- the contract --------------------------------------------------------------------------------------------------
 */

kvs_status kvs_model_forward(const kvs_model *model, const kvs_pass *pass, const int32_t *ids, int tokens,
                             float *hidden, kvs_error *error) {
    const kvs_model_config *c = &model->config;
    if (tokens < 1 || tokens > c->max_positions)
        return kvs_fail(error, KVS_INPUT, model->directory, "max_position_embeddings",
                        "%d tokens; the model admits 1 to %d", tokens, c->max_positions);
    forward f = {.model = model, .pass = pass, .tokens = tokens};
    kvs_status status;
    KVS_TRY_OR(set_up(&f, error), out);
    KVS_TRY_OR(embed(&f, ids, error), out);
    KVS_TRY_OR(run_layers(&f, error), out);
#pragma omp parallel for schedule(static)
    for (int t = 0; t < tokens; t++)
        kvs_rms_norm(c->hidden, f.x + (size_t)t * (size_t)c->hidden, model->final_norm, (float)c->norm_epsilon,
                     hidden + (size_t)t * (size_t)c->hidden);
out:
    tear_down(&f);
    return status;
}

void kvs_model_logits(const kvs_model *model, const float *hidden, int rows, float *logits) {
    multiply(rows, model->config.vocabulary, model->config.hidden, hidden, model->logit_head, 0.0f, logits);
}
