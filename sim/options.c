/* options.c: the command line against a command's table of options. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/params.h"
#include "sim/command.h"

static const kvs_option common_options[] = {
    {"json", KVS_OPTION_FLAG, offsetof(kvs_common, json), NULL, NULL, 0, 0,
     "print one JSON document on standard output"},
    {"seed", KVS_OPTION_INT, offsetof(kvs_common, seed), "N", "0", 0, 9e15, "seed of every random choice"},
    {"threads", KVS_OPTION_INT, offsetof(kvs_common, threads), "N", "0", 0, 4096, "threads; 0: one per core"},
    {"quiet", KVS_OPTION_FLAG, offsetof(kvs_common, quiet), NULL, NULL, 0, 0, "no progress and no table"},
    {"help", KVS_OPTION_FLAG, offsetof(kvs_common, help), NULL, NULL, 0, 0, "this text"},
    {NULL, KVS_OPTION_FLAG, 0, NULL, NULL, 0, 0, NULL},
};

static const kvs_option *find(const kvs_command *command, const char *name) {
    const kvs_option *tables[] = {command->options, common_options};
    for (int i = 0; i < 2; i++)
        for (const kvs_option *o = tables[i]; o != NULL && o->name != NULL; o++)
            if (strcmp(o->name, name) == 0) return o;
    return NULL;
}

static kvs_status append(kvs_texts *list, const char *text, kvs_error *error) {
    const char **grown = realloc(list->texts, sizeof *grown * (size_t)(list->count + 1));
    if (grown == NULL) return kvs_fail(error, KVS_INPUT, NULL, NULL, "out of memory");
    list->texts = grown;
    list->texts[list->count++] = text;
    return KVS_OK;
}

int kvs_parse_bytes(const char *text, double *bytes) {
    static const struct {
        const char *suffix;
        double factor;
    } units[] = {{"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}, {"TiB", 1099511627776.0},
                 {"kB", 1e3},     {"MB", 1e6},        {"GB", 1e9},           {"TB", 1e12},
                 {"B", 1}};
    char number[64];
    size_t length = strspn(text, "0123456789.");
    if (length == 0 || length >= sizeof number) return 1;
    memcpy(number, text, length);
    number[length] = '\0';
    if (kvs_parse_real(number, bytes)) return 1;
    if (text[length] == '\0') return 0;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(text + length, units[i].suffix) == 0) {
            *bytes *= units[i].factor;
            return 0;
        }
    return 1;
}

static const char *dashes(const kvs_option *option) {
    return option->name[1] == '\0' ? "-" : "--";
}

/* "on" or "off" into *on; 0 on success. */
static int parse_switch(const char *text, int *on) {
    *on = strcmp(text, "on") == 0;
    return !*on && strcmp(text, "off") != 0;
}

static kvs_status set(const kvs_option *o, const char *value, void *config, kvs_error *error) {
    void *field = (char *)config + o->offset;
    char shown[64];
    snprintf(shown, sizeof shown, "%s%s", dashes(o), o->name);
    if (o->type == KVS_OPTION_TEXT) {
        *(const char **)field = value;
        return KVS_OK;
    }
    if (o->type == KVS_OPTION_LIST) return append(field, value, error);
    if (o->type == KVS_OPTION_SWITCH) {
        if (parse_switch(value, field) == 0) return KVS_OK;
        return kvs_fail(error, KVS_USAGE, shown, NULL, "'%s' is neither on nor off", value);
    }
    double number = 0;
    long long whole = 0;
    if (o->type == KVS_OPTION_INT) {
        if (kvs_parse_int(value, &whole))
            return kvs_fail(error, KVS_USAGE, shown, NULL, "'%s' is not a whole number", value);
        number = (double)whole;
    } else if (o->type == KVS_OPTION_BYTES) {
        if (kvs_parse_bytes(value, &number))
            return kvs_fail(error, KVS_USAGE, shown, NULL, "'%s' is not a size; write 4096, 500MB or 80GiB", value);
        whole = number < 9e18 ? (long long)number : INT64_MAX;
    } else if (kvs_parse_real(value, &number))
        return kvs_fail(error, KVS_USAGE, shown, NULL, "'%s' is not a finite number", value);
    if (number < o->low || number > o->high)
        return kvs_fail(error, KVS_USAGE, shown, NULL, "%s is outside %.15g to %.15g", value, o->low, o->high);
    if (o->type == KVS_OPTION_REAL)
        *(double *)field = number;
    else
        *(int64_t *)field = whole;
    return KVS_OK;
}

static kvs_status set_defaults(const kvs_option *table, void *config, kvs_error *error) {
    for (; table != NULL && table->name != NULL; table++)
        if (table->fallback != NULL) KVS_TRY(set(table, table->fallback, config, error));
    return KVS_OK;
}

/* One option at argv[*i]; moves *i past a separate value. */
static kvs_status parse_option(const kvs_command *command, int argc, char **argv, int *i, void *config,
                               kvs_error *error) {
    const char *text = argv[*i];
    char name[64];
    const char *body = text + 1 + (text[1] == '-');
    const char *equals = text[1] == '-' ? strchr(body, '=') : NULL;
    size_t length = equals != NULL ? (size_t)(equals - body) : strlen(body);
    const kvs_option *o = NULL;
    if (length < sizeof name) {
        memcpy(name, body, length);
        name[length] = '\0';
        o = find(command, name);
    }
    if (o == NULL || (text[1] == '-') != (o->name[1] != '\0'))
        return kvs_fail(error, KVS_USAGE, text, NULL, "unknown option of '%s'; see kvscope %s --help", command->name,
                        command->name);
    if (o->type == KVS_OPTION_FLAG) {
        if (equals != NULL) return kvs_fail(error, KVS_USAGE, text, NULL, "this option takes no value");
        *(int *)((char *)config + o->offset) = 1;
        return KVS_OK;
    }
    int on;
    if (o->type == KVS_OPTION_SWITCH && equals == NULL) { /* the value may be left out */
        int given = *i + 1 < argc && parse_switch(argv[*i + 1], &on) == 0;
        return set(o, given ? argv[++*i] : "on", config, error);
    }
    if (equals == NULL && ++*i >= argc) return kvs_fail(error, KVS_USAGE, text, NULL, "needs a value: %s", o->metavar);
    return set(o, equals != NULL ? equals + 1 : argv[*i], config, error);
}

kvs_status kvs_options_parse(const kvs_command *command, int argc, char **argv, void *config, kvs_texts *operands,
                             kvs_error *error) {
    KVS_TRY(set_defaults(common_options, config, error));
    KVS_TRY(set_defaults(command->options, config, error));
    for (int i = 0, only_operands = 0; i < argc; i++) {
        if (!only_operands && strcmp(argv[i], "--") == 0)
            only_operands = 1;
        else if (!only_operands && argv[i][0] == '-' && argv[i][1] != '\0')
            KVS_TRY(parse_option(command, argc, argv, &i, config, error));
        else
            KVS_TRY(append(operands, argv[i], error));
    }
    if (((const kvs_common *)config)->help) return KVS_OK;
    if (operands->count < command->min_operands)
        return kvs_fail(error, KVS_USAGE, command->name, NULL, "usage: kvscope %s %s", command->name,
                        command->arguments);
    if (command->max_operands >= 0 && operands->count > command->max_operands)
        return kvs_fail(error, KVS_USAGE, operands->texts[command->max_operands], NULL,
                        "unexpected; usage: kvscope %s %s", command->name, command->arguments);
    return KVS_OK;
}

void kvs_options_free(const kvs_command *command, void *config, kvs_texts *operands) {
    for (const kvs_option *o = command->options; o != NULL && o->name != NULL; o++)
        if (o->type == KVS_OPTION_LIST) free(((kvs_texts *)((char *)config + o->offset))->texts);
    free(operands->texts);
}

static void print_options(const kvs_option *table) {
    for (; table != NULL && table->name != NULL; table++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s%s%s", dashes(table), table->name, table->metavar ? " " : "",
                 table->metavar ? table->metavar : "");
        printf("  %-26s %s", left, table->summary);
        if (table->fallback != NULL) printf(" (default %s)", table->fallback);
        putchar('\n');
    }
}

void kvs_options_print_help(const kvs_command *command) {
    printf("kvscope %s %s\n\n%s\n\nOptions:\n", command->name, command->arguments, command->summary);
    print_options(command->options);
    print_options(common_options);
    if (command->details != NULL) printf("\n%s", command->details);
}
