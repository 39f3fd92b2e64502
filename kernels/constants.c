#include "kernels/constants.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/file.h"
#include "kernels/scheme.h"
#include "kernels/trellis.h"

enum { MAGIC_BYTES = 32, HEADER_BYTES = 128, MAX_HEADS = 65536, MAX_TOKENS = 1000000 };

static const char magic[MAGIC_BYTES] = "kvscope-constants 2\n";

size_t kvs_constants_record_bytes(int head_dim) {
    size_t dim = (size_t)head_dim;
    return 2 * dim * (dim + 1) + (dim + 1) / 2 * 2;
}

kvs_constants_record kvs_constants_at(const kvs_constants_header *header, uint8_t *records, int tensor, int layer,
                                      int kv_head) {
    size_t dim = (size_t)header->head_dim;
    size_t index =
        ((size_t)tensor * (size_t)header->layers + (size_t)layer) * (size_t)header->kv_heads + (size_t)kv_head;
    uint8_t *record = records + index * kvs_constants_record_bytes(header->head_dim);
    uint16_t *basis = (uint16_t *)(void *)record;
    return (kvs_constants_record){basis, basis + dim * dim, record + 2 * dim * (dim + 1)};
}

/* --- reading -------------------------------------------------------------------------------------------------------
 */

static kvs_status check_header(const char *path, const char *text, int64_t file_bytes, const kvs_constants_header *h,
                               kvs_error *error) {
    if (memcmp(text, magic, MAGIC_BYTES) != 0)
        return kvs_fail(error, KVS_INPUT, path, NULL, "is no file of kvscope calibrate");
    if (file_bytes < HEADER_BYTES)
        return kvs_fail(error, KVS_INPUT, path, NULL, "has %lld bytes, fewer than its header", (long long)file_bytes);
    const struct {
        const char *name;
        int32_t value, low, high;
    } fields[] = {{"layers", h->layers, 1, MAX_HEADS},
                  {"kv_heads", h->kv_heads, 1, MAX_HEADS},
                  {"head_dim", h->head_dim, 1, KVS_MAX_HEAD_DIM},
                  {"before_rope", h->before_rope, 0, 1},
                  {"page", h->page, 1, MAX_TOKENS},
                  {"sink", h->sink, 0, MAX_TOKENS},
                  {"window", h->window, 0, MAX_TOKENS}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i].value < fields[i].low || fields[i].value > fields[i].high)
            return kvs_fail(error, KVS_INPUT, path, fields[i].name, "%d is outside %d to %d", fields[i].value,
                            fields[i].low, fields[i].high);
    if (h->model[KVS_CONSTANTS_NAME - 1] != '\0') return kvs_fail(error, KVS_INPUT, path, "model", "has no end");
    uint64_t want = 2 * (uint64_t)h->layers * (uint64_t)h->kv_heads * kvs_constants_record_bytes(h->head_dim);
    if ((uint64_t)file_bytes - HEADER_BYTES != want)
        return kvs_fail(error, KVS_INPUT, path, NULL, "has %lld bytes, where its header asks for %llu",
                        (long long)file_bytes, (unsigned long long)want + HEADER_BYTES);
    return KVS_OK;
}

static int finite_halves(size_t count, const uint16_t *halves) {
    int all = 1;
    for (size_t i = 0; i < count; i++) all &= (halves[i] & 0x7c00) != 0x7c00;
    return all;
}

static kvs_status check_records(const char *path, const kvs_constants_header *h, uint8_t *records, kvs_error *error) {
    size_t dim = (size_t)h->head_dim;
    for (int i = 0; i < 2 * h->layers * h->kv_heads; i++) {
        kvs_constants_record r =
            kvs_constants_at(h, records, i / (h->layers * h->kv_heads), i / h->kv_heads % h->layers, i % h->kv_heads);
        char object[64];
        snprintf(object, sizeof object, "%s of layer %d, head %d", i < h->layers * h->kv_heads ? "K" : "V",
                 i / h->kv_heads % h->layers, i % h->kv_heads);
        if (!finite_halves(dim * dim + dim, r.basis))
            return kvs_fail(error, KVS_INPUT, path, object, "has a number that is not finite");
        for (size_t d = 0; d < dim; d++)
            if (r.widths[d] > KVS_TRELLIS_MAX_BITS)
                return kvs_fail(error, KVS_INPUT, path, object, "component %zu has %d bits, more than %d", d,
                                r.widths[d], KVS_TRELLIS_MAX_BITS);
    }
    return KVS_OK;
}

static kvs_status read_file(FILE *file, const char *path, kvs_constants_header *header, uint8_t **records,
                            kvs_error *error) {
    char head[HEADER_BYTES] = {0};
    struct stat about;
    if (fstat(fileno(file), &about) != 0 || !S_ISREG(about.st_mode))
        return kvs_fail(error, KVS_INPUT, path, NULL, "is not a regular file");
    if (fread(head, 1, sizeof head, file) != sizeof head && ferror(file))
        return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be read: %s", strerror(errno));
    memcpy(header, head + MAGIC_BYTES, sizeof *header);
    KVS_TRY(check_header(path, head, about.st_size, header, error));
    size_t bytes = kvs_constants_bytes(header);
    *records = malloc(bytes);
    if (*records == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    if (fread(*records, 1, bytes, file) != bytes) return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be read");
    return check_records(path, header, *records, error);
}

kvs_status kvs_constants_read(const char *path, kvs_constants_header *header, uint8_t **records, kvs_error *error) {
    *records = NULL;
    FILE *file = fopen(path, "rb");
    if (file == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be opened: %s", strerror(errno));
    kvs_status status = read_file(file, path, header, records, error);
    fclose(file);
    if (status == KVS_OK) return KVS_OK;
    free(*records);
    *records = NULL;
    return status;
}

/* --- writing -------------------------------------------------------------------------------------------------------
 */

kvs_status kvs_constants_write(const char *path, const kvs_constants_header *header, const uint8_t *records,
                               kvs_error *error) {
    kvs_output output;
    char head[HEADER_BYTES] = {0};
    memcpy(head, magic, MAGIC_BYTES);
    memcpy(head + MAGIC_BYTES, header, sizeof *header);
    KVS_TRY(kvs_output_begin(path, &output, error));
    FILE *file = fopen(output.temporary, "wb");
    size_t bytes = kvs_constants_bytes(header);
    int written =
        file != NULL && fwrite(head, 1, sizeof head, file) == sizeof head && fwrite(records, 1, bytes, file) == bytes;
    int reason = errno;
    if (file != NULL && fclose(file) != 0) written = 0;
    if (written) return kvs_output_commit(&output, error);
    kvs_output_abandon(&output);
    return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be written: %s", strerror(reason));
}
