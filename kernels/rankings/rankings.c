/* rankings.c: the list of ranking metrics. A new one is a file here and a line in this list; its name is as here. */
#include <stddef.h>

#include "kernels/ranking.h"

/* clang-format off */
#define RANKINGS(X) \
    X(magnitude) \
    X(variance) \
    X(range) \
    X(random) \
    X(pair_amplitude) \
    X(query_pair) \
    X(query_step) \
    X(query_range) \
    X(query_error) \
    X(centred_error) \
    X(attention_error) \
    X(attention_centred) \
    X(future_query_error) \
    X(future_attention_centred)
/* clang-format on */

#define DECLARE(NAME) extern const kvs_ranking kvs_ranking_##NAME;
#define POINTER(NAME) &kvs_ranking_##NAME,
#define STRING(NAME)  #NAME,

RANKINGS(DECLARE)
const kvs_ranking *const kvs_rankings[] = {RANKINGS(POINTER) NULL};
const char *const kvs_ranking_names[] = {RANKINGS(STRING) NULL};
