/* kvquant.c: a codebook that is not uniform, keys per channel before the rotary embedding, values per token, outliers
 * apart (arXiv 2401.18079).
 *
 *     K   low, high of each channel: percentiles outliers/2 and 1 - outliers/2 of the prefix (linear interpolation)
 *     V   the same of each token's channels
 *     z = (x - (high + low)/2) / ((high - low)/2);  code = nearest of 2^bits levels;  value back from it
 *     outliers: of each token the ceil(outliers/2 head_dim) largest z above 1 and smallest below -1, kept in binary16;
 *     what is left beyond +-1 gets the nearest level
 *     levels: weighted k-means of the z of the prefix in [-1, 1], gathered in 1024 cells, weights ((high - low)/2)^2
 *     qnorm: levels * std(z) / std(level of z), shifted to the same mean (over the same cells)
 *
 * The paper calibrates on other texts and weighs by the square of the gradient (Fisher information), which no trace
 * holds: here the squared step weighs, so the codebook minimizes the squared error of K and of V. Levels are shared by
 * a layer there, by a head of K or V here. Low and high of V are kept as scale and offset in binary16. */
#include <math.h>
#include <string.h>

#include "core/half.h"
#include "core/simd.h"
#include "kernels/lloyd_max.h"
#include "kernels/schemes/params.h"
#include "kernels/transform.h"

enum { BEFORE, AFTER };
enum { QNORM_AT_2, NO_QNORM, QNORM };
enum { CELLS = 1024, ROUNDS = 100, MOST_LEVELS = 256 };

typedef struct config {
    int bits, rope, qnorm, page, prefix, sink, window;
    double outliers;
} config;

static const char *const rope_choices[] = {"before", "after", NULL};
static const char *const qnorm_choices[] = {"auto", "no", "yes", NULL};

static const kvs_param params[] = {
    KVS_WIDTH_PARAM(config, "3", 1, 8),
    {"outliers", KVS_PARAM_REAL, offsetof(config, outliers), "0.01", 0, 0.5, "", "part that is kept apart", NULL},
    {"rope", KVS_PARAM_CHOICE, offsetof(config, rope), "before", 0, 0, "", "keys before or after the rotary embedding",
     rope_choices},
    {"qnorm", KVS_PARAM_CHOICE, offsetof(config, qnorm), "auto", 0, 0, "",
     "levels with the mean and deviation of what they stand for; auto: with 2 bits", qnorm_choices},
    KVS_PREFIX_PARAM(config, "512", "percentiles and codebooks are those"),
    {"page", KVS_PARAM_INT, offsetof(config, page), "32", 1, 4096, "tokens", "stored at a time (published: 1)", NULL},
    KVS_SINK_PARAM(config, "1"),
    KVS_RECENT_PARAM(config, "0"),
    {.name = NULL},
};

typedef struct kvquant {
    int bits, count, per_channel, qnorm, apart; /* apart: outliers of a token on each side */
    double outliers;
} kvquant;

/* --- normalization -------------------------------------------------------------------------------------------------
 */

/* The `keep` least of sign * x, rising: count values, step apart. */
static void least_of(float sign, const float *x, int count, int step, int keep, float *least) {
    int have = 0;
    for (int i = 0; i < count; i++) {
        float value = sign * x[(size_t)i * (size_t)step];
        if (have == keep && !(value < least[keep - 1])) continue;
        int at = have < keep ? have++ : keep - 1;
        for (; at > 0 && value < least[at - 1]; at--) least[at] = least[at - 1];
        least[at] = value;
    }
}

/* Of sign * x, times sign: the percentile outliers / 2, or with sign -1 the one as far from the other end. */
static double percentile(const kvquant *c, float sign, const float *x, int count, int step, float *work) {
    double at = c->outliers / 2.0 * (count - 1);
    int i = (int)at, next = i + 1 < count ? i + 1 : i;
    least_of(sign, x, count, step, next + 1, work);
    return (double)sign * ((double)work[i] + (at - i) * ((double)work[next] - (double)work[i]));
}

/* Offset and half range of count values, step apart; work: [count]. */
static void fit_range(const kvquant *c, const float *x, int count, int step, float *work, float *offset, float *range) {
    double low = percentile(c, 1.0f, x, count, step, work), high = percentile(c, -1.0f, x, count, step, work);
    *offset = kvs_round_to_half((float)(0.5 * (high + low)));
    *range = kvs_round_to_half((float)(0.5 * (high - low)));
}

static float normalized(float x, float offset, float range) {
    return range > 0.0f ? (x - offset) / range : 0.0f;
}

/* --- the codebook --------------------------------------------------------------------------------------------------
 */

typedef struct cells {
    double weight[CELLS], moment[CELLS];
} cells;

static void gather(cells *all, int count, const float *x, const float *offset, const float *range, int per_channel) {
    for (int i = 0; i < count; i++) {
        float r = range[per_channel ? i : 0], z = normalized(x[i], offset[per_channel ? i : 0], r);
        if (!(z >= -1.0f && z <= 1.0f)) continue;
        int cell = (int)(0.5f * (z + 1.0f) * CELLS);
        cell = cell < CELLS ? cell : CELLS - 1;
        double weight = (double)r * (double)r;
        all->weight[cell] += weight;
        all->moment[cell] += weight * (double)z;
    }
}

static int nearest(int count, const double *levels, double x) {
    int code = 0;
    while (code + 1 < count && x > 0.5 * (levels[code] + levels[code + 1])) code++;
    return code;
}

/* Gives the levels the weighted mean and deviation of the values that they stand for. */
static void keep_moments(int used, const double *values, const double *weights, int count, double *levels) {
    double total = 0, means[2] = {0, 0}, squares[2] = {0, 0};
    for (int i = 0; i < used; i++) {
        const double pair[2] = {values[i], levels[nearest(count, levels, values[i])]};
        total += weights[i];
        for (int k = 0; k < 2; k++) means[k] += weights[i] * pair[k], squares[k] += weights[i] * pair[k] * pair[k];
    }
    for (int k = 0; k < 2; k++) means[k] /= total, squares[k] = squares[k] / total - means[k] * means[k];
    if (!(squares[1] > 0)) return;
    double scale = sqrt(fmax(squares[0], 0) / squares[1]);
    for (int j = 0; j < count; j++) levels[j] = (levels[j] - means[1]) * scale + means[0];
}

static void fit_levels(const kvquant *c, const cells *all, float *levels, float *borders) {
    double values[CELLS], weights[CELLS], found[MOST_LEVELS];
    int used = 0;
    for (int i = 0; i < CELLS; i++) {
        if (!(all->weight[i] > 0)) continue;
        values[used] = all->moment[i] / all->weight[i];
        weights[used++] = all->weight[i];
    }
    if (used == 0) values[0] = 0, weights[0] = 1, used = 1; /* a prefix of constants */
    kvs_lloyd_max_sample(used, values, weights, c->count, ROUNDS, found);
    for (int j = 0; j + 1 < c->count; j++) borders[j] = (float)(0.5 * (found[j] + found[j + 1]));
    if (c->qnorm) keep_moments(used, values, weights, c->count, found);
    for (int j = 0; j < c->count; j++) levels[j] = kvs_round_to_half((float)found[j]);
}

/* --- pages ---------------------------------------------------------------------------------------------------------
 */

/* What a head is stored with; per token, offsets and ranges have one entry. */
typedef struct fitted {
    float *offsets, *ranges, *levels, *borders, *z, *codes, *work;
} fitted;

static size_t divide(const kvs_store *store, float *scratch, fitted *f) {
    size_t dim = (size_t)store->head_dim, prefix = (size_t)store->window.prefix_tokens;
    size_t parts[] = {dim, dim, MOST_LEVELS, MOST_LEVELS, dim, dim, dim > prefix ? dim : prefix}, at = 0;
    float **arrays[] = {&f->offsets, &f->ranges, &f->levels, &f->borders, &f->z, &f->codes, &f->work};
    for (int i = 0; i < 7; i++) {
        *arrays[i] = scratch + at;
        at += parts[i];
    }
    return at;
}

static void fit(const kvs_store *store, const float *prefix, const fitted *f) {
    const kvquant *c = store->config;
    int dim = store->head_dim, tokens = store->window.prefix_tokens;
    cells all = {.weight = {0}};
    for (int d = 0; c->per_channel && d < dim; d++)
        fit_range(c, prefix + d, tokens, dim, f->work, &f->offsets[d], &f->ranges[d]);
    for (int t = 0; t < tokens; t++) {
        const float *row = prefix + (size_t)t * (size_t)dim;
        if (!c->per_channel) fit_range(c, row, dim, 1, f->work, f->offsets, f->ranges);
        gather(&all, dim, row, f->offsets, f->ranges, c->per_channel);
    }
    fit_levels(c, &all, f->levels, f->borders);
}

/* Keeps the `apart` elements that are furthest beyond sign * 1; ties to the lower channel. z of a kept one becomes 0.
 */
static void keep_outliers(int apart, int dim, float sign, const float *x, float *z, float *x_hat) {
    for (int k = 0; k < apart; k++) {
        int best = -1;
        for (int d = 0; d < dim; d++)
            if (sign * z[d] > 1.0f && (best < 0 || sign * z[d] > sign * z[best])) best = d;
        if (best < 0) return;
        x_hat[best] = x[best];
        z[best] = 0.0f;
    }
}

KVS_SIMD static void nearest_codes(int dim, int count, const float *restrict borders, const float *restrict z,
                                   float *restrict codes) {
    for (int d = 0; d < dim; d++) codes[d] = 0.0f;
    for (int b = 0; b + 1 < count; b++)
        for (int d = 0; d < dim; d++) codes[d] += z[d] > borders[b] ? 1.0f : 0.0f;
}

/* One token: x is not x_hat. */
static void encode(const kvquant *c, int dim, const fitted *f, const float *x, float *x_hat, uint8_t *codes) {
    if (!c->per_channel) fit_range(c, x, dim, 1, f->work, f->offsets, f->ranges);
    for (int d = 0; d < dim; d++) {
        int i = c->per_channel ? d : 0;
        f->z[d] = normalized(x[d], f->offsets[i], f->ranges[i]);
    }
    nearest_codes(dim, c->count, f->borders, f->z, f->codes);
    for (int d = 0; d < dim; d++) {
        int i = c->per_channel ? d : 0, code = (int)f->codes[d];
        if (codes != NULL) codes[d] = (uint8_t)code;
        x_hat[d] = f->levels[code] * f->ranges[i] + f->offsets[i];
    }
    keep_outliers(c->apart, dim, 1.0f, x, f->z, x_hat);
    keep_outliers(c->apart, dim, -1.0f, x, f->z, x_hat);
}

static void pages(const kvs_store *store, const kvs_page_context *first, int64_t count, const float *x, kvs_coded out,
                  float *scratch) {
    int dim = store->head_dim;
    float row[KVS_MAX_HEAD_DIM];
    fitted f;
    divide(store, scratch, &f);
    fit(store, first->prefix, &f);
    for (int64_t t = 0; t < count * store->window.page_tokens; t++) {
        memcpy(row, x + t * dim, sizeof row[0] * (size_t)dim);
        encode(store->config, dim, &f, row, out.x_hat + t * dim, out.codes != NULL ? out.codes + t * dim : NULL);
    }
}

static size_t scratch_floats(const kvs_store *store) {
    fitted unused;
    return divide(store, NULL, &unused);
}

/* Of a token: its codes; places for all outliers that it may have, a binary16 value and a channel of whole bytes each;
 * of V offset and range. */
static kvs_bits page_bits(const kvs_store *store) {
    const kvquant *c = store->config;
    int row = store->head_dim * c->bits, index = store->head_dim > 256 ? 16 : 8;
    double tokens = store->window.page_tokens;
    return (kvs_bits){
        .payload = tokens * row,
        .metadata = tokens * (2 * c->apart * (16 + index) + (c->per_channel ? 0 : 32)),
        .padding = tokens * ((row + 7) / 8 * 8 - row),
    };
}

static const kvs_codec codec = {pages, scratch_floats, NULL, page_bits};

static kvs_status open_kvquant(kvs_scheme *scheme, kvs_error *error) {
    const config *c = scheme->config;
    kvs_window window = {
        .sink_tokens = c->sink, .page_tokens = c->page, .recent_tokens = c->window, .prefix_tokens = c->prefix};
    kvquant store = {
        .bits = c->bits,
        .count = 1 << c->bits,
        .qnorm = c->qnorm == QNORM || (c->qnorm == QNORM_AT_2 && c->bits == 2),
        .apart = (int)ceil(c->outliers / 2.0 * scheme->head_dim - 1e-9),
        .outliers = c->outliers,
    };
    KVS_TRY(kvs_store_make(scheme, &scheme->v, window, &codec, &store, sizeof store, error));
    store.per_channel = 1;
    KVS_TRY(kvs_store_make(scheme, &scheme->k, window, &codec, &store, sizeof store, error));
    scheme->k.reads_prefix = scheme->v.reads_prefix = 1;
    scheme->v.head_bits = 16.0 * store.count;
    scheme->k.head_bits = 16.0 * store.count + 32.0 * scheme->head_dim; /* levels, offsets and ranges */
    const kvs_map unturn = {.type = &kvs_map_unturn};
    return c->rope == BEFORE ? kvs_transform_store(scheme, &scheme->k, &unturn, 1, error) : KVS_OK;
}

const kvs_scheme_type kvs_scheme_kvquant = {
    .name = "kvquant",
    .summary = "a weighted k-means codebook, K per channel before the rotary embedding, V per token, outliers apart",
    .paper = "KVQuant, arXiv 2401.18079",
    .layout = "int",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_kvquant,
};
