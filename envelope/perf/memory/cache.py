"""How an engine hands out the memory that is left for the cache: what a sequence holds, and what admits it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from envelope.perf.memory.blocks import Blocks, block_plan
from envelope.perf.memory.layers import CachedLayers, cached_layers
from envelope.perf.replica import ReplicaSpec


class CachePlan(Protocol):
    """The cache of one device, whatever its size; contexts in tokens, results in bytes."""

    @property
    def block_tokens(self) -> int:
        """Tokens that a growing sequence takes at a time."""

    @property
    def block_bytes(self) -> float:
        """Bytes of such a step at a long context."""

    @property
    def fixed_bytes(self) -> float:
        """What one long sequence holds besides: full windows and recurrent states."""

    @property
    def pool_bytes(self) -> float:
        """Taken once, however many sequences there are."""

    def held_bytes(self, context_tokens: float) -> float:
        """Return what one sequence holds while it decodes."""

    def admitted_bytes(self, context_tokens: float) -> float:
        """Return what the engine counts for one sequence that may become so long."""

    def state_slots(self, left_bytes: float) -> int | None:
        """Return the sequences for which states are kept in ``left_bytes``; ``None`` where nothing else limits."""

    def printed_tokens(self, left_bytes: float, longest_tokens: int) -> float:
        """Return the size of a cache of ``left_bytes`` in tokens, as the engine counts them."""

    def context_bytes(self, context_tokens: int) -> float:
        """Return the whole cache where all slots share one context of this length."""


@dataclass(frozen=True, slots=True)
class PerSequence:
    """Each sequence takes what it uses: growth, windows and states, in steps of a block."""

    layers: tuple[CachedLayers, ...]
    block_tokens: int
    keeps_windows: bool
    """Whether tokens behind a window stay."""
    slots: int = 1
    step_tokens: int = 0
    """Cells that windows keep once, for the tokens of a step (llama.cpp)."""
    cell_multiple: int = 1

    @property
    def block_bytes(self) -> float:
        """Bytes of a block at a long context; where only windows are cached, their bytes over a long one."""
        growth = sum(_growth(x, self.keeps_windows) for x in self.layers)
        far = 65536.0
        return self.block_tokens * (growth or self.held_bytes(far) / far)

    @property
    def fixed_bytes(self) -> float:
        """Full windows and recurrent states."""
        far = 2.0**20
        return max(self.held_bytes(far) - self.block_bytes / self.block_tokens * far, 0.0)

    @property
    def pool_bytes(self) -> float:
        """Window cells of a step's tokens, and what rounding adds."""
        if not self.step_tokens:
            return 0.0
        return sum(x.kept_bytes(self._cells(x) - self.slots * x.window_tokens) for x in self.layers if _evicts(x))

    def _cells(self, x: CachedLayers) -> float:
        wanted = self.slots * x.window_tokens + self.step_tokens
        return math.ceil(wanted / self.cell_multiple) * self.cell_multiple

    def held_bytes(self, context_tokens: float) -> float:
        """Return growth, windows and states of one sequence."""
        whole = math.ceil(context_tokens / self.block_tokens) * self.block_tokens
        return sum(self._layer(x, whole) for x in self.layers)

    def _layer(self, x: CachedLayers, tokens: float) -> float:
        kept = tokens if self.keeps_windows and _evicts(x) else min(tokens, x.window_tokens)
        state = x.layers * x.state_bytes if x.attention.kind == "linear" else 0.0
        return x.growth_bytes * tokens + x.kept_bytes(kept) + state

    def admitted_bytes(self, context_tokens: float) -> float:
        """Return what one sequence holds; nothing is reserved ahead."""
        return self.held_bytes(context_tokens)

    def state_slots(self, left_bytes: float) -> int | None:
        """Return ``None``: states share the memory of the rest."""
        return None

    def printed_tokens(self, left_bytes: float, longest_tokens: int) -> float:
        """Return the tokens of blocks at their growth."""
        return left_bytes / max(self.block_bytes, 1e-9) * self.block_tokens

    def context_bytes(self, context_tokens: int) -> float:
        """Return growth of one context, windows and states of every slot; windows hold no more than the context."""
        total = sum(x.growth_bytes for x in self.layers) * context_tokens
        for x in self.layers:
            cells = self._cells(x) if self.step_tokens else self.slots * x.window_tokens
            total += x.kept_bytes(min(cells, context_tokens)) if _evicts(x) else 0.0
            total += self.slots * x.layers * x.state_bytes if x.attention.kind == "linear" else 0.0
        return total


def _evicts(x: CachedLayers) -> bool:
    return x.attention.kind in ("window", "chunk")


def _growth(x: CachedLayers, keeps_windows: bool) -> float:
    return x.kept_bytes(1.0) if keeps_windows and _evicts(x) else x.growth_bytes


@dataclass(frozen=True, slots=True)
class RatioPools:
    """Pools of fixed ratio beside the growing cache: for windows by tokens, for recurrent states by bytes."""

    layers: tuple[CachedLayers, ...]
    window_ratio: float
    """Tokens of the windows' pool per token of the growing one."""
    state_ratio: float
    """Bytes of the states' pool per byte of the rest."""
    block_tokens: int
    fixed_bytes: float = 0.0
    pool_bytes: float = 0.0

    @property
    def _states(self) -> float:
        return sum(x.layers * x.state_bytes for x in self.layers if x.attention.kind == "linear")

    @property
    def _token_bytes(self) -> float:
        """Bytes that the pools spend on one token of the growing cache."""
        growth = sum(x.growth_bytes for x in self.layers)
        windows = sum(x.kept_bytes(1.0) for x in self.layers if x.window_tokens)
        token = growth + (self.window_ratio if growth else 1.0) * windows
        return token * ((1.0 + self.state_ratio) if self._states else 1.0)

    @property
    def block_bytes(self) -> float:
        """Bytes of a block in all pools together."""
        return self.block_tokens * self._token_bytes

    def held_bytes(self, context_tokens: float) -> float:
        """Return the share of all pools that one sequence uses up: of the one that it empties first."""
        whole = math.ceil(context_tokens / self.block_tokens) * self.block_tokens
        window = max((x.window_tokens for x in self.layers), default=0)
        if not any(x.grows for x in self.layers):
            return min(whole, window) * self._token_bytes
        by_window = min(whole, window) / self.window_ratio if window else 0.0
        by_state = self._states * (1.0 + self.state_ratio) / self.state_ratio
        return max(whole * self._token_bytes, by_window * self._token_bytes, by_state)

    def admitted_bytes(self, context_tokens: float) -> float:
        """Return what one sequence holds; the pools were cut before."""
        return self.held_bytes(context_tokens)

    def state_slots(self, left_bytes: float) -> int | None:
        """Return the sequences whose states the pool holds."""
        if not self._states:
            return None
        return int(left_bytes * self.state_ratio / (1.0 + self.state_ratio) / self._states)

    def printed_tokens(self, left_bytes: float, longest_tokens: int) -> float:
        """Return the tokens of the growing pool."""
        return left_bytes / max(self._token_bytes, 1e-9)

    def context_bytes(self, context_tokens: int) -> float:
        """Return what one sequence of the context uses up."""
        return self.held_bytes(context_tokens)


def cache_plan(replica: ReplicaSpec, layers_frac: float) -> CachePlan:
    """Return how the engine of a replica hands out the cache of one device that holds this share of the layers."""
    layers, rules, settings = cached_layers(replica, layers_frac), replica.rules, replica.settings
    block = replica.engine.kv_block_tokens
    if rules.windows == "blocks":
        plan: Blocks | None = block_plan(replica, layers)
        if plan is not None:
            return plan
    if rules.windows == "ratio":
        return RatioPools(
            layers=layers,
            window_ratio=settings.window_pool_ratio or _window_ratio(replica, layers),
            state_ratio=settings.state_pool_ratio or rules.state_pool_ratio,
            block_tokens=block,
        )
    cells = rules.windows == "cells"
    return PerSequence(
        layers=layers,
        block_tokens=block,
        keeps_windows=rules.windows == "kept",
        slots=replica.max_num_seqs,
        step_tokens=replica.step_tokens if cells else 0,
        cell_multiple=rules.cell_multiple,
    )


def _window_ratio(replica: ReplicaSpec, layers: Sequence[CachedLayers]) -> float:
    latent = any(x.window_tokens and x.attention.rope_elems for x in layers)
    return replica.rules.latent_window_pool_ratio if latent else replica.rules.window_pool_ratio
