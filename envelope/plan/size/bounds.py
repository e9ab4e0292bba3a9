"""Bounds that rule out a fleet without simulating it."""

import numpy as np

from envelope.perf.replica import ReplicaSpec
from envelope.perf.step import compile_step
from envelope.spec.lengths import mean_of
from envelope.spec.scenario import Scenario
from envelope.spec.workload import TaskClass

SAFETY_FRAC = 0.9
"""Share of the mean length that is counted, for limits on the drawn lengths and the luck of the draw."""


def least_seconds_per_request(scenario: Scenario, replica: ReplicaSpec) -> float:
    """Return busy time of a replica that no mean request of the workload can undercut.

    Every token is computed in some step of m tokens, whose time is at least ``token_s[m] + step_overhead_s``, so
    it takes at least the least of that over m; every output token is also sampled, at the least time per sequence.
    Attention is left out, and prompts count without anything that a prefix cache may hold.
    """
    tables = compile_step(replica)
    m = np.arange(1, len(tables.token_s))
    per_token = float(np.min((tables.token_s[1:] + tables.step_overhead_s) / m))
    r = np.arange(1, len(tables.sampled_s))
    per_sample = float(np.min(tables.sampled_s[1:] / r))
    shares = scenario.workload.shares()
    total = 0.0
    for share, task in zip(shares, scenario.workload.tasks, strict=True):
        output = mean_of(task.output_tokens) if task.output_tokens else 0.0
        steps = output / max(replica.tokens_per_step, 1.0)
        total += share * SAFETY_FRAC * ((_fresh_tokens(task, replica) + steps) * per_token + steps * per_sample)
    return total


def requests_per_s_bound(scenario: Scenario, replica: ReplicaSpec) -> float:
    """Return a rate of requests that one replica cannot exceed."""
    return 1.0 / max(least_seconds_per_request(scenario, replica), 1e-12)


def _fresh_tokens(task: TaskClass, replica: ReplicaSpec) -> float:
    """Return prompt tokens that must be computed whatever the prefix cache holds."""
    caches = replica.engine.prefix_cache if replica.settings.prefix_cache is None else replica.settings.prefix_cache
    if task.session is not None:
        first, later = mean_of(task.session.first_input_tokens), mean_of(task.session.appended_tokens)
        calls = task.mean_calls
        fresh = (calls - 1) / calls * later
        return fresh if caches else fresh + first / calls
    if task.input_tokens is None or (caches and task.documents is not None):
        return 0.0
    mean = task.mean_input_tokens
    return max(mean - task.system_prompt_tokens, 0.0) if caches else mean
