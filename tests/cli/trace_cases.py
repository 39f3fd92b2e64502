"""Writes traces with h5py, independently of our writer: good ones that must be accepted, and broken ones, one for each rule
of traces/FORMAT.md. Prints a line each: "good FILE" or "bad FILE PATTERN", PATTERN matching the error.

usage: trace_cases.py FOLDER          write the cases
       trace_cases.py FOLDER check    compare FOLDER/ours-*.h5, written by kvscope gen, with what h5py should see
"""
import os
import sys

import h5py
import numpy as np

L, HQ, HKV, D, T, TQ = 2, 4, 2, 8, 40, 3
INTEGERS = {"num_layers": L, "num_query_heads": HQ, "num_kv_heads": HKV, "head_dim": D, "causal": 1, "rope_applied": 1}
TEXTS = ("model_name", "model_family", "recorder", "created_utc", "license")
folder = sys.argv[1]
random = np.random.default_rng(1)


def values(heads, rows):
    return random.standard_normal((L, heads, rows, D)).astype(np.float16)


def sequence(f, index, **changes):
    g = f.create_group("sequences/%06d" % index)
    g.attrs["num_tokens"] = np.int32(T)
    g.attrs["num_prompt_tokens"] = np.int32(T)
    g.attrs["task"] = "test"
    data = {"k": values(HKV, T), "v": values(HKV, T), "q": values(HQ, TQ),
            "query_pos": np.array([0, 5, T - 1], np.int32), "token_ids": np.arange(T, dtype=np.int32)}
    data.update(changes)
    for name, array in data.items():
        if array is not None:
            g.create_dataset(name, data=array)
    return g


def trace(name, sequences=1, **changes):
    f = h5py.File(os.path.join(folder, name + ".h5"), "w")
    f.attrs["format"] = "kvscope-trace"
    f.attrs["format_version"] = np.array([1, 0], np.int32)
    for key, value in INTEGERS.items():
        f.attrs[key] = np.int32(value)
    f.attrs["softmax_scale"] = 0.25
    f.attrs["rope_theta"] = 1e4
    for key in TEXTS:
        f.attrs[key] = "text of " + key
    f.attrs["source_dtype"] = "float32"
    for i in range(sequences):
        sequence(f, i, **changes)
    return f


S = 25  # source positions


def cross(f, **changes):
    g = f.create_group("sequences/000000/cross")
    data = {"k": values(HKV, S), "v": values(HKV, S), "q": values(HQ, TQ), "source_token_ids": np.arange(S, dtype=np.int32)}
    data.update(changes)
    for name, array in data.items():
        if array is not None:
            g.create_dataset(name, data=array)


def good(name, f):
    f.close()
    print("good", name + ".h5")


def bad(name, f, pattern):
    if f is not None:
        f.close()
    print("bad", name + ".h5", pattern)


def replace(f, path, **options):
    del f[path]
    return f.create_dataset(path, **options)


def good_cases():
    good("plain", trace("plain"))
    good("many", trace("many", sequences=11))
    good("no-queries", trace("no-queries", q=None, query_pos=None))
    good("no-tokens", trace("no-tokens", token_ids=None))
    good("binary32", trace("binary32", k=values(HKV, T).astype(np.float32), q=values(HQ, TQ).astype(np.float32)))
    f = trace("bfloat16", v=(random.integers(0, 256, (L, HKV, T, D)) + 0x3f00).astype(np.uint16))
    f["sequences/000000/v"].attrs["encoding"] = "bfloat16"
    good("bfloat16", f)
    f = trace("chunked")
    for name in "kvq":
        array = f["sequences/000000/" + name][:]
        replace(f, "sequences/000000/" + name, data=array, chunks=(1, 1, min(16, array.shape[2]), D), shuffle=True,
                compression="gzip", fletcher32=True)
    good("chunked", f)
    f = trace("widths")
    f.attrs["num_layers"] = np.int64(L)
    f.attrs["head_dim"] = np.uint8(D)
    f.attrs["num_kv_heads"] = np.uint64(HKV)
    f.attrs["causal"] = np.array([1], ">i2")
    f.attrs["softmax_scale"] = np.float32(0.25)
    f.attrs["recorder"] = np.bytes_("of fixed length")
    f.attrs["format_version"] = np.array([1, 7], np.int64)
    good("widths", f)
    f = trace("optional")
    f.attrs["rope_scaling"] = '{"type": "yarn", "factor": 4.0}'
    f.attrs["rope_interleaved"] = np.int32(1)
    f.attrs["rotary_dim"] = np.int32(4)
    f.attrs["something_else"] = 1
    good("optional", f)
    f = trace("cross", sequences=2)
    cross(f)
    good("cross", f)
    f = trace("cross-no-queries", q=None, query_pos=None)
    cross(f, q=None, source_token_ids=None)
    good("cross-no-queries", f)


def attribute_cases():
    keys = list(INTEGERS) + list(TEXTS) + ["format", "format_version", "softmax_scale", "rope_theta", "source_dtype"]
    for key in keys:
        f = trace("no-" + key)
        del f.attrs[key]
        bad("no-" + key, f, "/@%s: attribute is missing" % key)
    for key in ("num_tokens", "num_prompt_tokens", "task"):
        f = trace("no-" + key)
        del f["sequences/000000"].attrs[key]
        bad("no-" + key, f, "/sequences/000000@%s: attribute is missing" % key)
    wrong = [("format", "other", "is 'other', must be 'kvscope-trace'"),
             ("format", np.int32(1), "must be one string"),
             ("format_version", np.array([2, 0], np.int32), "version 2.0 is not supported"),
             ("format_version", np.int32(1), "must be two integers"),
             ("num_layers", np.int32(0), "0 is outside 1 to"),
             ("num_layers", np.int32(-1), "-1 is outside 1 to"),
             ("num_layers", np.uint64(2**64 - 1), "is outside 1 to"),
             ("num_layers", np.float64(2), "must be one integer"),
             ("num_layers", np.array([2, 2], np.int32), "must be one integer"),
             ("head_dim", np.int32(2**31 - 1), "is outside 1 to"),
             ("num_query_heads", np.int32(3), "3 is no multiple of num_kv_heads 2"),
             ("softmax_scale", np.float64("nan"), "is not finite"),
             ("softmax_scale", np.float64("inf"), "is not finite"),
             ("softmax_scale", np.float64(0), "0 is not above 0"),
             ("softmax_scale", np.float64(-1), "-1 is not above 0"),
             ("softmax_scale", np.int32(1), "must be one floating-point number"),
             ("rope_theta", np.float64(-1), "-1 is below 0"),
             ("rope_scaling", "{", "is not JSON"),
             ("rotary_dim", np.int32(10), "10 is odd or above head_dim 8"),
             ("causal", np.int32(2), "2 is outside 0 to 1"),
             ("source_dtype", "int8", "is 'int8', must be"),
             ("model_family", "x" * 64, "is longer than 63 bytes"),
             ("model_name", np.bytes_(b"\xff\xfe"), "is not UTF-8"),
             ("model_name", h5py.Empty("S4"), "must be one string")]
    for i, (key, value, pattern) in enumerate(wrong):
        name = "attribute-%d-%s" % (i, key)
        f = trace(name)
        f.attrs[key] = value
        bad(name, f, "/@%s: .*%s" % (key, pattern))
    for key, value, pattern in (("num_tokens", 0, "0 is outside 1"), ("num_tokens", 2**31 - 1, "is outside 1"),
                                ("num_prompt_tokens", T + 1, "is outside 0 to 40"),
                                ("num_tokens", T - 1, "")):
        name = "sequence-%s-%d" % (key, value)
        f = trace(name)
        f["sequences/000000"].attrs["num_prompt_tokens"] = np.int32(0)
        f["sequences/000000"].attrs[key] = np.int32(value)
        bad(name, f, "/sequences/000000@%s: .*%s" % (key, pattern) if pattern else
            "/sequences/000000/k: dimension 2 .tokens. is 40, must be 39")


def dataset_cases():
    s = "/sequences/000000/"
    for name, missing in (("k", "k"), ("v", "v"), ("q", "q"), ("query_pos", "query_pos")):
        bad("without-" + name, trace("without-" + name, **{name: None}), s + missing + ": dataset is missing")
    k = values(HKV, T)
    shapes = {"rank": (k[0], "has rank 3, must be 4"), "scalar": (np.float16(1), "has rank 0, must be 4"),
              "layers": (k[:1], "dimension 0 .num_layers. is 1, must be 2"),
              "heads": (values(HQ, T), "dimension 1 .heads. is 4, must be 2"),
              "tokens": (k[:, :, 1:], "dimension 2 .tokens. is 39, must be 40"),
              "dim": (k[..., 1:], "dimension 3 .head_dim. is 7, must be 8"),
              "empty": (k[:, :, :0], "dimension 2 is 0"),
              "float64": (k.astype(np.float64), "has another element type"),
              "int16": (k.astype(np.int16), "has another element type"),
              "uint16": (k.view(np.uint16), "without the attribute encoding = bfloat16"),
              "big": (k.astype(">f2"), "has big-endian elements"),
              "text": (np.full(k.shape, b"x"), "has another element type")}
    for name, (array, pattern) in shapes.items():
        bad("k-" + name, trace("k-" + name, k=array), s + "k: .*" + pattern)
    f = trace("encoding", k=k.view(np.uint16))
    f[s + "k"].attrs["encoding"] = "posit"
    bad("encoding", f, s + "k: .*without the attribute encoding")
    for name, array, pattern in (("order", [5, 5, 6], "positions must increase: 5 at index 1 follows 5"),
                                 ("negative", [-1, 5, 6], "position -1 at index 0 is outside 0 to 39"),
                                 ("late", [1, 5, T], "position 40 at index 2 is outside 0 to 39")):
        bad("pos-" + name, trace("pos-" + name, query_pos=np.array(array, np.int32)), s + "query_pos: " + pattern)
    bad("pos-length", trace("pos-length", query_pos=np.array([1, 2], np.int32)), s + "query_pos: has length 2, must be 3")
    bad("pos-type", trace("pos-type", query_pos=np.array([1, 2, 3])), s + "query_pos: .*must be int32")
    bad("ids-length", trace("ids-length", token_ids=np.zeros(T + 1, np.int32)), s + "token_ids: has length 41")
    bad("ids-type", trace("ids-type", token_ids=np.zeros(T)), s + "token_ids: .*must be int32")
    for tensor, place, value in (("k", (0, 0, 0, 0), np.nan), ("v", (1, 1, T - 1, D - 1), np.inf),
                                 ("q", (1, 3, 2, 5), -np.inf)):
        array = values(HQ if tensor == "q" else HKV, TQ if tensor == "q" else T)
        array[place] = value
        bad("finite-" + tensor, trace("finite-" + tensor, **{tensor: array}),
            s + tensor + r": value at \[%d, %d, %d, %d\] is not finite" % place)


def cross_cases():
    s = "/sequences/000000/cross"
    infinite = values(HKV, S)
    infinite[1, 0, 3, 2] = np.inf
    cases = {"no-k": ({"k": None}, "/k: dataset is missing"), "no-v": ({"v": None}, "/v: dataset is missing"),
             "no-q": ({"q": None}, "/q: dataset is missing; the sequence has query_pos"),
             "k-rank": ({"k": values(HKV, S)[0]}, "/k: has rank 3, must be 4"),
             "k-heads": ({"k": values(HQ, S)}, "/k: dimension 1 .heads. is 4, must be 2"),
             "k-type": ({"k": values(HKV, S).astype(np.float64)}, "/k: .*another element type"),
             "v-rows": ({"v": values(HKV, S + 1)}, "/v: dimension 2 .tokens. is 26, must be 25"),
             "q-rows": ({"q": values(HQ, TQ + 1)}, "/q: dimension 2 .tokens. is 4, must be 3"),
             "ids-length": ({"source_token_ids": np.zeros(S + 1, np.int32)}, "/source_token_ids: has length 26"),
             "ids-type": ({"source_token_ids": np.zeros(S)}, "/source_token_ids: .*must be int32"),
             "finite": ({"k": infinite}, r"/k: value at \[1, 0, 3, 2\] is not finite")}
    for name, (changes, pattern) in cases.items():
        f = trace("cross-" + name)
        cross(f, **changes)
        bad("cross-" + name, f, s + pattern)
    f = trace("cross-q-alone", q=None, query_pos=None)
    cross(f)
    bad("cross-q-alone", f, s + "/q: dataset needs the sequence's query_pos")
    f = trace("cross-dataset")
    f[s] = np.zeros(3)
    bad("cross-dataset", f, s + ": is not a readable group")
    f = trace("cross-soft")
    f[s] = h5py.SoftLink("/sequences/000000")
    bad("cross-soft", f, s + ": is a soft link")


def structure_cases():
    s = "/sequences/000000/"
    f = trace("gap", sequences=3)
    del f["sequences/000001"]
    bad("gap", f, "/sequences/000001: group is missing")
    f = trace("none")
    del f["sequences/000000"]
    bad("none", f, "/sequences: holds 0 sequences")
    f = trace("no-group")
    del f["sequences"]
    bad("no-group", f, "/sequences: group is missing")
    f = trace("dataset-for-group")
    replace(f, "sequences", data=np.zeros(3))
    bad("dataset-for-group", f, "/sequences: is not a readable group")
    f = trace("group-for-dataset", k=None)
    f.create_group(s + "k")
    bad("group-for-dataset", f, s + "k: is not a readable dataset")
    f = trace("soft", k=None)
    f[s + "k"] = h5py.SoftLink(s + "v")
    bad("soft", f, s + "k: is a soft link")
    f = trace("external-link", k=None)
    f[s + "k"] = h5py.ExternalLink("plain.h5", s + "k")
    bad("external-link", f, s + "k: is an external link")
    f = trace("external-storage", k=None)
    with open(os.path.join(folder, "raw"), "wb") as raw:
        raw.write(values(HKV, T).tobytes())
    f.create_dataset(s + "k", shape=(L, HKV, T, D), dtype=np.float16, external=[(os.path.join(folder, "raw"), 0, 10240)])
    bad("external-storage", f, s + "k: is stored in another file")
    f = trace("virtual", k=None)
    layout = h5py.VirtualLayout((L, HKV, T, D), np.float16)
    layout[:] = h5py.VirtualSource(os.path.join(folder, "plain.h5"), s + "k", (L, HKV, T, D))
    f.create_virtual_dataset(s + "k", layout)
    bad("virtual", f, s + "k: is a virtual dataset")
    f = trace("unwritten", k=None)
    d = f.create_dataset(s + "k", (L, HKV, T, D), np.float16, chunks=(1, 1, 16, D))
    d[0] = 1
    bad("unwritten", f, s + "k: is incomplete: 6 of 12 chunks were written")
    f = trace("never-written", k=None)
    f.create_dataset(s + "k", (L, HKV, T, D), np.float16)
    bad("never-written", f, s + "k: is incomplete")
    f = trace("absurd", k=None)
    f["sequences/000000"].attrs["num_tokens"] = np.int32(2**28)
    f.create_dataset(s + "k", (L, HKV, 2**28, D), np.float16, chunks=(1, 1, 128, D))
    bad("absurd", f, s + "k: is incomplete")
    f = trace("overflow", k=None)
    f.create_dataset(s + "k", (2**31, 2**31, 2**20, D), np.float16, chunks=(1, 1, 128, D))
    bad("overflow", f, s + "k: is too large")
    f = trace("huge-chunk", k=None)
    f.create_dataset(s + "k", (L, HKV, T, D), np.float16, chunks=(1, 1, 2**22, D), maxshape=(L, HKV, None, D))
    bad("huge-chunk", f, s + "k: has chunks of more than")
    f = trace("filter", k=None)
    f.create_dataset(s + "k", data=values(HKV, T), chunks=(1, 1, 16, D), compression="lzf")
    bad("filter", f, s + "k: needs filter 32000 .lzf.")


def stream_cases():
    with open(os.path.join(folder, "empty.h5"), "wb"):
        pass
    bad("empty", None, "is not an HDF5 file")
    with open(os.path.join(folder, "noise.h5"), "wb") as f:
        f.write(bytes(range(256)) * 100)
    bad("noise", None, "is not an HDF5 file")
    content = open(os.path.join(folder, "chunked.h5"), "rb").read()
    for part in (8, 9, 50, 96, 500, 2000, len(content) // 3, len(content) // 2, len(content) - 1):
        name = "truncated-%d" % part
        with open(os.path.join(folder, name + ".h5"), "wb") as f:
            f.write(content[:part])
        bad(name, None, "is a damaged HDF5 file|is not an HDF5 file")


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def check_ours():
    """Each element type of the same generated values: dtype, shapes, chunks, attributes, and values that agree."""
    files = {e: h5py.File(os.path.join(folder, "ours-%s.h5" % e), "r") for e in ("binary16", "binary32", "bfloat16")}
    for element, f in files.items():
        assert f.attrs["format"] == "kvscope-trace" and list(f.attrs["format_version"]) == [1, 0]
        assert f.attrs["format_version"].dtype == np.int32 and f.attrs["num_layers"].dtype == np.int32
        assert f.attrs["num_layers"] == 3 and f.attrs["num_query_heads"] == 4 and f.attrs["num_kv_heads"] == 2
        assert f.attrs["head_dim"] == 64 and f.attrs["softmax_scale"] == 0.125 and f.attrs["causal"] == 1
        assert isinstance(f.attrs["license"], str) and f.attrs["source_dtype"] == "float32"
        assert sorted(f["sequences"]) == ["000000", "000001"]
        for s in f["sequences"].values():
            assert s.attrs["num_tokens"] == 200 and s.attrs["num_prompt_tokens"] == 150
            assert list(s["query_pos"]) == [100, 133, 166, 199] and s["query_pos"].dtype == np.int32
            for name, shape in (("k", (3, 2, 200, 64)), ("v", (3, 2, 200, 64)), ("q", (3, 4, 4, 64))):
                d = s[name]
                assert d.shape == shape and d.chunks == (1, 1, min(128, shape[2]), 64), (name, d.shape, d.chunks)
                exact = files["binary32"][d.name][:]
                assert exact.dtype == np.float32 and np.isfinite(exact).all() and exact.std() > 0.1
                if element == "binary16":
                    assert same(d[:], exact.astype(np.float16))
                if element == "bfloat16":
                    assert d.dtype == np.uint16 and d.attrs["encoding"] == "bfloat16"
                    bits = exact.view(np.uint32).astype(np.uint64)
                    assert same(d[:], ((bits + 0x7fff + (bits >> 16 & 1)) >> 16).astype(np.uint16))
                assert d.compression == ("gzip" if element == "binary16" else None)
                assert d.shuffle == (element == "binary16")


if len(sys.argv) > 2:
    check_ours()
else:
    good_cases()
    attribute_cases()
    dataset_cases()
    cross_cases()
    structure_cases()
    stream_cases()
