"""What dense attention of one decode step costs with PyTorch on this GPU: the yardstick of docs/benchmarks/h200.md.

32 query heads, 8 KV heads, head_dim 128, bf16; scaled_dot_product_attention, its cuDNN and its flash kernels, once with
enable_gqa, once with the four query heads of a KV head laid out as four rows, which is the same attention. Each call is
captured in a CUDA graph for every one of several sets of K and V, together larger than any cache, and timed by events
around the graphs of all sets. Prints a JSON a line, the machine first.

    python3 tools/gpu/sdpa.py [--runs 15]
"""

import argparse
import json
import statistics
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

QUERY_HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128
KERNELS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
# Tokens and batch, the most telling first.
LENGTHS = [(131072, 1), (32768, 1), (1048576, 1), (524288, 1), (131072, 8), (32768, 8), (8192, 1), (262144, 1)]
COLD_BYTES = 1 << 30
WARM_RUNS = 3


def say(row):
    print(json.dumps(row), flush=True)


def percentile(sorted_samples, share):
    return sorted_samples[round(share * (len(sorted_samples) - 1))]


def time_graphs(graphs, runs):
    """Microseconds of one graph: the sorted samples of `runs` rounds over all of them."""
    samples = []
    for run in range(-WARM_RUNS, runs):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for graph in graphs:
            graph.replay()
        end.record()
        end.synchronize()
        if run >= 0:
            samples.append(begin.elapsed_time(end) * 1e3 / len(graphs))
    return sorted(samples)


def capture(attend):
    """A call as a graph; it runs before, so that what is set up at a first call stays outside."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        attend()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        attend()
    return graph


def bench(tokens, batch, runs):
    set_bytes = 2 * batch * KV_HEADS * tokens * HEAD_DIM * 2
    sets = max(1, -(-COLD_BYTES // set_bytes))
    shape = (batch, KV_HEADS, tokens, HEAD_DIM)
    draw = lambda size: torch.randn(size, device="cuda", dtype=torch.bfloat16)
    queries = {
        "gqa": draw((batch, QUERY_HEADS, 1, HEAD_DIM)),
        "rows": draw((batch, KV_HEADS, QUERY_HEADS // KV_HEADS, HEAD_DIM)),
    }
    pairs = [(draw(shape), draw(shape)) for _ in range(sets)]
    for name, kernel in KERNELS.items():
        for layout, q in queries.items():
            case = {"contextTokens": tokens, "batch": batch, "kernel": name, "layout": layout, "sets": sets}
            try:
                with sdpa_kernel(kernel):
                    attend = lambda k, v: scaled_dot_product_attention(q, k, v, enable_gqa=layout == "gqa")
                    graphs = [capture(lambda k=k, v=v: attend(k, v)) for k, v in pairs]
                samples = time_graphs(graphs, runs)
            except RuntimeError as error:
                say({**case, "error": str(error).split("\n")[0]})
                continue
            median = statistics.median(samples)
            spread = {"lowUs": round(percentile(samples, 0.1), 2), "highUs": round(percentile(samples, 0.9), 2)}
            rate = round(set_bytes / median * 1e-3)
            say({**case, "medianUs": round(median, 2), **spread, "gigabytesPerSecond": rate})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    if not torch.cuda.is_available():
        sys.exit("sdpa.py: PyTorch sees no GPU")
    torch.manual_seed(1)
    versions = {"torch": torch.__version__, "cudnn": torch.backends.cudnn.version()}
    say({"gpu": torch.cuda.get_device_name(), **versions, "runs": runs})
    with torch.inference_mode():
        for tokens, batch in LENGTHS:
            bench(tokens, batch, runs)
            torch.cuda.empty_cache()


main()
