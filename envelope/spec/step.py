"""The compiled time of one engine step: the contract between ``perf`` (writes) and ``serving`` (reads)."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class StepTables:
    r"""Step time and power of one replica as lookup tables, so that a step costs a few lookups.

    A step decodes ``n`` sequences whose contexts sum to ``S`` tokens and computes prefill chunks ``j`` of
    ``t_j`` new tokens after ``p_j`` cached ones. With ``T = Σ t_j``, ``m = n·q + T`` (``q`` = 1, or 1 + draft
    tokens with speculative decoding) and ``r`` sampled sequences,

    ``t = step_overhead_s + token_s[m] + sampled_s[r] + D(n, S) + [T > 0]·prefill_base_s + Σ_j (F(p_j+t_j) − F(p_j))``

    ``D(n, S) = decode_base_s[n] + n·g_n(S/n)`` where ``g_n`` is piecewise linear in the mean context with
    knots ``context_knots_tokens`` and slopes ``decode_slope_s_per_token[n]``; it is exact for full attention and
    treats sliding windows by the mean context. ``F`` is the running integral over positions of the prefill
    attention time per token, whose derivative is piecewise linear with the same knots.
    """

    token_s: Floats
    """[max_batched_tokens + 1] time that depends on the number of tokens alone: linear layers, experts,
    norms, communication, kernel launches. ``token_s[0]`` is 0."""
    sampled_s: Floats
    """[max_num_seqs + 1] LM head, sampling and per-sequence engine time for ``r`` sampled sequences."""
    step_overhead_s: float
    """Engine time of every step whatever its content (scheduling, launch, input preparation)."""
    decode_base_s: Floats
    """[max_num_seqs + 1] decode attention of ``n`` sequences at zero context; 0 at ``n = 0``."""
    context_knots_tokens: Floats
    """[k] context at which the slopes change; the first is 0."""
    decode_slope_s_per_token: Floats
    """[max_num_seqs + 1, k] decode-attention seconds per context token of one sequence in a batch of n."""
    prefill_base_s: float
    """Extra time of a step that has any prefill (attention launches, graph break)."""
    prefill_token_s: float
    """Prefill-attention seconds per new token regardless of position."""
    prefill_slope_s_per_token: Floats
    """[k] derivative by position of the prefill-attention time per new token, per context segment."""
    request_overhead_s: float
    """Time added to a request's TTFT outside the engine loop (HTTP, tokenising, detokenising); it does not
    occupy the device."""
    idle_w: float
    """Power of the replica's devices and host share while no step runs."""
    step_w: Floats
    """[max_batched_tokens + 1] mean power during a step of ``m`` tokens; ``step_w[0]`` equals ``idle_w``."""
    bound: NDArray[np.int8]
    """[max_batched_tokens + 1] what limits a step of ``m`` tokens: index into ``BOUNDS``."""

    @property
    def max_num_seqs(self) -> int:
        """Largest number of sequences in one step that the tables cover."""
        return len(self.sampled_s) - 1

    @property
    def max_batched_tokens(self) -> int:
        """Largest number of tokens in one step that the tables cover."""
        return len(self.token_s) - 1


def rank_tables(tables: StepTables, ranks: int) -> StepTables:
    """Return the tables of one of ``ranks`` data-parallel ranks that carry equal loads.

    A rank with n sequences and m tokens steps like the replica with n·ranks and m·ranks; its attention time per
    token is not shared, and it draws its share of the power.
    """
    if ranks == 1:
        return tables
    return replace(
        tables,
        token_s=tables.token_s[::ranks].copy(),
        sampled_s=tables.sampled_s[::ranks].copy(),
        decode_base_s=tables.decode_base_s[::ranks].copy(),
        decode_slope_s_per_token=tables.decode_slope_s_per_token[::ranks] * ranks,
        prefill_token_s=tables.prefill_token_s * ranks,
        prefill_slope_s_per_token=tables.prefill_slope_s_per_token * ranks,
        idle_w=tables.idle_w / ranks,
        step_w=tables.step_w[::ranks] / ranks,
        bound=tables.bound[::ranks].copy(),
    )


BOUNDS = ("compute", "memory", "communication", "overhead")
"""Names of the codes in ``StepTables.bound``."""


def constant_step(
    step_s: float,
    *,
    max_num_seqs: int = 256,
    max_batched_tokens: int = 8192,
    per_prefill_token_s: float = 0.0,
) -> StepTables:
    """Return tables of a step that takes ``step_s`` whatever it holds (plus a time per prefill token).

    For queueing-theory tests and teaching: with it, the engine is a textbook server.
    """
    zero = np.zeros(1)
    return StepTables(
        token_s=np.zeros(max_batched_tokens + 1),
        sampled_s=np.zeros(max_num_seqs + 1),
        step_overhead_s=step_s,
        decode_base_s=np.zeros(max_num_seqs + 1),
        context_knots_tokens=zero,
        decode_slope_s_per_token=np.zeros((max_num_seqs + 1, 1)),
        prefill_base_s=0.0,
        prefill_token_s=per_prefill_token_s,
        prefill_slope_s_per_token=zero,
        request_overhead_s=0.0,
        idle_w=0.0,
        step_w=np.zeros(max_batched_tokens + 1),
        bound=np.full(max_batched_tokens + 1, 3, dtype=np.int8),
    )
