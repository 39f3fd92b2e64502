#include "traces/id_map.h"

#include <stdlib.h>
#include <string.h>

#include "core/random.h"

static uint64_t slot_of(const kvs_id_map *map, uint64_t id) {
    uint64_t slot = kvs_random_mix(id) & (map->slots - 1);
    while (map->numbers[slot] != KVS_ID_FREE && map->ids[slot] != id) slot = (slot + 1) & (map->slots - 1);
    return slot;
}

static kvs_status grow(kvs_id_map *map, kvs_error *error) {
    kvs_id_map larger = {.slots = map->slots ? 2 * map->slots : 1024, .count = map->count};
    larger.ids = malloc(larger.slots * sizeof *larger.ids);
    larger.numbers = malloc(larger.slots * sizeof *larger.numbers);
    if (larger.ids == NULL || larger.numbers == NULL) {
        kvs_id_map_clear(&larger);
        return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory for %llu block ids",
                        (unsigned long long)map->slots);
    }
    memset(larger.numbers, 0xff, larger.slots * sizeof *larger.numbers);
    for (uint64_t i = 0; i < map->slots; i++) {
        if (map->numbers[i] == KVS_ID_FREE) continue;
        uint64_t slot = slot_of(&larger, map->ids[i]);
        larger.ids[slot] = map->ids[i];
        larger.numbers[slot] = map->numbers[i];
    }
    kvs_id_map_clear(map);
    *map = larger;
    return KVS_OK;
}

kvs_status kvs_id_map_number(kvs_id_map *map, uint64_t id, uint32_t *number, kvs_error *error) {
    if (2 * (uint64_t)map->count >= map->slots) KVS_TRY(grow(map, error));
    uint64_t slot = slot_of(map, id);
    if (map->numbers[slot] == KVS_ID_FREE) {
        if (map->count == KVS_ID_FREE - 1)
            return kvs_fail(error, KVS_INPUT, NULL, NULL, "more than 2^32 - 2 block ids");
        map->ids[slot] = id;
        map->numbers[slot] = map->count++;
    }
    *number = map->numbers[slot];
    return KVS_OK;
}

void kvs_id_map_clear(kvs_id_map *map) {
    free(map->ids);
    free(map->numbers);
    *map = (kvs_id_map){0};
}
