#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "core/progress.h"
#include "core/random.h"
#include "kernels/simt/internal.h"

static __thread kvs_simt_options settings;
static __thread kvs_simt_report last_report;
static __thread char last_text[640];
static kvs_simt_worker *idle_workers; /* kept for the next launch: their stacks are dear */

kvs_simt_options *kvs_simt_settings(void) {
    return &settings;
}

size_t kvs_simt_shared_limit(void) {
    return settings.shared_bytes > 0 ? settings.shared_bytes : KVS_SIMT_SHARED_BYTES;
}

const kvs_simt_report *kvs_simt_last_report(void) {
    return &last_report;
}

const char *kvs_simt_last_text(void) {
    const kvs_simt_report *r = &last_report;
    int length = snprintf(last_text, sizeof last_text, "%s: ", r->kernel);
    if (r->warp >= 0)
        length += snprintf(last_text + length, sizeof last_text - (size_t)length,
                           "block (%u, %u, %u) warp %d lane %d, %s:%d: ", r->block.x, r->block.y, r->block.z, r->warp,
                           r->lane, r->file, r->line);
    snprintf(last_text + length, sizeof last_text - (size_t)length, "%s%s%s", kvs_simt_fault_names[r->fault],
             r->text[0] != '\0' ? ": " : "", r->text);
    return last_text;
}

/* --- workers --------------------------------------------------------------------------------------------------------
 */

static kvs_simt_worker *take_worker(void) {
    kvs_simt_worker *worker;
#pragma omp critical(kvs_simt_workers)
    {
        worker = idle_workers;
        if (worker != NULL) idle_workers = worker->next;
    }
    return worker != NULL ? worker : calloc(1, sizeof *worker);
}

static void return_worker(kvs_simt_worker *worker) {
#pragma omp critical(kvs_simt_workers)
    {
        worker->next = idle_workers;
        idle_workers = worker;
    }
}

static int reserve_shared(kvs_simt_worker *worker, size_t bytes, int checked) {
    if (bytes > worker->shared_capacity) {
        free(worker->shared);
        worker->shared_capacity = 0;
        worker->shared = aligned_alloc(1024, (bytes + 1023) / 1024 * 1024);
        if (worker->shared == NULL) return 0;
        worker->shared_capacity = bytes;
    }
    if (checked && bytes > worker->shadow_capacity) {
        free(worker->shadow);
        worker->shadow_capacity = 0;
        worker->shadow = calloc(bytes, sizeof *worker->shadow);
        if (worker->shadow == NULL) return 0;
        worker->shadow_capacity = bytes;
    }
    return 1;
}

static int reserve_lanes(kvs_simt_worker *worker, uint32_t threads) {
    kvs_error error;
    if (kvs_fiber_stacks_reserve(&worker->stacks, threads, &error) != KVS_OK) return 0;
    if (threads <= worker->lane_capacity) return 1;
    kvs_simt_lane *lanes = realloc(worker->lanes, threads * sizeof *lanes);
    if (lanes == NULL) return 0;
    memset(lanes + worker->lane_capacity, 0, (threads - worker->lane_capacity) * sizeof *lanes);
    worker->lanes = lanes;
    worker->lane_capacity = threads;
    return 1;
}

static int prepare_worker(kvs_simt_worker *worker, kvs_simt_grid *grid) {
    const kvs_simt_launch *launch = grid->launch;
    worker->grid = grid;
    worker->last_memory = NULL;
    worker->main.stack = NULL; /* another thread of the host may have had this worker */
    worker->recorder.count = 0;
    worker->thread_count = launch->block.x * launch->block.y * launch->block.z;
    worker->warp_count = (worker->thread_count + KVS_SIMT_LANES - 1) / KVS_SIMT_LANES;
    if (worker->epoch > UINT32_MAX / 2 && worker->shadow != NULL) { /* long before it wraps */
        memset(worker->shadow, 0, worker->shadow_capacity * sizeof *worker->shadow);
        worker->epoch = 0;
    }
    return reserve_shared(worker, launch->shared_bytes, !grid->options.unchecked) &&
           reserve_lanes(worker, worker->thread_count);
}

/* --- the grid --------------------------------------------------------------------------------------------------------
 */

static int fail_launch(kvs_simt_fault fault, const char *text) {
    last_report.fault = fault;
    snprintf(last_report.text, sizeof last_report.text, "%s", text);
    return (int)fault;
}

/* The kernel in the text of the launch's arguments: up to the first comma outside of brackets, without parentheses. */
static void copy_kernel_name(const char *text, char *name, size_t bytes) {
    size_t length = 0;
    int depth = 0;
    for (; *text != '\0' && !(*text == ',' && depth == 0); text++) {
        if (*text == '<' || *text == '(') depth++;
        if (*text == '>' || *text == ')') depth--;
        if (*text == '(' || *text == ')' || length + 1 >= bytes) continue;
        name[length++] = *text;
    }
    name[length] = '\0';
}

/* The one copy of a kernel's name: requests refer to it after the launch. NULL when memory is short. */
static const char *keep_name(const char *name) {
    static struct kept {
        struct kept *next;
        char name[96];
    } * names;
    const char *found = NULL;
#pragma omp critical(kvs_simt_names)
    {
        struct kept *kept = names;
        while (kept != NULL && strcmp(kept->name, name) != 0) kept = kept->next;
        if (kept == NULL && (kept = malloc(sizeof *kept)) != NULL) {
            snprintf(kept->name, sizeof kept->name, "%s", name);
            kept->next = names;
            names = kept;
        }
        if (kept != NULL) found = kept->name;
    }
    return found;
}

static int check_launch(const kvs_simt_launch *launch) {
    char text[128];
    kvs_dim3 grid = launch->grid, block = launch->block;
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    size_t limit = kvs_simt_shared_limit();
    if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) {
        snprintf(text, sizeof text, "a grid of %u x %u x %u blocks", grid.x, grid.y, grid.z);
        return fail_launch(KVS_SIMT_BAD_LAUNCH, text);
    }
    if (threads == 0 || block.x > 1024 || block.y > 1024 || block.z > 64 || threads > KVS_SIMT_BLOCK_THREADS) {
        snprintf(text, sizeof text, "a block of %u x %u x %u threads", block.x, block.y, block.z);
        return fail_launch(KVS_SIMT_BAD_LAUNCH, text);
    }
    if (launch->shared_bytes > limit) {
        snprintf(text, sizeof text, "%zu bytes of shared memory; a block may have %zu", launch->shared_bytes, limit);
        return fail_launch(KVS_SIMT_SHARED_OVERFLOW, text);
    }
    return 0;
}

/* Blocks that are recorded lie one in each of `sampled` equal shares of the grid, at its first block. */
static int is_sampled(uint64_t block, uint64_t blocks, uint64_t sampled) {
    return block == 0 || (uint64_t)((unsigned __int128)block * sampled / blocks) !=
                             (uint64_t)((unsigned __int128)(block - 1) * sampled / blocks);
}

uint64_t kvs_simt_sampled(uint64_t blocks, uint64_t sample_blocks) {
    return sample_blocks == 0 || sample_blocks > blocks ? blocks : sample_blocks;
}

static void run_worker(kvs_simt_grid *grid, kvs_simt_worker *worker, uint64_t turn) {
    const kvs_simt_options *options = &grid->options;
    uint64_t seed = options->order_seed, start = kvs_random_bits(seed, 0) % grid->blocks;
    uint64_t block = seed == 0 ? turn : (start + (seed % 2 ? grid->blocks - 1 - turn : turn)) % grid->blocks;
    uint64_t sampled = kvs_simt_sampled(grid->blocks, options->sample_blocks);
    int in_sample = is_sampled(block, grid->blocks, sampled);
    if (block > __atomic_load_n(&grid->failed_block, __ATOMIC_RELAXED) || (options->sample_only && !in_sample)) return;
    worker->recording = options->record != NULL && in_sample;
    kvs_simt_run_block(worker, block);
}

/* What runs on each thread of the host. Returns 0 when there is no memory for it. */
static int run_share(kvs_simt_grid *grid, uint64_t *turn) {
    kvs_simt_worker *worker = take_worker();
    if (worker == NULL) return 0;
    kvs_simt_thread *outer = kvs_simt_self;
    int prepared = prepare_worker(worker, grid);
    while (prepared && !kvs_interrupted()) {
        uint64_t mine = __atomic_fetch_add(turn, 1, __ATOMIC_RELAXED);
        if (mine >= grid->blocks) break;
        run_worker(grid, worker, mine);
    }
    kvs_simt_self = outer;
    return_worker(worker);
    return prepared;
}

int kvs_simt_run(const kvs_simt_launch *launch) {
    static uint32_t serial; /* 0 marks bytes that no kernel has written */
    kvs_simt_grid grid = {.launch = launch, .options = settings, .failed_block = UINT64_MAX};
    memset(&last_report, 0, sizeof last_report);
    last_report.warp = last_report.lane = -1;
    copy_kernel_name(launch->text, last_report.kernel, sizeof last_report.kernel);
    int bad = check_launch(launch);
    if (bad != 0) return bad;
    grid.kernel = keep_name(last_report.kernel);
    if (grid.kernel == NULL) return fail_launch(KVS_SIMT_BAD_LAUNCH, "out of memory");
    grid.blocks = last_report.blocks = (uint64_t)launch->grid.x * launch->grid.y * launch->grid.z;
    do grid.serial = __atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED);
    while (grid.serial == 0);
    uint64_t turn = 0;
    int starved = 0;
#ifdef _OPENMP
    int threads = settings.threads > 0 ? settings.threads : omp_get_max_threads();
    if ((uint64_t)threads > grid.blocks) threads = (int)grid.blocks;
#pragma omp parallel num_threads(threads) reduction(+ : starved)
#endif
    starved += !run_share(&grid, &turn);
    if (starved > 0) return fail_launch(KVS_SIMT_BAD_LAUNCH, "no memory for the threads of a block");
    if (grid.failed_block != UINT64_MAX) {
        snprintf(grid.report.kernel, sizeof grid.report.kernel, "%s", grid.kernel);
        last_report = grid.report;
        last_report.blocks = grid.blocks;
        return (int)last_report.fault;
    }
    return kvs_interrupted() ? fail_launch(KVS_SIMT_STOPPED, "the user stopped it") : 0;
}
