"""What a person sees in the terminal."""

import io

import pytest

from envelope.plan.case.scenarios import load_scenario
from envelope.plan.compare import compare
from envelope.plan.verdict.results import Comparison
from envelope.report.files import write_comparison
from envelope.report.terminal import print_comparison


@pytest.fixture(scope="module")
def assistant() -> Comparison:
    return compare(load_scenario("coding-assistant"), only=["hosted-frontier", "own-v4-flash"], seeds=1)


def test_a_cost_of_part_of_the_work_carries_a_warning(assistant):
    # most of the code is private and may not be sent to the hosted API
    hosted, own = assistant.candidate("hosted-frontier"), assistant.candidate("own-v4-flash")
    assert hosted.service.served_frac < 0.2
    assert f"cost of {hosted.service.served_frac:.0%} of the work" in hosted.cost_warning
    assert own.service.served_frac >= 0.99
    assert own.cost_warning is None


def test_the_warning_stands_beside_the_cost(assistant):
    out = io.StringIO()
    print_comparison(assistant, file=out)
    text = out.getvalue()
    assert "is not served" in text
    lines = [line for line in text.splitlines() if "Hosted frontier API" in line and "$" in line]
    assert len(lines) == 2
    assert all("⚠" in line for line in lines)
    assert not any("⚠" in line for line in text.splitlines() if "on own 8" in line)


def test_the_warning_reaches_the_table_of_candidates(assistant, tmp_path):
    write_comparison(assistant, tmp_path)
    header, *rows = (tmp_path / "candidates.csv").read_text().splitlines()
    assert header.endswith("cost_warning")
    assert "is not served" in next(row for row in rows if row.startswith("hosted-frontier"))


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_verdict_fits_the_terminal_and_names_binding_margin_fix_and_exposure(width):
    from rich.console import Console

    result = compare(load_scenario("field-devices"), seeds=1, fixes=True)
    out = io.StringIO()
    print_comparison(result, console=Console(file=out, width=width, highlight=False))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    flat = " ".join(" ".join(lines).split())
    for candidate in result.candidates:
        if candidate.feasible:
            continue
        binding = next(c for c in candidate.constraints if c.id == candidate.binding)
        assert binding.explanation in flat
        assert candidate.fixes
        assert candidate.fixes[0].text in flat
    assert "h/yr" in flat


def test_why_shows_every_constraint_with_its_margin(capsys):
    from envelope.cli import main

    assert main(["compare", "field-devices", "--why", "pi-1b", "--seeds", "1"]) == 3
    text = " ".join(capsys.readouterr().out.split())
    result = compare(load_scenario("field-devices"), only=["pi-1b"], seeds=1).candidates[0]
    for rule in result.constraints:
        assert rule.id.replace("_", " ").split(".")[0] in text
    assert "Exposure to failures" in text
    assert "Smallest changes that make it fit" in text
