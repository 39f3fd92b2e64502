/* cache.h: a growing cache of one head, stored as a scheme says: what another engine needs to try a scheme.
 *
 *     kvs_scheme *scheme;                                            a scheme, by its name
 *     kvs_scheme_open("kitty:boost=0.25", 128, &scheme, &error);
 *     ... for each step: put the new rows behind the old ones in `full`, attend to what `read` holds, then
 *     kvs_cache_append(scheme, KVS_CACHE_K, place, seen, fresh, prefill, full, read, &end, &error);
 *     kvs_scheme_head_bits(scheme, tokens);                          the memory account
 *
 * Functions take plain types, for callers in other languages (kernels/python/kvscope.py). */
#ifndef KVS_KERNELS_CACHE_H
#define KVS_KERNELS_CACHE_H

#include "kernels/scheme.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_CACHE_K, KVS_CACHE_V };

/* Takes in rows [seen, seen + fresh) of full [tokens][head_dim], which hold new tokens: rounds them to binary16 in
 * place and in `read`, then stores every page that is due once seen + fresh tokens are there, so that `read` holds what
 * attention at the next position reads. The first prefill_tokens came at once. place.page is set here. *stored_end
 * (may be NULL) receives the end of the stored range. KVS_INPUT where a value overflows binary16 or memory is short;
 * KVS_USAGE where the scheme uses queries, or keys before the rotary embedding. */
KVS_MUST_CHECK kvs_status kvs_cache_append(const kvs_scheme *scheme, int side, const kvs_page_place *place,
                                           int64_t seen, int64_t fresh, int64_t prefill_tokens, float *full,
                                           float *read, int64_t *stored_end, kvs_error *error);

/* The same for one store, with scratch of kvs_store_scratch_floats(store) floats: the stored pages go to `stored`,
 * whose other rows are left alone. context has the place and, where the store undoes it, the rotary embedding. Returns
 * 0 where a value overflows binary16, else 1. */
int kvs_store_append(const kvs_store *store, const kvs_page_context *context, int64_t seen, int64_t fresh,
                     int64_t prefill_tokens, float *full, float *stored, float *scratch);

#ifdef __cplusplus
}
#endif
#endif
