/* kitty.c: K per channel and page, its most sensitive channels at more bits; V per token (arXiv 2511.18643).
 *
 * The two published codes differ in more than speed; `variant` chooses between them, and every difference is also a
 * parameter of its own. In the system, K pages are quantized when full and V leaves its window by pages; in the
 * simulator K is quantized one step later, and exactly the last `window` tokens of V are in full precision. */
#include "kernels/affine_codec.h"

enum { SYSTEM, SIMULATOR };
enum { BY_PAGE, BY_TOKEN, BY_VARIANT };

typedef struct config {
    int bits, boost_bits, v_bits, rank, rank_window, page, group, v_group, sink, window, variant, v_window, k_lag;
    double boost;
    kvs_numerics numerics;
} config;

static const char *const variant_choices[] = {"system", "simulator", NULL};
static const char *const v_window_choices[] = {"page", "token", "auto", NULL};

#define KITTY_PARAMS(BOOST)                                                                                            \
    {"bits", KVS_PARAM_INT, offsetof(config, bits), "2", 1, 8, "bits", "width of a K code", NULL},                     \
        {"boost_bits", KVS_PARAM_INT, offsetof(config, boost_bits), "4", 1, 8, "bits", "of a boosted K code", NULL},   \
        {"v_bits", KVS_PARAM_INT, offsetof(config, v_bits), "auto", 1, 8, "bits", "of a V code; auto: bits", NULL},    \
        {"boost", KVS_PARAM_REAL, offsetof(config, boost), BOOST, 0, 1, "", "boosted part of the channels", NULL},     \
        {"rank", KVS_PARAM_CHOICE, offsetof(config, rank), "magnitude", 0, 0, "", "metric", kvs_ranking_names},        \
        {"rank_window",                                                                                                \
         KVS_PARAM_INT,                                                                                                \
         offsetof(config, rank_window),                                                                                \
         "512",                                                                                                        \
         0,                                                                                                            \
         1000000,                                                                                                      \
         "tokens",                                                                                                     \
         "positions before a page is stored whose queries may rank it; 0: all",                                        \
         NULL},                                                                                                        \
        {"page", KVS_PARAM_INT, offsetof(config, page), "128", 1, 4096, "tokens", "tokens of a page", NULL},           \
        {"group",                                                                                                      \
         KVS_PARAM_INT,                                                                                                \
         offsetof(config, group),                                                                                      \
         "0",                                                                                                          \
         0,                                                                                                            \
         4096,                                                                                                         \
         "tokens",                                                                                                     \
         "tokens of K that share a scale; 0: page",                                                                    \
         NULL},                                                                                                        \
        {"v_group",                                                                                                    \
         KVS_PARAM_INT,                                                                                                \
         offsetof(config, v_group),                                                                                    \
         "0",                                                                                                          \
         0,                                                                                                            \
         KVS_MAX_HEAD_DIM,                                                                                             \
         "channels",                                                                                                   \
         "channels of V that share a scale; 0: head_dim",                                                              \
         NULL},                                                                                                        \
        {"sink",                                                                                                       \
         KVS_PARAM_INT,                                                                                                \
         offsetof(config, sink),                                                                                       \
         "32",                                                                                                         \
         0,                                                                                                            \
         1000000,                                                                                                      \
         "tokens",                                                                                                     \
         "first tokens kept in full precision",                                                                        \
         NULL},                                                                                                        \
        {"window",                                                                                                     \
         KVS_PARAM_INT,                                                                                                \
         offsetof(config, window),                                                                                     \
         "128",                                                                                                        \
         0,                                                                                                            \
         1000000,                                                                                                      \
         "tokens",                                                                                                     \
         "last tokens of V kept in full precision",                                                                    \
         NULL},                                                                                                        \
        {"variant",                                                                                                    \
         KVS_PARAM_CHOICE,                                                                                             \
         offsetof(config, variant),                                                                                    \
         "system",                                                                                                     \
         0,                                                                                                            \
         0,                                                                                                            \
         "",                                                                                                           \
         "which published code sets what is auto",                                                                     \
         variant_choices},                                                                                             \
        {"v_window",                                                                                                   \
         KVS_PARAM_CHOICE,                                                                                             \
         offsetof(config, v_window),                                                                                   \
         "auto",                                                                                                       \
         0,                                                                                                            \
         0,                                                                                                            \
         "",                                                                                                           \
         "V leaves its window by pages or by tokens",                                                                  \
         v_window_choices},                                                                                            \
        {"k_lag",                                                                                                      \
         KVS_PARAM_INT,                                                                                                \
         offsetof(config, k_lag),                                                                                      \
         "auto",                                                                                                       \
         0,                                                                                                            \
         1,                                                                                                            \
         "steps",                                                                                                      \
         "steps after which decoding quantizes a full K page",                                                         \
         NULL},                                                                                                        \
        KVS_NUMERICS_PARAMS(config, auto_, "auto", "auto", "auto", "auto", "auto"), {                                  \
        .name = NULL                                                                                                   \
    }

static const kvs_param params[] = {KITTY_PARAMS("0.125")};
static const kvs_param pro_params[] = {KITTY_PARAMS("0.25")};

static const struct variant {
    kvs_affine_rule rule;
    int v_window, k_lag;
} variants[] = {
    [SYSTEM] = {{KVS_ROUND_HALF_UP, KVS_META_BINARY16, KVS_DIVIDE_BY_WORKING, 1e-6f, 0.0f}, BY_PAGE, 0},
    [SIMULATOR] = {{KVS_ROUND_HALF_EVEN, KVS_META_BINARY32, KVS_DIVIDE_BY_WORKING, 0.0f, 1e-4f}, BY_TOKEN, 1},
};

static kvs_status open_k(kvs_scheme *scheme, kvs_affine_rule rule, kvs_error *error) {
    const config *c = scheme->config;
    /* 1e-6 as published: 0.2 of 10 channels are 2, whatever the binary fraction. */
    int boosted = (int)(scheme->head_dim * c->boost + 1e-6);
    if (boosted > 0 && c->boost_bits < c->bits)
        return kvs_fail(error, KVS_USAGE, scheme->spec, "boost_bits", "%d bits are fewer than bits %d", c->boost_bits,
                        c->bits);
    kvs_affine_config codec = {
        .axis = KVS_AXIS_CHANNEL,
        .group = c->group > 0 ? c->group : c->page,
        .group_param = "group",
        .bits = c->bits,
        .boost_bits = c->boost_bits,
        .boost_count = boosted,
        .ranking = kvs_rankings[c->rank],
        .rank_window = c->rank_window,
        .rule = rule,
        .planes = boosted == 0 || c->boost_bits % c->bits == 0,
    };
    if (!codec.planes) scheme->layout = "channel-packed";
    kvs_window window = {
        .sink_tokens = c->sink,
        .page_tokens = c->page,
        .decode_lag = c->k_lag != KVS_PARAM_AUTO_INT ? c->k_lag : variants[c->variant].k_lag,
    };
    return kvs_affine_store(scheme, &scheme->k, window, &codec, error);
}

static kvs_status open_kitty(kvs_scheme *scheme, kvs_error *error) {
    const config *c = scheme->config;
    const struct variant *variant = &variants[c->variant];
    kvs_affine_rule rule = kvs_numerics_rule(&c->numerics, &variant->rule);
    KVS_TRY(open_k(scheme, rule, error));
    kvs_affine_config codec = {
        .axis = KVS_AXIS_TOKEN,
        .group = c->v_group > 0 ? c->v_group : scheme->head_dim,
        .group_param = "v_group",
        .bits = c->v_bits != KVS_PARAM_AUTO_INT ? c->v_bits : c->bits,
        .rule = rule,
    };
    int v_window = c->v_window != BY_VARIANT ? c->v_window : variant->v_window;
    kvs_window window = {
        .sink_tokens = c->sink,
        .page_tokens = v_window == BY_PAGE ? c->page : 1,
        .recent_tokens = c->window,
    };
    return kvs_affine_store(scheme, &scheme->v, window, &codec, error);
}

const kvs_scheme_type kvs_scheme_kitty = {
    .name = "kitty",
    .summary = "K per channel and page with boosted channels, V per token",
    .paper = "Kitty, arXiv 2511.18643",
    .layout = "kitty",
    .params = params,
    .config_bytes = sizeof(config),
    .open = open_kitty,
};

const kvs_scheme_type kvs_scheme_kitty_pro = {
    .name = "kitty-pro",
    .summary = "kitty with a quarter of the channels boosted",
    .paper = "Kitty-Pro, arXiv 2511.18643",
    .layout = "kitty",
    .params = pro_params,
    .config_bytes = sizeof(config),
    .open = open_kitty,
};
