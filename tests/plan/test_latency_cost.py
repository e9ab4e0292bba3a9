"""Who is undominated in cost and latency, and what training costs by load, checked by hand."""

from itertools import product

import pytest

from envelope.plan.deployment.tuning import TuningQuery, tuning_bench
from envelope.plan.deployment.tuning_curve import tuning_curve
from envelope.plan.service.level import Percentiles, ServiceLevel
from envelope.plan.verdict.latency_cost import undominated
from envelope.plan.verdict.results import CandidateResult, Comparison


def result(*found: tuple[str, float | None, float | None, bool]) -> Comparison:
    def service(p95_s: float | None) -> ServiceLevel | None:
        if p95_s is None:
            return None
        times = Percentiles(mean_s=p95_s, p50_s=p95_s, p95_s=p95_s, p99_s=p95_s)
        return ServiceLevel(
            slo_attainment_frac=1, slo_attainment_low_frac=1, slo_attainment_high_frac=1, served_frac=1, e2e=times,
            requests_simulated=1, simulated_s=1, peak_requests_per_s=1,
        )  # fmt: skip

    candidates = tuple(
        CandidateResult(id=i, name=i, feasible=ok, constraints=(), cost_npv=usd, service=service(p95))
        for i, usd, p95, ok in found
    )
    return Comparison(
        scenario="s", name="s", question="?", failure_not_affordable="leak", horizon_years=3, requests_per_year=1,
        candidates=candidates, order=tuple(c.id for c in candidates), recommended=None, runner_up=None, reasons=(), version="0",
    )  # fmt: skip


def test_the_undominated_are_those_that_none_beats_in_both() -> None:
    found = [("a", 10.0, 5.0, True), ("b", 20.0, 3.0, True), ("c", 20.0, 6.0, True), ("d", 15.0, 5.0, True),
             ("e", 30.0, 1.0, True)]  # fmt: skip
    beaten = {
        x[0] for x, y in product(found, found) if x != y and (y[1] or 0) <= (x[1] or 0) and (y[2] or 0) <= (x[2] or 0)
    }
    assert undominated(result(*found)) == tuple(x[0] for x in found if x[0] not in beaten) == ("a", "b", "e")


def test_what_does_not_fit_or_was_not_simulated_is_left_out() -> None:
    assert undominated(result(("a", 1.0, 1.0, False), ("b", None, 2.0, True), ("c", 3.0, None, True))) == ()


def test_the_curve_passes_through_the_load_that_was_asked_for() -> None:
    bench = tuning_bench(TuningQuery(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb", requests_per_day=10_000))
    asked = {p.method: p.usd_per_year for p in tuning_curve(bench, [10_000])}
    assert asked == {r.method: pytest.approx(r.total_usd_per_year) for r in bench.rows}
    assert {p.requests_per_day for p in tuning_curve(bench)} >= {100.0, 1_000_000.0}


def test_methods_that_changes_rule_out_have_no_curve() -> None:
    often = TuningQuery(
        model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb", requests_per_day=10_000, changes_per_year=52
    )
    assert {p.method for p in tuning_curve(tuning_bench(often))} == {"prompt", "prompt_cached", "retrieval"}
