/* mixkvq.c: channels of K in full precision, at 4 bits or at 2, by what the queries make of their quantization step; V
 * per token at 2 bits (arXiv 2512.19206).
 *
 *     a_d = mean over past queries of |q_d|, times (max_t k_d - min_t k_d) / (2^bits - 1) over the page
 *
 * The paper compares a_d with two thresholds that were searched for one model and task; so the shares of the three
 * kinds differ from page to page. Here the shares are parameters and a_d ranks the channels, which makes the account
 * exact. */
#include <string.h>

#include "kernels/affine_codec.h"
#include "kernels/schemes/params.h"

typedef struct config {
    int bits, high_bits, v_bits, group, page, sink, rank_window;
    double full, high;
} config;

static const kvs_param params[] = {
    KVS_WIDTH_PARAM(config, "2", 1, 8),
    {"high_bits", KVS_PARAM_INT, offsetof(config, high_bits), "4", 1, 8, "bits", "of the middle kind", NULL},
    {"full", KVS_PARAM_REAL, offsetof(config, full), "0.03125", 0, 1, "", "part of the channels in full precision",
     NULL},
    {"high", KVS_PARAM_REAL, offsetof(config, high), "0.125", 0, 1, "", "part of the channels at high_bits", NULL},
    {"v_bits", KVS_PARAM_INT, offsetof(config, v_bits), "2", 1, 8, "bits", "of a V code", NULL},
    {"group", KVS_PARAM_INT, offsetof(config, group), "32", 1, 4096, "tokens", "tokens of K that share a scale", NULL},
    {"page", KVS_PARAM_INT, offsetof(config, page), "128", 1, 4096, "tokens",
     "residual buffer of K, recent window of V; channels are chosen anew for each", NULL},
    {"rank_window", KVS_PARAM_INT, offsetof(config, rank_window), "512", 0, 1000000, "tokens",
     "positions before a page is stored whose queries choose; 0: all", NULL},
    KVS_SINK_PARAM(config, "0"),
    {.name = NULL},
};

/* An affine store whose boosted channels of the lowest ranks stay as they are. */
typedef struct tiered {
    kvs_store base;
    int full;
} tiered;

static void pages(const kvs_store *store, const kvs_page_context *first, int64_t count, const float *x, kvs_coded out,
                  float *scratch) {
    const tiered *c = store->config;
    int head_dim = store->head_dim, page_tokens = store->window.page_tokens;
    size_t elements = (size_t)page_tokens * (size_t)head_dim;
    float *page = scratch, *inner = scratch + elements;
    uint8_t ranks[KVS_MAX_HEAD_DIM];
    for (int64_t p = 0; p < count; p++) {
        kvs_page_context at = *first;
        at.place.page += (int)p;
        size_t from = (size_t)p * elements;
        memcpy(page, x + from, sizeof *x * elements);
        kvs_coded coded = {
            .x_hat = out.x_hat + from, .codes = out.codes != NULL ? out.codes + from : NULL, .ranks = ranks};
        c->base.codec->pages(&c->base, &at, 1, page, coded, inner);
        for (int d = 0; d < head_dim; d++)
            for (int t = 0; ranks[d] < c->full && t < page_tokens; t++)
                coded.x_hat[t * head_dim + d] = page[t * head_dim + d];
    }
}

static size_t scratch_floats(const kvs_store *store) {
    const tiered *c = store->config;
    return (size_t)store->window.page_tokens * (size_t)store->head_dim + kvs_store_scratch_floats(&c->base);
}

/* Of a channel in full precision: 16 bits an element instead of a code, and no scales. */
static kvs_bits page_bits(const kvs_store *store) {
    const tiered *c = store->config;
    const kvs_affine_config *base = c->base.config;
    kvs_bits bits = c->base.codec->page_bits(&c->base);
    int tokens = store->window.page_tokens, row = tokens * base->boost_bits;
    bits.payload += (double)c->full * tokens * (16 - base->boost_bits);
    bits.padding -= (double)c->full * ((row + 7) / 8 * 8 - row);
    bits.metadata -= (double)c->full * (tokens / base->group) * 32.0;
    return bits;
}

static const kvs_codec codec = {pages, scratch_floats, NULL, page_bits};

static kvs_status open_mixkvq(kvs_scheme *scheme, kvs_error *error) {
    const config *c = scheme->config;
    int full = (int)(scheme->head_dim * c->full + 1e-6), high = (int)(scheme->head_dim * c->high + 1e-6);
    if (full + high < 1 || full + high >= scheme->head_dim)
        return kvs_fail(error, KVS_USAGE, scheme->spec, "high", "%d and %d of %d channels leave nothing to choose",
                        full, high, scheme->head_dim);
    if (c->high_bits < c->bits)
        return kvs_fail(error, KVS_USAGE, scheme->spec, "high_bits", "%d bits are fewer than bits %d", c->high_bits,
                        c->bits);
    kvs_affine_config affine = {
        .axis = KVS_AXIS_CHANNEL,
        .group = c->group,
        .group_param = "group",
        .bits = c->bits,
        .boost_bits = c->high_bits,
        .boost_count = full + high,
        .ranking = kvs_ranking_find("query_step"),
        .rank_window = c->rank_window,
        .rule = {.rounding = KVS_ROUND_HALF_EVEN, .divisor = KVS_DIVIDE_BY_STORED},
    };
    kvs_window window = {.sink_tokens = c->sink, .page_tokens = c->page};
    KVS_TRY(kvs_affine_store(scheme, &scheme->k, window, &affine, error));
    tiered k = {scheme->k, full};
    KVS_TRY(kvs_store_make(scheme, &scheme->k, window, &codec, &k, sizeof k, error));
    scheme->k.needs = k.base.needs;
    affine = (kvs_affine_config){.axis = KVS_AXIS_TOKEN,
                                 .group = scheme->head_dim,
                                 .group_param = "head_dim",
                                 .bits = c->v_bits,
                                 .rule = affine.rule};
    window = (kvs_window){.sink_tokens = c->sink, .page_tokens = 1, .recent_tokens = c->page};
    return kvs_affine_store(scheme, &scheme->v, window, &affine, error);
}

const kvs_scheme_type kvs_scheme_mixkvq = {
    .name = "mixkvq",
    .summary = "K channels in full precision, at 4 bits or at 2 by query times step, V per token",
    .paper = "MixKVQ, arXiv 2512.19206",
    .layout = "channel-packed",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_mixkvq,
};
