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

block() { # block LANGUAGE TEXT: the fenced block of kernels/README.md in that language that contains the text
    awk -v want="$1" -v text="$2" '
        /^```/ { if (inside && found) { printf "%s", body; exit }
                 inside = !inside && substr($0, 4) == want; found = 0; body = ""; next }
        inside { body = body $0 "\n"; found = found || index($0, text) }' kernels/README.md
}
block c kvs_cache_append >"$T/user.c"
passes 'the C of the manual compiles' "${CC:-cc}" -std=c11 -D_GNU_SOURCE -I. -Wall -Wextra -Werror "$T/user.c" \
    -o "$T/user" "$KVSCOPE_LIBRARY"
passes 'and runs' env LD_LIBRARY_PATH="$PWD/$B" sh -c "ln -sf '$KVSCOPE_LIBRARY' '$T/libkvscope.so.0' &&
    LD_LIBRARY_PATH='$T' '$T/user'"
grep -q '^288 tokens are stored, [4-7]\.[0-9]* bits an element$' "$T/.out"
report $? 'and says what is stored'
block python HeadCache >"$T/plain.py"
passes 'the Python of the manual runs' env PYTHONPATH=kernels/python PYTHONDONTWRITEBYTECODE=1 "$PYTHON" "$T/plain.py"
grep -q '^(200, 64) 6.0$' "$T/.out"
report $? 'and prints the cache and its bits'

hf=''
for p in "${KVS_TORCH_PYTHON:-}" "$PYTHON" python3; do
    [ -n "$p" ] && "$p" -c 'import torch, transformers, h5py' 2>/dev/null && hf=$p && break
done
if [ -z "$hf" ]; then
    skip 'the Hugging Face cache of the manual' 'needs torch and transformers'
else
    block python hf_cache >"$T/hf.py"
    passes 'the Hugging Face cache of the manual' env PYTHONPATH="kernels/python:$PYTHONPATH" \
        PYTHONDONTWRITEBYTECODE=1 "$hf" "$T/hf.py"
    grep -q 'torch.Size(\[1, 12\])' "$T/.out"
    report $? 'generates'
fi
for model in qwen3-7m llama-7m; do
    name="$model: a Hugging Face cache equals the native pass"
    if [ -z "$hf" ] || [ ! -d "$SHARED/models" ]; then
        skip "$name" 'needs torch, transformers and ../shared'
    else
        passes "$name" "$hf" tests/peers/cache_python.py hf "$SHARED/models/$model" "$SHARED/corpus/validation_tokens.h5"
    fi
done
finish
