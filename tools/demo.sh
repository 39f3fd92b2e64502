#!/bin/sh
# The main job on what ships: many schemes over two recorded traces, then the model itself with its cache stored by each
# of a few, tables and every plot, into demo/ and demo/replayed/.
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

mkdir -p "$DEMO/replayed"
echo "The schemes of tools/demo.grid over two recorded traces of 720 tokens. Memory is stated for sequences of 8192"
echo "tokens. Errors are those of the recorded queries from position 512 on: earlier ones see little that is quantized,"
echo "which flatters every scheme that keeps recent tokens."
show "$B/kvscope" sweep traces/sample/qwen3-7m.h5 traces/sample/llama-7m.h5 --grid tools/demo.grid \
    --at-tokens 8192 --from-position 512 -o "$DEMO/replayed/results.h5"
echo
show "$B/kvscope" plot "$DEMO/replayed/results.h5" --kind all -o "$DEMO/replayed"
echo
echo "The model that ships, run with its cache stored as each scheme of tools/demo-closed.grid says: what it costs in"
echo "perplexity and in a task that needs memory of the context. Takes a minute or two."
show "$B/kvscope" eval --model traces/sample/qwen3-7m --tokens traces/sample/qwen3-7m/validation_tokens.h5 --windows 4 \
    --task copy --task-context 768 --distances 128,512 --samples 6 --trace traces/sample/qwen3-7m.h5 \
    --grid tools/demo-closed.grid --at-tokens 8192 -o "$DEMO/results.h5" -o "$DEMO/results.csv" -o "$DEMO/results.json"
echo
show "$B/kvscope" plot "$DEMO/results.h5" --kind all -o "$DEMO"
echo
echo "Look at $DEMO/frontier.png first, then at $DEMO/proxy.png and $DEMO/replayed/frontier.png. All numbers are in"
echo "$DEMO/results.h5, .csv and .json, and in those of $DEMO/replayed."
echo "That took $(($(date +%s) - started)) s."
