/* alloc_traffic.c: kvscope alloc under an engine: every scheme with every allocator in every memory, one cell each, on
 * all cores; with -o each finished cell is kept at once, so that an interrupted sweep resumes. */
#include <cjson/cJSON.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/progress.h"
#include "core/version.h"
#include "sim/commands/alloc.h"

typedef struct cell {
    const char *scheme;
    const kvs_allocator_type *allocator;
    double memory_bytes;
    int done;
} cell;

typedef struct sweep {
    const kvs_alloc_settings *settings;
    const kvs_requests *requests;
    kvs_engine_setup setup;
    cell *cells;
    int count;
    int64_t longest;
    kvs_occupancy_results results; /* runs[i] is the result of cells[i] */
} sweep;

/* --- the cells --------------------------------------------------------------------------------------------------- */

static kvs_status parse_memory(const char *text, double *values, int *count, kvs_error *error) {
    char *copy = strdup(text), *rest = copy;
    kvs_status status = copy != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, "--memory", NULL, "out of memory");
    *count = 0;
    for (char *word; status == KVS_OK && (word = strsep(&rest, ",")) != NULL;)
        if (kvs_parse_bytes(word, &values[*count]) || values[*count] < 1 || values[(*count)++] > 1e18)
            status =
                kvs_fail(error, KVS_USAGE, "--memory", NULL, "'%s' is not a size; write 4096, 500MB or 80GiB", word);
    free(copy);
    return status;
}

static kvs_status list_memories(const sweep *w, double **memories, int *count, kvs_error *error) {
    const char *text = w->settings->memory;
    *memories = malloc((text != NULL ? strlen(text) + 1 : 1) * sizeof **memories);
    if (*memories == NULL) return kvs_fail(error, KVS_INPUT, "--memory", NULL, "out of memory");
    if (text != NULL) return parse_memory(text, *memories, count, error);
    *count = 1;
    **memories = w->setup.cache_bytes;
    return kvs_engine_setup_memory(&w->setup, &w->settings->engine, error);
}

static kvs_status make_cells(sweep *w, const double *memories, int memory_count, kvs_error *error) {
    static const char *fallback_scheme[] = {"fp16"}, *fallback_allocator[] = {"paged"};
    kvs_texts schemes = w->settings->engine.schemes, allocators = w->settings->allocators;
    if (schemes.count == 0) schemes = (kvs_texts){fallback_scheme, 1};
    if (allocators.count == 0) allocators = (kvs_texts){fallback_allocator, 1};
    int count = schemes.count * allocators.count * memory_count;
    w->cells = calloc((size_t)count, sizeof *w->cells);
    w->results.runs = calloc((size_t)count, sizeof *w->results.runs);
    if (w->cells == NULL || w->results.runs == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    for (int s = 0; s < schemes.count; s++)
        for (int a = 0; a < allocators.count; a++)
            for (int m = 0; m < memory_count; m++) {
                const kvs_allocator_type *type = kvs_allocator_type_find(allocators.texts[a]);
                if (type == NULL)
                    return kvs_fail(error, KVS_USAGE, "--allocator", allocators.texts[a],
                                    "unknown; one of paged, contiguous, unpaged");
                w->cells[w->count++] = (cell){schemes.texts[s], type, memories[m], 0};
            }
    w->results.runs_count = w->count;
    return KVS_OK;
}

/* --- one cell ---------------------------------------------------------------------------------------------------- */

static kvs_status run_with(const sweep *w, const cell *c, const kvs_geometry *geometry, const kvs_page_keys *keys,
                           kvs_clock clock, kvs_occupancy_run *run, kvs_error *error) {
    const kvs_alloc_settings *s = w->settings;
    kvs_allocator_options options = {.memory_bytes = c->memory_bytes,
                                     .blocks = s->engine.num_blocks,
                                     .max_tokens = s->max_tokens > 0 ? s->max_tokens : w->longest,
                                     .caching = s->engine.caching,
                                     .order = w->setup.order,
                                     .watermark = s->engine.watermark};
    kvs_allocator allocator;
    if (options.blocks > 0) options.memory_bytes = (double)options.blocks * geometry->page_bytes;
    KVS_TRY(kvs_allocator_open(c->allocator, geometry, keys, options, &allocator, error));
    kvs_status status =
        kvs_engine_run(w->requests, &allocator, kvs_engine_settings_options(&s->engine), clock, run, NULL, error);
    kvs_allocator_close(&allocator);
    return status;
}

static kvs_status run_cell(const sweep *w, const cell *c, kvs_occupancy_run *run, kvs_error *error) {
    const kvs_engine_settings *s = &w->settings->engine;
    kvs_geometry geometry;
    kvs_page_keys keys;
    kvs_step_model model;
    KVS_TRY(kvs_geometry_of(c->scheme, &w->setup.shape, kvs_engine_page_tokens(s), &geometry, error));
    KVS_TRY(kvs_engine_step_model(s, &w->setup, c->scheme, &model, NULL, error));
    KVS_TRY(kvs_page_keys_create(&keys, w->requests, geometry.page_tokens, geometry.first_token, error));
    kvs_status status = run_with(w, c, &geometry, &keys, (kvs_clock){kvs_step_seconds, &model}, run, error);
    kvs_page_keys_destroy(&keys);
    if (status != KVS_OK) return status;
    run->scheme = strdup(c->scheme);
    run->allocator = strdup(c->allocator->name);
    if (run->scheme != NULL && run->allocator != NULL) return KVS_OK;
    kvs_occupancy_run_clear(run);
    return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
}

/* --- keeping and resuming ---------------------------------------------------------------------------------------- */

/* The finished runs alone, in the order of the cells. Borrowed: only the array of runs is the caller's. */
static kvs_status finished(const sweep *w, kvs_occupancy_results *view, kvs_error *error) {
    *view = w->results;
    view->runs = malloc((size_t)(w->count + 1) * sizeof *view->runs);
    if (view->runs == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    view->runs_count = 0;
    for (int i = 0; i < w->count; i++)
        if (w->cells[i].done) view->runs[view->runs_count++] = w->results.runs[i];
    return KVS_OK;
}

static kvs_status keep(const sweep *w, kvs_error *error) {
    kvs_occupancy_results view;
    if (w->settings->output == NULL) return KVS_OK;
    KVS_TRY(finished(w, &view, error));
    kvs_status status = kvs_occupancy_write_h5(&view, w->settings->output, error);
    free(view.runs);
    return status;
}

static int same(const char *a, const char *b) {
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

/* Takes over the runs of an earlier file that were made with the same settings from the same trace. */
static kvs_status resume(sweep *w, int *taken, kvs_error *error) {
    const char *path = w->settings->output;
    kvs_occupancy_results before;
    *taken = 0;
    if (path == NULL || access(path, F_OK) != 0) return KVS_OK;
    if (!kvs_occupancy_is_h5(path))
        return kvs_fail(error, KVS_INPUT, path, NULL, "is there and no allocation result: not overwritten");
    KVS_TRY(kvs_occupancy_read_h5(path, &before, error));
    int comparable = same(before.settings, w->results.settings) && same(before.sha256, w->results.sha256) &&
                     same(before.requests, w->results.requests) && same(before.version, w->results.version);
    for (int i = 0; i < w->count && comparable; i++)
        for (int j = 0; j < before.runs_count; j++) {
            kvs_occupancy_run *run = &before.runs[j];
            if (w->cells[i].done || !same(run->scheme, w->cells[i].scheme) ||
                !same(run->allocator, w->cells[i].allocator->name) || run->memory_bytes != w->cells[i].memory_bytes)
                continue;
            w->results.runs[i] = *run;
            *run = (kvs_occupancy_run){0};
            w->cells[i].done = 1;
            ++*taken;
        }
    kvs_occupancy_results_clear(&before);
    return KVS_OK;
}

static kvs_status run_cells(sweep *w, kvs_error *error) {
    kvs_status worst = KVS_OK;
    int taken;
    KVS_TRY(resume(w, &taken, error));
    kvs_progress progress;
    kvs_progress_begin(&progress, "alloc", "runs", w->count - taken, w->settings->common.quiet);
    kvs_interrupt_catch();
    int threads = w->settings->common.threads > 0 ? (int)w->settings->common.threads : omp_get_num_procs();
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int i = 0; i < w->count; i++) {
        if (w->cells[i].done) continue;
        kvs_error own = {0};
        kvs_occupancy_run run = {0};
        kvs_status status = worst == KVS_OK ? run_cell(w, &w->cells[i], &run, &own) : KVS_OK;
#pragma omp critical(kvs_alloc_cells)
        {
            if (worst == KVS_OK && status == KVS_OK) {
                w->results.runs[i] = run;
                w->cells[i].done = 1;
                status = keep(w, &own);
                kvs_progress_add(&progress, 1);
            }
            if (worst == KVS_OK && status != KVS_OK) {
                worst = status;
                *error = own;
            }
        }
    }
    kvs_progress_end(&progress);
    return worst;
}

/* --- output ------------------------------------------------------------------------------------------------------ */

static void print_table(const kvs_occupancy_results *results) {
    printf("%-34s %-10s %9s %8s %7s %7s %6s %7s %8s %8s %8s %6s %6s %6s\n", "scheme", "allocator", "memory GB", "pages",
           "peak", "mean", "used", "hits", "evicted", "preempt", "recomp.", "resid.", "frag.", "extern");
    for (int i = 0; i < results->runs_count; i++) {
        const kvs_occupancy_run *r = &results->runs[i];
        printf("%-34s %-10s %9.2f %8lld %7lld %7.1f %5.1f%% %6.2f%% %8lld %8lld %8lld %5.1f%% %5.1f%% %5.1f%%\n",
               r->scheme, r->allocator, r->memory_bytes / 1e9, (long long)r->total_pages, (long long)r->peak_running,
               r->mean_running, 100 * r->mean_used_share, 100 * r->hit_rate, (long long)r->evictions,
               (long long)r->preemptions, (long long)r->recomputed_tokens, 100 * r->residual_share,
               100 * r->fragmentation_share, 100 * r->external_share);
    }
}

static kvs_status print(const sweep *w, kvs_error *error) {
    if (!w->settings->common.json) {
        if (!w->settings->common.quiet) print_table(&w->results);
        return KVS_OK;
    }
    cJSON *root = kvs_occupancy_to_json(&w->results, w->settings->series);
    char *text = root != NULL ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    puts(text);
    cJSON_free(text);
    return KVS_OK;
}

static kvs_status describe(sweep *w, kvs_error *error) {
    char text[2048], settings[3072];
    kvs_occupancy_results *r = &w->results;
    kvs_engine_settings_text(&w->settings->engine, text, sizeof text);
    snprintf(settings, sizeof settings, "max_tokens=%lld skipped_lines=%lld %s", (long long)w->settings->max_tokens,
             (long long)w->requests->skipped, text);
    r->version = strdup(KVS_VERSION);
    r->command_line = strdup(kvs_command_line());
    r->requests = strdup(w->requests->source);
    r->sha256 = strdup(w->requests->sha256);
    r->model = strdup(w->setup.shape.name);
    r->device = strdup(w->setup.device.name);
    r->settings = strdup(settings);
    if (r->version && r->command_line && r->requests && r->sha256 && r->model && r->device && r->settings)
        return KVS_OK;
    return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
}

kvs_status kvs_alloc_traffic(const kvs_alloc_settings *settings, const kvs_requests *requests, kvs_error *error) {
    sweep w = {.settings = settings, .requests = requests};
    double *memories = NULL;
    int memory_count = 0;
    kvs_status status = kvs_engine_setup_get(&settings->engine, &w.setup, error);
    for (int64_t r = 0; r < requests->count; r++) {
        int64_t tokens = (int64_t)requests->input_tokens[r] + requests->output_tokens[r];
        if (tokens > w.longest) w.longest = tokens;
    }
    if (status == KVS_OK) status = list_memories(&w, &memories, &memory_count, error);
    if (status == KVS_OK) status = make_cells(&w, memories, memory_count, error);
    if (status == KVS_OK) status = describe(&w, error);
    if (status == KVS_OK) status = run_cells(&w, error);
    if (status == KVS_OK) status = print(&w, error);
    free(memories);
    free(w.cells);
    kvs_occupancy_results_clear(&w.results);
    return status;
}
