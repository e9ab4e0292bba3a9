"""Sweeps give the same rows wherever they are computed, whatever happens to the workers."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from envelope.errors import EnvelopeError, InputError, MissingExtraError
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.sweep.run import sweep
from envelope.plan.sweep.tables import require_format
from envelope.spec.load import Reporter

TUTOR = load_scenario("math-tutor").replace("simulation.max_requests", 150)
RATE = "workload.requests_per_day"
ASKED: dict[str, Any] = {
    "set": {RATE: [20_000, 24_000, 30_000]},
    "ranges": {"economics.discount_rate_frac_per_year": {"low": 0.01, "high": 0.1}},
    "sample": {"method": "lhs", "count": 2},
    "only": ["own-llama-8b"],
    "seeds": 4,
}
"""24 runs."""


def table(out: Path, *, executor: str | Executor = "here", workers: int = 2, progress: Reporter | None = None) -> bytes:
    found = sweep(TUTOR, **ASKED, out=out, executor=executor, workers=workers, formats=("csv",), progress=progress)
    assert (found.done, found.failed) == (24, 0)
    return (out / "rows.csv").read_bytes()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return table(tmp_path_factory.mktemp("here"))


def once(act: Callable[[], object]) -> Reporter:
    """Return a progress callback that acts when the first rows are there."""
    acted: list[bool] = []

    def tell(share: float, _what: str) -> None:
        if not acted and share < 0.9:
            acted.append(True)
            act()

    tell.acted = acted  # type: ignore[attr-defined]
    return tell


def test_processes_give_the_same_bytes_though_one_is_killed(tmp_path: Path, expected: bytes) -> None:
    def kill_one() -> None:
        os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGTERM if sys.platform == "win32" else 9)

    tell = once(kill_one)
    assert table(tmp_path, executor="processes", progress=tell) == expected
    assert tell.acted  # type: ignore[attr-defined]


def test_any_executor_gives_the_same_bytes(tmp_path: Path, expected: bytes) -> None:
    with ThreadPoolExecutor(2) as threads:
        assert table(tmp_path, executor=threads) == expected


def test_a_dask_cluster_gives_the_same_bytes_though_a_worker_is_killed(tmp_path: Path, expected: bytes) -> None:
    distributed = pytest.importorskip("distributed", reason="extra cluster is not installed")
    quiet = {"dashboard_address": None, "silence_logs": 50}
    with (
        distributed.LocalCluster(n_workers=3, threads_per_worker=1, processes=True, **quiet) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        pids = list(client.run(os.getpid).values())
        tell = once(lambda: os.kill(pids[0], signal.SIGKILL))
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        assert table(tmp_path, executor=address, progress=tell) == expected
        assert tell.acted
        assert len(set(pids)) == 3


def cluster_on(port: int) -> "list[subprocess.Popen[bytes]]":
    """Start a scheduler and two workers as processes of their own."""
    dask = [sys.executable, "-m", "distributed.cli"]
    address = ["--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show"]
    workers = [f"tcp://127.0.0.1:{port}", "--nworkers", "2", "--nthreads", "1", "--no-dashboard"]
    commands = ([f"{dask[2]}.dask_scheduler", *address], [f"{dask[2]}.dask_worker", *workers])
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return [subprocess.Popen([*dask[:2], *command], **quiet) for command in commands]


def test_a_restarted_scheduler_loses_nothing(tmp_path: Path, expected: bytes) -> None:
    pytest.importorskip("distributed", reason="extra cluster is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = cluster_on(port)

    def restart() -> None:
        for process in started:
            process.kill()
            process.wait()
        started.extend(cluster_on(port))

    tell = once(restart)
    try:
        assert table(tmp_path, executor=f"dask://127.0.0.1:{port}", progress=tell) == expected
        assert tell.acted  # type: ignore[attr-defined]
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_an_interrupted_sweep_goes_on_where_it_stood(tmp_path: Path, expected: bytes) -> None:
    def stop(share: float, _what: str) -> None:
        if share > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        table(tmp_path, progress=stop)
    before = (tmp_path / "journal.jsonl").read_bytes()
    assert table(tmp_path) == expected
    after = (tmp_path / "journal.jsonl").read_bytes()
    assert after.startswith(before)
    assert after.count(b"\n") == 24
    assert table(tmp_path) == expected
    assert (tmp_path / "journal.jsonl").read_bytes() == after


class _Cursed(ThreadPoolExecutor):
    """Workers that die of one run."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        future = super().submit(fn, *args, **kwargs)
        if any(run.index == 5 for run in args[1]):
            future = super().submit(_die)
        return future


def _die() -> None:
    from concurrent.futures.process import BrokenProcessPool

    raise BrokenProcessPool("gone")


def test_a_run_that_kills_its_workers_is_recorded_and_all_others_are_done(tmp_path: Path) -> None:
    with _Cursed(2) as cursed:
        found = sweep(TUTOR, **ASKED, out=tmp_path, executor=cursed)
    failed = [row for row in found.rows() if row.status == "failed"]
    assert [row.run for row in failed] == [5]
    assert failed[0].error == "the worker died 3 times"
    assert found.done == 24


def test_all_variants_meet_the_same_arrivals() -> None:
    # Single requests: later calls of a session wait for answers, whose times differ between variants.
    reader = load_scenario("archive-reader").replace("simulation.max_requests", 150)
    path = "candidates.own-llama-70b.pools.0.settings.max_num_seqs"
    found = sweep(reader, set={path: [64, 128]}, only=["own-llama-70b"], seeds=3, executor="here")
    rows = list(found.rows())
    offered = {(row.variant, row.seed): row.requests_simulated for row in rows}
    assert all(offered[0, seed] == offered[1, seed] for seed in (1, 2, 3))
    assert len({offered[0, seed] for seed in (1, 2, 3)}) > 1


def test_a_row_is_what_the_scenario_alone_gives() -> None:
    from envelope.plan.compare import compare

    found = sweep(TUTOR, set={RATE: [20_000, 30_000]}, only=["own-llama-8b"], seeds=1, executor="here")
    for row in found.rows():
        alone = compare(TUTOR.replace(row.changes), seeds=1, only=["own-llama-8b"]).candidates[0]
        assert row.cost_npv_usd == alone.cost_npv
        assert row.slo_attainment_frac == alone.slo_attainment_frac
        assert row.feasible == alone.feasible
        assert len(row.input_hash) == 16
        assert row.version
        assert row.data_version


def test_two_scenarios_are_swept_together() -> None:
    other = TUTOR.model_copy(update={"id": "other"})
    found = sweep([TUTOR, other], set={RATE: [20_000]}, only=["own-llama-8b"], seeds=1, executor="here")
    assert [row.scenario for row in found.rows()] == ["math-tutor", "other"]
    assert len({row.input_hash for row in found.rows()}) == 2


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_tables_hold_the_same_numbers(tmp_path: Path, kind: Any) -> None:
    pandas = pytest.importorskip("pandas", reason="extra frames is not installed")
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="extra parquet is not installed")
    asked = {
        "set": {RATE: [20_000, 30_000], "economics.start": ["2026-12", "2027-01"]},
        "only": ["own-llama-8b", "hosted-mistral"],
    }
    found = sweep(TUTOR, **asked, seeds=1, out=tmp_path, executor="here", formats=(kind,))
    path = tmp_path / f"rows.{kind}"
    if kind == "csv":
        # Python's own reader of numbers is exact.
        read = pandas.read_csv(path, converters={"cost_npv_usd": float, "e2e_p95_s": float})
    else:
        read = (
            pandas.read_parquet(path) if kind == "parquet" else pandas.read_json(path, lines=True, precise_float=True)
        )
    frame = found.to_frame()
    assert list(read.columns) == list(frame.columns)
    for name in ("run", "candidate", RATE, "cost_npv_usd", "e2e_p95_s", "input_hash", "feasible"):
        assert read[name].tolist() == frame[name].tolist()


BAD: dict[str, tuple[dict[str, Any], type[EnvelopeError], str]] = {
    "an executor": ({"executor": "dusk"}, InputError, "nearest 'dask'"),
    "an address of another kind": ({"executor": "ray://host"}, InputError, "allowed: here, processes, dask"),
    "no workers": ({"workers": 0}, InputError, "must be at least 1"),
    "a format": ({"formats": ("xml",)}, InputError, "allowed: csv, jsonl, parquet"),
    "a file for a folder": ({"out": __file__}, InputError, "cannot be written"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_done_is_said_before_anything_runs(name: str) -> None:
    asked, kind, words = BAD[name]
    with pytest.raises(kind, match=words):
        sweep(TUTOR, set={RATE: [20_000]}, **asked)


def test_a_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envelope.parquet.find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"deployment-envelope\[parquet\]"):
        require_format("parquet")
