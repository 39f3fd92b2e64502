/* requests_h5.c: requests.h5 (traces/REQUESTS.md): written a piece at a time into growing datasets, read whole. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/h5_isolate.h"
#include "core/h5_output.h"
#include "traces/requests.h"

enum { PIECE = 1 << 16, VERSION = 1 };

/* The datasets; each is one-dimensional but moments_ns [requests][4]. */
typedef enum { ARRIVAL, INPUT, OUTPUT, COUNTS, IDS, MOMENTS, SETS } set;
static const char *const set_names[SETS] = {"arrival_ns",   "input_tokens", "output_tokens",
                                            "block_counts", "block_ids",    "moments_ns"};

static hid_t set_type(set s) {
    if (s == ARRIVAL || s == MOMENTS) return H5T_STD_I64LE;
    return s == IDS ? H5T_STD_U32LE : H5T_STD_I32LE;
}

static hid_t native_type(set s) {
    if (s == ARRIVAL || s == MOMENTS) return H5T_NATIVE_INT64;
    return s == IDS ? H5T_NATIVE_UINT32 : H5T_NATIVE_INT32;
}

static hsize_t set_width(set s) {
    return s == MOMENTS ? KVS_MOMENTS : 1;
}

struct kvs_request_writer {
    const char *path;
    kvs_h5_output output;
    int open;
    hid_t sets[SETS];
    hsize_t written[SETS];
    kvs_requests piece; /* what is not yet on the disk */
    int32_t *counts;
    int has_moments;
    int64_t requests;
};

static kvs_status fail_write(const kvs_request_writer *w, const char *object, kvs_error *error) {
    return kvs_fail(error, KVS_INPUT, w->path, object, "cannot be written");
}

static hid_t create_set(hid_t file, set s) {
    hsize_t now[2] = {0, set_width(s)}, most[2] = {H5S_UNLIMITED, set_width(s)}, chunk[2] = {PIECE, set_width(s)};
    int rank = s == MOMENTS ? 2 : 1;
    hid_t space = H5Screate_simple(rank, now, most), list = H5Pcreate(H5P_DATASET_CREATE), made = -1;
    if (space >= 0 && list >= 0 && H5Pset_chunk(list, rank, chunk) >= 0 && H5Pset_shuffle(list) >= 0 &&
        H5Pset_deflate(list, 4) >= 0)
        made = H5Dcreate2(file, set_names[s], set_type(s), space, H5P_DEFAULT, list, H5P_DEFAULT);
    H5Pclose(list);
    H5Sclose(space);
    return made;
}

kvs_status kvs_request_writer_create(const char *path, kvs_request_writer **writer, kvs_error *error) {
    kvs_request_writer *w = calloc(1, sizeof *w);
    int32_t *counts = malloc(PIECE * sizeof *counts);
    if (w == NULL || counts == NULL) {
        free(w);
        free(counts);
        return kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    }
    w->path = path;
    w->counts = counts;
    for (int s = 0; s < SETS; s++) w->sets[s] = -1;
    kvs_h5_lock();
    kvs_status status = kvs_h5_create(path, &w->output, error);
    w->open = status == KVS_OK;
    for (int s = 0; s < SETS && status == KVS_OK; s++)
        if ((w->sets[s] = create_set(w->output.file, s)) < 0) status = fail_write(w, set_names[s], error);
    kvs_h5_unlock();
    if (status != KVS_OK)
        kvs_request_writer_abandon(w);
    else
        *writer = w;
    return status;
}

static kvs_status extend(kvs_request_writer *w, set s, const void *values, hsize_t rows, kvs_error *error) {
    if (rows == 0) return KVS_OK;
    hsize_t start[2] = {w->written[s], 0}, count[2] = {rows, set_width(s)};
    hsize_t now[2] = {w->written[s] + rows, set_width(s)};
    int good = H5Dset_extent(w->sets[s], now) >= 0;
    hid_t space = good ? H5Dget_space(w->sets[s]) : -1;
    hid_t memory = H5Screate_simple(s == MOMENTS ? 2 : 1, count, NULL);
    good = good && space >= 0 && memory >= 0 &&
           H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0 &&
           H5Dwrite(w->sets[s], native_type(s), memory, space, H5P_DEFAULT, values) >= 0;
    H5Sclose(memory);
    if (space >= 0) H5Sclose(space);
    w->written[s] += rows;
    return good ? KVS_OK : fail_write(w, set_names[s], error);
}

static kvs_status flush(kvs_request_writer *w, kvs_error *error) {
    kvs_requests *p = &w->piece;
    hsize_t rows = (hsize_t)p->count;
    if (rows == 0) return KVS_OK;
    for (int64_t i = 0; i < p->count; i++) w->counts[i] = (int32_t)(p->block_start[i + 1] - p->block_start[i]);
    KVS_TRY(extend(w, ARRIVAL, p->arrival_ns, rows, error));
    KVS_TRY(extend(w, INPUT, p->input_tokens, rows, error));
    KVS_TRY(extend(w, OUTPUT, p->output_tokens, rows, error));
    KVS_TRY(extend(w, COUNTS, w->counts, rows, error));
    KVS_TRY(extend(w, IDS, p->block_ids, (hsize_t)p->block_start[p->count], error));
    if (w->has_moments) KVS_TRY(extend(w, MOMENTS, p->moments_ns, rows, error));
    p->count = 0;
    return KVS_OK;
}

kvs_status kvs_request_writer_add(kvs_request_writer *w, const kvs_request *request, int has_moments,
                                  kvs_error *error) {
    if (w->requests == 0) w->has_moments = has_moments;
    if (!has_moments) w->has_moments = 0;
    KVS_TRY(kvs_requests_append(&w->piece, request, w->has_moments, error));
    w->requests++;
    if (w->piece.count < PIECE) return KVS_OK;
    kvs_h5_lock();
    kvs_status status = flush(w, error);
    if (status == KVS_OK) status = kvs_h5_output_check(&w->output, error);
    kvs_h5_unlock();
    return status;
}

static kvs_status put_number(kvs_h5_place at, const char *name, int64_t number, kvs_error *error) {
    return kvs_h5_put(at, name, H5T_STD_I64LE, H5T_NATIVE_INT64, 1, &number, error);
}

static kvs_status put_facts(const kvs_request_writer *w, const kvs_reader_facts *facts, const char *source,
                            const char *sha256, kvs_error *error) {
    kvs_h5_place at = {w->output.file, w->path, ""};
    KVS_TRY(kvs_h5_put_text(at, "kvscope_kind", "requests", error));
    KVS_TRY(put_number(at, "version", VERSION, error));
    KVS_TRY(kvs_h5_put_text(at, "format", facts->format->name, error));
    KVS_TRY(kvs_h5_put_text(at, "source", source, error));
    KVS_TRY(kvs_h5_put_text(at, "sha256", sha256, error));
    KVS_TRY(put_number(at, "block_tokens", facts->block_tokens, error));
    KVS_TRY(put_number(at, "unique_blocks", facts->unique_blocks, error));
    return put_number(at, "skipped", facts->skipped, error);
}

/* A dataset that stayed empty goes: a trace without ids has no block_ids. */
static kvs_status drop_empty(kvs_request_writer *w, kvs_error *error) {
    for (int s = 0; s < SETS; s++) {
        if (w->written[s] > 0) continue;
        H5Dclose(w->sets[s]);
        w->sets[s] = -1;
        if (H5Ldelete(w->output.file, set_names[s], H5P_DEFAULT) < 0) return fail_write(w, set_names[s], error);
    }
    return KVS_OK;
}

static void close_sets(kvs_request_writer *w) {
    for (int s = 0; s < SETS; s++) {
        if (w->sets[s] >= 0) H5Dclose(w->sets[s]);
        w->sets[s] = -1;
    }
}

kvs_status kvs_request_writer_finish(kvs_request_writer *w, const kvs_reader_facts *facts, const char *source,
                                     const char *sha256, kvs_error *error) {
    kvs_h5_lock();
    kvs_status status = flush(w, error);
    if (status == KVS_OK && !w->has_moments) w->written[MOMENTS] = 0;
    if (status == KVS_OK) status = drop_empty(w, error);
    if (status == KVS_OK) status = put_facts(w, facts, source, sha256, error);
    close_sets(w);
    if (status == KVS_OK) {
        status = kvs_h5_finish(&w->output, error);
        w->open = 0;
    }
    kvs_h5_unlock();
    kvs_request_writer_abandon(w);
    return status;
}

void kvs_request_writer_abandon(kvs_request_writer *w) {
    if (w == NULL) return;
    kvs_h5_lock();
    close_sets(w);
    if (w->open) kvs_h5_abandon(&w->output);
    kvs_h5_unlock();
    kvs_requests_clear(&w->piece);
    free(w->counts);
    free(w);
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

/* KVS_OK: requests; KVS_CHECK: something else that HDF5 can read. */
static kvs_status look_for_kind(const char *path, kvs_error *error) {
    kvs_h5_lock();
    hid_t id;
    kvs_status status = kvs_h5_open(path, &id, error);
    if (status == KVS_OK) {
        char kind[32];
        status = kvs_h5_text((kvs_h5_place){id, path, ""}, "kvscope_kind", kind, sizeof kind, error);
        if (status != KVS_OK || strcmp(kind, "requests") != 0) status = KVS_CHECK;
        H5Fclose(id);
    }
    kvs_h5_unlock();
    return status;
}

int kvs_requests_has_h5_signature(const char *path) {
    FILE *file = fopen(path, "rb");
    char head[8] = {0};
    int is_h5 = file != NULL && fread(head, 1, 8, file) == 8 && memcmp(head, "\x89HDF\r\n\x1a\n", 8) == 0;
    if (file != NULL) fclose(file);
    return is_h5;
}

int kvs_requests_is_h5(const char *path) {
    return kvs_requests_has_h5_signature(path) && kvs_h5_isolated(path, look_for_kind, NULL) == KVS_OK;
}

/* One dataset of `rows` rows (0: of any number, which becomes *rows) into memory of its own. */
static kvs_status read_set(kvs_h5_place at, set s, hsize_t *rows, void *values, size_t bytes, kvs_error *error) {
    hsize_t dims[2] = {0, 1};
    hid_t dataset;
    KVS_TRY(kvs_h5_dataset(at, set_names[s], s == MOMENTS ? 2 : 1, 64 << 20, dims, &dataset, error));
    kvs_status status = KVS_OK;
    if ((*rows != 0 && dims[0] != *rows) || dims[1] != set_width(s) || dims[0] > (hsize_t)1 << 40)
        status = kvs_h5_fail(error, at, set_names[s], "has another number of rows than the rest says");
    *rows = dims[0];
    void *memory = status == KVS_OK ? malloc((size_t)(dims[0] * dims[1]) * bytes) : NULL;
    if (status == KVS_OK && memory == NULL) status = kvs_h5_fail(error, at, set_names[s], "does not fit in memory");
    if (status == KVS_OK && H5Dread(dataset, native_type(s), H5S_ALL, H5S_ALL, H5P_DEFAULT, memory) < 0)
        status = kvs_h5_fail(error, at, set_names[s], "cannot be read");
    *(void **)values = memory;
    H5Dclose(dataset);
    return status;
}

static kvs_status fail_request(kvs_h5_place at, int64_t i, const char *rule, kvs_error *error) {
    char place[48];
    snprintf(place, sizeof place, "request %lld", (long long)i);
    return kvs_fail(error, KVS_INPUT, at.file, place, "%s", rule);
}

/* The same rules as a text trace must keep. counts becomes block_start. */
static kvs_status check_values(kvs_h5_place at, kvs_requests *r, const int32_t *counts, kvs_error *error) {
    int64_t total = 0;
    for (int64_t i = 0; i < r->count; i++) {
        int64_t block = r->block_tokens, want = block > 0 ? (r->input_tokens[i] + block - 1) / block : 0;
        if (r->input_tokens[i] < 1 || r->output_tokens[i] < 0 ||
            (int64_t)r->input_tokens[i] + r->output_tokens[i] > KVS_REQUEST_MAX_TOKENS)
            return fail_request(at, i, "has a length outside 1 to 16777216 tokens", error);
        if (r->arrival_ns[i] < (i > 0 ? r->arrival_ns[i - 1] : 0))
            return fail_request(at, i, "arrives before the request above it: time runs backwards", error);
        if (counts[i] != 0 && counts[i] != want)
            return fail_request(at, i, "has a number of block ids that is not its input over block_tokens", error);
        r->block_start[i] = total;
        total += counts[i];
    }
    r->block_start[r->count] = total;
    if (total != r->ids_capacity) return kvs_h5_fail(error, at, "block_ids", "is not as long as block_counts say");
    for (int64_t i = 0; i < total; i++)
        if (r->block_ids[i] >= r->unique_blocks)
            return kvs_h5_fail(error, at, "block_ids", "holds an id that is not below unique_blocks");
    return KVS_OK;
}

static kvs_status read_attributes(kvs_h5_place at, kvs_requests *r, kvs_error *error) {
    char kind[32];
    int64_t version, block_tokens;
    KVS_TRY(kvs_h5_text(at, "kvscope_kind", kind, sizeof kind, error));
    if (strcmp(kind, "requests") != 0) return kvs_h5_fail(error, at, "kvscope_kind", "is not 'requests'");
    KVS_TRY(kvs_h5_int(at, "version", VERSION, VERSION, &version, error));
    KVS_TRY(kvs_h5_text(at, "format", r->format, sizeof r->format, error));
    KVS_TRY(kvs_h5_text(at, "sha256", r->sha256, sizeof r->sha256, error));
    KVS_TRY(kvs_h5_int(at, "block_tokens", 0, KVS_REQUEST_MAX_TOKENS, &block_tokens, error));
    KVS_TRY(kvs_h5_int(at, "unique_blocks", 0, UINT32_MAX - 1, &r->unique_blocks, error));
    r->block_tokens = (int)block_tokens;
    return kvs_h5_int(at, "skipped", 0, INT64_MAX, &r->skipped, error);
}

static kvs_status read_values(kvs_h5_place at, kvs_requests *r, kvs_error *error) {
    hsize_t rows = 0, ids = 0;
    int32_t *counts = NULL;
    kvs_status status = KVS_OK;
    KVS_TRY_OR(read_attributes(at, r, error), out);
    KVS_TRY_OR(read_set(at, ARRIVAL, &rows, &r->arrival_ns, sizeof *r->arrival_ns, error), out);
    KVS_TRY_OR(read_set(at, INPUT, &rows, &r->input_tokens, sizeof *r->input_tokens, error), out);
    KVS_TRY_OR(read_set(at, OUTPUT, &rows, &r->output_tokens, sizeof *r->output_tokens, error), out);
    KVS_TRY_OR(read_set(at, COUNTS, &rows, &counts, sizeof *counts, error), out);
    if (kvs_h5_has(at, set_names[IDS]))
        KVS_TRY_OR(read_set(at, IDS, &ids, &r->block_ids, sizeof *r->block_ids, error), out);
    if (kvs_h5_has(at, set_names[MOMENTS]))
        KVS_TRY_OR(read_set(at, MOMENTS, &rows, &r->moments_ns, sizeof *r->moments_ns, error), out);
    r->count = r->capacity = (int64_t)rows;
    r->ids_capacity = (int64_t)ids;
    r->block_start = malloc((rows + 1) * sizeof *r->block_start);
    status = r->block_start == NULL ? kvs_h5_fail(error, at, "block_counts", "does not fit in memory")
                                    : check_values(at, r, counts, error);
out:
    free(counts);
    return status;
}

static kvs_status read_here(const char *path, kvs_requests *requests, kvs_error *error) {
    kvs_requests r = {0};
    hid_t file;
    snprintf(r.source, sizeof r.source, "%s", path);
    kvs_h5_lock();
    kvs_status status = kvs_h5_open(path, &file, error);
    if (status == KVS_OK) {
        status = read_values((kvs_h5_place){file, path, ""}, &r, error);
        H5Fclose(file);
    }
    kvs_h5_unlock();
    if (status != KVS_OK)
        kvs_requests_clear(&r);
    else
        *requests = r;
    return status;
}

static kvs_status look(const char *path, kvs_error *error) {
    kvs_requests requests = {0};
    KVS_TRY(read_here(path, &requests, error));
    kvs_requests_clear(&requests);
    return KVS_OK;
}

kvs_status kvs_requests_read_h5(const char *path, kvs_requests *requests, kvs_error *error) {
    KVS_TRY(kvs_h5_isolated(path, look, error));
    return read_here(path, requests, error);
}
