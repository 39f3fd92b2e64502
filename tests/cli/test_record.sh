#!/bin/sh
# Recording: what is in the trace equals the NumPy forward pass and the reference recorder's traces.
. tests/cli/lib.sh
PYTHON=${PYTHON:-/usr/bin/python3}
SHARED=${KVS_SHARED:-$PWD/../shared}
peer() { PYTHONDONTWRITEBYTECODE=1 "$PYTHON" tests/peers/trace_numpy.py "$@"; }

PYTHONDONTWRITEBYTECODE=1 "$PYTHON" - "$T" <<'PYTHON' || echo 'not ok - cannot write a random model'
import os, sys
sys.path.insert(0, "tests/peers")
import h5py, numpy, model_numpy
for family in ("qwen3", "llama"):
    os.mkdir(f"{sys.argv[1]}/{family}")
    model_numpy.write_model(f"{sys.argv[1]}/{family}", family, 7, True, ["F32"], 1, None)
os.mkdir(f"{sys.argv[1]}/wide")
model_numpy.write_model(f"{sys.argv[1]}/wide", "qwen3", 7, True, ["F32"], 1, None, 64)
with h5py.File(f"{sys.argv[1]}/tokens.h5", "w") as f:
    f["token_ids"] = numpy.random.default_rng(1).integers(0, 97, 600).astype("int32")
PYTHON
record="$KVSCOPE record --model $T/qwen3 --tokens $T/tokens.h5 -o $T/a.h5 --window 150"
passes 'record' $record
passes 'the trace is valid' "$KVSCOPE" check "$T/a.h5"
passes 'it holds what NumPy computes' peer pass "$T/a.h5" "$T/qwen3"
passes 'record before RoPE, some layers, in binary32, all queries' \
    "$KVSCOPE" record --model "$T/llama" --tokens "$T/tokens.h5" -o "$T/b.h5" --window 130 --first 200 --sequences 1 \
    --layers 1 --before-rope --queries all --element binary32 --deflate 0
passes 'it holds what NumPy computes before RoPE' peer pass "$T/b.h5" "$T/llama" 1
passes 'record with generated tokens' $record --generate 20 --queries last:25 --sequences 2 --element bfloat16
passes 'they are the greedy choice and recorded' peer pass "$T/a.h5" "$T/qwen3"
passes 'they are told apart' "$PYTHON" -c 'import h5py, sys
s = h5py.File(sys.argv[1])["sequences/000001"]
assert s.attrs["num_prompt_tokens"] == 150 and s.attrs["num_tokens"] == 170
assert list(s["query_pos"]) == list(range(145, 170))' "$T/a.h5"
SOURCE_DATE_EPOCH=0 $record --quiet && cp "$T/a.h5" "$T/c.h5" && SOURCE_DATE_EPOCH=0 $record --quiet --threads 1
cmp "$T/a.h5" "$T/c.h5" 2>"$T/.err"
report $? 'one thread writes the same bytes'

device="$KVSCOPE record --model $T/wide --tokens $T/tokens.h5 -o $T/e.h5 --window 70 --sequences 1 --backend"
passes 'record on a device' $device simt --generate 3 --queries last:9
passes 'it holds what NumPy computes' peer pass "$T/e.h5" "$T/wide"
fails 2 'after the rotary embedding only' 'a device before RoPE' $device simt --before-rope
fails 2 'nothing: unknown device' 'a device that is none' $device nothing
fails 2 'either --text or --tokens' 'two inputs' $record --text "$T/tokens.h5"
fails 2 'layers below 2' 'a layer too many' $record --layers 0-2
fails 2 'last:N' 'queries that are none' $record --queries some
fails 3 'do not fill' 'too few tokens' $record --sequences 5
fails 3 'tokenizer.json: cannot be opened' 'text without a tokenizer' \
    "$KVSCOPE" record --model "$T/qwen3" --text "$T/tokens.h5" -o "$T/d.h5"
fails 3 '4300 tokens; the model admits 1 to 4096' 'more than the model admits' $record --window 300 --generate 4000
[ ! -e "$T/d.h5" ] && [ -z "$(find "$T" -name '*.tmp*')" ]
report $? 'nothing is left of what failed'

for model in qwen3-7m llama-7m; do
    name="$model: equal to the reference recorder's trace"
    if [ ! -d "$SHARED/models" ]; then
        skip "$name" "no $SHARED"
        continue
    fi
    # Its two sequences are tokens 25,372 to 29,467 of the corpus, of which the text is the same.
    "$PYTHON" -c 'import h5py, sys
h5py.File(sys.argv[2], "w")["token_ids"] = h5py.File(sys.argv[1])["token_ids"][25372:29468]' \
        "$SHARED/corpus/validation_tokens.h5" "$T/part.h5"
    "$KVSCOPE" record --model "$SHARED/models/$model" --tokens "$T/part.h5" -o "$T/r.h5" --quiet --deflate 0
    passes "$name" peer same "$T/r.h5" "$SHARED/traces/$model.h5"
done
if [ -d "$SHARED/models" ]; then
    "$KVSCOPE" record --model "$SHARED/models/qwen3-7m" --text "$SHARED/corpus/validation.txt" --first 25372 \
        --sequences 2 -o "$T/text.h5" --quiet --deflate 0
    passes 'recorded from the text, the same' peer same "$T/text.h5" "$SHARED/traces/qwen3-7m.h5"
fi
finish
