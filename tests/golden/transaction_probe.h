/* transaction_probe.h: kernels of one memory instruction each, with every address given: on a GPU its counters are read
 * (tests/peers/probe_transactions.cu), on the host the transaction model predicts them (test_transaction_probe.cu). */
#ifndef KVS_TESTS_TRANSACTION_PROBE_H
#define KVS_TESTS_TRANSACTION_PROBE_H

#include "core/random.h"
#include "kernels/simt/simt.h"

enum { PROBE_BYTES = 8192, PROBE_PATTERNS = 40, PROBE_MORE_PATTERNS = 64 };

typedef enum probe_kind {
    PROBE_LOAD_GLOBAL,
    PROBE_STORE_GLOBAL,
    PROBE_COPY,
    PROBE_LOAD_SHARED,
    PROBE_STORE_SHARED,
    PROBE_LDMATRIX,
    PROBE_KINDS
} probe_kind;

struct probe_pattern {
    uint32_t offset[32]; /* bytes, multiples of the width */
    uint32_t to[32];     /* where a copy goes */
    uint32_t mask;       /* lanes that take part */
    uint32_t unlike;     /* a value that memory does not hold */
};

/* Numbers from 40 on: which equal lanes share a turn of shared memory, and where a copy goes. */
static inline uint32_t more_elements(uint32_t number, uint32_t l) {
    const uint32_t half = l / 2, other = l / 4 * 2 + l % 2, eighth = l / 8 * 4 + l % 4;
    switch (number - 40) {
    case 0:
        return l % 4;
    case 1:
        return l % 8;
    case 2:
        return l % 16;
    case 3:
        return half * 16;
    case 4:
        return half * 3;
    case 5:
        return other;
    case 6:
        return other * 16;
    case 7:
        return other * 5;
    case 8:
        return l < 16 ? half : 64 + l;
    case 9:
        return l == 5 ? 100 : half;
    case 10:
    case 11:
        return half;
    case 12:
        return l < 16 ? half : other;
    case 13:
        return l / 4 * 16;
    case 14:
        return l % 2 + l / 16 * 2;
    case 15:
        return half * 33;
    case 16:
        return eighth;
    case 17:
        return l < 16 ? half : (uint32_t)kvs_random_bits(number, l) % 64;
    case 18:
        return l < 16 ? other : l;
    case 19:
        return l == 31 ? 100 : 0;
    case 20:
        return (uint32_t)kvs_random_bits(number, l) % 2;
    case 21:
        return (uint32_t)kvs_random_bits(number, l) % 3;
    case 22:
        return (uint32_t)kvs_random_bits(number, half) % 512;
    default:
        return (uint32_t)kvs_random_bits(number, other) % 512;
    }
}

static inline probe_pattern make_copy(uint32_t number) {
    probe_pattern p;
    p.mask = 0xffffffffu;
    p.unlike = 0x12345678u;
    for (uint32_t l = 0; l < 32; l++) {
        const uint32_t from[] = {l, l / 2, l + 1, (uint32_t)kvs_random_bits(number, l) % 64};
        const uint32_t to[] = {l ^ 1, 31 - l, (l + 1) % 32, 2 * l, l / 8 * 8 + (l % 8 ^ l / 8), l % 4 * 8 + l / 4};
        p.offset[l] = 16 * from[number % 4];
        p.to[l] = 16 * to[(number - 40) / 4];
    }
    return p;
}

/* The pattern of one number: strides, rotations, groups of equal lanes, random places, all or some lanes. */
static inline probe_pattern make_pattern(uint32_t number, uint32_t width) {
    static const uint32_t strides[] = {1, 2, 3, 4, 5, 7, 8, 9, 12, 16}, groups[] = {2, 4, 8, 16, 32};
    probe_pattern p;
    uint32_t elements = PROBE_BYTES / width;
    p.mask = 0xffffffffu;
    p.unlike = 0x12345678u;
    for (uint32_t l = 0; l < 32; l++) {
        uint32_t element = l, n = number, drawn = (uint32_t)kvs_random_bits(number, l);
        if (n < 10)
            element = l * strides[n];
        else if (n < 15)
            element = l / groups[n - 10]; /* neighbours are equal */
        else if (n < 20)
            element = l % (groups[n - 15] / 2 + 1); /* equal lanes far apart */
        else if (n < 22)
            element = l + (n - 19); /* off the boundary */
        else if (n == 22)
            element = 31 - l;
        else if (n == 23)
            element = l ^ 1;
        else if (n == 24)
            element = (l % 4) * 8 + l / 4;
        else if (n == 25)
            element = (l % 8) * (128 / width) + l / 8; /* rows of 128 bytes */
        else if (n == 26)
            element = (l % 16) * (256 / width) + l / 16;
        else if (n < 30)
            element = drawn % elements;
        else if (n < 33)
            element = drawn % 64;
        else if (n < 36)
            element = drawn % 16;
        else if (n == 36)
            element = drawn % elements;
        else if (n >= 40)
            element = more_elements(n, l);
        p.offset[l] = element % elements * width;
        p.to[l] = 16 * l;
    }
    static const uint32_t masks[] = {0x0000ffffu, 0x55555555u, 0x80000001u};
    if (number == 50) p.mask = 0x55555555u;
    if (number == 51) p.mask = 0x0000ffffu;
    if (number >= 36 && number < 40) p.mask = number == 36 ? 0x00ff0ff3u : masks[number - 37];
    return p;
}

/* Depends on every byte, so that no part of a load can be left out. */
template <class T> KVS_DEVICE uint32_t fold(T value) {
    uint32_t words[(sizeof value + 3) / 4] = {}, all = 0;
    memcpy(words, &value, sizeof value);
    for (uint32_t word : words) all |= word;
    return all;
}

/* memory holds zeros, so no loaded value is the one that would be stored: the load alone is executed. */
template <class T, int kind> KVS_KERNEL(32, 1) probe_kernel(probe_pattern p, unsigned char *memory, uint32_t *never) {
    uint32_t l = threadIdx.x, word = 0;
    T value = T();
    bool active = p.mask >> l & 1;
    if (kind == PROBE_LOAD_SHARED || kind == PROBE_LDMATRIX) {
        kvs_u32x4 zero = {0, 0, 0, 0};
        for (uint32_t i = l; i < PROBE_BYTES / 16; i += 32) kvs_st_shared((kvs_u32x4 *)(void *)KVS_SHARED + i, zero);
        kvs_syncthreads();
    }
    if (kind == PROBE_LOAD_GLOBAL && active) word = fold(kvs_ld_global((const T *)(memory + p.offset[l])));
    if (kind == PROBE_STORE_GLOBAL && active) kvs_st_global((T *)(memory + p.offset[l]), value);
    if (kind == PROBE_COPY) {
        if (active) kvs_cp_async16(KVS_SHARED + p.to[l], memory + p.offset[l]);
        kvs_cp_async_commit();
        kvs_cp_async_wait<0>();
    }
    if (kind == PROBE_LOAD_SHARED && active) word = fold(kvs_ld_shared((const T *)(void *)(KVS_SHARED + p.offset[l])));
    if (kind == PROBE_STORE_SHARED && active) kvs_st_shared((T *)(void *)(KVS_SHARED + p.offset[l]), value);
    if (kind == PROBE_LDMATRIX) {
        uint32_t r[4];
        kvs_ldmatrix_x4(r, KVS_SHARED + p.offset[l]);
        word = r[0] | r[1] | r[2] | r[3];
    }
    if (word == p.unlike) kvs_st_global(never, word);
}

template <int kind> static int launch_kind(probe_pattern p, uint32_t width, unsigned char *memory, uint32_t *never) {
    switch (width) {
    case 1:
        return kvs_launch((probe_kernel<unsigned char, kind>), 1, 32, PROBE_BYTES, nullptr, p, memory, never);
    case 2:
        return kvs_launch((probe_kernel<unsigned short, kind>), 1, 32, PROBE_BYTES, nullptr, p, memory, never);
    case 4:
        return kvs_launch((probe_kernel<uint32_t, kind>), 1, 32, PROBE_BYTES, nullptr, p, memory, never);
    case 8:
        return kvs_launch((probe_kernel<kvs_u32x2, kind>), 1, 32, PROBE_BYTES, nullptr, p, memory, never);
    default:
        return kvs_launch((probe_kernel<kvs_u32x4, kind>), 1, 32, PROBE_BYTES, nullptr, p, memory, never);
    }
}

static inline int launch_probe(int kind, probe_pattern p, uint32_t width, unsigned char *memory, uint32_t *never) {
    switch (kind) {
    case PROBE_LOAD_GLOBAL:
        return launch_kind<PROBE_LOAD_GLOBAL>(p, width, memory, never);
    case PROBE_STORE_GLOBAL:
        return launch_kind<PROBE_STORE_GLOBAL>(p, width, memory, never);
    case PROBE_COPY:
        return launch_kind<PROBE_COPY>(p, width, memory, never);
    case PROBE_LOAD_SHARED:
        return launch_kind<PROBE_LOAD_SHARED>(p, width, memory, never);
    case PROBE_STORE_SHARED:
        return launch_kind<PROBE_STORE_SHARED>(p, width, memory, never);
    default:
        return launch_kind<PROBE_LDMATRIX>(p, width, memory, never);
    }
}

/* Calls visit(kind, width, pattern, number) for every probe, in the order of the golden file. */
template <class Visit> static inline void for_each_probe(Visit visit) {
    static const uint32_t widths[] = {1, 2, 4, 8, 16};
    for (int kind = 0; kind < PROBE_KINDS; kind++)
        for (uint32_t width : widths) {
            if ((kind == PROBE_COPY || kind == PROBE_LDMATRIX) && width != 16) continue;
            bool more = kind == PROBE_COPY || (kind == PROBE_LOAD_SHARED && width >= 8);
            uint32_t count = more ? PROBE_MORE_PATTERNS : PROBE_PATTERNS;
            if (kind == PROBE_LDMATRIX) count = 36; /* takes all lanes */
            for (uint32_t number = 0; number < count; number++)
                visit(kind, width, kind == PROBE_COPY && number >= 40 ? make_copy(number) : make_pattern(number, width),
                      number);
        }
}

#endif
