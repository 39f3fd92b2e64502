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
with record_hf.TraceWriter(sys.argv[1] + ".cross", header, "bfloat16") as writer:  # an encoder-decoder's decoder
    writer.begin(np.arange(50), 1, np.arange(0, 50, 7), "test", np.arange(130))
    for layer in range(2):
        for name, shape in (("k", (2, 50)), ("v", (2, 50)), ("q", (4, 8)), ("cross/k", (2, 130)), ("cross/v", (2, 130)),
                            ("cross/q", (4, 8))):
            writer.write(name, layer, rng.standard_normal((*shape, 64)))
assert record_hf.chosen_layers("0,2-4", 6) == [0, 2, 3, 4] and record_hf.chosen_layers(None, 3) == [0, 1, 2]
for call in (lambda: record_hf.chosen_layers("2,1", 6), lambda: record_hf.chosen_layers("0-6", 6),
             lambda: record_hf.chosen_layers("", 6), lambda: record_hf.query_positions("some", 9)):
    try:
        sys.exit(f"{call()} was taken in")
    except record_hf.Refused as refused:
        assert refused.status == 2 and str(refused).startswith("--"), refused
try:
    with record_hf.TraceWriter(sys.argv[1] + ".bad", header) as writer:
        writer.begin(np.arange(10), 10, [9], "test")
        writer.write("k", 0, np.full((2, 10, 64), 1e6))
    sys.exit("an overflow was written")
except record_hf.Refused as refused:
    assert refused.status == 3 and "binary32" in str(refused), refused
PYTHON
passes 'kvscope finds it valid' "$KVSCOPE" check "$T/a.h5"
passes 'with its cross attention and in bfloat16, too' "$KVSCOPE" check "$T/a.h5.cross"
grep -q '1 of them attend to 130 source tokens' "$T/.out"
report $? 'which it sees'
passes 'and replays' "$KVSCOPE" replay "$T/a.h5.cross" --cross --scheme kivi:group=32,residual=32 --quiet
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
    "$hf" traces/record_hf.py --model "$SHARED/models/$model" --tokens "$SHARED/corpus/validation_tokens.h5" --first 25372 \
        --sequences 2 --deflate 0 -o "$T/$model.h5" >"$T/.out" 2>"$T/.err"
    passes "$name" "$PYTHON" tests/peers/trace_numpy.py same "$T/$model.h5" "$SHARED/traces/$model.h5"
    options="--tokens $SHARED/corpus/validation_tokens.h5 --first 900 --window 200 --sequences 2 --layers 1,3-4 \
        --before-rope --queries last:20"
    "$KVSCOPE" record --model "$SHARED/models/$model" $options --quiet -o "$T/ours.h5" 2>"$T/.err" &&
        "$hf" traces/record_hf.py --model "$SHARED/models/$model" $options -o "$T/theirs.h5" >"$T/.out" 2>"$T/.err"
    passes "$model: with the options of kvscope record, what that records" \
        "$PYTHON" tests/peers/trace_numpy.py same "$T/theirs.h5" "$T/ours.h5"
    options="--tokens $SHARED/corpus/validation_tokens.h5 --first 25372 --window 500 --sequences 2 --generate 30"
    "$KVSCOPE" record --model "$SHARED/models/$model" $options --quiet -o "$T/ours.h5" 2>"$T/.err" &&
        "$hf" traces/record_hf.py --model "$SHARED/models/$model" $options -o "$T/theirs.h5" >"$T/.out" 2>"$T/.err"
    passes "$model: and the same generated tokens" \
        "$PYTHON" tests/peers/trace_numpy.py same "$T/theirs.h5" "$T/ours.h5"
    passes "$model: the two replay alike" "$PYTHON" tests/peers/replays_alike.py "$KVSCOPE" "$T/theirs.h5" "$T/ours.h5"
done
name='an encoder-decoder model: its decoder and its cross attention'
if [ -z "$hf" ]; then
    skip "$name" 'needs torch and transformers'
else
    run "$hf" tests/peers/cross_torch.py "$T"
    if [ "$status" = 77 ]; then
        skip "$name" "$(cat "$T/.out")"
    else
        report "$status" "$name"
        passes 'is a valid trace' "$KVSCOPE" check "$T/seq2seq.h5"
        passes 'and replays in both ways' sh -c "'$KVSCOPE' replay '$T/seq2seq.h5' --scheme int:group=16 --quiet && \
            '$KVSCOPE' replay '$T/seq2seq.h5' --cross --scheme int:group=16 --quiet"
        fails 2 'needs --source-text' 'an encoder without a source' "$hf" traces/record_hf.py --model "$T/seq2seq" \
            --tokens "$T/target.h5" -o "$T/x.h5"
    fi
fi
if [ -n "$hf" ] && [ -d "$SHARED/models" ]; then
    record="$hf traces/record_hf.py --model $SHARED/models/qwen3-7m -o $T/x.h5 --tokens"
    "$PYTHON" -c 'import h5py, numpy, sys
h5py.File(sys.argv[1], "w")["token_ids"] = numpy.full(300, 4096)' "$T/high.h5"
    cp -r "$SHARED/models/qwen3-7m" "$T/cut" && truncate -s 1000000 "$T/cut/model.safetensors"
    fails 3 'token id 4096 is outside the vocabulary of 4096' 'a token out of range' $record "$T/high.h5" --window 100
    fails 3 'the model admits 4096' 'more than the model admits' $record "$T/high.h5" --window 4000 --generate 97
    fails 2 "'0' is no whole number from 1 up" 'a window that is none' $record "$T/high.h5" --window 0
    fails 3 'cannot be written' 'an output that cannot be written' $record "$SHARED/corpus/validation_tokens.h5" \
        --window 100 --sequences 1 -o "$T/no/x.h5"
    fails 3 'not a regular file' 'an output that is none' $record "$SHARED/corpus/validation_tokens.h5" \
        --window 100 --sequences 1 -o "$T/cut"
    fails 3 "$T/cut:" 'weights that are cut off' $record "$SHARED/corpus/validation_tokens.h5" --window 100 \
        --sequences 1 --model "$T/cut"
    fails 3 "$T/x.h5:" 'a full disk' sh -c "ulimit -f 2000; exec $record $SHARED/corpus/validation_tokens.h5 --window 900"
    grep -q Traceback "$T/.err"
    [ $? = 1 ] && [ -z "$(find "$T" -name 'x.h5*')" ]
    report $? 'in one line, and nothing is left'
fi
if [ -z "$hf" ]; then
    fails 4 'needs torch and transformers' 'without torch it says so' \
        "$PYTHON" traces/record_hf.py --model nowhere --tokens "$T/a.h5" -o "$T/b.h5"
fi
finish
