"""Pausing and resuming apps and functions by a switch: written beside the registry, at once true for the scheduler.

A switch outlives registrations, also one that leaves the function out; it goes when somebody resumes, or with the app.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
import structlog

from innkeeper_engine.compiled import Registry
from innkeeper_engine.model.functions import App, FunctionConfig
from innkeeper_engine.model.switches import (
    Pause,
    Switch,
    Switches,
    app_switch,
    function_switch,
    pause_of,
    said_again,
    with_switches,
)
from innkeeper_engine.registering import held
from innkeeper_engine.registry import read_apps, read_switches
from innkeeper_engine.store.store import Held, Store

MOST_SWITCHES = 10_000
"""Of an environment: beyond so many, those of functions that nobody registers any more go."""

_log = structlog.get_logger(__name__)


class NotRegisteredError(Exception):
    """There is no such app or function; the message names it."""


class Switched(NamedTuple):
    """What a switch has come to."""

    changed: bool
    pause: Pause | None
    """Why it is paused now; None: it runs."""
    app_pause: Pause | None
    """Why its app is."""


async def switch_on(store: Store, env: str, switch: Switch, *, tell: bool = False) -> Switched:
    """Pause an app or function; of one that is switched off already, what is said of the pause is laid over it.

    `tell`: an operator is to hear of it. A few round trips; again where something else was written in between.

    Raises:
        NotRegisteredError: there is no such app or function.
    """
    return await _set(store, env, switch.app_id, switch.slug, switch, tell)


async def switch_off(store: Store, env: str, app_id: str, slug: str = "", *, tell: bool = False) -> Switched:
    """Take the switch of an app, or of its function, away; what the registration says of a pause stays.

    `tell` and round trips as `switch_on`. Also of a function that is not registered now.

    Raises:
        NotRegisteredError: there is no such app or function, and no switch of it either.
    """
    return await _set(store, env, app_id, slug, None, tell)


async def hold_again(store: Store, registry: Registry) -> int:
    """See to it that what switches pause is held in the queue; how many functions were not.

    A version that knows no switches lets go of them with every registration that it writes. What is held beyond that
    stays so: two versions that differ must not undo each other's for ever. No round trip where nothing is switched, one
    where all is as it should be; where the registry has changed, nothing is done.
    """
    switched = [
        (entry.key, held(entry.app, entry.config))
        for slug, entry in registry.functions.items()
        if function_switch(slug) in registry.switches or app_switch(entry.app.id) in registry.switches
    ]
    found = await asyncio.gather(*(store.command("HGET", store.key(f"f:{fn}"), "held") for fn, _ in switched))
    missing: list[tuple[str, Held]] = []
    for (fn, wanted), known in zip(switched, found, strict=True):
        # '1' of an older version: both.
        there = "st" if known == b"1" else (known or b"").decode()
        if not set(wanted) <= set(there):
            missing.append((fn, wanted if len(wanted) > len(there) else "st"))
    if missing:
        await store.configure(registry.env, holds=missing, expect=registry.version)
        _log.info("functions that are paused by a switch are held again", env=registry.env, many=len(missing))
    return len(missing)


async def _set(store: Store, env: str, app_id: str, slug: str, switch: Switch | None, tell: bool) -> Switched:
    """Make `switch` the one of the app or function; None: take it away."""
    name = function_switch(slug) if slug else app_switch(app_id)
    while True:
        # The version first: what is read after it is at least as new.
        version = await store.registry_version()
        apps, before = await asyncio.gather(read_apps(store, env), read_switches(store, env))
        app = apps.get(app_id)
        if _found(app, slug) is None and (switch is not None or name not in before):
            raise NotRegisteredError(
                f"no function {slug!r} of the app {app_id!r} is registered"
                if slug
                else f"no app {app_id!r} is registered"
            )
        wanted = said_again(before[name], switch) if switch is not None and name in before else switch
        if before.get(name) == wanted:
            return _told(app, slug, before, changed=False)
        after = {each: value for each, value in before.items() if each != name}
        spare: Iterable[str] = ()
        if wanted is not None:
            spare = _spare(after, apps)
            after[name] = wanted
        done = await store.configure(
            env,
            switches=[
                (name, msgspec.json.encode(wanted) if wanted else b""),
                *((each, b"") for each in spare),
            ],
            holds=_holds(env, app, slug, after),
            tell=app_id if tell else "",
            expect=version,
        )
        if done:
            return _told(app, slug, after, changed=True)


def _found(app: App | None, slug: str) -> App | FunctionConfig | None:
    if app is None or not slug:
        return app
    return next((each for each in app.functions if each.slug == slug), None)


def _holds(env: str, app: App | None, slug: str, switches: Switches) -> list[tuple[str, Held]]:
    """Which lanes wait of the functions that a switch concerns."""
    if app is None:
        return []
    after = with_switches(app, switches)
    return [
        (f"{env}/{each.slug}", held(after, each)) for each in after.functions if not slug or each.slug == slug
    ]


def _spare(switches: Switches, apps: Mapping[str, App]) -> list[str]:
    """Switches that go to make room: those of what nobody registers any more."""
    if len(switches) < MOST_SWITCHES:
        return []
    return [name for name, each in switches.items() if _found(apps.get(each.app_id), each.slug) is None]


def _told(app: App | None, slug: str, switches: Switches, *, changed: bool) -> Switched:
    if app is None:
        return Switched(changed, None, None)
    app_pause = pause_of(app, switches.get(app_switch(app.id)))
    found = _found(app, slug)
    own = pause_of(found, switches.get(function_switch(slug))) if slug and found is not None else None
    return Switched(changed, own if slug else app_pause, app_pause)
