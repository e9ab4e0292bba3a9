"""``envelope size``: the cheapest deployment that keeps every constraint, and the Pareto set."""

import argparse
from typing import TYPE_CHECKING

from envelope.cli.output import print_table, progress, write_json
from envelope.errors import ExitCode

if TYPE_CHECKING:
    from envelope.plan.size.search import Sizing

_HELP = {"acquire": "ways to pay: purchase, lease, on_demand, reserved_1y, reserved_3y, spot (default purchase, "
         "reserved_1y, on_demand)"}  # fmt: skip
_LISTS = ("models", "hardware", "weights", "kv", "engines", "acquire")


def add_arguments(parser: argparse.ArgumentParser, _command: str) -> None:
    """Declare the arguments."""
    parser.add_argument("scenario", help="scenario file, or the id of one that ships: envelope scenarios")
    parser.add_argument("--candidate", metavar="ID", help="candidate whose model and device are the start of the grid")
    for name in _LISTS:
        parser.add_argument(f"--{name}", type=_names, metavar="A,B", help=_HELP.get(name, f"{name} to combine"))
    parser.add_argument("--tp", type=_numbers, metavar="1,2", help="devices of one replica (default 1,2,4,8)")
    parser.add_argument("--replicas", type=_numbers, metavar="1,2", help="replicas to try (default 1,2,3,4,6,8)")
    parser.add_argument("--batched-tokens", type=_numbers, metavar="N,M", help="tokens of one step to try")
    parser.add_argument("--spare", type=int, default=0, help="spare replicas, so that as many may fail (default 0)")
    parser.add_argument("--max-simulations", type=int, default=150, help="simulations at most (default 150)")
    parser.add_argument("--json", action="store_true", help="machine-readable, on standard output")


def run(options: argparse.Namespace, _command: str) -> int:
    """Size a deployment for a scenario and print the cheapest and the Pareto set."""
    from envelope.plan.case.scenarios import load_scenario
    from envelope.plan.size.search import size

    scenario = load_scenario(options.scenario)
    given = {name: getattr(options, name) for name in (*_LISTS, "tp", "replicas") if getattr(options, name)}
    if options.batched_tokens:
        given["max_num_batched_tokens"] = options.batched_tokens
    given["spare"] = options.spare
    with progress("sizing") as report:
        found = size(scenario, options.candidate, max_simulations=options.max_simulations, progress=report, **given)
    if options.json:
        write_json(found.model_dump(mode="json"))
    else:
        _print(found)
    return ExitCode.OK if found.best else ExitCode.INFEASIBLE


def _print(found: "Sizing") -> None:
    from envelope.report.text import money, percent, seconds

    rows = [
        (
            s.text, "★" if found.best and s.text == found.best.text else "yes" if s.feasible else ", ".join(s.broken),
            money(s.cost_npv), percent(s.slo_attainment_frac, 1), seconds(s.latency_p95_s) if s.latency_p95_s else "–",
            f"{s.goodput_per_s:.2f}", f"{s.power_max_w / 1e3:.1f} kW",
        )
        for s in found.shown
    ]  # fmt: skip
    title = "Pareto set of cost, latency, goodput and watts" if found.pareto else "Nothing feasible; the closest"
    print_table(("deployment", "fits", "cost", "SLO met", "E2E p95", "good requests/s", "power"), rows, title=title)
    print(found.explanation)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(text: str) -> tuple[int, ...]:
    parts = _names(text)
    if not parts or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"must be whole numbers such as 1,2,4, not {text!r}")
    return tuple(int(part) for part in parts)
