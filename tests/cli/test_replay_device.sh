#!/bin/sh
# Does a replay on a device say what the CPU says, and refuse by name what no kernel does?
. tests/cli/lib.sh
SCHEMES="--scheme fp16 --scheme int:bits=8 --scheme int:bits=2 --scheme kitty:boost=0.25,sink=5,window=20,page=32"
backends=simt
"$KVSCOPE" bench --backend cuda --help >/dev/null 2>&1 && [ -e /dev/nvidia0 ] && [ "$CUDA" = 1 ] && backends="simt cuda"

gen() { # gen NAME OPTIONS...
    name=$1 && shift
    "$KVSCOPE" gen -o "$T/$name.h5" --layers 1 --query-heads 4 --kv-heads 2 --head-dim 64 --tokens 260 --queries 30 \
        --first-query 9 --prompt-tokens 60 --quiet "$@"
}
gen half
gen single --element binary32 --seed 3

# Everything but throughput, which no two runs share: the account exactly, agreements within one near tie in a hundred,
# errors within 1e-4.
cat >"$T/compare.py" <<'EOF2'
import json, sys
cpu, device = (json.load(open(p)) for p in sys.argv[1:3])
compared = 0
def same(a, b, where):
    global compared
    if isinstance(a, dict):
        assert set(a) == set(b), where
        for name in a:
            if name not in ("command_line", "created_utc", "backend", "device", "wall_s", "tokens_per_s", "bytes_per_s"):
                same(a[name], b[name], where + [name])
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b)):
            same(x, y, where + [str(i)])
    elif ("error" in where or "layers" in where) and isinstance(a, float):
        agreement = any("agreement" in name for name in where)
        assert abs(a - b) <= (0.01 if agreement else 1e-4 * abs(a) + 1e-7), (where, a, b)
        compared += a > 1e-3
    else:
        assert a == b, (where, a, b)
same(cpu, device, [])
assert compared > 30, compared
EOF2
agrees() { # agrees TRACE OPTIONS...
    trace=$1 && shift
    "$KVSCOPE" replay "$T/$trace.h5" $SCHEMES "$@" --json >"$T/cpu.json"
    for backend in $backends; do
        name="--backend $backend finds what cpu finds: $trace $*"
        "$KVSCOPE" replay "$T/$trace.h5" $SCHEMES "$@" --backend $backend --json >"$T/$backend.json"
        if [ -n "$PYTHON" ]; then
            passes "$name" "$PYTHON" "$T/compare.py" "$T/cpu.json" "$T/$backend.json"
        else
            skip "$name" "no Python"
        fi
    done
}
agrees half
agrees half --prompt-exact
agrees single --from-position 100
if [ -n "$PYTHON" ] && "$PYTHON" -c 'import h5py, numpy' 2>/dev/null; then
    "$KVSCOPE" replay "$T/half.h5" $SCHEMES --backend simt --json >"$T/simt.json"
    passes "a NumPy replay in float64 finds the errors that the kernels find" \
        "$PYTHON" tests/peers/replay_reference.py "$T/half.h5" "$T/simt.json"
else
    skip "a NumPy replay in float64 finds the errors that the kernels find" "no Python with h5py and NumPy"
fi

fails 2 'kitty:rank=query_error: rank: no kernel ranks by query_error' "a ranking that no kernel has" \
    "$KVSCOPE" replay "$T/half.h5" --scheme fp16 --scheme kitty:rank=query_error --backend simt
fails 2 'int:bits=3: k: .* must be 2, 4 or 8' "bits that no kernel has" \
    "$KVSCOPE" replay "$T/half.h5" --scheme int:bits=3 --backend simt
fails 2 'meta: .*binary16' "metadata that no kernel stores" \
    "$KVSCOPE" replay "$T/half.h5" --scheme kitty:variant=simulator --backend simt
fails 2 'known: cpu, cuda, simt' "an unknown back end" "$KVSCOPE" replay "$T/half.h5" --scheme kitty --backend tpu
passes "a sweep runs on a device as well" "$KVSCOPE" sweep "$T/half.h5" --grid 'int:bits=[4,8]' \
    --backend simt -o "$T/sweep.h5" --quiet
finish
