/* cpu_backend.c: the CPU back end: one unit from recorded values to errors. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/progress.h"
#include "sim/cpu_unit.h"

typedef struct cpu {
    const kvs_pass *pass;
    kvs_arena arena;
    kvs_arena *work; /* [inner_threads] */
    const kvs_product *product;
    size_t scratch_floats, chunk_floats;
} cpu;

static kvs_status probe(char *device, size_t device_bytes, kvs_error *error) {
    (void)error;
    snprintf(device, device_bytes, "unknown processor");
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *colon = strncmp(line, "model name", 10) == 0 ? strchr(line, ':') : NULL;
        if (colon == NULL) continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(device, device_bytes, "%s, %d cores", colon + 2, omp_get_num_procs());
        break;
    }
    if (file != NULL) fclose(file);
    return KVS_OK;
}

/* Floats that the most demanding scheme takes: the codec's scratch, and a chunk of tokens. */
static void measure_stores(cpu *c) {
    c->scratch_floats = 1;
    c->chunk_floats = 1;
    for (int s = 0; s < c->pass->schemes_count; s++) {
        const kvs_store *k = &c->pass->schemes[s]->k, *v = &c->pass->schemes[s]->v;
        size_t need[] = {kvs_store_scratch_floats(k), kvs_store_scratch_floats(v)};
        for (int i = 0; i < 2; i++) c->scratch_floats = need[i] > c->scratch_floats ? need[i] : c->scratch_floats;
        size_t chunk = k->codec != NULL ? (size_t)(kvs_store_chunk(k) * c->pass->head_dim) : 0;
        c->chunk_floats = chunk > c->chunk_floats ? chunk : c->chunk_floats;
    }
}

static void close_cpu(void *state) {
    cpu *c = state;
    if (c == NULL) return;
    for (int i = 0; c->work != NULL && i < c->pass->inner_threads; i++) free(c->work[i].memory);
    free(c->work);
    free(c->arena.memory);
    free(c);
}

static kvs_status open_cpu(const kvs_pass *pass, void **state, kvs_error *error) {
    cpu *c = calloc(1, sizeof *c);
    *state = c;
    if (c != NULL) {
        c->pass = pass;
        c->work = calloc((size_t)pass->inner_threads, sizeof *c->work);
        measure_stores(c);
        c->product = kvs_product_best();
    }
    if (c == NULL || c->work == NULL) {
        close_cpu(c);
        *state = NULL;
        return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    }
    return KVS_OK;
}

/* --- one unit ------------------------------------------------------------------------------------------------------
 */

static size_t unit_bytes(const cpu *c, const kvs_unit *unit) {
    const kvs_pass *pass = c->pass;
    size_t head = kvs_arena_bytes((size_t)unit->tokens * (size_t)pass->head_dim, sizeof(float));
    size_t queries = kvs_arena_bytes((size_t)unit->queries * (size_t)pass->head_dim, sizeof(float));
    size_t packed = kvs_arena_bytes(kvs_product_packed_floats(unit->tokens, pass->head_dim), sizeof(float));
    size_t schemes = (size_t)pass->schemes_count;
    size_t bytes = schemes * (head + packed) + packed + kvs_arena_bytes(c->scratch_floats, sizeof(float)) +
                   kvs_arena_bytes(c->chunk_floats, sizeof(float)) + 2 * kvs_arena_bytes(schemes, sizeof(kvs_stored)) +
                   kvs_arena_bytes((size_t)pass->group, sizeof(kvs_rounded));
    if (!pass->binary16) bytes += 4 * head + packed + 2 * (size_t)pass->group * queries;
    return bytes + kvs_unit_context_bytes(pass, unit);
}

static kvs_status round_tensor(cpu *c, const kvs_unit *unit, const char *tensor, int head, const float *recorded,
                               int64_t rows, kvs_rounded *rounded, kvs_error *error) {
    size_t count = (size_t)rows * (size_t)c->pass->head_dim;
    float *half = c->pass->binary16 ? NULL : kvs_arena_take(&c->arena, count, sizeof *half);
    float *change = c->pass->binary16 ? NULL : kvs_arena_take(&c->arena, count, sizeof *change);
    return kvs_round_rows(c->pass, unit, tensor, head, recorded, rows, half, change, rounded, error);
}

static float *take_packed(cpu *c, int64_t columns) {
    return kvs_arena_take(&c->arena, kvs_product_packed_floats(columns, c->pass->head_dim), sizeof(float));
}

/* Packs K for attention. */
static void pack_keys(cpu *c, kvs_prepared *p) {
    int64_t tokens = p->unit->tokens;
    p->k_packed = take_packed(c, tokens);
    c->product->pack(p->k.recorded, tokens, c->pass->head_dim, p->k_packed);
    if (p->k.change == NULL) return;
    p->k_change_packed = take_packed(c, tokens);
    c->product->pack(p->k.change, tokens, c->pass->head_dim, p->k_change_packed);
}

static void store(cpu *c, const kvs_prepared *p, const kvs_page_context *context, kvs_stored *keys, kvs_stored *values,
                  kvs_unit_errors *errors) {
    const kvs_pass *pass = c->pass;
    int64_t tokens = p->unit->tokens;
    float *scratch = kvs_arena_take(&c->arena, c->scratch_floats, sizeof *scratch);
    float *chunk = kvs_arena_take(&c->arena, c->chunk_floats, sizeof *chunk);
    for (int s = 0; s < pass->schemes_count; s++) {
        double started = kvs_seconds();
        keys[s] = (kvs_stored){.change = take_packed(c, tokens)};
        values[s].change = kvs_arena_take(&c->arena, (size_t)tokens * (size_t)pass->head_dim, sizeof *chunk);
        kvs_store_head(pass, p->unit, &pass->schemes[s]->k, context, &p->k, c->product, &keys[s], chunk, scratch,
                       &errors[s].key);
        kvs_store_head(pass, p->unit, &pass->schemes[s]->v, context, &p->v, NULL, &values[s], NULL, scratch,
                       &errors[s].value);
        errors[s].seconds = kvs_seconds() - started;
    }
}

static kvs_status attend(cpu *c, const kvs_prepared *p, kvs_unit_errors *errors, kvs_error *error) {
    int span = kvs_unit_span(c->pass, p->unit->tokens), queries = p->unit->queries;
    int blocks = (queries + span - 1) / span;
    int threads = c->pass->inner_threads < blocks ? c->pass->inner_threads : blocks;
    double share = 1.0 / threads; /* of the time of one unit that a thread's second is */
    for (int i = 0; i < threads; i++)
        KVS_TRY(kvs_arena_reset(&c->work[i], kvs_unit_attend_bytes(c->pass, p->unit->tokens), error));
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (threads > 1)
    for (int i = blocks - 1; i >= 0; i--) { /* the longest first */
        kvs_arena *work = &c->work[threads > 1 ? omp_get_thread_num() : 0];
        int first = i * span, last = first + span < queries ? first + span : queries;
        work->used = 0;
        kvs_unit_attend(p, first, last, share, work, errors);
    }
    return KVS_OK;
}

static kvs_status unit_cpu(void *state, const kvs_unit *unit, kvs_unit_errors *errors, kvs_error *error) {
    cpu *c = state;
    const kvs_pass *pass = c->pass;
    size_t schemes = (size_t)pass->schemes_count;
    KVS_TRY(kvs_arena_reset(&c->arena, unit_bytes(c, unit), error));
    kvs_stored *keys = kvs_arena_take(&c->arena, schemes, sizeof *keys);
    kvs_stored *values = kvs_arena_take(&c->arena, schemes, sizeof *values);
    kvs_rounded *q = kvs_arena_take(&c->arena, (size_t)pass->group, sizeof *q);
    kvs_prepared p = {.pass = pass, .unit = unit, .product = c->product, .q = q, .keys = keys, .values = values};
    int head = unit->place.kv_head;
    KVS_TRY(round_tensor(c, unit, "k", head, unit->k, unit->tokens, &p.k, error));
    KVS_TRY(round_tensor(c, unit, "v", head, unit->v, unit->tokens, &p.v, error));
    for (int h = 0; unit->queries > 0 && h < pass->group; h++)
        KVS_TRY(round_tensor(c, unit, "q", head * pass->group + h, unit->q + h * unit->q_stride, unit->queries, &q[h],
                             error));
    if (unit->queries > 0) pack_keys(c, &p);
    kvs_page_context context;
    KVS_TRY(kvs_unit_context(pass, unit, p.k.half, &c->arena, &context, error));
    store(c, &p, &context, keys, values, errors);
    return unit->queries > 0 ? attend(c, &p, errors, error) : KVS_OK;
}

static int64_t bytes_cpu(const kvs_pass *pass, int64_t tokens, int64_t queries) {
    cpu c = {.pass = pass};
    measure_stores(&c);
    kvs_unit unit = {.tokens = (int)tokens, .queries = (int)queries};
    return (int64_t)(unit_bytes(&c, &unit) + (size_t)pass->inner_threads * kvs_unit_attend_bytes(pass, tokens));
}

const kvs_backend kvs_backend_cpu = {
    .name = "cpu",
    .summary = "vectorized C on all cores",
    .probe = probe,
    .open = open_cpu,
    .unit = unit_cpu,
    .close = close_cpu,
    .bytes = bytes_cpu,
};
