#!/usr/bin/env python3
"""Whether a recorded trace holds what the NumPy forward pass computes, and whether two traces hold the same.

usage: trace_numpy.py pass TRACE MODEL-DIR [LAYER...]   k, v and q of these layers (default all) equal NumPy's
       trace_numpy.py same TRACE TRACE                  equal but for the last place of a few binary16 values
Prints what differs and exits with 1. Generated tokens must be NumPy's greedy choice.
"""
import sys

import h5py
import numpy as np

sys.dont_write_bytecode = True
import model_numpy

failed = False


def expect(good, what):
    global failed
    failed |= not good
    if not good:
        print(what)


def relative(got, want):
    return np.linalg.norm(got - want) / np.linalg.norm(want)


def check_pass(path, directory, layers):
    config, weights = model_numpy.load(directory)
    layers = layers or range(config["num_hidden_layers"])
    with h5py.File(path) as f:
        stage = "after" if f.attrs["rope_applied"] else "before"
        tolerance = {"f2": 1e-3, "u2": 8e-3, "f4": 1e-5}[f["sequences/000000/k"].dtype.str[1:]]
        expect(f.attrs["num_layers"] == len(layers), "num_layers")
        for name, group in f["sequences"].items():
            ids, positions = group["token_ids"][...], group["query_pos"][...]
            taken = []
            logits = model_numpy.forward(config, weights, ids, taken)
            prompt = group.attrs["num_prompt_tokens"]
            expect((logits[prompt - 1 : -1].argmax(1) == ids[prompt:]).all(), f"{name}: generated tokens")
            for i, layer in enumerate(layers):
                q, k, v = taken[layer][stage]
                for part, want in (("q", q[:, positions]), ("k", k), ("v", v)):
                    got = group[part][i]
                    if got.dtype == np.uint16:
                        got = (got.astype(np.uint32) << 16).view(np.float32)
                    error = relative(got.astype(np.float64), want)
                    expect(got.shape == want.shape and error < tolerance, f"{name}: layer {layer}: {part}: {error:.3g}")


def check_same(one, other):
    with h5py.File(one) as a, h5py.File(other) as b:
        for name in ("num_layers", "num_query_heads", "num_kv_heads", "head_dim", "rope_theta", "model_family"):
            expect(a.attrs[name] == b.attrs[name], name)
        expect(sorted(a["sequences"]) == sorted(b["sequences"]), "sequences")
        for name, group in a["sequences"].items():
            for part in ("query_pos", "token_ids"):
                expect((group[part][...] == b["sequences"][name][part][...]).all(), f"{name}: {part}")
            for part in ("k", "v", "q"):
                x, y = (g[part][...].astype(np.float32) for g in (group, b["sequences"][name]))
                expect(relative(x, y) < 2e-4, f"{name}: {part}: {relative(x, y):.3g}")
                expect((x != y).mean() < 0.05, f"{name}: {part}: {(x != y).mean():.3g} of the values differ")


if sys.argv[1] == "pass":
    check_pass(sys.argv[2], sys.argv[3], [int(x) for x in sys.argv[4:]])
else:
    check_same(sys.argv[2], sys.argv[3])
sys.exit(failed)
