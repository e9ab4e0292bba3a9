"""The cost study of a scenario: baseline, ranges, break-even, files and commands."""

import csv
import json
import re
from dataclasses import replace

import pytest

from envelope import cli
from envelope.errors import InputError
from envelope.money.draws import line_draws
from envelope.money.evaluate import evaluate_model
from envelope.money.inputs import point_values
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.cost.models import CostModels, cost_models, money
from envelope.plan.cost.study import cost_study
from envelope.plan.rules.rule import ConstraintResult
from envelope.plan.verdict.choice import verdict
from envelope.plan.verdict.figures import candidate_result
from envelope.report.cost_document import MAX_PAGES, write_document
from envelope.report.cost_files import write_cost_study
from envelope.report.cost_page import answer, break_even_rows, cost_page, risks, shown, table_rows
from envelope.spec.economics import Economics

ONLY = ("hosted-mistral", "own-llama-8b")


@pytest.fixture(scope="module")
def found() -> CostModels:
    return cost_models(load_scenario("math-tutor"), only=ONLY, seeds=1)


@pytest.fixture(scope="module")
def study(found):
    return cost_study(found, draws=64)


def test_the_hosted_candidate_is_the_baseline_and_has_nothing_to_beat(study):
    assert study.baseline == "hosted-mistral"
    hosted, own = study.candidate("hosted-mistral"), study.candidate("own-llama-8b")
    assert hosted.against_baseline is None
    assert hosted.break_even_month is None
    saved = hosted.cost.expected_npv_usd - own.cost.expected_npv_usd
    assert own.against_baseline.saving_npv_usd == pytest.approx(saved)


def test_ranges_hold_the_middle_and_the_chances_add_up(study):
    for drawn in study.uncertainty.candidates:
        assert drawn.cost_npv_usd.p10 < drawn.cost_npv_usd.p50 < drawn.cost_npv_usd.p90
    shares = [c.cheapest_frac for c in study.uncertainty.candidates if c.cheapest_frac is not None]
    assert sum(shares) == pytest.approx(1.0)


def test_another_baseline_turns_the_saving_round(found, study):
    other = cost_study(found, baseline="own-llama-8b", draws=64)
    saving = other.candidate("hosted-mistral").against_baseline.saving_npv_usd
    assert saving == pytest.approx(-study.candidate("own-llama-8b").against_baseline.saving_npv_usd)
    with pytest.raises(InputError, match="nearest .*'own-llama-8b'"):
        cost_study(found, baseline="own-llama", draws=64)


def test_the_same_seed_gives_the_same_study(found, study):
    assert cost_study(found, draws=64).model_dump_json() == study.model_dump_json()


def test_unknown_candidates_are_refused_with_the_nearest():
    with pytest.raises(InputError, match="nearest 'hosted-mistral'"):
        cost_models(load_scenario("math-tutor"), only=["hosted-mistra"])


def test_growth_adds_a_replica_in_the_year_that_needs_it_and_keeps_it():
    scenario = load_scenario("math-tutor")
    workload = scenario.workload.model_copy(update={"growth_frac_per_year": 6.0})
    busy = scenario.model_copy(update={"workload": workload})
    grown = cost_models(busy, only=["own-llama-8b"], seeds=1)
    replicas = [year.replicas for year in grown.judged["own-llama-8b"].years]
    assert list(replicas) == sorted(replicas)
    assert replicas[-1] > replicas[0]
    counts = [sum(asset.count for asset in year.owned) for year in grown.models["own-llama-8b"].years]
    assert counts[-1] > counts[0]
    bought = next(x for x in cost_study(grown, draws=64).candidates[0].result.lines if x.id.startswith("purchase."))
    assert [usd > 0 for usd in bought.by_year_usd[:3]] == [
        True,
        *(b > a for a, b in zip(counts, counts[1:], strict=False)),
    ]


@pytest.fixture(scope="module")
def wide() -> CostModels:
    return cost_models(load_scenario("math-tutor"), only=ONLY, seeds=1, demand_factors=(0.5, 60.0))


def test_each_demand_gets_the_machines_it_takes(wide):
    own, hosted = (money(wide.judged[ident]).surface for ident in ("own-llama-8b", "hosted-mistral"))
    assert own.factors == hosted.factors == (0.5, 1.0, 60.0)
    nodes = [sum(a.count for a in m.years[0].owned) for m in own.models]
    assert nodes[0] == nodes[1] < nodes[2]
    requests = [m.years[0].requests for m in own.models]
    assert requests == pytest.approx([0.5 * requests[1], requests[1], 60 * requests[1]])
    tokens = [sum(h.tokens for h in m.years[0].hosted) for m in hosted.models]
    # prompts are drawn, so tokens per request differ a little between simulations
    assert tokens[2] == pytest.approx(60 * tokens[1], rel=0.05)


def test_the_volume_at_which_owning_pays_lies_between_the_simulated_demands(wide):
    found = cost_study(wide, draws=64).candidate("own-llama-8b").break_even_volume
    assert 1.0 < found.quantiles.p10 < found.point < 60.0


def test_break_even_is_searched_above_the_plan_by_itself(study):
    own = study.candidate("own-llama-8b")
    assert own.break_even_volume.exists_frac > 0.1
    assert own.break_even_volume.quantiles.p10 > 1.0
    assert 0 < own.break_even_utilisation.quantiles.p10 <= own.break_even_utilisation.quantiles.p90 <= 1.0


def test_the_capacity_of_the_planned_replicas_agrees_with_simulating_eight_times_the_demand(found):
    # one way adds machines where the capacity of the planned ones ends, the other simulates and sizes the larger fleet
    simulated = cost_models(load_scenario("math-tutor"), only=["own-llama-8b"], seeds=1, demand_factors=(8.0,))
    eight = money(simulated.judged["own-llama-8b"]).surface.models[-1]
    by_capacity = found.volumes["own-llama-8b"].surface
    same = by_capacity.models[by_capacity.factors.index(8.0)]
    costs = [evaluate_model(model).cost_npv_usd for model in (same, eight)]
    assert costs[0] == pytest.approx(costs[1], rel=0.05)


def test_at_the_break_even_price_of_the_api_both_cost_the_same(found, study):
    own, base = found.models["own-llama-8b"], found.models["hosted-mistral"]
    factor = study.candidate("own-llama-8b").break_even_api_price.point
    values = [
        {n: v * (factor if n.startswith("tariff.") else 1) for n, v in point_values(m.inputs).items()}
        for m in (own, base)
    ]
    costs = [float(line_draws(m, v).cost_npv_usd[0]) for m, v in zip((own, base), values, strict=True)]
    assert costs[0] == pytest.approx(costs[1], rel=1e-6)


def test_sobol_indices_rank_the_inputs_and_first_orders_stay_below_one(study):
    for c in study.candidates:
        totals = [s.total for s in c.sobol]
        assert totals == sorted(totals, reverse=True)
        assert sum(s.first for s in c.sobol) == pytest.approx(1.0, abs=0.1)


def refused(found: CostModels, ident: str) -> CostModels:
    """Return the same candidates with one of them infeasible."""
    one = found.judged[ident]
    bad = [ConstraintResult(id="region", satisfied=False, margin_frac=-1.0, explanation="not there"), *one.rules[1:]]
    judged = {**found.judged, ident: replace(one, rules=tuple(bad))}
    said = verdict(found.scenario, [candidate_result(j) for j in judged.values()])
    return replace(found, judged=judged, comparison=said)


def test_the_baseline_and_the_recommendation_keep_every_rule(found):
    other = cost_study(refused(found, "hosted-mistral"), draws=16)
    # Neither is feasible then, and both keep the service: the hosted one is still what savings count against.
    assert (other.recommended, other.baseline) == (None, "hosted-mistral")
    assert "No candidate keeps every rule" in answer(other)


def test_a_candidate_that_breaks_a_rule_is_marked_and_never_cheapest(found):
    loose = found.scenario.replace("constraints.solved_min_frac", 0.0)
    both = cost_study(cost_models(loose, only=ONLY, seeds=1), draws=16)
    assert [c.feasible for c in both.candidates] == [True, True]
    other = cost_study(found, draws=16)
    assert other.recommended == "hosted-mistral"
    header, rows = table_rows(other)
    assert [kind for kind, _ in rows] == ["best", "out"]
    assert rows[1][1][header.index("fits")] == "✘ tasks solved"
    shares = {c.id: c.cheapest_frac for c in other.uncertainty.candidates}
    assert shares == {"hosted-mistral": 1.0, "own-llama-8b": None}
    assert other.uncertainty.cheaper_frac == {"hosted-mistral": {}}
    assert any("breaks tasks solved" in risk for risk in risks(other))


def test_an_uncertain_demand_is_simulated_over_its_range():
    scenario = load_scenario("math-tutor")
    economics = Economics(
        **scenario.economics.model_dump(exclude_unset=True) | {"demand_factor": {"low": 0.5, "high": 2.0}}
    )
    found = cost_models(scenario.model_copy(update={"economics": economics}), only=ONLY[:1], seeds=1)
    factors = money(found.judged["hosted-mistral"]).surface.factors
    assert factors[0] == pytest.approx(0.53)
    assert factors[-1] == pytest.approx(1.97)


def test_the_answer_names_the_cheapest_that_keeps_the_service(study):
    best = shown(study)
    assert best.id == study.recommended
    assert best.name in answer(study)
    assert "near tie" not in answer(study)


def test_a_near_tie_is_called_one(study):
    best = study.candidate("hosted-mistral")
    twin = best.model_copy(update={"id": "own-llama-8b", "name": "Twin"})
    drawn = study.uncertainty.model_copy(update={"cheaper_frac": {"hosted-mistral": {"own-llama-8b": 0.5}}})
    two = study.model_copy(update={"candidates": (best, twin), "runner_up": "own-llama-8b", "uncertainty": drawn})
    assert "near tie" in answer(two)


def test_break_even_of_every_candidate_but_the_baseline_is_shown(study):
    header, rows = break_even_rows(study)
    assert header[1:] == ("volume of work", "utilisation", "API price", "month")
    assert [cells[0] for _, cells in rows] == [c.name for c in study.candidates if c.id != study.baseline]
    assert all("×" in cells[1] and "%" in cells[2] and "×" in cells[3] for _, cells in rows)


def test_the_page_stands_alone_and_escapes_what_it_is_given(study):
    page = cost_page(study.model_copy(update={"name": "<script>alert(1)</script>"}), date="2026-11-23")
    assert "<script" not in page
    assert page.count("<svg") == page.count("</svg>") == 3
    assert not re.search(r"""(src|href)=["']?http""", page)


def test_files_agree_with_the_study(found, study, tmp_path):
    pytest.importorskip("xlsxwriter", reason="needs the extra 'report'")
    paths = write_cost_study(study, found, tmp_path, date="2026-11-23")
    always = {"tco.json", "tco_lines.csv", "tco_cash_flow.csv", "tco.html", "tco.xlsx"}
    assert {p.name for p in paths} - {"tco.pdf"} == always
    assert all(p.stat().st_size > 0 for p in paths)
    assert json.loads((tmp_path / "tco.json").read_text())["baseline"] == study.baseline
    with (tmp_path / "tco_lines.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for c in study.candidates:
        total = sum(float(row["present_value_usd"]) for row in rows if row["candidate"] == c.id)
        assert total == pytest.approx(c.result.cost_npv_usd)
    with (tmp_path / "tco_cash_flow.csv").open(newline="") as file:
        flows = {row["candidate"]: row for row in csv.DictReader(file)}
    for c in study.candidates:
        months = [float(v) for k, v in flows[c.id].items() if k.startswith("month_")]
        assert sum(months) == pytest.approx(-c.result.total_usd)
        assert flows[c.id]["fits"] == ("yes" if c.feasible else "no")
        assert float(flows[c.id]["served_frac"]) == c.served_frac


def test_the_document_fits_into_eight_pages_and_takes_text_as_text(study, tmp_path):
    pytest.importorskip("typst", reason="needs the extra 'pdf'")
    odd = study.model_copy(
        update={"name": '#panic("x") *b* $y$ [', "left_out": {str(i): "why " * 80 for i in range(30)}}
    )
    pages = write_document(tmp_path / "tco.pdf", odd, date="2026-11-23")
    assert 2 <= pages <= MAX_PAGES
    assert (tmp_path / "tco.pdf").read_bytes().startswith(b"%PDF-")


def command(*args: str) -> int:
    return cli.main(
        ["tco", "math-tutor", "--seeds", "1", "--draws", "64", *(x for i in ONLY for x in ("--only", i)), *args]
    )


def test_the_command_prints_json(capsys, study):
    assert command("--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert [c["id"] for c in data["candidates"]] == list(ONLY)
    assert data["candidates"][0]["result"]["cost_npv_usd"] == pytest.approx(
        study.candidate("hosted-mistral").result.cost_npv_usd
    )


def test_negotiated_prices_reach_the_command(capsys, tmp_path, study):
    prices = tmp_path / "prices.yaml"
    prices.write_text("prices: {staff_mlops: {value: 0, source: interns, date: 2026}}\n")
    assert command("--json", "--prices", str(prices)) == 0
    lines = {x["id"]: x for x in json.loads(capsys.readouterr().out)["candidates"][0]["result"]["lines"]}
    assert lines["staff_api"]["total_usd"] == 0
    assert lines["staff_api"]["overridden"] == ["staff_mlops"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--draws", "100"], "power of two"),
        (["--demand", "0,1"], "between 0 and 100"),
        (["--demand", "much"], "must be numbers"),
        (["--baseline", "nobody"], "'nobody' unknown"),
        (["--prices", "no-such.yaml"], "no such file"),
    ],
)
def test_bad_arguments_exit_with_two(capsys, args, words):
    try:
        code = command(*args)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert words in capsys.readouterr().err


def test_old_prices_are_listed(capsys):
    assert cli.main(["prices", "check", "--days", "300", "--today", "2026-11-23", "--json"]) == 0
    stale = json.loads(capsys.readouterr().out)
    assert stale
    assert all(price["age_days"] > 300 for price in stale)


def test_the_defaults_and_items_are_listed(capsys):
    assert cli.main(["economics", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) > 113
    assert cli.main(["economics", "--items"]) == 0
    assert "staff_platform" in capsys.readouterr().out
    assert cli.main(["economics", "wacc"]) == 0
    assert json.loads(capsys.readouterr().out)["value"] == 0.09
    assert cli.main(["economics", "wac"]) == 2
    assert "nearest 'wacc'" in capsys.readouterr().err
    assert cli.main(["cloud"]) == 0
    assert "nvidia-h100-sxm-80gb" in capsys.readouterr().out
