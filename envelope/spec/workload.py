"""The work that a deployment must do: task classes, their lengths and limits, and when requests arrive."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from envelope.provenance import Frozen, Sourced
from envelope.spec.lengths import Distribution, mean_of
from envelope.spec.presets import Look, merged, without
from envelope.units import SECONDS_PER_DAY

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)]

Sensitivity = Literal["private", "internal", "public"]
"""Who may see a request: ``private`` never leaves the building, ``internal`` may go to a provider whose data
terms the company accepts, ``public`` anywhere."""

SENSITIVITIES: tuple[Sensitivity, ...] = ("public", "internal", "private")
"""Sensitivities from the freest to the strictest; their index is the code that the simulation uses."""


class Difficulty(Frozen):
    """Probability that a model of each tier fails the task."""

    small: Fraction = 0.0
    """Models of about 8 billion parameters."""
    mid: Fraction = 0.0
    """Models of about 70 billion parameters."""
    frontier: Fraction = 0.0
    """The best models there are."""
    measured: bool = False
    """Whether evaluations gave or moved these rates; a larger tier may then fail more often than a smaller one."""

    @model_validator(mode="after")
    def _bigger_is_not_worse(self) -> Self:
        if not self.measured and not self.small >= self.mid >= self.frontier:
            raise ValueError("a larger tier must not fail more often than a smaller one")
        return self


class Slo(Frozen):
    """Service-level objective: limits that one request must keep to count as good. ``None`` is no limit."""

    ttft_s: Positive | None = None
    """Time to first token: from the request's arrival to its first token, the queue included."""
    tpot_s: Positive | None = None
    """Time per output token after the first, mean over the request: (E2E − TTFT) / (tokens − 1)."""
    e2e_s: Positive | None = None
    """End to end: from the request's arrival to its last token."""
    attainment_frac: Fraction = 0.95
    """Share of the requests that must keep all limits."""


class Session(Frozen):
    """A dialogue or an agent's run: the next call waits for the answer, the tool and sometimes the person."""

    calls: Distribution
    """Calls of the model per session."""
    first_input_tokens: Distribution
    """Prompt of the first call, system prompt included."""
    calls_first_correlation_frac: float = Field(default=0.0, ge=-1, le=1)
    """Correlation (of normal scores) of the number of calls with the length of the first prompt: below 0, sessions
    resumed with a long context end sooner."""
    appended_tokens: Distribution
    """Tokens that each later call adds to the context, besides the previous answer."""
    early_growth_calls: float = Field(default=0.0, ge=0, le=1000)
    """The n-th later call adds ``1 + early_growth_calls / n`` times as many: agents read most at the beginning."""
    lost_prefix_frac: Fraction = 0.0
    """Share of the later calls whose prompt has only the system prompt in common with the call before: other tools,
    edits far back, another model."""
    gap_s: Distribution
    """Time from an answer to the next call after a tool."""
    user_gap_s: Distribution | None = None
    """The same when a person writes the next prompt."""
    user_gap_frac: Fraction = 0.0
    """Share of the later calls that a person begins."""
    max_context_tokens: Positive | Distribution | None = None
    """Context at which the client compacts the dialogue: one for all, or drawn for each session."""
    resumed_room: float = Field(default=1.05, ge=1, le=100)
    """A session whose first prompt comes near that context or beyond was resumed, in a window so many times as large
    as that prompt."""
    compacted_tokens: Positive | Distribution = 36_400.0
    """Context after compaction: one for all, or drawn each time."""


class Documents(Frozen):
    """Prompts that begin with one of a set of shared documents, so that a prefix cache may hold them."""

    count: int = Field(ge=1, le=1_000_000)
    tokens: Distribution
    zipf: float = Field(default=1.0, ge=0, le=5)
    """Exponent of the documents' popularity; 0 is equal."""
    use_frac: Fraction = 1.0
    """Share of the requests that begin with a shared document."""
    own_tokens: Distribution | None = None
    """Tokens of such a request after its document. ``None``: its prompt is as long as any other of the class, and
    begins with the document if that is shorter."""


class Clients(Frozen):
    """Clients of a shared service: few send most requests, and each has lengths of its own kind.

    In production traces the busiest tenth sends 71–79 % of the requests, and 52–83 % of the variance of the prompt
    length lies between clients (ServeGen, 2025).
    """

    count: int = Field(ge=1, le=100_000)
    zipf: float = Field(default=1.0, ge=0, le=5)
    """Exponent of the clients' shares; 0 is equal."""
    length_variance_frac: Fraction = 0.5
    """Share of the variance of the lengths (of their normal scores) that lies between clients."""
    in_out_correlation_frac: Fraction = 0.4
    """Correlation between clients of prompt and answer length."""
    own_arrivals: bool = False
    """Whether each client has an arrival process of its own (bursts of one do not follow those of another)."""


class TaskShape(Frozen):
    """What a preset says about a kind of task."""

    input_tokens: Distribution | None = None
    """Prompt length, system prompt included; ``None`` only with a session."""
    output_tokens: Distribution | None = None
    in_out_correlation_frac: float = Field(default=0.0, ge=-1, le=1)
    """Correlation (of normal scores) of prompt and answer length; clients have one of their own, sessions none."""
    system_prompt_tokens: int = Field(default=0, ge=0, le=10_000_000)
    """Leading tokens that all requests of the class share."""
    documents: Documents | None = None
    clients: Clients | None = None
    """Clients behind the requests; not with sessions."""
    session: Session | None = None
    difficulty: Difficulty = Difficulty()
    slo: Slo = Slo()


class RateCurve(Frozen):
    """Load by hour and day, relative to the weekly mean."""

    weekday_hours: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=24, max_length=24)
    """Weight of each local hour of a working day, mean 1."""
    weekend_hours: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=24, max_length=24)
    weekend_to_weekday_frac: float = Field(default=1.0, ge=0, le=10)
    """Requests of a day at the weekend per request of a working day."""

    @model_validator(mode="after")
    def _some_load(self) -> Self:
        if sum(self.weekday_hours) + self.weekend_to_weekday_frac * sum(self.weekend_hours) <= 0:
            raise ValueError("the curve has no load at all")
        return self

    def hour_weights(self) -> list[float]:
        """Return the weights of the week's 168 hours from Monday 00:00, with mean 1."""
        weekday = _scaled(self.weekday_hours, 24.0)
        weekend = _scaled(self.weekend_hours, 24.0 * self.weekend_to_weekday_frac)
        return _scaled([*weekday * 5, *weekend * 2], 168.0)


class Arrivals(Frozen):
    """How requests (or sessions) follow each other at a given mean rate."""

    preset: str | None = None
    """Id of a preset whose arrivals apply where this gives none, such as the day and week of a recorded trace."""
    kind: Literal["poisson", "gamma", "weibull", "on_off", "constant"] = "poisson"
    cv: Positive = 1.0
    """``gamma``, ``weibull``: standard deviation over mean of the gaps."""
    on_s: Positive = 9.0
    """``on_off``: mean length of a burst."""
    off_s: Positive = 27.0
    """``on_off``: mean pause between bursts."""
    curve: RateCurve | None = None
    """Day and week shape; ``None`` is a constant rate."""
    rate_noise_cv: float = Field(default=0.0, ge=0, le=2)
    """Extra variation of the rate from ten minutes to ten minutes (standard deviation over mean)."""

    @classmethod
    def with_presets(cls, data: Any, look: Look) -> Any:
        """Return the fields of a file with those of the preset that they name, where they give none."""
        preset = _preset_of(data, look)
        if preset is None:
            return data
        if preset.arrivals is None:
            raise look.problem("preset", preset.id, "says nothing about arrivals")
        return merged(preset.arrivals.model_dump(mode="python", exclude_unset=True), data)

    def own_fields(self, look: Look) -> dict[str, Any]:
        """Return the fields that do not stand as they are in the preset."""
        given = self.model_dump(mode="python", exclude_unset=True)
        if self.preset is None:
            return given
        preset = look(WorkloadPreset, "workloads", self.preset, "preset").model_dump(mode="python", exclude_unset=True)
        return without(preset["arrivals"], given)


class WorkloadPreset(Sourced):
    """A kind of task with lengths measured on a named trace."""

    id: str
    name: str
    task: TaskShape
    arrivals: Arrivals | None = None
    """Day, week and bursts of the trace, if it is long enough to tell."""
    note: str = ""


class TaskClass(TaskShape):
    """One kind of request: how long, how sensitive, how hard and how soon it must be answered."""

    id: Name
    name: str = ""
    preset: str | None = None
    """Id of a preset whose fields apply where this class gives none."""
    share: Positive = 1.0
    """Share of all requests (calls of the model), relative to the other classes."""
    sensitivity: Sensitivity | dict[Sensitivity, Fraction] = "internal"
    """One sensitivity, or the share of the requests of each."""
    priority: int = Field(default=0, ge=-100, le=100)
    """Engines with a priority queue serve smaller numbers first."""
    adapter: Name | None = None
    """Adapter (LoRA) on the shared base model that the class needs; engines hold only so many in one batch."""

    @classmethod
    def with_presets(cls, data: Any, look: Look) -> Any:
        """Return the fields of a file with those of the preset that they name, where they give none."""
        preset = _preset_of(data, look)
        return data if preset is None else merged(preset.task.model_dump(mode="python", exclude_unset=True), data)

    def own_fields(self, look: Look) -> dict[str, Any]:
        """Return the fields that do not stand as they are in the preset."""
        given = self.model_dump(mode="python", exclude_unset=True)
        if self.preset is None:
            return given
        return without(
            look(WorkloadPreset, "workloads", self.preset, "preset").task.model_dump(mode="python", exclude_unset=True),
            given,
        )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.input_tokens is None and self.session is None:
            raise ValueError("needs input_tokens, a session or a preset")
        if self.output_tokens is None:
            raise ValueError("needs output_tokens or a preset")
        if self.clients is not None and self.session is not None:
            raise ValueError("clients and session exclude each other: a session has its own user")
        if isinstance(self.sensitivity, dict) and not math.isclose(sum(self.sensitivity.values()), 1.0, abs_tol=1e-6):
            raise ValueError("the shares of sensitivity must sum to 1")
        return self

    @property
    def sensitivity_mix(self) -> dict[Sensitivity, float]:
        """Share of the requests by sensitivity."""
        return dict(self.sensitivity) if isinstance(self.sensitivity, dict) else {self.sensitivity: 1.0}

    @property
    def mean_input_tokens(self) -> float:
        """Mean prompt of a class without sessions (0 with them)."""
        if self.input_tokens is None:
            return 0.0
        plain, shared = mean_of(self.input_tokens), self.documents
        if shared is None or shared.own_tokens is None:
            return plain
        whole = self.system_prompt_tokens + mean_of(shared.tokens) + mean_of(shared.own_tokens)
        return shared.use_frac * whole + (1.0 - shared.use_frac) * plain

    @property
    def mean_calls(self) -> float:
        """Mean calls per session (1 without sessions)."""
        return max(1.0, mean_of(self.session.calls)) if self.session else 1.0


class Workload(Frozen):
    """All the work in a scenario: give ``requests_per_day``, or ``seats`` and ``requests_per_seat_day``."""

    tasks: tuple[TaskClass, ...] = Field(min_length=1, max_length=64)
    requests_per_day: Positive | None = None
    """Requests (calls of the model) on an average day of the week."""
    seats: int | None = Field(default=None, ge=1, le=100_000_000)
    requests_per_seat_day: Positive | None = None
    arrivals: Arrivals = Arrivals()
    growth_frac_per_year: float = Field(default=0.0, ge=-1, le=20)
    """Change of the number of requests from year to year (0.3 is 30 % more)."""
    trace: str | None = None
    """Log file, in any form that ``envelope import`` reads, whose requests are replayed instead of drawn ones; a path
    in a scenario's file counts from that file's folder. Its busiest hour is simulated (another part of the week only if
    it has dates), at most ``simulation.max_requests`` of it. The first task class gives limits, difficulty and
    sensitivity; a share of the fleet gets that share of the sessions, whole; growth lets the same requests come in
    less time. The rates above still say how much work a year holds."""
    note: str = ""

    ALTERNATIVES: ClassVar[Mapping[str, str]] = {
        "requests_per_day": "requests_per_seat_day", "requests_per_seat_day": "requests_per_day",
    }  # fmt: skip
    """Fields of which one replaces the other when it is set in a workload that already has a rate."""

    @classmethod
    def with_presets(cls, data: Any, look: Look) -> Any:
        """Return the fields of a file with those of the presets that its tasks and arrivals name."""
        if not isinstance(data, Mapping):
            return data
        found = dict(data)
        if isinstance(data.get("tasks"), list | tuple):
            found["tasks"] = [
                TaskClass.with_presets(task, look.inside(f"tasks[{i}]")) for i, task in enumerate(data["tasks"])
            ]
        if "arrivals" in data:
            found["arrivals"] = Arrivals.with_presets(data["arrivals"], look.inside("arrivals"))
        return found

    @model_validator(mode="after")
    def _rate_given_once(self) -> Self:
        by_seat = self.seats is not None and self.requests_per_seat_day is not None
        if (self.requests_per_day is not None) == by_seat:
            raise ValueError("needs either requests_per_day or seats and requests_per_seat_day")
        seen = [task.id for task in self.tasks]
        if len(set(seen)) != len(seen):
            raise ValueError("two tasks have the same id")
        return self

    @property
    def daily_requests(self) -> float:
        """Requests on an average day."""
        if self.requests_per_day is not None:
            return self.requests_per_day
        return float(self.seats or 0) * float(self.requests_per_seat_day or 0)

    @property
    def mean_rate_per_s(self) -> float:
        """Requests per second, mean over the week."""
        return self.daily_requests / SECONDS_PER_DAY

    @property
    def hour_weights(self) -> list[float]:
        """Weights of the week's 168 hours from Monday 00:00, with mean 1."""
        return self.arrivals.curve.hour_weights() if self.arrivals.curve else [1.0] * 168

    @property
    def peak_hour(self) -> int:
        """Busiest hour of the week, 0 is Monday 00:00–01:00."""
        weights = self.hour_weights
        return weights.index(max(weights))

    @property
    def peak_rate_per_s(self) -> float:
        """Requests per second in the busiest hour."""
        return self.mean_rate_per_s * max(self.hour_weights)

    def rate_in_year(self, year: int) -> float:
        """Return the growth factor of ``year`` (0 is the first)."""
        return float((1.0 + self.growth_frac_per_year) ** year)

    def shares(self) -> list[float]:
        """Return each task's share of all requests, summing to 1."""
        total = sum(task.share for task in self.tasks)
        return [task.share / total for task in self.tasks]


def _preset_of(data: Any, look: Look) -> WorkloadPreset | None:
    name = data.get("preset") if isinstance(data, Mapping) else None
    return look(WorkloadPreset, "workloads", name, "preset") if isinstance(name, str) else None


def _scaled(weights: list[float] | tuple[float, ...], total: float) -> list[float]:
    have = sum(weights)
    return [w * total / have for w in weights] if have > 0 else [0.0] * len(weights)
