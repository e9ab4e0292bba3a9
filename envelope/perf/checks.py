"""Whether a replica can run at all, and within which limits; each reason with its numbers and smallest fix."""

import math

from envelope.perf.memory import MemoryFit
from envelope.perf.replica import ReplicaSpec
from envelope.perf.work import operators
from envelope.provenance import Frozen
from envelope.units import GB

VOCAB_MULTIPLE = 64
"""Rows to which engines pad the embedding before they split it (vLLM's VocabParallelEmbedding)."""


class Reason(Frozen):
    """Why something cannot run, or cannot run as asked."""

    rule: str
    """Short name of the rule, such as ``weights_fit``."""
    blocks: bool
    """Whether nothing can run; otherwise the request runs, but less than asked for."""
    text: str
    """What is wrong, with the numbers."""
    fix: str = ""
    """Smallest change that would lift it."""

    def __str__(self) -> str:
        """Return text and fix in one line."""
        return f"{self.text}; {self.fix}" if self.fix else self.text


def blocking_reasons(replica: ReplicaSpec, fit: MemoryFit, context_tokens: int) -> list[Reason]:
    """Return every reason why no request of this context can run."""
    found = [_engine_hardware(replica), _engine_format(replica), _context(replica, context_tokens)]
    found += [_split(replica), _weights(replica, fit), _host(replica, fit)]
    found += [_one_sequence(replica, fit, context_tokens) or _longest(replica, fit), _states(replica, fit)]
    return [r for r in found if r is not None and r.blocks]


def _engine_hardware(replica: ReplicaSpec) -> Reason | None:
    engine, hardware = replica.engine, replica.hardware
    allowed = {c.lower() for c in engine.supported_classes}
    if not allowed or allowed & {hardware.vendor.lower(), hardware.device_class, hardware.architecture}:
        return None
    return Reason(
        rule="engine_supports_device",
        blocks=True,
        text=f"{engine.name} runs on {', '.join(engine.supported_classes)}, not on {hardware.name}",
        fix="choose another engine, such as llama.cpp or vllm",
    )


def _engine_format(replica: ReplicaSpec) -> Reason | None:
    engine = replica.engine
    name = replica.weights.id if replica.weights else replica.model.native_format
    if not engine.supported_formats or name in engine.supported_formats:
        return None
    some = ", ".join(engine.supported_formats[:8])
    return Reason(
        rule="engine_supports_format", blocks=True, text=f"{engine.name} has no weights in {name}",
        fix=f"choose one of {some}",
    )  # fmt: skip


def _context(replica: ReplicaSpec, context_tokens: int) -> Reason | None:
    limit = replica.settings.max_context_tokens or replica.model.max_context_tokens
    if context_tokens <= limit:
        return None
    return Reason(
        rule="context_limit",
        blocks=True,
        text=f"input plus output is {context_tokens:,} tokens, the limit is {limit:,}",
        fix=f"shorten the request by {context_tokens - limit:,} tokens or choose a model with a longer context",
    )


def _split(replica: ReplicaSpec) -> Reason | None:
    """Tensor parallelism must divide the heads, expert parallelism the experts."""
    par, work = replica.parallelism, operators(replica.model)
    heads = [a.heads for a in work.attentions if a.kind != "linear"]
    bad = [h for h in heads if h % par.tp]
    if bad:
        fits = max(d for d in range(1, par.tp + 1) if all(h % d == 0 for h in heads))
        return Reason(
            rule="tp_divides_heads", blocks=True, text=f"tp={par.tp} does not divide {bad[0]} attention heads",
            fix=f"use tp={fits}",
        )  # fmt: skip
    shared = [a.kv_heads for a in work.attentions if a.kind != "linear" and not a.latent]
    bad = [h for h in shared if h % par.tp and par.tp % h]
    if bad:
        return Reason(
            rule="tp_divides_kv_heads", blocks=True,
            text=f"tp={par.tp} neither divides {bad[0]} key-value heads nor is a multiple of them",
            fix=f"use tp={max(d for d in range(1, par.tp + 1) if all(h % d == 0 for h in (*heads, *shared)))}",
        )  # fmt: skip
    vocab = math.ceil(replica.model.vocab / VOCAB_MULTIPLE) * VOCAB_MULTIPLE
    if vocab % par.tp and replica.engine.splits_by == "tensors":
        fits = max(d for d in range(1, par.tp + 1) if vocab % d == 0 and all(h % d == 0 for h in heads))
        return Reason(
            rule="tp_divides_vocabulary", blocks=True, text=f"tp={par.tp} does not divide a vocabulary of {vocab:,}",
            fix=f"use tp={fits}",
        )  # fmt: skip
    uneven = [e.n_routed for e in work.experts if e.n_routed % par.ep]
    if uneven:
        fits = max(d for d in range(1, par.ep + 1) if uneven[0] % d == 0)
        return Reason(
            rule="ep_divides_experts", blocks=True, text=f"ep={par.ep} does not divide {uneven[0]} experts",
            fix=f"use ep={fits}",
        )  # fmt: skip
    if par.pp > work.layers:
        return Reason(
            rule="pp_within_layers", blocks=True, text=f"pp={par.pp} exceeds {work.layers} layers",
            fix=f"use pp={work.layers} or fewer",
        )  # fmt: skip
    return None


def _weights(replica: ReplicaSpec, fit: MemoryFit) -> Reason | None:
    device = fit.domains[0]
    if device.shortfall_bytes <= 0:
        return None
    need = device.weights_bytes + device.activations_bytes + device.overhead_bytes
    factor = device.weights_bytes / max(device.budget_bytes - need + device.weights_bytes, 1e-9)
    many = replica.parallelism.devices
    if factor > 0 and math.isfinite(factor) and device.budget_bytes > need - device.weights_bytes:
        more = f"spread over {many * 2 ** math.ceil(math.log2(max(factor, 1.0 + 1e-9)))} devices"
        fix = f"{more}, use weights of {1 / factor:.0%} of the bits, or offload {device.shortfall_bytes / GB:.1f} GB"
    else:
        fix = "use a device with more memory"
    return Reason(
        rule="weights_fit",
        blocks=True,
        text=(
            f"needs {need / GB:.1f} GB per device (weights {device.weights_bytes / GB:.1f}, activations "
            f"{device.activations_bytes / GB:.1f}, overhead {device.overhead_bytes / GB:.1f}) of "
            f"{device.budget_bytes / GB:.1f} GB usable; short by {device.shortfall_bytes / GB:.1f} GB"
        ),
        fix=fix,
    )


def _host(replica: ReplicaSpec, fit: MemoryFit) -> Reason | None:
    host = next((d for d in fit.domains if d.name == "host"), None)
    if host is None or host.shortfall_bytes <= 0:
        return None
    return Reason(
        rule="offload_fits",
        blocks=True,
        text=f"offloaded weights need {host.weights_bytes / GB:.1f} GB of {host.budget_bytes / GB:.1f} GB host memory",
        fix=f"offload {host.shortfall_bytes / GB:.1f} GB less or add host memory",
    )


def _one_sequence(replica: ReplicaSpec, fit: MemoryFit, context_tokens: int) -> Reason | None:
    """The cache must hold what the engine counts for one such sequence before it admits it."""
    if fit.domains[0].shortfall_bytes > 0 or fit.longest_context(context_tokens) >= context_tokens:
        return None
    need, left, longest = fit.plan.admitted_bytes(context_tokens), fit.cache_bytes, fit.longest_context(context_tokens)
    shorter = f"shorten it to {longest:,} tokens, or " if longest else ""
    return Reason(
        rule="one_sequence_fits",
        blocks=True,
        text=(
            f"one sequence of {context_tokens:,} tokens needs about {need / GB:.2f} GB of KV cache per device, "
            f"{left / GB:.2f} GB is left"
        ),
        fix=f"{shorter}free {max(need - left, 0) / GB:.2f} GB per device",
    )


def _longest(replica: ReplicaSpec, fit: MemoryFit) -> Reason | None:
    """An engine that reserves the longest context must hold one sequence of it, or it does not start."""
    if not replica.rules.longest_context_fits or fit.domains[0].shortfall_bytes > 0:
        return None
    limit = replica.longest_tokens
    longest = fit.longest_context(limit)
    if longest >= limit:
        return None
    return Reason(
        rule="longest_context_fits",
        # where no limit is stated, the engine is taken to be started with what fits
        blocks=replica.settings.max_context_tokens is not None,
        text=(
            f"{replica.engine.name} starts only where one sequence of the longest context fits: {limit:,} tokens need "
            f"{fit.plan.admitted_bytes(limit) / GB:.2f} GB of KV cache per device, "
            f"{fit.cache_bytes / GB:.2f} GB is left"
        ),
        fix=f"set max_context_tokens={longest} (--max-model-len {longest})" if longest else "free memory",
    )


def _states(replica: ReplicaSpec, fit: MemoryFit) -> Reason | None:
    """An engine that captures full batches needs a block of recurrent state for every sequence of one."""
    recurrent = any(a.kind == "linear" for a in operators(replica.model).attentions)
    if not (replica.rules.states_for_all and recurrent) or not fit.fits:
        return None
    blocks, seqs = fit.kv_blocks // replica.parallelism.dp, replica.rank_seqs
    if seqs <= blocks:
        return None
    return Reason(
        rule="states_fit",
        # as with the longest context: a default that does not start is taken to be lowered
        blocks=replica.settings.max_num_seqs is not None,
        text=f"{replica.engine.name} starts only with a block of recurrent state for each of {seqs:,} sequences; "
        f"{blocks:,} fit",
        fix=f"set max_num_seqs={blocks * replica.parallelism.dp}",
    )


def start_warnings(replica: ReplicaSpec, fit: MemoryFit) -> list[Reason]:
    """Return what has to be set so that the engine starts, though requests fit."""
    found = (_longest(replica, fit), _states(replica, fit))
    return [reason for reason in found if reason is not None and not reason.blocks]
