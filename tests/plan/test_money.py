"""How a candidate's machines and tokens reach the cost model: kinds of acquisition, contracts, tariff lines."""

from dataclasses import replace

import pytest

from envelope.errors import InputError
from envelope.money.evaluate import evaluate_model
from envelope.money.model import build
from envelope.plan.case.case import Case, case_of
from envelope.plan.case.fleet import build_fleet
from envelope.plan.case.paid import economics_of
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.case.usage import Traffic, year_usage
from envelope.plan.service.busiest import simulate_peak
from envelope.plan.service.downtime import downtime
from envelope.plan.service.traffic import traffic
from envelope.spec.hosted import HostedModel, TariffLine
from envelope.spec.load import load, validate
from envelope.spec.scenario import Acquisition, Candidate, HostedUse, Pool, Scenario

SCENARIO = load_scenario("math-tutor")
USE = Traffic(
    requests_per_year=1e6, input_tokens=1000, output_tokens=100, served_frac=1, solved_frac=1, dynamic_j=36.0, idle_w=0
)
POOL = Pool(model="llama-3.1-8b", hardware="nvidia-l40s-48gb", replicas=2)


def candidate(*pools: Pool, **fields: object) -> Candidate:
    return Candidate(id="own", name="Own", pools=pools or (POOL,), **fields)


def resolved(of: Candidate) -> Case:
    return case_of(SCENARIO, of)


def usage(of: Candidate, use: Traffic = USE, scenario: Scenario = SCENARIO):
    case = case_of(scenario, of)
    use = replace(use, own_idle_w=case.own_idle_w, own_dynamic_frac=case.own_power_frac)
    return [year_usage(case, use, year) for year in range(case.years)]


def used(case: Case) -> Traffic:
    peak = simulate_peak(case, seeds=1)
    return traffic(case, peak, downtime(case, peak))


def hosted(api: str, **fields: object) -> Candidate:
    return Candidate(id="hosted", name="Hosted", hosted=HostedUse(api=api, **fields))


def test_a_fleet_of_own_and_rented_machines():
    rented = POOL.model_copy(update={"acquisition": Acquisition(kind="spot"), "on_premises": False, "replicas": 6})
    mixed = candidate(POOL, rented, acquisition=Acquisition(kind="purchase", server="nvidia-l40s-4gpu-server"))
    year = usage(mixed)[0]
    assert [(a.id, a.count, a.leased) for a in year.owned] == [("nvidia-l40s-4gpu-server", 1, False)]
    assert [(r.mode, r.devices) for r in year.rented] == [("spot", 6)]
    # 2 of 8 equal devices are the company's: a quarter of 36 J x 1 M requests, and the server's idle power all year
    bench = resolved(mixed)
    assert bench.own_power_frac == pytest.approx(0.25)
    assert year.it_kwh == pytest.approx(bench.own_idle_w * 8.766 + 36 / 3.6 * 0.25, rel=1e-3)
    assert [pool.inside for pool in build_fleet(bench).pools] == [True, False]


def test_a_fleet_of_one_kind_of_machine_shares_servers():
    two = candidate(POOL, POOL, acquisition=Acquisition(server="nvidia-l40s-4gpu-server"))
    assert [a.count for a in usage(two)[0].owned] == [1]


def test_a_leased_server_is_paid_by_the_month():
    model = build(SCENARIO.economics, usage(candidate(acquisition=Acquisition(kind="lease"))))
    lines = evaluate_model(model).cost_by_line
    assert lines["lease.nvidia-l40s-48gb"] > 0
    assert "purchase.nvidia-l40s-48gb" not in lines


def test_each_candidate_has_its_own_site_and_contract():
    there = candidate(acquisition=Acquisition(site="colocation"))
    here = candidate(acquisition=Acquisition(site="own_room"))
    of = [{x.id for x in build(economics_of(SCENARIO, c), usage(c)).lines} for c in (there, here)]
    assert ["colocation" in lines for lines in of] == [True, False]
    promised = hosted("openai-gpt-5", commitment_usd_per_year=1e6, discount_frac=0.2)
    use = replace(USE, hosted_tokens={("input", 0): 1000.0})
    result = evaluate_model(build(economics_of(SCENARIO, promised), usage(promised, use)))
    plain = evaluate_model(build(economics_of(SCENARIO, hosted("openai-gpt-5")), usage(promised, use)))
    # with the promise three million are paid whatever is used; the discount lowers the bill within it
    paid = sum(x.total_usd for x in result.lines if x.group == "hosted")
    assert paid == pytest.approx(3e6)
    bill = next(x.total_usd for x in result.lines if x.id == "hosted.openai-gpt-5.input")
    assert bill == pytest.approx(0.8 * next(x.total_usd for x in plain.lines if x.id == "hosted.openai-gpt-5.input"))


def test_the_site_belongs_to_the_candidate():
    pool = POOL.model_copy(update={"acquisition": Acquisition(site="colocation")})
    with pytest.raises(InputError, match=r"acquisition.site is set for the candidate"):
        validate(Candidate, candidate().model_dump() | {"pools": [pool.model_dump()]}, "x.yaml")


def test_long_prompts_are_billed_by_their_own_tariff_line():
    # Gemini 2.5 Pro: 1.25 $ up to 200,000 tokens of prompt, 2.50 $ above, for the whole prompt
    use = replace(USE, hosted_tokens={("input", 0): 100.0, ("input", 200_000): 300.0, ("output", 200_000): 10.0})
    lines = usage(hosted("google-gemini-2.5-pro"), use)[0].hosted
    found = {(h.kind, h.above_input_tokens): (h.tokens, h.usd_per_mtok.point) for h in lines}
    assert found == {
        ("input", 0): (pytest.approx(1e8), 1.25),
        ("input", 200_000): (pytest.approx(3e8), 2.5),
        ("output", 200_000): (pytest.approx(1e7), 15.0),
    }


def test_the_simulation_splits_hosted_tokens_at_the_tariff_s_thresholds():
    archive = load_scenario("archive-reader")
    reader = hosted("google-gemini-2.5-pro")
    settings = archive.simulation.model_copy(update={"max_requests": 500})
    open_archive = archive.model_copy(
        update={
            "simulation": settings,
            "constraints": archive.constraints.model_copy(update={"private_stays": False}),
        }
    )
    case = case_of(open_archive, reader)
    peak = simulate_peak(case, seeds=8)
    usage_ = peak.result.hosted
    assert [band.above_input_tokens for band in usage_.bands] == [0, 200_000]
    for kind in ("input_tokens", "cached_input_tokens", "output_tokens"):
        assert sum(getattr(band, kind) for band in usage_.bands) == getattr(usage_, kind)
    long = usage_.bands[1]
    assert 0 < long.input_tokens + long.cached_input_tokens < usage_.input_tokens + usage_.cached_input_tokens
    found = traffic(case, peak, downtime(case, peak)).hosted_tokens
    # what the workload means, not what the hour happened to draw, is billed: the two agree within the luck of the draw
    assert found["input", 200_000] == pytest.approx(long.input_tokens / peak.result.overall.offered, rel=0.15)


def test_an_announced_price_counts_from_its_year(monkeypatch):
    api = load(HostedModel, "hosted", "openai-gpt-5", file="test", path="")
    later = TariffLine(kind="input", usd_per_mtok=99.0, from_date="2027-12-01")
    dearer = api.model_copy(update={"tariff": (*api.tariff, later)})
    use = replace(USE, hosted_tokens={("input", 0): 1000.0})
    case = replace(case_of(SCENARIO, hosted("openai-gpt-5")), hosted=dearer)
    years = [year_usage(case, use, year) for year in range(case.years)]
    prices = [year.hosted[0].usd_per_mtok.point for year in years]
    assert SCENARIO.economics.start == "2026-12"
    assert prices == [1.25, 99.0, 99.0]


def test_a_faster_service_class_costs_its_own_price():
    # GPT-5: 2.50 $ for priority input, twice the standard price
    use = replace(USE, hosted_tokens={("input", 0): 1000.0})
    (line,) = usage(hosted("openai-gpt-5", processing="priority"), use)[0].hosted
    assert (line.processing, line.usd_per_mtok.point) == ("priority", 2.5)


def test_hours_without_service_reach_the_costs():
    case = resolved(hosted("openai-gpt-5"))
    hours = used(case).downtime_hours_per_year
    assert hours == pytest.approx((1 - case.hosted.availability.frac) * 24 * 365.25)
    assert year_usage(case, used(case), 0).downtime_hours == hours
