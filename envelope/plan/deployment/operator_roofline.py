"""The operators of one step on the roofline: FLOPs, bytes and time of each beside what the device could do."""

from collections.abc import Callable, Iterable

import numpy as np

from envelope.perf.breakdown import breakdown
from envelope.perf.replica import ReplicaSpec
from envelope.perf.roofline import OpCost
from envelope.perf.step import compiled
from envelope.plan.deployment.estimate import EstimateQuery, resolve_query
from envelope.provenance import Frozen


class OperatorPoint(Frozen):
    """One operator of a step, on the busiest device."""

    name: str
    phase: str
    """``decode`` or ``prefill``."""
    flop: float
    bytes: float
    time_s: float
    bound: str
    """Largest share of its time: compute, memory, communication or overhead."""

    @property
    def intensity_flop_per_byte(self) -> float:
        """FLOPs per byte moved."""
        return self.flop / self.bytes

    @property
    def flop_per_s(self) -> float:
        """FLOPs over the time that the model predicts."""
        return self.flop / self.time_s


class Roof(Frozen):
    """Datasheet peak of one compute format."""

    number_format: str
    flop_per_s: float


class OperatorRoofline(Frozen):
    """The device's roofs and a replica's operators under them."""

    model: str
    hardware: str
    bandwidth_bytes_per_s: float
    roofs: tuple[Roof, ...]
    """Of the formats in which the operators compute, the highest last."""
    points: tuple[OperatorPoint, ...]
    """Operators that do arithmetic; attention over the context is part of the step, but not of this list."""
    step_s: dict[str, float]
    """Phase → time of the whole step."""
    shown_frac: dict[str, float]
    """Phase → share of the step's time that the points account for."""


def operator_roofline(query: EstimateQuery, *, where: str = "arguments") -> OperatorRoofline:
    """Return the operators of a decode step of ``query.concurrency`` sequences and of a prefill of one prompt.

    Raises ``InputError`` for unknown names and a parallelism that does not fit the devices.
    """
    replica, replicas = resolve_query(query, where)
    decodes = min(-(-query.concurrency // replicas), replica.max_num_seqs)
    chunk = min(query.input, replica.max_num_batched_tokens)
    context = query.input + query.output / 2
    decode = breakdown(replica, decodes=decodes, context_tokens=context)
    prefill = breakdown(replica, decodes=0, prefill_tokens=chunk)
    points = (*_points(replica, "decode", decodes, decodes), *_points(replica, "prefill", chunk, 1))
    steps = {"decode": decode.step_s, "prefill": prefill.step_s}
    return OperatorRoofline(
        model=replica.model.id,
        hardware=replica.hardware.id,
        bandwidth_bytes_per_s=replica.hardware.device_memory.bandwidth_bytes_per_s,
        roofs=_roofs(replica),
        points=points,
        step_s=steps,
        shown_frac={phase: sum(p.time_s for p in points if p.phase == phase) / s for phase, s in steps.items()},
    )


def _points(replica: ReplicaSpec, phase: str, tokens: float, sampled: float) -> list[OperatorPoint]:
    found = compiled(replica)
    return [
        *_at(phase, found.tokens, lambda values: float(np.interp(tokens, found.token_grid, values))),
        *_at(phase, found.sampled, lambda values: float(np.interp(sampled, found.sequence_grid, values))),
    ]


def _at(phase: str, costs: Iterable[OpCost], read: Callable[[np.ndarray], float]) -> list[OperatorPoint]:
    points = []
    for cost in costs:
        flop, moved = read(cost.flop), read(cost.bytes)
        if flop <= 0 or moved <= 0:
            continue
        parts = {
            "compute": read(cost.compute_s), "memory": read(cost.memory_s),
            "communication": read(cost.communication_s), "overhead": read(cost.overhead_s),
        }  # fmt: skip
        points.append(
            OperatorPoint(
                name=cost.name, phase=phase, flop=flop, bytes=moved, time_s=read(cost.time_s),
                bound=max(parts, key=lambda name: parts[name]),
            )
        )  # fmt: skip
    return points


def _roofs(replica: ReplicaSpec) -> tuple[Roof, ...]:
    peaks = replica.hardware.peak_flop_per_s
    used = {replica.format_of(part).compute for part in ("attention", "dense_ffn", "routed_experts", "lm_head")}
    named = [Roof(number_format=name, flop_per_s=peak) for name, peak in peaks.items() if name in used]
    every = named or [Roof(number_format=name, flop_per_s=peak) for name, peak in peaks.items()]
    return tuple(sorted(every, key=lambda roof: roof.flop_per_s))
