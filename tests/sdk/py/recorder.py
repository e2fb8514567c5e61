"""What really ran, kept in memory and told over HTTP: the judge's evidence against memoised appearances."""

import time
from typing import Any

EFFECTS: list[dict[str, Any]] = []
CALLS: list[dict[str, Any]] = []


def now_ms() -> int:
    """Wall clock in ms."""
    return time.time_ns() // 1_000_000


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
    """ASGI wrapper that notes each request of the server to the SDK's endpoint."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Note and pass on."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].startswith("/api/"):
            headers = {k.decode().lower(): v.decode() for k, v in scope["headers"]}
            query = dict(p.split("=", 1) for p in scope["query_string"].decode().split("&") if "=" in p)
            CALLS.append(
                {
                    "run_id": headers.get("x-run-id", ""),
                    "step_id": query.get("stepId", ""),
                    "fn": query.get("fnId", ""),
                    "generation": headers.get("x-inngest-generation-id", ""),
                    "version": headers.get("x-inngest-req-version", ""),
                    "signed": "x-inngest-signature" in headers,
                    "at_ms": now_ms(),
                }
            )
        await self._app(scope, receive, send)
