"""The table of requests says what the result says."""

import csv
from pathlib import Path

import numpy as np
import pytest

from envelope.errors import InputError
from envelope.serving.fleet import Fleet, HostedConfig, PoolConfig, ReplicaConfig, RouterPolicy
from envelope.serving.request_table import COLUMNS
from envelope.serving.requests import replace_columns
from envelope.serving.simulate import simulate

from .conftest import realistic_tables
from .test_engine_against_reference import drawn

REPLICA = ReplicaConfig(steps=realistic_tables(), max_num_seqs=4, max_num_batched_tokens=256, kv_blocks=300)
FLEET = Fleet(
    pools=(PoolConfig(replica=REPLICA),),
    hosted=HostedConfig(ttft_p50_s=0.5, tokens_per_s_p50=100),
    router=RouterPolicy(policy="overflow", overflow_wait_s=1.0),
)
REQUESTS = replace_columns(drawn(9, 600, 20.0), sensitivity=np.arange(600) % 3)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_rows_add_up_to_the_result(tmp_path: Path) -> None:
    result = simulate(FLEET, REQUESTS, table=tmp_path / "t.csv", block=100)
    rows = rows_of(tmp_path / "t.csv")
    assert list(rows[0]) == list(COLUMNS)
    assert len(rows) == result.requests
    assert sum(r["served_by"] == "hosted" for r in rows) == result.overall.completed_hosted > 0
    assert sum(r["detour"] == "spilled" for r in rows) == result.overall.spilled
    assert not any(r["sensitivity"] == "private" and r["served_by"] == "hosted" for r in rows)
    e2e = [float(r["e2e_s"]) for r in rows if r["outcome"] == "completed"]
    assert np.mean(e2e) == pytest.approx(result.overall.e2e_s.mean, rel=1e-5)
    assert sum(int(r["output_tokens"]) for r in rows) / len(rows) == pytest.approx(result.overall.mean_output_tokens)


def test_parquet_holds_what_csv_holds(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for suffix in ("csv", "parquet"):
        simulate(FLEET, REQUESTS, table=tmp_path / f"t.{suffix}", block=150)
    table = parquet.read_table(tmp_path / "t.parquet").to_pylist()
    rows = rows_of(tmp_path / "t.csv")
    assert [r["outcome"] for r in table] == [r["outcome"] for r in rows]
    assert [r["input_tokens"] for r in table] == [int(r["input_tokens"]) for r in rows]
    one = [(r["tpot_s"], c["tpot_s"]) for r, c in zip(table, rows, strict=True)]
    assert all(c == "" if t is None else t == pytest.approx(float(c), abs=1e-6) for t, c in one)


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.csv or \.parquet"):
        simulate(FLEET, REQUESTS, table=tmp_path / "t.xlsx")
