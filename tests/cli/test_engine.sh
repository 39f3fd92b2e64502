#!/bin/sh
# The engine model against a plain one (tests/peers/engine_python.py), on random small traces and a cut of Mooncake's.
cd "$(dirname "$0")/../.." || exit 1
. tests/cli/lib.sh
PYTHON=${PYTHON:-python3}

# A tight trace: few distinct prefixes, bursts of arrivals, prompts up to 3000 tokens.
"$PYTHON" - >"$T/random.jsonl" <<'PYTHON_END'
import json, random
random.seed(11)
time, families = 0, [[100 * f + i for i in range(6)] for f in range(4)]
for n in range(250):
    time += random.choice([0, 0, 100, 900])
    tokens = random.randint(1, 3000)
    blocks, family = (tokens + 511) // 512, random.choice(families)
    shared = random.randint(0, blocks - 1) if blocks > 1 else 0
    ids = family[:shared] + [10000 + 10 * n + i for i in range(blocks - shared)]
    print(json.dumps({"timestamp": time, "input_length": tokens, "output_length": random.randint(1, 80), "hash_ids": ids}))
PYTHON_END

# same NAME TRACE BLOCKS PAGE BUDGET SEQS RESERVE WATERMARK ORDER CACHING: both models, all counts
same() {
    name=$1 trace=$2
    reserve=off caching=off
    [ "$7" = 1 ] && reserve=on
    [ "${10}" = 1 ] && caching=on
    "$KVSCOPE" alloc "$trace" --num-blocks "$3" --page-tokens "$4" --max-batched-tokens "$5" --max-seqs "$6" \
        --reserve-full-input "$reserve" --watermark "$8" --free-order "$9" --caching "$caching" --step-ms 100 \
        --check-invariants --json >"$T/ours.json" 2>"$T/.err"
    "$PYTHON" tests/peers/engine_python.py "$trace" blocks="$3" page="$4" budget="$5" seqs="$6" reserve="$7" \
        watermark="$8" order="$9" caching="${10}" step_s=0.1 >"$T/theirs.json" 2>>"$T/.err"
    "$PYTHON" - "$T/ours.json" "$T/theirs.json" >"$T/.out" 2>>"$T/.err" <<'PYTHON_END'
import json, sys
ours, theirs = json.load(open(sys.argv[1]))["results"][0], json.load(open(sys.argv[2]))
bad = {k: (ours[k], v) for k, v in theirs.items() if abs(ours[k] - v) > 1e-6 * abs(v)}
print(theirs)
assert not bad, bad
assert ours["completed"] == ours["requests"] and theirs["steps"] > 100
PYTHON_END
    report $? "$name: $(cut -c1-96 "$T/.out")"
}

same 'roomy' "$T/random.jsonl" 2000 16 8192 1024 1 0 may2026 1
same 'tight: preempts' "$T/random.jsonl" 260 16 512 64 0 0 may2026 1
grep -Eq "'preemptions': [1-9]" "$T/.out" && grep -Eq "'recomputed_tokens': [1-9]" "$T/.out"
report $? 'the tight one did preempt and recompute'
same 'tight, older order' "$T/random.jsonl" 260 16 512 64 0 0 v019 1
same 'tight, no caching' "$T/random.jsonl" 260 16 512 64 0 0 may2026 0
same 'watermark' "$T/random.jsonl" 260 16 512 64 0 0.1 may2026 1
same 'reserve' "$T/random.jsonl" 260 16 512 64 1 0.02 v019 1
same 'large pages' "$T/random.jsonl" 40 128 300 8 1 0 may2026 1
same 'pages of several ids' "$T/random.jsonl" 24 1024 1000 16 0 0 may2026 1
head -60 "$SAMPLES/requests/mooncake-conversation.jsonl" >"$T/cut.jsonl"
same 'a cut of Mooncake' "$T/cut.jsonl" 4000 64 4096 64 1 0 may2026 1

finish
