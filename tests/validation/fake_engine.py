"""An OpenAI-compatible server with known delays, to load in a test; run as a program it is an engine to start."""

import asyncio
import contextlib
import json
import sys
import threading


class FakeEngine:
    """Answers ``/v1/completions`` token by token; at most ``slots`` requests at once, the others wait in line."""

    def __init__(self, *, ttft_s=0.05, gap_s=0.02, slots=64, chunked=True, models=("random",)) -> None:
        self.ttft_s, self.gap_s, self.chunked, self.models = ttft_s, gap_s, chunked, models
        self.bodies: list[dict] = []
        self.most_in_flight = 0
        self.refuse = self.break_off = False
        self.ignores_eos = True
        self._slots, self._in_flight = slots, 0

    def __enter__(self):
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()

        async def main() -> None:
            self._limit = asyncio.Semaphore(self._slots)
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
            self.port = self._server.sockets[0].getsockname()[1]
            ready.set()
            with contextlib.suppress(asyncio.CancelledError):
                await self._server.serve_forever()

        self._task = self._loop.create_task(main())
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._task,), daemon=True)
        self._thread.start()
        ready.wait(10.0)
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10.0)
        pending = [t for t in asyncio.all_tasks(self._loop) if not t.done()]
        for task in pending:
            task.cancel()

        async def settle() -> None:
            await asyncio.gather(*pending, return_exceptions=True)

        self._loop.run_until_complete(settle())
        self._loop.close()

    async def _serve(self, reader, writer) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, path = head.split()[:2]
            length = next((int(x.split(":")[1]) for x in head.splitlines() if x.lower().startswith("content-l")), 0)
            body = json.loads(await reader.readexactly(length)) if length else {}
            if method == "POST":
                await self._answer(writer, body)
            else:
                await self._say(writer, path)
            await writer.drain()
        writer.close()

    async def _say(self, writer, path: str) -> None:
        text = {
            "/health": "ok", "/v1/models": json.dumps({"data": [{"id": m} for m in self.models]}),
            "/metrics": 'vllm:cache_config_info{block_size="128",kv_cache_dtype_skip_layers="[]",'
                        'kv_cache_memory_bytes="1073741824",num_gpu_blocks="2730"} 1.0\n',
        }.get(path, "")  # fmt: skip
        writer.write(f"HTTP/1.1 {200 if text else 404} X\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())

    async def _answer(self, writer, body: dict) -> None:
        self.bodies.append(body)
        if self.refuse:
            text = json.dumps({"error": {"message": "no such model"}})
            writer.write(f"HTTP/1.1 404 X\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
            return
        kind = "Transfer-Encoding: chunked" if self.chunked else "Connection: close"
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{kind}\r\n\r\n".encode())
        async with self._limit:
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
            # vLLM tells the role before it has computed anything: no token yet.
            self._event(writer, {"choices": [{"text": ""}]})
            count = body["max_tokens"] if self.ignores_eos else 1
            for at in range(count):
                await asyncio.sleep(self.gap_s if at else self.ttft_s)
                self._event(writer, {"choices": [{"text": f" w{at}"}]})
                await writer.drain()
                if self.break_off:
                    self._in_flight -= 1
                    return
            usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": count}
            self._event(writer, {"choices": [], "usage": usage})
            self._in_flight -= 1
        self._piece(writer, b"data: [DONE]\n\n")
        if self.chunked:
            writer.write(b"0\r\n\r\n")

    def _event(self, writer, event: dict) -> None:
        self._piece(writer, b"data: " + json.dumps(event).encode() + b"\n\n")

    def _piece(self, writer, data: bytes) -> None:
        writer.write(b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data)


async def _forever(port: int) -> None:
    engine = FakeEngine(ttft_s=0.01, gap_s=0.002)
    engine._limit = asyncio.Semaphore(64)
    server = await asyncio.start_server(engine._serve, "127.0.0.1", port, limit=1 << 20)
    await server.serve_forever()


if __name__ == "__main__":
    if "--version" in sys.argv:
        print("1.2.3")
    elif "--broken" in sys.argv:
        print("importlib.metadata.PackageNotFoundError: No package metadata was found for vllm")
        sys.exit(3)
    else:
        print("CPU KV cache size: 349,440 tokens", flush=True)
        if "--child" in sys.argv:
            import subprocess

            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_forever(int(sys.argv[sys.argv.index("--port") + 1])))
