"""The candidates of a scenario judged, with their cost models: what every page about costs starts from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from envelope.money.model import Model
from envelope.plan.case.scenarios import chosen_candidates
from envelope.plan.chain import Judged, Priced, judged
from envelope.plan.cost.unused import unused_inputs
from envelope.plan.cost.volume import Volume, volume_costs
from envelope.plan.service.prepare import prepare_for
from envelope.plan.verdict.choice import verdict
from envelope.plan.verdict.figures import candidate_result
from envelope.plan.verdict.results import Comparison
from envelope.spec.load import Reporter
from envelope.spec.scenario import Scenario


@dataclass(frozen=True, slots=True, eq=False)
class CostModels:
    """The candidates of a scenario with their cost models."""

    scenario: Scenario
    comparison: Comparison
    """The verdict on all of them."""
    judged: dict[str, Judged]
    """Those that can run."""
    left_out: dict[str, str]
    """Candidate → why it cannot run."""
    volumes: dict[str, Volume]
    """Cost models over factors of the planned demand by the capacity of the planned replicas, for break-even."""

    @property
    def models(self) -> dict[str, Model]:
        """The cost model of each at the planned demand."""
        return {ident: money(found).model for ident, found in self.judged.items()}

    @property
    def names(self) -> dict[str, str]:
        """Candidate → its name."""
        return {ident: found.case.candidate.name for ident, found in self.judged.items()}


def money(found: Judged) -> Priced:
    """Return the costs of a candidate that can run."""
    assert found.money is not None
    return found.money


def cost_models(
    scenario: Scenario,
    *,
    seeds: int | None = None,
    only: Sequence[str] | None = None,
    demand_factors: Sequence[float] = (),
    volumes: bool = True,
    progress: Reporter | None = None,
) -> CostModels:
    """Return the candidates of a scenario, judged as ``compare`` does, with their cost models.

    ``demand_factors`` are multiples of the planned demand that are simulated as well, each with the replicas that it
    takes; by default they span the range of ``demand_factor``, if it has one. Without them ``volumes`` says whether
    the capacity of the planned replicas is measured, for break-even above the planned demand.

    Candidates that cannot run (no memory, unsupported format …) are left out with the reason. Raises
    ``InputError`` for unknown names and missing prices.
    """
    chosen, tell = chosen_candidates(scenario, only), progress or _silent
    repeats = seeds or scenario.simulation.seeds
    prepare_for(scenario, chosen, runs=repeats + 1, tell=partial(tell, 0.0))
    found: dict[str, Judged] = {}
    left_out: dict[str, str] = {}
    results, by_volume = [], {}
    for index, candidate in enumerate(chosen):
        tick = partial(tell, index / len(chosen))
        one = judged(scenario, candidate, seeds=repeats, tick=tick, demand_factors=demand_factors)
        results.append(candidate_result(one))
        if one.money is None:
            left_out[candidate.id] = "; ".join(str(reason) for reason in one.case.reasons if reason.blocks)
            continue
        found[candidate.id] = one
        if volumes and one.money.surface is None:
            by_volume[candidate.id] = volume_costs(one, tick=tick)
    tell(1.0, "done")
    vain = unused_inputs(scenario.economics, [money(one).model for one in found.values()])
    return CostModels(scenario, verdict(scenario, results, vain), found, left_out, by_volume)


def _silent(_share: float, _what: str) -> None:
    return None
