/* command.h: a subcommand of kvscope is one file in sim/commands/ that registers one kvs_command. */
#ifndef KVS_SIM_COMMAND_H
#define KVS_SIM_COMMAND_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef enum kvs_option_type {
    KVS_OPTION_FLAG,   /* int: 1 when given */
    KVS_OPTION_SWITCH, /* int: 1 when given alone or followed by "on", 0 with "off" */
    KVS_OPTION_INT,    /* int64_t */
    KVS_OPTION_REAL,   /* double */
    KVS_OPTION_BYTES,  /* int64_t; "80GiB", "500MB", "4096" */
    KVS_OPTION_TEXT,   /* const char *: the last one given; NULL if none */
    KVS_OPTION_LIST,   /* kvs_texts: every one given, in order */
} kvs_option_type;

typedef struct kvs_texts {
    const char **texts;
    int count;
} kvs_texts;

typedef struct kvs_option {
    const char *name; /* "scheme" for --scheme; a name of one letter is written -o */
    kvs_option_type type;
    size_t offset;        /* in the command's configuration struct */
    const char *metavar;  /* "N", "FILE"; NULL for a flag */
    const char *fallback; /* the default as a user would write it, or NULL */
    double low, high;     /* inclusive bounds of INT, REAL and BYTES */
    const char *summary;
} kvs_option;

/* What every command takes. The first member of every configuration struct. */
typedef struct kvs_common {
    int json, quiet, help;
    int64_t seed, threads; /* threads 0: as many as the machine has */
} kvs_common;

typedef struct kvs_command {
    const char *name, *arguments, *summary; /* arguments: "TRACE --scheme S ..." */
    const char *details;                    /* paragraphs and worked examples for --help */
    const kvs_option *options;              /* besides the common ones; ended by a NULL name */
    size_t config_bytes;
    int min_operands, max_operands; /* max -1: any number */
    kvs_status (*run)(const void *config, const kvs_texts *operands, kvs_error *error);
} kvs_command;

extern const kvs_command *const kvs_commands[]; /* ended by NULL */

/* "80GiB" in bytes; 0 on success. */
int kvs_parse_bytes(const char *text, double *bytes);

/* The command line as given, for provenance. */
const char *kvs_command_line(void);

/* Parses argv (after the command's name) into config (config_bytes, zeroed) and operands. Lists are the caller's to
 * free with kvs_options_free. */
KVS_MUST_CHECK kvs_status kvs_options_parse(const kvs_command *command, int argc, char **argv, void *config,
                                            kvs_texts *operands, kvs_error *error);
void kvs_options_free(const kvs_command *command, void *config, kvs_texts *operands);
void kvs_options_print_help(const kvs_command *command);

#endif
