"""Hours of a year without full service: failures of the devices, and outages of the hosted API."""

import math
from dataclasses import dataclass

from envelope.plan.fleet import Bench
from envelope.provenance import Evidence, weakest
from envelope.spec.economics import facts
from envelope.units import DAYS_PER_YEAR

HOURS_PER_YEAR = 24 * DAYS_PER_YEAR


@dataclass(frozen=True, slots=True)
class Downtime:
    """How long a user is without full service in a year, and why."""

    hours_per_year: float
    basis: str
    evidence: Evidence


def downtime(bench: Bench, *, utilisation_frac: float, hosted_frac: float) -> Downtime:
    """Return the hours of a year without full service for a user.

    ``utilisation_frac`` is the busy share of the local replicas in the busiest hour, ``hosted_frac`` the share of the
    requests that the hosted API answers.
    """
    parts = [_local(bench, utilisation_frac)] if bench.candidate.pools else []
    alone = not bench.candidate.pools
    if bench.hosted is not None and (alone or hosted_frac > 0):
        frac = bench.hosted.availability.frac
        out = (1.0 - frac) * HOURS_PER_YEAR * (1.0 if alone else hosted_frac)
        origin = bench.hosted.source_of("availability")
        parts.append(Downtime(out, f"the API answers {frac:.2%} of the time", origin.evidence))
    return Downtime(
        sum(part.hours_per_year for part in parts),
        "; ".join(part.basis for part in parts),
        weakest(part.evidence for part in parts),
    )


def _local(bench: Bench, utilisation_frac: float) -> Downtime:
    """Return the hours in which fewer replicas work than the busiest hour needs.

    With u the share of time for which one replica is down, P(more than n − m of n are down), binomial; m is n times
    the replicas' busy share, rounded up. Failures of a device by the rate that Llama 3's training saw, most of which
    a restart cures. A seat depends on its own device alone.
    """
    from scipy.stats import binom  # slow to import, and not every command needs it

    known = facts().defaults
    repair, restart = known["repair_time_vendor"].value, known["recovery_restart"].value
    if bench.candidate.pools[0].role == "seat":
        rate = known["laptop_failure"].value
        text = f"{rate:.0%} of the devices fail in a year and are repaired in {repair:g} hours"
        return Downtime(rate * repair, text, known["laptop_failure"].evidence)
    soft = known["soft_failure_share"].value
    outage = soft * restart + (1 - soft) * repair
    total = 0.0
    for pool in bench.candidate.pools:
        down = pool.parallelism.devices * outage / known["mtbf_gpu_all_causes"].value
        down /= 1 + down
        needed = max(1, math.ceil(pool.replicas * utilisation_frac - 1e-9))
        total += HOURS_PER_YEAR * float(binom.sf(pool.replicas - needed, pool.replicas, down))
    text = (
        f"a device fails every {known['mtbf_gpu_all_causes'].value:,.0f} hours for {outage:.1f} hours on average; "
        f"{bench.candidate.pools[0].replicas} replicas"
    )
    used = ("mtbf_gpu_all_causes", "repair_time_vendor", "recovery_restart", "soft_failure_share")
    return Downtime(min(total, HOURS_PER_YEAR), text, weakest(known[name].evidence for name in used))
