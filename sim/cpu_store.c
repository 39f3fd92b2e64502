/* cpu_store.c: memory of a unit, rounding to binary16, and storing K and V under a scheme. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "core/simd.h"
#include "sim/cpu_unit.h"

enum { ALIGNMENT = 64 };

size_t kvs_arena_bytes(size_t count, size_t element_bytes) {
    return (count * element_bytes + 2 * ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

kvs_status kvs_arena_reset(kvs_arena *arena, size_t bytes, kvs_error *error) {
    arena->used = 0;
    if (bytes <= arena->bytes) return KVS_OK;
    free(arena->memory);
    arena->bytes = 0;
    arena->memory = aligned_alloc(ALIGNMENT, kvs_arena_bytes(bytes, 1));
    if (arena->memory == NULL)
        return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory: %zu bytes for one head", bytes);
    arena->bytes = bytes;
    return KVS_OK;
}

void *kvs_arena_take(kvs_arena *arena, size_t count, size_t element_bytes) {
    void *taken = arena->memory + arena->used;
    arena->used += kvs_arena_bytes(count, element_bytes);
    return taken;
}

/* difference = a - b; whether any is not 0. */
KVS_SIMD static int subtract(const float *a, const float *b, float *difference, int64_t count) {
    int differ = 0;
#pragma omp simd reduction(| : differ)
    for (int64_t i = 0; i < count; i++) {
        difference[i] = a[i] - b[i];
        differ |= difference[i] != 0.0f;
    }
    return differ;
}

kvs_status kvs_round_rows(const kvs_pass *pass, const kvs_unit *unit, const char *tensor, int head,
                          const float *recorded, int64_t rows, float *half, float *change, kvs_rounded *rounded,
                          kvs_error *error) {
    *rounded = (kvs_rounded){recorded, recorded, NULL};
    if (pass->binary16) return KVS_OK;
    size_t dim = (size_t)pass->head_dim, count = (size_t)rows * dim,
           bad = kvs_round_floats_to_half(recorded, half, count);
    if (bad < count) {
        char object[64];
        snprintf(object, sizeof object, "/sequences/%06d/%s", unit->place.sequence, tensor);
        return kvs_fail(error, KVS_INPUT, unit->path, object, "value at [%d, %d, %zu, %zu] overflows binary16: %g",
                        unit->place.layer, head, bad / dim, bad % dim, (double)recorded[bad]);
    }
    if (subtract(half, recorded, change, (int64_t)count)) *rounded = (kvs_rounded){recorded, half, change};
    return KVS_OK;
}

int64_t kvs_unit_prefill(const kvs_pass *pass, const kvs_unit *unit) {
    if (!pass->causal) return unit->tokens; /* every query sees the whole sequence, so it was there at once */
    return pass->prompt_exact ? unit->prompt_tokens : 0;
}

int64_t kvs_unit_stored_end(const kvs_pass *pass, const kvs_unit *unit, const kvs_window *window, int index) {
    int position = unit->positions[index];
    if (pass->prompt_exact && position < unit->prompt_tokens) return window->sink_tokens;
    return kvs_window_stored_end(window, pass->causal ? position : unit->tokens, kvs_unit_prefill(pass, unit));
}

/* dequantized becomes dequantized - half, and the squares of its distance from the recorded values are added. */
KVS_SIMD static void compare(const float *half, const float *recorded, float *dequantized, int64_t count,
                             kvs_stored_error *error) {
    double sum = 0, energy = 0;
#pragma omp simd reduction(+ : sum, energy)
    for (int64_t i = 0; i < count; i++) {
        double distance = (double)dequantized[i] - (double)recorded[i];
        sum += distance * distance;
        energy += (double)recorded[i] * (double)recorded[i];
        dequantized[i] -= half[i];
    }
    error->elements += count;
    error->error += sum;
    error->energy += energy;
}

/* The same where everything is stored as binary16. */
KVS_SIMD static void compare_rounding(const kvs_rounded *x, int64_t count, kvs_stored_error *error) {
    double sum = 0, energy = 0;
    const float *half = x->half, *recorded = x->recorded;
#pragma omp simd reduction(+ : sum, energy)
    for (int64_t i = 0; i < count; i++) {
        double distance = (double)half[i] - (double)recorded[i];
        sum += distance * distance;
        energy += (double)recorded[i] * (double)recorded[i];
    }
    *error = (kvs_stored_error){count, sum, energy};
}

int64_t kvs_store_chunk(const kvs_store *store) {
    enum { ENOUGH = 1024 }; /* tokens: they stay in the cache from one step to the next */
    int64_t whole = store->window.page_tokens;
    while (whole % KVS_PRODUCT_PANEL != 0) whole += store->window.page_tokens;
    return whole * ((ENOUGH + whole - 1) / whole);
}

void kvs_store_head(const kvs_pass *pass, const kvs_unit *unit, const kvs_store *store, const kvs_page_context *context,
                    const kvs_rounded *x, const kvs_product *pack, kvs_stored *stored, float *chunk, float *scratch,
                    kvs_stored_error *error) {
    int64_t dim = pass->head_dim, page_tokens = store->window.page_tokens;
    if (store->codec == NULL) {
        stored->window = NULL;
        compare_rounding(x, unit->tokens * dim, error);
        return;
    }
    stored->window = &store->window;
    stored->begin = store->window.sink_tokens;
    stored->end = kvs_window_stored_end(&store->window, unit->tokens, kvs_unit_prefill(pass, unit));
    int64_t step = kvs_store_chunk(store);
    *error = (kvs_stored_error){0};
    for (int64_t first = stored->begin; first < stored->end; first += step) {
        int64_t tokens = stored->end - first < step ? stored->end - first : step;
        kvs_page_context at = *context;
        at.prefix = store->window.prefix_tokens > 0 ? x->half : NULL;
        at.place.page = (int)((first - stored->begin) / page_tokens);
        float *change = stored->change + (first - stored->begin) * dim, *x_hat = pack != NULL ? chunk : change;
        const float *half = x->half + first * dim;
        store->codec->pages(store, &at, tokens / page_tokens, half, (kvs_coded){.x_hat = x_hat}, scratch);
        compare(half, x->recorded + first * dim, x_hat, tokens * dim, error);
        if (pack != NULL) pack->pack(x_hat, tokens, pass->head_dim, change);
    }
}
