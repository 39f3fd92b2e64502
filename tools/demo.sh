#!/bin/sh
# The main job on the traces that ship: many schemes over both, a table, and every plot, into demo/.
# Called by `make demo`. From the environment: B (the build folder), DEMO (where to; default demo).
set -eu
cd "$(dirname "$0")/.."
B=${B:-build}
DEMO=${DEMO:-demo}
started=$(date +%s)

show() { # show COMMAND...: says what it runs, and runs it
    echo "+ $*"
    "$@"
}

mkdir -p "$DEMO"
echo "The schemes of tools/demo.grid over two recorded traces of 720 tokens. Memory is stated for sequences of 8192"
echo "tokens. Errors are those of the recorded queries from position 512 on: earlier ones see little that is quantized,"
echo "which flatters every scheme that keeps recent tokens."
show "$B/kvscope" sweep traces/sample/qwen3-7m.h5 traces/sample/llama-7m.h5 --grid tools/demo.grid \
    --at-tokens 8192 --from-position 512 -o "$DEMO/results.h5"
echo
show "$B/kvscope" plot "$DEMO/results.h5" --kind all -o "$DEMO"
echo
echo "Look at $DEMO/frontier.png first. All numbers are in $DEMO/results.h5, .csv and .json."
echo "That took $(($(date +%s) - started)) s."
