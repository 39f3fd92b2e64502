#!/bin/sh
# Models: the forward pass against NumPy and against the published losses, eval's output, bad models refused.
. tests/cli/lib.sh
PYTHON=${PYTHON:-/usr/bin/python3}
SHARED=${KVS_SHARED:-$PWD/../shared}
library=$PWD/$B/libkvscope.so

# peer NAME PYTHON...: the library does what a peer in Python does; a sanitized one cannot be loaded there
peer() {
    name=$1 && shift
    run env PYTHONDONTWRITEBYTECODE=1 "$@"
    if grep -q 'ASan runtime does not come first' "$T/.err"; then
        skip "$name" 'the library is built with a sanitizer'
    else
        report "$status" "$name"
    fi
}

# number KEY: the first value of a key in $T/.out
number() { sed -n "s/^.*\"$1\":[^0-9-]*\([-0-9.e+]*\).*/\1/p" "$T/.out" | head -1; }

peer 'random models: logits equal NumPy'\''s' "$PYTHON" tests/peers/model_numpy.py "$library"
torch=''
for p in "${KVS_TORCH_PYTHON:-}" "$PYTHON" python3; do
    [ -n "$p" ] && "$p" -c 'import torch, transformers, h5py' 2>/dev/null && torch=$p && break
done
name='random models: logits equal those of transformers with every scaling'
if [ -z "$torch" ]; then
    skip "$name" 'needs torch and transformers'
else
    peer "$name" "$torch" tests/peers/model_torch.py random "$library"
fi
"$PYTHON" - "$T" <<'PYTHON' || echo 'not ok - cannot write a random model'
import os, sys
sys.path.insert(0, "tests/peers")
sys.dont_write_bytecode = True
import h5py, numpy, model_numpy
for family in ("qwen3", "llama"):
    os.mkdir(f"{sys.argv[1]}/{family}")
    model_numpy.write_model(f"{sys.argv[1]}/{family}", family, 7, True, ["F32"], 1, None)
with h5py.File(f"{sys.argv[1]}/tokens.h5", "w") as f:
    f["token_ids"] = numpy.random.default_rng(1).integers(0, 97, 600).astype("int32")
    f["document_offsets"] = numpy.array([0, 100, 350, 600], "int32")
with h5py.File(f"{sys.argv[1]}/high.h5", "w") as f:
    f["token_ids"] = numpy.full(600, 97)
PYTHON
eval="$KVSCOPE eval --model $T/qwen3 --tokens $T/tokens.h5 --window 200"
passes 'eval prints JSON' $eval --json --scheme fp16 --scheme int:bits=2,group=16
[ "$(number windows)" = 3 ] && [ "$(number tokens)" = 597 ] &&
    "$PYTHON" -c 'import json, sys
d = json.load(open(sys.argv[1])); fp16, low = d["results"]
assert abs(fp16["perplexity_ratio"] - 1) < 1e-3 and fp16["kl_mean"] < 1e-4 < low["kl_mean"], d
assert low["top1_agreement"] < fp16["top1_agreement"] and fp16["bits"]["effective"] == 16, d
assert low["bits"]["effective"] < 5 and low["loss_stderr"] > 0, d
assert d["command"] == "eval" and {"scheme", "tokens", "loss_nats_per_token", "loss_stderr", "perplexity",
    "perplexity_ratio", "top1_agreement", "kl_mean", "bits"} <= set(low), low' "$T/.out" 2>"$T/.err"
report $? 'its numbers are those of the schemes'
cp "$T/.out" "$T/two"
$eval --json --scheme fp16 --scheme int:bits=2,group=16 --threads 1 >"$T/one"
grep -v 'second\|per_s\|command_line' "$T/one" >"$T/one.numbers"
grep -v 'second\|per_s\|command_line' "$T/two" | cmp -s - "$T/one.numbers"
report $? 'one thread gives the same numbers'

$eval --json --windows 1 --generate 12 --prompts 2 --prompt-tokens 150 --scheme fp16 --scheme int:bits=1 >"$T/.out" \
    2>"$T/.err" && "$PYTHON" -c 'import json, sys
d = json.load(open(sys.argv[1])); full, fp16, low = (r["generation"] for r in [d["full_precision"], *d["results"]])
assert full["common_prefix_tokens"] == 12 and full["equal_share"] == 1, d
assert fp16["equal_share"] > 0.5 > low["equal_share"] and low["common_prefix_tokens"] < 12, d' "$T/.out" 2>"$T/.err"
report $? 'generation is compared with that of full precision'

"$KVSCOPE" record --model "$T/qwen3" --tokens "$T/tokens.h5" -o "$T/trace.h5" --window 200 --quiet
$eval --json --trace "$T/trace.h5" --scheme fp16 --scheme int:bits=6,group=16 --scheme int:bits=3,group=16 \
    --scheme int:bits=1,group=16 >"$T/.out" 2>"$T/.err" && "$PYTHON" -c 'import json, sys
d = json.load(open(sys.argv[1]))
errors = [r["open_loop"]["attention_output_rel_l2.mean"] for r in d["results"]]
losses = [r["loss_difference"] for r in d["results"]]
assert errors == sorted(errors) and errors[0] == 0 < errors[1], errors
order = lambda values: [sorted(values).index(v) for v in values]
n, squares = 4, sum((a - b) ** 2 for a, b in zip(order(errors), order(losses)))
want = 1 - 6 * squares / (n * (n * n - 1))
assert abs(d["rank_correlation_with_loss"]["attention_output_rel_l2.mean"] - want) < 1e-9, d' "$T/.out" 2>"$T/.err"
report $? 'open-loop errors are judged by the loss'

# The same schemes into files, a batch at a time; stopped and resumed, the same.
GRID='--grid int:bits=[1:8:1],sink=[0,4] --grid kivi:group=16,residual=32'
files="$eval --windows 2 --trace $T/trace.h5 --at-tokens 4096 $GRID --quiet"
essence() { # what a results file says, but for times
    "$PYTHON" -c 'import h5py, sys
f = h5py.File(sys.argv[1])
for table in ("traces", "results", "heads", "memory", "positions", "tasks"):
    for name, column in sorted(f[table].items()):
        if not name.startswith("throughput") and not name.endswith(("pass_s", "steps_per_s")):
            print(table, name, list(column))
print({n: c[...].tolist() for n, c in f["channels/000000"].items()})' "$1"
}
passes 'results into files' $files -o "$T/whole.h5" -o "$T/whole.csv" -o "$T/whole.json"
essence "$T/whole.h5" >"$T/whole.text"
"$PYTHON" -c 'import csv, h5py, json, math, sys
f = h5py.File(sys.argv[1] + ".h5"); r = f["results"]
assert f.attrs["command"] == "eval" and len(r["scheme"]) == 17, len(r["scheme"])
assert (r["closed_loop.tokens"][:] == 398).all() and (f["traces/at_tokens"][:] == 4096).all()
loss, full = r["closed_loop.loss_nats_per_token"][:], r["closed_loop.full_loss_nats_per_token"][:]
assert abs(r["closed_loop.loss_difference"][:] - (loss - full)).max() < 1e-9
assert r["closed_loop.kl_mean"][0] > r["closed_loop.kl_mean"][14] > 0
assert (r["error.key_rel_l2"][:] > 0).all() and math.isnan(r["closed_loop.task_accuracy"][0])
assert len(f["positions/kl_mean"]) == 17 * 16 and f["positions/until"][15] == 199
assert len(f["traces/eval.model_sha256"][0]) == 64 and f["traces/eval.windows"][0] == 2
rows = list(csv.DictReader(open(sys.argv[1] + ".csv"))); d = json.load(open(sys.argv[1] + ".json"))
assert float(rows[3]["closed_loop.perplexity"]) == r["closed_loop.perplexity"][3] and rows[3]["closed_loop.equal_share"] == ""
assert d["results"][3]["closed_loop"]["kl_mean"] == r["closed_loop.kl_mean"][3]' "$T/whole" >"$T/.err" 2>&1
report $? 'they hold the closed loop beside the open one'
passes 'and are drawn' "$KVSCOPE" plot "$T/whole.h5" --kind proxy --kind frontier -o "$T/plots"
"$KVSCOPE" eval --model "$T/qwen3" --tokens "$T/tokens.h5" --window 200 --windows 2 --trace "$T/trace.h5" \
    --at-tokens 4096 $GRID --quiet -o "$T/stopped.h5" 2>"$T/.err" &
pid=$!
while kill -0 $pid 2>/dev/null && [ "$(cat "$T/stopped.journal" 2>/dev/null | wc -l)" -lt 4 ]; do sleep 0.01; done
kill -KILL $pid 2>/dev/null
wait $pid 2>/dev/null
kept=$(cat "$T/stopped.journal" 2>/dev/null | wc -l)
passes "resumed after kill -9 ($kept lines kept)" $files -o "$T/stopped.h5"
[ ! -e "$T/stopped.journal" ] && essence "$T/stopped.h5" | cmp - "$T/whole.text" 2>"$T/.err"
report $? 'a resumed run equals an uninterrupted one'
passes 'without a trace and schemes as files say' $eval --windows 1 --scheme int --quiet -o "$T/plain.h5"
passes 'all plots that there are' "$KVSCOPE" plot "$T/plain.h5" --kind all -o "$T/plain" --json
[ "$("$PYTHON" -c 'import json, sys; print(*[p["kind"] for p in json.load(open(sys.argv[1]))["plots"]])' "$T/.out")" = \
    'frontier memory' ]
report $? 'and no others'
fails 2 'must end in' 'an output of another form' $eval --scheme int -o "$T/x.txt"
fails 3 'cannot be written' 'an output that cannot be written' $eval --scheme int -o "$T/no/x.h5"
fails 2 'no known scheme' 'a grid that is none' $eval --grid nosuch

fails 2 'model: is needed' 'no model' "$KVSCOPE" eval --tokens "$T/tokens.h5"
fails 2 'task: nothing: unknown task' 'an unknown task' $eval --task nothing
fails 2 'distances' 'distances that are none' $eval --distances 1,,2
fails 2 'unknown scheme' 'an unknown scheme' $eval --scheme nonsense
fails 3 'config.json: cannot be opened' 'no model there' "$KVSCOPE" eval --model "$T" --tokens "$T/tokens.h5"
fails 3 'token id 97 is outside the vocabulary' 'a token out of range' \
    "$KVSCOPE" eval --model "$T/qwen3" --tokens "$T/high.h5" --window 200
early="$KVSCOPE eval --model $SAMPLES/qwen3-7m --tokens $SAMPLES/qwen3-7m/validation_tokens.h5 --scheme int"
fails 2 'a distance of 512 does not fit 40 to 472 tokens' 'a task too far, before anything has run' \
    timeout 10 $early --window 512 --task copy
fails 3 'max_position_embeddings: 5024 tokens' 'a generation too long, before anything has run' \
    timeout 10 $early --generate 4000
fails 3 "model_family: is 'llama', the model's is 'qwen3'" 'a trace of another model' \
    timeout 10 $early --trace "$SAMPLES/llama-7m.h5"
fails 3 'do not fill a window' 'too few tokens' "$KVSCOPE" eval --model "$T/qwen3" --tokens "$T/tokens.h5"
# with_config SED NAME: $T/bad is the random model with its configuration edited
with_config() {
    rm -rf "$T/bad" && cp -r "$T/${3:-qwen3}" "$T/bad" && sed -i "$1" "$T/bad/config.json"
    fails 3 "$2" "refused: $2" "$KVSCOPE" eval --model "$T/bad" --tokens "$T/tokens.h5" --window 200
}
with_config 's/Qwen3ForCausalLM/GPT2LMHeadModel/' "architectures: 'GPT2LMHeadModel' is not supported"
scaling() { with_config "s/\"rope_scaling\": null/\"rope_scaling\": $1/" "$2"; }
scaling '{"rope_type": "longrope", "factor": 2}' "'longrope' is not supported"
scaling '{"rope_type": "dynamic"}' 'rope_scaling.factor: is missing'
scaling '{"full_attention": {"rope_type": "default"}}' 'is one for each kind of layer'
with_config 's/^{/{"layer_types": ["full_attention", "sliding_attention"],/' "'sliding_attention' is not supported"
with_config 's/"num_hidden_layers": 2/"num_hidden_layers": 3/' 'layers.2.input_layernorm.weight: the tensor is missing'
with_config 's/LlamaForCausalLM/Qwen3ForCausalLM/' 'q_norm.weight: the tensor is missing' llama
with_config 's/"hidden_size": 48/"hidden_size": 64/' 'embed_tokens.weight: has rank 2'
with_config 's/"hidden_size": 48/"hidden_size": 4.5/' 'hidden_size: must be a whole number'
with_config 's/"hidden_size": 48/"hidden_size": 16777216/' 'GiB of memory'
with_config 's/"max_position_embeddings": 4096/"max_position_embeddings": 199/' 'max_position_embeddings: 200 tokens'
with_config 's/silu/gelu/' "hidden_act: 'gelu' is not supported"
with_config 's/^{/{{/' 'no valid JSON'
with_config 's/^{/{"hidden_size": 48,/' 'hidden_size: is there twice'
for name in config.json model.safetensors; do
    rm -rf "$T/bad" && cp -r "$T/qwen3" "$T/bad" && rm "$T/bad/$name" && mkfifo "$T/bad/$name"
    fails 3 'not a regular file' "a pipe as $name" "$KVSCOPE" eval --model "$T/bad" --tokens "$T/tokens.h5" --window 200
done
case $B in
*asan*) skip 'memory that does not suffice' 'a sanitizer needs the whole address space' ;;
*)  # each limit ends another allocation: OpenBLAS's, which would try again for ever, the weights, the pass
    for kib in 120000 200000 250000 300000; do
        run sh -c "ulimit -v $kib && OMP_NUM_THREADS=1 timeout 30 $eval --windows 1 --threads 1 --quiet"
        [ "$status" = 0 ] || { [ "$status" = 3 ] && [ "$(wc -l <"$T/.err")" = 1 ] && grep -q 'out of memory' "$T/.err"; }
        report $? "$kib KiB of memory (exit $status)"
    done
    [ "$status" = 0 ]
    report $? 'and with enough of it, it runs'
    ;;
esac

sample=$SAMPLES/qwen3-7m
passes 'the sample model runs' "$KVSCOPE" eval --model "$sample" --tokens "$sample/validation_tokens.h5" \
    --window 512 --windows 2 --task copy --distances 100 --samples 2 --scheme int:bits=1 --json
"$PYTHON" -c 'import json, sys
d = json.load(open(sys.argv[1])); full, low = d["full_precision"], d["results"][0]
assert 2 < full["loss_nats_per_token"] < 4 < low["loss_nats_per_token"] + 1, d
assert full["task_accuracy"] > 0.3 > low["task_accuracy"], d' "$T/.out" 2>"$T/.err"
report $? 'and predicts its text'

if [ ! -d "$SHARED/models" ]; then
    skip 'the shared models' "no $SHARED"
    finish
fi
tokens=$SHARED/corpus/validation_tokens.h5
cmp "$SHARED/models/qwen3-7m/model.safetensors" "$sample/model.safetensors" && cmp "$tokens" "$sample/validation_tokens.h5"
report $? 'the samples are the shared ones'
for pair in qwen3-7m:2.453232 llama-7m:2.528761; do
    model=${pair%:*} want=${pair#*:}
    peer "$model: logits equal NumPy's" "$PYTHON" tests/peers/model_numpy.py "$library" "$SHARED/models/$model" \
        "$tokens" 1000 300
    name="$model: logits, loss and token ids equal those of transformers"
    if [ -z "$torch" ]; then
        skip "$name" 'needs torch and transformers'
    else
        peer "$name" "$torch" tests/peers/model_torch.py shared "$library" "$SHARED/models/$model" "$tokens" \
            "$SHARED/corpus/validation.txt" "$want"
    fi
    passes "$model: tasks" "$KVSCOPE" eval --model "$SHARED/models/$model" --tokens "$tokens" --window 300 --windows 1 \
        --task copy --task retrieve --distances 60,150 --samples 3 --scheme int:bits=1 --json
    "$PYTHON" -c 'import json, sys
d = json.load(open(sys.argv[1])); full, low = (r["tasks"] for r in [d["full_precision"], *d["results"]])
assert [(t["task"], t["distance"]) for t in full] == [(t, x) for t in ("copy", "retrieve") for x in (60, 150)], full
assert full[0]["token_accuracy"] > 0.3 > low[0]["token_accuracy"], (full, low)' "$T/.out" 2>"$T/.err"
    report $? "$model: it can copy in full precision and not at 1 bit"
    case $B in
    *asan*) skip "$model: loss" 'too slow under a sanitizer' && continue ;;
    esac
    run "$KVSCOPE" eval --model "$SHARED/models/$model" --tokens "$tokens" --speed --json
    got=$(number loss_nats_per_token)
    awk -v a="$got" -v b="$want" 'BEGIN { exit !(a > 0 && (a - b) ^ 2 < (1e-5 * b) ^ 2) }'
    report $? "$model: loss on the corpus is $want (got $got)"
    got=$(number fraction_of_blas) # 0.87 on an idle machine: this one may be busy in either half of the comparison
    awk -v a="$got" 'BEGIN { exit !(a > 0.3 && a < 3) }'
    report $? "$model: prefill is near the BLAS library's speed (got $got)"
done
finish
