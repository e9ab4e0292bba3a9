"""Adapters (LoRA) of a workload on a replica: what they take of memory and time."""

import math
from dataclasses import replace

from envelope.perf.checks import Reason
from envelope.perf.memory import MemoryFit
from envelope.perf.params import adapter_params
from envelope.perf.replica import ReplicaSpec
from envelope.serving.fleet import ReplicaConfig
from envelope.spec.deployment import AdapterPlaces
from envelope.spec.workload import Workload
from envelope.units import GB

BYTES_PER_PARAM = 2.0
"""Adapters are served in 16 bits, the format that they are trained and published in."""

_RANKS = (256, 128, 64, 32, 16, 8, 4, 2, 1)
"""Ranks to fall back to."""


def adapter_names(workload: Workload) -> set[str]:
    """Return the adapters that the classes of a workload need."""
    return {task.adapter for task in workload.tasks if task.adapter is not None}


def with_adapters(
    config: ReplicaConfig, replica: ReplicaSpec, memory: MemoryFit, places: AdapterPlaces, needed: int
) -> ReplicaConfig:
    """Return the scheduler's view of a rank that serves ``needed`` different adapters.

    Each place takes its bytes away from the KV cache; a copy over the host's link fills it, and each step reads the
    adapters of its sequences from device memory. They must fit (``adapter_reasons``).
    """
    count = min(places.max_loaded or needed, needed)
    held = device_bytes(replica, places.rank)
    blocks = _place_blocks(replica, memory, places.rank)
    # The configuration counts only blocks that can ever be in use: what lies beside them holds adapters first.
    beside = memory.kv_blocks // replica.parallelism.dp - config.kv_blocks
    return replace(
        config,
        kv_blocks=config.kv_blocks + min(beside, count * blocks),
        max_adapters=count,
        adapter_blocks=blocks,
        adapter_load_s=held / _copy_bytes_per_s(replica),
        adapter_each_s=held / replica.hardware.device_memory.bandwidth_bytes_per_s,
    )


def adapter_reasons(replica: ReplicaSpec, memory: MemoryFit, places: AdapterPlaces, needed: int) -> list[Reason]:
    """Return why a rank that holds ``needed`` different adapters cannot run: they leave no room for one KV block."""
    count = min(places.max_loaded or needed, needed)
    if count == 0 or memory.kv_bytes_per_token <= 0 or memory.kv_blocks < replica.parallelism.dp:
        return []
    have, each = memory.kv_blocks // replica.parallelism.dp, _place_blocks(replica, memory, places.rank)
    if count * each < have:
        return []
    block_bytes = memory.kv_bytes_per_token * memory.kv_block_tokens
    most = (have - 1) // each
    fixes = [f"keep {most} on the device at once (adapters.max_loaded)"] if most else []
    low = next((r for r in _RANKS if r < places.rank and count * _place_blocks(replica, memory, r) < have), None)
    fixes += [f"use adapters of rank {low}"] if low else []
    return [
        Reason(
            rule="adapters_fit",
            blocks=True,
            text=(
                f"{count} adapters of rank {places.rank} take {count * each * block_bytes / GB:.2f} GB of the "
                f"{have * block_bytes / GB:.2f} GB that weights leave on each device, and none is left for the KV cache"
            ),
            fix=", or ".join(fixes) or "use more devices or smaller weights",
        )
    ]


def _place_blocks(replica: ReplicaSpec, memory: MemoryFit, rank: int) -> int:
    """Return the KV blocks whose memory one adapter takes."""
    return math.ceil(device_bytes(replica, rank) / (memory.kv_bytes_per_token * memory.kv_block_tokens))


def device_bytes(replica: ReplicaSpec, rank: int) -> float:
    """Return the bytes of one adapter on each device: spread like the weights, a copy in each data-parallel rank."""
    return BYTES_PER_PARAM * adapter_params(replica.model, rank) / (replica.parallelism.tp * replica.parallelism.pp)


def _copy_bytes_per_s(replica: ReplicaSpec) -> float:
    """Return the rate of a copy from host memory: of the link to it, or of the memory where both are one."""
    link = replica.hardware.link("c2c", "pcie")
    return link.bandwidth_bytes_per_s if link else replica.hardware.device_memory.bandwidth_bytes_per_s
