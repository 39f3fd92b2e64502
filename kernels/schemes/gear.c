/* gear.c: a uniform base, its outliers kept apart, and a low-rank approximation of what is left (arXiv 2403.05527).
 *
 * Of each row (a channel of a K page, a token of V) the int(length * sparsity / 2) smallest and as many of the largest
 * elements are kept in binary16 with an index and replaced by the row's mean; the rest goes through the base: K per
 * channel over groups of tokens, V per token over groups of channels. With E the error of the page and A, B of `rank`
 * columns from a power iteration of `rounds` rounds, x^ = base + outliers + A B^T, A and B in binary16.
 *
 * The published code has bits^2 - 1 levels instead of 2^bits - 1: variant=code (3 bits: 8, which take 4 bits; 8 bits:
 * 63, which take 6). Where it starts from chance, so does this, by (seed, sequence, layer, head, page). */
#include <string.h>

#include "core/half.h"
#include "core/random.h"
#include "kernels/affine_codec.h"
#include "kernels/low_rank.h"
#include "kernels/schemes/params.h"

enum { FORMULA, CODE };
enum { MOST_RANK = 16, MOST_PAGE = 1024 };

typedef struct config {
    int bits, group, rank, rounds, page, sink, window, variant;
    double sparsity;
} config;

static const char *const variant_choices[] = {"formula", "code", NULL};

static const kvs_param params[] = {
    KVS_WIDTH_PARAM(config, "2", 2, 8),
    {"group", KVS_PARAM_INT, offsetof(config, group), "32", 1, MOST_PAGE, "elements",
     "tokens of K, channels of V that share a scale", NULL},
    {"rank", KVS_PARAM_INT, offsetof(config, rank), "4", 0, MOST_RANK, "", "of the approximated error; 0: none", NULL},
    {"sparsity", KVS_PARAM_REAL, offsetof(config, sparsity), "0.02", 0, 0.5, "", "part of a row that is kept apart",
     NULL},
    {"rounds", KVS_PARAM_INT, offsetof(config, rounds), "3", 1, 100, "", "of the power iteration", NULL},
    {"page", KVS_PARAM_INT, offsetof(config, page), "128", 1, MOST_PAGE, "tokens", "streaming buffer of K and V", NULL},
    {"variant", KVS_PARAM_CHOICE, offsetof(config, variant), "formula", 0, 0, "",
     "levels: 2^bits - 1, or bits^2 - 1 as the published code has it", variant_choices},
    KVS_SINK_PARAM(config, "0"),
    KVS_V_RECENT_PARAM(config, "0"),
    {.name = NULL},
};

typedef struct gear {
    kvs_store base;
    int per_channel, kept, rank, rounds; /* kept: outliers of a row on each side */
} gear;

/* Rows of a page, and the elements of a row, `step` apart. */
typedef struct rows {
    int count, next, length, step;
} rows;

static rows rows_of(const kvs_store *store) {
    int tokens = store->window.page_tokens, channels = store->head_dim;
    if (((const gear *)store->config)->per_channel) return (rows){channels, 1, tokens, channels};
    return (rows){tokens, channels, channels, 1};
}

/* Scratch: the page as it was, without outliers, the error transposed, the factors, marks; then the base's. */
typedef struct work {
    float *page, *inner, *transposed, *left, *right, *marks, *base;
} work;

static size_t divide(const kvs_store *store, float *scratch, work *w) {
    size_t tokens = (size_t)store->window.page_tokens, channels = (size_t)store->head_dim, page = tokens * channels;
    size_t parts[] = {page, page, page, MOST_RANK * tokens, MOST_RANK * channels, (page + 3) / 4}, at = 0;
    float **arrays[] = {&w->page, &w->inner, &w->transposed, &w->left, &w->right, &w->marks};
    for (int i = 0; i < 6; i++) {
        *arrays[i] = scratch + at;
        at += parts[i];
    }
    w->base = scratch + at;
    return at;
}

/* Marks the `kept` elements of a row that are least of sign * x and not marked yet; ties to the lower index. */
static void mark(int kept, rows r, const float *row, float sign, uint8_t *marked) {
    for (int k = 0; k < kept; k++) {
        int best = -1;
        for (int i = 0; i < r.length; i++)
            if (!marked[i * r.step] && (best < 0 || sign * row[i * r.step] < sign * row[best * r.step])) best = i;
        if (best >= 0) marked[best * r.step] = 1;
    }
}

/* Marks the outliers of every row and puts the row's mean in their place. */
static void set_apart(const gear *g, rows r, float *page, uint8_t *marked) {
    for (int i = 0; g->kept > 0 && i < r.count; i++, page += r.next, marked += r.next) {
        double sum = 0.0;
        mark(g->kept, r, page, 1.0f, marked);
        mark(g->kept, r, page, -1.0f, marked);
        for (int e = 0; e < r.length; e++) sum += (double)page[e * r.step];
        for (int e = 0; e < r.length; e++)
            if (marked[e * r.step]) page[e * r.step] = (float)(sum / r.length);
    }
}

static uint64_t key_of(const kvs_page_place *place, int per_channel) {
    const uint64_t parts[] = {(uint64_t)place->sequence, (uint64_t)place->layer, (uint64_t)place->kv_head,
                              (uint64_t)place->page, (uint64_t)per_channel};
    uint64_t key = place->seed;
    for (int i = 0; i < 5; i++) key = kvs_random_key(key, parts[i]);
    return key;
}

/* Adds the low-rank part of what x_hat lacks. */
static void approximate(const kvs_store *store, const kvs_page_place *place, const work *w, float *x_hat) {
    const gear *g = store->config;
    int tokens = store->window.page_tokens, channels = store->head_dim;
    for (int t = 0; t < tokens; t++)
        for (int d = 0; d < channels; d++) {
            float error = w->page[t * channels + d] - x_hat[t * channels + d];
            w->inner[t * channels + d] = w->transposed[d * tokens + t] = error;
        }
    kvs_low_rank(g->rank, g->rounds, tokens, channels, w->inner, w->transposed, key_of(place, g->per_channel), w->left,
                 w->right);
    size_t left = (size_t)(g->rank * tokens), right = (size_t)(g->rank * channels);
    for (size_t i = 0; i < left; i++) w->left[i] = kvs_round_to_half(w->left[i]);
    for (size_t i = 0; i < right; i++) {
        float stored = kvs_round_to_half(w->right[i]);
        w->right[i] = stored > KVS_HALF_MAX ? KVS_HALF_MAX : stored < -KVS_HALF_MAX ? -KVS_HALF_MAX : stored;
    }
    kvs_add_low_rank(g->rank, tokens, channels, w->left, w->right, x_hat);
}

static void pages(const kvs_store *store, const kvs_page_context *first, int64_t count, const float *x, kvs_coded out,
                  float *scratch) {
    const gear *g = store->config;
    size_t elements = (size_t)store->window.page_tokens * (size_t)store->head_dim;
    work w;
    divide(store, scratch, &w);
    uint8_t *marked = (uint8_t *)(void *)w.marks;
    for (int64_t p = 0; p < count; p++) {
        kvs_page_context at = *first;
        at.place.page += (int)p;
        float *x_hat = out.x_hat + (size_t)p * elements;
        memcpy(w.page, x + (size_t)p * elements, sizeof *x * elements); /* x may be x_hat */
        memcpy(w.inner, w.page, sizeof *x * elements);
        memset(marked, 0, elements);
        set_apart(g, rows_of(store), w.inner, marked);
        kvs_coded coded = {.x_hat = x_hat, .codes = out.codes != NULL ? out.codes + (size_t)p * elements : NULL};
        g->base.codec->pages(&g->base, &at, 1, w.inner, coded, w.base);
        for (size_t e = 0; e < elements; e++)
            if (marked[e]) x_hat[e] = w.page[e];
        if (g->rank > 0) approximate(store, &at.place, &w, x_hat);
    }
}

static size_t scratch_floats(const kvs_store *store) {
    work unused;
    return divide(store, NULL, &unused) + kvs_store_scratch_floats(&((const gear *)store->config)->base);
}

/* The base's; an outlier is a binary16 value and its index in the row, of whole bytes; the factors are binary16. */
static kvs_bits page_bits(const kvs_store *store) {
    const gear *g = store->config;
    rows r = rows_of(store);
    kvs_bits bits = g->base.codec->page_bits(&g->base);
    bits.metadata += r.count * 2.0 * g->kept * (16 + (r.length > 256 ? 16 : 8));
    bits.metadata += 16.0 * g->rank * (store->window.page_tokens + store->head_dim);
    return bits;
}

static const kvs_codec codec = {pages, scratch_floats, NULL, page_bits};

static kvs_status open_store(kvs_scheme *scheme, kvs_store *store, kvs_affine_config *base, int recent,
                             kvs_error *error) {
    const config *c = scheme->config;
    kvs_window window = {.sink_tokens = c->sink, .page_tokens = c->page, .recent_tokens = recent};
    KVS_TRY(kvs_affine_store(scheme, store, window, base, error));
    gear g = {.base = *store, .per_channel = base->axis == KVS_AXIS_CHANNEL, .rank = c->rank, .rounds = c->rounds};
    g.kept = (int)((g.per_channel ? c->page : scheme->head_dim) * c->sparsity / 2.0);
    return kvs_store_make(scheme, store, window, &codec, &g, sizeof g, error);
}

static kvs_status open_gear(kvs_scheme *scheme, kvs_error *error) {
    const config *c = scheme->config;
    kvs_affine_config base = {
        .axis = KVS_AXIS_CHANNEL,
        .group = c->group,
        .group_param = "group",
        .bits = c->bits,
        .levels = c->variant == CODE ? c->bits * c->bits - 1 : 0,
        .rule = {.rounding = KVS_ROUND_HALF_EVEN, .divisor = KVS_DIVIDE_BY_STORED},
    };
    if (c->rank >= c->page || c->rank >= scheme->head_dim)
        return kvs_fail(error, KVS_USAGE, scheme->spec, "rank", "%d is not below page %d and head_dim %d", c->rank,
                        c->page, scheme->head_dim);
    KVS_TRY(open_store(scheme, &scheme->k, &base, 0, error));
    base.axis = KVS_AXIS_TOKEN;
    return open_store(scheme, &scheme->v, &base, c->window, error);
}

const kvs_scheme_type kvs_scheme_gear = {
    .name = "gear",
    .summary = "the base of kivi, outliers kept apart, and the rest of the error in low rank",
    .paper = "GEAR, arXiv 2403.05527",
    .layout = "kivi",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_gear,
};
