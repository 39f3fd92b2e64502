"""What `kvscope rank` reports for magnitude, computed from the definitions with NumPy in binary64.

usage: rank_numpy.py TRACE RANK.json PAGES QUERIES
"""
import json
import sys

import h5py
import numpy as np

SINK, PAGE = 32, 128


def changes(keys, bits):
    low, high = keys.min(0), keys.max(0)
    scale = np.maximum((high - low).astype(np.float32) / np.float32(2**bits - 1), np.float32(1e-6))
    code = np.clip(np.floor((keys - low) / scale + np.float32(0.5)), 0, 2**bits - 1)
    value = code * scale.astype(np.float16).astype(np.float32) + low.astype(np.float16).astype(np.float32)
    return (value - keys).astype(np.float64)


def softmax(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def error(q, k, v, first, change, scale):
    """|o' - o| / |o| when rows [first, first + PAGE) of the keys change."""
    changed = k.copy()
    changed[first:first + PAGE] += change
    before, after = softmax(scale * (k @ q)) @ v, softmax(scale * (changed @ q)) @ v
    return np.linalg.norm(after - before) / np.linalg.norm(before)


def ranks(x):
    return np.array([(x < y).sum() + ((x == y).sum() - 1) / 2 for y in x])


def page_scores(k, v, queries, number, scale):
    first = SINK + number * PAGE
    keys = k[first:first + PAGE].astype(np.float32)
    base, boost = changes(keys, 2), changes(keys, 4)
    dim = keys.shape[1]
    score = np.abs(keys).astype(np.float64).mean(0)
    order = sorted(range(dim), key=lambda d: (-score[d], d))
    single = np.zeros(dim)
    for position, q in queries:
        # One channel alone: its logits move by scale * q_d * change, the rest is as it was.
        seen_k, seen_v = k[:position + 1], v[:position + 1]
        before = softmax(scale * (seen_k @ q))
        output = before @ seen_v
        for d in range(dim):
            weights = before.copy()
            weights[first:first + PAGE] *= np.exp(scale * q[d] * base[:, d])
            after = weights @ seen_v / weights.sum()
            single[d] += np.linalg.norm(after - output) / np.linalg.norm(output) / len(queries)
    start = np.abs(k[SINK:SINK + PAGE].astype(np.float32)).astype(np.float64).mean(0)
    first_order = sorted(range(dim), key=lambda d: (-start[d], d))
    found = []
    for chosen, count in ((order, dim // 8), (order, dim // 4), (first_order, dim // 8), (first_order, dim // 4)):
        change = base.copy()
        change[:, chosen[:count]] = boost[:, chosen[:count]]
        found.append(np.mean([error(q, k[:p + 1], v[:p + 1], first, change, scale) for p, q in queries]))
    pairs = np.sign(score[:, None] - score) * np.sign(single[:, None] - single)
    top = sorted(range(dim), key=lambda d: (-single[d], d))[:dim // 4]
    return (np.corrcoef(ranks(score), ranks(single))[0, 1], pairs.sum() / (dim * (dim - 1)),
            len(set(order[:dim // 4]) & set(top)) / (dim // 4), *found)


def main(trace, report, pages, queries):
    rows = []
    with h5py.File(trace, 'r') as f:
        scale = float(f.attrs['softmax_scale'])
        group = int(f.attrs['num_query_heads']) // int(f.attrs['num_kv_heads'])
        for s in f['sequences'].values():
            positions = s['query_pos'][:]
            readable = (positions[-1] - SINK) // PAGE
            count = min(readable, pages)
            for layer in range(s['k'].shape[0]):
                for head in range(s['k'].shape[1]):
                    k = s['k'][layer, head].astype(np.float64)
                    v = s['v'][layer, head].astype(np.float64)
                    for p in range(count):
                        number = (2 * p + 1) * readable // (2 * count)
                        readers = [i for i in range(len(positions)) if positions[i] >= SINK + (number + 1) * PAGE]
                        n = min(len(readers), queries)
                        chosen = [readers[(i + 1) * len(readers) // n - 1] for i in range(n)]
                        judges = [(positions[i], s['q'][layer, head * group + h, i].astype(np.float64))
                                  for h in range(group) for i in chosen]
                        rows.append(page_scores(k, v, judges, number, scale))
    want = np.mean(rows, 0)
    metric = next(m for m in json.load(open(report))['metrics'] if m['metric'] == 'magnitude')
    got = [metric['spearman'], metric['kendall'], metric['top_k_overlap'], metric['error']['0.125'],
           metric['error']['0.25'], metric['static_error']['0.125'], metric['static_error']['0.25']]
    for name, a, b in zip(('spearman', 'kendall', 'overlap', 'error 0.125', 'error 0.25', 'static 0.125',
                           'static 0.25'), got, want):
        if not abs(a - b) <= 2e-4 * abs(b):
            sys.exit(f'{name}: kvscope {a}, NumPy {b}')


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
