/* sweep.c: kvscope sweep: many schemes over many traces into one results file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/progress.h"
#include "sim/command.h"
#include "sim/commands/report.h"
#include "sim/grid.h"
#include "sim/sweep.h"

typedef struct config {
    kvs_common common;
    kvs_texts grids;
    const char *output, *layout, *backend;
    int64_t from_position, at_tokens;
    int prompt_exact, cross, restart;
} config;

static const kvs_option options[] = {
    {"grid", KVS_OPTION_LIST, offsetof(config, grids), "SPEC|FILE", NULL, 0, 0,
     "schemes with lists and ranges of values, or a file of them; repeat for several"},
    {"o", KVS_OPTION_TEXT, offsetof(config, output), "RESULTS.h5", NULL, 0, 0,
     "results; .csv and .json are written beside it"},
    {"layout", KVS_OPTION_TEXT, offsetof(config, layout), "L", NULL, 0, 0,
     "refuse schemes whose pages are not stored in this layout"},
    {"backend", KVS_OPTION_TEXT, offsetof(config, backend), "B", "cpu", 0, 0,
     "cpu, cuda, or simt: the CUDA kernels on the host, for tests"},
    {"from-position", KVS_OPTION_INT, offsetof(config, from_position), "N", "0", 0, 9e15, "leave out queries before N"},
    {"at-tokens", KVS_OPTION_INT, offsetof(config, at_tokens), "N", "0", 0, 1e12,
     "sequence length that memory is stated for; 0: the longest sequence"},
    {"prompt-exact", KVS_OPTION_FLAG, offsetof(config, prompt_exact), NULL, NULL, 0, 0,
     "queries inside the prompt see full precision; the prompt is stored at once"},
    {"cross", KVS_OPTION_FLAG, offsetof(config, cross), NULL, NULL, 0, 0,
     "the sequences' cross attention to their source instead of their own"},
    {"restart", KVS_OPTION_FLAG, offsetof(config, restart), NULL, NULL, 0, 0,
     "forget what an interrupted sweep left in RESULTS.journal"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

/* The output's path with another extension; the caller's. */
static char *beside(const char *output, const char *extension) {
    size_t stem = strlen(output) - strlen(".h5");
    char *path = malloc(stem + strlen(extension) + 1);
    if (path == NULL) return NULL;
    memcpy(path, output, stem);
    memcpy(path + stem, extension, strlen(extension) + 1);
    return path;
}

static kvs_status check_arguments(const config *c, kvs_error *error) {
    if (c->grids.count == 0) return kvs_fail(error, KVS_USAGE, "sweep", NULL, "needs at least one --grid");
    if (c->output == NULL) return kvs_fail(error, KVS_USAGE, "sweep", NULL, "needs -o RESULTS.h5");
    size_t length = strlen(c->output);
    if (length < 4 || strcmp(c->output + length - 3, ".h5") != 0)
        return kvs_fail(error, KVS_USAGE, "-o", c->output, "must end in .h5");
    return kvs_report_check_output(c->output, error);
}

static kvs_status write_all(const config *c, const kvs_results *results, const char *journal, kvs_error *error) {
    static const char *const extensions[] = {".json", ".csv", ".h5"};
    for (int i = 0; i < 3; i++) {
        char *path = beside(c->output, extensions[i]);
        kvs_status status = path != NULL ? kvs_report_write(results, path, error)
                                         : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
        free(path);
        KVS_TRY(status);
    }
    unlink(journal); /* everything in it is written now */
    if (c->common.json) return kvs_report_print_json(results, error);
    if (!c->common.quiet) kvs_report_print_table(results);
    return KVS_OK;
}

static kvs_status sweep(const config *c, kvs_sweep *plan, kvs_error *error) {
    kvs_results results = {0};
    char *journal = beside(c->output, ".journal");
    kvs_status status = journal != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    plan->journal = journal;
    kvs_interrupt_catch();
    if (status == KVS_OK) status = kvs_report_begin("sweep", kvs_command_line(), &plan->replay, &results, error);
    if (status == KVS_OK) status = kvs_sweep_run(plan, &results, error);
    if (status == KVS_OK) status = write_all(c, &results, journal, error);
    kvs_results_clear(&results);
    free(journal);
    return status;
}

static kvs_status run(const void *configuration, const kvs_texts *operands, kvs_error *error) {
    const config *c = configuration;
    KVS_TRY(check_arguments(c, error));
    kvs_sweep plan = {.traces = operands->texts,
                      .traces_count = operands->count,
                      .layout = c->layout,
                      .restart = c->restart,
                      .replay = {.seed = c->common.seed,
                                 .from_position = c->from_position,
                                 .at_tokens = c->at_tokens,
                                 .prompt_exact = c->prompt_exact,
                                 .cross = c->cross,
                                 .threads = (int)c->common.threads,
                                 .quiet = c->common.quiet}};
    KVS_TRY(kvs_backend_find(c->backend, &plan.replay.backend, error));
    kvs_grid grid = {0};
    kvs_status status = KVS_OK;
    for (int i = 0; status == KVS_OK && i < c->grids.count; i++) status = kvs_grid_add(&grid, c->grids.texts[i], error);
    if (status == KVS_OK && grid.count == 0) status = kvs_fail(error, KVS_USAGE, "--grid", NULL, "holds no scheme");
    plan.specs = (const char *const *)grid.specs;
    plan.specs_count = grid.count;
    if (status == KVS_OK) status = sweep(c, &plan, error);
    kvs_grid_clear(&grid);
    return status;
}

const kvs_command kvs_command_sweep = {
    .name = "sweep",
    .arguments = "TRACE... --grid SPEC|FILE [--grid ...] -o RESULTS.h5",
    .summary = "many schemes, ratios and metrics over recorded traces, resumable",
    .details =
        "A grid is a scheme with lists [a,b,c] and ranges [first:last:step] of values; every combination is replayed.\n"
        "{model} in a scheme stands for each trace's model, as in tcq:constants=DIR/{model}.constants.\n"
        "Finished results are kept in RESULTS.journal: after an interruption the same command goes on from there.\n\n"
        "  kvscope sweep traces/sample/qwen3-7m.h5 traces/sample/llama-7m.h5 -o sweep.h5 --grid fp16 \\\n"
        "      --grid 'kitty:boost=[0:0.5:0.125],rank=[magnitude,random]' --grid 'kivi:bits=[2,4]'\n"
        "  kvscope sweep TRACE --grid grid.txt -o sweep.h5\n",
    .options = options,
    .config_bytes = sizeof(config),
    .min_operands = 1,
    .max_operands = -1,
    .run = run,
};
