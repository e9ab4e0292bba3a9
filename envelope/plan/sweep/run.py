"""Running a study: rows on disk, then tables beside them."""

import hashlib
import pickle
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from envelope.errors import InputError, Problem
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.sweep.crew import hiring
from envelope.plan.sweep.drive import Order, drive, warm
from envelope.plan.sweep.journal import Journal, check_study
from envelope.plan.sweep.lock import locked
from envelope.plan.sweep.results import Sweep
from envelope.plan.sweep.row import Row
from envelope.plan.sweep.study import Study
from envelope.plan.sweep.tables import Format, require_format, write_tables
from envelope.plan.sweep.variants import Variants, variants_of
from envelope.spec.data_version import data_version
from envelope.spec.folders import data_dirs
from envelope.spec.load import Reporter, ids, path_of, validate
from envelope.spec.scenario import Scenario
from envelope.spec.yaml_text import read_yaml
from envelope.version import __version__

_KIND = "scenarios/sweeps"


@dataclass(frozen=True, slots=True)
class Way:
    """How a study is run; nothing of it changes a figure."""

    workers: int | None = None
    """Processes; ``None`` is one per core."""
    executor: str | Executor | None = None
    """``processes``, ``here``, ``dask``, ``dask://host:port`` or any executor."""
    formats: tuple[Format, ...] = ()
    """Tables to write beside the rows."""
    retry_failed: bool = False
    """Whether runs that failed before are tried again."""


def sweep(
    scenario: str | Path | Scenario | Sequence[str | Path | Scenario],
    *,
    set: Mapping[str, Sequence[Any]] | None = None,  # noqa: A002 - the word of the command line and of sweep files
    zip: Sequence[Mapping[str, Sequence[Any]]] = (),  # noqa: A002
    ranges: Mapping[str, Any] | None = None,
    sample: Mapping[str, Any] | None = None,
    only: Sequence[str] = (),
    seeds: int | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    executor: str | Executor | None = None,
    formats: Sequence[Format] = (),
    retry_failed: bool = False,
    progress: Reporter | None = None,
) -> Sweep:
    """Return the results of a scenario (or several) with some values varied.

    ``set`` maps paths to the values that they take, together a grid; ``zip`` holds groups of paths whose values go
    together; ``ranges`` maps paths to ``{"low": …, "high": …, "log": …}``, sampled as ``sample`` says, such as
    ``{"method": "lhs", "count": 500}``. Every combination is run for each candidate (or those in ``only``) and each
    seed; all variants meet the same arrivals for the same seed, so that their differences are sharp.

    With ``out`` the rows are kept in that folder, and a sweep that was interrupted goes on where it stood. ``workers``
    processes of this machine do the work (one per core; in a script call ``sweep`` under
    ``if __name__ == "__main__":``), or an ``executor``: ``"here"``, ``"dask"``, ``"dask://host:8786"`` or any
    ``concurrent.futures.Executor``; figures are the same to the last bit.

    Raises ``InputError`` for unknown paths and values that are not allowed. A combination that fails is a row.

    >>> import envelope
    >>> found = envelope.sweep(
    ...     "field-devices", set={"workload.requests_per_day": [500, 1000]}, only=["laptop-8b"], seeds=1,
    ...     executor="here",
    ... )
    >>> [(row.changes["workload.requests_per_day"], row.status) for row in found.rows()]
    [(500, 'done'), (1000, 'done')]
    """
    given = [scenario] if isinstance(scenario, str | Path | Scenario) else list(scenario)
    scenarios = [item if isinstance(item, Scenario) else load_scenario(item) for item in given]
    asked = {
        "scenarios": [s.id for s in scenarios], "set": {k: list(v) for k, v in (set or {}).items()},
        "zip": [{k: list(v) for k, v in group.items()} for group in zip], "ranges": dict(ranges or {}),
        "sample": sample, "only": list(only), "seeds": seeds,
    }  # fmt: skip
    study = validate(Study, asked, "sweep")
    way = Way(workers, executor, tuple(formats), retry_failed)
    return run_study(study, scenarios, Path(out) if out is not None else None, way, progress=progress)


def find_sweep_file(name: str) -> Path | None:
    """Return the sweep file that a name means, if it means one: a path, or the id of one that ships."""
    path = Path(name)
    if path.is_file():
        data = read_yaml(path)
        # A scenario has candidates; a sweep file names scenarios.
        return path if isinstance(data, Mapping) and "scenarios" in data and "candidates" not in data else None
    return path_of(_KIND, name) if name in ids(_KIND) else None


def read_study_file(path: Path) -> tuple[Study, list[Scenario]]:
    """Return the study in a sweep file with its scenarios, which are looked up beside the file first."""
    study = validate(Study, read_yaml(path), str(path))
    return study, scenarios_of(study, path.parent)


def scenarios_of(study: Study, folder: Path) -> list[Scenario]:
    """Return the scenarios of a study; files are looked up in ``folder`` first."""
    return [load_scenario(folder / name if (folder / name).is_file() else name) for name in study.scenarios]


def run_study(
    study: Study, scenarios: Sequence[Scenario], out: Path | None, way: Way, *, progress: Reporter | None = None
) -> Sweep:
    """Return the results of a study, kept in the folder ``out`` or, without one, for as long as they are used."""
    for name in way.formats:
        require_format(name)
    hire = hiring(way.executor, way.workers)
    variants = variants_of(study, scenarios)
    folder = Path(mkdtemp(prefix="envelope-sweep-")) if out is None else _made(out)
    with locked(folder):
        check_study(folder, described(study, variants))
        journal = Journal(folder, variants.runs)
        runs = journal.missing(failed_too=way.retry_failed)
        left = variants.runs - journal.done + (journal.failed if way.retry_failed else 0)
        if left:
            watch = _Watch(journal, variants.runs, left, progress)
            order = _order(scenarios, variants)
            warm(order.requests)
            drive(order, (variants.run(index) for index in runs), left, hire, watch.deliver)
        found = Sweep(folder, passing=out is None)
        write_tables(found, way.formats)
    return found


def _made(out: Path) -> Path:
    """Return the results folder, made and tried, so that an hour's work is not lost on a typing error."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        test = out / ".envelope-write-test"
        test.touch()
        test.unlink()
    except OSError as error:
        words = f"cannot be written: {error.strerror or error}"
        raise InputError(Problem("command line", "--out", str(out), words)) from None
    return out


def _order(scenarios: Sequence[Scenario], variants: Variants) -> Order:
    each = zip(scenarios, variants.candidates, variants.seeds, strict=True)
    return Order(
        scenarios=pickle.dumps(tuple(scenarios)),
        data_dirs=data_dirs(),
        version=__version__,
        data_version=data_version(),
        requests=sum(s.simulation.max_requests * len(c) * n for s, c, n in each) * variants.each,
    )


def described(study: Study, variants: Variants) -> dict[str, Any]:
    """Return everything that the figures of a study rest on, by which a folder knows its own rows."""
    text = "\n".join(scenario.model_dump_json() for scenario in variants.scenarios)
    return {
        "study": study.model_dump(mode="json"),
        "scenarios_hash": hashlib.sha256(text.encode()).hexdigest()[:16],
        "runs": variants.runs,
        "variants": variants.count,
        "candidates": [list(names) for names in variants.candidates],
        "seeds": list(variants.seeds),
        "version": __version__,
        "data_version": data_version(),
        "libraries": {name: version(name) for name in ("numpy", "scipy", "simpy")},
    }


class _Watch:
    """Puts rows on disk and tells how far the sweep is."""

    def __init__(self, journal: Journal, runs: int, left: int, progress: Reporter | None) -> None:
        self._journal, self._runs, self._left, self._progress = journal, runs, left, progress
        self._start, self._done = time.monotonic(), 0

    def deliver(self, rows: Sequence[Row]) -> None:
        """Take finished rows."""
        self._journal.append(rows)
        self._done += len(rows)
        if self._progress is not None:
            left = self._left - self._done
            seconds = (time.monotonic() - self._start) / self._done * left
            failed = f", {self._journal.failed:,} failed" if self._journal.failed else ""
            text = f"{self._runs - left:,} of {self._runs:,} runs{failed}, {_clock(seconds)} left"
            self._progress(1 - left / self._runs, text)


def _clock(seconds: float) -> str:
    """Return a duration in the units that a person waits in.

    >>> _clock(59), _clock(3725), _clock(200_000)
    ('59 s', '1 h 2 min', '2 d 7 h')
    """
    whole = round(seconds)
    for big, small, size in (("d", "h", 86_400), ("h", "min", 3600), ("min", "s", 60)):
        if whole >= size:
            return f"{whole // size} {big} {whole % size // _BELOW[small]} {small}"
    return f"{whole} s"


_BELOW = {"h": 3600, "min": 60, "s": 1}
