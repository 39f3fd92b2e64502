"""What kvscope calibrate wrote, against the statistics of the trace as NumPy computes them.

usage: calibrate_numpy.py CONSTANTS TRACE BITS        keys after the rotary embedding, queries from position 0 on

In the basis the components are uncorrelated and of variance 1; errors of K's components cost a logit nothing together;
widths are as many as asked for and never fall where a component matters more to its tensor."""
import sys

import h5py
import numpy as np

SINK, HEADER = 32, 128


def main():
    constants, trace, bits = sys.argv[1], sys.argv[2], float(sys.argv[3])
    data = open(constants, "rb").read()
    assert data[:20] == b"kvscope-constants 2\n"
    layers, heads, dim, before, page, sink, window = np.frombuffer(data[32:60], np.int32)
    assert not before and (page, sink, window) == (128, SINK, 128)
    size = 2 * dim * (dim + 1) + (dim + 1) // 2 * 2
    assert len(data) == HEADER + 2 * layers * heads * size
    total = 0
    with h5py.File(trace) as f:
        assert data[60:HEADER].rstrip(b"\0") == f.attrs["model_name"].encode(), data[60:HEADER]
        group = f.attrs["num_query_heads"] // heads
        for index in range(2 * layers * heads):
            name, layer, head = "kv"[index // (layers * heads)], index // heads % layers, index % heads
            record = data[HEADER + index * size:HEADER + (index + 1) * size]
            basis = np.frombuffer(record, np.float16, dim * dim).reshape(dim, dim).astype(np.float64)
            mean = np.frombuffer(record, np.float16, dim, 2 * dim * dim).astype(np.float64)
            widths = np.frombuffer(record, np.uint8, dim, 2 * dim * (dim + 1)).astype(int)
            x = np.concatenate([s[name][layer, head][SINK:] for s in f["sequences"].values()]).astype(np.float64)
            z = (x - mean) @ np.linalg.inv(basis)
            spread = z.T @ z / len(z)
            if name == "k":  # what an error of a component costs
                q = np.concatenate([s["q"][layer, head * group:(head + 1) * group].reshape(-1, dim)
                                    for s in f["sequences"].values()]).astype(np.float64) * f.attrs["softmax_scale"]
                cost = basis @ (q.T @ q / len(q)) @ basis.T
            else:
                cost = basis @ basis.T
            # Smaller ones drown in the rounding of the basis to binary16, and are raised to a length that it can hold.
            large = (widths > 0) & (np.diag(cost) > 1e-5 * np.diag(cost).max())
            assert abs(z.mean(0)[large]).max() < 0.03, (name, layer, head, abs(z.mean(0)[large]).max())
            assert abs(spread[large][:, large] - np.eye(large.sum())).max() < 0.03, (name, layer, head)
            scale = np.sqrt(np.outer(np.diag(cost), np.diag(cost)))
            shared = abs(cost / scale - np.eye(dim))[large][:, large]
            assert large.sum() < 2 or shared.max() < 0.1, (name, layer, head, shared.max())
            order = np.flatnonzero(large)[np.argsort(-np.diag(cost)[large])]
            assert (np.diff(widths[order]) <= 0).mean() > 0.95, (name, layer, head)
            total += widths.sum()
    assert total == int(2 * dim * bits * layers * heads + 1e-6), total
    print("basis and widths are as the statistics ask")


main()
