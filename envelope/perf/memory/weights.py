"""Bytes of the weights on each device: what tensor parallelism splits and copies, pipeline stages, offloaded layers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from envelope.perf.memory.offload import offload_fracs
from envelope.perf.operators import Experts, Operators
from envelope.perf.replica import ReplicaSpec
from envelope.perf.work import mtp_operators, operators
from envelope.spec.memory_rules import WidthPadding

BODY = "body"


@dataclass(frozen=True, slots=True)
class StageWeights:
    """Weights of one device of one pipeline stage, and of the host memory behind it."""

    body_bytes: float
    """Layers of the stage, encoders and draft layers where they stand on it."""
    ends_bytes: float
    """Token embedding of the first stage, head of the last."""
    host_bytes: float
    last: bool
    """Whether it samples."""

    @property
    def device_bytes(self) -> float:
        """All that stands on the device."""
        return self.body_bytes + self.ends_bytes


def stage_weights(replica: ReplicaSpec) -> tuple[StageWeights, ...]:
    """Return the weights of the first and the last pipeline stage, of the only one without pipeline parallelism.

    The layers of a model are taken as cut into equal shares; where they do not divide, stages hold a layer more.
    """
    model, par, rules = replica.model, replica.parallelism, replica.rules
    dense, experts = _layer_bytes(replica, operators(model))
    embed, head = _ends(replica)
    layers_off, experts_off = offload_fracs(replica)
    host = (experts + dense) * layers_off + experts * (1 - layers_off) * experts_off
    body = dense + experts - host
    share = math.ceil(model.layers / par.pp) / model.layers if par.pp > 1 else 1.0
    beside = _encoders(replica) + rules.loading_bytes
    if rules.embedding_on_host and not model.tie_embeddings and replica.host_memory is not None:
        host, embed = host + embed, 0.0
    if par.pp == 1:
        return (StageWeights(body + beside + _draft(replica), embed + head, host, last=True),)
    shared = embed or head  # a tied table stands on both ends
    first = StageWeights(body * share + beside, shared, host * share, last=False)
    return first, StageWeights(body * share + _draft(replica), head, host * share, last=True)


def device_weight_bytes(replica: ReplicaSpec) -> tuple[float, float]:
    """Return (bytes on the device, bytes in host memory) of weights per device, the fullest device counting."""
    fullest = max(stage_weights(replica), key=lambda stage: stage.device_bytes)
    return fullest.device_bytes, fullest.host_bytes


def _layer_bytes(replica: ReplicaSpec, work: Operators) -> tuple[float, float]:
    """Return the bytes of all layers on one device, without and of the routed experts: heads split, the rest copied."""
    par = replica.parallelism
    split = sum(n * replica.format_of(part).bytes_per_weight / tp for part, n, tp in _tensors(replica, work))
    experts = sum(_expert_params(replica, e) for e in work.experts)
    return split, experts * replica.format_of("routed_experts").bytes_per_weight / (par.tp * par.dp)


def _tensors(replica: ReplicaSpec, work: Operators) -> Iterator[tuple[str, float, int]]:
    """Yield tensor class, parameters and devices that share them, of everything but experts and the ends."""
    tp = replica.parallelism.tp
    for x in work.linears:
        if x.part != "lm_head":
            yield x.part, x.params, 1 if x.split == "none" else tp
    for part, count in work.vectors.items():
        if part not in ("embed", "lm_head"):
            yield part, count, 1


def _expert_params(replica: ReplicaSpec, experts: Experts) -> float:
    """Return the parameters of the experts at the widths that the kernel stores."""
    rule = _padding(replica)
    if rule is None:
        return float(experts.params)
    tp = replica.parallelism.tp
    ffn = math.ceil(experts.ffn / tp / rule.ffn_multiple) * rule.ffn_multiple * tp
    hidden = math.ceil(experts.hidden / rule.hidden_multiple) * rule.hidden_multiple
    return experts.params * (ffn / experts.ffn) * (hidden / experts.hidden)


def _padding(replica: ReplicaSpec) -> WidthPadding | None:
    name, hardware = replica.format_of("routed_experts").id, replica.hardware.architecture
    rules = replica.rules.padding
    return next((r for r in rules if r.number_format == name and hardware in r.architectures), None)


def _ends(replica: ReplicaSpec) -> tuple[float, float]:
    """Return the bytes of the token embedding and of the head on one device; a tied table is the head's."""
    work, tp = operators(replica.model), replica.parallelism.tp
    embed = work.vectors.get("embed", 0) * replica.format_of("embed").bytes_per_weight
    heads = sum(x.params for x in work.linears if x.part == "lm_head") + work.vectors.get("lm_head", 0)
    return embed / tp, heads * replica.format_of("lm_head").bytes_per_weight / tp


def _encoders(replica: ReplicaSpec) -> float:
    """Return the bytes of image and audio encoders on one device, in 16 bits, split as the layers are."""
    if not replica.rules.loads_encoders or replica.settings.text_only:
        return 0.0
    return 2.0 * replica.model.encoder_params / replica.parallelism.tp


def _draft(replica: ReplicaSpec) -> float:
    """Return the bytes of what drafts tokens on one device: the model's own MTP layers, or a stated draft model."""
    settings = replica.settings
    if settings.draft_weight_bytes is not None:
        return settings.draft_weight_bytes / replica.parallelism.tp
    work = mtp_operators(replica.model) if settings.draft_tokens else None
    return sum(_layer_bytes(replica, work)) if work is not None else 0.0
