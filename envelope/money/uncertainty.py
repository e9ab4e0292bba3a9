"""Uncertainty: quantiles of costs, the chance that one candidate is cheaper, and which input matters most.

Inputs are independent of each other unless they share a dimension (``draws.dimension_of``); the same input has
the same draw in every candidate, so that differences are not blurred by chance.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envelope.money.derived import parents
from envelope.money.draws import (
    DRAWS,
    RATE,
    LineDraws,
    Sample,
    dimension_of,
    line_draws,
    sample,
    uncertain_names,
    uniform_draws,
)
from envelope.money.inputs import Values
from envelope.money.lines import Line
from envelope.money.model import Model
from envelope.money.surface import Surface, surface_draws
from envelope.provenance import Frozen

Floats = NDArray[np.float64]

_QUANTILES = (0.1, 0.5, 0.9)


class Quantiles(Frozen):
    """Values that 10, 50 and 90 % of the draws stay below."""

    p10: float
    """One of ten draws of the uncertain inputs lies below."""
    p50: float
    """Half of the draws of the uncertain inputs lie below."""
    p90: float
    """Nine of ten draws of the uncertain inputs lie below."""


class LineQuantiles(Frozen):
    """One cost line under uncertainty."""

    id: str
    present_usd: Quantiles
    by_year_usd: tuple[Quantiles, ...]
    """Nominal cost of year 0 (purchase) and years 1, 2 …"""


class CandidateQuantiles(Frozen):
    """One candidate under uncertainty."""

    id: str
    cost_npv_usd: Quantiles
    mean_cost_npv_usd: float
    by_year_usd: tuple[Quantiles, ...]
    lines: tuple[LineQuantiles, ...]
    cheapest_frac: float | None
    """Share of the draws in which it is the cheapest of those that do the work; ``None`` for the others."""


class Uncertainty(Frozen):
    """All candidates under uncertainty, drawn with common random numbers."""

    draws: int
    seed: int
    candidates: tuple[CandidateQuantiles, ...]
    cheaper_frac: dict[str, dict[str, float]]
    """``cheaper_frac[a][b]``: probability that ``a`` has a lower present value of costs than ``b``, for candidates
    that do the same work."""
    uncertain_inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    ident: str
    lines: LineDraws
    total: Floats


def uncertainty(
    candidates: Mapping[str, Model | Surface],
    *,
    among: Collection[str] | None = None,
    draws: int = DRAWS,
    seed: int = 1,
) -> Uncertainty:
    """Return the costs of the candidates when every input with a range is drawn from it.

    ``draws`` must be a power of two. A candidate given as a ``Surface`` follows an uncertain ``demand_factor``
    with its machines too. Which one is cheaper, and the cheapest, is asked ``among`` those that do the work (by default
    all): a candidate that serves a tenth of it is cheaper than any. With points instead of ranges every quantile
    equals the point estimate.
    """
    models = [m for c in candidates.values() for m in ([c] if isinstance(c, Model) else c.models)]
    common = sample(models, draws, seed)
    drawn = [_draw(ident, candidate, common) for ident, candidate in candidates.items()]
    rivals = [d for d in drawn if among is None or d.ident in among]
    totals = np.stack([np.broadcast_to(d.total, draws) for d in rivals]) if rivals else np.zeros((0, draws))
    cheapest = np.argmin(totals, axis=0) if rivals else np.zeros(0)
    shares = {d.ident: float(np.mean(cheapest == i)) for i, d in enumerate(rivals)}
    return Uncertainty(
        draws=draws,
        seed=seed,
        candidates=tuple(_quantiles(d, shares.get(d.ident)) for d in drawn),
        cheaper_frac={
            a.ident: {b.ident: float(np.mean(totals[i] < totals[j])) for j, b in enumerate(rivals) if i != j}
            for i, a in enumerate(rivals)
        },
        uncertain_inputs=common.names,
    )


def _draw(ident: str, candidate: Model | Surface, common: Sample) -> _Drawn:
    if isinstance(candidate, Model):
        lines = line_draws(candidate, common.values(candidate))
    else:
        lines = surface_draws(candidate, common)
    return _Drawn(ident, lines, lines.cost_npv_usd)


def _quantiles(drawn: _Drawn, cheapest_frac: float | None) -> CandidateQuantiles:
    present = np.quantile(drawn.lines.present_usd, _QUANTILES, axis=0)
    years = np.quantile(drawn.lines.by_year_usd, _QUANTILES, axis=0)
    totals = np.quantile(drawn.lines.by_year_usd.sum(axis=1), _QUANTILES, axis=0)
    return CandidateQuantiles(
        id=drawn.ident,
        cost_npv_usd=_triple(np.quantile(drawn.total, _QUANTILES)),
        mean_cost_npv_usd=float(drawn.total.mean()),
        by_year_usd=tuple(_triple(column) for column in totals.T),
        lines=tuple(
            LineQuantiles(
                id=ident,
                present_usd=_triple(present[:, i]),
                by_year_usd=tuple(_triple(column) for column in years[:, i, :].T),
            )
            for i, ident in enumerate(drawn.lines.line_ids)
        ),
        cheapest_frac=cheapest_frac,
    )


def _triple(values: Floats) -> Quantiles:
    return Quantiles(p10=float(values[0]), p50=float(values[1]), p90=float(values[2]))


class TornadoBar(Frozen):
    """What one input does to the present value of the costs, all others at their point value."""

    input: str
    low_usd: float
    """Present value of the costs at the input's P10."""
    high_usd: float
    """Present value of the costs at the input's P90."""

    @property
    def swing_usd(self) -> float:
        """Absolute difference between the two."""
        return abs(self.high_usd - self.low_usd)


def tornado(model: Model, *, against: Model | None = None) -> list[TornadoBar]:
    """Return the bars of all uncertain inputs, the widest first.

    With ``against`` the bars show the cost of ``model`` less the cost of ``against`` for the same inputs.
    """
    models = [model] if against is None else [model, against]
    names = uncertain_names(models)
    dimensions = list(dict.fromkeys(dimension_of(name) for name in names))
    differences = [_one_at_a_time(m, names, dimensions) for m in models]
    cost = differences[0] - differences[1] if against is not None else differences[0]
    bars = [
        TornadoBar(input=dimension, low_usd=float(cost[2 * i]), high_usd=float(cost[2 * i + 1]))
        for i, dimension in enumerate(dimensions)
    ]
    return sorted(bars, key=lambda bar: -bar.swing_usd)


def _one_at_a_time(model: Model, names: Sequence[str], dimensions: Sequence[str]) -> Floats:
    """Return the present values with dimension ``i`` at its P10 (entry 2i) and P90 (entry 2i + 1)."""
    values = {name: np.array([item.point]) for name, item in model.inputs.items()}
    for name in names:
        if name not in model.inputs:
            continue
        row = np.full(2 * len(dimensions), model.inputs[name].point)
        at = 2 * dimensions.index(dimension_of(name))
        row[at : at + 2] = model.inputs[name].spread.quantile(np.array([0.1, 0.9]))
        values[name] = row
    return np.broadcast_to(line_draws(model, values).cost_npv_usd, 2 * len(dimensions))


class SobolIndex(Frozen):
    """Share of the variance of the present value of the costs that goes back to one input."""

    input: str
    first: float
    """Alone (first order)."""
    total: float
    """With all its interactions."""


def sobol_indices(model: Model, *, draws: int = 1024, seed: int = 1) -> list[SobolIndex]:
    """Return the Sobol indices of all uncertain inputs, the largest total effect first.

    First order by Saltelli et al., *Variance based sensitivity analysis of model output* (2010), table 2 (b), total
    by Jansen (1999), table 2 (f); ``draws`` pairs of points, so the estimates carry an error of about
    1/√draws of the whole for smooth models (they may be slightly negative). Only the lines that depend on an input
    are priced again for it.
    """
    names = uncertain_names([model])
    dimensions = tuple(dict.fromkeys(dimension_of(name) for name in names))
    points = uniform_draws(2 * len(dimensions), draws, seed)
    first_half = Sample(tuple(names), points[:, : len(dimensions)], dimensions).values(model)
    second_half = Sample(tuple(names), points[:, len(dimensions) :], dimensions).values(model)
    at_a, at_b = line_draws(model, first_half), line_draws(model, second_half)
    f_a, f_b = at_a.cost_npv_usd, at_b.cost_npv_usd
    variance = float(np.var(np.concatenate([f_a, f_b])))
    result = []
    for dimension in dimensions:
        mixed = first_half | {n: second_half[n] for n in names if dimension_of(n) == dimension}
        f_mixed = f_a + _change(model, at_a, mixed, dimension)
        first = float(np.mean(f_b * (f_mixed - f_a))) / variance if variance else 0.0
        total = float(np.mean((f_a - f_mixed) ** 2)) / 2 / variance if variance else 0.0
        result.append(SobolIndex(input=dimension, first=first, total=total))
    return sorted(result, key=lambda index: -index.total)


def _change(model: Model, before: LineDraws, values: Values, dimension: str) -> Floats:
    """Return the change of the present value when the inputs of one dimension change to ``values``."""
    computed = len(before.line_ids) > len(model.lines)
    if dimension == RATE or computed:
        return line_draws(model, values).cost_npv_usd - before.cost_npv_usd
    touched = [i for i, line in enumerate(model.lines) if _depends(line, dimension)]
    part = model.with_lines(touched)
    change: Floats = line_draws(part, values).cost_npv_usd - before.present_usd[:, touched].sum(axis=1)
    return change


def _depends(line: Line, dimension: str) -> bool:
    return any(dimension_of(parent) == dimension for name in line.input_names for parent in parents(name))
