#!/bin/sh
# Fuzzes the parsers of a model's files and of request traces with libFuzzer and the sanitizers, each for FUZZ_SECONDS (default 60).
# usage: [FUZZ_SECONDS=60] tools/fuzz.sh [safetensors|config|tokenizer|requests ...]     findings are kept in $B/fuzz/NAME
B=${B:-build}
CLANG=${CLANG:-clang}
[ $# -gt 0 ] || set -- safetensors config tokenizer requests
command -v "$CLANG" >/dev/null || { echo "fuzzing needs clang with libFuzzer" >&2 && exit 4; }
hdf5=$(pkg-config --exists hdf5-serial && echo hdf5-serial || echo hdf5)
flags=$(pkg-config --cflags "$hdf5" libcjson libcrypto libpcre2-8)
libraries=$(pkg-config --libs "$hdf5" libcjson libcrypto libpcre2-8)
parsers='config rope safetensors bpe bpe_encode pretokenize tokenizer'
for target; do
    mkdir -p "$B/fuzz/$target/corpus"
    "$CLANG" -std=c11 -g -O1 -I. -D_GNU_SOURCE -DKVS_NO_CLONES -DKVS_FUZZ_TARGET="$target" $flags -ffp-contract=off \
        -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -o "$B/fuzz/$target/fuzz" \
        tests/fuzz/fuzz_parsers.c core/*.c traces/*.c $(printf 'sim/model/%s.c ' $parsers) $libraries -lm -lpthread || exit 4
    "$B/fuzz/$target/fuzz" -max_total_time="${FUZZ_SECONDS:-60}" -max_len=65536 -timeout=20 -print_final_stats=1 \
        -artifact_prefix="$B/fuzz/$target/" "$B/fuzz/$target/corpus" "tests/fuzz/corpus/$target" \
        >"$B/fuzz/$target/log" 2>&1
    status=$?
    grep -E 'ERROR|SUMMARY|stat::number_of_executed_units|stat::average_exec_per_sec' "$B/fuzz/$target/log" |
        sed "s/^/$target: /"
    [ $status = 0 ] || { echo "$target: see $B/fuzz/$target" >&2 && exit 1; }
done
