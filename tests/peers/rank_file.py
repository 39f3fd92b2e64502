"""What a results file of `kvscope rank -o` sums up, computed from its pages: means, gaps, intervals, stability; and the
channels that magnitude chose, from the trace.

usage: rank_file.py TRACE RANKING.h5 RANK.json
"""
import json
import math
import sys

import h5py
import numpy as np

MASK = (1 << 64) - 1


def mix(state):
    state = (state + 0x9e3779b97f4a7c15) & MASK
    state = ((state ^ state >> 30) * 0xbf58476d1ce4e5b9) & MASK
    state = ((state ^ state >> 27) * 0x94d049bb133111eb) & MASK
    return state ^ state >> 31


def key(key_so_far, part):
    return mix(key_so_far ^ mix(part))


def draw(sequences, seed, number):
    """Weights of pages whose sequences are given: sequences drawn, pages with exponential weights."""
    names = sorted(set(sequences))
    own, counter, weights = key(seed, number), 0, np.zeros(len(sequences))
    for _ in names:
        sequence = names[key(own, counter) % len(names)]
        counter += 1
        of = [p for p, s in enumerate(sequences) if s == sequence]
        for p in of:
            weights[p] += -math.log(1 - (key(own, counter) >> 40) / 2**24) / len(of)
            counter += 1
    return weights


def same(name, got, want, tolerance=1e-9):
    got, want = np.asarray(got, float), np.asarray(want, float)
    bad = ~((np.abs(got - want) <= tolerance * np.abs(want)) | (np.isnan(got) & np.isnan(want)))
    if bad.any() or not np.isfinite(want).any():
        sys.exit(f'{name}: the file has {got[bad][:3]}, its pages say {want[bad][:3]}')


def check_intervals(f, errors, sequences, names):
    gaps = {}
    seed = int(f.attrs['seed'])
    chance, greedy = names.index('chance'), names.index('greedy')
    metric = names.index('magnitude')
    for number in range(1000):
        weights = draw(sequences, seed, number)
        for budget in range(3):
            e = [weights @ errors[m, 0, b, :, -1] for m, b in ((chance, 0), (metric, budget), (greedy, 0))]
            gaps.setdefault(budget, []).append((e[0] - e[1]) / (e[0] - e[2]))
    table = f['errors']
    for budget, values in gaps.items():
        row = np.flatnonzero((table['layer'][:] == -1) & (table['metric'][:] == metric) &
                             (table['budget'][:] == budget) & (table['selection'][:] == 0))[-1]
        values.sort()
        same('ci95', [table['ci95_low'][row], table['ci95_high'][row]], [values[25], values[974]])


def check_means(f, errors, pages):
    table = {name: column[:] for name, column in f['errors'].items()}
    ratios = list(f['ratios/ratio'][:])
    agreement = f['by_page/agreement'][:]
    names = [n.decode() for n in f['metrics/name'][:]]
    want, gaps = [], []
    for i in range(len(table['layer'])):
        layer, head, ratio = table['layer'][i], table['head'][i], ratios.index(table['ratio'][i])
        inside = ((layer < 0) | (pages['layer'] == layer)) & ((head < 0) | (pages['head'] == head))
        chance, greedy = (errors[names.index(n), 0, 0, inside, ratio].mean() for n in ('chance', 'greedy'))
        own = errors[table['metric'][i], table['selection'][i], table['budget'][i], inside, ratio].mean()
        want.append(own)
        gaps.append((chance - own) / (chance - greedy))
    same('errors/error', table['error'], want)
    same('errors/gap_closed', table['gap_closed'], gaps, 1e-6)
    scores = {name: column[:] for name, column in f['scores'].items()}
    for column, number in (('spearman', 0), ('kendall', 1), ('top_k_overlap', 2)):
        want = []
        for layer, head, metric in zip(scores['layer'], scores['head'], scores['metric']):
            inside = ((layer < 0) | (pages['layer'] == layer)) & ((head < 0) | (pages['head'] == head))
            want.append(agreement[metric, inside, number].mean())
        same('scores/' + column, scores[column], want)


def check_choices(f, trace, pages, names):
    """Ranks of magnitude from the trace's keys, and how many of the top quarter stay from page to page."""
    metric, dim = names.index('magnitude'), int(f.attrs['head_dim'])
    ranks = f['by_page/rank'][metric]
    sink, tokens = int(f.attrs['sink']), int(f.attrs['page_tokens'])
    shared, last = [], None
    with h5py.File(trace, 'r') as t:
        sequences = list(t['sequences'].values())
        for p in range(len(ranks)):
            where = tuple(int(pages[name][p]) for name in ('sequence', 'layer', 'head'))
            first = sink + int(pages['page'][p]) * tokens
            keys = sequences[where[0]]['k'][where[1], where[2], first:first + tokens].astype(np.float32)
            score = np.abs(keys).astype(np.float64).mean(0)
            order = np.lexsort((np.arange(dim), -score))
            if sum(order[ranks[p]] != np.arange(dim)) > 4:  # neighbours that binary32 sums may swap
                sys.exit(f'page {p}: ranks {ranks[p]}, NumPy {np.argsort(order)}')
            top = set(np.flatnonzero(ranks[p] < dim // 4))
            if last is not None and last[0] == where:
                shared.append(len(top & last[1]) / (dim // 4))
            last = where, top
    same('overlap_previous', f['scores/overlap_previous'][metric], np.mean(shared))
    if not 0.2 < np.mean(shared) < 1:
        sys.exit('stability says nothing')


def check_json(f, report, names):
    for name in 'spearman', 'kendall', 'top_k_overlap':
        same(name, f['scores/' + name][:len(names) - 2], [m[name] for m in report['metrics']], 0)
    table = f['errors']
    for budget, own in enumerate(('head', 'layer', 'model')):
        rows = (table['layer'][:] == -1) & (table['budget'][:] == budget) & (table['selection'][:] == 0)
        rows &= table['metric'][:] < len(names) - 2
        said = [m if own == 'head' else m['budgets'][own] for m in report['metrics']]
        same('JSON ' + own, table['error'][:][rows], [e for m in said for e in m['error'].values()], 0)


def main(trace, results, report):
    with h5py.File(results, 'r') as f:
        assert f.attrs['format'] == 'kvscope-ranking' and list(f.attrs['format_version']) == [1, 0]
        pages = {name: column[:] for name, column in f['pages'].items()}
        names = [n.decode() for n in f['metrics/name'][:]]
        errors = f['by_page/error'][:]
        check_means(f, errors, pages)
        check_intervals(f, errors, list(pages['sequence']), names)
        check_choices(f, trace, pages, names)
        check_json(f, json.load(open(report)), names)
        single, greedy = f['by_page/sensitivity'][:], f['by_page/rank'][len(names) - 1]
        assert np.isfinite(single).all() and (single >= 0).all() and (np.sort(greedy, 1)[:, -1] >= 31).all()


if __name__ == '__main__':
    main(*sys.argv[1:4])
