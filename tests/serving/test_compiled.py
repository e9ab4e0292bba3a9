"""Choosing between the plain and the compiled kernel."""

import numpy as np
import pytest

from envelope.errors import InputError
from envelope.serving.compiled import available, entry, worth_compiling
from envelope.serving.fleet import Fleet, HostedConfig, PoolConfig, ReplicaConfig, RouterPolicy
from envelope.serving.requests import open_loop
from envelope.serving.warm import prepare, ready_for
from envelope.spec.step import constant_step


@pytest.mark.skipif(not available(), reason="numba is not installed")
def test_a_prepared_kernel_is_used_for_runs_of_any_size() -> None:
    assert prepare()
    assert worth_compiling(1)
    assert not ready_for(10**9), "nothing is left to compile"


def test_entry_points_exist_in_plain_mode_whatever_is_installed() -> None:
    for name in ("run_until", "set_up", "set_down", "set_power"):
        assert callable(entry(name, compiled=False))


def replica(**changes: object) -> ReplicaConfig:
    base = dict(steps=constant_step(0.01, max_num_seqs=8), max_num_seqs=8, max_num_batched_tokens=64, kv_blocks=10)
    return ReplicaConfig(**{**base, **changes})


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: replica(max_num_seqs=9), "beyond the step tables"),
        (lambda: replica(max_num_seqs=0), "at least 1"),
        (lambda: replica(max_num_batched_tokens=4), "must hold one decode step"),
        (lambda: replica(draft_acceptance_frac=1.0), "below 1"),
        (lambda: PoolConfig(replica=replica(), replicas=0), "at least 1"),
        (lambda: Fleet(), "needs pools or a hosted API"),
        (lambda: Fleet(hosted=HostedConfig(ttft_p50_s=1, tokens_per_s_p50=1)), "needs pools"),
        (
            lambda: Fleet(pools=(PoolConfig(replica=replica()),), router=RouterPolicy(policy="hosted_only")),
            "needs a hosted API",
        ),
        (lambda: Fleet(pools=(PoolConfig(replica=replica(), role="prefill"),)), "go together"),
        (lambda: HostedConfig(ttft_p50_s=0, tokens_per_s_p50=1), "above 0"),
        (lambda: open_loop(np.array([-1.0]), np.array([1]), np.array([1])), "arrival_s"),
        (lambda: open_loop(np.array([1.0]), np.array([0]), np.array([1])), "input_tokens"),
        (lambda: open_loop(np.array([np.nan]), np.array([1]), np.array([1])), "arrival_s"),
        (lambda: open_loop(np.zeros(0), np.zeros(0), np.zeros(0)), "no requests"),
    ],
)
def test_impossible_fleets_and_requests_are_refused_with_the_reason(build, says: str) -> None:
    with pytest.raises(InputError, match=says):
        build()
