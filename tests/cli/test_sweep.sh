#!/bin/sh
# Does `kvscope sweep` expand its grids, and lose nothing when it is stopped, killed or out of disk?
. tests/cli/lib.sh
QWEN=$SAMPLES/qwen3-7m.h5
LLAMA=$SAMPLES/llama-7m.h5

schemes_of() { # the schemes of a results file, one a line
    sed -n 's/.*"scheme":[[:space:]]*"\([^"]*\)".*/\1/p' "$1"
}
essence() { # what must not depend on the run: all but the throughput and the command line
    grep -Ev '"(tokens_per_s|bytes_per_s|wall_s|command_line)"' "$1"
}

# --- grids
cat >"$T/grid.txt" <<'EOF'
# schemes that are worth a look
fp16

kitty:boost=[0.125:0.25:0.125],page=[64,128]   # four of them
  kivi:bits=2
EOF
passes "a sweep of a grid file and a grid" "$KVSCOPE" sweep "$QWEN" --grid "$T/grid.txt" \
    --grid 'int:bits=[8,2:4:2,8]' --grid kivi:bits=2 -o "$T/r.h5" --quiet
schemes_of "$T/r.json" >"$T/found"
cat >"$T/wanted" <<'EOF'
fp16
kitty:boost=0.125,page=64
kitty:boost=0.125,page=128
kitty:boost=0.25,page=64
kitty:boost=0.25,page=128
kivi:bits=2
int:bits=8
int:bits=2
int:bits=4
EOF
cmp "$T/found" "$T/wanted"
report $? "lists and ranges expand in order, the last key fastest, without repetition"
[ "$(wc -l <"$T/r.csv")" = 10 ] && [ -s "$T/r.h5" ] && [ ! -e "$T/r.journal" ]
report $? "three forms are written, and the journal is gone"
"$KVSCOPE" replay "$QWEN" --scheme int:bits=4 -o "$T/one.json" --quiet
essence "$T/one.json" | sed -n '/"results"/,$p' | grep -v '"trace"' >"$T/one"
"$KVSCOPE" sweep "$QWEN" --grid int:bits=4 -o "$T/same.h5" --quiet
essence "$T/same.json" | sed -n '/"results"/,$p' | grep -v '"trace"' >"$T/same"
cmp "$T/one" "$T/same" && [ "$(wc -l <"$T/one")" -gt 100 ]
report $? "a sweep finds what a replay finds"
if [ -n "$PYTHON" ] && "$PYTHON" -c 'import h5py' 2>/dev/null; then
    passes "h5py reads the results of two traces" sh -c "'$KVSCOPE' sweep '$QWEN' '$LLAMA' --grid fp16 --grid kitty \
        -o '$T/two.h5' --quiet && '$PYTHON' -c \"
import h5py
f = h5py.File('$T/two.h5')
assert list(f['results/trace'][...]) == [0, 0, 1, 1] and f['results/trace'].dtype == 'int32'
assert [s.decode() for s in f['traces/model_name'][...]] == ['qwen3-7m', 'llama-7m']
assert len(f['heads/result']) == 48 and sorted(f['channels']) == ['000000', '000001']
assert 2 ** 17 in f['memory/tokens'][...] and f['memory/payload_bits'].attrs['unit'] == 'bits'\""
else
    skip "h5py reads the results of two traces" "no Python with h5py"
fi

# --- stopping: a sweep of some 90 results that takes a second or two
GRIDS='--grid kitty:boost=[0:0.5:0.0625],rank=[magnitude,random],page=[64,128] --grid int:bits=[1:8:1],sink=[0,32]'
sweep() { # sweep NAME OPTIONS...
    output=$T/$1.h5 && shift
    "$KVSCOPE" sweep "$QWEN" "$LLAMA" $GRIDS -o "$output" --quiet "$@"
}
lines() {
    cat "$1" 2>/dev/null | wc -l
}
stop_midway() { # stop_midway NAME SIGNAL: stops a sweep once some results are in its journal; its status in $stopped
    "$KVSCOPE" sweep "$QWEN" "$LLAMA" $GRIDS -o "$T/$1.h5" --quiet 2>"$T/.err" &
    pid=$!
    while kill -0 $pid 2>/dev/null && [ "$(lines "$T/$1.journal")" -lt 12 ]; do sleep 0.01; done
    kill -"$2" $pid 2>/dev/null
    wait $pid
    stopped=$?
}
sweep whole
essence "$T/whole.json" >"$T/whole"

stop_midway killed KILL 2>/dev/null
kept=$(lines "$T/killed.journal")
[ $stopped = 137 ] && [ "$kept" -ge 12 ] && [ ! -e "$T/killed.h5" ]
report $? "killed midway ($kept lines kept)"
cp "$T/killed.journal" "$T/torn.journal"
cp "$T/killed.journal" "$T/damaged.journal"
passes "resumed after kill -9" sweep killed
essence "$T/killed.json" >"$T/resumed"
cmp "$T/whole" "$T/resumed" && [ ! -e "$T/killed.journal" ]
report $? "a resumed sweep equals an uninterrupted one"

printf '{"index":40,"result":{"trace":0,"sche' >>"$T/torn.journal"
passes "resumed from a journal with a torn last line" sweep torn
essence "$T/torn.json" | cmp - "$T/whole"
report $? "a torn line costs its result only"
sed -i '5s/^.\{40\}/garbage/' "$T/damaged.journal"
fails 3 'damaged.journal: line 5: is damaged' "a journal damaged in its middle" sweep damaged
fails 3 'belongs to a sweep of another' "a journal of other options" sweep damaged --seed 7
[ "$(lines "$T/damaged.journal")" = "$kept" ]
report $? "a refused journal stays as it was"
passes "--restart forgets it" sweep damaged --restart

stop_midway stopped INT
[ $stopped = 130 ] && [ "$(wc -l <"$T/.err")" = 1 ] && grep -Eq 'interrupted; [0-9]+ of [0-9]+ results are kept' "$T/.err"
report $? "an interrupt in mid-sweep: exit 130 and one line"
[ "$(lines "$T/stopped.journal")" -ge 12 ] && sweep stopped && essence "$T/stopped.json" | cmp - "$T/whole"
report $? "and the same command goes on from there"

(
    trap '' XFSZ # a write beyond the limit then fails as on a full disk
    ulimit -f 500
    sweep full 2>"$T/.err"
)
status=$?
[ $status = 3 ] && [ "$(wc -l <"$T/.err")" = 1 ] && grep -q 'full.journal: cannot be written' "$T/.err"
report $? "a full disk in mid-sweep"
[ "$(lines "$T/full.journal")" -gt 3 ] && sweep full && essence "$T/full.json" | cmp - "$T/whole"
report $? "what was finished before the disk was full is not lost"

# --- refused, before any work
fails 2 'line 2.*nosuch' "an unknown scheme in a file" sh -c \
    "printf 'fp16\nnosuch:bits=2\n' >'$T/bad.txt'; '$KVSCOPE' sweep '$QWEN' --grid '$T/bad.txt' -o '$T/bad.h5'"
fails 2 'nosuch.*no known scheme' "neither a scheme nor a file" "$KVSCOPE" sweep "$QWEN" --grid nosuch -o "$T/bad.h5"
fails 2 'bits.*9' "a value out of bounds" "$KVSCOPE" sweep "$QWEN" --grid 'int:bits=[8,9]' -o "$T/bad.h5"
fails 2 'brackets' "brackets that do not match" "$KVSCOPE" sweep "$QWEN" --grid 'int:bits=[8' -o "$T/bad.h5"
fails 2 'range' "a range that never ends" "$KVSCOPE" sweep "$QWEN" --grid 'kitty:boost=[0:1:-0.5]' -o "$T/bad.h5"
fails 2 'range' "a range of two numbers" "$KVSCOPE" sweep "$QWEN" --grid 'kitty:boost=[0:1]' -o "$T/bad.h5"
fails 2 'more than' "a grid without measure" "$KVSCOPE" sweep "$QWEN" \
    --grid 'kitty:boost=[0:1:0.001],page=[1:4000:1]' -o "$T/bad.h5"
fails 2 'at least one --grid' "no grid" "$KVSCOPE" sweep "$QWEN" -o "$T/bad.h5"
fails 2 'needs -o' "no output" "$KVSCOPE" sweep "$QWEN" --grid fp16
fails 2 'must end in .h5' "an output of another form" "$KVSCOPE" sweep "$QWEN" --grid fp16 -o "$T/bad.csv"
fails 3 'cannot be written' "an output that cannot be written" "$KVSCOPE" sweep "$QWEN" --grid fp16 -o "$T/no/bad.h5"
fails 3 'nosuch.h5' "a trace that is not there" "$KVSCOPE" sweep "$QWEN" "$T/nosuch.h5" --grid fp16 -o "$T/bad.h5"
[ ! -e "$T/bad.journal" ] && [ ! -e "$T/bad.h5" ]
report $? "what is refused leaves nothing behind"
finish
