#!/bin/sh
# Does `kvscope plot` draw what it says, and fail as it says?
cd "$(dirname "$0")/../.." || exit 1
. tests/cli/lib.sh

fails 2 '^kvscope: -o: is needed' 'a folder is needed' "$KVSCOPE" plot results.h5 --kind all
fails 2 '^kvscope: --kind: is needed' 'a kind is needed' "$KVSCOPE" plot results.h5 -o "$T/a"
fails 2 '^kvscope: --kind: pie: unknown plot; known: all, frontier, ' 'an unknown kind is refused' \
    "$KVSCOPE" plot results.h5 --kind pie -o "$T/a"
fails 2 'plot heads: panels: 0 is outside' 'a parameter has bounds' \
    "$KVSCOPE" plot results.h5 --kind heads --set panels=0 -o "$T/a"
fails 2 '^kvscope: --set: slices=3: no plot' 'an unknown parameter is refused' \
    "$KVSCOPE" plot results.h5 --kind all --set slices=3 -o "$T/a"
fails 2 '^kvscope: --set: panels: is written KEY=VALUE' 'a parameter needs a value' \
    "$KVSCOPE" plot results.h5 --kind heads --set panels -o "$T/a"
fails 3 'missing.h5' 'a missing file is named' "$KVSCOPE" plot "$T/missing.h5" --kind all -o "$T/a"
fails 3 'Makefile' 'what is no results file is refused' "$KVSCOPE" plot Makefile --kind all -o "$T/a"

if [ ! -f "$SAMPLES/qwen3-7m.h5" ] || ! "$KVSCOPE" replay --help >/dev/null 2>&1; then
    skip 'drawing' 'needs the sample traces and kvscope replay'
    finish
fi
passes 'a replay to draw from' "$KVSCOPE" replay "$SAMPLES/qwen3-7m.h5" --scheme fp16 --scheme int:bits=4 \
    --scheme kitty --quiet -o "$T/r.h5"

# What needs no gnuplot: every program of the PATH but gnuplot is out of reach.
mkdir "$T/empty"
fails 4 '^kvscope: gnuplot: is not installed' 'a missing gnuplot is said' \
    env PATH="$T/empty" "$KVSCOPE" plot "$T/r.h5" --kind all --quiet -o "$T/bare"
[ -s "$T/bare/frontier.csv" ] && [ -s "$T/bare/memory.gp" ] && [ ! -e "$T/bare/frontier.svg" ]
report $? 'and .csv and .gp are still written'
fails 2 '^kvscope: --scheme: kitten: no scheme' 'a scheme that is not there is refused' \
    "$KVSCOPE" plot "$T/r.h5" --kind all --scheme kitten -o "$T/a"
fails 2 '^kvscope: --trace: gpt: no trace' 'a trace that is not there is refused' \
    "$KVSCOPE" plot "$T/r.h5" --kind all --trace gpt -o "$T/a"

if ! command -v gnuplot >/dev/null; then
    skip 'pictures' 'needs gnuplot'
    finish
fi
passes 'all plots are drawn' "$KVSCOPE" plot "$T/r.h5" --kind all -o "$T/new/plots"
for kind in frontier heads channels memory; do
    for suffix in csv gp svg png; do [ -s "$T/new/plots/$kind.$suffix" ] || echo "$kind.$suffix"; done
done >"$T/.out"
[ ! -s "$T/.out" ]
report $? 'each is .csv, .gp, .svg and .png'
passes 'and drawn again elsewhere' "$KVSCOPE" plot "$T/r.h5" --kind all -o "$T/again"
for file in "$T"/again/*; do cmp "$file" "$T/new/plots/$(basename "$file")"; done >"$T/.out" 2>&1
[ ! -s "$T/.out" ]
report $? 'to the same bytes'
mkdir "$T/moved" && cp "$T"/again/frontier.gp "$T"/again/frontier.csv "$T/moved"
passes 'gnuplot redraws one by hand in another folder' sh -c "cd '$T/moved' && gnuplot frontier.gp"
cmp "$T/moved/frontier.svg" "$T/again/frontier.svg"
report $? 'to the same picture'
grep -l "$T" "$T"/again/* >"$T/.out"
[ ! -s "$T/.out" ]
report $? 'no file names a folder of this machine'

passes 'one scheme, another measure, as JSON' "$KVSCOPE" plot "$T/r.h5" --kind heads --kind frontier --scheme kitty \
    --set error=attention_kl --set heads.panels=1 --json -o "$T/json"
if [ -n "$PYTHON" ]; then
    "$PYTHON" -c 'import json, sys
d = json.load(open(sys.argv[1]))
assert d["command"] == "plot" and [p["kind"] for p in d["plots"]] == ["heads", "frontier"]
for p in d["plots"]:
    for suffix in "csv", "gp", "svg", "png": assert open(p[suffix], "rb").read(), suffix' "$T/.out"
    report $? 'the JSON names files that are there'
else
    skip 'the JSON names files that are there' 'needs python3'
fi
[ "$(grep -c '^0,' "$T/json/frontier.csv")" = 1 ]
report $? 'and only that scheme is in the table'
: >"$T/file"
fails 3 "$T/file" 'a folder that cannot be made is named' "$KVSCOPE" plot "$T/r.h5" --kind heads -o "$T/file/in"
mkdir "$T/readonly" && chmod a-w "$T/readonly"
if [ -w "$T/readonly" ]; then
    skip 'a folder that cannot be written is named' 'the user may write everywhere'
else
    fails 3 "$T/readonly" 'a folder that cannot be written is named' \
        "$KVSCOPE" plot "$T/r.h5" --kind heads -o "$T/readonly"
fi
finish
