/* random_weight.h: weights of a model that was never trained, for trials of speed and memory; one formula for the host
 * and for kernels. */
#ifndef KVS_KERNELS_RANDOM_WEIGHT_H
#define KVS_KERNELS_RANDOM_WEIGHT_H

#include "core/random.h"
#include "kernels/model_kernels.h"

/* Uniform, with mean 0 and standard deviation spread (sqrt 3 times spread at most). */
KVS_HD float kvs_random_weight(uint64_t key, uint64_t index, float spread) {
    return (kvs_random_unit(key, index) - 0.5f) * (3.46410162f * spread);
}

#endif
