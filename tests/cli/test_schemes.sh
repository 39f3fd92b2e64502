#!/bin/sh
# Do the published schemes compute what their formulas say? Against NumPy, element by element and in a replay.
. tests/cli/lib.sh
PYTHON=${PYTHON:-/usr/bin/python3}
PEER=tests/peers/schemes_numpy.py
export KVSCOPE_LIBRARY="$PWD/$B/libkvscope.so"

if ! "$PYTHON" -c 'import h5py, numpy' 2>/dev/null; then
    skip 'published schemes' 'no Python with h5py and NumPy'
    finish
fi

run "$PYTHON" $PEER elements "$SAMPLES/qwen3-7m.h5"
if grep -q 'ASan runtime does not come first' "$T/.err"; then
    skip 'every element of the published schemes' 'the library is built with a sanitizer'
else
    report "$status" 'every element of the published schemes'
fi

for model in qwen3-7m llama-7m; do
    set --
    for spec in $("$PYTHON" $PEER specs replay); do set -- "$@" --scheme "$spec"; done
    run "$KVSCOPE" replay "$SAMPLES/$model.h5" "$@" --from-position 700 --json
    cp "$T/.out" "$T/$model.json"
    passes "$model: errors of K and V, and the bits of a page" "$PYTHON" $PEER replay "$SAMPLES/$model.h5" "$T/$model.json"
done

# A window of V, for comparisons at equal windows: V alone is stored later, in the same bits a page.
set --
for spec in bitdecoding:residual=128,bits=2 gear zipcache:page=128 polarquant hf-quantized; do
    case $spec in *:*) more=, ;; *) more=: ;; esac
    set -- "$@" --scheme "$spec${more}sink=32" --scheme "$spec${more}sink=32,window=128"
done
run "$KVSCOPE" replay "$SAMPLES/qwen3-7m.h5" "$@" --scheme kitty:boost=0 --from-position 512 --json
cp "$T/.out" "$T/windows.json"
passes 'with a window of V keys stay as they were, and the output is nearer' "$PYTHON" - "$T/windows.json" <<'PY'
import json, sys
found = json.load(open(sys.argv[1]))['results']
for plain, later in zip(found[:-1:2], found[1::2]):
    a, b = plain['error'], later['error']
    assert a['key_rel_l2'] == b['key_rel_l2'], later['scheme']
    assert plain['page_bits'] == later['page_bits'], later['scheme']
    assert 0 < b['attention_output_rel_l2']['mean'] < 0.9 * a['attention_output_rel_l2']['mean'], later['scheme']
# Per channel and per token, in pages of 128 with that window: what Kitty without boosts does, but for its rounding.
ours, kitty = (r['error']['attention_output_rel_l2']['mean'] for r in (found[1], found[-1]))
assert abs(ours / kitty - 1) < 1e-3, (ours, kitty)
PY

finish
