#include "analysis/profiler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/cupti/session.h"

enum { DEFAULT_RUNS = 11, FLUSH_TIMES_L2 = 4, LEAST_FLUSH_BYTES = 1 << 20, FETCH_BYTES = 32, SINK_BYTES = 16 };

static const char *const work_range = "work", *const flush_range = "flush";

struct kvs_profiler {
    kvs_profiler_settings settings;
    kvs_profiler_facts facts;
    kvs_cupti cupti;
    kvs_cupti_session session;
    CUstream stream;
    CUevent begin, end;
    size_t fetch_before; /* to be restored */
    int fetch_is_set;
    void *flush;
    double *seconds; /* [timed_runs] */
    int launches;    /* of the work under measurement */
};

/* --- opening -------------------------------------------------------------------------------------------------------
 */

/* A hint to the device; what it made of it is read back and reported. */
static kvs_status set_fetch_granularity(kvs_profiler *p, kvs_error *error) {
    KVS_DRIVER_TRY(&p->cupti, cuCtxGetLimit, &p->fetch_before, CU_LIMIT_MAX_L2_FETCH_GRANULARITY);
    KVS_DRIVER_TRY(&p->cupti, cuCtxSetLimit, CU_LIMIT_MAX_L2_FETCH_GRANULARITY, FETCH_BYTES);
    p->fetch_is_set = 1;
    KVS_DRIVER_TRY(&p->cupti, cuCtxGetLimit, &p->facts.fetch_granularity_bytes, CU_LIMIT_MAX_L2_FETCH_GRANULARITY);
    return KVS_OK;
}

static kvs_status open_flush(kvs_profiler *p, kvs_error *error) {
    const kvs_executor *executor = p->settings.executor;
    p->facts.flush_bytes = FLUSH_TIMES_L2 * p->settings.device->l2_bytes / 16 * 16;
    if (p->facts.flush_bytes < LEAST_FLUSH_BYTES) p->facts.flush_bytes = LEAST_FLUSH_BYTES;
    KVS_TRY(executor->allocate(p->facts.flush_bytes + SINK_BYTES, "flush buffer", &p->flush, error));
    return executor->fill(p->flush, 0, p->facts.flush_bytes + SINK_BYTES, error);
}

static kvs_status open_on_device(kvs_profiler *p, kvs_error *error) {
    uint32_t version = 0;
    CUcontext context = NULL;
    CUdevice device = 0;
    KVS_TRY(kvs_cupti_load(&p->cupti, p->settings.cupti, error));
    KVS_TRY(kvs_cupti_load_driver(&p->cupti, p->settings.driver, error));
    KVS_DRIVER_TRY(&p->cupti, cuInit, 0);
    KVS_CUPTI_TRY(&p->cupti, cuptiGetVersion, &version);
    p->facts.cupti_version = (int)version;
    KVS_DRIVER_TRY(&p->cupti, cuCtxGetCurrent, &context);
    if (context == NULL)
        return kvs_fail(error, KVS_DEVICE, "cuda", "cuCtxGetCurrent", "the device is not open in this thread");
    KVS_DRIVER_TRY(&p->cupti, cuCtxGetDevice, &device);
    kvs_counter_set counters = p->settings.counters == 0 ? KVS_ALL_COUNTERS : p->settings.counters;
    KVS_TRY(kvs_cupti_session_open(&p->session, &p->cupti, context, device, counters, error));
    memcpy(p->facts.chip, p->session.chip, sizeof p->facts.chip);
    p->facts.passes = (int)p->session.config.passes;
    p->facts.collected = p->session.config.collected;
    p->facts.missing = p->session.config.missing;
    KVS_DRIVER_TRY(&p->cupti, cuStreamCreate, &p->stream, CU_STREAM_NON_BLOCKING);
    KVS_DRIVER_TRY(&p->cupti, cuEventCreate, &p->begin, CU_EVENT_DEFAULT);
    KVS_DRIVER_TRY(&p->cupti, cuEventCreate, &p->end, CU_EVENT_DEFAULT);
    KVS_TRY(set_fetch_granularity(p, error));
    KVS_TRY(open_flush(p, error));
    /* Whether counters may be read shows only here: better now than after the first work. */
    KVS_TRY(kvs_cupti_session_enable(&p->session, 2, error));
    kvs_cupti_session_disable(&p->session);
    return KVS_OK;
}

kvs_status kvs_profiler_open(const kvs_profiler_settings *settings, kvs_profiler **profiler, kvs_error *error) {
    kvs_profiler *p = calloc(1, sizeof *p);
    *profiler = NULL;
    if (p == NULL) return kvs_fail(error, KVS_INPUT, "profiler", NULL, "out of memory");
    p->settings = *settings;
    if (p->settings.timed_runs <= 0) p->settings.timed_runs = DEFAULT_RUNS;
    p->seconds = calloc((size_t)p->settings.timed_runs, sizeof *p->seconds);
    kvs_status status =
        p->seconds == NULL ? kvs_fail(error, KVS_INPUT, "profiler", NULL, "out of memory") : open_on_device(p, error);
    if (status != KVS_OK) {
        kvs_profiler_close(p);
        return status;
    }
    *profiler = p;
    return KVS_OK;
}

const kvs_profiler_facts *kvs_profiler_describe(const kvs_profiler *profiler) {
    return &profiler->facts;
}

/* What releasing reports can only be what failed before. */
void kvs_profiler_close(kvs_profiler *p) {
    if (p == NULL) return;
    kvs_cupti_session_close(&p->session);
    if (p->fetch_is_set) (void)p->cupti.cuCtxSetLimit(CU_LIMIT_MAX_L2_FETCH_GRANULARITY, p->fetch_before);
    if (p->begin != NULL) (void)p->cupti.cuEventDestroy(p->begin);
    if (p->end != NULL) (void)p->cupti.cuEventDestroy(p->end);
    if (p->stream != NULL) (void)p->cupti.cuStreamDestroy(p->stream);
    p->settings.executor->release(p->flush);
    kvs_cupti_unload(&p->cupti);
    free(p->seconds);
    free(p);
}

/* --- measuring -----------------------------------------------------------------------------------------------------
 */

static kvs_status launch(kvs_profiler *p, const kvs_profiled_work *work, kvs_error *error) {
    return work->launch(work->context, p->launches++, p->stream, error);
}

static kvs_status prepare(kvs_profiler *p, const kvs_profiled_work *work, kvs_error *error) {
    return work->prepare == NULL ? KVS_OK : work->prepare(work->context, p->launches, p->stream, error);
}

static kvs_status flush(kvs_profiler *p, kvs_error *error) {
    const kvs_executor *executor = p->settings.executor;
    size_t bytes = p->facts.flush_bytes;
    uint32_t *sink = (uint32_t *)(void *)((char *)p->flush + bytes);
    int result = executor->kernels->read(p->flush, (int64_t)bytes, sink, p->stream);
    return kvs_executor_launched(executor, result, "read", error);
}

/* The inputs restored and the cache in the state that the settings name; all of it on the stream. */
static kvs_status make_ready(kvs_profiler *p, const kvs_profiled_work *work, kvs_error *error) {
    KVS_TRY(prepare(p, work, error));
    KVS_TRY(flush(p, error));
    if (p->settings.cache == KVS_CACHE_COLD) return KVS_OK;
    KVS_TRY(launch(p, work, error));
    return prepare(p, work, error);
}

static kvs_status wait(kvs_profiler *p, kvs_error *error) {
    KVS_DRIVER_TRY(&p->cupti, cuStreamSynchronize, p->stream);
    return KVS_OK;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The flush before keeps the device busy while the launch is queued, so that its cost on the host does not count. */
static kvs_status time_work(kvs_profiler *p, const kvs_profiled_work *work, kvs_measurement *m, kvs_error *error) {
    int runs = p->settings.timed_runs;
    for (int i = -1; i < runs; i++) { /* run -1 loads the kernel and is not counted */
        float milliseconds = 0.0f;
        KVS_TRY(make_ready(p, work, error));
        KVS_DRIVER_TRY(&p->cupti, cuEventRecord, p->begin, p->stream);
        KVS_TRY(launch(p, work, error));
        KVS_DRIVER_TRY(&p->cupti, cuEventRecord, p->end, p->stream);
        KVS_TRY(wait(p, error));
        KVS_DRIVER_TRY(&p->cupti, cuEventElapsedTime, &milliseconds, p->begin, p->end);
        if (i >= 0) p->seconds[i] = (double)milliseconds * 1e-3;
    }
    qsort(p->seconds, (size_t)runs, sizeof *p->seconds, ascending);
    m->seconds = (p->seconds[(runs - 1) / 2] + p->seconds[runs / 2]) / 2;
    m->seconds_min = p->seconds[0];
    m->seconds_max = p->seconds[runs - 1];
    m->timed_runs = runs;
    return KVS_OK;
}

static kvs_status count_in_range(kvs_profiler *p, const char *range, const kvs_profiled_work *work, kvs_error *error) {
    KVS_TRY(kvs_cupti_session_push(&p->session, range, error));
    KVS_TRY(work != NULL ? launch(p, work, error) : flush(p, error));
    KVS_TRY(wait(p, error));
    return kvs_cupti_session_pop(&p->session, error);
}

/* One turn of the replay. */
static kvs_status count_once(kvs_profiler *p, const kvs_profiled_work *work, int *all, kvs_error *error) {
    KVS_TRY(kvs_cupti_session_start(&p->session, error));
    KVS_TRY(make_ready(p, work, error));
    KVS_TRY(wait(p, error));
    KVS_TRY(count_in_range(p, work_range, work, error));
    KVS_TRY(count_in_range(p, flush_range, NULL, error));
    return kvs_cupti_session_stop(&p->session, all, error);
}

static kvs_status read_ranges(kvs_profiler *p, const char *name, kvs_measurement *m, kvs_error *error) {
    double values[KVS_COUNTERS];
    const char *range = NULL;
    size_t ranges = 0;
    int works = 0, flushes = 0;
    double written_back = (double)NAN;
    KVS_TRY(kvs_cupti_session_decode(&p->session, &ranges, error));
    for (size_t i = 0; i < ranges; i++) {
        KVS_TRY(kvs_cupti_session_values(&p->session, i, &range, values, error));
        if (strcmp(range, work_range) == 0) {
            works++;
            memcpy(m->values, values, sizeof values);
        } else if (strcmp(range, flush_range) == 0) {
            flushes++;
            written_back = values[KVS_COUNTER_DRAM_WRITE_BACK_BYTES];
        }
    }
    if (ranges != 2 || works != 1 || flushes != 1)
        return kvs_fail(error, KVS_DEVICE, "cupti", name, "CUPTI gave %zu ranges where the work and the flush are two",
                        ranges);
    m->values[KVS_COUNTER_DRAM_WRITE_BACK_BYTES] = written_back;
    return KVS_OK;
}

static kvs_status count_work(kvs_profiler *p, const char *name, const kvs_profiled_work *work, kvs_measurement *m,
                             kvs_error *error) {
    int all = 0;
    KVS_TRY(kvs_cupti_session_enable(&p->session, 2, error));
    KVS_TRY(kvs_cupti_session_set(&p->session, CUPTI_UserRange, CUPTI_UserReplay, error));
    for (int turn = 0; !all; turn++) {
        if (turn > 2 * p->facts.passes + 8)
            return kvs_fail(error, KVS_DEVICE, "cupti", name, "CUPTI wants ever more than the %d passes it announced",
                            p->facts.passes);
        KVS_TRY(count_once(p, work, &all, error));
    }
    return read_ranges(p, name, m, error);
}

kvs_status kvs_profiler_measure(kvs_profiler *p, const char *name, const kvs_profiled_work *work, kvs_measurement *m,
                                kvs_error *error) {
    *m = (kvs_measurement){.seconds = 0};
    for (int i = 0; i < KVS_COUNTERS; i++) m->values[i] = (double)NAN;
    p->launches = 0;
    KVS_TRY(time_work(p, work, m, error));
    kvs_status status = count_work(p, name, work, m, error);
    kvs_cupti_session_disable(&p->session);
    return status;
}
