#!/usr/bin/env python3
"""Cuts the sample traces that ship from longer ones (format version 1, traces/FORMAT.md), and copies a model and a text.

usage: tools/cut_samples.py SHARED_FOLDER OUTPUT_FOLDER

Keeps all layers and heads of one sequence, its first TOKENS tokens, and the queries at those positions, so positions
and the rotary embedding stay as they were. 720 tokens hold 32 sinks, a window of 128 and 4 full pages of 128, with
more to spare for smaller pages; the two files stay below 8 MB together.
"""
import os
import shutil
import sys

import h5py
import numpy

MODELS = ("qwen3-7m", "llama-7m")
SEQUENCE = 0
TOKENS = 720
PAGE = 128


def cut(source, target):
    for name, value in source.attrs.items():
        target.attrs.create(name, value, dtype=source.attrs.get_id(name).dtype)
    old = source["sequences/%06d" % SEQUENCE]
    new = target.create_group("sequences/000000")
    new.attrs["num_tokens"] = numpy.int32(TOKENS)
    new.attrs["num_prompt_tokens"] = numpy.int32(min(TOKENS, old.attrs["num_prompt_tokens"]))
    new.attrs["task"] = old.attrs["task"]
    positions = old["query_pos"][:]
    queries = int(numpy.searchsorted(positions, TOKENS))
    for name, rows in (("k", TOKENS), ("v", TOKENS), ("q", queries)):
        values = old[name][:, :, :rows, :]
        new.create_dataset(name, data=values, chunks=(1, 1, min(rows, PAGE), values.shape[3]), shuffle=True,
                           compression="gzip", compression_opts=9)
    new.create_dataset("query_pos", data=positions[:queries])
    new.create_dataset("token_ids", data=old["token_ids"][:TOKENS])


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    for model in MODELS:
        path = os.path.join(sys.argv[2], model + ".h5")
        with h5py.File(os.path.join(sys.argv[1], "traces", model + ".h5"), "r") as source, h5py.File(path, "w") as target:
            cut(source, target)
        print(path, os.path.getsize(path), "bytes")
    shutil.copytree(os.path.join(sys.argv[1], "models", MODELS[0]), os.path.join(sys.argv[2], MODELS[0]))
    shutil.copy(os.path.join(sys.argv[1], "corpus", "validation_tokens.h5"), os.path.join(sys.argv[2], MODELS[0]))


if __name__ == "__main__":
    main()
