/* transactions.h: how a GPU's memory system splits each warp instruction, predicted from the addresses that the SIMT
 * runtime records.
 *
 * Global memory (CUDA C++ Best Practices Guide, compute capability 6.0 and up): a warp instruction is one request; it
 * takes one sector (32 bytes) for each that a byte of its active lanes lies in, and touches one line (128 bytes, a tag)
 * for each likewise. Shared memory: 32 banks of 4 bytes; a wavefront serves one 4-byte word of each bank, for all lanes
 * that want it. What these documents leave open was measured on an H200 (tests/golden/transactions-h200.csv holds 948
 * instructions, of which the tests predict every count below unless said otherwise):
 *   - Useful bytes are the distinct bytes of a request: a broadcast counts once.
 *   - Stores of 8 bytes to shared memory take a turn for each half of the warp, of 16 bytes for each quarter; loads
 *     too, and ldmatrix (a quarter is one matrix). But loads of 8 bytes serve the whole warp at once, and of 16 bytes
 *     each half, when all active lanes want the same as their neighbour (lane xor 1), or all the same as lane xor 2.
 *   - Conflicts are the wavefronts beyond one for each turn.
 *   - An asynchronous copy of 16 bytes a lane moves sectors to sectors: one for each pair of a global and a shared
 *     sector, but two when both halves of a shared sector come from the same 16 bytes; and one line for each pair of a
 *     global and a shared line. So a source that is off by 16 bytes doubles the sectors. It has no conflicts. Its
 *     wavefronts are exact where all lanes copy whole sectors; elsewhere at most its sectors, which are given.
 *
 * Each sector of global memory that a kernel touches must pass between DRAM and L2 at least once (the footprint:
 * compulsory bytes). L2 traffic is sectors * 32 bytes, with nothing found in L1. */
#ifndef KVS_ANALYSIS_TRANSACTIONS_H
#define KVS_ANALYSIS_TRANSACTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"
#include "kernels/simt/runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_SECTOR_BYTES = 32, KVS_LINE_BYTES = 128 };

typedef struct kvs_transaction_counts {
    uint64_t requests;              /* warp instructions */
    uint64_t lanes;                 /* active lanes, summed over requests */
    uint64_t lane_bytes;            /* lanes * width */
    uint64_t useful_bytes;          /* distinct bytes of each request */
    uint64_t sectors, lines;        /* global memory and asynchronous copies; else 0 */
    uint64_t wavefronts, conflicts; /* shared memory and asynchronous copies; else 0 */
} kvs_transaction_counts;

/* Adds what one request takes. */
void kvs_transactions_count(const kvs_simt_request *request, kvs_transaction_counts *counts);

/* All requests of one instruction of one kernel. */
typedef struct kvs_transaction_row {
    const char *kernel, *file; /* live as long as the program */
    int line;
    kvs_simt_kind kind;
    uint32_t width; /* bytes a lane */
    kvs_transaction_counts counts;
} kvs_transaction_row;

/* The distinct sectors of global memory that a kernel touches, over everything recorded of it. */
typedef struct kvs_footprint {
    uint64_t read_sectors, written_sectors; /* a sector may be both */
    uint64_t partial_sectors;               /* written, but not all 32 bytes: DRAM may have to be read for them */
    uint64_t own_sectors;                   /* read, and written whole by the kernel: its own results */
    uint64_t read_bytes, written_bytes;     /* distinct bytes */
} kvs_footprint;

/* A collection under way, and its rows once it is finished: by kernel, file, line, kind and width. */
typedef struct kvs_transactions {
    kvs_transaction_row *rows;
    size_t row_count;
    struct kvs_touched *touched; /* per kernel */
    size_t touched_count;
    int out_of_memory;
} kvs_transactions;

/* Empty; cleared with kvs_transactions_clear. To collect, set the SIMT runtime's record to kvs_transactions_record and
 * record_context to the collection. Collect launches apart whose footprints must not be taken together. */
void kvs_transactions_begin(kvs_transactions *transactions);
void kvs_transactions_record(void *transactions, const kvs_simt_request *requests, size_t count);
/* Orders the rows. Fails with KVS_INPUT when memory was short meanwhile. */
KVS_MUST_CHECK kvs_status kvs_transactions_finish(kvs_transactions *transactions, kvs_error *error);
void kvs_transactions_clear(kvs_transactions *transactions);

/* The sum of the rows of a kernel (NULL: of all) whose kind is in a mask of bits 1 << kvs_simt_kind. */
kvs_transaction_counts kvs_transactions_sum(const kvs_transactions *transactions, const char *kernel, unsigned kinds);
#define KVS_KINDS_LOAD   (1u << KVS_SIMT_LOAD_GLOBAL | 1u << KVS_SIMT_LOAD_GLOBAL_NC)
#define KVS_KINDS_STORE  (1u << KVS_SIMT_STORE_GLOBAL)
#define KVS_KINDS_ATOMIC (1u << KVS_SIMT_ATOMIC_GLOBAL)
#define KVS_KINDS_COPY   (1u << KVS_SIMT_COPY)
#define KVS_KINDS_READ   (KVS_KINDS_LOAD | KVS_KINDS_COPY)
#define KVS_KINDS_SHARED (1u << KVS_SIMT_LOAD_SHARED | 1u << KVS_SIMT_STORE_SHARED | 1u << KVS_SIMT_LDMATRIX)

/* The footprint of a kernel; NULL: of all kernels, sectors that two share counted twice. */
kvs_footprint kvs_transactions_footprint(const kvs_transactions *transactions, const char *kernel);

/* Ratios; NaN where the divisor is 0. */
double kvs_sectors_per_request(const kvs_transaction_counts *counts);
double kvs_bytes_per_sector(const kvs_transaction_counts *counts); /* useful bytes of each sector moved, at most 32 */

#ifdef __cplusplus
}
#endif
#endif
