/* serve_timeline.c: kvscope serve --verify-timeline: the allocator beside a recorded engine. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/version.h"
#include "sim/commands/serve.h"
#include "sim/timeline.h"

static cJSON *deviation_to_json(const kvs_deviation *d) {
    cJSON *object = cJSON_CreateObject();
    cJSON_AddNumberToObject(object, "mean_abs_deviation", d->mean_abs);
    cJSON_AddNumberToObject(object, "max_abs_deviation", d->max_abs);
    cJSON_AddNumberToObject(object, "max_at_s", d->max_at_s);
    return object;
}

static kvs_status print_json(const kvs_serve_settings *s, const kvs_timeline_result *r, const kvs_timeline *timeline,
                             kvs_error *error) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "command", "serve");
    cJSON_AddStringToObject(root, "version", KVS_VERSION);
    cJSON_AddStringToObject(root, "command_line", kvs_command_line());
    cJSON *line = cJSON_AddObjectToObject(root, "timeline");
    cJSON_AddStringToObject(line, "file", s->timeline);
    cJSON_AddNumberToObject(line, "seconds", r->seconds);
    cJSON_AddNumberToObject(line, "moments", (double)r->moments);
    cJSON_AddNumberToObject(line, "mean_abs_deviation_pct", r->kv_cache_pct.mean_abs);
    cJSON_AddNumberToObject(line, "max_abs_deviation_pct", r->kv_cache_pct.max_abs);
    cJSON_AddNumberToObject(line, "max_at_s", r->kv_cache_pct.max_at_s);
    cJSON_AddStringToObject(line, "timing", r->recorded_timing ? "recorded" : "modelled");
    cJSON_AddNumberToObject(line, "preemptions", (double)r->preemptions);
    cJSON_AddItemToObject(line, "running", deviation_to_json(&r->running));
    cJSON_AddItemToObject(line, "waiting", deviation_to_json(&r->waiting));
    cJSON *rows = cJSON_AddArrayToObject(line, "rows");
    for (int64_t i = 0; i < r->moments; i++) {
        const kvs_timeline_row *a = &timeline->rows[i], *b = &r->model[i];
        double values[] = {a->t_s, a->running, b->running, a->waiting, b->waiting, a->kv_cache_pct, b->kv_cache_pct};
        cJSON_AddItemToArray(rows, cJSON_CreateDoubleArray(values, 7));
    }
    cJSON_AddStringToObject(line, "columns",
                            "t, running recorded, model, waiting recorded, model, kv_cache_pct recorded, model");
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    puts(text);
    cJSON_free(text);
    return KVS_OK;
}

static void print_table(const kvs_serve_settings *s, const kvs_timeline_result *r) {
    const struct {
        const char *name;
        const kvs_deviation *d;
    } rows[] = {{"kv_cache_pct", &r->kv_cache_pct}, {"running", &r->running}, {"waiting", &r->waiting}};
    printf("%s: %.0f s, %lld moments; %s timing, %lld steps, %lld preemptions\n", s->timeline, r->seconds,
           (long long)r->moments, r->recorded_timing ? "recorded" : "modelled", (long long)r->steps,
           (long long)r->preemptions);
    printf("%-14s %20s %20s %10s\n", "", "mean |deviation|", "max |deviation|", "at s");
    for (int i = 0; i < 3; i++)
        printf("%-14s %20.3f %20.3f %10.1f\n", rows[i].name, rows[i].d->mean_abs, rows[i].d->max_abs,
               rows[i].d->max_at_s);
}

/* The pool of the engine's settings, and the engine on it. */
static kvs_status verify(const kvs_serve_settings *s, const kvs_engine_setup *setup, const kvs_timeline *timeline,
                         const kvs_requests *requests, kvs_timeline_result *result, kvs_error *error) {
    const char *scheme = s->engine.schemes.count > 0 ? s->engine.schemes.texts[0] : "fp16";
    kvs_geometry geometry;
    kvs_step_model model;
    kvs_page_keys keys;
    kvs_allocator allocator;
    KVS_TRY(kvs_geometry_of(scheme, &setup->shape, kvs_engine_page_tokens(&s->engine), &geometry, error));
    KVS_TRY(kvs_engine_step_model(&s->engine, setup, scheme, &model, NULL, error));
    kvs_allocator_options memory = {.memory_bytes = s->memory > 0 ? (double)s->memory : setup->cache_bytes,
                                    .blocks = s->engine.num_blocks,
                                    .caching = s->engine.caching,
                                    .order = setup->order,
                                    .watermark = s->engine.watermark};
    if (memory.blocks > 0)
        memory.memory_bytes = (double)memory.blocks * geometry.page_bytes;
    else if (s->memory == 0)
        KVS_TRY(kvs_engine_setup_memory(setup, &s->engine, error));
    KVS_TRY(kvs_page_keys_create(&keys, requests, geometry.page_tokens, geometry.first_token, error));
    kvs_status status =
        kvs_allocator_open(kvs_allocator_type_find("paged"), &geometry, &keys, memory, &allocator, error);
    if (status == KVS_OK) {
        status = kvs_timeline_verify(timeline, s->timeline_offset_s, requests, &allocator,
                                     kvs_engine_settings_options(&s->engine), (kvs_clock){kvs_step_seconds, &model},
                                     result, error);
        kvs_allocator_close(&allocator);
    }
    kvs_page_keys_destroy(&keys);
    return status;
}

kvs_status kvs_serve_timeline(const kvs_serve_settings *s, const kvs_engine_setup *setup, const kvs_requests *requests,
                              kvs_error *error) {
    kvs_timeline timeline;
    kvs_timeline_result result = {0};
    KVS_TRY(kvs_timeline_load(s->timeline, &timeline, error));
    kvs_status status = verify(s, setup, &timeline, requests, &result, error);
    if (status == KVS_OK && s->common.json)
        status = print_json(s, &result, &timeline, error);
    else if (status == KVS_OK && !s->common.quiet)
        print_table(s, &result);
    free(result.model);
    kvs_timeline_clear(&timeline);
    return status;
}
