/* profile.h: how kernels use memory: what the transaction model predicts beside what the hardware's counters say.
 *
 * One file is enough to print every table and draw every plot of it; schema and reading: analysis/PROFILE.md. A number
 * that is not available is NaN here, null in JSON, an empty field in CSV; never 0. */
#ifndef KVS_ANALYSIS_PROFILE_H
#define KVS_ANALYSIS_PROFILE_H

#include <stdint.h>

#include "analysis/counters.h"
#include "analysis/field.h"
#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cJSON;

#define KVS_PROFILE_FORMAT "kvscope-profile"
enum { KVS_PROFILE_MAJOR = 1, KVS_PROFILE_MINOR = 0 }; /* a reader refuses another major version */

/* One kernel with one layout. Predicted counts of a sample of blocks are scaled to the grid. */
typedef struct kvs_profile_launch {
    char *kernel, *layout;                    /* layout: NULL where the kernel is the same for all */
    char *refused;                            /* why there are no numbers; NULL if there are */
    int splits;                               /* of attention; else 0 */
    int64_t blocks, recorded_blocks;          /* of the grid; of the SIMT runtime's run, fewer where it was sampled */
    double operations;                        /* of its arithmetic (PROFILE.md) */
    double seconds, seconds_min, seconds_max; /* of unprofiled runs: the median, the fastest, the slowest */
    double compulsory_written_bytes;          /* predicted: each sector written once */
    double predicted[KVS_COUNTERS], measured[KVS_COUNTERS]; /* in the units of kvs_counter_types */
} kvs_profile_launch;

/* What a metric of a launch must fulfil where it was measured. */
typedef enum kvs_profile_rule {
    KVS_RULE_NONE,
    KVS_RULE_EXACT, /* measured equals predicted, unless the prediction is of a sample of blocks */
    KVS_RULE_DRAM,  /* measured within 5 % of predicted: a cold cache, from 2 MiB on */
} kvs_profile_rule;

#define KVS_DRAM_TOLERANCE   0.05
#define KVS_DRAM_LEAST_BYTES 2097152.0

/* A metric is a counter, which kvs_counter_types describes, or made of several. */
typedef struct kvs_profile_metric_type {
    int counter;                       /* kvs_counter, or -1: made */
    const char *name, *unit, *meaning; /* of what is made; NULL for a counter */
    kvs_profile_rule rule;
    /* Of what is made: the predicted or the measured value; copy: bytes per second of kernel copy. */
    double (*value)(const kvs_profile_launch *launch, int measured, double copy);
} kvs_profile_metric_type;

/* In the order of the report. */
extern const kvs_profile_metric_type kvs_profile_metric_types[];
extern const int kvs_profile_metric_types_count;
const char *kvs_profile_metric_name(const kvs_profile_metric_type *type);
const char *kvs_profile_metric_unit(const kvs_profile_metric_type *type);
const char *kvs_profile_metric_meaning(const kvs_profile_metric_type *type);

/* One row of the report. */
typedef struct kvs_profile_metric {
    int launch; /* index into kvs_profile.launches */
    char *metric, *unit;
    double predicted, measured, difference; /* difference: measured - predicted */
    char *rule;                             /* "exact", "within 5 %"; NULL: none applies */
    char *verdict;                          /* "holds", "differs"; NULL: not measured, or no rule applies */
} kvs_profile_metric;

/* One memory instruction of the source, predicted, as often as the recorded blocks ran it. */
typedef struct kvs_profile_line {
    int launch;
    char *file, *instruction; /* "ld.global" (kvs_simt_kind_names) */
    int line, width;          /* bytes a lane */
    int64_t requests, sectors, lines, useful_bytes, wavefronts, conflicts;
} kvs_profile_line;

typedef struct kvs_profile_note {
    char *text;
} kvs_profile_note;

typedef struct kvs_profile {
    char *version, *command_line, *kernel_sources; /* the last: SHA-256 of the kernels' and layouts' sources */
    char *input, *sha256;                          /* path and digest of a trace; "generated", NULL */
    char *device, *chip, *counters;                /* what measured; counters: "CUPTI 13.0"; NULL: nothing was */
    char *cache;                                   /* "cold", "warm"; NULL: nothing was measured */
    int passes, fetch_granularity_bytes;           /* launches for each measurement; of L2; 0: nothing was measured */
    int64_t flush_bytes;
    int64_t seed, sample_blocks; /* sample_blocks: at most so many are recorded of each grid; 0: all */
    int head_dim, page_tokens, kv_heads, query_heads, bits, boost_bits, boost_channels, value_bits;
    /* kvs_workload_input; sequences 0: only kernels of another program, without shapes */
    int sequences, pages, sink_tokens, window_tokens, splits, multiprocessors; /* kvs_workload_input */
    double softmax_scale;
    int launches_count, metrics_count, lines_count, notes_count;
    kvs_profile_launch *launches;
    kvs_profile_metric *metrics;
    kvs_profile_line *lines;
    kvs_profile_note *notes;
} kvs_profile;

extern const kvs_field kvs_profile_fields[], kvs_profile_launch_fields[], kvs_profile_metric_fields[],
    kvs_profile_line_fields[], kvs_profile_note_fields[];

/* Frees everything in it and zeroes it. */
void kvs_profile_clear(kvs_profile *profile);

/* The sources' digest of this build. */
const char *kvs_profile_kernel_sources(void);

/* The metric of that name of a launch, or NULL. */
const kvs_profile_metric *kvs_profile_find_metric(const kvs_profile *profile, int launch, const char *name);

/* Adds a launch without numbers (all NaN); *launch is its index. KVS_INPUT when memory is short. */
KVS_MUST_CHECK kvs_status kvs_profile_add_launch(kvs_profile *profile, const char *kernel, const char *layout,
                                                 int *launch, kvs_error *error);

/* A note more. KVS_INPUT when memory is short. */
KVS_MUST_CHECK kvs_status kvs_profile_add_note(kvs_profile *profile, const char *text, kvs_error *error);

/* Makes the metrics and the notes anew from the launches' counters. KVS_INPUT when memory is short. */
KVS_MUST_CHECK kvs_status kvs_profile_evaluate(kvs_profile *profile, kvs_error *error);
/* KVS_CHECK when a metric's verdict is "differs": names the first, and how many there are. */
KVS_MUST_CHECK kvs_status kvs_profile_check(const kvs_profile *profile, kvs_error *error);
/* Takes over what `from` measured of the launches that both have; the machine too. KVS_CHECK when a launch that `from`
 * measured is not in `profile`, or when the two did not run the same work. */
KVS_MUST_CHECK kvs_status kvs_profile_take_measured(kvs_profile *profile, const kvs_profile *from, const char *path,
                                                    kvs_error *error);

/* --- files ---------------------------------------------------------------------------------------------------------
 */

/* The whole document, the caller's; lines only where asked for. NULL when memory is short. */
struct cJSON *kvs_profile_to_json(const kvs_profile *profile, int with_lines);

/* One file each, whole or not at all. CSV: one row a metric. */
KVS_MUST_CHECK kvs_status kvs_profile_write_h5(const kvs_profile *profile, const char *path, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_profile_write_csv(const kvs_profile *profile, const char *path, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_profile_write_json(const kvs_profile *profile, const char *path, kvs_error *error);

/* *profile is the caller's, freed with kvs_profile_clear. Refuses any other file with KVS_INPUT. */
KVS_MUST_CHECK kvs_status kvs_profile_read_h5(const char *path, kvs_profile *profile, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_profile_read_json(const char *path, kvs_profile *profile, kvs_error *error);
/* Whether an HDF5 file is one of these. */
int kvs_profile_is_h5(const char *path);

#ifdef __cplusplus
}
#endif
#endif
