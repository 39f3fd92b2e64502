/* labels.h: short names for the schemes of a result file. */
#ifndef KVS_PLOTS_LABELS_H
#define KVS_PLOTS_LABELS_H

#include "plots/plot.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "kitty boost=0.25": the family (the scheme's name) and the parameters in which the schemes of that family differ
 * within the file, words without their key; the layout too, if the same scheme is there with several. */
typedef struct kvs_scheme_label {
    int family; /* index into families */
    char text[128];
} kvs_scheme_label;

typedef struct kvs_scheme_family {
    char name[40];
    char common[160]; /* "page=128 meta=fp32": what all its schemes, if several, have in common and not all families
                       * that name it; may be "" */
} kvs_scheme_family;

typedef struct kvs_scheme_labels {
    kvs_scheme_label *labels; /* [results_count] */
    kvs_scheme_family *families;
    int families_count; /* in the order in which the file has them */
    char shared[160];   /* "sink=32 window=128": what all that name it, of several families, agree on; may be "" */
} kvs_scheme_labels;

/* *labels is the caller's, freed with kvs_scheme_labels_clear. Long texts are cut. */
KVS_MUST_CHECK kvs_status kvs_scheme_labels_make(const kvs_results *results, kvs_scheme_labels *labels,
                                                 kvs_error *error);
/* Cuts a label's text down to the words that it shares with another one. */
void kvs_scheme_label_common(char *text, const char *other);
void kvs_scheme_labels_clear(kvs_scheme_labels *labels);

/* The model's name, or else the name of the trace's file; and
 * "qwen3-7m: 6 layers, 2 KV heads, head_dim 64": the trace a panel is about. */
const char *kvs_trace_name(const kvs_trace_summary *trace);
void kvs_trace_label(const kvs_trace_summary *trace, char *text, size_t text_bytes);

#ifdef __cplusplus
}
#endif
#endif
