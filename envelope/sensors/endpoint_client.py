"""One streaming request to an OpenAI-compatible server, timed token by token.

Time to first token is that of the first piece that holds text (answer or reasoning): servers send an empty piece
as soon as they accept a request. The key comes from the environment and appears in no result and no message.
"""

import http.client
import json
import os
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from envelope.errors import InputError, Problem

Outcome = Literal["ok", "rate_limited", "dropped", "error"]

_MAX_LINE_BYTES = 1 << 20
"""Longest line of a stream that is read; more is not a stream of tokens."""
_TRUST = "if the server is yours, export SSL_CERT_FILE=its-authority.pem"
_LIMIT_HEADERS = ("x-ratelimit-limit-requests", "x-ratelimit-limit-tokens")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go. The key is looked up in the environment when a request is sent."""

    url: str
    """Base address up to the version, such as ``http://127.0.0.1:8000/v1``."""
    model: str
    key_variable: str | None = None
    """Environment variable that holds the key; ``None`` sends no key."""
    timeout_s: float = 120.0

    def check(self) -> None:
        """Raise ``InputError`` if the address is not http(s) or the variable is empty."""
        parts = urlsplit(self.url)
        problems = []
        if parts.scheme not in ("http", "https") or not parts.hostname:
            problems.append(Problem("command line", "--url", self.url, "must be an http or https address"))
        if parts.query or parts.username:
            rule = "must hold no key, user name or query: a result shows the address"
            problems.append(Problem("command line", "--url", parts.hostname, rule))
        if self.key_variable and not os.environ.get(self.key_variable):
            problems.append(
                Problem("environment", self.key_variable, None, "is empty", f"export {self.key_variable}=… or --no-key")
            )
        elif self.key_variable and parts.scheme == "http" and not is_local(parts.hostname or ""):
            problems.append(
                Problem("command line", "--url", self.url, "would send the key unencrypted", "use https, or --no-key")
            )
        if problems:
            raise InputError(problems)


def is_local(host: str) -> bool:
    """Return whether a host name means this machine."""
    return host in ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Reply:
    """What one request gave; times are seconds since it was sent."""

    outcome: Outcome
    status: int
    ttft_s: float | None = None
    e2e_s: float | None = None
    gaps_s: tuple[float, ...] = ()
    """Between successive pieces of text."""
    input_tokens: int | None = None
    """By the server's own count."""
    output_tokens: int = 0
    """By the server's own count, else the number of pieces."""
    retry_after_s: float | None = None
    limits: tuple[tuple[str, str], ...] = ()
    """Rate-limit headers, if the server sends any."""
    detail: str = ""

    @property
    def tpot_s(self) -> float | None:
        """(E2E − TTFT) / (output tokens − 1)."""
        if self.ttft_s is None or self.e2e_s is None or self.output_tokens < 2:
            return None
        return (self.e2e_s - self.ttft_s) / (self.output_tokens - 1)


def ask(endpoint: Endpoint, prompt: str, max_tokens: int, *, stop: threading.Event | None = None) -> Reply:
    """Send one chat request and read its stream to the end, or to the next piece once ``stop`` is set.

    Raises ``InputError`` if the server's certificate is not trusted; every other failure is a reply.
    """
    body = {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    connection = _connection(endpoint)
    start = time.perf_counter()
    try:
        # Clients keep their connections: the handshake is no part of a request's time.
        connection.connect()
        start = time.perf_counter()
        path = urlsplit(endpoint.url).path.rstrip("/") + "/chat/completions"
        connection.request("POST", path, json.dumps(body), _headers(endpoint))
        response = connection.getresponse()
        if response.status != 200:
            return _refused(response)
        return _read_stream(response, start, stop or threading.Event())
    except ssl.SSLCertVerificationError as error:
        raise InputError(Problem(endpoint.url, "certificate", None, error.verify_message, _TRUST)) from None
    except (OSError, http.client.HTTPException) as error:
        return Reply("dropped", 0, e2e_s=time.perf_counter() - start, detail=type(error).__name__)
    finally:
        connection.close()


def _connection(endpoint: Endpoint) -> http.client.HTTPConnection:
    parts = urlsplit(endpoint.url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, parts.port, timeout=endpoint.timeout_s, context=context)
    return http.client.HTTPConnection(host, parts.port, timeout=endpoint.timeout_s)


def _headers(endpoint: Endpoint) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    if endpoint.key_variable:
        headers["Authorization"] = f"Bearer {os.environ.get(endpoint.key_variable, '')}"
    return headers


def _refused(response: http.client.HTTPResponse) -> Reply:
    after = _seconds(response.getheader("Retry-After"))
    limits = _limit_headers(response)
    if response.status in (429, 529):
        return Reply("rate_limited", response.status, retry_after_s=after, limits=limits, detail="rate limited")
    # The body is not shown: some servers repeat the request in it, key and all.
    return Reply("error", response.status, retry_after_s=after, limits=limits, detail=response.reason or "")


def _limit_headers(response: http.client.HTTPResponse) -> tuple[tuple[str, str], ...]:
    found = ((name, response.getheader(name)) for name in _LIMIT_HEADERS)
    return tuple((name, value) for name, value in found if value)


def _read_stream(response: http.client.HTTPResponse, start: float, stop: threading.Event) -> Reply:
    arrivals: list[float] = []
    usage: dict[str, Any] = {}
    finished = False
    for event in _events(response):
        if event is None or stop.is_set():
            finished = event is None
            break
        if _has_text(event):
            arrivals.append(time.perf_counter() - start)
        finished = finished or _has_ended(event)
        usage = event.get("usage") or usage
    end = time.perf_counter() - start
    gaps = tuple(b - a for a, b in zip(arrivals, arrivals[1:], strict=False))
    return Reply(
        "ok" if finished and arrivals else "dropped",
        200,
        ttft_s=arrivals[0] if arrivals else None,
        e2e_s=arrivals[-1] if arrivals else end,
        gaps_s=gaps,
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")) or len(arrivals),
        limits=_limit_headers(response),
        detail="" if finished else "stopped" if stop.is_set() else "the stream broke off",
    )


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any] | None]:
    """Yield the server's events; ``None`` is the end mark."""
    while line := response.readline(_MAX_LINE_BYTES):
        text = line.strip()
        if not text.startswith(b"data:"):
            continue
        payload = text[5:].strip()
        if payload == b"[DONE]":
            yield None
            return
        try:
            event = json.loads(payload)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event


def _choice(event: dict[str, Any]) -> dict[str, Any]:
    choices = event.get("choices") or [{}]
    return choices[0] if isinstance(choices[0], dict) else {}


def _has_text(event: dict[str, Any]) -> bool:
    delta = _choice(event).get("delta") or {}
    return bool(delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning"))


def _has_ended(event: dict[str, Any]) -> bool:
    return _choice(event).get("finish_reason") is not None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _seconds(text: str | None) -> float | None:
    """Return the wait of a Retry-After header: seconds, or a date (RFC 9110, section 10.2.3)."""
    try:
        return max(float(text), 0.0) if text else None
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return max(date.timestamp() - time.time(), 0.0)
