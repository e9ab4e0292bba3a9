"""Sending one load to a server and keeping what every request took."""

import asyncio
import time
from collections.abc import Sequence

import numpy as np

from envelope.errors import EnvelopeError
from envelope.provenance import Frozen
from envelope.sensors.conditions import cpu_clock, noise_between
from envelope.validation.server.client import Server, Timed, ask
from envelope.validation.server.plan import Drawn
from envelope.validation.server.process import Running

TIMES = ("ttft", "itl", "e2e")
"""Times of a load that are compared; ``itl`` is (E2E − TTFT) / (output tokens − 1) of each request."""


class Measured(Frozen):
    """What one turn of a load gave, request by request in the order of sending; times in seconds."""

    load: str
    turn: int
    seed: int
    rate_per_s: float
    """Of Poisson arrivals; 0 in closed loops and bursts."""
    sent_s: tuple[float, ...]
    """Since the load began."""
    ttft_s: tuple[float, ...]
    e2e_s: tuple[float, ...]
    longest_gap_s: tuple[float, ...]
    asked_tokens: tuple[int, ...]
    """Tokens of the prompts that were sent."""
    input_tokens: tuple[int, ...]
    """By the server's own count."""
    output_tokens: tuple[int, ...]
    span_s: float
    """From the first request's start to the last answer's end."""
    noise_frac: float | None = None
    """Share of the machine's processor time that neither client nor server, but others and the hypervisor took."""

    @property
    def requests_per_s(self) -> float:
        """Answered requests over the span."""
        return len(self.sent_s) / self.span_s

    @property
    def output_tokens_per_s(self) -> float:
        """Output tokens of all requests over the span."""
        return sum(self.output_tokens) / self.span_s

    def itl_s(self) -> list[float]:
        """Return the mean time per output token after the first, request by request."""
        parts = zip(self.ttft_s, self.e2e_s, self.output_tokens, strict=True)
        return [(e2e - ttft) / (n - 1) for ttft, e2e, n in parts if n > 1]

    def median_s(self, time_name: str) -> float:
        """Return the median over requests of ``ttft``, ``itl`` or ``e2e``."""
        values = {"ttft": self.ttft_s, "e2e": self.e2e_s}.get(time_name) or self.itl_s()
        return float(np.median(values)) if len(values) else 0.0


def send(server: Server, work: Drawn, turn: int, rate_per_s: float, group: Running | None = None) -> Measured:
    """Send the requests of a load and return what they took.

    ``group`` is the server where it was started here: its processor time does not count as noise. Raises
    ``EnvelopeError`` if a request fails; the others are then given up.
    """
    prompts = work.prompts(server.vocab)
    clock, own = cpu_clock(), group.cpu_s() if group else 0.0
    timed = asyncio.run(_closed(server, work, prompts) if work.load.kind == "closed" else _open(server, work, prompts))
    noise = noise_between(clock, cpu_clock())
    share = None
    if noise is not None and clock is not None and (last := cpu_clock()) is not None and group is not None:
        server_frac = (group.cpu_s() - own) / max(last.total_s - clock.total_s, 1e-9)
        share = max(noise.foreign_frac - server_frac, 0.0) + noise.steal_frac
    first = min(t.sent_s for t in timed)
    return Measured(
        load=work.load.id, turn=turn, seed=work.seed, rate_per_s=rate_per_s,
        sent_s=tuple(t.sent_s - first for t in timed),
        ttft_s=tuple(t.ttft_s for t in timed),
        e2e_s=tuple(t.e2e_s for t in timed),
        longest_gap_s=tuple(max(t.gaps_s, default=0.0) for t in timed),
        asked_tokens=tuple(int(n) for n in work.input_tokens),
        input_tokens=tuple(t.input_tokens for t in timed),
        output_tokens=tuple(t.output_tokens for t in timed),
        span_s=max(t.last_s for t in timed) - first,
        noise_frac=None if share is None else round(share, 4),
    )  # fmt: skip


async def _closed(server: Server, work: Drawn, prompts: Sequence[Sequence[int]]) -> list[Timed]:
    """Keep as many requests in flight as the load says; whoever ends takes the next one."""
    start, found = time.perf_counter(), dict[int, Timed]()
    waiting = iter(range(len(prompts)))

    async def lane() -> None:
        for at in waiting:
            found[at] = await ask(server, prompts[at], int(work.output_tokens[at]), start)

    await _all([lane() for _ in range(work.load.concurrency)])
    return [found[at] for at in range(len(prompts))]


async def _open(server: Server, work: Drawn, prompts: Sequence[Sequence[int]]) -> list[Timed]:
    """Send every request at its time, whatever happens to the others."""
    start, found = time.perf_counter(), dict[int, Timed]()

    async def one(at: int) -> None:
        await asyncio.sleep(max(float(work.arrival_s[at]) - (time.perf_counter() - start), 0.0))
        found[at] = await ask(server, prompts[at], int(work.output_tokens[at]), start)

    await _all([one(at) for at in range(len(prompts))])
    return [found[at] for at in range(len(prompts))]


async def _all(parts: list[object]) -> None:
    """Run all parts at once; the first failure ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part)  # type: ignore[arg-type]
    except* EnvelopeError as failed:
        raise failed.exceptions[0] from None
