"""Between Python and the scripts: how effects are written, and what comes back is read."""

from typing import Any

import msgspec

from innkeeper_engine.model.cancellations import Sweep
from innkeeper_engine.model.effects import RIGHT_TAGS, TAGS, Effect, Gather, Start, Wait
from innkeeper_engine.model.state import (
    FunctionCounts,
    Gathered,
    Lease,
    RunHead,
    RunStatus,
    RunSummary,
    StoredEvent,
)

_RIGHTS = Start._fields.index("rights")


def encode_effect(effect: Effect) -> tuple[Any, ...]:
    """An effect as the scripts read it: its tag, then its fields."""
    if isinstance(effect, Wait):
        conflict = None if effect.conflict is None else [encode_effect(inner) for inner in effect.conflict]
        then = [encode_effect(inner) for inner in effect.then]
        return (TAGS[Wait], *effect[:-2], conflict, then)
    if isinstance(effect, Start) and effect.rights:
        rights = [(RIGHT_TAGS[type(right)], *right) for right in effect.rights]
        return (TAGS[Start], *effect[:_RIGHTS], rights, *effect[_RIGHTS + 1 :])
    if isinstance(effect, Gather):
        return (TAGS[Gather], *effect[:-1], [encode_effect(inner) for inner in effect.refused])
    return (TAGS[type(effect)], *effect)


def read_event(event_id: str, value: bytes | None) -> StoredEvent:
    """A stored event from its value `<seq> <received ms>\\n<body>`; one that is gone has an empty body."""
    if value is None:
        return StoredEvent(event_id, 0, 0, b"")
    head, _, body = value.partition(b"\n")
    seq, _, received = head.partition(b" ")
    return StoredEvent(event_id, int(seq), int(received), body)


def read_lease(raw: list[Any]) -> Lease:
    """A lease from the scripts' reply."""
    item_id, token, generation, item_flat, state_flat, stack, payload, step_count = raw
    item = dict(zip(item_flat[::2], item_flat[1::2], strict=True))
    state = dict(zip(state_flat[::2], state_flat[1::2], strict=True))
    env = state[b"e"].decode()
    return Lease(
        item=item_id.decode(),
        token=token.decode(),
        run=item[b"r"].decode(),
        kind=item[b"k"].decode(),
        step=item[b"s"].decode(),
        attempt=int(item[b"a"]),
        generation=generation,
        expiries=int(item[b"x"]),
        seen=int(item[b"v"]),
        sealed=item.get(b"d", b""),
        env=env,
        slug=state[b"fn"].decode()[len(env) + 1 :],
        version=int(state[b"ver"]),
        plan_only=state[b"fp"] == b"1",
        step_count=step_count,
        state_bytes=int(state[b"sz"]),
        event_count=int(state[b"ec"]),
        queued_ms=int(state[b"q"]),
        started_ms=int(state[b"t1"] if b"t1" in state else state[b"q"]),
        retries=int(state[b"re"]),
        wanted_ms=float(state[b"o"]) + float(state.get(b"b", 0)),
        stack=tuple(step.decode() for step in stack),
        rekey=item.get(b"rk") == token,
        payload=None
        if payload is None
        else {payload[i].decode(): payload[i + 1] for i in range(0, len(payload), 2)},
    )


def read_summary(run_id: str, flat: list[bytes]) -> RunSummary:
    """A run's summary from its hash."""
    fields = {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}
    status: RunStatus = fields["s"]  # type: ignore[assignment]
    return RunSummary(
        id=run_id,
        env=fields["e"],
        slug=fields["f"],
        app=fields["a"],
        status=status,
        queued_ms=int(fields["q"]),
        started_ms=int(fields["t"]) if "t" in fields else None,
        ended_ms=int(fields["z"]) if "z" in fields else None,
        event_ids=tuple(fields["ev"].split()),
        cron=fields.get("cr", ""),
    )


def read_counts(raw: list[Any]) -> FunctionCounts:
    """A function's counters from the script's reply."""
    queued, running, completed, failed, last = raw
    return FunctionCounts(queued, running, completed, failed, int(last) if last else None)


def read_gathered(raw: list[Any]) -> Gathered:
    """A closed debounce or batch from the scripts' reply."""
    gathered_id, kind, env, fn, events = raw
    slug = fn.decode()[len(env.decode()) + 1 :]
    return Gathered(
        gathered_id.decode(), kind.decode(), env.decode(), slug, tuple(e.decode() for e in events)
    )


def read_sweep(flat: list[bytes]) -> Sweep:
    """How far a sweep is, from its hash; empty before its first page."""
    fields = {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}
    return msgspec.convert(fields, Sweep, strict=False)


def read_head(run: str, raw: list[bytes]) -> RunHead | None:
    """When a run was made and its first event; None where it has ended."""
    return RunHead(run, int(raw[0]), raw[1]) if raw else None
