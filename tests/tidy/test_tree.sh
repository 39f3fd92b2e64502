#!/bin/sh
# Does the tree obey its rules? Include direction, headers that compile alone, no unfinished work, no stray files.
cd "$(dirname "$0")/../.." || exit 1
. tests/cli/lib.sh
CC=${CC:-cc} CXX=${CXX:-c++}
sources=$(git ls-files -co --exclude-standard '*.c' '*.h' '*.cu' '*.cuh' '*.cpp' | grep -v '^tests/')
tests=$(git ls-files -co --exclude-standard 'tests/*.c' 'tests/*.h' 'tests/*.cpp' 'tests/*.cu')
texts=$(git ls-files -co --exclude-standard | grep -Ev '\.(h5|png|svg|safetensors)$|tokenizer\.json$')

# empty NAME: passes when $T/.out, the list of offences, is empty
empty() {
    : >"$T/.err"
    [ ! -s "$T/.out" ]
    report $? "$1"
}

# Which headers each room may include, besides those of the system.
may_include() {
    case $1 in
    core) echo 'core/' ;;
    traces) echo 'core/ traces/' ;;
    kernels) echo 'core/ kernels/' ;;
    analysis) echo 'core/ kernels/ analysis/ traces/trace.h' ;;
    plots) echo "core/ plots/ analysis/result.h analysis/occupancy.h analysis/profile.h analysis/timings.h analysis/rank_result.h analysis/field.h analysis/correlation.h kernels/scheme.h" ;;
    sim) echo 'core/ traces/ kernels/ analysis/ sim/' ;;
    sim/commands) echo 'core/ traces/ kernels/ analysis/ sim/ plots/' ;;
    esac
}
for file in $sources; do
    room=${file%%/*}
    case $file in sim/commands/* | sim/main.c) room=sim/commands ;; esac
    sed -n 's/^#include "\([^"]*\)".*/\1/p' "$file" | while read -r header; do
        allowed=no
        for prefix in $(may_include "$room"); do
            case $header in "$prefix"*) allowed=yes ;; esac
        done
        [ $allowed = yes ] || echo "$file includes $header"
        [ -f "$header" ] || echo "$file includes $header, which is not there"
    done
done >"$T/.out"
empty 'includes go one way only'

flags=$(pkg-config --cflags hdf5-serial libcjson 2>/dev/null || pkg-config --cflags hdf5 libcjson)
for header in $(printf '%s\n' $sources | grep '\.h$' | grep -v '^kernels/simt/'); do
    $CC -std=c11 -D_GNU_SOURCE -I. $flags -Wall -Wextra -Werror -Wno-unused-function -fsyntax-only -x c "$header" ||
        echo "$header does not compile alone as C11"
    $CXX -std=c++17 -I. $flags -Wno-unused-function -fsyntax-only -x c++ "$header" ||
        echo "$header does not compile alone as C++17"
done >"$T/.out" 2>&1
empty 'every header compiles alone, as C11 and as C++17'

# Only the front prints and exits.
grep -nE '(^|[^_a-z])(printf|puts|putchar|exit|abort|perror) *\(' \
    $(printf '%s\n' $sources | grep -vE '^sim/(main|options)\.c|^sim/commands/|^kernels/simt/') >"$T/.out"
empty 'nothing below the command line prints or exits'

grep -nE '(^|[^_a-z])(strcpy|strcat|sprintf|vsprintf|gets|atoi|atof|system|popen|rand|srand) *\(' $sources >"$T/.out"
empty 'no call that hides an error'

# The patterns are put together so that this file does not match itself.
grep -nE "T[O]DO|FIX[M]E|(^|[^X])XX[X]([^X]|$)|HA[C]K" $texts >"$T/.out"
empty 'no mark of unfinished work'

grep -nE '(^|[^A-Za-z0-9_.])/(r[o]ot|h[o]me|w[o]rk)/[A-Za-z0-9_.]' $texts >"$T/.out"
empty 'no path of one machine'

wc -l $sources $tests | awk '$2 != "total" && $1 > 500 { print $2 " has " $1 " lines; split it where a reader would" }' \
    >"$T/.out"
empty 'every source file can be read in one sitting'

awk 'length($0) > 120 { print FILENAME ":" FNR ": longer than 120 columns" }' $sources $tests >"$T/.out"
empty 'no line is longer than 120 columns'

if clang-format --version 2>/dev/null | grep -q 'version 14'; then
    clang-format --dry-run $sources $tests >"$T/.out" 2>&1
    empty 'sources are formatted (make format)'
else
    skip 'sources are formatted (make format)' 'needs clang-format 14'
fi

git ls-files | grep -E '\.(o|a|so|d|pyc|log|tmp)$|^build/|^demo/' >"$T/.out"
empty 'nothing generated is committed'

finish
