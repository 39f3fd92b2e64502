#include "sim/device_unit.h"

#include <string.h>

#include "core/half.h"
#include "core/progress.h"
#include "sim/cpu_unit.h"

enum { ALIGNMENT = 256, RESULTS = 5 }; /* RESULTS: arrays of binary32 of a scheme */

/* --- sizes ---------------------------------------------------------------------------------------------------------
 */

static size_t most(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t round_up(size_t bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static int wants_places(const kvs_device_store *store) {
    return !store->full && !store->values && store->metric == KVS_METRIC_RANDOM;
}

static void size_stores(const kvs_pass *pass, const kvs_device_store *stores, int64_t tokens, size_t *sizes) {
    for (int i = 0; i < 2 * pass->schemes_count; i++) {
        size_t blocks = (size_t)kvs_device_store_blocks(&stores[i], tokens);
        for (int t = 0; t < 2; t++)
            sizes[KVS_DEVICE_CODES + t] = most(sizes[KVS_DEVICE_CODES + t], blocks * stores[i].format.block_bytes[t]);
        sizes[KVS_DEVICE_SUMS] += blocks * 2 * sizeof(double);
        if (wants_places(&stores[i]))
            sizes[KVS_DEVICE_PLACES] = most(sizes[KVS_DEVICE_PLACES], blocks * sizeof(kvs_page_place));
    }
}

void kvs_device_sizes(const kvs_pass *pass, const kvs_device_store *stores, int64_t tokens, int64_t queries,
                      size_t sizes[KVS_DEVICE_ARRAYS]) {
    size_t dim = (size_t)pass->head_dim, schemes = (size_t)pass->schemes_count, head = (size_t)tokens * dim;
    size_t samples = (size_t)queries * (size_t)pass->group, asked = samples * dim, four = sizeof(float);
    size_t rows = queries > 0 ? (size_t)kvs_device_span(pass, tokens, queries) * (size_t)pass->group : 0;
    size_t matrix = rows * (size_t)kvs_device_stride(tokens) * four, rounded = pass->binary16 ? 0 : 1;
    memset(sizes, 0, KVS_DEVICE_ARRAYS * sizeof *sizes);
    sizes[KVS_DEVICE_K_HALF] = sizes[KVS_DEVICE_V_HALF] = (head + KVS_DEVICE_STORE_BEYOND * dim) * sizeof(uint16_t);
    sizes[KVS_DEVICE_Q_HALF] = asked * sizeof(uint16_t);
    sizes[KVS_DEVICE_K] = sizes[KVS_DEVICE_V] = head * four;
    sizes[KVS_DEVICE_Q] = asked * four;
    sizes[KVS_DEVICE_K_ROUNDING] = sizes[KVS_DEVICE_V_ROUNDING] = rounded * head * four;
    sizes[KVS_DEVICE_Q_ROUNDING] = sizes[KVS_DEVICE_Q_WIDE] = rounded * asked * four;
    sizes[KVS_DEVICE_ENDS] = (1 + 2 * schemes) * (size_t)queries * sizeof(int32_t);
    size_stores(pass, stores, tokens, sizes);
    sizes[KVS_DEVICE_CHANGED] = 2 * schemes * head * four;
    sizes[KVS_DEVICE_LOGITS] = sizes[KVS_DEVICE_PROBABILITIES] = matrix;
    sizes[KVS_DEVICE_CHANGES] = sizes[KVS_DEVICE_SHIFTED] = matrix;
    sizes[KVS_DEVICE_ROUNDING] = rounded * matrix;
    sizes[KVS_DEVICE_TOPS] = rows * KVS_REPLAY_TOP * sizeof(int32_t);
    sizes[KVS_DEVICE_GAINS] = rows * sizeof(double);
    sizes[KVS_DEVICE_PARTS] = rows > 0 ? 3 * (size_t)kvs_device_splits(pass, tokens, queries) * rows * dim * four : 0;
    sizes[KVS_DEVICE_OUTPUT] = rows * dim * four;
    sizes[KVS_DEVICE_DOUBLES] = (1 + schemes) * samples * sizeof(double);
    sizes[KVS_DEVICE_FLOATS] = RESULTS * schemes * samples * four;
}

size_t kvs_device_sent_bytes(const kvs_pass *pass, const kvs_device_store *stores, int64_t tokens, int64_t queries) {
    static const kvs_device_array sent[] = {KVS_DEVICE_K_HALF, KVS_DEVICE_V_HALF, KVS_DEVICE_Q_HALF, KVS_DEVICE_ENDS};
    static const kvs_device_array recorded[] = {KVS_DEVICE_K, KVS_DEVICE_V, KVS_DEVICE_Q};
    size_t sizes[KVS_DEVICE_ARRAYS], bytes = 0;
    kvs_device_sizes(pass, stores, tokens, queries, sizes);
    for (size_t i = 0; i < sizeof sent / sizeof *sent; i++) bytes += round_up(sizes[sent[i]]);
    for (size_t i = 0; !pass->binary16 && i < sizeof recorded / sizeof *recorded; i++)
        bytes += round_up(sizes[recorded[i]]);
    for (int i = 0; i < 2 * pass->schemes_count; i++)
        if (wants_places(&stores[i])) bytes += round_up(sizes[KVS_DEVICE_PLACES]);
    return bytes;
}

static const kvs_device_array results[] = {KVS_DEVICE_SUMS, KVS_DEVICE_DOUBLES, KVS_DEVICE_FLOATS};
enum { FETCHED = sizeof results / sizeof *results };

size_t kvs_device_fetched_bytes(const size_t sizes[KVS_DEVICE_ARRAYS]) {
    size_t bytes = 0;
    for (int i = 0; i < FETCHED; i++) bytes += round_up(sizes[results[i]]);
    return bytes;
}

/* --- to the device -------------------------------------------------------------------------------------------------
 */

/* Room in the memory that copies to the device start from; the caller reserved enough. */
static void *stage(kvs_device_state *state, size_t bytes) {
    char *taken = (char *)state->sent.at + state->sent_bytes;
    state->sent_bytes += round_up(bytes);
    return taken;
}

static kvs_status send(const kvs_device_state *state, kvs_device_array to, const void *from, size_t bytes,
                       kvs_error *error) {
    return state->executor->send(state->arrays[to].at, from, bytes, state->stream, error);
}

/* A tensor: how it is called, and where it goes. */
typedef struct tensor {
    const char *name;
    int heads, first_head;
    const float *values; /* heads arrays of [rows][head_dim] */
    int64_t rows, stride, beyond;
    kvs_device_array half, recorded, rounding, wide; /* wide: where values of binary16 go as binary32 */
} tensor;

/* Sends one tensor, as binary16 and where it is not the same as recorded. rounded [heads]: the host's view of it. */
static kvs_status send_tensor(kvs_device_state *state, const kvs_unit *unit, const tensor *t, kvs_rounded *rounded,
                              kvs_error *error) {
    const kvs_pass *pass = state->pass;
    size_t head = (size_t)t->rows * (size_t)pass->head_dim, count = head * (size_t)t->heads;
    size_t beyond = (size_t)t->beyond * (size_t)pass->head_dim;
    uint16_t *half = stage(state, (count + beyond) * sizeof *half);
    float *recorded = pass->binary16 ? NULL : stage(state, count * sizeof *recorded);
    for (int h = 0; h < t->heads; h++) {
        const float *values = t->values + h * t->stride;
        float *rows = NULL, *change = NULL;
        if (!pass->binary16) {
            rows = kvs_arena_take(&state->rounded, head, sizeof *rows);
            change = kvs_arena_take(&state->rounded, head, sizeof *change);
            memcpy(recorded + (size_t)h * head, values, head * sizeof *recorded);
        }
        KVS_TRY(
            kvs_round_rows(pass, unit, t->name, t->first_head + h, values, t->rows, rows, change, &rounded[h], error));
        kvs_floats_to_halves(rounded[h].half, half + (size_t)h * head, head);
    }
    memset(half + count, 0, beyond * sizeof *half);
    KVS_TRY(send(state, t->half, half, (count + beyond) * sizeof *half, error));
    kvs_widen_args widen = {.count = (int64_t)count, .half = state->arrays[t->half].at};
    if (pass->binary16) {
        widen.wide = state->arrays[t->recorded].at;
    } else {
        KVS_TRY(send(state, t->recorded, recorded, count * sizeof *recorded, error));
        widen.recorded = state->arrays[t->recorded].at;
        widen.change = state->arrays[t->rounding].at;
        widen.wide = t->wide != t->half ? state->arrays[t->wide].at : NULL;
    }
    return kvs_executor_launched(state->executor, state->executor->kernels->replay.widen(&widen, state->stream),
                                 "replay widen", error);
}

static kvs_status send_ends(kvs_device_state *state, const kvs_unit *unit, kvs_error *error) {
    const kvs_pass *pass = state->pass;
    size_t queries = (size_t)unit->queries, bytes = (size_t)(1 + 2 * pass->schemes_count) * queries * sizeof(int32_t);
    int32_t *ends = stage(state, bytes), *next = ends;
    for (size_t i = 0; i < queries; i++) *next++ = pass->causal ? unit->positions[i] + 1 : unit->tokens;
    for (int s = 0; s < 2 * pass->schemes_count; s++)
        for (size_t i = 0; i < queries; i++)
            *next++ = (int32_t)kvs_unit_stored_end(pass, unit, &state->stores[s].store->window, (int)i);
    return send(state, KVS_DEVICE_ENDS, ends, bytes, error);
}

/* --- storing -------------------------------------------------------------------------------------------------------
 */

static kvs_status send_places(kvs_device_state *state, const kvs_unit *unit, int64_t pages, kvs_error *error) {
    size_t bytes = (size_t)pages * sizeof(kvs_page_place);
    kvs_page_place *places = stage(state, bytes);
    for (int64_t i = 0; i < pages; i++) {
        places[i] = unit->place;
        places[i].page = (int)i;
    }
    return send(state, KVS_DEVICE_PLACES, places, bytes, error);
}

static int64_t stored_tokens(const kvs_pass *pass, const kvs_unit *unit, const kvs_device_store *store) {
    const kvs_window *window = &store->store->window;
    int64_t end = kvs_window_stored_end(window, unit->tokens, kvs_unit_prefill(pass, unit));
    return !store->full && end > window->sink_tokens ? end - window->sink_tokens : 0;
}

/* Blocks of the stores before one, in KVS_DEVICE_SUMS; 2 schemes: of all. */
static int64_t blocks_before(const kvs_device_state *state, const kvs_unit *unit, int index) {
    int64_t blocks = 0;
    for (int i = 0; i < index; i++)
        blocks += kvs_device_store_blocks(&state->stores[i], stored_tokens(state->pass, unit, &state->stores[i]));
    return blocks;
}

kvs_status kvs_device_pack(kvs_device_state *state, const kvs_unit *unit, int index, int64_t *tokens,
                           kvs_error *error) {
    const kvs_device_store *store = &state->stores[index];
    *tokens = stored_tokens(state->pass, unit, store);
    if (*tokens == 0) return KVS_OK;
    kvs_device_pages pages = {.tensors = {state->arrays[KVS_DEVICE_CODES].at, state->arrays[KVS_DEVICE_METADATA].at},
                              .places = state->arrays[KVS_DEVICE_PLACES].at};
    const uint16_t *half = state->arrays[index % 2 == 0 ? KVS_DEVICE_K_HALF : KVS_DEVICE_V_HALF].at;
    half += (size_t)store->store->window.sink_tokens * (size_t)state->pass->head_dim;
    if (wants_places(store)) KVS_TRY(send_places(state, unit, kvs_device_store_blocks(store, *tokens), error));
    return kvs_device_store_pack(state->executor, store, half, *tokens, &pages, state->stream, error);
}

/* What store `index` changes, and the squares of it. */
static kvs_status change(kvs_device_state *state, const kvs_unit *unit, int index, int64_t tokens, kvs_error *error) {
    const kvs_device_store *store = &state->stores[index];
    size_t dim = (size_t)state->pass->head_dim, begin = (size_t)store->store->window.sink_tokens * dim;
    int keys = index % 2 == 0;
    if (tokens == 0) return KVS_OK;
    kvs_change_args args = {
        .format = store->format,
        .values = store->values,
        .tokens = tokens,
        .tensors = {state->arrays[KVS_DEVICE_CODES].at, state->arrays[KVS_DEVICE_METADATA].at},
        .half = (const uint16_t *)state->arrays[keys ? KVS_DEVICE_K_HALF : KVS_DEVICE_V_HALF].at + begin,
        .recorded = (const float *)state->arrays[keys ? KVS_DEVICE_K : KVS_DEVICE_V].at + begin,
        .change = (float *)state->arrays[KVS_DEVICE_CHANGED].at + (size_t)index * (size_t)unit->tokens * dim,
        .sums = (double *)state->arrays[KVS_DEVICE_SUMS].at + 2 * blocks_before(state, unit, index)};
    return kvs_executor_launched(state->executor, state->executor->kernels->replay.change(&args, state->stream),
                                 "replay change", error);
}

/* --- back to the host ----------------------------------------------------------------------------------------------
 */

static kvs_status fetch(kvs_device_state *state, const size_t *sizes, const void *found[FETCHED], kvs_error *error) {
    char *to = state->fetched.at;
    for (int i = 0; i < FETCHED; i++) {
        found[i] = to;
        if (sizes[results[i]] > 0)
            KVS_TRY(state->executor->fetch(to, state->arrays[results[i]].at, sizes[results[i]], state->stream, error));
        to += round_up(sizes[results[i]]);
    }
    return state->executor->wait(state->stream, error);
}

static kvs_stored_error add_sums(const kvs_device_state *state, const kvs_unit *unit, int index, const double *sums) {
    const kvs_device_store *store = &state->stores[index];
    int64_t tokens = stored_tokens(state->pass, unit, store);
    kvs_stored_error e = {.elements = tokens * state->pass->head_dim};
    sums += 2 * blocks_before(state, unit, index);
    for (int64_t b = 0; b < kvs_device_store_blocks(store, tokens); b++) {
        e.error += sums[2 * b];
        e.energy += sums[2 * b + 1];
    }
    return e;
}

static void unpack(const kvs_device_state *state, const kvs_unit *unit, const void *const found[FETCHED],
                   kvs_unit_errors *errors) {
    size_t samples = (size_t)unit->queries * (size_t)state->pass->group;
    const double *energy = found[1];
    for (int s = 0; s < state->pass->schemes_count; s++) {
        kvs_unit_errors *e = &errors[s];
        float *floats[RESULTS] = {e->rel_l2, e->logit_mse, e->attention_kl, e->top1, e->top8};
        for (int i = 0; samples > 0 && i < RESULTS; i++)
            memcpy(floats[i], (const float *)found[2] + ((size_t)s * RESULTS + (size_t)i) * samples,
                   samples * sizeof(float));
        if (samples > 0) memcpy(e->output_energy, energy, samples * sizeof *energy);
        if (samples > 0) memcpy(e->output_error, energy + (size_t)(1 + s) * samples, samples * sizeof *energy);
        if (!state->stores[2 * s].full) e->key = add_sums(state, unit, 2 * s, found[0]);
        if (!state->stores[2 * s + 1].full) e->value = add_sums(state, unit, 2 * s + 1, found[0]);
    }
}

/* --- a unit --------------------------------------------------------------------------------------------------------
 */

static kvs_status make_room(kvs_device_state *state, const kvs_unit *unit, const size_t *sizes, kvs_error *error) {
    static const char *const names[KVS_DEVICE_ARRAYS] = {"K as binary16",
                                                         "V as binary16",
                                                         "queries as binary16",
                                                         "K",
                                                         "V",
                                                         "queries",
                                                         "rounding of K",
                                                         "rounding of V",
                                                         "rounding of queries",
                                                         "wide queries",
                                                         "stored ends",
                                                         "places",
                                                         "codes",
                                                         "metadata",
                                                         "sums",
                                                         "changes",
                                                         "logits",
                                                         "probabilities",
                                                         "changes of logits",
                                                         "shifted",
                                                         "rounding of logits",
                                                         "tops",
                                                         "gains",
                                                         "parts",
                                                         "output",
                                                         "output errors",
                                                         "errors"};
    const kvs_executor *executor = state->executor;
    for (int i = 0; i < KVS_DEVICE_ARRAYS; i++) {
        kvs_device_memory *array = &state->arrays[i];
        if (array->at != NULL && sizes[i] <= array->bytes) continue;
        executor->release(array->at);
        *array = (kvs_device_memory){0};
        KVS_TRY(executor->allocate(sizes[i], names[i], &array->at, error));
        array->bytes = sizes[i];
    }
    size_t bytes[] = {kvs_device_sent_bytes(state->pass, state->stores, unit->tokens, unit->queries),
                      kvs_device_fetched_bytes(sizes)};
    kvs_device_memory *of[] = {&state->sent, &state->fetched};
    for (int i = 0; i < 2; i++) {
        if (of[i]->at != NULL && bytes[i] <= of[i]->bytes) continue;
        executor->release_host(of[i]->at);
        *of[i] = (kvs_device_memory){0};
        KVS_TRY(executor->allocate_host(bytes[i], &of[i]->at, error));
        of[i]->bytes = bytes[i];
    }
    state->sent_bytes = 0;
    if (state->pass->binary16) return KVS_OK;
    return kvs_arena_reset(&state->rounded, kvs_device_rounded_bytes(state->pass, unit->tokens, unit->queries), error);
}

size_t kvs_device_rounded_bytes(const kvs_pass *pass, int64_t tokens, int64_t queries) {
    size_t head = kvs_arena_bytes((size_t)tokens * (size_t)pass->head_dim, sizeof(float));
    size_t asked = kvs_arena_bytes((size_t)queries * (size_t)pass->head_dim, sizeof(float));
    return pass->binary16 ? 0 : 4 * head + 2 * (size_t)pass->group * asked;
}

kvs_status kvs_device_send(kvs_device_state *state, const kvs_unit *unit, kvs_unit_errors *errors, kvs_error *error) {
    const kvs_pass *pass = state->pass;
    size_t sizes[KVS_DEVICE_ARRAYS];
    kvs_device_sizes(pass, state->stores, unit->tokens, unit->queries, sizes);
    KVS_TRY(make_room(state, unit, sizes, error));
    kvs_rounded k, v, *of[] = {&k, &v};
    int head = unit->place.kv_head;
    tensor tensors[] = {{"k", 1, head, unit->k, unit->tokens, 0, KVS_DEVICE_STORE_BEYOND, KVS_DEVICE_K_HALF,
                         KVS_DEVICE_K, KVS_DEVICE_K_ROUNDING, KVS_DEVICE_K_HALF},
                        {"v", 1, head, unit->v, unit->tokens, 0, KVS_DEVICE_STORE_BEYOND, KVS_DEVICE_V_HALF,
                         KVS_DEVICE_V, KVS_DEVICE_V_ROUNDING, KVS_DEVICE_V_HALF},
                        {"q", pass->group, head * pass->group, unit->q, unit->queries, unit->q_stride, 0,
                         KVS_DEVICE_Q_HALF, KVS_DEVICE_Q, KVS_DEVICE_Q_ROUNDING, KVS_DEVICE_Q_WIDE}};
    for (int i = 0; i < 2; i++) KVS_TRY(send_tensor(state, unit, &tensors[i], of[i], error));
    for (int i = 0; i < 2 * pass->schemes_count; i++) {
        kvs_unit_errors *e = &errors[i / 2];
        if (state->stores[i].full) /* nothing is computed but what rounding loses */
            kvs_store_head(pass, unit, state->stores[i].store, NULL, of[i % 2], NULL, &(kvs_stored){0}, NULL, NULL,
                           i % 2 == 0 ? &e->key : &e->value);
    }
    if (unit->queries == 0) return KVS_OK;
    kvs_rounded queries[pass->group];
    KVS_TRY(send_tensor(state, unit, &tensors[2], queries, error));
    return send_ends(state, unit, error);
}

kvs_status kvs_device_unit(kvs_device_state *state, const kvs_unit *unit, kvs_unit_errors *errors, kvs_error *error) {
    const kvs_pass *pass = state->pass;
    double started = kvs_seconds();
    KVS_TRY(kvs_device_send(state, unit, errors, error));
    for (int i = 0; i < 2 * pass->schemes_count; i++) {
        int64_t tokens;
        KVS_TRY(kvs_device_pack(state, unit, i, &tokens, error));
        KVS_TRY(change(state, unit, i, tokens, error));
    }
    int span = kvs_device_span(pass, unit->tokens, unit->queries);
    for (int first = 0; first < unit->queries; first += span) {
        int last = first + span < unit->queries ? first + span : unit->queries;
        KVS_TRY(kvs_device_attend(state, unit, first, last, error));
    }
    size_t sizes[KVS_DEVICE_ARRAYS];
    const void *found[FETCHED];
    kvs_device_sizes(pass, state->stores, unit->tokens, unit->queries, sizes);
    sizes[KVS_DEVICE_SUMS] = (size_t)blocks_before(state, unit, 2 * pass->schemes_count) * 2 * sizeof(double);
    KVS_TRY(fetch(state, sizes, found, error));
    unpack(state, unit, found, errors);
    /* All schemes share the stream; attention in full precision takes about as long as under one of them. */
    for (int s = 0; s < pass->schemes_count; s++)
        errors[s].seconds = (kvs_seconds() - started) / (pass->schemes_count + 1);
    return KVS_OK;
}
