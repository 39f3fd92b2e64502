#include "analysis/exec_read.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_VALUE = 4, MAX_FIELDS = FIRST_VALUE + KVS_COUNTERS };

/* Cuts a line at its tabs, in place. */
static int split(char *line, char *fields[MAX_FIELDS]) {
    int count = 0;
    line[strcspn(line, "\n")] = '\0';
    for (char *at = line; at != NULL && count < MAX_FIELDS; count++) {
        char *tab = strchr(at, '\t');
        if (tab != NULL) *tab++ = '\0';
        fields[count] = at;
        at = tab;
    }
    return count;
}

/* A symbol as the source has it, where a C++ library is there to tell; else as it is. The caller's. */
static char *source_name(const char *symbol) {
    typedef char *demangle(const char *, char *, size_t *, int *);
    demangle *function = NULL;
    int status = 0;
    char *name = NULL;
    if (strncmp(symbol, "_Z", 2) != 0) return strdup(symbol);
    void *library = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_LOCAL);
    void *found = library == NULL ? NULL : dlsym(library, "__cxa_demangle");
    memcpy(&function, &found, sizeof found);
    if (function != NULL) name = function(symbol, NULL, NULL, &status);
    if (library != NULL) (void)dlclose(library);
    return name != NULL ? name : strdup(symbol);
}

static kvs_status add_kernel(const char *path, char *const *fields, kvs_exec_profile *p, kvs_error *error) {
    double values[KVS_COUNTERS];
    long long launches = strtoll(fields[1], NULL, 10), counted = strtoll(fields[2], NULL, 10);
    if (counted < 1 || launches < counted)
        return kvs_fail(error, KVS_INPUT, path, fields[3], "%s launches of which %s are counted", fields[1], fields[2]);
    for (int i = 0; i < KVS_COUNTERS; i++) {
        char *text = fields[FIRST_VALUE + i], *end = text;
        values[i] = strtod(text, &end);
        if (end == text || *end != '\0')
            return kvs_fail(error, KVS_INPUT, path, kvs_counter_types[i].name, "'%s' is not a number", text);
    }
    char *name = source_name(fields[3]);
    if (name == NULL) return kvs_fail(error, KVS_INPUT, path, fields[3], "out of memory");
    int at = 0;
    while (at < p->count && strcmp(p->kernels[at].name, name) != 0) at++;
    if (at == p->count) {
        kvs_exec_kernel *more = realloc(p->kernels, sizeof *more * (size_t)(p->count + 1));
        if (more == NULL) {
            free(name);
            return kvs_fail(error, KVS_INPUT, path, fields[3], "out of memory");
        }
        p->kernels = more;
        p->kernels[p->count++] = (kvs_exec_kernel){.name = name};
    } else
        free(name);
    kvs_exec_add(p->kernels[at].values, p->kernels[at].counted, values, counted);
    p->kernels[at].counted += counted;
    p->kernels[at].launches += launches;
    p->launches += launches;
    return KVS_OK;
}

static void take_machine(char *const *fields, kvs_exec_profile *p) {
    (void)snprintf(p->chip, sizeof p->chip, "%s", fields[1]);
    p->cupti_version = (int)strtol(fields[2], NULL, 10);
    p->passes = (int)strtol(fields[3], NULL, 10);
    p->collected = strtoull(fields[4], NULL, 16);
    p->missing = strtoull(fields[5], NULL, 16);
}

static kvs_status read_lines(FILE *file, const char *path, kvs_exec_profile *p, kvs_error *error) {
    kvs_status failed = KVS_OK;
    char *line = NULL, *fields[MAX_FIELDS];
    size_t room = 0;
    int number = 0, ended = 0;
    kvs_status status = KVS_OK;
    while (status == KVS_OK && getline(&line, &room, file) >= 0) {
        int count = split(line, fields);
        number++;
        if (number == 1 && count == 2 && strcmp(fields[0], "kvscope-exec") == 0 && strcmp(fields[1], "1") == 0)
            continue;
        if (number > 1 && count == 2 && strcmp(fields[0], "state") == 0)
            ended = strcmp(fields[1], "ended") == 0;
        else if (number > 1 && count == 6 && strcmp(fields[0], "machine") == 0)
            take_machine(fields, p);
        else if (number > 1 && count == 2 && strcmp(fields[0], "graphs") == 0)
            p->graph_launches += strtoll(fields[1], NULL, 10);
        else if (number > 1 && count == 4 && strcmp(fields[0], "error") == 0)
            failed = kvs_fail(error, KVS_DEVICE, fields[1], fields[2], "%s", fields[3]);
        else if (number > 1 && count == MAX_FIELDS && strcmp(fields[0], "kernel") == 0)
            status = add_kernel(path, fields, p, error);
        else
            status = kvs_fail(error, KVS_INPUT, path, NULL, "line %d is not one of the injected library's", number);
    }
    free(line);
    if (status == KVS_OK && number == 0) status = kvs_fail(error, KVS_INPUT, path, NULL, "is empty");
    p->processes++;
    p->unfinished += !ended;
    return status != KVS_OK ? status : failed;
}

kvs_status kvs_exec_read(const char *path, kvs_exec_profile *profile, kvs_error *error) {
    FILE *file = fopen(path, "r");
    if (file == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be read");
    kvs_status status = read_lines(file, path, profile, error);
    (void)fclose(file);
    return status;
}
