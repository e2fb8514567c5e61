"""Between Python and the scripts: how effects are written, and what comes back is read."""

from typing import Any

import msgspec
import structlog

from innkeeper_engine.model.cancellations import Sweep
from innkeeper_engine.model.effects import (
    RIGHT_TAGS,
    TAGS,
    Effect,
    Emit,
    Finish,
    Gather,
    Keep,
    Resolve,
    Save,
    Start,
    Wait,
)
from innkeeper_engine.model.replays import Again, FoundRun, ReplayPage, ReplayProgress
from innkeeper_engine.model.state import (
    FunctionCounts,
    Gathered,
    Lease,
    QueuedEvent,
    RunHead,
    RunStatus,
    RunSummary,
    StoredEvent,
)
from innkeeper_engine.store.bodies import UnreadableBodyError, decode_body, encode_body, join_bodies

_log = structlog.get_logger(__name__)

_RIGHTS = Start._fields.index("rights")
_EVENTS = Start._fields.index("events")
_BODY: dict[type[Effect], int] = {
    Save: Save._fields.index("result"),
    Resolve: Resolve._fields.index("result"),
    Emit: Emit._fields.index("body"),
    Keep: Keep._fields.index("body"),
    Again: Again._fields.index("edited"),
}
"""Which field of an effect is a body, where one is."""


def encode_effect(effect: Effect, over_bytes: int = 0) -> tuple[Any, ...]:
    """An effect as the scripts read it: its tag, then its fields.

    What it writes where bodies and payloads are read from must go through `encode_body`, with this `over_bytes`.
    """
    kind = type(effect)
    fields: tuple[Any, ...] = effect
    if (at := _BODY.get(kind)) is not None:
        packed = encode_body(fields[at], over_bytes)
        if packed is not fields[at]:
            fields = (*fields[:at], packed, *fields[at + 1 :])
    elif isinstance(effect, Finish):
        fields = _with_bodies(effect, over_bytes)
    elif isinstance(effect, Wait):
        conflict = effect.conflict
        fields = (
            *effect[:-2],
            None if conflict is None else [encode_effect(inner, over_bytes) for inner in conflict],
            [encode_effect(inner, over_bytes) for inner in effect.then],
        )
    elif isinstance(effect, Start):
        events = [(event_id, encode_body(body, over_bytes)) for event_id, body in effect.events]
        rights = [(RIGHT_TAGS[type(right)], *right) for right in effect.rights]
        fields = (*effect[:_EVENTS], events, *effect[_EVENTS + 1 : _RIGHTS], rights, *effect[_RIGHTS + 1 :])
    elif isinstance(effect, Gather):
        fields = (*effect[:-1], [encode_effect(inner, over_bytes) for inner in effect.refused])
    return (TAGS[kind], *fields)


def _with_bodies(effect: Finish, over_bytes: int) -> Finish:
    output, error = encode_body(effect.output, over_bytes), encode_body(effect.error, over_bytes)
    for head, plain, packed in ((b'{"data":', effect.output, output), (b'{"error":', effect.error, error)):
        # What the invoker gets holds the same once more: it is not compressed again.
        if packed is not plain and effect.reply == b"%b%b}" % (head, plain):
            reply = join_bodies([head, packed, b"}"])
            break
    else:
        reply = encode_body(effect.reply, over_bytes)
    return effect._replace(
        output=output, error=error, result=encode_body(effect.result, over_bytes), reply=reply
    )


def read_event(event_id: str, value: bytes | None) -> StoredEvent:
    """A stored event from its value `<seq> <received ms>[ <trace>]\\n<body>`; one that is gone has an empty body."""
    if value is None:
        return StoredEvent(event_id, 0, 0, b"")
    head, _, body = value.partition(b"\n")
    seq, received, *_ = head.split(b" ")
    return StoredEvent(event_id, int(seq), int(received), decode_body(body))


def read_queued(number: int, raw: list[Any]) -> QueuedEvent:
    """An event that waits to be routed, from the scripts' reply.

    One that is not what was written any more has an empty body, like one that is gone: it must not keep those behind it.
    """
    event_id, name, value, paths = raw
    try:
        stored = read_event(event_id.decode(), value)
    except UnreadableBodyError as error:
        _log.error("an event cannot be read and meets nobody", event_id=event_id.decode(), reason=str(error))
        stored = read_event(event_id.decode(), None)
    return QueuedEvent(
        id=stored.id,
        name=name.decode(),
        seq=number,
        received_ms=stored.received_ms,
        body=stored.body,
        paths=tuple(path.decode() for path in paths),
    )


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
        payload=None if payload is None else _payload(payload),
        trace=state[b"tp"].decode() if b"tp" in state else "",
    )


def _payload(flat: list[bytes]) -> dict[str, bytes] | None:
    """None where a body cannot be read: whoever reads it again fails, and not the others whose leases came along."""
    try:
        return {flat[i].decode(): decode_body(flat[i + 1]) for i in range(0, len(flat), 2)}
    except UnreadableBodyError:
        return None


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
        notes_lost=int(fields["nl"]) if "nl" in fields else None,
        trace=fields.get("tp", ""),
        of=fields.get("of", ""),
        replay=fields.get("rp", ""),
    )


def read_order(kept: bytes | None) -> list[str]:
    """The steps of a run that has ended, in the order of their results; none where that is not kept, or cannot be read.

    Earlier versions wrote ids as they are, whatever characters these have.
    """
    try:
        return [] if kept is None else msgspec.json.decode(kept, type=list[str])
    except msgspec.MsgspecError:
        return []


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
    """When a run was made and its first event; None where it has ended.

    An event that is not what was written any more is None: it must not keep the other runs.
    """
    if not raw:
        return None
    try:
        event = decode_body(raw[1])
    except UnreadableBodyError as error:
        _log.error("the event of a run cannot be read", run=run, reason=str(error))
        return RunHead(run, int(raw[0]), None)
    return RunHead(run, int(raw[0]), event)


def read_replay_progress(flat: list[bytes]) -> ReplayProgress:
    """How far a replay is, from its hash; empty before its first page."""
    fields = {flat[i].decode(): flat[i + 1].decode() for i in range(0, len(flat), 2)}
    return msgspec.convert(fields, ReplayProgress, strict=False)


def _events_of(run: str, flat: list[bytes]) -> tuple[tuple[str, bytes], ...]:
    """The events of a run, (id, body); none of them where one cannot be read: like one that is gone."""
    try:
        return tuple((flat[i].decode(), decode_body(flat[i + 1])) for i in range(0, len(flat), 2))
    except UnreadableBodyError as error:
        _log.error("an event of a run cannot be read; it is not replayed", run=run, reason=str(error))
        return ()


def read_replay_page(raw: list[Any]) -> ReplayPage:
    """Runs of a replay from the script's reply."""
    looked, at, last, is_last, found = raw
    runs = [
        FoundRun(
            run.decode(),
            cron.decode(),
            _events_of(run.decode(), flat),
            int(float(made)),
            looked_by_then,
        )
        for run, cron, flat, made, looked_by_then in found
    ]
    return ReplayPage(looked, int(float(at)), last.decode(), bool(is_last), runs)
