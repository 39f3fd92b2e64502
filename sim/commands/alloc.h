/* alloc.h: what the files of `kvscope alloc` share. */
#ifndef KVS_SIM_COMMANDS_ALLOC_H
#define KVS_SIM_COMMANDS_ALLOC_H

#include "sim/command.h"
#include "sim/sequential.h"

typedef struct kvs_alloc_settings {
    kvs_common common;
    const char *format, *capacities, *partial, *free_order, *caching;
    int sequential, skip_bad, check;
    int64_t page_tokens, repeat, block_tokens, generate;
} kvs_alloc_settings;

/* A word of a NULL-terminated list as its index; fails with KVS_USAGE and lists the words. */
KVS_MUST_CHECK kvs_status kvs_choose(const char *option, const char *text, const char *const *words, int *index,
                                     kvs_error *error);

/* "1000,10000,inf" as pages, 0 for inf; the caller frees *capacities. */
KVS_MUST_CHECK kvs_status kvs_parse_capacities(const char *text, int64_t **capacities, int *count, kvs_error *error);

/* kvscope alloc --sequential on a loaded trace. */
KVS_MUST_CHECK kvs_status kvs_alloc_sequential(const kvs_alloc_settings *settings, const kvs_requests *requests,
                                               kvs_error *error);

#endif
