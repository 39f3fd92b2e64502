#!/bin/sh
# kvscope list: the registries, as text and as JSON.
. tests/cli/lib.sh

for registry in schemes metrics layouts plots; do
    passes "list $registry" "$KVSCOPE" list $registry
done
passes "schemes name their parameters, defaults and bounds" sh -c \
    '"$1" list schemes | grep -Eq "^ +boost +0.125 +0\.\.1 .*boosted part"' sh "$KVSCOPE"
passes "schemes say their paper and their bits" sh -c \
    '"$1" list schemes | grep -A3 "^kitty-pro" | grep -c "arXiv 2511.18643\|bits: 2.53125 an element" | grep -q 2' sh "$KVSCOPE"
passes "choices are listed" sh -c '"$1" list schemes | grep -q "magnitude|variance|range|random"' sh "$KVSCOPE"
passes "metrics show their formula" sh -c '"$1" list metrics | grep -q "mean_t |k\[t,d\]|"' sh "$KVSCOPE"

if [ -n "${PYTHON:-}" ]; then
    cat >"$T/check.py" <<'EOF'
import json, subprocess, sys
lists = {n: json.loads(subprocess.check_output([sys.argv[1], "list", n, "--json"]))[n] for n in ("schemes", "metrics", "layouts")}
schemes = {s["name"]: s for s in lists["schemes"]}
assert set(schemes) >= {"fp16", "int", "kivi", "kitty", "kitty-pro"}, schemes.keys()
layouts = {layout["name"] for layout in lists["layouts"]}
for s in schemes.values():
    assert s["layout"] in layouts and s["summary"], s
    assert s["paper"] or s["name"] == "fp16", s
    b = s["bits"]
    assert b["head_dim"] == 128 and abs(b["payload"] + b["metadata"] + b["padding"] - b["effective"]) < 1e-12, s
    for p in s["parameters"]:
        assert p["summary"] and p["type"] in ("int", "real", "choice", "text"), p
        if p["type"] == "choice":
            assert p["default"] in p["choices"], p
        elif p["type"] != "text":
            assert p["default"] == "auto" or p["low"] <= float(p["default"]) <= p["high"], p
assert schemes["kitty-pro"]["bits"]["effective"] == 2.53125 and schemes["kivi"]["bits"]["metadata"] == 1
kitty = {p["name"]: p for p in schemes["kitty"]["parameters"]}
pro = {p["name"]: p for p in schemes["kitty-pro"]["parameters"]}
assert kitty["boost"]["default"] == "0.125" and pro["boost"]["default"] == "0.25"
assert set(kitty["rank"]["choices"]) == {m["name"] for m in lists["metrics"]} or set(kitty["rank"]["choices"]) < {m["name"] for m in lists["metrics"]}
EOF
    passes "JSON has every field" "$PYTHON" "$T/check.py" "$KVSCOPE"
else
    skip "JSON has every field" "no python3"
fi

fails 2 "unknown registry; known: schemes, metrics, layouts" "an unknown registry" "$KVSCOPE" list nonsense
fails 2 "usage" "no registry" "$KVSCOPE" list

finish
