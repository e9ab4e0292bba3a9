"""A recorded log as a workload: which part is taken, which sessions are kept, and how growth packs it."""

import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from envelope.errors import InputError
from envelope.logs import read_log
from envelope.serving.arrivals import Window
from envelope.serving.recorded import recorded
from envelope.serving.trace import Trace
from envelope.spec.load import validate
from envelope.spec.workload import Workload

HOUR = 3600.0
MONDAY = dt.datetime(2026, 1, 5)


def workload(**more: object) -> Workload:
    return validate(Workload, {"tasks": [{"id": "t", "preset": "chat"}], "requests_per_day": 100, **more}, "w")


def azure(folder: Path, seconds: list[float]) -> Path:
    """Write a log whose prompts are numbered by their length, so that a row can be told."""
    rows = [f"{(MONDAY + dt.timedelta(seconds=s)).isoformat(' ')},{100 + i},5" for i, s in enumerate(seconds)]
    path = folder / "log.csv"
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n")
    return path


def sessions(folder: Path, count: int) -> Path:
    """Write a log of ``count`` sessions of four calls each."""
    rows = [f"{10 * s + c * 2.5},{100 + s},5,s{s}" for s in range(count) for c in range(4)]
    path = folder / "sessions.csv"
    path.write_text("\n".join(["arrival_s,input_tokens,output_tokens,session_id", *rows]) + "\n")
    return path


def read(log: Path) -> Trace:
    found = read_log(log)
    assert isinstance(found, Trace)
    return found


def lengths(log: Path, **more: object) -> list[int]:
    return sorted(recorded(workload(), read(log), seed=1, max_requests=1000, **more).input_tokens - 100)  # type: ignore[arg-type]


def test_the_busiest_hour_is_taken(tmp_path: Path) -> None:
    quiet, busy = [0.0, 600.0, 1200.0], [3 * HOUR + 60.0 * i for i in range(20)]
    assert lengths(azure(tmp_path, [*quiet, *busy, 9 * HOUR])) == list(range(3, 23))


def test_a_window_takes_its_part_of_the_busier_week(tmp_path: Path) -> None:
    tuesday, week = 86_400.0, 7 * 86_400.0
    first, second = [tuesday + 60.0 * i for i in range(3)], [week + tuesday + 60.0 * i for i in range(5)]
    log = azure(tmp_path, [0.0, *first, 3 * tuesday, *second])
    assert lengths(log, window=Window(tuesday, 2 * HOUR)) == [5, 6, 7, 8, 9]
    with pytest.raises(InputError, match="no requests in the window"):
        lengths(log, window=Window(5 * tuesday, HOUR))


def test_a_window_of_a_log_without_dates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no dates"):
        lengths(sessions(tmp_path, 3), window=Window(0.0, HOUR))


def test_a_share_keeps_whole_sessions(tmp_path: Path) -> None:
    kept = lengths(sessions(tmp_path, 300), share=0.4)
    found, calls = np.unique(kept, return_counts=True)
    assert (calls == 4).all()
    # 300 sessions at 0.4: three standard deviations are 0.085.
    assert len(found) / 300 == pytest.approx(0.4, abs=0.085)


def test_no_more_requests_than_asked_for(tmp_path: Path) -> None:
    made = recorded(workload(), read(sessions(tmp_path, 50)), seed=1, max_requests=30)
    assert len(made) == 30


def test_growth_packs_the_same_requests(tmp_path: Path) -> None:
    log = azure(tmp_path, [0.0, 100.0, 300.0])
    grown = workload(growth_frac_per_year=0.5)
    now, later = (recorded(grown, read(log), seed=1, max_requests=10, year=year) for year in (0, 2))
    assert now.arrival_s.tolist() == [0.0, 100.0, 300.0]
    assert later.arrival_s == pytest.approx(np.array([0.0, 100.0, 300.0]) / 1.5**2)
    assert later.input_tokens.tolist() == now.input_tokens.tolist()
