/* counters.h: the hardware's counters that kvscope reports, and by which name CUPTI knows each.
 *
 * One table; everything else (what is collected, printed, stored, predicted) goes through it. Counts are those of one
 * launch, or summed over launches of one kernel, as `over` says. The words are those of analysis/transactions.h, so
 * that predicted and measured stand side by side: ordinary loads and stores, asynchronous copies and bulk copies apart;
 * constant and parameter traffic is in none of them. */
#ifndef KVS_ANALYSIS_COUNTERS_H
#define KVS_ANALYSIS_COUNTERS_H

#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kvs_counter {
    KVS_COUNTER_DRAM_READ_BYTES,
    KVS_COUNTER_DRAM_WRITE_BYTES,
    KVS_COUNTER_DRAM_WRITE_BACK_BYTES, /* not a counter of its own: KVS_COUNTER_DRAM_WRITE_BYTES of the flush after */
    KVS_COUNTER_L2_READ_SECTORS,
    KVS_COUNTER_L2_WRITE_SECTORS,
    KVS_COUNTER_L2_HIT_RATE,
    KVS_COUNTER_LOAD_REQUESTS,
    KVS_COUNTER_LOAD_SECTORS,
    KVS_COUNTER_LOAD_USEFUL_BYTES,
    KVS_COUNTER_STORE_REQUESTS,
    KVS_COUNTER_STORE_SECTORS,
    KVS_COUNTER_STORE_USEFUL_BYTES,
    KVS_COUNTER_COPY_REQUESTS,
    KVS_COUNTER_COPY_SECTORS,
    KVS_COUNTER_COPY_USEFUL_BYTES,
    KVS_COUNTER_BULK_COPY_BYTES,
    KVS_COUNTER_LOCAL_LOAD_SECTORS,
    KVS_COUNTER_LOCAL_STORE_SECTORS,
    KVS_COUNTER_SHARED_LOAD_CONFLICTS,
    KVS_COUNTER_SHARED_STORE_CONFLICTS,
    KVS_COUNTER_OCCUPANCY,
    KVS_COUNTER_THREADS_PER_INSTRUCTION,
    KVS_COUNTER_DURATION,
    KVS_COUNTERS
} kvs_counter;

/* How the values of several launches become one. */
typedef enum kvs_counter_over { KVS_OVER_SUM, KVS_OVER_MEAN } kvs_counter_over;

enum { KVS_COUNTER_NAMES = 2 };

typedef struct kvs_counter_type {
    const char *name;                     /* ours, of reports and files: "load_sectors" */
    const char *unit;                     /* "bytes", "sectors", "fraction", ... */
    const char *meaning;                  /* one line */
    const char *cupti[KVS_COUNTER_NAMES]; /* the first of these that the chip has is collected; NULL: none */
    double scale;                         /* value in our unit = CUPTI's value * scale */
    kvs_counter_over over;
} kvs_counter_type;

/* [KVS_COUNTERS], in the order of kvs_counter. */
extern const kvs_counter_type kvs_counter_types[];

/* A set of counters: bit 1 << kvs_counter. */
typedef uint64_t kvs_counter_set;
#define KVS_COUNTER_BIT(counter) ((kvs_counter_set)1 << (counter))
#define KVS_ALL_COUNTERS         (KVS_COUNTER_BIT(KVS_COUNTERS) - 1)

/* Fails with KVS_USAGE for an unknown name. */
KVS_MUST_CHECK kvs_status kvs_counter_find(const char *name, kvs_counter *counter, kvs_error *error);

/* What a CUptiResult that is not a mistake of the program means and what helps, in one line; NULL for the others. */
const char *kvs_cupti_remedy(int code);

#ifdef __cplusplus
}
#endif
#endif
