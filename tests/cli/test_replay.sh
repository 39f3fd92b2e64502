#!/bin/sh
# Does `kvscope replay` compute what its definitions say, in the documented form, and refuse what it must?
. tests/cli/lib.sh
PEER=tests/peers/replay_reference.py
TRACE=$SAMPLES/qwen3-7m.h5
FIVE="--scheme fp16 --scheme kitty --scheme int:bits=8 --scheme int:bits=2 --scheme kitty:boost=0.25,sink=0,window=0,page=64"

have_python() {
    [ -n "$PYTHON" ] && "$PYTHON" -c 'import h5py, numpy' 2>/dev/null
}

# agrees NAME OPTIONS...: the peer finds the same numbers
agrees() {
    name=$1 && shift
    if have_python; then
        "$KVSCOPE" replay "$TRACE" $FIVE "$@" --json >"$T/r.json" 2>"$T/.err"
        passes "$name" "$PYTHON" $PEER "$TRACE" "$T/r.json" "$@"
    else
        skip "$name" "no Python with h5py and NumPy"
    fi
}

agrees "a NumPy replay in float64 finds the same errors"
agrees "the same with --from-position" --from-position 300
agrees "the same with --prompt-exact" --prompt-exact

# --- form
run "$KVSCOPE" replay "$TRACE" --scheme kitty --scheme fp16 --json
cp "$T/.out" "$T/r.json"
if have_python; then
    passes "the JSON has exactly the documented fields" "$PYTHON" - "$T/r.json" <<'PY'
import json, sys
d = json.load(open(sys.argv[1]))
four = {"mean", "median", "p99", "max"}
errors = {"attention_output_rel_l2": four, "logit_mse": four, "attention_kl": four, "attention_output_nrmse": None,
          "top1_agreement": None, "top8_agreement": None, "key_rel_l2": None, "value_rel_l2": None}
def check(value, fields, where):
    assert set(value) == set(fields), (where, set(value) ^ set(fields))
    for name, inner in fields.items() if isinstance(fields, dict) else ():
        if isinstance(inner, (set, dict)): check(value[name], inner, where + "." + name)
        elif inner is None: assert isinstance(value[name], (int, float)), where + "." + name
check(d, {"command": 0, "version": 0, "command_line": 0, "backend": 0, "device": 0, "seed": 0, "from_position": 0,
          "prompt_exact": 0, "results": 0,
          "trace": {"path", "sha256", "model_name", "model_family", "num_layers", "num_query_heads", "num_kv_heads",
                    "head_dim", "num_sequences", "num_tokens", "num_queries", "at_tokens"}}, "document")
for r in d["results"]:
    check(r, {"trace": 0, "scheme": 0, "layout": 0, "bits": {"payload", "metadata", "residual", "padding", "effective"},
              "page_bits": {"payload", "metadata", "padding"}, "bytes_per_token": None, "bytes_per_sequence": None,
              "compression_vs_fp16": None, "error": errors, "layers": 0, "memory": 0,
              "throughput": {"tokens_per_s": None, "bytes_per_s": None, "wall_s": None}, "percentiles": 0, "note": 0}, "result")
    assert len(r["layers"]) == d["trace"]["num_layers"] * d["trace"]["num_kv_heads"]
    for h in r["layers"]: check(h, {"layer": 0, "head": 0} | errors, "layers")
    bits = r["bits"]
    assert abs(bits["effective"] - sum(bits[x] for x in ("payload", "metadata", "residual", "padding"))) < 1e-12
    for m in r["memory"]: check(m, {"tokens", "payload_bits", "metadata_bits", "residual_bits", "padding_bits"}, "memory")
kitty, fp16 = d["results"]
assert [r["scheme"] for r in d["results"]] == ["kitty", "fp16"] and kitty["percentiles"] == "exact"
assert kitty["page_bits"] == {"payload": 2.125, "metadata": 0.28125, "padding": 0}, kitty["page_bits"]
assert fp16["bits"]["effective"] == 16 and fp16["page_bits"]["payload"] == 16
assert fp16["error"]["attention_kl"]["max"] == 0 and fp16["error"]["top8_agreement"] == 1
PY
else
    skip "the JSON has exactly the documented fields" "no Python"
fi

without_throughput() { # prints a document without what differs from run to run
    grep -Ev '"(tokens_per_s|bytes_per_s|wall_s|command_line)"' "$1"
}
for threads in 1 2 5; do
    "$KVSCOPE" replay "$TRACE" $FIVE --scheme kitty:rank=random --threads $threads --json >"$T/t$threads.json"
    without_throughput "$T/t$threads.json" >"$T/t$threads"
done
cmp "$T/t1" "$T/t2" && cmp "$T/t1" "$T/t5" && [ "$(wc -l <"$T/t1")" -gt 500 ]
report $? "one, two and five threads give the same bytes"
"$KVSCOPE" replay "$TRACE" --scheme kitty:rank=random --seed 2 --json >"$T/s.json"
"$KVSCOPE" replay "$TRACE" --scheme kitty:rank=random --seed 3 --json >"$T/s3.json"
! cmp -s "$T/s.json" "$T/s3.json"
report $? "another seed ranks other channels at random"

passes "a table" "$KVSCOPE" replay "$TRACE" --scheme kitty
grep -q '^kitty  ' "$T/.out" && [ ! -s "$T/.err" ]
report $? "the table has a line a scheme, and a pipe sees no progress"
run "$KVSCOPE" replay "$TRACE" --scheme kitty --quiet
[ "$status" = 0 ] && [ ! -s "$T/.out" ]
report $? "--quiet prints nothing"
passes "the default layout by name" "$KVSCOPE" replay "$TRACE" --scheme kitty --layout kitty --quiet
passes "results in three forms" "$KVSCOPE" replay "$TRACE" --scheme kitty -o "$T/r.h5" -o "$T/r.csv" -o "$T/r.json" --quiet
if have_python; then
    passes "h5py reads the results" "$PYTHON" -c "
import csv, h5py, json
d, f, c = json.load(open('$T/r.json')), h5py.File('$T/r.h5'), list(csv.DictReader(open('$T/r.csv')))
assert f.attrs['format'] == 'kvscope-results' and list(f.attrs['format_version']) == [1, 1]
kl = d['results'][0]['error']['attention_kl']['mean']
assert f['results/error.attention_kl.mean'][0] == kl == float(c[0]['error.attention_kl.mean']) > 0
assert f['results/scheme'].asstr()[0] == 'kitty' == c[0]['scheme']
assert f['heads/attention_kl.p99'].shape == (12,) and f['heads/attention_kl.p99'].attrs['unit'] == 'nats'
assert f['channels/000000/k_range'].shape == (6, 2, 128) and (f['channels/000000/k_range'][...] > 0).all()
t = h5py.File('$TRACE')['sequences/000000/v'][...].astype('f8')
assert abs(f['channels/000000/v_magnitude'][...] - abs(t).mean(2)).max() < 1e-6
assert abs(f['channels/000000/v_range'][...] - (t.max(2) - t.min(2))).max() == 0
"
else
    skip "h5py reads the results" "no Python"
fi

# --- cross attention: the replay of a sequence to itself that is not causal, of the same keys, values and queries
if have_python; then
    "$PYTHON" - "$T" <<'PY'
import h5py, numpy as np, sys
L, HQ, HKV, D, S, T, TQ = 2, 4, 2, 32, 300, 40, 9
rng = np.random.default_rng(5)
def trace(name):
    f = h5py.File(f"{sys.argv[1]}/{name}.h5", "w")
    for key, value in {"num_layers": L, "num_query_heads": HQ, "num_kv_heads": HKV, "head_dim": D,
                       "causal": int(name == "cross"), "rope_applied": int(name == "cross")}.items():
        f.attrs[key] = np.int32(value)
    f.attrs.update({"format": "kvscope-trace", "format_version": np.array([1, 0], np.int32), "softmax_scale": 0.2,
                    "rope_theta": 1e4 if name == "cross" else 0.0, "model_name": "random", "model_family": "none",
                    "source_dtype": "float32", "recorder": "test", "created_utc": "-", "license": "CC0-1.0"})
    return f
def sequence(f, number, tokens, prompt):
    g = f.create_group("sequences/%06d" % number)
    g.attrs.update({"num_tokens": np.int32(tokens), "num_prompt_tokens": np.int32(prompt), "task": "test"})
    return g
def fill(g, k, v, q):
    for name, x in (("k", k), ("v", v), ("q", q)): g[name] = x
cross, plain = trace("cross"), trace("plain")
for i in range(3):  # the second sequence attends to itself only
    values = lambda heads, rows: rng.standard_normal((L, heads, rows, D)).astype(np.float16)
    g = sequence(cross, i, T, 5)
    fill(g, values(HKV, T), values(HKV, T), values(HQ, TQ))
    g["query_pos"] = np.linspace(3, T - 1, TQ).astype(np.int32)
    if i == 1: continue
    k, v, q = values(HKV, S + i), values(HKV, S + i), values(HQ, TQ)
    k[..., 5] *= 8
    fill(g.create_group("cross"), k, v, q)
    g["cross/source_token_ids"] = np.arange(S + i, dtype=np.int32)
    h = sequence(plain, i // 2, S + i, S + i)
    fill(h, k, v, q)
    h["query_pos"] = g["query_pos"][:]
PY
    cross_schemes="--scheme fp16 --scheme int:bits=3,group=16 --scheme kivi:bits=2,group=32,residual=64 \
        --scheme kitty:boost=0.25,page=32,v_group=32,window=16"
    passes 'replay of cross attention' "$KVSCOPE" replay "$T/cross.h5" --cross $cross_schemes --json
    cp "$T/.out" "$T/cross.json"
    "$KVSCOPE" replay "$T/plain.h5" $cross_schemes --json >"$T/plain.json" 2>"$T/.err"
    passes 'equals that of all its source positions' "$PYTHON" - "$T/cross.json" "$T/plain.json" <<'PY'
import json, sys
a, b = (json.load(open(p)) for p in sys.argv[1:])
assert a["trace"]["attention"] == "cross" and "attention" not in b["trace"]
assert a["trace"]["num_sequences"] == 2 and a["trace"]["num_tokens"] == 602, a["trace"]
for x, y in zip(a["results"], b["results"]):
    assert x["error"] == y["error"] and x["layers"] == y["layers"] and x["memory"] == y["memory"], x["scheme"]
errors = [r["error"]["attention_output_rel_l2"]["mean"] for r in a["results"]]
assert errors[0] == 0 < min(errors[1:]) and len(set(errors)) == 4, errors
PY
    "$KVSCOPE" replay "$T/cross.h5" --cross --scheme fp16 --scheme int:bits=4,group=16 --json >"$T/r.json" 2>"$T/.err"
    passes 'its errors are those of NumPy' "$PYTHON" - "$T/cross.h5" "$T/r.json" <<'PY'
import h5py, json, numpy as np, sys
f, found = h5py.File(sys.argv[1]), json.load(open(sys.argv[2]))["results"][1]
def quantized(x):
    g = x.astype(np.float32).reshape(*x.shape[:-1], -1, 16)
    low, span = g.min(-1, keepdims=True), g.max(-1, keepdims=True) - g.min(-1, keepdims=True)
    scale = (span / np.float32(15)).astype(np.float16).astype(np.float32)
    codes = np.clip(np.rint(np.where(scale > 0, (g - low) / np.where(scale > 0, scale, 1), 0)), 0, 15)
    return (codes * scale + low.astype(np.float16).astype(np.float32)).reshape(x.shape).astype(np.float64)
def attend(q, k, v):
    logits = np.einsum("lhqd,lhkd->lhqk", q, np.repeat(k, 2, 1)) * f.attrs["softmax_scale"]
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return np.einsum("lhqk,lhkd->lhqd", p / p.sum(-1, keepdims=True), np.repeat(v, 2, 1))
errors = []
for g in (s["cross"] for s in f["sequences"].values() if "cross" in s):
    k, v, q = (g[n][...].astype(np.float64) for n in "kvq")
    o, changed = attend(q, k, v), attend(q, quantized(g["k"][...]), quantized(g["v"][...]))
    errors.append(np.linalg.norm(changed - o, axis=-1) / np.linalg.norm(o, axis=-1))
want = np.concatenate([e.ravel() for e in errors]).mean()
got = found["error"]["attention_output_rel_l2"]["mean"]
assert abs(got / want - 1) < 1e-3 and want > 0.01, (got, want)
PY
    passes 'a sweep of it' "$KVSCOPE" sweep "$T/cross.h5" --cross --grid 'int:bits=[3,4],group=16' -o "$T/s.h5" --quiet
    passes 'the sequences themselves are replayed as ever' "$KVSCOPE" replay "$T/cross.h5" --scheme int:group=16 --quiet
    fails 3 'sequences: none has a group cross' 'no cross attention' "$KVSCOPE" replay "$TRACE" --cross --scheme int
fi

# --- refused
fails 2 'nosuch.*unknown scheme' "an unknown scheme" "$KVSCOPE" replay "$TRACE" --scheme nosuch
fails 2 'boots' "an unknown parameter" "$KVSCOPE" replay "$TRACE" --scheme kitty:boots=1
fails 2 'layout.*planes.*kitty' "a layout that is not the scheme's" "$KVSCOPE" replay "$TRACE" --scheme kitty --layout planes
fails 2 'at least one --scheme' "no scheme" "$KVSCOPE" replay "$TRACE"
fails 2 'backend.*abacus' "an unknown back end" "$KVSCOPE" replay "$TRACE" --scheme kitty --backend abacus
fails 3 'nosuch.h5' "no such trace" "$KVSCOPE" replay "$T/nosuch.h5" --scheme kitty
fails 2 'r.txt.*must end in' "an output of no known form" "$KVSCOPE" replay "$TRACE" --scheme kitty -o "$T/r.txt"
fails 3 'no/r.h5.*cannot be written' "an output that cannot be written" "$KVSCOPE" replay "$TRACE" --scheme kitty -o "$T/no/r.h5"
head -c 200000 "$TRACE" >"$T/cut.h5"
fails 3 'cut.h5' "a truncated trace" "$KVSCOPE" replay "$T/cut.h5" --scheme kitty
echo kept >"$T/kept.h5"
fails 2 'unknown scheme' "a failed replay" "$KVSCOPE" replay "$TRACE" --scheme nosuch -o "$T/kept.h5"
[ "$(cat "$T/kept.h5")" = kept ] && [ "$(ls "$T" | grep -c tmp)" = 0 ]
report $? "a failed replay leaves an older result alone, and no temporary file"
if [ -w /dev/full ]; then
    "$KVSCOPE" replay "$TRACE" --scheme kitty --json >/dev/full 2>"$T/.err"
    [ $? = 3 ] && grep -q 'standard output: cannot be written' "$T/.err"
    report $? "a full disk behind standard output"
fi

(
    trap '' XFSZ # a write beyond the limit then fails as on a full disk
    ulimit -f 8
    exec "$KVSCOPE" replay "$TRACE" --scheme kitty -o "$T/full.h5" --quiet 2>"$T/.err"
)
[ $? = 3 ] && [ "$(wc -l <"$T/.err")" = 1 ] && grep -q 'full.h5: cannot be written' "$T/.err" && [ -z "$(ls "$T" | grep full)" ]
report $? "a full disk: one line, and no part of a file"
"$KVSCOPE" gen -o "$T/long.h5" --tokens 8192 --layers 4 --queries 256 --quiet
"$KVSCOPE" replay "$T/long.h5" $(for bits in 1 2 3 4 5 6 7 8; do for sink in 0 1 2 3 4 5 6 7 8 9; do
    echo "--scheme int:bits=$bits,sink=$sink"; done; done) -o "$T/stopped.h5" --quiet 2>"$T/.err" &
sleep 0.3
kill -INT $!
wait $!
[ $? = 130 ] && [ "$(wc -l <"$T/.err")" = 1 ] && grep -q 'interrupted' "$T/.err" && [ -z "$(ls "$T" | grep stopped)" ]
report $? "an interrupt: exit 130, one line, and no part of a file"
if [ ! -e /dev/nvidia0 ]; then
    fails 4 'cuda' "a back end whose device is missing" "$KVSCOPE" replay "$TRACE" --scheme kitty --backend cuda
fi

# --- odd traces
variant() { # variant NAME PYTHON: a copy of the sample, changed
    cp "$TRACE" "$T/$1.h5" && chmod u+w "$T/$1.h5" && "$PYTHON" -c "
import h5py, numpy as np
f = h5py.File('$T/$1.h5', 'r+'); g = f['sequences/000000']
$2"
}
if have_python; then
    variant noq "del g['q'], g['query_pos']"
    run "$KVSCOPE" replay "$T/noq.h5" --scheme kitty --json
    cp "$T/.out" "$T/noq.json"
    passes "without queries memory and K and V errors stand, the rest is null" "$PYTHON" -c "
import json
r = json.load(open('$T/noq.json'))['results'][0]
e = r['error']
assert e['key_rel_l2'] > 0.1 and e['value_rel_l2'] > 0.1 and r['bits']['effective'] > 2
assert e['attention_kl'] == dict.fromkeys(('mean', 'median', 'p99', 'max')) and e['top1_agreement'] is None
assert e['attention_output_nrmse'] is None and r['layers'][3]['top8_agreement'] is None and 'no queries' in r['note']"
    variant bf "
for n in 'kvq':
    x = g[n][...].astype('f4'); x *= 1.0007
    del g[n]; g.create_dataset(n, data=x, chunks=(1, 1, min(128, x.shape[2]), 128))"
    TRACE=$T/bf.h5
    agrees "a binary32 trace, whose rounding is part of the error"
    variant inf "x = g['v'][...]; x[3, 1, 100, 7] = np.inf; g['v'][...] = x"
    fails 3 'inf.h5.*/v.*\[3, 1, 100, 7\].*not finite' "a value that is not finite" "$KVSCOPE" replay "$T/inf.h5" --scheme kitty
    variant big "g['k'][2, 0, 5, 9] = 70000.0"
    fails 3 'big.h5.*/k.*\[2, 0, 5, 9\].*overflows binary16' "a value that overflows binary16" "$KVSCOPE" replay "$T/big.h5" --scheme fp16
    TRACE=$SAMPLES/qwen3-7m.h5
    variant full "f.attrs['causal'] = np.int32(0)"
    TRACE=$T/full.h5
    agrees "a trace whose queries see all keys"
else
    skip "odd traces" "no Python"
fi
finish
