#!/usr/bin/env python3
"""Whether two traces of the same tokens replay alike: memory equal, mean errors within 0.2 %.

usage: replays_alike.py KVSCOPE TRACE TRACE    prints the largest difference of a mean; exits with 1 if it is larger
The recorders round at different places, so that a few binary16 values differ in their last place (trace_numpy.py).
"""
import json
import subprocess
import sys

TOLERANCE = 2e-3
MEASURES = ("attention_output_rel_l2", "logit_mse", "attention_kl")
SCHEMES = ("int:bits=4", "int:bits=2", "kivi:bits=2", "kitty:boost=0.25", "kitty:boost=0")


def replay(trace):
    command = [sys.argv[1], "replay", trace, "--json", "--from-position", "256"]
    command += [part for scheme in SCHEMES for part in ("--scheme", scheme)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["results"]


largest = 0
for one, other in zip(replay(sys.argv[2]), replay(sys.argv[3]), strict=True):
    if one["scheme"] != other["scheme"] or one["bits"] != other["bits"] or not one["error"]["logit_mse"]["mean"] > 0:
        sys.exit(f"{one['scheme']}: {one['bits']} and {other['bits']}")
    for measure in MEASURES:
        a, b = one["error"][measure]["mean"], other["error"][measure]["mean"]
        largest = max(largest, abs(a - b) / max(a, b))
print(f"means differ by {largest:.2g} at most")
sys.exit(not largest <= TOLERANCE)
