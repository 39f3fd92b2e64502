#include "sim/model/forward.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/cache.h"
#include "sim/model/rope.h"
#include "sim/model/session.h"
#include "sim/model/vector.h"

/* --- set-up --------------------------------------------------------------------------------------------------------
 */

static size_t block_floats(const kvs_model_config *c) {
    size_t projected = (size_t)(c->query_heads + 2 * c->kv_heads) * (size_t)c->head_dim;
    size_t inner = 2 * (size_t)c->intermediate;
    return KVS_PASS_ROWS * ((size_t)c->hidden + (projected > inner ? projected : inner));
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

static int take_step_rows(kvs_session *s) {
    const kvs_model_config *c = &s->model->config;
    size_t heads = (size_t)c->query_heads, dim = (size_t)c->head_dim;
    kvs_step_rows *step = &s->step;
    size_t sums = heads * (((size_t)s->capacity + KVS_ATTENTION_PART - 1) / KVS_ATTENTION_PART);
    step->qkv = malloc(sizeof(float) * (heads + 2 * (size_t)c->kv_heads) * dim);
    step->gate = malloc(sizeof(float) * (size_t)c->intermediate);
    step->values = malloc(sizeof(float) * sums * dim);
    step->sums = malloc(sizeof *step->sums * sums);
    if (!step->qkv || !step->gate || !step->values || !step->sums) return 0;
    for (size_t i = 0; i < sums; i++) step->sums[i].value = step->values + i * dim;
    return 1;
}

static kvs_status set_up(kvs_session *s, kvs_error *error) {
    const kvs_model_config *c = &s->model->config;
    size_t angles = (size_t)s->capacity * (size_t)c->head_dim / 2;
    size_t cache = (size_t)s->layers_kept * (size_t)c->kv_heads * kvs_session_head_floats(s);
    s->scratch_floats = largest_scratch(s);
    s->cosines = malloc(sizeof(float) * angles);
    s->sines = malloc(sizeof(float) * angles);
    s->k = malloc(sizeof(float) * cache);
    s->v = malloc(sizeof(float) * cache);
    s->k_end = malloc(sizeof(int) * (size_t)s->capacity);
    s->v_end = malloc(sizeof(int) * (size_t)s->capacity);
    s->scratch = aligned_alloc(64, sizeof(float) * s->scratch_floats * (size_t)omp_get_max_threads());
    int good = s->cosines && s->sines && s->k && s->v && s->k_end && s->v_end && s->scratch && take_step_rows(s);
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
    KVS_TRY(kvs_model_admits(model, capacity, error));
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
    void *all[] = {s->cosines, s->sines, s->k, s->v,        s->k_stored, s->v_stored,  s->k_end,       s->v_end,
                   s->scratch, s->x,     s->q, s->attended, s->step.qkv, s->step.gate, s->step.values, s->step.sums};
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
        kvs_matrix_row(&s->model->embedding, ids[t], s->x + (size_t)t * (size_t)c->hidden);
    }
    return KVS_OK;
}

/* --- the contract --------------------------------------------------------------------------------------------------
 */

static kvs_status run_here(kvs_session *s, const int32_t *ids, int tokens, float *hidden, kvs_error *error) {
    const kvs_model_config *c = &s->model->config;
    KVS_TRY(make_room(s, tokens, error));
    KVS_TRY(embed(s, ids, error));
    if (tokens == 1) KVS_TRY(kvs_session_step(s, error));
    for (int i = 0; i < c->layers && tokens > 1; i++) KVS_TRY(kvs_session_layer(s, i, error));
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
    if (rows == 1)
        kvs_step_logits(model, hidden, logits);
    else
        kvs_matrix_multiply(&model->logit_head, hidden, rows, 0, logits);
    return KVS_OK;
}
