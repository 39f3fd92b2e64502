/* parsers.h: the parsers of a model's files and of request traces as fuzz targets: bytes in, no crash, no leak, and
 * either success or KVS_INPUT with a rule. Used by the libFuzzer program (fuzz_parsers.c) and by the plain one
 * (test_parsers.c). */
#ifndef KVS_TESTS_FUZZ_PARSERS_H
#define KVS_TESTS_FUZZ_PARSERS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sim/model/config.h"
#include "sim/model/safetensors.h"
#include "sim/model/tokenizer.h"
#include "traces/requests.h"

/* Each target returns whether the bytes were accepted. */

/* Ends the program where a parser fails in another way than it promises. */
static void expect_refusal(kvs_status status, const kvs_error *error) {
    if (status == KVS_OK || (status == KVS_INPUT && error->rule[0] != '\0')) return;
    fprintf(stderr, "a parser failed with status %d and the rule '%s'\n", (int)status, error->rule);
    abort();
}

static int fuzz_safetensors(const uint8_t *data, size_t size) {
    kvs_safetensors tensors = {.directory = strdup("fuzz")};
    kvs_error error = {0};
    kvs_status status = kvs_safetensors_add(&tensors, "fuzz", data, size, &error);
    if (status == KVS_OK) status = kvs_safetensors_sort(&tensors, &error);
    expect_refusal(status, &error);
    for (int i = 0; status == KVS_OK && i < tensors.tensors_count; i++) { /* what is believed can be read */
        const kvs_stored_tensor *tensor = &tensors.tensors[i];
        int64_t rows = tensor->rank == 2 ? tensor->shape[0] : 1, columns = tensor->shape[tensor->rank > 1];
        float *floats = malloc(sizeof *floats * (tensor->elements + 1));
        if (floats != NULL && tensor->rank >= 1)
            expect_refusal(kvs_safetensors_read(&tensors, tensor->name, rows, columns, floats, &error), &error);
        free(floats);
    }
    kvs_safetensors_close(&tensors);
    return status == KVS_OK;
}

static int fuzz_config(const uint8_t *data, size_t size) {
    static kvs_model_config config;
    kvs_error error = {0};
    kvs_status status = kvs_model_config_parse("fuzz", (const char *)data, size, &config, &error);
    expect_refusal(status, &error);
    return status == KVS_OK;
}

static int fuzz_tokenizer(const uint8_t *data, size_t size) {
    static const char text[] = "a<x>def f(x):\n    return 'll 42 \xc3\xa9\xe2\x82\xac  \t.";
    kvs_tokenizer *tokenizer;
    kvs_error error = {0};
    kvs_status status = kvs_tokenizer_parse("fuzz", (const char *)data, size, &tokenizer, &error);
    expect_refusal(status, &error);
    if (status != KVS_OK) return 0;
    int32_t *ids;
    size_t count, bytes;
    char *back;
    status = kvs_tokenizer_encode(tokenizer, "text", text, sizeof text - 1, &ids, &count, &error);
    expect_refusal(status, &error);
    if (status == KVS_OK) {
        status = kvs_tokenizer_decode(tokenizer, ids, count, &back, &bytes, &error);
        if (status != KVS_OK || bytes != sizeof text - 1 || memcmp(back, text, bytes) != 0) {
            fprintf(stderr, "an accepted tokenizer does not give its text back\n");
            abort();
        }
        free(back);
        free(ids);
    }
    kvs_tokenizer_close(tokenizer);
    return 1;
}

/* The readers of requests stream from a file: one in memory. */
static int fuzz_requests(const uint8_t *data, size_t size) {
    static int file = -1;
    char path[64];
    if (file < 0 && (file = memfd_create("requests", 0)) < 0) abort();
    if (ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    kvs_requests requests;
    kvs_error error = {0};
    kvs_request_options options = {.skip_bad = (int)(size % 2)};
    kvs_status status = kvs_requests_load(path, NULL, options, &requests, &error);
    expect_refusal(status, &error);
    if (status != KVS_OK) return 0;
    for (int64_t i = 0; i < requests.block_start[requests.count]; i++)
        if (requests.block_ids[i] >= requests.unique_blocks) abort();
    kvs_requests_clear(&requests);
    return 1;
}

static const struct {
    const char *name; /* of the folder of its seeds, tests/fuzz/corpus/NAME */
    int (*run)(const uint8_t *data, size_t size);
} fuzz_targets[] = {{"safetensors", fuzz_safetensors},
                    {"config", fuzz_config},
                    {"tokenizer", fuzz_tokenizer},
                    {"requests", fuzz_requests}};

#endif
