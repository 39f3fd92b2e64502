/* runtime.h: runs kernels on the host, one block after the other, each thread of a block as a fiber.
 *
 * What is modelled, checked and recorded: kernels/simt/README.md. A kernel source sees none of this (simt.h); who
 * launches a kernel's _simt entry sets the options before and reads the report after. */
#ifndef KVS_KERNELS_SIMT_RUNTIME_H
#define KVS_KERNELS_SIMT_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    KVS_SIMT_LANES = 32,
    KVS_SIMT_BLOCK_THREADS = 1024,  /* the most threads of a block */
    KVS_SIMT_SHARED_BYTES = 232448, /* 227 KB: what a block may have on compute capability 9.0 */
    KVS_SIMT_SPIN_LIMIT = 1 << 24,  /* accesses of a thread between two meetings, from where on it counts as stuck */
};

typedef struct kvs_dim3 {
    unsigned x, y, z;
} kvs_dim3;

/* --- memory that kernels may touch ---------------------------------------------------------------------------------
 */

typedef enum kvs_simt_access {
    KVS_SIMT_READ_WRITE,
    KVS_SIMT_READ_ONLY, /* a write is a fault */
    KVS_SIMT_UNWRITTEN, /* holds nothing yet: a read of a byte that no kernel has written is a fault */
} kvs_simt_access;

/* Makes [memory, memory + bytes) known to the checks until it is forgotten. Kernels see it at an address of its own, a
 * multiple of 512 that depends only on the order of registration, so recorded addresses are the same in every run; the
 * memory itself must be aligned to 16. The name is copied. Not while a kernel runs. Fails with KVS_USAGE when it
 * overlaps registered memory or is misaligned, with KVS_INPUT when memory is short. */
KVS_MUST_CHECK kvs_status kvs_simt_register(const void *memory, size_t bytes, const char *name, kvs_simt_access access,
                                            kvs_error *error);
/* Tells that the host has written these bytes of registered memory. Others are ignored. */
void kvs_simt_host_wrote(const void *memory, size_t bytes);
/* Forgets memory by its first byte; unknown memory is ignored. Without any, addresses start anew. */
void kvs_simt_forget(const void *memory);

/* --- what is recorded ----------------------------------------------------------------------------------------------
 */

typedef enum kvs_simt_kind {
    KVS_SIMT_LOAD_GLOBAL,
    KVS_SIMT_LOAD_GLOBAL_NC,
    KVS_SIMT_STORE_GLOBAL,
    KVS_SIMT_ATOMIC_GLOBAL,
    KVS_SIMT_COPY, /* asynchronous, from global to shared memory */
    KVS_SIMT_LOAD_SHARED,
    KVS_SIMT_STORE_SHARED,
    KVS_SIMT_LDMATRIX, /* 16 bytes a lane: one row each; lanes 8i..8i+7 are one matrix */
    KVS_SIMT_KINDS
} kvs_simt_kind;

extern const char *const kvs_simt_kind_names[KVS_SIMT_KINDS];

/* One memory instruction of one warp. */
typedef struct kvs_simt_request {
    const char *kernel, *file;
    int line, column;
    kvs_simt_kind kind;
    uint32_t width; /* bytes a lane */
    uint32_t mask;  /* active lanes, never 0 */
    uint32_t warp;
    uint64_t block;
    uint64_t address[KVS_SIMT_LANES]; /* of active lanes: global as registered, shared from the block's first byte */
    uint32_t to[KVS_SIMT_LANES];      /* KVS_SIMT_COPY: where in shared memory */
} kvs_simt_request;

/* Gets requests in program order of each warp; blocks come in any order. Called by one thread at a time. */
typedef void kvs_simt_record(void *context, const kvs_simt_request *requests, size_t count);

/* --- options -------------------------------------------------------------------------------------------------------
 */

/* Settings of launches from this thread of the host. */
typedef struct kvs_simt_options {
    int unchecked;           /* 1: memory is neither checked nor need it be registered; meetings still are checked */
    uint64_t order_seed;     /* 0: lanes, warps and blocks ascending; else an order drawn from it */
    int threads;             /* of the host; 0: as OpenMP has */
    size_t shared_bytes;     /* the most shared memory of a block; 0: KVS_SIMT_SHARED_BYTES */
    kvs_simt_record *record; /* NULL: nothing is recorded */
    void *record_context;
    uint64_t sample_blocks; /* record at most so many blocks of a launch, spread evenly over the grid; 0: all */
    int sample_only;        /* 1: run only blocks that are recorded; what the others write stays as it was */
} kvs_simt_options;

/* The options of this thread, to be changed in place; all zero at first. */
kvs_simt_options *kvs_simt_settings(void);

/* The most shared memory of a block, as set. */
size_t kvs_simt_shared_limit(void);

/* Which blocks of a launch are recorded: the share of the grid that sample_blocks selects. */
uint64_t kvs_simt_sampled(uint64_t blocks, uint64_t sample_blocks);

/* --- what went wrong ------------------------------------------------------------------------------------------------
 */

/* Also what kvs_launch returns: 0, or one of these. */
typedef enum kvs_simt_fault {
    KVS_SIMT_NO_FAULT,
    KVS_SIMT_BAD_LAUNCH,         /* grid, block or shared memory that no device takes; no memory for it here */
    KVS_SIMT_DEADLOCK,           /* lanes of a warp wait at different places, or one never arrives */
    KVS_SIMT_BARRIER_DIVERGENCE, /* threads of a block wait at different barriers */
    KVS_SIMT_INACTIVE_LANE,      /* a value is wanted of a lane that is not there */
    KVS_SIMT_OUT_OF_BOUNDS,      /* global memory that is not registered */
    KVS_SIMT_SHARED_OVERFLOW,    /* beyond the block's shared memory */
    KVS_SIMT_READ_ONLY_WRITE,
    KVS_SIMT_MISALIGNED,
    KVS_SIMT_UNWRITTEN_READ,
    KVS_SIMT_PENDING_COPY, /* touches what an asynchronous copy has not been waited for */
    KVS_SIMT_RACE,         /* two threads, at least one writes, no barrier between */
    KVS_SIMT_STOPPED,      /* the user's interrupt */
    KVS_SIMT_FAULTS
} kvs_simt_fault;

extern const char *const kvs_simt_fault_names[KVS_SIMT_FAULTS];

/* The first fault of a launch: that of the lowest block. */
typedef struct kvs_simt_report {
    kvs_simt_fault fault;
    char kernel[96]; /* as the launch spells it */
    uint64_t blocks; /* of the grid; also of a launch that went well */
    kvs_dim3 block;
    int warp, lane; /* -1 where none is to blame */
    const char *file;
    int line;
    char text[256]; /* what happened, without the above */
} kvs_simt_report;

/* Of this thread's last launch. */
const kvs_simt_report *kvs_simt_last_report(void);
/* The same as one line. */
const char *kvs_simt_last_text(void);

#ifdef __cplusplus
}
#endif
#endif
