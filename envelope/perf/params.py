"""Parameters of a model by tensor class, and the bytes that they take in a number format."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from envelope.perf.layers import mtp_operators, operators
from envelope.perf.operators import Operators
from envelope.spec.model import Model
from envelope.spec.number_format import PARTS, NumberFormat


@dataclass(frozen=True, slots=True)
class ParamCounts:
    """Parameters of the language model, without encoders and MTP layers."""

    by_part: Mapping[str, int]
    """By tensor class; a tied embedding counts once, as ``lm_head``."""
    total: int
    active: float
    """Parameters of everything that one token passes: all but the experts it is not routed to."""
    active_no_embed: float
    """``active`` without tables that are only looked up; some publishers count so."""
    mtp: int
    """Parameters of the MTP layers, which ``total`` leaves out."""


@lru_cache(maxsize=1024)
def param_counts(model: Model) -> ParamCounts:
    """Return the parameters of ``model``, computed from its architecture. All experts count as resident."""
    by_part = _by_part(operators(model))
    draft = mtp_operators(model)
    mtp = sum(n for part, n in _by_part(draft).items() if part != "lm_head") if draft is not None else 0
    idle = sum(e.params * (1.0 - e.top_k / e.n_routed) for e in operators(model).experts)
    total = sum(by_part.values())
    return ParamCounts(by_part, total, total - idle, total - idle - by_part.get("embed", 0), mtp)


def _by_part(ops: Operators) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for linear in ops.linears:
        counts[linear.part] += linear.params
    for experts in ops.experts:
        counts["routed_experts"] += experts.params
    counts.update(ops.vectors)
    return {part: counts[part] for part in PARTS if counts[part]}


def adapter_params(model: Model, rank: int) -> float:
    """Return the parameters of adapters on all linear layers but the head: rank·(n + k) each (Hu et al., 2021).

    Matrices that engines fuse into one product keep adapters of their own, as peft trains them.
    """
    linears = [x for x in operators(model).linears if x.part != "lm_head"]
    return float(sum(rank * (x.n + x.matrices * x.k) * x.layers for x in linears))


def part_format(
    model: Model, part: str, weights: NumberFormat | Literal["native"], formats: Mapping[str, NumberFormat]
) -> NumberFormat:
    """Return the number format of one tensor class of ``model``.

    ``native``, or naming the checkpoint's own format, takes the checkpoint as shipped: ``format_by_part``, else
    ``native_format`` with its wide parts. Any other format re-quantises all but the parts that a published
    checkpoint of this model, or else the format itself, keeps wide.
    """
    if weights == "native" or weights.id == model.native_format:
        named = model.format_by_part.get(part)
        if named is not None:
            return formats[named]
        weights = formats[model.native_format]
    wide = model.wide_parts_by_format.get(weights.id, {}).get(part)
    if wide is None and model.moe is not None:
        wide = weights.moe_wide_parts.get(part)
    wide = wide or weights.wide_parts.get(part)
    return weights if wide is None else formats[wide]


def weight_bytes(
    model: Model, weights: NumberFormat | Literal["native"], formats: Mapping[str, NumberFormat]
) -> dict[str, float]:
    """Return the bytes of the language model's weights by tensor class, scales included, MTP layers left out.

    ``formats`` maps format ids to records; parts that a format keeps wide are counted in their wide format.
    """
    return {
        part: count * part_format(model, part, weights, formats).bytes_per_weight
        for part, count in param_counts(model).by_part.items()
    }
