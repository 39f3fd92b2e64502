/* read.c: an open trace, and heads read from it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/h5_isolate.h"
#include "core/half.h"
#include "traces/internal.h"

struct kvs_trace {
    char *path;
    hid_t file;
    kvs_trace_header header;
    kvs_sequence *sequences; /* with cross set, their cross attention */
    int *numbers;            /* of the sequences in the file */
    int sequence_count, cross;
    int open_sequence; /* whose tensors are open, or -1 */
    hid_t tensors[3], types[3];
};

static kvs_h5_place root_of(const kvs_trace *trace) {
    return (kvs_h5_place){trace->file, trace->path, ""};
}

const char *kvs_trace_path(const kvs_trace *trace) {
    return trace->path;
}

const kvs_trace_header *kvs_trace_header_of(const kvs_trace *trace) {
    return &trace->header;
}

int kvs_trace_sequences(const kvs_trace *trace) {
    return trace->sequence_count;
}

const kvs_sequence *kvs_trace_sequence(const kvs_trace *trace, int sequence) {
    return &trace->sequences[sequence];
}

/* What errors call an object of a sequence. */
static kvs_object_name object_of(const kvs_trace *trace, int sequence, const char *name) {
    char part[40];
    snprintf(part, sizeof part, "%s%s%.30s", trace->cross ? "cross" : "", trace->cross && name != NULL ? "/" : "",
             name != NULL ? name : "");
    return kvs_sequence_object(trace->numbers[sequence], part[0] != '\0' ? part : NULL);
}

/* Opens the group of one sequence by its number in the file; *object keeps its name. */
static kvs_status open_numbered(kvs_trace *trace, int number, kvs_object_name *object, kvs_h5_place *group,
                                kvs_error *error) {
    *object = kvs_sequence_object(number, NULL);
    *group = (kvs_h5_place){H5I_INVALID_HID, trace->path, object->text};
    return kvs_h5_group(root_of(trace), object->text + 1, &group->id, error);
}

/* The group that holds the tensors of a sequence: its own, or the group `cross` in it. */
static kvs_status open_group(kvs_trace *trace, int sequence, kvs_object_name *object, kvs_h5_place *group,
                             kvs_error *error) {
    KVS_TRY(open_numbered(trace, trace->numbers[sequence], object, group, error));
    if (!trace->cross) return KVS_OK;
    kvs_h5_place whole = *group;
    kvs_status status = kvs_h5_group(whole, "cross", &group->id, error);
    H5Gclose(whole.id);
    *object = object_of(trace, sequence, NULL);
    return status;
}

/* Room doubles at each power of two. */
static kvs_status make_room(kvs_trace *trace, kvs_error *error) {
    int i = trace->sequence_count;
    if ((i & (i - 1)) != 0) return KVS_OK;
    size_t count = (size_t)(i > 0 ? 2 * i : 1);
    kvs_sequence *sequences = realloc(trace->sequences, sizeof *sequences * count);
    if (sequences != NULL) trace->sequences = sequences;
    int *numbers = realloc(trace->numbers, sizeof *numbers * count);
    if (numbers != NULL) trace->numbers = numbers;
    return sequences != NULL && numbers != NULL ? KVS_OK
                                                : kvs_fail(error, KVS_INPUT, trace->path, NULL, "out of memory");
}

/* Reads the group `cross` of an open sequence, if it has one: source_tokens says so. */
static kvs_status read_cross(kvs_h5_place group, const kvs_trace_header *header, kvs_sequence *sequence,
                             kvs_sequence *cross, kvs_error *error) {
    *cross = *sequence;
    if (!kvs_h5_has(group, "cross")) return KVS_OK;
    char object[64];
    snprintf(object, sizeof object, "%.40s/cross", group.object);
    kvs_h5_place place = {H5I_INVALID_HID, group.file, object};
    KVS_TRY(kvs_h5_group(group, "cross", &place.id, error));
    kvs_status status = kvs_cross_read(place, header, cross, error);
    H5Gclose(place.id);
    sequence->source_tokens = cross->tokens;
    return status;
}

/* Reads and validates a sequence with its cross attention, and keeps the one that is wanted, if it is there. */
static kvs_status append_sequence(kvs_trace *trace, int number, kvs_error *error) {
    KVS_TRY(make_room(trace, error));
    kvs_object_name object;
    kvs_h5_place group;
    kvs_sequence sequence, cross;
    KVS_TRY(open_numbered(trace, number, &object, &group, error));
    kvs_status status = kvs_sequence_read(group, &trace->header, &sequence, error);
    if (status == KVS_OK) status = read_cross(group, &trace->header, &sequence, &cross, error);
    H5Gclose(group.id);
    if (status != KVS_OK || (trace->cross && sequence.source_tokens == 0)) return status;
    trace->sequences[trace->sequence_count] = trace->cross ? cross : sequence;
    trace->numbers[trace->sequence_count++] = number;
    return KVS_OK;
}

static kvs_status open_locked(kvs_trace *trace, kvs_error *error) {
    KVS_TRY(kvs_h5_open(trace->path, &trace->file, error));
    KVS_TRY(kvs_header_read(root_of(trace), &trace->header, error));
    hid_t group;
    H5G_info_t info;
    KVS_TRY(kvs_h5_group(root_of(trace), "sequences", &group, error));
    herr_t known = H5Gget_info(group, &info);
    H5Gclose(group);
    if (known < 0) return kvs_h5_fail(error, root_of(trace), "sequences", "cannot be read");
    if (info.nlinks < 1 || info.nlinks > KVS_TRACE_MAX_SEQUENCES)
        return kvs_fail(error, KVS_INPUT, trace->path, "/sequences", "holds %llu sequences, must be 1 to %d",
                        (unsigned long long)info.nlinks, KVS_TRACE_MAX_SEQUENCES);
    for (hsize_t i = 0; i < info.nlinks; i++) KVS_TRY(append_sequence(trace, (int)i, error));
    if (!trace->cross) return KVS_OK;
    if (trace->sequence_count == 0)
        return kvs_fail(error, KVS_INPUT, trace->path, "/sequences", "none has a group cross: no cross attention");
    trace->header.causal = trace->header.rope_applied = 0;
    trace->header.rope_theta = 0;
    trace->header.rope_scaling[0] = '\0';
    return KVS_OK;
}

static kvs_status open_here(const char *path, int cross, kvs_trace **trace, kvs_error *error) {
    kvs_trace *opened = calloc(1, sizeof *opened);
    char *copy = strdup(path);
    if (opened == NULL || copy == NULL) {
        free(opened);
        free(copy);
        return kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    }
    opened->path = copy;
    opened->cross = cross;
    opened->file = H5I_INVALID_HID;
    opened->open_sequence = -1;
    kvs_h5_lock();
    kvs_status status = open_locked(opened, error);
    kvs_h5_unlock();
    if (status == KVS_OK)
        *trace = opened;
    else
        kvs_trace_close(opened);
    return status;
}

static kvs_status look(const char *path, kvs_error *error) {
    kvs_trace *trace;
    KVS_TRY(open_here(path, 0, &trace, error));
    kvs_trace_close(trace);
    return KVS_OK;
}

kvs_status kvs_trace_open(const char *path, kvs_trace **trace, kvs_error *error) {
    *trace = NULL;
    KVS_TRY(kvs_h5_isolated(path, look, error));
    return open_here(path, 0, trace, error);
}

kvs_status kvs_trace_open_cross(const char *path, kvs_trace **trace, kvs_error *error) {
    *trace = NULL;
    KVS_TRY(kvs_h5_isolated(path, look, error));
    return open_here(path, 1, trace, error);
}

int kvs_trace_is_cross(const kvs_trace *trace) {
    return trace->cross;
}

static void close_tensors(kvs_trace *trace) {
    for (int i = 0; trace->open_sequence >= 0 && i < 3; i++) {
        if (trace->types[i] >= 0) H5Tclose(trace->types[i]);
        if (trace->tensors[i] >= 0) H5Dclose(trace->tensors[i]);
    }
    trace->open_sequence = -1;
}

void kvs_trace_close(kvs_trace *trace) {
    if (trace == NULL) return;
    kvs_h5_lock();
    close_tensors(trace);
    if (trace->file >= 0) H5Fclose(trace->file);
    kvs_h5_unlock();
    free(trace->sequences);
    free(trace->numbers);
    free(trace->path);
    free(trace);
}

/* Keeps the tensors of one sequence open, so that reading head after head opens nothing. */
static kvs_status open_tensors(kvs_trace *trace, int sequence, kvs_error *error) {
    if (trace->open_sequence == sequence) return KVS_OK;
    close_tensors(trace);
    kvs_object_name object;
    kvs_h5_place group;
    KVS_TRY(open_group(trace, sequence, &object, &group, error));
    for (int i = 0; i < 3; i++) trace->tensors[i] = trace->types[i] = H5I_INVALID_HID;
    trace->open_sequence = sequence;
    kvs_status status = KVS_OK;
    for (kvs_tensor t = KVS_TENSOR_K; status == KVS_OK && t <= KVS_TENSOR_Q; t++) {
        int rows = kvs_tensor_rows(&trace->sequences[sequence], t);
        if (rows == 0) continue;
        status = kvs_tensor_open(group, &trace->header, t, &rows, &trace->tensors[t], error);
        if (status == KVS_OK && (trace->types[t] = H5Dget_type(trace->tensors[t])) < 0)
            status = kvs_h5_fail(error, group, kvs_tensor_names[t], "cannot be read");
    }
    H5Gclose(group.id);
    if (status != KVS_OK) close_tensors(trace);
    return status;
}

/* Reads the words of one head as they are stored: the memory type is the file's own, so HDF5 converts nothing. */
static kvs_status read_words(kvs_trace *trace, int sequence, kvs_tensor tensor, int layer, int head, void *words,
                             kvs_error *error) {
    KVS_TRY(open_tensors(trace, sequence, error));
    hsize_t rows = (hsize_t)kvs_tensor_rows(&trace->sequences[sequence], tensor);
    hsize_t start[4] = {(hsize_t)layer, (hsize_t)head, 0, 0};
    hsize_t count[4] = {1, 1, rows, (hsize_t)trace->header.head_dim};
    hid_t space = H5Dget_space(trace->tensors[tensor]), memory = H5Screate_simple(4, count, NULL);
    herr_t read = -1;
    if (space >= 0 && memory >= 0 && H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0)
        read = H5Dread(trace->tensors[tensor], trace->types[tensor], memory, space, H5P_DEFAULT, words);
    if (space >= 0) H5Sclose(space);
    if (memory >= 0) H5Sclose(memory);
    if (read >= 0) return KVS_OK;
    kvs_object_name object = object_of(trace, sequence, kvs_tensor_names[tensor]);
    return kvs_h5_fail(error, (kvs_h5_place){0, trace->path, object.text}, NULL, "cannot be read");
}

/* Converts `count` words that lie in the upper half of `values` into all of it. Block by block through a copy: the
 * values grow over the words from below and never reach those that are still to be read. */
static void widen(float *values, size_t count, void (*convert)(const uint16_t *, float *, size_t)) {
    enum { BLOCK = 4096 };
    uint16_t block[BLOCK];
    const char *words = (const char *)values + 2 * count;
    for (size_t done = 0; done < count; done += BLOCK) {
        size_t length = count - done < BLOCK ? count - done : BLOCK;
        memcpy(block, words + 2 * done, 2 * length);
        convert(block, values + done, length);
    }
}

static kvs_element element_of(const kvs_sequence *sequence, kvs_tensor tensor) {
    return tensor == KVS_TENSOR_K   ? sequence->k_element
           : tensor == KVS_TENSOR_V ? sequence->v_element
                                    : sequence->q_element;
}

/* The caller's indices are a programmer's matter except for the sequence without queries, which files may have. */
kvs_status kvs_trace_read_head(kvs_trace *trace, int sequence, kvs_tensor tensor, int layer, int head,
                               int allow_nonfinite, float *values, kvs_error *error) {
    const kvs_sequence *s = &trace->sequences[sequence];
    kvs_element element = element_of(s, tensor);
    size_t columns = (size_t)trace->header.head_dim, count = (size_t)kvs_tensor_rows(s, tensor) * columns;
    kvs_object_name object = object_of(trace, sequence, kvs_tensor_names[tensor]);
    if (count == 0) return kvs_fail(error, KVS_INPUT, trace->path, object.text, "the sequence has no queries");
    void *words = (char *)values + (4 - kvs_element_bytes(element)) * count;
    kvs_h5_lock();
    kvs_status status = read_words(trace, sequence, tensor, layer, head, words, error);
    kvs_h5_unlock();
    if (status != KVS_OK) return status;
    if (element == KVS_ELEMENT_BINARY16) widen(values, count, kvs_halves_to_floats);
    if (element == KVS_ELEMENT_BFLOAT16) widen(values, count, kvs_bfloats_to_floats);
    size_t bad = allow_nonfinite ? count : kvs_first_nonfinite(values, count);
    if (bad == count) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, trace->path, object.text, "value at [%d, %d, %zu, %zu] is not finite: %g", layer,
                    head, bad / columns, bad % columns, (double)values[bad]);
}

kvs_status kvs_trace_read_query_pos(kvs_trace *trace, int sequence, int32_t *positions, kvs_error *error) {
    kvs_object_name object;
    kvs_h5_place group;
    kvs_h5_lock();
    kvs_status status = open_numbered(trace, trace->numbers[sequence], &object, &group, error);
    if (status == KVS_OK) {
        status = kvs_integers_read(group, "query_pos", trace->sequences[sequence].queries, positions, error);
        H5Gclose(group.id);
    }
    kvs_h5_unlock();
    return status;
}

kvs_status kvs_trace_read_token_ids(kvs_trace *trace, int sequence, int32_t *ids, kvs_error *error) {
    kvs_object_name object;
    kvs_h5_place group;
    kvs_h5_lock();
    kvs_status status = open_group(trace, sequence, &object, &group, error);
    if (status == KVS_OK) {
        status = kvs_integers_read(group, trace->cross ? KVS_SOURCE_TOKEN_IDS : KVS_TOKEN_IDS,
                                   trace->sequences[sequence].tokens, ids, error);
        H5Gclose(group.id);
    }
    kvs_h5_unlock();
    return status;
}
