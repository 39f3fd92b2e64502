/* eval.h: what the parts of kvscope eval share. */
#ifndef KVS_SIM_COMMANDS_EVAL_H
#define KVS_SIM_COMMANDS_EVAL_H

#include "sim/command.h"
#include "sim/model/closed_loop.h"
#include "sim/model/proxy.h"

enum { EVAL_DISTANCES = 32 };

typedef struct eval_settings {
    kvs_common common;
    const char *model, *tokens, *distances, *trace, *backend;
    kvs_texts schemes, grids, tasks, outputs;
    int64_t window, windows, prompt, generate, prompts, prompt_tokens, samples, task_context, at_tokens;
    int speed, restart, random_weights;
} eval_settings;

typedef struct eval_data {
    const eval_settings *settings;
    kvs_model *model;
    kvs_tokenizer *tokenizer; /* NULL without tasks */
    kvs_tokens tokens;
    int distances[EVAL_DISTANCES], distances_count;
    const char **specs; /* [count] */
    int count;
    kvs_results results; /* [count + 1]: full precision first, which goes to no file; one trace */
    /* NaN: not measured. On a device read_rate is the bytes a second that copying moves. */
    double blas_rate, read_rate, logit_seconds;
} eval_data;

/* Runs what is not in the journal of an interrupted run, and writes the result files. */
KVS_MUST_CHECK kvs_status eval_run(eval_data *data, kvs_error *error);

/* Bytes that a token of the greedy generation reads in full precision, on average. */
double eval_step_bytes(const eval_data *data);

/* Prints all that was found, as JSON or as tables, as the settings say. */
KVS_MUST_CHECK kvs_status eval_print(const eval_data *data, kvs_error *error);

#endif
