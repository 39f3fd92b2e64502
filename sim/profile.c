#include "sim/profile.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/profile_predict.h"
#include "core/file.h"
#include "core/progress.h"
#include "core/version.h"

/* What runs, besides the request. */
typedef struct run {
    const kvs_profile_request *request;
    kvs_workload_input input;
    const kvs_executor *simt, *cuda; /* cuda: NULL where nothing is measured */
    kvs_profiler *profiler;
    kvs_profile *profile;
    kvs_error refusal; /* the first */
    int ran;           /* launches that were not refused */
} run;

static kvs_status set_text(char **to, const char *text, kvs_error *error) {
    free(*to);
    *to = text != NULL ? strdup(text) : NULL;
    return text == NULL || *to != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, "profile", NULL, "out of memory");
}

/* --- provenance ----------------------------------------------------------------------------------------------------
 */

static kvs_status describe_input(run *r, kvs_error *error) {
    kvs_profile *p = r->profile;
    const kvs_workload_input *in = &r->input;
    const kvs_page_shape *shape = &in->shape;
    char digest[65];
    KVS_TRY(set_text(&p->version, KVS_VERSION, error));
    KVS_TRY(set_text(&p->kernel_sources, kvs_profile_kernel_sources(), error));
    KVS_TRY(set_text(&p->input, r->request->trace != NULL ? r->request->trace : "generated", error));
    if (r->request->trace != NULL) {
        KVS_TRY(kvs_file_sha256(r->request->trace, digest, error));
        KVS_TRY(set_text(&p->sha256, digest, error));
    }
    p->seed = (int64_t)in->seed;
    p->sample_blocks = r->request->sample_blocks;
    p->head_dim = shape->head_dim, p->page_tokens = shape->page_tokens, p->kv_heads = shape->kv_heads;
    p->bits = shape->bits, p->boost_bits = shape->boost_bits, p->value_bits = shape->value_bits;
    p->boost_channels = shape->boost_channels;
    p->query_heads = in->query_heads, p->sequences = in->sequences, p->pages = in->pages;
    p->sink_tokens = in->sink_tokens, p->window_tokens = in->window_tokens;
    p->splits = in->splits, p->multiprocessors = in->multiprocessors;
    p->softmax_scale = (double)in->softmax_scale;
    return KVS_OK;
}

static kvs_status describe_device(run *r, const kvs_executor_facts *facts, kvs_error *error) {
    const kvs_profiler_facts *how = kvs_profiler_describe(r->profiler);
    kvs_profile *p = r->profile;
    char counters[64];
    snprintf(counters, sizeof counters, "CUPTI %d", how->cupti_version);
    KVS_TRY(set_text(&p->device, facts->name, error));
    KVS_TRY(set_text(&p->chip, how->chip, error));
    KVS_TRY(set_text(&p->counters, counters, error));
    KVS_TRY(set_text(&p->cache, kvs_cache_state_names[r->request->cache], error));
    p->passes = how->passes;
    p->fetch_granularity_bytes = (int)how->fetch_granularity_bytes;
    p->flush_bytes = (int64_t)how->flush_bytes;
    return KVS_OK;
}

/* --- one launch ----------------------------------------------------------------------------------------------------
 */

static kvs_status start(void *context, int iteration, void *stream, kvs_error *error) {
    (void)iteration; /* every launch finds the same inputs */
    return kvs_workload_launch(context, stream, error);
}

static kvs_status measure(run *r, const kvs_workload_kernel *kernel, const kvs_format *format,
                          kvs_profile_launch *launch, kvs_error *error) {
    kvs_workload *workload;
    kvs_measurement found;
    KVS_TRY(kvs_workload_open(r->cuda, kernel, format, &r->input, &workload, error));
    kvs_profiled_work work = {NULL, start, workload};
    char name[128];
    snprintf(name, sizeof name, "%s %s", kernel->name, launch->layout != NULL ? launch->layout : "");
    kvs_status status = kvs_profiler_measure(r->profiler, name, &work, &found, error);
    if (status == KVS_OK) {
        memcpy(launch->measured, found.values, sizeof launch->measured);
        launch->seconds = found.seconds;
        launch->seconds_min = found.seconds_min;
        launch->seconds_max = found.seconds_max;
    }
    kvs_workload_close(workload);
    return status;
}

/* A kernel that does not exist for the layout is a row that says so, no failure. */
static kvs_status profile_one(run *r, const kvs_workload_kernel *kernel, const kvs_layout *layout, kvs_error *error) {
    int number;
    kvs_format format;
    kvs_workload *workload = NULL;
    kvs_error refused = {.status = KVS_OK};
    KVS_TRY(kvs_profile_add_launch(r->profile, kernel->name, kernel->layouts ? layout->name : NULL, &number, error));
    kvs_status status = kvs_format_make(layout, &r->input.shape, &format, &refused);
    if (status == KVS_OK) status = kvs_workload_open(r->simt, kernel, &format, &r->input, &workload, &refused);
    if (status == KVS_OK) status = kvs_profile_predict(r->profile, number, workload, &refused);
    kvs_workload_close(workload);
    kvs_profile_launch *launch = &r->profile->launches[number];
    if (status == KVS_USAGE) {
        if (r->refusal.status == KVS_OK) r->refusal = refused;
        return set_text(&launch->refused, refused.rule, error);
    }
    r->ran++;
    if (status == KVS_OK && r->cuda != NULL) status = measure(r, kernel, &format, launch, &refused);
    if (status != KVS_OK && error != NULL) *error = refused;
    return status;
}

static int count_of(const kvs_layout *const *layouts) {
    int count = 0;
    while (layouts[count] != NULL) count++;
    return count;
}

static kvs_status profile_all(run *r, kvs_error *error) {
    const kvs_profile_request *request = r->request;
    int layouts = count_of(request->layouts), total = 0;
    kvs_status status = KVS_OK;
    kvs_progress progress;
    for (int k = 0; request->kernels[k] != NULL; k++) total += request->kernels[k]->layouts ? layouts : 1;
    kvs_progress_begin(&progress, "profile", "launches", total, request->quiet);
    for (int k = 0; request->kernels[k] != NULL && status == KVS_OK; k++)
        for (int l = 0; l < (request->kernels[k]->layouts ? layouts : 1) && status == KVS_OK; l++) {
            status = profile_one(r, request->kernels[k], request->layouts[l], error);
            kvs_progress_add(&progress, 1);
            if (status == KVS_OK && kvs_interrupted())
                status = kvs_fail(error, KVS_INTERRUPTED, "profile", NULL, "interrupted");
        }
    kvs_progress_end(&progress);
    if (status != KVS_OK || r->ran > 0) return status;
    if (error != NULL) *error = r->refusal; /* nothing is left to report */
    return r->refusal.status;
}

/* --- the whole -----------------------------------------------------------------------------------------------------
 */

static kvs_status open_profiler(run *r, kvs_executor_facts *facts, kvs_error *error) {
    KVS_TRY(kvs_executor_find("cuda", &r->cuda, error));
    KVS_TRY(r->cuda->open(facts, error));
    r->input.multiprocessors = facts->multiprocessors;
    kvs_profiler_settings settings = {.executor = r->cuda, .device = facts, .cache = r->request->cache};
    return kvs_profiler_open(&settings, &r->profiler, error);
}

kvs_status kvs_profile_run(const kvs_profile_request *request, int measured, kvs_profile *profile, kvs_error *error) {
    run r = {.request = request, .profile = profile};
    kvs_executor_facts facts, host;
    *profile = (kvs_profile){0};
    KVS_TRY(kvs_executor_find("simt", &r.simt, error));
    KVS_TRY(r.simt->open(&host, error));
    KVS_TRY(kvs_profile_load(request, &r.input, error));
    kvs_status status = measured ? open_profiler(&r, &facts, error) : KVS_OK;
    if (status == KVS_OK) status = describe_input(&r, error);
    if (status == KVS_OK && measured) status = describe_device(&r, &facts, error);
    if (status == KVS_OK) status = profile_all(&r, error);
    if (status == KVS_OK) status = kvs_profile_evaluate(profile, error);
    kvs_profiler_close(r.profiler);
    kvs_workload_input_clear(&r.input);
    return status;
}

/* --- against an earlier profile ------------------------------------------------------------------------------------
 */

/* The same work: the file says all of it. A trace is read from where it was, or from where the user says it is now. */
static kvs_status request_again(const kvs_profile *from, const char *path, kvs_profile_request *request,
                                kvs_error *error) {
    kvs_workload_input *in = &request->input;
    char digest[65];
    if (request->trace == NULL && from->sha256 != NULL) request->trace = from->input;
    if (from->sha256 != NULL) {
        KVS_TRY(kvs_file_sha256(request->trace, digest, error));
        if (strcmp(digest, from->sha256) != 0)
            return kvs_fail(error, KVS_INPUT, request->trace, NULL, "is not the trace that %s was measured with", path);
    }
    in->shape = (kvs_page_shape){.head_dim = from->head_dim,
                                 .page_tokens = from->page_tokens,
                                 .kv_heads = from->kv_heads,
                                 .bits = from->bits,
                                 .boost_bits = from->boost_bits,
                                 .value_bits = from->value_bits};
    request->boost = (double)from->boost_channels / from->head_dim;
    if (request->sample_blocks == 0) request->sample_blocks = from->sample_blocks;
    in->query_heads = from->query_heads;
    in->sequences = from->sequences;
    in->pages = from->pages;
    in->sink_tokens = from->sink_tokens;
    in->window_tokens = from->window_tokens;
    in->splits = from->splits;
    in->multiprocessors = from->multiprocessors;
    in->seed = (uint64_t)from->seed;
    return KVS_OK;
}

kvs_status kvs_profile_compare(const kvs_profile_request *request, const kvs_profile *from, const char *path,
                               kvs_profile *profile, kvs_error *error) {
    kvs_profile_request again = *request;
    *profile = (kvs_profile){0};
    if (from->device == NULL)
        return kvs_fail(error, KVS_INPUT, path, NULL, "holds no measurement, only what was predicted");
    KVS_TRY(request_again(from, path, &again, error));
    KVS_TRY(kvs_profile_run(&again, 0, profile, error));
    KVS_TRY(kvs_profile_take_measured(profile, from, path, error));
    return kvs_profile_evaluate(profile, error);
}
