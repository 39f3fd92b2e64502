#!/usr/bin/env python3
"""The library seen from Python (kernels/python/kvscope.py): windows, error bounds, bits; and as a Hugging Face cache.

usage: cache_python.py plain
       cache_python.py hf MODEL-DIR TOKENS.h5     needs torch and transformers
KVSCOPE_LIBRARY names the library. Prints what does not hold and exits with 1.
"""
import ctypes
import sys

import numpy as np

sys.dont_write_bytecode = True
sys.path.insert(0, "kernels/python")
import kvscope


def plain():
    rng = np.random.default_rng(3)
    rows = (rng.standard_normal((200, 64)) * rng.uniform(0.1, 5, 64)).astype(np.float32)
    half = rows.astype(np.float16).astype(np.float32)
    scheme = kvscope.Scheme("int:bits=4,group=16,sink=5,window=20", 64)
    cache = kvscope.HeadCache(scheme, kvscope.K)
    first = cache.append(rows[:50])
    assert (first == half[:50]).all(), "a prompt is not exact within"
    for t in range(50, 200):
        before = cache.read()
        seen = cache.append(rows[t : t + 1])
        assert (seen[:-1] == before).all() and (seen[-1] == half[t]).all(), "a step does not read what was stored before"
        read = cache.read()
        end = cache.stored_end
        assert end == t + 1 - 20, f"{end} of {t + 1} tokens are stored"
        assert (read[:5] == half[:5]).all() and (read[end:] == half[end : t + 1]).all(), "sinks or window are not exact"
    stored, want = read[5:end].reshape(-1, 4, 16), half[5:end].reshape(-1, 4, 16)
    step = (want.max(-1) - want.min(-1)) / 15
    error = np.abs(stored - want).max(-1)
    assert (error <= 0.51 * step + 2e-3 * np.abs(want).max(-1)).all(), "an error is larger than half a step"
    assert (error > 0.2 * step).mean() > 0.9, "nothing was quantized"
    assert kvscope.Scheme("fp16", 64).bits_per_element(100) == 16
    assert 4 < scheme.bits_per_element(10000) < 6.1
    for spec, dim in (("nonsense", 64), ("int:bits=99", 64)):
        try:
            kvscope.Scheme(spec, dim)
            raise AssertionError(f"{spec} was opened")
        except ValueError as error:
            assert "scheme" in str(error) or "bits" in str(error), error
    try:
        cache.append(np.full((1, 64), 1e6))
        raise AssertionError("an overflow was taken in")
    except ValueError as error:
        assert "binary16" in str(error), error


def hf(directory, tokens):
    import h5py
    import torch
    import transformers

    sys.path.insert(0, "tests/peers")
    import model_numpy

    prompt, steps = 600, 60
    with h5py.File(tokens) as f:
        ids = f["token_ids"][30000 : 30000 + prompt + steps]
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, torch_dtype=torch.float32).eval()
    spec = "kitty:boost=0.25,page=32,v_group=64,sink=8,window=16"
    scheme = kvscope.Scheme(spec, model.config.head_dim)
    cache = kvscope.hf_cache(scheme)
    window, rows = torch.tensor(ids[None].astype(np.int64)), []
    with torch.inference_mode():
        full = model(window, use_cache=False).logits[0, prompt:].numpy()
        model(window[:, :prompt], past_key_values=cache, use_cache=True)
        for t in range(prompt, prompt + steps):
            rows.append(model(window[:, t : t + 1], past_key_values=cache, use_cache=True).logits[0, -1].numpy())
    theirs = np.stack(rows)
    ours = model_numpy.library_logits(
        kvscope._load()._name, directory, ids, model.config.hidden_size, model.config.vocab_size,
        model_numpy.Pass(scheme=scheme.handle, prompt_tokens=prompt))[prompt:]
    difference = np.linalg.norm(theirs - ours) / np.linalg.norm(ours)
    effect = np.linalg.norm(theirs - full) / np.linalg.norm(full)
    print(f"logits differ by {difference:.2g}; the scheme moves them by {effect:.2g}")
    assert difference < 0.1 * effect, "the cache in transformers is not the one of the native pass"
    generated = model.generate(window[:, :prompt], past_key_values=kvscope.hf_cache(scheme), max_new_tokens=5,
                               do_sample=False)
    assert generated.shape[1] == prompt + 5


try:
    plain() if sys.argv[1] == "plain" else hf(sys.argv[2], sys.argv[3])
except AssertionError as error:
    sys.exit(f"{error}")
