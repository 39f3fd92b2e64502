/* id_map.h: 64-bit ids to dense numbers 0, 1, 2, ... in order of first appearance. */
#ifndef KVS_TRACES_ID_MAP_H
#define KVS_TRACES_ID_MAP_H

#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Open addressing with linear probing, at most half full. Zeroed is empty. */
typedef struct kvs_id_map {
    uint64_t *ids;
    uint32_t *numbers; /* KVS_ID_FREE: the slot is empty */
    uint64_t slots;    /* a power of two, or 0 */
    uint32_t count;
} kvs_id_map;

#define KVS_ID_FREE UINT32_MAX

/* The number of id, given now if it is new. Fails with KVS_INPUT when memory or 32-bit numbers run out. */
KVS_MUST_CHECK kvs_status kvs_id_map_number(kvs_id_map *map, uint64_t id, uint32_t *number, kvs_error *error);
void kvs_id_map_clear(kvs_id_map *map);

#ifdef __cplusplus
}
#endif
#endif
