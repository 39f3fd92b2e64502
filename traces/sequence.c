/* sequence.c: what one sequence of a trace must look like. */
#include <stdio.h>
#include <stdlib.h>

#include "traces/internal.h"

const char *const kvs_tensor_names[3] = {"k", "v", "q"};

int kvs_tensor_heads(const kvs_trace_header *header, kvs_tensor tensor) {
    return tensor == KVS_TENSOR_Q ? header->query_heads : header->kv_heads;
}

int kvs_tensor_rows(const kvs_sequence *sequence, kvs_tensor tensor) {
    return tensor == KVS_TENSOR_Q ? sequence->queries : sequence->tokens;
}

kvs_object_name kvs_sequence_object(int sequence, const char *name) {
    kvs_object_name object;
    snprintf(object.text, sizeof object.text, "/sequences/%06d%s%.40s", sequence, name ? "/" : "", name ? name : "");
    return object;
}

static kvs_h5_place place_in(kvs_h5_place group, const char *name, hid_t id, kvs_object_name *object) {
    snprintf(object->text, sizeof object->text, "%.40s/%.20s", group.object, name);
    return (kvs_h5_place){id, group.file, object->text};
}

/* A chunk is read whole: one head is what memory may hold, or a little for tensors that are small. */
static uint64_t largest_chunk(uint64_t rows, int columns) {
    uint64_t head = 4 * rows * (uint64_t)columns, small = 16u << 20;
    return head > small ? head : small;
}

kvs_status kvs_tensor_open(kvs_h5_place group, const kvs_trace_header *header, kvs_tensor tensor, int *rows,
                           hid_t *dataset, kvs_error *error) {
    static const char *const axes[] = {"num_layers", "heads", "tokens", "head_dim"};
    const char *name = kvs_tensor_names[tensor];
    hsize_t dims[4];
    KVS_TRY(kvs_h5_dataset(group, name, 4, largest_chunk((uint64_t)*rows, header->head_dim), dims, dataset, error));
    kvs_object_name object;
    kvs_h5_place place = place_in(group, name, *dataset, &object);
    int most = *rows > 0 ? *rows : INT32_MAX;
    hsize_t low[] = {(hsize_t)header->layers, (hsize_t)kvs_tensor_heads(header, tensor),
                     (hsize_t)(*rows > 0 ? *rows : 1), (hsize_t)header->head_dim};
    for (int i = 0; i < 4; i++) {
        hsize_t high = i == 2 ? (hsize_t)most : low[i];
        if (dims[i] >= low[i] && dims[i] <= high) continue;
        H5Dclose(*dataset);
        return kvs_fail(error, KVS_INPUT, place.file, place.object, "dimension %d (%s) is %llu, must be %llu", i,
                        axes[i], (unsigned long long)dims[i], (unsigned long long)low[i]);
    }
    *rows = (int)dims[2];
    return KVS_OK;
}

static kvs_status check_tensor(kvs_h5_place group, const kvs_trace_header *header, kvs_tensor tensor, int *rows,
                               kvs_element *element, kvs_error *error) {
    hid_t dataset;
    kvs_object_name object;
    KVS_TRY(kvs_tensor_open(group, header, tensor, rows, &dataset, error));
    kvs_status status = kvs_element_of(place_in(group, kvs_tensor_names[tensor], dataset, &object), element, error);
    H5Dclose(dataset);
    return status;
}

kvs_status kvs_integers_read(kvs_h5_place group, const char *name, int length, int32_t *values, kvs_error *error) {
    hsize_t dims[1];
    hid_t dataset;
    KVS_TRY(kvs_h5_dataset(group, name, 1, largest_chunk((uint64_t)length, 1), dims, &dataset, error));
    kvs_object_name object;
    kvs_h5_place place = place_in(group, name, dataset, &object);
    hid_t type = H5Dget_type(dataset);
    int right =
        type >= 0 && H5Tget_class(type) == H5T_INTEGER && H5Tget_size(type) == 4 && H5Tget_sign(type) == H5T_SGN_2;
    if (type >= 0) H5Tclose(type);
    kvs_status status = KVS_OK;
    if (!right)
        status = kvs_fail(error, KVS_INPUT, place.file, place.object, "has another element type; must be int32");
    else if (dims[0] != (hsize_t)length)
        status = kvs_fail(error, KVS_INPUT, place.file, place.object, "has length %llu, must be %d",
                          (unsigned long long)dims[0], length);
    else if (values != NULL && H5Dread(dataset, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
        status = kvs_h5_fail(error, place, NULL, "cannot be read");
    H5Dclose(dataset);
    return status;
}

static kvs_status check_query_pos(kvs_h5_place group, const kvs_sequence *sequence, kvs_error *error) {
    int32_t *positions = malloc(sizeof *positions * (size_t)sequence->queries);
    if (positions == NULL) return kvs_fail(error, KVS_INPUT, group.file, group.object, "out of memory");
    kvs_status status = kvs_integers_read(group, "query_pos", sequence->queries, positions, error);
    kvs_object_name object;
    kvs_h5_place place = place_in(group, "query_pos", 0, &object);
    if (status == KVS_OK) status = kvs_query_pos_check(place, sequence, positions, error);
    free(positions);
    return status;
}

kvs_status kvs_query_pos_check(kvs_h5_place place, const kvs_sequence *sequence, const int32_t *positions,
                               kvs_error *error) {
    for (int i = 0; i < sequence->queries; i++) {
        if (positions[i] < 0 || positions[i] >= sequence->tokens)
            return kvs_fail(error, KVS_INPUT, place.file, place.object, "position %d at index %d is outside 0 to %d",
                            positions[i], i, sequence->tokens - 1);
        if (i > 0 && positions[i] <= positions[i - 1])
            return kvs_fail(error, KVS_INPUT, place.file, place.object,
                            "positions must increase: %d at index %d follows %d", positions[i], i, positions[i - 1]);
    }
    return KVS_OK;
}

kvs_status kvs_sequence_read(kvs_h5_place group, const kvs_trace_header *header, kvs_sequence *s, kvs_error *error) {
    int64_t tokens, prompt_tokens;
    *s = (kvs_sequence){.has_token_ids = kvs_h5_has(group, KVS_TOKEN_IDS)};
    KVS_TRY(kvs_h5_int(group, "num_tokens", 1, KVS_TRACE_MAX_TOKENS, &tokens, error));
    KVS_TRY(kvs_h5_int(group, "num_prompt_tokens", 0, tokens, &prompt_tokens, error));
    KVS_TRY(kvs_h5_text(group, "task", s->task, sizeof s->task, error));
    s->tokens = (int)tokens;
    s->prompt_tokens = (int)prompt_tokens;
    KVS_TRY(check_tensor(group, header, KVS_TENSOR_K, &s->tokens, &s->k_element, error));
    KVS_TRY(check_tensor(group, header, KVS_TENSOR_V, &s->tokens, &s->v_element, error));
    if (s->has_token_ids) KVS_TRY(kvs_integers_read(group, KVS_TOKEN_IDS, s->tokens, NULL, error));
    int has_queries = kvs_h5_has(group, kvs_tensor_names[KVS_TENSOR_Q]);
    if (has_queries != kvs_h5_has(group, "query_pos")) {
        kvs_object_name object;
        place_in(group, has_queries ? "query_pos" : "q", 0, &object);
        return kvs_fail(error, KVS_INPUT, group.file, object.text, "dataset is missing; q and query_pos go together");
    }
    if (!has_queries) return KVS_OK;
    KVS_TRY(check_tensor(group, header, KVS_TENSOR_Q, &s->queries, &s->q_element, error));
    return check_query_pos(group, s, error);
}

kvs_status kvs_cross_read(kvs_h5_place group, const kvs_trace_header *header, kvs_sequence *cross, kvs_error *error) {
    cross->has_token_ids = kvs_h5_has(group, KVS_SOURCE_TOKEN_IDS);
    cross->tokens = 0; /* as many as k says */
    KVS_TRY(check_tensor(group, header, KVS_TENSOR_K, &cross->tokens, &cross->k_element, error));
    if (cross->tokens > KVS_TRACE_MAX_TOKENS) {
        kvs_object_name object;
        place_in(group, kvs_tensor_names[KVS_TENSOR_K], 0, &object);
        return kvs_fail(error, KVS_INPUT, group.file, object.text, "%d source positions are more than %d",
                        cross->tokens, KVS_TRACE_MAX_TOKENS);
    }
    cross->prompt_tokens = cross->tokens;
    KVS_TRY(check_tensor(group, header, KVS_TENSOR_V, &cross->tokens, &cross->v_element, error));
    if (cross->has_token_ids) KVS_TRY(kvs_integers_read(group, KVS_SOURCE_TOKEN_IDS, cross->tokens, NULL, error));
    int has_queries = kvs_h5_has(group, kvs_tensor_names[KVS_TENSOR_Q]);
    if (has_queries != (cross->queries > 0)) {
        kvs_object_name object;
        place_in(group, kvs_tensor_names[KVS_TENSOR_Q], 0, &object);
        return kvs_fail(error, KVS_INPUT, group.file, object.text,
                        has_queries ? "dataset needs the sequence's query_pos"
                                    : "dataset is missing; the sequence has query_pos");
    }
    return has_queries ? check_tensor(group, header, KVS_TENSOR_Q, &cross->queries, &cross->q_element, error) : KVS_OK;
}
