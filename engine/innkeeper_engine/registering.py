"""A checked registration becomes the app's current one, and the scheduler learns of its functions.

A function that is not registered any more starts nothing. What it has begun is kept for a while and not called, since a
deployment that was rolled back brings the function back; then its runs are cancelled, by a `Cancellation` that is
written together with the registration.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from innkeeper_engine.compiled import FunctionEntry, Registry, app_uuid, compile_function, function_uuid
from innkeeper_engine.decide.crons import first_slot
from innkeeper_engine.decide.notes import cancel_note
from innkeeper_engine.model.cancellations import Cancellation
from innkeeper_engine.model.clock import Ids, derived_ulid
from innkeeper_engine.model.effects import Cancel
from innkeeper_engine.model.functions import App, FunctionConfig
from innkeeper_engine.model.guards import NoGuard
from innkeeper_engine.model.switches import Switch
from innkeeper_engine.registry import read_apps, read_cancellations, read_switches
from innkeeper_engine.store.store import Held, Store

__all__ = [
    "FunctionTakenError",
    "Registered",
    "app_uuid",
    "cancel_app_runs",
    "caps",
    "function_uuid",
    "held",
    "limits_are_written",
    "register_app",
    "remove_app",
    "write_limits",
]

KEPT_MS = 600_000
"""How long the runs of a function that is gone wait for it to come back."""

CANCELLED_AT_ONCE = 64
"""Runs that one script cancels at most: each ends its requests and waits, and tells of its end."""


class Registered(msgspec.Struct, frozen=True):
    """What a registration changed."""

    modified: bool
    app_version: int
    """0 where the app is not registered (any more)."""
    registry: int
    """The version of the registry that holds it."""


class FunctionTakenError(Exception):
    """Another app has a function of the same slug already; the message names both apps."""

    def __init__(self, slug: str, app: str, other: str) -> None:
        super().__init__(
            f"{slug!r} of the app {app!r} is also what a function of the app {other!r} is called (the id of the app, "
            "a dash, the id of the function): give one of the two another id"
        )
        self.slug = slug


async def register_app(store: Store, env: str, app: App, *, now_ms: int) -> Registered:
    """Write an app's registration; one with an equal checksum changes nothing.

    So the checksum must be of all that the caller can change, not only of what the SDK declared: pauses, limits and
    triggers of a manifest, keys, `draining`, `orphaned`.

    Functions that are not in it any more are gone: nothing starts them, and what they have begun waits. If they come
    back within `KEPT_MS`, in whatever app, their runs go on; otherwise these are cancelled. A few round trips; again
    where another registration came in between.

    Raises:
        FunctionTakenError: a function's slug is that of another app's. Nothing is written.
    """
    while True:
        before = await _read(store, env)
        known = before.apps.get(app.id)
        if known is not None and known.checksum == app.checksum:
            return Registered(False, known.version, before.version)
        _check_slugs(app, before.apps)
        registered = msgspec.structs.replace(
            app, version=known.version + 1 if known else 1, synced_at_ms=now_ms
        )
        written = await _write(store, env, before, app.id, registered, now_ms)
        if written:
            return Registered(True, registered.version, written)


async def remove_app(store: Store, env: str, app_id: str, *, now_ms: int) -> Registered:
    """Take an app out of the registry, with its functions and crons; one that is not there changes nothing.

    Its functions are gone as those that a registration drops. Where their runs should end otherwise, or at once, register
    the app as `draining` first, wait for them or cancel them (`cancel_app_runs`), then remove it: then nothing waits.
    Round trips as `register_app`.
    """
    while True:
        before = await _read(store, env)
        if app_id not in before.apps:
            return Registered(False, 0, before.version)
        written = await _write(store, env, before, app_id, None, now_ms)
        if written:
            return Registered(True, 0, written)


async def cancel_app_runs(
    store: Store,
    env: str,
    app_id: str,
    ids: Ids,
    *,
    now_ms: int,
    slugs: Iterable[str] = (),
    most: int = 1_000,
) -> int:
    """Cancel up to `most` runs of an app that have not ended; returns how many are left. Again until none is.

    They end as any cancelled run does, `inngest/function.cancelled` included. `slugs` names functions beyond those
    that the app has now, such as those of an app that has been removed. What may still start runs does so meanwhile:
    register the app as `draining` first. A few round trips, in scripts of 64 runs each.
    """
    known = (await read_apps(store, env)).get(app_id)
    wanted = dict.fromkeys([*(f.slug for f in (known.functions if known else ())), *slugs])
    left = {slug: count for slug, count in (await store.live_runs(env, wanted)).items() if count}
    cancelled = 0
    for slug in left:
        runs = await store.some_live_runs(env, slug, most - cancelled)
        for first in range(0, len(runs), CANCELLED_AT_ONCE):
            chunk = runs[first : first + CANCELLED_AT_ONCE]
            note = cancel_note("app", now_ms, app=app_id)
            await store.apply(
                NoGuard(), [Cancel(run, (ids.ulid(now_ms), ids.ulid(now_ms)), note) for run in chunk]
            )
            await store.forget_live_runs(env, slug, chunk)
        cancelled += len(runs)
        if cancelled >= most:
            break
    return sum((await store.live_runs(env, left)).values())


class _Before(NamedTuple):
    """What a registration is decided on."""

    version: int
    apps: dict[str, App]
    cancellations: dict[str, Cancellation]
    switches: dict[str, Switch]


async def _read(store: Store, env: str) -> _Before:
    # The version first: what is read after it is at least as new.
    version = await store.registry_version()
    apps, cancellations, switches = await asyncio.gather(
        read_apps(store, env), read_cancellations(store, env), read_switches(store, env)
    )
    return _Before(version, apps, cancellations, switches)


def _check_slugs(app: App, apps: Mapping[str, App]) -> None:
    owners = {f.slug: other.id for other in apps.values() if other.id != app.id for f in other.functions}
    for function in app.functions:
        if function.slug in owners:
            raise FunctionTakenError(function.slug, app.id, owners[function.slug])


async def _write(store: Store, env: str, before: _Before, app_id: str, after: App | None, now_ms: int) -> int:
    """Write what was decided on `before`; the new version of the registry, 0 where it is another one by now."""
    known = before.apps.get(app_id)
    others = [app for app in before.apps.values() if app.id != app_id]
    registry = Registry(env, before.version, [*others, after] if after else others, switches=before.switches)
    functions = after.functions if after else ()
    kept = {f.slug for f in functions}
    crons = [
        (cron.id, *first_slot(entry, cron, now_ms))
        for entry, cron in registry.crons.values()
        if entry.config.slug in kept
    ]
    armed = {cron_id for cron_id, _, _ in crons}
    entries = [compile_function(env, known, config) for config in known.functions] if known else []
    gone = [entry for entry in entries if entry.config.slug not in kept]
    waiting = await _still_wanted(store, env, gone)
    scheduled: list[tuple[str, Held, list[str | int]]] = [
        (entry.key, held(entry.app, entry.config), caps(entry))
        for entry in (registry.functions[f.slug] for f in functions)
    ]
    # What a function that is gone has begun is not called; its keys and limits stay as they were.
    scheduled += [(entry.key, "st", caps(entry)) for entry in waiting]
    waits = {entry.key for entry in waiting}
    ends = [_end_of(entry, now_ms) for entry in waiting]
    # A removed app's pauses go with it: one that is declared anew begins anew.
    lifted = [] if after else [name for name, each in before.switches.items() if each.app_id == app_id]
    void = [each.id for each in before.cancellations.values() if each.why == "function" and each.slug in kept]
    return await store.configure(
        env,
        app=app_id,
        blob=msgspec.json.encode(after) if after else b"",
        functions=scheduled,
        gone=[entry.key for entry in gone if entry.key not in waits],
        crons=crons,
        crons_gone=[cron.id for entry in entries for cron in entry.crons if cron.id not in armed],
        heard=registry.heard(),
        cancellations=[
            *((each.id, msgspec.json.encode(each), each.before_ms) for each in ends),
            *((each, b"", 0) for each in void),
        ],
        switches=[(name, b"") for name in lifted],
        expect=before.version,
    )


async def _still_wanted(store: Store, env: str, gone: list[FunctionEntry]) -> list[FunctionEntry]:
    """Those that may have runs: all but the functions of an app that starts none and has ended what it began."""
    ended = [entry.config.slug for entry in gone if entry.app.draining]
    live = await store.live_runs(env, ended) if ended else {}
    return [entry for entry in gone if not entry.app.draining or live[entry.config.slug]]


def _end_of(entry: FunctionEntry, now_ms: int) -> Cancellation:
    """The end of what a function that is gone has begun, unless it comes back."""
    slug, app_id = entry.config.slug, entry.app.id
    return Cancellation(
        id=derived_ulid(now_ms, "gone", entry.key),
        slug=slug,
        app_id=app_id,
        function_id=slug.removeprefix(f"{app_id}-"),
        before_ms=now_ms + KEPT_MS,
        created_ms=now_ms,
        why="function",
    )


def held(app: App, config: FunctionConfig) -> Held:
    """Which lanes of a function wait: all for a paused app, else as the function's own pause says.

    A run that would start while a function is paused with `new_runs` Skip never comes to its queue (`decide.runs`);
    those that were there before the pause go on, as everything that was accepted before it does.
    """
    if app.paused:
        return "st"
    if not config.paused:
        return ""
    if config.new_runs == "Queue":
        return "st" if config.running == "Hold" else "s"
    return "t" if config.running == "Hold" else ""


def caps(entry: FunctionEntry) -> list[str | int]:
    """A function's caps as the scheduler reads them, `[def, cap, ...]`; `sig`: under which signature it queues."""
    queueing = entry.queueing
    return [*queueing.caps, *(("sig", queueing.signature) if queueing.signature else ())]


async def limits_are_written(store: Store, entry: FunctionEntry) -> bool:
    """Whether the scheduler goes by a function's limits and keys as they are compiled here. One round trip.

    It may not where another version wrote the registration: that one kept what the app declares, and made other limits
    of it, or gave them other names.
    """
    flat = await store.command("HGETALL", store.key(f"f:{entry.key}"))
    known = dict(zip(flat[::2], flat[1::2], strict=True))
    known.pop(b"held", None)
    wanted = [str(each).encode() for each in caps(entry)]
    return known == dict(zip(wanted[::2], wanted[1::2], strict=True))


async def write_limits(store: Store, registry: Registry, slug: str) -> int:
    """Tell the scheduler of a registered function's limits again, as they are compiled here; nothing else changes.

    Returns the version of the registry that holds them; 0, and nothing is done, where `registry` is not the current
    one any more. One round trip.

    Raises:
        KeyError: the registry has no such function.
    """
    entry = registry.functions[slug]
    function = (entry.key, held(entry.app, entry.config), caps(entry))
    return await store.configure(registry.env, functions=[function], expect=registry.version)
