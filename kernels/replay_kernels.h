/* replay_kernels.h: the kernels with which a replay measures what storing changed. Part of kvs_kernels (kernels.h).
 *
 * The formulas are those of analysis/softmax_error.h: everything is computed from differences, in binary32 with sums
 * of a fixed order, so that results repeat to the bit. A row is (query head, position) of a block of positions. */
#ifndef KVS_KERNELS_REPLAY_KERNELS_H
#define KVS_KERNELS_REPLAY_KERNELS_H

#include <stdint.h>

#include "kernels/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KVS_REPLAY_TOP = 8 };

/* wide = half as binary32, change = half - recorded; either may be NULL. */
typedef struct kvs_widen_args {
    int64_t count;
    const uint16_t *half;
    const float *recorded;
    float *wide, *change;
} kvs_widen_args;

/* What storing changed in `tokens` tokens that lie in consecutive blocks from block 0 on (one KV head each): change =
 * dequantized - half, dequantized being code * scale + zero in binary32. All of [tokens][head_dim]. */
typedef struct kvs_change_args {
    kvs_format format;
    int values; /* 0: the block's keys, 1: its values */
    int64_t tokens;
    const uint8_t *tensors[2];
    const uint16_t *half;
    const float *recorded;
    float *change;
    double *sums; /* [blocks][2]: of (dequantized - recorded)^2 and of recorded^2 */
} kvs_change_args;

/* A block of positions: row r is query head r / positions at position index first + r % positions of the unit's, and
 * sample (r / positions) * queries + that index of arrays over the whole unit. */
typedef struct kvs_replay_rows {
    int rows, positions, first, queries, head_dim;
} kvs_replay_rows;

/* matrix [rows][stride], column t = (or +=) scale a[sample] . b[t - begin], for begin <= t < ends[index of the row]; up
 * to `end` further columns may be written. */
typedef struct kvs_scores_args {
    kvs_replay_rows rows;
    const float *a; /* [samples][head_dim] */
    const float *b; /* [end - begin][head_dim] */
    int64_t begin, end, stride;
    const int32_t *ends; /* [queries], ascending */
    float scale;
    int add;
    float *matrix;
} kvs_scores_args;

/* parts [splits][rows][head_dim]: their sum is sum over t of weights[row][t] values[t - begin], t as above. */
typedef struct kvs_mix_args {
    kvs_replay_rows rows;
    const float *weights; /* [rows][stride] */
    const float *values;  /* [end - begin][head_dim] */
    int64_t begin, end, stride;
    const int32_t *ends;
    int splits;
    float *parts;
} kvs_mix_args;

/* One row of attention as it was, and as changed logits make it. */
typedef struct kvs_softmax_args {
    kvs_replay_rows rows;
    int64_t stride;
    const int32_t *visible; /* [queries]: keys that a position sees */
    const float *logits;    /* [rows][stride] */
    float *probabilities;
    int32_t *tops; /* [rows][KVS_REPLAY_TOP]: positions of the largest logits, as in kvs_top; -1: none */
} kvs_softmax_args;

typedef struct kvs_softmax_change_args {
    kvs_softmax_args row;  /* its results, as kvs_softmax left them */
    int64_t begin;         /* of the stored range; outside it only rounding changes logits */
    const int32_t *ends;   /* [queries]: its end; NULL: nothing is stored */
    const float *rounding; /* [rows][stride], or NULL */
    float *changes;        /* [rows][stride]: of logits in the stored range; become the weights of v in o' - o */
    float *shifted;        /* [rows][stride]: get those of v' - v */
    double *gains;         /* [rows] */
    float *logit_mse, *attention_kl, *top1, *top8; /* [samples] */
} kvs_softmax_change_args;

/* output = sum of parts, and |output|^2. With gains: of parts, moved = their sum, the squared error
 * |(moved - gain output) / (1 + gain)|^2 and its relative root, given output. */
typedef struct kvs_output_args {
    kvs_replay_rows rows;
    int splits;
    const float *parts;   /* [splits][rows][head_dim] */
    float *output;        /* [rows][head_dim] */
    double *energy;       /* [samples] */
    const double *gains;  /* [rows], or NULL */
    double *output_error; /* [samples] */
    float *rel_l2;        /* [samples] */
} kvs_output_args;

typedef struct kvs_replay_kernels {
    int (*widen)(const kvs_widen_args *args, void *stream);
    int (*change)(const kvs_change_args *args, void *stream);
    int (*scores)(const kvs_scores_args *args, void *stream);
    int (*mix)(const kvs_mix_args *args, void *stream);
    int (*softmax)(const kvs_softmax_args *args, void *stream);
    int (*softmax_change)(const kvs_softmax_change_args *args, void *stream);
    int (*output)(const kvs_output_args *args, void *stream);
} kvs_replay_kernels;

#ifdef __cplusplus
}
#endif
#endif
