"""What sizing combines: models, devices, formats, splits, settings, replicas and ways to pay for them."""

import itertools
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from envelope.errors import InputError, Problem, unknown_name
from envelope.perf.work import operators, param_counts
from envelope.provenance import Frozen
from envelope.spec.acquisition import RENTED
from envelope.spec.cloud import rental_price
from envelope.spec.deployment import EngineSettings, Parallelism, Pool
from envelope.spec.engine import DEFAULT_ENGINE, Engine
from envelope.spec.hardware import HardwareProfile, ServerProfile
from envelope.spec.load import load, load_all
from envelope.spec.model import Model
from envelope.spec.scenario import Acquisition, Candidate, Scenario

AcquisitionKind = Literal["purchase", "lease", "on_demand", "reserved_1y", "reserved_3y", "spot"]


class Grid(Frozen):
    """What is combined; every combination is one configuration."""

    models: tuple[str, ...] = Field(min_length=1)
    hardware: tuple[str, ...] = Field(min_length=1)
    tp: tuple[int, ...] = (1, 2, 4, 8)
    """Tensor parallelism; a mixture of experts is split by experts over the same devices."""
    replicas: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    weights: tuple[str, ...] = ("native",)
    kv: tuple[str, ...] = ("bf16",)
    engines: tuple[str, ...] = (DEFAULT_ENGINE,)
    max_num_batched_tokens: tuple[int | None, ...] = (None,)
    acquire: tuple[AcquisitionKind, ...] = ("purchase",)
    """Ways to pay for the devices; rented ones stand outside the building and need an offer in the catalog."""
    spare: int = Field(default=0, ge=0)
    """Replicas beyond those with which the constraints are kept: N + k failures."""


def configurations(grid: Grid) -> int:
    """Return how many configurations a grid holds."""
    sizes = (grid.models, grid.hardware, grid.tp, grid.replicas, grid.weights, grid.kv, grid.engines)
    count = len(grid.max_num_batched_tokens) * len(grid.acquire)
    for values in sizes:
        count *= len(values)
    return count


def grid_for(scenario: Scenario, candidate: str | None = None) -> Grid:
    """Return a grid around a candidate's first pool (by default the first with servers), all its fields to be replaced.

    Raises ``InputError`` for an unknown candidate and for one without devices.
    """
    known = {c.id: c for c in scenario.candidates}
    if candidate is not None and candidate not in known:
        raise unknown_name("command line", "--candidate", candidate, known, "scenarios")
    # Laptops are as many as seats: there is nothing to size, so a candidate with servers is the better start.
    served = [c for c in scenario.candidates if c.pools and c.pools[0].role != "seat"]
    chosen = known[candidate] if candidate else next(iter(served), None)
    if chosen is None or not chosen.pools:
        raise InputError(Problem("command line", "--candidate", candidate, "has no devices to size"))
    pool = chosen.pools[0]
    weights = tuple(dict.fromkeys((pool.weights, "native")))
    engine = load(Engine, "engines", pool.engine, file=chosen.id, path="pools.engine")
    kv = tuple(dict.fromkeys((pool.kv, *engine.sizing_kv)))
    return Grid(
        models=(pool.model,), hardware=(pool.hardware,), weights=weights, kv=kv, engines=(pool.engine,),
        acquire=("purchase", "reserved_1y", "on_demand"),
    )  # fmt: skip


def kinds_of(grid: Grid) -> Iterator[Candidate]:
    """Yield every combination of a grid with one replica each."""
    combined = itertools.product(
        grid.models,
        grid.hardware,
        grid.tp,
        grid.weights,
        grid.kv,
        grid.engines,
        grid.max_num_batched_tokens,
        grid.acquire,
    )
    for number, (model, hardware, tp, weights, kv, engine, tokens, kind) in enumerate(combined):
        pool = Pool(
            model=model, hardware=hardware, weights=weights, kv=kv, engine=engine, parallelism=_split(model, tp),
            settings=EngineSettings(max_num_batched_tokens=tokens),
        )  # fmt: skip
        more = f", {tokens} tokens a step" if tokens else ""
        name = f"{model} {weights} (KV {kv}) on {tp} × {hardware}, {engine}{more}"
        rented = kind in RENTED
        paid = Acquisition(kind=kind, server=None if rented else _server(hardware, tp))
        yield Candidate(
            id=f"size-{number}", name=f"{name}, {_WORDS[kind]}" if kind != "purchase" else name, pools=(pool,),
            tier=_tier(model), acquisition=paid, on_premises=not rented,
        )  # fmt: skip


_WORDS = {
    "lease": "leased", "on_demand": "rented on demand", "spot": "rented on spot", "reserved_1y": "reserved for 1 year",
    "reserved_3y": "reserved for 3 years",
}  # fmt: skip


def is_offered(candidate: Candidate) -> bool:
    """Return whether somebody offers the devices in the way in which they are to be paid for."""
    how = candidate.acquisition
    if not how.is_rented:
        return True
    device = load(HardwareProfile, "hardware_profiles", candidate.pools[0].hardware, file="arguments", path="hardware")
    try:
        rental_price(device.id, how.kind, file="arguments", path="acquire")  # type: ignore[arg-type]
    except InputError:
        return False
    return True


def _split(model: str, tp: int) -> Parallelism:
    experts = operators(load(Model, "models", model, file="arguments", path="models")).experts
    fits = bool(experts) and all(e.n_routed % tp == 0 for e in experts)
    return Parallelism(tp=tp, ep=tp if fits else 1)


def _tier(model: str) -> str:
    total = param_counts(load(Model, "models", model, file="arguments", path="models")).total
    return "small" if total < _MID_PARAMS else "mid"


_MID_PARAMS = 2e10
"""Parameters from which a model counts as of the middle tier, as the tiers are described in scenarios."""


def _server(hardware: str, tp: int) -> str | None:
    """Return the smallest server with a price that holds such devices, or ``None`` to buy the devices alone."""
    known = load(HardwareProfile, "hardware_profiles", hardware, file="arguments", path="hardware")
    servers = [s for s in load_all(ServerProfile, "servers") if s.device == known.id and s.price is not None]
    fitting = [s for s in servers if s.device_count >= tp] or servers
    return min(fitting, key=lambda s: (s.device_count, s.id)).id if fitting else None
