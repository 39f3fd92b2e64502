/* profile_check.c: rows out of counters, the rules that they must fulfil, and notes that explain what differs. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/profile.h"

static const char *const rule_names[] = {
    [KVS_RULE_NONE] = NULL, [KVS_RULE_EXACT] = "exact", [KVS_RULE_DRAM] = "within 5 %"};

static kvs_status no_memory(kvs_error *error) {
    return kvs_fail(error, KVS_INPUT, "profile", NULL, "out of memory");
}

/* --- rules ---------------------------------------------------------------------------------------------------------
 */

static int is_sampled(const kvs_profile_launch *launch) {
    return launch->recorded_blocks < launch->blocks;
}

static int applies(const kvs_profile *profile, const kvs_profile_launch *launch, kvs_profile_rule rule,
                   double predicted) {
    if (isnan(predicted)) return 0; /* another program's kernel */
    if (rule == KVS_RULE_EXACT) return !is_sampled(launch);
    return rule == KVS_RULE_DRAM && profile->cache != NULL && strcmp(profile->cache, "cold") == 0 &&
           predicted >= KVS_DRAM_LEAST_BYTES;
}

static int holds(kvs_profile_rule rule, double predicted, double measured) {
    if (rule == KVS_RULE_EXACT) return measured == predicted;
    return fabs(measured - predicted) <= KVS_DRAM_TOLERANCE * predicted;
}

/* Bytes per second of kernel copy in this profile; NaN where it was not measured. */
static double copy_bandwidth(const kvs_profile *profile) {
    for (int i = 0; i < profile->launches_count; i++) {
        const kvs_profile_launch *l = &profile->launches[i];
        double bytes = l->measured[KVS_COUNTER_DRAM_READ_BYTES] + l->measured[KVS_COUNTER_DRAM_WRITE_BYTES] +
                       l->measured[KVS_COUNTER_DRAM_WRITE_BACK_BYTES];
        if (strcmp(l->kernel, "copy") == 0 && l->seconds > 0) return bytes / l->seconds;
    }
    return NAN;
}

static double value_of(const kvs_profile_metric_type *type, const kvs_profile_launch *launch, int measured,
                       double copy) {
    if (type->counter < 0) return type->value(launch, measured, copy);
    return (measured ? launch->measured : launch->predicted)[type->counter];
}

static kvs_status set_text(char **to, const char *text, kvs_error *error) {
    *to = text != NULL ? strdup(text) : NULL;
    return text == NULL || *to != NULL ? KVS_OK : no_memory(error);
}

static kvs_status add_metric(kvs_profile *profile, int launch, const kvs_profile_metric_type *type, double copy,
                             kvs_error *error) {
    const kvs_profile_launch *l = &profile->launches[launch];
    double predicted = value_of(type, l, 0, copy), measured = value_of(type, l, 1, copy);
    if (isnan(predicted) && isnan(measured)) return KVS_OK;
    kvs_profile_metric *row = &profile->metrics[profile->metrics_count++];
    *row = (kvs_profile_metric){.launch = launch, .predicted = predicted, .measured = measured};
    row->difference = measured - predicted;
    KVS_TRY(set_text(&row->metric, kvs_profile_metric_name(type), error));
    KVS_TRY(set_text(&row->unit, kvs_profile_metric_unit(type), error));
    if (!applies(profile, l, type->rule, predicted)) return KVS_OK;
    KVS_TRY(set_text(&row->rule, rule_names[type->rule], error));
    if (isnan(measured)) return KVS_OK;
    return set_text(&row->verdict, holds(type->rule, predicted, measured) ? "holds" : "differs", error);
}

/* --- notes ---------------------------------------------------------------------------------------------------------
 */

/* What is known of differences: a note is made where a metric differs that way. Measured on one H200. */
static const struct cause {
    const char *metric;
    int sign; /* of the difference that it explains; 0: either */
    const char *text;
} causes[] = {
    {"dram_read_bytes", 1,
     "above the compulsory bytes, by 7 to 110 KB on an H200, as much for many pages as for few: what a launch reads "
     "after a flush besides its data (instructions, parameters), and local memory where there is some"},
    {"dram_read_bytes", -1, "below the compulsory bytes: found in L2, as in a warm cache"},
    {"dram_written_bytes", 1,
     "above the compulsory bytes: the counter is the device's, not the kernel's, and local memory counts"},
    {"dram_written_bytes", -1, "below the compulsory bytes: still in L2 when the flush after the kernel ended"},
    {"l2_read_sectors", -1, "below all sectors of loads and copies: found in L1, where the model finds none"},
    {"l2_read_sectors", 1, "above all sectors of loads and copies: atomics, constants, instructions, local memory"},
    {"l2_write_sectors", -1, "below all sectors of stores: stores to one sector that the L1 put together"},
    {"l2_write_sectors", 1, "above all sectors of stores: atomics and local memory"},
    {"shared_load_conflicts", 0, "a few, another number in every run: not explained"},
    {"shared_store_conflicts", 0, "a few, another number in every run: not explained"},
    {"load_useful_bytes", 0, "bytes that lanes of one load share may count once or more often: not explained"},
    {"local_load_sectors", 1, "the device's compiler spills registers or keeps an array in local memory"},
    {"local_store_sectors", 1, "the device's compiler spills registers or keeps an array in local memory"},
};

static int explains(const struct cause *cause, const kvs_profile_metric *row) {
    if (strcmp(cause->metric, row->metric) != 0 || !(fabs(row->difference) > 0)) return 0;
    return cause->sign == 0 || (row->difference > 0) == (cause->sign > 0);
}

kvs_status kvs_profile_add_note(kvs_profile *profile, const char *text, kvs_error *error) {
    kvs_profile_note *grown = realloc(profile->notes, ((size_t)profile->notes_count + 1) * sizeof *grown);
    if (grown == NULL) return no_memory(error);
    profile->notes = grown;
    grown[profile->notes_count++] = (kvs_profile_note){NULL};
    return set_text(&grown[profile->notes_count - 1].text, text, error);
}

/* A known cause once, with the number of rows and the largest difference. */
static kvs_status add_cause(kvs_profile *profile, const struct cause *cause, kvs_error *error) {
    int rows = 0;
    double largest = 0;
    for (int i = 0; i < profile->metrics_count; i++) {
        const kvs_profile_metric *row = &profile->metrics[i];
        if (!explains(cause, row)) continue;
        rows++;
        largest = fmax(largest, fabs(row->difference));
    }
    if (rows == 0) return KVS_OK;
    char text[640];
    snprintf(text, sizeof text, "%s: %s (%d launches, at most %.0f)", cause->metric, cause->text, rows, largest);
    return kvs_profile_add_note(profile, text, error);
}

static kvs_status add_unexplained(kvs_profile *profile, const kvs_profile_metric *row, kvs_error *error) {
    const kvs_profile_launch *launch = &profile->launches[row->launch];
    if (row->verdict == NULL || strcmp(row->verdict, "differs") != 0) return KVS_OK;
    char text[512];
    snprintf(text, sizeof text, "%s, %s: %s must be %s: %.0f predicted, %.0f measured", launch->kernel,
             launch->layout != NULL ? launch->layout : "every layout", row->metric,
             strcmp(row->rule, "exact") == 0 ? "equal" : row->rule, row->predicted, row->measured);
    return kvs_profile_add_note(profile, text, error);
}

static kvs_status add_notes(kvs_profile *profile, kvs_error *error) {
    int sampled = 0;
    for (int i = 0; i < profile->launches_count; i++) sampled += is_sampled(&profile->launches[i]);
    if (sampled > 0)
        KVS_TRY(kvs_profile_add_note(
            profile,
            "predicted of a sample of blocks, spread evenly over the grid, and scaled to it: equal counts "
            "are not asked for, and sectors that blocks share count once for each recorded block",
            error));
    for (size_t i = 0; i < sizeof causes / sizeof *causes; i++) KVS_TRY(add_cause(profile, &causes[i], error));
    for (int i = 0; i < profile->metrics_count; i++) KVS_TRY(add_unexplained(profile, &profile->metrics[i], error));
    return KVS_OK;
}

/* --- the whole -----------------------------------------------------------------------------------------------------
 */

static void clear_evaluation(kvs_profile *profile) {
    for (int i = 0; i < profile->metrics_count; i++) kvs_fields_free(kvs_profile_metric_fields, &profile->metrics[i]);
    for (int i = 0; i < profile->notes_count; i++) kvs_fields_free(kvs_profile_note_fields, &profile->notes[i]);
    free(profile->metrics);
    free(profile->notes);
    profile->metrics = NULL;
    profile->notes = NULL;
    profile->metrics_count = profile->notes_count = 0;
}

kvs_status kvs_profile_evaluate(kvs_profile *profile, kvs_error *error) {
    size_t types = (size_t)kvs_profile_metric_types_count;
    clear_evaluation(profile);
    profile->metrics = calloc((size_t)profile->launches_count * types + 1, sizeof *profile->metrics);
    if (profile->metrics == NULL) return no_memory(error);
    double copy = copy_bandwidth(profile);
    for (int i = 0; i < profile->launches_count; i++)
        for (size_t t = 0; t < types && profile->launches[i].refused == NULL; t++)
            KVS_TRY(add_metric(profile, i, &kvs_profile_metric_types[t], copy, error));
    return add_notes(profile, error);
}

kvs_status kvs_profile_check(const kvs_profile *profile, kvs_error *error) {
    const kvs_profile_metric *first = NULL;
    int count = 0;
    for (int i = 0; i < profile->metrics_count; i++) {
        const kvs_profile_metric *row = &profile->metrics[i];
        if (row->verdict == NULL || strcmp(row->verdict, "differs") != 0) continue;
        if (count++ == 0) first = row;
    }
    if (first == NULL) return KVS_OK;
    const kvs_profile_launch *launch = &profile->launches[first->launch];
    char object[160];
    snprintf(object, sizeof object, "%s%s%s", launch->kernel, launch->layout != NULL ? ", " : "",
             launch->layout != NULL ? launch->layout : "");
    return kvs_fail(error, KVS_CHECK, "predicted | measured", object,
                    "%s: %.0f predicted, %.0f measured, %s is asked for (%d of the metrics differ)", first->metric,
                    first->predicted, first->measured, first->rule, count);
}

/* --- another file's measurements -----------------------------------------------------------------------------------
 */

static int same_text(const char *a, const char *b) {
    return (a == NULL && b == NULL) || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static kvs_profile_launch *find_launch(const kvs_profile *profile, const kvs_profile_launch *wanted) {
    for (int i = 0; i < profile->launches_count; i++)
        if (same_text(profile->launches[i].kernel, wanted->kernel) &&
            same_text(profile->launches[i].layout, wanted->layout))
            return &profile->launches[i];
    return NULL;
}

static int is_measured(const kvs_profile_launch *launch) {
    for (int i = 0; i < KVS_COUNTERS; i++)
        if (!isnan(launch->measured[i])) return 1;
    return 0;
}

static kvs_status take_launch(kvs_profile *profile, const kvs_profile_launch *from, const char *path,
                              kvs_error *error) {
    kvs_profile_launch *to = find_launch(profile, from);
    if (to == NULL || !is_measured(from)) return KVS_OK;
    if (to->refused != NULL)
        return kvs_fail(error, KVS_CHECK, path, from->kernel, "was measured with %s and is now refused: %s",
                        from->layout != NULL ? from->layout : "every layout", to->refused);
    if (to->blocks != from->blocks || to->splits != from->splits)
        return kvs_fail(error, KVS_CHECK, path, from->kernel,
                        "was measured with %s on a grid of %lld blocks and now has %lld: measure it again",
                        from->layout != NULL ? from->layout : "every layout", (long long)from->blocks,
                        (long long)to->blocks);
    memcpy(to->measured, from->measured, sizeof to->measured);
    to->seconds = from->seconds;
    to->seconds_min = from->seconds_min;
    to->seconds_max = from->seconds_max;
    return KVS_OK;
}

static kvs_status replace_text(char **to, const char *text, kvs_error *error) {
    free(*to);
    return set_text(to, text, error);
}

kvs_status kvs_profile_take_measured(kvs_profile *profile, const kvs_profile *from, const char *path,
                                     kvs_error *error) {
    KVS_TRY(replace_text(&profile->device, from->device, error));
    KVS_TRY(replace_text(&profile->chip, from->chip, error));
    KVS_TRY(replace_text(&profile->counters, from->counters, error));
    KVS_TRY(replace_text(&profile->cache, from->cache, error));
    profile->passes = from->passes;
    profile->fetch_granularity_bytes = from->fetch_granularity_bytes;
    profile->flush_bytes = from->flush_bytes;
    for (int i = 0; i < from->launches_count; i++) KVS_TRY(take_launch(profile, &from->launches[i], path, error));
    return KVS_OK;
}
