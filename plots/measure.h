/* measure.h: the error measures of a result file, and what a closed loop found, as a plot's parameters choose them. */
#ifndef KVS_PLOTS_MEASURE_H
#define KVS_PLOTS_MEASURE_H

#include "plots/plot.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The choices of a plot's parameters "error" and "statistic" (KVS_PARAM_CHOICE). */
extern const char *const kvs_measure_names[], *const kvs_statistic_names[];

#define KVS_MEASURE_PARAMS(config_type)                                                                                \
    {"error",                                                                                                          \
     KVS_PARAM_CHOICE,                                                                                                 \
     offsetof(config_type, measure),                                                                                   \
     "attention_output_rel_l2",                                                                                        \
     0,                                                                                                                \
     0,                                                                                                                \
     "",                                                                                                               \
     "the error measure; of an agreement, what it lacks to 1",                                                         \
     kvs_measure_names},                                                                                               \
    {                                                                                                                  \
        "statistic", KVS_PARAM_CHOICE, offsetof(config_type, statistic), "mean", 0, 0, "",                             \
            "which statistic over samples, where the measure has several", kvs_statistic_names                         \
    }

/* An error, the smaller the better: agreements are returned as 1 - agreement. NaN if it is not available. */
double kvs_measure(const kvs_errors *errors, int measure, int statistic);

/* "mean relative L2 error of the attention output". */
void kvs_measure_text(int measure, int statistic, char *text, size_t text_bytes);

/* Refuses a statistic other than the mean of a measure that has only one value. */
KVS_MUST_CHECK kvs_status kvs_measure_check(const char *plot, int measure, int statistic, kvs_error *error);

/* --- of whole results: the errors above, then what a closed loop found ------------------------------------------- */

/* "auto", then the names; a choice's number less 1 is the measure below. */
extern const char *const kvs_result_measure_names[];
enum { KVS_MEASURE_PERPLEXITY = 8, KVS_MEASURE_INCREASE, KVS_MEASURE_NEXT_KL, KVS_MEASURE_TASKS };

/* The number as it is drawn, or NaN. */
double kvs_result_measure(const kvs_result *result, int measure, int statistic);
/* Full precision's, where that is no matter of course, or NaN. */
double kvs_result_measure_full(const kvs_result *result, int measure);
int kvs_measure_is_linear(int measure);      /* drawn on a linear axis */
int kvs_measure_more_is_better(int measure); /* else less */
int kvs_measure_is_closed_loop(int measure);
double kvs_measure_least(int measure); /* on a logarithmic axis: what is below is rounding */
/* All measures, as kvs_measure_text and kvs_measure_check. */
void kvs_result_measure_text(int measure, int statistic, char *text, size_t text_bytes);
KVS_MUST_CHECK kvs_status kvs_result_measure_check(const char *plot, int measure, int statistic, kvs_error *error);

#ifdef __cplusplus
}
#endif
#endif
