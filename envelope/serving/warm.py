"""Compiling the kernel ahead, by a small run that touches every entry point, and keeping it on disk."""

import numpy as np

from envelope.serving.compiled import COMPILE_REQUESTS, available, is_ready
from envelope.serving.fleet import Autoscale, Faults, Fleet, HostedConfig, PoolConfig, ReplicaConfig
from envelope.serving.requests import open_loop
from envelope.serving.run import run_once
from envelope.spec.step import constant_step


def prepare() -> bool:
    """Compile the kernel now and keep it on disk, so that no later run waits; returns whether numba is there.

    Takes about 17 seconds the first time and under a second afterwards.
    """
    if not available():
        return False
    _compile_all()
    return True


def ready_for(requests: int) -> bool:
    """Compile the kernel if a command that will simulate so many requests in all gains by it.

    Single runs decide for themselves, but many short ones would each stay in plain mode. Returns whether the
    kernel was compiled now.
    """
    if is_ready() or requests <= COMPILE_REQUESTS:
        return False
    return prepare()


def _compile_all() -> None:
    """Compile every entry point by running a few requests through a small fleet."""
    replica = ReplicaConfig(steps=constant_step(0.01), max_num_seqs=4, max_num_batched_tokens=64, kv_blocks=64)
    fleet = Fleet(
        pools=(PoolConfig(replica=replica, replicas=2),),
        hosted=HostedConfig(ttft_p50_s=1.0, tokens_per_s_p50=50.0),
        faults=Faults(device_mtbf_s=20.0, repair_s=1.0, reload_s=1.0),
        autoscale=Autoscale(every_s=1.0, startup_s=1.0),
    )
    times = np.linspace(0.0, 60.0, 61)
    tokens = np.full(61, 20, dtype=np.int64)
    run_once(fleet, open_loop(times, tokens, tokens), compiled=True)
