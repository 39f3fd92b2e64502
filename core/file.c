#include "core/file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

kvs_status kvs_output_begin(const char *path, kvs_output *output, kvs_error *error) {
    if (strlen(path) >= sizeof output->path || path[0] == '\0')
        return kvs_fail(error, KVS_INPUT, path, NULL, "is no usable output path");
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be written: not a regular file");
    snprintf(output->path, sizeof output->path, "%s", path);
    snprintf(output->temporary, sizeof output->temporary, "%s.tmp.%ld", path, (long)getpid());
    int file = open(output->temporary, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (file < 0 || close(file) != 0)
        return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be written: %s", strerror(errno));
    return KVS_OK;
}

kvs_status kvs_output_commit(const kvs_output *output, kvs_error *error) {
    int file = open(output->temporary, O_RDONLY);
    int failed = file < 0 || fsync(file) != 0;
    if (file >= 0) failed |= close(file) != 0;
    if (!failed) failed = rename(output->temporary, output->path) != 0;
    if (!failed) return KVS_OK;
    kvs_fail(error, KVS_INPUT, output->path, NULL, "cannot be written: %s", strerror(errno));
    kvs_output_abandon(output);
    return KVS_INPUT;
}

void kvs_output_abandon(const kvs_output *output) {
    unlink(output->temporary);
}

kvs_status kvs_write_text(const char *path, const char *text, kvs_error *error) {
    kvs_output output;
    KVS_TRY(kvs_output_begin(path, &output, error));
    FILE *file = fopen(output.temporary, "w");
    int failed = file == NULL || fputs(text, file) < 0;
    if (file != NULL) failed |= fclose(file) != 0;
    if (failed) {
        kvs_fail(error, KVS_INPUT, path, NULL, "cannot be written: %s", strerror(errno));
        kvs_output_abandon(&output);
        return KVS_INPUT;
    }
    return kvs_output_commit(&output, error);
}

kvs_status kvs_make_folder(const char *path, kvs_error *error) {
    char part[4096];
    if (strlen(path) >= sizeof part) return kvs_fail(error, KVS_INPUT, path, NULL, "the path is too long");
    for (size_t i = 1;; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        memcpy(part, path, i);
        part[i] = '\0';
        struct stat info;
        if (mkdir(part, 0777) != 0 && (errno != EEXIST || stat(part, &info) != 0 || !S_ISDIR(info.st_mode)))
            return kvs_fail(error, KVS_INPUT, part, NULL, "cannot be made a folder: %s", strerror(errno));
        if (path[i] == '\0') return KVS_OK;
    }
}

kvs_status kvs_file_sha256(const char *path, char digest[65], kvs_error *error) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be opened: %s", strerror(errno));
    enum { CHUNK = 1 << 20 };
    unsigned char *chunk = malloc(CHUNK), raw[32];
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    int good = chunk != NULL && context != NULL && EVP_DigestInit_ex(context, EVP_sha256(), NULL);
    for (size_t got; good && (got = fread(chunk, 1, CHUNK, file)) > 0;) good = EVP_DigestUpdate(context, chunk, got);
    good = good && !ferror(file) && EVP_DigestFinal_ex(context, raw, NULL);
    EVP_MD_CTX_free(context);
    free(chunk);
    fclose(file);
    if (!good) return kvs_fail(error, KVS_INPUT, path, NULL, "cannot be read: %s", strerror(errno));
    for (int i = 0; i < 32; i++) snprintf(digest + 2 * i, 3, "%02x", raw[i]);
    return KVS_OK;
}
