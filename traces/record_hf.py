#!/usr/bin/env python3
"""Record keys, values and queries of a Hugging Face model into a kvscope trace (traces/FORMAT.md, version 1).

usage: record_hf.py MODEL --text FILE|--tokens FILE -o TRACE [options]

MODEL is a directory or a name that transformers knows. Any decoder-only model whose layers call the library's attention
interface works: one attention function, registered here, sees q, k and v after RoPE in every layer, hands them on to
the library's own, and writes them layer by layer. Needs h5py and numpy; recording also needs torch and transformers.
"""
import argparse
import datetime
import json
import os
import sys

import h5py
import numpy as np

CHUNK_TOKENS = 128
INTERLEAVED = {"cohere", "cohere2", "glm", "glm4", "gptj"}  # RoPE pairs (2i, 2i + 1)
ELEMENTS = {"binary16": "<f2", "binary32": "<f4"}


class Refused(Exception):
    """What the user can mend: an exit status and one line."""

    def __init__(self, status, line):
        super().__init__(line)
        self.status = status


# --- writing: no torch ------------------------------------------------------------------------------------------------


class TraceWriter:
    """Writes a trace beside `path` and renames it when it is complete; use it in a with statement.

    header: the root attributes of FORMAT.md but format, format_version and created_utc.
    """

    def __init__(self, path, header, element="binary16", deflate=4):
        self.path, self.temporary = path, f"{path}.tmp.{os.getpid()}"
        self.header, self.dtype = header, ELEMENTS[element]
        self.filters = {"shuffle": True, "compression": "gzip", "compression_opts": deflate} if deflate else {}
        self.count = 0

    def __enter__(self):
        try:
            self.file = h5py.File(self.temporary, "w")
        except OSError as error:
            raise Refused(3, f"{self.path}: cannot be written: {error}") from None
        stamp = int(os.environ.get("SOURCE_DATE_EPOCH", datetime.datetime.now().timestamp()))
        when = datetime.datetime.fromtimestamp(stamp, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        attributes = {"format": "kvscope-trace", "format_version": np.array([1, 0], np.int32), "created_utc": when}
        for name, value in {**attributes, **self.header}.items():
            self.file.attrs[name] = np.int32(value) if isinstance(value, (int, bool)) else value
        self.file.create_group("sequences")
        return self

    def __exit__(self, kind, value, trace):
        self.file.close()
        if kind is None:
            os.replace(self.temporary, self.path)
        else:
            os.unlink(self.temporary)

    def begin(self, token_ids, prompt_tokens, query_pos, task):
        """Starts the next sequence."""
        h, tokens = self.header, len(token_ids)
        group = self.file["sequences"].create_group(f"{self.count:06}")
        self.count += 1
        group.attrs.update({"num_tokens": np.int32(tokens), "num_prompt_tokens": np.int32(prompt_tokens), "task": task})
        shapes = {"k": (h["num_kv_heads"], tokens), "v": (h["num_kv_heads"], tokens)}
        if len(query_pos):
            shapes["q"] = (h["num_query_heads"], len(query_pos))
            group["query_pos"] = np.asarray(query_pos, np.int32)
        for name, (heads, rows) in shapes.items():
            group.create_dataset(name, (h["num_layers"], heads, rows, h["head_dim"]), self.dtype,
                                 chunks=(1, 1, min(rows, CHUNK_TOKENS), h["head_dim"]), **self.filters)
        group["token_ids"] = np.asarray(token_ids, np.int32)
        self.group = group

    def write(self, name, layer, values):
        """Writes k, v or q [heads][rows][head_dim] of one layer of the sequence under way."""
        with np.errstate(over="ignore"):
            stored = np.asarray(values, np.float32).astype(self.dtype)
        if not np.isfinite(stored).all():
            raise Refused(3, f"{self.path}: {self.group.name}/{name}: layer {layer}: not finite, or too large for "
                             f"{self.dtype[1:]}; try --element binary32")
        self.group[name][layer] = stored


def query_positions(which, tokens):
    """As kvscope record --queries: N evenly from position T / 32 to the last, last:N, or all."""
    if which == "all":
        return np.arange(tokens)
    if which.startswith("last:"):
        return np.arange(max(0, tokens - int(which[5:])), tokens)
    count, first = min(int(which), tokens - tokens // 32), tokens // 32
    span = tokens - 1 - first
    return np.array([first + (i * span // (count - 1) if count > 1 else span) for i in range(count)], int)


# --- recording --------------------------------------------------------------------------------------------------------


def load_libraries():
    try:
        import torch
        import transformers
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    except ImportError as error:
        raise Refused(4, f"recording needs torch and transformers 4.48 or newer: {error}") from None
    return torch, transformers, ALL_ATTENTION_FUNCTIONS


class Recorder:
    """Holds the sequence under way; `attend` is the attention function of every layer."""

    def __init__(self, writer_of, functions):
        self.writer_of, self.functions = writer_of, functions
        self.writer = self.sequence = None

    def attend(self, module, query, key, value, *arguments, **named):
        if self.sequence is not None:
            self.take(module, query, key, value, named.get("scaling"))
        return self.functions["sdpa"](module, query, key, value, *arguments, **named)

    def take(self, module, query, key, value, scaling):
        layer = getattr(module, "layer_idx", None)
        if layer is None:
            raise Refused(3, f"{type(module).__name__}: the attention module does not say which layer it is")
        _, heads, tokens, dim = query.shape
        if tuple(key.shape) != tuple(value.shape) or key.shape[-1] != dim or key.shape[2] != tokens:
            raise Refused(3, f"layer {layer}: q {tuple(query.shape)}, k {tuple(key.shape)}, v {tuple(value.shape)}: "
                             "keys and values must have one shape, and as many tokens as queries")
        if self.writer is None:
            self.writer = self.writer_of(heads, key.shape[1], dim, scaling or dim**-0.5)
        if self.sequence["fresh"]:
            self.writer.begin(*self.sequence["begin"])
            self.sequence["fresh"] = False
        positions = self.sequence["begin"][2]
        for name, tensor in (("k", key), ("v", value), ("q", query[:, :, positions])):
            if name != "q" or len(positions):
                self.writer.write(name, layer, tensor[0].float().cpu().numpy())


def check_supported(config):
    if getattr(config, "is_encoder_decoder", False):
        raise Refused(3, f"{config.model_type}: encoder-decoder models are not supported")
    if "sliding_attention" in (getattr(config, "layer_types", None) or []):
        raise Refused(3, f"{config.model_type}: layers with a sliding window are not supported")


def header_of(config, name, dtype, heads, kv_heads, dim, scaling, license_text):
    parameters = getattr(config, "rope_parameters", None) or {}
    theta = getattr(config, "rope_theta", None) or parameters.get("rope_theta", 0.0)
    header = {
        "model_name": name, "model_family": config.model_type, "num_layers": config.num_hidden_layers,
        "num_query_heads": heads, "num_kv_heads": kv_heads, "head_dim": dim, "softmax_scale": float(scaling),
        "causal": 1, "rope_applied": int(theta > 0), "rope_theta": float(theta), "source_dtype": dtype,
        "recorder": "kvscope record_hf.py", "license": license_text,
    }
    scaled = getattr(config, "rope_scaling", None)
    if scaled:
        header["rope_scaling"] = json.dumps(scaled)
    part = getattr(config, "partial_rotary_factor", None) or 1.0
    if theta and part < 1:
        header["rotary_dim"] = int(dim * part)
    if config.model_type in INTERLEAVED:
        header["rope_interleaved"] = 1
    return header


def read_ids(options, transformers):
    if options.tokens:
        try:
            with h5py.File(options.tokens) as f:
                return f["token_ids"][...]
        except (OSError, KeyError) as error:
            raise Refused(3, f"{options.tokens}: {error}") from None
    try:
        with open(options.text, encoding="utf-8") as f:
            text = f.read()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(3, f"{options.text}: {error}") from None
    return np.array(transformers.AutoTokenizer.from_pretrained(options.model)(text, add_special_tokens=False)["input_ids"])


def record(options):
    torch, transformers, functions = load_libraries()
    ids = read_ids(options, transformers)[options.first :]
    sequences = options.sequences or len(ids) // options.window
    if sequences < 1 or len(ids) < sequences * options.window:
        raise Refused(3, f"{len(ids)} tokens do not fill {max(sequences, 1)} sequences of {options.window}")
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    name = os.path.basename(options.model.rstrip("/")) if os.path.isdir(options.model) else options.model
    writers = []

    def writer_of(heads, kv_heads, dim, scaling):
        header = header_of(model.config, name, options.dtype, heads, kv_heads, dim, scaling, options.license)
        writers.append(TraceWriter(options.output, header, options.element, options.deflate).__enter__())
        return writers[0]

    recorder = Recorder(writer_of, functions)
    functions["kvscope"] = recorder.attend
    try:  # newer versions build masks by the name of the attention function
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS as masks

        masks["kvscope"] = masks["sdpa"]
    except ImportError:
        pass
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            options.model, torch_dtype=getattr(torch, options.dtype), attn_implementation="kvscope").to(device).eval()
    except (OSError, ValueError) as error:
        raise Refused(3, f"{options.model}: {str(error).splitlines()[0]}") from None
    check_supported(model.config)
    failure = (None, None, None)
    try:
        with torch.inference_mode():
            for i in range(sequences):
                window = torch.tensor(ids[None, i * options.window : (i + 1) * options.window].astype(np.int64))
                window = window.to(device)
                if options.generate:
                    window = model.generate(window, attention_mask=torch.ones_like(window), do_sample=False,
                                            max_new_tokens=options.generate)
                tokens = window.shape[1]
                task = "greedy generation behind a prompt" if options.generate else "language modelling, teacher forced"
                begin = (window[0].cpu().numpy(), options.window, query_positions(options.queries, tokens), task)
                recorder.sequence = {"begin": begin, "fresh": True}
                model(window, use_cache=False)
                if recorder.sequence["fresh"]:
                    raise Refused(3, f"{options.model}: its layers do not use the attention interface")
                recorder.sequence = None
                if sys.stderr.isatty():
                    print(f"\rrecord: {i + 1}/{sequences} sequences", end="", file=sys.stderr)
    except BaseException:
        failure = sys.exc_info()
        raise
    finally:
        if writers:
            writers[0].__exit__(*failure)
    print(f"{options.output}: {sequences} sequences of {options.window} tokens")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a directory or a name that transformers knows")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", help="UTF-8 text, encoded with the model's tokenizer")
    source.add_argument("--tokens", help="HDF5 file with token_ids")
    parser.add_argument("-o", "--output", required=True, help="the trace to write")
    parser.add_argument("--window", type=int, default=2048, help="tokens of a sequence (default 2048)")
    parser.add_argument("--first", type=int, default=0, help="the first token taken")
    parser.add_argument("--sequences", type=int, default=0, help="sequences; 0: as many as there are tokens for")
    parser.add_argument("--queries", default="128", help="N evenly spread (default 128), last:N, all, or 0")
    parser.add_argument("--generate", type=int, default=0, help="greedy tokens behind each sequence")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--element", default="binary16", choices=sorted(ELEMENTS))
    parser.add_argument("--deflate", type=int, default=4, choices=range(10), metavar="0-9")
    parser.add_argument("--license", default="unknown", help="terms of the recorded activations")
    options = parser.parse_args()
    try:
        record(options)
    except Refused as refused:
        print(f"record_hf.py: {refused}", file=sys.stderr)
        sys.exit(refused.status)


if __name__ == "__main__":
    main()
