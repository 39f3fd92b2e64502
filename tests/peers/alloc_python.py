"""The sequential replay of a Mooncake trace in plain Python: what our allocator's speed and hit rates are compared with.

usage: alloc_python.py REQUESTS.jsonl CAPACITY_PAGES count|drop    prints one JSON object
Semantics: tests/oracle and sim/pool.h; the free queue is an OrderedDict, the cache a dict of keys to lists of blocks.
"""
import json
import sys
import time
from collections import OrderedDict

PAGE = 512


def load(path):
    """[(tokens, ids)] of every request."""
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [(row["input_length"], row["hash_ids"]) for row in rows]


def replay(requests, capacity, drop):
    """Returns requested blocks, hit blocks, evictions."""
    free = OrderedDict((block, None) for block in range(1, capacity + 1))
    refs = [0] * (capacity + 1)
    key_of = [None] * (capacity + 1)
    blocks_of = {}
    requested = hits = evictions = 0
    for tokens, ids in requests:
        requested += len(ids)
        full = tokens // PAGE if drop else len(ids)
        most = (tokens - 1) // PAGE if drop else len(ids)
        held = []
        for key in ids[:most]:
            holders = blocks_of.get(key)
            if not holders:
                break
            held.append(holders[0])
        hits += len(held)
        for block in held:
            if refs[block] == 0:
                del free[block]
            refs[block] += 1
        for index in range(len(held), len(ids)):
            block, _ = free.popitem(last=False)
            old = key_of[block]
            if old is not None:
                blocks_of[old].remove(block)
                if not blocks_of[old]:
                    del blocks_of[old]
                key_of[block] = None
                evictions += 1
            refs[block] = 1
            held.append(block)
            if index < full:
                key_of[block] = ids[index]
                blocks_of.setdefault(ids[index], []).append(block)
        for block in reversed(held):
            refs[block] -= 1
            if refs[block] == 0:
                free[block] = None
                if key_of[block] is None:
                    free.move_to_end(block, last=False)
    return requested, hits, evictions


def main():
    requests, capacity, rule = load(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    started = time.perf_counter()
    requested, hits, evictions = replay(requests, capacity, rule == "drop")
    wall = time.perf_counter() - started
    print(json.dumps({"requested_blocks": requested, "hit_blocks": hits, "evictions": evictions, "wall_s": wall}))


if __name__ == "__main__":
    main()
