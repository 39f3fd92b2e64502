#!/bin/sh
# The full comparison: every scheme of tools/compare.grid and this project's calibrated ones on recorded traces of several
# models, what the channel rankings are worth, a table and the frontier, into compare/. Called by `make compare`.
# A step that has left its file is not done again, and the sweep keeps a journal: after an interruption the same command
# goes on. Remove the folder to start anew, as after a change of the program.
# Calibration sees other text than the traces: the corpus up to token 24,575, where those begin at 25,372.
# From the environment: B (the build folder), COMPARE (where to), SHARED (with models/, corpus/ and traces/), MODELS,
# GRID, BITS (what is calibrated for), SEQUENCES (to calibrate on), THREADS (0: one per core).
set -eu
cd "$(dirname "$0")/.."
B=${B:-build}
COMPARE=${COMPARE:-compare}
SHARED=${SHARED:-../shared}
MODELS=${MODELS:-qwen3-7m llama-7m}
GRID=${GRID:-tools/compare.grid}
BITS=${BITS:-2 2.396 2.521 3 3.5 4.25}
SEQUENCES=${SEQUENCES:-12}
started=$(date +%s)
at='--from-position 512 --at-tokens 1048576'
constants="head-2.521 $(for bits in $BITS; do echo "after-$bits before-$bits"; done)"

step() { # step FILE COMMAND...: runs a command of kvscope that leaves FILE, unless it has
    made=$1 && shift
    [ ! -e "$made" ] || return 0
    echo "+ $B/kvscope $*" >&2
    "$B/kvscope" "$@" --threads "${THREADS:-0}"
}

traces=
for model in $MODELS; do
    traces="$traces $SHARED/traces/$model.h5"
    mkdir -p "$COMPARE/$model"
    step "$COMPARE/$model/other.h5" record --model "$SHARED/models/$model" \
        --tokens "$SHARED/corpus/validation_tokens.h5" --sequences "$SEQUENCES" -o "$COMPARE/$model/other.h5"
    for name in $constants; do
        case $name in # share-bits
        head-*) options='--share head' ;;
        before-*) options='--rope before' ;;
        *) options= ;;
        esac
        # shellcheck disable=SC2086
        step "$COMPARE/$model/$name" calibrate "$COMPARE/$model/other.h5" -o "$COMPARE/$model/$name" --quiet \
            --bits "${name#*-}" $options
    done
done

# shellcheck disable=SC2046,SC2086
step "$COMPARE/results.h5" sweep $traces --grid "$GRID" $at -o "$COMPARE/results.h5" \
    $(for name in $constants; do echo "--grid tcq:constants=$COMPARE/{model}/$name"; done) >"$COMPARE/sweep.txt"
for model in $MODELS; do
    [ -e "$COMPARE/rank-$model.txt" ] && continue
    step "$COMPARE/rank-$model.txt" rank "$SHARED/traces/$model.h5" --pages 15 --queries 8 >"$COMPARE/rank.new"
    mv "$COMPARE/rank.new" "$COMPARE/rank-$model.txt"
done

cat "$COMPARE"/rank-*.txt
echo
echo "Relative L2 change of the attention output, mean and 99th percentile ($at):"
echo
awk -f tools/compare.awk "$COMPARE/results.csv" | tee "$COMPARE/table.md"
echo
"$B/kvscope" plot "$COMPARE/results.h5" --kind frontier --set labels=all --set low=2 --set high=4.6 -o "$COMPARE"
echo "That took $(($(date +%s) - started)) s."
