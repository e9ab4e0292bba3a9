"""How each kind of result is drawn: as records, as a chart, in the terminal and in a notebook.

Rooms after this one register their own kinds with ``brief.register``, ``records.register`` and ``chart.register``.
"""

from collections.abc import Iterable, Mapping
from functools import singledispatch
from html import escape
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable

from envelope.perf.estimate import Estimate
from envelope.plan.cost.study import CostStudy
from envelope.plan.frontier.map import Frontier
from envelope.plan.service.load_sweep import LoadSweep
from envelope.plan.service.run_result import ServiceRun
from envelope.plan.size.search import Sizing
from envelope.plan.sweep.results import Sweep
from envelope.plan.verdict.results import Comparison
from envelope.report.sweep_tables import Table, figure_name, ranking_table
from envelope.report.text import flat, money, percent, seconds, si
from envelope.spec.hardware import HardwareProfile

MOST_ROWS = 20
"""Rows of a brief table; a frame has all."""


@singledispatch
def records(result: Any) -> Iterable[Mapping[str, Any]]:
    """Return the rows of a result's frame, numbers in SI units."""
    raise TypeError(f"{type(result).__name__} has no frame")


@singledispatch
def brief(result: Any) -> tuple[str, Table]:
    """Return the title and the small table by which a result shows itself."""
    raise TypeError(f"{type(result).__name__} cannot be shown")


def text(result: Any) -> RichTable:
    """Return the small table of a result for the terminal."""
    title, (header, rows) = brief(result)
    table = RichTable(title=title, box=SIMPLE_HEAD, title_justify="left")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows[:MOST_ROWS]:
        table.add_row(*row)
    return table


def html(result: Any) -> str:
    """Return the small table of a result for a notebook; every word of it is escaped."""
    title, (header, rows) = brief(result)
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows[:MOST_ROWS])
    more = f"<p>… {len(rows) - MOST_ROWS} more: to_frame()</p>" if len(rows) > MOST_ROWS else ""
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div><b>{escape(title)}</b>{table}{more}</div>"


@singledispatch
def chart(result: Any, **options: Any) -> Any:
    """Return a result as an Altair chart."""
    raise TypeError(f"{type(result).__name__} has no chart")


@records.register
def _(result: Estimate) -> Iterable[Mapping[str, Any]]:
    plain = result.model_dump(mode="json", include=set(_ESTIMATED) | {"feasible"})
    return [{**plain, "reasons": "; ".join(map(str, result.reasons))}]


_ESTIMATED = {
    "ttft_s": "time to first token", "itl_s": "gap between tokens", "e2e_s": "time to last token",
    "output_tokens_per_s": "output tokens/s", "prefill_tokens_per_s": "prefill tokens/s",
    "effective_concurrency": "requests in the batch", "power_w": "power",
    "energy_per_output_token_j": "energy per token",
}  # fmt: skip


@brief.register
def _(result: Estimate) -> tuple[str, Table]:
    rows: list[tuple[str, ...]] = [(label, _figure(name, getattr(result, name))) for name, label in _ESTIMATED.items()]
    rows += [("reason", str(reason)) for reason in result.reasons]
    return "Estimate" if result.feasible else "Estimate: cannot run", (["figure", "value"], rows)


def _figure(name: str, value: float | None) -> str:
    unit = {"power_w": "W", "energy_per_output_token_j": "J"}.get(name, "")
    return seconds(value) if name.endswith("_s") and not name.endswith("per_s") else si(value, unit)


@chart.register
def _(result: Estimate) -> Any:
    from envelope.report.charts.memory import memory_bars

    return memory_bars({"": result.memory} if result.memory else {})


@records.register
def _(result: Comparison) -> Iterable[Mapping[str, Any]]:
    scalar = {"constraints", "service", "cost_by_line", "cost_by_year", "lines", "exposures", "fixes", "error_bands"}
    for c in result.candidates:
        service = c.service.model_dump(mode="json", exclude={"classes"}) if c.service else {}
        broken = " ".join(rule.id for rule in c.constraints if not rule.satisfied)
        plain = c.model_dump(mode="json", exclude=scalar | {"evidence_notes"})
        yield {**plain, "broken": broken, "recommended": c.id == result.recommended, **flat(service, "service.")}


@brief.register
def _(result: Comparison) -> tuple[str, Table]:
    rows = [
        (
            f"{'★ ' if c.id == result.recommended else ''}{c.name}", "yes" if c.feasible else f"no: {c.binding}",
            percent(c.slo_attainment_frac, 1), percent(c.solved_frac), money(c.cost_npv), money(c.usd_per_solved_task),
        )
        for c in result.candidates
    ]  # fmt: skip
    return result.name, (["candidate", "fits", "SLO kept", "solved", "cost", "per solved task"], rows)


@chart.register
def _(result: Comparison) -> Any:
    from envelope.report.charts.cost import cost_by_heading

    return cost_by_heading(result)


@records.register
def _(result: CostStudy) -> Iterable[Mapping[str, Any]]:
    for c in result.candidates:
        found = c.result.model_dump(mode="json", include={"cost_npv_usd"})
        units = {f"unit_costs.{k}": v for k, v in c.result.unit_costs.model_dump(mode="json").items()}
        plain = c.model_dump(mode="json", include={"id", "name", "slo_attainment_frac", "served_frac", "keeps_service"})
        yield {**plain, **found, **units, "baseline": c.id == result.baseline}


@brief.register
def _(result: CostStudy) -> tuple[str, Table]:
    rows = [
        (c.name, money(c.result.cost_npv_usd), money(c.result.unit_costs.usd_per_solved_task),
         "yes" if c.keeps_service else "no")
        for c in result.candidates
    ]  # fmt: skip
    return result.name, (["candidate", "cost (present value)", "per solved task", "keeps the service"], rows)


@chart.register
def _(result: CostStudy) -> Any:
    from envelope.report.charts.cost import cumulated_cost

    return cumulated_cost(result)


@records.register
def _(result: Sizing) -> Iterable[Mapping[str, Any]]:
    pareto = {s.text for s in result.pareto}
    for s in result.simulated:
        plain = s.model_dump(mode="json", exclude={"candidate", "broken"})
        yield {**plain, "broken": " ".join(s.broken), "pareto": s.text in pareto, "best": s == result.best}


@brief.register
def _(result: Sizing) -> tuple[str, Table]:
    rows = [
        (f"{'★ ' if result.best and s.text == result.best.text else ''}{s.text}", ", ".join(s.broken) or "yes",
         money(s.cost_npv), percent(s.slo_attainment_frac, 1), seconds(s.latency_p95_s), si(s.power_max_w, "W"))
        for s in result.shown
    ]  # fmt: skip
    return result.explanation, (["deployment", "fits", "cost", "SLO kept", "E2E p95", "power"], rows)


@chart.register
def _(result: Sizing) -> Any:
    from envelope.report.charts.sweep import sizing_chart

    return sizing_chart(result)


@records.register
def _(result: Frontier) -> Iterable[Mapping[str, Any]]:
    for y, (row, costs) in enumerate(zip(result.cells, result.cost_npv, strict=True)):
        for x, (cell, cost) in enumerate(zip(row, costs, strict=True)):
            yield {
                result.x.name: result.x.values[x], result.y.name: result.y.values[y],
                "candidate": result.candidates[cell] if cell >= 0 else None, "cost_npv": cost,
            }  # fmt: skip


@brief.register
def _(result: Frontier) -> tuple[str, Table]:
    rows = [(region.name, percent(region.frac), region.reason) for region in result.regions]
    title = f"Cheapest feasible candidate by {result.x.label} and {result.y.label}"
    return title, (["candidate", "of the map", "why"], rows)


@chart.register
def _(result: Frontier) -> Any:
    from envelope.report.charts.frontier import frontier_map

    return frontier_map(result)


@records.register
def _(result: ServiceRun) -> Iterable[Mapping[str, Any]]:
    for c in (result.overall, *result.classes):
        yield {"class": c.id, **flat(c.model_dump(mode="json", exclude={"id", "curves", "counts"}))}


@brief.register
def _(result: ServiceRun) -> tuple[str, Table]:
    rows = [
        (c.id, f"{c.offered:,}", percent(c.slo_attainment_frac, 1), seconds(c.ttft_s.p95 if c.ttft_s else None),
         seconds(c.e2e_s.p95 if c.e2e_s else None), percent(c.hosted_frac))
        for c in (result.overall, *result.classes)
    ]  # fmt: skip
    return f"{result.name}: {result.period}", (
        ["class", "requests", "SLO kept", "TTFT p95", "E2E p95", "hosted"],
        rows if not result.reasons else [(reason, "", "", "", "", "") for reason in result.reasons],
    )


@chart.register
def _(result: ServiceRun, *, latency: Any = "ttft") -> Any:
    from envelope.report.charts.serving import latency_cdf

    return latency_cdf({c.id: c.curves for c in (result.overall, *result.classes)}, latency)


@records.register
def _(result: HardwareProfile) -> Iterable[Mapping[str, Any]]:
    return [flat(curve.model_dump(mode="json")) for curve in result.efficiency]


@brief.register
def _(result: HardwareProfile) -> tuple[str, Table]:
    peaks, memory, power = (str(result.source_of(p).evidence) for p in ("peak_flop_per_s", "memory", "power"))
    rows: list[tuple[str, ...]] = [(f"peak {k}", si(v, "FLOP/s"), peaks) for k, v in result.peak_flop_per_s.items()]
    for part in result.memory:
        rows.append((f"{part.name} memory", si(part.capacity_bytes, "B"), memory))
        rows.append((f"{part.name} bandwidth", si(part.bandwidth_bytes_per_s, "B/s"), memory))
    rows.append(("power at most", si(result.power.max_w, "W"), power))
    kinds = sorted({str(curve.evidence) for curve in result.efficiency})
    rows.append(("curves of efficiency", str(len(result.efficiency)), ", ".join(kinds)))
    return result.name, (["figure", "value", "evidence"], rows)


@chart.register
def _(result: HardwareProfile) -> Any:
    from envelope.report.charts.memory import device_roofs

    return device_roofs(result)


@records.register
def _(result: LoadSweep) -> Iterable[Mapping[str, Any]]:
    return [flat(point.model_dump(mode="json")) for point in result.points]


@brief.register
def _(result: LoadSweep) -> tuple[str, Table]:
    rows = [(f"{p.factor:.3g} ×", percent(p.slo_attainment_frac, 1), "yes" if p.keeps else "no") for p in result.points]
    return f"{result.name} by load", (["load", "SLO kept", "keeps the service"], rows)


@chart.register
def _(result: LoadSweep) -> Any:
    from envelope.report.charts.load import load_sweep

    return load_sweep(result)


@records.register
def _(result: Sweep) -> Iterable[Mapping[str, Any]]:
    return result.records()


@brief.register
def _(result: Sweep) -> tuple[str, Table]:
    found = result.ranking(top=MOST_ROWS)
    scenarios = ", ".join(result.study.scenarios)
    title = f"Sweep of {scenarios}, best by {figure_name(found.by)}; {result.done:,} runs, {result.failed:,} failed"
    return title, ranking_table(found, result.study)


@chart.register
def _(result: Sweep, *, by: str = "cost_npv_usd", top: int = MOST_ROWS) -> Any:
    from envelope.report.charts.sweep import ranking_chart

    return ranking_chart(result.ranking(by, top=top), result.study)
