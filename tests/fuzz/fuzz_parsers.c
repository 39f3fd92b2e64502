/* fuzz_parsers.c: the targets for libFuzzer, built by tools/fuzz.sh with KVS_FUZZ_TARGET as one of their names. */
#include "tests/fuzz/parsers.h"

#define TEXT_OF(name) #name
#define NAME_OF(name) TEXT_OF(name)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    for (size_t i = 0; i < sizeof fuzz_targets / sizeof *fuzz_targets; i++)
        if (strcmp(fuzz_targets[i].name, NAME_OF(KVS_FUZZ_TARGET)) == 0) fuzz_targets[i].run(data, size);
    return 0;
}
