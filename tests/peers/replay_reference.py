#!/usr/bin/env python3
"""What a replay computes, written a second time: query by query, float64, straight from the definitions.

Reads a trace and the document that `kvscope replay TRACE --scheme ... --json` printed, computes every error of every
scheme again (kitty's system variant, int, fp16) and compares within a relative tolerance.

usage: replay_reference.py TRACE JSON [--from-position N] [--prompt-exact] [--tolerance 1e-4]   exit 1 on a difference
"""
import argparse
import json
import sys

import h5py
import numpy as np


def binary16(x):
    return x.astype(np.float16).astype(np.float32)


def affine(x, axis, levels, kind):
    """Quantized and dequantized in float32, metadata in binary16."""
    low = x.min(axis, keepdims=True)
    levels = np.asarray(levels, np.float32)
    scale = (x.max(axis, keepdims=True) - low) / levels
    if kind == "kitty":  # half up, the working scale, floor 1e-6
        scale = np.maximum(scale, np.float32(1e-6))
        codes = np.clip(np.floor((x - low) / scale + np.float32(0.5)), 0, levels)
    else:  # half to even, the stored scale, no floor
        stored = binary16(scale)
        steps = np.where(stored > 0, (x - low) / np.where(stored > 0, stored, 1), 0).astype(np.float32)
        codes = np.clip(np.rint(steps), 0, levels)
    return codes * binary16(scale) + binary16(low)


class Fp16:
    stores = False

    def __init__(self, _):
        pass

    def ends(self, seen, prefill):
        return 0, 0

    def store(self, k, v, prefill):
        return k, v


class Int:
    stores, sink = True, 0

    def __init__(self, p):
        self.bits = int(p.get("bits", 4))

    def ends(self, seen, prefill):
        return seen, seen

    def store(self, k, v, prefill):
        levels = 2**self.bits - 1
        return affine(k, 1, levels, "int"), affine(v, 1, levels, "int")


class Kitty:
    stores = True

    def __init__(self, p):
        self.boost, self.sink = float(p.get("boost", 0.125)), int(p.get("sink", 32))
        self.page, self.window = int(p.get("page", 128)), int(p.get("window", 128))

    def ends(self, seen, prefill):
        whole = lambda n: self.sink + max(0, n - self.sink) // self.page * self.page
        return whole(seen), whole(seen - self.window)

    def store(self, k, v, prefill):
        k_hat, v_hat = k.copy(), v.copy()
        end_k, end_v = self.ends(len(k), prefill)
        for a in range(self.sink, end_k, self.page):
            page = k[a : a + self.page]
            order = np.argsort(-np.abs(page).mean(0, dtype=np.float64), kind="stable")
            levels = np.full(k.shape[1], 3.0)
            levels[order[: int(k.shape[1] * self.boost + 1e-6)]] = 15.0
            k_hat[a : a + self.page] = affine(page, 0, levels, "kitty")
        if end_v > self.sink:
            v_hat[self.sink : end_v] = affine(v[self.sink : end_v], 1, 3, "kitty")
        return k_hat, v_hat


def scheme_of(spec):
    name, _, rest = spec.partition(":")
    return {"fp16": Fp16, "int": Int, "kitty": Kitty}[name](dict(x.split("=") for x in rest.split(",") if x))


def top(logits, k):
    return set(np.lexsort((np.arange(len(logits)), -logits))[:k].tolist())


def attend(logits, v):
    w = np.exp(logits - logits.max())
    w /= w.sum()
    return w, w @ v


def sample(scale, q, q16, k, v, k_seen, v_seen):
    full, seen = scale * (k @ q), scale * (k_seen @ q16)
    p, o = attend(full, v)
    p2, o2 = attend(seen, v_seen)
    live = p > 0
    n = len(full)
    return (
        np.linalg.norm(o2 - o) / max(np.linalg.norm(o), 1e-30),
        np.mean((seen - full) ** 2),
        np.sum(p[live] * np.log(p[live] / p2[live])),
        len(top(full, 1) & top(seen, 1)),
        len(top(full, 8) & top(seen, 8)) / min(8, n),
        np.sum((o2 - o) ** 2),
        np.sum(o**2),
    )


def stored_ratio(pairs):
    error = sum(((a - b) ** 2).sum() for a, b in pairs)
    energy = sum((b**2).sum() for _, b in pairs)
    return None if not any(a.size for a, _ in pairs) else np.sqrt(error) / max(np.sqrt(energy), 1e-30)


def summary(rows, keys, values):
    out = {"key_rel_l2": stored_ratio(keys), "value_rel_l2": stored_ratio(values)}
    r = np.array(rows).reshape(-1, 7)
    names = ("attention_output_rel_l2", "logit_mse", "attention_kl")
    if not len(r):
        nothing = dict.fromkeys(("mean", "median", "p99", "max"))
        return out | dict.fromkeys(names, nothing) | dict.fromkeys(
            ("top1_agreement", "top8_agreement", "attention_output_nrmse"))
    for i, name in enumerate(names):
        x = r[:, i]
        out[name] = {"mean": x.mean(), "median": np.median(x), "p99": np.percentile(x, 99), "max": x.max()}
    out["top1_agreement"], out["top8_agreement"] = r[:, 3].mean(), r[:, 4].mean()
    out["attention_output_nrmse"] = np.sqrt(r[:, 5].sum()) / max(np.sqrt(r[:, 6].sum()), 1e-30)
    return out


def unit(f, sequence, layer, head, scheme, options):
    """Samples, and stored (dequantized, recorded) pairs of K and V, of one KV head."""
    g = f["sequences"][sequence]
    scale, causal = float(f.attrs["softmax_scale"]), int(f.attrs["causal"])
    k, v = (g[x][layer, head].astype(np.float32) for x in "kv")
    tokens, prompt = len(k), int(g.attrs["num_prompt_tokens"])
    prefill = tokens if not causal else prompt if options.prompt_exact else 0
    k16, v16 = binary16(k), binary16(v)
    k_hat, v_hat = scheme.store(k16, v16, prefill)
    if scheme.stores:
        end_k, end_v = scheme.ends(tokens, prefill)
        keys = (k_hat[scheme.sink : end_k], k[scheme.sink : end_k])
        values = (v_hat[scheme.sink : end_v], v[scheme.sink : end_v])
    else:
        keys, values = (k16, k), (v16, v)
    wide = lambda pair: tuple(x.astype(np.float64) for x in pair)
    rows = []
    if "q" in g:
        group = int(f.attrs["num_query_heads"]) // int(f.attrs["num_kv_heads"])
        for h in range(head * group, (head + 1) * group):
            q = g["q"][layer, h].astype(np.float32)
            for i, p in enumerate(g["query_pos"][...].tolist()):
                if p < options.from_position:
                    continue
                n = p + 1 if causal else tokens
                end_k, end_v = scheme.ends(p if causal else tokens, prefill)
                if options.prompt_exact and p < prompt:
                    end_k = end_v = 0
                k_seen, v_seen = k16[:n].astype(np.float64), v16[:n].astype(np.float64)
                if scheme.stores and end_k > scheme.sink:
                    k_seen[scheme.sink : end_k] = k_hat[scheme.sink : end_k]
                if scheme.stores and end_v > scheme.sink:
                    v_seen[scheme.sink : end_v] = v_hat[scheme.sink : end_v]
                rows.append(sample(scale, q[i].astype(np.float64), binary16(q[i]).astype(np.float64),
                                   k[:n].astype(np.float64), v[:n].astype(np.float64), k_seen, v_seen))
    return rows, wide(keys), wide(values)


def compare(where, mine, theirs, tolerance, bad):
    for name, value in mine.items():
        if isinstance(value, dict):
            compare(f"{where}.{name}", value, theirs[name], tolerance, bad)
        elif (value is None) != (theirs[name] is None):
            bad.append(f"{where}.{name}: {value} against {theirs[name]}")
        elif value is not None and abs(value - theirs[name]) > tolerance * abs(value) + 1e-12:
            bad.append(f"{where}.{name}: {value:.9g} against {theirs[name]:.9g}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("trace")
    parser.add_argument("json")
    parser.add_argument("--from-position", type=int, default=0)
    parser.add_argument("--prompt-exact", action="store_true")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    options = parser.parse_args()
    document, bad = json.load(open(options.json)), []
    with h5py.File(options.trace) as f:
        layers, heads = int(f.attrs["num_layers"]), int(f.attrs["num_kv_heads"])
        for result in document["results"]:
            scheme, everything, nrmse = scheme_of(result["scheme"]), ([], [], []), []
            for layer in range(layers):
                for head in range(heads):
                    units = [unit(f, s, layer, head, scheme, options) for s in sorted(f["sequences"])]
                    rows = [row for u in units for row in u[0]]
                    keys, values = [u[1] for u in units], [u[2] for u in units]
                    mine, theirs = summary(rows, keys, values), result["layers"][layer * heads + head]
                    assert (theirs["layer"], theirs["head"]) == (layer, head)
                    compare(f"{result['scheme']} layer {layer} head {head}", mine, theirs, options.tolerance, bad)
                    nrmse.append(mine["attention_output_nrmse"])
                    for total, part in zip(everything, (rows, keys, values)):
                        total.extend(part)
            mine = summary(*everything)
            mine["attention_output_nrmse"] = None if nrmse[0] is None else float(np.mean(nrmse))
            compare(result["scheme"], mine, result["error"], options.tolerance, bad)
    print("\n".join(bad[:20]) if bad else f"{len(document['results'])} schemes agree within {options.tolerance:g}")
    sys.exit(1 if bad else 0)


main()
