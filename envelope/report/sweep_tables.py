"""What a sweep says, as rows of words for the terminal and the page."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from envelope.plan.sweep.effects import Correlation, Effect
from envelope.plan.sweep.ranking import Estimated, Ranked, Ranking
from envelope.plan.sweep.study import Study
from envelope.report.text import money, percent, seconds

Table = tuple[Sequence[str], Sequence[tuple[str, ...]]]


def figure_text(by: str) -> Callable[[float], str]:
    """Return how values of a figure are written.

    >>> figure_text("cost_npv_usd")(1.5e6), figure_text("ttft_p95_s")(0.25), figure_text("served_frac")(0.5)
    ('$1.50 M', '250 ms', '50.0 %')
    """
    if "usd" in by:
        return lambda value: money(value)
    if by.endswith("_s") and not by.endswith("per_s"):
        return lambda value: f"−{seconds(-value)}" if value < 0 else seconds(value)
    if by.endswith("_frac"):
        return lambda value: f"−{percent(-value, 1)}" if value < 0 else percent(value, 1)
    return lambda value: f"{value:,.5g}".replace("-", "−")


def figure_name(by: str) -> str:
    """Return a figure's name in words."""
    known = {"cost_npv_usd": "cost (present value)", "slo_attainment_frac": "SLO kept"}
    return known.get(by, by.removesuffix("_usd").removesuffix("_frac").removesuffix("_s").replace("_", " "))


def short_paths(study: Study) -> dict[str, str]:
    """Return path → the end of it that tells it from the others that vary, of those that do vary."""
    steps = {path: len(values) for group in (study.set, *study.zip) for path, values in group.items()}
    varied = [path for path in study.paths if steps.get(path, 2) > 1]
    short = {}
    for path in varied:
        words = path.replace("[", ".").replace("]", "").split(".")
        for length in range(1, len(words) + 1):
            end = ".".join(words[-length:])
            if sum(f".{other}".endswith(f".{end}") for other in varied) == 1:
                break
        short[path] = end
    return short


def value_text(value: Any) -> str:
    """Return a varied value as people read it."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def changes_text(changes: Mapping[str, Any], short: Mapping[str, str]) -> str:
    """Return what a variant changes in a few words."""
    return ", ".join(f"{short[path]} {value_text(value)}" for path, value in changes.items() if path in short)


def ranking_table(found: Ranking, study: Study) -> Table:
    """Return the best variants with their differences to the best."""
    short, words = short_paths(study), figure_text(found.by)
    several = len(study.scenarios) > 1
    header = ["", *(["scenario"] if several else []), "candidate", *short.values(), figure_name(found.by)]
    rows = []
    for item in found.best:
        head = (_place(item), *((item.scenario,) if several else ()), item.candidate)
        values = tuple(value_text(item.changes.get(path)) for path in short)
        gap = "best" if item.from_best is None else with_interval(item.from_best, words, sign=True)
        kept = "yes" if item.feasible_frac == 1 else item.broken or f"in {percent(item.feasible_frac)} of the seeds"
        rows.append((*head, *values, words(item.value.mean), gap, kept))
    return [*header, "difference to the best", "fits"], rows


def _place(item: Ranked) -> str:
    return f"{item.rank} ≈" if item.tie else str(item.rank)


def with_interval(found: Estimated, words: Callable[[float], str], *, sign: bool = False) -> str:
    """Return a mean with the half-width of its interval."""
    mean = f"+{words(found.mean)}" if sign and found.mean > 0 else words(found.mean)
    return mean if found.low is None else f"{mean} ± {words(found.mean - found.low)}"


def effects_table(found: Sequence[Effect], by: str) -> Table:
    """Return what each step of each axis changes."""
    words, rows = figure_text(by), []
    for item in found:
        values, before = (", ".join(map(value_text, v)) for v in (item.values, item.before))
        base = item.mean - item.difference.mean
        share = f"{item.difference.mean / base:+.1%}".replace("-", "−") if base else "–"
        gap = with_interval(item.difference, words, sign=True)
        rows.append((", ".join(item.paths), f"{before} → {values}", gap, share, str(item.pairs)))
    return ["what changes", "from → to", figure_name(by), "relative", "pairs"], rows


def correlations_table(found: Sequence[Correlation]) -> Table:
    """Return how strongly the figure moves with each sampled value."""
    rows = [(c.path, f"{c.rho:+.2f}", f"{c.low:+.2f} to {c.high:+.2f}", str(c.points)) for c in found]
    return ["sampled value", "rank correlation", "95 % interval", "points"], [
        tuple(cell.replace("-", "−") if i in (1, 2) else cell for i, cell in enumerate(row)) for row in rows
    ]


def notes(found: Ranking, done: int, failed: int, runs: int) -> list[str]:
    """Return what a reader must know about the tables."""
    said = [f"{done:,} of {runs:,} runs are done" + (f", {failed:,} of them failed" if failed else "") + "."]
    said.append(
        f"{found.feasible:,} of {found.compared:,} candidates in variants keep every constraint; these come first."
    )
    if any(item.tie for item in found.best):
        said.append("≈: the difference to the best may be chance.")
    if found.best and found.best[0].value.low is None:
        said.append("One seed gives no intervals; ask for --seeds 5.")
    elif found.sharper is not None and found.sharper > 1.05:
        said.append(
            f"All variants met the same arrivals: differences are {found.sharper:.3g} times sharper than with "
            "random numbers of their own. Intervals are 95 %."
        )
    return said
