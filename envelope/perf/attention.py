"""Time of attention: decode by batch and context, prefill by position, for every kind of layer."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from envelope.perf.efficiency import Chosen
from envelope.perf.roofline import Floats, smooth_max
from envelope.perf.work import Attention, entry_bytes
from envelope.spec.number_format import NumberFormat

DECODE_P = 2.5
"""Sharpness of the maximum of compute and memory in attention where a curve gives none (a judgement)."""
SHORT_TILE_TOKENS = 128.0
"""Side of a causal tile: a prompt of s tokens computes s + 128 columns per row on average, not s."""


SHORT_CACHE_TOKENS = 1024.0
"""A window up to which decode needs no split of the cache over blocks, nor the second kernel that joins them."""
UNSPLIT_FRAC = 0.5
"""Share of the launch time that is left without that second kernel (a judgement)."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What one layer reads and computes per context token, up to a limit."""

    limit_tokens: float
    """Context beyond which nothing is added (a window, or the top-k of a sparse layer); may be infinite."""
    read_bytes: float
    decode_flop: float
    prefill_flop: float
    """Per pair of new token and context token; un-absorbed for latent attention."""


@dataclass(frozen=True, slots=True)
class LayerShape:
    """One attention layer as one device sees it under tensor parallelism."""

    reaches: tuple[Reach, ...]
    heads: float
    kv_heads: float
    token_bytes: float
    """Query and output of one token."""
    state_bytes: float
    """Recurrent state read and written per sequence and step."""
    token_flop: float
    """Work of one token regardless of context (linear attention)."""


@dataclass(frozen=True, slots=True)
class Device:
    """The numbers of a device that attention needs."""

    bandwidth_bytes_per_s: float
    peak_flop_per_s: float
    units: float


def layer_shape(attention: Attention, kv: NumberFormat, tp: int) -> LayerShape:
    """Return one layer of ``attention`` on one of ``tp`` devices.

    Latent caches are shared by all heads and so replicated on every device; key-value heads are split until
    one is left on each.
    """
    heads = max(attention.heads / tp, 1.0)
    kv_heads = max(attention.kv_heads / tp, 1.0)
    return LayerShape(
        reaches=_reaches(attention, kv, heads, kv_heads / attention.kv_heads),
        heads=heads,
        kv_heads=kv_heads,
        token_bytes=2.0 * heads * (attention.qk_dim + attention.v_dim),
        state_bytes=2.0 * attention.state_bytes_per_seq / tp,
        token_flop=attention.state_flop_per_token / tp,
    )


def _reaches(attention: Attention, kv: NumberFormat, heads: float, kv_share: float) -> tuple[Reach, ...]:
    """Return window, pooled or full entries and indexer keys, each with what one context token of it costs."""
    if attention.kind == "linear":
        return ()
    entry = entry_bytes(replace(attention, indexer=None), kv)
    index_entry = entry_bytes(attention, kv) - entry
    width = 2 * attention.latent[0] + attention.latent[1] if attention.latent else attention.qk_dim + attention.v_dim
    decode, prefill = 2.0 * heads * width, 2.0 * heads * (attention.qk_dim + attention.v_dim)
    found: list[Reach] = []
    if attention.window_tokens is not None:
        found.append(Reach(float(attention.window_tokens), entry * kv_share, decode, prefill))
    stride = float(attention.stride)
    if attention.kind not in ("window", "chunk"):
        limit = attention.topk_tokens * stride if attention.topk_tokens else math.inf
        found.append(Reach(limit, entry * kv_share / stride, decode / stride, prefill / stride))
    if attention.indexer is not None:
        flop = 2.0 * attention.indexer.heads * attention.indexer.dim / stride
        found.append(Reach(math.inf, index_entry / stride, flop, flop))
    return tuple(found)


def context_knots(shapes: list[LayerShape]) -> Floats:
    """Return the contexts at which the cost per token changes, 0 first."""
    limits = {r.limit_tokens for s in shapes for r in s.reaches if math.isfinite(r.limit_tokens)}
    return np.array([0.0, *sorted(limits)])


def decode_slopes(shape: LayerShape, knots: Floats, curve: Chosen, device: Device, batch: Floats) -> Floats:
    """Return [n, k] seconds per context token and sequence of one layer in a batch of n.

    Per token, KV bytes over the achievable bandwidth against FLOPs over the achievable peak. A CPU's kernels
    (``core_bytes_per_s``) bound the bandwidth as for matrix products.
    """
    reach = device.bandwidth_bytes_per_s * curve["eff_b"]
    per_core = curve["core_bytes_per_s"]
    reach = min(reach, device.units * per_core) if per_core > 0 else reach
    read, flop = _per_segment(shape, knots, lambda r: (r.read_bytes, r.decode_flop))
    joint = smooth_max(flop / (device.peak_flop_per_s * max(curve["eff_c"], 1e-3)), read / reach, _p(curve))
    return np.broadcast_to(joint, (len(batch), len(knots))).copy()


def decode_base_s(shape: LayerShape, curve: Chosen, device: Device, batch: Floats) -> Floats:
    """Return [n] seconds of one layer at zero context: launch, pairs of sequence and head, state of linear layers.

    ``t0 + pair_s · n · kv_heads / units + (queries, outputs and state) / bandwidth``; 0 for an empty batch. Short
    windows and recurrent layers need one kernel where long caches need two.
    """
    moved = batch * (shape.token_bytes + shape.state_bytes)
    work = batch * shape.token_flop / (device.peak_flop_per_s * max(curve["eff_c"], 1e-3))
    busy = moved / (device.bandwidth_bytes_per_s * min(curve["eff_b"], 1.0)) + work
    pairs = curve["pair_s"] * batch * shape.kv_heads / device.units
    short = all(r.limit_tokens <= SHORT_CACHE_TOKENS for r in shape.reaches)
    launch = curve["t0_s"] * (UNSPLIT_FRAC if short else 1.0)
    return np.where(batch > 0, launch + pairs + busy, 0.0)


def prefill_slopes(shape: LayerShape, knots: Floats, curve: Chosen, device: Device) -> Floats:
    """Return [k] seconds per new token and position of one layer (the derivative by position).

    Kernels that write the scores to memory before the softmax move ``score_bytes`` for each pair of token, position
    and head; 0 for those that keep them on the chip (Dao and others: FlashAttention, arXiv 2205.14135).
    """
    _, flop = _per_segment(shape, knots, lambda r: (0.0, r.prefill_flop))
    scores = shape.heads * flop / shape.token_bytes if shape.token_bytes > 0 else np.zeros_like(flop)
    moved = curve["score_bytes"] * scores / (device.bandwidth_bytes_per_s * curve["eff_b"])
    return flop / (device.peak_flop_per_s * curve["eff_c"]) + moved


def prefill_token_s(shape: LayerShape, curve: Chosen, device: Device) -> float:
    """Return seconds per new token of one layer regardless of position.

    The tile on the diagonal (half a tile beyond the causal half), wave quantisation
    (256 · head width · occ_c · units FLOP per token) and the queries, keys, values and outputs moved.
    """
    rate = device.peak_flop_per_s * curve["eff_c"]
    pair = max((r.prefill_flop for r in shape.reaches), default=0.0)
    diagonal = pair * SHORT_TILE_TOKENS / 2.0 / rate
    waves = pair / max(shape.heads, 1.0) / 4.0 * 256.0 * curve["occ_c"] * device.units / rate
    moved = 2.0 * shape.token_bytes / (device.bandwidth_bytes_per_s * curve["eff_b"])
    scan = shape.token_flop / rate
    return diagonal + waves + moved + scan


def _per_segment(
    shape: LayerShape, knots: Floats, rates: Callable[[Reach], tuple[float, float]]
) -> tuple[Floats, Floats]:
    """Return per segment the bytes and FLOPs per context token that all reaches together cost there."""
    first = np.zeros(len(knots))
    second = np.zeros(len(knots))
    for reach in shape.reaches:
        a, b = rates(reach)
        inside = knots < reach.limit_tokens
        first += a * inside
        second += b * inside
    return first, second


def _p(curve: Chosen) -> float:
    return curve["p"] or DECODE_P
