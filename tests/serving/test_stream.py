"""Requests that are drawn and loaded block by block give what they give when they are all loaded at once."""

from pathlib import Path

import numpy as np
import pytest

from envelope.serving.arrivals import Window, drawn_stream, generate
from envelope.serving.compiled import available
from envelope.serving.fleet import Faults, Fleet, HostedConfig, PoolConfig, ReplicaConfig, RouterPolicy
from envelope.serving.kernel import layout as k
from envelope.serving.requests import Requests, Stream, open_loop, stream_of
from envelope.serving.run import Run, run_once, run_stream
from envelope.serving.simulate import simulate
from envelope.spec.load import validate
from envelope.spec.workload import Workload

from .conftest import realistic_tables
from .test_engine_against_reference import drawn, with_documents

MODES = [False, pytest.param(True, marks=pytest.mark.skipif(not available(), reason="numba is not installed"))]
TASKS = [
    {"id": "chat", "preset": "chat", "share": 2},
    {
        "id": "schema",
        "preset": "schema-questions",
        "documents": {"count": 20, "tokens": {"kind": "fixed", "value": 200}},
    },
    {"id": "tutor", "preset": "tutoring", "sensitivity": {"private": 0.5, "public": 0.5}},
]


def work(rate_per_s: float = 4.0) -> Workload:
    return validate(Workload, {"tasks": TASKS, "requests_per_day": rate_per_s * 86_400, "seats": None}, "test")


def fleet(**changes: object) -> Fleet:
    settings = dict(
        steps=realistic_tables(seqs=32, tokens=1024), max_num_seqs=32, max_num_batched_tokens=1024, kv_blocks=2500,
        max_context_tokens=32_000, prefix_cache=True,
    )  # fmt: skip
    pool = PoolConfig(replica=ReplicaConfig(**{**settings, **changes}), replicas=3)
    return Fleet(
        pools=(pool,),
        hosted=HostedConfig(ttft_p50_s=0.7, ttft_sigma=0.5, tokens_per_s_p50=60, rpm=300, max_concurrent=4),
        router=RouterPolicy(policy="overflow", overflow_wait_s=0.5, balance="prefix_affine"),
        faults=Faults(device_mtbf_s=300.0, repair_s=20.0, reload_s=5.0),
    )


def collected(stream: Stream, fleet: Fleet, compiled: bool) -> tuple[Run, np.ndarray, np.ndarray]:
    rows: list[np.ndarray] = []
    times: list[np.ndarray] = []

    def take(rq: np.ndarray, rx: np.ndarray) -> None:
        rows.append(rq.copy())
        times.append(rx.copy())

    run = run_stream(fleet, stream, take, seed=3, compiled=compiled)
    return run, np.concatenate(rows), np.concatenate(times)


def by_arrival(rq: np.ndarray, rx: np.ndarray) -> np.ndarray:
    """What happened to the requests that began, in order of arrival."""
    begun = rq[:, k.Q_STATUS] != k.STATUS_CUT
    rq, rx = rq[begun], rx[begun]
    order = np.lexsort((rq[:, k.Q_OUTPUT], rq[:, k.Q_INPUT], rx[:, k.F_ARRIVAL]))
    return np.column_stack([rx[:, : k.F_LAST], rq[:, [k.Q_INPUT, k.Q_OUTPUT, k.Q_HIT, k.Q_STATUS, k.Q_SERVER]]])[order]


@pytest.mark.parametrize("compiled", MODES, ids=lambda c: "compiled" if c else "plain")
def test_given_requests_have_the_same_times_in_blocks_of_any_size(compiled: bool) -> None:
    requests = with_documents(drawn(8, 1500, 30.0), 8)
    whole = run_once(fleet(kv_blocks=200), requests, seed=3, compiled=compiled)
    for block in (100, 700):
        run, rq, rx = collected(stream_of(requests, block), fleet(kv_blocks=200), compiled)
        np.testing.assert_array_equal(by_arrival(rq, rx), by_arrival(whole.rq, whole.rx))
        assert run.final.energy_j == whole.final.energy_j
        np.testing.assert_array_equal(run.ticks, whole.ticks)
        np.testing.assert_array_equal(run.blocks_free, whole.blocks_free)


def joined_blocks(stream: Stream) -> Requests:
    """All blocks as one set of requests, put together by hand."""
    blocks = [stream.first, *(block for _, block in stream.later)]
    rows = np.cumsum([0, *(len(b) for b in blocks)])
    chains = np.cumsum([0, *(b.chains for b in blocks)])
    paths = np.cumsum([0, *(len(b.path) for b in blocks)])
    plain = (
        "arrival_s", "input_tokens", "output_tokens", "task", "sensitivity", "follows", "gap_s", "seat", "path", "uniform",
        "normal", "normal_rate",
    )  # fmt: skip

    def shifted(name: str, by: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [np.where(getattr(b, name) >= 0, getattr(b, name) + n, -1) for b, n in zip(blocks, by, strict=False)]
        )

    start = [b.path_start[:-1] + n for b, n in zip(blocks, paths, strict=False)]
    return Requests(
        **{name: np.concatenate([getattr(b, name) for b in blocks]) for name in plain},
        follower=shifted("follower", rows),
        chain=shifted("chain", chains),
        path_start=np.concatenate([*start, paths[-1:]]),
        node_tokens=stream.first.node_tokens,
        classes=stream.first.classes,
        span_s=stream.first.span_s,
    )


@pytest.mark.parametrize("compiled", MODES, ids=lambda c: "compiled" if c else "plain")
def test_drawn_sessions_have_the_same_times_in_blocks(compiled: bool) -> None:
    window = Window(0.0, 400.0)
    blocks = dict(seed=5, window=window, block=150)
    assert sum(1 for _ in drawn_stream(work(), **blocks).later) > 5
    everything = joined_blocks(drawn_stream(work(), **blocks))
    whole = run_once(fleet(), everything, seed=3, compiled=compiled)
    run, rq, rx = collected(drawn_stream(work(), **blocks), fleet(), compiled)
    assert len(rq) == len(everything)
    assert (whole.rq[:, k.Q_HIT] > 0).mean() > 0.2
    np.testing.assert_array_equal(by_arrival(rq, rx), by_arrival(whole.rq, whole.rx))
    assert run.final.energy_j == whole.final.energy_j
    assert len(run.rq) < 0.5 * len(everything), "rows are used again"
    np.testing.assert_array_equal(run.blocks_free, 2500)


def test_devices_of_seats_share_the_places_of_dialogues() -> None:
    replica = ReplicaConfig(
        steps=realistic_tables(), max_num_seqs=1, max_num_batched_tokens=1024, kv_blocks=2500, prefix_cache=True,
        batching="single",
    )  # fmt: skip
    own = Fleet(pools=(PoolConfig(replica=replica, replicas=40),), router=RouterPolicy(balance="per_seat"))
    blocks = dict(seed=5, window=Window(0.0, 400.0), block=150)
    whole = run_once(own, joined_blocks(drawn_stream(work(), **blocks)), compiled=False)
    _, rq, rx = collected(drawn_stream(work(), **blocks), own, False)
    np.testing.assert_array_equal(by_arrival(rq, rx), by_arrival(whole.rq, whole.rx))


def test_one_block_is_the_whole_window_at_once() -> None:
    stream = drawn_stream(work(), seed=2, window=Window(0.0, 300.0))
    whole = generate(work(), seed=2, window=Window(0.0, 300.0))
    assert list(stream.later) == []
    for name in ("arrival_s", "input_tokens", "uniform", "seat", "path"):
        np.testing.assert_array_equal(getattr(stream.first, name), getattr(whole, name))


def test_blocks_have_the_rate_and_the_lengths_of_the_workload() -> None:
    stream = drawn_stream(work(20.0), seed=4, window=Window(0.0, 5000.0), block=5000)
    sizes, inputs = [len(stream.first)], [stream.first.input_tokens]
    for at, block in stream.later:
        assert block.arrival_s[~block.follows].min() >= at
        sizes.append(len(block))
        inputs.append(block.input_tokens)
    assert sum(sizes) == pytest.approx(100_000, rel=0.05)
    whole = generate(work(20.0), seed=9, window=Window(0.0, 5000.0))
    assert np.mean(np.concatenate(inputs)) == pytest.approx(whole.input_tokens.mean(), rel=0.05)


def test_results_and_tables_do_not_depend_on_the_block_size(tmp_path: Path) -> None:
    requests = drawn(3, 3000, 40.0)
    found = [simulate(fleet(), requests, table=tmp_path / f"{n}.csv", block=n) for n in (250, 10_000)]
    for one, other in zip(*(r.overall for r in found), strict=True):
        # Sums of floats depend on the order in which they are added.
        assert one == other or one[1].model_dump() == pytest.approx(other[1].model_dump(), rel=1e-12)
    assert found[0].timeline == found[1].timeline
    first, second = (sorted((tmp_path / f"{n}.csv").read_text().splitlines()) for n in (250, 10_000))
    assert first == second


def test_closed_loop_warm_up_is_served_and_not_counted() -> None:
    from envelope.serving.replay import load_test

    replica = fleet().pools[0].replica
    load = dict(concurrency=8, requests=60, input_tokens=300, output_tokens=40, range_ratio=0.5)
    cold, warmed = load_test(replica, **load), load_test(replica, **load, warmup=30)
    assert warmed["requests"] == warmed["completed"] == 60
    # All prompts differ and the engine is idle in between, so that only rounding of the clock is left.
    assert warmed["e2e_s"]["mean"] == pytest.approx(cold["e2e_s"]["mean"], rel=1e-6)
    assert warmed["energy_j"] == pytest.approx(cold["energy_j"], rel=1e-6)


def test_a_warm_up_loads_the_adapters() -> None:
    from dataclasses import replace

    from envelope.serving.requests import ClassInfo, closed_loop, replace_columns

    replica = replace(fleet().pools[0].replica, adapter_load_s=1.0)
    one = Fleet(pools=(PoolConfig(replica=replica),))
    made = replace_columns(closed_loop(np.full(9, 50), np.full(9, 5), concurrency=3), classes=(ClassInfo(adapter="a"),))
    cold, warmed = run_once(one, made), run_once(one, made, before=made)
    gain = cold.rx[0, k.F_FIRST] - (warmed.rx[0, k.F_FIRST] - warmed.warm.time_s)
    assert gain == pytest.approx(1.0)


def test_arrivals_at_one_instant_are_served_in_their_order() -> None:
    requests = open_loop(np.zeros(50), np.full(50, 100), np.full(50, 5))
    run = run_once(Fleet(pools=(PoolConfig(replica=fleet().pools[0].replica),)), requests)
    assert (np.diff(run.rx[:, k.F_FIRST]) >= 0).all()
