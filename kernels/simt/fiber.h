/* fiber.h: several stacks on one thread of the host, and the switch between them.
 *
 * On x86-64 and AArch64 a switch saves the registers that a call preserves and takes a few nanoseconds; elsewhere (or
 * with KVS_SIMT_UCONTEXT) it is swapcontext. AddressSanitizer is told of every switch. A fiber stays on the thread of
 * the host that started it. */
#ifndef KVS_KERNELS_SIMT_FIBER_H
#define KVS_KERNELS_SIMT_FIBER_H

#include <stddef.h>

#include "core/status.h"

#if !defined(__x86_64__) && !defined(__aarch64__) && !defined(KVS_SIMT_UCONTEXT)
#define KVS_SIMT_UCONTEXT 1
#endif
#ifdef KVS_SIMT_UCONTEXT
#include <ucontext.h>
#endif

typedef struct kvs_fiber {
    void *stack_pointer; /* where it stopped; unused by swapcontext */
    void *fake_stack;    /* AddressSanitizer's */
    char *stack;         /* its lowest byte; NULL for a thread's own stack until a fiber has been entered from it */
    size_t stack_bytes;
    void (*entry)(void *);
    void *argument;
    struct kvs_fiber *caller; /* that of kvs_fiber_switch, while it is entered for the first time */
#ifdef KVS_SIMT_UCONTEXT
    ucontext_t context;
#endif
} kvs_fiber;

/* Stacks of one size, each above a page that faults when touched: a stack that overflows ends the program. */
typedef struct kvs_fiber_stacks {
    char *memory;
    size_t count, stack_bytes, stride, bytes;
} kvs_fiber_stacks;

/* Makes room for count stacks, dropping what was there. Fails with KVS_INPUT when memory is short. */
KVS_MUST_CHECK kvs_status kvs_fiber_stacks_reserve(kvs_fiber_stacks *stacks, size_t count, kvs_error *error);
void kvs_fiber_stacks_free(kvs_fiber_stacks *stacks);

/* Prepares a fiber on stack `index` that calls entry(argument) when it is first switched to. entry never returns; a
 * fiber that was left for good needs no end. */
void kvs_fiber_start(kvs_fiber *fiber, const kvs_fiber_stacks *stacks, size_t index, void (*entry)(void *),
                     void *argument);

/* Stops `from`, which must be what runs, and goes on where `to` stopped. Returns when something switches to `from`. */
void kvs_fiber_switch(kvs_fiber *from, kvs_fiber *to);

#endif
