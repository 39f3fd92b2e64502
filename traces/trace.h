/* trace.h: recorded activations of one model, read and written a head at a time (format version 1, traces/FORMAT.md).
 *
 * Memory stays proportional to one KV head of one layer of one sequence. Several threads may read from one open trace:
 * HDF5 works behind one process-wide lock (core/h5.h), conversion runs outside it. Writing is for one thread. */
#ifndef KVS_TRACES_TRACE_H
#define KVS_TRACES_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kvs_element { KVS_ELEMENT_BINARY16, KVS_ELEMENT_BINARY32, KVS_ELEMENT_BFLOAT16 } kvs_element;
const char *kvs_element_name(kvs_element element); /* "binary16" */
/* The element type of that name; KVS_USAGE if there is none. */
KVS_MUST_CHECK kvs_status kvs_element_parse(const char *text, kvs_element *element, kvs_error *error);
size_t kvs_element_bytes(kvs_element element);

typedef enum kvs_tensor { KVS_TENSOR_K, KVS_TENSOR_V, KVS_TENSOR_Q } kvs_tensor;

/* The root attributes. Texts are NUL-terminated; longer ones in a file are refused. */
typedef struct kvs_trace_header {
    char model_name[256], model_family[64];
    int layers, query_heads, kv_heads, head_dim; /* query_heads is a multiple of kv_heads */
    double softmax_scale;
    int causal, rope_applied;
    double rope_theta;
    char rope_scaling[1024]; /* "" if the file has none */
    int rope_interleaved;    /* 0 if the file has none */
    int rotary_dim;          /* head_dim if the file has none */
    char source_dtype[32], recorder[256], created_utc[64], license[256];
} kvs_trace_header;

typedef struct kvs_sequence {
    int tokens, prompt_tokens; /* T and P <= T */
    int queries;               /* Tq; 0 when the file has no queries */
    int has_token_ids;
    int source_tokens; /* S of its cross attention; 0 when it has none */
    char task[256];
    kvs_element k_element, v_element, q_element;
} kvs_sequence;

typedef struct kvs_trace kvs_trace;

/* Opens and validates everything but the values: attributes, presence, types, ranks, shapes, bounds, query_pos. Fails
 * with KVS_INPUT, naming the file, the object ("/sequences/000000/k", "/@num_layers") and the rule. *trace is
 * the caller's, closed with kvs_trace_close. */
KVS_MUST_CHECK kvs_status kvs_trace_open(const char *path, kvs_trace **trace, kvs_error *error);

/* The same file seen as its cross attention: only the sequences that have a group `cross`, renumbered; K and V over the
 * source positions, all of them a prompt, no position a query's own: causal and rope_applied are 0. Query positions
 * are those in the sequence that attends. KVS_INPUT when no sequence has one. */
KVS_MUST_CHECK kvs_status kvs_trace_open_cross(const char *path, kvs_trace **trace, kvs_error *error);
int kvs_trace_is_cross(const kvs_trace *trace);
void kvs_trace_close(kvs_trace *trace);

const char *kvs_trace_path(const kvs_trace *trace);
const kvs_trace_header *kvs_trace_header_of(const kvs_trace *trace);
int kvs_trace_sequences(const kvs_trace *trace);
const kvs_sequence *kvs_trace_sequence(const kvs_trace *trace, int sequence);

/* Reads one head of one tensor as binary32: values [T or Tq][head_dim], the caller's. head counts KV heads for K and V,
 * query heads for Q. Unless allow_nonfinite, a value that is not finite is KVS_INPUT and names its place. */
KVS_MUST_CHECK kvs_status kvs_trace_read_head(kvs_trace *trace, int sequence, kvs_tensor tensor, int layer, int head,
                                              int allow_nonfinite, float *values, kvs_error *error);

/* Positions [Tq] and token ids [T] (of a cross attention: the source's); the memory is the caller's. */
KVS_MUST_CHECK kvs_status kvs_trace_read_query_pos(kvs_trace *trace, int sequence, int32_t *positions,
                                                   kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_trace_read_token_ids(kvs_trace *trace, int sequence, int32_t *ids, kvs_error *error);

/* --- writing -------------------------------------------------------------------------------------------------------
 */

typedef struct kvs_trace_writer kvs_trace_writer;

typedef struct kvs_trace_options {
    kvs_element element; /* of k, v and q */
    int deflate;         /* 0: no filter; 1..9: shuffle + deflate at that level */
} kvs_trace_options;

/* Writes to a temporary file beside path; kvs_trace_writer_finish renames it, _abandon removes it. */
KVS_MUST_CHECK kvs_status kvs_trace_create(const char *path, const kvs_trace_header *header, kvs_trace_options options,
                                           kvs_trace_writer **writer, kvs_error *error);
/* Starts the next sequence. query_pos [sequence->queries] and token_ids [tokens] are NULL where there are none. */
KVS_MUST_CHECK kvs_status kvs_trace_add_sequence(kvs_trace_writer *writer, const kvs_sequence *sequence,
                                                 const int32_t *query_pos, const int32_t *token_ids, kvs_error *error);
/* Writes rows [first, first + count) of one head of the current sequence: values [count][head_dim]. A value that is not
 * finite, or overflows the element type, is KVS_INPUT. */
KVS_MUST_CHECK kvs_status kvs_trace_write_rows(kvs_trace_writer *writer, kvs_tensor tensor, int layer, int head,
                                               int first, int count, const float *values, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_trace_writer_finish(kvs_trace_writer *writer, kvs_error *error);
void kvs_trace_writer_abandon(kvs_trace_writer *writer);

#ifdef __cplusplus
}
#endif
#endif
