/* test_parsers.c: the fuzz targets over their seeds and over a second of damaged copies of them, without libFuzzer. */
#include <setjmp.h>
#include <stdarg.h>

#include "tests/fuzz/parsers.h"

#include <cmocka.h>
#include <dirent.h>
#include <unistd.h>

#include "core/json.h"
#include "core/progress.h"
#include "core/random.h"

enum { SEEDS_LIMIT = 64, GROWTH = 256 };

typedef struct seed {
    char *bytes;
    size_t size;
} seed;

static int load_seeds(const char *target, seed *seeds) {
    char folder[256], path[600];
    int count = 0;
    snprintf(folder, sizeof folder, "tests/fuzz/corpus/%s", target);
    DIR *open = opendir(folder);
    assert_non_null(open);
    for (struct dirent *entry; (entry = readdir(open)) != NULL && count < SEEDS_LIMIT;) {
        if (entry->d_name[0] == '.') continue;
        kvs_error error;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        assert_int_equal(kvs_read_file(path, 1 << 20, &seeds[count].bytes, &seeds[count].size, &error), KVS_OK);
        count++;
    }
    closedir(open);
    return count;
}

/* One change of a random kind: a byte, a bit, a cut, a doubled part, or a word that parsers stumble over. */
static size_t damage(uint64_t key, char *bytes, size_t size) {
    static const char *const words[] = {
        "-1", "1e400", "99999999999999999999", "null", "[", "]", "{", "}", "\"\"", "\\u0000", "\\ud800", "\xff", "0.5",
        ",",  "true",  "[[[[[[[[[[[[[[[["};
    size_t at = size > 0 ? (size_t)(kvs_random_bits(key, 1) % size) : 0, left = size - at;
    uint64_t draw = kvs_random_bits(key, 2);
    size_t part = left > 0 ? (size_t)(kvs_random_bits(key, 3) % (left < 40 ? left : 40)) : 0;
    const char *word = words[draw % (sizeof words / sizeof *words)];
    switch (kvs_random_bits(key, 0) % 5) {
    case 0:
        if (size > 0) bytes[at] = (char)draw;
        return size;
    case 1:
        if (size > 0) bytes[at] = (char)(bytes[at] ^ (1 << draw % 8));
        return size;
    case 2:
        memmove(bytes + at, bytes + at + part, left - part);
        return size - part;
    case 3:
        memmove(bytes + at + part, bytes + at, left);
        return size + part;
    default:
        memmove(bytes + at + strlen(word), bytes + at, left);
        memcpy(bytes + at, word, strlen(word));
        return size + strlen(word);
    }
}

static void run_target(size_t target) {
    seed seeds[SEEDS_LIMIT];
    int count = load_seeds(fuzz_targets[target].name, seeds);
    uint64_t rounds = 0;
    int accepted = 0;
    for (int i = 0; i < count; i++)
        accepted += fuzz_targets[target].run((const uint8_t *)seeds[i].bytes, seeds[i].size);
    assert_true(accepted >= 2);
    alarm(60); /* a parser that hangs ends the program */
    for (double started = kvs_seconds(); kvs_seconds() - started < 1.0; rounds++) {
        uint64_t key = kvs_random_key(target, rounds);
        const seed *from = &seeds[rounds % (uint64_t)count];
        char *bytes = malloc(from->size + GROWTH);
        assert_non_null(bytes);
        memcpy(bytes, from->bytes, from->size);
        size_t size = from->size;
        for (uint64_t i = 0; i <= kvs_random_bits(key, 9) % 3; i++) size = damage(kvs_random_key(key, i), bytes, size);
        char *exact = realloc(bytes, size > 0 ? size : 1); /* so that a sanitizer sees a read past the end */
        assert_non_null(exact);
        fuzz_targets[target].run((const uint8_t *)exact, size);
        free(exact);
    }
    alarm(0);
    printf("# %s: %d seeds, %llu damaged copies\n", fuzz_targets[target].name, count, (unsigned long long)rounds);
    for (int i = 0; i < count; i++) free(seeds[i].bytes);
}

static void safetensors_survive(void **state) {
    (void)state;
    run_target(0);
}

static void configurations_survive(void **state) {
    (void)state;
    run_target(1);
}

static void tokenizers_survive(void **state) {
    (void)state;
    run_target(2);
}

static void requests_survive(void **state) {
    (void)state;
    run_target(3);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(safetensors_survive), cmocka_unit_test(configurations_survive),
                                       cmocka_unit_test(tokenizers_survive), cmocka_unit_test(requests_survive)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
