#!/bin/sh
# kvscope calibrate: constants that NumPy agrees with, what they do to the error, and what is refused.
. tests/cli/lib.sh

TRACE=traces/sample/qwen3-7m.h5
C=$T/sample.constants
passes "calibrates" "$KVSCOPE" calibrate "$TRACE" -o "$C" --bits 2.5 --from-position 0 --quiet
passes "the same bytes again" sh -c '"$1" calibrate "$2" -o "$3.again" --bits 2.5 --from-position 0 --quiet --threads 1 &&
    cmp "$3" "$3.again"' sh "$KVSCOPE" "$TRACE" "$C"
passes "keys before the rotary embedding" "$KVSCOPE" calibrate "$TRACE" -o "$C.before" --rope before --quiet
if [ -n "${PYTHON:-}" ]; then
    passes "basis and widths as NumPy's" "$PYTHON" tests/peers/calibrate_numpy.py "$C" "$TRACE" 2.5
    cat >"$T/check.py" <<'EOF'
import json, subprocess, sys
program, trace, constants = sys.argv[1:]
specs = ["kitty-pro", "tcq", "tcq:constants=" + constants, "tcq:constants=" + constants + ".before"]
out = subprocess.check_output([program, "replay", trace, "--from-position", "512", "--json", "--quiet"] +
                              [a for s in specs for a in ("--scheme", s)])
results = json.loads(out)["results"]
bits = [sum(r["page_bits"].values()) for r in results]
errors = [r["error"]["attention_output_rel_l2"]["mean"] for r in results]
assert all(2.4 < b <= 2.53125 for b in bits), bits
assert 0 < errors[1] < 0.75 * errors[0] and all(0 < e < 0.3 * errors[0] for e in errors[2:]), errors
told = json.loads(subprocess.check_output([program, "calibrate", trace, "-o", constants + ".told", "--json", "--share", "head"]))
assert len(told["heads"]) == 12 and 0 < told["rate_distortion_bound"] < told["expected_error"] < 0.1, told
for head in told["heads"]:
    assert abs(head["k_bits"] + head["v_bits"] - 645 / 128) < 1e-9, head
    assert head["rate_distortion_bound"] <= head["expected_error"]
EOF
    passes "errors fall as they should, within the bits" "$PYTHON" "$T/check.py" "$KVSCOPE" "$TRACE" "$C"
else
    skip "basis and widths as NumPy's" "no python3 with h5py and numpy"
fi

fails 2 "needs -o FILE" "no output" "$KVSCOPE" calibrate "$TRACE"
fails 2 "not one of head, model" "another share" "$KVSCOPE" calibrate "$TRACE" -o "$C.no" --share all
fails 3 "no query at or after position" "no queries" "$KVSCOPE" calibrate "$TRACE" -o "$C.no" --from-position 5000
fails 3 "no file of kvscope calibrate" "a file of another kind" \
    "$KVSCOPE" replay "$TRACE" --scheme "tcq:constants=$TRACE"
"$KVSCOPE" gen -o "$T/other.h5" --layers 1 --kv-heads 1 --query-heads 1 --tokens 300 --quiet >/dev/null 2>&1
fails 2 "constants are for 6 layers of 2 KV heads" "a trace of another model" \
    "$KVSCOPE" replay "$T/other.h5" --scheme "tcq:constants=$C"
fails 2 "$C: sink: was 32 when these constants were calibrated, and here it is 4" "other sinks than calibrated" \
    "$KVSCOPE" replay "$TRACE" --scheme "tcq:sink=4,constants=$C"
fails 2 "constants are for the model 'qwen3-7m', and here is 'llama-7m'" "another model of the same shape" \
    "$KVSCOPE" replay traces/sample/llama-7m.h5 --scheme "tcq:constants=$C"

# One grid for two models, each with constants of its own.
cp "$C" "$T/qwen3-7m.constants"
"$KVSCOPE" calibrate traces/sample/llama-7m.h5 -o "$T/llama-7m.constants" --quiet
set -- "$KVSCOPE" sweep "$TRACE" traces/sample/llama-7m.h5 --grid "tcq:constants=$T/{model}.constants" \
    --from-position 512 -o "$T/two.h5" --quiet
passes "a grid names each model's constants" "$@"
passes "the scheme is told as it was written" sh -c '[ "$(grep -cF "tcq:constants=$1/{model}.constants" "$1/two.csv")" = 2 ]' sh "$T"

# A journal is not resumed with other constants under the same name.
set -- "$KVSCOPE" sweep "$TRACE" --grid "tcq:constants=$C" --grid 'tcq:k_bits=[2:3:0.125]' -o "$T/torn.h5" --quiet
"$@" 2>/dev/null &
sweep=$!
while kill -0 $sweep 2>/dev/null && [ ! -s "$T/torn.journal" ]; do sleep 0.01; done
kill -KILL $sweep 2>/dev/null
wait $sweep 2>/dev/null
cp "$C.before" "$C"
fails 3 "belongs to a sweep of another" "a sweep does not go on with other constants" "$@"

finish
