"""The null app: answers the SDK protocol with canned operations, so that what is measured is the server.

It looks for a few keys in the bytes of a request and parses no JSON in a plain call. On uvloop and httptools
a request cost half of what a bare node:http server took (28 against 60 µs of CPU time), which counts
where all processes share two cores.

Functions (started by an event `null/NAME` whose data holds `mark`, the run's number in the ledger):

- `noop`: one request, output at once
- `chain`: `data.length` steps, one request each
- `chain-checkpointed`: the same in one request, each step reported by `POST /v1/checkpoint/{run}/async`
- `fan`: `data.width` parallel steps
- `sleep`: one sleep until `data.wake_at` (ms since the epoch), then the end
- `wait`: waits for `null/resume` with the same `data.key`, then the end
- `blocked`: concurrency 1 and never an answer, so that its other runs stay queued
- `tenant`: concurrency 1 for each `data.tenant`; with `data.block` never an answer, else the end at once

Started as `python -m benchmarks.null_app` with INNGEST_BASE_URL; prints `ready PORT`; ends with its stdin.
"""

import asyncio
import functools
import os
import sys
import time
from collections.abc import Awaitable
from typing import Any, cast
from urllib.parse import parse_qs

import httptools
import orjson
import uvloop

from benchmarks.ceiling import step_hash
from benchmarks.ledger import Ledger
from benchmarks.wire import Reply, Wire

APP_ID = "bench-null"
NAMES = ("noop", "chain", "chain-checkpointed", "fan", "sleep", "wait", "blocked", "tenant")
CONCURRENCY: dict[str, list[dict[str, Any]]] = {
    "blocked": [{"limit": 1}],
    "tenant": [{"limit": 1, "key": "event.data.tenant"}],
}
SDK = "js:v4.24.0"
COMPLETE = b'[{"op":"RunComplete","id":"0737c22d3bfae812339732d14d8c7dbd6dc4e09c","data":"done"}]'
REASONS = {200: "OK", 206: "Partial Content", 400: "Bad Request", 404: "Not Found"}


@functools.cache
def head(status: int, extra: str = "") -> bytes:
    """Status line and headers of an answer, up to the value of Content-Length."""
    return (
        f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}\r\nContent-Type: application/json\r\n"
        f"x-inngest-sdk: inngest-{SDK}\r\nx-inngest-sdk-handled: true\r\nx-inngest-req-version: 2\r\n"
        f"{extra}Content-Length: "
    ).encode()


def reply(status: int, body: bytes, extra: str = "") -> bytes:
    """A whole answer."""
    return head(status, extra) + str(len(body)).encode() + b"\r\n\r\n" + body


def failure(message: str, status: int = 500) -> bytes:
    """An error as an SDK gives it."""
    return reply(status, orjson.dumps({"name": "Error", "message": message}))


@functools.cache
def step_op(n: int, op: str) -> bytes:
    """The operation for the n-th step, `s{n}`."""
    data = f',"data":{n}' if op == "StepRun" else ""
    return (
        f'{{"id":"{step_hash(n)}","op":"{op}","name":"s{n}","displayName":"s{n}","opts":{{}},'
        f'"userland":{{"id":"s{n}"}}{data}}}'
    ).encode()


def number_after(body: bytes, key: bytes) -> int:
    """The whole number after a key such as `"mark":`, -1 where the key does not occur."""
    at = body.find(key)
    if at < 0:
        return -1
    digits = body[at + len(key) : at + len(key) + 20].lstrip()
    end = 0
    while end < len(digits) and 48 <= digits[end] <= 57:
        end += 1
    return int(digits[:end]) if end else -1


def registration(url: str) -> dict[str, Any]:
    """What the app registers at `url`."""
    functions = [
        {
            "id": f"{APP_ID}-{name}",
            "name": name,
            "triggers": [{"event": f"null/{name}"}],
            "steps": {
                "step": {
                    "id": "step",
                    "name": "step",
                    "runtime": {"type": "http", "url": f"{url}?fnId={APP_ID}-{name}&stepId=step"},
                    "retries": {"attempts": 4},
                }
            },
            **({"concurrency": CONCURRENCY[name]} if name in CONCURRENCY else {}),
        }
        for name in NAMES
    ]
    return {
        "url": url,
        "deployType": "ping",
        "framework": "null",
        "appName": APP_ID,
        "functions": functions,
        "sdk": SDK,
        "v": "0.1",
    }


class NullApp:
    """Decides what each request is answered."""

    def __init__(self, server_url: str, ledger: Ledger) -> None:
        self.ledger = ledger
        self._wire = Wire(server_url)

    def call(self, name: str, step_id: str, body: bytes, at_us: float) -> bytes | None:
        """The answer to a call that can be given at once, None for a function that answers later or never."""
        ledger = self.ledger
        mark = number_after(body, b'"mark":')
        current = number_after(body, b'"current":')
        ledger.requests += 1
        ledger.note("first", mark, at_us)
        if name == "noop" or (name == "tenant" and number_after(body, b'"block":') < 0):
            return self._finish(mark, 200, b'"done"')
        if name == "chain":
            if current >= number_after(body, b'"length":'):
                return self._finish(mark, 206, COMPLETE)
            return reply(206, b"[" + step_op(current, "StepRun") + b"]")
        if name == "fan":
            return self._fan(step_id, body, mark, current)
        if name in {"sleep", "wait"}:
            if current > 0:
                ledger.note("resumed", mark, at_us)
                return self._finish(mark, 206, COMPLETE)
            return self._sleep(body, mark) if name == "sleep" else self._wait(mark)
        if name in {"chain-checkpointed", "blocked", "tenant"}:
            return None
        return failure(f"no function {name}")

    def _finish(self, mark: int, status: int, body: bytes) -> bytes:
        self.ledger.note("finished", mark, time.monotonic_ns() / 1000)
        return reply(status, body)

    def _fan(self, step_id: str, body: bytes, mark: int, current: int) -> bytes:
        width = number_after(body, b'"width":')
        if step_id == "step":
            if current >= width:
                return self._finish(mark, 206, COMPLETE)
            return reply(206, b"[" + b",".join(step_op(n, "StepPlanned") for n in range(width)) + b"]")
        n = numbers_by_hash(width).get(step_id)
        return failure(f"no step {step_id}") if n is None else reply(206, b"[" + step_op(n, "StepRun") + b"]")

    def _sleep(self, body: bytes, mark: int) -> bytes:
        # A duration, not a date: dates are rounded to whole seconds on the way. Due counts from this moment.
        ms = max(1, number_after(body, b'"wake_at":') - time.time_ns() // 1_000_000)
        self.ledger.note("slept", mark, time.monotonic_ns() / 1000 + ms * 1000)
        op = f'[{{"id":"{step_hash(0)}","op":"Sleep","name":"{ms}ms","displayName":"sleep","opts":{{}}}}]'
        return reply(206, op.encode())

    def _wait(self, mark: int) -> bytes:
        self.ledger.note("slept", mark, time.monotonic_ns() / 1000)
        opts = '{"timeout":"24h","if":"event.data.key == async.data.key"}'
        op = (
            f'[{{"id":"{step_hash(0)}","op":"WaitForEvent","name":"null/resume","displayName":"wait",'
            f'"opts":{opts}}}]'
        )
        return reply(206, op.encode())

    async def checkpoint_all(self, body: bytes) -> bytes:
        """Report every step that is not done yet, then answer."""
        ctx = orjson.loads(body)["ctx"]
        told = {
            "run_id": ctx["run_id"],
            "fn_id": ctx["fn_id"],
            "qi_id": ctx["qi_id"],
            "request_id": ctx["request_id"],
            "generation_id": ctx["generation_id"],
            "request_started_at": time.time_ns() // 1_000_000,
            "ts": time.time_ns() // 1_000_000,
        }
        prefix = orjson.dumps(told)[:-1] + b',"steps":['
        path = f"/v1/checkpoint/{ctx['run_id']}/async"
        for n in range(ctx["stack"]["current"], number_after(body, b'"length":')):
            answer = await self._wire.post(path, prefix + step_op(n, "StepRun") + b"]}")
            if answer.status != 200:
                return failure(f"a checkpoint was answered {answer.status}: {answer.body[:200]!r}")
        return self._finish(number_after(body, b'"mark":'), 206, COMPLETE)

    async def sync(self, host: str, body: bytes, *, in_band: bool) -> bytes:
        """Register with the server, or tell it in the answer what there is to register."""
        url = f"http://{host}/api/inngest"
        if in_band:
            told = registration(orjson.loads(body).get("url", url))
            told |= {"app_id": told.pop("appName"), "sdk_author": "inngest", "sdk_language": "js"}
            return reply(200, orjson.dumps(told), "x-inngest-sync-kind: in_band\r\n")
        answer: Reply = await self._wire.post("/fn/register", orjson.dumps(registration(url)))
        message = "Successfully registered" if answer.status == 200 else answer.body.decode(errors="replace")
        told = {"message": message, "modified": answer.status == 200}
        return reply(answer.status, orjson.dumps(told))


@functools.cache
def numbers_by_hash(width: int) -> dict[str, int]:
    """Step numbers by their hashed id."""
    return {step_hash(n): n for n in range(width)}


@functools.lru_cache(maxsize=8192)
def parse_query(text: str) -> dict[str, str]:
    """The parameters of a URL: the same few in every call."""
    return {key: values[0] for key, values in parse_qs(text).items()}


class Connection(asyncio.Protocol):
    """One connection of the server (or of the load generator)."""

    def __init__(self, app: NullApp) -> None:
        self._app = app
        self._parser = httptools.HttpRequestParser(self)
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse; what is no HTTP ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._transport.write(failure(str(error), 400))
            self._transport.close()

    def on_message_begin(self) -> None:
        """A request arrives: this is its time."""
        self._at_us = time.monotonic_ns() / 1000
        self._url = b""
        self._host = ""
        self._in_band = False
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        """The target, perhaps in pieces."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Two headers matter, both only when the app is synced."""
        if name.lower() == b"host":
            self._host = value.decode()
        elif name.lower() == b"x-inngest-sync-kind":
            self._in_band = value == b"in_band"

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Answer, now or later."""
        body = b"".join(self._body)
        path, _, raw_query = self._url.decode().partition("?")
        query = parse_query(raw_query)
        method = self._parser.get_method()
        if method == b"POST" and "fnId" in query:
            name = query["fnId"].removeprefix(f"{APP_ID}-")
            answer = self._app.call(name, query.get("stepId", "step"), body, self._at_us)
            if answer is not None:
                self._transport.write(answer)
            elif name == "chain-checkpointed":
                self._later(self._app.checkpoint_all(body))
        elif method == b"PUT":
            self._later(self._app.sync(self._host, body, in_band=self._in_band))
        elif path == "/_stats":
            stats = self._app.ledger.stats(int(query["from"]), int(query["count"]))
            self._transport.write(reply(200, orjson.dumps(stats)))
        elif method == b"GET":
            told = {"function_count": len(NAMES), "has_event_key": False, "has_signing_key": False}
            self._transport.write(
                reply(200, orjson.dumps({**told, "mode": "dev", "schema_version": "2024-05-24"}))
            )
        else:
            self._transport.write(failure(f"no route {method.decode()} {path}", 404))
        if not self._parser.should_keep_alive() and not self._tasks:
            self._transport.close()

    def _later(self, answer: Awaitable[bytes]) -> None:
        async def give() -> None:
            try:
                self._transport.write(await answer)
            except OSError as error:
                self._transport.write(failure(f"the server could not be reached: {error}"))

        task = asyncio.create_task(give())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def main() -> None:
    """Serve until stdin ends."""
    loop = asyncio.get_running_loop()

    def announce() -> None:
        loop.call_soon(lambda: tell(ledger.take_news()))

    def tell(text: bytes) -> None:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()

    ledger = Ledger(announce)
    app = NullApp(os.environ["INNGEST_BASE_URL"], ledger)
    server = await loop.create_server(lambda: Connection(app), "127.0.0.1", 0, backlog=4096)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tell(f"ready {server.sockets[0].getsockname()[1]}\n".encode())
    await reader.read()


if __name__ == "__main__":
    uvloop.run(main())
