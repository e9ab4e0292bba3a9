"""Speculative decoding: the tokens per step are random with the stated acceptance."""

import numpy as np
import pytest

from envelope.serving.fleet import Fleet, PoolConfig, ReplicaConfig
from envelope.serving.kernel import layout as k
from envelope.serving.requests import open_loop
from envelope.serving.run import run_once
from envelope.spec.step import constant_step

STEP_S = 0.01


def decode_steps(drafts: int, acceptance: float, output: int, n: int = 4000, seed: int = 1) -> np.ndarray:
    tables = constant_step(STEP_S, max_num_seqs=8)
    replica = ReplicaConfig(
        steps=tables, max_num_seqs=8, max_num_batched_tokens=256, kv_blocks=10_000, draft_tokens=drafts,
        draft_acceptance_frac=acceptance,
    )  # fmt: skip
    requests = open_loop(np.arange(n) * 0.4, np.full(n, 10), np.full(n, output), seed=seed)
    run = run_once(Fleet(pools=(PoolConfig(replica=replica),)), requests)
    return np.rint((run.rx[:, k.F_FINISH] - run.rx[:, k.F_FIRST]) / STEP_S)


@pytest.mark.parametrize(("drafts", "acceptance"), [(1, 0.6), (3, 0.7), (5, 0.9), (4, 0.0)])
def test_tokens_per_step_are_a_truncated_geometric(drafts: int, acceptance: float) -> None:
    """Mean (1 − a^(d+1))/(1 − a) (Leviathan et al., 2023); renewal theory adds the overshoot of the last step."""
    output = 400
    p = np.array([(1 - acceptance) * acceptance**j for j in range(drafts)] + [acceptance**drafts])
    tokens = np.arange(1, drafts + 2)
    mean, second = float(p @ tokens), float(p @ tokens**2)
    assert mean == pytest.approx((1 - acceptance ** (drafts + 1)) / (1 - acceptance))
    expected = (output - 1) / mean + (second + mean) / (2 * mean**2) - 1 / mean
    steps = decode_steps(drafts, acceptance, output)
    spread = np.sqrt((output - 1) * (second - mean**2) / mean**3)
    assert steps.mean() == pytest.approx(expected, abs=4 * spread / np.sqrt(len(steps)) + 1e-9)
    assert steps.std() == pytest.approx(spread, rel=0.1, abs=1e-9)


def test_a_single_step_accepts_k_drafts_with_probability_a_to_the_k() -> None:
    """An answer of 1 + j more tokens takes one decode step if at least j − 1 drafts are accepted."""
    for more in (2, 3, 4):
        one_step = (decode_steps(3, 0.7, 1 + more, seed=more) == 1).mean()
        assert one_step == pytest.approx(0.7 ** (more - 1), abs=0.03)


def test_requests_draw_independently() -> None:
    steps = decode_steps(3, 0.7, 200)
    assert abs(np.corrcoef(steps[:-1], steps[1:])[0, 1]) < 0.06
