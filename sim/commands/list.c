/* list.c: kvscope list: prints the registries, and so documents them. */
#include <string.h>

#include "sim/command.h"

static kvs_status run(const void *config, const kvs_texts *operands, kvs_error *error) {
    (void)config;
    return kvs_fail(error, KVS_USAGE, operands->texts[0], NULL, "unknown registry");
}

const kvs_command kvs_command_list = {
    .name = "list",
    .arguments = "REGISTRY",
    .summary = "schemes, layouts, metrics, plots, kernels: what is registered, with parameters",
    .config_bytes = sizeof(kvs_common),
    .min_operands = 1,
    .max_operands = 1,
    .run = run,
};
