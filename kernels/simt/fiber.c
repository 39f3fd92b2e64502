#include "kernels/simt/fiber.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if !defined(__SANITIZE_ADDRESS__) && defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1 /* as gcc says it */
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
enum { STACK_BYTES = 512 << 10 }; /* red zones around every local variable */
#else
enum { STACK_BYTES = 64 << 10 };
#endif

/* --- stacks ----------------------------------------------------------------------------------------------------------
 */

kvs_status kvs_fiber_stacks_reserve(kvs_fiber_stacks *stacks, size_t count, kvs_error *error) {
    if (stacks->count >= count) return KVS_OK;
    kvs_fiber_stacks_free(stacks);
    size_t page = (size_t)sysconf(_SC_PAGESIZE), stride = STACK_BYTES + page;
    char *memory = mmap(NULL, stride * count, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int failed = memory == MAP_FAILED;
    for (size_t i = 0; i < count && !failed; i++)
        failed = mprotect(memory + i * stride + page, STACK_BYTES, PROT_READ | PROT_WRITE) != 0;
    if (failed) {
        if (memory != MAP_FAILED) munmap(memory, stride * count);
        return kvs_fail(error, KVS_INPUT, "SIMT runtime", "stacks", "no memory for %zu stacks of %d bytes", count,
                        STACK_BYTES);
    }
    *stacks = (kvs_fiber_stacks){memory, count, STACK_BYTES, stride, stride * count};
    return KVS_OK;
}

void kvs_fiber_stacks_free(kvs_fiber_stacks *stacks) {
    if (stacks->memory != NULL) munmap(stacks->memory, stacks->bytes);
    memset(stacks, 0, sizeof *stacks);
}

/* --- the switch ------------------------------------------------------------------------------------------------------
 */

/* Runs on the new fiber's own stack. */
__attribute__((noreturn, used)) static void enter(kvs_fiber *fiber) {
#ifdef __SANITIZE_ADDRESS__
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(NULL, &bottom, &bytes);
    if (fiber->caller->stack == NULL) {
        fiber->caller->stack = (char *)(uintptr_t)bottom;
        fiber->caller->stack_bytes = bytes;
    }
#endif
    fiber->entry(fiber->argument);
    __builtin_trap(); /* entry returned, against its contract */
}

#ifdef KVS_SIMT_UCONTEXT

static void enter_context(unsigned high, unsigned low) {
    enter((kvs_fiber *)(((uintptr_t)high << 16 << 16) | low));
}

static void prepare(kvs_fiber *fiber, char *top) {
    (void)top;
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = fiber->stack_bytes;
    fiber->context.uc_link = NULL;
    uintptr_t word = (uintptr_t)fiber; /* makecontext hands over ints only */
    makecontext(&fiber->context, (void (*)(void))(uintptr_t)enter_context, 2, (unsigned)(word >> 16 >> 16),
                (unsigned)word);
}

static void swap(kvs_fiber *from, kvs_fiber *to) {
    swapcontext(&from->context, &to->context);
}

#else

/* Saves the registers that a call preserves on this stack, stores the stack pointer in *save, continues on `load`. */
void kvs_fiber_swap(void **save, void *load);
/* Where a new fiber begins: calls the function in one preserved register with the argument in another. */
void kvs_fiber_first(void);

#if defined(__x86_64__)
/* The jump through rcx, rather than a return, leaves the processor's prediction of returns in step. */
__asm__(".text\n.p2align 4\n.globl kvs_fiber_swap\n.hidden kvs_fiber_swap\n.type kvs_fiber_swap,@function\n"
        "kvs_fiber_swap:\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
        "  popq %rcx\n  jmp *%rcx\n"
        ".size kvs_fiber_swap,.-kvs_fiber_swap\n"
        ".p2align 4\n.globl kvs_fiber_first\n.hidden kvs_fiber_first\n.type kvs_fiber_first,@function\n"
        "kvs_fiber_first:\n  movq %r12, %rdi\n  call *%r13\n  ud2\n"
        ".size kvs_fiber_first,.-kvs_fiber_first\n");
enum { SAVED_WORDS = 7, ARGUMENT_WORD = 3, ENTRY_WORD = 2, RETURN_WORD = 6 };
#else
__asm__(".text\n.p2align 4\n.globl kvs_fiber_swap\n.hidden kvs_fiber_swap\n.type kvs_fiber_swap,%function\n"
        "kvs_fiber_swap:\n"
        "  sub sp, sp, #160\n"
        "  stp x19, x20, [sp]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n  stp x25, x26, [sp, #48]\n"
        "  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n"
        "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
        "  mov x9, sp\n  str x9, [x0]\n  mov sp, x1\n"
        "  ldp x19, x20, [sp]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n  ldp x25, x26, [sp, #48]\n"
        "  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n"
        "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
        "  add sp, sp, #160\n  ret\n"
        ".size kvs_fiber_swap,.-kvs_fiber_swap\n"
        ".p2align 4\n.globl kvs_fiber_first\n.hidden kvs_fiber_first\n.type kvs_fiber_first,%function\n"
        "kvs_fiber_first:\n  mov x0, x19\n  blr x20\n  brk #1\n"
        ".size kvs_fiber_first,.-kvs_fiber_first\n");
enum { SAVED_WORDS = 20, ARGUMENT_WORD = 0, ENTRY_WORD = 1, RETURN_WORD = 11 };
#endif

static void prepare(kvs_fiber *fiber, char *top) {
    void **words = (void **)(uintptr_t)top - SAVED_WORDS;
    memset(words, 0, SAVED_WORDS * sizeof *words);
    words[ARGUMENT_WORD] = fiber;
    words[ENTRY_WORD] = (void *)(uintptr_t)enter;
    words[RETURN_WORD] = (void *)(uintptr_t)kvs_fiber_first;
    fiber->stack_pointer = words;
}

static void swap(kvs_fiber *from, kvs_fiber *to) {
    kvs_fiber_swap(&from->stack_pointer, to->stack_pointer);
}

#endif

void kvs_fiber_start(kvs_fiber *fiber, const kvs_fiber_stacks *stacks, size_t index, void (*entry)(void *),
                     void *argument) {
    fiber->stack = stacks->memory + (index + 1) * stacks->stride - stacks->stack_bytes;
    fiber->stack_bytes = stacks->stack_bytes;
    fiber->entry = entry;
    fiber->argument = argument;
    fiber->fake_stack = NULL;
    fiber->caller = NULL;
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(fiber->stack, fiber->stack_bytes); /* what the stack's last user left */
#endif
    /* Tops differ by a few cache lines, or the hot part of all stacks would compete for one set of the cache. */
    prepare(fiber, fiber->stack + fiber->stack_bytes - index % 32 * 192);
}

void kvs_fiber_switch(kvs_fiber *from, kvs_fiber *to) {
    to->caller = from;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
#endif
    swap(from, to);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
}
