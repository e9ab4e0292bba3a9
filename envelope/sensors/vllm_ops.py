"""Times vLLM's own matrix products on the processor, run by the interpreter that vLLM is installed in.

A program of its own, for that interpreter has no ``envelope``: ``python vllm_ops.py DTYPE ROWS SHAPES BYTES SECONDS``
prints JSON, a list of ``{"rows", "k", "n", "count", "times_s"}``: each chain has ``count`` products of different
weights, ``BYTES`` in all. The threads are those of the environment (``OMP_NUM_THREADS``), as in the engine.
"""

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any


def products(torch: Any, dtype: Any, k: int, n: int, count: int) -> list[Callable[[Any], Any]]:
    """Return ``count`` products of a [rows, k] matrix and weights of their own, dispatched as vLLM's layers do it."""
    return [product(torch, dtype, k, n) for _ in range(count)]


def product(torch: Any, dtype: Any, k: int, n: int) -> Callable[[Any], Any]:
    """Return one such product; PyTorch's own, which vLLM falls back to, where its dispatcher has another name."""
    layer = torch.nn.Linear(k, n, bias=False, dtype=dtype)
    layer.weight.requires_grad_(False)
    layer.weight.copy_(0.02 * torch.randn(n, k))
    try:
        utils = importlib.import_module("vllm.model_executor.layers.utils")
        utils.dispatch_cpu_unquantized_gemm(layer, remove_weight=False)
        multiply = layer.cpu_linear
    except (ImportError, AttributeError, RuntimeError):
        multiply = torch.nn.functional.linear
    return lambda x: multiply(x, layer.weight, None)


def timed(torch: Any, dtype: Any, rows: int, k: int, chain: list[Callable[[Any], Any]], budget_s: float) -> list[float]:
    """Return the seconds of a chain, repeated until the budget is spent, at least twice."""
    x = (0.02 * torch.randn(rows, k)).to(dtype)
    found: list[float] = []
    chain[0](x)
    end = time.perf_counter() + budget_s
    while len(found) < 2 or (len(found) < 12 and time.perf_counter() < end):
        start = time.perf_counter()
        for product in chain:
            product(x)
        found.append(time.perf_counter() - start)
    return found


def measured(arguments: list[str]) -> Iterator[dict[str, Any]]:
    """Yield what each chain took at each number of rows."""
    name, rows, shapes, total, budget = arguments
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    dtype = getattr(torch, name)
    with torch.no_grad():
        for shape in shapes.split(","):
            k, n = map(int, shape.split("x"))
            count = max(round(float(total) / (k * n * dtype.itemsize)), 1)
            chain = products(torch, dtype, k, n, count)
            for m in map(int, rows.split(",")):
                # Arithmetic takes the time of many rows, whatever the weights are read from.
                used = chain[: max(min(count, 64 // m), 1)]
                times = timed(torch, dtype, m, k, used, float(budget))
                yield {"rows": m, "k": k, "n": n, "count": len(used), "times_s": times}
                print(f"{m} rows of {shape}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    print(json.dumps(list(measured(sys.argv[1:]))))
