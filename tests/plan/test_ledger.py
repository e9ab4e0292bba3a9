"""The ecosystem ledger: sourced facts, release history from the catalog, and limits that flip at their threshold."""

import json
from datetime import date

import pytest

from envelope.cli import main
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.compare import compare
from envelope.plan.rules.ledger import ledger_of, ledger_rows
from envelope.provenance import Evidence
from envelope.spec import load
from envelope.spec.engine import Engine
from envelope.spec.ledger import Ledger
from envelope.spec.model import Model
from envelope.spec.number_format import NumberFormat
from envelope.spec.replace import with_value

FIELD = load_scenario("field-devices")
TODAY = date(2026, 11, 23)


def line(ident: str) -> Ledger:
    return load.load(Ledger, "ledger", ident, file="test", path="")


def broken(**rules: object) -> set[str]:
    scenario = with_value(FIELD, "constraints.ledger", rules)
    result = compare(scenario, seeds=1, only=["laptop-8b"]).candidates[0]
    return {c.id for c in result.constraints if not c.satisfied}


def test_every_line_is_sourced_and_names_engines_and_formats_of_the_catalog() -> None:
    engines = set(load.ids("engines"))
    formats = {f.id for f in load.load_all(NumberFormat, "formats")}
    for one in load.load_all(Ledger, "ledger"):
        assert set(one.engines) <= engines
        assert {*one.formats, *one.community_quants} <= formats
        assert one.source_of("engines").source
    assert load.load_all(Engine, "engines")


def test_release_history_comes_from_the_models() -> None:
    rows = {r.ledger.id: r for r in ledger_rows(today=TODAY)}
    llama = rows["llama"]
    # Llama 2 on 2023-07-18, Llama 4 on 2025-04-05 (Meta's announcements).
    assert (llama.first_release, llama.last_release) == ("2023-07-18", "2025-04-05")
    assert llama.age_months == pytest.approx((TODAY - date(2025, 4, 5)).days / 30.4375)
    assert len(llama.licences) == 6
    assert rows["gpt-oss"].licence_changes == 0
    assert rows["gpt-oss"].cadence_months is None


def test_a_model_finds_its_line() -> None:
    def found(ident: str) -> str | None:
        one = ledger_of(load.load(Model, "models", ident, file="test", path=""))
        return one.id if one else None

    assert found("codellama-34b") == "llama"
    assert found("qwq-32b") == "qwen"
    assert found("deepseek-r1-distill-llama-8b") == "deepseek"
    assert found("gpt-j-6b") is None


def test_each_limit_flips_at_its_threshold() -> None:
    engines = len(line("llama").engines)
    assert broken(engines_min=engines) == set()
    assert broken(engines_min=engines + 1) == {"ledger.engines.llama-3.1-8b"}
    # Llama 3.1 was released on 2024-07-23, service begins in 2026-12.
    months = (date(2026, 12, 1) - date(2024, 7, 23)).days / (365.25 / 12)
    assert broken(age_min_months=months - 1e-6) == set()
    assert broken(age_min_months=months + 1e-6) == {"ledger.age.llama-3.1-8b"}
    assert broken(licences_max=6) == set()
    assert broken(licences_max=5) == {"ledger.licences.llama-3.1-8b"}
    assert broken(guard_model=True, adapter_recipe=True, community_quant=True, hiring_pool=True) == set()
    row = next(r for r in ledger_rows(today=TODAY) if r.ledger.id == "llama")
    assert row.cadence_months is not None
    assert broken(cadence_max_months=row.cadence_months) == set()
    assert broken(cadence_max_months=row.cadence_months - 1e-6) == {"ledger.cadence.llama-3.1-8b"}


def test_assumed_entries_count_unless_only_sourced_ones_may() -> None:
    llama = line("llama")
    sourced = len(llama.sourced("engines"))
    every = {name: llama.source_of(f"engines.{name}").evidence for name in llama.engines}
    assert sourced == sum(evidence != Evidence.ASSUMED for evidence in every.values())
    assert broken(engines_min=sourced, sourced_only=True) == set()
    assert broken(engines_min=sourced + 1, sourced_only=True) == {"ledger.engines.llama-3.1-8b"}


def test_what_was_not_found_is_shown_as_unknown_or_assumed(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {r.ledger.id: r for r in ledger_rows(today=TODAY)}
    assert rows["olmo"].ledger.hiring_pool is None
    assert rows["olmo"].evidence["hiring_pool"] == Evidence.ASSUMED
    assert rows["llama"].sourced_frac["engines"] == 1.0
    assert rows["llama"].sourced_frac["community_quants"] < 1.0
    assert main(["ledger"]) == 0
    out = capsys.readouterr().out
    assert "unknown" in out
    assert "?" in out


def test_a_line_without_a_guard_model_breaks_the_rule() -> None:
    scenario = with_value(load_scenario("file-editing-agent"), "constraints.ledger", {"guard_model": True})
    result = compare(scenario, seeds=1, only=["own-v4-flash", "own-gpt-oss-120b"])
    rules = [{c.id: c.satisfied for c in r.constraints} for r in result.candidates]
    assert rules[0]["ledger.guard.deepseek-v4-flash"] is False
    assert rules[1]["ledger.guard.gpt-oss-120b"] is True


def test_the_command_lists_and_shows(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ledger", "--today", "2026-11-23"]) == 0
    assert "guard models" in capsys.readouterr().out
    assert main(["ledger", "qwen"]) == 0
    assert json.loads(capsys.readouterr().out)["ledger"]["id"] == "qwen"
    assert main(["ledger", "quen"]) == 2
    assert "nearest 'qwen'" in capsys.readouterr().err
