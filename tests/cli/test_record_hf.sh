#!/bin/sh
# The Hugging Face recorder: its writing part without torch; all of it where torch and transformers are present.
. tests/cli/lib.sh
PYTHON=${PYTHON:-/usr/bin/python3}
SHARED=${KVS_SHARED:-$PWD/../shared}
export PYTHONDONTWRITEBYTECODE=1

passes 'write a trace without torch' "$PYTHON" - "$T/a.h5" <<'PYTHON'
import sys
sys.path.insert(0, "traces")
import numpy as np, record_hf
rng = np.random.default_rng(1)
header = {"model_name": "random", "model_family": "none", "num_layers": 2, "num_query_heads": 4, "num_kv_heads": 2,
          "head_dim": 64, "softmax_scale": 0.125, "causal": 1, "rope_applied": 1, "rope_theta": 1e4,
          "source_dtype": "float32", "recorder": "test", "license": "CC0-1.0"}
with record_hf.TraceWriter(sys.argv[1], header) as writer:
    for tokens in (300, 100):
        positions = record_hf.query_positions("20", tokens)
        assert positions[0] == tokens // 32 and positions[-1] == tokens - 1 and len(set(positions)) == 20
        writer.begin(np.arange(tokens), tokens - 10, positions, "test")
        for layer in range(2):
            for name, shape in (("k", (2, tokens)), ("v", (2, tokens)), ("q", (4, 20))):
                writer.write(name, layer, rng.standard_normal((*shape, 64)))
assert list(record_hf.query_positions("last:3", 10)) == [7, 8, 9] and len(record_hf.query_positions("all", 10)) == 10
try:
    with record_hf.TraceWriter(sys.argv[1] + ".bad", header) as writer:
        writer.begin(np.arange(10), 10, [9], "test")
        writer.write("k", 0, np.full((2, 10, 64), 1e6))
    sys.exit("an overflow was written")
except record_hf.Refused as refused:
    assert refused.status == 3 and "binary32" in str(refused), refused
PYTHON
passes 'kvscope finds it valid' "$KVSCOPE" check "$T/a.h5"
passes 'and replays it' "$KVSCOPE" replay "$T/a.h5" --scheme kivi:group=32,residual=32 --quiet
[ "$(ls "$T" | grep -c bad)" = 0 ]
report $? 'nothing is left of a trace that failed'

hf=''
for p in "${KVS_TORCH_PYTHON:-}" "$PYTHON" python3; do
    [ -n "$p" ] && "$p" -c 'import torch, transformers, h5py' 2>/dev/null && hf=$p && break
done
for model in qwen3-7m llama-7m; do
    name="$model: record_hf.py writes what the reference recorder wrote"
    if [ -z "$hf" ] || [ ! -d "$SHARED/models" ]; then
        skip "$name" 'needs torch, transformers and ../shared'
        continue
    fi
    "$hf" traces/record_hf.py "$SHARED/models/$model" --tokens "$SHARED/corpus/validation_tokens.h5" --first 25372 \
        --sequences 2 --deflate 0 -o "$T/$model.h5" >"$T/.out" 2>"$T/.err"
    passes "$name" "$PYTHON" tests/peers/trace_numpy.py same "$T/$model.h5" "$SHARED/traces/$model.h5"
done
if [ -z "$hf" ]; then
    fails 4 'needs torch and transformers' 'without torch it says so' \
        "$PYTHON" traces/record_hf.py nowhere --tokens "$T/a.h5" -o "$T/b.h5"
fi
finish
