"""Work in worker processes: results, errors as raised, progress, cancel for those who watch, and recovery."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("streamlit", reason="the dashboard's extra is not installed")
from envelope.dashboard import tasks
from envelope.dashboard.jobs import Job, JobError, State, Workers, fingerprint
from envelope.dashboard.worker import Order
from envelope.errors import InputError
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.compare import compare
from envelope.provenance import Evidence, Source

LONG_S = 120.0


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    found = Workers(1)
    yield found
    found.close()


def ended(job: Job) -> Job:
    assert job.wait(LONG_S)
    return job


def frontier_order() -> Order:
    return Order(tasks.frontier, (load_scenario("coding-assistant"), "requests_per_day", "hard_share", (None, None)))


def running(job: Job) -> None:
    until = time.monotonic() + LONG_S
    while job.state is State.QUEUED and time.monotonic() < until:
        time.sleep(0.05)
    assert job.state is State.RUNNING


def test_a_result_is_that_of_the_function_and_is_kept(workers: Workers) -> None:
    scenario = load_scenario("field-devices")
    ident = scenario.candidates[0].id
    order = Order(tasks.candidate, (scenario, ident))
    job = ended(workers.submit("one", order, label="one"))
    assert job.value() == compare(scenario, only=[ident]).candidates[0]
    assert workers.submit("one", order, label="one") is job


def test_an_input_error_keeps_its_problems(workers: Workers) -> None:
    order = Order(tasks.frontier, (load_scenario("field-devices"), "no_such_axis", "hard_share", (None, None)))
    job = ended(workers.submit("wrong", order, label="wrong"))
    with pytest.raises(InputError) as told:
        job.value()
    assert "no_such_axis" in str(told.value.problems[0])


def test_a_job_ends_when_its_last_watcher_cancels_and_the_worker_serves_on(workers: Workers) -> None:
    job = workers.submit("long", frontier_order(), label="long", watcher="a")
    assert workers.submit("long", frontier_order(), label="long", watcher="b") is job
    running(job)
    workers.cancel(job, "a")
    assert not job.ended
    workers.cancel(job, "b")
    assert ended(job).state is State.CANCELLED
    with pytest.raises(JobError):
        job.value()
    after = ended(workers.submit("after", Order(tasks.stale_prices, (100_000,)), label="after"))
    assert after.value() == []


def test_a_waiting_job_can_be_cancelled(workers: Workers) -> None:
    first = workers.submit("first", frontier_order(), label="first", watcher="a")
    second = workers.submit("second", Order(tasks.stale_prices, (1,)), label="second", watcher="a")
    workers.cancel(second, "a")
    assert second.state is State.CANCELLED
    workers.cancel(first, "a")
    assert ended(first).state is State.CANCELLED


def test_work_that_nobody_looks_at_any_more_gives_way(workers: Workers) -> None:
    job = workers.submit("left", frontier_order(), label="left", watcher="a")
    running(job)
    workers.turn_away("a")
    wanted = workers.submit("wanted", Order(tasks.stale_prices, (200_000,)), label="wanted", watcher="a")
    workers.make_room()
    assert ended(job).state is State.CANCELLED
    assert ended(wanted).value() == []


def test_work_that_others_watch_or_that_lasts_goes_on(workers: Workers) -> None:
    for key, watchers, lasting in (("shared", ("a", "b"), False), ("lasting", ("a",), True)):
        for watcher in watchers:
            job = workers.submit(key, frontier_order(), label=key, watcher=watcher, lasting=lasting)
        workers.turn_away("a")
        workers.make_room()
        assert not job.ended
        workers.cancel(job, watchers[-1])
        assert ended(job).state is State.CANCELLED


@pytest.mark.parametrize("other", [("a", 2), ("b", 1), (Source(source="abc", date="2025"),)], ids=str)
def test_equal_content_has_an_equal_fingerprint_and_other_content_another(other: tuple[Any, ...]) -> None:
    assert fingerprint("a", 1) == fingerprint("a", 1)
    assert fingerprint("a", 1) != fingerprint(*other)
    record = Source(source="abc", date="2024", evidence=Evidence.FITTED)
    assert fingerprint(record) == fingerprint(record.model_copy())
