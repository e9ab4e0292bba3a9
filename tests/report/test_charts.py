"""Charts draw the numbers of their results, say in words what they show, and are legible without colour vision."""

import math

import pytest

pytest.importorskip("altair", reason="needs the extra 'report'")

from itertools import combinations, pairwise  # noqa: E402
from typing import Any  # noqa: E402

import envelope  # noqa: E402
from envelope.plan.cost.study import CostStudy, cost_models, cost_study  # noqa: E402
from envelope.plan.deployment.estimate import EstimateQuery, estimate  # noqa: E402
from envelope.plan.deployment.fit_map import fit_map  # noqa: E402
from envelope.plan.deployment.operator_roofline import operator_roofline  # noqa: E402
from envelope.plan.deployment.sparse import sparse_view  # noqa: E402
from envelope.plan.deployment.tuning import TuningQuery, tuning_bench  # noqa: E402
from envelope.plan.frontier.map import AxisInfo, Frontier, LinePoint, OwnRentLine, Position, Region  # noqa: E402
from envelope.plan.service.load_sweep import LoadSweep, load_sweep
from envelope.plan.service.run_result import ServiceRun  # noqa: E402
from envelope.plan.service.simulate import simulate  # noqa: E402
from envelope.plan.verdict.results import Comparison  # noqa: E402
from envelope.report.charts import accuracy, base, choices, cost, cost_ranges, frontier, palette, serving  # noqa: E402
from envelope.report.charts import load as load_charts  # noqa: E402
from envelope.report.charts import memory as memory_charts  # noqa: E402
from envelope.serving.result import CURVE_FRACS  # noqa: E402
from envelope.units import GB  # noqa: E402
from envelope.validation.score import ScoredRow  # noqa: E402

WHITE, DARK = "#FFFFFF", "#0E1117"
"""Backgrounds of Streamlit's light and dark themes."""
QUERY = EstimateQuery(model="llama-3.3-70b", hardware="nvidia-h100-sxm-80gb", count=4, weights="fp8", concurrency=64)


@pytest.fixture(scope="module")
def scenario() -> Any:
    return envelope.load_scenario("field-devices")


@pytest.fixture(scope="module")
def comparison(scenario: Any) -> Comparison:
    return envelope.compare(scenario, seeds=1)


@pytest.fixture(scope="module")
def study(scenario: Any) -> CostStudy:
    return cost_study(cost_models(scenario, seeds=1, volumes=False), draws=64)


@pytest.fixture(scope="module")
def broken() -> ServiceRun:
    return simulate(envelope.load_scenario("coding-assistant"), "own-v4-flash", seeds=1, fail_node_at="peak")


@pytest.fixture(scope="module")
def sweep() -> LoadSweep:
    return load_sweep(envelope.load_scenario("coding-assistant"), "own-v4-flash", [0.5, 1.0])


def rows(chart: Any, layer: int | None = None) -> list[dict[str, Any]]:
    spec = chart.to_dict()
    part = spec if layer is None else spec["layer"][layer]
    found = part.get("data") or spec["data"]
    return list(found["values"]) if "values" in found else list(spec["datasets"][found["name"]])


def titles(node: Any) -> list[str]:
    """Return the titles of all axes in a chart's specification."""
    if isinstance(node, list):
        return [t for item in node for t in titles(item)]
    if not isinstance(node, dict):
        return []
    own = [
        v["title"] for k, v in node.get("encoding", {}).items() if k in "xy" and isinstance(v, dict) and v.get("title")
    ]
    return own + [t for value in node.values() for t in titles(value)]


def test_cost_by_heading_sums_to_each_candidates_cost(comparison: Comparison) -> None:
    drawn = rows(cost.cost_by_heading(comparison))
    for candidate in comparison.candidates:
        if candidate.lines:
            total = sum(r["usd"] for r in drawn if r["candidate"] == candidate.name)
            assert total == pytest.approx(candidate.cost_npv)


def test_a_study_and_its_comparison_have_one_chart_of_costs(comparison: Comparison, study: CostStudy) -> None:
    drawn = rows(cost.cost_by_heading(study))
    for costs in study.candidates:
        total = sum(r["usd"] for r in drawn if r["candidate"] == costs.name)
        assert total == pytest.approx(costs.cost.expected_npv_usd)


def test_more_headings_than_colours_are_drawn(comparison: Comparison) -> None:
    candidate = next(c for c in comparison.candidates if c.lines)
    lines = tuple(candidate.lines[0].model_copy(update={"group": f"group_{i}", "npv_usd": 1.0 + i}) for i in range(20))
    many = comparison.model_copy(update={"candidates": (candidate.model_copy(update={"lines": lines}),)})
    chart = cost.cost_by_heading(many)
    assert {r["heading"]: r["usd"] for r in rows(chart)} == {f"group {i}": 1.0 + i for i in range(20)}
    scale = chart.to_dict()["encoding"]["color"]["scale"]
    assert len(scale["domain"]) == len(scale["range"]) == 20
    assert set(scale["range"]) <= set(palette.PALETTE)


def test_cash_flow_and_cumulated_cost_end_at_the_nominal_total(study: CostStudy) -> None:
    costs = study.candidates[0]
    assert sum(r["usd"] for r in rows(cost.cash_flow(costs))) == pytest.approx(costs.result.total_usd)
    last = [r for r in rows(cost.cumulated_cost(study)) if r["candidate"] == costs.name][-1]
    assert last["month"] == study.horizon_months
    assert last["usd"] == pytest.approx(costs.result.total_usd)


def test_tornado_shows_the_widest_inputs_first(study: CostStudy) -> None:
    costs = study.candidates[0]
    drawn = rows(cost_ranges.tornado(costs))
    by_input = {bar.input: (bar.low_usd, bar.high_usd) for bar in costs.tornado}
    for low, high in zip(drawn[::2], drawn[1::2], strict=True):
        assert (low["usd"], high["usd"]) == by_input[low["input"]]
    swings = [abs(high["usd"] - low["usd"]) for low, high in zip(drawn[::2], drawn[1::2], strict=True)]
    assert swings == sorted(swings, reverse=True)


def test_fan_and_ranges_are_the_quantiles_of_the_draws(study: CostStudy) -> None:
    first = study.uncertainty.candidates[0]
    fan = rows(cost_ranges.cost_fan(study, first.id))
    assert [(r["p10"], r["p50"], r["p90"]) for r in fan] == [(q.p10, q.p50, q.p90) for q in first.by_year_usd]
    by_name = {r["candidate"]: r for r in rows(cost_ranges.cost_ranges(study))}
    costs = study.candidate(first.id)
    drawn = by_name[costs.name]
    assert drawn["p10"] == first.cost_npv_usd.p10
    assert drawn["point"] == costs.cost.expected_npv_usd


def test_a_devices_memory_adds_up_to_its_capacity() -> None:
    memory = estimate(**QUERY.model_dump(exclude={"settings"})).memory
    assert memory is not None
    drawn = rows(memory_charts.memory_bars({"one": memory}), 0)
    assert sum(r["gb"] for r in drawn) == pytest.approx(memory.domains[0].capacity_bytes / GB)
    assert {r["part"]: r["gb"] for r in drawn}["weights"] == pytest.approx(memory.domains[0].weights_bytes / GB)


def test_weights_beyond_the_budget_are_shown_as_short() -> None:
    memory = estimate(model="llama-3.3-70b", hardware="nvidia-h100-sxm-80gb", count=1).memory
    assert memory is not None
    device = memory.domains[0]
    drawn = {r["part"]: r["gb"] for r in rows(memory_charts.memory_bars({"one": memory}), 0)}
    need = device.weights_bytes + device.activations_bytes + device.overhead_bytes
    assert drawn["short by"] == pytest.approx((need - device.budget_bytes) / GB)
    assert sum(drawn.values()) == pytest.approx(need / GB)


def test_the_heat_map_crosses_out_what_the_cache_does_not_hold() -> None:
    found = fit_map(QUERY)
    for row in rows(memory_charts.fit_heat_map(found)):
        held = found.held[found.contexts_tokens.index(row["context"])]
        assert (row["fits"] == "fits") == (row["concurrency"] <= held)


def test_no_operator_lies_above_the_roof() -> None:
    found = operator_roofline(QUERY)
    peak = max(roof.flop_per_s for roof in found.roofs)
    for row in rows(memory_charts.roofline(found), 1):
        assert row["rate"] <= min(peak, row["intensity"] * found.bandwidth_bytes_per_s) * (1 + 1e-9)


def test_a_distribution_rises_to_one_and_shows_its_limit(broken: ServiceRun) -> None:
    chart = serving.latency_cdf({"all": broken.overall.curves}, "ttft", limit_s=2.0)
    drawn = rows(chart, 0)
    assert [r["share"] for r in drawn] == list(CURVE_FRACS)
    assert all(a["seconds"] <= b["seconds"] for a, b in pairwise(drawn))
    assert rows(chart, 1)[0]["seconds"] == 2.0


def test_a_timeline_marks_the_failure(broken: ServiceRun) -> None:
    chart = serving.timeline(broken, "queue")
    assert [r["value"] for r in rows(chart, 0)] == list(broken.timeline.queue)
    marks = rows(chart, 1)
    assert {m["event"] for m in marks} == {e.kind for e in broken.faults}
    assert "failure" in {m["event"] for m in marks}


def test_bottleneck_shares_are_those_of_the_run(broken: ServiceRun) -> None:
    drawn = {r["bound"]: r["share"] for r in rows(serving.bottleneck_shares({"one": broken.bottleneck}))}
    assert drawn["memory"] == broken.bottleneck.memory_frac
    waits = {r["waits for"]: r["share"] for r in rows(serving.queue_reasons({"one": broken.bottleneck}))}
    assert waits["KV blocks"] == broken.bottleneck.queue_for_kv_frac


def test_the_load_sweep_shows_attainment_and_its_limit(sweep: LoadSweep) -> None:
    chart = load_charts.load_sweep(sweep)
    assert [r["met"] for r in rows(chart, 0)] == [p.slo_attainment_frac for p in sweep.points]
    assert rows(chart, 1)[0]["met"] == sweep.slo_limit_frac
    p95 = [r["seconds"] for r in rows(load_charts.load_latency(sweep, "ttft")) if r["share"] == "p95"]
    assert p95 == [p.ttft_s.p95 for p in sweep.points if p.ttft_s]


def test_latency_against_cost_joins_the_undominated_ones(comparison: Comparison) -> None:
    best = [c.id for c in comparison.candidates if c.service and c.service.e2e][:1]
    chart = load_charts.latency_against_cost(comparison, best)
    assert [r["id"] for r in rows(chart, 0)] == best
    for row in rows(chart, 1):
        assert row["usd"] == comparison.candidate(row["id"]).cost_npv


def two_by_two() -> Frontier:
    axis = AxisInfo(name="a", label="requests a day", log=True, today=20.0, values=(10.0, 100.0))
    point = LinePoint(along=10.0, point=30.0, p10=20.0, p50=30.0, p90=40.0, exists_frac=1.0)
    return Frontier(
        scenario="s", x=axis, y=axis.model_copy(update={"label": "API price"}), candidates=("own", "rent"),
        cells=((0, 0), (1, -1)), cheapest=((0, 0), (1, -1)), rule="cheapest", cost_npv=((1.0, 1.0), (2.0, None)),
        regions=(Region(candidate="own", name="Own", frac=0.5, reason="cheapest"),),
        line=OwnRentLine(held="x", points=(point,), own=("own",), rent=("rent",), text="equal at 30"),
        path=(Position(year=0, x=20.0, y=20.0, candidate="own", inside=True),), simulations=1, points_evaluated=1,
        interpolated="",
    )  # fmt: skip


def test_the_frontier_joins_equal_cells_and_covers_the_map_once() -> None:
    drawn = rows(frontier.frontier_map(two_by_two()), 0)
    assert len(drawn) == 3
    area = sum(math.log10(r["x2"] / r["x"]) * math.log10(r["y2"] / r["y"]) for r in drawn)
    assert area == pytest.approx(4.0)
    own = next(r for r in drawn if r["cheapest"].startswith("A"))
    assert (own["x"], own["x2"]) == (pytest.approx(math.sqrt(10)), pytest.approx(10 * math.sqrt(1000)))


def test_the_frontier_says_where_owning_and_renting_cost_the_same() -> None:
    assert "equal at 30" in frontier.frontier_map(two_by_two()).description


def test_sparse_charts_draw_bytes_by_batch_and_context(scenario: Any) -> None:
    view = sparse_view(scenario, ["gpt-oss-120b"], "nvidia-h100-sxm-80gb")
    drawn = {r["batch"]: r["gb"] for r in rows(choices.weight_bytes_by_batch(view))}
    assert drawn == {b: pytest.approx(v / GB) for b, v in view.rows[0].active_bytes_per_token.items()}
    cache = {r["context"]: r["gb"] for r in rows(choices.cache_by_context(view))}
    assert cache == {c: pytest.approx(v / GB) for c, v in view.rows[0].kv_bytes_per_sequence.items()}


def test_tuning_lines_cross_at_the_break_even() -> None:
    bench = tuning_bench(TuningQuery(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb", requests_per_day=10_000))
    crossing = next(b.requests_per_day for b in bench.break_even if (b.method, b.against) == ("lora", "prompt"))
    drawn = rows(choices.tuning_break_even(bench), 0)
    by_load: dict[float, dict[str, float]] = {}
    for r in drawn:
        by_load.setdefault(r["requests"], {})[r["method"]] = r["usd"]
    assert crossing is not None
    for load, usd in by_load.items():
        assert (usd["lora"] < usd["prompt"]) == (load > crossing)


def test_the_accuracy_scatter_rings_the_worst_rows() -> None:
    made = [
        ScoredRow(id=str(i), collection="c", quantity="tpot", device_class="cpu", architecture="dense", device="d",
                  model="m", engine="e", unit="ms", measured=10.0, predicted=p, ape_frac=0.0, bias_frac=0.0)
        for i, p in enumerate((10.0, 12.0, 30.0))
    ]  # fmt: skip
    chart = accuracy.accuracy_scatter(made, ["2"], "Time per token", "ms")
    drawn = rows(chart, 1)
    assert [r["worst"] for r in drawn] == [False, False, True]
    assert [r["error"] for r in drawn] == pytest.approx([0.0, 0.2, 2.0])
    assert "67%" in chart.description


def test_every_chart_has_words_and_units(
    comparison: Comparison, study: CostStudy, broken: ServiceRun, sweep: LoadSweep
) -> None:
    ident = study.candidates[0].id
    drawn = [
        cost.cost_by_heading(comparison), cost.cash_flow(study.candidates[0]),
        cost.cumulated_cost(study), cost_ranges.tornado(study.candidates[0]),
        cost_ranges.cost_fan(study, ident), cost_ranges.cost_ranges(study), cost_ranges.break_even(study),
        memory_charts.fit_heat_map(fit_map(QUERY)), memory_charts.roofline(operator_roofline(QUERY)),
        *(serving.timeline(broken, quantity) for quantity in serving.QUANTITIES),
        load_charts.load_sweep(sweep), frontier.frontier_map(two_by_two()),
    ]  # fmt: skip
    for chart in drawn:
        spec = chart.to_dict()
        assert len(spec["description"]) > 30
        assert spec["width"] == "container"
        assert titles(spec)


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("background", [WHITE, DARK])
def test_every_colour_stands_out_from_the_page(background: str) -> None:
    assert contrast(WHITE, "#000000") == pytest.approx(21.0)
    for colour in (*palette.PALETTE, palette.NEUTRAL):
        assert contrast(colour, background) >= 3.0, colour


def test_no_two_series_look_alike_without_colour_vision() -> None:
    """Colours may come close for some readers, so no colour meets the same dash or shape twice in a chart."""
    lines = [(palette.PALETTE[i % len(palette.PALETTE)], palette.DASHES[i % len(palette.DASHES)]) for i in range(12)]
    assert len(set(lines)) == 12
    for a, b in combinations(range(6), 2):
        assert palette.DASHES[a] != palette.DASHES[b]
        assert palette.SHAPES[a] != palette.SHAPES[b]


def test_numbers_follow_the_readers_separators(comparison: Comparison) -> None:
    chart = base.with_separators(cost.cost_by_heading(comparison), ",", ".")
    assert chart.to_dict()["usermeta"]["embedOptions"]["formatLocale"]["decimal"] == ","
