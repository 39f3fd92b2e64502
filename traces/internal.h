/* internal.h: what the files of this folder share. */
#ifndef KVS_TRACES_INTERNAL_H
#define KVS_TRACES_INTERNAL_H

#include "core/h5.h"
#include "traces/trace.h"

#define KVS_TRACE_MAX_TOKENS    (1 << 28)
#define KVS_TRACE_MAX_SEQUENCES 1000000 /* six digits */
#define KVS_TRACE_CHUNK_TOKENS  128     /* a page of 128 tokens of one head is one chunk */

/* Root attributes, from one table; check holds the rules that join several of them. */
KVS_MUST_CHECK kvs_status kvs_header_read(kvs_h5_place root, kvs_trace_header *header, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_header_write(kvs_h5_place root, const kvs_trace_header *header, kvs_error *error);
KVS_MUST_CHECK kvs_status kvs_header_check(const char *path, const kvs_trace_header *header, kvs_error *error);

/* Element types: which one a dataset holds; the HDF5 type to create one with (the caller closes it; negative if HDF5
 * fails); and bytes of one element. */
KVS_MUST_CHECK kvs_status kvs_element_of(kvs_h5_place dataset, kvs_element *element, kvs_error *error);
hid_t kvs_element_type(kvs_element element);

/* "k", "v", "q"; heads and rows of a tensor of one sequence. */
extern const char *const kvs_tensor_names[3];
int kvs_tensor_heads(const kvs_trace_header *header, kvs_tensor tensor);
int kvs_tensor_rows(const kvs_sequence *sequence, kvs_tensor tensor);

/* "/sequences/000003", and with a name "/sequences/000003/k". */
typedef struct kvs_object_name {
    char text[64];
} kvs_object_name;
kvs_object_name kvs_sequence_object(int sequence, const char *name);

/* Reads and validates all of one sequence but the values of its tensors. */
KVS_MUST_CHECK kvs_status kvs_sequence_read(kvs_h5_place group, const kvs_trace_header *header, kvs_sequence *sequence,
                                            kvs_error *error);
/* The same of the group `cross` of a sequence, as a sequence of source positions; *cross has the sequence's task and
 * queries already. */
KVS_MUST_CHECK kvs_status kvs_cross_read(kvs_h5_place group, const kvs_trace_header *header, kvs_sequence *cross,
                                         kvs_error *error);
/* What a sequence's token ids are called. */
#define KVS_TOKEN_IDS        "token_ids"
#define KVS_SOURCE_TOKEN_IDS "source_token_ids"
/* Opens tensor NAME of an open sequence and checks its shape, [layers][heads][rows][head_dim]; rows 0 means any and is
 * then set. */
KVS_MUST_CHECK kvs_status kvs_tensor_open(kvs_h5_place group, const kvs_trace_header *header, kvs_tensor tensor,
                                          int *rows, hid_t *dataset, kvs_error *error);
/* Positions must increase strictly within 0 to tokens - 1. */
KVS_MUST_CHECK kvs_status kvs_query_pos_check(kvs_h5_place query_pos, const kvs_sequence *sequence,
                                              const int32_t *positions, kvs_error *error);
/* Reads a dataset of `length` int32 and checks shape and type; the same without values when values is NULL. */
KVS_MUST_CHECK kvs_status kvs_integers_read(kvs_h5_place group, const char *name, int length, int32_t *values,
                                            kvs_error *error);

#endif
