#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernels/simt/internal.h"

const char *const kvs_simt_fault_names[KVS_SIMT_FAULTS] = {
    [KVS_SIMT_NO_FAULT] = "no fault",
    [KVS_SIMT_BAD_LAUNCH] = "bad launch",
    [KVS_SIMT_DEADLOCK] = "deadlock",
    [KVS_SIMT_BARRIER_DIVERGENCE] = "barrier divergence",
    [KVS_SIMT_INACTIVE_LANE] = "inactive lane",
    [KVS_SIMT_OUT_OF_BOUNDS] = "out of bounds",
    [KVS_SIMT_SHARED_OVERFLOW] = "shared memory overflow",
    [KVS_SIMT_READ_ONLY_WRITE] = "write to read-only memory",
    [KVS_SIMT_MISALIGNED] = "misaligned access",
    [KVS_SIMT_UNWRITTEN_READ] = "read of unwritten memory",
    [KVS_SIMT_PENDING_COPY] = "asynchronous copy not waited for",
    [KVS_SIMT_RACE] = "race",
    [KVS_SIMT_STOPPED] = "interrupted",
};

const char *kvs_simt_thread_text(uint32_t number, char text[32]) {
    snprintf(text, 32, "warp %u lane %u", number / KVS_SIMT_LANES, number % KVS_SIMT_LANES);
    return text;
}

static void note(kvs_simt_worker *worker, const kvs_simt_lane *lane, kvs_simt_fault fault, kvs_simt_place place,
                 const char *text, va_list arguments) {
    kvs_simt_grid *grid = worker->grid;
    worker->failed = 1;
#pragma omp critical(kvs_simt_fault)
    if (worker->block < grid->failed_block) {
        kvs_simt_report *report = &grid->report;
        __atomic_store_n(&grid->failed_block, worker->block, __ATOMIC_RELAXED);
        report->fault = fault;
        report->block = worker->view.block_index;
        report->warp = lane != NULL ? (int)lane->warp->number : -1;
        report->lane = lane != NULL ? (int)lane->lane : -1;
        report->file = place.file;
        report->line = place.line;
        vsnprintf(report->text, sizeof report->text, text, arguments);
    }
}

void kvs_simt_note(kvs_simt_worker *worker, const kvs_simt_lane *lane, kvs_simt_fault fault, kvs_simt_place place,
                   const char *text, ...) {
    va_list arguments;
    va_start(arguments, text);
    note(worker, lane, fault, place, text, arguments);
    va_end(arguments);
}

void kvs_simt_raise(kvs_simt_lane *lane, kvs_simt_fault fault, kvs_simt_place place, const char *text, ...) {
    va_list arguments;
    va_start(arguments, text);
    note(lane->warp->worker, lane, fault, place, text, arguments);
    va_end(arguments);
    kvs_fiber_switch(&lane->fiber, &lane->warp->worker->main);
    __builtin_trap(); /* nothing switches to a block that failed */
}
