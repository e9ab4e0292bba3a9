"""Hard constraints: each is one function that says whether a candidate keeps it, by how much, and the fix."""

from dataclasses import dataclass

from envelope.money.drivers import DEVICES_PER_NODE
from envelope.perf.checks import Reason
from envelope.plan.case.case import Case
from envelope.plan.case.paid import Share
from envelope.plan.rules.gates import gate_constraint, gates_of
from envelope.plan.rules.ledger import ledger_constraints
from envelope.plan.rules.licence_terms import licence_constraint
from envelope.plan.rules.rule import ConstraintResult
from envelope.spec.economic_facts import facts as economic_facts
from envelope.spec.hosted import HostedModel
from envelope.spec.licence import Licence
from envelope.spec.load import load
from envelope.spec.model import Model
from envelope.spec.scenario import Candidate, Scenario


@dataclass(frozen=True, slots=True)
class Facts:
    """What the constraints of one candidate look at."""

    scenario: Scenario
    candidate: Candidate
    shares: list[Share]
    """Its machines by how they are paid for, spares among them."""
    models: tuple[Model, ...]
    licences: tuple[Licence, ...]
    hosted: HostedModel | None
    reasons: tuple[Reason, ...]
    """Why a pool cannot run at all (memory, engine, context, parallelism)."""
    device_max_w: float
    private_frac: float
    """Share of the requests that are private."""


def static_rules(case: Case) -> list[ConstraintResult]:
    """Return the rules that need no simulation: limits of the site, privacy, licences, terms, gates."""
    hard = [status for status in gates_of(case.scenario, case.candidate) if status.hard]
    return static_constraints(facts_of(case)) + [gate_constraint(status) for status in hard]


def facts_of(case: Case) -> Facts:
    """Return what the rules look at in a case."""
    models = tuple({r.model.id: r.model for r in case.replicas}.values())
    where = f"{case.scenario.id}: candidate {case.candidate.id}"
    return Facts(
        scenario=case.scenario,
        candidate=case.candidate,
        shares=case.shares,
        models=models,
        licences=tuple(load(Licence, "licences", m.licence, file=where, path="licence") for m in models),
        hosted=case.hosted,
        reasons=case.reasons,
        device_max_w=case.max_w,
        private_frac=case.private_frac,
    )


def static_constraints(facts: Facts) -> list[ConstraintResult]:
    """Return the constraints that need no simulation."""
    found = [_runs(facts), _privacy(facts), _offline(facts), _pinned(facts), _hosted_terms(facts), _region(facts)]
    found += [
        licence_constraint(facts.scenario, facts.candidate, m, x)
        for m, x in zip(facts.models, facts.licences, strict=True)
    ]
    found += [_power(facts), _cooling(facts), _liquid(facts), _rack(facts), _staff(facts)]
    rules = facts.scenario.constraints.ledger
    if rules is not None:
        found += ledger_constraints(rules, facts.models, facts.scenario.economics.start)
    return [c for c in found if c is not None]


def _runs(facts: Facts) -> ConstraintResult | None:
    if not facts.candidate.pools:
        return None
    blocking = [r for r in facts.reasons if r.blocks]
    if not blocking:
        return ConstraintResult(id="memory", satisfied=True, explanation="weights and KV cache fit the devices")
    first = blocking[0]
    return ConstraintResult(
        id="memory" if first.rule in {"weights_fit", "one_sequence_fits", "offload_fits"} else first.rule,
        satisfied=False,
        margin_frac=-1.0,
        explanation="; ".join(r.text for r in blocking),
        fix=first.fix or None,
    )


def _privacy(facts: Facts) -> ConstraintResult | None:
    if not facts.scenario.constraints.private_stays or facts.private_frac == 0:
        return None
    inside = _inside(facts.candidate)
    share = f"{facts.private_frac:.0%} of the requests are private"
    if inside:
        return ConstraintResult(
            id="privacy", satisfied=True, value=0.0, limit=0.0, unit="private requests",
            explanation=f"{share} and are served inside the building only",
        )  # fmt: skip
    where = "rented devices stand outside the building" if facts.candidate.pools else "the API is outside the building"
    return ConstraintResult(
        id="privacy", satisfied=False, value=facts.private_frac, limit=0.0, unit="share of requests", margin_frac=-1.0,
        explanation=f"{share} and must not leave, but {where}",
        fix="put the devices into the building" if facts.candidate.pools else "add a local pool for private requests",
    )  # fmt: skip


def _offline(facts: Facts) -> ConstraintResult | None:
    if not facts.scenario.constraints.offline:
        return None
    seats = bool(facts.candidate.pools) and all(p.role == "seat" for p in facts.candidate.pools)
    needs = facts.hosted is not None and facts.candidate.route.policy == "hosted_only"
    if seats and not needs:
        return ConstraintResult(
            id="offline", satisfied=True, explanation="runs on the seat's own device without a network"
        )
    what = "a hosted API" if not facts.candidate.pools else "a server in a network"
    return ConstraintResult(
        id="offline", satisfied=False, margin_frac=-1.0, explanation=f"must work without a network, but needs {what}",
        fix="put a model on each seat's device",
    )  # fmt: skip


def _pinned(facts: Facts) -> ConstraintResult | None:
    if not facts.scenario.constraints.pinned_model:
        return None
    if facts.hosted is None:
        return ConstraintResult(
            id="pinned_model", satisfied=True, explanation="own weights change only when you change them"
        )
    life = facts.hosted.lifecycle
    horizon = facts.scenario.economics.horizon_months
    if life.pinned and life.life_months >= horizon:
        return ConstraintResult(
            id="pinned_model", satisfied=True, value=life.life_months, limit=horizon, unit="months",
            margin_frac=life.life_months / horizon - 1,
            explanation=f"the snapshot lives for {life.life_months:.0f} months",
        )  # fmt: skip
    how = "a pinned snapshot" if life.pinned else "a name without a pinned snapshot"
    return ConstraintResult(
        id="pinned_model", satisfied=False, value=life.life_months, limit=horizon, unit="months",
        margin_frac=min(life.life_months / horizon - 1, -0.01),
        explanation=(
            f"the model must not change in {horizon} months, but {facts.hosted.provider} sells {how} "
            f"that lives for about {life.life_months:.0f} months"
        ),
        fix="own the weights, or plan a re-validation at each change",
    )  # fmt: skip


def _hosted_terms(facts: Facts) -> ConstraintResult | None:
    if facts.hosted is None or facts.scenario.constraints.hosted_may_train:
        return None
    trains = facts.hosted.data.trains_by_default
    if trains is False:
        return ConstraintResult(
            id="data_terms", satisfied=True, explanation="the provider does not train on requests by default"
        )
    what = "trains on requests by default" if trains else "does not say whether it trains on requests"
    return ConstraintResult(
        id="data_terms", satisfied=False, margin_frac=-1.0, explanation=f"{facts.hosted.provider} {what}",
        fix="choose a provider that does not train, or agree on it by contract",
    )  # fmt: skip


def _region(facts: Facts) -> ConstraintResult | None:
    wanted = facts.scenario.constraints.hosted_regions
    if facts.hosted is None or not wanted:
        return None
    offered = facts.hosted.data.regions
    good = sorted(set(wanted) & set(offered))
    offered_text = ", ".join(offered) or "unknown regions"
    if good:
        return ConstraintResult(id="region", satisfied=True, explanation=f"processing can be kept in {', '.join(good)}")
    return ConstraintResult(
        id="region", satisfied=False, margin_frac=-1.0,
        explanation=f"requests must be processed in {', '.join(wanted)}, {facts.hosted.provider} offers {offered_text}",
        fix=f"choose a provider with processing in {', '.join(wanted)}",
    )  # fmt: skip


def _power(facts: Facts) -> ConstraintResult | None:
    return _watts(facts, "power", facts.scenario.constraints.max_power_w, "draws up to", "feed")


def _cooling(facts: Facts) -> ConstraintResult | None:
    """Return whether the site can take the heat away: every watt that the machines draw becomes heat."""
    return _watts(facts, "cooling", facts.scenario.constraints.max_cooling_w, "gives off up to", "cool")


def _watts(facts: Facts, ident: str, limit: float | None, does: str, provide: str) -> ConstraintResult | None:
    if limit is None or not _inside(facts.candidate):
        return None
    need = facts.device_max_w
    return ConstraintResult(
        id=ident, satisfied=need <= limit, value=need, limit=limit, unit="W", margin_frac=1 - need / limit,
        explanation=f"{does} {need / 1e3:.1f} kW of {limit / 1e3:.1f} kW",
        fix=None if need <= limit else f"{provide} {(need - limit) / 1e3:.1f} kW more, or use fewer devices",
    )  # fmt: skip


def _liquid(facts: Facts) -> ConstraintResult | None:
    if facts.scenario.constraints.liquid_cooling:
        return None
    named = [s.server for s in _housed(facts) if s.server is not None and s.server.liquid_cooled]
    if not named:
        return ConstraintResult(id="liquid_cooling", satisfied=True, explanation="no server needs a liquid loop")
    return ConstraintResult(
        id="liquid_cooling", satisfied=False, margin_frac=-1.0, explanation=f"{named[0].name} needs a liquid loop",
        fix="choose servers cooled by air, or lay a liquid loop",
    )  # fmt: skip


def _rack(facts: Facts) -> ConstraintResult | None:
    """Return whether the servers that stand inside find room; a device without a named server cannot be placed."""
    limit = facts.scenario.constraints.max_rack_units
    racked = [s for s in _housed(facts) if facts.candidate.pools[s.positions[0]].role != "seat"]
    if limit is None or not racked:
        return None
    if any(s.server is None or s.server.rack_units is None for s in racked):
        return ConstraintResult(
            id="rack_space", satisfied=False, limit=limit, unit="rack units", margin_frac=-1.0,
            explanation=f"rack units of the servers are not known; {limit:g} are free",
            fix="name a server with rack units under acquisition.server",
        )  # fmt: skip
    need = sum((s.server.rack_units or 0.0) * s.servers for s in racked if s.server is not None)
    return ConstraintResult(
        id="rack_space", satisfied=need <= limit, value=need, limit=limit, unit="rack units",
        margin_frac=1 - need / limit,
        explanation=f"needs {need:g} of {limit:g} rack units",
        fix=None if need <= limit else f"free {need - limit:g} rack units",
    )  # fmt: skip


def _inside(candidate: Candidate) -> bool:
    return any(candidate.is_inside(pool) for pool in candidate.pools)


def _housed(facts: Facts) -> list[Share]:
    """Return the machines that stand inside, by how they are paid for."""
    inside = [facts.candidate.is_inside(pool) for pool in facts.candidate.pools]
    return [s for s in facts.shares if any(inside[p] for p in s.positions)]


def _staff(facts: Facts) -> ConstraintResult | None:
    """Return whether there are people enough to run it, by the same planning values as the cost of staff."""
    limit = facts.scenario.constraints.max_staff_fte
    if limit is None:
        return None
    known, pools = economic_facts().defaults, facts.candidate.pools
    seats = any(pool.role == "seat" for pool in pools)
    nodes = sum(n for share in facts.shares for n in share.devices) / DEVICES_PER_NODE
    base = "fte_base_api" if not pools else "fte_seat_fleet" if seats else "fte_base_selfhost"
    need = known[base].value + (0.0 if seats else nodes * known["fte_per_node"].value)
    return ConstraintResult(
        id="staff", satisfied=need <= limit, value=need, limit=limit, unit="FTE", margin_frac=1 - need / limit,
        explanation=f"needs about {need:.2f} of {limit:g} people to run it",
    )  # fmt: skip
