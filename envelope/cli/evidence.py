"""``envelope evidence``: what one's own evaluations show, which gates are passed, and what is still to be tried."""

import argparse
from pathlib import Path
from typing import Any

from envelope.cli.output import print_table, write_json
from envelope.errors import ExitCode, InputError, Problem


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    parser.add_argument("scenario", nargs="?", help="scenario file, or the id of one that ships: envelope scenarios")
    parser.add_argument("--evidence", metavar="FILE", help="more records and gates (YAML), as in evidence/<id>.yaml")
    parser.add_argument(
        "--import", dest="imported", metavar="FILE",
        help="results of lm-evaluation-harness, Inspect or promptfoo (JSON), or a CSV; without a scenario they are "
        "printed as YAML records",
    )  # fmt: skip
    parser.add_argument("--template", action="store_true", help="print an evidence file to fill in for the scenario")
    parser.add_argument("--model", help="catalog id in place of the name in the imported file")
    parser.add_argument("--task", help="task class or probe in place of the benchmark's name")
    parser.add_argument("--weights", help="weight format that was evaluated (default: native)")
    parser.add_argument("--metric", help="metric that is the share of passed trials")
    parser.add_argument("--public", action="store_true", help="the imported results are public benchmark scores")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def run(options: argparse.Namespace, _command: str) -> int:
    """Print records, difficulties and gates of a scenario, or convert a harness's results."""
    from envelope.plan.case.scenarios import load_scenario, with_evidence_file

    records = _imported(options)
    if options.scenario is None:
        if not records:
            rule = "is required unless --import converts results"
            raise InputError(Problem("command line", "scenario", None, rule))
        return _print_records(records, as_json=options.json)
    scenario = load_scenario(options.scenario)
    if options.template:
        from envelope.plan.bring.evidence_template import evidence_template

        print(evidence_template(scenario), end="")
        return ExitCode.OK
    if options.evidence:
        scenario = with_evidence_file(scenario, Path(options.evidence))
    if records:
        evidence = scenario.evidence.changed(records=(*scenario.evidence.records, *records))
        scenario = scenario.changed(evidence=evidence)
    return _print_scenario(scenario, as_json=options.json)


def _imported(options: argparse.Namespace) -> list[Any]:
    if not options.imported:
        return []
    from envelope.plan.bring.evidence_import import read_evidence

    return read_evidence(
        Path(options.imported),
        model=options.model,
        task=options.task,
        weights=options.weights,
        metric=options.metric,
        kind="public" if options.public else None,
    )


def _print_records(records: list[Any], *, as_json: bool) -> int:
    from envelope.spec.evidence import EvidenceSet
    from envelope.spec.yaml_text import to_yaml

    found = EvidenceSet(records=tuple(records))
    if as_json:
        write_json(found.model_dump(mode="json", exclude_defaults=True))
    else:
        print(to_yaml(found), end="")
    return ExitCode.OK


def _print_scenario(scenario: Any, *, as_json: bool) -> int:
    from envelope.plan.case.measured import measured_work
    from envelope.plan.rules.gates import gates_of

    tasks = [t for c in scenario.candidates for t in measured_work(scenario, c)[1]]
    gates = [g for c in scenario.candidates for g in gates_of(scenario, c)]
    if as_json:
        write_json(
            {
                "records": [r.model_dump(mode="json") for r in scenario.evidence.records],
                "tasks": [t.model_dump(mode="json") for t in tasks],
                "gates": [g.model_dump(mode="json") for g in gates],
            }
        )
        return ExitCode.OK
    _tables(scenario, tasks, gates)
    return ExitCode.OK if all(g.passed or not g.hard for g in gates) else ExitCode.INFEASIBLE


def _tables(scenario: Any, tasks: list[Any], gates: list[Any]) -> None:
    rows = [
        (r.model, r.weights, r.task, r.kind, f"{r.trials:,}", f"{r.passes:,}", r.date, r.revision[:12], r.harness)
        for r in scenario.evidence.records
    ]
    columns = ("model", "weights", "task", "kind", "trials", "passed", "date", "revision", "harness")
    print_table(columns, rows, title=f"{scenario.name}: {len(rows)} records")
    difficulties = [
        (t.candidate, t.task, t.tier, f"{t.assumed_frac:.1%}", f"{t.used_frac:.1%}", t.basis) for t in tasks
    ]
    print_table(
        ("candidate", "task", "tier", "assumed to fail", "used", "basis"), difficulties, title="Difficulty by candidate"
    )
    shown = [
        (
            g.candidate, g.gate, "passed" if g.passed else "open", f"{g.failures} of {g.trials:,}",
            f"{g.upper_frac:.2%}", f"< {g.limit_frac:.2%}",
            "out of reach" if g.further_trials is None else f"{g.further_trials:,}",
        )
        for g in gates
    ]  # fmt: skip
    heads = ("candidate", "gate", "state", "failures", "upper bound", "limit", "further trials")
    print_table(heads, shown, title="Gates (further trials: fewest, if none fails)")
