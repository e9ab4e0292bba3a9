"""Step tables and fleets that the tests of the room share."""

import numpy as np
import pytest

from envelope.spec.step import StepTables


def realistic_tables(*, seqs: int = 64, tokens: int = 2048) -> StepTables:
    """Tables with every term switched on: bends, batch-dependent attention, overheads."""
    n = np.arange(seqs + 1)
    knots = np.array([0.0, 512.0, 2048.0, 8192.0])
    slope = np.outer(1e-7 * (1.0 + 3.0 / np.maximum(n, 1)), np.array([1.0, 0.7, 1.3, 0.9]))
    m = np.arange(tokens + 1)
    return StepTables(
        token_s=np.where(m > 0, 6e-3 + np.maximum(0.0, m - 200) * 2.1e-5, 0.0),
        sampled_s=1e-4 + 3e-6 * n,
        step_overhead_s=7e-4,
        decode_base_s=np.where(n > 0, 1e-4 + 2e-6 * n, 0.0),
        context_knots_tokens=knots,
        decode_slope_s_per_token=slope,
        prefill_base_s=4e-4,
        prefill_token_s=1.3e-6,
        prefill_slope_s_per_token=np.array([2e-10, 1.5e-10, 2.5e-10, 1e-10]),
        request_overhead_s=0.0,
        idle_w=100.0,
        step_w=100.0 + 500.0 * (1 - np.exp(-m / 100)),
        bound=np.where(m < 300, 1, 0).astype(np.int8),
    )


@pytest.fixture(scope="session")
def tables() -> StepTables:
    return realistic_tables()


@pytest.fixture(scope="session", autouse=True)
def _kernel_compiled_once() -> None:
    """Compile the kernel before the long statistical tests, if numba is there; later sessions load it from disk."""
    from envelope.serving.warm import prepare

    prepare()
