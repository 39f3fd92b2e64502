"""kvscope's schemes in Python: a key-value cache stored as a scheme says, for experiments in another engine.

    import kvscope
    scheme = kvscope.Scheme("kitty:boost=0.25", head_dim=128)
    model.generate(ids, past_key_values=kvscope.hf_cache(scheme))      any Hugging Face model

The arithmetic is that of libkvscope (its path is in KVSCOPE_LIBRARY, or it is found as the linker finds it). NumPy alone
is enough for Scheme and HeadCache; hf_cache needs torch and transformers.
"""
import ctypes
import ctypes.util
import os

import numpy as np

K, V = 0, 1


class _Place(ctypes.Structure):  # kvs_page_place of kernels/ranking.h
    _fields_ = [("seed", ctypes.c_uint64)] + [(n, ctypes.c_int) for n in ("sequence", "layer", "kv_head", "page")]


class Bits(ctypes.Structure):  # kvs_bits of kernels/scheme.h
    """Total bits of one head, K and V together."""

    _fields_ = [(n, ctypes.c_double) for n in ("payload", "metadata", "residual", "padding")]


def _load():
    path = os.environ.get("KVSCOPE_LIBRARY") or ctypes.util.find_library("kvscope")
    if not path:
        raise OSError("libkvscope is not found; set KVSCOPE_LIBRARY to the path of libkvscope.so")
    library = ctypes.CDLL(path)
    library.kvs_scheme_open.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    library.kvs_scheme_close.argtypes = [ctypes.c_void_p]
    library.kvs_scheme_close.restype = None
    library.kvs_scheme_head_bits.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    library.kvs_scheme_head_bits.restype = Bits
    library.kvs_error_text.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_ulong]
    library.kvs_error_text.restype = None
    library.kvs_cache_append.argtypes = (
        [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p] * 4
    )
    return library


class Scheme:
    """A scheme, written as on the command line, for one head_dim."""

    def __init__(self, spec, head_dim):
        self.library, self.spec, self.head_dim = _load(), spec, head_dim
        self.error, self.handle = ctypes.create_string_buffer(2048), ctypes.c_void_p()
        self.must(self.library.kvs_scheme_open(spec.encode(), head_dim, ctypes.byref(self.handle), self.error))

    def must(self, status):
        if status:
            text = ctypes.create_string_buffer(1024)
            self.library.kvs_error_text(self.error, text, 1024)
            raise ValueError(text.value.decode())

    def bits_per_element(self, tokens):
        """Effective bits per element of K and V once `tokens` tokens are cached."""
        bits = self.library.kvs_scheme_head_bits(self.handle, tokens)
        return (bits.payload + bits.metadata + bits.residual + bits.padding) / (2 * tokens * self.head_dim)

    def __del__(self):
        if getattr(self, "handle", None):
            self.library.kvs_scheme_close(self.handle)


class HeadCache:
    """K or V of one head of one layer: append rows, read what attention would read."""

    def __init__(self, scheme, side, seed=0, sequence=0, layer=0, kv_head=0):
        self.scheme, self.side = scheme, side
        self.place = _Place(seed, sequence, layer, kv_head, 0)
        self.full = self.data = np.zeros((0, scheme.head_dim), np.float32)
        self.tokens = self.prefill = self.stored_end = 0

    def append(self, rows):
        """Takes in rows [tokens][head_dim] and returns the cache as these tokens' queries read it: what was stored
        before, and the new rows as binary16. Then stores the pages that have become due."""
        rows = np.asarray(rows, np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.scheme.head_dim or len(rows) == 0:
            raise ValueError(f"rows have the shape {rows.shape}, need [tokens][{self.scheme.head_dim}]")
        if self.tokens == 0:
            self.prefill = len(rows)
        end = self.tokens + len(rows)
        if end > len(self.full):
            grown = np.zeros((2, max(end, 2 * len(self.full)), self.scheme.head_dim), np.float32)
            grown[0, : self.tokens], grown[1, : self.tokens] = self.full[: self.tokens], self.data[: self.tokens]
            self.full, self.data = grown
        with np.errstate(over="ignore"):
            seen = np.concatenate([self.data[: self.tokens], rows.astype(np.float16).astype(np.float32)])
        self.full[self.tokens : end] = rows
        stored_end = ctypes.c_int64()
        self.scheme.must(self.scheme.library.kvs_cache_append(
            self.scheme.handle, self.side, ctypes.byref(self.place), self.tokens, len(rows), self.prefill,
            self.full.ctypes.data, self.data.ctypes.data, ctypes.byref(stored_end), self.scheme.error))
        self.tokens, self.stored_end = end, stored_end.value
        return seen

    def read(self):
        """The cache as the next query reads it, [tokens][head_dim]."""
        return self.data[: self.tokens].copy()


def hf_cache(scheme, seed=0):
    """A transformers cache (batch size 1) whose layers hold what the scheme stores. A prompt is exact within."""
    import torch
    from transformers.cache_utils import DynamicCache

    class QuantizedCache(DynamicCache):
        def __init__(self):
            super().__init__()
            self.heads = {}

        def _append(self, side, states, layer):
            if states.shape[0] != 1:
                raise ValueError(f"a batch of {states.shape[0]}; the cache takes one sequence")
            rows = states[0].detach().float().cpu().numpy()
            seen = []
            for head in range(rows.shape[0]):
                key = (side, layer, head)
                if key not in self.heads:
                    self.heads[key] = HeadCache(scheme, side, seed, 0, layer, head)
                seen.append(self.heads[key].append(rows[head]))
            return torch.from_numpy(np.stack(seen)[None]).to(device=states.device, dtype=states.dtype)

        def update(self, key_states, value_states, layer_idx, cache_kwargs=None):
            return self._append(K, key_states, layer_idx), self._append(V, value_states, layer_idx)

        def get_seq_length(self, layer_idx=0):
            head = self.heads.get((K, layer_idx, 0))
            return head.tokens if head else 0

    return QuantizedCache()
