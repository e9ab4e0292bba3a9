"""One run: from a changed scenario to one row of results."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import ValidationError

from envelope.errors import EnvelopeError
from envelope.plan.chain import judged
from envelope.plan.sweep.variants import Run
from envelope.plan.verdict.figures import candidate_result
from envelope.plan.verdict.results import CandidateResult
from envelope.provenance import Frozen
from envelope.spec.scenario import Scenario
from envelope.version import __version__


class Row(Frozen):
    """One candidate in one variant with one seed; figures are ``None`` where the candidate cannot run."""

    run: int
    """Number of the run, from 0."""
    variant: int
    """Number of the variant, from 0."""
    scenario: str
    candidate: str
    seed: int
    changes: dict[str, Any] = {}
    """Path → value that the variant changes; tables have one column for each."""
    status: Literal["done", "failed"]
    error: str | None = None
    """Why the run failed."""
    feasible: bool | None = None
    """Whether every constraint holds."""
    binding: str | None = None
    """Broken constraint furthest from its limit or, if feasible, the one closest to it."""
    broken: str = ""
    """Constraints that do not hold, separated by spaces."""
    slo_attainment_frac: float | None = None
    served_frac: float | None = None
    solved_frac: float | None = None
    ttft_p50_s: float | None = None
    ttft_p95_s: float | None = None
    itl_p95_s: float | None = None
    e2e_p50_s: float | None = None
    e2e_p95_s: float | None = None
    hosted_frac: float | None = None
    refused_frac: float | None = None
    device_utilisation_frac: float | None = None
    peak_requests_per_s: float | None = None
    requests_simulated: int | None = None
    cost_npv_usd: float | None = None
    """Expected present value of all payments."""
    cost_p10_usd: float | None = None
    cost_p90_usd: float | None = None
    """One case of ten costs less, one of ten more."""
    signature_usd: float | None = None
    """Cash at signature."""
    total_usd: float | None = None
    """Nominal sum of all payments."""
    usd_per_request: float | None = None
    usd_per_solved_task: float | None = None
    usd_per_mtok: float | None = None
    energy_kwh_per_year: float | None = None
    power_max_w: float | None = None
    devices: int | None = None
    private_requests_left: int | None = None
    requests_left_per_year: float | None = None
    evidence: str | None = None
    """Weakest link behind the figures."""
    input_hash: str = ""
    """Hash of the changed scenario, the candidate, the seed and all data files: equal hashes, equal figures."""
    version: str = __version__
    data_version: str = ""
    """Hash of all data files behind the figures."""


def run_row(scenario: Scenario, run: Run, data: str) -> Row:
    """Return the row of one run; what goes wrong in it is recorded in the row and never raised.

    ``data`` is the hash of the data files, which takes longer to check than a short run.
    """
    row = Row(
        run=run.index, variant=run.variant, scenario=scenario.id, candidate=run.candidate, seed=run.seed,
        changes=dict(run.changes), status="failed", data_version=data,
    )  # fmt: skip
    try:
        changed = scenario.replace(run.changes) if run.changes else scenario
        simulation = changed.simulation.changed(seed=run.seed, seeds=1)
        candidate = next(c for c in changed.candidates if c.id == run.candidate)
        changed = changed.changed(simulation=simulation, candidates=(candidate,))
        row = row.changed(input_hash=input_hash(changed, data))
        found = candidate_result(judged(changed, candidate, seeds=1))
        return Row.model_validate({**row.model_dump(), "status": "done", **_figures(found)})
    except Exception as error:  # a sweep of thousands must not end with one of them
        return row.changed(error=_words(error))


def input_hash(scenario: Scenario, data: str) -> str:
    """Return a hash of everything that the figures of a scenario with one candidate rest on."""
    text = json.dumps(scenario.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(f"{__version__}\0{data}\0{text}".encode()).hexdigest()[:16]


def _words(error: Exception) -> str:
    if isinstance(error, EnvelopeError):
        return str(error)
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
    return f"{type(error).__name__}: {error}"


def _figures(found: CandidateResult) -> dict[str, Any]:
    """Return the figures of a row from a candidate's result."""
    broken = [constraint.id for constraint in found.constraints if not constraint.satisfied]
    figures: dict[str, Any] = {
        "feasible": found.feasible,
        "binding": found.binding,
        "broken": " ".join(broken),
        "solved_frac": found.solved_frac,
        **_money(found),
        "devices": found.devices,
        "power_max_w": found.power_max_w,
        "evidence": found.evidence.value,
    }
    if found.service is None:
        return figures
    service = found.service
    same = ("slo_attainment_frac", "served_frac", "hosted_frac", "refused_frac", "device_utilisation_frac")
    figures |= _taken(service, (*same, "peak_requests_per_s", "requests_simulated"))
    for name, spread in (("ttft", service.ttft), ("itl", service.itl), ("e2e", service.e2e)):
        if spread is not None:
            figures |= {f"{name}_p50_s": spread.p50_s, f"{name}_p95_s": spread.p95_s}
    figures.pop("itl_p50_s", None)
    money = ("usd_per_request", "usd_per_solved_task", "usd_per_mtok", "energy_kwh_per_year")
    return figures | _taken(found, (*money, "private_requests_left", "requests_left_per_year"))


def _money(found: CandidateResult) -> dict[str, Any]:
    cost = found.cost
    if cost is None:
        return {}
    return {
        "cost_npv_usd": cost.expected_npv_usd,
        "cost_p10_usd": cost.p10_npv_usd,
        "cost_p90_usd": cost.p90_npv_usd,
        "signature_usd": cost.signature_usd,
        "total_usd": cost.total_usd,
    }


def _taken(record: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}
