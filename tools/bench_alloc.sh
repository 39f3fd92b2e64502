#!/bin/sh
# The block pool alone beside a plain Python model, and its growth with the number of requests, in one run.
# usage: B=build PYTHON=python3 tools/bench_alloc.sh     SCALE=0 leaves out 10 million requests
set -eu
B=${B:-build} PYTHON=${PYTHON:-python3} SCALE=${SCALE:-1}
requests=../shared/requests/mooncake_conversation.jsonl
capacity=10000

echo "== allocator: sequential replay at $capacity pages of 512 tokens, one core, parsing excluded =="
if [ -f "$requests" ]; then
    for rule in count drop; do
        "$B/kvscope" alloc "$requests" --sequential --page-tokens 512 --capacity-pages $capacity --partial-hash $rule \
            --threads 1 --repeat 101 --json >"$B/bench_alloc.json"
        for i in 1 2 3; do "$PYTHON" tests/peers/alloc_python.py "$requests" $capacity $rule; done >"$B/bench_peer.json"
        "$PYTHON" - "$B/bench_alloc.json" "$B/bench_peer.json" $rule <<'PYTHON_END'
import json, statistics, sys
ours = json.load(open(sys.argv[1]))["results"][0]
peers = [json.loads(line) for line in open(sys.argv[2])]
assert all(ours[k] == p[k] for p in peers for k in ("requested_blocks", "hit_blocks", "evictions")), "the two disagree"
rate = ours["requested_blocks"] / ours["wall_s"] / 1e6
peer = peers[0]["requested_blocks"] / statistics.median(p["wall_s"] for p in peers) / 1e6
print(f"{sys.argv[3]:6} kvscope {rate:7.1f} M references/s   Python {peer:5.2f} M references/s   ratio {rate / peer:5.0f}"
      f"   same hits ({ours['hit_blocks']}) and evictions ({ours['evictions']})")
PYTHON_END
    done
    rm -f "$B/bench_alloc.json" "$B/bench_peer.json"
else
    echo "left out: $requests is not there"
fi

echo "== growth: generated requests, capacity 10000, one core =="
counts="10000 100000 1000000"
[ "$SCALE" = 0 ] || counts="$counts 10000000"
for count in $counts; do
    "$PYTHON" - "$B/kvscope" "$count" <<'PYTHON_END'
import json, resource, subprocess, sys, time
started = time.time()
out = subprocess.run([sys.argv[1], "alloc", "--generate", sys.argv[2], "--sequential", "--capacity-pages", "10000",
                      "--threads", "1", "--json"], check=True, capture_output=True).stdout
wall, row = time.time() - started, json.loads(out)["results"][0]
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"{int(sys.argv[2]):>9} requests {row['requested_blocks']:>10} references  replay {row['wall_s']:8.4f} s "
      f"({row['requested_blocks'] / row['wall_s'] / 1e6:6.1f} M/s)  in all {wall:7.2f} s  peak {peak:7.0f} MiB")
PYTHON_END
done
