"""Predicted time of one decoder step from the tables that the op probes wrote, and from nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envelope.errors import InputError, Problem
from envelope.perf import cpu_probe
from envelope.perf.moe import distinct_experts
from envelope.sensors.decoder_shape import DecoderShape
from envelope.spec.hardware import EfficiencyCurve, HardwareProfile


@dataclass(frozen=True, slots=True)
class Parts:
    """Predicted seconds of one step by kind of operator."""

    linear_s: float
    attention_s: float
    experts_s: float
    elementwise_s: float
    call_s: float

    @property
    def step_s(self) -> float:
        """Seconds of the whole step."""
        return self.linear_s + self.attention_s + self.experts_s + self.elementwise_s + self.call_s


def predict(profile: HardwareProfile, shape: DecoderShape, key: str, batch: int, new: int, depth: int) -> Parts:
    """Return the time of one step of ``new`` tokens for each of ``batch`` sequences after ``depth`` cached tokens.

    The sum over all operators: nothing overlaps on a CPU that gives every operator all its cores.
    """
    curves, layers, rows = profile.efficiency, shape.layers, float(batch * new)
    simple = _table(curves, cpu_probe.ELEMENTWISE, "fp32", profile.id)
    norms = (2 * layers + 1) * cpu_probe.elementwise_s(simple, rows * shape.hidden, "norm")
    gates = 0.0 if shape.experts else layers * cpu_probe.elementwise_s(simple, rows * shape.ffn, "gate")
    return Parts(
        linear_s=_linears(profile, shape, key, rows, float(batch)),
        attention_s=layers * _attention(profile, shape, batch, new, depth),
        experts_s=layers * _experts(profile, shape, key, rows),
        elementwise_s=norms + gates,
        call_s=simple["call_s"],
    )


def _linears(profile: HardwareProfile, shape: DecoderShape, key: str, rows: float, sampled: float) -> float:
    own = _table(profile.efficiency, cpu_probe.LINEAR, key, profile.id)
    wide = _table(profile.efficiency, cpu_probe.LINEAR, "fp32", profile.id)
    # The router of a sparse layer stays in float32.
    feed = wide if shape.experts else own
    layer = sum(cpu_probe.linear_s(own, rows, n, k) for k, n in shape.attention_linears)
    layer += sum(cpu_probe.linear_s(feed, rows, n, k) for k, n in shape.ffn_linears)
    return shape.layers * layer + cpu_probe.linear_s(own, sampled, shape.vocab, shape.hidden)


def _attention(profile: HardwareProfile, shape: DecoderShape, batch: int, new: int, depth: int) -> float:
    heads = shape.heads
    if new == 1:
        table = _table(profile.efficiency, cpu_probe.DECODE_ATTENTION, "fp32", profile.id)
        return cpu_probe.decode_attention_s(table, batch, depth + 1, heads.heads, heads.kv_heads, heads.head_dim)
    table = _table(profile.efficiency, cpu_probe.PREFILL_ATTENTION, "fp32", profile.id)
    return batch * cpu_probe.prefill_attention_s(table, new, depth, heads.heads, heads.head_dim)


def _experts(profile: HardwareProfile, shape: DecoderShape, key: str, rows: float) -> float:
    experts = shape.experts
    if experts is None:
        return 0.0
    touched = float(distinct_experts(experts.experts, experts.top_k, np.array([rows]))[0])
    table = _table(profile.efficiency, cpu_probe.EXPERTS, key, profile.id)
    return cpu_probe.experts_s(table, rows, touched, experts.top_k, experts.weights)


def _table(curves: Sequence[EfficiencyCurve], form: str, key: str, profile: str) -> cpu_probe.Constants:
    found = cpu_probe.find(curves, form, key)
    if found is None:
        raise InputError(
            Problem(profile, "efficiency", f"{form}/{key}", "was not measured", "run: envelope probe --full")
        )
    return found.constants
