/* closed_loop.h: schemes through a running model into result rows: text, generation, tasks, and an open-loop replay of
 * a trace beside them. */
#ifndef KVS_SIM_MODEL_CLOSED_LOOP_H
#define KVS_SIM_MODEL_CLOSED_LOOP_H

#include "analysis/result.h"
#include "sim/model/agreement.h"
#include "sim/model/evaluate.h"
#include "sim/model/tasks.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kvs_closed_loop_plan {
    const kvs_model *model;
    const kvs_tokens *tokens;
    kvs_eval_options text;
    kvs_agreement_options generation; /* generate 0: none */
    const kvs_tokenizer *tokenizer;   /* needed for tasks */
    const kvs_task *const *tasks;     /* [tasks_count] */
    int tasks_count;
    kvs_task_options task;
    const char *trace; /* NULL: no replay, and no errors */
    int64_t at_tokens; /* the length that memory is stated for */
    int quiet;
} kvs_closed_loop_plan;

/* Fills results [count], zeroed by the caller and cleared by it also on failure, and *full with what full precision
 * does (its scheme is "full precision", its memory is NaN). summary, if not NULL and zeroed, gets the description of
 * the model and, with a trace, of the trace and its channels, but no digests and no paths of model and text.
 * *logit_seconds: what the logits of all runs took. */
KVS_MUST_CHECK kvs_status kvs_closed_loop_run(const kvs_closed_loop_plan *plan, kvs_scheme *const *schemes, int count,
                                              kvs_result *full, kvs_result *results, kvs_trace_summary *summary,
                                              double *logit_seconds, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
