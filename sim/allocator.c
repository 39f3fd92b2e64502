#include "sim/allocator.h"

#include <string.h>

extern const kvs_allocator_type kvs_allocator_paged, kvs_allocator_contiguous, kvs_allocator_unpaged;

const kvs_allocator_type *const kvs_allocator_types[] = {
    &kvs_allocator_paged,
    &kvs_allocator_contiguous,
    &kvs_allocator_unpaged,
    NULL,
};

const kvs_allocator_type *kvs_allocator_type_find(const char *name) {
    for (int i = 0; kvs_allocator_types[i] != NULL; i++)
        if (strcmp(kvs_allocator_types[i]->name, name) == 0) return kvs_allocator_types[i];
    return NULL;
}

kvs_status kvs_allocator_open(const kvs_allocator_type *type, const kvs_geometry *geometry, const kvs_page_keys *keys,
                              kvs_allocator_options options, kvs_allocator *allocator, kvs_error *error) {
    *allocator = (kvs_allocator){.type = type, .geometry = geometry, .keys = keys, .options = options};
    return type->open(allocator, error);
}

void kvs_allocator_close(kvs_allocator *allocator) {
    if (allocator->type != NULL) allocator->type->close(allocator);
    *allocator = (kvs_allocator){0};
}
