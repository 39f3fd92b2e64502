#include "analysis/exec_profile.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "analysis/exec_read.h"

enum { PATH_BYTES = 4096 };

/* --- starting ------------------------------------------------------------------------------------------------------
 */

static kvs_status find_library(const char *given, char path[PATH_BYTES], kvs_error *error) {
    static const char *const places[] = {"libkvscope_inject.so", "../lib/libkvscope_inject.so"};
    char program[PATH_BYTES - 64] = "";
    if (given == NULL) given = getenv("KVSCOPE_INJECT");
    if (given != NULL) {
        (void)snprintf(path, PATH_BYTES, "%s", given);
        if (access(path, R_OK) == 0) return KVS_OK;
        return kvs_fail(error, KVS_DEVICE, path, NULL, "is not there");
    }
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length > 0) program[length] = '\0';
    char *slash = strrchr(program, '/');
    if (slash != NULL) slash[1] = '\0';
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        (void)snprintf(path, PATH_BYTES, "%s%s", program, places[i]);
        if (access(path, R_OK) == 0) return KVS_OK;
    }
    return kvs_fail(
        error, KVS_DEVICE, "libkvscope_inject.so", NULL,
        "is neither beside kvscope nor in ../lib; build kvscope where cupti_range_profiler.h of CUDA 13 is");
}

static const char *const own[] = {"CUDA_INJECTION64_PATH", KVS_EXEC_FOLDER, KVS_EXEC_COUNTERS, KVS_EXEC_LIMIT};
enum { OWN = sizeof own / sizeof *own };

/* The environment with our variables in place of any others of these names. */
static kvs_status spawn(const kvs_exec_settings *settings, char *const values[OWN], pid_t *child, kvs_error *error) {
    size_t count = 0, kept = 0;
    while (environ[count] != NULL) count++;
    char **environment = calloc(count + OWN + 1, sizeof *environment);
    if (environment == NULL) return kvs_fail(error, KVS_INPUT, settings->argv[0], NULL, "out of memory");
    for (size_t i = 0; i < count; i++) {
        int ours = 0;
        for (int j = 0; j < OWN; j++)
            ours |= strncmp(environ[i], own[j], strlen(own[j])) == 0 && environ[i][strlen(own[j])] == '=';
        if (!ours) environment[kept++] = environ[i];
    }
    for (int j = 0; j < OWN; j++) environment[kept++] = values[j];
    int failed = posix_spawnp(child, settings->argv[0], NULL, NULL, settings->argv, environment);
    free(environment);
    if (failed != 0)
        return kvs_fail(error, KVS_USAGE, settings->argv[0], NULL, "cannot be started: %s", strerror(failed));
    return KVS_OK;
}

/* Interrupting reaches the program as well, and it decides; so wait for its end in any case. */
static kvs_status run_to_end(const kvs_exec_settings *settings, const char *library, const char *folder,
                             int *exit_status, kvs_error *error) {
    char injection[PATH_BYTES + 64], place[PATH_BYTES + 64], counters[64], limit[64];
    char *const values[OWN] = {injection, place, counters, limit};
    pid_t child = 0;
    int state = 0;
    kvs_counter_set wanted = settings->counters == 0 ? KVS_ALL_COUNTERS : settings->counters;
    (void)snprintf(injection, sizeof injection, "%s=%s", own[0], library);
    (void)snprintf(place, sizeof place, "%s=%s", own[1], folder);
    (void)snprintf(counters, sizeof counters, "%s=%" PRIx64, own[2], wanted);
    (void)snprintf(limit, sizeof limit, "%s=%" PRId64, own[3], settings->limit);
    KVS_TRY(spawn(settings, values, &child, error));
    while (waitpid(child, &state, 0) < 0)
        if (errno != EINTR)
            return kvs_fail(error, KVS_DEVICE, settings->argv[0], NULL, "cannot be waited for: %s", strerror(errno));
    *exit_status = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
    return KVS_OK;
}

/* --- reading -------------------------------------------------------------------------------------------------------
 */

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in a folder, in order, the caller's; without those that begin with a dot. */
static int list_folder(const char *folder, char ***names) {
    int count = 0;
    DIR *directory = opendir(folder);
    *names = NULL;
    if (directory == NULL) return 0;
    for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
        char **more = entry->d_name[0] == '.' ? NULL : realloc(*names, sizeof *more * (size_t)(count + 1));
        if (more == NULL) continue;
        *names = more;
        (*names)[count] = strdup(entry->d_name);
        count += (*names)[count] != NULL;
    }
    (void)closedir(directory);
    if (count > 1) qsort(*names, (size_t)count, sizeof **names, by_name);
    return count;
}

/* Reads and removes the files and the folder. Of several failures the first is told. */
static kvs_status read_folder(const char *folder, kvs_exec_profile *profile, kvs_error *error) {
    char **names, path[PATH_BYTES + 300];
    int count = list_folder(folder, &names);
    kvs_status status = KVS_OK;
    for (int i = 0; i < count; i++) {
        kvs_error other;
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (strchr(names[i], '.') == NULL) { /* .part: cut short */
            kvs_status now = kvs_exec_read(path, profile, status == KVS_OK ? error : &other);
            if (status == KVS_OK) status = now;
        }
        (void)remove(path);
        free(names[i]);
    }
    free(names);
    (void)rmdir(folder);
    return status;
}

static double seconds_of(const kvs_exec_kernel *kernel) {
    double seconds = kernel->values[KVS_COUNTER_DURATION];
    return isfinite(seconds) ? seconds : 0;
}

static int longest_first(const void *a, const void *b) {
    const kvs_exec_kernel *x = a, *y = b;
    double difference = seconds_of(y) - seconds_of(x);
    return difference != 0 ? (difference > 0) - (difference < 0) : strcmp(x->name, y->name);
}

static kvs_status judge(const char *program, const kvs_exec_profile *p, kvs_error *error) {
    if (p->processes == 0)
        return kvs_fail(error, KVS_INPUT, program, NULL, "used no CUDA (it ended with status %d)", p->exit_status);
    if (p->count > 0) return KVS_OK;
    if (p->graph_launches > 0)
        return kvs_fail(error, KVS_INPUT, program, NULL,
                        "launched kernels in CUDA graphs only, which are not counted; run it without graphs");
    if (p->unfinished == p->processes)
        return kvs_fail(error, KVS_INPUT, program, NULL,
                        "ended before any counts were kept (status %d; a signal, or _exit)", p->exit_status);
    return kvs_fail(error, KVS_INPUT, program, NULL, "launched no kernel (it ended with status %d)", p->exit_status);
}

kvs_status kvs_exec_profile_run(const kvs_exec_settings *settings, kvs_exec_profile *profile, kvs_error *error) {
    char library[PATH_BYTES], absolute[PATH_BYTES], folder[] = "/tmp/kvscope-XXXXXX";
    *profile = (kvs_exec_profile){.exit_status = 0};
    KVS_TRY(find_library(settings->inject, library, error));
    if (realpath(library, absolute) == NULL)
        return kvs_fail(error, KVS_DEVICE, library, NULL, "has no path: %s", strerror(errno));
    if (mkdtemp(folder) == NULL) return kvs_fail(error, KVS_INPUT, folder, NULL, "cannot be made: %s", strerror(errno));
    kvs_status status = run_to_end(settings, absolute, folder, &profile->exit_status, error);
    kvs_error other;
    kvs_status read = read_folder(folder, profile, status == KVS_OK ? error : &other);
    if (status != KVS_OK) return status;
    if (profile->count > 0) qsort(profile->kernels, (size_t)profile->count, sizeof *profile->kernels, longest_first);
    return read != KVS_OK ? read : judge(settings->argv[0], profile, error);
}

void kvs_exec_profile_clear(kvs_exec_profile *profile) {
    for (int i = 0; i < profile->count; i++) free(profile->kernels[i].name);
    free(profile->kernels);
    *profile = (kvs_exec_profile){.exit_status = 0};
}
