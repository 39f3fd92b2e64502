"""Cuts the golden Kitty data down to what ships in the tests.

usage: cut.py REFERENCE.h5 CUT.h5

The data are outputs of the public Kitty simulator (github.com/Summer-Summer/Kitty, MIT licence) for known inputs. Of the
key pages the first head is kept; every parameter set and every kind of input stays represented."""
import sys

import h5py

KEY_PAGES = ["004", "008", "010", "012", "013", "017", "024", "031", "034", "037", "038"]
CACHE_RUNS = ["007", "008"]


def copy(source, target, heads):
    for name, value in source.attrs.items():
        target.attrs[name] = value
    kept = {}
    for name, data in source.items():
        values = data[:heads]
        content = (values.dtype.str, values.tobytes())
        if content in kept:  # two names of one dataset
            target[name] = kept[content]
            continue
        kept[content] = target.create_dataset(name, data=values, chunks=values.shape, compression="gzip",
                                              compression_opts=9, shuffle=values.itemsize == 2)


with h5py.File(sys.argv[1]) as source, h5py.File(sys.argv[2], "w") as target:
    for name, value in source.attrs.items():
        target.attrs[name] = value
    target.attrs["cut"] = "made by tests/golden/cut.py: some cases, first head of each"
    for group, names in (("key_page", KEY_PAGES), ("cache_run", CACHE_RUNS)):
        for name in names:
            copy(source[group][name], target.require_group(f"{group}/{name}"), 1)
