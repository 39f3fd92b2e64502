#!/usr/bin/env python3
"""The native model against transformers: logits, next-token loss, RoPE scalings and the tokenizer.

usage: model_torch.py random LIBKVSCOPE.SO                                  random models, each scaling
       model_torch.py shared LIBKVSCOPE.SO DIR TOKENS.h5 TEXT LOSS          a model, its text, and its published loss
Prints a line a comparison, with its largest error, and exits with 1 if one exceeds its bound.
"""
import ctypes
import os
import sys
import tempfile

import h5py
import numpy as np
import torch
import transformers

sys.dont_write_bytecode = True
import model_numpy

WINDOW = 2048
LOGITS, LOSS = 1e-3, 1e-4  # relative; transformers computes in binary32, so its own error is in the first
failed = False


def expect(good, line):
    global failed
    failed |= not good
    print(line if good else f"{line}: too far")


def load(directory):
    return transformers.AutoModelForCausalLM.from_pretrained(directory).to(torch.float32).eval()


def logits_of(model, ids):
    with torch.inference_mode():
        return model(torch.tensor(np.asarray(ids, np.int64)[None]), use_cache=False).logits[0].numpy()


def compare(name, library, directory, model, ids):
    config = model.config
    want = logits_of(model, ids)
    got = model_numpy.library_logits(library, directory, ids, config.hidden_size, config.vocab_size)
    error = (np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)).max()
    top = (got.argmax(1) != want.argmax(1)).sum()
    expect(error <= LOGITS and np.abs(want).max() > 0.1 and top <= len(ids) / 1000,
           f"{name}: logits of {len(ids)} tokens {error:.2g}, most likely token differs at {top}")


def compare_random(library):
    yarn = model_numpy.YARN
    scalings = [None, {"rope_type": "linear", "factor": 3.0}, {"rope_type": "dynamic", "factor": 4.0},
                model_numpy.LLAMA3, yarn, yarn | {"attention_factor": 1.3, "beta_fast": 20.0, "truncate": False},
                yarn | {"mscale": 1.2, "mscale_all_dim": 0.7}]
    for seed, scaling in enumerate(scalings):
        for family in ("qwen3", "llama"):
            with tempfile.TemporaryDirectory() as directory:
                model_numpy.write_model(directory, family, seed, seed % 2 == 0, ["F32"], 1, scaling)
                ids = np.random.default_rng(seed).integers(0, 97, 900)
                compare(f"{family} {scaling}", library, directory, load(directory), ids)


def compare_loss(name, model, ids, published):
    losses = []
    for first in range(0, len(ids) - WINDOW + 1, WINDOW):
        rows = torch.log_softmax(torch.tensor(logits_of(model, ids[first : first + WINDOW])).double(), -1)
        losses.append(-rows[np.arange(WINDOW - 1), ids[first + 1 : first + WINDOW]])
    loss = float(torch.cat(losses).mean())
    expect(abs(loss / published - 1) < LOSS, f"{name}: loss of {sum(map(len, losses))} predictions {loss:.6f}")


class Tokenizer:
    """kvs_tokenizer of sim/model/tokenizer.h."""

    def __init__(self, library, directory):
        self.lib, self.error = ctypes.CDLL(library), ctypes.create_string_buffer(1024)
        self.lib.free.argtypes, self.handle = [ctypes.c_void_p], ctypes.c_void_p()
        assert self.lib.kvs_tokenizer_open(directory.encode(), ctypes.byref(self.handle), self.error) == 0

    def encode(self, text):
        ids, count, raw = ctypes.POINTER(ctypes.c_int32)(), ctypes.c_size_t(), text.encode()
        assert self.lib.kvs_tokenizer_encode(self.handle, b"text", raw, ctypes.c_size_t(len(raw)), ctypes.byref(ids),
                                             ctypes.byref(count), self.error) == 0, text
        made = ids[: count.value]
        self.lib.free(ids)
        return made


def random_texts(count):
    """Texts that are hard on a pre-tokenizer: scripts, digits, marks, spaces, contractions, control characters."""
    rng = np.random.default_rng(11)
    hard = list(" \n\t\r'\"sStTlL0123456789_-.,;(){}") + ["'re", "'LL", "<|endoftext|>", "  ", "\u00a0", "\u2003", "\u200d",
                                                       "\u0301", "\u00bd", "\u0663", "\u2167", "\u4e2d", "\U0001f600"]
    for i in range(count):
        parts = []
        for _ in range(rng.integers(1, 40)):
            if rng.random() < 0.7:
                parts.append(hard[rng.integers(len(hard))])
            else:
                point = int(rng.integers(0, (0x80, 0x3000, 0x110000)[i % 3]))
                parts.append("?" if 0xD800 <= point < 0xE000 or point == 0 else chr(point))
        yield "".join(parts)


def compare_tokenizer(name, library, directory, path, ids):
    theirs, ours = transformers.AutoTokenizer.from_pretrained(directory), Tokenizer(library, directory)
    with open(path, encoding="utf-8", newline="") as f:
        text = f.read()
    want = theirs(text, add_special_tokens=False)["input_ids"]
    expect(want == ours.encode(text) == ids.tolist(), f"{name}: {len(want)} token ids of the text")
    texts = list(random_texts(3000))
    wrong = [t for t in texts if theirs(t, add_special_tokens=False)["input_ids"] != ours.encode(t)]
    expect(not wrong, f"{name}: {len(wrong)} of {len(texts)} random texts differ {[ascii(t) for t in wrong[:2]]}")


def main():
    library = os.path.abspath(sys.argv[2])
    if sys.argv[1] == "random":
        compare_random(library)
    else:
        directory, tokens, text, published = sys.argv[3:7]
        name = os.path.basename(directory.rstrip("/"))
        with h5py.File(tokens) as f:
            ids = f["token_ids"][...]
        model = load(directory)
        compare(name, library, directory, model, ids[3 * WINDOW : 4 * WINDOW])
        compare_loss(name, model, ids, float(published))
        compare_tokenizer(name, library, directory, text, ids)
    sys.exit(failed)


main()
