"""The whole comparison: start or find the server, send the loads, predict them twice, and keep everything in a folder.

The folder holds every finished turn of every load, so a run that was interrupted goes on where it stopped.
"""

import datetime
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from envelope.errors import InputError, Problem
from envelope.result import Result
from envelope.sensors.calibrate import Calibration, calibrate, calibrated_engine
from envelope.spec.engine import Engine
from envelope.spec.load import Reporter, validate
from envelope.validation.server.client import Server
from envelope.validation.server.load import Measured, send
from envelope.validation.server.plan import Drawn, Load, drawn
from envelope.validation.server.predict import (
    MemoryRow,
    Served,
    as_endpoint,
    by_simulation,
    measured_figures,
    memory_rows,
    predicted_figures,
)
from envelope.validation.server.process import Running
from envelope.validation.server.score import LoadRow, Verdict, row_of, verdict

_WARM_UP = Load("warm-up", "closed", "calibrate", 3, 48, 8, concurrency=1)
"""The first requests of a server (connections, compilation, memory) are not typical."""


class ServerResult(Result):
    """Predictions beside what a real server gave."""

    engine: str
    version: str
    model: str
    hardware: str
    weights: str
    threads: int
    date: str
    start_s: float | None
    """Seconds that the engine took to answer; ``None`` where it ran already."""
    loads: tuple[LoadRow, ...]
    verdicts: tuple[Verdict, ...]
    """From op probes alone, then after calibration."""
    memory: tuple[MemoryRow, ...]
    calibration: Calibration | None
    engine_record: Engine | None
    """The engine with the fitted constants."""
    complete: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """The folder of a run: what is finished there is not measured again."""

    folder: Path

    def claim(self, setup: dict[str, object]) -> None:
        """Note what is run here; raises ``InputError`` if the folder holds a run of something else."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "setup.json"
        if path.exists():
            held = json.loads(path.read_text(encoding="utf-8"))
            other = sorted(k for k in {*held, *setup} if held.get(k) != setup.get(k))
            if other:
                rule = f"holds a run with another {', '.join(other)}"
                raise InputError(Problem("command line", "--out", str(self.folder), rule, "choose another folder"))
        path.write_text(json.dumps(setup, indent=1), encoding="utf-8")

    def turn(self, load: Load, turn: int) -> Measured | None:
        """Return a finished turn, ``None`` if there is none."""
        path = self._path(load, turn)
        if not path.exists():
            return None
        return validate(Measured, json.loads(path.read_text(encoding="utf-8")), str(path))

    def keep(self, load: Load, turn: int, found: Measured) -> None:
        """Store a finished turn, whole or not at all."""
        path = self._path(load, turn)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(found.model_dump_json(), encoding="utf-8")
        temporary.replace(path)

    def _path(self, load: Load, turn: int) -> Path:
        return self.folder / "loads" / f"{load.id}-{turn}.json"


Turns = dict[str, list[tuple[Drawn, Measured]]]
"""By load: its turns, each as the requests that were drawn and what they took."""
ServerDoor = Callable[[Reporter], AbstractContextManager[tuple[Server, Running | None]]]
"""Opens the server: starts it, or finds that it answers; the second part is ``None`` where it ran already."""


def measure(
    plan: Sequence[Load], turns: int, kept: Kept, open_server: ServerDoor, report: Reporter
) -> tuple[Turns, bool]:
    """Send every load that is not finished yet and return all turns, and whether they are complete.

    The server is opened with the first load that is missing, and not at all if none is. Turns go round all loads, so
    that a slow minute of the machine does not fall on one load alone. Ctrl-C ends the run and keeps what is done.
    """
    found: Turns = {}
    with ExitStack() as stack:
        server: Server | None = None
        group: Running | None = None
        try:
            for turn in range(turns):
                for at, load in enumerate(plan):
                    report((turn * len(plan) + at) / (turns * len(plan)), load.describe())
                    rate = _rate(load, plan, found, turn)
                    work = drawn(load, rate or 1.0, turn)
                    done = kept.turn(load, turn)
                    if done is not None and done.asked_tokens != tuple(work.input_tokens):
                        done = None  # of another version, which drew otherwise
                    if done is None:
                        if server is None:
                            server, group = stack.enter_context(open_server(report))
                            send(server, drawn(_WARM_UP, 1.0, turn), turn, 0.0)
                        done = send(server, work, turn, rate, group)
                        kept.keep(load, turn, done)
                    elif load.kind == "poisson":
                        work = drawn(load, done.rate_per_s, turn)
                    found.setdefault(load.id, []).append((work, done))
        except KeyboardInterrupt:
            if not found:
                raise
            return found, False
    report(1.0, "predicting")
    return found, True


def _rate(load: Load, plan: Sequence[Load], found: Turns, turn: int) -> float:
    """Return the rate of Poisson arrivals: the load's share of what the burst was served at in the first turn."""
    if load.kind != "poisson":
        return 0.0
    burst = next(x for x in plan if x.kind == "burst")
    first = found[burst.id][0][1]
    # Loads of other lengths take more or less work a request than the burst's.
    work = (burst.input_tokens + burst.output_tokens) / (load.input_tokens + load.output_tokens)
    return load.rate_frac * first.requests_per_s * work


def compare(
    plan: Sequence[Load], found: Turns, served: Served, *, url: str, name: str
) -> tuple[tuple[LoadRow, ...], Calibration | None, Engine | None]:
    """Return every measured load beside its two predictions, and the calibration between them."""
    fitted, record = None, None
    loops = [
        (x, work, turn)
        for x in plan if x.role == "calibrate" and x.kind == "closed"
        for work, turn in found.get(x.id, ())
    ]  # fmt: skip
    if len({x.concurrency for x, _, _ in loops}) > 1:
        today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        measured = as_endpoint([(x, m) for x, _, m in loops], url, name, today)
        drawn_by = {id(level): work for level, (_, work, _) in zip(measured.levels, loops, strict=True)}
        fitted = calibrate(measured, served.replica(), lambda r, level: by_simulation(r, level, drawn_by[id(level)]))
        record = calibrated_engine(fitted, served.engine, f"{served.engine.id}-calibrated", date=today, url=url)
    rows = []
    for load in plan:
        pairs = found.get(load.id)
        if not pairs:
            continue
        works, turns = [w for w, _ in pairs], [m for _, m in pairs]
        calibrated = predicted_figures(served.with_engine(record), works, turns) if record else None
        probed = predicted_figures(served, works, turns)
        rows.append(row_of(load, turns, measured_figures(turns), probed, calibrated))
    return tuple(rows), fitted, record


def result_of(
    plan: Sequence[Load], found: Turns, served: Served, *, url: str, version: str, threads: int, complete: bool,
    logged: dict[str, float], start_s: float | None,
) -> ServerResult:  # fmt: skip
    """Return the comparison of everything that was measured."""
    rows, fitted, record = compare(plan, found, served, url=url, name=served.model.id)
    return ServerResult(
        engine=served.engine.id,
        version=version,
        model=served.model.name,
        hardware=served.hardware.id,
        weights=served.weights,
        threads=threads,
        date=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        start_s=start_s,
        loads=rows,
        verdicts=tuple(verdict(rows, calibrated=c) for c in ((False, True) if fitted else (False,))),
        memory=memory_rows(served, logged),
        calibration=fitted,
        engine_record=record,
        complete=complete,
    )
