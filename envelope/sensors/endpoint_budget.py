"""Hard caps on requests, tokens and money: a request that might exceed one is not sent."""

import threading
from dataclasses import dataclass, field

from envelope.units import MTOK


@dataclass(frozen=True, slots=True)
class Caps:
    """What a probe may use at most; prices are needed only to cap money."""

    max_requests: int
    max_tokens: int
    """Input and output together."""
    max_usd: float | None = None
    input_usd_per_mtok: float = 0.0
    output_usd_per_mtok: float = 0.0

    def usd(self, input_tokens: float, output_tokens: float) -> float:
        """Return the price of so many tokens."""
        return (input_tokens * self.input_usd_per_mtok + output_tokens * self.output_usd_per_mtok) / MTOK


@dataclass(slots=True)
class Budget:
    """What has been used, safe to share between threads.

    Before a request its worst case is reserved; afterwards the reservation is replaced by what the server counted.
    A dropped request keeps its reservation: the provider may bill it.
    """

    caps: Caps
    requests: int = 0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    stopped_by: str = ""
    """The cap that stopped the probe, empty while none has."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reserve(self, input_tokens: int, output_tokens: int) -> bool:
        """Take a request of at most this size out of the budget; ``False`` if a cap forbids it."""
        with self._lock:
            reason = self._exceeded(input_tokens, output_tokens)
            if reason:
                self.stopped_by = reason
                return False
            self.requests += 1
            self.input_tokens += input_tokens
            self.output_tokens += output_tokens
            return True

    def settle(self, reserved: tuple[int, int], used: tuple[int, int]) -> None:
        """Replace a reservation (input, output tokens) by what was used."""
        with self._lock:
            self.input_tokens += used[0] - reserved[0]
            self.output_tokens += used[1] - reserved[1]

    @property
    def usd(self) -> float:
        """Money used so far."""
        return self.caps.usd(self.input_tokens, self.output_tokens)

    def _exceeded(self, input_tokens: int, output_tokens: int) -> str:
        if self.requests + 1 > self.caps.max_requests:
            return f"{self.caps.max_requests} requests"
        total = self.input_tokens + self.output_tokens + input_tokens + output_tokens
        if total > self.caps.max_tokens:
            return f"{self.caps.max_tokens:,} tokens"
        later = self.caps.usd(self.input_tokens + input_tokens, self.output_tokens + output_tokens)
        if self.caps.max_usd is not None and later > self.caps.max_usd:
            return f"${self.caps.max_usd:g}"
        return ""
