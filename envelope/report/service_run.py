"""A simulation of one candidate as a person reads it in a terminal."""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from envelope.plan.service.load_sweep import LoadSweep
from envelope.plan.service.run_result import CostDriver, RunClass, ServiceRun
from envelope.report import text
from envelope.serving.result import FleetEvent, Interval, Spread

_BARS = " ▁▂▃▄▅▆▇█"
_SPARK = 36
"""Characters of a timeline."""
_SHOWN_FAULTS = 12
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_FIGURES = {"ttft_s": "TTFT", "itl_s": "ITL", "tpot_s": "TPOT", "e2e_s": "E2E"}


def print_service(runs: Sequence[ServiceRun], *, file: TextIO | None = None, console: Console | None = None) -> None:
    """Print what the users of each candidate experience, why, and what happened to the fleet."""
    out = console or Console(file=file or sys.stdout, highlight=False)
    if console is None and not out.is_terminal:
        out = Console(file=file or sys.stdout, highlight=False, width=120)
    for run in runs:
        for part in _parts(run):
            out.print(part)


def print_sweep(sweep: LoadSweep, *, console: Console | None = None) -> None:
    """Print latency against load, and where it breaks."""
    out = console or Console(highlight=False)
    if console is None and not out.is_terminal:
        out = Console(highlight=False, width=120)
    out.print(_sweep_table(sweep))
    out.print(_where_it_breaks(sweep))


def _parts(run: ServiceRun) -> Iterable[RenderableType]:
    yield Text(f"\n{run.name}", style="bold")
    if not run.ran:
        yield Text("  cannot run:", style="red")
        yield from (Padding(Text(f"✘ {reason}"), (0, 0, 0, 4)) for reason in run.reasons)
        return
    yield Text(_what(run), style="dim")
    yield _verdict(run)
    yield _latencies(run)
    yield from _counts(run)
    yield _timelines(run)
    yield _limits(run)
    yield from _faults(run)
    yield from (Text(f"  {note}", style="dim") for note in run.notes)


def _what(run: ServiceRun) -> str:
    seeds = f"{len(run.seeds)} seed{'s' if len(run.seeds) > 1 else ''}"
    year = f", year {run.year + 1}" if run.year else ""
    load = f" at {run.load_factor:g}× the load" if run.load_factor != 1 else ""
    return (
        f"{run.period} from {_clock(run, 0.0)}{load}{year} · {text.count(run.overall.offered)} requests in {seeds} · "
        f"{_rate(run.requests_per_s)} · routing: {run.policy.replace('_', ' ')}"
    )


def _clock(run: ServiceRun, t_s: float) -> str:
    """Return the local day and time at some time of the simulation."""
    minutes = round((run.clock_start_s + t_s) / 60) % (7 * 1440)
    return f"{_DAYS[minutes // 1440]} {minutes % 1440 // 60:02d}:{minutes % 60:02d}"


def _verdict(run: ServiceRun) -> Text:
    colour = "green" if run.keeps_slo else "red"
    return Text.assemble(
        "\n  SLO kept by ",
        (text.percent(run.slo_attainment.mean, 1), f"bold {colour}"),
        f"{_between(run.slo_attainment)} of the requests, {text.percent(run.slo_limit_frac)} are asked for · "
        f"served {text.percent(run.overall.served_frac, 1)} · goodput {_rate(run.goodput_per_s.mean)} · left the "
        f"building {text.percent(run.left.frac, 1)}",
        (f", {run.left.private:,} PRIVATE" if run.left.private else "", "bold red"),
    )


def _rate(per_s: float) -> str:
    """Return a rate per second, or per minute if it is below one."""
    return f"{per_s:,.3g}/s" if per_s >= 1 else f"{per_s * 60:.3g}/min"


def _between(interval: Interval) -> str:
    if interval.low == interval.high:
        return ""
    return f" ({text.percent(interval.low, 1)} to {text.percent(interval.high, 1)})"


def _table(title: str) -> Table:
    """Return a table that is narrow enough for 80 columns."""
    return Table(title=title, box=SIMPLE_HEAD, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))


def _latencies(run: ServiceRun) -> Table:
    table = _table("Latency by class of task (out: answered by the hosted API)")
    for name in ("class", "", "mean", "p50", "p90", "p95", "p99", "SLO met", "out"):
        table.add_column(name, justify="left" if name in ("class", "") else "right", no_wrap=True)
    shown = run.classes if len(run.classes) == 1 else (run.overall, *run.classes)
    for found in shown:
        for row in _class_rows(found):
            table.add_row(*row)
    return table


def _class_rows(found: RunClass) -> Iterable[Sequence[str]]:
    names = [name for name in _FIGURES if getattr(found, name) is not None]
    if not names:
        yield (found.id, "–", "", "", "", "", "", text.percent(found.slo_attainment_frac, 1), "")
    for position, name in enumerate(names):
        first = position == 0
        spread: Spread = getattr(found, name)
        values = (text.seconds(getattr(spread, p)) for p in ("mean", "p50", "p90", "p95", "p99"))
        yield (
            found.id if first else "", _FIGURES[name], *values,
            text.percent(found.slo_attainment_frac, 1) if first else "",
            text.percent(found.hosted_frac) if first else "",
        )  # fmt: skip


def _counts(run: ServiceRun) -> Iterable[RenderableType]:
    if not run.overall.counts:
        yield Text("  Every request was served at its first attempt, none was refused, sent out or interrupted.", "dim")
        return
    table = _table("What else happened to requests")
    table.add_column("requests", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    table.add_column("what, and in which classes")
    for count in run.overall.counts:
        by_class = {c.id: x.frac for c in run.classes for x in c.counts if x.id == count.id}
        where = ", ".join(f"{text.percent(frac)} of {ident}" for ident, frac in by_class.items())
        style = "red" if count.id.startswith("refused") or count.id == "unfinished" else ""
        what = f"{count.text} ({where})" if len(run.classes) > 1 else count.text
        table.add_row(text.count(count.requests), text.percent(count.frac, 1), what, style=style)
    yield table


def _timelines(run: ServiceRun) -> RenderableType:
    t = run.timeline
    if not t.t_s:
        return Text("")
    lines: dict[str, tuple[Sequence[float], Callable[[float], str]]] = {
        "requests waiting": (t.queue, text.si),
        "requests running": (t.running, text.si),
        "KV blocks in use": (t.kv_used_frac, text.percent),
        "device power": (t.power_w, lambda v: text.si(v, "W")),
        "in the hosted API": (t.hosted_frac, text.percent),
        "replicas in service": (t.replicas, text.count),
    }
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1, 0, 2))
    for name, (series, words) in lines.items():
        if not any(series):
            continue
        table.add_row(name, Text(spark(series, _SPARK), style="cyan"), f"at most {words(max(series))}")
    head = f"Over time, {_clock(run, 0.0)} to {_clock(run, t.t_s[-1])} (first seed)"
    return Group(Text(head, style="italic"), table, Text(""))


def spark(values: Sequence[float], width: int) -> str:
    """Return a row of bars whose heights follow the values, each bar the largest of those that it stands for.

    >>> spark([0, 1, 2, 4], 4)
    ' ▂▄█'
    """
    width = min(width, len(values))
    edges = [len(values) * k // width for k in range(width + 1)]
    tops = [max(values[a:b]) for a, b in zip(edges, edges[1:], strict=False)]
    most = max(tops, default=0.0)
    steps = len(_BARS) - 1
    # A value above nothing is always seen.
    return "".join(_BARS[0 if top <= 0 else max(1, round(steps * top / most))] for top in tops)


def _limits(run: ServiceRun) -> RenderableType:
    b = run.bottleneck
    rows = []
    if run.replicas:
        parts = {"compute": b.compute_frac, "memory bandwidth": b.memory_frac, "communication": b.communication_frac,
                 "engine overhead": b.overhead_frac}  # fmt: skip
        rows.append(("busy", f"{text.percent(run.utilisation_frac)} of the time on {run.replicas} replicas"))
        rows.append(("bound by", ", ".join(f"{n} {text.percent(v)}" for n, v in parts.items() if v >= 0.005)))
        waits = {"KV blocks": b.queue_for_kv_frac, "a place in the batch": b.queue_for_seqs_frac,
                 "the token budget": b.queue_for_tokens_frac}  # fmt: skip
        queued = ", ".join(f"{n} {text.percent(v)}" for n, v in waits.items() if v >= 0.005)
        rows.append(("queue waits for", queued + " of busy time" if queued else "nothing"))
        rows.append(("prefix cache", f"holds {text.percent(run.prefix_hit_frac)} of the prompt tokens"))
        each = text.si(run.energy.j_per_request, "J") if run.energy.j_per_request else "–"
        rows.append(("energy", f"{text.si(run.energy.mean_w, 'W')} on average, {each} per request"))
    for driver in run.cost_drivers:
        price = "" if driver.usd_per_hour is None else f", {text.money(driver.usd_per_hour)} an hour"
        rows.append(("per hour", f"{_amount(driver)} {driver.label}{price}"))
    table = Table(title="What limits it, and what it uses", box=None, title_justify="left", show_header=False,
                  pad_edge=False, padding=(0, 1, 0, 2))  # fmt: skip
    for name, value in rows:
        table.add_row(Text(name, style="dim"), value)
    return Group(table, Text(""))


def _amount(driver: CostDriver) -> str:
    """Return a quantity with its unit; device-hours and kilowatt-hours keep theirs."""
    if driver.unit == "tokens":
        return text.si(driver.quantity)
    return f"{driver.quantity:,.3g} {driver.unit}"


def _faults(run: ServiceRun) -> Iterable[RenderableType]:
    if not run.faults:
        return
    yield Text("What happened to the fleet (first seed)", style="italic")
    for event in run.faults[:_SHOWN_FAULTS]:
        yield Text(f"  {_clock(run, event.time_s)}  {_event(event)}")
    rest = len(run.faults) - _SHOWN_FAULTS
    if rest > 0:
        counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in run.fault_counts.items())
        yield Text(f"  … and {rest} more; over all seeds: {counts}", style="dim")
    yield Text("")


def _event(event: FleetEvent) -> str:
    where = "" if event.replica is None else f" of replica {event.replica + 1}"
    return f"{event.kind}{where}: {event.running} in service"


def _sweep_table(sweep: LoadSweep) -> Table:
    table = _table(f"Latency against load: {sweep.name}")
    for name in ("load", "requests", "SLO met", "TTFT p50", "TTFT p95", "ITL p95", "E2E p95", "busy", "out"):
        table.add_column(name, justify="right", no_wrap=True)
    for p in sweep.points:
        table.add_row(
            f"{p.factor:.3g}×", _rate(p.requests_per_s), text.percent(p.slo_attainment_frac, 1),
            text.seconds(p.ttft_s.p50 if p.ttft_s else None), text.seconds(p.ttft_s.p95 if p.ttft_s else None),
            text.seconds(p.itl_s.p95 if p.itl_s else None), text.seconds(p.e2e_s.p95 if p.e2e_s else None),
            text.percent(p.utilisation_frac), text.percent(p.hosted_frac), style="" if p.keeps else "red",
        )  # fmt: skip
    return table


def _where_it_breaks(sweep: LoadSweep) -> Text:
    if sweep.reasons:
        return Text(f"  cannot run: {'; '.join(sweep.reasons)}", style="red")
    limit = text.percent(sweep.slo_limit_frac)
    if sweep.breaks_at is None:
        return Text(f"  {limit} of the requests keep their SLO at every load that was simulated.", style="green")
    last = next(p for p in sweep.points if p.factor == sweep.breaks_at)
    upto = "at no load" if sweep.keeps_up_to is None else f"up to {sweep.keeps_up_to:.3g}× the planned load"
    return Text(f"  {limit} keep their SLO {upto}; it breaks at {sweep.breaks_at:.3g}×: {last.bottleneck}.")
