"""``envelope tco``: what the candidates of a scenario cost over the years, with ranges and sources."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from envelope.cli.output import print_table, progress, write_json
from envelope.errors import ExitCode

if TYPE_CHECKING:
    from envelope.plan.cost.difference import CostDifference
    from envelope.plan.cost.models import CostModels
    from envelope.plan.cost.study import CostStudy


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    parser.add_argument("scenario", help="scenario file, or the id of one that ships: envelope scenarios")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")
    parser.add_argument("--out", metavar="DIR", help="write tco.xlsx, tco.pdf, tco.html, tco.json and two CSV files")
    parser.add_argument("--prices", metavar="FILE", help="your negotiated prices in place of the catalog's")
    parser.add_argument("--baseline", metavar="ID", help="what savings count against (default: the hosted API)")
    parser.add_argument(
        "--against", metavar="RUN",
        help="what changed since a saved tco.json, or against another scenario, and what it did to the costs",
    )  # fmt: skip
    parser.add_argument("--only", metavar="ID", action="append", help="only this candidate (repeatable)")
    parser.add_argument(
        "--demand", type=_factors, default=(), metavar="F,F,…",
        help="simulate these multiples of the planned demand, such as 0.5,1,2,4, for ranges and break-even "
        "(default: break-even up to 16 times the plan, by the capacity of the planned replicas)",
    )  # fmt: skip
    parser.add_argument(
        "--draws", type=_power_of_two, default=1024, help="draws of the ranges, a power of two (default 1024)"
    )
    parser.add_argument("--seeds", type=int, help="independent repetitions of the simulation (default: the scenario's)")


def run(options: argparse.Namespace, _command: str) -> int:
    """Price the candidates of a scenario and print what they cost."""
    from envelope.cli.compare import out_dir
    from envelope.money.prices import with_price_file
    from envelope.plan.case.scenarios import load_scenario
    from envelope.plan.cost.models import cost_models
    from envelope.plan.cost.study import cost_study

    out = out_dir(options.out)
    scenario = load_scenario(options.scenario)
    if options.prices:
        economics = with_price_file(scenario.economics, Path(options.prices))
        scenario = scenario.changed(economics=economics)
    with progress("simulating") as report:
        models = cost_models(
            scenario, seeds=options.seeds, only=options.only, demand_factors=options.demand, progress=report
        )
    study = cost_study(models, baseline=options.baseline, draws=options.draws)
    changes = _changes(options, models) if options.against else None
    if options.json:
        added = {"difference": changes.model_dump(mode="json")} if changes else {}
        write_json({**study.model_dump(mode="json"), **added})
    else:
        _print(study)
        if changes:
            _print_changes(changes)
    if out is not None:
        from envelope.report.cost_files import missing_extras, write_cost_study

        today = datetime.now(UTC).date().isoformat()
        for path in write_cost_study(study, models, out, date=today, changes=changes):
            print(f"wrote {path}", file=sys.stderr)
        for line in missing_extras():
            print(line, file=sys.stderr)
    return ExitCode.OK


def _changes(options: argparse.Namespace, models: "CostModels") -> "CostDifference":
    """Return what changed since a saved run, or against another scenario that is simulated now."""
    from envelope.plan.case.scenarios import load_scenario
    from envelope.plan.cost.difference import difference, load_run, models_of
    from envelope.plan.cost.models import cost_models

    path = Path(options.against)
    path = path / "tco.json" if path.is_dir() else path
    if path.suffix == ".json":
        run = load_run(path)
        return difference(models_of(run), models, label=f"{run.scenario} of {run.date}")
    other = load_scenario(options.against)
    both = [c.id for c in other.candidates if c.id in models.judged]
    with progress("simulating the other") as report:
        before = cost_models(other, seeds=options.seeds, only=both or None, volumes=False, progress=report)
    return difference(before.models, models, label=other.id)


def _print_changes(changes: "CostDifference") -> None:
    from envelope.report.cost_difference import difference_rows

    for ident, way in changes.waterfalls.items():
        title = f"{changes.names[ident]}: {changes.after} against {changes.before}"
        print_table(("change", "before", "after", "present value"), difference_rows(way), title=title)


def _print(study: "CostStudy") -> None:
    from envelope.plan.rules.rule import in_words
    from envelope.report.cost_page import answer
    from envelope.report.text import money, percent

    rows = []
    ordered = sorted(
        study.candidates, key=lambda c: (c.id != study.recommended, not c.feasible, c.cost.expected_npv_usd)
    )
    for c in ordered:
        cost, versus = c.cost, c.against_baseline
        rows.append(
            (
                f"★ {c.id}" if c.id == study.recommended else c.id, money(cost.expected_npv_usd),
                f"{money(cost.p10_npv_usd)}–{money(cost.p90_npv_usd)}", money(cost.signature_usd),
                money(cost.total_usd), money(c.result.unit_costs.usd_per_solved_task),
                money(versus.saving_npv_usd) if versus else "baseline", percent(c.served_frac, 1),
                percent(c.slo_attainment_frac, 1),
                "yes" if c.feasible else f"no: {', '.join(in_words(name) for name in c.broken)}",
            )
        )  # fmt: skip
    columns = ("candidate", "expected present value", "P10–P90", "at signature", "nominal", "per solved task",
               f"saved against {study.baseline}", "served", "SLO", "fits")  # fmt: skip
    print_table(columns, rows, title=f"{study.name}: {study.horizon_months} months")
    print(answer(study))
    for warning in study.warnings:
        print(f"⚠ {warning}")


def _power_of_two(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 2 or value & (value - 1) or value > 2**20:
        raise argparse.ArgumentTypeError(f"must be a power of two up to {2**20}, not {text!r}")
    return value


def _factors(text: str) -> tuple[float, ...]:
    try:
        found = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers with commas between, not {text!r}") from None
    if not all(0 < factor <= 100 for factor in found):
        raise argparse.ArgumentTypeError(f"must lie between 0 and 100, not {text!r}")
    return found
