"""What is simulated: replicas, pools, a hosted API, the router's policy, faults and schedules."""

import math
from dataclasses import dataclass
from typing import Literal

from envelope.errors import InputError, Problem
from envelope.spec.routing import Policy
from envelope.spec.step import StepTables
from envelope.spec.workload import SENSITIVITIES, Sensitivity

Tier = Literal["small", "mid", "frontier"]
TIERS: tuple[Tier, ...] = ("small", "mid", "frontier")

Balance = Literal["round_robin", "least_outstanding", "prefix_affine", "per_seat"]
BALANCES: tuple[Balance, ...] = ("round_robin", "least_outstanding", "prefix_affine", "per_seat")
Role = Literal["serve", "prefill", "decode"]
ROLES: tuple[Role, ...] = ("serve", "prefill", "decode")


def _check(kind: str, rules: list[tuple[str, object, bool, str]]) -> None:
    bad = [Problem(kind, name, value, rule) for name, value, ok, rule in rules if not ok]
    if bad:
        raise InputError(bad)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReplicaConfig:
    """One replica: its step times, scheduler settings and KV blocks."""

    steps: StepTables
    max_num_seqs: int
    """Sequences in the batch at most."""
    max_num_batched_tokens: int
    """Tokens per step at most, decodes included."""
    kv_blocks: int
    block_tokens: int = 16
    fixed_blocks_per_seq: int = 0
    """Blocks that a sequence takes whatever its length (sliding windows, recurrent state)."""
    prefix_cache: bool = False
    chunked_prefill: bool = True
    """Whether prompts are cut to the token budget and share steps with decodes; if not, prompts go first, whole."""
    batching: Literal["continuous", "static", "single"] = "continuous"
    """``static`` admits only into an empty batch; ``single`` serves one request at a time."""
    max_context_tokens: int | None = None
    """Longest prompt plus answer; ``None`` is what the KV blocks hold."""
    admission_steps: float = 0.0
    """Decode steps that pass between a request's admission by the front end and its first step in the engine."""
    draft_tokens: int = 0
    """Speculative tokens per sequence and step."""
    draft_acceptance_frac: float = 0.0
    """Probability that a speculative token is accepted, given that the one before it was."""
    max_adapters: int = 0
    """Places for adapters (LoRA) on the device: different ones in one batch at most; requests that need another wait.
    The longest unused one makes place for the next. 0 is no limit."""
    adapter_blocks: int = 0
    """KV blocks' worth of memory that each of those places takes, whether it is filled or not."""
    adapter_load_s: float = 0.0
    """Time to copy an adapter that is not on the device to it; the engine waits for it."""
    adapter_step_s: float = 2e-3
    """Time that a step takes longer if any of its sequences uses an adapter. Default: the 2 ms per token of Chen et
    al., Punica: Multi-Tenant LoRA Serving, 2023, abstract (https://arxiv.org/abs/2310.18547), measured on its
    machines; that other devices, models and ranks take as long is an assumption."""
    adapter_each_s: float = 0.0
    """The same for each different adapter: reading its weights."""

    def __post_init__(self) -> None:
        seqs, tokens = self.max_num_seqs, self.max_num_batched_tokens
        _check(
            "replica",
            [
                ("max_num_seqs", seqs, seqs >= 1, "must be at least 1"),
                ("max_num_seqs", seqs, seqs <= self.steps.max_num_seqs, "is beyond the step tables"),
                (
                    "max_num_batched_tokens",
                    tokens,
                    tokens > self.draft_tokens and tokens >= self.slots * (1 + self.draft_tokens),
                    "must hold one decode step of max_num_seqs sequences",
                ),
                ("kv_blocks", self.kv_blocks, self.kv_blocks >= 1, "must be at least 1"),
                ("max_adapters", self.max_adapters, self.usable_blocks >= 1,
                 "leaves no KV blocks beside the adapters"),
                ("adapter_load_s", self.adapter_load_s,
                 min(self.adapter_load_s, self.adapter_step_s, self.adapter_each_s) >= 0, "must not be negative"),
                ("block_tokens", self.block_tokens, self.block_tokens >= 1, "must be at least 1"),
                ("draft_acceptance_frac", self.draft_acceptance_frac, 0 <= self.draft_acceptance_frac < 1,
                 "must be at least 0 and below 1"),
            ],
        )  # fmt: skip

    @property
    def slots(self) -> int:
        """Sequences in the batch at most, 1 in ``single`` mode."""
        return 1 if self.batching == "single" else self.max_num_seqs

    @property
    def tokens_per_step(self) -> float:
        """Mean tokens per sequence and decode step: ``(1 − a^(d+1)) / (1 − a)`` with d drafts accepted at rate a
        (Leviathan et al., Fast Inference from Transformers via Speculative Decoding, 2023, eq. 1).
        """
        a, d = self.draft_acceptance_frac, self.draft_tokens
        return (1.0 - a ** (d + 1)) / (1.0 - a)

    @property
    def usable_blocks(self) -> int:
        """KV blocks that the places of the adapters leave."""
        return self.kv_blocks - self.max_adapters * self.adapter_blocks


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PoolConfig:
    """Identical replicas with one role."""

    replica: ReplicaConfig
    """One replica, or one data-parallel rank of it."""
    replicas: int = 1
    ranks: int = 1
    """Data-parallel attention ranks per replica that share experts: each has a batch and KV blocks of its own, but
    they step together, as slowly as the slowest. The step tables are those of one rank."""
    name: str = "local"
    role: Role = "serve"
    """``prefill`` computes prompts and hands them to the ``decode`` pool."""
    inside: bool = True
    """Whether the replicas stand in the building; private requests enter no others."""
    tier: Tier = "small"
    devices_per_replica: int = 1

    def __post_init__(self) -> None:
        _check(
            "pool",
            [(n, v, v >= 1, "must be at least 1") for n, v in (("replicas", self.replicas), ("ranks", self.ranks))],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedConfig:
    """A hosted API: latency, rate limits, outages, retirement."""

    ttft_p50_s: float
    ttft_sigma: float = 0.0
    """Standard deviation of the natural logarithm of the time to first token."""
    tokens_per_s_p50: float
    tokens_per_s_sigma: float = 0.0
    uncached_s_per_token: float = 0.0
    """Extra time to first token per prompt token that its cache does not hold."""
    context_s_per_token: float = 0.0
    """Extra time to first token per prompt token."""
    rpm: float | None = None
    """Requests per minute; ``None`` is no limit."""
    tpm: float | None = None
    """Tokens per minute, input and output."""
    max_concurrent: int | None = None
    """Requests that it serves for us at once at most; more are refused like those beyond the rate limits."""
    max_retries: int = 6
    backoff_s: float = 1.0
    """First wait after a refusal; it doubles each time and is shortened by up to half at random."""
    backoff_max_s: float = 60.0
    availability_frac: float = 1.0
    outage_mean_s: float = 1800.0
    outages_s: tuple[tuple[float, float], ...] = ()
    """Start and end of outages that are given, besides those drawn from the availability."""
    retired_after_s: float | None = None
    """Time after the start at which the snapshot is retired and refuses everything."""
    cache_ttl_s: float = 300.0
    """Time for which it keeps a dialogue's context cached."""
    input_thresholds: tuple[int, ...] = ()
    """Prompt lengths (cached or not) above which the tariff changes; usage is counted on either side of each."""
    tier: Tier = "frontier"

    def __post_init__(self) -> None:
        rules = [
            ("ttft_p50_s", self.ttft_p50_s, self.ttft_p50_s > 0, "must be above 0"),
            ("tokens_per_s_p50", self.tokens_per_s_p50, self.tokens_per_s_p50 > 0, "must be above 0"),
            ("availability_frac", self.availability_frac, 0 < self.availability_frac <= 1, "must be in (0, 1]"),
            ("rpm", self.rpm, self.rpm is None or self.rpm > 0, "must be above 0"),
            ("tpm", self.tpm, self.tpm is None or self.tpm > 0, "must be above 0"),
            (
                "max_concurrent",
                self.max_concurrent,
                self.max_concurrent is None or self.max_concurrent > 0,
                "must be above 0",
            ),
        ]
        _check("hosted", [(n, v, bool(ok), r) for n, v, ok, r in rules])


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterPolicy:
    """Which request goes where."""

    policy: Policy = "local_only"
    balance: Balance = "least_outstanding"
    overflow_wait_s: float = 10.0
    """``overflow``: expected wait above which a request that may leave goes out."""
    long_context_tokens: int = 32_768
    """``long_context``: longer prompts go to the second pool, or out if there is none."""
    escalate_after_failure: bool = True
    """``escalate``: hard tasks are tried inside first; if not, they are recognised and go out at once."""
    leave_up_to: Sensitivity = "internal"
    """``by_sensitivity``: the strictest sensitivity that goes out."""
    private_stays: bool = True
    """Whether private requests may only be served in the building."""

    @property
    def leave_level(self) -> int:
        """Code of ``leave_up_to``."""
        return SENSITIVITIES.index(self.leave_up_to)


@dataclass(frozen=True, slots=True)
class Strike:
    """A failure at a given time, such as a node that dies at the peak."""

    at_s: float
    replicas: int
    """Replicas that it takes down, the first ones that are in service."""
    repair_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What fails and how long it takes until it works again. Times are drawn from exponentials."""

    device_mtbf_s: float = math.inf
    """Mean time between failures of one device that stop its replica."""
    node_mtbf_s: float = math.inf
    """Mean time between failures of a replica's host."""
    restart_frac: float = 0.0
    """Share of the failures that a restart of the engine cures, without repair and without a spare."""
    repair_s: float = 4 * 3600.0
    """Mean time to repair or exchange."""
    reload_s: float = 120.0
    """Time to start the engine and load the model after a repair, a move to a spare or a power cut."""
    spares: int = 0
    """Replicas' worth of spare hardware that stands ready."""
    power_cuts_per_year: float = 0.0
    power_cut_s: float = 3600.0
    """Mean length of a power cut; all replicas stop."""
    maintenance_every_s: float = math.inf
    """Time between planned maintenance of each replica; running requests finish first."""
    maintenance_s: float = 1800.0
    maintenance_at_s: tuple[float, ...] | None = None
    """Times at which a round of maintenance begins, one replica after the other; ``None``: each replica by itself."""
    strikes: tuple[Strike, ...] = ()
    """Failures that happen for certain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Times in which the pools are switched off."""

    closed_s: tuple[tuple[float, float], ...]
    """Start and end of each; running requests finish first, later ones wait until a replica is up."""
    kept_replicas: int = 0
    """Replicas of each pool that stay on."""
    startup_s: float = 120.0
    """Time before the end of a closed time at which the replicas begin to start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscale:
    """Switching replicas of the first pool on and off with the load."""

    min_replicas: int = 1
    scale_up_outstanding: float = 16.0
    """Requests per running replica above which one more is started."""
    scale_down_outstanding: float = 4.0
    """Requests per running replica below which one is drained."""
    every_s: float = 30.0
    startup_s: float = 120.0
    """Time from the decision until a replica takes requests (measured: machine, engine, weights)."""
    off_hours: tuple[int, ...] = ()
    """Local hours of the day in which the pool runs at ``min_replicas``."""
    clock_start_s: float = 0.0
    """Time of the day at which the simulation begins, for ``off_hours``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fleet:
    """Everything that serves requests."""

    pools: tuple[PoolConfig, ...] = ()
    hosted: HostedConfig | None = None
    router: RouterPolicy = RouterPolicy()
    faults: Faults | None = None
    autoscale: Autoscale | None = None
    schedule: Schedule | None = None
    kv_transfer_s_per_token: float = 0.0
    """``prefill`` and ``decode`` pools: time to move the KV cache of one prompt token."""
    kv_transfer_base_s: float = 0.0

    def __post_init__(self) -> None:
        roles = [p.role for p in self.pools]
        _check(
            "fleet",
            [
                ("pools", None, bool(self.pools) or self.hosted is not None, "needs pools or a hosted API"),
                ("pools", roles, ("prefill" in roles) == ("decode" in roles), "prefill and decode go together"),
                ("autoscale", None, self.autoscale is None or self.router.balance != "per_seat",
                 "cannot switch seats' own devices off"),
                ("schedule", None, self.schedule is None or self.autoscale is None or self.schedule.kept_replicas == 0,
                 "keep_replicas and autoscale exclude each other: autoscaling has its own minimum"),
                ("router.policy", self.router.policy, self.router.policy != "hosted_only" or self.hosted is not None,
                 "needs a hosted API"),
                ("router.policy", self.router.policy, self.router.policy == "hosted_only" or bool(self.pools),
                 "needs pools"),
            ],
        )  # fmt: skip

    @property
    def replicas(self) -> list[PoolConfig]:
        """The pool of each scheduler (each rank of each replica), in order."""
        return [pool for pool in self.pools for _ in range(pool.replicas * pool.ranks)]

    @property
    def leaders(self) -> list[int]:
        """Number of the first rank of each scheduler's replica."""
        found: list[int] = []
        for pool in self.pools:
            for _ in range(pool.replicas):
                found += [len(found)] * pool.ranks
        return found
