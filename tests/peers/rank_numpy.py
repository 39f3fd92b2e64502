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


class Page:
    """One judged page: what its head holds, and which queries judge it."""

    def __init__(self, where, k, v, judges, number, scale):
        self.where, self.k, self.v, self.judges, self.scale = where, k, v, judges, scale
        self.first = SINK + number * PAGE
        keys = k[self.first:self.first + PAGE].astype(np.float32)
        self.base, self.boost = changes(keys, 2), changes(keys, 4)
        self.score = np.abs(keys).astype(np.float64).mean(0)
        self.start = np.abs(k[SINK:SINK + PAGE].astype(np.float32)).astype(np.float64).mean(0)

    def single(self):
        """The error of each channel alone at the base bits: its logits move by scale * q_d * change, no others."""
        dim = self.k.shape[1]
        found = np.zeros(dim)
        for position, q in self.judges:
            seen_k, seen_v = self.k[:position + 1], self.v[:position + 1]
            before = softmax(self.scale * (seen_k @ q))
            output = before @ seen_v
            for d in range(dim):
                weights = before.copy()
                weights[self.first:self.first + PAGE] *= np.exp(self.scale * q[d] * self.base[:, d])
                after = weights @ seen_v / weights.sum()
                found[d] += np.linalg.norm(after - output) / np.linalg.norm(output) / len(self.judges)
        return found

    def error(self, boosted):
        change = self.base.copy()
        change[:, boosted] = self.boost[:, boosted]
        return np.mean([error(q, self.k[:p + 1], self.v[:p + 1], self.first, change, self.scale)
                        for p, q in self.judges])


def descending(score):
    return sorted(range(len(score)), key=lambda d: (-score[d], d))


def agreement(page):
    score, single, dim = page.score, page.single(), page.k.shape[1]
    pairs = np.sign(score[:, None] - score) * np.sign(single[:, None] - single)
    shared = set(descending(score)[:dim // 4]) & set(descending(single)[:dim // 4])
    return np.corrcoef(ranks(score), ranks(single))[0, 1], pairs.sum() / (dim * (dim - 1)), len(shared) / (dim // 4)


def pooled_error(pages, part, which, budget):
    """The mean error when the heads that share `budget` boost the highest of all their scores."""
    errors, dim = [], pages[0].k.shape[1]
    pools = {}
    for page in pages:
        sequence, number, layer, head = page.where
        key = {'head': (layer, head), 'layer': (layer,), 'model': ()}[budget]
        pools.setdefault((sequence, number) + key, []).append(page)
    for pool in pools.values():
        scores = [(-getattr(page, which)[d], i, d) for i, page in enumerate(pool) for d in range(dim)]
        taken = sorted(scores)[:len(pool) * int(dim * part)]
        errors += [page.error([d for _, i, d in taken if i == own]) for own, page in enumerate(pool)]
    return np.mean(errors)


def read_pages(trace, pages, queries):
    found = []
    with h5py.File(trace, 'r') as f:
        scale = float(f.attrs['softmax_scale'])
        group = int(f.attrs['num_query_heads']) // int(f.attrs['num_kv_heads'])
        for sequence, s in enumerate(f['sequences'].values()):
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
                        found.append(Page((sequence, number, layer, head), k, v, judges, number, scale))
    return found


def main(trace, report, pages, queries):
    judged = read_pages(trace, pages, queries)
    metric = next(m for m in json.load(open(report))['metrics'] if m['metric'] == 'magnitude')
    pairs = list(zip(('spearman', 'kendall', 'top_k_overlap'), np.mean([agreement(page) for page in judged], 0)))
    pairs = [(name, metric[name], want) for name, want in pairs]
    for budget, own in (('head', metric), ('layer', metric['budgets']['layer']), ('model', metric['budgets']['model'])):
        for part in 0.125, 0.25:
            for name, which in (('error', 'score'), ('static_error', 'start')):
                pairs.append((f'{name} {part} {budget}', own[name][str(part)],
                              pooled_error(judged, part, which, budget)))
    for name, got, want in pairs:
        if not abs(got - want) <= 2e-4 * abs(want):
            sys.exit(f'{name}: kvscope {got}, NumPy {want}')


if __name__ == '__main__':
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
