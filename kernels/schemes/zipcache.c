/* zipcache.c: tokens that get more attention at more bits; K per channel over the tokens of a kind, V per token after
 * scaling its channels (arXiv 2405.14256).
 *
 *     saliency of token j = mean over query heads and past probe queries i >= j of their attention to j
 *     K   the int(salient * page) most salient tokens of a page and the others: per channel minimum and scale of each
 *     V   c_d = sqrt(max_t |v_td|), binary16;  v_td / c_d per token, asymmetric;  times c_d
 *
 * The paper probes a tenth of the queries (recent ones and some by chance) and compresses every 100 tokens, all of the
 * cache again; here the probes are the recorded queries of the last `probes` positions before a page is stored, and a
 * page is stored once. A token that no probe has seen yet is salient; ties go to the earlier token. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/affine.h"
#include "kernels/schemes/params.h"

enum { MOST_PAGE = 1024 };

typedef struct config {
    int high_bits, low_bits, page, probes, sink, window;
    double salient;
} config;

static const kvs_param params[] = {
    {"high_bits", KVS_PARAM_INT, offsetof(config, high_bits), "4", 1, 8, "bits", "of salient tokens", NULL},
    {"low_bits", KVS_PARAM_INT, offsetof(config, low_bits), "2", 1, 8, "bits", "of the others", NULL},
    {"salient", KVS_PARAM_REAL, offsetof(config, salient), "0.6", 0, 1, "", "part of the tokens of a page", NULL},
    {"page", KVS_PARAM_INT, offsetof(config, page), "100", 1, MOST_PAGE, "tokens", "compressed at a time", NULL},
    {"probes", KVS_PARAM_INT, offsetof(config, probes), "512", 0, 1000000, "tokens",
     "positions before a page is stored whose queries probe; 0: all", NULL},
    KVS_SINK_PARAM(config, "0"),
    KVS_V_RECENT_PARAM(config, "0"),
    {.name = NULL},
};

typedef struct zipcache {
    config c;
    int is_value, salient;
} zipcache;

static const kvs_affine_rule rule = {.rounding = KVS_ROUND_HALF_EVEN, .divisor = KVS_DIVIDE_BY_STORED};

/* --- saliency ------------------------------------------------------------------------------------------------------
 */

typedef struct seen {
    double saliency;
    int token;
} seen;

static int more_salient(const void *a, const void *b) {
    const seen *x = a, *y = b;
    if (x->saliency != y->saliency) return x->saliency > y->saliency ? -1 : 1;
    return x->token - y->token;
}

/* levels [page]: of the kind that each token belongs to. keys: those of the page. */
static void choose(const zipcache *z, const kvs_page_context *context, int head_dim, const float *keys, float *levels) {
    const kvs_query_set *queries = &context->queries;
    seen tokens[MOST_PAGE];
    for (int t = 0; t < z->c.page; t++) {
        double sum = 0.0;
        int count = 0;
        for (int i = 0; i < queries->count; i++) {
            if (queries->positions[i] < context->first_token + t) continue;
            for (int h = 0; h < queries->heads; h++, count++) {
                const float *q = kvs_query_at(queries, h, i);
                double dot = 0.0;
                for (int d = 0; d < head_dim; d++) dot += (double)q[d] * (double)keys[t * head_dim + d];
                sum +=
                    exp((double)context->softmax_scale * dot - (double)queries->log_sums[h * queries->sums_stride + i]);
            }
        }
        tokens[t] = (seen){count > 0 ? sum / count : INFINITY, t};
    }
    qsort(tokens, (size_t)z->c.page, sizeof *tokens, more_salient);
    for (int i = 0; i < z->c.page; i++)
        levels[tokens[i].token] = kvs_affine_levels(i < z->salient ? z->c.high_bits : z->c.low_bits);
}

/* --- pages ---------------------------------------------------------------------------------------------------------
 */

static void encode(kvs_affine_group group, float levels, const float *x, float *x_hat, uint8_t *code) {
    float q = kvs_affine_code(rule.rounding, group, *x, levels);
    if (code != NULL) *code = (uint8_t)(int)q;
    *x_hat = kvs_affine_value(q, group.scale, group.zero);
}

/* One channel: the tokens of each kind share a group. */
static void encode_key_channel(int tokens, int head_dim, const float *levels, const float *x, float *x_hat,
                               uint8_t *codes) {
    float low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY}, kind_levels[2] = {levels[0], levels[0]};
    for (int t = 0; t < tokens; t++) {
        int kind = levels[t] != levels[0];
        kind_levels[kind] = levels[t];
        low[kind] = fminf(low[kind], x[t * head_dim]);
        high[kind] = fmaxf(high[kind], x[t * head_dim]);
    }
    kvs_affine_group groups[2];
    for (int kind = 0; kind < 2; kind++)
        if (low[kind] <= high[kind]) groups[kind] = kvs_affine_fit(rule, low[kind], high[kind], kind_levels[kind]);
    for (int t = 0; t < tokens; t++)
        encode(groups[levels[t] != levels[0]], levels[t], x + t * head_dim, x_hat + t * head_dim,
               codes != NULL ? codes + t * head_dim : NULL);
}

static void encode_values(int tokens, int head_dim, const float *levels, const float *x, float *x_hat, uint8_t *codes) {
    float scales[KVS_MAX_HEAD_DIM], row[KVS_MAX_HEAD_DIM];
    for (int d = 0; d < head_dim; d++) scales[d] = 0.0f;
    for (int t = 0; t < tokens; t++)
        for (int d = 0; d < head_dim; d++) scales[d] = fmaxf(scales[d], fabsf(x[t * head_dim + d]));
    for (int d = 0; d < head_dim; d++) scales[d] = scales[d] > 0.0f ? kvs_round_to_half(sqrtf(scales[d])) : 1.0f;
    for (int t = 0; t < tokens; t++) {
        float low = INFINITY, high = -INFINITY;
        for (int d = 0; d < head_dim; d++) {
            row[d] = x[t * head_dim + d] / scales[d];
            low = fminf(low, row[d]), high = fmaxf(high, row[d]);
        }
        kvs_affine_group group = kvs_affine_fit(rule, low, high, levels[t]);
        for (int d = 0; d < head_dim; d++) {
            encode(group, levels[t], &row[d], &row[d], codes != NULL ? codes + t * head_dim + d : NULL);
            x_hat[t * head_dim + d] = row[d] * scales[d];
        }
    }
}

static void pages(const kvs_store *store, const kvs_page_context *first, int64_t count, const float *x, kvs_coded out,
                  float *scratch) {
    (void)scratch;
    const zipcache *z = store->config;
    int head_dim = store->head_dim;
    size_t elements = (size_t)z->c.page * (size_t)head_dim;
    float levels[MOST_PAGE];
    kvs_window window = store->window;
    window.recent_tokens = 0; /* V may be stored later than K, but the tokens chosen are the same and said once */
    for (int64_t p = 0; p < count; p++) {
        kvs_page_context at = kvs_page_context_of(first, &window, store->needs, first->place.page + (int)p);
        const float *page = x + (size_t)p * elements;
        const float *keys = z->is_value && at.keys != NULL ? at.keys + at.first_token * head_dim : page;
        float *x_hat = out.x_hat + (size_t)p * elements;
        uint8_t *codes = out.codes != NULL ? out.codes + (size_t)p * elements : NULL;
        choose(z, &at, head_dim, keys, levels);
        if (z->is_value)
            encode_values(z->c.page, head_dim, levels, page, x_hat, codes);
        else
            for (int d = 0; d < head_dim; d++)
                encode_key_channel(z->c.page, head_dim, levels, page + d, x_hat + d, codes != NULL ? codes + d : NULL);
    }
}

static size_t scratch_floats(const kvs_store *store) {
    (void)store;
    return 0;
}

static double filled(int bits) {
    return (bits + 7) / 8 * 8 - bits;
}

/* K: a row of codes, a scale and a minimum of each kind a channel, and which tokens are salient. V: a row of codes, a
 * scale and a minimum a token, and the scale of each channel. */
static kvs_bits page_bits(const kvs_store *store) {
    const zipcache *z = store->config;
    int high = z->salient, low = z->c.page - z->salient, channels = store->head_dim;
    kvs_bits bits = {.payload = (double)channels * (high * z->c.high_bits + low * z->c.low_bits)};
    if (z->is_value) {
        bits.metadata = 32.0 * z->c.page + 16.0 * channels;
        bits.padding = high * filled(channels * z->c.high_bits) + low * filled(channels * z->c.low_bits);
    } else {
        bits.metadata = 32.0 * channels * ((high > 0) + (low > 0)) + z->c.page;
        bits.padding = channels * (filled(high * z->c.high_bits) + filled(low * z->c.low_bits)) + filled(z->c.page);
    }
    return bits;
}

static const kvs_codec codec = {pages, scratch_floats, NULL, page_bits};

static kvs_status open_zipcache(kvs_scheme *scheme, kvs_error *error) {
    const config *c = scheme->config;
    kvs_window window = {.sink_tokens = c->sink, .page_tokens = c->page};
    zipcache z = {.c = *c, .salient = (int)(c->salient * c->page + 1e-6)};
    kvs_query_needs needs = {KVS_QUERIES_PAST, 1, c->probes};
    KVS_TRY(kvs_store_make(scheme, &scheme->k, window, &codec, &z, sizeof z, error));
    z.is_value = 1;
    window.recent_tokens = c->window;
    KVS_TRY(kvs_store_make(scheme, &scheme->v, window, &codec, &z, sizeof z, error));
    scheme->k.needs = scheme->v.needs = needs;
    return KVS_OK;
}

const kvs_scheme_type kvs_scheme_zipcache = {
    .name = "zipcache",
    .summary = "tokens that get more attention at 4 bits, the others at 2; K per channel, V per token",
    .paper = "ZipCache, arXiv 2405.14256",
    .layout = "kivi",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_zipcache,
};
