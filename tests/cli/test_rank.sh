#!/bin/sh
# Does `kvscope rank` report what its definitions say, the same whatever the number of threads, and refuse what it must?
. tests/cli/lib.sh
TRACE=$SAMPLES/qwen3-7m.h5

"$KVSCOPE" rank "$TRACE" --pages 1 --queries 2 --threads 1 --json >"$T/one.json" 2>"$T/.err"
"$KVSCOPE" rank "$TRACE" --pages 1 --queries 2 --threads 3 --json >"$T/three.json" 2>>"$T/.err"
passes "the same bytes with one thread and with three" cmp "$T/one.json" "$T/three.json"

if [ -n "$PYTHON" ] && "$PYTHON" -c 'import h5py, numpy' 2>/dev/null; then
    passes "magnitude as NumPy computes it, with every budget and selection" \
        "$PYTHON" tests/peers/rank_numpy.py "$TRACE" "$T/one.json" 1 2
    passes "the documented fields, every metric, and the order that mathematics demands" "$PYTHON" - "$T/one.json" <<'PY'
import json, sys
report = json.load(open(sys.argv[1]))
assert report['command'] == 'rank' and len(report['metrics']) >= 14 and len(report['heads']) == 12
oracle = report['oracle']
assert 0 < oracle['four_of_sixteen']['exhaustive'] <= oracle['four_of_sixteen']['greedy'] * (1 + 1e-6)
for m in report['metrics']:
    assert set(m) == {'metric', 'spearman', 'kendall', 'top_k_overlap', 'error', 'static_error', 'gap_closed', 'ci95',
                      'stability', 'budgets'}, m
    assert set(m['budgets']) == {'layer', 'model'} and len(report['layers']) == 6
    assert -1 <= m['kendall'] <= 1 and -1 <= m['spearman'] <= 1 and 0 <= m['top_k_overlap'] <= 1
    for ratio in '0.125', '0.25':
        random, greedy, e = oracle['random'][ratio], oracle['greedy'][ratio], m['error'][ratio]
        assert greedy < e and abs(m['gap_closed'][ratio] - (random - e) / (random - greedy)) < 1e-9
        for own in m['budgets']:
            assert m['budgets'][own]['error'][ratio] != e
            # No choice does better than the greedy one with the same freedom, as far as it goes.
            assert oracle['greedy_budgets'][own][ratio] <= oracle['greedy'][ratio] * (1 + 1e-9)
    assert m['ci95'][0] < m['ci95'][1]
PY
else
    skip "magnitude as NumPy computes it, with every budget and selection" "no Python with h5py and NumPy"
    skip "the documented fields, every metric, and the order that mathematics demands" "no Python"
fi

# The results file, and what an interruption leaves of it.
WORK="--pages 3 --queries 2 --ratios 0.5,0.0625"
passes "a results file is written" sh -c '"$1" rank "$2" $3 --quiet --json -o "$4/whole.h5" >"$4/whole.json"' - \
    "$KVSCOPE" "$TRACE" "$WORK" "$T"
report "$([ ! -e "$T/whole.journal" ]; echo $?)" "and its journal is gone"
"$KVSCOPE" rank "$TRACE" $WORK --quiet --threads 1 -o "$T/cut.h5" 2>"$T/.err" &
for _ in $(seq 1500); do [ "$(cat "$T/cut.journal" 2>/dev/null | wc -l)" -ge 3 ] && break; sleep 0.02; done
kill -INT $! && wait $!
report "$([ $? = 130 ] && [ ! -e "$T/cut.h5" ] && grep -q 'heads are kept' "$T/.err"; echo $?)" \
    "interrupted, it says what is kept"
cp "$T/cut.journal" "$T/other.journal"
fails 3 'belongs to a rank of another' "a journal of other options is refused" \
    "$KVSCOPE" rank "$TRACE" $WORK --seed 3 -o "$T/other.h5"
{ head -n 2 "$T/cut.journal"; echo '{"unit":0,"pages":[[1,2]]}'; } >"$T/other.journal"
fails 3 'line 3: is damaged' "a damaged journal is refused" "$KVSCOPE" rank "$TRACE" $WORK -o "$T/other.h5"
printf '{"unit":1' >>"$T/cut.journal" # torn
passes "the same command goes on from there" "$KVSCOPE" rank "$TRACE" $WORK --quiet --threads 2 -o "$T/cut.h5"
if [ -n "$PYTHON" ] && "$PYTHON" -c 'import h5py, numpy' 2>/dev/null; then
    passes "to the same numbers" "$PYTHON" - "$T/whole.h5" "$T/cut.h5" <<'PY'
import sys, h5py, numpy as np
a, b = (h5py.File(name, 'r') for name in sys.argv[1:])
count = 0
def compare(name, one):
    global count
    if isinstance(one, h5py.Dataset):
        count += 1
        assert one.dtype == b[name].dtype and np.array_equal(one[:], b[name][:], equal_nan=one.dtype.kind == 'f'), name
a.visititems(compare)
assert count > 30
PY
    passes "the file sums up its pages as NumPy does" \
        "$PYTHON" tests/peers/rank_file.py "$TRACE" "$T/whole.h5" "$T/whole.json"
else
    skip "to the same numbers" "no Python with h5py and NumPy"
    skip "the file sums up its pages as NumPy does" "no Python with h5py and NumPy"
fi
# info and check read it.
"$KVSCOPE" rank "$TRACE" $WORK --threads 2 2>/dev/null | grep '^query_error' | head -1 >"$T/line"
[ -s "$T/line" ] && "$KVSCOPE" info "$T/whole.h5" | grep -qxF "$(cat "$T/line")"
report $? "info prints its tables"
"$KVSCOPE" info "$T/whole.h5" --json | sed 's/"command":.*"info"/"command":	"rank"/' | cmp - "$T/whole.json"
report $? "info --json gives the same numbers"
run "$KVSCOPE" check "$T/whole.h5"
[ "$status" = 0 ] && grep -q 'ok, a ranking study of 36 pages, 14 metrics and 4 boost ratios' "$T/.out"
report $? "check reads it"
head -c 100000 "$T/whole.h5" >"$T/short.h5"
fails 3 'short.h5' "and refuses a part of it" "$KVSCOPE" check "$T/short.h5"

# Its plots.
if command -v gnuplot >/dev/null; then
    passes "every plot of a ranking study is drawn" "$KVSCOPE" plot "$T/whole.h5" --kind all -o "$T/plots" \
        --set budget=model --set sensitivity.metric=query_error
    for kind in correlation boost stability sensitivity; do
        for suffix in csv gp svg png; do [ -s "$T/plots/$kind.$suffix" ] || echo "$kind.$suffix"; done
    done >"$T/.out"
    report "$([ ! -s "$T/.out" ]; echo $?)" "each is .csv, .gp, .svg and .png"
    if [ -n "$PYTHON" ] && "$PYTHON" -c 'import h5py, numpy' 2>/dev/null; then
        passes "they draw what the pages say" "$PYTHON" tests/peers/rank_plots.py "$T/whole.h5" "$T/plots" query_error
    else
        skip "they draw what the pages say" "no Python with h5py and NumPy"
    fi
else
    skip "every plot of a ranking study is drawn" "needs gnuplot"
fi
fails 2 'unknown plot; known: all, correlation, boost, ' "a plot of other results is refused" \
    "$KVSCOPE" plot "$T/whole.h5" --kind frontier -o "$T/plots"
fails 2 'stability: ratio: 0.3 was not judged' "a ratio that is not in the file is refused" \
    "$KVSCOPE" plot "$T/whole.h5" --kind stability --set ratio=0.3 -o "$T/plots"
fails 2 'sensitivity: metric: the file has no ranking nonsense' "a metric that is not in the file is refused" \
    "$KVSCOPE" plot "$T/whole.h5" --kind sensitivity --set metric=nonsense -o "$T/plots"
"$KVSCOPE" rank "$TRACE" --pages 1 --queries 1 --budget head --metrics range --quiet -o "$T/small.h5" 2>"$T/.err"
fails 3 'no head has two judged pages' "stability needs two pages" \
    "$KVSCOPE" plot "$T/small.h5" --kind stability -o "$T/plots"
fails 3 'none for budget layer' "a budget that was not judged cannot be drawn" \
    "$KVSCOPE" plot "$T/small.h5" --kind boost --set budget=layer -o "$T/plots"

fails 2 'must end in .h5' "a results file has its extension" "$KVSCOPE" rank "$TRACE" -o "$T/a.csv"
fails 2 'nobody.*is not head, layer or model' "an unknown budget is wrong usage" "$KVSCOPE" rank "$TRACE" --budget nobody
fails 2 'is no number from 0 to 1' "a ratio has bounds" "$KVSCOPE" rank "$TRACE" --ratios 1.5

"$KVSCOPE" rank "$TRACE" --pages 1 --queries 2 --rank-window 1 --metrics query_step,range --json >"$T/w.json" 2>"$T/.err"
passes "a metric without its queries is null, others are not" sh -c \
    'grep -A1 "\"query_step\"" "$1" | grep -q "spearman.*null" && grep -A1 "\"range\"" "$1" | grep -vq null' - "$T/w.json"
fails 2 "nonsense.*no ranking metric" "an unknown metric is wrong usage" "$KVSCOPE" rank "$TRACE" --metrics nonsense
fails 3 "no recorded query reads a full page" "pages longer than the trace" "$KVSCOPE" rank "$TRACE" --page 4096
SCHEMES="--scheme kitty:rank=query_step,rank_window=10 --scheme kitty:rank=attention_centred --scheme kitty"
"$KVSCOPE" replay "$TRACE" $SCHEMES --threads 1 --quiet -o "$T/one.csv" 2>"$T/.err"
"$KVSCOPE" replay "$TRACE" $SCHEMES --threads 3 --quiet -o "$T/three.csv" 2>>"$T/.err"
passes "a scheme whose queries were not recorded says so, the others are replayed" sh -c \
    'grep -q "query_step.*no recorded query among those that may rank page" "$1" &&
     [ "$(grep -c "no recorded query" "$1")" = 1 ] && [ "$(wc -l <"$1")" -ge 4 ]' - "$T/one.csv"
passes "replay ranks the same with one thread and with three" sh -c \
    'for f in "$1" "$2"; do sed "/^trace_path/d; s/,[^,]*,[^,]*,[^,]*,,*exact.*//" "$f" >"$f.errors"; done
     grep -q attention_centred "$1.errors" && cmp "$1.errors" "$2.errors"' - "$T/one.csv" "$T/three.csv"
finish
