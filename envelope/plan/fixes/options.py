"""Elementary changes of a deployment that may mend one broken constraint."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from envelope.plan.case.paid import paid_shares
from envelope.plan.fixes.trials import Option
from envelope.plan.rules.rule import ConstraintResult
from envelope.plan.verdict.results import CandidateResult, Change
from envelope.spec.deployment import Pool
from envelope.spec.engine import Engine
from envelope.spec.hardware import ServerProfile
from envelope.spec.hosted import HostedModel
from envelope.spec.load import load, load_all
from envelope.spec.model import Model
from envelope.spec.scenario import Candidate, Scenario

SERVED = frozenset({"slo_attainment", "served", "growth"})
"""Constraints on how much a fleet carries."""

_API_TERMS = {"pinned_model", "data_terms", "region"}
_SITE = {"power", "cooling", "rack_space", "staff", "budget"}
_NO_DEPLOYMENT = {"offline", "liquid_cooling"}
_SAME_CLASS = 2.0
"""Factor on the price of an output token within which another API is taken to be of the same class."""
_MOST_TIMES = 8
_CONTEXT_STEP = 1024
_SHORTEST_CONTEXT = 2048
_NEAR_FRAC = 0.6
"""Share of the limit below which devices that are mostly idle are taken to be too slow for the work."""
_IDLE_FRAC = 0.5


@dataclass(frozen=True, slots=True)
class Scale:
    """A number that mends a constraint the better the further it moves from ``start`` to ``end``."""

    start: int
    end: int
    step: int
    make: Callable[[int], Option]


def levers(
    scenario: Scenario, candidate: Candidate, result: CandidateResult, broken: ConstraintResult
) -> Iterator[Option | Scale]:
    """Yield the changes of the deployment that may mend a constraint, the slight ones first."""
    where, head = f"candidates[{candidate.id}]", broken.id.split(".")[0]
    if broken.id == "privacy":
        yield from _moved_inside(candidate, where) if candidate.pools else _local_pools(scenario, candidate, where)
    elif broken.id in _API_TERMS:
        yield from _other_apis(scenario, candidate, where)
    elif broken.id == "solved":
        yield from _escalations(scenario, candidate, where)
        yield from _other_models(scenario, candidate, where)
    elif broken.id in SERVED:
        if not hopeless(result, broken):
            yield from _more_replicas(candidate, where)
            yield from _more_tokens(candidate, where)
            yield from _lighter(candidate, where)
            yield from _wider(candidate, where)
            yield from _higher_limits(candidate, where)
        else:
            yield from _other_models(scenario, candidate, where)
        yield from _longer(candidate, where)
        yield from _overflow(scenario, candidate, where)
    elif broken.id in _SITE:
        yield from _fewer_replicas(candidate, where)
        yield from _narrower(candidate, where)
    elif head in {"licence", "ledger", "evidence"}:
        yield from _other_models(scenario, candidate, where)
    elif broken.id not in _NO_DEPLOYMENT:
        yield from _lighter(candidate, where)
        yield from _wider(candidate, where)
        yield from _shorter(candidate, where)
        yield from _engines(candidate, where)


def hopeless(result: CandidateResult, broken: ConstraintResult) -> bool:
    """Return whether more or lighter replicas cannot mend a service level.

    Either what is not served is too long for the model, or the devices are far too slow although mostly idle.
    """
    service = result.service
    if service is None or not broken.limit:
        return False
    offered = max(sum(c.requests for c in service.classes), 1)
    too_long = sum(c.too_long_frac * c.requests for c in service.classes) / offered
    alone = broken.value is not None and result.devices >= 1 and broken.value < _NEAR_FRAC * broken.limit
    slow = alone and service.device_utilisation_frac is not None and service.device_utilisation_frac < _IDLE_FRAC
    return too_long > 1.0 - broken.limit or slow


def _more_replicas(candidate: Candidate, where: str) -> Iterator[Scale]:
    for index, pool in enumerate(candidate.pools):
        if pool.role != "seat":
            yield _replicas(where, index, pool, pool.replicas * _MOST_TIMES)


def _fewer_replicas(candidate: Candidate, where: str) -> Iterator[Scale]:
    for index, pool in enumerate(candidate.pools):
        if pool.role != "seat" and pool.replicas > 1:
            yield _replicas(where, index, pool, 1)


def _replicas(where: str, index: int, pool: Pool, end: int) -> Scale:
    devices = pool.parallelism.devices

    def make(count: int) -> Option:
        text = f"{count} replicas ({count * devices} devices) instead of {pool.replicas} ({pool.devices})"
        return (Change(path=f"{where}.pools[{index}].replicas", value=count, text=text),)

    return Scale(pool.replicas, end, 1, make)


def _shorter(candidate: Candidate, where: str) -> Iterator[Scale]:
    for index, pool in enumerate(candidate.pools):
        now = pool.settings.max_context_tokens or _own_context(pool)
        if now > _SHORTEST_CONTEXT:
            yield _context(where, index, now, _SHORTEST_CONTEXT)


def _longer(candidate: Candidate, where: str) -> Iterator[Scale]:
    for index, pool in enumerate(candidate.pools):
        now, most = pool.settings.max_context_tokens, _own_context(pool)
        if now is not None and now < most:
            yield _context(where, index, now, most)


def _own_context(pool: Pool) -> int:
    return load(Model, "models", pool.model, file="candidate", path="pools.model").max_context_tokens


def _engine(pool: Pool) -> Engine:
    return load(Engine, "engines", pool.engine, file="candidate", path="pools.engine")


def _context(where: str, index: int, now: int, end: int) -> Scale:
    def make(tokens: int) -> Option:
        text = f"a longest context of {tokens:,} tokens instead of {now:,}"
        return (Change(path=f"{where}.pools[{index}].settings.max_context_tokens", value=tokens, text=text),)

    return Scale(now, end, _CONTEXT_STEP, make)


def _more_tokens(candidate: Candidate, where: str) -> Iterator[Option]:
    """Yield larger and smaller steps: prefill in fewer steps, or answers that wait less for prompts."""
    for index, pool in enumerate(candidate.pools):
        now = pool.settings.max_num_batched_tokens
        for tokens in _engine(pool).step_tokens:
            if pool.role != "seat" and tokens != now:
                text = f"{tokens:,} tokens a step instead of " + (f"{now:,}" if now else "the engine's default")
                path = f"{where}.pools[{index}].settings.max_num_batched_tokens"
                yield (Change(path=path, value=tokens, text=text),)


def _moved_inside(candidate: Candidate, where: str) -> Iterator[Option]:
    device = candidate.pools[0].hardware
    servers = [s for s in load_all(ServerProfile, "servers") if s.device == device and s.price is not None]
    server = max(servers, key=lambda s: s.device_count).id if servers else None
    acquisition = {"kind": "purchase", "server": server}
    yield (
        Change(path=f"{where}.on_premises", value=True, text="the devices in the building"),
        Change(path=f"{where}.acquisition", value=acquisition, text="bought instead of rented"),
    )


def _local_pools(scenario: Scenario, candidate: Candidate, where: str) -> Iterator[Option]:
    """Yield pools of the scenario's other candidates that take the private requests of a hosted one."""
    for other in scenario.candidates:
        inside = other.pools and all(other.is_inside(p) for p in other.pools)
        if inside and other.id != candidate.id and len(paid_shares(other)) == 1:
            text = f"private requests go to {other.name}, the others to the API"
            yield (
                Change(path=f"{where}.pools", value=[p.model_dump() for p in other.pools], text=text),
                Change(path=f"{where}.acquisition", value=other.acquisition.model_dump(), text=""),
                Change(path=f"{where}.tier", value=other.tier, text=""),
                Change(path=f"{where}.routing", value={"policy": "by_sensitivity"}, text=""),
            )


def _other_apis(scenario: Scenario, candidate: Candidate, where: str) -> Iterator[Option]:
    """Yield hosted models of about the same price whose terms are kept, the nearest first."""
    assert candidate.hosted is not None
    now = load(HostedModel, "hosted", candidate.hosted.api, file=candidate.id, path="hosted.api")
    regions, months = set(scenario.constraints.hosted_regions), scenario.economics.horizon_months
    found = []
    for other in load_all(HostedModel, "hosted"):
        if other.weights != now.weights or other.id == now.id:
            continue
        ratio = _output_usd(other) / max(_output_usd(now), 1e-12)
        keeps = not regions or bool(regions & set(other.data.regions))
        keeps = keeps and (scenario.constraints.hosted_may_train or other.data.trains_by_default is False)
        lasts = bool(other.lifecycle.pinned) and other.lifecycle.life_months >= months
        keeps = keeps and (lasts or not scenario.constraints.pinned_model)
        if keeps and 1 / _SAME_CLASS <= ratio <= _SAME_CLASS:
            found.append((other.provider != now.provider, abs(math.log(ratio)), other.id, other.name))
    for _, _, ident, name in sorted(found)[:3]:
        text = f"{name} instead of {now.name} (taken to be as able; its own evidence is needed)"
        yield (Change(path=f"{where}.hosted.api", value=ident, text=text),)


def _output_usd(api: HostedModel) -> float:
    return min(line.usd_per_mtok for line in api.tariff if line.kind == "output" and line.processing == "standard")


def _escalations(scenario: Scenario, candidate: Candidate, where: str) -> Iterator[Option]:
    yield from _hybrids(scenario, candidate, where, "escalate", "hard tasks that may leave go to")


def _overflow(scenario: Scenario, candidate: Candidate, where: str) -> Iterator[Option]:
    yield from _hybrids(scenario, candidate, where, "overflow", "what may leave overflows to")


def _hybrids(scenario: Scenario, candidate: Candidate, where: str, policy: str, text: str) -> Iterator[Option]:
    """Yield the candidate with an API that another candidate of the scenario uses."""
    if not candidate.pools or candidate.hosted is not None:
        return
    for api in dict.fromkeys(c.hosted for c in scenario.candidates if c.hosted is not None):
        yield (
            Change(path=f"{where}.hosted", value=api.model_dump(), text=f"{text} {api.api}"),
            Change(path=f"{where}.routing", value={"policy": policy}, text=f"routing: {policy}"),
        )


def _other_models(scenario: Scenario, candidate: Candidate, where: str) -> Iterator[Option]:
    """Yield the models that other candidates of the scenario run, on this candidate's devices."""
    if len(candidate.pools) != 1:
        return
    seen = {candidate.pools[0].model}
    for other in scenario.candidates:
        for pool in other.pools[:1]:
            if pool.model in seen:
                continue
            seen.add(pool.model)
            weights = pool.weights if pool.engine == candidate.pools[0].engine else "native"
            yield (
                Change(
                    path=f"{where}.pools[0].model",
                    value=pool.model,
                    text=f"{pool.model} ({weights}, {other.tier} tier) instead of {candidate.pools[0].model}",
                ),
                Change(path=f"{where}.pools[0].weights", value=weights, text=""),
                Change(path=f"{where}.tier", value=other.tier, text=""),
            )


def _higher_limits(candidate: Candidate, where: str) -> Iterator[Option]:
    """Yield a larger contract with the provider."""
    if candidate.hosted is None:
        return
    api = load(HostedModel, "hosted", candidate.hosted.api, file=candidate.id, path="hosted.api")
    now = {n: getattr(candidate.hosted, n) or getattr(api.limits, n) for n in ("rpm", "tpm")}
    for factor in (2, 4, 10):
        raised = {n: int(v * factor) for n, v in now.items() if v}
        if raised:
            words = {"rpm": "requests", "tpm": "tokens"}
            yield tuple(
                Change(
                    path=f"{where}.hosted.{n}", value=v, text=f"{v:,} {words[n]} a minute instead of {int(now[n]):,}"
                )
                for n, v in raised.items()
            )


def _lighter(candidate: Candidate, where: str) -> Iterator[Option]:
    """Yield a smaller KV cache and smaller weights in every pool."""
    for index, pool in enumerate(candidate.pools):
        at = f"{where}.pools[{index}]"
        for kv in _lighter_kv(pool):
            yield (Change(path=f"{at}.kv", value=kv, text=f"KV cache in {kv} instead of {pool.kv}"),)
        for weights in _lighter_weights(pool):
            text = f"weights in {weights} instead of {pool.weights}"
            yield (Change(path=f"{at}.weights", value=weights, text=text),)


def _lighter_kv(pool: Pool) -> tuple[str, ...]:
    wide = pool.kv in {"bf16", "f16", "f32"}
    return _engine(pool).lighter_kv if wide else ()


def _lighter_weights(pool: Pool) -> tuple[str, ...]:
    own = _engine(pool).lighter_weights
    return own[own.index(pool.weights) + 1 :] if pool.weights in own else own


def _wider(candidate: Candidate, where: str) -> Iterator[Option]:
    """Yield each first-pool replica over two, four or eight times the devices."""
    if candidate.pools and candidate.pools[0].role != "seat":
        yield from (_split(candidate.pools[0], where, factor) for factor in (2, 4, 8))


def _narrower(candidate: Candidate, where: str) -> Iterator[Option]:
    if candidate.pools and candidate.pools[0].role != "seat":
        tp = candidate.pools[0].parallelism.tp
        yield from (_split(candidate.pools[0], where, 1 / f) for f in (2, 4, 8) if tp % f == 0)


def _split(pool: Pool, where: str, factor: float) -> Option:
    tp, ep = int(pool.parallelism.tp * factor), pool.parallelism.ep
    other = pool.parallelism.changed(tp=tp, ep=max(1, int(ep * factor)) if ep > 1 else 1)
    text = f"each replica on {other.devices} devices instead of {pool.parallelism.devices}"
    return (Change(path=f"{where}.pools[0].parallelism", value=other.model_dump(), text=text),)


def _engines(candidate: Candidate, where: str) -> Iterator[Option]:
    for index, pool in enumerate(candidate.pools):
        for engine in load_all(Engine, "engines"):
            if engine.id != pool.engine:
                text = f"{engine.name} instead of {pool.engine}"
                yield (Change(path=f"{where}.pools[{index}].engine", value=engine.id, text=text),)
