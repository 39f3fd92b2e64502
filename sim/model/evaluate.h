/* evaluate.h: closed-loop accuracy: how well a model predicts a text when its cache holds what a scheme stored.
 *
 * The text is cut into windows from its first token on; each is run on its own, teacher-forced, and predicts every
 * token of it but the first. Each window is run in full precision (binary32) and once for each scheme, with the cache
 * of every layer as decoding token by token would have left it, so that errors travel through the layers. */
#ifndef KVS_SIM_MODEL_EVALUATE_H
#define KVS_SIM_MODEL_EVALUATE_H

#include <stdint.h>

#include "core/status.h"
#include "sim/model/forward.h"
#include "traces/tokens.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_EVAL_BINS = 16 };

typedef struct kvs_eval_options {
    int window_tokens; /* a rest shorter than a window is left out */
    int max_windows;   /* that many at most, evenly spread over the text; 0: all */
    int prompt_tokens; /* of each window: exact within, quantized at once behind */
    uint64_t seed;
    int quiet;
} kvs_eval_options;

/* How one scheme, or full precision, predicts. Standard errors are over documents (a prediction belongs to the document
 * of its token): of the ratio estimator sum(loss) / sum(predictions); NaN with fewer than two documents. */
typedef struct kvs_eval_score {
    int64_t predictions;
    double loss, loss_stderr;             /* nats per token */
    double difference, difference_stderr; /* loss minus that of full precision, paired by document */
    double top1_accuracy;                 /* share of tokens that are the most likely one */
    double top1_agreement;                /* share of positions whose most likely token is full precision's */
    double kl_mean;                       /* KL(full || scheme) of the next-token distribution, nats */
    double kl_bins[KVS_EVAL_BINS];        /* by position, in equal parts of the window; NaN where a part is empty */
    double top1_bins[KVS_EVAL_BINS];      /* top1_agreement by position */
    kvs_bits bits;                        /* per element of K and V at window_tokens; zeros for full precision */
    double seconds;                       /* of its passes, without the logits */
} kvs_eval_score;

typedef struct kvs_evaluation {
    int windows;
    double logit_seconds; /* of all logits, full precision's and the schemes' */
    kvs_eval_score full;
    kvs_eval_score *schemes; /* [count] */
} kvs_evaluation;

/* *evaluation is the caller's, freed with kvs_evaluation_clear. count may be 0. */
KVS_MUST_CHECK kvs_status kvs_evaluate(const kvs_model *model, const kvs_tokens *tokens, kvs_scheme *const *schemes,
                                       int count, const kvs_eval_options *options, kvs_evaluation *evaluation,
                                       kvs_error *error);
void kvs_evaluation_clear(kvs_evaluation *evaluation);

#ifdef __cplusplus
}
#endif
#endif
