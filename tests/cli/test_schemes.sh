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

finish
