"""The operators of one step with their costs over a grid of token counts, on the busiest device."""

from dataclasses import dataclass, replace

import numpy as np

from envelope.perf.comms import Fabric, all_reduce_s, all_to_all_s, hand_over_s
from envelope.perf.efficiency import Chosen, format_keys, peak_flop_per_s, pick
from envelope.perf.gemm import gemm_cost
from envelope.perf.memory import offload_fracs
from envelope.perf.moe import ExpertShare, experts_cost
from envelope.perf.replica import ReplicaSpec
from envelope.perf.roofline import Floats, OpCost, communication_cost, roofline_cost
from envelope.perf.work import Experts, Linear, Operators, operators
from envelope.spec.number_format import NumberFormat

HOST_FLOP_PER_S = 6e11
"""What a desktop's or server share's CPU reaches in offloaded layers (a judgement: 16 cores of AVX2)."""
HOST_FRAC = 0.6
"""Share of the host memory's bandwidth that CPU kernels reach in offloaded layers (a judgement)."""
LINK_FRAC = 0.8
"""Share of the host link's rate that streamed weights reach (a judgement; PCIe's own framing takes a tenth)."""
STREAMED_FRAC = 0.4
"""Share of the peak that products reach whose weights have just been streamed in (a judgement)."""
UNKNOWN_HOST_FRAC = 0.25
"""Host memory bandwidth over the device's where no host memory is described (a judgement)."""
LOGIT_BYTES, SAMPLING_PASSES = 4.0, 4.0
"""Logits are fp32 and read or written four times: written, penalised, softmax, draw (a count of the kernels)."""
SAMPLING_FRAC = 0.6
"""Share of the memory bandwidth that these kernels reach (a judgement: rows of the vocabulary, few sequences)."""
HIDDEN_BYTES, ELEMENTWISE_PASSES = 2.0, 16.0
"""Norms, residuals, rotary embedding and activation read and write the bf16 hidden state about 16 times a layer."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A replica with the numbers that every operator needs."""

    replica: ReplicaSpec
    work: Operators
    net: Fabric
    units: float
    bandwidth_bytes_per_s: float

    @property
    def lanes(self) -> float:
        """Micro-batches that a step is cut into: one per pipeline stage, fewer where stages wait for each other."""
        return 1.0 + (self.replica.parallelism.pp - 1) * self.replica.engine.pipeline_overlap_frac

    def curve(self, op: str, number_format: NumberFormat) -> tuple[Chosen, float]:
        """Return the constants of ``op`` for a format and the peak that its compute share refers to."""
        hardware = self.replica.hardware
        chosen = self.calibrated(pick(hardware, self.replica.engine, op, format_keys(number_format)))
        peak, _ = peak_flop_per_s(hardware, chosen.peak or number_format.compute)
        return _within_power(chosen, peak, hardware.power.max_w), peak

    def calibrated(self, chosen: Chosen) -> Chosen:
        """Return the constants as the engine was calibrated on this device, if it was."""
        scale = self.replica.engine.kernel_scale_by_device.get(self.replica.hardware.id, 1.0)
        return chosen if scale == 1.0 or chosen.form == "power" else chosen.slowed(scale)


def _within_power(chosen: Chosen, peak_flop_per_s: float, limit_w: float) -> Chosen:
    """Return the constants with the share of the peak that the power limit sustains.

    Datasheet peaks hold at boost clock; a curve may give ``flop_per_j``, what its kernels reach per joule, and a
    large chip under a small limit then runs below its clock: eff_c = min(eff_c, flop_per_j · limit / peak).
    """
    per_joule = chosen["flop_per_j"]
    share = per_joule * limit_w / peak_flop_per_s
    if per_joule <= 0 or share >= chosen["eff_c"]:
        return chosen
    return replace(chosen, constants={**chosen.constants, "eff_c": share})


def bench(replica: ReplicaSpec) -> Bench:
    """Return the numbers of a replica that every operator needs."""
    hardware = replica.hardware
    return Bench(
        replica=replica,
        work=operators(replica.model),
        net=replica.fabric,
        units=float(hardware.units or 64),
        bandwidth_bytes_per_s=hardware.device_memory.bandwidth_bytes_per_s,
    )


def token_costs(b: Bench, tokens: Floats) -> list[OpCost]:
    """Return the costs that depend on the number of tokens in a step alone.

    Data-parallel ranks and pipeline micro-batches each see their share of the tokens; routed experts see all
    tokens of their group.
    """
    par = b.replica.parallelism
    group = np.maximum(tokens / b.lanes, 1.0)
    local = np.maximum(group / par.dp, 1.0)
    return _with_offload(b, _layer_costs(b, group) + _communication(b, local, group), local)


def _layer_costs(b: Bench, group: Floats) -> list[OpCost]:
    """Return what the layers cost on the busiest device for the tokens of a group, without communication."""
    local = np.maximum(group / b.replica.parallelism.dp, 1.0)
    found = [cost for linear in b.work.linears if linear.tokens == "all" for cost in _linear(b, linear, local)]
    found += [cost for experts in b.work.experts for cost in _experts(b, experts, group)]
    return [*found, _elementwise(b, local)]


def sampled_costs(b: Bench, sequences: Floats) -> list[OpCost]:
    """Return the costs that depend on the number of sampled sequences: LM head, logits, sampling."""
    par = b.replica.parallelism
    local = np.maximum(sequences / (b.lanes * par.dp), 1.0)
    found = [cost for linear in b.work.linears if linear.tokens == "sampled" for cost in _linear(b, linear, local)]
    moved = local * b.replica.model.vocab * LOGIT_BYTES * SAMPLING_PASSES / par.tp
    zero = np.zeros_like(local)
    found.append(
        roofline_cost(
            "sampling",
            zero,
            moved,
            compute_s=zero,
            memory_s=moved / (SAMPLING_FRAC * b.bandwidth_bytes_per_s),
            fixed_s=0.0,
            p=1.0,
            peak_s=zero,
            bus_s=moved / b.bandwidth_bytes_per_s,
        )  # fmt: skip
    )
    return found


def _linear(b: Bench, linear: Linear, tokens: Floats) -> list[OpCost]:
    """Return the cost of a product in all its layers, one for each format that its layers stand in."""
    tp = b.replica.parallelism.tp
    n = linear.n / tp if linear.split == "column" else linear.n
    k = linear.k / tp if linear.split == "row" else linear.k
    found = []
    for number_format, share in b.replica.formats_of(linear.part, linear.name):
        curve, peak = b.curve("gemm", number_format)
        found.append(
            gemm_cost(
                linear.name, tokens, n, k,
                weight_bytes=number_format.bytes_per_weight, curve=curve, peak_flop_per_s=peak,
                bandwidth_bytes_per_s=b.bandwidth_bytes_per_s, units=b.units, count=linear.layers * share,
            )
        )  # fmt: skip
    return found


def _experts(b: Bench, experts: Experts, tokens: Floats) -> list[OpCost]:
    """Return the cost of the routed experts in all their layers, one for each format that these stand in."""
    par = b.replica.parallelism
    found = []
    for number_format, share in b.replica.formats_of("routed_experts"):
        curve, peak = b.curve("moe", number_format)
        found.append(
            experts_cost(
                experts, tokens, ExpertShare(ep=par.ep, tp=par.tp * par.dp // par.ep),
                weight_bytes=number_format.bytes_per_weight, curve=curve, peak_flop_per_s=peak,
                bandwidth_bytes_per_s=b.bandwidth_bytes_per_s, units=b.units, skew=b.replica.expert_skew,
                layers=experts.layers * share,
            )
        )  # fmt: skip
    return found


def _elementwise(b: Bench, tokens: Floats) -> OpCost:
    """Return norms, residuals, rotary embedding and activations: ``ELEMENTWISE_PASSES`` over the hidden state a layer.

    Each layer launches ``kernels`` small kernels; recurrent layers ``linear_kernels`` more (convolution, gates) and
    sparse ones ``sparse_kernels`` more (quantising index queries, choosing and mapping entries).
    """
    curve, _ = b.curve("elementwise", b.replica.format_of("norm"))
    linear = sum(a.layers for a in b.work.attentions if a.kind == "linear")
    sparse = sum(a.layers for a in b.work.attentions if a.topk_tokens is not None)
    more = (linear * curve["linear_kernels"] + sparse * curve["sparse_kernels"]) / b.work.layers
    moved = tokens * b.work.hidden * HIDDEN_BYTES * ELEMENTWISE_PASSES
    launch = (curve["t0_s"] + curve["unit_s"] * b.units) * (curve["kernels"] + more)
    zero, reach = np.zeros_like(tokens), curve["eff_b"] * b.bandwidth_bytes_per_s
    return roofline_cost(
        "elementwise", zero, moved, compute_s=zero, memory_s=moved / reach, fixed_s=launch, p=1.0, peak_s=zero,
        bus_s=moved / b.bandwidth_bytes_per_s, count=b.work.layers,
    )  # fmt: skip


def _communication(b: Bench, local: Floats, group: Floats) -> list[OpCost]:
    par = b.replica.parallelism
    found: list[OpCost] = []
    if par.devices == 1:
        return found
    kind = b.net.inside(min(par.tp, b.net.node_devices)).kind
    curve = b.calibrated(pick(b.replica.hardware, b.replica.engine, "all_reduce", (kind, "any")))
    expert_layers = sum(e.layers for e in b.work.experts)
    scattered = expert_layers if par.dp > 1 else 0
    if par.tp > 1:
        reduces = 2 * b.work.layers - scattered + 1
        message = local * b.work.hidden * 2.0
        one = all_reduce_s(message, par.tp, b.net, curve)
        start = all_reduce_s(np.zeros_like(message), par.tp, b.net, curve)
        small = _norm_reduces(b)
        found.append(communication_cost("all_reduce", reduces * one + small * start, (reduces + small) * start))
    if scattered:
        top_k = max(e.top_k for e in b.work.experts)
        ranks = par.tp * par.dp
        sent = scattered * all_to_all_s(group, top_k, b.work.hidden, ranks, b.net, curve)
        start = scattered * all_to_all_s(np.zeros_like(group), top_k, b.work.hidden, ranks, b.net, curve)
        if ranks > b.net.node_devices:
            sent = np.maximum(_exposed_s(b, group, sent), start)
        found.append(communication_cost("all_to_all", sent, start))
    if par.pp > 1:
        one = hand_over_s(local, b.work.hidden, b.net, par.pp)
        found.append(communication_cost("hand_over", one, hand_over_s(np.zeros_like(local), 1, b.net, par.pp)))
    return found


def _exposed_s(b: Bench, group: Floats, sent_s: Floats) -> Floats:
    """Return what a transfer of ``sent_s`` adds to a step that may overlap it with the work of a second half batch.

    Engines do so where it pays: max(2·work(m/2), sent) against work(m) + sent (two-batch overlap of DeepSeek and
    SGLang, dual-batch overlap of vLLM), between nodes.
    """
    work = sum((cost.time_s for cost in _layer_costs(b, group)), np.zeros_like(group))
    halves = sum((cost.time_s for cost in _layer_costs(b, np.maximum(group / 2.0, 1.0))), np.zeros_like(group))
    return np.minimum(sent_s, np.maximum(2.0 * halves, sent_s) - work)


def _norm_reduces(b: Bench) -> int:
    """Return the small all-reduces of norms that run over all heads: their sums of squares for queries and keys."""
    kinds = b.replica.model.attention
    wide = {name for name, kind in kinds.items() if getattr(kind, "qk_norm", "none") == "full"}
    return 2 * sum(n for layer, n in b.replica.model.layer_counts.items() if layer.attention in wide)


def _with_offload(b: Bench, costs: list[OpCost], tokens: Floats) -> list[OpCost]:
    """Move the shares of offloaded layers and experts from the device to the host, if any are."""
    layers, experts = offload_fracs(b.replica)
    if layers == 0 and experts == 0:
        return costs
    kept, moved_flop, moved_bytes = [], np.zeros_like(tokens), np.zeros_like(tokens)
    for cost in costs:
        part = layers
        if cost.name == "routed_experts":
            part = layers + (1 - layers) * experts
        kept.append(_scaled(cost, 1 - part))
        moved_flop = moved_flop + part * cost.flop
        moved_bytes = moved_bytes + part * cost.bytes
    return [*kept, _host_cost(b, moved_flop, moved_bytes)]


def _host_cost(b: Bench, flop: Floats, moved: Floats) -> OpCost:
    """Return the time of offloaded weights: computed by the host's cores, or streamed over the link if faster."""
    host = b.replica.host_memory
    bandwidth = host.bandwidth_bytes_per_s if host else b.bandwidth_bytes_per_s * UNKNOWN_HOST_FRAC
    link = b.replica.hardware.link("c2c", "pcie")
    on_host = flop / HOST_FLOP_PER_S + moved / (HOST_FRAC * bandwidth)
    streamed = moved / (LINK_FRAC * link.bandwidth_bytes_per_s) if link else np.full_like(moved, np.inf)
    peak, _ = peak_flop_per_s(b.replica.hardware, "bf16")
    streamed = streamed + flop / (STREAMED_FRAC * peak)
    time = np.minimum(on_host, streamed)
    zero = np.zeros_like(time)
    return roofline_cost(
        "offloaded", flop, moved, compute_s=zero, memory_s=time, fixed_s=0.0, p=1.0,
        peak_s=zero, bus_s=moved / max(bandwidth, b.bandwidth_bytes_per_s),
    )  # fmt: skip


def _scaled(cost: OpCost, factor: float) -> OpCost:
    return replace(
        cost, time_s=cost.time_s * factor, compute_s=cost.compute_s * factor, memory_s=cost.memory_s * factor,
        communication_s=cost.communication_s * factor, overhead_s=cost.overhead_s * factor,
        peak_s=cost.peak_s * factor, bus_s=cost.bus_s * factor, flop=cost.flop * factor, bytes=cost.bytes * factor,
    )  # fmt: skip
