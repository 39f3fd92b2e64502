/* figure.c: the files of a figure, and running gnuplot on them. */
#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/file.h"
#include "core/progress.h"
#include "plots/plot.h"

extern char **environ;

static const char *const pictures[] = {"svg", "png"};
enum { PICTURES = 2 };

enum { MOST_SIZE = 1 << 16 };                 /* layers, KV heads, both together, channels */
static const int64_t most_tokens = 1LL << 50; /* leaves room to multiply */

static kvs_status check_trace(const kvs_trace_summary *trace, kvs_error *error) {
    const int sizes[] = {trace->layers, trace->kv_heads, trace->head_dim};
    for (int i = 0; i < 3; i++)
        if (sizes[i] < 1 || sizes[i] > MOST_SIZE)
            return kvs_fail(error, KVS_INPUT, "results", "traces",
                            "%d layers, %d KV heads, %d channels: outside 1 to %d", sizes[0], sizes[1], sizes[2],
                            MOST_SIZE);
    if (trace->layers > MOST_SIZE / trace->kv_heads)
        return kvs_fail(error, KVS_INPUT, "results", "traces", "%d layers of %d KV heads: more than %d", trace->layers,
                        trace->kv_heads, MOST_SIZE);
    return KVS_OK;
}

static kvs_status check_result(const kvs_results *results, int number, kvs_error *error) {
    const kvs_result *result = &results->results[number];
    if (result->trace < 0 || result->trace >= results->traces_count)
        return kvs_fail(error, KVS_INPUT, "results", "results", "result %d names trace %d of %d", number, result->trace,
                        results->traces_count);
    const kvs_trace_summary *trace = &results->traces[result->trace];
    for (int i = 0; i < result->heads_count; i++) {
        const kvs_head_result *head = &result->heads[i];
        if (head->layer < 0 || head->layer >= trace->layers || head->head < 0 || head->head >= trace->kv_heads)
            return kvs_fail(error, KVS_INPUT, "results", "heads", "result %d names layer %d, head %d of %d, %d", number,
                            head->layer, head->head, trace->layers, trace->kv_heads);
    }
    for (int i = 0; i < result->memory_count; i++)
        if (result->memory[i].tokens < 1 || result->memory[i].tokens > most_tokens)
            return kvs_fail(error, KVS_INPUT, "results", "memory", "result %d has a length of %lld tokens", number,
                            (long long)result->memory[i].tokens);
    return KVS_OK;
}

/* Everything that indexes or is indexed, so that no plot has to look again. */
static kvs_status check_results(const kvs_results *results, kvs_error *error) {
    if (results->results_count <= 0) return kvs_fail(error, KVS_INPUT, "results", NULL, "hold no result");
    for (int i = 0; i < results->traces_count; i++) KVS_TRY(check_trace(&results->traces[i], error));
    for (int i = 0; i < results->results_count; i++) KVS_TRY(check_result(results, i, error));
    return KVS_OK;
}

static int open_streams(const kvs_plot_type *type, kvs_figure *figure) {
    memset(figure, 0, sizeof *figure);
    snprintf(figure->name, sizeof figure->name, "%s", type->name);
    figure->csv = open_memstream(&figure->csv_text, &figure->csv_bytes);
    figure->gp = open_memstream(&figure->gp_text, &figure->gp_bytes);
    return figure->csv != NULL && figure->gp != NULL;
}

static kvs_status close_streams(const kvs_plot_type *type, kvs_figure *figure, kvs_status status, kvs_error *error) {
    int failed = 0;
    FILE *streams[] = {figure->csv, figure->gp};
    for (int i = 0; i < 2; i++) {
        failed |= streams[i] == NULL || ferror(streams[i]);
        if (streams[i] != NULL) failed |= fclose(streams[i]) != 0;
    }
    figure->csv = figure->gp = NULL;
    if (status == KVS_OK && failed) status = kvs_fail(error, KVS_INPUT, type->name, NULL, "out of memory");
    if (status != KVS_OK) kvs_figure_clear(figure);
    return status;
}

kvs_status kvs_figure_compose(const kvs_plot_type *type, const kvs_results *results, const void *config,
                              kvs_figure *figure, kvs_error *error) {
    memset(figure, 0, sizeof *figure);
    KVS_TRY(check_results(results, error));
    kvs_status status = KVS_OK;
    if (open_streams(type, figure)) status = type->compose(results, config, figure, error);
    return close_streams(type, figure, status, error);
}

kvs_status kvs_figure_compose_occupancy(const kvs_plot_type *type, const kvs_occupancy_results *results,
                                        const void *config, kvs_figure *figure, kvs_error *error) {
    kvs_status status = KVS_OK;
    if (open_streams(type, figure)) status = type->compose_occupancy(results, config, figure, error);
    return close_streams(type, figure, status, error);
}

kvs_status kvs_figure_compose_profile(const kvs_plot_type *type, const kvs_profile *profile, const void *config,
                                      kvs_figure *figure, kvs_error *error) {
    kvs_status status = KVS_OK;
    if (open_streams(type, figure)) status = type->compose_profile(profile, config, figure, error);
    return close_streams(type, figure, status, error);
}

kvs_status kvs_figure_compose_timings(const kvs_plot_type *type, const kvs_timings *timings, const void *config,
                                      kvs_figure *figure, kvs_error *error) {
    kvs_status status = KVS_OK;
    if (open_streams(type, figure)) status = type->compose_timings(timings, config, figure, error);
    return close_streams(type, figure, status, error);
}

kvs_status kvs_figure_compose_ranking(const kvs_plot_type *type, const kvs_rank_results *results, const void *config,
                                      kvs_figure *figure, kvs_error *error) {
    kvs_status status = KVS_OK;
    if (open_streams(type, figure)) status = type->compose_ranking(results, config, figure, error);
    return close_streams(type, figure, status, error);
}

void kvs_figure_clear(kvs_figure *figure) {
    free(figure->csv_text);
    free(figure->gp_text);
    memset(figure, 0, sizeof *figure);
}

static kvs_status path_of(const kvs_figure *figure, const char *folder, const char *suffix, char path[4096],
                          kvs_error *error) {
    int length = snprintf(path, 4096, "%s/%s.%s", folder, figure->name, suffix);
    if (length >= 4096) return kvs_fail(error, KVS_INPUT, folder, NULL, "the path is too long");
    return KVS_OK;
}

kvs_status kvs_figure_write(const kvs_figure *figure, const char *folder, kvs_error *error) {
    char path[4096];
    KVS_TRY(kvs_make_folder(folder, error));
    for (int i = 0; i < PICTURES; i++) {
        kvs_output output;
        KVS_TRY(path_of(figure, folder, pictures[i], path, error));
        KVS_TRY(kvs_output_begin(path, &output, error)); /* gnuplot will be able to write it */
        kvs_output_abandon(&output);
        if (unlink(path) != 0 && errno != ENOENT)
            return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be replaced: %s", strerror(errno));
    }
    KVS_TRY(path_of(figure, folder, "csv", path, error));
    KVS_TRY(kvs_write_text(path, figure->csv_text, error));
    KVS_TRY(path_of(figure, folder, "gp", path, error));
    return kvs_write_text(path, figure->gp_text, error);
}

/* gnuplot's first message: the line '"x.gp" line 12: what is wrong', else the first line that says anything. */
static void first_message(const char *said, char *message, size_t message_bytes) {
    const char *line = strstr(said, " line ");
    while (line != NULL && line > said && line[-1] != '\n') line--;
    if (line == NULL) line = said + strspn(said, " \n\t");
    snprintf(message, message_bytes, "%.*s", (int)strcspn(line, "\n"), line);
}

/* Starts `gnuplot SCRIPT` in the folder, its standard error into a pipe; without the user's own gnuplot settings. */
static int start_gnuplot(const char *folder, const char *script, int out, int unused, pid_t *child) {
    char program[] = "gnuplot", plain[] = "--default-settings", name[64];
    snprintf(name, sizeof name, "%s", script);
    char *arguments[] = {program, plain, name, NULL};
    posix_spawn_file_actions_t actions;
    int failed = posix_spawn_file_actions_init(&actions);
    if (failed) return failed;
    failed = posix_spawn_file_actions_addchdir_np(&actions, folder);
    if (!failed) failed = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", 0, 0);
    if (!failed) failed = posix_spawn_file_actions_adddup2(&actions, out, 1);
    if (!failed) failed = posix_spawn_file_actions_adddup2(&actions, out, 2);
    if (!failed) failed = posix_spawn_file_actions_addclose(&actions, unused);
    if (!failed) failed = posix_spawnp(child, program, &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    return failed;
}

/* All that the child says; the first part is kept. */
static void listen_to(int from, char *said, size_t said_bytes) {
    size_t used = 0;
    char part[1024];
    for (ssize_t got; (got = read(from, part, sizeof part)) > 0 || (got < 0 && errno == EINTR);) {
        size_t room = said_bytes - 1 - used, taken = got < 0 ? 0 : (size_t)got < room ? (size_t)got : room;
        memcpy(said + used, part, taken);
        used += taken;
    }
    said[used] = '\0';
}

static kvs_status check_pictures(const kvs_figure *figure, const char *folder, kvs_error *error) {
    char path[4096];
    for (int i = 0; i < PICTURES; i++) {
        struct stat info;
        KVS_TRY(path_of(figure, folder, pictures[i], path, error));
        if (stat(path, &info) != 0 || info.st_size == 0)
            return kvs_fail(error, KVS_DEVICE, path, NULL, "gnuplot reported no error but did not write it");
    }
    return KVS_OK;
}

kvs_status kvs_figure_draw(const kvs_figure *figure, const char *folder, kvs_error *error) {
    char path[4096], script[64], said[4096];
    KVS_TRY(path_of(figure, folder, "gp", path, error));
    snprintf(script, sizeof script, "%s.gp", figure->name);
    int ends[2];
    if (pipe(ends) != 0) return kvs_fail(error, KVS_DEVICE, "gnuplot", NULL, "no pipe: %s", strerror(errno));
    pid_t child;
    int failed = start_gnuplot(folder, script, ends[1], ends[0], &child);
    close(ends[1]);
    if (failed) {
        close(ends[0]);
        if (failed == ENOENT)
            return kvs_fail(error, KVS_DEVICE, "gnuplot", NULL,
                            "is not installed; the .csv and .gp are in %s, `make deps` installs it", folder);
        return kvs_fail(error, KVS_DEVICE, "gnuplot", NULL, "cannot be started: %s", strerror(failed));
    }
    listen_to(ends[0], said, sizeof said);
    close(ends[0]);
    int result = 0;
    while (waitpid(child, &result, 0) < 0 && errno == EINTR) {
    }
    if (kvs_interrupted()) return kvs_fail(error, KVS_INTERRUPTED, path, NULL, "interrupted");
    if (!WIFEXITED(result) || WEXITSTATUS(result) != 0) {
        char message[256];
        first_message(said, message, sizeof message);
        return kvs_fail(error, KVS_DEVICE, path, NULL, "gnuplot failed: %s", message[0] ? message : "it said nothing");
    }
    return check_pictures(figure, folder, error);
}
