"""The frontier equals pointwise compare, and its line lies where owning and renting cost the same."""

import json
from pathlib import Path

import numpy as np
import pytest

from envelope.cli import main
from envelope.errors import InputError
from envelope.money.result import PresentValue
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.compare import compare
from envelope.plan.frontier.axes import axis, axis_names
from envelope.plan.frontier.map import Frontier, frontier
from envelope.plan.frontier.surface import node
from envelope.plan.rules.money_rules import budget_rules
from envelope.spec.scenario import Scenario

TUTOR = load_scenario("math-tutor")
TUTOR = TUTOR.model_copy(update={"simulation": TUTOR.simulation.model_copy(update={"max_requests": 1000, "seeds": 1})})
ONLY = ("hosted-mistral", "own-qwen3-32b", "own-llama-8b")


def cheapest(scenario: Scenario) -> tuple[str | None, float | None]:
    found = [c for c in compare(scenario, seeds=1, only=ONLY).candidates if c.feasible]
    best = min(found, key=lambda c: c.cost_npv or 0.0, default=None)
    return (best.id, best.cost_npv) if best else (None, None)


@pytest.mark.parametrize(
    ("x", "y", "ranges"),
    [
        ("requests_per_day", "discount_rate", ((12_000, 48_000), (0.0, 0.3))),
        ("hard_share", "constraints.solved_min_frac", ((0.05, 0.4), (0.5, 0.99))),
    ],
)
def test_the_frontier_equals_pointwise_compare(
    x: str, y: str, ranges: tuple[tuple[float, float], tuple[float, float]]
) -> None:
    found = frontier(TUTOR, x, y, x_range=ranges[0], y_range=ranges[1], cells=5, only=ONLY, draws=16)
    ax, ay = axis(TUTOR, x, ranges[0]), axis(TUTOR, y, ranges[1])
    for i in (0, 2, 4):
        for j in (0, 4):
            who, usd = cheapest(ay.apply(ax.apply(TUTOR, ax.at(i / 4)), ay.at(j / 4)))
            cell = found.cells[j][i]
            assert (found.candidates[cell] if cell >= 0 else None) == who
            assert found.cost_npv[j][i] == (None if usd is None else pytest.approx(usd, rel=0.01))


def limited(budget: dict[str, object]) -> Scenario:
    return TUTOR.replace({"constraints.budget_usd": None, "constraints.budget": budget})


@pytest.mark.parametrize("budget", [{"limit_usd": 5e4, "of": "cash"}, {"by_year": [2e4, 2e4, 2e4]}])
def test_a_budget_on_payments_counts_at_the_points_of_a_map(budget: dict[str, object]) -> None:
    tight = limited(budget)
    free = node(TUTOR, next(c for c in TUTOR.candidates if c.id == "own-qwen3-32b"))
    held = node(tight, next(c for c in tight.candidates if c.id == "own-qwen3-32b"))
    # Its machines are paid at signature, in the first year.
    assert not any(name.startswith("budget") for name in free.margins)
    assert held.margins["budget" if "of" in budget else "budget.year-1"] < 0
    assert held.cost_usd == free.cost_usd


def test_a_budget_on_payments_is_not_judged_without_them() -> None:
    value = PresentValue(cost_npv_usd=1.0, p10_npv_usd=1.0, p50_npv_usd=1.0, p90_npv_usd=1.0)
    assert budget_rules(limited({"limit_usd": 2.0}), value)[0].satisfied
    with pytest.raises(TypeError, match="only the present value"):
        budget_rules(limited({"limit_usd": 2.0, "of": "cash"}), value)


@pytest.fixture(scope="module")
def price_map() -> Frontier:
    return frontier(TUTOR, "requests_per_day", "api_price", cells=32, only=ONLY[:2], draws=64)


def test_dearer_apis_and_more_work_favour_owning(price_map: Frontier) -> None:
    own = price_map.candidates.index("own-qwen3-32b")
    cells = np.array(price_map.cells) == own
    # Up a column the API only gets dearer: once owning wins it keeps winning.
    assert np.all(np.diff(cells.astype(int), axis=0) >= 0)
    assert cells.any()
    assert not cells.all()


def test_the_line_separates_the_regions_and_lies_within_its_band(price_map: Frontier) -> None:
    line = price_map.line
    assert line is not None
    assert (line.own, line.rent) == (("own-qwen3-32b",), ("hosted-mistral",))
    own, step = price_map.candidates.index("own-qwen3-32b"), 1 / 31
    xs, ys = np.array(price_map.x.values), np.array(price_map.y.values)
    for p in line.points:
        if p.point is None or line.held != "x" or not ys[0] < p.point < ys[-5]:
            continue
        column = int(np.argmin(np.abs(np.log(xs / p.along))))
        rows = np.array([row[column] for row in price_map.cheapest]) == own
        assert rows.any()
        if rows.any():
            first = ys[int(np.argmax(rows))]
            assert abs(np.log(first / p.point)) < 5 * step * np.log(ys[-1] / ys[0])
    for p in line.points:
        if p.p10 is not None and p.p50 is not None and p.p90 is not None:
            assert p.p10 <= p.p50 <= p.p90


def test_regions_cover_the_map_and_say_why(price_map: Frontier) -> None:
    assert sum(r.frac for r in price_map.regions) == pytest.approx(1.0)
    assert all(r.reason for r in price_map.regions)
    assert price_map.path[0].x == pytest.approx(TUTOR.workload.daily_requests)
    assert [p.year for p in price_map.path] == [0, 1, 2]
    assert price_map.path[2].x == pytest.approx(1.1**2 * TUTOR.workload.daily_requests)


def test_privacy_decides_where_no_price_can() -> None:
    found = frontier(TUTOR, "private_share", "api_price", cells=5, only=ONLY[:2], draws=16)
    winners = [{found.candidates[v] if v >= 0 else None for v in column} for column in zip(*found.cells, strict=True)]
    assert "hosted-mistral" in winners[0]
    assert all(w == {"own-qwen3-32b"} for w in winners[1:])
    region = next(r for r in found.regions if r.candidate == "own-qwen3-32b")
    assert "privacy" in region.reason


def test_a_map_without_a_line_says_why() -> None:
    found = frontier(TUTOR, "private_share", "api_price", cells=5, only=ONLY[1:], draws=16)
    assert found.line is None
    assert found.without_line == "no rented or hosted candidate is compared"
    coding = load_scenario("coding-assistant")
    found = frontier(coding, "discount_rate", "api_price", cells=4, draws=16, only=["hosted-frontier", "own-v4-flash"])
    assert found.line is None
    assert "no rented or hosted candidate is feasible anywhere on the map (privacy)" in found.without_line


@pytest.mark.parametrize("name", axis_names())
def test_every_axis_leaves_the_scenario_as_it_is_at_todays_value(name: str) -> None:
    a = axis(TUTOR, name)
    assert a.low <= a.today <= a.high
    same = a.apply(TUTOR, a.today)
    assert same.workload.daily_requests == pytest.approx(TUTOR.workload.daily_requests)
    assert same.workload.tasks[0].sensitivity_mix.get("private", 0.0) == 0.0
    other = a.apply(TUTOR, a.at(0.9))
    assert other != TUTOR


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("request_per_day", "nearest 'requests_per_day'"),
        ("constraints.budget", "is not a number"),
        ("name", "unknown"),
        ("constraints.offline", "is not a number"),
    ],
)
def test_an_axis_that_is_none_is_refused(name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        axis(TUTOR, name)


def test_a_range_must_rise() -> None:
    with pytest.raises(InputError, match="low below high"):
        axis(TUTOR, "context", (2.0, 1.0))


def test_the_command_draws_the_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["frontier", "math-tutor", "--x", "discount_rate", "--y", "api_price", "--cells", "8", "--only", ONLY[0]]
    drawn = tmp_path / "map.svg"
    assert main([*args, "--picture", str(drawn)]) == 0
    assert "◎ today" in capsys.readouterr().out
    assert "diamond: today" in drawn.read_text(encoding="utf-8")
    assert main([*args, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["cells"]) == 8
