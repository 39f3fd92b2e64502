#!/bin/sh
# test_bench.sh: does `kvscope bench` time every kernel and layout, in a table and as JSON, and compare with a peer?
# On the SIMT runtime, at toy size: what is tested is everything but the times.
cd "$(dirname "$0")/../.." || exit 1
. tests/cli/lib.sh
PY=${PYTHON:-python3}
cat >"$T/peer.json" <<'J'
{"device": "none", "results": [{"batch": 1, "tokens": 512, "seconds": 1e-9}, {"batch": 1, "tokens": 512, "seconds": 2e-9}]}
J
passes 'a toy benchmark on the host' "$KVSCOPE" bench --backend simt --repeats 2 --peer "$T/peer.json" --json
cp "$T/.out" "$T/bench.json"

check() { # check NAME EXPRESSION over rows r
    run "$PY" -c '
import json, sys
d = json.load(open(sys.argv[1])); r = d["results"]
sys.exit(0 if eval("(" + sys.argv[2] + ")") else print(r) or 1)' "$T/bench.json" "$2"
    report "$status" "$1"
}
check 'every layout is attended at every batch' 'sorted((x["layout"], x["batch"]) for x in r if "attention" in x["kernel"]) ==
    sorted((l, b) for b in (1, 2) for l in
    ("fp16-hnd", "fp16-nhd", "fragment", "kitty", "kitty-inline", "permuted", "mixed-scattered"))'
check 'every packed layout is quantized and dequantized' 'sum(x["kernel"].startswith(("quantize", "dequantize")) for x in r) == 20'
# 512 tokens of two heads: 32 sinks and 352 values (480 - 128 keys and values in pages: 3 and 2) in full precision.
check 'full precision moves K, V, the query and the output' 'all(x["bytes"] == 512 * 2 * 128 * 2 * 2 + 8 * 128 * 6
    for x in r if x["kernel"] == "decode_attention_fp16" and x["batch"] == 1)'
check 'kitty moves codes, scales and zeros, the index' 'all(x["bytes"] == 2 * (3 * (5120 + 128 + 512) + 2 * (4096 + 512) +
    256 * (2 * 512 - 128 * 5)) + 8 * 128 * 6 for x in r if x["kernel"] == "decode_attention" and x["layout"] == "kitty" and x["batch"] == 1)'
check 'a rate is bytes over seconds' 'all(abs(x["gb_per_s"] * 1e9 * x["seconds"] / x["bytes"] - 1) < 1e-9 for x in r)'
check 'the peer that is fastest counts' 'all(abs(x["speedup_vs_peer"] * x["seconds"] - 1e-9) < 1e-15 and
    x["speedup_vs_fastest"] == x["speedup_vs_peer"] for x in r if "attention" in x["kernel"] and x["batch"] == 1)'
check 'without a peer our full precision counts' 'all(x["speedup_vs_peer"] is None and x["speedup_vs_fastest"] ==
    x["speedup_vs_fp16"] for x in r if "attention" in x["kernel"] and x["batch"] == 2)'

# --- the picture --------------------------------------------------------------------------------------------------

# draws DOCUMENT FOLDER: the .csv says of every measurement what the document says, floors by the copy of that run.
draws() {
    passes "a picture of $(basename "$1")" "$KVSCOPE" plot "$1" --kind all --json -o "$2"
    run "$PY" -c '
import csv, json, math, sys
d = json.load(open(sys.argv[1])); r = [x for x in d["results"] if x["layout"]]
copy = next(x["bytes"] / x["seconds"] for x in d["results"] if x["kernel"] == "copy")
rows = list(csv.DictReader(open(sys.argv[2] + "/bench.csv")))
def near(a, b): return math.isnan(float(a)) if b is None else abs(float(a) - b) <= 1e-6 * abs(b)
assert len(rows) == len(r) > 20, (len(rows), len(r))
for x in r:
    y, = [y for y in rows if [y["kernel"], y["layout"], int(y["batch"]), int(y["tokens"])] ==
          [x["kernel"], x["layout"], x["batch"], x["tokens"]]]
    assert near(y["time_us"], 1e6 * x["seconds"]) and near(y["floor_us"], 1e6 * x["bytes"] / copy), (x, y)
    assert near(y["percent_of_copy"], 100 * x["bytes"] / x["seconds"] / copy), (x, y)
    assert near(y["speedup"], x["speedup_vs_fp16"]), (x, y)
    if x["batch"]: assert float(y["x"]) == sorted({z["batch"] for z in r if z["batch"]}).index(x["batch"])
' "$1" "$2"
    report "$status" 'whose table says what was measured'
}
golden=tests/golden/bench-h200.json
if command -v gnuplot >/dev/null; then
    draws $golden "$T/h200"
    if [ "$(grep Produced plots/pictures/bench.svg)" = "$(grep Produced "$T/h200/bench.svg")" ]; then
        cmp -s plots/pictures/bench.svg "$T/h200/bench.svg"
        report $? 'the picture that ships is of the measurement that ships'
    else
        skip 'the picture that ships' 'another gnuplot drew it'
    fi
    draws "$T/bench.json" "$T/plots"
    grep -q "every" "$T/plots/bench.gp" && [ -s "$T/plots/bench.svg" ] && grep -q 'dequantize v' "$T/plots/bench.svg"
    report $? 'with panels of attention and of pages'
    passes 'over the faster full precision' "$KVSCOPE" plot "$T/bench.json" --kind bench --set against=fastest -o "$T/best"
    run "$PY" -c '
import csv, json, sys
best = {(x["layout"], x["batch"]): x["speedup_vs_fastest"] for x in json.load(open(sys.argv[1]))["results"]}
rows = [y for y in csv.DictReader(open(sys.argv[2])) if int(y["batch"])]
assert len(rows) == 14 and all(abs(float(y["speedup"]) / best[y["layout"], int(y["batch"])] - 1) < 1e-6 for y in rows)
' "$T/bench.json" "$T/best/bench.csv"
    report "$status" 'is what was measured, too'
else
    skip 'pictures' 'needs gnuplot'
fi

# --- the measurement of an H200 that ships ------------------------------------------------------------------------

run "$PY" tools/bench_tables.py $golden
[ "$status" -le 1 ] && [ "$(grep -c '^|' "$T/.out")" -gt 20 ]
report $? 'its tables'
grep . "$T/.out" | grep -vFx -f kernels/PERFORMANCE.md >"$T/differs"
mv "$T/differs" "$T/.out"
[ ! -s "$T/.out" ]
report $? 'are those of PERFORMANCE.md, which names every bar that is missed'
run "$PY" -c '
import json, sys
d = json.load(open(sys.argv[1]))
for row in d["results"]:
    if row["kernel"] == "decode_attention": row["seconds"] *= 1.6
json.dump(d, open(sys.argv[2], "w"))' $golden "$T/slow.json"
run "$PY" tools/bench_tables.py "$T/slow.json"
[ "$status" = 1 ] && grep -q 'missed: fragment takes 2[.0-9]* times its floor' "$T/.out"
report $? 'slower attention misses its bars'

broken() { # broken NAME PATTERN STATEMENTS over d: the document so changed is refused
    run "$PY" -c '
import json, sys
d = json.load(open(sys.argv[1])); r = d["results"]
exec(sys.argv[2])
json.dump(d, open(sys.argv[3], "w"))' "$T/bench.json" "$3" "$T/broken.json"
    fails 3 "$2" "$1" "$KVSCOPE" plot "$T/broken.json" --kind bench -o "$T/broken"
}
broken 'no time' 'seconds and of_copy' 'r[3]["seconds"] = 0'
broken 'a time that is missing' 'seconds_p10' 'del r[3]["seconds_p10"]'
broken 'no kernel' 'kernel' 'r[3]["kernel"] = None'
broken 'a batch of less than nothing' 'result 3' 'r[3]["batch"] = -1'
broken 'no layout at all' 'no time of a layout' 'd["results"] = r[:1]'
broken 'more layouts than colours' 'cannot be drawn' 'd["results"] = [dict(r[1], layout="l%d" % i) for i in range(20)]'
broken 'results of another command' 'command: is not bench' 'd["command"] = "replay"'
broken 'times of the CPU' 'backend: cpu' 'd["backend"] = "cpu"'
broken 'no results' 'results: is no list' 'd["results"] = 3'
fails 2 'unknown plot; known: all, bench' 'no other plot' "$KVSCOPE" plot "$T/bench.json" --kind frontier -o "$T/broken"

passes 'one kernel, layout, batch and length' "$KVSCOPE" bench --backend simt --repeats 1 --kernel decode --layout permuted --batch 2 --tokens 600
[ "$(grep -c permuted "$T/.out")" = 1 ] && grep -q 'vs best' "$T/.out"
report $? 'as a table'
fails 2 'banana' 'an unknown layout' "$KVSCOPE" bench --backend simt --layout banana
fails 2 'kivi' 'a layout that no kernel stores' "$KVSCOPE" bench --backend simt --layout kivi
fails 2 '1\.\.1024' 'a batch of nothing' "$KVSCOPE" bench --backend simt --batch 0
fails 2 'no page' 'a sequence without a page' "$KVSCOPE" bench --backend simt --tokens 100
fails 3 'nothing.json' 'a peer that is not there' "$KVSCOPE" bench --backend simt --peer "$T/nothing.json"
echo '{"results": [{"batch": 1, "tokens": 512, "seconds": 0}]}' >"$T/zero.json"
fails 3 'seconds' 'a peer that took no time' "$KVSCOPE" bench --backend simt --peer "$T/zero.json"
finish
