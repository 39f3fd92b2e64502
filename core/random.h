/* random.h: a counter-based generator, so that a random choice depends on what it is for and not on when it is made.
 *
 * The mixing step is splitmix64's finalizer (Steele, Lea, Flood 2014). */
#ifndef KVS_CORE_RANDOM_H
#define KVS_CORE_RANDOM_H

#include <stdint.h>

#include "core/hd.h"

KVS_HD uint64_t kvs_random_mix(uint64_t state) {
    state += 0x9e3779b97f4a7c15u;
    state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
    state = (state ^ (state >> 27)) * 0x94d049bb133111ebu;
    return state ^ (state >> 31);
}

/* A key for draws about one thing: chain one call for each of (seed, sequence, layer, head, page). */
KVS_HD uint64_t kvs_random_key(uint64_t key, uint64_t part) {
    return kvs_random_mix(key ^ kvs_random_mix(part));
}

/* The counter-th draw under a key: 64 uniform bits, or a uniform binary32 in [0, 1) with 24 bits. */
KVS_HD uint64_t kvs_random_bits(uint64_t key, uint64_t counter) {
    return kvs_random_key(key, counter);
}

KVS_HD float kvs_random_unit(uint64_t key, uint64_t counter) {
    return (float)(kvs_random_bits(key, counter) >> 40) * 0x1p-24f;
}

#endif
