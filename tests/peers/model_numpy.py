#!/usr/bin/env python3
"""An independent forward pass of Qwen3 and Llama models in NumPy (binary64), the peer of sim/model.

usage: model_numpy.py LIBKVSCOPE.SO [DIR IDS.h5 FIRST COUNT]
Compares the C library's logits (through ctypes) with this file's, for small random models that it writes itself (each
RoPE scaling, tied and untied, one and several files, BF16, F16 and F32) or for one model and a range of its tokens.
Prints one line a model, "NAME relative-error", and exits with 1 if an error exceeds 1e-4 or a model cannot be run.
"""
import ctypes
import json
import math
import os
import struct
import sys
import tempfile

import numpy as np

TOLERANCE = 1e-4

# --- files ------------------------------------------------------------------------------------------------------------


def read_safetensors(path):
    with open(path, "rb") as f:
        length = struct.unpack("<Q", f.read(8))[0]
        header = json.loads(f.read(length))
        data = f.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        raw = data[begin:end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(raw, {"F16": "<f2", "F32": "<f4"}[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"]).astype(np.float64)
    return tensors


def write_safetensors(path, tensors, dtypes):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for i, (name, values) in enumerate(tensors.items()):
        dtype = dtypes[i % len(dtypes)]
        if dtype == "BF16":
            raw = (values.astype("<f4").view(np.uint32) >> 16).astype("<u2").tobytes()
        else:
            raw = values.astype({"F16": "<f2", "F32": "<f4"}[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def load(directory):
    with open(os.path.join(directory, "config.json")) as f:
        config = json.load(f)
    weights = {}
    for name in sorted(os.listdir(directory)):
        if name.endswith(".safetensors"):
            weights.update(read_safetensors(os.path.join(directory, name)))
    return config, weights


# --- the forward pass -------------------------------------------------------------------------------------------------


def rope_frequencies(config, dim):
    theta = config.get("rope_theta", 10000.0)
    frequencies = 1.0 / theta ** (np.arange(0, dim, 2) / dim)
    scaling = config.get("rope_scaling")
    kind = scaling and scaling.get("rope_type", scaling.get("type"))
    if not kind or kind in ("default", "dynamic"):  # dynamic differs beyond max_position_embeddings
        return frequencies, 1.0
    factor = scaling["factor"]
    if kind == "linear":
        return frequencies / factor, 1.0
    if kind == "llama3":
        # Three regimes by wavelength, as Llama 3.1's model card code has them.
        old = scaling["original_max_position_embeddings"]
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        out = []
        for f in frequencies:
            wavelength = 2 * math.pi / f
            if wavelength < old / high:
                out.append(f)
            elif wavelength > old / low:
                out.append(f / factor)
            else:
                smooth = (old / wavelength - low) / (high - low)
                out.append((1 - smooth) * f / factor + smooth * f)
        return np.array(out), 1.0
    assert kind == "yarn"
    old = scaling.get("original_max_position_embeddings", config["max_position_embeddings"])

    def pair(turns):
        return dim * math.log(old / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(pair(scaling.get("beta_fast", 32))), 0)
    high = min(math.ceil(pair(scaling.get("beta_slow", 1))), dim - 1)
    keep = 1 - np.clip((np.arange(dim // 2) - low) / max(high - low, 0.001), 0, 1)
    return frequencies / factor * (1 - keep) + frequencies * keep, 0.1 * math.log(factor) + 1.0


def forward(config, weights, ids, taken=None):
    """Logits [tokens][vocabulary]; `taken` (a list) receives q, k, v of each layer before and after RoPE."""
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    dim, epsilon, tokens = config["head_dim"], config["rms_norm_eps"], len(ids)

    def norm(x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight

    frequencies, factor = rope_frequencies(config, dim)
    angles = np.concatenate([np.outer(np.arange(tokens), frequencies)] * 2, axis=1)
    cosine, sine = np.cos(angles) * factor, np.sin(angles) * factor

    def rotate(x):  # [heads, tokens, dim]
        return x * cosine + np.concatenate([-x[..., dim // 2 :], x[..., : dim // 2]], axis=-1) * sine

    future = np.triu(np.ones((tokens, tokens), bool), 1)
    x = weights["model.embed_tokens.weight"][ids]
    for layer in range(config["num_hidden_layers"]):
        w = {k.split(f"layers.{layer}.")[1]: v for k, v in weights.items() if f".layers.{layer}." in k}
        h = norm(x, w["input_layernorm.weight"])
        q, k, v = (
            (h @ w[f"self_attn.{n}_proj.weight"].T).reshape(tokens, -1, dim).transpose(1, 0, 2) for n in "qkv"
        )
        if "self_attn.q_norm.weight" in w:
            q, k = norm(q, w["self_attn.q_norm.weight"]), norm(k, w["self_attn.k_norm.weight"])
        if taken is not None:
            taken.append({"before": (q, k, v), "after": (rotate(q), rotate(k), v)})
        q, k = rotate(q), np.repeat(rotate(k), heads // groups, axis=0)
        scores = np.where(future, -np.inf, q @ k.transpose(0, 2, 1) / math.sqrt(dim))
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        out = scores / scores.sum(-1, keepdims=True) @ np.repeat(v, heads // groups, axis=0)
        x = x + out.transpose(1, 0, 2).reshape(tokens, -1) @ w["self_attn.o_proj.weight"].T
        h = norm(x, w["post_attention_layernorm.weight"])
        gate = h @ w["mlp.gate_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w["mlp.up_proj.weight"].T)) @ w["mlp.down_proj.weight"].T
    x = norm(x, weights["model.norm.weight"])
    return x @ weights.get("lm_head.weight", weights["model.embed_tokens.weight"]).T


# --- the C library ----------------------------------------------------------------------------------------------------


class Pass(ctypes.Structure):  # kvs_model_pass of sim/model/forward.h
    _fields_ = [
        ("scheme", ctypes.c_void_p),
        ("prompt_tokens", ctypes.c_int),
        ("seed", ctypes.c_uint64),
        ("sequence", ctypes.c_int),
        ("observe", ctypes.c_void_p),
        ("before_rope", ctypes.c_int),
        ("user", ctypes.c_void_p),
    ]


def library_logits(path, directory, ids, hidden_size, vocabulary, how=None):
    lib = ctypes.CDLL(path)
    lib.kvs_model_close.restype = None
    error, text = ctypes.create_string_buffer(1024), ctypes.create_string_buffer(1024)
    model = ctypes.c_void_p()

    def must(status):
        if status != 0:
            lib.kvs_error_text(error, text, ctypes.c_ulong(1024))
            sys.exit(f"{directory}: {text.value.decode()}")

    must(lib.kvs_model_open(directory.encode(), ctypes.byref(model), error))
    ids = np.ascontiguousarray(ids, np.int32)
    hidden = np.zeros((len(ids), hidden_size), np.float32)
    logits = np.zeros((len(ids), vocabulary), np.float32)
    must(lib.kvs_model_forward(model, ctypes.byref(how or Pass()), ids.ctypes.data_as(ctypes.c_void_p), len(ids),
                               hidden.ctypes.data_as(ctypes.c_void_p), error))
    must(lib.kvs_model_logits(model, hidden.ctypes.data_as(ctypes.c_void_p), len(ids),
                              logits.ctypes.data_as(ctypes.c_void_p), error))
    lib.kvs_model_close(model)
    return logits


def compare(name, library, directory, ids):
    config, weights = load(directory)
    want = forward(config, weights, ids)
    got = library_logits(library, directory, ids, config["hidden_size"], config["vocab_size"])
    error = (np.linalg.norm(got - want, axis=1) / np.linalg.norm(want, axis=1)).max()
    print(f"{name} {error:.3g}")
    return error <= TOLERANCE


# --- random models ----------------------------------------------------------------------------------------------------


def write_model(directory, family, seed, tied, dtypes, files, scaling, dim=32):
    rng = np.random.default_rng(seed)
    heads, groups, hidden, inner, layers, vocabulary = 6, 2, 48, 80, 2, 97
    config = {
        "architectures": [{"qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}[family]], "model_type": family,
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": groups, "head_dim": dim, "intermediate_size": inner, "vocab_size": vocabulary,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 4096, "tie_word_embeddings": tied,
        "hidden_act": "silu", "rope_scaling": scaling,
    }
    shapes = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    if not tied:
        shapes["lm_head.weight"] = (vocabulary, hidden)
    for i in range(layers):
        at = f"model.layers.{i}."
        shapes |= {
            at + "input_layernorm.weight": (hidden,), at + "post_attention_layernorm.weight": (hidden,),
            at + "self_attn.q_proj.weight": (heads * dim, hidden), at + "self_attn.k_proj.weight": (groups * dim, hidden),
            at + "self_attn.v_proj.weight": (groups * dim, hidden), at + "self_attn.o_proj.weight": (hidden, heads * dim),
            at + "mlp.gate_proj.weight": (inner, hidden), at + "mlp.up_proj.weight": (inner, hidden),
            at + "mlp.down_proj.weight": (hidden, inner),
        }
        if family == "qwen3":
            shapes |= {at + "self_attn.q_norm.weight": (dim,), at + "self_attn.k_norm.weight": (dim,)}
    tensors = {}
    for name, shape in shapes.items():
        values = rng.standard_normal(shape)
        tensors[name] = 1 + 0.2 * values if len(shape) == 1 else values / math.sqrt(shape[1])
    with open(os.path.join(directory, "config.json"), "w") as f:
        json.dump(config, f)
    if files == 1:
        write_safetensors(os.path.join(directory, "model.safetensors"), tensors, dtypes)
        return
    names, where = list(tensors), {}
    for i in range(files):
        part = f"model-{i + 1:05}-of-{files:05}.safetensors"
        write_safetensors(os.path.join(directory, part), {n: tensors[n] for n in names[i::files]}, dtypes)
        where |= {n: part for n in names[i::files]}
    with open(os.path.join(directory, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {}, "weight_map": where}, f)


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 256}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
RANDOM_MODELS = [
    ("qwen3-bf16-tied", "qwen3", True, ["BF16"], 1, None),
    ("qwen3-mixed-yarn-3files", "qwen3", False, ["BF16", "F16", "F32"], 3, YARN),
    ("llama-f32-linear", "llama", False, ["F32"], 1, {"type": "linear", "factor": 2.0}),
    ("llama-f16-llama3-2files", "llama", True, ["F16"], 2, LLAMA3),
]


def main():
    library = os.path.abspath(sys.argv[1])
    if len(sys.argv) > 2:
        import h5py

        directory, path, first, count = sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
        with h5py.File(path) as f:
            ids = f["token_ids"][first : first + count]
        sys.exit(not compare(os.path.basename(directory.rstrip("/")), library, directory, ids))
    good = True
    for seed, (name, family, tied, dtypes, files, scaling) in enumerate(RANDOM_MODELS):
        with tempfile.TemporaryDirectory() as directory:
            write_model(directory, family, seed, tied, dtypes, files, scaling)
            ids = np.random.default_rng(seed).integers(0, 97, 300)
            good &= compare(name, library, directory, ids)
    sys.exit(not good)


if __name__ == "__main__":
    main()
