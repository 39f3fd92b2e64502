#!/bin/sh
# kvscope serve: the published batch ratios, the two kinds of gain, bad input.
cd "$(dirname "$0")/../.." || exit 1
. tests/cli/lib.sh
PYTHON=${PYTHON:-python3}

# check NAME EXPRESSION: a Python expression over d, the JSON document last printed, and r, its results by scheme
check() {
    "$PYTHON" - "$T/.out" "$2" >"$T/.py" 2>"$T/.err" <<'PYTHON_END'
import json, sys
d = json.load(open(sys.argv[1]))
r = {x["scheme"]: x for x in d.get("results", [])}
sys.exit(not eval(sys.argv[2]))
PYTHON_END
    report $? "$1"
}

# Published (arXiv 2511.18643 and its authors' re-run): full precision fits at 32 and not at 64, Kitty-Pro at 256 and
# not at 384; 8x on the grid of powers of two.
K=kitty:boost=0.25
passes 'the published setting runs' "$KVSCOPE" serve --uniform input=64,output=8128 --scheme $K --published --json
check 'full precision fits at 32 and not at 64' '32 <= r["fp16"]["max_batch"] < 64'
check 'Kitty-Pro fits at 256 and not at 384' '256 <= r["kitty:boost=0.25"]["max_batch"] < 384'
check 'eight times on the grid of powers of two' 'd["published"][0]["batch_ratio_power_of_two"] == 8'
check 'about five and a half times in truth' '5.3 < d["published"][0]["batch_ratio"] < 5.7'
# 36 layers * 8 heads * 128 * 2 * 2 bytes a token; 63 pages of 128 tokens at 2.53125 bits an element, and a buffer of
# 32 + 128 tokens of K and 32 + 256 of V in full precision: 11.06 pages, rounded up to 12.
check 'full precision: bytes of a sequence by hand' 'r["fp16"]["kv_bytes_per_sequence"] == 8192 * 147456'
check 'Kitty-Pro: bytes of a sequence by hand' \
    'r["kitty:boost=0.25"]["kv_bytes_per_sequence"] == 75 * 128 * 147456 * 2.53125 / 16'
check 'the two gains are two numbers' 'r["kitty:boost=0.25"]["ratio_equal_memory"] > r["kitty:boost=0.25"]["ratio_equal_batch"] > 0'
check 'full precision is its own measure' 'r["fp16"]["ratio_equal_memory"] == r["fp16"]["ratio_equal_batch"] == 1'
check 'ratios are what the curves say' \
    'abs(r["kitty:boost=0.25"]["tokens_per_s"] / r["fp16"]["tokens_per_s"] - r["kitty:boost=0.25"]["ratio_equal_memory"]) < 1e-12'
check 'assumptions are printed' 'd["assumptions"]["memory_utilization"] == 0.92 and d["assumptions"]["overhead_ms"] == 5'
passes 'the table prints' "$KVSCOPE" serve --uniform input=64,output=8128 --scheme $K --published
grep -q 'published.*2.1x to 4.1x' "$T/.out" && grep -q 'overhead 5 ms' "$T/.out"
report $? 'it shows the published claims and the assumptions'

# A step of a fixed time makes throughput a matter of counting: 8 sequences, 100 tokens each, one step a token.
passes 'fixed steps' "$KVSCOPE" serve --uniform input=10,output=100,batch=8 --step-ms 10 --json
check 'tokens a second by hand' 'abs(r["fp16"]["tokens_per_s"] - 8 * 100 / (100 * 0.010)) < 1e-6'
check 'time per token by hand' 'abs(r["fp16"]["tpot_ms"] - 10) < 1e-6 and abs(r["fp16"]["ttft_ms"] - 10) < 1e-6'
# Step time by hand: 8.19 G weights of 2 bytes at 0.8 * 2.039 TB/s, 100 + 1 .. tokens of one sequence, 5 ms.
passes 'one sequence' "$KVSCOPE" serve --uniform input=1000,output=2,batch=1 --json
check 'a decode step by hand' 'abs(r["fp16"]["tpot_ms"] - (16381470720 / (0.8 * 2.039e12) + 1001 * 147456 / (0.8 * 2.039e12) + 0.005) * 1e3) < 1e-6'
check 'a prompt step by hand' 'abs(r["fp16"]["ttft_ms"] - (2 * 8190735360 * 1000 / 156e12 + 4 * 36 * 32 * 128 * 500500 / 156e12 + 0.005) * 1e3) < 1e-6'

fails 3 'weights take' 'a budget smaller than the weights is refused' \
    "$KVSCOPE" serve --uniform input=10,output=10 --model-shape llama3-70b
fails 3 'larger than' 'a sequence larger than the whole memory is refused' \
    "$KVSCOPE" serve --uniform input=100000,output=10 --memory 1GiB --scheme $K
fails 2 'model-shape' 'an unknown model is refused' "$KVSCOPE" serve --uniform input=1,output=1 --model-shape nothing
fails 2 'device' 'an unknown device is refused' "$KVSCOPE" serve --uniform input=1,output=1 --device nothing
fails 2 'bacth.*unknown parameter' 'a misspelt workload is refused' "$KVSCOPE" serve --uniform input=1,bacth=2
fails 2 'either REQUESTS or --uniform' 'no workload is refused' "$KVSCOPE" serve
fails 2 'kv-efficiency' 'an efficiency above 1 is refused' "$KVSCOPE" serve --uniform input=1,output=1 --kv-efficiency 1.5
fails 2 'neither on nor off' 'a switch takes on or off' "$KVSCOPE" serve --uniform input=1,output=1 --caching=maybe

printf '{"memory_bytes": 4e10, "bandwidth_bytes_per_s": 1e11, "flops_per_s": 1e14}' >"$T/slow.json"
# Efficiencies: stated for all or for one scheme, or measured: 509.75 GB/s are a quarter of an A100's 2039.
passes 'efficiencies are stated' "$KVSCOPE" serve --uniform input=9,output=9,batch=1 --scheme $K --scheme kivi \
    --kv-efficiency 0.7 --kv-efficiency kitty=0.3 --json
check 'for all, and for one' 'r["kitty:boost=0.25"]["kv_efficiency"] == 0.3 and r["kivi"]["kv_efficiency"] == 0.7'
cat >"$T/bench.json" <<'BENCH'
{"results": [{"kernel": "decode_attention", "layout": "kitty", "gb_per_s": 509.75},
             {"kernel": "decode_attention", "layout": "kitty", "gb_per_s": 100},
             {"kernel": "dequantize k", "layout": "kitty", "gb_per_s": 1900},
             {"kernel": "decode_attention_fp16", "layout": "fp16-hnd", "gb_per_s": 1019.5}]}
BENCH
passes 'efficiencies are measured' "$KVSCOPE" serve --uniform input=9,output=9,batch=1 --scheme $K --kernels "$T/bench.json" --json
check 'the best row counts' 'r["kitty:boost=0.25"]["kv_efficiency"] == 0.25 and r["fp16"]["kv_efficiency"] == 0.5'
fails 3 'no decode_attention row with layout kivi' 'a scheme that was not measured is refused' \
    "$KVSCOPE" serve --uniform input=9,output=9 --scheme kivi --kernels "$T/bench.json"
fails 3 'measured elsewhere' 'a rate above the device is refused' "$KVSCOPE" serve --uniform input=9,output=9 \
    --kernels "$T/bench.json" --device "$T/slow.json"

printf '{"memory_bytes": 4e10, "bandwidth_bytes_per_s": 1e12, "flops_per_s": 1e14}' >"$T/device.json"
printf '{"layers": 2, "query_heads": 2, "kv_heads": 1, "head_dim": 64, "parameters": 1e6, "bytes_per_weight": 2}' \
    >"$T/model.json"
passes 'model and device from files' "$KVSCOPE" serve --uniform input=100,output=28 --model-shape "$T/model.json" \
    --device "$T/device.json" --json
check 'their bytes count' 'r["fp16"]["kv_bytes_per_sequence"] == 128 * 2 * 2 * 2 * 64'
printf '{"layers": 2.5}' >"$T/model.json"
fails 3 'layers: 2.5 is no whole' 'half a layer is refused' "$KVSCOPE" serve --uniform input=1,output=1 \
    --model-shape "$T/model.json"

# --- a recorded timeline: two requests in 10 blocks of 16 tokens, by hand
cat >"$T/log.jsonl" <<'LOG'
{"input_toks": 32, "output_toks": 11, "queued_ts": 100.0, "scheduled_ts": 100.0, "first_token_ts": 101.0, "last_token_ts": 111.0}
{"input_toks": 16, "output_toks": 6, "queued_ts": 103.0, "scheduled_ts": 105.5, "first_token_ts": 106.0, "last_token_ts": 111.0}
LOG
# After t = 1.5: 33 tokens known, 32 computed: 2 blocks of 9. At 2.5: a third. At 6.5: the second request holds one.
printf 't,running,waiting,kv_cache_pct\n1.5,1,0,22.22\n2.5,1,0,33.33\n4.0,1,1,33.33\n6.5,2,0,44.44\n12,0,0,0\n' >"$T/line.csv"
timeline="--num-blocks 10 --block-tokens 16 --max-batched-tokens 64 --max-seqs 4 --reserve-full-input --free-order v019"
passes 'a timeline is compared' "$KVSCOPE" serve "$T/log.jsonl" --verify-timeline "$T/line.csv" $timeline --json
check 'the model agrees with the hand' \
    'd["timeline"]["max_abs_deviation_pct"] < 0.01 and d["timeline"]["mean_abs_deviation_pct"] < 0.01'
check 'so do running and waiting' \
    'd["timeline"]["running"]["max_abs_deviation"] == 0 and d["timeline"]["waiting"]["max_abs_deviation"] == 0'
check 'seconds are those of the timeline' 'd["timeline"]["seconds"] == 12'
printf 't,running,waiting,kv_cache_pct\n1,1,0,0\n2,1,0,0\n' >"$T/zero.csv"
passes 'a timeline of zeros is compared' "$KVSCOPE" serve "$T/log.jsonl" --verify-timeline "$T/zero.csv" $timeline --json
check 'and found wrong' 'd["timeline"]["mean_abs_deviation_pct"] > 20'
printf 't,running,waiting,kv_cache_pct\n1,1,0,0\n1,1,0,0\n' >"$T/bad.csv"
fails 3 'line 3: .*not later' 'time that stands still is refused' \
    "$KVSCOPE" serve "$T/log.jsonl" --verify-timeline "$T/bad.csv" $timeline
printf 't,running,waiting\n1,1,0\n' >"$T/bad.csv"
fails 3 'line 1: .*header' 'a missing column is refused' \
    "$KVSCOPE" serve "$T/log.jsonl" --verify-timeline "$T/bad.csv" $timeline

# The recorded vLLM of the samples: 184 s, most of them with a full pool and preemptions that the log does not show.
S=$SAMPLES/requests
engine="--num-blocks 2588 --block-tokens 16 --max-batched-tokens 2048 --max-seqs 256 --reserve-full-input --free-order v019"
passes 'a recorded vLLM is compared' "$KVSCOPE" serve "$S/vllm-rtx4090.jsonl" --verify-timeline "$S/vllm-rtx4090.csv" \
    $engine --check-invariants --json
check 'cache use deviates by less than 1.5 points on average' 'd["timeline"]["mean_abs_deviation_pct"] < 1.5'
check 'running requests by less than one' 'd["timeline"]["running"]["mean_abs_deviation"] < 1'
check 'and it had to preempt' 'd["timeline"]["preemptions"] > 50'
passes 'half the pool' "$KVSCOPE" serve "$S/vllm-rtx4090.jsonl" --verify-timeline "$S/vllm-rtx4090.csv" \
    $engine --num-blocks 1294 --json
check 'half the pool shows' 'd["timeline"]["running"]["mean_abs_deviation"] > 5'

passes 'a trace is served' "$KVSCOPE" serve "$S/azure-2023-conv.csv" --scheme $K --max-seqs 40 --json
check 'who is limited by the engine says so' \
    'all(x["max_batch"] == 40 and x["limited_by_max_seqs"] for x in r.values()) and r["fp16"]["ttft_ms"] > 0'

finish
