"""Streaming requests to an OpenAI-compatible server, many at once, timed piece by piece.

Prompts are token ids (``/v1/completions`` of vLLM, llama.cpp, SGLang and others takes them), so lengths and shared
beginnings are exact, and no answer ends early (``ignore_eos``). Only the standard library: a client that works hard
would take the cores of a server on the same machine.
"""

import asyncio
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from envelope.errors import EnvelopeError, InputError, Problem

_MAX_LINE_BYTES = 1 << 20
_ANY_LENGTH = 1 << 62
"""A body without a length ends with its connection."""
_ATTEMPT_S = 10.0
"""How long a question about the server itself may take."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where requests go."""

    url: str
    """Address without the version, such as ``http://127.0.0.1:8000``."""
    model: str
    vocab: int
    key_variable: str | None = None
    """Environment variable that holds the key; ``None`` sends none."""
    timeout_s: float = 300.0
    """Time to wait for the next piece of an answer."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One answered request; times are seconds since its load began."""

    sent_s: float
    first_s: float
    """First piece that holds text."""
    last_s: float
    gaps_s: tuple[float, ...]
    """Between pieces that hold text."""
    input_tokens: int
    output_tokens: int

    @property
    def ttft_s(self) -> float:
        """Time to first token."""
        return self.first_s - self.sent_s

    @property
    def e2e_s(self) -> float:
        """Time to the last token."""
        return self.last_s - self.sent_s


def server_address(url: str) -> str:
    """Return an address without ``/v1``; raises ``InputError`` unless it is http or https."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        rule = "must be an http or https address without key, user name or query"
        raise InputError(Problem("command line", "--server", url, rule, "such as http://127.0.0.1:8000"))
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


async def ask(server: Server, prompt: Sequence[int], output_tokens: int, start_s: float) -> Timed:
    """Send one request and read its stream to the end; ``start_s`` is the reading of the clock that times count from.

    Raises ``EnvelopeError`` if the server refuses, breaks off or answers with too few tokens.
    """
    body = {
        "model": server.model, "prompt": list(prompt), "max_tokens": output_tokens, "min_tokens": output_tokens,
        "temperature": 0.0, "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    payload = json.dumps(body).encode()
    sent = time.perf_counter()
    arrivals: list[float] = []
    usage: dict[str, Any] = {}
    try:
        async for event in _events(server, payload):
            if _text(event):
                arrivals.append(time.perf_counter())
            usage = event.get("usage") or usage
    except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
        raise EnvelopeError(f"{server.url} broke off an answer: {type(error).__name__} {error}".rstrip()) from None
    tokens = usage.get("completion_tokens") or len(arrivals)
    if not arrivals or tokens < output_tokens:
        raise EnvelopeError(f"{server.url} answered {tokens} of {output_tokens} tokens: it must take 'ignore_eos'")
    return Timed(
        sent_s=sent - start_s,
        first_s=arrivals[0] - start_s,
        last_s=arrivals[-1] - start_s,
        gaps_s=tuple(b - a for a, b in zip(arrivals, arrivals[1:], strict=False)),
        input_tokens=int(usage.get("prompt_tokens") or len(prompt)),
        output_tokens=int(tokens),
    )


def get(server: Server, path: str) -> tuple[int, str]:
    """Return status and body of a question about the server; status 0 where nothing answers."""

    async def fetch() -> tuple[int, str]:
        reader, writer = await _connect(server)
        try:
            writer.write(_head(server, "GET", path, 0))
            status, headers = await _response(reader)
            lines = [line async for line in _body_lines(reader, headers)]
            return status, b"".join(lines).decode("utf-8", errors="replace")
        finally:
            writer.close()

    try:
        return asyncio.run(asyncio.wait_for(fetch(), _ATTEMPT_S))
    except (OSError, asyncio.IncompleteReadError, TimeoutError):
        return 0, ""


async def _events(server: Server, payload: bytes) -> AsyncIterator[dict[str, Any]]:
    """Send a request and yield the events of its answer up to the end mark."""
    reader, writer = await asyncio.wait_for(_connect(server), server.timeout_s)
    try:
        writer.write(_head(server, "POST", "/v1/completions", len(payload)) + payload)
        status, headers = await asyncio.wait_for(_response(reader), server.timeout_s)
        lines = _body_lines(reader, headers)
        if status != 200:
            said = b"".join([line async for line in lines]).decode("utf-8", errors="replace")
            raise EnvelopeError(f"{server.url} refused a request with status {status}: {_reason(said)}")
        while True:
            try:
                line = await asyncio.wait_for(anext(lines), server.timeout_s)
            except StopAsyncIteration:
                raise ConnectionResetError("the stream ended without its end mark") from None
            text = line.strip()
            if not text.startswith(b"data:"):
                continue
            if text[5:].strip() == b"[DONE]":
                return
            event = json.loads(text[5:])
            if "error" in event:
                raise EnvelopeError(f"{server.url} ended an answer with an error: {_reason(json.dumps(event))}")
            yield event
    finally:
        writer.close()


async def _connect(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(server.url)
    secure = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if secure else 80)
    return await asyncio.open_connection(parts.hostname, port, ssl=secure, limit=_MAX_LINE_BYTES)


def _head(server: Server, method: str, path: str, length: int) -> bytes:
    parts: SplitResult = urlsplit(server.url)
    lines = [
        f"{method} {parts.path}{path} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close",
        "Content-Type: application/json", f"Content-Length: {length}",
    ]  # fmt: skip
    if server.key_variable:
        lines.append(f"Authorization: Bearer {os.environ.get(server.key_variable, '')}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _response(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    words = (await reader.readline()).split()
    if len(words) < 2 or not words[1].isdigit():
        raise ConnectionResetError("no HTTP answer")
    headers = {}
    while (line := (await reader.readline()).strip()) != b"":
        name, _, value = line.partition(b":")
        headers[name.decode().lower()] = value.strip().decode()
    return int(words[1]), headers


async def _body_lines(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    """Yield the lines of a body, whether it comes in chunks (RFC 9112, section 7.1), by length or to the end."""
    if headers.get("transfer-encoding", "").lower() != "chunked":
        left = int(headers.get("content-length", _ANY_LENGTH))
        while left > 0 and (line := await reader.readline()):
            left -= len(line)
            yield line
        return
    held = b""
    while line := await reader.readline():
        size = int(line.split(b";")[0], 16)
        held += await reader.readexactly(size)
        await reader.readline()
        if size == 0:
            break
        *whole, held = held.split(b"\n")
        for line in whole:
            yield line + b"\n"
    if held:
        yield held


def _text(event: dict[str, Any]) -> str:
    choices = event.get("choices") or [{}]
    return str(choices[0].get("text") or "") if isinstance(choices[0], dict) else ""


def _reason(said: str) -> str:
    """Return the message of an error body, shortened."""
    try:
        data = json.loads(said)
        found = data.get("error", data) if isinstance(data, dict) else data
        said = str(found.get("message", found)) if isinstance(found, dict) else str(found)
    except ValueError:
        pass
    return " ".join(said.split())[:200]
