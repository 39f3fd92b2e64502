/* program.c: a program for `kvscope profile --exec`, without CUDA: loads the injected library as the driver would, and
 * launches kernels of the CUPTI in tests/fake/cupti.c. Arguments are done in turn:
 *   cuda          initializes the driver           launch NAME TIMES   launches a kernel
 *   graph TIMES   captures and launches a graph of two kernels
 *   exit STATUS   ends with exit                   _exit STATUS        ends without cleaning up
 *   fork          forks a child that exits 3       crash               ends with SIGABRT */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fake/cupti.h"

static void (*launch)(const char *kernel), (*capture)(const char *kernel), (*graph)(void);

static int initialize(void) {
    const char *path = getenv("CUDA_INJECTION64_PATH"), *cupti = getenv("KVSCOPE_CUPTI");
    int (*injected)(void) = NULL;
    void *driver = cupti == NULL ? NULL : dlopen(cupti, RTLD_NOW);
    void *library = path == NULL ? NULL : dlopen(path, RTLD_NOW);
    void *function = library == NULL ? NULL : dlsym(library, "InitializeInjection");
    void *launcher = driver == NULL ? NULL : dlsym(driver, "fake_cuda_launch");
    if (function == NULL || launcher == NULL) {
        fprintf(stderr, "program: %s\n", dlerror());
        return 99;
    }
    memcpy(&injected, &function, sizeof function);
    memcpy(&launch, &launcher, sizeof launcher);
    launcher = dlsym(driver, "fake_cuda_capture");
    memcpy(&capture, &launcher, sizeof launcher);
    launcher = dlsym(driver, "fake_cuda_graph");
    memcpy(&graph, &launcher, sizeof launcher);
    return injected() == 1 ? 0 : 98;
}

static int fork_child(void) {
    int state = 0;
    pid_t child = fork();
    if (child == 0) exit(3);
    return child > 0 && waitpid(child, &state, 0) == child && WEXITSTATUS(state) == 3 ? 0 : 97;
}

static void launch_graph(int times) {
    capture("first");
    capture("second");
    for (int i = 0; i < times; i++) graph();
}

int main(int argc, char **argv) {
    int status = 0;
    for (int i = 1; i < argc && status == 0; i++) {
        if (strcmp(argv[i], "cuda") == 0) status = initialize();
        if (strcmp(argv[i], "fork") == 0) status = fork_child();
        if (strcmp(argv[i], "crash") == 0) abort();
        if (strcmp(argv[i], "exit") == 0) exit(atoi(argv[i + 1]));
        if (strcmp(argv[i], "_exit") == 0) _exit(atoi(argv[i + 1]));
        if (strcmp(argv[i], "graph") == 0) launch_graph(atoi(argv[++i]));
        if (strcmp(argv[i], "launch") == 0) {
            for (int j = atoi(argv[i + 2]); j > 0; j--) launch(argv[i + 1]);
            i += 2;
        }
    }
    return status;
}
