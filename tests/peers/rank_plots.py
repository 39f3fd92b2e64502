"""Do the plots of a ranking study draw what its file holds? Every number of their .csv, from by_page with NumPy.

usage: rank_plots.py RANKING.h5 FOLDER METRIC
"""
import csv
import sys

import h5py
import numpy as np


def rows_of(folder, kind):
    with open(f'{folder}/{kind}.csv', newline='') as f:
        return list(csv.DictReader(f))


def same(what, got, want):
    if not (abs(float(got) - want) <= 1e-7 * abs(want) or (np.isnan(want) and np.isnan(float(got)))):
        sys.exit(f'{what}: drawn {got}, the pages say {want}')


def main(path, folder, metric):
    with h5py.File(path, 'r') as f:
        names = [n.decode() for n in f['metrics/name'][:]]
        errors, agreement = f['by_page/error'][:], f['by_page/agreement'][:]
        ranks, single = f['by_page/rank'][:], f['by_page/sensitivity'][:].astype(float)
        pages = {name: column[:] for name, column in f['pages'].items()}
        ratios = list(f['ratios/ratio'][:])
        boosts = int(f['ratios/boost_count'][ratios.index(0.25)])
        heads, layers = int(f.attrs['num_kv_heads']), int(f.attrs['num_layers'])
    own = pages['layer'] * heads + pages['head']

    drawn = rows_of(folder, 'correlation')
    assert sorted(row['metric'] for row in drawn) == sorted(names[:-2])
    order = [float(row['spearman']) for row in drawn]
    assert order == sorted(order, reverse=True)
    chance, greedy = (errors[names.index(n), 0, 0, :, :].mean(0) for n in ('chance', 'greedy'))
    for row in drawn:
        m = names.index(row['metric'])
        for column, number in (('spearman', 0), ('kendall', 1), ('top_k_overlap', 2)):
            same(column, row[column], agreement[m, :, number].mean())
        by_head = [agreement[m, own == h, 0].mean() for h in range(layers * heads)]
        same('lowest head', row['spearman_lowest_head'], min(by_head))
        same('highest head', row['spearman_highest_head'], max(by_head))
        for ratio in 0.125, 0.25:
            r = ratios.index(ratio)
            gap = (chance[r] - errors[m, 0, 0, :, r].mean()) / (chance[r] - greedy[r])
            same('gap', row[f'gap_{ratio}'], gap)
            assert float(row[f'ci95_low_{ratio}']) < gap < float(row[f'ci95_high_{ratio}'])

    drawn = rows_of(folder, 'boost')
    assert len(drawn) == len(names) * (1 + len(ratios))
    for row in drawn:
        m, ratio = names.index(row['metric']), float(row['ratio'])
        budget = 0 if row['metric'] == 'chance' else 2  # drawn with --set budget=model
        want = pages['error_none'].mean() if ratio == 0 else errors[m, 0, budget, :, ratios.index(ratio)].mean()
        same(f'boost {row}', row['error'], want)

    drawn = rows_of(folder, 'stability')
    place = np.argsort(np.argsort(-single, axis=1, kind='stable'), axis=1)
    unit = pages['sequence'] * layers * heads + own
    for row in drawn:
        chosen = place < boosts
        if row['metric'] in names:
            rank = ranks[names.index(row['metric'])]
            chosen = (rank >= 0) & (rank < boosts)
        first, previous = [], []
        for p in np.flatnonzero(pages['page'] == int(row['page'])):
            others = np.flatnonzero(unit == unit[p])
            if p > others[0]:
                first.append((chosen[p] & chosen[others[0]]).sum() / boosts)
                previous.append((chosen[p] & chosen[p - 1]).sum() / boosts)
        same('with first', row['with_first'], np.mean(first))
        same('with previous', row['with_previous'], np.mean(previous))
    assert {row['metric'] for row in drawn} == set(names) - {'chance'} | {'single-channel oracle'}

    drawn = rows_of(folder, 'sensitivity')
    assert len(drawn) == layers * heads * single.shape[1]
    for row in drawn:
        d, inside = int(row['channel']), (pages['layer'] == int(row['layer'])) & (pages['head'] == int(row['head']))
        same('sensitivity', row['sensitivity'], single[inside, d].mean())
        for column, name in (('boosted_by_greedy', 'greedy'), ('boosted_by_metric', metric)):
            rank = ranks[names.index(name)][inside, d]
            same(column, row[column], ((rank >= 0) & (rank < boosts)).mean())


if __name__ == '__main__':
    main(*sys.argv[1:4])
