/* tcq.c: trellis-coded channels at widths by reverse water-filling (kernels/trellis.h). With constants=FILE they are
 * the components of a basis fitted to the model, at fixed widths (kernels/calibrated.h). Without, nothing is
 * calibrated: every channel of a page has a width of its own, and all that a page needs is in it.
 *
 * A page, K and V alike, in this order, every part contiguous:
 *
 *     the mean of each channel                 int8, in steps: max |mean| / 127
 *     the scale of each channel                uint8 s: 2^((s - 120) / 8), or 0 where s is 0
 *     the width of each channel                3 bit planes of head_dim bits
 *     the step of the means                    binary16
 *     zeros up to a whole sector of 32 bytes
 *     the codes, channel by channel            as many bit planes of page_tokens bits as the channel has bits
 *     zeros up to a whole sector
 *
 *     value of token t, channel d = mean[d] + scale[d] * level[width[d]][state of t]
 *
 * The planes of all pages of a scheme are as many, int(head_dim * bits), so pages have one size; where a channel's
 * planes start is a prefix sum of widths. A plane of 128 tokens is 16 bytes: a warp reads whole lines, and a thread
 * that holds a word of each plane of a channel decodes 32 tokens from it and the word before. At head_dim 128 and 128
 * tokens with 352 planes, K is 10 sectors of metadata and 176 of codes, each read once
 * (tests/oracle/test_bit_planes.cu decodes such pages on the SIMT runtime and counts). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/half.h"
#include "kernels/bit_allocation.h"
#include "kernels/calibrated.h"
#include "kernels/error_feedback.h"
#include "kernels/query_moments.h"
#include "kernels/row_coder.h"
#include "kernels/scheme.h"
#include "kernels/transform.h"

enum { AFTER, BEFORE };
enum { UNWEIGHED, BY_QUERIES, FEEDBACK };
enum {
    MEAN_BITS = 8,
    SCALE_BITS = 8,
    WIDTH_BITS = 3,
    MOST_BITS = 7,
    STEP_BITS = 16,
    SECTOR_BITS = 256,
    MEAN_STEPS = 127
};

typedef struct config {
    int coding, max_bits, rope, weigh, rank_window, page, sink, window;
    double k_bits, v_bits, ridge;
    char constants[KVS_PARAM_TEXT_BYTES];
} config;

static const char *const rope_choices[] = {"after", "before", NULL};
static const char *const weigh_choices[] = {"none", "queries", "feedback", NULL};

#define INT_PARAM(FIELD, DEFAULT, LOW, HIGH, UNIT, SUMMARY)                                                            \
    { #FIELD, KVS_PARAM_INT, offsetof(config, FIELD), DEFAULT, LOW, HIGH, UNIT, SUMMARY, NULL }
#define REAL_PARAM(FIELD, DEFAULT, LOW, HIGH, UNIT, SUMMARY)                                                           \
    { #FIELD, KVS_PARAM_REAL, offsetof(config, FIELD), DEFAULT, LOW, HIGH, UNIT, SUMMARY, NULL }
#define CHOICE_PARAM(FIELD, DEFAULT, CHOICES, SUMMARY)                                                                 \
    { #FIELD, KVS_PARAM_CHOICE, offsetof(config, FIELD), DEFAULT, 0, 0, "", SUMMARY, CHOICES }

static const kvs_param params[] = {
    REAL_PARAM(k_bits, "2.75", 0, MOST_BITS, "bits", "code bits of an element of K, on average over a page"),
    REAL_PARAM(v_bits, "2", 0, MOST_BITS, "bits", "code bits of an element of V, on average over a page"),
    INT_PARAM(max_bits, "4", 1, MOST_BITS, "bits", "widest code"),
    CHOICE_PARAM(coding, "trellis", kvs_row_coding_choices, "how a channel's values become codes"),
    CHOICE_PARAM(rope, "after", rope_choices, "K is stored after or before the rotary embedding"),
    CHOICE_PARAM(weigh, "none", weigh_choices,
                 "by past queries' second moments: the variances of K channels; or their errors, fed back (LDLQ)"),
    REAL_PARAM(ridge, "1", 0.001, 1e6, "", "feedback: this part of the moments' diagonal is added to it"),
    INT_PARAM(rank_window, "512", 0, 1000000, "tokens",
              "positions before a page is stored whose queries count; 0: all"),
    INT_PARAM(page, "128", 8, 4096, "tokens", "tokens of a page"),
    INT_PARAM(sink, "32", 0, 1000000, "tokens", "first tokens kept in full precision"),
    INT_PARAM(window, "128", 0, 1000000, "tokens", "last tokens of V kept in full precision"),
    {"constants", KVS_PARAM_TEXT, offsetof(config, constants), "", 0, 0, "",
     "a file of kvscope calibrate; then k_bits, v_bits, max_bits, coding, rope, weigh and ridge have no say", NULL},
    {.name = NULL},
};

/* --- the codec -----------------------------------------------------------------------------------------------------
 */

typedef struct codec_config {
    kvs_row_coder coder;
    int planes, max_bits, weigh, paired; /* paired: the two channels of a rotary pair share a weight */
    double ridge;
} codec_config;

/* What is known of a page's channels; [head_dim] each. */
typedef struct channels {
    double *variances, *gains, *factor; /* factor: [head_dim][head_dim], with feedback alone */
    float *means, *deviations, *moments;
    uint8_t *widths;
} channels;

typedef struct work {
    channels c;
    float *rows, *unit, *values, *row_scratch; /* rows: [head_dim][page_tokens] */
    uint8_t *codes;
} work;

/* Carves scratch; returns the floats taken. */
static size_t divide(const kvs_store *store, float *scratch, work *w) {
    size_t dim = (size_t)store->head_dim, tokens = (size_t)store->window.page_tokens, at = 0;
    w->c.variances = (double *)(void *)scratch;
    w->c.gains = w->c.variances + dim;
    w->c.factor = w->c.gains + dim;
    at += 4 * dim + (((const codec_config *)store->config)->weigh == FEEDBACK ? 2 * dim * dim : 0);
    float **parts[] = {&w->c.means, &w->c.deviations, &w->c.moments, &w->rows, &w->unit, &w->values, &w->row_scratch};
    size_t floats[] = {dim, dim, dim, dim * tokens, tokens, tokens, kvs_trellis_scratch((int)tokens)};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
        *parts[i] = scratch + at;
        at += floats[i];
    }
    w->c.widths = (uint8_t *)(scratch + at);
    w->codes = w->c.widths + dim;
    return at + (dim + tokens + sizeof(float) - 1) / sizeof(float);
}

/* The stored scale nearest to x in the exponent: 2^((s - 120) / 8), s from 1 to 255; 0 where x is 0. */
static float stored_scale(double x) {
    if (!(x > 0.0)) return 0.0f;
    double s = rint(8.0 * log2(x)) + 120.0;
    s = s < 1.0 ? 1.0 : s > 255.0 ? 255.0 : s;
    return (float)exp2((s - 120.0) / 8.0);
}

/* Turns rows into differences from the stored means. */
static void subtract_means(int dim, int tokens, work *w) {
    float most = 0.0f;
    for (int d = 0; d < dim; d++) {
        double sum = 0.0;
        for (int t = 0; t < tokens; t++) sum += (double)w->rows[d * tokens + t];
        w->c.means[d] = (float)(sum / tokens);
        most = fmaxf(most, fabsf(w->c.means[d]));
    }
    float step = kvs_round_to_half(most / MEAN_STEPS);
    for (int d = 0; d < dim; d++) {
        float steps = step > 0.0f ? rintf(w->c.means[d] / step) : 0.0f, *row = w->rows + d * tokens;
        w->c.means[d] = step * fminf(fmaxf(steps, -MEAN_STEPS), MEAN_STEPS);
        double sum = 0.0;
        for (int t = 0; t < tokens; t++) {
            row[t] -= w->c.means[d];
            sum += (double)row[t] * (double)row[t];
        }
        w->c.variances[d] = sum / tokens;
        w->c.deviations[d] = (float)sqrt(w->c.variances[d]);
    }
}

static void weigh(const kvs_store *store, const kvs_page_context *first, int page, channels *c) {
    const codec_config *coding = store->config;
    if (coding->weigh == UNWEIGHED) return;
    kvs_page_context context = kvs_page_context_of(first, &store->window, store->needs, page);
    if (coding->weigh == FEEDBACK) {
        kvs_feedback_factor(&context.queries, store->head_dim, coding->ridge, c->factor);
        for (int d = 0; d < store->head_dim; d++) c->variances[d] *= c->factor[d * store->head_dim + d];
        return;
    }
    kvs_query_square(&context.queries, c->moments);
    for (int d = 0; d < store->head_dim; d++) {
        int partner = coding->paired ? kvs_rope_partner(first->rope, d) : d;
        c->variances[d] *= 0.5 * ((double)c->moments[d] + (double)c->moments[partner]);
    }
}

/* What row d has to be for the errors of the rows behind it, which were coded before. */
static void feed_back(const kvs_store *store, int d, work *w) {
    int tokens = store->window.page_tokens;
    const float *row = w->rows + d * tokens;
    kvs_feedback_apply(w->c.factor, store->head_dim, tokens, d, w->rows);
    double square = 0.0;
    for (int t = 0; t < tokens; t++) square += (double)row[t] * (double)row[t];
    w->c.deviations[d] = (float)sqrt(square / tokens);
}

/* Codes row d; values [tokens] become what is stored of it, the mean included. */
static void code_row(const codec_config *coding, int tokens, int d, work *w) {
    const float *row = w->rows + d * tokens, deviation = w->c.deviations[d];
    int bits = w->c.widths[d];
    for (int t = 0; t < tokens; t++) w->unit[t] = bits > 0 ? row[t] / deviation : 0.0f;
    kvs_row_encode(&coding->coder, bits, tokens, w->unit, w->codes, w->values, w->row_scratch);
    /* The scale of least squared error for these codes. */
    double across = 0.0, along = 0.0;
    for (int t = 0; t < tokens; t++) {
        across += (double)row[t] * (double)w->values[t];
        along += (double)w->values[t] * (double)w->values[t];
    }
    float scale = stored_scale(along > 0.0 ? across / along : 0.0);
    for (int t = 0; t < tokens; t++) w->values[t] = w->c.means[d] + scale * w->values[t];
}

static void code_page(const kvs_store *store, const kvs_page_context *first, int page, const float *x, float *x_hat,
                      uint8_t *codes, work *w) {
    const codec_config *coding = store->config;
    int dim = store->head_dim, tokens = store->window.page_tokens;
    for (int t = 0; t < tokens; t++)
        for (int d = 0; d < dim; d++) w->rows[d * tokens + t] = x[(size_t)t * (size_t)dim + (size_t)d];
    subtract_means(dim, tokens, w);
    weigh(store, first, page, &w->c);
    kvs_allocate_bits(dim, w->c.variances, coding->max_bits, coding->coder.distortion, coding->planes, w->c.gains,
                      w->c.widths);
    for (int d = dim - 1; d >= 0; d--) {
        if (coding->weigh == FEEDBACK) feed_back(store, d, w);
        code_row(coding, tokens, d, w);
        for (int t = 0; t < tokens; t++) {
            size_t at = (size_t)t * (size_t)dim + (size_t)d;
            w->rows[d * tokens + t] = w->values[t] - x[at]; /* the error, for feed_back */
            if (x_hat != NULL) x_hat[at] = w->values[t];
            if (codes != NULL) codes[at] = w->codes[t];
        }
    }
}

static void pages(const kvs_store *store, const kvs_page_context *first, int64_t count, const float *x, kvs_coded out,
                  float *scratch) {
    work w;
    divide(store, scratch, &w);
    size_t elements = (size_t)store->window.page_tokens * (size_t)store->head_dim;
    for (int64_t p = 0; p < count; p++, x += elements) {
        size_t at = (size_t)p * elements;
        code_page(store, first, first->place.page + (int)p, x, out.x_hat != NULL ? out.x_hat + at : NULL,
                  out.codes != NULL ? out.codes + at : NULL, &w);
    }
}

static size_t scratch_floats(const kvs_store *store) {
    work unused;
    return divide(store, NULL, &unused);
}

/* Adds a part of a page and what it lacks to whole sectors. */
static void add_part(kvs_bits *bits, double *kind, int part) {
    *kind += part;
    bits->padding += (SECTOR_BITS - part % SECTOR_BITS) % SECTOR_BITS;
}

static kvs_bits page_bits(const kvs_store *store) {
    int plane = (store->window.page_tokens + 7) / 8 * 8, planes = ((const codec_config *)store->config)->planes;
    kvs_bits bits = {0};
    add_part(&bits, &bits.payload, planes * plane);
    bits.payload -= planes * (plane - store->window.page_tokens);
    bits.padding += planes * (plane - store->window.page_tokens);
    add_part(&bits, &bits.metadata,
             WIDTH_BITS * ((store->head_dim + 7) / 8 * 8) + (MEAN_BITS + SCALE_BITS) * store->head_dim + STEP_BITS);
    return bits;
}

static const kvs_codec codec = {pages, scratch_floats, NULL, page_bits};

/* --- the scheme ----------------------------------------------------------------------------------------------------
 */

static kvs_status open_store(kvs_scheme *scheme, kvs_store *store, kvs_window window, double bits, kvs_error *error) {
    const config *c = scheme->config;
    codec_config own = {.planes = (int)(scheme->head_dim * bits + 1e-6), .max_bits = c->max_bits};
    kvs_row_coder_make((kvs_row_coding)c->coding, &own.coder);
    if (own.planes > scheme->head_dim * c->max_bits)
        return kvs_fail(error, KVS_USAGE, scheme->spec, "max_bits", "%d is less than the mean width %g", c->max_bits,
                        bits);
    return kvs_store_make(scheme, store, window, &codec, &own, sizeof own, error);
}

/* Widths and bases are best for what was stored when queries were weighed; anything else is refused. */
static kvs_status check_windows(const config *c, const kvs_constants_header *h, kvs_error *error) {
    const struct {
        const char *name;
        int own, theirs;
    } numbers[] = {{"page", c->page, h->page}, {"sink", c->sink, h->sink}, {"window", c->window, h->window}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].own != numbers[i].theirs)
            return kvs_fail(error, KVS_USAGE, c->constants, numbers[i].name,
                            "was %d when these constants were calibrated, and here it is %d", numbers[i].theirs,
                            numbers[i].own);
    return KVS_OK;
}

static kvs_status open_calibrated(kvs_scheme *scheme, kvs_window k_window, kvs_window v_window, kvs_error *error) {
    const char *path = ((const config *)scheme->config)->constants;
    kvs_constants_header header;
    uint8_t *records;
    KVS_TRY(kvs_constants_read(path, &header, &records, error));
    kvs_status status = KVS_OK;
    if (header.head_dim != scheme->head_dim)
        status =
            kvs_fail(error, KVS_USAGE, path, "head_dim", "is %d, and here it is %d", header.head_dim, scheme->head_dim);
    if (status == KVS_OK) status = check_windows(scheme->config, &header, error);
    if (status == KVS_OK)
        status = kvs_calibrated_store(scheme, &scheme->k, k_window, path, &header, records, KVS_CONSTANTS_K, error);
    if (status == KVS_OK)
        status = kvs_calibrated_store(scheme, &scheme->v, v_window, path, &header, records, KVS_CONSTANTS_V, error);
    free(records);
    const kvs_map unturn = {.type = &kvs_map_unturn};
    if (status == KVS_OK && header.before_rope) status = kvs_transform_store(scheme, &scheme->k, &unturn, 1, error);
    return status;
}

static kvs_status open_tcq(kvs_scheme *scheme, kvs_error *error) {
    const config *c = scheme->config;
    kvs_window k_window = {.sink_tokens = c->sink, .page_tokens = c->page}, v_window = k_window;
    v_window.recent_tokens = c->window;
    if (c->constants[0] != '\0') return open_calibrated(scheme, k_window, v_window, error);
    if (c->weigh == FEEDBACK && c->rope == BEFORE)
        return kvs_fail(error, KVS_USAGE, scheme->spec, "weigh",
                        "feedback goes with rope=after: keys before the embedding have other moments at each distance");
    KVS_TRY(open_store(scheme, &scheme->v, v_window, c->v_bits, error));
    KVS_TRY(open_store(scheme, &scheme->k, k_window, c->k_bits, error));
    codec_config *k = scheme->k.config;
    k->weigh = c->weigh;
    k->ridge = c->ridge;
    k->paired = c->rope == BEFORE;
    if (c->weigh != UNWEIGHED) scheme->k.needs = (kvs_query_needs){KVS_QUERIES_PAST, 0, c->rank_window};
    const kvs_map unturn = {.type = &kvs_map_unturn};
    return c->rope == BEFORE ? kvs_transform_store(scheme, &scheme->k, &unturn, 1, error) : KVS_OK;
}

const kvs_scheme_type kvs_scheme_tcq = {
    .name = "tcq",
    .summary = "channels of a page at widths by reverse water-filling, trellis-coded along tokens; uncalibrated",
    .paper = "Marcellin and Fischer 1990 (trellis-coded quantization); the scheme is this project's",
    .layout = "bit-planes",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_tcq,
};
