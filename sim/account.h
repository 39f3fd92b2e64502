/* account.h: the memory that a scheme takes for one model: the part of a result that no trace values are needed for. */
#ifndef KVS_SIM_ACCOUNT_H
#define KVS_SIM_ACCOUNT_H

#include "analysis/result.h"
#include "kernels/scheme.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fills scheme, layout, bits, page_bits, bytes, compression and the memory points of a zeroed result, for heads =
 * layers x KV heads and a sequence of at_tokens. The result is the caller's, cleared with kvs_result_clear also on
 * failure (KVS_INPUT: memory is short). */
KVS_MUST_CHECK kvs_status kvs_account(const kvs_scheme *scheme, int64_t heads, int64_t at_tokens, kvs_result *result,
                                      kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
