"""Candidates that no other beats in both cost and latency."""

from envelope.plan.verdict.results import CandidateResult, Comparison


def undominated(result: Comparison) -> tuple[str, ...]:
    """Return the feasible candidates that no other feasible one beats or equals in cost and p95 time to the last token.

    Cheapest first; of equal ones the first stays.
    """
    found: list[CandidateResult] = []
    feasible = [c for c in result.candidates if c.feasible and c.cost_npv is not None and _latency_s(c) is not None]
    for candidate in sorted(feasible, key=lambda c: (c.cost_npv or 0.0, _latency_s(c) or 0.0)):
        if not found or (_latency_s(candidate) or 0.0) < (_latency_s(found[-1]) or 0.0):
            found.append(candidate)
    return tuple(c.id for c in found)


def _latency_s(candidate: CandidateResult) -> float | None:
    service = candidate.service
    return service.e2e.p95_s if service is not None and service.e2e is not None else None
