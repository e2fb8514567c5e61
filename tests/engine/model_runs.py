"""Runs, events and pauses as the store's tests write them: one line where a decision would take many."""

from collections.abc import Sequence

from innkeeper_engine.model.effects import Cancel, CancelOn, Effect, Finish, Plan, Save, Start, Wait
from innkeeper_engine.model.guards import CursorGuard, LeaseGuard, NoGuard
from innkeeper_engine.model.state import Applied, Lease
from innkeeper_engine.store.store import Store

ENV = "env"
FN = f"{ENV}/app-fn"
STARTS, STEPS = f"{FN}\x01s", f"{FN}\x01t"
DAY_MS = 86_400_000
EVENT_BODY = b'{"data":{"a":1},"id":"E","name":"x","ts":1,"user":{}}'


def event_id(number: int) -> str:
    """The n-th event id: 26 letters, as ULIDs have."""
    return f"E{number:025}"


IDS = (event_id(900), event_id(901))
"""For what the end of a run may emit."""


def start(
    run: str = "run",
    *,
    event: int = 1,
    body: bytes = EVENT_BODY,
    order: float = 1,
    due_ms: int = 0,
    parent: str = "",
    idempotency: str = "",
    announces: bool = True,
    cancels: Sequence[CancelOn] = (),
    fn: str = FN,
) -> Start:
    """A run of one event, whose body comes along."""
    return Start(
        run=run,
        env=ENV,
        fn=fn,
        slug_json=b'"' + fn.removeprefix(ENV + "/").encode() + b'"',
        app="app",
        events=((event_id(event), body),),
        start_partition=f"{fn}\x01s",
        step_partition=f"{fn}\x01t",
        order=order,
        due_ms=due_ms,
        cancels=tuple(cancels),
        parent=parent,
        idempotency=idempotency,
        announces=announces,
    )


def wait(
    step: str,
    *,
    run: str = "run",
    kind: str = "event",
    name: str = "y",
    path: str = "",
    value: str = "",
    deadline_ms: int = 10**13,
    on_timeout: bytes = b"null",
    conflict: tuple[Effect, ...] | None = None,
    then: tuple[Effect, ...] = (),
) -> Wait:
    """A pause `<run>.<step>`."""
    return Wait(
        f"{run}.{step}", run, step, kind, ENV, name, path, value, deadline_ms, b"", on_timeout, conflict, then
    )


def cancel_on(event: str, *, run: str = "run", after: int = 0, deadline_ms: int = 10**13) -> CancelOn:
    """A cancellation rule without a condition."""
    return CancelOn(f"{run}.c0", event, "", "", after, deadline_ms, b"")


def finish(run: str = "run", output: bytes = b'"done"') -> Finish:
    """The run has returned."""
    return Finish(run, "Completed", output, b"", b"", b'{"data":%b}' % output, IDS)


def fail(run: str = "run", error: bytes = b'{"error":"E","message":"m","name":"N"}') -> Finish:
    """The run has failed for good."""
    return Finish(run, "Failed", b"", error, b'{"message":"m","name":"N"}', b'{"error":%b}' % error, IDS)


def cancel(run: str = "run", pause: str = "") -> Cancel:
    """The run is cancelled."""
    return Cancel(run, IDS, b'{"type":"cancelled"}', pause)


async def do(store: Store, *effects: Effect) -> Applied:
    """Apply effects under no guard."""
    return await store.apply(NoGuard(), effects)


async def route_all(store: Store) -> None:
    """All that waits to be routed has been, and started nothing."""
    while found := await store.peek(100):
        applied = await store.apply(CursorGuard(found.env, found.cursor, found.within, len(found.events)), [])
        assert applied.status == "ok"


async def begin(store: Store, run: str = "run", **options: object) -> Lease:
    """A run, its first request leased to executor X."""
    await do(store, start(run, **options))  # type: ignore[arg-type]
    return await lease(store, f"first-{run}")


async def lease(store: Store, token: str, executor: str = "X") -> Lease:
    """The next item; there must be one."""
    leases = (await store.due(executor=executor, tokens=[token])).leases
    assert len(leases) == 1, "nothing to lease"
    return leases[0]


async def nothing_to_lease(store: Store) -> bool:
    """Whether nothing waits to be worked on now."""
    return (await store.due(executor="X", tokens=["none"])).leases == []


async def beat(store: Store, held: dict[str, Lease]) -> None:
    """A heartbeat of an executor for the leases that it knows: what is lost is forgotten, what has ended given back."""
    lost, ended = await store.beat((each.item, token) for token, each in held.items())
    for token in lost:
        del held[token]
    for token in ended:
        gone = held.pop(token)
        applied = await store.apply(LeaseGuard(gone.item, token, gone.seen), [])
        assert applied.status == "ended", applied


async def commit(store: Store, held: Lease, *effects: Effect) -> Applied:
    """End a lease with these effects."""
    return await store.apply(LeaseGuard(held.item, held.token, held.seen), effects)


def saved(step: str, result: bytes = b'{"data":1}', *, run: str = "run", go: bool = True) -> Save:
    """A step's result."""
    return Save(run, step, result, go)


async def plan_and_lease(store: Store, *steps: str, run: str = "run") -> list[Lease]:
    """Requests of their own for steps, leased in the order of their ids."""
    await do(store, *(Plan(run, step) for step in steps))
    return [await lease(store, f"token-{step}") for step in steps]


async def results(store: Store, run: str = "run") -> dict[str, bytes]:
    """The results of a run's steps, by id."""
    payload = await store.run_state(run)
    return {
        key: value
        for key, value in payload.items()
        if not key.startswith("e:") and key not in ("o", "x", ":k")
    }


async def notes(store: Store) -> list[tuple[str, bytes]]:
    """Lines of history that no recorder has taken away: (run, text), in their order."""
    lines = await store.command("XRANGE", store.key("hist"), "-", "+")
    return [(fields[1].decode(), fields[3]) for _, fields in lines]
