/* tasks.h: tasks that need memory of the context, made from a seed and scored exactly.
 *
 * A sample is a text of `context` tokens whose last tokens are the answer; the model reads it teacher-forced, and each
 * answer token counts as right when it is the most likely one at its place. All of an answer right is what greedy
 * generation would have needed to produce it. A task that a model cannot do in full precision says nothing of a scheme,
 * so full precision is always scored beside it. */
#ifndef KVS_SIM_MODEL_TASKS_H
#define KVS_SIM_MODEL_TASKS_H

#include <stdint.h>

#include "core/status.h"
#include "kernels/scheme.h"
#include "sim/model/model.h"
#include "sim/model/tokenizer.h"
#include "traces/tokens.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A text under construction and its ids. */
typedef struct kvs_task_text {
    int32_t *ids; /* [context] */
    int context;
    int answer; /* its last tokens; set by make */
} kvs_task_text;

typedef struct kvs_task_source {
    const kvs_tokenizer *tokenizer;
    const kvs_tokens *filler; /* running text to fill gaps with */
    uint64_t key;             /* of the sample's random choices */
} kvs_task_source;

typedef struct kvs_task {
    const char *name, *summary;
    /* Fills text->ids and text->answer so that what the answer repeats begins `distance` tokens before the answer.
     * Fails with KVS_USAGE where the context is too short for that. */
    kvs_status (*make)(const kvs_task_source *source, int distance, kvs_task_text *text, kvs_error *error);
} kvs_task;

/* All tasks, ended by NULL; and one by its name, or NULL. */
extern const kvs_task *const kvs_tasks[];
const kvs_task *kvs_task_find(const char *name);

typedef struct kvs_task_options {
    int context, samples;
    const int *distances; /* [distances_count] */
    int distances_count;
    uint64_t seed;
    int quiet;
} kvs_task_options;

typedef struct kvs_task_score {
    int64_t answer_tokens;
    double token_accuracy; /* share of answer tokens that are right */
    double exact;          /* share of samples with all of them right */
} kvs_task_score;

/* Whether the model admits the context and every distance fits into it: before anything has run. */
KVS_MUST_CHECK kvs_status kvs_task_check(const kvs_model *model, const kvs_tokenizer *tokenizer,
                                         const kvs_tokens *filler, const kvs_task *task,
                                         const kvs_task_options *options, kvs_error *error);

/* Scores one task: scores [distances_count][count + 1], full precision first in each row. */
KVS_MUST_CHECK kvs_status kvs_task_run(const kvs_model *model, const kvs_tokenizer *tokenizer, const kvs_tokens *filler,
                                       const kvs_task *task, kvs_scheme *const *schemes, int count,
                                       const kvs_task_options *options, kvs_task_score *scores, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
