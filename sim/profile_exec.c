#include "sim/profile_exec.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/exec_profile.h"
#include "core/version.h"

static kvs_status set_text(char **to, const char *text, kvs_error *error) {
    free(*to);
    *to = strdup(text);
    return *to != NULL ? KVS_OK : kvs_fail(error, KVS_INPUT, "profile", NULL, "out of memory");
}

/* The program and its arguments, as far as they fit. */
static void join(char *const *argv, char *text, size_t bytes) {
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; argv[i] != NULL && used + 1 < bytes; i++) {
        int length = snprintf(text + used, bytes - used, "%s%s", i > 0 ? " " : "", argv[i]);
        if (length < 0) return;
        used += (size_t)length;
    }
}

/* A profile that holds kernels of ours already names its own machine and input. */
static kvs_status describe(char *const *argv, const kvs_exec_profile *found, kvs_profile *profile, kvs_error *error) {
    char counters[64], command[1024];
    (void)snprintf(counters, sizeof counters, "CUPTI %d", found->cupti_version);
    join(argv, command, sizeof command);
    if (profile->input == NULL) {
        KVS_TRY(set_text(&profile->version, KVS_VERSION, error));
        KVS_TRY(set_text(&profile->kernel_sources, kvs_profile_kernel_sources(), error));
        KVS_TRY(set_text(&profile->input, command, error));
    }
    if (profile->device != NULL || found->count == 0) return KVS_OK;
    KVS_TRY(set_text(&profile->device, found->chip, error));
    KVS_TRY(set_text(&profile->chip, found->chip, error));
    KVS_TRY(set_text(&profile->counters, counters, error));
    KVS_TRY(set_text(&profile->cache, "the program's own", error));
    profile->passes = found->passes;
    return KVS_OK;
}

static kvs_status add_kernel(const kvs_exec_kernel *kernel, kvs_profile *profile, kvs_error *error) {
    int at = 0;
    KVS_TRY(kvs_profile_add_launch(profile, kernel->name, NULL, &at, error));
    for (int i = 0; i < KVS_COUNTERS; i++) {
        int summed = kvs_counter_types[i].over == KVS_OVER_SUM;
        profile->launches[at].measured[i] = kernel->values[i] / (summed ? (double)kernel->counted : 1.0);
    }
    return KVS_OK;
}

static kvs_status add_notes(char *const *argv, const kvs_exec_profile *found, kvs_profile *profile, kvs_error *error) {
    char text[1600], command[512];
    long long counted = 0;
    for (int i = 0; i < found->count; i++) counted += found->kernels[i].counted;
    join(argv, command, sizeof command);
    (void)snprintf(
        text, sizeof text,
        "kernels of '%s' (%d processes used CUDA): %lld launches, of which %lld were counted; each row is the "
        "mean of one launch; caches as the program and the replay of its kernels left them, bytes written "
        "only while the kernel ran",
        command, found->processes, (long long)found->launches, counted);
    KVS_TRY(kvs_profile_add_note(profile, text, error));
    for (int i = 0; i < found->count; i++) {
        const kvs_exec_kernel *k = &found->kernels[i];
        if (k->counted == k->launches) continue;
        (void)snprintf(text, sizeof text, "%.1000s: %lld of %lld launches were counted", k->name, (long long)k->counted,
                       (long long)k->launches);
        KVS_TRY(kvs_profile_add_note(profile, text, error));
    }
    if (found->graph_launches > 0) {
        (void)snprintf(text, sizeof text, "%lld launches of CUDA graphs were not counted",
                       (long long)found->graph_launches);
        KVS_TRY(kvs_profile_add_note(profile, text, error));
    }
    if (found->unfinished > 0) {
        (void)snprintf(text, sizeof text, "%d processes ended by a signal or _exit: their last launches are missing",
                       found->unfinished);
        KVS_TRY(kvs_profile_add_note(profile, text, error));
    }
    return KVS_OK;
}

static kvs_status add_all(char *const *argv, const kvs_exec_profile *found, kvs_profile *profile, kvs_error *error) {
    KVS_TRY(describe(argv, found, profile, error));
    for (int i = 0; i < found->count; i++) KVS_TRY(add_kernel(&found->kernels[i], profile, error));
    KVS_TRY(kvs_profile_evaluate(profile, error));
    return add_notes(argv, found, profile, error);
}

kvs_status kvs_profile_add_program(char *const *argv, int64_t limit, kvs_profile *profile, int *exit_status,
                                   kvs_error *error) {
    kvs_exec_profile found;
    kvs_exec_settings settings = {.argv = argv, .limit = limit};
    kvs_error later;
    kvs_status ran = kvs_exec_profile_run(&settings, &found, error);
    kvs_status added = add_all(argv, &found, profile, ran == KVS_OK ? error : &later);
    *exit_status = found.exit_status;
    kvs_exec_profile_clear(&found);
    return ran != KVS_OK ? ran : added;
}
