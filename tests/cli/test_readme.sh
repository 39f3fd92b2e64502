#!/bin/sh
# Does the README tell the truth? Its commands run, what they print is what it shows, its C compiles, its links lead
# somewhere, and its picture is the one that `make demo` draws.
cd "$(dirname "$0")/../.." || exit 1
. tests/cli/lib.sh
CC=${CC:-cc}

block() { # block LANGUAGE NUMBER: the text of that fenced block
    awk -v want="$1" -v number="$2" '
        /^```/ { if (inside) inside = 0; else { inside = 1; taken = (substr($0, 4) == want && ++count == number) }; next }
        inside && taken' README.md
}

# Commands as they are written, but in a scratch folder that looks like the tree.
for link in traces tools tests plots kernels; do ln -s "$PWD/$link" "$T/$link"; done
mkdir "$T/build" && ln -s "$KVSCOPE" "$T/build/kvscope"
have_gnuplot=$(command -v gnuplot)

run_block() { # run_block NUMBER: runs a block of commands
    block sh "$1" >"$T/commands"
    [ -s "$T/commands" ] || return 1
    (cd "$T" && sh -e commands)
}

block sh 1 | sed -n 's/^make *\([a-z-]*\).*/\1/p' >"$T/targets"
while read -r target; do
    [ -z "$target" ] || grep -q "^$target:.*##" Makefile || echo "make $target"
done <"$T/targets" >"$T/.out"
[ -s "$T/targets" ] && [ ! -s "$T/.out" ]
report $? 'the make targets are there'

passes 'the first look runs' run_block 2
cp "$T/.out" "$T/printed"
block text 1 >"$T/shown"
# Numbers within 1 %: another processor may round the last digit of a sum otherwise.
awk 'NR == FNR { line[FNR] = $0; lines = FNR; next }
    {
        count = split($0, now, / +/); if (split(line[FNR], then, / +/) != count) bad = 1
        for (i = 1; i <= count; i++) {
            numbers = now[i] ~ /^[0-9.e+-]+$/ && then[i] ~ /^[0-9.e+-]+$/
            gap = now[i] - then[i]; if (gap < 0) gap = -gap
            if (numbers ? gap > 0.01 * then[i] : now[i] != then[i]) { bad = 1; print "shown: " line[FNR]; print "now:   " $0 }
        }
    }
    END { exit bad || FNR != lines || lines < 5 }' "$T/shown" "$T/printed" >"$T/.out"
report $? 'and prints what the README shows'

if [ -n "$have_gnuplot" ]; then
    passes 'sweep and plots run' run_block 3
    [ -s "$T/build/plots/frontier.svg" ] && [ -s "$T/build/kl/frontier.png" ]
    report $? 'and leave their pictures'
    case $B in
    *asan*) skip 'the demo' 'too slow under a sanitizer' ;;
    *) passes 'the demo runs' env B="$(dirname "$KVSCOPE")" DEMO="$T/demo" tools/demo.sh ;;
    esac
else
    skip 'the demo and the plots' 'needs gnuplot'
fi
if [ -s "$T/demo/frontier.svg" ] && [ -n "$PYTHON" ] && \
    [ "$(grep Produced plots/pictures/frontier.svg)" = "$(grep Produced "$T/demo/frontier.svg")" ]; then
    run "$PYTHON" - plots/pictures/frontier.svg "$T/demo/frontier.svg" <<'PYTHON'
import re, sys
number = re.compile(r'-?\d+\.?\d*')
a, b = (open(path).read() for path in sys.argv[1:])
assert number.sub('#', a) == number.sub('#', b), 'other text'
far = [(x, y) for x, y in zip(number.findall(a), number.findall(b)) if abs(float(x) - float(y)) > 3]
assert not far, far[:5]
PYTHON
    report "$status" 'the picture is the one that the demo draws, to three pixels'
else
    skip 'the picture is the one that the demo draws' 'needs python3 and the gnuplot that drew it'
fi

block c 1 >"$T/mixed.c"
[ -s "$T/mixed.c" ] && passes 'the scheme in one file compiles' $CC -std=c11 -D_GNU_SOURCE -I. -Wall -Wextra -Werror \
    -fsyntax-only "$T/mixed.c"

grep -o '](\([^)]*\))' README.md | sed 's/^](//; s/)$//' | while read -r link; do
    case $link in http*) ;; *) [ -e "$link" ] || echo "$link" ;; esac
done >"$T/.out"
[ ! -s "$T/.out" ]
report $? 'links and pictures are there'
sed -n 's/^| `\([a-z/]*\)\/` |.*/\1/p' README.md | while read -r folder; do [ -d "$folder" ] || echo "$folder"; done >"$T/.out"
[ ! -s "$T/.out" ]
report $? 'the folders of the map are there'
for command in $(grep -o '`kvscope [a-z]*' README.md | sed 's/`kvscope //' | sort -u); do
    "$KVSCOPE" "$command" --help >/dev/null 2>&1 || echo "$command"
done >"$T/.out"
[ ! -s "$T/.out" ]
report $? 'the commands it names are there'
grep -Eo '^\| `(fp16|int|kivi|kitty)[^`]*`' README.md | sed 's/^| `//; s/`$//' >"$T/schemes"
for scheme in $(cat "$T/schemes"); do
    "$KVSCOPE" replay traces/sample/qwen3-7m.h5 --scheme "$scheme" --quiet || echo "$scheme"
done >"$T/.out" 2>&1
[ "$(wc -l <"$T/schemes")" = 5 ] && [ ! -s "$T/.out" ]
report $? 'the schemes it names are there'
finish
