"""Rows on disk survive torn and damaged lines, a full disk and other people's processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from envelope.errors import InputError
from envelope.plan.sweep.journal import Journal, check_study, read_study
from envelope.plan.sweep.lock import locked
from envelope.plan.sweep.row import Row

RUNS = 4


def row(run: int, **figures: object) -> Row:
    plain = {"run": run, "variant": run, "scenario": "s", "candidate": "ü <x>", "seed": 1, "status": "done", **figures}
    return Row.model_validate(plain)


ROWS = [row(i, cost_npv_usd=0.1 + i, changes={"a.b": [i, "ß"]}) for i in (2, 0, 3)]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    Journal(tmp_path, RUNS).append(ROWS)
    return tmp_path


def test_rows_come_back_as_they_were_in_the_order_of_their_runs(written: Path) -> None:
    journal = Journal(written, RUNS)
    assert list(journal.rows()) == sorted(ROWS, key=lambda r: r.run)
    assert list(journal.missing(failed_too=False)) == [1]


def test_wherever_the_last_line_is_torn_the_others_stay_and_it_is_written_again_once(written: Path) -> None:
    path = written / "journal.jsonl"
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(start, len(whole)):
        path.write_bytes(whole[:cut])
        journal = Journal(written, RUNS)
        assert {r.run for r in journal.rows()} == {2, 0}
        journal.append([ROWS[2]])
        assert path.read_bytes() == whole


@pytest.mark.parametrize("where", ["first", "middle"])
def test_a_damaged_line_counts_as_missing(written: Path, where: str) -> None:
    path = written / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    index = 0 if where == "first" else 1
    lines[index] = lines[index].replace(b'"seed":1', b'"seed":7')
    path.write_bytes(b"".join(lines))
    journal = Journal(written, RUNS)
    lost = ROWS[index].run
    assert lost in journal.missing(failed_too=False)
    journal.append([ROWS[index]])
    assert list(Journal(written, RUNS).rows()) == sorted(ROWS, key=lambda r: r.run)


def test_a_row_is_never_doubled_and_a_failed_one_is_replaced(written: Path) -> None:
    journal = Journal(written, RUNS)
    journal.append([ROWS[0], row(1, status="failed", error="first")])
    assert (journal.done, journal.failed) == (4, 1)
    assert list(journal.missing(failed_too=True)) == [1]
    journal.append([row(1)])
    for found in (journal, Journal(written, RUNS)):
        assert (found.done, found.failed) == (4, 0)
        assert [r.run for r in found.rows()] == [0, 1, 2, 3]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_full_disk_leaves_whole_rows_and_says_what_to_do(tmp_path: Path) -> None:
    # A limit on the size of files stops a write in its middle, as a full disk does.
    script = """
import resource, signal, sys
from pathlib import Path
from envelope.errors import EnvelopeError
from envelope.plan.sweep.journal import Journal
from envelope.plan.sweep.row import Row
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(Path(sys.argv[1]), 100)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
try:
    for i in range(100):
        journal.append([Row(run=i, variant=i, scenario="s", candidate="c", seed=1, status="done")])
except EnvelopeError as error:
    print(journal.done, error)
"""
    told = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    done = int(told.stdout.split()[0])
    assert 0 < done < 100
    assert "rows are safe" in told.stdout
    again = Journal(tmp_path, 100)
    assert again.done == done
    assert (tmp_path / "journal.jsonl").read_bytes().endswith(b"\n")
    again.append([Row(run=i, variant=i, scenario="s", candidate="c", seed=1, status="done") for i in range(done, 100)])
    assert [r.run for r in Journal(tmp_path, 100).rows()] == list(range(100))


def test_a_folder_belongs_to_one_study(tmp_path: Path) -> None:
    check_study(tmp_path, {"seeds": [1], "version": "1"})
    check_study(tmp_path, {"seeds": [1], "version": "1"})
    with pytest.raises(InputError, match=r"another study \(seeds differ\)"):
        check_study(tmp_path, {"seeds": [2], "version": "1"})
    with pytest.raises(InputError, match="no folder of sweep results"):
        read_study(tmp_path / "nowhere")


def test_a_folder_in_use_is_refused_until_its_holder_is_gone(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from envelope.plan.sweep.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=f"is being written by process {holder.pid} on"), locked(tmp_path):
            pass
        holder.kill()
    with locked(tmp_path):
        assert (tmp_path / "lock").read_text(encoding="utf-8").startswith("process ")


def test_ten_thousand_variants_are_ranked_and_reported_in_the_order_of_their_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from envelope.cli import main
    from envelope.plan.case.scenarios import load_scenario
    from envelope.plan.sweep.run import described
    from envelope.plan.sweep.study import Study
    from envelope.plan.sweep.variants import variants_of

    axes = {"workload.requests_per_day": list(range(10_000, 10_100)), "company.seats": list(range(1, 101))}
    study = Study.model_validate({"scenarios": ["math-tutor"], "set": axes, "only": ["own-llama-8b"], "seeds": 1})
    variants = variants_of(study, [load_scenario("math-tutor")])
    check_study(tmp_path, described(study, variants))
    # A figure that is known for every variant stands for the runs, which would take minutes.
    made = []
    for run in (variants.run(index) for index in range(variants.runs)):
        cost = run.changes["workload.requests_per_day"] * 1.0 + run.changes["company.seats"] * 1000.0
        same = {"run": run.index, "variant": run.variant, "candidate": run.candidate, "changes": dict(run.changes)}
        made.append(
            Row(scenario=run.scenario_id, seed=run.seed, status="done", feasible=True, cost_npv_usd=cost, **same)
        )
    Journal(tmp_path, variants.runs).append(made)
    assert main(["sweep", "report", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "10,000 of 10,000 runs are done" in said
    assert "smaller changes" in said
    assert len(said.splitlines()) < 60
    best = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert best.index("10,000") < best.index("10,001")
