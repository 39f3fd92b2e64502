/* The threads of one block take turns here. A thread runs until it meets others: the rest of its warp, or at a barrier
 * the rest of its block. Accesses to memory never switch. */
#include <string.h>

#include "core/random.h"
#include "kernels/simt/internal.h"

__thread kvs_simt_thread *kvs_simt_self;

static uint32_t draw(kvs_simt_worker *worker, uint32_t below) {
    worker->random = kvs_random_mix(worker->random);
    return (uint32_t)((worker->random >> 32) * below >> 32);
}

static void run_lane(kvs_fiber *from, kvs_simt_lane *lane) {
    kvs_simt_self = &lane->thread;
    kvs_fiber_switch(from, &lane->fiber);
}

/* The next lane of the warp's order that can run, or NULL. */
static kvs_simt_lane *next_lane(kvs_simt_warp *warp) {
    while (warp->cursor < warp->lane_count) {
        kvs_simt_lane *lane = &warp->lanes[warp->order[warp->cursor++]];
        if (lane->state == KVS_SIMT_READY) return lane;
    }
    return NULL;
}

static void shuffle_lanes(kvs_simt_warp *warp) {
    for (uint32_t i = warp->lane_count; i > 1; i--) {
        uint32_t j = draw(warp->worker, i);
        uint8_t kept = warp->order[i - 1];
        warp->order[i - 1] = warp->order[j];
        warp->order[j] = kept;
    }
}

static void begin_turn(kvs_simt_warp *warp) {
    warp->cursor = 0;
    if (warp->worker->grid->options.order_seed != 0) shuffle_lanes(warp);
}

static const char *meeting_name(kvs_simt_meeting meeting) {
    static const char *const names[KVS_SIMT_MEETINGS] = {
        [KVS_SIMT_SHFL] = "shfl",
        [KVS_SIMT_SHFL_XOR] = "shfl_xor",
        [KVS_SIMT_SHFL_DOWN] = "shfl_down",
        [KVS_SIMT_BALLOT] = "ballot",
        [KVS_SIMT_ANY] = "any",
        [KVS_SIMT_ALL] = "all",
        [KVS_SIMT_SYNCWARP] = "syncwarp",
        [KVS_SIMT_SYNCTHREADS] = "syncthreads",
        [KVS_SIMT_LDMATRIX_ROWS] = "ldmatrix",
        [KVS_SIMT_LDMATRIX_COLUMNS] = "ldmatrix_trans",
        [KVS_SIMT_MMA] = "mma",
    };
    return names[meeting];
}

static int same_meeting(const kvs_simt_lane *a, const kvs_simt_lane *b) {
    return a->meeting == b->meeting && a->place.line == b->place.line && a->place.column == b->place.column &&
           (a->place.file == b->place.file || strcmp(a->place.file, b->place.file) == 0);
}

static void note_deadlock(const kvs_simt_lane *one, const kvs_simt_lane *other) {
    int barrier = one->meeting == KVS_SIMT_SYNCTHREADS && other->meeting == KVS_SIMT_SYNCTHREADS;
    char text[32];
    kvs_simt_note(one->warp->worker, one, barrier ? KVS_SIMT_BARRIER_DIVERGENCE : KVS_SIMT_DEADLOCK, one->place,
                  "waits at %s, but %s waits at %s in %s:%d: neither goes on", meeting_name(one->meeting),
                  kvs_simt_thread_text(other->number, text), meeting_name(other->meeting), other->place.file,
                  other->place.line);
}

/* Every lane of the warp waits or has ended. Returns the lane to go on with, or NULL: back to the block. */
static kvs_simt_lane *settle(kvs_simt_warp *warp) {
    kvs_simt_worker *worker = warp->worker;
    kvs_simt_lane *first = NULL;
    if (worker->recording) kvs_simt_group_log(warp);
    for (uint32_t i = 0; i < warp->lane_count; i++) {
        kvs_simt_lane *lane = &warp->lanes[i];
        lane->touches = 0;
        if (lane->state == KVS_SIMT_ENDED) continue;
        if (first == NULL) first = lane;
        if (!same_meeting(first, lane)) {
            note_deadlock(first, lane);
            return NULL;
        }
    }
    if (first == NULL) {
        warp->state = KVS_SIMT_ENDED;
        return NULL;
    }
    if (first->meeting == KVS_SIMT_SYNCTHREADS) {
        warp->state = KVS_SIMT_WAITING;
        return NULL;
    }
    kvs_simt_act(warp, first);
    if (worker->failed) return NULL;
    for (uint32_t i = 0; i < warp->lane_count; i++)
        if (warp->lanes[i].state == KVS_SIMT_WAITING) warp->lanes[i].state = KVS_SIMT_READY;
    begin_turn(warp);
    if (worker->grid->options.order_seed != 0 && draw(worker, 4) == 0) return NULL; /* let other warps overtake */
    return next_lane(warp);
}

/* Leaves a lane that waits or has ended. */
static void pass_on(kvs_simt_lane *lane) {
    kvs_simt_lane *next = next_lane(lane->warp);
    if (next == NULL) next = settle(lane->warp);
    if (next == lane) return;
    if (next != NULL)
        run_lane(&lane->fiber, next);
    else
        kvs_fiber_switch(&lane->fiber, &lane->warp->worker->main);
}

void kvs_simt_meet(kvs_simt_meeting meeting, const void *in, void *out, uint32_t bytes, uint32_t argument,
                   kvs_simt_place place) {
    kvs_simt_lane *lane = kvs_simt_lane_self();
    lane->meeting = meeting;
    lane->place = place;
    lane->in = in;
    lane->out = out;
    lane->bytes = bytes;
    lane->argument = argument;
    lane->state = KVS_SIMT_WAITING;
    pass_on(lane);
}

static void thread_entry(void *argument) {
    kvs_simt_lane *lane = argument;
    const kvs_simt_launch *launch = lane->warp->worker->grid->launch;
    launch->run(launch->closure);
    lane->state = KVS_SIMT_ENDED;
    pass_on(lane);
}

void kvs_simt_touch(kvs_simt_kind kind, const void *address, uint32_t width, kvs_simt_place place) {
    kvs_simt_touch_entry((kvs_simt_entry){place, __builtin_return_address(0), (uint64_t)(uintptr_t)address, 0,
                                          (uint16_t)kind, (uint16_t)width});
}

void kvs_simt_touch_entry(kvs_simt_entry entry) {
    kvs_simt_lane *lane = kvs_simt_lane_self();
    kvs_simt_worker *worker = lane->warp->worker;
    kvs_simt_kind kind = (kvs_simt_kind)entry.kind;
    const void *address = (const void *)(uintptr_t)entry.address;
    int shared = kind > KVS_SIMT_COPY;
    if (!worker->grid->options.unchecked) {
        if (++lane->touches > KVS_SIMT_SPIN_LIMIT)
            kvs_simt_raise(lane, KVS_SIMT_DEADLOCK, entry.place, "makes %d accesses without meeting another thread",
                           KVS_SIMT_SPIN_LIMIT);
        if (shared)
            kvs_simt_check_shared(lane, address, entry.width, kind == KVS_SIMT_STORE_SHARED, entry.place);
        else
            kvs_simt_check_global(lane, kind, address, entry.width, entry.place);
    }
    if (!worker->recording) return;
    if (shared) {
        entry.address -= (uint64_t)(uintptr_t)worker->shared;
    } else {
        const kvs_simt_memory *memory = kvs_simt_find(worker, address, entry.width);
        if (memory != NULL) entry.address += memory->base - (uint64_t)(uintptr_t)memory->memory;
    }
    kvs_simt_log(lane, &entry);
}

/* --- the block --------------------------------------------------------------------------------------------------- */

static void begin_block(kvs_simt_worker *worker, uint64_t block) {
    const kvs_simt_launch *launch = worker->grid->launch;
    kvs_dim3 grid = launch->grid, dim = launch->block;
    uint64_t row = block / grid.x;
    worker->block = block;
    worker->view = (kvs_simt_view){
        {(unsigned)(block % grid.x), (unsigned)(row % grid.y), (unsigned)(row / grid.y)}, dim, grid, worker->shared};
    worker->failed = worker->acquired = 0;
    worker->first_epoch = ++worker->epoch;
    worker->random = kvs_random_key(worker->grid->options.order_seed, block);
    /* What nobody has written reads as NaN in every floating format. */
    if (launch->shared_bytes > 0) memset(worker->shared, 0xff, launch->shared_bytes);
    int watched = worker->recording || !worker->grid->options.unchecked;
    for (uint32_t w = 0; w < worker->warp_count; w++) {
        kvs_simt_warp *warp = &worker->warps[w];
        uint32_t begin = w * KVS_SIMT_LANES, left = worker->thread_count - begin;
        *warp = (kvs_simt_warp){.worker = worker, .lanes = worker->lanes + begin, .number = w, .state = KVS_SIMT_READY};
        warp->lane_count = left < KVS_SIMT_LANES ? left : KVS_SIMT_LANES;
        for (uint32_t l = 0; l < warp->lane_count; l++) {
            kvs_simt_lane *lane = &warp->lanes[l];
            uint32_t number = begin + l;
            warp->order[l] = (uint8_t)l;
            lane->thread = (kvs_simt_thread){
                {number % dim.x, number / dim.x % dim.y, number / dim.x / dim.y}, watched, &worker->view};
            lane->state = KVS_SIMT_READY;
            lane->number = number;
            lane->lane = l;
            lane->warp = warp;
            lane->touches = lane->log_count = 0;
            lane->copy_first = lane->copy_count = lane->copy_group = 0;
            kvs_fiber_start(&lane->fiber, &worker->stacks, number, thread_entry, lane);
        }
        begin_turn(warp);
    }
}

/* All warps wait at a barrier or have ended; lets them go on. Returns 0 when the block is done. */
static int open_barrier(kvs_simt_worker *worker) {
    kvs_simt_lane *first = NULL;
    for (uint32_t i = 0; i < worker->thread_count; i++) {
        kvs_simt_lane *lane = &worker->lanes[i];
        if (lane->state == KVS_SIMT_ENDED) continue;
        if (first == NULL) first = lane;
        if (!same_meeting(first, lane)) {
            note_deadlock(first, lane);
            return 0;
        }
        lane->state = KVS_SIMT_READY;
    }
    if (first == NULL) return 0;
    worker->epoch++;
    for (uint32_t w = 0; w < worker->warp_count; w++) {
        kvs_simt_warp *warp = &worker->warps[w];
        if (warp->state == KVS_SIMT_ENDED) continue;
        warp->state = KVS_SIMT_READY;
        warp->epoch = 0;
        begin_turn(warp);
    }
    return 1;
}

static kvs_simt_warp *next_warp(kvs_simt_worker *worker) {
    uint32_t start = worker->grid->options.order_seed != 0 ? draw(worker, worker->warp_count) : 0;
    for (uint32_t i = 0; i < worker->warp_count; i++) {
        kvs_simt_warp *warp = &worker->warps[(start + i) % worker->warp_count];
        if (warp->state == KVS_SIMT_READY) return warp;
    }
    return NULL;
}

void kvs_simt_run_block(kvs_simt_worker *worker, uint64_t block) {
    begin_block(worker, block);
    do {
        kvs_simt_warp *warp;
        while (!worker->failed && (warp = next_warp(worker)) != NULL) run_lane(&worker->main, next_lane(warp));
    } while (!worker->failed && open_barrier(worker));
    if (worker->recording) kvs_simt_hand_over(worker);
}
