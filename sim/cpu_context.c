/* cpu_context.c: what a running engine would know of a unit while it stores pages: queries and their sums. */
#include <cblas.h>
#include <math.h>

#include "sim/cpu_unit.h"

typedef struct wants {
    int queries, attention;
} wants;

static void want(const kvs_store *store, wants *w) {
    if (store->needs.use == KVS_QUERIES_NONE) return;
    w->queries = 1;
    w->attention |= store->needs.attention;
}

static wants wants_of(const kvs_pass *pass) {
    wants w = {0};
    for (int s = 0; s < pass->schemes_count; s++) {
        want(&pass->schemes[s]->k, &w);
        want(&pass->schemes[s]->v, &w);
    }
    return w;
}

size_t kvs_unit_context_bytes(const kvs_pass *pass, const kvs_unit *unit) {
    wants w = wants_of(pass);
    size_t recorded = (size_t)unit->recorded.count, group = (size_t)pass->group;
    size_t values = kvs_arena_bytes(recorded * (size_t)pass->head_dim, sizeof(float));
    size_t bytes = 0;
    if (w.queries && !pass->binary16)
        bytes += kvs_arena_bytes(group * recorded * (size_t)pass->head_dim, sizeof(float)) + values;
    if (w.attention)
        bytes +=
            kvs_arena_bytes(group * recorded, sizeof(float)) + kvs_arena_bytes((size_t)unit->tokens, sizeof(float));
    return bytes;
}

float kvs_log_sum(float scale, int head_dim, const float *keys, const float *query, int visible, float *logits) {
    cblas_sgemv(CblasRowMajor, CblasNoTrans, visible, head_dim, scale, keys, head_dim, query, 1, 0.0f, logits, 1);
    float most = logits[0];
    for (int t = 1; t < visible; t++) most = logits[t] > most ? logits[t] : most;
    double sum = 0;
    for (int t = 0; t < visible; t++) sum += (double)expf(logits[t] - most);
    return most + (float)log(sum);
}

static const float *log_sums(const kvs_pass *pass, const kvs_unit *unit, const kvs_query_set *queries,
                             const float *keys, kvs_arena *arena) {
    float *sums = kvs_arena_take(arena, (size_t)queries->heads * (size_t)queries->count, sizeof *sums);
    float *logits = kvs_arena_take(arena, (size_t)unit->tokens, sizeof *logits);
    for (int h = 0; h < queries->heads; h++)
        for (int i = 0; i < queries->count; i++) {
            int visible = pass->causal ? queries->positions[i] + 1 : unit->tokens;
            sums[h * queries->count + i] = kvs_log_sum((float)pass->softmax_scale, pass->head_dim, keys,
                                                       kvs_query_at(queries, h, i), visible, logits);
        }
    return sums;
}

kvs_status kvs_unit_context(const kvs_pass *pass, const kvs_unit *unit, const float *keys, kvs_arena *arena,
                            kvs_page_context *context, kvs_error *error) {
    wants w = wants_of(pass);
    *context =
        (kvs_page_context){.place = unit->place, .rope = pass->rope, .softmax_scale = (float)pass->softmax_scale};
    if (!w.queries || unit->recorded.count == 0) return KVS_OK;
    context->keys = keys;
    kvs_query_set *queries = &context->queries;
    *queries = unit->recorded;
    if (!pass->binary16) {
        size_t head = (size_t)queries->count * (size_t)pass->head_dim;
        float *values = kvs_arena_take(arena, (size_t)queries->heads * head, sizeof *values);
        float *change = kvs_arena_take(arena, head, sizeof *change);
        for (int h = 0; h < queries->heads; h++) {
            kvs_rounded unused;
            KVS_TRY(kvs_round_rows(pass, unit, "q", unit->place.kv_head * queries->heads + h,
                                   kvs_query_at(queries, h, 0), queries->count, values + (size_t)h * head, change,
                                   &unused, error));
        }
        queries->values = values;
        queries->head_stride = (int64_t)head;
    }
    if (w.attention) {
        queries->log_sums = log_sums(pass, unit, queries, keys, arena);
        queries->sums_stride = queries->count;
    }
    return KVS_OK;
}
