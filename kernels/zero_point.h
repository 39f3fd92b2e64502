/* zero_point.h: the codec of schemes that quantize `group` channels of one token with a scale and a zero point:
 *
 *     low, high  = clip * minimum, clip * maximum of the group; with through_zero at most 0 and at least 0
 *     scale      = binary16((high - low) / levels)
 *     zero       = binary16(rint(-low / scale))             whole
 *                = binary16(levels * -low / (high - low))   otherwise (QServe)
 *     code       = clamp(rint(x / scale) + zero, 0, levels) whole;  clamp(rint(x / scale + zero), 0, levels) otherwise
 *     value      = (code - zero) * scale
 *
 * Unlike the minimum that kernels/affine.h keeps, the zero point is a number of steps. Defined cases: a zero beyond
 * binary16 is stored as its largest, +-65504; a group whose scale is 0 (constant, or nearly) has scale |high|, and its
 * value is that of one step up or down. */
#ifndef KVS_KERNELS_ZERO_POINT_H
#define KVS_KERNELS_ZERO_POINT_H

#include "kernels/scheme.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_zero_point_config {
    int group; /* channels; 0: head_dim */
    int levels;
    int whole, through_zero;
    double clip;
} kvs_zero_point_config;

/* Makes store one, token by token. Codes take the bits that hold `levels`. KVS_USAGE where the group does not divide
 * head_dim. */
KVS_MUST_CHECK kvs_status kvs_zero_point_store(kvs_scheme *scheme, kvs_store *store, kvs_window window,
                                               const kvs_zero_point_config *config, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
