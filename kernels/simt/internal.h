/* internal.h: the state of a running block, shared by the files of the SIMT runtime. */
#ifndef KVS_KERNELS_SIMT_INTERNAL_H
#define KVS_KERNELS_SIMT_INTERNAL_H

#include "kernels/simt/fiber.h"
#include "kernels/simt/thread.h"

/* --- global memory (global.c) ---------------------------------------------------------------------------------------
 */

typedef struct kvs_simt_memory {
    const unsigned char *memory;
    size_t bytes;
    uint64_t base; /* the address that kernels see */
    kvs_simt_access access;
    char name[48];
    uint64_t *writers; /* per byte, see global.c; NULL for memory that is only read */
} kvs_simt_memory;

/* --- shared memory (shared.c) ---------------------------------------------------------------------------------------
 */

/* What is known of one byte. Epochs count the barriers and blocks that a worker has seen, so what an earlier block left
 * is old, and nothing is cleared between blocks. */
typedef struct kvs_simt_shadow {
    uint32_t write_epoch, read_epoch;
    uint32_t write_warp_epoch : 20, writer : 11, pending : 1;
    uint32_t read_warp_epoch : 20, reader : 10, readers : 2; /* readers: who read in read_epoch, see shared.c */
} kvs_simt_shadow;

typedef struct kvs_simt_copy {
    unsigned char *shared;
    const unsigned char *global;
    uint32_t group;
} kvs_simt_copy;

/* --- recording (record.c) --------------------------------------------------------------------------------------------
 */

typedef struct kvs_simt_entry {
    kvs_simt_place place;
    const char *code; /* where in the host's code */
    uint64_t address;
    uint32_t to; /* of a copy */
    uint16_t kind, width;
} kvs_simt_entry;

typedef struct kvs_simt_recorder {
    kvs_simt_request *requests; /* in program order, not handed over yet */
    size_t count, capacity;
} kvs_simt_recorder;

/* --- threads, warps, blocks ------------------------------------------------------------------------------------------
 */

typedef enum kvs_simt_state { KVS_SIMT_READY, KVS_SIMT_WAITING, KVS_SIMT_ENDED } kvs_simt_state;

typedef struct kvs_simt_lane {
    kvs_simt_thread thread; /* first: kvs_simt_self points here */
    kvs_simt_state state;
    uint32_t number, lane; /* in the block, in the warp */
    struct kvs_simt_warp *warp;
    /* the meeting it waits at */
    kvs_simt_meeting meeting;
    kvs_simt_place place;
    const void *in;
    void *out;
    uint32_t bytes, argument;
    /* since its last meeting */
    uint32_t touches;
    kvs_simt_entry *log;
    uint32_t log_count, log_capacity;
    /* asynchronous copies: groups below copy_group are committed */
    kvs_simt_copy *copies;
    uint32_t copy_first, copy_count, copy_capacity, copy_group;
    kvs_fiber fiber;
} kvs_simt_lane;

typedef struct kvs_simt_warp {
    struct kvs_simt_worker *worker;
    kvs_simt_lane *lanes;
    uint32_t number, lane_count, live, cursor, epoch;
    kvs_simt_state state; /* WAITING: at a barrier */
    uint8_t order[KVS_SIMT_LANES];
} kvs_simt_warp;

/* What runs blocks on one thread of the host; kept from launch to launch. */
typedef struct kvs_simt_worker {
    struct kvs_simt_grid *grid;
    kvs_simt_view view;
    uint64_t block; /* number of the block at hand */
    int failed, recording;
    uint64_t random;
    uint32_t thread_count, warp_count;
    uint32_t epoch, first_epoch; /* of the interval between barriers, of the block */
    int acquired;                /* the block has made an atomic access: it may read what other blocks wrote */
    kvs_fiber main;
    kvs_fiber_stacks stacks;
    kvs_simt_lane *lanes;
    uint32_t lane_capacity;
    kvs_simt_warp warps[KVS_SIMT_BLOCK_THREADS / KVS_SIMT_LANES];
    unsigned char *shared;
    kvs_simt_shadow *shadow;
    size_t shared_capacity, shadow_capacity;
    const kvs_simt_memory *last_memory;
    kvs_simt_recorder recorder;
    struct kvs_simt_worker *next; /* in the pool of idle workers */
} kvs_simt_worker;

/* One launch. */
typedef struct kvs_simt_grid {
    const kvs_simt_launch *launch;
    kvs_simt_options options;
    uint64_t blocks, serial;
    const char *kernel;    /* its name; outlives the launch */
    uint64_t failed_block; /* the lowest block with a fault; UINT64_MAX: none */
    kvs_simt_report report;
} kvs_simt_grid;

static inline kvs_simt_lane *kvs_simt_lane_self(void) {
    return (kvs_simt_lane *)(void *)kvs_simt_self;
}

/* Notes a fault of this lane (fault.c) and leaves the block for good: never returns. From a fiber only. */
__attribute__((noreturn)) void kvs_simt_raise(kvs_simt_lane *lane, kvs_simt_fault fault, kvs_simt_place place,
                                              const char *text, ...) KVS_PRINTF(4, 5);
/* Notes a fault without leaving; lane may be NULL. For code that runs on the worker's own stack. */
void kvs_simt_note(kvs_simt_worker *worker, const kvs_simt_lane *lane, kvs_simt_fault fault, kvs_simt_place place,
                   const char *text, ...) KVS_PRINTF(5, 6);
/* "warp 1 lane 2" of a thread's number in the block. */
const char *kvs_simt_thread_text(uint32_t number, char text[32]);

/* Does what the warp's lanes, which all wait at one meeting, came for (collective.c). */
void kvs_simt_act(kvs_simt_warp *warp, kvs_simt_lane *first);

/* kvs_simt_touch for an entry whose address is still the host's (block.c). */
void kvs_simt_touch_entry(kvs_simt_entry entry);

/* Runs one block; the grid's report has its fault (block.c). */
void kvs_simt_run_block(kvs_simt_worker *worker, uint64_t block);

/* Global memory: what holds this access (NULL: nothing), and the checks of one access. */
const kvs_simt_memory *kvs_simt_find(kvs_simt_worker *worker, const void *address, uint32_t width);
void kvs_simt_check_global(kvs_simt_lane *lane, kvs_simt_kind kind, const void *address, uint32_t width,
                           kvs_simt_place place);

/* Shared memory: bounds and alignment of one access, then its checks, as a read or as a write. */
void kvs_simt_check_shared(kvs_simt_lane *lane, const void *address, uint32_t width, int write, kvs_simt_place place);

/* Logs one access; groups and hands over what the lanes of a warp have logged since their last meeting. */
void kvs_simt_log(kvs_simt_lane *lane, const kvs_simt_entry *entry);
void kvs_simt_group_log(kvs_simt_warp *warp);
void kvs_simt_hand_over(kvs_simt_worker *worker);

#endif
