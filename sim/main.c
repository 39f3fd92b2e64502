/* main.c: picks the command, prints its error as one line, exits with its status. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/version.h"
#include "sim/command.h"

static char command_line[4096];

const char *kvs_command_line(void) {
    return command_line;
}

static void record_command_line(int argc, char **argv) {
    size_t used = 0;
    for (int i = 0; i < argc && used < sizeof command_line; i++) {
        const char *name = i == 0 ? "kvscope" : argv[i];
        used += (size_t)snprintf(command_line + used, sizeof command_line - used, "%s%s", i ? " " : "", name);
    }
}

static void print_help(void) {
    printf("kvscope %s: what a quantized KV cache saves, costs and how a GPU reads it\n\nCommands:\n", KVS_VERSION);
    for (int i = 0; kvs_commands[i] != NULL; i++)
        printf("  %-8s %s\n", kvs_commands[i]->name, kvs_commands[i]->summary);
    printf("\nkvscope COMMAND --help explains one. Exit status: 0 done, 1 a check did not hold, 2 wrong usage,\n"
           "3 bad input, 4 a device, driver or program that is needed is missing.\n");
}

static kvs_status run(const kvs_command *command, int argc, char **argv, kvs_error *error) {
    void *config = calloc(1, command->config_bytes);
    if (config == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    kvs_texts operands = {NULL, 0};
    kvs_status status = kvs_options_parse(command, argc, argv, config, &operands, error);
    if (status == KVS_OK) {
        if (((const kvs_common *)config)->help)
            kvs_options_print_help(command);
        else
            status = command->run(config, &operands, error);
    }
    kvs_options_free(command, config, &operands);
    free(config);
    return status;
}

static kvs_status dispatch(int argc, char **argv, kvs_error *error) {
    const char *name = argc > 1 ? argv[1] : "";
    if (name[0] == '\0' || strcmp(name, "--help") == 0 || strcmp(name, "help") == 0) {
        print_help();
        return name[0] == '\0' ? kvs_fail(error, KVS_USAGE, NULL, NULL, "no command given") : KVS_OK;
    }
    if (strcmp(name, "--version") == 0) {
        puts("kvscope " KVS_VERSION);
        return KVS_OK;
    }
    for (int i = 0; kvs_commands[i] != NULL; i++)
        if (strcmp(kvs_commands[i]->name, name) == 0) return run(kvs_commands[i], argc - 2, argv + 2, error);
    return kvs_fail(error, KVS_USAGE, name, NULL, "unknown command; see kvscope --help");
}

/* OpenBLAS starts threads of its own, which nothing here uses, before main. Where address space is limited they may
 * wait for memory for ever, and the end of the program for them: then it starts anew without them. */
static void start_without_threads(char **argv) {
    struct rlimit limit;
    const char *threads = getenv("OPENBLAS_NUM_THREADS");
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
    if (threads != NULL && strcmp(threads, "1") == 0) return;
    if (setenv("OPENBLAS_NUM_THREADS", "1", 1) == 0) execv("/proc/self/exe", argv);
}

int main(int argc, char **argv) {
    start_without_threads(argv);
    signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files is then an error like a full disk */
    record_command_line(argc, argv);
    kvs_error error = {0};
    kvs_status status = dispatch(argc, argv, &error);
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == KVS_OK)
        status = kvs_fail(&error, KVS_INPUT, "standard output", NULL, "cannot be written");
    if (status != KVS_OK) {
        char text[800];
        kvs_error_text(&error, text, sizeof text);
        fprintf(stderr, "kvscope: %s\n", text);
    }
    return (int)status;
}
