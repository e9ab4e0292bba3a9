"""What an engine needs beside weights and cache: buffers of a step and of sampling, captured graphs, its context."""

from dataclasses import dataclass

from envelope.perf.memory.blocks import COMPRESSED
from envelope.perf.operators import Experts
from envelope.perf.replica import ReplicaSpec
from envelope.perf.work import operators


@dataclass(frozen=True, slots=True)
class WorkingSet:
    """Bytes on one device."""

    activations_bytes: float
    """Peak of the largest step, or of sampling a full batch."""
    context_bytes: float
    """Driver context, libraries, communicators."""
    graphs_bytes: float
    """Captured graphs."""


def working_set(replica: ReplicaSpec, *, last_stage: bool) -> WorkingSet:
    """Return the working set of a device of the last pipeline stage, which samples, or of another one."""
    rules, par = replica.rules, replica.parallelism
    peak = _forward(replica)
    if last_stage:
        peak = max(peak, _sampling(replica))
    if any(a.kind in COMPRESSED for a in operators(replica.model).attentions):
        peak += rules.compressed_bytes
    joined = rules.collective_bytes if par.tp > 1 else 0.0
    layers = replica.model.layers / par.pp
    return WorkingSet(peak, rules.context_bytes + joined, rules.graph_bytes + rules.graph_bytes_per_layer * layers)


def _element_bytes(replica: ReplicaSpec) -> float:
    """Return the bytes of an activation: 2, or 4 where the model runs in fp32."""
    return max(2.0, replica.format_of("norm").bytes_per_weight)


def _buffer(replica: ReplicaSpec) -> float:
    """Return one hidden-state buffer of the largest step."""
    return replica.step_tokens * replica.model.hidden * _element_bytes(replica)


def _forward(replica: ReplicaSpec) -> float:
    """Return the peak within a layer: hidden states, the feed-forward network's inner width, the experts' workspace."""
    rules, tokens, par = replica.rules, replica.step_tokens, replica.parallelism
    buffers = rules.forward_buffers + (2.0 if par.pp > 1 else 0.0)  # stages also hold what they hand over
    inner = rules.ffn_buffers * tokens * _ffn_width(replica) / par.tp * _element_bytes(replica)
    logits = tokens * replica.model.vocab * 4.0 if rules.logits_every_token else 0.0
    mask = rules.mask_bytes_per_token_pair * tokens * replica.longest_tokens
    return buffers * _buffer(replica) + max(inner, _expert_workspace(replica)) + logits + mask


def _ffn_width(replica: ReplicaSpec) -> float:
    model = replica.model
    widths = [layer.ffn_width or (model.dense_ffn.width if model.dense_ffn else 0) for layer in model.layer_counts]
    return float(max(widths, default=0))


def _sampling(replica: ReplicaSpec) -> float:
    """Return the peak of sampling: logits of a full batch in several copies, and what the step before left alive.

    The copies are those of vLLM's dummy sampler run; ``sampler_bytes_per_logit`` includes the logits at 2 bytes.
    """
    rules = replica.rules
    cut = 0 < rules.whole_context_until_tokens < replica.longest_tokens
    if rules.sampler_bytes_per_logit == 0 or cut:
        return 0.0
    seqs = min(replica.rank_seqs, replica.step_tokens)
    per_logit = rules.sampler_bytes_per_logit + _element_bytes(replica) - 2.0
    encoders = replica.model.encoder_params > 0 and not replica.settings.text_only
    alive = rules.sampled_buffers + (rules.encoder_buffers if encoders else 0.0)
    kept = _expert_workspace(replica) if rules.keeps_expert_workspace else 0.0
    return per_logit * seqs * replica.model.vocab + alive * _buffer(replica) + kept


def _expert_workspace(replica: ReplicaSpec) -> float:
    """Return the two buffers of the fused expert kernels, each a row per token and chosen expert.

    vllm/model_executor/layers/fused_moe: workspaces of max(inner, hidden) and max(2·inner, hidden) elements a row.
    """
    if replica.format_of("routed_experts").id in replica.rules.fused_expert_formats:
        return 0.0
    rows = (_workspace_row(e, replica.parallelism.tp) * e.top_k for e in operators(replica.model).experts)
    return max(rows, default=0.0) * replica.step_tokens * _element_bytes(replica)


def _workspace_row(experts: Experts, tp: int) -> float:
    inner = experts.ffn / tp
    return max(inner, experts.hidden) + max((experts.matrices - 1) * inner, experts.hidden)
