#!/bin/sh
# kvscope check, info and gen: files of h5py's, each rule of the format broken once, truncation, full disk, interrupt.
cd "$(dirname "$0")/../.." || exit 1
. tests/cli/lib.sh

# --- files by h5py -------------------------------------------------------------------------------------------------
if [ -n "$PYTHON" ] && $PYTHON -c 'import h5py, numpy' 2>/dev/null; then
    $PYTHON tests/cli/trace_cases.py "$T" >"$T/cases" 2>"$T/.err"
    report $? 'h5py writes the cases'
    while read -r kind file pattern; do
        if [ "$kind" = good ]; then
            passes "accepted: $file" "$KVSCOPE" check "$T/$file"
        else
            fails 3 "$file: ($pattern)" "refused: $file" "$KVSCOPE" check "$T/$file"
        fi
    done <"$T/cases"
    passes 'cross attention is checked' "$KVSCOPE" check "$T/cross.h5"
    grep -q ', 7296 values, all finite' "$T/.out" && grep -q '1 of them attend to 25 source tokens' "$T/.out"
    report $? 'and counted'
    passes 'info shows it' "$KVSCOPE" info "$T/cross.h5"
    [ "$(grep -c 'cross attention to 25 source positions' "$T/.out")" = 1 ]
    report $? 'of the sequence that has it'
    fails 3 'is not finite' 'info reads the values' "$KVSCOPE" info "$T/finite-k.h5"
    passes 'info without statistics does not' "$KVSCOPE" info --no-statistics "$T/finite-k.h5"

    for element in binary16 binary32 bfloat16; do
        deflate=0
        [ $element = binary16 ] && deflate=3
        "$KVSCOPE" gen -o "$T/ours-$element.h5" --layers 3 --query-heads 4 --kv-heads 2 --head-dim 64 --tokens 200 \
            --prompt-tokens 150 --queries 4 --sequences 2 --element $element --deflate $deflate --quiet || break
    done
    passes 'h5py reads ours' "$PYTHON" tests/cli/trace_cases.py "$T" check
else
    skip 'files written by h5py' 'python3 with h5py is not here'
fi

# --- ours ----------------------------------------------------------------------------------------------------------
for sample in "$SAMPLES"/*.h5; do
    passes "check $(basename "$sample")" "$KVSCOPE" check "$sample"
    grep -Eq ': ok, 1 sequences, 720 tokens, 43 queries, 2343936 values, all finite$' "$T/.out"
    report $? 'and says what was checked'
done
passes 'info' "$KVSCOPE" info "$SAMPLES/qwen3-7m.h5" --top 1
grep -Eq '^ *shape +6 layers, 4 query heads, 2 KV heads, head_dim 128$' "$T/.out"
report $? 'info shows the shape'
[ "$(grep -Ec '^[KV] layer [0-5]: mean \|x\| [0-9.]+$' "$T/.out")" = 12 ]
report $? 'info has K and V of each layer'
if [ -n "$PYTHON" ]; then
    passes 'info as JSON' "$KVSCOPE" info "$SAMPLES/qwen3-7m.h5" --top 2 --json
    cp "$T/.out" "$T/info.json"
    passes 'equals NumPy' "$PYTHON" -c '
import h5py, json, numpy, sys
info = json.load(open(sys.argv[1]))
s = h5py.File(sys.argv[2], "r")["sequences/000000"]
assert info["trace"]["head_dim"] == 128 and info["sequences"][0]["tokens"] == 720
for name in "kv":
    for layer, found in enumerate(info[name + "_layers"]):
        x = s[name][layer].astype(float)
        assert abs(found["mean_magnitude"] / abs(x).mean() - 1) < 1e-5
        span = x.max(1) - x.min(1)
        for rank, place in enumerate(numpy.argsort(-span, axis=None, kind="stable")[:2]):
            top = found["largest_range"][rank]
            assert (top["head"], top["channel"]) == divmod(place, 128) and top["range"] == span.flat[place]
        best = abs(x).mean(1)
        top = found["largest_mean_magnitude"][0]
        assert (top["head"], top["channel"]) == divmod(best.argmax(), 128)
        assert abs(top["mean_magnitude"] / best.max() - 1) < 1e-5
' "$T/info.json" "$SAMPLES/qwen3-7m.h5"
fi
passes 'check as JSON' "$KVSCOPE" check --json "$SAMPLES/llama-7m.h5"
grep -q '"ok":[[:space:]]*true' "$T/.out"
report $? 'says ok'

# Cut anywhere, a trace is refused. (The last bytes of a file may be free space, so stay clear of them.)
bytes=$(wc -c <"$SAMPLES/llama-7m.h5")
bad=0
for i in 1 2 3 5 8 13 21 34 55 89 99; do
    head -c $((bytes * i / 100)) "$SAMPLES/llama-7m.h5" >"$T/cut.h5"
    "$KVSCOPE" check "$T/cut.h5" >"$T/.out" 2>"$T/.err"
    [ $? = 3 ] && [ "$(wc -l <"$T/.err")" = 1 ] || bad=1
done
report $bad 'truncated copies are refused'

# --- wrong use and outputs -----------------------------------------------------------------------------------------
fails 3 'nowhere.h5: cannot be opened: No such file' 'a file that is not there' "$KVSCOPE" check "$T/nowhere.h5"
fails 3 "$T: is not a regular file" 'a folder' "$KVSCOPE" info "$T"
mkfifo "$T/fifo" && fails 3 'is not a regular file' 'a pipe' "$KVSCOPE" info "$T/fifo"
fails 2 'usage: kvscope check' 'check nothing' "$KVSCOPE" check
fails 2 '^kvscope: -o: ' 'gen without a file' "$KVSCOPE" gen
fails 2 'no multiple of 2 KV heads' 'gen with 3 query heads' "$KVSCOPE" gen -o "$T/x.h5" --query-heads 3
fails 2 'none of binary16, binary32, bfloat16' 'gen of float8' "$KVSCOPE" gen -o "$T/x.h5" --element float8
fails 2 'queries do not fit' 'gen of too many queries' "$KVSCOPE" gen -o "$T/x.h5" --tokens 8 --queries 9 --first-query 0
fails 3 'cannot be written' 'gen into a folder that is not there' "$KVSCOPE" gen -o "$T/no/x.h5" --tokens 8
fails 3 'not a regular file' 'gen into a device' "$KVSCOPE" gen -o /dev/full --tokens 8

(
    ulimit -f 2000 # a limit on the size of files, which a full disk resembles
    exec "$KVSCOPE" gen -o "$T/full.h5" --tokens 8192
) >"$T/.out" 2>"$T/.err"
[ $? = 3 ] && [ "$(wc -l <"$T/.err")" = 1 ] && grep -q 'full.h5: cannot be written: File too large' "$T/.err"
report $? 'a full disk is one line and exit 3'
[ "$(find "$T" -name 'full.h5*' | wc -l)" = 0 ]
report $? 'and leaves no file'

if mkdir "$T/disk" && mount -t tmpfs -o size=1m tmpfs "$T/disk" 2>/dev/null; then
    fails 3 'x.h5: cannot be written: No space left on device' 'a disk of 1 MB' \
        "$KVSCOPE" gen -o "$T/disk/x.h5" --tokens 8192
    [ -z "$(ls "$T/disk")" ]
    report $? 'is empty again'
    umount "$T/disk"
else
    skip 'a disk of 1 MB' 'mount is not permitted'
fi

"$KVSCOPE" gen -o "$T/long.h5" --layers 64 --tokens 100000 --quiet 2>"$T/.err" &
pid=$!
sleep 0.7
kill -INT $pid
wait $pid
[ $? = 130 ] && [ "$(find "$T" -name 'long.h5*' | wc -l)" = 0 ]
report $? 'an interrupt leaves no file'

finish
