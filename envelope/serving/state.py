"""Building the kernel's flat arrays from a fleet and its requests."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from envelope.serving.compiled import entry
from envelope.serving.fleet import BALANCES, ROLES, TIERS, Fleet, HostedConfig, PoolConfig
from envelope.serving.kernel import layout as k
from envelope.serving.requests import ClassInfo, Floats, Ints, Requests
from envelope.serving.tables import packed_tables
from envelope.spec.routing import POLICIES

BINS = 4098
EDGES: Floats = np.concatenate([[0.0], np.geomspace(1e-5, 1e3, BINS - 1)])
"""Lower edges of the histogram of gaps between tokens: 512 bins per factor of ten, each 0.45 % wide."""


@dataclass(slots=True)
class State:
    """The five flat arrays of a run."""

    st: Any
    sx: Any
    rq: Any
    rx: Any
    tb: Any
    compiled: bool

    def call(self, name: str, *args: float) -> Any:
        """Call an entry point of the kernel."""
        return entry(name, compiled=self.compiled)(self.st, self.sx, self.rq, self.rx, self.tb, *args)

    def rows(self) -> Ints:
        """Return the requests' integers as a table."""
        return np.asarray(self.rq, dtype=np.int32).reshape(-1, k.Q_SIZE)

    def times(self) -> Floats:
        """Return the requests' floats as a table."""
        return np.asarray(self.rx, dtype=np.float64).reshape(-1, k.F_SIZE)

    def thaw(self) -> None:
        """Make the four arrays that change numpy arrays, whatever the mode."""
        self.st, self.rq = np.asarray(self.st, dtype=np.int64), np.asarray(self.rq, dtype=np.int32)
        self.sx, self.rx = np.asarray(self.sx, dtype=np.float64), np.asarray(self.rx, dtype=np.float64)

    def freeze(self) -> None:
        """Make them lists again in plain mode, which is twice as fast on lists."""
        if not self.compiled:
            self.st, self.sx, self.rq, self.rx = (a.tolist() for a in (self.st, self.sx, self.rq, self.rx))


def priority_levels(classes: tuple[ClassInfo, ...]) -> Ints:
    """Return the queue of each class: 0 is served first."""
    _, level = np.unique([c.priority for c in classes], return_inverse=True)
    return level.astype(np.int64)


def build(
    fleet: Fleet,
    requests: Requests,
    *,
    compiled: bool,
    ticks: int,
    tick_s: float,
    outages: Floats,
    more: bool = False,
) -> State:
    """Return the state at time 0; ``more`` says that other requests will be loaded later."""
    tables, table_at = packed_tables([pool.replica.steps for pool in fleet.replicas])
    level = priority_levels(requests.classes)
    rq, rx = request_arrays(requests, level)
    layout = _Layout(fleet, requests, int(level.max()) + 1, ticks, more)
    st = np.zeros(layout.st_size, dtype=np.int64)
    sx = np.zeros(layout.sx_size)
    _fill_header(st, sx, fleet, requests, layout, outages)
    st[k.H_TICKS], sx[k.G_TICK_S] = ticks, tick_s
    # Unused entries stay zeros, which the kernel reads as a list in their order: there may be millions.
    st[k.H_SPARE] = layout.spares
    if layout.spare_count:
        st[layout.spares + (layout.spare_count - 1) * k.E_SIZE + k.E_NEXT] = -1
    leaders = fleet.leaders
    for members in _runs_of_a_pool(fleet):
        pool = fleet.replicas[members.start]
        _fill_records(st, sx, members, pool, layout, [table_at[r] for r in members])
        records = _records(st, members, layout.replica, k.R_SIZE)
        records[:, k.R_POOL], records[:, k.R_RANKS] = fleet.pools.index(pool), pool.ranks
        records[:, k.R_LEADER] = [layout.replica + leaders[r] * k.R_SIZE for r in members]
        for r in members:
            _fill_regions(st, r, pool, layout)
    state = State(st, sx, rq.ravel(), rx.ravel(), tables if compiled else tables.tolist(), compiled)
    state.freeze()
    return state


def request_arrays(requests: Requests, level: Ints) -> tuple[Ints, Floats]:
    """Return the requests' integers and floats as the kernel wants them; ``level`` is the queue of each class."""
    n = len(requests)
    rq = np.zeros((n, k.Q_SIZE), dtype=np.int32)
    rx = np.zeros((n, k.F_SIZE))
    columns = {
        k.Q_INPUT: requests.input_tokens,
        k.Q_OUTPUT: requests.output_tokens,
        k.Q_CLASS: requests.task,
        k.Q_SENSITIVITY: requests.sensitivity,
        k.Q_LEVEL: level[requests.task],
        k.Q_CHAIN: requests.chain,
        k.Q_ADAPTER: adapter_codes(requests)[requests.task],
        k.Q_PATH: requests.path_start[:-1],
        k.Q_PATH_LEN: np.diff(requests.path_start),
        k.Q_FOLLOWER: requests.follower,
        k.Q_SEAT: requests.seat,
        k.Q_BEFORE: requests.before_tokens,
    }
    for at, column in columns.items():
        rq[:, at] = column
    for at in (k.Q_LINK, k.Q_SERVER, k.Q_SELF, k.Q_HOME):
        rq[:, at] = -1
    rx[:, k.F_ARRIVAL] = requests.arrival_s
    rx[:, k.F_GAP] = requests.gap_s
    rx[:, k.F_UNIFORM] = requests.uniform
    rx[:, k.F_NORMAL] = requests.normal
    rx[:, k.F_NORMAL_RATE] = requests.normal_rate
    rx[:, k.F_FIRST] = rx[:, k.F_FINISH] = math.nan
    return rq, rx


def adapter_codes(requests: Requests) -> Ints:
    """Return the number of each class's adapter, −1 for none."""
    names = sorted({c.adapter for c in requests.classes if c.adapter is not None})
    codes = [-1 if c.adapter is None else names.index(c.adapter) for c in requests.classes]
    return np.array(codes, dtype=np.int64)


class _Layout:
    """Offsets of the regions of ``st`` and ``sx``."""

    def __init__(self, fleet: Fleet, requests: Requests, levels: int, ticks: int, more: bool) -> None:
        pools = fleet.replicas
        self.replicas, self.levels, self.classes = len(pools), levels, len(requests.classes)
        self._ints, self._floats = k.H_SIZE, k.G_SIZE
        n = len(requests)
        self.order = self.ints(int((~requests.follows).sum()))
        self.heap, self.heap_x = self.ints(3 * (n + 8)), self.floats(n + 8)
        self.path, self.node = self.ints(len(requests.path)), self.ints(requests.node_tokens.size)
        self.tick_out, self.tick_x = self.ints(k.TICK_INTS * ticks), self.floats(2 * ticks)
        self.itl, self.edges = self.ints(self.classes * BINS), self.floats(BINS)
        self.fail = self.floats(3 * self.classes)
        self.replica, self.replica_x = self.ints(k.R_SIZE * len(pools)), self.floats(k.X_SIZE * len(pools))
        self.slots, self.heaps, self.phases, self.queues, self.counts, self.adapters = ([] for _ in range(6))
        self.nodes = []
        for pool in pools:
            c = pool.replica
            self.slots.append(self.ints(c.slots * k.S_SIZE))
            self.heaps.append(self.ints(2 * c.slots))
            self.phases.append(self.ints(c.block_tokens))
            self.queues.append(self.ints(2 * levels))
            self.counts.append(self.ints(self.classes))
            self.adapters.append(self.ints(self.classes * k.A_SIZE))
            cached = len(requests.node_tokens) if c.prefix_cache else 0
            self.nodes.append(self.ints(cached * k.E_SIZE))
        caches = [p.replica for p in pools if p.replica.prefix_cache]
        # A request leaves few entries behind, wherever it is served; how many will come later is not known.
        most = sum(c.kv_blocks + 2 for c in caches)
        self.spare_count = most if more else min(most, 8 * n + 64 + 2 * len(caches))
        self.spares = self.ints(self.spare_count * k.E_SIZE)
        lanes = 1 if dialogues_stay(fleet, requests) else max(len(pools), 1)
        self.chain_stride = lanes * k.E_SIZE
        first = self.ints((requests.chains if caches else 0) * self.chain_stride)
        self.chains = [first + r % lanes * k.E_SIZE for r in range(len(pools))]
        self.outages = -1

    def ints(self, size: int) -> int:
        """Reserve a region of ``st`` and return its offset."""
        at = self._ints
        self._ints += int(size)
        return at

    def floats(self, size: int) -> int:
        """Reserve a region of ``sx`` and return its offset."""
        at = self._floats
        self._floats += int(size)
        return at

    @property
    def st_size(self) -> int:
        """Length of ``st``."""
        return self._ints

    @property
    def sx_size(self) -> int:
        """Length of ``sx``, with room for outages at its end."""
        if self.outages < 0:
            self.outages = self.floats(2 * MAX_OUTAGES)
        return self._floats


def arrival_order(requests: Requests) -> Ints:
    """Return the requests that wait for no other one, in order of arrival."""
    first = np.flatnonzero(~requests.follows)
    return first[np.argsort(requests.arrival_s[first], kind="stable")]


def dialogues_stay(fleet: Fleet, requests: Requests) -> bool:
    """Return whether each dialogue is served by one replica alone, so that one cache entry for it is enough."""
    if fleet.router.balance != "per_seat" or len(fleet.pools) != 1 or requests.chains == 0:
        return False
    rows = requests.chain >= 0
    seat = np.full(requests.chains, -1, dtype=np.int64)
    seat[requests.chain[rows]] = requests.seat[rows]
    return bool((seat[requests.chain[rows]] == requests.seat[rows]).all())


MAX_OUTAGES = 4096
"""Outages of the hosted API in one run at most."""


def _fill_header(st: Ints, sx: Floats, fleet: Fleet, requests: Requests, at: _Layout, outages: Floats) -> None:
    router, roles = fleet.router, [p.role for p in fleet.pools]
    order = arrival_order(requests)
    values = {
        k.H_REPLICAS: at.replicas, k.H_REQUESTS: len(requests), k.H_CLASSES: at.classes, k.H_LEVELS: at.levels,
        k.H_STREAM: len(order), k.H_POLICY: POLICIES.index(router.policy),
        k.H_BALANCE: BALANCES.index(router.balance), k.H_PRIVATE_STAYS: int(router.private_stays),
        k.H_HAS_HOSTED: int(fleet.hosted is not None), k.H_LEAVE_LEVEL: router.leave_level,
        k.H_LONG_TOKENS: router.long_context_tokens, k.H_AFTER_FAILURE: int(router.escalate_after_failure),
        k.H_LOADGEN: requests.concurrency or -1, k.H_LOADGEN_END: len(requests),
        k.H_CHAIN_STRIDE: at.chain_stride, k.H_PARKED_HEAD: -1, k.H_PARKED_TAIL: -1,
        k.H_REPLICA: at.replica, k.H_HEAP: at.heap, k.H_ORDER: at.order, k.H_PATH: at.path, k.H_NODE: at.node,
        k.H_TICK_OUT: at.tick_out, k.H_ITL: at.itl, k.H_BINS: BINS, k.H_POOLS: len(fleet.pools),
        k.H_DECODE_POOL: roles.index("decode") if "decode" in roles else -1,
        k.H_OUTAGES: min(len(outages) // 2, MAX_OUTAGES),
        k.H_FEEDBACK: int(bool(requests.follows.any()) or "decode" in roles or router.policy == "escalate"),
    }  # fmt: skip
    for where, value in values.items():
        st[where] = value
    st[at.order : at.order + len(order)] = order
    st[at.path : at.path + len(requests.path)] = requests.path
    st[at.node : at.node + requests.node_tokens.size] = requests.node_tokens.ravel()
    floats = {
        k.G_END: requests.span_s, k.G_REPLICA: at.replica_x, k.G_HEAP: at.heap_x, k.G_OUTAGE: at.outages,
        k.G_TICK_OUT: at.tick_x, k.G_EDGES: at.edges, k.G_FAIL: at.fail, k.G_WAIT_LIMIT: router.overflow_wait_s,
        k.G_TRANSFER_S: fleet.kv_transfer_s_per_token, k.G_TRANSFER_BASE_S: fleet.kv_transfer_base_s,
        k.G_RETIRED: k.NEVER,
    }  # fmt: skip
    for where, amount in floats.items():
        sx[where] = amount
    sx[at.edges : at.edges + BINS] = EDGES
    sx[at.outages : at.outages + 2 * int(st[k.H_OUTAGES])] = outages[: 2 * MAX_OUTAGES]
    for c, info in enumerate(requests.classes):
        d = info.difficulty
        sx[at.fail + 3 * c : at.fail + 3 * c + 3] = (d.small, d.mid, d.frontier)
    if fleet.hosted is not None:
        _fill_hosted(st, sx, fleet.hosted)


def _fill_hosted(st: Ints, sx: Floats, hosted: HostedConfig) -> None:
    st[k.H_MAX_RETRIES], st[k.H_HOSTED_MOST] = hosted.max_retries, hosted.max_concurrent or 0
    rpm = math.inf if hosted.rpm is None else hosted.rpm
    tpm = math.inf if hosted.tpm is None else hosted.tpm
    floats = {
        k.G_RPM_RATE: min(rpm / 60, 1e15), k.G_RPM_LEVEL: min(rpm, 1e18), k.G_RPM_SIZE: min(max(rpm, 1.0), 1e18),
        k.G_TPM_RATE: min(tpm / 60, 1e15), k.G_TPM_LEVEL: min(tpm, 1e18), k.G_TPM_SIZE: min(tpm, 1e18),
        k.G_TTFT_MU: math.log(hosted.ttft_p50_s), k.G_TTFT_SIGMA: hosted.ttft_sigma,
        k.G_TOKEN_MU: math.log(hosted.tokens_per_s_p50), k.G_TOKEN_SIGMA: hosted.tokens_per_s_sigma,
        k.G_UNCACHED_S: hosted.uncached_s_per_token, k.G_CONTEXT_S: hosted.context_s_per_token,
        k.G_BACKOFF_S: hosted.backoff_s, k.G_BACKOFF_MAX_S: hosted.backoff_max_s,
        k.G_RETIRED: k.NEVER if hosted.retired_after_s is None else hosted.retired_after_s,
        k.G_CACHE_S: hosted.cache_ttl_s,
    }  # fmt: skip
    for where, amount in floats.items():
        sx[where] = amount


def _runs_of_a_pool(fleet: Fleet) -> Iterator[range]:
    """Yield neighbouring replicas of one pool together."""
    start = 0
    for _, group in groupby(fleet.replicas, key=id):
        count = len(list(group))
        yield range(start, start + count)
        start += count


def _records(state: Any, members: range, first: int, size: int) -> Any:
    """Return the records of neighbouring replicas as rows of a matrix; what is written there is written in place."""
    return state[first + members.start * size : first + members.stop * size].reshape(len(members), size)


def _fill_records(st: Ints, sx: Floats, members: range, pool: PoolConfig, at: _Layout, tables: Sequence[int]) -> None:
    """Fill the records of neighbouring replicas of one pool, column by column: a fleet may have hundreds."""
    c, rows = pool.replica, slice(members.start, members.stop)
    limit = c.usable_blocks * c.block_tokens if c.max_context_tokens is None else c.max_context_tokens
    values: dict[int, int | Sequence[int]] = {
        k.R_UP: 1, k.R_SEQS: c.slots, k.R_BUDGET: c.max_num_batched_tokens, k.R_BLOCK: c.block_tokens,
        k.R_BLOCKS: c.usable_blocks, k.R_FIXED: c.fixed_blocks_per_seq, k.R_CACHE: int(c.prefix_cache),
        k.R_CHUNKED: int(c.chunked_prefill), k.R_STATIC: int(c.batching == "static"), k.R_CURRENT: -1,
        k.R_HEAD: -1, k.R_TAIL: -1, k.R_SLOT: at.slots[rows], k.R_HEAP: at.heaps[rows],
        k.R_PHASE: at.phases[rows], k.R_QUEUE: at.queues[rows], k.R_TABLE: tables, k.R_NODES: at.nodes[rows],
        k.R_CHAINS: at.chains[rows], k.R_DRAFT: c.draft_tokens,
        k.R_CLASS: at.counts[rows], k.R_ADAPTERS: c.max_adapters, k.R_ADAPTER: at.adapters[rows],
        k.R_MAX_CONTEXT: limit, k.R_INSIDE: int(pool.inside),
        k.R_TIER: TIERS.index(pool.tier), k.R_ROLE: ROLES.index(pool.role), k.R_SLOTS_FREE: at.slots[rows],
    }  # fmt: skip
    records = _records(st, members, at.replica, k.R_SIZE)
    for where, value in values.items():
        records[:, where] = value
    floats = {
        k.X_TIME: k.NEVER, k.X_GAP: -1.0, k.X_IDLE_W: c.steps.idle_w, k.X_ACCEPTANCE: c.draft_acceptance_frac,
        k.X_LOAD_S: c.adapter_load_s, k.X_ADAPTER_S: c.adapter_step_s, k.X_ADAPTER_EACH_S: c.adapter_each_s,
    }  # fmt: skip
    records_x = _records(sx, members, at.replica_x, k.X_SIZE)
    for where, amount in floats.items():
        records_x[:, where] = amount


def _fill_regions(st: Ints, r: int, pool: PoolConfig, at: _Layout) -> None:
    """Fill what a replica's record points at: slots, queues, adapters, cache."""
    c = pool.replica
    slots = at.slots[r] + k.S_SIZE * np.arange(c.slots)
    st[slots[:-1] + k.S_REQUEST], st[slots[-1] + k.S_REQUEST] = slots[1:], -1
    st[at.queues[r] : at.queues[r] + 2 * at.levels] = -1
    st[at.adapters[r] + k.A_USED : at.adapters[r] + k.A_SIZE * at.classes : k.A_SIZE] = -1
    _fill_blocks(st, at.replica + r * k.R_SIZE, c.usable_blocks)


def _fill_blocks(st: Ints, b: int, blocks: int) -> None:
    """Put all blocks into one of the unused entries."""
    st[b + k.R_FREE] = blocks
    if not st[b + k.R_CACHE]:
        return
    first = int(st[k.H_SPARE])
    st[k.H_SPARE] = first + k.E_SIZE
    st[first + k.E_PREV], st[first + k.E_NEXT] = -1, -1
    st[first + k.E_BLOCKS], st[first + k.E_OWNER] = blocks, -1
    st[b + k.R_HEAD] = st[b + k.R_TAIL] = first
