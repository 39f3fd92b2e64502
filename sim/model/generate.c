#include "sim/model/generate.h"

#include <stdlib.h>

#include "core/progress.h"
#include "sim/model/vector.h"

typedef struct generator {
    const kvs_model *model;
    kvs_session *session;
    float *hidden; /* [prompt_tokens][hidden] */
    float *logits; /* [vocabulary] */
} generator;

static int is_end(const kvs_model_config *c, int32_t id) {
    for (int i = 0; i < c->end_count; i++)
        if (c->end_tokens[i] == id) return 1;
    return 0;
}

static kvs_status run(generator *g, const int32_t *prompt, int prompt_tokens, int count, int stop_at_end, int32_t *ids,
                      int *made, double *step_seconds, kvs_error *error) {
    const kvs_model_config *c = &g->model->config;
    KVS_TRY(kvs_session_run(g->session, prompt, prompt_tokens, g->hidden, error));
    const float *last = g->hidden + (size_t)(prompt_tokens - 1) * (size_t)c->hidden;
    double started = kvs_seconds();
    while (*made < count) {
        KVS_TRY(kvs_model_logits(g->model, last, 1, g->logits, error));
        int32_t id = kvs_logits_top(c->vocabulary, g->logits);
        ids[(*made)++] = id;
        if (*made == count || (stop_at_end && is_end(c, id))) break;
        KVS_TRY(kvs_session_run(g->session, &id, 1, g->hidden, error));
        last = g->hidden;
    }
    if (step_seconds != NULL) *step_seconds = kvs_seconds() - started;
    return KVS_OK;
}

kvs_status kvs_generate_greedy(const kvs_model *model, const kvs_model_pass *pass, const int32_t *prompt,
                               int prompt_tokens, int count, int stop_at_end, int32_t *ids, int *made,
                               double *step_seconds, kvs_error *error) {
    const kvs_model_config *c = &model->config;
    generator g = {.model = model};
    *made = 0;
    KVS_TRY(kvs_session_open(model, pass, prompt_tokens + count, &g.session, error));
    g.hidden = malloc(sizeof(float) * (size_t)prompt_tokens * (size_t)c->hidden);
    g.logits = malloc(sizeof(float) * (size_t)c->vocabulary);
    kvs_status status = g.hidden != NULL && g.logits != NULL
                            ? run(&g, prompt, prompt_tokens, count, stop_at_end, ids, made, step_seconds, error)
                            : kvs_fail(error, KVS_INPUT, model->directory, NULL, "out of memory");
    free(g.hidden);
    free(g.logits);
    kvs_session_close(g.session);
    return status;
}
