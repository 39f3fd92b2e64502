#!/bin/sh
# The tcq scheme against an independent one in NumPy (tests/peers/tcq_numpy.py).
. tests/cli/lib.sh

if [ -n "${PYTHON:-}" ]; then
    passes "errors of K, V and the output as NumPy's" "$PYTHON" tests/peers/tcq_numpy.py "$KVSCOPE" traces/sample/qwen3-7m.h5
    passes "with error feedback as well" "$PYTHON" tests/peers/tcq_numpy.py "$KVSCOPE" traces/sample/qwen3-7m.h5 feedback
    fails 2 'weigh: feedback goes with rope=after' "not before the rotary embedding" \
        "$KVSCOPE" replay traces/sample/qwen3-7m.h5 --scheme tcq:weigh=feedback,rope=before
else
    skip "errors of K, V and the output as NumPy's" "no python3 with h5py and numpy"
fi

finish
