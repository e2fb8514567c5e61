"""What decisions are made on, as their tests write it."""

import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import rfc8785

from innkeeper_engine.compiled import Registry
from innkeeper_engine.decide.context import Context, Limits
from innkeeper_engine.model.calls import Answer, Op, OpKind
from innkeeper_engine.model.effects import Effect
from innkeeper_engine.model.functions import App, FunctionConfig
from innkeeper_engine.model.state import Lease, QueuedEvent

NOW_MS = 1_750_000_000_000
DAY_MS = 86_400_000


def function(slug: str = "app-fn", **options: Any) -> FunctionConfig:
    """A registered function."""
    return FunctionConfig(slug=slug, name=slug, url=f"http://app/?fnId={slug}&stepId=step", **options)


def registry(*functions: FunctionConfig, env: str = "env", **app: Any) -> Registry:
    """One app's functions; `app-fn` where none is given. `app`: how the app is."""
    return Registry(env, 1, [App(id="app", url="http://app/", functions=functions or (function(),), **app)])


def context(
    *functions: FunctionConfig,
    limits: Limits | None = None,
    seal: Callable[[Op], bytes] = lambda op: b"sealed",
    **options: Any,
) -> Context:
    """The surroundings of a decision at `NOW_MS`; ids are counted."""
    numbers = itertools.count()
    plain = Context(
        now_ms=NOW_MS,
        chance=0.5,
        new_id=lambda: f"ID{next(numbers):024}",
        canonical=rfc8785.dumps,
        seal=seal,
        registry=registry(*functions),
        limits=limits or Limits(),
    )
    return msgspec.structs.replace(plain, **options)


def lease(**options: Any) -> Lease:
    """A leased first request of a run of `app-fn`."""
    plain = Lease(
        item="run.0",
        token="token",
        run="run",
        kind="s",
        step="step",
        attempt=0,
        generation=1,
        expiries=0,
        seen=0,
        sealed=b"",
        env="env",
        slug="app-fn",
        version=2,
        plan_only=False,
        step_count=len(options.get("stack", ())),
        state_bytes=100,
        event_count=1,
        queued_ms=NOW_MS,
        started_ms=NOW_MS,
        retries=4,
        stack=(),
        payload={"e:0": b'{"data":{"id":"42"},"id":"user-id","name":"x","ts":1}'},
    )
    return msgspec.structs.replace(plain, **options)


def op(kind: OpKind, step: str = "a", **options: Any) -> Op:
    """One operation; `step` is its id."""
    return Op(id=step, kind=kind, **options)


def ops(*operations: Op, version: int | None = 2, **options: Any) -> Answer:
    """An answer of status 206."""
    return Answer(kind="ops", ops=operations, version=version, status=206, **options)


def error(reason: str = "invalid status code: 500", raw: Any = None, **options: Any) -> Answer:
    """An answer that is an error."""
    body = rfc8785.dumps({"message": "boom", "name": "TypeError"} if raw is None else raw)
    return Answer(kind="error", error=body, reason=reason, status=500, **options)


def queued(name: str = "x", body: Any = None, *, seq: int = 5, paths: tuple[str, ...] = ()) -> QueuedEvent:
    """An event that waits to be routed; its body is JSON, or bytes as they are."""
    event = {"data": {}, "id": f"E{seq:025}", "name": name, "ts": 1} if body is None else body
    raw = event if isinstance(event, bytes) else msgspec.json.encode(event)
    return QueuedEvent(f"E{seq:025}", name, seq, NOW_MS, raw, paths)


def without_notes(effects: list[Effect]) -> list[Effect]:
    """What happens, without what is written down about it."""
    return [effect for effect in effects if type(effect).__name__ != "Note"]


def kinds(effects: list[Effect]) -> list[str]:
    """The names of the effects, without notes."""
    return [type(effect).__name__ for effect in without_notes(effects)]
