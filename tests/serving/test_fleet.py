"""What must hold for every fleet, policy, fault and overload: nothing is lost, nothing private goes out."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from envelope.logs import read_log
from envelope.serving.compiled import available
from envelope.serving.fleet import (
    Autoscale,
    Faults,
    Fleet,
    HostedConfig,
    PoolConfig,
    ReplicaConfig,
    RouterPolicy,
)  # fmt: skip
from envelope.serving.kernel import layout as k
from envelope.serving.metrics import measure
from envelope.serving.metrics import private_left as left_of
from envelope.serving.requests import ClassInfo, Requests, open_loop, replace_columns
from envelope.serving.run import Run, run_once
from envelope.serving.simulate import simulate
from envelope.serving.state import build
from envelope.spec.load import validate
from envelope.spec.routing import POLICIES
from envelope.spec.workload import Difficulty, Workload

from .conftest import realistic_tables
from .test_engine_against_reference import drawn, with_sessions


def private_left(run: Run) -> int:
    return left_of(run.fleet, run.rq)


HARD = ClassInfo("hard", difficulty=Difficulty(small=0.6, mid=0.3, frontier=0.1))


def replica(**changes: object) -> ReplicaConfig:
    base = dict(steps=realistic_tables(), max_num_seqs=16, max_num_batched_tokens=256, kv_blocks=300)
    return ReplicaConfig(**{**base, **changes})


def mixed(requests: Requests, seed: int) -> Requests:
    """Draw sensitivities; all calls of a session share theirs."""
    rng = np.random.default_rng([seed, 9])
    group = np.where(requests.chain >= 0, requests.chain, np.arange(len(requests)))
    levels = rng.integers(0, 3, group.max() + 1)
    return replace_columns(requests, sensitivity=levels[group], classes=(HARD,))


def blocks_held(run: Run, state_free: list[int]) -> None:
    for pool, free in zip(run.fleet.replicas, state_free, strict=True):
        assert free == pool.replica.kv_blocks


FLEETS = some.fixed_dictionaries(
    {
        "policy": some.sampled_from(POLICIES),
        "balance": some.sampled_from(["round_robin", "least_outstanding", "prefix_affine", "per_seat"]),
        "replicas": some.integers(1, 4),
        "cache": some.booleans(),
        "chunked": some.booleans(),
        "kv_blocks": some.sampled_from([90, 150, 2000]),
        "seqs": some.sampled_from([1, 4, 32]),
        "sessions": some.booleans(),
        "rate": some.sampled_from([1.0, 10.0, 200.0]),
        "rpm": some.sampled_from([None, 2.0, 60.0]),
        "availability": some.sampled_from([1.0, 0.9]),
        "faults": some.booleans(),
        "autoscale": some.booleans(),
        "inside": some.booleans(),
        "split": some.booleans(),
        "ranks": some.sampled_from([1, 1, 3]),
        "drafts": some.sampled_from([0, 0, 3]),
        "seed": some.integers(0, 10_000),
    }
)


def fleet_of(d: dict) -> Fleet:
    c = replica(
        prefix_cache=d["cache"], chunked_prefill=d["chunked"], kv_blocks=d["kv_blocks"], max_num_seqs=d["seqs"],
        draft_tokens=d["drafts"], draft_acceptance_frac=0.6,
    )  # fmt: skip
    roles = ("prefill", "decode") if d["split"] and d["policy"] != "long_context" else ("serve",)
    pools = tuple(
        PoolConfig(replica=c, replicas=d["replicas"], ranks=d["ranks"], role=r, inside=d["inside"]) for r in roles
    )
    if d["policy"] == "long_context":
        pools += (PoolConfig(replica=c, replicas=1, tier="mid"),)
    hosted = HostedConfig(
        ttft_p50_s=0.7, ttft_sigma=0.4, tokens_per_s_p50=60, tokens_per_s_sigma=0.2, rpm=d["rpm"], tpm=200_000,
        max_retries=3, availability_frac=d["availability"], outage_mean_s=5.0,
    )  # fmt: skip
    return Fleet(
        pools=pools,
        hosted=hosted,
        router=RouterPolicy(policy=d["policy"], balance=d["balance"], overflow_wait_s=0.5, long_context_tokens=400),
        faults=Faults(device_mtbf_s=15.0, repair_s=4.0, reload_s=1.0, maintenance_every_s=9.0, maintenance_s=2.0)
        if d["faults"]
        else None,
        autoscale=Autoscale(every_s=1.0, startup_s=2.0, scale_up_outstanding=4, scale_down_outstanding=1)
        if d["autoscale"] and d["balance"] != "per_seat"
        else None,
        kv_transfer_s_per_token=1e-5,
    )


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(FLEETS)
def test_nothing_is_lost_and_nothing_private_leaves(d: dict) -> None:
    made = with_sessions(d["seed"], 20, 4) if d["sessions"] else drawn(d["seed"], 120, d["rate"])
    requests = mixed(made, d["seed"])
    run = run_once(fleet_of(d), requests, seed=d["seed"], compiled=False)
    assert len(run.rq) == len(requests)
    assert not (run.rq[:, k.Q_STATUS] == k.STATUS_UNBORN).any()
    assert private_left(run) == 0
    private = requests.sensitivity == k.PRIVATE
    assert not run.rq[private, k.Q_ATTEMPTS].any()
    m = measure(run)
    done = m.done
    assert (m.ttft_s[done] > 0).all()
    assert (m.e2e_s[done] >= m.ttft_s[done] - 1e-9).all()
    assert (run.rq[run.rq[:, k.Q_STATUS] == k.STATUS_DONE, k.Q_OUTPUT] == m.output_tokens[done]).all()
    assert run.final.energy_j >= 0
    assert (run.final.busy_s <= run.final.up_s + 1e-6).all()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(FLEETS)
@pytest.mark.skipif(not available(), reason="numba is not installed")
def test_the_compiled_engine_gives_the_same_bits(d: dict) -> None:
    requests = mixed(with_sessions(d["seed"], 10, 4) if d["sessions"] else drawn(d["seed"], 80, d["rate"]), d["seed"])
    plain = run_once(fleet_of(d), requests, seed=d["seed"], compiled=False)
    fast = run_once(fleet_of(d), requests, seed=d["seed"], compiled=True)
    assert plain.rx.tobytes() == fast.rx.tobytes()
    assert plain.rq.tobytes() == fast.rq.tobytes()
    assert plain.final.energy_j == fast.final.energy_j
    assert (plain.final.gaps == fast.final.gaps).all()


@pytest.mark.parametrize("cache", [False, True])
def test_all_kv_blocks_are_free_again_after_faults(cache: bool) -> None:
    requests = mixed(with_sessions(3, 60, 5), 3)
    fleet = Fleet(
        pools=(PoolConfig(replica=replica(kv_blocks=120, prefix_cache=cache), replicas=3),),
        faults=Faults(device_mtbf_s=6.0, repair_s=2.0, reload_s=0.5, spares=1),
    )
    run = run_once(fleet, requests, compiled=False)
    assert run.events["failures"] > 3
    assert run.rq[:, k.Q_RESTARTS].sum() > 0
    assert (run.rq[:, k.Q_STATUS] == k.STATUS_DONE).all()
    assert (run.blocks_free == 120).all()


def test_replicas_share_the_room_for_cache_entries() -> None:
    requests = mixed(with_sessions(3, 60, 5), 3)
    small, large = (
        build(
            Fleet(pools=(PoolConfig(replica=replica(kv_blocks=100_000, prefix_cache=True), replicas=n),)), requests,
            compiled=True, ticks=0, tick_s=1.0, outages=np.zeros(0),
        )
        for n in (1, 101)
    )  # fmt: skip
    # A hundred caches of 100,000 blocks would take 50 million integers if each had room for entries of its own.
    assert len(large.st) - len(small.st) < 100 * 5_000


def test_every_gap_between_tokens_is_counted_once() -> None:
    requests = drawn(4, 300, 30.0)
    run = run_once(Fleet(pools=(PoolConfig(replica=replica(kv_blocks=100)),)), requests, compiled=False)
    assert run.rq[:, k.Q_PREEMPTIONS].sum() > 0
    assert run.final.gaps.sum() == (requests.output_tokens - 1).sum()


def test_same_seed_same_bytes_in_another_process_and_mode() -> None:
    code = (
        "import json,sys;from tests.serving.test_fleet import *;"
        "d=dict(policy='overflow',balance='prefix_affine',replicas=3,cache=True,chunked=True,kv_blocks=150,seqs=8,"
        "sessions=True,rate=10.0,rpm=60.0,availability=0.9,faults=True,autoscale=False,inside=True,split=False,ranks=1,"
        "drafts=3,seed=5);"
        "r=run_once(fleet_of(d),mixed(with_sessions(5),5),seed=5,compiled=sys.argv[1]=='compiled');"
        "import hashlib;print(json.dumps([hashlib.sha256(a.tobytes()).hexdigest() for a in (r.rx,r.rq,r.tick_times)]))"
    )
    modes = ["plain", "plain", *(["compiled", "compiled"] if available() else [])]
    commands = [[sys.executable, "-c", code, mode] for mode in modes]
    answers = {subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in commands}
    assert len(answers) == 1
    assert len(json.loads(answers.pop())) == 3


def test_private_requests_without_any_place_inside_are_refused_and_counted() -> None:
    requests = mixed(drawn(1, 100, 5.0), 1)
    hosted = HostedConfig(ttft_p50_s=1.0, tokens_per_s_p50=50)
    run = run_once(Fleet(hosted=hosted, router=RouterPolicy(policy="hosted_only")), requests)
    private = requests.sensitivity == k.PRIVATE
    assert (run.rq[private, k.Q_STATUS] == k.STATUS_REFUSED_PRIVATE).all()
    assert (run.rq[~private, k.Q_STATUS] == k.STATUS_DONE).all()
    assert private_left(run) == 0


def test_the_count_of_private_requests_that_left_is_not_always_zero() -> None:
    requests = mixed(drawn(1, 100, 5.0), 1)
    hosted = HostedConfig(ttft_p50_s=1.0, tokens_per_s_p50=50)
    router = RouterPolicy(policy="hosted_only", private_stays=False)
    run = run_once(Fleet(hosted=hosted, router=router), requests)
    assert private_left(run) == (requests.sensitivity == k.PRIVATE).sum()


def test_escalation_counts_the_failed_local_attempt() -> None:
    requests = replace_columns(drawn(2, 200, 2.0), sensitivity=np.zeros(200, dtype=np.int64), classes=(HARD,))
    hosted = HostedConfig(ttft_p50_s=1.0, tokens_per_s_p50=100)
    run = run_once(
        Fleet(
            pools=(PoolConfig(replica=replica(kv_blocks=4000)),), hosted=hosted, router=RouterPolicy(policy="escalate")
        ),
        requests,
    )
    hard = requests.uniform < 0.6
    m = measure(run)
    np.testing.assert_array_equal(run.rq[:, k.Q_SERVER] < 0, hard)
    local = run.rx[hard, k.F_LOCAL_S]
    assert (local > 0).all()
    expected = local + 1.0 + (requests.output_tokens[hard] - 1) / 100
    np.testing.assert_allclose(m.e2e_s[hard], expected, rtol=1e-9)
    np.testing.assert_array_equal(m.solved, np.where(hard, requests.uniform >= 0.1, True))


def test_rate_limit_lets_through_what_it_says() -> None:
    n = 600
    requests = open_loop(np.linspace(0, 60, n), np.full(n, 100), np.full(n, 10))
    hosted = HostedConfig(ttft_p50_s=0.5, tokens_per_s_p50=100, rpm=120, max_retries=0)
    run = run_once(Fleet(hosted=hosted, router=RouterPolicy(policy="hosted_only")), requests)
    served = (run.rq[:, k.Q_STATUS] == k.STATUS_DONE).sum()
    assert served == pytest.approx(120 + 120, abs=3)
    patient = HostedConfig(ttft_p50_s=0.5, tokens_per_s_p50=100, rpm=120, max_retries=30)
    run = run_once(Fleet(hosted=patient, router=RouterPolicy(policy="hosted_only")), requests)
    assert (run.rq[:, k.Q_STATUS] == k.STATUS_DONE).all()
    assert run.rq[:, k.Q_ATTEMPTS].max() > 2


def test_outages_come_to_the_stated_availability() -> None:
    from envelope.serving.control import draw_outages

    hosted = HostedConfig(ttft_p50_s=1, tokens_per_s_p50=50, availability_frac=0.95, outage_mean_s=600)
    shares = []
    for seed in range(40):
        spans = draw_outages(hosted, seed, 30 * 86_400.0).reshape(-1, 2)
        end = 30 * 86_400.0
        shares.append((np.minimum(spans[:, 1], end) - np.minimum(spans[:, 0], end)).sum() / end)
    assert np.mean(shares) == pytest.approx(0.05, rel=0.1)


def test_a_retired_snapshot_serves_nothing_afterwards() -> None:
    requests = open_loop(np.arange(100.0), np.full(100, 50), np.full(100, 5))
    hosted = HostedConfig(ttft_p50_s=0.1, tokens_per_s_p50=1000, retired_after_s=49.5)
    run = run_once(Fleet(hosted=hosted, router=RouterPolicy(policy="hosted_only")), requests)
    assert (run.rq[:50, k.Q_STATUS] == k.STATUS_DONE).all()
    assert (run.rq[50:, k.Q_STATUS] == k.STATUS_REFUSED_HOSTED).all()


def test_per_seat_devices_serve_their_own_user_alone() -> None:
    made = drawn(6, 200, 20.0)
    requests = replace_columns(made, seat=np.arange(200) % 5)
    fleet = Fleet(
        pools=(PoolConfig(replica=replica(batching="single"), replicas=5),), router=RouterPolicy(balance="per_seat")
    )
    run = run_once(fleet, requests)
    np.testing.assert_array_equal(run.rq[:, k.Q_SERVER], np.arange(200) % 5)


def test_a_failure_makes_everything_later_and_loses_nothing() -> None:
    requests = drawn(7, 400, 8.0)
    pools = (PoolConfig(replica=replica(kv_blocks=4000), replicas=2, devices_per_replica=8),)
    calm = run_once(Fleet(pools=pools), requests, seed=1)
    faults = Faults(device_mtbf_s=160.0, repair_s=10.0, reload_s=3.0)
    rough = run_once(Fleet(pools=pools, faults=faults), requests, seed=1)
    assert rough.events["failures"] > 0
    assert (rough.rq[:, k.Q_STATUS] == k.STATUS_DONE).all()
    assert np.nanmean(measure(rough).e2e_s) > np.nanmean(measure(calm).e2e_s)


def test_autoscaling_follows_the_load_and_saves_energy() -> None:
    requests = drawn(8, 1500, 10.0)
    pools = (PoolConfig(replica=replica(kv_blocks=4000), replicas=4),)
    fixed = run_once(Fleet(pools=pools), requests)
    rule = Autoscale(every_s=2.0, startup_s=5.0, scale_up_outstanding=8, scale_down_outstanding=2)
    scaled = run_once(Fleet(pools=pools, autoscale=rule), requests)
    assert scaled.events["scale_ups"] > 0
    assert (scaled.rq[:, k.Q_STATUS] == k.STATUS_DONE).all()
    assert scaled.ended.energy_j < fixed.ended.energy_j


def test_split_prefill_and_decode_pay_the_transfer_once() -> None:
    requests = open_loop(np.arange(20) * 10.0, np.full(20, 200), np.full(20, 30))
    c = replica(kv_blocks=4000)
    together = run_once(Fleet(pools=(PoolConfig(replica=c),)), requests)
    pools = (PoolConfig(replica=c, role="prefill", name="p"), PoolConfig(replica=c, role="decode", name="d"))
    apart = run_once(Fleet(pools=pools, kv_transfer_s_per_token=1e-3, kv_transfer_base_s=0.05), requests)
    np.testing.assert_allclose(apart.rx[:, k.F_FIRST], together.rx[:, k.F_FIRST], rtol=1e-9)
    np.testing.assert_allclose(apart.rx[:, k.F_FINISH], together.rx[:, k.F_FINISH] + 0.25, rtol=1e-9)


def test_a_workload_with_a_recorded_trace_replays_it(tmp_path: Path) -> None:
    rows = "\n".join(f"{i},100,10" for i in range(300))
    log = tmp_path / "log.csv"
    log.write_text("arrival_s,input_tokens,output_tokens\n" + rows)
    task = {"id": "chat", "preset": "chat", "sensitivity": {"private": 0.5, "public": 0.5}}
    work = validate(Workload, {"tasks": [task], "requests_per_day": 1, "trace": str(log)}, "w")
    fleet = Fleet(
        pools=(PoolConfig(replica=replica()),),
        hosted=HostedConfig(ttft_p50_s=1.0, tokens_per_s_p50=50),
        router=RouterPolicy(policy="by_sensitivity", leave_up_to="public"),
    )
    result = simulate(fleet, work, trace=read_log(log), seeds=2, warmup_frac=0.0)
    assert result.requests == 600
    assert result.overall.mean_input_tokens == 100
    assert result.hosted.requests == pytest.approx(300, abs=60)
    assert result.private_requests_left == 0
    assert json.loads(json.dumps(result.to_dict()))["completed"] == 600


def test_results_say_what_limits_the_fleet_and_add_up(tmp_path: Path) -> None:
    task = {"id": "chat", "preset": "chat", "sensitivity": {"private": 0.5, "public": 0.5}}
    work = validate(Workload, {"tasks": [task, {"id": "b", "preset": "summarisation"}], "requests_per_day": 10**6}, "w")
    fleet = Fleet(pools=(PoolConfig(replica=replica(kv_blocks=900), replicas=2),))
    table = tmp_path / "requests.csv"
    result = simulate(fleet, work, max_requests=2000, table=table)
    shares = result.bottleneck
    parts = (shares.compute_frac, shares.memory_frac, shares.communication_frac, shares.overhead_frac)
    assert sum(parts) == pytest.approx(1.0)
    queued = shares.queue_for_kv_frac + shares.queue_for_seqs_frac + shares.queue_for_tokens_frac
    assert 0.8 < queued <= 1.0 + 1e-9
    assert sum(c.offered for c in result.classes) == result.overall.offered == result.requests
    assert any("overloaded" in note for note in result.notes)
    assert len(table.read_text().splitlines()) == result.requests + 1
    assert len(result.timeline.t_s) == len(result.timeline.queue) > 200
    assert max(result.timeline.kv_used_frac) <= 1.0
    assert result.energy_j == pytest.approx(result.mean_power_w * result.window_s)


def test_overflow_sends_out_what_would_wait_and_only_that() -> None:
    requests = replace_columns(drawn(9, 600, 40.0), sensitivity=np.zeros(600, dtype=np.int64))
    hosted = HostedConfig(ttft_p50_s=0.5, tokens_per_s_p50=100)
    pools = (PoolConfig(replica=replica(max_num_seqs=4, kv_blocks=4000)),)
    alone = run_once(Fleet(pools=pools), requests)
    router = RouterPolicy(policy="overflow", overflow_wait_s=2.0)
    helped = run_once(Fleet(pools=pools, hosted=hosted, router=router), requests)
    spilled = (helped.rq[:, k.Q_FLAGS] & k.FLAG_SPILLED) > 0
    assert 0.2 < spilled.mean() < 0.95
    assert np.percentile(measure(helped).ttft_s, 95) < 0.2 * np.percentile(measure(alone).ttft_s, 95)
    calm = replace_columns(drawn(9, 100, 0.5), sensitivity=np.zeros(100, dtype=np.int64))
    quiet = run_once(Fleet(pools=pools, hosted=hosted, router=router), calm)
    assert not (quiet.rq[:, k.Q_FLAGS] & k.FLAG_SPILLED).any()


def test_an_overloaded_private_request_waits_where_others_go_out() -> None:
    requests = replace_columns(drawn(9, 600, 40.0), sensitivity=np.arange(600) % 2 * k.PRIVATE)
    fleet = Fleet(
        pools=(PoolConfig(replica=replica(max_num_seqs=4, kv_blocks=4000)),),
        hosted=HostedConfig(ttft_p50_s=0.5, tokens_per_s_p50=100),
        router=RouterPolicy(policy="overflow", overflow_wait_s=1.0),
    )
    m = measure(run_once(fleet, requests))
    private = m.sensitivity == k.PRIVATE
    assert not m.hosted[private].any()
    assert m.done.all()
    assert ((m.flags[private] & k.FLAG_DEGRADED) > 0).any()
    assert m.ttft_s[private].mean() > m.ttft_s[~private].mean()


def test_long_prompts_go_to_the_second_pool() -> None:
    requests = drawn(10, 200, 5.0)
    pools = tuple(PoolConfig(replica=replica(kv_blocks=4000), name=n) for n in ("dense", "sparse"))
    run = run_once(Fleet(pools=pools, router=RouterPolicy(policy="long_context", long_context_tokens=300)), requests)
    np.testing.assert_array_equal(run.rq[:, k.Q_SERVER], requests.input_tokens > 300)


def test_requests_too_long_for_the_kv_cache_are_refused_and_counted() -> None:
    requests = open_loop(np.arange(4.0), np.array([100, 10_000, 100, 100]), np.full(4, 10))
    run = run_once(Fleet(pools=(PoolConfig(replica=replica(kv_blocks=50)),)), requests)
    assert list(run.rq[:, k.Q_STATUS] == k.STATUS_REFUSED_LENGTH) == [False, True, False, False]
    assert private_left(run) == 0


def test_a_power_cut_stops_everything_and_everything_is_served_after_it() -> None:
    requests = drawn(11, 500, 5.0)
    faults = Faults(power_cuts_per_year=2 * 31_557_600 / 100, power_cut_s=10.0, reload_s=5.0)
    fleet = Fleet(pools=(PoolConfig(replica=replica(kv_blocks=4000), replicas=2),), faults=faults)
    run = run_once(fleet, requests, seed=3)
    assert run.events["power_cuts"] >= 1
    assert (run.rq[:, k.Q_FLAGS] & k.FLAG_PARKED).any()
    assert (run.rq[:, k.Q_STATUS] == k.STATUS_DONE).all()
    assert run.final.up_s.max() < run.final.time_s - 10
    at, begun, ended = run.tick_times[:, :1], run.rx[:, k.F_ARRIVAL], run.rx[:, k.F_FINISH]
    inside = ((begun <= at) & (at < ended)).sum(axis=1)
    assert (run.ticks[:, 0] + run.ticks[:, 1] == inside).all(), "those that wait for any replica are in the queue too"


def test_maintenance_loses_no_running_request() -> None:
    requests = drawn(12, 500, 5.0)
    faults = Faults(maintenance_every_s=20.0, maintenance_s=5.0)
    run = run_once(Fleet(pools=(PoolConfig(replica=replica(kv_blocks=4000), replicas=2),), faults=faults), requests)
    assert run.events["maintenances"] >= 4
    assert run.rq[:, k.Q_RESTARTS].sum() == 0
    assert (run.rq[:, k.Q_STATUS] == k.STATUS_DONE).all()


def test_a_spare_shortens_the_gap_of_a_failure() -> None:
    requests = drawn(13, 400, 5.0)
    pools = (PoolConfig(replica=replica(kv_blocks=4000), replicas=2),)
    slow, quick = (
        run_once(Fleet(pools=pools, faults=Faults(device_mtbf_s=40.0, repair_s=60.0, reload_s=2.0, spares=n)), requests)
        for n in (0, 2)
    )
    assert quick.events["moves_to_spare"] > 0
    assert quick.final.up_s.sum() / quick.final.time_s > slow.final.up_s.sum() / slow.final.time_s


def test_replicas_are_off_in_the_night() -> None:
    n = 4000
    requests = open_loop(np.linspace(0, 4 * 3600.0, n), np.full(n, 200), np.full(n, 400))
    pools = (PoolConfig(replica=replica(kv_blocks=4000), replicas=3),)
    rule = dict(every_s=10.0, startup_s=20.0, scale_up_outstanding=0.2, scale_down_outstanding=0.0)
    day = run_once(Fleet(pools=pools, autoscale=Autoscale(**rule)), requests)
    night = run_once(
        Fleet(pools=pools, autoscale=Autoscale(**rule, off_hours=(22, 23), clock_start_s=22 * 3600.0)), requests
    )
    assert night.ended.up_s.sum() < day.ended.up_s.sum() - 2 * 2 * 3500.0
    assert (night.rq[:, k.Q_STATUS] == k.STATUS_DONE).all()
