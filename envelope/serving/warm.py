"""A small run that touches every entry point of the kernel, so that all of it is compiled and kept on disk."""

import numpy as np

from envelope.serving.fleet import Autoscale, Faults, Fleet, HostedConfig, PoolConfig, ReplicaConfig
from envelope.serving.requests import open_loop
from envelope.serving.run import run_once
from envelope.spec.step import constant_step


def compile_all() -> None:
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
