/* profile.c: the fields of a profile and its life; metrics out of counters. Rules and notes: profile_check.c. Files:
 * profile_text.c, profile_h5.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/field_table.h"
#include "analysis/profile_internal.h"

/* --- the fields ----------------------------------------------------------------------------------------------------
 */

#define ROW kvs_profile
const kvs_field kvs_profile_fields[] = {
    TEXT(version),
    TEXT(command_line),
    TEXT(kernel_sources),
    TEXT(input),
    TEXT(sha256),
    TEXT(device),
    TEXT(chip),
    TEXT(counters),
    TEXT(cache),
    INT(passes, "launches"),
    INT(fetch_granularity_bytes, "bytes"),
    LONG(flush_bytes, "bytes"),
    LONG(seed, ""),
    LONG(sample_blocks, "blocks"),
    INT(head_dim, "channels"),
    INT(page_tokens, "tokens"),
    INT(kv_heads, "heads"),
    INT(query_heads, "heads"),
    INT(bits, "bits"),
    INT(boost_bits, "bits"),
    INT(boost_channels, "channels"),
    INT(value_bits, "bits"),
    INT(sequences, "sequences"),
    INT(pages, "pages"),
    INT(sink_tokens, "tokens"),
    INT(window_tokens, "tokens"),
    INT(splits, ""),
    INT(multiprocessors, ""),
    REAL(softmax_scale, "1"),
    END,
};
#undef ROW

#define ROW kvs_profile_launch
const kvs_field kvs_profile_launch_fields[] = {
    TEXT(kernel),
    TEXT(layout),
    TEXT(refused),
    INT(splits, ""),
    LONG(blocks, "blocks"),
    LONG(recorded_blocks, "blocks"),
    REAL(operations, "operations"),
    REAL(seconds, "s"),
    REAL(seconds_min, "s"),
    REAL(seconds_max, "s"),
    REAL(compulsory_written_bytes, "bytes"),
    END,
};
#undef ROW

#define ROW kvs_profile_metric
const kvs_field kvs_profile_metric_fields[] = {
    TEXT(metric),         TEXT(unit), REAL(predicted, ""), REAL(measured, ""),
    REAL(difference, ""), TEXT(rule), TEXT(verdict),       END,
};
#undef ROW

#define ROW kvs_profile_line
const kvs_field kvs_profile_line_fields[] = {
    TEXT(file),
    INT(line, ""),
    TEXT(instruction),
    INT(width, "bytes"),
    LONG(requests, "requests"),
    LONG(sectors, "sectors"),
    LONG(lines, "lines"),
    LONG(useful_bytes, "bytes"),
    LONG(wavefronts, "wavefronts"),
    LONG(conflicts, "wavefronts"),
    END,
};
#undef ROW

#define ROW kvs_profile_note
const kvs_field kvs_profile_note_fields[] = {TEXT(text), END};
#undef ROW

const char *kvs_profile_kernel_sources(void) {
    return KVS_KERNEL_SOURCES;
}

/* --- its life ------------------------------------------------------------------------------------------------------
 */

static void free_rows(const kvs_field *fields, void *rows, size_t row_bytes, int count) {
    for (int i = 0; i < count; i++) kvs_fields_free(fields, (char *)rows + (size_t)i * row_bytes);
    free(rows);
}

void kvs_profile_clear(kvs_profile *profile) {
    free_rows(kvs_profile_launch_fields, profile->launches, sizeof *profile->launches, profile->launches_count);
    free_rows(kvs_profile_metric_fields, profile->metrics, sizeof *profile->metrics, profile->metrics_count);
    free_rows(kvs_profile_line_fields, profile->lines, sizeof *profile->lines, profile->lines_count);
    free_rows(kvs_profile_note_fields, profile->notes, sizeof *profile->notes, profile->notes_count);
    kvs_fields_free(kvs_profile_fields, profile);
    *profile = (kvs_profile){0};
}

kvs_status kvs_profile_add_launch(kvs_profile *profile, const char *kernel, const char *layout, int *launch,
                                  kvs_error *error) {
    size_t count = (size_t)profile->launches_count + 1;
    kvs_profile_launch *grown = realloc(profile->launches, count * sizeof *grown);
    if (grown == NULL) return kvs_fail(error, KVS_INPUT, "profile", kernel, "out of memory");
    profile->launches = grown;
    kvs_profile_launch *added = &grown[profile->launches_count];
    *added = (kvs_profile_launch){.seconds = NAN, .seconds_min = NAN, .seconds_max = NAN, .operations = NAN};
    added->compulsory_written_bytes = NAN;
    for (int i = 0; i < KVS_COUNTERS; i++) added->predicted[i] = added->measured[i] = NAN;
    *launch = profile->launches_count++;
    added->kernel = strdup(kernel);
    added->layout = layout != NULL ? strdup(layout) : NULL;
    if (added->kernel != NULL && (layout == NULL || added->layout != NULL)) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, "profile", kernel, "out of memory");
}

/* --- metrics -------------------------------------------------------------------------------------------------------
 */

static double ratio(double a, double b) {
    return b > 0 ? a / b : NAN;
}

static const double *side(const kvs_profile_launch *launch, int measured) {
    return measured ? launch->measured : launch->predicted;
}

#define RATIO(name, over, under)                                                                                       \
    static double name(const kvs_profile_launch *launch, int measured, double copy) {                                  \
        (void)copy;                                                                                                    \
        return ratio(side(launch, measured)[over], side(launch, measured)[under]);                                     \
    }
RATIO(load_sectors_per_request, KVS_COUNTER_LOAD_SECTORS, KVS_COUNTER_LOAD_REQUESTS)
RATIO(load_bytes_per_sector, KVS_COUNTER_LOAD_USEFUL_BYTES, KVS_COUNTER_LOAD_SECTORS)
RATIO(store_sectors_per_request, KVS_COUNTER_STORE_SECTORS, KVS_COUNTER_STORE_REQUESTS)
RATIO(store_bytes_per_sector, KVS_COUNTER_STORE_USEFUL_BYTES, KVS_COUNTER_STORE_SECTORS)
RATIO(copy_sectors_per_request, KVS_COUNTER_COPY_SECTORS, KVS_COUNTER_COPY_REQUESTS)
RATIO(copy_bytes_per_sector, KVS_COUNTER_COPY_USEFUL_BYTES, KVS_COUNTER_COPY_SECTORS)

static double duration(const kvs_profile_launch *launch, int measured, double copy) {
    (void)copy;
    return measured ? launch->seconds : NAN;
}

/* What the kernel writes reaches DRAM while it runs, or when the flush after it drives it out of L2. */
static double dram_written(const kvs_profile_launch *launch, int measured, double copy) {
    (void)copy;
    if (!measured) return launch->compulsory_written_bytes;
    return launch->measured[KVS_COUNTER_DRAM_WRITE_BYTES] + launch->measured[KVS_COUNTER_DRAM_WRITE_BACK_BYTES];
}

/* Over the unprofiled time: the bytes are those of another run of the same work. */
static double bandwidth(const kvs_profile_launch *launch, int measured, double copy) {
    double bytes = side(launch, measured)[KVS_COUNTER_DRAM_READ_BYTES] + dram_written(launch, measured, copy);
    return ratio(bytes, duration(launch, measured, copy));
}

static double of_copy(const kvs_profile_launch *launch, int measured, double copy) {
    return ratio(bandwidth(launch, measured, copy), copy);
}

#define COUNTER(id, rule)                                                                                              \
    { id, NULL, NULL, NULL, rule, NULL }
#define MADE(name, unit, rule, value, meaning)                                                                         \
    { -1, name, unit, meaning, rule, value }

const kvs_profile_metric_type kvs_profile_metric_types[] = {
    MADE("duration", "s", KVS_RULE_NONE, duration, "median of unprofiled runs"),
    COUNTER(KVS_COUNTER_DRAM_READ_BYTES, KVS_RULE_DRAM),
    MADE("dram_written_bytes", "bytes", KVS_RULE_DRAM, dram_written,
         "written to DRAM by the kernel or the flush after"),
    MADE("bandwidth", "bytes/s", KVS_RULE_NONE, bandwidth, "DRAM bytes read and written over the duration"),
    MADE("fraction_of_copy", "fraction", KVS_RULE_NONE, of_copy, "bandwidth over that of kernel copy in this run"),
    COUNTER(KVS_COUNTER_L2_READ_SECTORS, KVS_RULE_NONE),
    COUNTER(KVS_COUNTER_L2_WRITE_SECTORS, KVS_RULE_NONE),
    COUNTER(KVS_COUNTER_L2_HIT_RATE, KVS_RULE_NONE),
    COUNTER(KVS_COUNTER_LOAD_REQUESTS, KVS_RULE_EXACT),
    COUNTER(KVS_COUNTER_LOAD_SECTORS, KVS_RULE_EXACT),
    MADE("load_sectors_per_request", "sectors/request", KVS_RULE_NONE, load_sectors_per_request, "ordinary loads"),
    COUNTER(KVS_COUNTER_LOAD_USEFUL_BYTES, KVS_RULE_NONE),
    MADE("load_bytes_per_sector", "bytes/sector", KVS_RULE_NONE, load_bytes_per_sector, "useful bytes, of 32"),
    COUNTER(KVS_COUNTER_COPY_REQUESTS, KVS_RULE_EXACT),
    COUNTER(KVS_COUNTER_COPY_SECTORS, KVS_RULE_EXACT),
    MADE("copy_sectors_per_request", "sectors/request", KVS_RULE_NONE, copy_sectors_per_request, "asynchronous copies"),
    COUNTER(KVS_COUNTER_COPY_USEFUL_BYTES, KVS_RULE_NONE),
    MADE("copy_bytes_per_sector", "bytes/sector", KVS_RULE_NONE, copy_bytes_per_sector, "useful bytes, of 32"),
    COUNTER(KVS_COUNTER_STORE_REQUESTS, KVS_RULE_EXACT),
    COUNTER(KVS_COUNTER_STORE_SECTORS, KVS_RULE_EXACT),
    MADE("store_sectors_per_request", "sectors/request", KVS_RULE_NONE, store_sectors_per_request, "stores"),
    COUNTER(KVS_COUNTER_STORE_USEFUL_BYTES, KVS_RULE_NONE),
    MADE("store_bytes_per_sector", "bytes/sector", KVS_RULE_NONE, store_bytes_per_sector, "useful bytes, of 32"),
    COUNTER(KVS_COUNTER_BULK_COPY_BYTES, KVS_RULE_EXACT),
    COUNTER(KVS_COUNTER_LOCAL_LOAD_SECTORS, KVS_RULE_EXACT),
    COUNTER(KVS_COUNTER_LOCAL_STORE_SECTORS, KVS_RULE_EXACT),
    COUNTER(KVS_COUNTER_SHARED_LOAD_CONFLICTS, KVS_RULE_NONE),
    COUNTER(KVS_COUNTER_SHARED_STORE_CONFLICTS, KVS_RULE_NONE),
    COUNTER(KVS_COUNTER_OCCUPANCY, KVS_RULE_NONE),
    COUNTER(KVS_COUNTER_THREADS_PER_INSTRUCTION, KVS_RULE_NONE),
    COUNTER(KVS_COUNTER_DRAM_WRITE_BYTES, KVS_RULE_NONE),
    COUNTER(KVS_COUNTER_DRAM_WRITE_BACK_BYTES, KVS_RULE_NONE),
    COUNTER(KVS_COUNTER_DURATION, KVS_RULE_NONE),
};
const int kvs_profile_metric_types_count = (int)(sizeof kvs_profile_metric_types / sizeof *kvs_profile_metric_types);

const char *kvs_profile_metric_name(const kvs_profile_metric_type *type) {
    return type->counter < 0 ? type->name : kvs_counter_types[type->counter].name;
}

const char *kvs_profile_metric_unit(const kvs_profile_metric_type *type) {
    return type->counter < 0 ? type->unit : kvs_counter_types[type->counter].unit;
}

const char *kvs_profile_metric_meaning(const kvs_profile_metric_type *type) {
    return type->counter < 0 ? type->meaning : kvs_counter_types[type->counter].meaning;
}

const kvs_profile_metric *kvs_profile_find_metric(const kvs_profile *profile, int launch, const char *name) {
    for (int i = 0; i < profile->metrics_count; i++)
        if (profile->metrics[i].launch == launch && strcmp(profile->metrics[i].metric, name) == 0)
            return &profile->metrics[i];
    return NULL;
}

/* --- for readers ---------------------------------------------------------------------------------------------------
 */

void kvs_profile_adopt(kvs_profile_launch *launch, const kvs_profile_metric *metric) {
    kvs_counter counter;
    if (metric->metric == NULL || kvs_counter_find(metric->metric, &counter, NULL) != KVS_OK) return;
    launch->predicted[counter] = metric->predicted;
    launch->measured[counter] = metric->measured;
}

kvs_profile_line *kvs_profile_new_line(kvs_profile *profile, kvs_error *error) {
    size_t count = (size_t)profile->lines_count;
    if ((count & (count - 1)) == 0) { /* capacities are powers of two */
        kvs_profile_line *grown = realloc(profile->lines, (count > 0 ? 2 * count : 1) * sizeof *grown);
        if (grown == NULL) {
            kvs_fail(error, KVS_INPUT, "profile", NULL, "out of memory");
            return NULL;
        }
        profile->lines = grown;
    }
    profile->lines[count] = (kvs_profile_line){0};
    profile->lines_count++;
    return &profile->lines[count];
}

kvs_status kvs_profile_validate(const kvs_profile *profile, const char *path, kvs_error *error) {
    const struct {
        const char *name;
        int value, low, high;
    } bounds[] = {
        {"head_dim", profile->head_dim, 1, 256},           {"page_tokens", profile->page_tokens, 1, 256},
        {"kv_heads", profile->kv_heads, 1, 4096},          {"query_heads", profile->query_heads, 1, 65536},
        {"sequences", profile->sequences, 1, 65535},       {"pages", profile->pages, 1, 1 << 24},
        {"sink_tokens", profile->sink_tokens, 0, 1 << 20}, {"window_tokens", profile->window_tokens, 0, 1 << 20},
    };
    int shaped = profile->sequences != 0;
    for (size_t i = 0; shaped && i < sizeof bounds / sizeof *bounds; i++)
        if (bounds[i].value < bounds[i].low || bounds[i].value > bounds[i].high)
            return kvs_fail(error, KVS_INPUT, path, bounds[i].name, "%d is not in %d..%d", bounds[i].value,
                            bounds[i].low, bounds[i].high);
    for (int i = 0; i < profile->launches_count; i++)
        if (profile->launches[i].kernel == NULL)
            return kvs_fail(error, KVS_INPUT, path, "launches", "launch %d has no kernel", i);
    for (int i = 0; i < profile->lines_count; i++) {
        const kvs_profile_line *line = &profile->lines[i];
        if (line->launch < 0 || line->launch >= profile->launches_count || line->file == NULL ||
            line->instruction == NULL)
            return kvs_fail(error, KVS_INPUT, path, "lines", "line %d names launch %d of %d, or no place", i,
                            line->launch, profile->launches_count);
    }
    return KVS_OK;
}
