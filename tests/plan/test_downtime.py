"""Downtime equals closed forms of repairable systems, and counts the headroom of a fleet."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import null_space

from envelope.perf.memory import fit
from envelope.perf.replica import resolve
from envelope.plan.case.case import case_of
from envelope.plan.case.scenarios import load_scenario
from envelope.plan.compare import compare
from envelope.plan.service.busiest import simulate_peak
from envelope.plan.service.downtime import default_faults, lost_load_frac, saturated_s_per_request
from envelope.serving.fleet import Faults
from envelope.units import HOURS_PER_YEAR

HOUR_S = 3600.0


def birth_and_death(replicas: int, rate: float, repair: float) -> np.ndarray:
    """Return P(k up) of a continuous-time Markov chain in which each machine fails and is repaired on its own."""
    q = np.zeros((replicas + 1, replicas + 1))
    for up in range(replicas + 1):
        if up > 0:
            q[up, up - 1] = up * rate
        if up < replicas:
            q[up, up + 1] = (replicas - up) * repair
        q[up, up] = -q[up].sum()
    steady = null_space(q.T)[:, 0]
    return np.asarray(steady / steady.sum())


@pytest.mark.parametrize(("replicas", "load"), [(1, 1.0), (4, 4.0), (4, 2.5), (8, 7.0)])
def test_the_lost_share_is_that_of_the_markov_chain(replicas: int, load: float) -> None:
    faults = Faults(device_mtbf_s=100 * HOUR_S, repair_s=8 * HOUR_S, reload_s=0.0)
    up = birth_and_death(replicas, 1 / 100, 1 / 8)
    lost = sum(p * max(load - k, 0.0) for k, p in enumerate(up)) / load
    short = sum(p for k, p in enumerate(up) if k < load)
    assert lost_load_frac(replicas, faults, 1, [load]) == pytest.approx((lost, short), rel=1e-9)


def test_a_fleet_at_its_limit_loses_what_each_replica_loses() -> None:
    # With no headroom the lost share is the unavailability of one, however many there are: q = λT / (1 + λT).
    faults = Faults(device_mtbf_s=1000 * HOUR_S, repair_s=10 * HOUR_S, reload_s=0.0)
    q = 0.01 / 1.01
    for replicas in (1, 8, 64):
        lost, short = lost_load_frac(replicas, faults, 1, [float(replicas)])
        assert lost == pytest.approx(q)
        assert short == pytest.approx(1 - (1 - q) ** replicas)


def test_headroom_takes_failures_up() -> None:
    faults = default_faults()
    lost = [lost_load_frac(8, faults, 4, [load])[0] for load in (8.0, 7.0, 6.0, 4.0)]
    assert lost == sorted(lost, reverse=True)
    assert lost[0] > 100 * lost[2]


def test_a_spare_takes_the_place_of_one_replica_in_repair() -> None:
    repairing, hard = 12 * HOUR_S, Faults(device_mtbf_s=1000 * HOUR_S, repair_s=12 * HOUR_S, reload_s=0.0)
    spared = Faults(device_mtbf_s=1000 * HOUR_S, repair_s=repairing, reload_s=0.0, spares=1)
    q = 0.012 / 1.012
    for faults, first in ((hard, 1), (spared, 2)):
        expected = sum(stats.binom.pmf(k, 5, q) * (k - first + 1) for k in range(first, 6)) / 5
        assert lost_load_frac(5, faults, 1, [5.0])[0] == pytest.approx(expected)


def test_power_cuts_and_maintenance_add_their_share_of_the_year() -> None:
    cut = Faults(power_cuts_per_year=2, power_cut_s=HOUR_S, reload_s=0.0)
    assert lost_load_frac(3, cut, 1, [2.0])[0] * HOURS_PER_YEAR == pytest.approx(2.0)
    upkeep = Faults(maintenance_every_s=100 * HOUR_S, maintenance_s=HOUR_S)
    assert lost_load_frac(1, upkeep, 1, [1.0])[0] == pytest.approx(0.01 / 1.01)


def test_quiet_hours_need_less_than_the_busiest() -> None:
    faults = default_faults()
    flat, curved = lost_load_frac(4, faults, 8, [4.0, 4.0])[0], lost_load_frac(4, faults, 8, [4.0, 0.5])[0]
    assert curved < flat
    assert lost_load_frac(4, faults, 8, [0.0])[0] == 0.0


@pytest.mark.parametrize(("prompt", "answer"), [(1024, 256), (4096, 128), (256, 1024)])
def test_a_full_replica_serves_one_request_in_the_time_that_the_estimate_says(prompt: int, answer: int) -> None:
    from envelope.perf.estimate import estimate

    replica = resolve(model="llama-3.1-8b", hardware="nvidia-h100-sxm-80gb")
    full = estimate(replica, prompt, answer, concurrency=replica.max_num_seqs)
    assert full.output_tokens_per_s is not None
    found = saturated_s_per_request(fit(replica), prompt, answer, 1.0)
    assert found == pytest.approx(answer / full.output_tokens_per_s, rel=0.25)


def test_the_verdict_counts_outages_by_the_capacity_that_the_busiest_hour_uses() -> None:
    tutor = load_scenario("math-tutor")
    result = compare(tutor, seeds=1, only=["own-gpt-oss-120b"]).candidates[0]
    bench = case_of(tutor, next(c for c in tutor.candidates if c.id == "own-gpt-oss-120b"))
    peak, pool = simulate_peak(bench, seeds=1).result, bench.candidate.pools[0]
    per_s = (peak.overall.completed - peak.overall.completed_hosted) / peak.window_s / peak.share_frac
    busy = saturated_s_per_request(
        bench.fits[0], peak.overall.mean_input_tokens, peak.overall.mean_output_tokens, 1 - peak.prefix_hit_frac
    )
    used = per_s * busy / pool.replicas
    assert 0 < used < peak.utilisation_frac
    weights = np.array(tutor.workload.hour_weights)
    loads = used * pool.replicas * weights / weights.max()
    lost, _ = lost_load_frac(pool.replicas, default_faults(), pool.parallelism.devices, list(loads))
    exposure = result.exposure("downtime")
    assert exposure is not None
    assert exposure.value == pytest.approx(lost * HOURS_PER_YEAR)
    assert f"{used:.0%}" in exposure.basis


def test_no_load_on_a_fleet_means_no_downtime_and_the_faults_are_finite() -> None:
    assert lost_load_frac(2, Faults(), 1, [2.0]) == (0.0, 0.0)
    faults = default_faults()
    assert math.isfinite(faults.device_mtbf_s)
    assert 0 < faults.restart_frac < 1
