/* Shared memory under watch, byte by byte: unwritten, pending and raced bytes are told apart by kvs_simt_shadow.
 *
 * Two accesses are in order when one thread makes both, when a syncthreads lies between them (another epoch), or when
 * one warp makes both with a syncwarp between (another epoch of the warp). Shuffles, votes and matrix operations order
 * nothing. Of the readers since the last barrier enough is kept to decide whether a writer is in order with all. */
#include <stdlib.h>
#include <string.h>

#include "kernels/simt/internal.h"

/* kvs_simt_shadow.readers: `reader` is a thread, a warp of which several lanes read in read_warp_epoch, or nothing. */
enum { ONE_THREAD, ONE_WARP, SEVERAL_WARPS };
enum { WARP_EPOCHS = 1 << 20 };

typedef struct access {
    kvs_simt_lane *lane;
    uint32_t epoch, warp_epoch, offset;
    kvs_simt_place place;
} access;

static __attribute__((noreturn)) void raise_race(const access *at, const char *what, uint32_t by) {
    char text[32];
    kvs_simt_raise(at->lane, KVS_SIMT_RACE, at->place, "%s shared byte %u, without a barrier between: %s", what,
                   at->offset, kvs_simt_thread_text(by, text));
}

/* Whether what thread `by` did in that epoch of its warp, since the last barrier, is in order with this access. */
static int in_order(const access *at, uint32_t by, uint32_t warp_epoch) {
    return by == at->lane->number || (by / KVS_SIMT_LANES == at->lane->warp->number && warp_epoch != at->warp_epoch);
}

static void check_state(const access *at, const kvs_simt_shadow *s, int write) {
    int written = s->write_epoch >= at->lane->warp->worker->first_epoch;
    if (written && s->pending) {
        char text[32];
        kvs_simt_raise(at->lane, KVS_SIMT_PENDING_COPY, at->place,
                       "%s shared byte %u, which an asynchronous copy of %s may still write",
                       write ? "writes" : "reads", at->offset, kvs_simt_thread_text(s->writer, text));
    }
    if (!written && !write)
        kvs_simt_raise(at->lane, KVS_SIMT_UNWRITTEN_READ, at->place,
                       "reads shared byte %u, which this block has not written", at->offset);
    if (s->write_epoch == at->epoch && !in_order(at, s->writer, s->write_warp_epoch))
        raise_race(at, write ? "overwrites what another thread wrote to" : "reads what another thread wrote to",
                   s->writer);
}

static void note_read(const access *at, kvs_simt_shadow *s) {
    uint32_t number = at->lane->number, warp = at->lane->warp->number;
    check_state(at, s, 0);
    if (s->read_epoch == at->epoch && s->readers == SEVERAL_WARPS) return;
    if (s->read_epoch == at->epoch) {
        uint32_t other = s->readers == ONE_WARP ? s->reader : s->reader / KVS_SIMT_LANES;
        if (other != warp) {
            s->readers = SEVERAL_WARPS;
            return;
        }
        if (s->read_warp_epoch == at->warp_epoch) {
            if (s->readers == ONE_WARP || s->reader == number) return;
            s->readers = ONE_WARP;
            s->reader = warp & 0x3ff;
            return;
        }
    }
    s->read_epoch = at->epoch;
    s->read_warp_epoch = at->warp_epoch & (WARP_EPOCHS - 1);
    s->readers = ONE_THREAD;
    s->reader = number & 0x3ff;
}

static void note_write(const access *at, kvs_simt_shadow *s, int pending) {
    check_state(at, s, 1);
    if (s->read_epoch == at->epoch) {
        if (s->readers == SEVERAL_WARPS ||
            (s->readers == ONE_WARP && (s->reader != at->lane->warp->number || s->read_warp_epoch == at->warp_epoch)))
            kvs_simt_raise(at->lane, KVS_SIMT_RACE, at->place,
                           "overwrites what several threads read from shared byte %u, without a barrier between",
                           at->offset);
        if (s->readers == ONE_THREAD && !in_order(at, s->reader, s->read_warp_epoch))
            raise_race(at, "overwrites what another thread read from", s->reader);
    }
    s->write_epoch = at->epoch;
    s->write_warp_epoch = at->warp_epoch & (WARP_EPOCHS - 1);
    s->writer = at->lane->number & 0x7ff;
    s->pending = pending != 0;
}

enum { READ, WRITE, BEGIN_COPY };

static void check(kvs_simt_lane *lane, const void *address, uint32_t width, int how, kvs_simt_place place) {
    kvs_simt_worker *worker = lane->warp->worker;
    size_t bytes = worker->grid->launch->shared_bytes;
    uint64_t offset = (uint64_t)((uintptr_t)address - (uintptr_t)worker->shared);
    if (offset >= bytes || bytes - offset < width)
        kvs_simt_raise(lane, KVS_SIMT_SHARED_OVERFLOW, place, "%u bytes at byte %lld of %zu bytes of shared memory",
                       width, (long long)offset, bytes);
    if (offset % width != 0)
        kvs_simt_raise(lane, KVS_SIMT_MISALIGNED, place, "%u bytes at byte %llu of shared memory", width,
                       (unsigned long long)offset);
    if (lane->warp->epoch >= WARP_EPOCHS)
        kvs_simt_raise(lane, KVS_SIMT_BAD_LAUNCH, place, "more than %d syncwarps between two barriers",
                       WARP_EPOCHS - 1);
    access at = {lane, worker->epoch, lane->warp->epoch, (uint32_t)offset, place};
    kvs_simt_shadow *s = worker->shadow + offset, old = s[0];
    for (uint32_t i = 0; i < width; i++, at.offset++) {
        if (i > 0 && memcmp(&s[i], &old, sizeof old) == 0)
            s[i] = s[0]; /* the usual case: all bytes have the same past */
        else if (how == READ)
            note_read(&at, &s[i]);
        else
            note_write(&at, &s[i], how == BEGIN_COPY);
    }
}

void kvs_simt_check_shared(kvs_simt_lane *lane, const void *address, uint32_t width, int write, kvs_simt_place place) {
    check(lane, address, width, write ? WRITE : READ, place);
}

/* --- asynchronous copies -------------------------------------------------------------------------------------------
 */

enum { COPY_BYTES = 16 };

void kvs_simt_copy_begin(void *shared, const void *global, kvs_simt_place place) {
    kvs_simt_lane *lane = kvs_simt_lane_self();
    kvs_simt_worker *worker = lane->warp->worker;
    uint32_t to = (uint32_t)((uintptr_t)shared - (uintptr_t)worker->shared);
    if (lane->thread.watched)
        kvs_simt_touch_entry((kvs_simt_entry){place, __builtin_return_address(0), (uint64_t)(uintptr_t)global, to,
                                              KVS_SIMT_COPY, COPY_BYTES});
    if (!worker->grid->options.unchecked) check(lane, shared, COPY_BYTES, BEGIN_COPY, place);
    if (lane->copy_count == lane->copy_capacity) {
        uint32_t capacity = lane->copy_capacity > 0 ? 2 * lane->copy_capacity : 64;
        kvs_simt_copy *copies = realloc(lane->copies, capacity * sizeof *copies);
        if (copies == NULL) kvs_simt_raise(lane, KVS_SIMT_BAD_LAUNCH, place, "no memory for %u copies", capacity);
        lane->copies = copies;
        lane->copy_capacity = capacity;
    }
    memset(shared, 0xff, COPY_BYTES); /* NaN in every floating format until the copy is waited for */
    lane->copies[lane->copy_count++] = (kvs_simt_copy){shared, global, lane->copy_group};
}

void kvs_simt_copy_commit(void) {
    kvs_simt_lane_self()->copy_group++;
}

void kvs_simt_copy_wait(uint32_t open) {
    kvs_simt_lane *lane = kvs_simt_lane_self();
    kvs_simt_worker *worker = lane->warp->worker;
    while (lane->copy_first < lane->copy_count) {
        const kvs_simt_copy *copy = &lane->copies[lane->copy_first];
        if ((uint64_t)copy->group + open >= lane->copy_group) return;
        memcpy(copy->shared, copy->global, COPY_BYTES);
        lane->copy_first++;
        if (worker->grid->options.unchecked) continue;
        kvs_simt_shadow *s = worker->shadow + (copy->shared - worker->shared);
        for (int i = 0; i < COPY_BYTES; i++) { /* to others, it is now that this thread has written them */
            s[i].write_epoch = worker->epoch;
            s[i].write_warp_epoch = lane->warp->epoch & (WARP_EPOCHS - 1);
            s[i].pending = 0;
        }
    }
    lane->copy_first = lane->copy_count = 0;
}
