#include "sim/account.h"

#include <stdlib.h>
#include <string.h>

static kvs_bits scaled(kvs_bits bits, double factor) {
    return (kvs_bits){bits.payload * factor, bits.metadata * factor, bits.residual * factor, bits.padding * factor};
}

/* Powers of two from 128 to 131072 and at_tokens, ascending. */
static int lengths_of(int64_t at_tokens, int64_t lengths[16]) {
    int count = 0;
    for (int64_t length = 128; length <= 131072; length *= 2) {
        if (at_tokens < length && (count == 0 || lengths[count - 1] < at_tokens)) lengths[count++] = at_tokens;
        lengths[count++] = length;
    }
    if (at_tokens > lengths[count - 1]) lengths[count++] = at_tokens;
    return count;
}

kvs_status kvs_account(const kvs_scheme *scheme, int64_t heads, int64_t at_tokens, kvs_result *result,
                       kvs_error *error) {
    int64_t lengths[16];
    int count = lengths_of(at_tokens, lengths);
    result->scheme = strdup(scheme->spec);
    result->layout = strdup(scheme->layout);
    result->memory = calloc((size_t)count, sizeof *result->memory);
    if (result->scheme == NULL || result->layout == NULL || result->memory == NULL)
        return kvs_fail(error, KVS_INPUT, scheme->spec, NULL, "out of memory");
    result->memory_count = count;
    for (int i = 0; i < count; i++) {
        kvs_bits total = scaled(kvs_scheme_head_bits(scheme, lengths[i]), (double)heads);
        result->memory[i] = (kvs_memory_point){lengths[i], total};
        if (lengths[i] != at_tokens) continue;
        double elements = 2.0 * (double)at_tokens * (double)scheme->head_dim * (double)heads; /* of K and V */
        result->bits = scaled(total, 1.0 / elements);
        result->effective_bits = kvs_bits_sum(total) / elements;
        result->bytes_per_sequence = kvs_bits_sum(total) / 8.0;
        result->bytes_per_token = result->bytes_per_sequence / (double)at_tokens;
        result->compression_vs_fp16 = 16.0 / result->effective_bits;
    }
    result->page_bits = kvs_scheme_page_bits(scheme);
    return KVS_OK;
}
