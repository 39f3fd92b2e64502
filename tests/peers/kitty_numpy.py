#!/usr/bin/env python3
"""A fair NumPy version of Kitty's page quantization and its attention error, the yardstick of `make bench`.

All pages of the trace are batched, arithmetic is float32 and in place, matrix products go to BLAS. It computes what
`kvscope replay --scheme kitty` computes (system variant: round half up, scale floor 1e-6, binary16 metadata), except
the top-k agreements, which NumPy is slow at; so the ratio is, if anything, unfair to kvscope.

usage: kitty_numpy.py TRACE [--boost R] [--repeat N]      prints one JSON object
"""
import argparse
import json
import time

import h5py
import numpy as np

SINK, PAGE, WINDOW = 32, 128, 128


def load(path):
    """K, V, Q of every sequence as float32, the query positions, and the scale of the logits."""
    with h5py.File(path) as f:
        scale = float(f.attrs["softmax_scale"])
        names = sorted(f["sequences"])
        return scale, [
            (*(f[f"sequences/{n}/{x}"][...].astype(np.float32) for x in "kvq"), f[f"sequences/{n}/query_pos"][...])
            for n in names
        ]


def binary16(x):
    return x.astype(np.float16).astype(np.float32)


def quantize(x, axis, levels):
    """Asymmetric codes of x along axis, dequantized: the values that a page stores."""
    low = x.min(axis, keepdims=True)
    scale = np.maximum((x.max(axis, keepdims=True) - low) / levels, np.float32(1e-6))
    y = x - low
    y /= scale
    y += np.float32(0.5)
    np.floor(y, out=y)
    np.clip(y, 0, levels, out=y)
    y *= binary16(scale)
    y += binary16(low)
    return y


def kitty_k(pages, boost_count):
    """pages [n, PAGE, D]: the boost_count channels with the largest mean magnitude get 4 bits, the others 2."""
    score = np.abs(pages).mean(1)
    top = np.argsort(-score, axis=1, kind="stable")[:, :boost_count]
    levels = np.full(score.shape, 3, np.float32)
    np.put_along_axis(levels, top, np.float32(15), 1)
    return quantize(pages, 1, levels[:, None, :])


def kitty_v(rows):
    return quantize(rows, -1, np.float32(3))


def stored_pages(x, count):
    """The whole pages [S, S + count * PAGE) of x [L, H, T, D] as [n, PAGE, D]."""
    return x[:, :, SINK : SINK + count * PAGE].reshape(-1, PAGE, x.shape[-1])


def attention(logits):
    logits -= logits.max(-1, keepdims=True)
    p = np.exp(logits)
    p /= p.sum(-1, keepdims=True)
    return p


def errors(scale, k, v, q, positions, k_hat, v_hat):
    """Mean relative L2 error of the attention output, logit MSE and KL over all (layer, query head, position)."""
    layers, kv_heads, tokens, dim = k.shape
    group = q.shape[1] // kv_heads
    queries = len(positions)
    t = np.arange(tokens)
    visible = t <= positions[:, None]
    k_end = SINK + np.maximum(0, positions - SINK) // PAGE * PAGE
    v_end = SINK + np.maximum(0, positions - SINK - WINDOW) // PAGE * PAGE
    k_stored = (t >= SINK) & (t < k_end[:, None])
    v_stored = (t >= SINK) & (t < v_end[:, None])
    rel = mse = kl = 0.0
    for layer in range(layers):
        ql = q[layer].reshape(kv_heads, group * queries, dim) * np.float32(scale)
        shape = (kv_heads, group, queries, tokens)
        full = (ql @ k[layer].transpose(0, 2, 1)).reshape(shape)
        stored = (ql @ k_hat[layer].transpose(0, 2, 1)).reshape(shape)
        stored = np.where(k_stored, stored, full)
        difference = stored - full
        difference *= visible
        mse += float((np.square(difference).sum(-1) / (positions + 1)).sum())
        full = np.where(visible, full, np.float32(-np.inf))
        stored = np.where(visible, stored, np.float32(-np.inf))
        p = attention(full)
        s = attention(stored)
        kl += float((p * np.log(np.maximum(p, 1e-30) / np.maximum(s, 1e-30))).sum())
        flat = (kv_heads, group * queries, tokens)
        out = p.reshape(flat) @ v[layer]
        out_hat = (s * v_stored).reshape(flat) @ v_hat[layer] + (s * ~v_stored).reshape(flat) @ v[layer]
        rel += float(
            (np.linalg.norm(out_hat - out, axis=-1) / np.maximum(np.linalg.norm(out, axis=-1), 1e-30)).sum()
        )
    count = layers * kv_heads * group * queries
    return np.array([rel, mse, kl]), count


def run(path, boost):
    """One whole replay, reading included: seconds of quantization, seconds of all, the three mean errors."""
    quantize_s = 0.0
    sums, count = np.zeros(3), 0
    started = time.perf_counter()
    scale, data = load(path)
    elements = 0
    for k, v, q, positions in data:
        tokens, dim = k.shape[2:]
        before = time.perf_counter()
        k_pages = (tokens - SINK) // PAGE
        v_pages = max(0, tokens - SINK - WINDOW) // PAGE
        k_hat, v_hat = k.copy(), v.copy()
        done = kitty_k(stored_pages(k, k_pages), int(dim * boost + 1e-6))
        k_hat[:, :, SINK : SINK + k_pages * PAGE] = done.reshape(*k.shape[:2], -1, dim)
        elements += done.size
        done = kitty_v(v[:, :, SINK : SINK + v_pages * PAGE])
        v_hat[:, :, SINK : SINK + v_pages * PAGE] = done
        elements += done.size
        quantize_s += time.perf_counter() - before
        part, n = errors(scale, k, v, q, positions, k_hat, v_hat)
        sums += part
        count += n
    return quantize_s, time.perf_counter() - started, sums / count, elements


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("trace")
    parser.add_argument("--boost", type=float, default=0.25)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    runs = [run(options.trace, options.boost) for _ in range(options.repeat)]
    quantize_s = sorted(r[0] for r in runs)[len(runs) // 2]
    replay_s = sorted(r[1] for r in runs)[len(runs) // 2]
    rel, mse, kl = runs[0][2]
    print(
        json.dumps(
            {
                "numpy": np.__version__,
                "quantize_s": quantize_s,
                "elements": runs[0][3],
                "replay_s": replay_s,
                "error": {"attention_output_rel_l2": rel, "logit_mse": mse, "attention_kl": kl},
            }
        )
    )


if __name__ == "__main__":
    main()
