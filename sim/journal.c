#include "sim/journal.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct kvs_journal {
    char *path;
    int file;
};

static kvs_status unwritable(const kvs_journal *journal, kvs_error *error) {
    return kvs_fail(error, KVS_INPUT, journal->path, NULL, "cannot be written: %s", strerror(errno));
}

kvs_status kvs_journal_refuse(const char *path, const char *object, kvs_error *error) {
    return kvs_fail(error, KVS_INPUT, path, object, "is damaged; --restart forgets the journal");
}

kvs_status kvs_journal_add(kvs_journal *journal, cJSON *line, kvs_error *error) {
    char *text = line != NULL ? cJSON_PrintUnformatted(line) : NULL;
    cJSON_Delete(line);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, journal->path, NULL, "out of memory");
    size_t length = strlen(text), done = 0;
    text[length++] = '\n'; /* over the NUL: the length says where it ends */
    while (done < length) {
        ssize_t wrote = write(journal->file, text + done, length - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) break;
        done += (size_t)wrote;
    }
    cJSON_free(text);
    if (done < length || fsync(journal->file) != 0) return unwritable(journal, error);
    return KVS_OK;
}

/* --- resuming ------------------------------------------------------------------------------------------------------
 */

static kvs_status check_key(const cJSON *line, const char *path, const char *key, const kvs_journal_reader *reader,
                            kvs_error *error) {
    char name[64];
    snprintf(name, sizeof name, "kvscope_%s", reader->what);
    const char *theirs = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, name));
    if (theirs == NULL) return kvs_fail(error, KVS_INPUT, path, "line 1", "is no journal of a %s", reader->what);
    if (strcmp(theirs, key) == 0) return KVS_OK;
    return kvs_fail(error, KVS_INPUT, path, "line 1",
                    "belongs to a %s of another version, trace or option; finish that one, or forget it with --restart",
                    reader->what);
}

/* Takes the whole lines of a journal; *length is where the last of them ends. */
static kvs_status take_lines(char *text, size_t bytes, const char *path, const char *key,
                             const kvs_journal_reader *reader, size_t *length, kvs_error *error) {
    *length = 0;
    for (int number = 1; *length < bytes; number++) {
        char *start = text + *length, *end = memchr(start, '\n', bytes - *length), object[32];
        if (end == NULL) return KVS_OK; /* torn */
        *end = '\0';
        snprintf(object, sizeof object, "line %d", number);
        cJSON *line = cJSON_Parse(start);
        kvs_status status = line == NULL  ? kvs_journal_refuse(path, object, error)
                            : number == 1 ? check_key(line, path, key, reader, error)
                                          : reader->take(line, path, object, reader->context, error);
        cJSON_Delete(line);
        KVS_TRY(status);
        *length += (size_t)(end - start) + 1;
    }
    return KVS_OK;
}

static kvs_status resume(kvs_journal *journal, const char *key, const kvs_journal_reader *reader, size_t *length,
                         kvs_error *error) {
    struct stat info;
    *length = 0;
    if (fstat(journal->file, &info) != 0) return unwritable(journal, error);
    if (info.st_size == 0) return KVS_OK;
    size_t bytes = (size_t)info.st_size, got = 0;
    char *text = malloc(bytes);
    if (text == NULL) return kvs_fail(error, KVS_INPUT, journal->path, NULL, "out of memory");
    while (got < bytes) {
        ssize_t part = pread(journal->file, text + got, bytes - got, (off_t)got);
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) break;
        got += (size_t)part;
    }
    kvs_status status = got == bytes
                            ? take_lines(text, bytes, journal->path, key, reader, length, error)
                            : kvs_fail(error, KVS_INPUT, journal->path, NULL, "cannot be read: %s", strerror(errno));
    free(text);
    return status;
}

static kvs_status begin(kvs_journal *journal, const char *key, int restart, const kvs_journal_reader *reader,
                        kvs_error *error) {
    size_t length = 0;
    journal->file = open(journal->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (journal->file < 0) return unwritable(journal, error);
    if (flock(journal->file, LOCK_EX | LOCK_NB) != 0)
        return kvs_fail(error, KVS_INPUT, journal->path, NULL, "another %s is writing it", reader->what);
    if (!restart) KVS_TRY(resume(journal, key, reader, &length, error));
    if (ftruncate(journal->file, (off_t)length) != 0 || lseek(journal->file, (off_t)length, SEEK_SET) < 0)
        return unwritable(journal, error);
    if (length > 0) return KVS_OK;
    char name[64];
    snprintf(name, sizeof name, "kvscope_%s", reader->what);
    cJSON *line = cJSON_CreateObject();
    if (line != NULL && cJSON_AddStringToObject(line, name, key) != NULL) return kvs_journal_add(journal, line, error);
    cJSON_Delete(line);
    return kvs_fail(error, KVS_INPUT, journal->path, NULL, "out of memory");
}

kvs_status kvs_journal_begin(const char *path, const char *key, int restart, const kvs_journal_reader *reader,
                             kvs_journal **journal, kvs_error *error) {
    *journal = calloc(1, sizeof **journal);
    if (*journal == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    (*journal)->file = -1;
    (*journal)->path = strdup(path);
    kvs_status status = (*journal)->path != NULL ? begin(*journal, key, restart, reader, error)
                                                 : kvs_fail(error, KVS_INPUT, path, NULL, "out of memory");
    if (status == KVS_OK) return KVS_OK;
    kvs_journal_close(*journal);
    *journal = NULL;
    return status;
}

void kvs_journal_close(kvs_journal *journal) {
    if (journal == NULL) return;
    if (journal->file >= 0) close(journal->file);
    free(journal->path);
    free(journal);
}

/* --- of results ----------------------------------------------------------------------------------------------------
 */

/* {name: value, "index": index}, or NULL; value is taken over. */
static cJSON *indexed(const char *name, cJSON *value, int index) {
    cJSON *line = cJSON_CreateObject();
    if (line != NULL && cJSON_AddNumberToObject(line, "index", index) != NULL &&
        cJSON_AddItemToObject(line, name, value))
        return line;
    cJSON_Delete(value);
    cJSON_Delete(line);
    return NULL;
}

kvs_status kvs_journal_add_trace(kvs_journal *journal, const kvs_results *results, int trace, kvs_error *error) {
    cJSON *json;
    KVS_TRY(kvs_trace_summary_to_json(&results->traces[trace], 1, &json, error));
    return kvs_journal_add(journal, indexed("trace", json, trace), error);
}

kvs_status kvs_journal_add_result(kvs_journal *journal, const kvs_results *results, int result, kvs_error *error) {
    cJSON *json;
    KVS_TRY(kvs_result_to_json(&results->results[result], &json, error));
    return kvs_journal_add(journal, indexed("result", json, result), error);
}

static kvs_status take_line(const cJSON *line, const char *path, const char *object, void *context, kvs_error *error) {
    kvs_results *results = context;
    const cJSON *number = cJSON_GetObjectItemCaseSensitive(line, "index");
    const cJSON *trace = cJSON_GetObjectItemCaseSensitive(line, "trace");
    const cJSON *result = cJSON_GetObjectItemCaseSensitive(line, "result");
    double index = cJSON_IsNumber(number) ? number->valuedouble : -1;
    int most = trace != NULL ? results->traces_count : results->results_count;
    if ((trace == NULL) == (result == NULL) || !(index >= 0 && index < most))
        return kvs_journal_refuse(path, object, error);
    if (trace != NULL) {
        kvs_trace_summary_clear(&results->traces[(int)index]);
        return kvs_trace_summary_from_json(trace, path, &results->traces[(int)index], error);
    }
    kvs_result_clear(&results->results[(int)index]);
    return kvs_result_from_json(result, path, &results->results[(int)index], error);
}

kvs_status kvs_journal_open(const char *path, const char *key, int restart, kvs_results *results, kvs_journal **journal,
                            kvs_error *error) {
    const kvs_journal_reader reader = {"sweep", take_line, results};
    return kvs_journal_begin(path, key, restart, &reader, journal, error);
}
