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

# --- under an engine ------------------------------------------------------------------------------------------------
PYTHON=${PYTHON:-python3}
check() { # check NAME EXPRESSION: a Python expression over d, the JSON document last printed, and r, its results
    "$PYTHON" - "$T/.out" "$2" >"$T/.py" 2>"$T/.err" <<'PYTHON_END'
import json, sys
d = json.load(open(sys.argv[1]))
r = d["results"]
sys.exit(not eval(sys.argv[2]))
PYTHON_END
    report $? "$1"
}
trace=$SAMPLES/requests/mooncake-conversation.jsonl
all="--scheme fp16 --scheme kitty:boost=0.25 --scheme kivi --allocator paged --allocator contiguous --allocator unpaged"
passes 'three schemes and allocators, every invariant checked' "$KVSCOPE" alloc "$trace" $all --memory 25GiB \
    --page-tokens 128 --check-invariants --series --json
check 'every request ends' 'all(x["completed"] == x["requests"] == 220 for x in r) and len(r) == 9'
check 'the five kinds of bytes add up to what is used, at every moment' 'all(
    abs(sum(x["series"][k + "_bytes"][i] for k in ("payload", "metadata", "residual", "padding", "fragmentation"))
        - used) <= 1e-6 * x["memory_bytes"] and used <= x["memory_bytes"] * (1 + 1e-12)
    for x in r for i, used in enumerate(x["series"]["used_bytes"]))'
check 'no kind is negative' 'all(v >= -1 for x in r for k in ("payload", "metadata", "residual", "padding",
    "fragmentation", "external") for v in x["series"][k + "_bytes"])'
check 'pages are used or free' 'all(u + f == x["total_pages"] for x in r
    for u, f in zip(x["series"]["used_pages"], x["series"]["free_pages"]))'
check 'smaller pages let more requests run' \
    'r[3]["peak_running"] > 2 * r[0]["peak_running"] and r[6]["peak_running"] > 2 * r[0]["peak_running"]'
check 'slots waste, pages do not' 'r[1]["fragmentation_share"] > 0.5 > 0.05 > r[0]["fragmentation_share"] > 0'
check 'only stretches leave gaps' 'r[2]["external_share"] > 0.02 > r[0]["external_share"] == 0'
check 'full precision has no residual, quantized schemes do' \
    'r[0]["residual_share"] == 0 and r[0]["metadata_share"] == 0 and r[3]["residual_share"] > 0.01 < r[3]["metadata_share"]'

# Pages that are shared are quantized ones; a residual buffer is not: the same prefix twice, all but the first once.
for i in 1 2; do
    echo '{"timestamp": 0, "input_length": 2048, "output_length": 300, "hash_ids": [1, 2, 3, 4]}'
done >"$T/twins.jsonl"
passes 'two equal prompts' "$KVSCOPE" alloc "$T/twins.jsonl" --scheme kitty:boost=0.25 --memory 8GiB \
    --max-batched-tokens 2048 --step-ms 10 --series --json
# floor((2048 - 1 - 32 - 128) / 128) = 14 complete pages of 128 tokens can be found. At its end, with 2347 tokens, each
# has taken floor((2347 - 32 - 128) / 128) + 1 = 18 pages and 12 for its buffer.
check 'the second finds 14 pages' 'r[0]["hit_tokens"] == 14 * 128'
check 'together they hold 60 pages, 14 of them once' 'r[0]["peak_used_pages"] == 2 * (18 + 12) - 14'

passes 'slots of 128000 tokens' "$KVSCOPE" alloc "$trace" --allocator contiguous --max-tokens 128000 --memory 60GiB --json
check 'three of 128000 * 147456 bytes fit in 60 GiB' 'r[0]["total_pages"] == r[0]["peak_running"] == 3'

# A sweep resumes: what is there is kept, run times included.
passes 'two runs are kept' "$KVSCOPE" alloc "$trace" --scheme fp16 --memory 25GiB,30GiB -o "$T/sweep.h5" --json
cp "$T/.out" "$T/first.json"
passes 'the sweep grows' "$KVSCOPE" alloc "$trace" --scheme fp16 --scheme kivi --memory 25GiB,30GiB -o "$T/sweep.h5" --json
"$PYTHON" -c 'import json, sys
a, b = (json.load(open(f))["results"] for f in sys.argv[1:])
sys.exit(not (len(b) == 4 and b[:2] == a))' "$T/first.json" "$T/.out"
report $? 'the first two runs were not made again'
passes 'other settings start afresh' "$KVSCOPE" alloc "$trace" --scheme fp16 --memory 25GiB --watermark 0.1 \
    -o "$T/sweep.h5" --json
"$PYTHON" -c 'import json, sys
a, b = (json.load(open(f))["results"] for f in sys.argv[1:])
sys.exit(not (len(b) == 1 and b[0]["wall_s"] != a[0]["wall_s"]))' "$T/first.json" "$T/.out"
report $? 'nothing of the old settings is left'
"$PYTHON" - "$T/sweep.h5" "$T/.out" >"$T/.py" 2>"$T/.err" <<'PYTHON_END'
import json, sys
import h5py
run, row = h5py.File(sys.argv[1])["runs/000"], json.load(open(sys.argv[2]))["results"][0]
assert run["series"].shape == (row["samples"], 19), run["series"].shape
assert all(run.attrs[k] == v for k, v in row.items() if not isinstance(v, str)), dict(run.attrs)
assert h5py.File(sys.argv[1]).attrs["kvscope_kind"] == "occupancy"
PYTHON_END
report $? 'HDF5 and JSON say the same'
passes 'one thread and two give the same' sh -c '"$1" alloc "$2" --scheme fp16 --scheme kivi --memory 25GiB,30GiB --threads 1 --json |
    grep -v wall_s | grep -v command_line >"$3/one"; "$1" alloc "$2" --scheme fp16 --scheme kivi --memory 25GiB,30GiB --threads 2 --json |
    grep -v wall_s | grep -v command_line >"$3/two"; cmp "$3/one" "$3/two"' sh "$KVSCOPE" "$trace" "$T"
printf 'precious' >"$T/precious.h5"
fails 3 'not overwritten' 'another file is not overwritten' \
    "$KVSCOPE" alloc "$trace" --memory 25GiB -o "$T/precious.h5"
passes 'plots are drawn' "$KVSCOPE" plot "$T/sweep.h5" --kind occupancy --kind concurrency --kind hit-rate -o "$T/plots"
[ -s "$T/plots/occupancy.svg" ] && [ -s "$T/plots/hit-rate.csv" ] && [ -s "$T/plots/concurrency.png" ]
report $? 'their files are there'

fails 3 'larger than the whole memory' 'a request larger than the memory is refused' \
    "$KVSCOPE" alloc "$trace" --memory 1GiB
passes 'or left out' "$KVSCOPE" alloc "$trace" --memory 1GiB --skip-bad --json
check 'and counted' 'r[0]["skipped"] + r[0]["completed"] == 220 and r[0]["skipped"] > 100'
fails 3 'weights take' 'weights larger than the device are refused' "$KVSCOPE" alloc "$trace" --model-shape llama3-70b
fails 3 'hold no two pages' 'a memory smaller than a page is refused' "$KVSCOPE" alloc "$trace" --memory 1kB
fails 2 'is not a size' 'a size that is none is refused' "$KVSCOPE" alloc "$trace" --memory lots
fails 2 'allocator.*one of paged' 'an unknown allocator is refused' "$KVSCOPE" alloc "$trace" --allocator best
fails 2 'either REQUESTS or --generate' 'no requests are refused' "$KVSCOPE" alloc
fails 2 'unknown scheme' 'an unknown scheme is refused' "$KVSCOPE" alloc "$trace" --scheme best

# --- import, check, info --------------------------------------------------------------------------------------------
for f in "mooncake $trace" "azure $SAMPLES/requests/azure-2023-conv.csv" "jsonl $SAMPLES/requests/vllm-rtx4090.jsonl"; do
    passes "import ${f%% *}" "$KVSCOPE" import ${f%% *} "${f#* }" -o "$T/requests.h5"
    passes "check ${f%% *}" "$KVSCOPE" check "${f#* }"
    passes 'check requests.h5' "$KVSCOPE" check "$T/requests.h5"
    "$KVSCOPE" info "${f#* }" --json | grep -v '"path"' >"$T/text.json"
    "$KVSCOPE" info "$T/requests.h5" --json | grep -v '"path"' >"$T/h5.json"
    cmp "$T/text.json" "$T/h5.json" >"$T/.out" 2>&1
    report $? 'info of both is the same'
done
fails 2 'unknown format' 'an unknown format is refused' "$KVSCOPE" import best "$trace" -o "$T/x.h5"
fails 3 'line 1' 'a file of another format is refused' "$KVSCOPE" import azure "$trace" -o "$T/x.h5"
fails 3 'cannot be' 'an output that cannot be written is refused' "$KVSCOPE" import mooncake "$trace" -o "$T/no/x.h5"
[ ! -e "$T/x.h5" ]
report $? 'nothing is left of a failed import'
head -c 9000 "$T/requests.h5" >"$T/cut.h5"
fails 3 'cut.h5' 'a damaged requests.h5 is refused' "$KVSCOPE" alloc "$T/cut.h5" --sequential

finish
