"""Parameters of a model by tensor class, and the bytes that they take in a number format."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from envelope.perf.layers import mtp_operators, operators
from envelope.perf.operators import Operators
from envelope.spec.editions import Weights, shares_of
from envelope.spec.model import Model
from envelope.spec.number_format import PARTS, PROJECTIONS, NumberFormat

QUANTISED = set(PROJECTIONS.values())
"""Tensor classes of matrices that formats are made for."""


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


def part_shares(model: Model, part: str, weights: Weights, formats: Mapping[str, NumberFormat]) -> dict[str, float]:
    """Return format id → share of the weights of a whole tensor class, over all its projections."""
    linears = [x for x in operators(model).linears if x.part == part]
    if not linears:
        return shares_of(model, part, weights, formats)
    counted: dict[str, float] = defaultdict(float)
    for linear in linears:
        for name, share in shares_of(model, part, weights, formats, projection=linear.name).items():
            counted[name] += linear.params * share
    whole = sum(counted.values())
    return {name: n / whole for name, n in counted.items()}


def part_format(model: Model, part: str, weights: Weights, formats: Mapping[str, NumberFormat]) -> NumberFormat:
    """Return the number format in which most of a tensor class of ``model`` stands (``spec.editions.shares_of``)."""
    shares = part_shares(model, part, weights, formats)
    return formats[max(shares, key=lambda name: shares[name])]


def weight_bytes(model: Model, weights: Weights, formats: Mapping[str, NumberFormat]) -> dict[str, float]:
    """Return the bytes of the language model's weights by tensor class, scales included, MTP layers left out.

    ``formats`` maps format ids to records. Projections and layers that a checkpoint keeps wide are counted in their
    wide format; biases and convolutions, which no one quantises, in that of the norms.
    """
    ops = operators(model)
    found: dict[str, float] = defaultdict(float)

    def add(part: str, count: float, projection: str = "") -> None:
        shares = shares_of(model, part, weights, formats, projection=projection)
        found[part] += count * sum(share * formats[name].bytes_per_weight for name, share in shares.items())

    for linear in ops.linears:
        add(linear.part, linear.params, linear.name)
    wide = part_format(model, "norm", weights, formats).bytes_per_weight
    for experts in ops.experts:
        add("routed_experts", experts.params - experts.bias_params)
        found["routed_experts"] += experts.bias_params * wide
    for part, count in ops.vectors.items():
        if part in QUANTISED:
            found[part] += count * wide
        else:
            add(part, count)
    return {part: found[part] for part in PARTS if found[part]}


def encoder_bytes(model: Model, formats: Mapping[str, NumberFormat]) -> float:
    """Return the bytes of the encoders and projectors that engines load with the language model."""
    return model.encoder_params * formats[model.encoder_format].bytes_per_weight
