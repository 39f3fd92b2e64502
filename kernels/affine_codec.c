/* affine_codec.c: pages to codes and back, in cache and vectorized; the account of a page. */
#include "kernels/affine_codec.h"

#include <string.h>

#include "core/simd.h"

/* Groups per token are fitted this many at a time, so that the fit is vectorized as well. */
enum { TOKEN_BLOCK = 64 };

/* Fitted groups, one array entry a group. */
typedef struct fitted {
    float *low, *high, *levels; /* in */
    float *minimum, *divisor, *scale, *zero;
} fitted;

static fitted fitted_in(float *scratch, int groups) {
    float *at[7];
    for (int i = 0; i < 7; i++) at[i] = scratch + (size_t)i * (size_t)groups;
    return (fitted){at[0], at[1], at[2], at[3], at[4], at[5], at[6]};
}

static const kvs_affine_config *config_of(const kvs_store *store) {
    return store->config;
}

/* --- arithmetic, vectorized ----------------------------------------------------------------------------------------
 */

#define INLINED static inline __attribute__((always_inline))

/* A divisor of 0 means codes of 0: dividing by infinity gives the same without a test per element. */
INLINED void fit_groups(kvs_affine_rule rule, int groups, const float *restrict low, const float *restrict high,
                        const float *restrict levels, float *restrict minimum, float *restrict divisor,
                        float *restrict scale, float *restrict zero) {
    for (int i = 0; i < groups; i++) {
        kvs_affine_group group = kvs_affine_fit(rule, low[i], high[i], levels[i]);
        minimum[i] = group.minimum;
        divisor[i] = group.divisor > 0.0f ? group.divisor : INFINITY;
        scale[i] = group.scale;
        zero[i] = group.zero;
    }
}

/* The compiler vectorizes the loop once it knows which of the rule's branches it takes. */
KVS_SIMD static void fit(kvs_affine_rule rule, int groups, fitted f) {
    kvs_affine_rule r = {.scale_floor = rule.scale_floor, .range_floor = rule.range_floor};
    if (rule.meta == KVS_META_BINARY32) {
        r.meta = KVS_META_BINARY32;
        fit_groups(r, groups, f.low, f.high, f.levels, f.minimum, f.divisor, f.scale, f.zero);
    } else if (rule.divisor == KVS_DIVIDE_BY_WORKING) {
        r.meta = KVS_META_BINARY16, r.divisor = KVS_DIVIDE_BY_WORKING;
        fit_groups(r, groups, f.low, f.high, f.levels, f.minimum, f.divisor, f.scale, f.zero);
    } else {
        r.meta = KVS_META_BINARY16, r.divisor = KVS_DIVIDE_BY_STORED;
        fit_groups(r, groups, f.low, f.high, f.levels, f.minimum, f.divisor, f.scale, f.zero);
    }
}

KVS_SIMD static void channel_extremes(int tokens, int head_dim, const float *restrict x, float *restrict low,
                                      float *restrict high) {
    memcpy(low, x, sizeof *x * (size_t)head_dim);
    memcpy(high, x, sizeof *x * (size_t)head_dim);
    for (int t = 1; t < tokens; t++)
        for (int d = 0; d < head_dim; d++) {
            float value = x[(size_t)t * head_dim + d];
            low[d] = value < low[d] ? value : low[d];
            high[d] = value > high[d] ? value : high[d];
        }
}

/* kvs_affine_code and kvs_affine_value of one element, the divisor being above 0. */
INLINED float code_of(kvs_rounding rounding, float x, float minimum, float divisor, float levels) {
    kvs_affine_group group = {.minimum = minimum, .divisor = divisor};
    return kvs_affine_code(rounding, group, x, levels);
}

/* x_hat may be x, element by element. Meanwhile x[ahead] is fetched: the next group is read as soon as this one is
 * done, and dividing leaves the memory idle. */
INLINED void encode_channels(kvs_rounding rounding, int tokens, int head_dim, size_t ahead, const float *x,
                             float *x_hat, uint8_t *codes, fitted f) {
    for (int t = 0; t < tokens; t++, x += head_dim, x_hat += head_dim) {
        for (int d = 0; d < head_dim; d += 16) __builtin_prefetch(x + ahead + d);
#pragma omp simd
        for (int d = 0; d < head_dim; d++) {
            float code = code_of(rounding, x[d], f.minimum[d], f.divisor[d], f.levels[d]);
            if (codes != NULL) codes[(size_t)t * head_dim + d] = (uint8_t)(int)code;
            x_hat[d] = kvs_affine_value(code, f.scale[d], f.zero[d]);
        }
    }
}

KVS_SIMD static void encode_channel_group(kvs_rounding rounding, int tokens, int head_dim, size_t ahead, const float *x,
                                          float *x_hat, uint8_t *codes, fitted f) {
    if (rounding == KVS_ROUND_HALF_UP && codes == NULL)
        encode_channels(KVS_ROUND_HALF_UP, tokens, head_dim, ahead, x, x_hat, NULL, f);
    else if (rounding == KVS_ROUND_HALF_UP)
        encode_channels(KVS_ROUND_HALF_UP, tokens, head_dim, ahead, x, x_hat, codes, f);
    else if (codes == NULL)
        encode_channels(KVS_ROUND_HALF_EVEN, tokens, head_dim, ahead, x, x_hat, NULL, f);
    else
        encode_channels(KVS_ROUND_HALF_EVEN, tokens, head_dim, ahead, x, x_hat, codes, f);
}

/* Which of -0 and +0 is the minimum may depend on the order here: kvs_affine_fit makes both +0. */
KVS_SIMD static void token_extremes(int groups, int group, const float *restrict x, float *restrict low,
                                    float *restrict high) {
    for (int g = 0; g < groups; g++, x += group) {
        float least = x[0], most = x[0];
#pragma omp simd reduction(min : least) reduction(max : most)
        for (int i = 0; i < group; i++) {
            least = x[i] < least ? x[i] : least;
            most = x[i] > most ? x[i] : most;
        }
        low[g] = least;
        high[g] = most;
    }
}

INLINED void encode_tokens(kvs_rounding rounding, int groups, int group, const float *x, float *x_hat, uint8_t *codes,
                           fitted f) {
    for (int g = 0; g < groups; g++, x += group, x_hat += group) {
        float minimum = f.minimum[g], divisor = f.divisor[g], levels = f.levels[g];
        float scale = f.scale[g], zero = f.zero[g];
#pragma omp simd
        for (int i = 0; i < group; i++) {
            float code = code_of(rounding, x[i], minimum, divisor, levels);
            if (codes != NULL) codes[(size_t)g * group + i] = (uint8_t)(int)code;
            x_hat[i] = kvs_affine_value(code, scale, zero);
        }
    }
}

KVS_SIMD static void encode_token_groups(kvs_rounding rounding, int groups, int group, const float *x, float *x_hat,
                                         uint8_t *codes, fitted f) {
    if (rounding == KVS_ROUND_HALF_UP && codes == NULL)
        encode_tokens(KVS_ROUND_HALF_UP, groups, group, x, x_hat, NULL, f);
    else if (rounding == KVS_ROUND_HALF_UP)
        encode_tokens(KVS_ROUND_HALF_UP, groups, group, x, x_hat, codes, f);
    else if (codes == NULL)
        encode_tokens(KVS_ROUND_HALF_EVEN, groups, group, x, x_hat, NULL, f);
    else
        encode_tokens(KVS_ROUND_HALF_EVEN, groups, group, x, x_hat, codes, f);
}

/* --- pages ---------------------------------------------------------------------------------------------------------
 */

static float levels_of(const kvs_affine_config *config) {
    return config->levels > 0 ? (float)config->levels : kvs_affine_levels(config->bits);
}

/* Bits of a code at the base width. */
static int width_of(const kvs_affine_config *config) {
    int width = 1;
    while (config->levels >> width > 0) width++;
    return config->levels > 0 ? width : config->bits;
}

/* The levels of each channel of one page, by its rank; ranks_out may be NULL. scratch: 2 * head_dim and
 * what the ranking takes. */
static void choose_levels(const kvs_store *store, const kvs_page_context *first, int page, const float *x,
                          float *scratch, float *levels, uint8_t *ranks_out) {
    const kvs_affine_config *config = config_of(store);
    int head_dim = store->head_dim, count = config->boost_count;
    float base = levels_of(config), boosted = kvs_affine_levels(config->boost_bits);
    if (count == 0 || count == head_dim) {
        for (int d = 0; d < head_dim; d++) levels[d] = count == 0 ? base : boosted;
        if (ranks_out != NULL)
            for (int d = 0; d < head_dim; d++) ranks_out[d] = (uint8_t)(count == 0 ? 0 : d);
        return;
    }
    float *scores = scratch;
    int *ranks = (int *)(void *)(scores + head_dim);
    kvs_page_context context = kvs_page_context_of(first, &store->window, store->needs, page);
    config->ranking->score(&context, store->window.page_tokens, head_dim, x, scratch + 2 * (size_t)head_dim, scores);
    kvs_rank_channels(head_dim, scores, ranks);
    for (int d = 0; d < head_dim; d++) levels[d] = ranks[d] < count ? boosted : base;
    if (ranks_out != NULL)
        for (int d = 0; d < head_dim; d++) ranks_out[d] = (uint8_t)(ranks[d] < count ? ranks[d] : count);
}

static void keep_metadata(const fitted *f, size_t groups, size_t at, kvs_coded out) {
    if (out.scales != NULL) memcpy(out.scales + at, f->scale, sizeof *out.scales * groups);
    if (out.zeros != NULL) memcpy(out.zeros + at, f->zero, sizeof *out.zeros * groups);
}

static void channel_pages(const kvs_store *store, const kvs_page_context *first, int64_t pages, const float *x,
                          kvs_coded out, float *scratch) {
    const kvs_affine_config *config = config_of(store);
    int head_dim = store->head_dim, page_tokens = store->window.page_tokens;
    size_t group_elements = (size_t)config->group * (size_t)head_dim;
    fitted f = fitted_in(scratch, head_dim);
    scratch += 7 * (size_t)head_dim;
    size_t element = 0, metadata = 0;
    for (int64_t p = 0; p < pages; p++) {
        uint8_t *ranks = out.ranks != NULL ? out.ranks + (size_t)p * (size_t)head_dim : NULL;
        choose_levels(store, first, first->place.page + (int)p, x + element, scratch, f.levels, ranks);
        for (int t = 0; t < page_tokens; t += config->group) {
            channel_extremes(config->group, head_dim, x + element, f.low, f.high);
            fit(config->rule, head_dim, f);
            int last = p + 1 == pages && t + config->group >= page_tokens;
            encode_channel_group(config->rule.rounding, config->group, head_dim, last ? 0 : group_elements, x + element,
                                 out.x_hat + element, out.codes != NULL ? out.codes + element : NULL, f);
            keep_metadata(&f, (size_t)head_dim, metadata, out);
            element += group_elements;
            metadata += (size_t)head_dim;
        }
    }
}

static void clip_extremes(float clip, int groups, fitted f) {
    for (int g = 0; g < groups; g++) {
        f.low[g] *= clip;
        f.high[g] *= clip;
    }
}

static void round_metadata(const kvs_minifloat *format, int groups, fitted f) {
    for (int g = 0; g < groups; g++) {
        f.scale[g] = kvs_minifloat_round(format, f.scale[g]);
        f.zero[g] = kvs_minifloat_round(format, f.zero[g]);
    }
}

/* Rows are contiguous, so page after page is one list of groups of consecutive elements. */
static void token_pages(const kvs_store *store, int64_t pages, const float *x, kvs_coded out, float *scratch) {
    const kvs_affine_config *config = config_of(store);
    int group = config->group;
    int64_t groups = pages * store->window.page_tokens * (store->head_dim / group);
    fitted f = fitted_in(scratch, TOKEN_BLOCK);
    for (int i = 0; i < TOKEN_BLOCK; i++) f.levels[i] = levels_of(config);
    for (int64_t g = 0; g < groups; g += TOKEN_BLOCK) {
        int block = groups - g < TOKEN_BLOCK ? (int)(groups - g) : TOKEN_BLOCK;
        size_t element = (size_t)g * (size_t)group;
        token_extremes(block, group, x + element, f.low, f.high);
        if (config->clip > 0.0f) clip_extremes(config->clip, block, f);
        fit(config->rule, block, f);
        if (config->meta != NULL) round_metadata(config->meta, block, f);
        encode_token_groups(config->rule.rounding, block, group, x + element, out.x_hat + element,
                            out.codes != NULL ? out.codes + element : NULL, f);
        keep_metadata(&f, (size_t)block, (size_t)g, out);
    }
    if (out.ranks != NULL) memset(out.ranks, 0, (size_t)pages * (size_t)store->head_dim);
}

static void pages(const kvs_store *store, const kvs_page_context *first, int64_t count, const float *x, kvs_coded out,
                  float *scratch) {
    if (config_of(store)->axis == KVS_AXIS_CHANNEL)
        channel_pages(store, first, count, x, out, scratch);
    else
        token_pages(store, count, x, out, scratch);
}

static size_t scratch_floats(const kvs_store *store) {
    if (config_of(store)->axis == KVS_AXIS_TOKEN) return 7 * TOKEN_BLOCK;
    return 9 * (size_t)store->head_dim + kvs_ranking_scratch(store->window.page_tokens, store->head_dim);
}

/* --- the account ---------------------------------------------------------------------------------------------------
 */

static int page_groups(const kvs_store *store) {
    return store->window.page_tokens * store->head_dim / config_of(store)->group;
}

/* Adds `rows` rows of `length` codes of `width` bits, each row filled up to whole bytes. */
static void add_rows(kvs_bits *bits, double rows, int length, int width) {
    int code_bits = length * width;
    bits->payload += rows * code_bits;
    bits->padding += rows * ((code_bits + 7) / 8 * 8 - code_bits);
}

static kvs_bits page_bits(const kvs_store *store) {
    const kvs_affine_config *config = config_of(store);
    int tokens = store->window.page_tokens, channels = store->head_dim, boosted = config->boost_count;
    kvs_bits bits = {0};
    int width = config->rule.meta == KVS_META_BINARY16 ? 16 : 32;
    if (config->meta != NULL) width = 1 + config->meta->exponent_bits + config->meta->mantissa_bits;
    bits.metadata = page_groups(store) * 2.0 * width;
    if (config->axis == KVS_AXIS_TOKEN) {
        add_rows(&bits, tokens, channels, width_of(config));
        return bits;
    }
    if (boosted > 0 && boosted < channels) bits.metadata += 8.0 * channels;
    if (config->planes) { /* the lowest plane of all channels, the others of the boosted ones */
        add_rows(&bits, channels, tokens, config->bits);
        if (boosted > 0) add_rows(&bits, boosted * (config->boost_bits / config->bits - 1.0), tokens, config->bits);
    } else {
        add_rows(&bits, channels - boosted, tokens, width_of(config));
        add_rows(&bits, boosted, tokens, config->boost_bits);
    }
    return bits;
}

static const kvs_codec affine_codec = {pages, scratch_floats, page_groups, page_bits};

/* --- set up --------------------------------------------------------------------------------------------------------
 */

kvs_status kvs_affine_store(kvs_scheme *scheme, kvs_store *store, kvs_window window, const kvs_affine_config *config,
                            kvs_error *error) {
    int per_channel = config->axis == KVS_AXIS_CHANNEL;
    int whole = per_channel ? window.page_tokens : scheme->head_dim;
    if (config->group < 1 || whole % config->group != 0)
        return kvs_fail(error, KVS_USAGE, scheme->spec, config->group_param, "groups of %d %s do not divide %s %d",
                        config->group, per_channel ? "tokens" : "channels", per_channel ? "a page of" : "head_dim",
                        whole);
    if (config->boost_count > 255 && config->boost_count < scheme->head_dim)
        return kvs_fail(error, KVS_USAGE, scheme->spec, "boost",
                        "%d of %d channels: a channel index of one byte holds up to 255", config->boost_count,
                        scheme->head_dim);
    KVS_TRY(kvs_store_make(scheme, store, window, &affine_codec, config, sizeof *config, error));
    const kvs_ranking *ranking = config->boost_count % scheme->head_dim != 0 ? config->ranking : NULL;
    if (ranking != NULL) store->needs = (kvs_query_needs){ranking->queries, ranking->attention, config->rank_window};
    return KVS_OK;
}

const kvs_affine_config *kvs_affine_config_of(const kvs_store *store) {
    return store->codec == &affine_codec ? store->config : NULL;
}

const char *const kvs_rounding_choices[] = {"up", "even", NULL};
const char *const kvs_rounding_auto_choices[] = {"up", "even", "auto", NULL};
const char *const kvs_meta_choices[] = {"fp16", "fp32", NULL};
const char *const kvs_meta_auto_choices[] = {"fp16", "fp32", "auto", NULL};
const char *const kvs_divisor_choices[] = {"working", "stored", NULL};
const char *const kvs_divisor_auto_choices[] = {"working", "stored", "auto", NULL};

kvs_affine_rule kvs_numerics_rule(const kvs_numerics *numerics, const kvs_affine_rule *standard) {
    kvs_affine_rule rule = *standard;
    if (numerics->rounding <= KVS_ROUND_HALF_EVEN) rule.rounding = (kvs_rounding)numerics->rounding;
    if (numerics->meta <= KVS_META_BINARY32) rule.meta = (kvs_meta_format)numerics->meta;
    if (numerics->divisor <= KVS_DIVIDE_BY_STORED) rule.divisor = (kvs_divisor)numerics->divisor;
    if (!isnan(numerics->scale_floor)) rule.scale_floor = (float)numerics->scale_floor;
    if (!isnan(numerics->range_floor)) rule.range_floor = (float)numerics->range_floor;
    return rule;
}
