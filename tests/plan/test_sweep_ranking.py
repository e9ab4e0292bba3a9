"""What rows say together, against scipy's own tests and by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from envelope.errors import InputError
from envelope.plan.sweep.effects import correlations, effects
from envelope.plan.sweep.ranking import ranking
from envelope.plan.sweep.row import Row
from envelope.plan.sweep.study import Study

RANDOM = np.random.default_rng(7)
LUCK = RANDOM.normal(0.0, 100.0, 8)
"""Luck of each seed, the same for all variants."""


def rows_of(values: Sequence[Sequence[float]], changes: Sequence[dict[str, Any]], **more: Any) -> list[Row]:
    return [
        Row(
            run=v * len(series) + s, variant=v, scenario="s", candidate="c", seed=s, status="done", changes=changes[v],
            feasible=True, **{"cost_npv_usd": value, **more},
        )
        for v, series in enumerate(values)
        for s, value in enumerate(series)
    ]  # fmt: skip


VALUES = [1000.0 + 20 * v + LUCK + RANDOM.normal(0, 3, 8) for v in range(4)]
GRID = [{"x": a, "y": b} for a in (1, 2) for b in (1, 2)]
ROWS = rows_of([v.tolist() for v in VALUES], GRID)


def test_differences_to_the_best_are_those_of_a_paired_test() -> None:
    found = ranking(lambda: ROWS, "cost_npv_usd", top=10)
    assert [r.variant for r in found.best] == [0, 1, 2, 3]
    for item in found.best[1:]:
        outside = stats.ttest_rel(VALUES[item.variant], VALUES[0]).confidence_interval(0.95)
        assert item.from_best is not None
        assert item.from_best.mean == pytest.approx(float(np.mean(VALUES[item.variant] - VALUES[0])))
        assert (item.from_best.low, item.from_best.high) == pytest.approx((outside.low, outside.high))
        assert not item.tie


def test_common_random_numbers_tell_apart_what_independent_ones_would_not() -> None:
    found = ranking(lambda: ROWS, "cost_npv_usd", top=10)
    apart = stats.ttest_ind(VALUES[1], VALUES[0]).confidence_interval(0.95)
    assert apart.low < 0 < apart.high
    assert found.best[1].from_best is not None
    assert found.best[1].from_best.low is not None
    assert found.best[1].from_best.low > 0
    assert found.sharper is not None
    assert found.sharper > 10


def test_a_difference_that_may_be_chance_is_a_tie() -> None:
    noise = RANDOM.normal(0, 5, 8)
    noise -= noise.mean() - 0.1
    found = ranking(lambda: rows_of([LUCK.tolist(), (LUCK + noise).tolist()], GRID[:2]), "cost_npv_usd", top=2)
    assert found.best[1].tie


def test_feasible_variants_come_first_and_more_is_better_where_it_is() -> None:
    cheap = [row.model_copy(update={"feasible": False, "broken": "slo"}) if row.variant == 0 else row for row in ROWS]
    found = ranking(lambda: cheap, "cost_npv_usd", top=10)
    assert [r.variant for r in found.best] == [1, 2, 3, 0]
    assert (found.feasible, found.compared) == (3, 4)
    served = [row.model_copy(update={"served_frac": 0.1 * row.variant}) for row in ROWS]
    assert ranking(lambda: served, "served_frac", top=1).best[0].variant == 3


def test_one_seed_has_no_interval_and_failed_rows_do_not_count() -> None:
    single = [row for row in ROWS if row.seed == 0]
    failed = single[0].model_copy(update={"status": "failed", "cost_npv_usd": None, "feasible": None})
    found = ranking(lambda: [failed, *single[1:]], "cost_npv_usd", top=10)
    assert {r.variant for r in found.best} == {1, 2, 3}
    assert all(r.value.low is None and not r.tie for r in found.best)
    assert found.sharper is None


def test_an_effect_is_the_mean_difference_of_variants_that_differ_in_it_alone() -> None:
    study = Study(scenarios=("s",), set={"x": (1, 2), "y": (1, 2)})
    by_path = {effect.paths: effect for effect in effects(ROWS, study, "cost_npv_usd", "c")}
    for paths, pairs in ((("x",), [(2, 0), (3, 1)]), (("y",), [(1, 0), (3, 2)])):
        each = np.mean([VALUES[a] - VALUES[b] for a, b in pairs], axis=0)
        outside = stats.ttest_1samp(each, 0.0).confidence_interval(0.95)
        effect = by_path[paths]
        assert effect.pairs == 2
        assert effect.difference.mean == pytest.approx(float(each.mean()))
        assert (effect.difference.low, effect.difference.high) == pytest.approx((outside.low, outside.high))


def test_correlations_are_spearmans_and_the_strongest_come_first() -> None:
    x, y = RANDOM.random(40), RANDOM.random(40)
    values = [[100 * a + 10 * b] for a, b in zip(x, y, strict=True)]
    changes = [{"x": float(a), "y": float(b)} for a, b in zip(x, y, strict=True)]
    asked = {"ranges": {p: {"low": 0, "high": 1} for p in "yx"}, "sample": {"count": 40}}
    study = Study.model_validate({"scenarios": ["s"], **asked})
    found = correlations(rows_of(values, changes), study, "cost_npv_usd", "c")
    assert [c.path for c in found] == ["x", "y"]
    for c, given in zip(found, (x, y), strict=True):
        rho = stats.spearmanr(given, [v[0] for v in values]).statistic
        assert c.rho == pytest.approx(rho)
        assert c.low < rho < c.high


def test_an_unknown_figure_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="cost_npv_usd"):
        ranking(lambda: ROWS, "cost", top=1)
