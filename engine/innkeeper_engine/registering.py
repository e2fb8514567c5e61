"""A checked registration becomes the app's current one, and the scheduler learns of its functions."""

from collections.abc import Mapping

import msgspec

from innkeeper_engine.compiled import Registry, app_uuid, compile_function, function_uuid
from innkeeper_engine.decide.crons import first_slot
from innkeeper_engine.model.functions import App, FunctionConfig
from innkeeper_engine.store.store import Store

__all__ = ["FunctionTakenError", "Registered", "app_uuid", "caps", "function_uuid", "register_app"]


class Registered(msgspec.Struct, frozen=True):
    """What a registration changed."""

    modified: bool
    app_version: int


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

    Functions that are not in it any more are gone: nothing starts them, their runs in flight end as failed when
    they are next called. Two round trips, one more to write; again where another registration came in between.

    Raises:
        FunctionTakenError: a function's slug is that of another app's. Nothing is written.
    """
    while True:
        version = await store.registry_version()
        blobs = await store.registrations(env)
        apps = {app_id: msgspec.json.decode(blob, type=App) for app_id, blob in blobs.items()}
        known = apps.get(app.id)
        if known is not None and known.checksum == app.checksum:
            return Registered(False, known.version)
        _check_slugs(app, apps)
        registered = msgspec.structs.replace(
            app, version=known.version + 1 if known else 1, synced_at_ms=now_ms
        )
        if await _write(store, env, version, registered, apps, now_ms):
            return Registered(True, registered.version)


def _check_slugs(app: App, apps: Mapping[str, App]) -> None:
    owners = {f.slug: other.id for other in apps.values() if other.id != app.id for f in other.functions}
    for function in app.functions:
        if function.slug in owners:
            raise FunctionTakenError(function.slug, app.id, owners[function.slug])


async def _write(
    store: Store, env: str, version: int, app: App, apps: Mapping[str, App], now_ms: int
) -> bool:
    """Write what was decided on the registry of `version`; False where it is another one by now."""
    known = apps.get(app.id)
    registry = Registry(env, version, {**apps, app.id: app}.values())
    before = {f.slug: f for f in known.functions} if known else {}
    after = {f.slug for f in app.functions}
    crons = [
        (cron.id, *first_slot(entry, cron, now_ms))
        for slug, entry in registry.functions.items()
        if slug in after
        for cron in entry.crons
    ]
    kept = {cron_id for cron_id, _, _ in crons}
    gone = [
        cron.id
        for config in before.values()
        if known
        for cron in compile_function(env, known, config).crons
        if cron.id not in kept
    ]
    done = await store.configure(
        env,
        app=app.id,
        blob=msgspec.json.encode(app),
        functions=[(f"{env}/{f.slug}", False, caps(f)) for f in app.functions],
        gone=[f"{env}/{slug}" for slug in before if slug not in after],
        crons=crons,
        crons_gone=gone,
        heard=registry.heard(),
        expect=version,
    )
    return done != 0


def caps(config: FunctionConfig) -> list[str | int]:
    """The function's own limits as the scheduler reads them: `[def, cap, ...]`. `c` is its concurrency.

    Limits with a key are not enforced by this version (`FunctionConfig.not_enforced` names them).
    """
    own = [c.limit for c in config.concurrency if not c.key and c.scope == "fn" and c.limit > 0]
    return ["c", min(own)] if own else []
