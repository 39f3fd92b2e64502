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
