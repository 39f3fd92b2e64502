#!/usr/bin/env python3
"""record_hf.py on a small random encoder-decoder model, against the projections of its layers seen by forward hooks.

usage: cross_torch.py FOLDER    exit 77: this version of transformers has no such model on its attention interface
"""
import os
import subprocess
import sys

import h5py
import numpy as np
import torch
import transformers

folder, source, target = sys.argv[1], 45, 30
config = transformers.BartConfig(
    vocab_size=120, d_model=64, encoder_layers=2, decoder_layers=3, encoder_attention_heads=4, decoder_attention_heads=4,
    encoder_ffn_dim=96, decoder_ffn_dim=96, max_position_embeddings=64, bos_token_id=1, pad_token_id=0, eos_token_id=2,
    decoder_start_token_id=2, forced_eos_token_id=None)
torch.manual_seed(1)
model = transformers.BartForConditionalGeneration(config).eval()
if not hasattr(sys.modules[type(model).__module__], "ALL_ATTENTION_FUNCTIONS"):
    print(f"transformers {transformers.__version__}: BART does not use the attention interface")
    sys.exit(77)
model.save_pretrained(f"{folder}/seq2seq")
rng = np.random.default_rng(2)
ids = {"source": rng.integers(3, 120, 2 * source), "target": rng.integers(3, 120, 2 * target)}
for name, values in ids.items():
    with h5py.File(f"{folder}/{name}.h5", "w") as f:
        f["token_ids"] = values.astype(np.int32)
subprocess.run([sys.executable, "traces/record_hf.py", "--model", f"{folder}/seq2seq", "--source-tokens",
                f"{folder}/source.h5", "--tokens", f"{folder}/target.h5", "--window", str(target), "--source-window",
                str(source), "--queries", "7", "--layers", "0,2", "--element", "binary32", "-o", f"{folder}/seq2seq.h5"],
               check=True)
seen = {}


def watch(name):
    return lambda module, inputs, output: seen.__setitem__(name, output[0].detach().numpy())


for layer in (0, 2):
    block = model.model.decoder.layers[layer]
    for prefix, attention in (("", block.self_attn), ("cross/", block.encoder_attn)):
        for part in "kvq":
            getattr(attention, part + "_proj").register_forward_hook(watch((prefix + part, layer)))
with h5py.File(f"{folder}/seq2seq.h5") as f:
    assert f.attrs["num_layers"] == 2 and f.attrs["rope_applied"] == 0 and len(f["sequences"]) == 2
    for i in range(2):
        g = f[f"sequences/{i:06}"]
        with torch.inference_mode():
            model(input_ids=torch.tensor(ids["source"][None, i * source : (i + 1) * source]),
                  decoder_input_ids=torch.tensor(ids["target"][None, i * target : (i + 1) * target]), use_cache=False)
        assert (g["cross/source_token_ids"][:] == ids["source"][i * source : (i + 1) * source]).all()
        assert g["cross/k"].shape == (2, 4, source, 16) and g["cross/q"].shape == (2, 4, 7, 16)
        for (name, layer), want in seen.items():
            want = want.reshape(-1, 4, 16).transpose(1, 0, 2)
            if name.endswith("q"):
                want = want[:, g["query_pos"][:]]
            got = g[name][(0, 2).index(layer)]
            scale = want.std() / got.std() if name.endswith("q") else 1  # BART scales its queries before or after
            assert np.abs(got * scale - want).max() < 1e-5 * np.abs(want).max(), (name, layer)
