#!/bin/sh
# The library for others: a scheme from Python through ctypes, and as a Hugging Face cache where torch is present.
. tests/cli/lib.sh
PYTHON=${PYTHON:-/usr/bin/python3}
SHARED=${KVS_SHARED:-$PWD/../shared}
export KVSCOPE_LIBRARY="$PWD/$B/libkvscope.so"

run "$PYTHON" tests/peers/cache_python.py plain
if grep -q 'ASan runtime does not come first' "$T/.err"; then
    skip 'a scheme from Python' 'the library is built with a sanitizer'
    finish
fi
report "$status" 'a scheme from Python'

hf=''
for p in "${KVS_TORCH_PYTHON:-}" "$PYTHON" python3; do
    [ -n "$p" ] && "$p" -c 'import torch, transformers, h5py' 2>/dev/null && hf=$p && break
done
for model in qwen3-7m llama-7m; do
    name="$model: a Hugging Face cache equals the native pass"
    if [ -z "$hf" ] || [ ! -d "$SHARED/models" ]; then
        skip "$name" 'needs torch, transformers and ../shared'
    else
        passes "$name" "$hf" tests/peers/cache_python.py hf "$SHARED/models/$model" "$SHARED/corpus/validation_tokens.h5"
    fi
done
finish
