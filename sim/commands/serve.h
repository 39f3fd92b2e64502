/* serve.h: what the files of `kvscope serve` share. */
#ifndef KVS_SIM_COMMANDS_SERVE_H
#define KVS_SIM_COMMANDS_SERVE_H

#include "sim/commands/engine_settings.h"
#include "sim/serve.h"

typedef struct kvs_serve_settings {
    kvs_common common;
    kvs_engine_settings engine;
    const char *uniform, *format, *timeline;
    int published;
    int64_t memory;
    double timeline_offset_s;
} kvs_serve_settings;

/* Tables and JSON of a comparison. */
void kvs_serve_print_table(const kvs_serve_settings *settings, const kvs_engine_setup *setup,
                           const kvs_workload *workload, const kvs_serve_row *rows, int count);
KVS_MUST_CHECK kvs_status kvs_serve_print_json(const kvs_serve_settings *settings, const kvs_engine_setup *setup,
                                               const kvs_workload *workload, const kvs_serve_row *rows, int count,
                                               kvs_error *error);

/* kvscope serve --verify-timeline. */
KVS_MUST_CHECK kvs_status kvs_serve_timeline(const kvs_serve_settings *settings, const kvs_engine_setup *setup,
                                             const kvs_requests *requests, kvs_error *error);

#endif
