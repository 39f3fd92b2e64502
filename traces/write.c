/* write.c: a trace under way. */
#include <stdlib.h>
#include <string.h>

#include "core/h5_output.h"
#include "core/half.h"
#include "core/simd.h"
#include "traces/internal.h"

struct kvs_trace_writer {
    kvs_h5_output output;
    kvs_trace_header header;
    kvs_trace_options options;
    hid_t type; /* of the elements, in file and memory */
    int sequence_count;
    kvs_sequence sequence; /* the one that is being written */
    hid_t tensors[3];
    int64_t missing[3]; /* rows still to be written */
    uint16_t *words;    /* for conversion */
    size_t capacity;
};

static const char *path_of(const kvs_trace_writer *writer) {
    return writer->output.output.path;
}

static kvs_status create_locked(const char *path, kvs_trace_writer *writer, kvs_error *error) {
    KVS_TRY(kvs_h5_create(path, &writer->output, error));
    kvs_h5_place root = {writer->output.file, path_of(writer), ""};
    kvs_status status = kvs_header_write(root, &writer->header, error);
    hid_t group = H5Gcreate2(root.id, "sequences", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    writer->type = kvs_element_type(writer->options.element);
    if (status == KVS_OK && (group < 0 || writer->type < 0))
        status = kvs_h5_fail(error, root, "sequences", "cannot be written");
    if (group >= 0) H5Gclose(group);
    return status;
}

kvs_status kvs_trace_create(const char *path, const kvs_trace_header *header, kvs_trace_options options,
                            kvs_trace_writer **writer, kvs_error *error) {
    *writer = NULL;
    kvs_trace_writer *w = calloc(1, sizeof *w);
    if (w == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    w->header = *header;
    w->options = options;
    w->output.file = w->output.driver = w->type = H5I_INVALID_HID;
    for (int i = 0; i < 3; i++) w->tensors[i] = H5I_INVALID_HID;
    if (w->header.rotary_dim == 0) w->header.rotary_dim = header->head_dim;
    kvs_status status = kvs_header_check(path, &w->header, error);
    if (status != KVS_OK) {
        free(w);
        return status;
    }
    kvs_h5_lock();
    status = create_locked(path, w, error);
    kvs_h5_unlock();
    if (status == KVS_OK)
        *writer = w;
    else
        kvs_trace_writer_abandon(w);
    return status;
}

static kvs_status create_tensor(kvs_trace_writer *w, kvs_h5_place group, kvs_tensor tensor, kvs_error *error) {
    hsize_t rows = (hsize_t)kvs_tensor_rows(&w->sequence, tensor), columns = (hsize_t)w->header.head_dim;
    hsize_t dims[4] = {(hsize_t)w->header.layers, (hsize_t)kvs_tensor_heads(&w->header, tensor), rows, columns};
    hsize_t chunk[4] = {1, 1, rows < KVS_TRACE_CHUNK_TOKENS ? rows : KVS_TRACE_CHUNK_TOKENS, columns};
    hid_t space = H5Screate_simple(4, dims, NULL), creation = H5Pcreate(H5P_DATASET_CREATE);
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS), id = H5I_INVALID_HID;
    int set = space >= 0 && creation >= 0 && access >= 0 && H5Pset_chunk(creation, 4, chunk) >= 0 &&
              H5Pset_obj_track_times(creation, 0) >= 0 && /* the same bytes whenever it is run */
              H5Pset_fill_time(creation, H5D_FILL_TIME_ALLOC) >= 0 &&
              H5Pset_alloc_time(creation, H5D_ALLOC_TIME_INCR) >= 0 &&
              H5Pset_chunk_cache(access, 7, 2 * chunk[2] * columns * kvs_element_bytes(w->options.element), 1.0) >= 0;
    if (set && w->options.deflate > 0)
        set = H5Pset_shuffle(creation) >= 0 && H5Pset_deflate(creation, (unsigned)w->options.deflate) >= 0;
    if (set) id = H5Dcreate2(group.id, kvs_tensor_names[tensor], w->type, space, H5P_DEFAULT, creation, access);
    if (space >= 0) H5Sclose(space);
    if (creation >= 0) H5Pclose(creation);
    if (access >= 0) H5Pclose(access);
    if (id < 0) return kvs_h5_fail(error, group, kvs_tensor_names[tensor], "cannot be written");
    w->tensors[tensor] = id;
    w->missing[tensor] = (int64_t)(dims[0] * dims[1] * rows);
    if (w->options.element != KVS_ELEMENT_BFLOAT16) return KVS_OK;
    kvs_object_name object = kvs_sequence_object(w->sequence_count - 1, kvs_tensor_names[tensor]);
    return kvs_h5_put_text((kvs_h5_place){id, group.file, object.text}, "encoding", "bfloat16", error);
}

static kvs_status write_integers(kvs_h5_place group, const char *name, int length, const int32_t *values,
                                 kvs_error *error) {
    hsize_t dims[1] = {(hsize_t)length};
    hid_t space = H5Screate_simple(1, dims, NULL), creation = H5Pcreate(H5P_DATASET_CREATE), id = H5I_INVALID_HID;
    if (space >= 0 && creation >= 0 && H5Pset_obj_track_times(creation, 0) >= 0)
        id = H5Dcreate2(group.id, name, H5T_STD_I32LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    herr_t written = id < 0 ? -1 : H5Dwrite(id, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    if (id >= 0 && H5Dclose(id) < 0) written = -1;
    if (creation >= 0) H5Pclose(creation);
    if (space >= 0) H5Sclose(space);
    return written >= 0 ? KVS_OK : kvs_h5_fail(error, group, name, "cannot be written");
}

static kvs_status write_sequence(kvs_trace_writer *w, kvs_h5_place group, const int32_t *query_pos,
                                 const int32_t *token_ids, kvs_error *error) {
    const kvs_sequence *s = &w->sequence;
    KVS_TRY(kvs_h5_put(group, "num_tokens", H5T_STD_I32LE, H5T_NATIVE_INT, 1, &s->tokens, error));
    KVS_TRY(kvs_h5_put(group, "num_prompt_tokens", H5T_STD_I32LE, H5T_NATIVE_INT, 1, &s->prompt_tokens, error));
    KVS_TRY(kvs_h5_put_text(group, "task", s->task, error));
    KVS_TRY(create_tensor(w, group, KVS_TENSOR_K, error));
    KVS_TRY(create_tensor(w, group, KVS_TENSOR_V, error));
    if (token_ids != NULL) KVS_TRY(write_integers(group, "token_ids", s->tokens, token_ids, error));
    if (query_pos == NULL) return KVS_OK;
    KVS_TRY(create_tensor(w, group, KVS_TENSOR_Q, error));
    return write_integers(group, "query_pos", s->queries, query_pos, error);
}

/* Closes the tensors of the current sequence; every row must have been written. */
static kvs_status end_sequence(kvs_trace_writer *w, kvs_error *error) {
    kvs_status status = KVS_OK;
    for (int i = 0; i < 3; i++) {
        kvs_object_name object = kvs_sequence_object(w->sequence_count - 1, kvs_tensor_names[i]);
        kvs_h5_place place = {w->tensors[i], path_of(w), object.text};
        if (place.id < 0) continue;
        w->tensors[i] = H5I_INVALID_HID;
        if (H5Dclose(place.id) < 0 && status == KVS_OK) status = kvs_h5_fail(error, place, NULL, "cannot be written");
        if (w->missing[i] != 0 && status == KVS_OK)
            status = kvs_fail(error, KVS_INPUT, place.file, place.object, "is incomplete: %lld rows were not written",
                              (long long)w->missing[i]);
    }
    return status == KVS_OK ? kvs_h5_output_check(&w->output, error) : status;
}

static kvs_status check_sequence(const kvs_trace_writer *w, const kvs_sequence *s, const int32_t *query_pos,
                                 kvs_error *error) {
    kvs_object_name object = kvs_sequence_object(w->sequence_count, "query_pos");
    kvs_h5_place place = {0, path_of(w), object.text};
    if (w->sequence_count >= KVS_TRACE_MAX_SEQUENCES)
        return kvs_fail(error, KVS_INPUT, place.file, "/sequences", "is full");
    if (s->tokens < 1 || s->tokens > KVS_TRACE_MAX_TOKENS)
        return kvs_fail(error, KVS_INPUT, place.file, "num_tokens", "%d is outside 1 to %d", s->tokens,
                        KVS_TRACE_MAX_TOKENS);
    if (s->prompt_tokens < 0 || s->prompt_tokens > s->tokens)
        return kvs_fail(error, KVS_INPUT, place.file, "num_prompt_tokens", "%d is outside 0 to %d", s->prompt_tokens,
                        s->tokens);
    if ((s->queries > 0) != (query_pos != NULL))
        return kvs_fail(error, KVS_INPUT, place.file, place.object, "%d queries need as many positions", s->queries);
    return kvs_query_pos_check(place, s, query_pos, error);
}

static kvs_status add_locked(kvs_trace_writer *w, const kvs_sequence *sequence, const int32_t *query_pos,
                             const int32_t *token_ids, kvs_error *error) {
    KVS_TRY(end_sequence(w, error));
    KVS_TRY(check_sequence(w, sequence, query_pos, error));
    kvs_object_name object = kvs_sequence_object(w->sequence_count++, NULL);
    kvs_h5_place group = {H5Gcreate2(w->output.file, object.text, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT), path_of(w),
                          object.text};
    if (group.id < 0) return kvs_h5_fail(error, group, NULL, "cannot be written");
    w->sequence = *sequence;
    kvs_status status = write_sequence(w, group, query_pos, token_ids, error);
    H5Gclose(group.id);
    return status;
}

kvs_status kvs_trace_add_sequence(kvs_trace_writer *writer, const kvs_sequence *sequence, const int32_t *query_pos,
                                  const int32_t *token_ids, kvs_error *error) {
    kvs_h5_lock();
    kvs_status status = add_locked(writer, sequence, query_pos, token_ids, error);
    kvs_h5_unlock();
    return status;
}

/* The index of the first word whose exponent is all ones (infinite, NaN or overflowed), or count. */
KVS_SIMD static size_t first_special(const uint16_t *words, size_t count, uint16_t exponent) {
    unsigned bad = 0;
    for (size_t i = 0; i < count; i++) bad |= (words[i] & exponent) == exponent;
    if (!bad) return count;
    for (size_t i = 0; i < count; i++)
        if ((words[i] & exponent) == exponent) return i;
    return count;
}

/* Converts to the element type. *stored is what is to be written; the result the index of the first bad value. */
static size_t convert(kvs_trace_writer *w, const float *values, size_t count, const void **stored) {
    *stored = w->words;
    switch (w->options.element) {
    case KVS_ELEMENT_BINARY16:
        kvs_floats_to_halves(values, w->words, count);
        return first_special(w->words, count, 0x7c00u);
    case KVS_ELEMENT_BFLOAT16:
        kvs_floats_to_bfloats(values, w->words, count);
        return first_special(w->words, count, 0x7f80u);
    case KVS_ELEMENT_BINARY32:
        break;
    }
    *stored = values;
    return kvs_first_nonfinite(values, count);
}

static kvs_status write_locked(kvs_trace_writer *w, kvs_tensor tensor, int layer, int head, int first, int rows,
                               const void *stored, kvs_h5_place place, kvs_error *error) {
    hsize_t start[4] = {(hsize_t)layer, (hsize_t)head, (hsize_t)first, 0};
    hsize_t count[4] = {1, 1, (hsize_t)rows, (hsize_t)w->header.head_dim};
    hid_t space = H5Dget_space(place.id), memory = H5Screate_simple(4, count, NULL);
    herr_t written = -1;
    if (space >= 0 && memory >= 0 && H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0)
        written = H5Dwrite(place.id, w->type, memory, space, H5P_DEFAULT, stored);
    if (space >= 0) H5Sclose(space);
    if (memory >= 0) H5Sclose(memory);
    if (written < 0) return kvs_h5_fail(error, place, NULL, "cannot be written");
    w->missing[tensor] -= rows;
    return kvs_h5_output_check(&w->output, error);
}

kvs_status kvs_trace_write_rows(kvs_trace_writer *w, kvs_tensor tensor, int layer, int head, int first, int count,
                                const float *values, kvs_error *error) {
    size_t columns = (size_t)w->header.head_dim, length = (size_t)count * columns;
    kvs_object_name object = kvs_sequence_object(w->sequence_count - 1, kvs_tensor_names[tensor]);
    kvs_h5_place place = {w->tensors[tensor], path_of(w), object.text};
    if (length > w->capacity && w->options.element != KVS_ELEMENT_BINARY32) {
        uint16_t *grown = realloc(w->words, length * sizeof *grown);
        if (grown == NULL) return kvs_fail(error, KVS_INPUT, place.file, place.object, "out of memory");
        w->words = grown;
        w->capacity = length;
    }
    const void *stored;
    size_t bad = convert(w, values, length, &stored);
    if (bad < length)
        return kvs_fail(error, KVS_INPUT, place.file, place.object, "value %g at [%d, %d, %zu, %zu] is no finite %s",
                        (double)values[bad], layer, head, (size_t)first + bad / columns, bad % columns,
                        kvs_element_name(w->options.element));
    kvs_h5_lock();
    kvs_status status = write_locked(w, tensor, layer, head, first, count, stored, place, error);
    kvs_h5_unlock();
    return status;
}

static void release(kvs_trace_writer *w) {
    if (w->type >= 0) H5Tclose(w->type);
    free(w->words);
    free(w);
}

kvs_status kvs_trace_writer_finish(kvs_trace_writer *w, kvs_error *error) {
    kvs_h5_lock();
    kvs_status status = end_sequence(w, error);
    if (status == KVS_OK && w->sequence_count == 0)
        status = kvs_fail(error, KVS_INPUT, path_of(w), "/sequences", "holds no sequence");
    if (status == KVS_OK)
        status = kvs_h5_finish(&w->output, error);
    else
        kvs_h5_abandon(&w->output);
    release(w);
    kvs_h5_unlock();
    return status;
}

void kvs_trace_writer_abandon(kvs_trace_writer *w) {
    if (w == NULL) return;
    kvs_h5_lock();
    for (int i = 0; i < 3; i++)
        if (w->tensors[i] >= 0) H5Dclose(w->tensors[i]);
    kvs_h5_abandon(&w->output);
    release(w);
    kvs_h5_unlock();
}
