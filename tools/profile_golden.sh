#!/bin/sh
# profile_golden.sh FOLDER: measures, on this machine's GPU, what tests/golden/test_profile.c holds the transaction model
# against, into FOLDER/profile-*.json. On an H200: make && tools/profile_golden.sh tests/golden
# Needs: build/kvscope of a build with CUDA (or KVSCOPE=...), CUPTI, python3. About a minute. Differences are reported and
# kept: exit status 1.
KVSCOPE=${KVSCOPE:-build/kvscope} SAMPLE=${SAMPLE:-traces/sample/qwen3-7m.h5} folder=${1:?the folder to write to}
status=0

# measure NAME OPTIONS...: what can be made again is left out: source lines, metrics that are made of counters
measure() {
    name=$1 && shift
    "$KVSCOPE" profile "$@" -o "$folder/$name.json" >"$folder/$name.txt"
    code=$?
    [ $code -le 1 ] || exit $code
    [ $code = 0 ] || status=1
    python3 - "$folder/$name.json" <<'PYTHON' || exit 3
import json, os, sys
made = ("duration", "dram_written_bytes", "bandwidth", "fraction_of_copy",
        *(f"{kind}_{what}" for kind in ("load", "copy", "store") for what in ("sectors_per_request", "bytes_per_sector")))
with open(sys.argv[1]) as file:
    profile = json.load(file)
# Where it was written says nothing about what was measured.
profile["command_line"] = profile["command_line"].replace(sys.argv[1], os.path.basename(sys.argv[1]))
for launch in profile["launches"]:
    launch["lines"] = []
    launch["metrics"] = [m for m in launch["metrics"] if m["measured"] is not None and m["metric"] not in made]
launches = profile.pop("launches")
with open(sys.argv[1], "w") as file:
    text = json.dumps(profile, indent=1)[:-2]
    rows = ",\n".join(json.dumps(launch).replace('{"metric"', '\n  {"metric"') for launch in launches)
    file.write(text + ',\n "launches": [\n' + rows + "\n]}\n")
PYTHON
}

measure profile-h200-d128 --pages 2
measure profile-h200-d64 --pages 2 --head-dim 64 --page-tokens 64
measure profile-h200-qwen3 "$SAMPLE"
measure profile-h200-large --pages 64 --sample-blocks 32
exit $status
