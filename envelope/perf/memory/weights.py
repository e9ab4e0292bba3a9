"""Bytes of the weights on each device: what tensor parallelism splits and copies, pipeline stages, offloaded layers."""

import math
from dataclasses import dataclass

from envelope.perf.memory.offload import offload_fracs
from envelope.perf.operators import Experts, Operators
from envelope.perf.params import QUANTISED
from envelope.perf.replica import ReplicaSpec
from envelope.perf.work import encoder_bytes, mtp_operators, operators
from envelope.spec.hardware import HardwareProfile
from envelope.spec.memory_rules import WidthPadding

ENDS = ("embed", "lm_head")
"""Tensor classes that stand on the first and last stage."""


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
    hardware: HardwareProfile
    layers_frac: float
    """Share of the model's layers."""

    @property
    def device_bytes(self) -> float:
        """All that stands on the device."""
        return self.body_bytes + self.ends_bytes


def stage_weights(replica: ReplicaSpec) -> tuple[StageWeights, ...]:
    """Return the weights of each pipeline stage, of the only one without pipeline parallelism.

    Unless stated, the layers of a model are taken as cut into equal shares; where they do not divide, stages hold a
    layer more.
    """
    model, par, rules = replica.model, replica.parallelism, replica.rules
    dense, experts = _layer_bytes(replica, operators(model))
    embed, head = _ends(replica)
    layers_off, experts_off = offload_fracs(replica)
    host = (experts + dense) * layers_off + experts * (1 - layers_off) * experts_off
    body = dense + experts - host
    beside = _encoders(replica) + _rope_tables(replica) + rules.loading_bytes
    if rules.embedding_on_host and not model.tie_embeddings and replica.host_memory is not None:
        host, embed = host + embed, 0.0
    devices = replica.stage_hardware or (replica.hardware,) * par.pp
    if par.pp == 1:
        return (StageWeights(body + beside + _draft(replica), embed + head, host, True, devices[0], 1.0),)
    even = math.ceil(model.layers / par.pp)
    stages = []
    for at, layers in enumerate(replica.settings.stage_layers or (even,) * par.pp):
        first, last, share = at == 0, at == par.pp - 1, layers / model.layers
        more = (beside if first else 0.0) + (_draft(replica) if last else 0.0)
        ends = (embed or head) if first else head if last else 0.0  # a tied table stands on both ends
        stages.append(StageWeights(body * share + more, ends, host * share, last, devices[at], share))
    return tuple(stages)


def device_weight_bytes(replica: ReplicaSpec) -> tuple[float, float]:
    """Return (bytes on the device, bytes in host memory) of weights per device, the fullest device counting."""
    fullest = max(stage_weights(replica), key=lambda stage: stage.device_bytes)
    return fullest.device_bytes, fullest.host_bytes


def _layer_bytes(replica: ReplicaSpec, work: Operators) -> tuple[float, float]:
    """Return the bytes of all layers on one device, without and of the routed experts: heads split, the rest copied."""
    par = replica.parallelism
    wide = replica.format_of("norm").bytes_per_weight
    dense = 0.0
    for x in work.linears:
        if x.part != "lm_head":
            dense += x.params * _weight_bytes(replica, x.part, x.name) / (1 if x.split == "none" else par.tp)
    for part, count in work.vectors.items():
        if part not in ENDS:
            dense += count * (wide if part in QUANTISED else _weight_bytes(replica, part))
    matrices = sum(_padded(replica, e) * (e.params - e.bias_params) for e in work.experts)
    experts = matrices * _weight_bytes(replica, "routed_experts") + wide * sum(e.bias_params for e in work.experts)
    return dense, experts / (par.tp * par.dp)


def _weight_bytes(replica: ReplicaSpec, part: str, projection: str = "") -> float:
    """Return the bytes of a weight of a tensor class or projection, in the mean over the formats of its layers."""
    return sum(share * f.bytes_per_weight for f, share in replica.formats_of(part, projection))


def _padded(replica: ReplicaSpec, experts: Experts) -> float:
    """Return by how much the widths that the kernel stores exceed the experts' own."""
    rule = _padding(replica)
    if rule is None:
        return 1.0
    tp = replica.parallelism.tp
    ffn = math.ceil(experts.ffn / tp / rule.ffn_multiple) * rule.ffn_multiple * tp
    hidden = math.ceil(experts.hidden / rule.hidden_multiple) * rule.hidden_multiple
    return (ffn / experts.ffn) * (hidden / experts.hidden)


def _padding(replica: ReplicaSpec) -> WidthPadding | None:
    name, hardware = replica.format_of("routed_experts").id, replica.hardware.architecture
    rules = replica.rules.padding
    return next((r for r in rules if r.number_format == name and hardware in r.architectures), None)


def _ends(replica: ReplicaSpec) -> tuple[float, float]:
    """Return the bytes of the token embedding and of the head on one device; a tied table is the head's."""
    work, tp = operators(replica.model), replica.parallelism.tp
    embed = work.vectors.get("embed", 0) * _weight_bytes(replica, "embed")
    heads = sum(x.params for x in work.linears if x.part == "lm_head") + work.vectors.get("lm_head", 0)
    return embed / tp, heads * _weight_bytes(replica, "lm_head") / tp


def _encoders(replica: ReplicaSpec) -> float:
    """Return the bytes of image and audio encoders on one device, split as the layers are."""
    if not replica.rules.loads_encoders or replica.settings.text_only:
        return 0.0
    return encoder_bytes(replica.model, replica.formats) / replica.parallelism.tp


def _rope_tables(replica: ReplicaSpec) -> float:
    """Return the bytes of rotary tables: one for each width and kind of window, whatever the parallelism.

    Linear scaling of a rope, which lengthens its table (Gemma 3), is not known here.
    """
    if not replica.rules.rope_tables:
        return 0.0
    found = [a for a in operators(replica.model).attentions if a.kind != "linear"]
    ropes = {(a.window_tokens is None, a.rope_elems or (a.latent[1] if a.latent else a.qk_dim)) for a in found}
    return sum(2.0 * width * replica.model.max_context_tokens for _, width in ropes)


def _draft(replica: ReplicaSpec) -> float:
    """Return the bytes of what drafts tokens on one device: the model's own MTP layers, or a stated draft model."""
    settings = replica.settings
    if settings.draft_weight_bytes is not None:
        return settings.draft_weight_bytes / replica.parallelism.tp
    work = mtp_operators(replica.model) if settings.draft_tokens else None
    return sum(_layer_bytes(replica, work)) if work is not None else 0.0
