"""A checked registration becomes the app's current one, and the scheduler learns of its functions."""

from collections.abc import Iterable, Mapping

import msgspec

from innkeeper_engine.compiled import FunctionEntry, Registry, app_uuid, compile_function, function_uuid
from innkeeper_engine.decide.crons import first_slot
from innkeeper_engine.decide.notes import cancel_note
from innkeeper_engine.model.clock import Ids
from innkeeper_engine.model.effects import Cancel, NoGuard
from innkeeper_engine.model.functions import App, FunctionConfig
from innkeeper_engine.store.store import Held, Store

__all__ = [
    "FunctionTakenError",
    "Registered",
    "app_uuid",
    "cancel_app_runs",
    "caps",
    "function_uuid",
    "held",
    "register_app",
    "remove_app",
]

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

    Functions that are not in it any more are gone: nothing starts them, their runs in flight end as failed when
    they are next called. Two round trips, one more to write; again where another registration came in between.

    Raises:
        FunctionTakenError: a function's slug is that of another app's. Nothing is written.
    """
    while True:
        version, apps = await _read(store, env)
        known = apps.get(app.id)
        if known is not None and known.checksum == app.checksum:
            return Registered(False, known.version, version)
        _check_slugs(app, apps)
        registered = msgspec.structs.replace(
            app, version=known.version + 1 if known else 1, synced_at_ms=now_ms
        )
        written = await _write(store, env, version, known, registered, apps, now_ms)
        if written:
            return Registered(True, registered.version, written)


async def remove_app(store: Store, env: str, app_id: str, *, now_ms: int) -> Registered:
    """Take an app out of the registry, with its functions and crons; one that is not there changes nothing.

    Its runs in flight end as failed when they are next called: where they should end otherwise, register the app as
    `draining` first, wait for them or cancel them (`cancel_app_runs`), then remove it. Round trips as `register_app`.
    """
    while True:
        version, apps = await _read(store, env)
        known = apps.pop(app_id, None)
        if known is None:
            return Registered(False, 0, version)
        written = await _write(store, env, version, known, None, apps, now_ms)
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
    _, apps = await _read(store, env)
    known = apps.get(app_id)
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


async def _read(store: Store, env: str) -> tuple[int, dict[str, App]]:
    # The version first: what is read after it is at least as new.
    version = await store.registry_version()
    blobs = await store.registrations(env)
    return version, {app_id: msgspec.json.decode(blob, type=App) for app_id, blob in blobs.items()}


def _check_slugs(app: App, apps: Mapping[str, App]) -> None:
    owners = {f.slug: other.id for other in apps.values() if other.id != app.id for f in other.functions}
    for function in app.functions:
        if function.slug in owners:
            raise FunctionTakenError(function.slug, app.id, owners[function.slug])


async def _write(
    store: Store,
    env: str,
    version: int,
    before: App | None,
    after: App | None,
    others: Mapping[str, App],
    now_ms: int,
) -> int:
    """Write what was decided on the registry of `version`; the new version, 0 where it is another one by now."""
    apps = [app for app in others.values() if before is None or app.id != before.id]
    registry = Registry(env, version, [*apps, after] if after else apps)
    functions = after.functions if after else ()
    kept = {f.slug for f in functions}
    crons = [
        (cron.id, *first_slot(entry, cron, now_ms))
        for entry, cron in registry.crons.values()
        if entry.config.slug in kept
    ]
    armed = {cron_id for cron_id, _, _ in crons}
    known = [compile_function(env, before, config) for config in before.functions] if before else []
    return await store.configure(
        env,
        app=after.id if after else before.id if before else "",
        blob=msgspec.json.encode(after) if after else b"",
        functions=[(f"{env}/{f.slug}", held(after, f), caps(registry.functions[f.slug])) for f in functions]
        if after
        else [],
        gone=[entry.key for entry in known if entry.config.slug not in kept],
        crons=crons,
        crons_gone=[cron.id for entry in known for cron in entry.crons if cron.id not in armed],
        heard=registry.heard(),
        expect=version,
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
