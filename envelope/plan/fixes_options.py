"""Elementary changes that may mend one broken constraint: of the deployment, or of the limit itself."""

import math
from collections.abc import Iterator

from envelope.plan.fixes_path import applied
from envelope.plan.fleet import resolve_bench
from envelope.plan.results import CandidateResult, Change, ConstraintResult
from envelope.spec.deployment import Pool
from envelope.spec.engine import Engine
from envelope.spec.hardware import ServerProfile
from envelope.spec.hosted import HostedModel
from envelope.spec.load import load, load_all
from envelope.spec.scenario import Candidate, Scenario

Option = tuple[Change, ...]

_SERVED = {"slo_attainment", "served", "growth"}
_API_TERMS = {"pinned_model", "data_terms", "region"}
_WEIGHT_STEPS = ("bf16", "fp8", "awq-int4", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m")
_CONTEXT_STEPS = (98_304, 65_536, 49_152, 32_768, 16_384, 8_192)
_SAME_CLASS = 2.0
"""Factor on the price of an output token within which another API is taken to be of the same class."""


def deployment_options(scenario: Scenario, candidate: Candidate, broken: ConstraintResult) -> Iterator[Option]:
    """Yield changes of the deployment that may mend a constraint, except for the number of replicas."""
    where = f"candidates[{candidate.id}]"
    if broken.id == "privacy" and candidate.pools:
        yield from _moved_inside(candidate, where)
    elif broken.id in _API_TERMS:
        yield from _other_apis(scenario, candidate, where)
    elif broken.id == "solved":
        yield from _escalations(scenario, candidate, where)
    elif broken.id in _SERVED:
        yield from _lighter(candidate, where)
        yield from _wider(candidate, where)
    elif broken.id in {"power", "rack_space", "staff", "budget", "offline", "privacy"} or "." in broken.id:
        return
    else:
        yield from _runnable(scenario, candidate, where)


def limit_options(original: Scenario, broken: ConstraintResult) -> Iterator[Option]:
    """Yield concessions: a limit of the original scenario moved just as far as this candidate needs it."""
    rules, value = original.constraints, broken.value
    flags = {
        "privacy": ("private_stays", False, "if private requests may leave the building"),
        "offline": ("offline", False, "if a network may be relied on"),
        "pinned_model": ("pinned_model", False, "if the model may change at the provider's will"),
        "data_terms": ("hosted_may_train", True, "if the provider may train on the requests"),
        "region": ("hosted_regions", (), "if requests may be processed anywhere"),
    }
    if broken.id in flags:
        name, new, text = flags[broken.id]
        yield (_limit(name, new, text),)
    elif value is None:
        return
    elif broken.id in {"slo_attainment", "growth", "served", "solved"}:
        name = {"served": "served_min_frac", "solved": "solved_min_frac"}.get(broken.id, "slo_attainment_min_frac")
        new = math.floor(value * 1000) / 1000
        old = getattr(rules, name)
        what = {"served": "served", "solved": "solved"}.get(broken.id, "within their SLO")
        yield (_limit(name, new, f"{new:.1%} {what} instead of {old:.1%}"),)
    elif broken.id == "budget":
        new = _up(value)
        yield (_limit("budget_usd", new, f"a budget of ${new:,.0f} instead of ${rules.budget_usd or 0:,.0f}"),)
    elif broken.id == "power":
        new = _up(value)
        yield (
            _limit(
                "max_power_w", new, f"power of {new / 1e3:.1f} kW instead of {(rules.max_power_w or 0) / 1e3:.1f} kW"
            ),
        )
    elif broken.id == "staff":
        new = _up(value)
        yield (_limit("max_staff_fte", new, f"{new:g} people instead of {rules.max_staff_fte:g}"),)
    elif broken.id == "rack_space":
        yield (_limit("max_rack_units", value, f"{value:g} rack units instead of {rules.max_rack_units:g}"),)


def slo_option(scenario: Scenario, result: CandidateResult, factor: float) -> Option:
    """Return the limits of the task classes that miss the attainment asked for, ``factor`` times as long."""
    wanted = scenario.constraints.slo_attainment_min_frac
    classes = result.service.classes if result.service else ()
    missed = {c.id for c in classes if c.slo_attainment_frac is not None and c.slo_attainment_frac < wanted}
    changes = []
    for task in scenario.workload.tasks:
        for name in ("ttft_s", "tpot_s", "e2e_s"):
            old = getattr(task.slo, name)
            if task.id in missed and old is not None:
                new = _up(old * factor)
                text = f"{name.removesuffix('_s').upper()} of {task.id} {new:g} s instead of {old:g} s"
                path = f"workload.tasks[{task.id}].slo.{name}"
                changes.append(Change(path=path, value=new, text=text, concession=True))
    return tuple(changes)


def replica_option(candidate: Candidate, count: int) -> Option:
    """Return the first pool with another number of replicas."""
    pool = candidate.pools[0]
    devices = pool.parallelism.devices
    text = f"{count} replicas ({count * devices} devices) instead of {pool.replicas} ({pool.devices})"
    return (Change(path=f"candidates[{candidate.id}].pools[0].replicas", value=count, text=text),)


def _limit(name: str, value: object, text: str) -> Change:
    return Change(path=f"constraints.{name}", value=value, text=text, concession=True)


def _up(value: float) -> float:
    """Return a value rounded up to three digits."""
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return round(math.ceil(value / step - 1e-9) * step, 10)


def _moved_inside(candidate: Candidate, where: str) -> Iterator[Option]:
    device = candidate.pools[0].hardware
    servers = [s for s in load_all(ServerProfile, "servers") if s.device == device and s.price is not None]
    server = max(servers, key=lambda s: s.device_count).id if servers else None
    acquisition = {"kind": "purchase", "server": server}
    yield (
        Change(path=f"{where}.on_premises", value=True, text="the devices in the building"),
        Change(path=f"{where}.acquisition", value=acquisition, text="bought instead of rented"),
    )


def _other_apis(scenario: Scenario, candidate: Candidate, where: str) -> Iterator[Option]:
    """Yield hosted models of about the same price, the nearest first; the caller tries their terms."""
    assert candidate.hosted is not None
    now = load(HostedModel, "hosted", candidate.hosted.api, file=candidate.id, path="hosted.api")
    regions, months = set(scenario.constraints.hosted_regions), scenario.economics.horizon_months
    found = []
    for other in load_all(HostedModel, "hosted"):
        if other.weights != now.weights:
            continue
        ratio = _output_usd(other) / max(_output_usd(now), 1e-12)
        keeps = not regions or bool(regions & set(other.data.regions))
        keeps = keeps and (scenario.constraints.hosted_may_train or other.data.trains_by_default is False)
        lasts = bool(other.lifecycle.pinned) and other.lifecycle.life_months >= months
        keeps = keeps and (lasts or not scenario.constraints.pinned_model)
        if keeps and other.id != now.id and 1 / _SAME_CLASS <= ratio <= _SAME_CLASS:
            found.append((other.provider != now.provider, abs(math.log(ratio)), other.id, other.name))
    for _, _, ident, name in sorted(found)[:3]:
        text = f"{name} instead of {now.name} (taken to be as able; its own evidence is needed)"
        yield (Change(path=f"{where}.hosted.api", value=ident, text=text),)


def _output_usd(api: HostedModel) -> float:
    return min(line.usd_per_mtok for line in api.tariff if line.kind == "output" and line.processing == "standard")


def _escalations(scenario: Scenario, candidate: Candidate, where: str) -> Iterator[Option]:
    """Yield hard tasks sent to an API that another candidate of the scenario uses."""
    if not candidate.pools or candidate.hosted is not None:
        return
    for other in scenario.candidates:
        if other.hosted is not None:
            text = f"hard tasks that may leave go to {other.hosted.api}"
            yield (
                Change(path=f"{where}.hosted", value=other.hosted.model_dump(), text=text),
                Change(path=f"{where}.routing", value={"policy": "escalate"}, text="escalation after failure"),
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
    return (("q8_0",) if pool.engine == "llama.cpp" else ("fp8",)) if wide else ()


def _lighter_weights(pool: Pool) -> tuple[str, ...]:
    own = {"llama.cpp": _WEIGHT_STEPS[3:]}.get(pool.engine, _WEIGHT_STEPS[1:3])
    return own[own.index(pool.weights) + 1 :] if pool.weights in own else own


def _wider(candidate: Candidate, where: str) -> Iterator[Option]:
    """Yield each first-pool replica over two, four or eight times the devices."""
    pool = candidate.pools[0] if candidate.pools else None
    if pool is None or pool.role == "seat":
        return
    for factor in (2, 4, 8):
        tp, ep = pool.parallelism.tp * factor, pool.parallelism.ep
        wider = pool.parallelism.model_copy(update={"tp": tp, "ep": ep * factor if ep > 1 else 1})
        text = f"each replica on {wider.devices} devices instead of {pool.parallelism.devices}"
        yield (Change(path=f"{where}.pools[0].parallelism", value=wider.model_dump(), text=text),)


def _runnable(scenario: Scenario, candidate: Candidate, where: str) -> Iterator[Option]:
    """Yield changes with which a candidate that cannot run at all does run (memory, engine, split)."""
    for option in (*_lighter(candidate, where), *_wider(candidate, where), *_contexts(candidate, where),
                   *_engines(candidate, where)):  # fmt: skip
        changed = applied(scenario, option)
        other = next(c for c in changed.candidates if c.id == candidate.id)
        if resolve_bench(changed, other).runs:
            yield option


def _contexts(candidate: Candidate, where: str) -> Iterator[Option]:
    for index, pool in enumerate(candidate.pools):
        now = pool.settings.max_context_tokens
        for tokens in _CONTEXT_STEPS:
            if now is None or tokens < now:
                was = f" instead of {now:,}" if now else ""
                text = f"a longest context of {tokens:,} tokens{was}"
                yield (Change(path=f"{where}.pools[{index}].settings.max_context_tokens", value=tokens, text=text),)


def _engines(candidate: Candidate, where: str) -> Iterator[Option]:
    for index, pool in enumerate(candidate.pools):
        for engine in load_all(Engine, "engines"):
            if engine.id != pool.engine:
                text = f"{engine.name} instead of {pool.engine}"
                yield (Change(path=f"{where}.pools[{index}].engine", value=engine.id, text=text),)
