"""What decisions are made on, as their tests write it."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import rfc8785

from innkeeper_engine.compiled import Registry
from innkeeper_engine.decide.context import Context, Limits
from innkeeper_engine.decide.crons import fire
from innkeeper_engine.decide.gathered import fire_gathered
from innkeeper_engine.decide.route import Arrival, start_effects
from innkeeper_engine.model.calls import Answer, Op, OpKind
from innkeeper_engine.model.cancellations import Cancellation
from innkeeper_engine.model.clock import derived_ulid
from innkeeper_engine.model.effects import (
    Cancel,
    Effect,
    Gather,
    Note,
    Once,
    Rate,
    Right,
    Single,
    Skip,
    Start,
)
from innkeeper_engine.model.functions import App, FunctionConfig, Trigger
from innkeeper_engine.model.state import Gathered, Lease, QueuedEvent, StoredEvent

NOW_MS = 1_750_000_000_000
DAY_MS = 86_400_000

INVOKED = "inngest/function.invoked"
TRIGGERS = (Trigger(event="x"), Trigger(cron="* * * * *"))
KEY = "event.data.k"
DATA = {"k": "v", "n": 60}


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
        wanted_ms=NOW_MS,
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


def stored(body: Any = None, *, seq: int = 5, received_ms: int = NOW_MS) -> StoredEvent:
    """An event as the store gives it back; with an empty body it is gone."""
    raw = queued("x", body, seq=seq).body
    return StoredEvent(f"E{seq:025}", seq, received_ms, raw)


def told(effects: list[Effect]) -> str:
    """What an event comes to in short: `start once rate`, `gather batch`, `skip paused`, `start, cancel`; notes and
    what a cron does besides are left out."""
    return ", ".join(filter(None, map(_told, effects)))


def _told(effect: Effect) -> str:
    if isinstance(effect, Start):
        return " ".join(["start", *map(_right, effect.rights)])
    if isinstance(effect, Gather):
        return f"gather {effect.kind}"
    if isinstance(effect, Skip):
        return f"skip {msgspec.json.decode(effect.note)['why']}"
    return "cancel" if isinstance(effect, Cancel) else ""


def _right(right: Right) -> str:
    if isinstance(right, Single):
        return "replace" if right.ids[0] else "single"
    return {Once: "once", Rate: "rate"}[type(right)]


def notes(effects: list[Effect], run: str = "") -> dict[str, str]:
    """Options whose expressions gave nothing, and the consequence, as a run's history has it."""
    found = [effect for effect in effects if isinstance(effect, Note) and run in {"", effect.run}]
    lines = [msgspec.json.decode(note.text) for note in found]
    return {line["option"]: line["consequence"] for line in lines if line["type"] == "key"}


def without_notes(effects: list[Effect]) -> list[Effect]:
    """What happens, without what is written down about it."""
    return [effect for effect in effects if type(effect).__name__ != "Note"]


def kinds(effects: list[Effect]) -> list[str]:
    """The names of the effects, without notes."""
    return [type(effect).__name__ for effect in without_notes(effects)]


RUN = derived_ulid(NOW_MS, "event", queued().id, "env/app-fn")
"""The run that `queued()` starts of `app-fn`."""


def meets(
    origin: str,
    config: FunctionConfig,
    *,
    data: Mapping[str, Any] = DATA,
    context_: Context | None = None,
    **app: Any,
) -> list[Effect]:
    """What becomes of an event, an invocation, a slot, or a gathering of one event in this function."""
    surroundings = context_ or context(registry=registry(config, **app))
    (entry,) = surroundings.registry.functions.values()
    if origin == "event":
        body = {"data": data, "id": "mine", "name": "x"}
        return start_effects(Arrival(queued("x", body)), surroundings)
    if origin == "invoke":
        own = {"fn_id": config.slug, "correlation_id": "parent.step"}
        body = {"data": {**data, "_inngest": own}, "id": queued().id, "name": INVOKED}
        return start_effects(Arrival(queued(INVOKED, body)), surroundings)
    if origin == "cron":
        return fire(entry, entry.crons[0], NOW_MS - NOW_MS % 60_000, surroundings)
    event = stored({"data": data, "id": "mine", "name": "x"})
    kind = "batch" if config.batch is not None else "debounce"
    gathered = Gathered("g", kind, "env", config.slug, (event.id,))  # type: ignore[arg-type]
    return fire_gathered(entry, gathered, [event], surroundings)


def started(config: FunctionConfig, origin: str = "event", **options: Any) -> Start:
    """The run that is started."""
    (start,) = (effect for effect in meets(origin, config, **options) if isinstance(effect, Start))
    return start


def bulk(**options: Any) -> Cancellation:
    """A cancellation of runs of `app-fn` made at `NOW_MS`."""
    plain = Cancellation(id="C1", slug="app-fn", after_ms=NOW_MS, before_ms=NOW_MS + 1, created_ms=NOW_MS)
    return msgspec.structs.replace(plain, **options)
