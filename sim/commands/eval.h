/* eval.h: what the parts of kvscope eval share. */
#ifndef KVS_SIM_COMMANDS_EVAL_H
#define KVS_SIM_COMMANDS_EVAL_H

#include "sim/command.h"
#include "sim/model/agreement.h"
#include "sim/model/evaluate.h"
#include "sim/model/proxy.h"
#include "sim/model/tasks.h"

enum { EVAL_DISTANCES = 32 };

typedef struct eval_settings {
    kvs_common common;
    const char *model, *tokens, *distances, *trace;
    kvs_texts schemes, tasks;
    int64_t window, windows, prompt, generate, prompts, prompt_tokens, samples;
    int speed;
} eval_settings;

typedef struct eval_data {
    const eval_settings *settings;
    kvs_model *model;
    kvs_tokenizer *tokenizer; /* NULL without tasks */
    kvs_tokens tokens;
    kvs_scheme **schemes;
    int count; /* of schemes; below, a run is full precision (0) or scheme run - 1 */
    kvs_evaluation evaluation;
    kvs_agreement *agreements; /* [count + 1] */
    int distances[EVAL_DISTANCES], distances_count;
    kvs_task_score *scores;      /* [tasks][distances_count][count + 1] */
    kvs_proxies proxies;         /* of --trace */
    double blas_rate, read_rate; /* NaN: not measured */
} eval_data;

/* Prints all that was found, as JSON or as tables, as the settings say. */
KVS_MUST_CHECK kvs_status eval_print(const eval_data *data, kvs_error *error);

#endif
