"""Results of a simulation as records that a script can print and a report can draw."""

from typing import Any

from envelope.provenance import Frozen


class Spread(Frozen):
    """Mean and percentiles of one quantity over requests (or over gaps between tokens)."""

    mean: float
    p50: float
    p90: float
    p95: float
    p99: float


CURVE_FRACS = (
    0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9,
    0.925, 0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.999, 1.0,
)  # fmt: skip
"""Shares at which the curves of a class are sampled."""


class Curves(Frozen):
    """Distribution functions: for each share of ``CURVE_FRACS`` the value that so many requests (gaps) do not exceed.

    Empty where nothing was measured.
    """

    ttft_s: tuple[float, ...] = ()
    itl_s: tuple[float, ...] = ()
    tpot_s: tuple[float, ...] = ()
    e2e_s: tuple[float, ...] = ()


class FleetEvent(Frozen):
    """One change of the fleet while it served."""

    time_s: float
    kind: str
    """``failure``, ``power cut``, ``maintenance`` … and what ends each."""
    replica: int | None = None
    """Number of the replica; ``None`` for what concerns all or the hosted API."""
    running: int
    """Replicas in service afterwards."""


class Interval(Frozen):
    """A mean over seeds with its 95 % confidence interval (equal to the mean with one seed)."""

    mean: float
    low: float
    high: float


class ClassResult(Frozen):
    """What happened to one task class (or to all requests, id ``all``)."""

    id: str
    offered: int
    """Requests that started in the measured time."""
    completed: int
    """Answered, however late."""
    completed_hosted: int
    refused_private: int
    """Private requests that no place in the building could take."""
    refused_length: int
    """Requests longer than any replica holds."""
    refused_hosted: int
    """Requests given up after all retries at the hosted API, with nothing inside to take them."""
    unfinished: int
    """Requests still waiting when the simulation stopped (nothing came up to serve them)."""
    degraded: int
    """Requests that the policy wanted to send out and privacy or the API's refusal kept inside."""
    escalated: int
    spilled: int
    """Requests sent out for lack of room inside."""
    waited_for_repair: int
    preempted: int
    """Requests preempted at least once."""
    restarted: int
    """Requests that lost work to a failure and started again."""
    late: int = 0
    """Answered after so many hours that nobody waits any more: not counted as served."""
    solved_frac: float
    """Expected share of the offered requests that are answered by a model that does not fail them."""
    slo_attainment_frac: float
    """Share of the offered requests that were served within every limit of their class."""
    goodput_per_s: float
    """Such requests per second of measured time."""
    mean_input_tokens: float
    mean_output_tokens: float
    ttft_s: Spread | None
    itl_s: Spread | None
    tpot_s: Spread | None
    e2e_s: Spread | None
    curves: Curves = Curves()

    @property
    def served_frac(self) -> float:
        """Share of the offered requests that were answered while somebody waited."""
        return (self.completed - self.late) / max(self.offered, 1)


class Stratum(Frozen):
    """Requests of one class that the fleet's own model would fail or not, that are private or not, and that begin a
    dialogue or continue one.

    How many of each there are is chance in a short run, though the workload says it; so what happens *within* a
    stratum is taken from the run and its weight from the workload (post-stratification: W. G. Cochran, *Sampling
    Techniques*, 1977, section 5A.9).
    """

    task: int
    """Position of the task class."""
    hard: bool
    """Whether the own model (the hosted one, if there is no other) fails them."""
    private: bool
    continues: bool
    """Whether their prompts continue those of the calls before, so that a cache can hold most of them."""
    weight_frac: float
    """Share of all requests as the workload means it; as drawn where it does not say."""
    offered: int
    served: int
    hosted: int
    """Served by the hosted API."""
    outside: int
    """Entered anything outside the building."""
    offered_tokens: tuple[tuple[int, int, int], ...]
    """Prompt and answer tokens of the offered requests by band of prompt length (``HostedUsage.bands``), and the part
    of the prompts that continues those of the calls before."""
    served_tokens: tuple[tuple[int, int], ...]
    """Prompt and answer tokens of the served requests, by band."""
    hosted_tokens: tuple[tuple[int, int, int], ...]
    """Prompt tokens at the full price, cached ones, and answer tokens that the hosted API bills, by band."""


class HostedBand(Frozen):
    """Hosted tokens of the requests whose prompts are of similar length."""

    above_input_tokens: int
    """Prompts are longer than this, and not longer than the next band's."""
    input_tokens: int
    """Prompt tokens at the full price."""
    cached_input_tokens: int
    output_tokens: int


class HostedUsage(Frozen):
    """What the hosted API would bill in the measured time, by tariff line."""

    requests: int
    attempts: int
    """Calls including those that were refused."""
    input_tokens: int
    """Prompt tokens at the full price."""
    cached_input_tokens: int
    output_tokens: int
    bands: tuple[HostedBand, ...]
    """The same tokens by the length of the prompt, split at the thresholds of the tariff; they sum to the totals."""


class Timeline(Frozen):
    """Samples of the run's first seed at equal times; bins are as wide as the first value of ``t_s``."""

    t_s: tuple[float, ...]
    """End of each bin, seconds after the start."""
    queue: tuple[float, ...]
    """Requests that wait inside."""
    running: tuple[float, ...]
    """Requests in the batches."""
    kv_used_frac: tuple[float, ...]
    power_w: tuple[float, ...]
    """Mean power of the local devices in the bin."""
    hosted: tuple[float, ...]
    """Requests in the hosted API."""
    hosted_frac: tuple[float, ...] = ()
    """Their share of all requests in the system."""


class Bottleneck(Frozen):
    """Shares of the replicas' busy time."""

    compute_frac: float
    memory_frac: float
    communication_frac: float
    overhead_frac: float
    queue_for_kv_frac: float
    """Busy time with a queue that waited for KV blocks."""
    queue_for_seqs_frac: float
    """The same for a place in the batch (``max_num_seqs``)."""
    queue_for_tokens_frac: float
    """The same for the token budget of a step: prefill is the limit."""
    text: str
    """One sentence, such as ``memory-bound 61 % of busy time; queue waits for KV blocks 12 %``."""


NOTHING_RAN = Bottleneck(
    compute_frac=0.0, memory_frac=0.0, communication_frac=0.0, overhead_frac=0.0, queue_for_kv_frac=0.0,
    queue_for_seqs_frac=0.0, queue_for_tokens_frac=0.0, text="nothing ran on local replicas",
)  # fmt: skip
"""Bottleneck of a run without busy replicas."""


class SimulationResult(Frozen):
    """All that a simulation says."""

    seeds: tuple[int, ...]
    window_s: float
    """Measured time of each seed."""
    warmup_s: float
    """Time before it, whose requests are served but not counted."""
    share_frac: float
    """Share of the workload's load that was simulated."""
    requests: int
    completed: int
    completed_outside: int
    """Requests that entered anything outside the building: a hosted API, or replicas that do not stand inside."""
    overall: ClassResult
    classes: tuple[ClassResult, ...]
    strata: tuple[Stratum, ...] = ()
    """The counted requests of all seeds by what the workload says of their numbers."""
    slo_attainment: Interval
    goodput_per_s: Interval
    served: Interval
    """Share of the offered requests that were served at all."""
    ttft_p95_s: Interval | None
    private_requests_left: int
    """Counted private requests that entered anything outside the building, by the requests' own records."""
    output_tokens_per_s: float
    """Output tokens of the local replicas per second of measured time."""
    prompt_tokens_per_s: float
    """Prompt tokens that the local replicas computed per second (cache hits left out)."""
    prefix_hit_frac: float
    """Share of the local prompt tokens that the prefix cache held."""
    utilisation_frac: float
    """Busy share of the replicas' switched-on time."""
    busy_s: float
    """Busy time of all replicas, per seed."""
    energy_j: float
    """Energy of all replicas in the measured time, per seed."""
    mean_power_w: float
    preemptions: int
    peak_replicas: int
    hosted: HostedUsage
    bottleneck: Bottleneck
    timeline: Timeline
    events: dict[str, int]
    """Failures, repairs by spare, power cuts, maintenances, starts and stops."""
    log: tuple[FleetEvent, ...] = ()
    """The same one by one, in the first seed."""
    running_frac: float = 1.0
    """Share of the replicas' time for which they were switched on and in service, over all seeds."""
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return self.model_dump(mode="json")
