/* calibrated.h: a store whose pages are coded in a basis that a calibration fitted to the model (kernels/constants.h):
 * the components of least correlation, each at a fixed width by reverse water-filling and trellis-coded along the
 * tokens of a page. A page is codes and nothing else.
 *
 * A page: component by component as many bit planes of page_tokens bits as it has bits; where they start is a constant
 * of the head. What is read is contiguous, and zeros fill its last sector of 32 bytes: a head whose K has n planes of
 * 128 tokens takes (n + 1) / 2 of them. Decoding gives z; attention needs no k, only q . k = q . mean + (basis q) . z,
 * so the basis turns a query once (keys after the rotary embedding), and o = mean + basis' (sum p z) turns an output
 * once, or folds into the model's weights (V). Keys before the embedding have to be turned one by one. */
#ifndef KVS_KERNELS_CALIBRATED_H
#define KVS_KERNELS_CALIBRATED_H

#include "kernels/constants.h"
#include "kernels/scheme.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The cached tokens over which constants are charged, by the rule: their bits are metadata of the pages. */
enum { KVS_CONSTANTS_TOKENS = 1048576 };

/* Makes store one of the constants' tensor (KVS_CONSTANTS_K or _V). KVS_INPUT where a basis has no inverse or memory is
 * short; path names the file, and is kept: it lives as
 * long as the scheme. records are read and not kept. */
KVS_MUST_CHECK kvs_status kvs_calibrated_store(kvs_scheme *scheme, kvs_store *store, kvs_window window,
                                               const char *path, const kvs_constants_header *header, uint8_t *records,
                                               int tensor, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
