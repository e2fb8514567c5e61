"""What really ran, kept in memory and told over HTTP: the judge's evidence against memoised appearances."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

EFFECTS: list[dict[str, Any]] = []
CALLS: list[dict[str, Any]] = []

ALL = "*"
_gates: dict[tuple[str, str], asyncio.Event] = {}
_open: set[str] = set()


def now_ms() -> int:
    """Wall clock in ms."""
    return time.time_ns() // 1_000_000


async def gate(data: Mapping[str, Any]) -> None:
    """Where an event says `gated`, wait until the test opens the gate of its `token` and `n`."""
    token = str(data.get("token", ""))
    if data.get("gated") and token not in _open:
        await _gates.setdefault((token, str(data.get("n"))), asyncio.Event()).wait()


def open_gate(token: str, n: str) -> None:
    """Let pass who waits, or comes later, at one gate of a token; `ALL`: at every gate of it."""
    if n == ALL:
        _open.add(token)
        for (owner, _), event in _gates.items():
            if owner == token:
                event.set()
    else:
        _gates.setdefault((token, n), asyncio.Event()).set()


class Recorder:
    """Records the bodies of one function's call."""

    def __init__(self, fn: str, ctx: Any) -> None:
        self._fn = fn
        self._run_id = ctx.run_id
        self._attempt = ctx.attempt

    def __call__(self, step: str, **extra: object) -> int:
        """Note that the body called `step` ran; returns how many times it had run in this run before."""
        before = sum(1 for e in EFFECTS if e["run_id"] == self._run_id and e["step"] == step)
        EFFECTS.append(
            {
                "fn": self._fn,
                "run_id": self._run_id,
                "step": step,
                "attempt": self._attempt,
                "at_ms": now_ms(),
                **extra,
            }
        )
        return before


class CallLog:
    """ASGI wrapper that notes each request of the server to the SDK's endpoint, and how it ended."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Note and pass on."""
        if scope["type"] != "http" or scope["method"] != "POST" or not scope["path"].startswith("/api/"):
            await self._app(scope, receive, send)
            return
        call = _call(scope)
        call["beside"] = sum(1 for other in CALLS if other["fn"] == call["fn"] and "ended" not in other)
        CALLS.append(call)
        watchers: list[asyncio.Task[None]] = []

        async def watched_receive() -> Any:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body") and not watchers:
                watchers.append(asyncio.create_task(_note_abort(call, receive)))
            return message

        async def watched_send(message: Any) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                call.setdefault("ended", "answered")
            await send(message)

        try:
            await self._app(scope, watched_receive, watched_send)
        finally:
            for watcher in watchers:
                watcher.cancel()


def _call(scope: Any) -> dict[str, Any]:
    headers = {k.decode().lower(): v.decode() for k, v in scope["headers"]}
    query = dict(p.split("=", 1) for p in scope["query_string"].decode().split("&") if "=" in p)
    return {
        "run_id": headers.get("x-run-id", ""),
        "step_id": query.get("stepId", ""),
        "fn": query.get("fnId", ""),
        "generation": headers.get("x-inngest-generation-id", ""),
        "version": headers.get("x-inngest-req-version", ""),
        "signed": "x-inngest-signature" in headers,
        "at_ms": now_ms(),
    }


async def _note_abort(call: dict[str, Any], receive: Any) -> None:
    """After a whole request the next message is that the client has gone, or that the answer is out."""
    while (await receive())["type"] != "http.disconnect":
        pass
    call.setdefault("ended", "aborted")
