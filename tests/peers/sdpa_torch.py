"""Times PyTorch's scaled_dot_product_attention in full precision where `kvscope bench --backend cuda` has its table:
one query token a sequence, 32 query heads over 8 KV heads, head_dim 128, graph replays over inputs larger than the L2.
The best of what PyTorch offers counts. Prints one JSON document. usage: sdpa_torch.py [REPEATS]"""
import json
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

HEADS, QUERY_HEADS, DIM = 8, 32, 128


def timed(call, sets, repeats):
    graphs = []
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for arguments in sets:
            call(*arguments)
        stream.synchronize()
        for arguments in sets:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                call(*arguments)
            graphs.append(graph)
        seconds = []
        for i in range(repeats + len(graphs)):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            graphs[i % len(graphs)].replay()
            end.record()
            end.synchronize()
            seconds.append(begin.elapsed_time(end) * 1e-3)
    return statistics.median(seconds[len(graphs):])


def grouped(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def folded(q, k, v):
    """The query heads of one KV head as query tokens: the same result, and nothing is expanded."""
    return F.scaled_dot_product_attention(q.view(q.shape[0], HEADS, QUERY_HEADS // HEADS, DIM), k, v)


def main():
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 21
    results = []
    for batch in (1, 8, 32, 64):
        for tokens in (4096, 32768):
            size = batch * tokens * HEADS * DIM * 4
            sets = []
            for _ in range(max(2, min(16, -(-240_000_000 // size)))):
                q = torch.randn(batch, QUERY_HEADS, 1, DIM, device="cuda", dtype=torch.float16)
                k = torch.randn(batch, HEADS, tokens, DIM, device="cuda", dtype=torch.float16)
                sets.append((q, k, torch.randn_like(k)))
            best = None
            for name, backend in (("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION),
                                  ("efficient", SDPBackend.EFFICIENT_ATTENTION)):
                for call in (grouped, folded):
                    try:
                        with sdpa_kernel(backend):
                            seconds = timed(call, sets, repeats)
                    except RuntimeError:
                        continue
                    if best is None or seconds < best[0]:
                        best = (seconds, name + " " + call.__name__)
            results.append({"batch": batch, "tokens": tokens, "seconds": best[0], "backend": best[1],
                            "gb_per_s": size / best[0] / 1e9})
            del sets
    print(json.dumps({"device": torch.cuda.get_device_name(), "torch": torch.__version__, "results": results}, indent=1))


main()
