#!/bin/sh
# kvscope alloc: the reference hit rates of the Mooncake conversation trace; bad input.
cd "$(dirname "$0")/../.." || exit 1
. tests/cli/lib.sh
requests=../shared/requests/mooncake_conversation.jsonl

# rates RULE ORDER CAPACITIES: the hit rates, four decimals, in one line
rates() {
    "$KVSCOPE" alloc "$requests" --sequential --page-tokens 512 --capacity-pages "$3" --partial-hash "$1" \
        --free-order "$2" --json | grep -o '"prefix_hit_rate":[^,]*' | awk '{ printf "%.4f ", $2 }' FS=:
}

# The table of the reference page (two independent models), to four decimals.
if [ -f "$requests" ]; then
    [ "$(rates count may2026 1000,10000,30000,50000,100000,inf)" = "0.0445 0.2116 0.3257 0.3546 0.3637 0.3664 " ]
    report $? 'hit rates with every id cached are the published ones'
    [ "$(rates drop may2026 1000,10000,30000,50000,100000,inf)" = "0.0450 0.2149 0.3305 0.3561 0.3637 0.3660 " ]
    report $? 'hit rates with full blocks only are the published ones'
    [ "$(rates drop v019 10000,30000)" = "0.2113 0.3253 " ]
    report $? 'hit rates with the older queue order are the published ones'
else
    skip 'reference hit rates' 'the Mooncake trace is not in ../shared/requests'
fi

line='{"timestamp": 5, "input_length": 600, "output_length": 3, "hash_ids": [7, 8]}'
printf '%s\n' "$line" >"$T/good.jsonl"
passes 'one request replays' "$KVSCOPE" alloc "$T/good.jsonl" --sequential --check-invariants --json
grep -q '"requested_blocks":[[:space:]]*2' "$T/.out"
report $? 'it needs two blocks'

fails 2 'partial-hash.*count, drop' 'an unknown rule is refused' \
    "$KVSCOPE" alloc "$T/good.jsonl" --sequential --partial-hash maybe
fails 2 'capacity-pages' 'a capacity that is no number is refused' \
    "$KVSCOPE" alloc "$T/good.jsonl" --sequential --capacity-pages 10,x
fails 2 'neither divide' 'pages that do not fit the blocks are refused' \
    "$KVSCOPE" alloc "$T/good.jsonl" --sequential --page-tokens 500
fails 3 'more than the whole memory' 'a request larger than the pool is refused' \
    "$KVSCOPE" alloc "$T/good.jsonl" --sequential --capacity-pages 1
passes 'or left out and counted' "$KVSCOPE" alloc "$T/good.jsonl" --sequential --capacity-pages 1 --skip-bad --json
grep -q '"skipped":[[:space:]]*1' "$T/.out"
report $? 'the count is one'

# bad NAME PATTERN LINE: a trace whose second line is bad
bad() {
    printf '%s\n%s\n%s\n' "$line" "$3" "$line" >"$T/bad.jsonl"
    fails 3 "line 2: .*$2" "$1 is refused with its line" "$KVSCOPE" alloc "$T/bad.jsonl" --sequential
    passes "$1 can be left out" "$KVSCOPE" alloc "$T/bad.jsonl" --sequential --skip-bad --json
    grep -q '"skipped_lines":[[:space:]]*1,' "$T/.out"
    report $? "$1 is counted"
}
bad 'broken JSON' 'is not valid JSON' '{"timestamp": 5, '
bad 'a list' 'is not a JSON object' '[1, 2]'
bad 'a negative length' 'negative' '{"timestamp": 5, "input_length": 600, "output_length": -3, "hash_ids": [7, 8]}'
bad 'an absurd length' 'absurdly' \
    '{"timestamp": 5, "input_length": 600, "output_length": 900000000, "hash_ids": [7, 8]}'
bad 'time running backwards' 'backwards' '{"timestamp": 4, "input_length": 600, "output_length": 3, "hash_ids": [7, 8]}'
bad 'too few ids' 'number of ids' '{"timestamp": 5, "input_length": 600, "output_length": 3, "hash_ids": [7]}'
bad 'half an id' 'no whole number' '{"timestamp": 5, "input_length": 600, "output_length": 3, "hash_ids": [7, 8.5]}'

finish
