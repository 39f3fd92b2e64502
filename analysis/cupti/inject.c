/* inject.c: libkvscope_inject.so, which the CUDA driver loads into a profiled program (CUDA_INJECTION64_PATH) and calls
 * once while it initializes. analysis/exec_profile.h says what for.
 *
 * It never changes what the program does: whatever fails is written to the file for kvscope to report, and the program
 * goes on unprofiled. A fork's child, which cannot use its parent's CUDA, is left alone. */
#include <cupti_driver_cbid.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analysis/cupti/launch.h"
#include "analysis/cupti/session.h"
#include "analysis/exec_profile.h"

/* Launches between two readings: a few megabytes of counter data. */
enum { MAX_RANGES = 256 };

typedef struct kernel {
    char *name;
    int64_t launches, counted, pending;
    double values[KVS_COUNTERS];
} kernel;

static struct injection {
    pthread_mutex_t lock;
    kvs_cupti cupti;
    kvs_cupti_session session;
    CUpti_SubscriberHandle subscriber;
    CUcontext context; /* whose launches are counted: the first that launches */
    int enabled, started, failed, ended;
    kvs_counter_set counters;
    int64_t limit, graphs;
    uint32_t version;
    kernel *kernels;
    int count, room;
    int pending[MAX_RANGES]; /* kernels of the launches since the last reading */
    int pending_count;
    pid_t process;
    char path[4096];
    kvs_error error;
} injection = {.lock = PTHREAD_MUTEX_INITIALIZER};

static __thread int inside; /* our own calls are not the program's */

/* --- the file ------------------------------------------------------------------------------------------------------
 */

static void put_kernel(FILE *file, const kernel *k) {
    (void)fprintf(file, "kernel\t%" PRId64 "\t%" PRId64 "\t%s", k->launches, k->counted, k->name);
    for (int i = 0; i < KVS_COUNTERS; i++) (void)fprintf(file, "\t%a", k->values[i]);
    (void)fputc('\n', file);
}

/* Whole or not at all; nobody is left to tell when it fails but kvscope, which misses the file. */
static void write_file(void) {
    const struct injection *j = &injection;
    char temporary[sizeof injection.path + 8];
    if (snprintf(temporary, sizeof temporary, "%s.part", j->path) >= (int)sizeof temporary) return;
    FILE *file = fopen(temporary, "w");
    if (file == NULL) return;
    (void)fprintf(file, "%s\nstate\t%s\n", KVS_EXEC_HEAD, j->ended ? "ended" : "started");
    if (j->session.chip[0] != '\0')
        (void)fprintf(file, "machine\t%s\t%u\t%zu\t%" PRIx64 "\t%" PRIx64 "\n", j->session.chip, j->version,
                      j->session.config.passes, j->session.config.collected, j->session.config.missing);
    if (j->failed) (void)fprintf(file, "error\t%s\t%s\t%s\n", j->error.file, j->error.object, j->error.rule);
    (void)fprintf(file, "graphs\t%" PRId64 "\n", j->graphs);
    for (int i = 0; i < j->count; i++)
        if (j->kernels[i].counted > 0) put_kernel(file, &j->kernels[i]);
    int whole = ferror(file) == 0;
    if (fclose(file) != 0 || !whole || rename(temporary, j->path) != 0) (void)remove(temporary);
}

/* --- counting ------------------------------------------------------------------------------------------------------
 */

static kvs_status kernel_of(const char *name, int *at, kvs_error *error) {
    struct injection *j = &injection;
    for (*at = 0; *at < j->count; (*at)++)
        if (strcmp(j->kernels[*at].name, name) == 0) return KVS_OK;
    if (j->count == j->room) {
        int room = j->room == 0 ? 64 : 2 * j->room;
        kernel *more = realloc(j->kernels, sizeof *more * (size_t)room);
        if (more == NULL) return kvs_fail(error, KVS_INPUT, "profile", name, "out of memory");
        j->kernels = more;
        j->room = room;
    }
    j->kernels[j->count] = (kernel){.name = strdup(name)};
    if (j->kernels[j->count].name == NULL) return kvs_fail(error, KVS_INPUT, "profile", name, "out of memory");
    j->count++;
    return KVS_OK;
}

static kvs_status begin(CUcontext context, kvs_error *error) {
    struct injection *j = &injection;
    CUdevice device = 0;
    if (!j->enabled) {
        KVS_DRIVER_TRY(&j->cupti, cuCtxGetDevice, &device);
        KVS_TRY(kvs_cupti_session_open(&j->session, &j->cupti, context, device, j->counters, error));
        KVS_TRY(kvs_cupti_session_enable(&j->session, MAX_RANGES, error));
        j->context = context;
        j->enabled = 1;
    }
    KVS_TRY(kvs_cupti_session_set(&j->session, CUPTI_AutoRange, CUPTI_KernelReplay, error));
    KVS_TRY(kvs_cupti_session_start(&j->session, error));
    j->started = 1;
    return KVS_OK;
}

/* Stops, and takes the values of what was launched since begin: range i is launch i. */
static kvs_status collect(kvs_error *error) {
    struct injection *j = &injection;
    double values[KVS_COUNTERS];
    const char *name = NULL;
    size_t ranges = 0;
    int all = 0, launches = j->pending_count;
    j->started = j->pending_count = 0;
    KVS_TRY(kvs_cupti_session_stop(&j->session, &all, error));
    if (launches == 0) return KVS_OK;
    KVS_TRY(kvs_cupti_session_decode(&j->session, &ranges, error));
    if (ranges != (size_t)launches)
        return kvs_fail(error, KVS_DEVICE, "cupti", NULL,
                        "%d launches gave %zu ranges, so counts cannot be given to kernels", launches, ranges);
    for (size_t i = 0; i < ranges; i++) {
        kernel *k = &j->kernels[j->pending[i]];
        KVS_TRY(kvs_cupti_session_values(&j->session, i, &name, values, error));
        kvs_exec_add(k->values, k->counted, values, 1);
        k->counted++;
        k->pending--;
    }
    return KVS_OK;
}

static void note_failure(kvs_status status) {
    if (status == KVS_OK || injection.failed) return;
    injection.failed = 1;
    kvs_cupti_session_disable(&injection.session);
    write_file();
}

/* Counting is on or off while a kernel is launched; what was counted is read when it goes off. */
static kvs_status count_launch(CUcontext context, const char *name, kvs_error *error) {
    struct injection *j = &injection;
    int at = 0;
    if (j->enabled && context != j->context)
        return kvs_fail(error, KVS_DEVICE, "cuda", name, "launched in a second context; one of a process is profiled");
    KVS_TRY(kernel_of(name, &at, error));
    kernel *k = &j->kernels[at];
    int wanted = j->limit == 0 || k->counted + k->pending < j->limit;
    k->launches++;
    if (j->started && (!wanted || j->pending_count == MAX_RANGES)) {
        KVS_TRY(collect(error));
        write_file();
    }
    if (!wanted) return KVS_OK;
    if (!j->started) KVS_TRY(begin(context, error));
    j->pending[j->pending_count++] = at;
    k->pending++;
    return KVS_OK;
}

/* A graph's kernels would be ranges without names. */
static kvs_status skip_graph(kvs_error *error) {
    injection.graphs++;
    return injection.started ? collect(error) : KVS_OK;
}

static void end(void) {
    struct injection *j = &injection;
    if (j->ended || getpid() != j->process) return;
    inside = 1;
    (void)pthread_mutex_lock(&j->lock);
    if (j->started && !j->failed) note_failure(collect(&j->error));
    kvs_cupti_session_disable(&j->session);
    j->ended = 1;
    write_file();
    (void)pthread_mutex_unlock(&j->lock);
    inside = 0;
}

/* --- what the driver calls -----------------------------------------------------------------------------------------
 */

/* A launch into a stream that is being captured runs nothing. */
static int is_captured(CUpti_CallbackId id, const void *params) {
    CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_NONE;
    CUstream stream = NULL;
    if (params == NULL) return 0;
    if (id == CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx || id == CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx_ptsz)
        stream = ((const kvs_launch_ex_params *)params)->config->hStream;
    else
        stream = ((const kvs_launch_params *)params)->stream;
    if (injection.cupti.cuStreamIsCapturing(stream, &capture) != CUDA_SUCCESS) return 0;
    return capture != CU_STREAM_CAPTURE_STATUS_NONE;
}

static void launched(CUpti_CallbackId id, const CUpti_CallbackData *call) {
    struct injection *j = &injection;
    const char *name = call->symbolName == NULL ? call->functionName : call->symbolName;
    int graph = id == CUPTI_DRIVER_TRACE_CBID_cuGraphLaunch || id == CUPTI_DRIVER_TRACE_CBID_cuGraphLaunch_ptsz;
    if (graph)
        note_failure(skip_graph(&j->error));
    else if (!is_captured(id, call->functionParams))
        note_failure(count_launch(call->context, name, &j->error));
}

static void CUPTIAPI called(void *userdata, CUpti_CallbackDomain domain, CUpti_CallbackId id, const void *data) {
    struct injection *j = &injection;
    (void)userdata;
    if (inside || j->ended || getpid() != j->process) return;
    if (domain == CUPTI_CB_DOMAIN_RESOURCE) {
        const CUpti_ResourceData *resource = data;
        if (id == CUPTI_CBID_RESOURCE_CONTEXT_DESTROY_STARTING && j->enabled && resource->context == j->context) end();
        return;
    }
    const CUpti_CallbackData *call = data;
    if (call->callbackSite != CUPTI_API_ENTER || j->failed) return;
    inside = 1;
    (void)pthread_mutex_lock(&j->lock);
    if (!j->failed) launched(id, call);
    (void)pthread_mutex_unlock(&j->lock);
    inside = 0;
}

static kvs_status subscribe(kvs_error *error) {
    static const struct {
        CUpti_CallbackDomain domain;
        CUpti_CallbackId id;
    } wanted[] = {
        {CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel},
        {CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_DRIVER_TRACE_CBID_cuLaunchKernel_ptsz},
        {CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx},
        {CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_DRIVER_TRACE_CBID_cuLaunchKernelEx_ptsz},
        {CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_DRIVER_TRACE_CBID_cuLaunchCooperativeKernel},
        {CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_DRIVER_TRACE_CBID_cuLaunchCooperativeKernel_ptsz},
        {CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_DRIVER_TRACE_CBID_cuGraphLaunch},
        {CUPTI_CB_DOMAIN_DRIVER_API, CUPTI_DRIVER_TRACE_CBID_cuGraphLaunch_ptsz},
        {CUPTI_CB_DOMAIN_RESOURCE, CUPTI_CBID_RESOURCE_CONTEXT_DESTROY_STARTING},
    };
    struct injection *j = &injection;
    KVS_TRY(kvs_cupti_load(&j->cupti, NULL, error));
    KVS_TRY(kvs_cupti_load_driver(&j->cupti, NULL, error));
    KVS_CUPTI_TRY(&j->cupti, cuptiGetVersion, &j->version);
    KVS_CUPTI_TRY(&j->cupti, cuptiSubscribe, &j->subscriber, called, NULL);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        KVS_CUPTI_TRY(&j->cupti, cuptiEnableCallback, 1, j->subscriber, wanted[i].domain, wanted[i].id);
    return KVS_OK;
}

/* The driver's name for it. 1: it may go on. */
__attribute__((visibility("default"))) int InitializeInjection(void);
int InitializeInjection(void) {
    struct injection *j = &injection;
    const char *folder = getenv(KVS_EXEC_FOLDER), *counters = getenv(KVS_EXEC_COUNTERS);
    const char *limit = getenv(KVS_EXEC_LIMIT);
    if (folder == NULL || j->process == getpid()) return 1;
    j->process = getpid();
    j->counters = counters == NULL ? KVS_ALL_COUNTERS : strtoull(counters, NULL, 16);
    j->limit = limit == NULL ? 0 : strtoll(limit, NULL, 10);
    j->counters &= ~KVS_COUNTER_BIT(KVS_COUNTER_DRAM_WRITE_BACK_BYTES);
    if (snprintf(j->path, sizeof j->path, "%s/%ld", folder, (long)j->process) >= (int)sizeof j->path) return 1;
    inside = 1;
    note_failure(subscribe(&j->error));
    inside = 0;
    write_file();
    (void)atexit(end);
    return 1;
}
