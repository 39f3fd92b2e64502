#!/bin/sh
# Does tools/compare.sh calibrate, sweep, rank, print and draw, and does it go on where it was stopped?
. tests/cli/lib.sh
mkdir -p "$T/shared/models" "$T/shared/corpus" "$T/shared/traces"
ln -s "$SAMPLES/qwen3-7m" "$T/shared/models/qwen3-7m"
ln -s "$SAMPLES/qwen3-7m/validation_tokens.h5" "$T/shared/corpus/validation_tokens.h5"
ln -s "$SAMPLES/qwen3-7m.h5" "$T/shared/traces/qwen3-7m.h5"
printf 'fp16\nkitty:boost=[0.125,0.25],rank=[magnitude,random]\nint:bits=4,sink=32 # one\n' >"$T/grid"
case $B in
*asan*)
    skip 'the comparison' 'too slow under a sanitizer'
    finish
    ;;
esac
compare() {
    env B="$(dirname "$KVSCOPE")" COMPARE="$T/out" SHARED="$T/shared" MODELS=qwen3-7m GRID="$T/grid" BITS=2.4 SEQUENCES=1 \
        tools/compare.sh
}
passes 'the comparison runs' compare
cp "$T/.out" "$T/first"
if command -v gnuplot >/dev/null; then
    [ -s "$T/out/frontier.svg" ] && grep -q 'tcq before-2.4' "$T/out/frontier.svg"
    report $? 'and draws the frontier with all names'
fi
# 6 schemes of the grid, constants of two kinds for 2.4 bits, and those that heads share alike; by rising bits.
awk -F' *[|] *' 'NR > 2 { rows++; if ($3 < last || $4 == "") bad = 1; last = $3
    if ($2 ~ /before-2.4/ && $4 > 0.02) bad = 1 } END { exit bad || rows != 9 }' "$T/out/table.md"
report $? 'the table has every scheme once, by bits'
grep -q '^greedy' "$T/first" || grep -q 'query_error' "$T/first"
report $? 'what rankings are worth is told'

# What is there is kept; what is missing is made again, to the same numbers.
cp "$T/out/table.md" "$T/table"
rm "$T/out/results.h5" "$T/out/results.csv" "$T/out/results.json" "$T/out/table.md" "$T/out/qwen3-7m/after-2.4"
passes 'the same command goes on' compare
[ "$(grep -c "^+" "$T/.err")" = 2 ] && cmp "$T/table" "$T/out/table.md"
report $? 'with what is missing, to the same table'

finish
