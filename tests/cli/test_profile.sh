#!/bin/sh
# kvscope profile: predicted without a GPU on generated pages and on the sample trace, against a recorded measurement;
# files, refusals by name.
. tests/cli/lib.sh

small='--kv-heads 2 --query-heads 8 --pages 2 --kernels copy,quantize_pack_v,decode_attention --layouts kitty,fragment'
passes 'profile --predict-only on generated pages' "$KVSCOPE" profile $small --predict-only -o "$T/p.h5" --lines
grep -q 'nothing was measured' "$T/.out" && grep -q '^quantize_pack_v .* kitty .* predicted' "$T/.out"
report $? 'the table has a line a kernel and layout'
grep -Eq 'kernels/cuda/[a-z_]*\.cuh?:[0-9]+ +(ld|st)\.global' "$T/.out"
report $? '--lines names the source'
fails 4 'GPU|CUDA|CUPTI|cuda|cupti' 'without a GPU it says what is missing' env CUDA_VISIBLE_DEVICES= "$KVSCOPE" profile $small
passes 'profile of the sample trace' "$KVSCOPE" profile "$SAMPLES/qwen3-7m.h5" --predict-only --layouts kitty \
    --kernels quantize_pack_k -o "$T/trace.csv"
grep -q 'qwen3-7m.h5: 1 sequences of 32 sink tokens and 4 pages of 128 tokens; 2 KV heads' "$T/.out"
report $? 'its shape is the trace'"'"'s'
# A page of keys at 2 bit with a quarter of 128 channels at 4 has 640 rows of words to gather or to leave, 8 words each:
# at least 128 wavefronts. Lanes that share banks take turns, so that conflicts at most double it where rows are
# channels, and add 2.5 times where channels are permuted; otherwise it would be 7 times.
run "$KVSCOPE" profile --pages 2 --kv-heads 2 --kernels quantize_pack_k,dequantize_k --predict-only --json \
    --layouts kitty,kitty-inline,permuted,mixed-scattered
if [ -n "${PYTHON:-}" ]; then
    "$PYTHON" -c '
import json, sys
launches = json.load(open(sys.argv[1]))["launches"]
assert len(launches) == 8
for l in launches:
    words = [x for x in l["lines"] if "pack_k.cuh" in x["file"] and x["width"] == 4 and x["instruction"].endswith(".shared")]
    least, conflicts = 128 * l["blocks"], sum(x["conflicts"] for x in words)
    assert least <= sum(x["requests"] for x in words), (l["kernel"], l["layout"], words)
    assert conflicts <= (2.5 if l["layout"] == "permuted" else 1) * least, (l["kernel"], l["layout"], conflicts, least)
' "$T/.out" 2>"$T/.err"
    report $? 'rows of keys meet hardly any bank conflict'
else
    skip 'rows of keys meet hardly any bank conflict' 'needs python3'
fi
passes 'a JSON file' "$KVSCOPE" profile $small --predict-only -o "$T/p.json" --quiet
[ ! -s "$T/.out" ]
report $? '--quiet prints nothing'
run "$KVSCOPE" profile $small --predict-only --threads 1 --json
if [ -n "${PYTHON:-}" ]; then
    "$PYTHON" - "$T/.out" "$T/p.json" "$T/p.h5" "$T/trace.csv" >"$T/.err" 2>&1 <<'PYTHON'
import csv, h5py, json, sys
shown, stored = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))
assert shown["launches"] == stored["launches"] and shown["format"] == "kvscope-profile"
launches = {(l["kernel"], l["layout"]): l for l in shown["launches"]}
def counters(kernel, layout):
    return {m["metric"]: m["predicted"] for m in launches[kernel, layout]["metrics"]}
# 4 pages of 128 x 128 binary16 copied with 16 bytes a lane: 256 requests a page, 512 bytes each, nothing wasted.
copy = counters("copy", None)
assert copy["load_requests"] == copy["store_requests"] == 4 * 128 * 128 * 2 / 512
assert copy["load_sectors_per_request"] == 16 and copy["load_bytes_per_sector"] == 32
assert copy["dram_read_bytes"] == copy["dram_written_bytes"] == 4 * 128 * 128 * 2
assert copy["local_load_sectors"] == 0 and copy["copy_requests"] == 0
values = counters("quantize_pack_v", "kitty")
assert values["dram_read_bytes"] == 4 * 128 * 128 * 2
assert values["dram_written_bytes"] == 4 * (128 * 128 * 2 // 8 + 128 * 4)  # 2 bits an element, scale and zero a token
for launch in shown["launches"]:
    if launch["refused"] is not None:
        assert not launch["metrics"] and not launch["lines"]
        continue
    assert launch["recorded_blocks"] == launch["blocks"] > 0 and launch["operations"] >= 0
    of = {m["metric"]: m["predicted"] for m in launch["metrics"]}
    for kind, instructions in ("load", ("ld.global", "ld.global.nc")), ("store", ("st.global",)), ("copy", ("cp.async",)):
        lines = [l for l in launch["lines"] if l["instruction"] in instructions]
        for count in "requests", "sectors", "useful_bytes":
            assert of[kind + "_" + count] == sum(l[count] for l in lines), (launch["kernel"], kind, count)
    assert all(m["measured"] is None and m["verdict"] is None for m in launch["metrics"])
with h5py.File(sys.argv[3]) as file:
    assert file.attrs["format"] == "kvscope-profile"
    metrics = file["metrics"]
    found = {(int(l), m.decode()): p for l, m, p in zip(metrics["launch"][:], metrics["metric"][:], metrics["predicted"][:])}
    for i, launch in enumerate(shown["launches"]):
        for m in launch["metrics"]:
            assert found[i, m["metric"]] == m["predicted"]
rows = list(csv.DictReader(open(sys.argv[4])))
assert {r["kernel"] for r in rows} == {"quantize_pack_k"} and all(r["measured"] == "" for r in rows)
PYTHON
    report $? 'JSON, HDF5 and CSV say the same; lines add up; a copy is what it must be'
else
    skip 'JSON, HDF5 and CSV say the same' 'needs Python'
fi

# A measured file, made of the prediction: it agrees; with one number changed, it must not.
if [ -n "${PYTHON:-}" ]; then
    "$PYTHON" - "$T/p.json" "$T" <<'PYTHON'
import json, sys
p = json.load(open(sys.argv[1]))
p.update(device="a GPU", chip="GH100", counters="CUPTI 130001", cache="cold", passes=3, fetch_granularity_bytes=32)
for launch in p["launches"]:
    if launch["refused"] is not None: continue
    launch["seconds"] = 1e-5
    for m in launch["metrics"]:
        m["measured"] = m["predicted"]
    for name in "dram_write_bytes", "dram_write_back_bytes":
        written = sum(m["predicted"] for m in launch["metrics"] if m["metric"] == "dram_written_bytes")
        launch["metrics"].append(dict(metric=name, unit="bytes", predicted=None, measured=written / 2, difference=None,
                                      rule=None, verdict=None))
json.dump(p, open(sys.argv[2] + "/same.json", "w"))
launch = next(l for l in p["launches"] if l["kernel"] == "quantize_pack_v" and l["layout"] == "fragment")
next(m for m in launch["metrics"] if m["metric"] == "store_sectors")["measured"] += 1
json.dump(p, open(sys.argv[2] + "/other.json", "w"))
PYTHON
    passes 'a measurement that agrees' "$KVSCOPE" profile --measured "$T/same.json" --layouts kitty,fragment \
        --kernels copy,quantize_pack_v -o "$T/both.h5"
    grep -q 'no metric differs' "$T/.out" && grep -q 'measured on a GPU' "$T/.out"
    report $? 'both sides are printed'
    fails 1 'quantize_pack_v, fragment: store_sectors: .* predicted, .* measured' 'one sector more is found' \
        "$KVSCOPE" profile --measured "$T/other.json" --quiet
    fails 3 'holds no measurement' 'a prediction is no measurement' "$KVSCOPE" profile --measured "$T/p.json"
else
    skip 'a measurement that agrees' 'needs Python'
fi

if command -v gnuplot >/dev/null; then
    # A kernel's name cannot hurt the page; nothing in it is fetched from elsewhere; names inside pictures do not clash.
    passes 'a page' "$KVSCOPE" profile $small --predict-only --quiet --html "$T/page.html"
    grep -q '<svg' "$T/page.html" && grep -q 'kernels/cuda/attention[a-z_]*.cuh:' "$T/page.html" && grep -q '</html>' "$T/page.html"
    report $? 'the page has a picture, source lines, and an end'
    ! grep -Eiq '<(script|link|img|iframe|object)|src=|@import|url\((["'"'"']?)[a-z]+:|href=.[^#]' "$T/page.html"
    report $? 'nothing in the page refers to anything outside of it'
    if [ -n "${PYTHON:-}" ]; then
        passes 'a page of a measurement' "$KVSCOPE" profile --measured "$T/same.json" --quiet --html "$T/both.html"
        "$PYTHON" - "$T/both.html" >"$T/.err" 2>&1 <<'PYTHON'
import html.parser, re, sys
text = open(sys.argv[1], encoding="utf-8").read()
ids = re.findall(r'\sid=["\x27]([^"\x27]+)', text)
assert len(ids) == len(set(ids)) and len(ids) > 20
assert set(re.findall(r'href=["\x27]#([^"\x27]+)', text)) <= set(ids)
assert text.count("<svg") == text.count("</svg>") == 3
class Balance(html.parser.HTMLParser):
    stack = []
    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "br", "rect", "path", "circle", "use", "line", "stop"): self.stack.append(tag)
    def handle_startendtag(self, tag, attributes): pass
    def handle_endtag(self, tag):
        if self.stack and self.stack[-1] == tag: self.stack.pop()
        elif tag not in ("rect", "path", "circle", "use"): raise SystemExit(f"</{tag}> closes {self.stack[-3:]}")
Balance().feed(text)
assert not Balance.stack, Balance.stack
for word in "predicted", "measured", "a GPU", "CUPTI 130001", "rules hold": assert word in text, word
PYTHON
        report $? 'its elements are closed, its names are its own'
        passes 'all plots of a measurement' "$KVSCOPE" plot "$T/both.h5" --kind all -o "$T/plots"
        [ "$(ls "$T/plots" | tr '\n' ' ')" = "prediction.csv prediction.gp prediction.png prediction.svg roofline.csv \
roofline.gp roofline.png roofline.svg sectors.csv sectors.gp sectors.png sectors.svg " ]
        report $? 'roofline, prediction and sectors'
    fi
    passes 'a prediction is drawn too' "$KVSCOPE" plot "$T/p.h5" --kind all -o "$T/predicted"
    [ "$(ls "$T/predicted" | tr '\n' ' ')" = 'sectors.csv sectors.gp sectors.png sectors.svg ' ]
    report $? 'without what needs a measurement'
    fails 3 'nothing was measured' 'which is refused by name' "$KVSCOPE" plot "$T/p.h5" --kind roofline -o "$T/none" --quiet
    fails 4 'gnuplot' 'a page without gnuplot' env PATH=/nowhere "$KVSCOPE" profile $small --predict-only --quiet \
        --html "$T/none.html"
else
    skip 'pages and plots' 'needs gnuplot'
fi

passes 'a sample of blocks' "$KVSCOPE" profile --predict-only --pages 32 --kv-heads 2 --sample-blocks 3 \
    --kernels quantize_pack_v --layouts kitty
grep -q ' sampled ' "$T/.out" && grep -q '^note: predicted of a sample of blocks' "$T/.out"
report $? 'says that it is one'
fails 2 'unknown kernel' 'an unknown kernel' "$KVSCOPE" profile --predict-only --kernels copy,nonsense
fails 2 'unknown layout' 'an unknown layout' "$KVSCOPE" profile --predict-only --layouts nonsense
fails 2 'must end in .h5, .json or .csv' 'a file of no form' "$KVSCOPE" profile --predict-only -o "$T/p.txt"
fails 2 'head_dim: 80 is none of' 'a head_dim that no kernel supports' "$KVSCOPE" profile --predict-only --head-dim 80
fails 2 'is cold or warm' 'a cache state' "$KVSCOPE" profile --predict-only --cache tepid
fails 2 'the trace has 5 pages of 128 tokens' 'more pages than the trace has' "$KVSCOPE" profile \
    "$SAMPLES/qwen3-7m.h5" --predict-only --pages 6
fails 2 'does not go together' 'two contradicting options' "$KVSCOPE" profile --predict-only --measured "$T/p.json"
fails 3 'cannot be opened|No such file|not' 'a missing trace' "$KVSCOPE" profile "$T/none.h5" --predict-only
fails 3 'p.csv' 'a folder that is not there' "$KVSCOPE" profile --predict-only -o "$T/none/p.csv"

# Another program's kernels: a program and a CUPTI of the tests' own (tests/fake), where CUPTI's headers are.
fake=${B:-build}/tests/fake
if [ -x "$fake/program" ]; then
    KVSCOPE_CUPTI=$(cd "$fake" && pwd)/libcupti.so
    KVSCOPE_CUDA_DRIVER=$KVSCOPE_CUPTI
    export KVSCOPE_CUPTI KVSCOPE_CUDA_DRIVER
    passes '--exec counts the kernels of another program' "$KVSCOPE" profile --exec -o "$T/exec.json" -- \
        "$fake/program" cuda launch beta 7 launch gamma 2 graph 1
    grep -Eq '^gamma .* measured' "$T/.out" && ! grep -q ' predicted ' "$T/.out" &&
        grep -q '^note: beta: 4 of 7 launches were counted' "$T/.out" &&
        grep -q '^note: 1 launches of CUDA graphs were not counted' "$T/.out"
    report $? 'with notes of what was left out'
    passes 'all launches' "$KVSCOPE" profile --exec --launches 0 -o "$T/exec.h5" -- "$fake/program" cuda launch beta 7
    ! grep -q 'beta: ' "$T/.out" && grep -q ': 7 launches, of which 7 were counted' "$T/.out"
    report $? 'where they are asked for'
    passes 'beside our kernels' "$KVSCOPE" profile --exec --predict-only $small -o "$T/both.json" -- \
        "$fake/program" cuda launch beta 1
    grep -Eq '^copy .* predicted' "$T/.out" && grep -Eq '^beta .* measured' "$T/.out"
    report $? 'in one report'
    fails 7 'program: ended with status 7' 'a program that fails' "$KVSCOPE" profile --exec -- \
        "$fake/program" cuda launch beta 2 exit 7
    grep -Eq '^beta .* measured' "$T/.out"
    report $? 'is reported all the same'
    fails 134 'ended with status 134' 'a program that a signal ends' "$KVSCOPE" profile --exec --launches 0 --quiet -- \
        "$fake/program" cuda launch beta 300 crash
    passes 'a program that forks' "$KVSCOPE" profile --exec -- "$fake/program" cuda launch beta 2 fork
    fails 3 'launched no kernel' 'a program without kernels' "$KVSCOPE" profile --exec -- "$fake/program" cuda
    fails 9 'launched no kernel' 'and with a status of its own' "$KVSCOPE" profile --exec -- "$fake/program" cuda exit 9
    fails 3 'used no CUDA' 'a program without CUDA' "$KVSCOPE" profile --exec -- true
    fails 4 'NVreg_RestrictProfilingToAdminUsers' 'without permission' env FAKE_CUPTI_FAIL=cuptiRangeProfilerEnable=35 \
        "$KVSCOPE" profile --exec -- "$fake/program" cuda launch beta 2
    if command -v gnuplot >/dev/null; then
        passes 'a page of another program' "$KVSCOPE" profile --exec --quiet --html "$T/exec.html" -- \
            "$fake/program" cuda launch beta 2
        grep -q 'kernels of another program' "$T/exec.html"
        report $? 'says so'
        passes 'plots of another program' "$KVSCOPE" plot "$T/exec.h5" --kind all -o "$T/exec"
    else
        skip 'a page of another program' 'needs gnuplot'
    fi
else
    skip '--exec counts the kernels of another program' 'needs the headers of CUPTI'
fi
fails 2 'cannot be started' 'a program that is not there' "$KVSCOPE" profile --exec -- "$T/none"
fails 2 'names no program' '--exec without a program' "$KVSCOPE" profile --exec
fails 2 'unexpected' 'two traces' "$KVSCOPE" profile a.h5 b.h5 --predict-only

finish
