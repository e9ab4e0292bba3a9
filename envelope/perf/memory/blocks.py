"""Blocks of one pool that groups of layers share, as vLLM plans them at start-up.

Read from vllm/v1/core/kv_cache_utils.py and kv_cache_interface.py of vLLM 0.17 to 0.32: layers of one kind are cut into
groups of equal size, every group has a block table of its own, a block holds one page of each layer of a group, and a
block of the pool has one size for all groups. Windows are padded to the smallest group, recurrent states to a page of
attention, whose block is lengthened until the state fits.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from envelope.perf.memory.layers import CachedLayers
from envelope.perf.replica import ReplicaSpec

UNEVEN = 1.5
"""Ratio of layer counts up to which the larger kind sets the size of a group."""
STATE_ALIGN_TOKENS = 16
"""Multiple to which a block of attention is lengthened so that a recurrent state fits in its page."""
COMPRESSED = ("csa", "hca")
"""Attention that keeps pooled entries (DeepSeek-V4)."""
COMPRESSED_BLOCK_TOKENS = 256
"""Block of compressed latents (the kernels of DeepSeek-V4 allow no other)."""
COMPRESSED_ALIGN_BYTES = 576
"""Multiple of their pages (FlashMLA)."""
PENDING_PAGE_BYTES = 32_768
"""Page of the rows that wait to be pooled: 4 tokens of the overlapping, 8 of the other compressor."""
PENDING_ELEMENT_BYTES = 4
"""Pending rows are kept in fp32: a value and a score for each element."""


@dataclass(frozen=True, slots=True)
class Group:
    """Block tables of equal length."""

    tables: int
    block_tokens: int
    window_tokens: int | None = None
    """Tokens behind which blocks are freed; ``None`` where nothing is freed."""
    state_blocks: int = 0
    """Blocks of a recurrent state, whatever the context."""

    def held(self, context_tokens: float) -> int:
        """Return the blocks of one decoding sequence."""
        return self._blocks(context_tokens, 0)

    def admitted(self, context_tokens: float, in_flight_tokens: int) -> int:
        """Return the blocks that are counted for a sequence that is admitted: windows keep the tokens in flight."""
        return self._blocks(context_tokens, in_flight_tokens)

    def _blocks(self, context_tokens: float, in_flight_tokens: int) -> int:
        if self.state_blocks:
            return self.tables * self.state_blocks
        if self.window_tokens is None:
            return self.tables * math.ceil(context_tokens / self.block_tokens)
        kept = min(self.window_tokens - 1 + in_flight_tokens, context_tokens)
        return self.tables * (math.ceil(kept / self.block_tokens) + 1)  # a window may begin inside a block


@dataclass(frozen=True, slots=True)
class Blocks:
    """The pool of one device."""

    block_bytes: float
    block_tokens: int
    groups: tuple[Group, ...]
    in_flight_tokens: int
    counts_tables: bool = False
    """Whether the engine prints tokens by block table."""
    pool_bytes: float = 0.0

    @property
    def fixed_bytes(self) -> float:
        """Windows and recurrent states of a long sequence."""
        far = 2.0**22
        return self.block_bytes * sum(g.held(far) for g in self.groups if g.window_tokens or g.state_blocks)

    def held_bytes(self, context_tokens: float) -> float:
        """Return the blocks of one decoding sequence, in bytes."""
        return self.block_bytes * sum(g.held(context_tokens) for g in self.groups)

    def admitted_bytes(self, context_tokens: float) -> float:
        """Return the blocks that the engine counts for a sequence of this length, in bytes."""
        return self.block_bytes * sum(g.admitted(context_tokens, self.in_flight_tokens) for g in self.groups)

    def state_slots(self, left_bytes: float) -> int | None:
        """Return ``None``: states take blocks of the same pool."""
        return None

    def printed_tokens(self, left_bytes: float, longest_tokens: int) -> float:
        """Return sequences of the longest context in tokens; before vLLM 0.20, blocks shared evenly among tables."""
        if self.counts_tables:
            tables = sum(g.tables for g in self.groups)
            return left_bytes / self.block_bytes / tables * min(g.block_tokens for g in self.groups)
        return left_bytes / max(self.admitted_bytes(longest_tokens), 1e-9) * longest_tokens

    def context_bytes(self, context_tokens: int) -> float:
        """Return what is counted for one sequence of the context."""
        return self.admitted_bytes(context_tokens)


def block_plan(replica: ReplicaSpec, layers: Sequence[CachedLayers]) -> Blocks | None:
    """Return the pool of one device, or ``None`` for a model that caches nothing."""
    if not layers:
        return None
    plan = _plan(replica, layers)
    compressed = any(x.attention.kind in COMPRESSED for x in layers)  # newer than that way of counting
    return plan if compressed else replace(plan, counts_tables=replica.rules.counts_tables)


def _plan(replica: ReplicaSpec, layers: Sequence[CachedLayers]) -> Blocks:
    in_flight = replica.rules.in_flight_steps * replica.step_tokens
    if any(x.attention.kind in COMPRESSED for x in layers):
        return _compressed(replica, layers, in_flight)
    states = [x for x in layers if x.attention.kind == "linear"]
    cached = [x for x in layers if x.attention.kind != "linear"]
    if states and cached:
        return _hybrid(replica, cached, states, in_flight)
    if not any(x.window_tokens for x in cached) or not any(x.grows for x in cached):
        return _uniform(replica, layers, in_flight)
    return _windowed(replica, cached, in_flight)


def _uniform(replica: ReplicaSpec, layers: Sequence[CachedLayers], in_flight: int) -> Blocks:
    """One kind of layer, or several that keep the same tokens: one group of them all."""
    block = replica.engine.kv_block_tokens
    if all(x.attention.kind == "linear" for x in layers):
        state = sum(x.layers * x.state_bytes for x in layers)
        return Blocks(state, block, (Group(1, block, state_blocks=_state_blocks(replica)),), in_flight)
    window = max((x.window_tokens for x in layers), default=0) or None
    token = sum(x.growth_bytes or x.kept_bytes(1.0) for x in layers)
    return Blocks(block * token, block, (Group(1, block, window),), in_flight)


def _state_blocks(replica: ReplicaSpec) -> int:
    """Return the blocks of one sequence's recurrent state: one, one more for cached prefixes, one per draft token."""
    caches = replica.settings.prefix_cache is not False
    return (replica.rules.state_blocks if caches else 1) + replica.settings.draft_tokens


def _group_size(counts: Iterable[float]) -> float:
    """Return the layers of a group: of the rarest kind, or of the commonest where they differ little."""
    least, most = min(counts := list(counts)), max(counts)
    return most if most < UNEVEN * least else least


def _windowed(replica: ReplicaSpec, layers: Sequence[CachedLayers], in_flight: int) -> Blocks:
    """Windows beside full attention: groups of the rarer kind's size; narrow pages take longer blocks."""
    block = replica.engine.kv_block_tokens
    size = _group_size([x.layers for x in _merged(layers)])
    widest = max(x.entry_bytes + x.indexer_bytes for x in layers)
    groups: list[Group] = []
    for x in _merged(layers):
        ratio = widest / (x.entry_bytes + x.indexer_bytes)
        longer = block * (round(ratio) if abs(ratio - round(ratio)) < 1e-6 else 1)
        groups.append(Group(_tables(x.layers, size), longer, x.window_tokens or None))
    return Blocks(size * block * widest, _long_block(groups), tuple(groups), in_flight)


def _merged(layers: Sequence[CachedLayers]) -> list[CachedLayers]:
    """Return the layers with those joined that keep the same tokens in entries of one size."""
    found: dict[tuple[float, int], CachedLayers] = {}
    for x in layers:
        key = (x.entry_bytes + x.indexer_bytes, x.window_tokens)
        found[key] = replace(x, layers=found[key].layers + x.layers) if key in found else x
    return list(found.values())


def _tables(layers: float, size: float) -> int:
    return math.ceil(layers / size - 1e-9)


def _long_block(groups: Sequence[Group]) -> int:
    """Return the tokens that a growing sequence takes at a time."""
    return next(g.block_tokens for g in groups if g.window_tokens is None and not g.state_blocks)


def _hybrid(
    replica: ReplicaSpec, cached: Sequence[CachedLayers], states: Sequence[CachedLayers], in_flight: int
) -> Blocks:
    """Recurrent layers beside attention: the block of attention is lengthened until a state fits into its page."""
    entry = max(x.entry_bytes + x.indexer_bytes for x in cached)
    state = max(x.state_bytes for x in states)
    block = max(replica.engine.kv_block_tokens, math.ceil(state / entry / STATE_ALIGN_TOKENS) * STATE_ALIGN_TOKENS)
    count, recurrent = sum(x.layers for x in cached), sum(x.layers for x in states)
    size = _group_size([count, recurrent])
    groups = [Group(_tables(x.layers, size), block, x.window_tokens or None) for x in _merged(cached)]
    groups.append(Group(_tables(recurrent, size), block, state_blocks=_state_blocks(replica)))
    return Blocks(size * block * entry, block, tuple(groups), in_flight)


@dataclass(frozen=True, slots=True)
class _Kind:
    """Layers of DeepSeek-V4 with one block table: its pages by size, and what they keep."""

    pages: dict[float, float]
    """Bytes of a page → layers."""
    block_tokens: int
    window_tokens: int | None = None

    @property
    def tuples(self) -> float:
        """Layers of its commonest page."""
        return max(self.pages.values())


def _compressed(replica: ReplicaSpec, layers: Sequence[CachedLayers], in_flight: int) -> Blocks:
    """Compressed latents, their windows, and rows that wait to be pooled (DeepSeek-V4)."""
    kinds = _compressed_kinds(layers)
    full, others = kinds[0], kinds[1:]
    size = _least_padding([k.tuples for k in kinds], full.tuples)
    groups = [Group(1, full.block_tokens)]
    groups += [Group(_tables(k.tuples, size), k.block_tokens, k.window_tokens) for k in others]
    match replica.rules.packing:
        case "tuples":
            block = sum(full.pages) * size
        case "buckets":
            most = {**full.pages, max(full.pages): max(full.pages[max(full.pages)], size)}
            block = sum(page * count for page, count in most.items())
        case _:
            block = max(sum(p * n for p, n in k.pages.items()) / _tables(k.tuples, size) for k in kinds)
    return Blocks(block, full.block_tokens, tuple(groups), in_flight)


def _compressed_kinds(layers: Sequence[CachedLayers]) -> list[_Kind]:
    """Return the kinds of block table: compressed entries first, then windows and each compressor's pending rows."""
    full: dict[float, float] = {}
    pending: list[_Kind] = []
    windows, entry, window = 0.0, 0.0, 0
    stride = min(x.attention.stride for x in layers if x.grows)
    for x in layers:
        windows, entry, window = windows + x.layers, x.entry_bytes, x.window_tokens
        if not x.grows:
            continue
        states = COMPRESSED_BLOCK_TOKENS // x.attention.stride
        full[_aligned(states * x.entry_bytes)] = x.layers
        if x.attention.indexer is not None:
            full[_aligned(states * x.indexer_bytes)] = x.layers
        pending.append(_pending(x, overlap=2 if x.attention.kind == "csa" else 1))
    near = COMPRESSED_BLOCK_TOKENS // stride
    return [_Kind(full, COMPRESSED_BLOCK_TOKENS), _Kind({_aligned(near * entry): windows}, near, window), *pending]


def _pending(x: CachedLayers, overlap: int) -> _Kind:
    """Return the rows that wait to be pooled into the next entry: keys and scores, twice where pools overlap."""
    row = 2 * overlap * x.attention.qk_dim * PENDING_ELEMENT_BYTES
    block = PENDING_PAGE_BYTES // row
    pages = {_aligned(block * row): x.layers}
    if x.attention.indexer is not None:
        pages[_aligned(block * 2 * overlap * x.attention.indexer.dim * PENDING_ELEMENT_BYTES)] = x.layers
    return _Kind(pages, block, overlap * x.attention.stride)


def _aligned(page_bytes: float) -> float:
    return math.ceil(page_bytes / COMPRESSED_ALIGN_BYTES - 1e-9) * COMPRESSED_ALIGN_BYTES


def _least_padding(counts: Sequence[float], least: float) -> float:
    """Return the size of a group, of ``least`` and more, that pads the fewest layers; the largest of equals."""
    sizes = range(math.ceil(least), math.ceil(max(counts)) + 1)
    return float(min(sizes, key=lambda size: (sum(-count % size for count in counts), -size)))
