"""Which shares of a model stand in host memory."""

from envelope.perf.replica import ReplicaSpec
from envelope.perf.work import operators


def offload_fracs(replica: ReplicaSpec) -> tuple[float, float]:
    """Return the shares of all layers, and of the remaining expert layers, that stand in host memory."""
    work = operators(replica.model)
    layers = min(replica.settings.offload_layers / work.layers, 1.0)
    expert_layers = sum(e.layers for e in work.experts)
    if expert_layers == 0 or layers >= 1.0:
        return layers, 0.0
    remaining = expert_layers * (1 - layers)
    return layers, min(replica.settings.offload_expert_layers / remaining, 1.0)
