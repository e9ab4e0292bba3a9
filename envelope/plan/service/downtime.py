"""Hours of a year without service: failures that take more than the headroom, and outages of the hosted API."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from envelope.identity import Same
from envelope.perf.memory import MemoryFit
from envelope.perf.steady import Loop, prefill_attention_s, step_s
from envelope.perf.step import compile_step
from envelope.plan.case.case import Case
from envelope.plan.service.busiest import Peak
from envelope.provenance import Evidence, weakest
from envelope.serving.fleet import Faults
from envelope.serving.result import SimulationResult
from envelope.spec.economic_facts import facts
from envelope.units import HOURS_PER_YEAR, SECONDS_PER_YEAR

_HOUR_S = 3600.0
_USED = ("mtbf_gpu_all_causes", "repair_time_vendor", "recovery_restart", "soft_failure_share")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Downtime:
    """How long a user is without service in a year, and why."""

    hours_per_year: float
    """Share of the requests that find no capacity, times the hours of a year."""
    short_hours_per_year: float
    """Hours in which any capacity that the load needs is missing, however little."""
    basis: str
    evidence: Evidence


def downtime(case: Case, peak: Peak) -> Downtime:
    """Return the hours of a year without service for a user, after its simulation.

    Rates of failure and repair are the scenario's own; without them those of the catalog hold.
    """
    result = peak.result
    faults = replace(peak.fleet.faults or default_faults(), spares=case.operations.spares)
    offered = max(result.overall.offered, 1)
    hosted_frac = result.overall.completed_hosted / offered
    parts = [_local(case, result, faults)] if case.candidate.pools else []
    alone = not case.candidate.pools
    if case.hosted is not None and (alone or hosted_frac > 0):
        frac = case.hosted.availability.frac
        out = (1.0 - frac) * HOURS_PER_YEAR
        origin = case.hosted.source_of("availability")
        share = 1.0 if alone else hosted_frac
        parts.append(Downtime(out * share, out, f"the API answers {frac:.2%} of the time", origin.evidence))
    return Downtime(
        min(sum(part.hours_per_year for part in parts), HOURS_PER_YEAR),
        min(sum(part.short_hours_per_year for part in parts), HOURS_PER_YEAR),
        "; ".join(part.basis for part in parts),
        weakest(part.evidence for part in parts),
    )


def default_faults() -> Faults:
    """Return failures and repairs as the catalog has them: Llama 3's training fleet, most cured by a restart."""
    known = {name: facts().defaults[name].value for name in _USED}
    return Faults(
        device_mtbf_s=known["mtbf_gpu_all_causes"] * _HOUR_S, repair_s=known["repair_time_vendor"] * _HOUR_S,
        restart_frac=known["soft_failure_share"], reload_s=known["recovery_restart"] * _HOUR_S,
    )  # fmt: skip


def lost_load_frac(replicas: int, faults: Faults, devices: int, loads: Sequence[float]) -> tuple[float, float]:
    """Return the share of the work that finds no capacity, and the share of the time in which any is missing.

    ``loads`` is the work of each hour in units of one replica's capacity. With X of n replicas in repair, binomial
    with q = λ·T/(1 + λ·T), spares take the place of the first s, and each of the others restarts with probability
    b; up is what remains, and the loss of an hour is E[max(load − up, 0)]: expected unserved work, as power systems
    count it (R. Billinton, R. N. Allan, *Reliability Evaluation of Power Systems*, 1996, section 2.6).
    """
    up = _up_probabilities(replicas, faults, devices)
    # A fleet that is too small for the hour is a matter of its size, not of failures.
    work = np.minimum(np.asarray(loads, dtype=np.float64), replicas)
    short = np.maximum(work[:, None] - np.arange(replicas + 1)[None, :], 0.0)
    total = float(work.sum())
    lost = float((short @ up).sum()) / total if total > 0 else 0.0
    return lost, float(((short > 1e-9) @ up).mean())


@lru_cache(maxsize=1024)
def _up_probabilities(replicas: int, faults: Faults, devices: int) -> Floats:
    """Return the probability of each number of replicas in service, from none to all."""
    rate_per_s = devices / faults.device_mtbf_s + 1.0 / faults.node_mtbf_s
    hard, soft = rate_per_s * (1.0 - faults.restart_frac), rate_per_s * faults.restart_frac
    held = faults.repair_s if faults.spares else faults.repair_s + faults.reload_s
    repairing = hard * held / (1.0 + hard * held)
    away_s = soft * faults.reload_s + (hard * faults.reload_s if faults.spares else 0.0)
    away_s += faults.maintenance_s / faults.maintenance_every_s
    away = away_s / (1.0 + away_s)
    broken = _binomial(replicas, repairing)
    up = np.zeros(replicas + 1)
    for count, chance in enumerate(broken):
        standing = min(replicas, replicas - count + faults.spares)
        up[: standing + 1] += chance * _binomial(standing, 1.0 - away)
    cut = faults.power_cuts_per_year * (faults.power_cut_s + faults.reload_s) / SECONDS_PER_YEAR
    up *= 1.0 - min(cut, 1.0)
    up[0] += min(cut, 1.0)
    up.setflags(write=False)
    return up


def _binomial(trials: int, chance: float) -> Floats:
    """Return the probabilities of 0 to ``trials`` successes: C(n, k)·p^k·(1 − p)^(n − k), by logarithms."""
    from scipy.special import gammaln, xlog1py, xlogy  # scipy.stats would take a second to import

    k = np.arange(trials + 1)
    ways = gammaln(trials + 1) - gammaln(k + 1) - gammaln(trials - k + 1)
    chances: Floats = np.exp(ways + xlogy(k, chance) + xlog1py(trials - k, -chance))
    return chances


@lru_cache(maxsize=1024)
def _saturated_s(held: Same[MemoryFit], input_tokens: float, output_tokens: float, fresh_frac: float) -> float:
    memory = held.record
    replica = memory.replica
    tables = compile_step(replica)
    context = input_tokens + output_tokens / 2.0
    slots = 1 if replica.engine.batching == "single" else min(replica.max_num_seqs, tables.max_num_seqs)
    batch = float(max(1, min(memory.max_concurrency(context), slots)))
    per_token_s = float(tables.token_s[-1]) / (len(tables.token_s) - 1)
    fresh = input_tokens * fresh_frac
    prefill = fresh * per_token_s + prefill_attention_s(tables, input_tokens - fresh, input_tokens)
    loop = Loop(max(1, round(input_tokens)), max(1, round(output_tokens)), batch, replica.query_tokens)
    return prefill + output_tokens / replica.tokens_per_step * step_s(tables, loop, batch, context) / batch


def saturated_s_per_request(memory: MemoryFit, input_tokens: float, output_tokens: float, fresh_frac: float) -> float:
    """Return the time of a full replica per mean request: what one request takes away from its capacity.

    The fresh part of the prompt at the token rate of a full step, and its answer's steps shared by a full batch.
    """
    return _saturated_s(Same(memory), input_tokens, output_tokens, fresh_frac)


def _local(case: Case, result: SimulationResult, assumed: Faults) -> Downtime:
    """Return what failures of the local replicas take away; a seat depends on its own device alone."""
    known = facts().defaults
    if case.candidate.pools[0].role == "seat":
        hours = known["laptop_failure"].value * known["repair_time_vendor"].value
        share, repair = known["laptop_failure"].value, known["repair_time_vendor"].value
        text = f"{share:.0%} of the devices fail in a year and are repaired in {repair:g} hours"
        return Downtime(hours, hours, text, known["laptop_failure"].evidence)
    weights = np.array(case.scenario.workload.hour_weights)
    lost = short = 0.0
    used = [capacity_used_frac(position, case, result) for position in range(len(case.candidate.pools))]
    for index, pool in enumerate(case.candidate.pools):
        # Power is cut once for all pools.
        own = assumed if index == 0 else replace(assumed, power_cuts_per_year=0.0)
        parts = lost_load_frac(
            pool.replicas, own, pool.parallelism.devices, pool.replicas * used[index] * weights / weights.max()
        )
        lost, short = lost + parts[0], short + parts[1]
    mean = assumed.restart_frac * assumed.reload_s + (1 - assumed.restart_frac) * assumed.repair_s
    text = (
        f"a device fails every {assumed.device_mtbf_s / _HOUR_S:,.0f} hours for {mean / _HOUR_S:.1f} hours on average; "
        f"{case.candidate.pools[0].replicas} replicas, of whose capacity the simulated load uses {used[0]:.0%}"
    )
    return Downtime(
        lost * HOURS_PER_YEAR, min(short, 1.0) * HOURS_PER_YEAR, text, weakest(known[name].evidence for name in _USED)
    )


def capacity_used_frac(position: int, case: Case, result: SimulationResult) -> float:
    """Return the share of the capacity of one of the pools that the simulated load uses.

    The share of the time for which replicas are busy overstates it, since a batch has room for more; what the
    requests would take of full batches cannot exceed it.
    """
    pool, overall = case.candidate.pools[position], result.overall
    served = overall.completed - overall.completed_hosted
    if served <= 0:
        return 0.0
    rate = served / len(result.seeds) / result.window_s / result.share_frac
    sharing = sum(1 for other in case.candidate.pools if other.role == pool.role)
    prompt, answer = max(overall.mean_input_tokens, 1.0), max(overall.mean_output_tokens, 1.0)
    fresh = 1.0 - result.prefix_hit_frac
    if pool.role == "prefill":
        answer = 1.0
    elif pool.role == "decode":
        fresh = 0.0
    busy_s = saturated_s_per_request(case.fits[position], prompt, answer, fresh)
    return float(min(rate * busy_s / (pool.replicas * sharing), result.utilisation_frac, 1.0))
