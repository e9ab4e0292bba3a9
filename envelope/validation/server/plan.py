"""Which loads are sent, and the requests of each: when they come, how long they are, what their prompts share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from envelope.serving.requests import Floats, Ints, Requests, closed_loop, open_loop, replace_columns
from envelope.validation.server.model import FIRST_WORD

Kind = Literal["closed", "poisson", "burst"]
Role = Literal["calibrate", "score"]

BELOW_FRAC = 0.85
"""Share of the saturated rate up to which a Poisson load counts as below saturation: beyond it the length of the queue
depends on the draw as much as on the server."""


@dataclass(frozen=True, slots=True)
class Load:
    """One load: a closed loop, Poisson arrivals at a share of the saturated rate, or all requests at once."""

    id: str
    kind: Kind
    role: Role
    """``calibrate`` fits the engine's constants; ``score`` is predicted."""
    requests: int
    input_tokens: int
    output_tokens: int
    concurrency: int = 0
    """Requests in flight in a closed loop."""
    rate_frac: float = 0.0
    """Poisson rate over the rate that the burst of this plan was served at."""
    spread_frac: float = 0.0
    """Lengths are drawn evenly from (1 − spread) to (1 + spread) times the mean."""
    prefix_tokens: int = 0
    """Tokens that some prompts begin with in common."""
    prefix_share: float = 0.0
    """Share of the prompts that begin with them."""

    @property
    def below_saturation(self) -> bool:
        """Whether the load's own times are judged: closed loops wait for answers, bursts are nothing but queue."""
        return self.kind == "closed" or (self.kind == "poisson" and self.rate_frac <= BELOW_FRAC)

    def describe(self) -> str:
        """Return the load in words, such as ``Poisson at 60 % of saturation, 256 in, 48 out``."""
        how = {
            "closed": f"closed loop of {self.concurrency}",
            "poisson": f"Poisson at {100 * self.rate_frac:.0f} % of saturation",
            "burst": f"burst of {self.requests}",
        }[self.kind]
        shared = f", {100 * self.prefix_share:.0f} % share {self.prefix_tokens}" if self.prefix_tokens else ""
        return f"{how}, {self.input_tokens} in, {self.output_tokens} out{shared}"


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """The requests of one load in the order in which they are sent."""

    load: Load
    arrival_s: Floats
    """Since the load's start; 0 where a request waits for the one before it."""
    input_tokens: Ints
    output_tokens: Ints
    shared: Ints
    """Tokens of each prompt that it has in common with others of the load."""
    seed: int

    def prompts(self, vocab: int) -> list[list[int]]:
        """Return the prompts as token ids; what is not shared is different in every request, run and seed."""
        rng = np.random.default_rng([self.seed, 99])
        first = rng.integers(FIRST_WORD, vocab, size=int(self.shared.max(initial=0)))
        own = (rng.integers(FIRST_WORD, vocab, size=int(n)) for n in self.input_tokens - self.shared)
        return [[*first[:s].tolist(), *rest.tolist()] for s, rest in zip(self.shared, own, strict=True)]

    def requests(self, sent_s: Floats | None = None) -> Requests:
        """Return the same requests for the simulation, arriving when they were really sent if that is given."""
        load = self.load
        if load.kind == "closed":
            made = closed_loop(self.input_tokens, self.output_tokens, concurrency=load.concurrency, seed=self.seed)
        else:
            arrivals = self.arrival_s if sent_s is None else sent_s
            made = open_loop(arrivals, self.input_tokens, self.output_tokens, seed=self.seed)
        if not self.shared.any():
            return made
        begins = self.shared > 0
        start = np.concatenate([[0], np.cumsum(begins)]).astype(np.int64)
        nodes = np.array([[0, int(self.shared.max())]], dtype=np.int64)
        path = np.zeros(int(begins.sum()), dtype=np.int64)
        return replace_columns(made, path=path, path_start=start, node_tokens=nodes)


def drawn(load: Load, rate_per_s: float, turn: int) -> Drawn:
    """Return the requests of a load in one of its turns; every turn draws anew."""
    # The draw belongs to the load, not to its place in the plan: a plan that grows leaves the other loads as they were.
    seed = sum(ord(c) * 31**i for i, c in enumerate(load.id)) % 2**31 + turn
    rng = np.random.default_rng(seed)
    n = load.requests
    if load.kind == "poisson":
        arrivals = np.cumsum(rng.exponential(1.0 / rate_per_s, n))
        arrivals -= arrivals[0]
    else:
        arrivals = np.zeros(n)
    inputs, outputs = (_lengths(rng, mean, load.spread_frac, n) for mean in (load.input_tokens, load.output_tokens))
    shared = np.where(rng.permutation(n) < load.prefix_share * n, load.prefix_tokens, 0)
    # A shared beginning comes before an own part of its usual length.
    return Drawn(load, arrivals, inputs + shared, outputs, shared.astype(np.int64), seed)


def _lengths(rng: np.random.Generator, mean: int, spread: float, n: int) -> Ints:
    drawn_tokens = mean * (1.0 + spread * (2.0 * rng.random(n) - 1.0))
    return np.maximum(np.rint(drawn_tokens), 1).astype(np.int64)


FULL_PLAN: tuple[Load, ...] = (
    Load("short-1", "closed", "calibrate", 12, 32, 24, concurrency=1, spread_frac=0.5),
    Load("short-4", "closed", "calibrate", 32, 32, 24, concurrency=4, spread_frac=0.5),
    Load("short-12", "closed", "calibrate", 72, 32, 24, concurrency=12, spread_frac=0.5),
    Load("medium-1", "closed", "calibrate", 8, 256, 16, concurrency=1, spread_frac=0.5),
    Load("medium-4", "closed", "calibrate", 16, 256, 16, concurrency=4, spread_frac=0.5),
    Load("burst", "burst", "score", 64, 96, 40, spread_frac=0.5),
    Load("loop-2", "closed", "score", 16, 96, 40, concurrency=2, spread_frac=0.5),
    Load("loop-8", "closed", "score", 32, 96, 40, concurrency=8, spread_frac=0.5),
    Load("poisson-30", "poisson", "score", 40, 96, 40, rate_frac=0.3, spread_frac=0.5),
    Load("poisson-50", "poisson", "score", 60, 96, 40, rate_frac=0.5, spread_frac=0.5),
    Load("poisson-70", "poisson", "score", 80, 96, 40, rate_frac=0.7, spread_frac=0.5),
    Load("long-40", "poisson", "score", 24, 384, 24, rate_frac=0.4, spread_frac=0.5),
    Load("prefix-60", "poisson", "score", 60, 64, 40, rate_frac=0.6, spread_frac=0.5, prefix_tokens=256,
         prefix_share=0.75),
)  # fmt: skip
"""What ``envelope validate --server`` sends: short closed loops to calibrate on, other lengths and Poisson arrivals to
predict. The burst comes first of those: its rate is the saturation that the Poisson rates are shares of. Lengths differ
within a load, for equal requests stay in step with each other, and whether a prompt falls into one step or the next
then hangs on milliseconds."""
QUICK_IDS = ("short-1", "short-12", "medium-1", "burst", "loop-2", "poisson-50", "prefix-60")
QUICK_PLAN = tuple(load for load in FULL_PLAN if load.id in QUICK_IDS)


def longest_tokens(plan: Sequence[Load]) -> int:
    """Return the longest context that a plan may ask for."""
    return max(round((1 + x.spread_frac) * (x.input_tokens + x.output_tokens)) + x.prefix_tokens for x in plan) + 2
