#!/bin/sh
# make bench: kvscope beside memcpy and beside NumPy, in one run, on the same cores and the same generated trace.
# usage: B=build tools/bench.sh     SCALE=0 leaves out the 4 GB trace
set -eu
B=${B:-build} SCALE=${SCALE:-1}
PYTHON=${PYTHON:-$(for p in /usr/bin/python3 python3; do "$p" -c 'import h5py, numpy' 2>/dev/null && { echo "$p"; break; }; done)}
kvscope=$B/kvscope
cores=$(nproc)
T=$(mktemp -d "$B/bench.XXXXXX")
trap 'rm -rf "$T"' EXIT

echo "== machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $cores cores =="
"$kvscope" gen -o "$T/trace.h5" --layers 6 --query-heads 8 --kv-heads 4 --head-dim 128 --tokens 4096 --queries 128 --quiet
echo "== kvscope bench: GB/s counts bytes read plus bytes written =="
"$kvscope" bench "$T/trace.h5" --threads "$cores"
"$kvscope" bench "$T/trace.h5" --threads "$cores" --json >"$T/bench.json"

echo
echo "== beside NumPy (tests/peers/kitty_numpy.py): kitty:boost=0.25, $cores threads =="
for i in 1 2 3 4 5; do
    "$kvscope" replay "$T/trace.h5" --scheme kitty:boost=0.25 --threads "$cores" --json --quiet >"$T/replay.$i.json"
done
if [ -n "$PYTHON" ] && OPENBLAS_NUM_THREADS=$cores OMP_NUM_THREADS=$cores \
    "$PYTHON" tests/peers/kitty_numpy.py "$T/trace.h5" --boost 0.25 --repeat 5 >"$T/numpy.json"; then
    "$PYTHON" - "$T" <<'PYTHON_END'
import json, statistics, sys
folder = sys.argv[1]
rows = {r["name"]: r for r in json.load(open(f"{folder}/bench.json"))["results"]}
numpy = json.load(open(f"{folder}/numpy.json"))
replays = [json.load(open(f"{folder}/replay.{i}.json"))["results"][0] for i in range(1, 6)]
wall = statistics.median(r["throughput"]["wall_s"] for r in replays)
ours, theirs = rows["quantize"], numpy
per = lambda s, n: s / n * 1e9
print(f"{'':28}{'kvscope':>12}{'NumPy':>12}{'ratio':>8}")
print(f"{'quantize+dequantize ns/elt':28}{per(ours['seconds'], ours['elements']):12.3f}"
      f"{per(theirs['quantize_s'], theirs['elements']):12.3f}"
      f"{per(theirs['quantize_s'], theirs['elements']) / per(ours['seconds'], ours['elements']):8.1f}")
print(f"{'whole replay s':28}{wall:12.3f}{theirs['replay_s']:12.3f}{theirs['replay_s'] / wall:8.1f}")
mine, other = replays[0]["error"], theirs["error"]
print("the two agree on the mean errors: " + ", ".join(
    f"{name} {mine[name]['mean']:.6g} | {other[name]:.6g}" for name in other))
PYTHON_END
else
    echo "NumPy comparison left out: no python3 with h5py and numpy"
fi

if [ "$SCALE" = 1 ] && [ "$(df -Pk "$T" | awk 'NR == 2 { print int($4 / 1048576) }')" -ge 6 ]; then
    echo
    echo "== scale: replay of a 4 GB generated trace; resident memory must stay under 300 MB =="
    "$kvscope" gen -o "$T/big.h5" --layers 32 --query-heads 16 --kv-heads 8 --head-dim 128 --tokens 32768 --queries 16 --quiet
    ls -l "$T/big.h5" | awk '{ printf "file: %.2f GB\n", $5 / 1e9 }'
    python3 -c '
import resource, subprocess, sys, time
started = time.time()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"replay: {time.time() - started:.1f} s, peak resident {peak:.0f} MiB")' \
        "$kvscope" replay "$T/big.h5" --scheme kitty:boost=0.25 --scheme kivi --quiet
fi
for script in tools/bench_*.sh; do
    [ -x "$script" ] && { echo && "$script"; }
done
