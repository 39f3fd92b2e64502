"""The tcq scheme in NumPy, from the words of kernels/schemes/tcq.c and kernels/trellis.h, with levels of its own.

usage: tcq_numpy.py KVSCOPE TRACE [feedback]

With feedback, tcq:coding=lloyd-max,max_bits=6,weigh=feedback: keys with error feedback by the queries' second moments
(kernels/error_feedback.h), and levels one by one, as NumPy searches no trellis channel after channel in a test's time.

Levels are trained on a sample by chance, so codes differ from the program's; the relative errors of K and V, and of the
attention output, must agree. The tolerance is what another draw of the levels changes."""
import json
import subprocess
import sys

import h5py
import numpy as np

STATES, STATE_BITS, SINK, PAGE, WINDOW = 256, 8, 32, 128, 128


def path(x, bits, levels, start=None, end=None):
    """States of the best path for each row of x [rows, n]; start, end: [rows] or None."""
    rows, n = x.shape
    kept, branches = STATES >> bits, 1 << bits
    cost = np.zeros((rows, STATES), np.float32)
    if start is not None:
        cost[:] = np.inf
        cost[np.arange(rows), start] = 0
    came = np.empty((n, rows, kept), np.uint8)
    for i in range(n):
        before = cost.reshape(rows, branches, kept)
        came[i] = before.argmin(1)
        best = before.min(1)
        cost = (best[:, :, None] + (x[:, i, None] - levels).reshape(rows, kept, branches) ** 2).reshape(rows, STATES)
    state = cost.argmin(1) if end is None else end
    states = np.empty((rows, n), int)
    for i in reversed(range(n)):
        states[:, i] = state
        state = (came[i][np.arange(rows), state >> bits].astype(int) << (STATE_BITS - bits)) | state >> bits
    return states


def train(bits, rng):
    kept, branches = STATES >> bits, 1 << bits
    sample = rng.standard_normal((160, PAGE)).astype(np.float32)
    spread = np.sort(rng.standard_normal(STATES * 400)).reshape(STATES, 400).mean(1)
    spread *= 3 ** (0.5 - (STATE_BITS - bits) / 12)
    levels = np.concatenate([spread[rng.permutation(branches) * kept + shift] for shift in rng.permutation(kept)])
    for _ in range(10):
        states = path(sample, bits, levels).ravel()
        count = np.bincount(states, minlength=STATES)
        levels = np.where(count, np.bincount(states, sample.ravel(), STATES) / np.maximum(count, 1), levels)
    return levels, ((levels[states] - sample.ravel()) ** 2).mean()


def coded(x, bits, levels):
    turned = np.roll(x, -PAGE // 2, axis=1)
    seam = path(turned, bits, levels)[:, PAGE // 2 - 1]
    return levels[path(x, bits, levels, seam, seam)]


def lloyd_max(bits, rng):
    sample = np.sort(rng.standard_normal(200000))
    levels = sample[(np.arange(1 << bits) * 2 + 1) * len(sample) >> (bits + 1)]
    for _ in range(300):
        at = np.searchsorted(sample, (levels[1:] + levels[:-1]) / 2)
        levels = np.array([part.mean() for part in np.split(sample, at)])
    return levels, ((nearest(sample, bits, levels) - sample) ** 2).mean()


def nearest(x, _, levels):
    return levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, x)]


def factors(q, positions, count, heads):
    """L and D of each page [heads * count] of the moments of those queries that are past when it is stored, with the
    diagonal doubled, of M = L D L'."""
    for h in range(heads):
        group = q[h * len(q) // heads:(h + 1) * len(q) // heads]
        for page in range(count):
            end = SINK + (page + 1) * PAGE
            past = group[:, (positions < end) & (positions >= end - 512)].reshape(-1, q.shape[2])
            moments = past.T @ past / len(past)
            lower = np.linalg.cholesky(moments + np.diag(np.diag(moments)))
            yield lower / np.diag(lower), np.diag(lower) ** 2


def fed_back(rest, widths, lower, books):
    """rest [pages, dim, tokens] as stored, from the last channel to the first."""
    back, error = np.zeros_like(rest), np.zeros_like(rest)
    for d in reversed(range(rest.shape[1])):
        target = rest[:, d] - np.einsum("pj,pjt->pt", lower[:, d + 1:, d], error[:, d + 1:])
        back[:, d] = scaled(target[:, None], widths[:, d:d + 1], (target ** 2).mean(1)[:, None], books, nearest)[:, 0]
        error[:, d] = back[:, d] - rest[:, d]
    return back


def scaled(rest, widths, variances, books, code):
    """rest [pages, channels, tokens] by the codebooks of their widths, at the scale of least squared error."""
    values = np.zeros_like(rest)
    for bits in range(1, len(books) + 1):
        at = widths == bits
        if at.any():
            values[at] = code((rest[at] / np.sqrt(variances[at])[:, None]).astype(np.float32), bits, books[bits - 1][0])
    scale = (rest * values).sum(2) / np.maximum((values ** 2).sum(2), 1e-30)
    scale = np.where(scale > 0, 2 ** (np.clip(np.rint(8 * np.log2(np.maximum(scale, 1e-30))), -119, 135) / 8), 0)
    return scale[:, :, None] * values


def allocate(variances, distortion, planes, most):
    gains = np.array([[v * (distortion[b] - distortion[b + 1]) for b in range(most)] for v in variances])
    order = np.argsort(-gains.ravel(), kind="stable")[:planes]
    return np.bincount(order // most, minlength=len(variances))


def stored(x, planes, books, code, weights=1, lower=None):
    """x [heads, tokens, dim] of one tensor; every whole page of it as stored."""
    heads, tokens, dim = x.shape
    count = (tokens - SINK) // PAGE
    rows = x[:, SINK:SINK + count * PAGE].reshape(heads * count, PAGE, dim).transpose(0, 2, 1).astype(np.float64)
    means = rows.mean(2)
    step = np.float16(abs(means).max(1, keepdims=True) / 127).astype(np.float64)
    means = np.clip(np.rint(means / step), -127, 127) * step
    rest = rows - means[:, :, None]
    variances = (rest ** 2).mean(2)
    widths = np.array([allocate(v, [1.0] + [b[1] for b in books], planes, len(books)) for v in variances * weights])
    if lower is None:
        turned_back = scaled(rest, widths, variances, books, code)
    else:
        turned_back = fed_back(rest, widths, lower, books)
    back = (means[:, :, None] + turned_back).transpose(0, 2, 1).reshape(heads, count * PAGE, dim)
    result = x.astype(np.float64).copy()
    result[:, SINK:SINK + count * PAGE] = back
    return result


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def output_errors(q, positions, k, v, k_hat, v_hat, scale):
    for query_head in range(q.shape[0]):
        h = query_head * k.shape[0] // q.shape[0]
        for i, p in enumerate(positions):
            k_end, v_end = (SINK + max(0, p - SINK - w) // PAGE * PAGE for w in (0, WINDOW))
            keys, values = k[h, :p + 1].copy(), v[h, :p + 1].copy()
            full = softmax(keys @ q[query_head, i] * scale) @ values
            keys[SINK:k_end], values[SINK:v_end] = k_hat[h, SINK:k_end], v_hat[h, SINK:v_end]
            changed = softmax(keys @ q[query_head, i] * scale) @ values
            yield np.linalg.norm(changed - full) / np.linalg.norm(full)


def main():
    program, trace = sys.argv[1:3]
    feedback = sys.argv[3:] == ["feedback"]
    spec, code, make, most = ("tcq", coded, train, 4)
    if feedback:
        spec, code, make, most = ("tcq:coding=lloyd-max,max_bits=6,weigh=feedback", nearest, lloyd_max, 6)
    answer = json.loads(subprocess.check_output([program, "replay", trace, "--scheme", spec, "--json", "--quiet"]))
    measured = answer["results"][0]["error"]
    books = [make(bits, np.random.default_rng(bits)) for bits in range(1, most + 1)]
    sums, outputs = {"k": [0, 0], "v": [0, 0]}, []
    with h5py.File(trace) as f:
        for sequence in f["sequences"].values():
            for layer in range(f.attrs["num_layers"]):
                k, v, q = (sequence[n][layer].astype(np.float64) for n in "kvq")
                count = (k.shape[1] - SINK) // PAGE
                how = {}
                if feedback:
                    lower, weights = zip(*factors(q, sequence["query_pos"][:], count, len(k)))
                    how = {"lower": np.array(lower), "weights": np.array(weights)}
                k_hat, v_hat = stored(k, 352, books, code, **how), stored(v, 256, books, code)
                end = SINK + count * PAGE
                v_end = SINK + max(0, v.shape[1] - SINK - WINDOW) // PAGE * PAGE
                for name, x, y, last in (("k", k, k_hat, end), ("v", v, v_hat, v_end)):
                    sums[name][0] += ((y - x)[:, SINK:last] ** 2).sum()
                    sums[name][1] += (x[:, SINK:last] ** 2).sum()
                outputs += output_errors(q, sequence["query_pos"][:], k, v, k_hat, v_hat, f.attrs["softmax_scale"])
    ours = {"key_rel_l2": np.sqrt(sums["k"][0] / sums["k"][1]), "value_rel_l2": np.sqrt(sums["v"][0] / sums["v"][1]),
            "output": np.mean(outputs)}
    theirs = {"key_rel_l2": measured["key_rel_l2"], "value_rel_l2": measured["value_rel_l2"],
              "output": measured["attention_output_rel_l2"]["mean"]}
    for name, tolerance in (("key_rel_l2", 0.02), ("value_rel_l2", 0.02), ("output", 0.06)):
        print(f"{name}: {theirs[name]:.5f}, NumPy {ours[name]:.5f}")
        assert abs(theirs[name] / ours[name] - 1) < tolerance, name


main()
