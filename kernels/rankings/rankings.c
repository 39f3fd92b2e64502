/* rankings.c: the list of ranking metrics. A new one is a file here and a line in each half of this list. */
#include <stddef.h>

#include "kernels/ranking.h"

extern const kvs_ranking kvs_ranking_magnitude, kvs_ranking_variance, kvs_ranking_range, kvs_ranking_random;

const kvs_ranking *const kvs_rankings[] = {
    &kvs_ranking_magnitude, &kvs_ranking_variance, &kvs_ranking_range, &kvs_ranking_random, NULL,
};
