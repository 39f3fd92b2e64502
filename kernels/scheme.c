#include "kernels/scheme.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/constants.h"

/* --- the window policy ---------------------------------------------------------------------------------------------
 */

static int64_t stored_end(const kvs_window *window, int64_t tokens, int64_t kept) {
    int64_t ready = tokens - window->sink_tokens - kept;
    return window->sink_tokens + (ready > 0 ? ready / window->page_tokens * window->page_tokens : 0);
}

int64_t kvs_window_stored_end(const kvs_window *window, int64_t tokens, int64_t prefill_tokens) {
    int64_t recent = window->recent_tokens;
    if (tokens < window->prefix_tokens) return window->sink_tokens;
    if (prefill_tokens < window->prefix_tokens) prefill_tokens = 0;
    int64_t decoded = stored_end(window, tokens, recent + window->decode_lag);
    int64_t prefilled = stored_end(window, prefill_tokens < tokens ? prefill_tokens : tokens, recent);
    return decoded > prefilled ? decoded : prefilled;
}

/* --- opening -------------------------------------------------------------------------------------------------------
 */

typedef struct allocation {
    struct allocation *next;
    max_align_t memory[];
} allocation;

void *kvs_scheme_alloc(kvs_scheme *scheme, size_t bytes) {
    allocation *block = calloc(1, sizeof *block + bytes);
    if (block == NULL) return NULL;
    block->next = scheme->allocations;
    scheme->allocations = block;
    return block->memory;
}

void kvs_scheme_close(kvs_scheme *scheme) {
    if (scheme == NULL) return;
    for (allocation *block = scheme->allocations, *next; block != NULL; block = next) {
        next = block->next;
        free(block);
    }
    free(scheme);
}

const kvs_scheme_type *kvs_scheme_type_find(const char *name) {
    for (int i = 0; kvs_scheme_types[i] != NULL; i++)
        if (strcmp(kvs_scheme_types[i]->name, name) == 0) return kvs_scheme_types[i];
    return NULL;
}

/* The type that spec names; *params is set to what follows the colon. */
static kvs_status find_type(const char *spec, const kvs_scheme_type **type, const char **params, kvs_error *error) {
    char name[32] = "", known[512] = "";
    size_t length = strcspn(spec, ":");
    if (length < sizeof name) memcpy(name, spec, length);
    *type = kvs_scheme_type_find(name);
    *params = spec[length] == ':' ? spec + length + 1 : "";
    if (*type != NULL) return KVS_OK;
    for (int i = 0; kvs_scheme_types[i] != NULL; i++) {
        strncat(known, i ? ", " : "", sizeof known - strlen(known) - 1);
        strncat(known, kvs_scheme_types[i]->name, sizeof known - strlen(known) - 1);
    }
    return kvs_fail(error, KVS_USAGE, spec, NULL, "unknown scheme; known: %s", known);
}

static kvs_status fill(kvs_scheme *scheme, const char *spec, const char *params, kvs_error *error) {
    const kvs_scheme_type *type = scheme->type;
    char owner[64] = "scheme ";
    strncat(owner, type->name, sizeof owner - strlen(owner) - 1);
    scheme->layout = type->layout;
    scheme->spec = kvs_scheme_alloc(scheme, strlen(spec) + 1);
    scheme->config = kvs_scheme_alloc(scheme, type->config_bytes + 1);
    if (scheme->spec == NULL || scheme->config == NULL) return kvs_fail(error, KVS_INPUT, spec, NULL, "out of memory");
    memcpy(scheme->spec, spec, strlen(spec) + 1);
    kvs_params_defaults(type->params, scheme->config);
    KVS_TRY(kvs_params_parse(type->params, owner, params, scheme->config, error));
    return type->open(scheme, error);
}

kvs_status kvs_scheme_open(const char *spec, int head_dim, kvs_scheme **scheme, kvs_error *error) {
    const kvs_scheme_type *type;
    const char *params;
    *scheme = NULL;
    KVS_TRY(find_type(spec, &type, &params, error));
    if (head_dim < 1 || head_dim > KVS_MAX_HEAD_DIM)
        return kvs_fail(error, KVS_USAGE, spec, "head_dim", "%d is outside 1 to %d", head_dim, KVS_MAX_HEAD_DIM);
    kvs_scheme *opened = calloc(1, sizeof *opened);
    if (opened == NULL) return kvs_fail(error, KVS_INPUT, spec, NULL, "out of memory");
    opened->type = type;
    opened->head_dim = head_dim;
    kvs_status status = fill(opened, spec, params, error);
    if (status == KVS_OK)
        *scheme = opened;
    else
        kvs_scheme_close(opened);
    return status;
}

/* --- storing -------------------------------------------------------------------------------------------------------
 */

int kvs_scheme_uses_queries(const kvs_scheme *scheme) {
    return scheme->k.needs.use != KVS_QUERIES_NONE || scheme->v.needs.use != KVS_QUERIES_NONE;
}

kvs_status kvs_scheme_without_queries(const kvs_scheme *scheme, const char *caller, kvs_error *error) {
    if (!kvs_scheme_uses_queries(scheme)) return KVS_OK;
    return kvs_fail(error, KVS_USAGE, scheme->spec, NULL, "uses queries to store a page, and %s has none to give it",
                    caller);
}

kvs_status kvs_scheme_without_rope(const kvs_scheme *scheme, const char *caller, kvs_error *error) {
    if (!scheme->k.unturns && !scheme->v.unturns) return KVS_OK;
    return kvs_fail(error, KVS_USAGE, scheme->spec, NULL,
                    "stores keys as they were before the rotary embedding, and %s does not know how it turned them",
                    caller);
}

kvs_status kvs_store_make(kvs_scheme *scheme, kvs_store *store, kvs_window window, const kvs_codec *codec,
                          const void *config, size_t config_bytes, kvs_error *error) {
    void *own = kvs_scheme_alloc(scheme, config_bytes + 1);
    if (own == NULL) return kvs_fail(error, KVS_INPUT, scheme->spec, NULL, "out of memory");
    if (config_bytes > 0) memcpy(own, config, config_bytes);
    *store = (kvs_store){.window = window, .head_dim = scheme->head_dim, .codec = codec, .config = own};
    return KVS_OK;
}

void kvs_store_pages(const kvs_store *store, const kvs_page_context *context, int64_t end, const float *x, float *x_hat,
                     uint8_t *codes, float *scratch) {
    int64_t count = (end - store->window.sink_tokens) / store->window.page_tokens;
    if (store->codec == NULL || count <= 0) return;
    size_t first = (size_t)store->window.sink_tokens * (size_t)store->head_dim;
    kvs_coded out = {.x_hat = x_hat + first, .codes = codes != NULL ? codes + first : NULL};
    kvs_page_context at = *context;
    at.place.page = 0;
    at.prefix = store->window.prefix_tokens > 0 ? x : NULL;
    store->codec->pages(store, &at, count, x + first, out, scratch);
}

kvs_status kvs_scheme_check_model(const kvs_scheme *scheme, const char *name, int layers, int kv_heads,
                                  kvs_error *error) {
    const char *own = scheme->model_name;
    if (scheme->model_layers == 0) return KVS_OK;
    if (scheme->model_layers != layers || scheme->model_kv_heads != kv_heads)
        return kvs_fail(error, KVS_USAGE, scheme->spec, NULL,
                        "its constants are for %d layers of %d KV heads, and here are %d of %d", scheme->model_layers,
                        scheme->model_kv_heads, layers, kv_heads);
    /* Constants keep no more of a long name. */
    if (own == NULL || own[0] == '\0' || name[0] == '\0' || strncmp(own, name, KVS_CONSTANTS_NAME - 1) == 0)
        return KVS_OK;
    return kvs_fail(error, KVS_USAGE, scheme->spec, NULL, "its constants are for the model '%s', and here is '%s'", own,
                    name);
}

kvs_status kvs_scheme_without_constants(const kvs_scheme *scheme, const char *caller, kvs_error *error) {
    if (scheme->model_layers == 0) return KVS_OK;
    return kvs_fail(error, KVS_USAGE, scheme->spec, NULL, "has constants of a model, and %s knows no model", caller);
}

size_t kvs_store_scratch_floats(const kvs_store *store) {
    return store->codec != NULL ? store->codec->scratch_floats(store) : 0;
}

/* --- the memory account --------------------------------------------------------------------------------------------
 */

static void add(kvs_bits *sum, kvs_bits bits, double factor) {
    sum->payload += bits.payload * factor;
    sum->metadata += bits.metadata * factor;
    sum->residual += bits.residual * factor;
    sum->padding += bits.padding * factor;
}

static kvs_bits store_bits(const kvs_store *store, int64_t tokens) {
    kvs_bits bits = {0};
    double token_bits = 16.0 * store->head_dim;
    if (store->codec == NULL) {
        bits.payload = token_bits * (double)tokens;
        return bits;
    }
    int64_t stored = kvs_window_stored_end(&store->window, tokens, 0) - store->window.sink_tokens;
    add(&bits, store->codec->page_bits(store), (double)(stored / store->window.page_tokens));
    if (stored > 0) bits.metadata += store->head_bits;
    bits.residual = token_bits * (double)(tokens - stored);
    return bits;
}

kvs_bits kvs_scheme_head_bits(const kvs_scheme *scheme, int64_t tokens) {
    kvs_bits bits = store_bits(&scheme->k, tokens);
    add(&bits, store_bits(&scheme->v, tokens), 1.0);
    return bits;
}

static kvs_bits bits_per_element(const kvs_store *store) {
    kvs_bits bits = {.payload = 16.0};
    if (store->codec == NULL) return bits;
    bits.payload = 0.0;
    add(&bits, store->codec->page_bits(store), 1.0 / ((double)store->window.page_tokens * store->head_dim));
    return bits;
}

kvs_bits kvs_scheme_page_bits(const kvs_scheme *scheme) {
    kvs_bits bits = {0};
    add(&bits, bits_per_element(&scheme->k), 0.5);
    add(&bits, bits_per_element(&scheme->v), 0.5);
    return bits;
}
