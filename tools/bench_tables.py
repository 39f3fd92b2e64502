"""Prints the tables of kernels/PERFORMANCE.md from a measured benchmark, and says which bars it misses: exit status 1.
usage: bench_tables.py BENCH.json   (kvscope bench --backend cuda --peer sdpa.json --json)"""
import json
import sys

PACKED = ("fragment", "kitty", "kitty-inline", "permuted", "mixed-scattered")
FULL = ("fp16-hnd", "fp16-nhd")
PAGES = ("quantize_pack_k", "quantize_pack_v", "dequantize k", "dequantize v")


class Bench:
    def __init__(self, path):
        with open(path) as file:
            self.rows = json.load(file)["results"]
        copy = next(r for r in self.rows if r["kernel"] == "copy")
        self.rate = copy["bytes"] / copy["seconds"]

    def points(self):
        return sorted({(r["batch"], r["tokens"]) for r in self.rows if r["batch"]}, key=lambda p: (p[1], p[0]))

    def attention(self, layout, point):
        return next(r for r in self.rows if r["layout"] == layout and (r["batch"], r["tokens"]) == point)

    def pages(self, kernel, layout):
        return next(r for r in self.rows if r["kernel"] == kernel and r["layout"] == layout)

    def floor(self, row):
        return row["bytes"] / self.rate

    def rate_of(self, row):
        """The fraction of copy bandwidth."""
        return self.floor(row) / row["seconds"]

    def peer(self, point):
        row = self.attention("fp16-hnd", point)
        return row["seconds"] * row["speedup_vs_peer"]

    def fastest(self, point):
        """The faster of our full precision and the peer's; the most that it may be, given how it spread."""
        ours = min((self.attention(layout, point) for layout in FULL), key=lambda row: row["seconds"])
        if self.peer(point) < ours["seconds"]:
            return self.peer(point), self.peer(point)
        return ours["seconds"], ours["seconds"] + self.spread(ours)

    def spread(self, row):
        """How far a median may be off: half of what lies between the tenth and the ninetieth percentile."""
        return (row["seconds_p90"] - row["seconds_p10"]) / 2


def us(seconds):
    return f"{seconds * 1e6:.1f}"


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("|" + "---:|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def print_tables(b):
    times, ratios = [], []
    for point in b.points():
        fragment, name = b.attention("fragment", point), [str(n) for n in point]
        times.append(name + [us(b.attention(l, point)["seconds"]) for l in FULL] + [us(b.peer(point))] +
                     [us(b.attention(l, point)["seconds"]) for l in PACKED] +
                     [us(b.floor(fragment)), f"{fragment['seconds'] / b.floor(fragment):.2f}"])
        full = b.attention("fp16-hnd", point)
        ratios.append(name + [f"{full['seconds'] / b.attention(l, point)['seconds']:.2f}, "
                              f"{b.peer(point) / b.attention(l, point)['seconds']:.2f}" for l in PACKED] +
                      [f"{100 * b.rate_of(full):.0f} %", f"{full['bytes'] / fragment['bytes']:.2f}"])
    table(["batch", "tokens", *FULL, "PyTorch", *PACKED, "floor (fragment)", "fragment over it"], times)
    table(["batch", "tokens", *PACKED, "fp16-hnd of copy", "ceiling"], ratios)
    table(["kernel", *PACKED], [[kernel] + [f"{us(r['seconds'])} us, {100 * b.rate_of(r):.0f} %"
                                            for r in (b.pages(kernel, l) for l in PACKED)] for kernel in PAGES])


def missed_bars(b):
    large, best = (32, 32768), b.attention("fragment", (32, 32768))
    if best["seconds"] > 2.0 * b.floor(best):
        yield f"fragment takes {best['seconds'] / b.floor(best):.2f} times its floor at batch 32, 32768 tokens; 2.0 are allowed"
    if b.fastest(large)[0] < 3.0 * best["seconds"]:
        yield f"fragment is {b.fastest(large)[0] / best['seconds']:.2f} times faster at batch 32, 32768 tokens; 3 are asked"
    if b.rate_of(b.attention("fp16-hnd", large)) < 0.8:
        yield "full precision is below 80 % of copy bandwidth at batch 32, 32768 tokens"
    for layout in PACKED:
        for point in b.points():
            row, (full, most) = b.attention(layout, point), b.fastest(point)
            if row["seconds"] - b.spread(row) > most:
                yield (f"{layout} at batch {point[0]}, {point[1]} tokens: {us(row['seconds'])} us, "
                       f"full precision {us(full)} us")
    for kernel in PAGES[:2]:
        for layout in PACKED:
            share = b.rate_of(b.pages(kernel, layout))
            if share < 0.8:
                yield f"{kernel}, {layout}: {100 * share:.1f} % of copy bandwidth; 80 % are asked"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    bench = Bench(sys.argv[1])
    print_tables(bench)
    missed = list(missed_bars(bench))
    print("\n".join("missed: " + line for line in missed) or "every bar is met")
    sys.exit(1 if missed else 0)


main()
