/* affine_codec.h: the page codec of every asymmetric uniform scheme: int, KIVI, Kitty.
 *
 * What differs between them is a kvs_affine_config. The arithmetic is that of kernels/affine.h, to the bit. */
#ifndef KVS_KERNELS_AFFINE_CODEC_H
#define KVS_KERNELS_AFFINE_CODEC_H

#include "kernels/affine.h"
#include "kernels/minifloat.h"
#include "kernels/scheme.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Which elements share a scale and a zero. */
typedef enum kvs_axis {
    KVS_AXIS_CHANNEL, /* `group` consecutive tokens of one channel, inside a page */
    KVS_AXIS_TOKEN,   /* `group` consecutive channels of one token */
} kvs_axis;

typedef struct kvs_affine_config {
    kvs_axis axis;
    int group;
    const char *group_param; /* the parameter that set group, for errors */
    int bits;                /* 1..8 */
    int levels;              /* other than 2^bits - 1, for a published code that has others; 0: those. Without boost */
    int boost_bits;          /* of the boost_count channels that rank first in a page; per channel only */
    int boost_count;         /* 0..head_dim */
    const kvs_ranking *ranking; /* may be NULL when boost_count is 0 or head_dim */
    int rank_window;            /* kvs_query_needs.window of the ranking */
    kvs_affine_rule rule;
    float clip;                /* minimum and maximum of a group are multiplied by this first; 0: not. Per token only */
    const kvs_minifloat *meta; /* scales and zeros are rounded to this after the codes are computed and take its bits;
                                * NULL: as rule says. Per token only */
    int planes; /* the layout stores boosted codes as planes of `bits` bits; otherwise each channel at its own width */
} kvs_affine_config;

/* Makes store one with this window and codec. Fails with KVS_USAGE where the group does not divide the page or
 * head_dim. */
KVS_MUST_CHECK kvs_status kvs_affine_store(kvs_scheme *scheme, kvs_store *store, kvs_window window,
                                           const kvs_affine_config *config, kvs_error *error);

/* The settings of a store that kvs_affine_store made; NULL for any other. */
const kvs_affine_config *kvs_affine_config_of(const kvs_store *store);

/* --- numerics: the parameters that every affine scheme shares ------------------------------------------------------
 */

/* A field of a scheme's configuration struct. "auto" (where the table allows it) is the last choice, or NaN. */
typedef struct kvs_numerics {
    int rounding, meta, divisor; /* kvs_rounding, kvs_meta_format, kvs_divisor */
    double scale_floor, range_floor;
} kvs_numerics;

/* The rule these parameters ask for; what is "auto" comes from `standard`. */
kvs_affine_rule kvs_numerics_rule(const kvs_numerics *numerics, const kvs_affine_rule *standard);

/* Choices in the order of the enumerations, ending in "auto" or not. */
extern const char *const kvs_rounding_choices[], *const kvs_meta_choices[], *const kvs_divisor_choices[];
extern const char *const kvs_rounding_auto_choices[], *const kvs_meta_auto_choices[], *const kvs_divisor_auto_choices[];

/* The five rows of a parameter table for the member `numerics` of CONFIG. AUTO is `auto_` where "auto" is allowed,
 * otherwise empty; the rest are the defaults. */
#define KVS_NUMERICS_PARAMS(CONFIG, AUTO, ROUNDING, META, DIVISOR, SCALE_FLOOR, RANGE_FLOOR)                           \
    KVS_NUMERICS_CHOICE(CONFIG, rounding, AUTO, ROUNDING, "halves of a code: up, or to even"),                         \
        KVS_NUMERICS_CHOICE(CONFIG, meta, AUTO, META, "format of stored scales and zeros"),                            \
        KVS_NUMERICS_CHOICE(CONFIG, divisor, AUTO, DIVISOR, "codes come from the working or the stored scale"),        \
        KVS_NUMERICS_FLOOR(CONFIG, scale_floor, SCALE_FLOOR, "the scale is at least this"),                            \
        KVS_NUMERICS_FLOOR(CONFIG, range_floor, RANGE_FLOOR, "the range is at least this")
#define KVS_NUMERICS_CHOICE(CONFIG, FIELD, AUTO, DEFAULT, SUMMARY)                                                     \
    {                                                                                                                  \
#FIELD, KVS_PARAM_CHOICE, offsetof(CONFIG, numerics.FIELD), DEFAULT, 0, 0, "", SUMMARY,                        \
            kvs_##FIELD##_##AUTO##choices                                                                              \
    }
#define KVS_NUMERICS_FLOOR(CONFIG, FIELD, DEFAULT, SUMMARY)                                                            \
    { #FIELD, KVS_PARAM_REAL, offsetof(CONFIG, numerics.FIELD), DEFAULT, 0, 65504, "", SUMMARY, NULL }

#ifdef __cplusplus
}
#endif
#endif
