"""A tiny plan, and a real streaming server to load."""

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from envelope.sensors.attention import HeadShape
from envelope.sensors.cpu import CpuMeasured, Plan, probe_cpu
from envelope.sensors.gemm import QUICK_PAIRS
from envelope.sensors.timing import Effort

TINY = Plan(
    mode="custom", effort=Effort(2, 0.02, 0), patience_s=0.0, formats=("fp32", "int8", "int4_wo"), rows=(1, 8, 128),
    pairs=QUICK_PAIRS,
    extra_formats=(), heads=(HeadShape(4, 2, 64),), batches=(1, 2), contexts=(16, 128, 256),
    chunks=((16, 0), (128, 0), (64, 64)), expert_formats=("fp32", "int4_wo"), expert_tokens=(1, 8),
    element_rows=(1, 64), cold_bytes=16e6, array_bytes=4e6,
)  # fmt: skip


@pytest.fixture(scope="session")
def measured() -> CpuMeasured:
    """The whole processor probe on tiny sizes."""
    pytest.importorskip("onnxruntime", reason="the probe extra is not installed")
    pytest.importorskip("onnx", reason="the probe extra is not installed")
    return probe_cpu(TINY, lambda _share, _what: None)


@dataclass
class Server:
    """A streaming server with known delays; the test turns its knobs."""

    handshake_s: float = 0.0
    """Pause before a connection is looked at; with TLS the handshake takes that long."""
    ttft_s: float = 0.05
    gap_s: float = 0.01
    refuse_first: int = 0
    """Answer 429 to this many requests."""
    drop_after_pieces: int | None = None
    status: int = 200
    retry_after: str = "0.05"
    counts_usage: bool = True
    requests: list[dict] = field(default_factory=list)
    headers: list[dict] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            time.sleep(server.handshake_s)
            super().setup()

        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                server.requests.append(body)
                server.headers.append(dict(self.headers))
                refuse = server.refuse_first > 0
                server.refuse_first -= refuse
                server.in_flight += 1
                server.most_in_flight = max(server.most_in_flight, server.in_flight)
            try:
                if refuse:
                    self._plain(429, {"Retry-After": server.retry_after, "x-ratelimit-limit-requests": "60"})
                elif server.status != 200:
                    self._plain(server.status, {}, json.dumps({"echo": dict(self.headers)}))
                else:
                    self._stream(body)
            finally:
                with server.lock:
                    server.in_flight -= 1

        def _plain(self, status: int, headers: dict[str, str], text: str = "{}") -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def _chunk(self, text: str) -> None:
            data = text.encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()

        def _event(self, event: dict) -> None:
            self._chunk(f"data: {json.dumps(event)}\n\n")

        def _stream(self, body: dict) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
            self._chunk(": a comment that keeps the connection alive\n\n")
            time.sleep(server.ttft_s)
            for piece in range(body["max_tokens"]):
                if piece == server.drop_after_pieces:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                if piece:
                    time.sleep(server.gap_s)
                self._event({"choices": [{"delta": {"content": "word "}}]})
            self._event({"choices": [{"delta": {}, "finish_reason": "length"}]})
            if server.counts_usage:
                words = len(body["messages"][0]["content"].split())
                usage = {"prompt_tokens": words + 7, "completion_tokens": body["max_tokens"]}
                self._event({"choices": [], "usage": usage})
            self._chunk("data: [DONE]\n\n")
            self._chunk("")

    return Handler


@contextmanager
def _running(scheme: str, wrap: Callable[[socket.socket], socket.socket] = lambda plain: plain) -> Iterator[Server]:
    state = Server()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    httpd.socket = wrap(httpd.socket)
    httpd.daemon_threads = True
    httpd.handle_error = lambda *_: None  # a connection dropped on purpose is no news
    state.url = f"{scheme}://127.0.0.1:{httpd.server_address[1]}/v1"
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    """A running server on this machine."""
    with _running("http") as state:
        yield state


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate that nobody has signed but itself, in ``certificate.pem`` with ``key.pem`` beside it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed, which makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "certificate.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder / "certificate.pem"


@pytest.fixture
def tls_server(authority: Path) -> Iterator[Server]:
    """A running server that speaks TLS with a self-signed certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, authority.with_name("key.pem"))
    wrap = partial(context.wrap_socket, server_side=True, do_handshake_on_connect=False)
    with _running("https", wrap) as state:
        yield state
