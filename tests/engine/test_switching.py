"""Pauses by a switch: beside the registrations, true for the scheduler at once, and lifted by a resume alone."""

import asyncio
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from innkeeper_engine.compiled import Registry
from innkeeper_engine.model.functions import App, FunctionConfig, Trigger
from innkeeper_engine.model.switches import Pause, Switch
from innkeeper_engine.registering import register_app, remove_app
from innkeeper_engine.registry import Registries, read_apps, read_switches
from innkeeper_engine.store.asks import Asks, Wish
from innkeeper_engine.store.store import Store
from innkeeper_engine.switching import NotRegisteredError, Switched, hold_again, switch_off, switch_on

ENV = "default"


def app(*functions: str, app_id: str = "a", checksum: str = "1", **fields: Any) -> App:
    configs = tuple(
        FunctionConfig(slug=f"{app_id}-{each}", name=each, url="http://app/", triggers=(Trigger(event="x"),))
        for each in functions
    )
    return App(id=app_id, url="http://app/", functions=configs, checksum=checksum, **fields)


def with_function(made: App, **config: Any) -> App:
    """The app with its one function changed."""
    (function,) = made.functions
    return msgspec.structs.replace(made, functions=(msgspec.structs.replace(function, **config),))


SWITCHED: Any = {"by": "switch", "who": "ann", "since_ms": 7}


def switch(slug: str = "", *, app_id: str = "a", **fields: Any) -> Switch:
    return Switch(app_id=app_id, slug=slug, who="ann", since_ms=7, **fields)


async def register(store: Store, made: App) -> None:
    await register_app(store, ENV, made, now_ms=1)


async def held(store: Store, function: str) -> bytes:
    """Which lanes of a function the scheduler holds."""
    return await store.command("HGET", store.key(f"f:{ENV}/{function}"), "held") or b""


async def test_a_paused_function_is_paused_for_everybody_and_its_registration_stays(store: Store) -> None:
    await register(store, app("f", "g"))
    done = await switch_on(store, ENV, switch("a-f", reason="it spams"))
    pause = Pause(**SWITCHED, reason="it spams", new_runs="Skip", running="Continue")
    assert done == Switched(True, pause, None)
    registry = await Registries(store).current(ENV)
    assert [each.config.paused for each in registry.functions.values()] == [True, False]
    assert [each.paused for each in registry.registered["a"].functions] == [False, False]
    assert [each.paused for each in (await read_apps(store, ENV))["a"].functions] == [False, False]


async def test_a_paused_app_holds_all_of_its_functions_and_lets_them_go(store: Store) -> None:
    await register(store, app("f", "g"))
    await register(store, app("f", app_id="b"))
    done = await switch_on(store, ENV, switch())
    assert done.pause == done.app_pause == Pause(by="switch", who="ann", since_ms=7)
    assert [await held(store, each) for each in ("a-f", "a-g", "b-f")] == [b"st", b"st", b""]
    assert (await Registries(store).current(ENV)).apps["a"].paused
    assert await switch_off(store, ENV, "a") == Switched(True, None, None)
    assert [await held(store, each) for each in ("a-f", "a-g")] == [b"", b""]
    assert not (await Registries(store).current(ENV)).apps["a"].paused


@pytest.mark.parametrize(
    ("own", "said", "expected"),
    [
        ({}, {}, b""),
        ({"new_runs": "Queue"}, {}, b"s"),
        ({"running": "Hold"}, {}, b"t"),
        ({}, {"new_runs": "Queue", "running": "Hold"}, b"st"),
        ({"new_runs": "Queue", "running": "Hold"}, {"new_runs": "Skip", "running": "Continue"}, b""),
    ],
)
async def test_a_pause_is_as_the_switch_says_and_else_as_the_functions_policy(
    store: Store, own: dict[str, Any], said: dict[str, Any], expected: bytes
) -> None:
    await register(store, with_function(app("f"), **own))
    await switch_on(store, ENV, switch("a-f", **said))
    assert await held(store, "a-f") == expected


async def test_a_pause_outlives_registrations_also_without_the_function(store: Store) -> None:
    await register(store, app("f", "g"))
    await switch_on(store, ENV, switch("a-f", new_runs="Queue"))
    await register(store, app("g", checksum="2"))
    await register(store, app("f", "g", checksum="3"))
    assert await held(store, "a-f") == b"s"
    assert (await Registries(store).current(ENV)).functions["a-f"].config.paused


async def test_a_resume_lifts_the_switch_and_not_what_the_spec_says(store: Store) -> None:
    made = with_function(app("f"), paused=True, paused_by="kubectl", paused_since_ms=3, new_runs="Queue")
    await register(store, made)
    both = await switch_on(store, ENV, switch("a-f"))
    assert both.pause == Pause(by="both", who="ann", since_ms=7, new_runs="Queue", running="Continue")
    spec = Pause(by="spec", who="kubectl", since_ms=3, new_runs="Queue", running="Continue")
    assert await switch_off(store, ENV, "a", "a-f") == Switched(True, spec, None)
    assert await switch_off(store, ENV, "a", "a-f") == Switched(False, spec, None)
    assert await held(store, "a-f") == b"s"


async def test_whoever_pauses_first_stays_the_one_who_did(store: Store) -> None:
    await register(store, app("f"))
    await switch_on(store, ENV, switch("a-f"))
    version = await store.registry_version()
    again = Switch(app_id="a", slug="a-f", who="bob", since_ms=9)
    pause = Pause(**SWITCHED, new_runs="Skip", running="Continue")
    assert await switch_on(store, ENV, again) == Switched(False, pause, None)
    assert await store.registry_version() == version


async def test_what_is_said_anew_of_a_pause_counts_and_the_rest_stays(store: Store) -> None:
    await register(store, app("f"))
    await switch_on(store, ENV, switch("a-f", reason="it spams", running="Hold"))
    assert await held(store, "a-f") == b"t"
    again = Switch(app_id="a", slug="a-f", who="bob", since_ms=9, new_runs="Queue")
    pause = Pause(by="switch", who="bob", since_ms=7, reason="it spams", new_runs="Queue", running="Hold")
    assert await switch_on(store, ENV, again) == Switched(True, pause, None)
    assert await held(store, "a-f") == b"st"
    assert await switch_on(store, ENV, again) == Switched(False, pause, None)


async def test_what_is_not_registered_cannot_be_paused_and_a_pause_of_it_can_be_lifted(store: Store) -> None:
    await register(store, app("f", "g"))
    for unknown in (switch("a-x"), switch(app_id="b"), switch("a-f", app_id="b")):
        with pytest.raises(NotRegisteredError, match="registered"):
            await switch_on(store, ENV, unknown)
    with pytest.raises(NotRegisteredError, match="'a-x'"):
        await switch_off(store, ENV, "a", "a-x")
    await switch_on(store, ENV, switch("a-f"))
    await register(store, app("g", checksum="2"))
    assert (await switch_off(store, ENV, "a", "a-f")).changed
    assert await read_switches(store, ENV) == {}


async def test_switches_of_an_app_go_with_it_and_those_of_others_stay(store: Store) -> None:
    await register(store, app("f"))
    await register(store, app("f", app_id="b"))
    for each in (switch(), switch("a-f"), switch("b-f", app_id="b")):
        await switch_on(store, ENV, each)
    await remove_app(store, ENV, "a", now_ms=1)
    assert list(await read_switches(store, ENV)) == ["f:b-f"]


async def test_switches_and_registrations_at_once_all_count(store: Store) -> None:
    """None is decided on a picture that another one has changed."""
    names = [f"f{n}" for n in range(6)]
    await register(store, app(*names))
    await asyncio.gather(
        *(switch_on(store, ENV, switch(f"a-{each}", new_runs="Queue")) for each in names),
        register(store, app(*names, checksum="2")),
    )
    assert [await held(store, f"a-{each}") for each in names] == [b"s"] * 6


async def test_when_there_are_too_many_those_of_functions_that_are_gone_go(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("innkeeper_engine.switching.MOST_SWITCHES", 2)
    await register(store, app("f", "g", "h"))
    await switch_on(store, ENV, switch("a-f"))
    await switch_on(store, ENV, switch("a-g"))
    await register(store, app("g", "h", checksum="2"))
    await switch_on(store, ENV, switch("a-h"))
    assert sorted(await read_switches(store, ENV)) == ["f:a-g", "f:a-h"]


async def test_a_switch_of_a_later_version_is_told_of_and_passed_over(store: Store) -> None:
    await store.command("HSET", store.key(f"sw:{ENV}"), "f:a-f", b'{"who":1}')
    with capture_logs() as logs:
        assert await read_switches(store, ENV) == {}
    assert [each["event"] for each in logs] == ["a switch cannot be read"]


async def test_an_operator_is_told_and_wishes_are_kept_until_they_are_done(store: Store) -> None:
    await register(store, app("f"))
    asks = Asks(store)
    await switch_on(store, ENV, switch("a-f"))
    assert await asks.left() == []
    await switch_off(store, ENV, "a", "a-f", tell=True)
    await asks.leave(Wish("sync", ENV, "b\nc", "1"))
    await store.command("HSET", store.key("asks"), "dance\ndefault\na", "1")
    look, sync = await asks.left()
    assert look == Wish("look", ENV, "a", str(await store.registry_version()))
    assert sync == Wish("sync", ENV, "b\nc", "1")
    assert await store.command("LLEN", store.key("regbell")) == 1
    await asks.leave(sync._replace(token="2"))
    assert not await asks.done(sync)
    assert await asks.done(sync._replace(token="2"))
    assert await asks.left() == [look]


async def test_what_a_version_without_switches_has_let_go_is_held_again(store: Store) -> None:
    """It writes what is held by the registration alone. What is held beyond a switch stays."""
    await register(store, app("f", "g"))
    await switch_on(store, ENV, switch("a-f", new_runs="Queue", running="Hold"))
    await store.configure(ENV, holds=[(f"{ENV}/a-f", ""), (f"{ENV}/a-g", "s")])
    registry = await Registries(store).current(ENV)
    assert await hold_again(store, registry) == 1
    assert (await held(store, "a-f"), await held(store, "a-g")) == (b"st", b"s")
    version = await store.registry_version()
    assert version > registry.version
    assert await hold_again(store, await Registries(store).current(ENV)) == 0
    assert await store.registry_version() == version


async def test_whoever_reads_a_registry_may_hear_of_each(store: Store) -> None:
    await register(store, app("f"))
    heard: list[int] = []

    async def hear(registry: Registry) -> None:
        heard.append(registry.version)

    registries = Registries(store, hear)
    version = (await registries.current(ENV)).version
    await registries.current(ENV)
    assert heard == [version]
