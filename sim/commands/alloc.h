/* alloc.h: what the files of `kvscope alloc` share. */
#ifndef KVS_SIM_COMMANDS_ALLOC_H
#define KVS_SIM_COMMANDS_ALLOC_H

#include "sim/commands/engine_settings.h"
#include "sim/sequential.h"

typedef struct kvs_alloc_settings {
    kvs_common common;
    kvs_engine_settings engine;
    const char *format, *capacities, *partial, *memory, *output;
    kvs_texts allocators;
    int sequential, series;
    int64_t repeat, generate, max_tokens;
} kvs_alloc_settings;

/* kvscope alloc --sequential on a loaded trace. */
KVS_MUST_CHECK kvs_status kvs_alloc_sequential(const kvs_alloc_settings *settings, const kvs_requests *requests,
                                               kvs_error *error);

/* kvscope alloc under an engine: every scheme with every allocator in every memory. */
KVS_MUST_CHECK kvs_status kvs_alloc_traffic(const kvs_alloc_settings *settings, const kvs_requests *requests,
                                            kvs_error *error);

#endif
