/* profile_print.c: a profile as text. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "sim/commands/profile.h"

static const char *layout_of(const kvs_profile_launch *launch) {
    return launch->layout != NULL ? launch->layout : "-";
}

/* A cell of a table: a dash where there is no number. */
static void cell(int width, int digits, double value) {
    char text[32] = "-";
    if (isfinite(value)) snprintf(text, sizeof text, "%.*f", digits, value);
    printf(" %*s", width, text);
}

static double ratio(double a, double b) {
    return b > 0 ? a / b : NAN;
}

static int is_measured(const kvs_profile *profile) {
    return profile->device != NULL;
}

static void print_shape(const kvs_profile *p) {
    if (p->sequences == 0) {
        printf("kernels of another program, of one launch: %s\n", p->input);
        return;
    }
    printf("%s: %d sequences of %d sink tokens and %d pages of %d tokens; %d KV heads, %d query heads, head_dim %d\n",
           p->input, p->sequences, p->sink_tokens, p->pages, p->page_tokens, p->kv_heads, p->query_heads, p->head_dim);
    printf("keys of %d bits, %d of %d channels of %d; values of %d; window %d\n", p->bits, p->boost_channels,
           p->head_dim, p->boost_bits, p->value_bits, p->window_tokens);
}

static void print_head(const kvs_profile *p) {
    print_shape(p);
    if (is_measured(p))
        printf("measured on %s (%s) with %s in %d passes; %s cache, L2 fetch granularity %d bytes\n", p->device,
               p->chip != NULL ? p->chip : "?", p->counters != NULL ? p->counters : "?", p->passes,
               p->cache != NULL ? p->cache : "?", p->fetch_granularity_bytes);
    else
        printf("predicted by the transaction model; nothing was measured\n");
}

/* --- counts --------------------------------------------------------------------------------------------------------
 */

static void print_access(const double *c, kvs_counter requests, kvs_counter sectors, kvs_counter useful) {
    int none = !(c[requests] > 0);
    cell(8, 0, none ? NAN : c[requests]);
    cell(9, 0, none ? NAN : c[sectors]);
    cell(6, 2, ratio(c[sectors], c[requests]));
    cell(6, 2, ratio(c[useful], c[sectors]));
    printf(" |");
}

static void print_counts(const kvs_profile_launch *l, const char *whose, const double *c, double written) {
    printf("%-21.60s %-16s %-9s |", l->kernel, layout_of(l), whose);
    print_access(c, KVS_COUNTER_LOAD_REQUESTS, KVS_COUNTER_LOAD_SECTORS, KVS_COUNTER_LOAD_USEFUL_BYTES);
    print_access(c, KVS_COUNTER_COPY_REQUESTS, KVS_COUNTER_COPY_SECTORS, KVS_COUNTER_COPY_USEFUL_BYTES);
    print_access(c, KVS_COUNTER_STORE_REQUESTS, KVS_COUNTER_STORE_SECTORS, KVS_COUNTER_STORE_USEFUL_BYTES);
    cell(9, 0, c[KVS_COUNTER_SHARED_LOAD_CONFLICTS] + c[KVS_COUNTER_SHARED_STORE_CONFLICTS]);
    printf(" |");
    cell(10, 1, c[KVS_COUNTER_DRAM_READ_BYTES] / 1e3);
    cell(10, 1, written / 1e3);
    putchar('\n');
}

static void print_launch(const kvs_profile *p, int launch) {
    const kvs_profile_launch *l = &p->launches[launch];
    if (l->refused != NULL) return;
    if (isfinite(l->predicted[KVS_COUNTER_LOAD_REQUESTS])) /* not those of another program */
        print_counts(l, l->recorded_blocks < l->blocks ? "sampled" : "predicted", l->predicted,
                     l->compulsory_written_bytes);
    if (isfinite(l->measured[KVS_COUNTER_LOAD_REQUESTS]))
        print_counts(l, "measured", l->measured,
                     l->measured[KVS_COUNTER_DRAM_WRITE_BYTES] + l->measured[KVS_COUNTER_DRAM_WRITE_BACK_BYTES]);
}

/* One line for each kernel and reason, with all the layouts. */
static void print_refusals(const kvs_profile *p) {
    for (int i = 0; i < p->launches_count; i++) {
        const kvs_profile_launch *l = &p->launches[i], *before = i > 0 ? l - 1 : NULL;
        if (l->refused == NULL) continue;
        int same = before != NULL && before->refused != NULL && strcmp(before->kernel, l->kernel) == 0 &&
                   strcmp(before->refused, l->refused) == 0;
        if (!same) printf("%s does not run (%s) on", l->kernel, l->refused);
        const kvs_profile_launch *next = i + 1 < p->launches_count ? l + 1 : NULL;
        int more = next != NULL && next->refused != NULL && strcmp(next->kernel, l->kernel) == 0 &&
                   strcmp(next->refused, l->refused) == 0;
        printf(" %s%s", layout_of(l), more ? "," : "\n");
    }
}

static void print_table(const kvs_profile *p) {
    printf("\n%-21s %-16s %-9s | %-32s | %-32s | %-32s | %9s | %21s\n", "", "", "", "loads", "asynchronous copies",
           "stores", "shared", "DRAM, KB");
    printf("%-21s %-16s %-9s |", "kernel", "layout", "");
    for (int i = 0; i < 3; i++) printf(" %8s %9s %6s %6s |", "requests", "sectors", "/req", "B/sec");
    printf(" %9s | %10s %10s\n", "conflicts", "read", "written");
    for (int i = 0; i < p->launches_count; i++) print_launch(p, i);
    printf("\n/req: sectors of 32 bytes a request. B/sec: useful bytes of each sector moved. DRAM: predicted, each\n"
           "sector once (compulsory).\n");
    print_refusals(p);
}

/* --- what was measured ---------------------------------------------------------------------------------------------
 */

static double measured_of(const kvs_profile *p, int launch, const char *metric) {
    const kvs_profile_metric *row = kvs_profile_find_metric(p, launch, metric);
    return row != NULL ? row->measured : NAN;
}

static void count_verdicts(const kvs_profile *p, int launch, int *holding, int *all) {
    *holding = *all = 0;
    for (int i = 0; i < p->metrics_count; i++) {
        if (p->metrics[i].launch != launch || p->metrics[i].verdict == NULL) continue;
        *holding += strcmp(p->metrics[i].verdict, "holds") == 0;
        ++*all;
    }
}

static void print_rates(const kvs_profile *p) {
    printf("\n%-21s %-16s %10s %9s %8s %8s %9s %8s  %s\n", "kernel", "layout", "us", "GB/s", "of copy", "L2 hits",
           "occupancy", "threads", "rules that hold");
    for (int i = 0; i < p->launches_count; i++) {
        const kvs_profile_launch *l = &p->launches[i];
        int holding, all;
        if (l->refused != NULL) continue;
        count_verdicts(p, i, &holding, &all);
        printf("%-21.60s %-16s", l->kernel, layout_of(l));
        cell(10, 1, 1e6 * l->seconds);
        cell(9, 0, measured_of(p, i, "bandwidth") / 1e9);
        cell(8, 2, measured_of(p, i, "fraction_of_copy"));
        cell(8, 2, l->measured[KVS_COUNTER_L2_HIT_RATE]);
        cell(9, 2, l->measured[KVS_COUNTER_OCCUPANCY]);
        cell(8, 1, l->measured[KVS_COUNTER_THREADS_PER_INSTRUCTION]);
        printf("  %d of %d\n", holding, all);
    }
    printf("\nGB/s: DRAM bytes read and written over the unprofiled time. threads: active in an instruction, of 32.\n");
}

static void print_differences(const kvs_profile *p) {
    int rows = 0;
    for (int i = 0; i < p->metrics_count; i++) {
        const kvs_profile_metric *m = &p->metrics[i];
        const kvs_profile_launch *l = &p->launches[m->launch];
        if (!(fabs(m->difference) > 0)) continue;
        if (rows++ == 0)
            printf("\n%-21s %-16s %-26s %14s | %14s | %13s  %s\n", "kernel", "layout", "metric", "predicted",
                   "measured", "difference", "rule");
        printf("%-21.60s %-16s %-26s %14.6g | %14.6g | %+13.6g  %s%s%s\n", l->kernel, layout_of(l), m->metric,
               m->predicted, m->measured, m->difference, m->rule != NULL ? m->rule : "", m->verdict != NULL ? ": " : "",
               m->verdict != NULL ? m->verdict : "");
    }
    if (rows == 0) printf("\nno metric differs from its prediction\n");
}

/* --- lines and notes -----------------------------------------------------------------------------------------------
 */

static void print_lines(const kvs_profile *p) {
    int before = -1;
    for (int i = 0; i < p->lines_count; i++) {
        const kvs_profile_line *line = &p->lines[i];
        const kvs_profile_launch *l = &p->launches[line->launch];
        char place[160];
        if (line->launch != before) {
            printf("\n%s, %s: %lld of %lld blocks recorded\n", l->kernel, layout_of(l), (long long)l->recorded_blocks,
                   (long long)l->blocks);
            printf("  %-38s %-13s %5s %9s %9s %7s %7s %9s %9s\n", "source line", "instruction", "bytes", "requests",
                   "sectors", "/req", "B/sec", "waves", "conflicts");
        }
        before = line->launch;
        snprintf(place, sizeof place, "%s:%d", line->file, line->line);
        printf("  %-38s %-13s %5d %9lld", place, line->instruction, line->width, (long long)line->requests);
        cell(9, 0, line->sectors > 0 ? (double)line->sectors : NAN);
        cell(7, 2, line->sectors > 0 ? ratio((double)line->sectors, (double)line->requests) : NAN);
        cell(7, 2, ratio((double)line->useful_bytes, (double)line->sectors));
        cell(9, 0, line->wavefronts > 0 ? (double)line->wavefronts : NAN);
        cell(9, 0, line->wavefronts > 0 ? (double)line->conflicts : NAN);
        putchar('\n');
    }
}

void kvs_profile_print(const kvs_profile *profile, int with_lines) {
    print_head(profile);
    print_table(profile);
    if (is_measured(profile)) {
        print_rates(profile);
        print_differences(profile);
    }
    if (with_lines) print_lines(profile);
    for (int i = 0; i < profile->notes_count; i++)
        if (profile->notes[i].text != NULL) printf("%snote: %s\n", i == 0 ? "\n" : "", profile->notes[i].text);
}
