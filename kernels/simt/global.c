/* Global memory: what is registered, and the checks of one access to it.
 *
 * Of each byte that kernels may write, two words tell the last writer: (launch, block), and (thread, barriers and
 * syncwarps before). Reads are not kept, so a write after another block's read is found only in the order of blocks in
 * which the write comes first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/simt/internal.h"

enum { BASE_STEP = 512, WORDS = 2 };
static const uint64_t first_base = (uint64_t)1 << 32;
static const uint32_t by_atomic = 0xffffffffu; /* in the place of a block: atomic accesses do not race */

static kvs_simt_memory *memories; /* ascending by address */
static size_t memory_count, memory_capacity;
static uint64_t next_base;

kvs_status kvs_simt_register(const void *memory, size_t bytes, const char *name, kvs_simt_access access,
                             kvs_error *error) {
    const unsigned char *begin = memory;
    if (bytes == 0 || (uintptr_t)begin % 16 != 0)
        return kvs_fail(error, KVS_USAGE, "SIMT runtime", name,
                        "memory must start at a multiple of 16 and not be empty");
    size_t at = 0;
    while (at < memory_count && memories[at].memory < begin) at++;
    if ((at > 0 && memories[at - 1].memory + memories[at - 1].bytes > begin) ||
        (at < memory_count && begin + bytes > memories[at].memory))
        return kvs_fail(error, KVS_USAGE, "SIMT runtime", name, "overlaps memory that is registered already");
    uint64_t *writers = NULL;
    if (access != KVS_SIMT_READ_ONLY && (writers = calloc(bytes, WORDS * sizeof *writers)) == NULL)
        return kvs_fail(error, KVS_INPUT, "SIMT runtime", name, "no memory to watch %zu bytes", bytes);
    if (memory_count == memory_capacity) {
        size_t capacity = memory_capacity > 0 ? 2 * memory_capacity : 16;
        kvs_simt_memory *grown = realloc(memories, capacity * sizeof *grown);
        if (grown == NULL) {
            free(writers);
            return kvs_fail(error, KVS_INPUT, "SIMT runtime", name, "out of memory");
        }
        memories = grown;
        memory_capacity = capacity;
    }
    if (memory_count == 0) next_base = first_base;
    memmove(memories + at + 1, memories + at, (memory_count - at) * sizeof *memories);
    memory_count++;
    memories[at] = (kvs_simt_memory){begin, bytes, next_base, access, "", writers};
    snprintf(memories[at].name, sizeof memories[at].name, "%s", name);
    next_base += (bytes + 2 * BASE_STEP - 1) / BASE_STEP * BASE_STEP; /* at least one byte that is nobody's */
    return KVS_OK;
}

void kvs_simt_forget(const void *memory) {
    size_t at = 0;
    while (at < memory_count && memories[at].memory != memory) at++;
    if (at == memory_count) return;
    free(memories[at].writers);
    memory_count--;
    memmove(memories + at, memories + at + 1, (memory_count - at) * sizeof *memories);
    if (memory_count == 0) {
        free(memories);
        memories = NULL;
        memory_capacity = 0;
    }
}

/* The last memory that begins at or before the address, or NULL. */
static const kvs_simt_memory *last_before(const unsigned char *address) {
    size_t low = 0, high = memory_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (memories[middle].memory <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? &memories[low - 1] : NULL;
}

void kvs_simt_host_wrote(const void *memory, size_t bytes) {
    const unsigned char *begin = memory;
    const kvs_simt_memory *at = last_before(begin);
    if (at == NULL || at->writers == NULL) return;
    size_t offset = (size_t)(begin - at->memory);
    for (size_t i = offset; i < offset + bytes && i < at->bytes; i++) at->writers[WORDS * i] = 1; /* by launch 0 */
}

static int holds(const kvs_simt_memory *memory, const unsigned char *address, uint32_t width) {
    return memory != NULL && address >= memory->memory && (size_t)(address - memory->memory) < memory->bytes &&
           memory->bytes - (size_t)(address - memory->memory) >= width;
}

const kvs_simt_memory *kvs_simt_find(kvs_simt_worker *worker, const void *address, uint32_t width) {
    if (holds(worker->last_memory, address, width)) return worker->last_memory;
    const kvs_simt_memory *memory = last_before(address);
    if (!holds(memory, address, width)) return NULL;
    worker->last_memory = memory;
    return memory;
}

static __attribute__((noreturn)) void raise_bounds(kvs_simt_lane *lane, const unsigned char *address, uint32_t width,
                                                   kvs_simt_place place) {
    const kvs_simt_memory *before = last_before(address);
    if (before == NULL)
        kvs_simt_raise(lane, KVS_SIMT_OUT_OF_BOUNDS, place, "%u bytes at %p, before all registered memory", width,
                       (const void *)address);
    kvs_simt_raise(lane, KVS_SIMT_OUT_OF_BOUNDS, place, "%u bytes at byte %llu of %s, which has %zu", width,
                   (unsigned long long)(address - before->memory), before->name, before->bytes);
}

static void check_writers(kvs_simt_lane *lane, const kvs_simt_memory *memory, uint64_t offset, kvs_simt_kind kind,
                          kvs_simt_place place) {
    kvs_simt_worker *worker = lane->warp->worker;
    const char *what = kind == KVS_SIMT_STORE_GLOBAL ? "overwrites" : "reads";
    uint64_t first = __atomic_load_n(&memory->writers[WORDS * offset], __ATOMIC_RELAXED);
    uint64_t second = __atomic_load_n(&memory->writers[WORDS * offset + 1], __ATOMIC_RELAXED);
    if (first == 0 && memory->access == KVS_SIMT_UNWRITTEN && kind != KVS_SIMT_STORE_GLOBAL)
        kvs_simt_raise(lane, KVS_SIMT_UNWRITTEN_READ, place, "reads byte %llu of %s, which no kernel has written",
                       (unsigned long long)offset, memory->name);
    if (first >> 32 != worker->grid->serial || kind == KVS_SIMT_ATOMIC_GLOBAL) return;
    uint32_t block = (uint32_t)first, thread = (uint32_t)second & 0x3ff;
    if (kind == KVS_SIMT_LOAD_GLOBAL_NC)
        kvs_simt_raise(lane, KVS_SIMT_RACE, place, "reads byte %llu of %s as constant, which this launch has written",
                       (unsigned long long)offset, memory->name);
    if (block == by_atomic) return;
    if (block != (uint32_t)worker->block) {
        if (worker->acquired) return;
        kvs_simt_raise(lane, KVS_SIMT_RACE, place, "%s byte %llu of %s, which block %u of this launch wrote", what,
                       (unsigned long long)offset, memory->name, block);
    }
    int same_warp = thread / KVS_SIMT_LANES == lane->warp->number;
    if (thread == lane->number || (uint32_t)(second >> 30) != (worker->epoch & 0x3fffffff)) return;
    if (same_warp && (second >> 10 & 0xfffff) != (lane->warp->epoch & 0xfffff)) return;
    char text[32];
    kvs_simt_raise(lane, KVS_SIMT_RACE, place, "%s byte %llu of %s, which %s wrote without a barrier between", what,
                   (unsigned long long)offset, memory->name, kvs_simt_thread_text(thread, text));
}

void kvs_simt_check_global(kvs_simt_lane *lane, kvs_simt_kind kind, const void *address, uint32_t width,
                           kvs_simt_place place) {
    kvs_simt_worker *worker = lane->warp->worker;
    const kvs_simt_memory *memory = kvs_simt_find(worker, address, width);
    if (memory == NULL) raise_bounds(lane, address, width, place);
    uint64_t offset = (uint64_t)((const unsigned char *)address - memory->memory);
    int write = kind == KVS_SIMT_STORE_GLOBAL || kind == KVS_SIMT_ATOMIC_GLOBAL;
    if (offset % width != 0)
        kvs_simt_raise(lane, KVS_SIMT_MISALIGNED, place, "%u bytes at byte %llu of %s", width,
                       (unsigned long long)offset, memory->name);
    if (write && memory->access == KVS_SIMT_READ_ONLY)
        kvs_simt_raise(lane, KVS_SIMT_READ_ONLY_WRITE, place, "%u bytes at byte %llu of %s", width,
                       (unsigned long long)offset, memory->name);
    if (kind == KVS_SIMT_ATOMIC_GLOBAL) worker->acquired = 1;
    if (memory->writers == NULL) return;
    uint32_t block = kind == KVS_SIMT_ATOMIC_GLOBAL ? by_atomic : (uint32_t)worker->block;
    uint64_t first = worker->grid->serial << 32 | block;
    uint64_t second =
        (uint64_t)(worker->epoch & 0x3fffffff) << 30 | (uint64_t)(lane->warp->epoch & 0xfffff) << 10 | lane->number;
    for (uint32_t i = 0; i < width; i++) {
        check_writers(lane, memory, offset + i, kind, place);
        if (!write) continue;
        __atomic_store_n(&memory->writers[WORDS * (offset + i)], first, __ATOMIC_RELAXED);
        __atomic_store_n(&memory->writers[WORDS * (offset + i) + 1], second, __ATOMIC_RELAXED);
    }
}
