"""Opening the server of a comparison: one that is started here, or one that runs already."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from envelope.errors import InputError, Problem
from envelope.spec.load import Reporter
from envelope.validation.server.client import Server, get
from envelope.validation.server.engines import MODEL_NAME, Setup, StartedEngine
from envelope.validation.server.process import Running, free_port, running


@dataclass(frozen=True, slots=True)
class Start:
    """A server that this program starts and ends."""

    engine: StartedEngine
    program: Path
    setup: Setup
    vocab: int
    log: Path

    @contextmanager
    def __call__(self, report: Reporter) -> Iterator[tuple[Server, Running]]:
        """Start it and give it; it ends with every one of its processes when the loads are done or fail."""
        port = free_port()
        with running(
            self.engine.command(self.program, self.setup, port), port, self.log,
            ready=lambda url: get(Server(url, MODEL_NAME, self.vocab), "/health")[0] == 200,
            environment=self.engine.environment(self.setup), limit_s=self.engine.limit_s, report=report,
            explain=self.engine.explain,
        ) as group:  # fmt: skip
            (self.log.parent / "start.json").write_text(json.dumps({"start_s": group.start_s}), encoding="utf-8")
            yield Server(group.url, MODEL_NAME, self.vocab), group

    def start_s(self) -> float | None:
        """Return how long the last start took, ``None`` without one."""
        path = self.log.parent / "start.json"
        return float(json.loads(path.read_text(encoding="utf-8"))["start_s"]) if path.exists() else None


@dataclass(frozen=True, slots=True)
class Found:
    """A server that somebody else started."""

    server: Server

    @contextmanager
    def __call__(self, _report: Reporter) -> Iterator[tuple[Server, None]]:
        """Give it."""
        yield self.server, None


def found_server(url: str, name: str | None, vocab: int, key_variable: str | None) -> Found:
    """Return a server that answers at ``url``; ``name`` is its model's name, by default the only one it lists.

    Raises ``InputError`` if nothing answers, or if the model is not among those that it lists.
    """
    asked = Server(url, name or "", vocab, key_variable)
    status, body = get(asked, "/v1/models")
    if status != 200:
        rule = "does not answer" if status == 0 else f"answers /v1/models with status {status}"
        raise InputError(Problem("command line", "--server", url, rule, "is the server up? --key-env names its key"))
    names = _names(body)
    if name is None and len(names) == 1:
        return Found(Server(url, names[0], vocab, key_variable))
    if name is None or name not in names:
        shown = ", ".join(repr(n) for n in names) or "none"
        raise InputError(Problem("command line", "--served-name", name, "must be one that the server lists", shown))
    return Found(asked)


def _names(body: str) -> list[str]:
    try:
        data = json.loads(body).get("data")
    except (ValueError, AttributeError):
        return []
    return [str(x.get("id")) for x in data if isinstance(x, dict)] if isinstance(data, list) else []


def cache_of(server: Server) -> dict[str, float]:
    """Return what vLLM's ``/metrics`` says of its cache, by the keys of ``predict.memory_rows``, and ``block_tokens``.

    Other engines say nothing of it.
    """
    status, body = get(server, "/metrics")
    line = next((x for x in body.splitlines() if x.startswith("vllm:cache_config_info{")), "") if status == 200 else ""
    labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
    numbers = {name: float(value) for name, value in labels.items() if value.replace(".", "", 1).isdigit()}
    found = {}
    if {"num_gpu_blocks", "block_size"} <= numbers.keys():
        found["kv_tokens"] = numbers["num_gpu_blocks"] * numbers["block_size"]
        found["block_tokens"] = numbers["block_size"]
    if "kv_cache_memory_bytes" in numbers:
        found["kv_bytes"] = numbers["kv_cache_memory_bytes"]
    return found
