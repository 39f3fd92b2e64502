"""An engine over a block pool in plain Python: what our scheduler and paged allocator are compared with.

usage: engine_python.py REQUESTS.jsonl KEY=VALUE...    prints one JSON object
Written from the description of vLLM v1 alone: full-precision pages, every step takes step_s seconds. Keys: blocks (with
the null block), page, budget, seqs, reserve (0, 1), watermark, order (v019, may2026), caching (0, 1), step_s.
"""
import json
import math
import sys


class Pool:
    """Blocks by number; content by (trace id, place) or (request, page)."""

    def __init__(self, blocks, order, caching):
        self.free = list(range(1, blocks))
        self.refs = [0] * blocks
        self.key = [None] * blocks
        self.holders = {}
        self.order, self.caching, self.evictions = order, caching, 0

    def find(self, keys):
        found = []
        for key in keys:
            if not self.caching or key not in self.holders:
                break
            found.append(self.holders[key][0])
        return found

    def take(self, count):
        taken = [self.free.pop(0) for _ in range(count)]
        for block in taken:
            key, self.key[block] = self.key[block], None
            if key is not None:
                self.evictions += 1
                self.holders[key].remove(block)
                if not self.holders[key]:
                    del self.holders[key]
            self.refs[block] = 1
        return taken

    def touch(self, blocks):
        for block in blocks:
            if self.refs[block] == 0:
                self.free.remove(block)
            self.refs[block] += 1

    def name(self, block, key):
        if self.caching:
            self.key[block] = key
            self.holders.setdefault(key, []).append(block)

    def give_back(self, blocks):
        for block in reversed(blocks):
            self.refs[block] -= 1
            if self.refs[block] == 0:
                if self.order == "may2026" and self.key[block] is None:
                    self.free.insert(0, block)
                else:
                    self.free.append(block)


class Sequence:
    def __init__(self, number, row, page, trace_block):
        self.number, self.page, self.trace_block = number, page, trace_block
        self.arrival = row["timestamp"] / 1000
        self.input, self.output, self.ids = row["input_length"], row["output_length"], row["hash_ids"]
        self.known, self.computed, self.made, self.lost = self.input, 0, 0, 0
        self.blocks, self.named, self.first, self.end, self.admitted = [], 0, None, None, False

    def keys(self, tokens):
        """Names of the full pages among that many tokens."""
        keys = []
        for i in range(tokens // self.page):
            end = (i + 1) * self.page
            if end <= self.input:
                keys.append((self.ids[(end - 1) // self.trace_block], (end - 1) % self.trace_block // self.page))
            else:
                keys.append(("own", self.number, i))
        return keys


def run(rows, o):
    page, pool = o["page"], Pool(o["blocks"], o["order"], o["caching"])
    sequences = [Sequence(i, row, page, 512) for i, row in enumerate(rows)]
    start = sequences[0].arrival
    coming, waiting, running = list(sequences), [], []
    total = dict(steps=0, preemptions=0, hit_tokens=0, queried_tokens=0, recomputed_tokens=0, peak_running=0)
    watermark = int(o["watermark"] * o["blocks"])
    now = 0.0

    def pages(tokens):
        return math.ceil(tokens / page)

    def grow(s, tokens):
        need = pages(tokens) - len(s.blocks)
        if need > len(pool.free):
            return False
        s.blocks += pool.take(max(0, need))
        name(s, tokens)
        return True

    def name(s, tokens):
        for i, key in enumerate(s.keys(min(tokens, s.known))):
            if i >= s.named:
                pool.name(s.blocks[i], key)
                s.named = i + 1

    while coming or waiting or running:
        while coming and coming[0].arrival - start <= now:
            waiting.append(coming.pop(0))
        budget, preempted, scheduled = o["budget"], False, []
        i = 0
        while i < len(running) and budget > 0:
            s = running[i]
            n = min(s.known - s.computed, budget)
            while s in running and not grow(s, s.computed + n):
                victim = running.pop()
                pool.give_back(victim.blocks)
                victim.blocks, victim.named, victim.lost, victim.computed = [], 0, victim.computed, 0
                waiting.insert(0, victim)
                preempted = True
                total["preemptions"] += 1
            if s not in running:
                break
            budget -= n
            s.computed += n
            scheduled.append(s)
            i += 1
        while not preempted and waiting and budget > 0 and len(running) < o["seqs"]:
            s = waiting[0]
            found = pool.find(s.keys(s.known)[:(s.known - 1) // page])
            hit = len(found) * page
            n = min(s.known - hit, budget)
            spare = len(pool.free) - sum(pool.refs[b] == 0 for b in found) - (watermark if running else 0)
            if pages(hit + n) - len(found) > spare or (o["reserve"] and pages(s.known) - len(found) > spare):
                break
            waiting.pop(0)
            pool.touch(found)
            s.blocks, s.named = found, len(found)
            assert grow(s, hit + n)
            if not s.admitted:
                total["hit_tokens"] += hit
                total["queried_tokens"] += s.known
            s.admitted = True
            total["recomputed_tokens"] += max(0, s.lost - hit)
            s.lost, s.computed = 0, hit + n
            budget -= n
            running.append(s)
            scheduled.append(s)
        total["peak_running"] = max(total["peak_running"], len(running))
        if not scheduled:
            now = coming[0].arrival - start
            continue
        now += o["step_s"]
        total["steps"] += 1
        for s in scheduled:
            if s.computed == s.known:
                s.first = now if s.first is None else s.first
                s.made, s.known = s.made + 1, s.known + 1
                if s.made >= s.output:
                    pool.give_back(s.blocks)
                    running.remove(s)
                    s.end = now
    assert len(pool.free) == o["blocks"] - 1
    total["evictions"] = pool.evictions
    total["duration_s"] = now
    total["ttft_mean_s"] = sum(s.first - (s.arrival - start) for s in sequences) / len(sequences)
    return total


def main():
    options = dict(blocks=1000, page=16, budget=8192, seqs=1024, reserve=1, watermark=0.0, order="may2026", caching=1,
                   step_s=0.1)
    for word in sys.argv[2:]:
        key, value = word.split("=")
        options[key] = type(options[key])(value)
    with open(sys.argv[1], encoding="utf-8") as file:
        print(json.dumps(run([json.loads(line) for line in file], options)))


if __name__ == "__main__":
    main()
