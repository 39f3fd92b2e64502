/* alloc_sequential.c: kvscope alloc --sequential: hit rates against capacity, as a table or as JSON. */
#include <cjson/cJSON.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/occupancy.h"
#include "core/params.h"
#include "core/version.h"
#include "sim/commands/alloc.h"

static void print_table(const kvs_sequential_result *results, int count) {
    printf("%14s %14s %14s %10s %12s %10s %12s\n", "capacity_pages", "requested", "hits", "hit_rate", "evictions",
           "wall_s", "references/s");
    for (int i = 0; i < count; i++) {
        const kvs_sequential_result *r = &results[i];
        char capacity[32] = "inf";
        if (r->capacity_pages > 0) snprintf(capacity, sizeof capacity, "%lld", (long long)r->capacity_pages);
        printf("%14s %14lld %14lld %10.4f %12lld %10.4f %12.3g\n", capacity, (long long)r->requested_blocks,
               (long long)r->hit_blocks, (double)r->hit_blocks / (double)r->requested_blocks, (long long)r->evictions,
               r->wall_s, (double)r->requested_blocks / r->wall_s);
    }
}

static cJSON *result_to_json(const kvs_sequential_result *r) {
    cJSON *row = cJSON_CreateObject();
    if (r->capacity_pages > 0)
        cJSON_AddNumberToObject(row, "capacity_pages", (double)r->capacity_pages);
    else
        cJSON_AddStringToObject(row, "capacity_pages", "inf");
    cJSON_AddNumberToObject(row, "requested_blocks", (double)r->requested_blocks);
    cJSON_AddNumberToObject(row, "hit_blocks", (double)r->hit_blocks);
    if (r->requested_blocks > 0)
        cJSON_AddNumberToObject(row, "prefix_hit_rate", (double)r->hit_blocks / (double)r->requested_blocks);
    else
        cJSON_AddNullToObject(row, "prefix_hit_rate");
    cJSON_AddNumberToObject(row, "evictions", (double)r->evictions);
    cJSON_AddNumberToObject(row, "skipped", (double)r->skipped);
    cJSON_AddNumberToObject(row, "wall_s", r->wall_s);
    return row;
}

static kvs_status print_json(const kvs_alloc_settings *s, const kvs_requests *requests,
                             const kvs_sequential_result *results, int count, kvs_error *error) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "command", "alloc");
    cJSON_AddStringToObject(root, "version", KVS_VERSION);
    cJSON_AddStringToObject(root, "command_line", kvs_command_line());
    cJSON_AddStringToObject(root, "requests", requests->source);
    cJSON_AddStringToObject(root, "sha256", requests->sha256);
    cJSON_AddNumberToObject(root, "skipped_lines", (double)requests->skipped);
    cJSON_AddStringToObject(root, "partial_hash", s->partial);
    cJSON_AddStringToObject(root, "free_order", s->engine.free_order);
    cJSON *rows = cJSON_AddArrayToObject(root, "results");
    for (int i = 0; i < count; i++) cJSON_AddItemToArray(rows, result_to_json(&results[i]));
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    puts(text);
    cJSON_free(text);
    return KVS_OK;
}

/* The results as allocation results without a clock: one run a capacity, so that `kvscope plot` draws the hit rates.
 * The texts are borrowed. */
static kvs_status write_h5(const kvs_alloc_settings *s, const kvs_requests *requests, int page_tokens,
                           const kvs_sequential_result *results, int count, kvs_error *error) {
    char scheme[64], settings[128], allocator[] = "paged", version[] = KVS_VERSION, source[256], sha256[65],
                                    command[4096];
    kvs_occupancy_run *runs = calloc((size_t)count, sizeof *runs);
    if (runs == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    snprintf(scheme, sizeof scheme, "sequential, partial hash: %s", s->partial);
    snprintf(settings, sizeof settings, "sequential partial_hash=%s free_order=%s page_tokens=%d", s->partial,
             s->engine.free_order, page_tokens);
    snprintf(source, sizeof source, "%s", requests->source);
    snprintf(sha256, sizeof sha256, "%s", requests->sha256);
    snprintf(command, sizeof command, "%s", kvs_command_line());
    for (int i = 0; i < count; i++) {
        const kvs_sequential_result *r = &results[i];
        runs[i] = (kvs_occupancy_run){.scheme = scheme,
                                      .allocator = allocator,
                                      .memory_bytes = NAN,
                                      .page_bytes = NAN,
                                      .page_tokens = page_tokens,
                                      .total_pages = r->capacity_pages,
                                      .requests = requests->count,
                                      .completed = requests->count - r->skipped,
                                      .skipped = r->skipped,
                                      .queried_tokens = r->requested_blocks * page_tokens,
                                      .hit_tokens = r->hit_blocks * page_tokens,
                                      .hit_rate = (double)r->hit_blocks / (double)r->requested_blocks,
                                      .evictions = r->evictions,
                                      .wall_s = r->wall_s};
    }
    kvs_occupancy_results all = {.version = version,
                                 .command_line = command,
                                 .requests = source,
                                 .sha256 = sha256,
                                 .settings = settings,
                                 .runs_count = count,
                                 .runs = runs};
    kvs_status status = kvs_occupancy_write_h5(&all, s->output, error);
    free(runs);
    return status;
}

/* "1000,10000,inf" as pages, 0 for inf; the caller frees *capacities. */
static kvs_status parse_capacities(const char *text, int64_t **capacities, int *count, kvs_error *error) {
    char *copy = strdup(text), *rest = copy;
    int64_t *values = malloc((strlen(text) + 1) * sizeof *values);
    *count = 0;
    kvs_status status =
        copy != NULL && values != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, "--capacity-pages", NULL, "out of memory");
    for (char *word; status == KVS_OK && (word = strsep(&rest, ",")) != NULL;) {
        long long number = 0;
        if (strcmp(word, "inf") != 0 && (kvs_parse_int(word, &number) || number < 1 || number > 2147483645))
            status = kvs_fail(error, KVS_USAGE, "--capacity-pages", NULL,
                              "'%s' is no whole number from 1 to 2147483645 and not inf", word);
        values[(*count)++] = number;
    }
    free(copy);
    if (status != KVS_OK)
        free(values);
    else
        *capacities = values;
    return status;
}

/* Each capacity is a run of its own; the first failure counts. */
static kvs_status run_all(const kvs_alloc_settings *s, const kvs_sequential *replay, const int64_t *capacities,
                          kvs_sequential_result *results, int count, kvs_error *error) {
    kvs_status worst = KVS_OK;
    int threads = s->common.threads > 0 ? (int)s->common.threads : omp_get_num_procs();
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int i = 0; i < count; i++) {
        kvs_error own = {0};
        kvs_status status = kvs_sequential_run(replay, capacities[i], s->engine.skip_bad, &results[i], &own);
        if (status == KVS_OK) continue;
#pragma omp critical(kvs_alloc_failure)
        if (worst == KVS_OK) {
            worst = status;
            *error = own;
        }
    }
    return worst;
}

static kvs_status read_options(const kvs_alloc_settings *s, const kvs_requests *requests,
                               kvs_sequential_options *options, kvs_error *error) {
    static const char *const partials[] = {"count", "drop", NULL};
    static const char *const orders[] = {"v019", "may2026", NULL};
    int partial, order;
    KVS_TRY(kvs_choose("--partial-hash", s->partial, partials, &partial, error));
    KVS_TRY(kvs_choose("--free-order", s->engine.free_order, orders, &order, error));
    int page = kvs_engine_page_tokens(&s->engine);
    if (page == 0) page = requests->block_tokens > 0 ? requests->block_tokens : 16;
    *options = (kvs_sequential_options){.page_tokens = page,
                                        .partial = (kvs_partial_page)partial,
                                        .order = (kvs_free_order)order,
                                        .caching = s->engine.caching,
                                        .check = s->engine.check,
                                        .repeat = (int)s->repeat};
    return KVS_OK;
}

kvs_status kvs_alloc_sequential(const kvs_alloc_settings *s, const kvs_requests *requests, kvs_error *error) {
    kvs_sequential_options options;
    KVS_TRY(read_options(s, requests, &options, error));
    int64_t *capacities;
    int count;
    KVS_TRY(parse_capacities(s->capacities, &capacities, &count, error));
    kvs_sequential *replay = NULL;
    kvs_sequential_result *results = calloc((size_t)count, sizeof *results);
    kvs_status status = results != NULL ? kvs_sequential_create(requests, options, &replay, error)
                                        : kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    if (status == KVS_OK) status = run_all(s, replay, capacities, results, count, error);
    if (status == KVS_OK && s->output != NULL)
        status = write_h5(s, requests, options.page_tokens, results, count, error);
    if (status == KVS_OK && s->common.json)
        status = print_json(s, requests, results, count, error);
    else if (status == KVS_OK && !s->common.quiet)
        print_table(results, count);
    kvs_sequential_destroy(replay);
    free(results);
    free(capacities);
    return status;
}
