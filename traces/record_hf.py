#!/usr/bin/env python3
"""Record keys, values and queries of a Hugging Face model into a kvscope trace (traces/FORMAT.md, version 1).

usage: record_hf.py --model MODEL --text FILE|--tokens FILE -o TRACE [options]

MODEL is a directory or a name that transformers knows; the options are those of kvscope record. Any model whose layers
call the library's attention interface works: one attention function, registered here, sees q, k and v after RoPE in
every layer, hands them on to the library's own, and writes them layer by layer. Of an encoder-decoder model it records
the decoder: its own attention and its attention to the encoder, which reads --source-text or --source-tokens, a window
a sequence; the text is what the decoder is given. Needs h5py and numpy; recording also needs torch and transformers.
"""
import argparse
import datetime
import json
import os
import re
import sys

import h5py
import numpy as np

CHUNK_TOKENS = 128
INTERLEAVED = {"cohere", "cohere2", "glm", "glm4", "gptj"}  # RoPE pairs (2i, 2i + 1)
ELEMENTS = {"binary16": "<f2", "binary32": "<f4", "bfloat16": "<u2"}


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
        self.header, self.element, self.dtype = header, element, ELEMENTS[element]
        self.filters = {"shuffle": True, "compression": "gzip", "compression_opts": deflate} if deflate else {}
        self.count = 0

    def __enter__(self):
        if os.path.exists(self.path) and not os.path.isfile(self.path):  # a rename would replace a device
            raise Refused(3, f"{self.path}: cannot be written: not a regular file")
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
        try:
            if kind is None:
                self.file.close()
                os.replace(self.temporary, self.path)
        finally:
            if os.path.exists(self.temporary):
                os.unlink(self.temporary)

    def begin(self, token_ids, prompt_tokens, query_pos, task, source_token_ids=None):
        """Starts the next sequence; with source_token_ids it also attends to those."""
        h, tokens = self.header, len(token_ids)
        group = self.file["sequences"].create_group(f"{self.count:06}")
        self.count += 1
        group.attrs.update({"num_tokens": np.int32(tokens), "num_prompt_tokens": np.int32(prompt_tokens), "task": task})
        shapes = {"k": (h["num_kv_heads"], tokens), "v": (h["num_kv_heads"], tokens)}
        if len(query_pos):
            shapes["q"] = (h["num_query_heads"], len(query_pos))
            group["query_pos"] = np.asarray(query_pos, np.int32)
        if source_token_ids is not None:
            sources = (h["num_kv_heads"], len(source_token_ids))
            shapes.update({"cross/k": sources, "cross/v": sources})
            if "q" in shapes:
                shapes["cross/q"] = shapes["q"]
            group["cross/source_token_ids"] = np.asarray(source_token_ids, np.int32)
        for name, (heads, rows) in shapes.items():
            made = group.create_dataset(name, (h["num_layers"], heads, rows, h["head_dim"]), self.dtype,
                                        chunks=(1, 1, min(rows, CHUNK_TOKENS), h["head_dim"]), **self.filters)
            if self.element == "bfloat16":
                made.attrs["encoding"] = "bfloat16"
        group["token_ids"] = np.asarray(token_ids, np.int32)
        self.group = group

    def write(self, name, layer, values):
        """Writes k, v or q, or cross/k, ... [heads][rows][head_dim] of one layer of the sequence under way."""
        values = np.asarray(values, np.float32)
        if self.element == "bfloat16":
            bits = values.view(np.uint32).astype(np.uint64)
            stored = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)  # to nearest, ties to even
            finite = (stored & 0x7F80) != 0x7F80
        else:
            with np.errstate(over="ignore"):
                stored = values.astype(self.dtype)
            finite = np.isfinite(stored)
        if not finite.all():
            raise Refused(3, f"{self.path}: {self.group.name}/{name}: layer {layer}: not finite, or too large for "
                             f"{self.element}; try --element binary32")
        dataset = self.group[name]
        dataset[layer] = stored
        dataset.flush()  # a full disk shows here, not when HDF5 lets go of the dataset


def query_positions(which, tokens):
    """As kvscope record --queries: N evenly from position T / 32 to the last, last:N, or all."""
    if not re.fullmatch(r"all|(last:)?[0-9]+", which):
        raise Refused(2, f"--queries: '{which}' is none of N, last:N, all")
    if which == "all":
        return np.arange(tokens)
    if which.startswith("last:"):
        return np.arange(max(0, tokens - int(which[5:])), tokens)
    count, first = min(int(which), tokens - tokens // 32), tokens // 32
    span = tokens - 1 - first
    return np.array([first + (i * span // (count - 1) if count > 1 else span) for i in range(count)], int)


def chosen_layers(text, count):
    """As kvscope record --layers: "0,2-4", ascending; None: all."""
    layers = []
    for part in text.split(",") if text is not None else []:
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if not match or last < first or last >= count or (layers and first <= layers[-1]):
            raise Refused(2, f"--layers: must be ascending layers below {count}, as 0,2-4")
        layers += range(first, last + 1)
    return layers if text is not None else list(range(count))


# --- recording --------------------------------------------------------------------------------------------------------


def load_libraries():
    try:
        import torch
        import transformers
        from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    except ImportError as error:
        raise Refused(4, f"recording needs torch and transformers 4.48 or newer: {error}") from None
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()
    return torch, transformers, ALL_ATTENTION_FUNCTIONS


class Recorder:
    """Holds the sequence under way; `attend` is the attention function of every layer."""

    def __init__(self, writer_of, functions):
        self.writer_of, self.functions = writer_of, functions
        self.writer = self.sequence = self.turned = None
        self.layers, self.skipped = {}, frozenset()  # layer: its number in the trace; modules of an encoder
        self.before_rope = False

    def begin(self, *sequence):
        """The next pass is this sequence: the arguments of TraceWriter.begin."""
        self.sequence, self.fresh, self.calls = sequence, True, {}

    def attend(self, module, query, key, value, *arguments, **named):
        if self.sequence is not None and id(module) not in self.skipped:
            self.take(module, query, key, value, named.get("scaling"))
        return self.functions["sdpa"](module, query, key, value, *arguments, **named)

    def watch_rotation(self, model):
        """Sees q and k before the rotary embedding: what the model's file hands to its apply_rotary_pos_emb."""
        files = {sys.modules[type(module).__module__] for module in model.modules()}
        files = [file for file in files if hasattr(file, "apply_rotary_pos_emb")]
        if not files:
            raise Refused(3, f"--before-rope: {type(model).__name__} has no apply_rotary_pos_emb")
        for file in files:
            def watched(q, k, *arguments, turn=file.apply_rotary_pos_emb, **named):
                self.turned = (q, k)
                return turn(q, k, *arguments, **named)

            file.apply_rotary_pos_emb = watched
        self.before_rope = True

    def unturned(self, query, key):
        """The two as they were before the rotary embedding; channels that it does not turn come last."""
        if self.turned is None:
            raise Refused(3, "--before-rope: a layer does not apply a rotary embedding")
        whole = []
        for before, after in zip(self.turned, (query, key)):
            if before.shape[:3] != after.shape[:3]:
                raise Refused(3, f"--before-rope: {tuple(before.shape)} before, {tuple(after.shape)} after it")
            rest = after[..., before.shape[-1] :]
            whole.append(self.torch.cat([before, rest], -1) if rest.shape[-1] else before)
        self.turned = None
        return whole

    def take(self, module, query, key, value, scaling):
        layer = getattr(module, "layer_idx", None)
        if layer is None:
            raise Refused(3, f"{type(module).__name__}: the attention module does not say which layer it is")
        cross = "cross/" if self.calls.get(layer) else ""  # a decoder's layer attends to its own sequence first
        self.calls[layer] = self.calls.get(layer, 0) + 1
        sources = self.sequence[4]
        if cross and sources is None:
            raise Refused(3, f"layer {layer}: attends twice; is it an encoder-decoder model?")
        _, heads, tokens, dim = query.shape
        rows = len(sources) if cross else tokens
        if tuple(key.shape) != tuple(value.shape) or key.shape[-1] != dim or key.shape[2] != rows:
            raise Refused(3, f"layer {layer}: q {tuple(query.shape)}, k {tuple(key.shape)}, v {tuple(value.shape)}: "
                             f"keys and values must have one shape, and {rows} tokens")
        if self.writer is None:
            self.writer = self.writer_of(heads, key.shape[1], dim, scaling or dim**-0.5)
        if self.fresh:
            self.writer.begin(*self.sequence)
            self.fresh = False
        if self.before_rope and not cross:
            query, key = self.unturned(query, key)
        positions = self.sequence[2]
        for name, tensor in (("k", key), ("v", value), ("q", query[:, :, positions])):
            if layer in self.layers and (name != "q" or len(positions)):
                self.writer.write(cross + name, self.layers[layer], tensor[0].float().cpu().numpy())


def header_of(config, name, options, layers, heads, kv_heads, dim, scaling):
    parameters = getattr(config, "rope_parameters", None) or {}
    theta = getattr(config, "rope_theta", None) or parameters.get("rope_theta", 0.0)
    header = {
        "model_name": name, "model_family": config.model_type, "num_layers": len(layers),
        "num_query_heads": heads, "num_kv_heads": kv_heads, "head_dim": dim, "softmax_scale": float(scaling),
        "causal": 1, "rope_applied": int(theta > 0 and not options.before_rope), "rope_theta": float(theta),
        "source_dtype": options.dtype, "license": options.license,
        "recorder": "kvscope record_hf.py" + (", layers " + ",".join(map(str, layers)) if options.layers else ""),
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


def read_ids(model, text, tokens, transformers):
    """Token ids of a file of text or of ids."""
    if tokens:
        try:
            with h5py.File(tokens) as f:
                return f["token_ids"][...]
        except (OSError, KeyError) as error:
            raise Refused(3, f"{tokens}: {error}") from None
    try:
        with open(text, encoding="utf-8") as f:
            content = f.read()
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(3, f"{text}: {error}") from None
    return np.array(transformers.AutoTokenizer.from_pretrained(model)(content, add_special_tokens=False)["input_ids"])


def windows_of(ids, sequences, window, what, vocabulary):
    """[sequences][window] of token ids; sequences 0: as many as there are ids for."""
    sequences = sequences or len(ids) // window
    if sequences < 1 or len(ids) < sequences * window:
        raise Refused(3, f"{len(ids)} {what} do not fill {max(sequences, 1)} sequences of {window}")
    ids = ids[: sequences * window].reshape(sequences, window).astype(np.int64)
    wrong = ids[(ids < 0) | (ids >= vocabulary)]
    if len(wrong):
        raise Refused(3, f"token id {wrong[0]} is outside the vocabulary of {vocabulary}")
    return ids


def read_config(options, transformers):
    """The model's configuration, once the options suit it: nothing large has been read then."""
    try:
        config = transformers.AutoConfig.from_pretrained(options.model)
    except (OSError, ValueError) as error:
        raise Refused(3, f"{options.model}: {str(error).splitlines()[0]}") from None
    source = options.source_text or options.source_tokens
    if bool(source) != bool(config.is_encoder_decoder):
        raise Refused(2, f"{config.model_type}: " + ("an encoder-decoder model needs --source-text or --source-tokens"
                                                     if not source else "has no encoder to read a source"))
    if "sliding_attention" in (getattr(config, "layer_types", None) or []):
        raise Refused(3, f"{config.model_type}: layers with a sliding window are not supported")
    admitted = getattr(config, "max_position_embeddings", None)
    if admitted and max(options.window + options.generate, options.source_window) > admitted:
        raise Refused(3, f"{options.model}: max_position_embeddings: {options.window} tokens and {options.generate} to "
                         f"generate; the model admits {admitted}")
    return config


def open_model(options, config, recorder, libraries):
    """The model, with the recorder's function as its attention."""
    torch, transformers, functions = libraries
    functions["kvscope"] = recorder.attend
    try:  # newer versions build masks by the name of the attention function
        from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS as masks

        masks["kvscope"] = masks["sdpa"]
    except ImportError:
        pass
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
    version = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    how = {"dtype" if version >= (4, 56) else "torch_dtype": getattr(torch, options.dtype)}
    try:
        model = kind.from_pretrained(options.model, attn_implementation="kvscope", **how).to(device).eval()
    except Exception as error:  # transformers, safetensors and torch each have their own kinds
        raise Refused(3, f"{options.model}: {(str(error) or repr(error)).splitlines()[0]}") from None
    if model.config.is_encoder_decoder:
        recorder.skipped = frozenset(id(module) for module in model.get_encoder().modules())
    if options.before_rope:
        recorder.watch_rotation(model)
    return model


def run_sequence(model, recorder, options, torch, window, source):
    """Generates behind the window if that is asked for, then runs it whole and records."""
    def given(ids):
        return torch.tensor(ids[None]).to(model.device)

    inputs, text = {}, given(window)
    if source is not None:
        inputs["input_ids"] = given(source)
    name = "input_ids" if source is None else "decoder_input_ids"
    if options.generate:
        mask = torch.ones_like(inputs.get("input_ids", text))
        text = model.generate(**inputs, **{name: text}, attention_mask=mask, do_sample=False,
                              max_new_tokens=options.generate, pad_token_id=int(window[0]))  # one sequence needs none
    task = "greedy generation behind a prompt" if options.generate else "language modelling, teacher forced"
    recorder.begin(text[0].cpu().numpy(), options.window, query_positions(options.queries, text.shape[1]), task, source)
    model(**inputs, **{name: text}, use_cache=False)
    if recorder.fresh or len(set(recorder.calls.values())) != 1 or recorder.calls[0] != 1 + (source is not None):
        raise Refused(3, f"{options.model}: not all of its layers use the attention interface")
    recorder.sequence = None


def read_windows(options, transformers, config):
    """The windows, and those of the source or None."""
    ids = read_ids(options.model, options.text, options.tokens, transformers)
    windows = windows_of(ids[options.first :], options.sequences, options.window, "tokens", config.vocab_size)
    if not config.is_encoder_decoder:
        return windows, [None] * len(windows)
    ids = read_ids(options.model, options.source_text, options.source_tokens, transformers)
    window = options.source_window or options.window
    return windows, list(windows_of(ids, len(windows), window, "source tokens", config.vocab_size))


def record(options):
    libraries = torch, transformers, _ = load_libraries()
    name = os.path.basename(options.model.rstrip("/")) if os.path.isdir(options.model) else options.model
    writers = []

    def writer_of(heads, kv_heads, dim, scaling):
        header = header_of(model.config, name, options, list(recorder.layers), heads, kv_heads, dim, scaling)
        writers.append(TraceWriter(options.output, header, options.element, options.deflate).__enter__())
        return writers[0]

    query_positions(options.queries, options.window)  # refused before any work
    recorder = Recorder(writer_of, libraries[2])
    recorder.torch = torch
    config = read_config(options, transformers)
    count = config.decoder_layers if config.is_encoder_decoder else config.num_hidden_layers
    recorder.layers = {layer: i for i, layer in enumerate(chosen_layers(options.layers, count))}
    windows, sources = read_windows(options, transformers, config)
    model = open_model(options, config, recorder, libraries)
    failure = (None, None, None)
    try:
        with torch.inference_mode():
            for i, (window, source) in enumerate(zip(windows, sources)):
                run_sequence(model, recorder, options, torch, window, source)
                if sys.stderr.isatty():
                    print(f"\rrecord: {i + 1}/{len(windows)} sequences", end="", file=sys.stderr)
    except BaseException:
        failure = sys.exc_info()
        raise
    finally:
        if writers:
            writers[0].__exit__(*failure)
    print(f"{options.output}: {len(windows)} sequences of {options.window} tokens")


def at_least(low):
    def whole(text):
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"'{text}' is no whole number from {low} up")
        return int(text)

    return whole


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Refused(2, message)


def refuse(status, line):
    """Says it and ends at once: HDF5, which still holds what could not be written, would fail again or crash."""
    print(f"record_hf.py: {line}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(status)


def read_options():
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a directory or a name that transformers knows")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", help="UTF-8 text, encoded with the model's tokenizer")
    source.add_argument("--tokens", help="HDF5 file with token_ids")
    parser.add_argument("-o", "--output", required=True, help="the trace to write")
    parser.add_argument("--window", type=at_least(1), default=2048, help="tokens of a sequence (default 2048)")
    parser.add_argument("--first", type=at_least(0), default=0, help="the first token taken")
    parser.add_argument("--sequences", type=at_least(0), default=0, help="sequences; 0: all that there are tokens for")
    parser.add_argument("--source-text", help="what an encoder reads: UTF-8 text")
    parser.add_argument("--source-tokens", help="or an HDF5 file with token_ids")
    parser.add_argument("--source-window", type=at_least(0), default=0, help="source tokens of each (default: --window)")
    parser.add_argument("--layers", metavar="LIST", help="only these layers, as 0,2-4")
    parser.add_argument("--before-rope", action="store_true", help="keys and queries before the rotary embedding")
    parser.add_argument("--queries", default="128", help="N evenly spread (default 128), last:N, all, or 0")
    parser.add_argument("--generate", type=at_least(0), default=0, help="greedy tokens behind each sequence")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: cuda where there is one)")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--element", default="binary16", choices=sorted(ELEMENTS))
    parser.add_argument("--deflate", type=int, default=4, choices=range(10), metavar="0-9")
    parser.add_argument("--license", default="unknown", help="terms of the recorded activations")
    return parser.parse_args()


def main():
    options = None
    try:
        options = read_options()
        record(options)
    except Refused as refused:
        refuse(refused.status, refused)
    except (MemoryError, OSError, RuntimeError) as error:  # of h5py and torch: no space, no memory
        refuse(3, f"{options.output}: {(str(error) or repr(error)).splitlines()[0]}")
    except KeyboardInterrupt:
        refuse(130, "interrupted; nothing was written")


if __name__ == "__main__":
    main()
